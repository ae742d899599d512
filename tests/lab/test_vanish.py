"""Commands that are ended in every way, and what is left of them at the host: nothing.

Hang-ups, closed terminals and pipes, kills; many commands of one device side by side
and one after the other.
"""

import os
import pty
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


def stream_of(gate, who=None):
    """A `postern nc` that stands: its service has answered."""
    g, who = gate, who or gate.client
    proc = g.programs.start(g.topo.client.ns, "nc", postern(), "nc", HOST, "7000",
                            env=who.env, stdin=subprocess.PIPE)
    proc.popen.stdin.write(b"HOLD\n")
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
    assert [p.wait(5) for p in (nc, connect, daemon)] == [0, 0, 0]
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
