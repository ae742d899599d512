"""A slow line, and a full one: what Postern takes there beside what TCP alone takes.

64 kbit/s carry a packet of 1,200 bytes in 0.16 s: whatever is sent that need not be is
felt by whoever waits. All is compared with ssh over TCP alone on the same line.
"""

import statistics
import sys
import time

import pytest

from .actors import HOST, postern, wait_direct
from .conftest import full
from .net import wait_until
from .servers import Sshd
from .topology import BROKER, Wire

pytestmark = pytest.mark.postern
SLOW = Wire(delay_ms=20, rate_mbit=0.064, queue_ms=1000)
FULL = Wire(delay_ms=20, rate_mbit=0.256, queue_ms=1000)
TIMES = 3   # what Postern may take, of what TCP alone takes
FULL_TIMES = 1.7   # where all wait for the same queue
PAGES = [100] * 5 + [10_000]
ASKED_BYTES, CAME_MORE = 9_000, 11_000   # mostly acknowledgements, and what moves a path


class Line:
    """A client behind a slow line, a host with sshd at a public address."""

    def __init__(self, gate, programs, work, wire):
        self.g, self.programs = gate(host="none", client="masq", wire_client=wire), programs
        self.sshd = Sshd(programs, self.g.topo.host.ns, work)
        self.ns = self.g.topo.client.ns

    def connected_s(self):
        """What a TCP connection to the broker takes."""
        connect = ("import socket,time\nb=time.monotonic()\n"
                   f"socket.create_connection(({BROKER!r},443),5)\n"
                   "print(time.monotonic()-b)")
        done = self.programs.run(self.ns, "connect", sys.executable, "-c", connect)
        return float(done.stdout or 9)

    def quiet(self):
        """Nothing of what was before waits in the line any more."""
        wait_until(lambda: self.connected_s() < 0.1, 30, "an empty line")

    def ssh(self, *proxy):
        """How long `ssh host echo hi` takes, over TCP alone or through nc with options."""
        options = ["-o", "ProxyCommand=" + " ".join([postern(), "nc", *proxy[1:],
                                                     "%h", "%p"])] if proxy else []
        begin = time.monotonic()
        done = self.programs.run(self.ns, "ssh", "ssh", *self.sshd.options(), *options,
                                 f"root@{HOST if proxy else self.g.topo.host.address}",
                                 "echo", "hi", env=self.g.client.env, timeout=90)
        assert done.stdout == "hi\n", done.stderr
        return time.monotonic() - begin

    def ssh_alone(self, *proxy):
        self.quiet()
        return self.ssh(*proxy)


@pytest.mark.needs("ssh", "sshd")
@pytest.mark.parametrize("way", ["relay", "direct"] + ["no direct path"] * full())
def test_ssh_over_a_slow_line(gate, programs, work, way):
    """64 kbit/s at the client: the key exchange alone is 5 KB each way."""
    line = Line(gate, programs, work, SLOW)
    line.g.up_and_joined("22")
    plain = statistics.median(line.ssh_alone() for _ in range(3))
    if way == "no direct path":
        line.g.topo.cut_direct()
    kinds = ["--paths", "relay"] if way == "relay" else []
    took = [line.ssh_alone("nc", *kinds) for _ in range(3)]
    print(f"{way}: TCP alone {plain:.2f} s, Postern", *(f"{t:.2f}" for t in took))
    assert statistics.median(took) < TIMES * plain, (plain, took)


@pytest.mark.needs("ssh", "sshd")
def test_a_new_connection_on_a_full_line(gate, programs, work):
    """Another program's upload, TCP alone, fills 256 kbit/s and their buffer of a second."""
    line = Line(gate, programs, work, FULL)
    line.g.host.start_peer("tcp-server", 7000)
    line.g.up_and_joined("22")
    line.g.client.start_peer("gaps", line.g.topo.host.address, 7000, 1, "up")
    wait_until(lambda: line.connected_s() > 0.5, 30, "a full line")
    plain, took = zip(*((line.ssh(), line.ssh("nc", "--paths", "relay"))
                        for _ in range(3 if full() else 2)))
    print("full: TCP alone", *(f"{t:.1f}" for t in plain),
          "Postern", *(f"{t:.1f}" for t in took))
    assert statistics.median(took) < FULL_TIMES * statistics.median(plain), (plain, took)


def moved_bytes(ns):
    """What this machine sent and what came to it, by any device that is no loopback."""
    lines = ns.run("cat", "/proc/net/dev").splitlines()[2:]
    fields = [line.split(":")[1].split() for line in lines
              if line.split(":")[0].strip() != "lo"]
    return [sum(int(f[i]) for f in fields) for i in (8, 0)]


def test_pages_over_a_slow_line(gate):
    """Little is sent to fetch a few: no search for larger packets that nobody needs, and
    no doubt in a path that carries what was asked for."""
    g = gate(host="none", client="masq", wire_client=SLOW)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000")
    wait_direct(proc)
    before, begin = moved_bytes(g.topo.client.ns), time.monotonic()
    for page in PAGES:
        done = g.client.peer("get", "127.0.0.1", proc.port, page, page)
        assert done.status == 0, done.stdout + done.stderr
    took = time.monotonic() - begin
    sent, came = (a - b for a, b in zip(moved_bytes(g.topo.client.ns), before))
    print(f"pages took {took:.1f} s, {sent} bytes were sent, {came} came")
    assert sent < ASKED_BYTES and came < sum(PAGES) + CAME_MORE, (sent, came, took)
