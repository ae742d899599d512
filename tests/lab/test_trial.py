"""A direct path that carries much less than another is left, and says so.

Bulk through `connect`, either way, while something on the direct way holds it down: a
policer, or a middlebox that takes the window scaling out of TCP. And where every way is
as slow, nothing is disturbed.
"""

import pytest

from .actors import wait_direct
from .net import run, wait_until
from .topology import Wire

pytestmark = pytest.mark.postern
NEAR = Wire(delay_ms=5)
BULK_MBIT = 60   # more than any direct path here carries


class Bulk:
    """Bytes as fast as they go, and how fast that was."""

    def __init__(self, g, way="down", mbit=BULK_MBIT, direct=True):
        self.g, self.way = g, way
        g.host.start_peer("tcp-server", 7000)
        g.up_and_joined("7000")
        self.connect = g.connect("7000")
        if direct:
            wait_direct(self.connect)
        self.seen = len(self.connect.events)
        self.watch = g.client.start_peer("gaps", "127.0.0.1", self.connect.port, mbit,
                                         way)
        self.reached(0.5)

    def samples(self):
        """(seconds since the first byte, bytes) as they were counted where they came."""
        proc = self.watch
        if self.way == "up":
            proc = next(p for p in self.g.programs.started
                        if p.name == "peer-tcp-server")
        ats = [x.split() for x in proc.stdout.splitlines() if x.startswith("at ")]
        ats = [(float(t), int(n)) for _, t, n in (x for x in ats if len(x) == 3)]
        return [(t - ats[0][0], n) for t, n in ats]

    def reached(self, seconds, timeout=30):
        def far():
            assert self.watch.running, self.watch.stderr[-500:]
            s = self.samples()
            return s and s[-1][0] >= seconds
        wait_until(far, timeout, f"{seconds} s of bulk")

    def mbit_s(self, begin, end):
        s = self.samples()
        first = max((x for x in s if x[0] <= begin), default=s[0])
        last = max((x for x in s if x[0] <= end))
        return (last[1] - first[1]) * 8e-6 / max(end - begin, 0.1)

    def moved(self):
        """The path events since the bulk began."""
        self.connect.poll_output()
        return [e for e in self.connect.events[self.seen:] if e.get("event") == "path"]


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
    police(g.topo, 375)
    bulk = Bulk(g, way)
    bulk.reached(9.5)
    slow, fast = bulk.mbit_s(0.5, 2.5), bulk.mbit_s(8, 9.5)
    print(f"{way}: {slow:.1f} Mbit/s, then {fast:.1f}")
    assert fast > 3 * slow and fast > 15, (slow, fast, bulk.moved())
    e = bulk.moved()[-1]
    assert e["kind"] == "relay" and "udp-punch carries" in e["reason"], e


def test_status_says_why(gate):
    """UDP is policed, TCP is not: another path carries the bulk, and `status` says why."""
    g = gate(host="masq", client="masq", wire_client=NEAR)
    police(g.topo, 375, "meta l4proto udp")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    up = g.client.start("up")
    up.wait_event("path", 15, kind="udp-punch")
    where = up.wait_event("service", 20)["local"].rsplit(":", 1)
    g.client.start_peer("gaps", *where, BULK_MBIT)

    def told():
        up.poll_output()
        return [e["reason"] for e in up.events if e.get("event") == "path" and "reason" in e]
    wait_until(told, 15, "another path, and why")
    assert "udp-punch carries" in told()[-1], told()
    said = g.client.run("status").events
    assert any("carries" in e.get("reason", "") for e in said
               if e.get("kind") == "udp-punch"), said


def test_equally_slow(gate):
    """An uplink of 10 Mbit/s holds every path: tried once, and hardly felt."""
    slow = Wire(delay_ms=10, rate_mbit=10, queue_ms=100)
    g = gate(host="masq", client="masq", wire_client=slow)
    bulk = Bulk(g, "up")
    bulk.reached(12)
    rates = [bulk.mbit_s(t / 2, t / 2 + 3) for t in range(2, 18)]
    whole = bulk.mbit_s(1, 12)
    print(f"{whole:.1f} Mbit/s, over 3 s at least {min(rates):.1f}")
    assert not bulk.moved(), bulk.moved()
    assert min(rates) > 0.7 * whole, (whole, rates)


def test_application_limited(gate):
    """Who sends less than the path bears is not tried elsewhere."""
    g = gate(host="masq", client="masq", wire_client=NEAR)
    police(g.topo, 750)
    bulk = Bulk(g, "down", 2)
    bulk.reached(7)
    assert not bulk.moved(), bulk.moved()
    rates = [bulk.mbit_s(t / 2, t / 2 + 1) for t in range(4, 12)]
    assert min(rates) > 1.6, rates


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
    bulk.reached(6)
    fast = bulk.mbit_s(4, 6)
    print(f"window: {fast:.1f} Mbit/s")
    assert fast > 30, bulk.moved()
