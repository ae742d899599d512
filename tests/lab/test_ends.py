"""How connections end on this machine: a program that is killed leaves resets, never
the clean end of half a stream; and what ends in order ends in order every time."""

import os
import signal
import socket
import struct
import subprocess
import sys
import tty

import pytest

from .actors import HOST, postern
from .conftest import full
from .net import wait_until

pytestmark = pytest.mark.postern


@pytest.fixture
def stood(gate):
    g = gate(host="masq", client="masq")
    g.server = g.host.start_peer("tcp-server", 7000)
    return g.up_and_joined("7000")


def endless(g, address, port, verb, target=""):
    peer = g.client.start_peer("endless", address, port, verb, target)
    peer.wait_line("under way", 20)
    return peer


def verdicts(peers):
    for p in peers:
        p.wait(20)
    return [p.lines[-1] for p in peers]


def shared_service(g):
    up = g.client.start("up")
    service = up.wait_event("service", 15)
    address, port = service["local"].rsplit(":", 1)
    return up, address, port


def test_killed_client_resets(stood):
    """connect, socks, up, and a connect whose connections `up` carries."""
    g = stood
    connect = g.connect("7000")
    peers = [endless(g, "127.0.0.1", connect.port, v) for v in ("GET", "PUT")]
    connect.kill()
    assert verdicts(peers) == ["reset"] * 2
    socks = g.client.start("socks", "--listen", "127.0.0.1:0")
    port = socks.wait_event("ready", 15)["listen"].rsplit(":", 1)[1]
    peers = [endless(g, "127.0.0.1", port, v, f"{HOST}:7000") for v in ("GET", "PUT")]
    socks.kill()
    assert verdicts(peers) == ["reset"] * 2
    up, address, port = shared_service(g)
    shared = g.connect("7000")
    peers = [endless(g, address, port, "GET"), endless(g, address, port, "PUT"),
             endless(g, "127.0.0.1", shared.port, "GET")]
    up.kill()
    assert verdicts(peers) == ["reset"] * 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_ended_host_resets_its_services(stood, number):
    """The server behind a killed `serve` sees no end of file in the middle."""
    g = stood
    connect = g.connect("7000")
    peers = [endless(g, "127.0.0.1", connect.port, v) for v in ("GET", "PUT")]
    g.host_proc.signal(number)
    g.server.wait_line("PUT", 10)
    g.server.wait_line("GET", 10)
    assert "ended" not in g.server.stdout, g.server.stdout
    assert all(p.running or p.stdout.endswith("reset\n") for p in peers)


def test_orderly_ends_stay_orderly(stood):
    """Short complete transfers, many: each whole, each with a clean end."""
    g = stood
    count = 10_000 if full() else 1000
    connect = g.connect("7000")
    done = g.client.peer("repeat", "127.0.0.1", connect.port, count, 300_000, 8,
                         timeout=900)
    assert done.status == 0, done.stdout + done.stderr
    _, address, port = shared_service(g)
    done = g.client.peer("repeat", address, port, count // 4, 3000, 8, timeout=900)
    assert done.status == 0, done.stdout + done.stderr


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(word) for word in f.read().split()]


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_descriptors(gate, closed):
    """Nothing gets the number of an output that was closed at the start."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    actions = "".join(f" {fd}>&-" if fd else " 0<&-" for fd in closed)

    def start(who, *argv):
        return g.programs.start(who.ns, argv[0], "sh", "-c", f'exec "$@"{actions}', "sh",
                                postern(), *argv, env=who.env)

    def running(who, role):
        return who.run("status").event("daemon", role=role, running=True)
    serve = start(g.host, "serve", "--broker", g.link, "--name", HOST, "7000")
    wait_until(lambda: running(g.host, "serve"), 10, "serve")
    wait_until(lambda: g.host.run("invite").status == 0, 10, "the socket")
    g.join()
    up = start(g.client, "up")
    wait_until(lambda: running(g.client, "up"), 10, "up")
    for proc in (serve, up):
        for pid in (proc.pid, *children(proc.pid)):
            for fd in (0, 1, 2):
                at = os.readlink(f"/proc/{pid}/fd/{fd}")
                assert at == "/dev/null" or fd not in closed, (pid, fd, at)
    for who, proc, role in ((g.host, serve, "serve"), (g.client, up, "up")):
        with open(os.path.join(who.state, f"{role}.lock"), encoding="ascii") as f:
            assert f.read() == f"{proc.pid}\n"
    nc = start(g.client, "nc", HOST, "7000")
    if 0 in closed:
        assert nc.wait(10) == 0


# ------------------------------------------------------------------------------- nc


def pipe_nc(g, command, stdin=subprocess.PIPE, shell="sh", **more):
    """`command` is shell text in which NC stands for the command."""
    text = command.replace("NC", f"{postern()} nc {HOST} 7000")
    return g.programs.start(g.topo.client.ns, "nc", shell, "-c", text, env=g.client.env,
                            stdin=stdin, **more)


CHATTER = "GET 1000000000 1\n"


@pytest.mark.parametrize("shared", [False, True])
def test_nc_ends_with_its_reader(stood, shared):
    """`nc | head`: with stdin a pipe that stays open, whether the server goes on
    talking or is silent; with SIGPIPE as usual and ignored."""
    g = stood
    if shared:
        shared_service(g)
    for trap in ("", "trap '' PIPE;"):
        for words in (CHATTER, "HOLD\n"):
            proc = pipe_nc(g, f"{trap} NC | head -c 3 | wc -c; echo over")
            proc.popen.stdin.write(words.encode())
            proc.popen.stdin.flush()
            proc.wait_line("over", 15)
            assert proc.wait(5) == 0 and proc.lines[0].strip() == "3", proc.stdout
            assert not proc.stderr, proc.stderr   # with sanitizers: nothing is left


def test_nc_sends_all_though_nobody_reads(stood):
    """What stdin still says goes out, when the server does not answer in between."""
    g = stood
    size = 30_000_000
    blob = os.path.join(g.work, "blob")
    with open(blob, "wb") as f:
        f.write(f"PUT {size + 1}\n".encode() + bytes(size))
    proc = pipe_nc(g, f"NC < {blob} | true; echo over")
    proc.wait_line("over", 20)
    g.server.wait_line("PUT", 5)
    assert "PUT: ended 1 bytes early" in g.server.stdout, g.server.stdout


def test_nc_tells_a_full_output_and_a_broken_stream(stood):
    """Neither looks like the end of the data."""
    g = stood
    proc = pipe_nc(g, "NC > /dev/full")
    proc.popen.stdin.write(CHATTER.encode())
    proc.popen.stdin.close()
    assert proc.wait(15) == 1 and "cannot write the output: No space" in proc.stderr
    proc = pipe_nc(g, "NC")
    proc.popen.stdin.write(b"RESET\n")
    proc.popen.stdin.close()
    assert proc.wait(15) == 1 and "connection to" in proc.stderr, proc.stderr
    up, _, _ = shared_service(g)
    proc = pipe_nc(g, "NC")
    proc.popen.stdin.write(b"HOLD\n")
    proc.popen.stdin.flush()
    proc.wait_line("ok", 15)
    up.kill()
    assert proc.wait(15) == 1 and "'postern up' ended" in proc.stderr, proc.stderr


def test_nc_without_a_stdout_says_what_is_lost(stood):
    proc = pipe_nc(stood, "echo GET 1000 1 | NC >&-")
    assert proc.wait(15) == 1 and "stdout was closed" in proc.stderr, proc.stderr
    proc = pipe_nc(stood, "echo GET 1000 1 | NC > /dev/null")
    assert proc.wait(15) == 0, proc.stderr


def test_killed_nc_resets(stood):
    """Half of what stdin said is no whole for the server, by `up` either."""
    g = stood
    shared_service(g)
    proc = pipe_nc(g, "exec NC")
    proc.popen.stdin.write(b"PUT 1000\nhalf")
    proc.popen.stdin.flush()
    wait_until(lambda: any("7000" in x for x in g.topo.host.ns.sockets("-t")), 10, "it")
    wait_until(lambda: g.client.run("status").event("host", streams=1), 10, "a stream")
    os.kill(proc.pid, signal.SIGKILL)
    g.server.wait_line("PUT", 10)
    assert "Errno 104" in g.server.stdout, g.server.stdout


def connected_pair():
    with socket.create_server(("127.0.0.1", 0)) as door:
        near = socket.create_connection(door.getsockname())
        return near, door.accept()[0]


@pytest.mark.parametrize("shared", [False, True])
def test_nc_hands_on_the_end_of_what_comes(stood, shared):
    """Also of nothing, while stdin stays open; and where stdin and stdout are one socket."""
    g = stood
    if shared:
        shared_service(g)
    for words, size in ((b"GET 3 1\n", 3), (b"NOTHING\n", 0)):
        proc = pipe_nc(g, "NC | wc -c")
        proc.popen.stdin.write(words)
        proc.popen.stdin.flush()
        wait_until(lambda: proc.stdout.strip() == str(size), 15, "its reader sees the end")  # noqa: B023
        proc.popen.stdin.close()
        assert proc.wait(5) == 0 and not proc.stderr, proc.stderr
        near, far = connected_pair()
        proc = pipe_nc(g, "NC >&0", stdin=near)
        near.close()
        far.settimeout(15)
        far.sendall(words)
        assert len(b"".join(iter(lambda: far.recv(10), b""))) == size  # noqa: B023
        far.close()
        assert proc.wait(5) == 0 and not proc.stderr, proc.stderr


@pytest.mark.parametrize("shared", [False, True])
def test_nc_tells_an_input_that_fails(stood, shared):
    """It is no end of the input, for the service neither."""
    g = stood
    if shared:
        shared_service(g)
    for path, why in (("/proc/self/mem", "Input/output error"), ("/tmp", "Is a directory")):
        proc = pipe_nc(g, f"NC < {path}")
        assert proc.wait(15) == 1 and f"standard input: {why}" in proc.stderr, proc.stderr
    stdin, far = connected_pair()
    proc = pipe_nc(g, "exec NC", stdin=stdin)
    stdin.close()
    far.sendall(b"PUT 1000\nhalf")
    wait_until(lambda: any("7000" in x for x in g.topo.host.ns.sockets("-t")), 10, "it")
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    assert proc.wait(15) == 1 and "standard input: Connection reset" in proc.stderr
    g.server.wait_line("PUT", 10)
    assert "Errno 104" in g.server.stdout, g.server.stdout


def test_nc_ends_in_order_with_its_terminal(stood):
    """A terminal that hung up is at its end, which a read tells as an error; and what
    nohup gives for a terminal cannot be read."""
    g = stood
    near, far = os.openpty()
    tty.setraw(far)
    os.write(far, b"PUT 1\nx")
    proc = pipe_nc(g, "NC", stdin=near)
    os.close(far)
    os.close(near)
    assert proc.wait(15) == 0, proc.stderr
    assert "PUT" not in g.server.stdout and len(proc.lines[0]) == 64, proc.stdout
    assert pipe_nc(g, "NC 0> /dev/null").wait(15) == 0


# A shell on a terminal starts each line of argv with `&`, and is left by `exit` when the
# fifo GO was closed, so that no SIGHUP comes to them; then the terminal closes.
LEFT_SHELL = """
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp('bash', ['bash', '--norc', '--noediting', '-i'])
for n, command in enumerate(sys.argv[2:]):
    os.write(fd, f'{command} & echo $! > {sys.argv[1]}.{n}\\n'.encode())
with open(sys.argv[1], encoding='ascii') as go:
    go.read()
os.write(fd, b'exit\\nexit\\n')
os.waitpid(pid, 0)
os.close(fd)
"""


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_background_ends_with_its_terminal(stood, work):
    """Of a shell that was left before: all that wrote there. Not what was told to stay."""
    g = stood
    listening = [18071, 18072, 18073, 18074, 18075, 18076]
    of = [str(p) for p in listening]
    commands = [f"NC connect {HOST}:7000 {of[0]}", f"NC socks --listen 127.0.0.1:{of[1]}",
                f"nohup NC connect {HOST}:7000 {of[2]} > {work}/n 2>&1", f"NC connect {HOST}:7000 {of[3]} > {work}/o",
                f"setsid sh -c 'echo $$ > {work}/sid; exec NC connect {HOST}:7000 {of[4]}'", f"NC connect {HOST}:7000 {of[5]} < /dev/null", "NC up --names off"]
    go = f"{work}/go"
    os.mkfifo(go)
    shell = g.programs.start(g.topo.client.ns, "shell", sys.executable, "-c", LEFT_SHELL, go,
                             *(c.replace("NC", postern()) for c in commands), env=g.client.env)

    def there():
        have = g.topo.client.ns.sockets("-tln")
        return all(any(f":{p} " in x for x in have) for p in of) and g.client.run("status").event("daemon", role="up")[
            "running"]
    wait_until(there, 40, "all of them")
    pids = []
    for n in range(len(commands)):
        with open(f"{work}/sid" if n == 4 else f"{go}.{n}", encoding="ascii") as f:
            pids.append(int(f.read()))
    with open(go, "w", encoding="ascii"):
        pass
    try:
        assert shell.wait(20) == 0
        wait_until(lambda: not any(lives(pids[n]) for n in (0, 1, 5, 6)), 15, "their end")
        assert all(lives(pids[n]) for n in (2, 3, 4)), "what was to stay"
    finally:
        for pid in pids:
            if lives(pid):
                os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_nc_through_up_ends_when_told(stood, number):
    """Also while it has nothing to say and nothing comes."""
    g = stood
    shared_service(g)
    nc = pipe_nc(g, "exec NC")
    wait_until(lambda: g.client.run("status").event("host", streams=1), 10, "a stream")
    os.kill(nc.pid, number)
    nc.wait(3)


BLOCKED = """import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_signals_that_the_parent_had_blocked_end_a_command(stood):
    g = stood
    plain, g.client.wrapper = g.client.wrapper, [sys.executable, "-c", BLOCKED]
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        up, connect = g.client.start("up"), g.connect("7000")
        up.wait_event("ready", 15)
        for proc in (connect, up):
            os.kill(proc.pid, number)
            proc.wait(5)
    g.client.wrapper = plain


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_all_processes_of_a_command_is_no_loss_to_it(stood, number):
    """A service manager's, or that of timeout(1): the helper has no part in it."""
    g = stood
    for _ in range(5):
        up = g.client.start("up")
        up.wait_event("ready", 15)
        os.killpg(up.pid, number)
        up.wait(5)
        assert "helper" not in up.stderr, up.stderr
