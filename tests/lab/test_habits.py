"""Habits of people and machines: few descriptors, many silent programs, half a backup."""

import os
import signal
import sys
import time

import pytest

from .actors import HOST, Actor
from .net import patience, wait_until
from .test_badinput import says

pytestmark = pytest.mark.postern


@pytest.fixture
def stood(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    return g.up_and_joined("peer=7000")


def limited(actor, count):
    """The same device, whose programs may open that many files."""
    other = Actor(actor.programs, actor.ns, actor.state)
    other.wrapper = ["sh", "-c", f'ulimit -n {count}; exec "$@"', "sh"]
    return other


def test_few_descriptors_are_named(stood):
    """One line that says what lacks and what to do; never "out of memory", no crash."""
    g = stood
    for count in (6, 10, 14, 20, 31):
        for args in (("nc", HOST, "peer"), ("up",), ("ls",)):
            done = limited(g.client, count).run(*args, json=False, stdin=b"")
            says(done, 1, "file descriptors")
            assert "ulimit" in done.stderr, done.stderr
    done = limited(g.client, 40).run("nc", HOST, "peer", json=False, stdin=b"GET 5 1\n")
    assert done.status == 0, done.stderr


def test_key_missing_beside_its_databases(stood):
    """Half a backup makes no new device in silence."""
    g = stood
    g.host_proc.terminate()
    for actor, command in ((g.host, "serve"), (g.host, "invite"), (g.client, "up"),
                           (g.client, "ls")):
        path = f"{actor.state}/device.db"
        os.rename(path, path + ".away")
        says(actor.run(command, json=False), 1, "device.db")
        assert not os.path.exists(path)
        os.rename(path + ".away", path)
    assert g.client.run("ls").status == 0


def test_nc_goes_on_alone_when_up_is_stopped(stood):
    """The kernel takes connections for a stopped program; nc waits 5 s for its words."""
    g = stood
    up = g.client.start("up")
    up.wait_event("path", timeout=20)
    up.freeze()
    try:
        begin = time.monotonic()
        done = g.client.run("nc", HOST, "peer", json=False, stdin=b"GET 5 1\n", timeout=30)
        assert done.status == 0, done.stderr
        assert time.monotonic() - begin < 12 * patience()
    finally:
        os.kill(up.pid, signal.SIGCONT)


def test_netcheck_where_only_ipv6_is(gate):
    """What the broker's STUN answered over IPv6 is no blocked UDP."""
    g = gate(host="fw", client="fw", ipv6=True, ipv4=False)
    g.up_and_joined("7000")
    done = g.client.run("netcheck", timeout=40)
    found = [e for e in done.events if e["event"] == "netcheck"][0]
    assert found["ipv6"] == found["udp"] == "yes", found
    assert "IPv6 only" in found["words"], found


_SILENT = '''
import socket, sys, time
kind, where, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
held = []
for i in range(count):
    s = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    s.settimeout(5)
    try:
        s.connect(where if kind == "unix" else ("127.0.0.1", int(where)))
    except OSError:
        pass
    held.append(s)
print("held", flush=True)
time.sleep(300)
'''


def silent(actor, kind, where, count):
    proc = actor.programs.start(
        actor.ns, "silent", "sh", "-c", 'ulimit -n 4096; exec "$@"', "sh",
        sys.executable, "-c", _SILENT, kind, str(where), str(count))
    proc.wait_line("held", 30)
    return proc


_SOCKS = '''
import socket, struct, sys, time
begin = time.monotonic()
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
s.sendall(bytes([5, 1, 0]))
assert s.recv(2) == bytes([5, 0])
host = sys.argv[2].encode()
s.sendall(bytes([5, 1, 0, 3, len(host)]) + host + struct.pack(">H", 7000))
assert s.recv(10)[:2] == bytes([5, 0])
s.sendall(b"GET 5 1\\n")
assert len(s.recv(5)) > 0
print(f"took {time.monotonic() - begin:.3f}")
'''


def by_socks(g, port):
    done = g.programs.run(g.client.ns, "socks-user", sys.executable, "-c", _SOCKS,
                          str(port), HOST, timeout=30)
    assert done.status == 0, done.stderr
    return float(done.stdout.split()[1])


def test_silent_programs_slow_nobody(stood):
    """1,500 connections to the proxy and to the socket of `up` that say nothing."""
    g = stood
    socks = g.client.start("socks", "--listen", "127.0.0.1:0")
    port = socks.wait_event("ready", 15)["listen"].rsplit(":", 1)[1]
    by_socks(g, port)                          # the session stands
    crowd = silent(g.client, "tcp", port, 1500)
    assert by_socks(g, port) < 1.0 * patience()
    assert len(os.listdir(f"/proc/{socks.pid}/fd")) < 400
    crowd.kill()
    up = g.client.start("up")
    up.wait_event("service", 15)
    wait_until(lambda: g.client.run("status").event("daemon", role="up", running=True),
               10, "up")
    crowd = silent(g.client, "unix", f"{g.client.state}/up.sock", 1500)
    begin = time.monotonic()
    done = g.client.run("nc", HOST, "peer", json=False, stdin=b"GET 5 1\n")
    assert done.status == 0 and time.monotonic() - begin < 1.5 * patience(), done.stderr
    crowd.kill()


_UNDECIDED = '''
import select, socket, struct, sys, time
begin = time.monotonic()
def opened(*said):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 20)
    for text in said:
        s.sendall(text)
    return s
held = {"nothing": opened(), "half a greeting": opened(bytes([5])),
        "a greeting": opened(bytes([5, 1, 0])),
        "half a request": opened(bytes([5, 1, 0]), bytes([5, 1, 0, 3])),
        "udp": opened(bytes([5, 1, 0]), bytes([5, 3, 0, 1, 0, 0, 0, 0, 0, 0]))}
print("held", flush=True)
while len(held) > 1 and time.monotonic() - begin < 200:
    for s in select.select(list(held.values()), [], [], 1)[0]:
        if s.recv(100) == b"":
            name = next(n for n, o in held.items() if o is s)
            del held[name]
            print(f"{name} ended after {time.monotonic() - begin:.1f} s", flush=True)
print("left:", " ".join(held), flush=True)
time.sleep(300)
'''


def test_socks_clients_that_never_ask_are_let_go(stood):
    """Who says nothing, or breaks off, goes after 30 s; a UDP association stays."""
    g = stood
    socks = g.client.start("socks", "--listen", "127.0.0.1:0")
    port = socks.wait_event("ready", 15)["listen"].rsplit(":", 1)[1]
    before = len(os.listdir(f"/proc/{socks.pid}/fd"))
    crowd = g.programs.start(g.client.ns, "undecided", sys.executable, "-c", _UNDECIDED,
                             port)
    crowd.wait_line("held", 30)
    wait_until(lambda: len(os.listdir(f"/proc/{socks.pid}/fd")) == before + 6, 10,
               "the proxy holds all five, one with a UDP socket")
    crowd.wait_line("left: udp\n", 45)
    assert len(os.listdir(f"/proc/{socks.pid}/fd")) == before + 2
    crowd.kill()


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_without_descriptors_it_waits_and_recovers(stood):
    """`connect` with a small limit: no loop that turns, few lines, and then it works."""
    g = stood
    connect = limited(g.client, 64).start("connect", f"{HOST}:peer", "127.0.0.1:0")
    port = connect.wait_event("ready", 15)["local"].rsplit(":", 1)[1]
    crowd = silent(g.client, "tcp", port, 200)
    wait_until(lambda: "descriptors" in connect.stderr or "open files" in connect.stderr,
               10, "the lack is told")
    begin, spent = time.monotonic(), cpu_seconds(connect.pid)
    wait_until(lambda: time.monotonic() - begin > 2, 5, "two seconds")
    assert cpu_seconds(connect.pid) - spent < 0.6
    connect.poll_output()
    assert len(connect.stderr.splitlines()) < 20, connect.stderr
    assert sum(e.get("event") == "refused" for e in connect.events) < 20
    crowd.kill()
    wait_until(lambda: g.client.peer("get", "127.0.0.1", port, 1000, 1).status == 0, 20,
               "it works again")


def test_host_of_few_descriptors(gate):
    """With the least that it asks for, a host lets devices in, and none keeps another
    out; with less it says so and does not start."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    done = limited(g.host, 63).run("serve", "--broker", g.link, "--name", HOST,
                                   "peer=7000", json=False)
    says(done, 1, "may open 63 and needs 64")
    other = Actor(g.programs, g.broker.ns, g.broker.state + "-2")
    other.wrapper = ["prlimit", "--nofile=63:63",   # which root may raise otherwise
                     "setpriv", "--bounding-set=-sys_resource"]
    done = other.run("broker", "--listen", "127.0.0.1:4443", json=False)
    says(done, 1, "may open 63 and needs 64")
    g.host.wrapper = ["prlimit", "--nofile=64:64"]
    g.start_host("peer=7000")
    g.join()
    assert g.client.peer("get", "127.0.0.1", g.connect("peer").port, 1000, 5).status == 0
    kept = silent(g.client, "tcp", g.connect("peer").port, 5)
    begin = time.monotonic()
    other = g.other_client("other")
    g.join(other)
    done = other.run("nc", HOST, "peer", json=False, stdin=b"GET 9 1\n")
    assert done.status == 0, done.stderr
    assert time.monotonic() - begin < 12 * patience()
    assert kept.running


def test_a_stack_that_is_too_small_is_named(gate):
    """Not found out by a crash once there is a session."""
    g = gate()
    g.client.wrapper = ["prlimit", "--stack=98304:98304"]
    says(g.client.run("ls", json=False), 1, "may use 96 KB and needs 256")
    g.client.wrapper = ["prlimit", "--stack=262144:262144"]
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    assert g.client.run("nc", HOST, "peer", json=False, stdin=b"GET 9 1\n").status == 0


def test_many_at_once_at_a_small_host(gate):
    """Thirty programs of one device begin in the same moment: those for whom there is no
    room yet wait for it, and push out none that is being made."""
    g = gate(host="masq", client="masq")
    g.host.wrapper = ["prlimit", "--nofile=128:128"]
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    done = g.programs.run(
        g.client.ns, "many", "sh", "-c", 'for i in $(seq 30); do (echo GET 5 1 | '
        'timeout 60 "$@" >/dev/null && echo through) & done; wait', "sh",
        g.client.program, "nc", HOST, "peer", timeout=90, env=g.client.env)
    assert done.stdout.count("through") == 30, (done.stdout, done.stderr)


_CROWD = '''
import select, socket, sys, time
held = [socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) for _ in range(150)]
begin = time.monotonic()
lost = set()
while time.monotonic() - begin < 30 and len(lost) < int(sys.argv[3]):
    for s in select.select([s for s in held if s not in lost], [], [], 0.2)[0]:
        lost.add(s)
print(f"lost {min(len(lost), int(sys.argv[3]))} in {time.monotonic() - begin:.1f}", flush=True)
time.sleep(300)
'''


def test_more_connections_than_descriptors(stood):
    """At `up` with a small limit: those that find none are reset after some seconds, the
    others go on, and `up` itself has descriptors left."""
    g = stood
    up = limited(g.client, 64).start("up")
    at, port = up.wait_event("service", 15)["local"].rsplit(":", 1)
    crowd = g.programs.start(g.client.ns, "crowd", sys.executable, "-c", _CROWD,
                             at, port, "110")
    crowd.wait_line("lost 110", 40)
    assert float(crowd.stdout.split()[-1]) < 15 * patience(), crowd.stdout
    up.poll_output()
    assert "reset" in up.stderr and "open files" in up.stderr, up.stderr
    assert g.client.run("status").event("daemon", role="up", running=True)
    crowd.kill()
    wait_until(lambda: g.client.peer("get", at, port, 1000, 1).status == 0, 20,
               "it works again")
