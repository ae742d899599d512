"""A direct path that carries much less than another is left, and says so.

Bulk through `connect`, either way, while something on the direct way holds it down: a
policer, or a middlebox that takes the window scaling out of TCP. And where every way is
as slow, nothing is disturbed.

When a trial begins and ends is the session's matter: the tests wait for what it tells,
and measure from then on, on the clock that all programs here share.
"""

import re
import time

import pytest

from .actors import wait_direct
from .net import run, wait_until
from .topology import Wire

pytestmark = pytest.mark.postern
NEAR = Wire(delay_ms=5)
BULK_MBIT = 60   # more than any direct path here carries
POLICED_KBYTES_S = 375   # 3 Mbit/s


class Bulk:
    """Bytes as fast as they go, and how fast that was."""

    def __init__(self, g, way="down", mbit=BULK_MBIT, direct=True):
        self.g, self.way = g, way
        g.host.start_peer("tcp-server", 7000)
        g.up_and_joined("7000")
        self.connect = g.connect("7000", None, "--verbose")
        if direct:
            wait_direct(self.connect, 30)
        self.seen = len(self.connect.events)
        self.watch = g.client.start_peer("gaps", "127.0.0.1", self.connect.port, mbit,
                                         way)
        wait_until(self.samples, 30, "bulk")
        self.first = self.samples()[0][0]

    def lines(self, word):
        proc = self.watch
        assert proc.running, proc.stderr[-500:]
        if self.way == "up":
            proc = next(p for p in self.g.programs.started
                        if p.name == "peer-tcp-server")
        found = [x.split() for x in proc.stdout.splitlines() if x.startswith(f"{word} ")]
        return [(float(x[1]), float(x[2])) for x in found if len(x) == 3]

    def samples(self):
        """(monotonic time, all bytes until then) as they were counted where they came."""
        return self.lines("at")

    def longest_gap(self, until):
        return max((b - a for a, b in self.lines("gap") if self.first < b < until),
                   default=0)

    def reached(self, when):
        left = when - time.monotonic()
        wait_until(lambda: self.samples()[-1][0] >= when, 30 + max(left, 0), "more bulk")

    def mbit_s(self, begin, end):
        """From the last sample before `begin` to the first after `end`."""
        self.reached(end)
        s = self.samples()
        a = max((x for x in s if x[0] <= begin), default=s[0])
        b = min(x for x in s if x[0] >= end)
        return (b[1] - a[1]) * 8e-6 / (b[0] - a[0])

    def slow(self):
        """The first second: no trial begins before two of bulk."""
        return self.mbit_s(self.first, self.first + 1)

    def moved(self):
        """The path events since the bulk began."""
        self.connect.poll_output()
        return [e for e in self.connect.events[self.seen:] if e.get("event") == "path"]

    def outdone(self, timeout=45):
        """Waits for a path that was chosen for what it carries: its event."""
        def told():
            return next((e for e in self.moved() if "carries" in e.get("reason", "")), None)
        wait_until(told, timeout, "a path that carries more")
        return told()

    def trials(self):
        """(the path in use, Mbit/s on it, the one tried, Mbit/s on that) of each that ended."""
        self.connect.poll_output()
        return re.findall(r"trial: (\S+) carries ([\d.]+) Mbit/s, (\S+) ([\d.]+)",
                          self.connect.stderr)


def police(topo, kbytes_s, what="meta l4proto { tcp, udp }"):
    """What goes from site to site passes at that rate each way; the broker is free."""
    rules = "\n".join(
        f'    iifname "{a}" oifname "{b}" {what} limit rate over {kbytes_s} '
        f"kbytes/second burst 30 kbytes drop" for a, b in (("a", "b"), ("b", "a")))
    topo.inet.nft("table inet police {\n"
                  "  chain forward { type filter hook forward priority 0;\n"
                  f"{rules}\n  }}\n}}")


@pytest.mark.parametrize("way", ["down", "up"])
def test_policed(gate, way):
    """3 Mbit/s directly, by any kind; the relay is free."""
    g = gate(host="masq", client="masq", wire_client=NEAR)
    police(g.topo, POLICED_KBYTES_S)
    bulk = Bulk(g, way)
    event, at = bulk.outdone(), time.monotonic()
    slow, fast = bulk.slow(), bulk.mbit_s(at, at + 2)
    print(f"{way}: {slow:.1f} Mbit/s, then {fast:.1f}, {at - bulk.first:.1f} s later")
    assert event["kind"] == "relay" and "udp-punch carries" in event["reason"], event
    assert fast > 2 * slow and fast > 10, (slow, fast, bulk.moved())


def test_far_relay(gate):
    """A relay 320 ms away needs seconds to find its speed: it gets them, and keeps the
    bulk; nothing else is tried after that, and the bulk never stands still for long."""
    g = gate(host="masq", client="masq", wire_client=NEAR,
             wire_broker=Wire(delay_ms=75, queue_ms=2000))
    police(g.topo, POLICED_KBYTES_S)
    bulk = Bulk(g)
    event, at = bulk.outdone(), time.monotonic()
    slow, fast, gap = bulk.slow(), bulk.mbit_s(at, at + 6), bulk.longest_gap(at)
    print(f"far: {slow:.1f} Mbit/s, then {fast:.1f}, {at - bulk.first:.1f} s later; "
          f"longest gap {gap:.2f} s")
    assert event["kind"] == "relay" and "udp-punch carries" in event["reason"], event
    assert len(bulk.trials()) == 1, bulk.trials()
    assert fast > 2 * slow and fast > 10, (slow, fast)
    assert gap < 2, gap


def test_status_says_why(gate):
    """UDP is policed, TCP is not: another path carries the bulk, and `status` says why."""
    g = gate(host="masq", client="masq", wire_client=NEAR)
    police(g.topo, POLICED_KBYTES_S, "meta l4proto udp")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    up = g.client.start("up")
    up.wait_event("path", 30, kind="udp-punch")
    where = up.wait_event("service", 20)["local"].rsplit(":", 1)
    g.client.start_peer("gaps", *where, BULK_MBIT)

    def told():
        up.poll_output()
        return [e["reason"] for e in up.events if e.get("event") == "path" and "reason" in e]
    wait_until(told, 45, "another path, and why")
    assert "udp-punch carries" in told()[-1], told()
    said = g.client.run("status").events
    assert any("carries" in e.get("reason", "") for e in said
               if e.get("kind") == "udp-punch"), said


def test_equally_slow(gate):
    """An uplink of 10 Mbit/s holds every path: tried once, and hardly felt."""
    slow = Wire(delay_ms=10, rate_mbit=10, queue_ms=100)
    g = gate(host="masq", client="masq", wire_client=slow)
    bulk = Bulk(g, "up")
    wait_until(bulk.trials, 45, "a trial")
    end = time.monotonic() + 3
    whole = bulk.mbit_s(bulk.first + 0.5, end)
    starts = [bulk.first + 0.5 + n / 2 for n in range(int((end - bulk.first - 3.5) * 2))]
    least = min(bulk.mbit_s(t, t + 3) for t in starts)
    print(f"{whole:.1f} Mbit/s, over 3 s at least {least:.1f}; {bulk.trials()}")
    assert not bulk.moved() and len(bulk.trials()) == 1, (bulk.moved(), bulk.trials())
    assert least > 0.5 * whole, (whole, least)


def test_application_limited(gate):
    """Who sends less than the path bears is not tried elsewhere."""
    g = gate(host="masq", client="masq", wire_client=NEAR)
    police(g.topo, 2 * POLICED_KBYTES_S)
    bulk = Bulk(g, "down", 2)
    rate = bulk.mbit_s(bulk.first, bulk.first + 7)
    assert not bulk.moved() and "trial:" not in bulk.connect.stderr, bulk.moved()
    assert rate > 1.2, rate


@pytest.mark.needs("iptables")
def test_window_not_scaled(gate):
    """A middlebox between the sites takes the window scaling out of every SYN: TCP carries
    10 Mbit/s at 50 ms, UDP nothing, and the relay is used."""
    g = gate(host="masq+udp_blocked", client="masq", wire_client=Wire(delay_ms=25))
    for a, b in (("a", "b"), ("b", "a")):
        run("ip", "netns", "exec", g.topo.inet.netns, "iptables", "-t", "mangle",
            "-A", "FORWARD", "-i", a, "-o", b, "-p", "tcp", "--tcp-flags", "SYN", "SYN",
            "-j", "TCPOPTSTRIP", "--strip-options", "wscale")
    bulk = Bulk(g, "down", direct=False)
    fast = bulk.mbit_s(bulk.first + 3, bulk.first + 6)
    print(f"window: {fast:.1f} Mbit/s")
    assert fast > 15, (fast, bulk.moved())
