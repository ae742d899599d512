"""Commands that are ended in every way, and what is left of them at the host: nothing.

Hang-ups, closed terminals and pipes, kills; many commands of one device side by side
and one after the other.
"""

import os
import pty
import shutil
import signal
import subprocess
import time

import pytest

from .actors import HOST, postern
from .conftest import full
from .net import wait_until
from .servers import Sshd

pytestmark = pytest.mark.postern


def sessions(host):
    """The sessions that the host knows, as `status` shows them."""
    done = host.run("status")
    return [e for e in done.events if e.get("event") == "session"]


def stream_of(gate, who=None, verb=b"HOLD"):
    """A `postern nc` that stands: its service has answered."""
    g, who = gate, who or gate.client
    proc = g.programs.start(g.topo.client.ns, "nc", postern(), "nc", HOST, "7000",
                            env=who.env, stdin=subprocess.PIPE)
    proc.popen.stdin.write(verb + b"\n")
    proc.popen.stdin.flush()
    proc.wait_line("ok", 20)
    return proc


@pytest.fixture
def stood(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    return g.up_and_joined("7000")


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE])
def test_signal_closes_the_session(stood, number):
    """`nc` and `connect`: the host's session ends with the command, not by a timeout."""
    g = stood
    nc, connect = stream_of(g), g.connect("7000")
    up = g.other_client("upper")
    g.join(up)
    daemon = up.start("up")
    daemon.wait_event("service", 15)
    wait_until(lambda: len(sessions(g.host)) == 3, 10, "three sessions")
    for proc in (nc, connect, daemon):
        os.kill(proc.pid, number)
    by = signal.SIGTERM if number == signal.SIGPIPE else number   # what has an end says so
    assert [p.wait(5) for p in (nc, connect, daemon)] == [-by, 0, 0]
    wait_until(lambda: not sessions(g.host), 2, "the sessions' end")


def test_closed_pipe_and_terminal_end_a_command(stood):
    """`connect | head -1` ends with head; a closed terminal ends what ran in it, and
    `serve` as well, which reads its settings again after a SIGHUP that was sent."""
    g = stood
    os.kill(g.host_proc.pid, signal.SIGHUP)
    g.host_proc.wait_event("reloaded", 5)
    read, write = os.pipe()
    proc = subprocess.Popen(
        g.topo.client.ns.command(postern(), "connect", f"{HOST}:7000", "127.0.0.1:0"),
        stdout=write, env={**os.environ, **g.client.env})
    os.close(write)
    assert os.read(read, 1)
    wait_until(lambda: sessions(g.host), 10, "a session")
    os.close(read)
    assert proc.wait(5) == 0
    wait_until(lambda: not sessions(g.host), 2, "the session's end")
    g.host_proc.terminate()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve("/bin/sh", ["sh", "-c", " ".join(g.topo.host.ns.command(
            postern(), "serve", "&", "wait"))], {**os.environ, **g.host.env})
    wait_until(lambda: g.host.run("status").event("daemon", role="serve", running=True),
               10, "serve in a terminal")
    os.close(terminal)
    wait_until(lambda: g.host.run("status").event("daemon", role="serve", running=False),
               10, "the end of serve")
    os.waitpid(pid, 0)


def test_nohup_stays_deaf(stood):
    """SIGHUP that was ignored at the start stays ignored."""
    g = stood
    proc = g.programs.start(g.topo.client.ns, "connect", "nohup", postern(), "connect",
                            "--json", f"{HOST}:7000", "127.0.0.1:0", env=g.client.env)
    proc.wait_event("path", 15)
    os.kill(proc.pid, signal.SIGHUP)
    assert len(sessions(g.host)) == 1
    proc.signal(signal.SIGTERM)
    assert proc.wait(5) == 0


def test_full_disk_under_the_output(stood):
    """`connect` that cannot say where it listens ends in order; a daemon goes on."""
    g = stood
    g.host_proc.terminate()
    with open("/dev/full", "w", encoding="ascii") as full_disk:
        def start(who, *args):
            return subprocess.Popen(who.ns.command(postern(), *args), stdout=full_disk,
                                    stderr=subprocess.DEVNULL,
                                    env={**os.environ, **who.env})
        host = start(g.host, "serve")
        try:
            assert g.client.run("ping", HOST, "--count", "1").status == 0
            connect = start(g.client, "connect", f"{HOST}:7000", "127.0.0.1:0")
            assert connect.wait(10) == 1
            wait_until(lambda: not sessions(g.host), 2, "the session's end")
        finally:
            host.terminate()
        assert host.wait(5) == 0


# ------------------------------------------------------- killed without a last word

def established(gate):
    """The connections that services of the host's machine hold."""
    return [x for x in gate.topo.host.ns.sockets("-tn")
            if x.split()[3].endswith(":7000")]


def test_killed_in_its_first_moments(stood):
    """Before the handshake is over, or just behind it, when nothing says yet which program
    it is: what it began ends soon, and is shown by the device's name meanwhile. Where
    one was fast enough to say which it is and to open its stream before it was killed,
    the next program of the device ends that."""
    g = stood
    name, seen = g.host_proc.wait_event("joined", 5)["device"], set()
    for ms in range(4, 44, 2):
        nc = g.client.start("nc", HOST, "7000")
        time.sleep(ms / 1000)
        nc.kill()
    assert g.client.run("ping", HOST, "--count", "1").status == 0
    wait_until(lambda: not any(e["streams"] for e in sessions(g.host)), 1, "the fast ones' end")
    begin = time.monotonic()

    def gone():
        now = sessions(g.host)
        seen.update(e["peer"] for e in now)
        return not now
    wait_until(gone, 40, "what the killed began has ended")
    print(time.monotonic() - begin, seen)
    assert seen <= {name}, seen


@pytest.mark.parametrize("place", ["same", "restarted"])
def test_killed_programs_end_when_the_device_is_back(stood, place):
    """The next program of the device says which live; what the dead ones held ends, at
    once, or after a probe where the list is of another place. Living ones are kept."""
    g = stood
    kept = stream_of(g)
    dead = [stream_of(g) for _ in range(4)]
    assert len(sessions(g.host)) == 5 and len(established(g)) == 5
    for proc in dead:
        proc.kill()
    if place == "restarted":     # a new inode, as in a copy: another place to the host
        live = os.path.join(g.client.state, "live")
        names = os.listdir(live)
        os.rename(live, live + ".old")
        os.mkdir(live, 0o700)
        for name in names:
            os.rename(f"{live}.old/{name}", f"{live}/{name}")
    assert g.client.run("ping", HOST, "--count", "1").status == 0
    wait_until(lambda: len(established(g)) == 1, 12 if place == "restarted" else 1,
               "the dead ones' end")
    wait_until(lambda: len(sessions(g.host)) == 1, 2, "one session left")
    kept.popen.stdin.write(b"still here\n")
    kept.popen.stdin.flush()
    kept.wait_line("still here", 5)
    assert len(os.listdir(os.path.join(g.client.state, "live"))) == 1


def copy_whole(state, to):
    """While programs write there: a copy from which a file went away is made anew."""
    def copied():
        shutil.rmtree(to, ignore_errors=True)
        return subprocess.run(["cp", "-a", state, to], stderr=subprocess.DEVNULL,
                              check=False).returncode == 0
    wait_until(copied, 10, "a whole copy of the state")


def test_copied_state_ends_no_living_session(stood):
    """Two machines with one key do not throw each other out."""
    g = stood
    first = stream_of(g)
    copy_whole(g.client.state, g.client.state + "-copy")
    copy = g.other_client("client-copy")
    second = stream_of(g, copy)
    third = stream_of(g)
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() > begin + 11, 15)   # two sweeps and the doubt
    for proc in (first, second, third):
        proc.popen.stdin.write(b"still here\n")
        proc.popen.stdin.flush()
        proc.wait_line("still here", 5)
    assert len(sessions(g.host)) == 3


def test_unwritable_state_says_nothing(stood):
    """No list where files cannot be written: nothing of this device is ended by it."""
    g = stood
    first = stream_of(g)
    live = os.path.join(g.client.state, "live")
    os.rename(live, live + ".gone")
    with open(live, "w", encoding="ascii"):
        pass
    second = stream_of(g)
    os.remove(live)
    os.rename(live + ".gone", live)
    third = stream_of(g)         # whole, without the second, which is in no list
    for proc in (first, second, third):
        proc.popen.stdin.write(b"still here\n")
        proc.popen.stdin.flush()
        proc.wait_line("still here", 5)
    assert len(sessions(g.host)) == 3


def test_killed_client_of_up_ends_at_once(stood):
    """`up` holds the session; a killed `nc` ends its stream there, also where the service
    takes no notice of an end."""
    g = stood
    up = g.client.start("up")
    up.wait_event("service", 15)
    procs = [stream_of(g, verb=b"DEAF") for _ in range(3)]
    assert len(sessions(g.host)) == 1 and len(established(g)) == 3
    procs[0].kill()
    wait_until(lambda: len(established(g)) == 2, 2, "the stream's end")
    os.kill(procs[1].pid, signal.SIGHUP)
    wait_until(lambda: len(established(g)) == 1, 2, "the stream's end")
    up.kill()
    assert g.client.run("ping", HOST, "--count", "1").status == 0
    wait_until(lambda: not established(g), 2, "the end of what up held")


def test_absent_bounds_a_silent_client(gate):
    """`--absent`: a client that is gone is waited for so long and no longer."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("7000", "--absent", "10s")
    g.join()
    dead, begin = stream_of(g), time.monotonic()
    dead.kill()
    wait_until(lambda: [s for s in sessions(g.host) if s["silent_s"] >= 3], 10, "silence")
    wait_until(lambda: not established(g), 25, "its end")
    assert time.monotonic() - begin > 9
    refused = g.host.run("serve", "--absent", "1s")
    assert refused.status == 2 and "10s" in refused.stderr


# ------------------------------------------------------------------ many of one device

MANY = 200


def weight(proc):
    """Open descriptors and resident kilobytes of a program."""
    pid = proc.pid
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        pages = int(f.read().split()[1])
    return len(os.listdir(f"/proc/{pid}/fd")), pages * (os.sysconf("SC_PAGE_SIZE") // 1024)


@pytest.mark.skipif(not full(), reason="in the long form only")
@pytest.mark.needs("ssh", "sshd")
@pytest.mark.parametrize("daemon", [False, True], ids=["alone", "up"])
def test_many_ssh_side_by_side(gate, programs, work, daemon):
    """All at the same time, from one device: each gets its answer."""
    g = gate(host="masq", client="masq")
    sshd = Sshd(programs, g.topo.host.ns, work)
    g.up_and_joined("22")
    if daemon:
        g.client.start("up").wait_event("service", 15)
    begin = time.monotonic()
    procs = [programs.start(g.topo.client.ns, "ssh", "ssh", *sshd.options(postern()),
                            f"root@{HOST}", f"echo answer {i}; read x",
                            stdin=subprocess.PIPE, env=g.client.env)
             for i in range(MANY)]
    for i, proc in enumerate(procs):
        proc.wait_line(f"answer {i}", 240)
    print(f"{MANY} stood after {time.monotonic() - begin:.1f} s, host {weight(g.host_proc)}"
          f" broker {weight(g.broker_proc)}")
    for proc in procs:
        proc.popen.stdin.close()
    assert [p.wait(60) for p in procs] == [1] * MANY     # of `read` at its end
    wait_until(lambda: len(sessions(g.host)) == (1 if daemon else 0), 10, "the end of all")
