"""A network that swallows large packets and says nothing of it: TCP sends a segment that
was lost for its size again, as large, for ever."""

import re
import time

import pytest

from .net import patience, wait_until
from .test_bundles import came, gaps_since

pytestmark = pytest.mark.postern
FIRST_S = 3     # the handshake stood for 90 s and more
GAP_S = 3
WHOLE_S = 10     # 96 KB a second where only control connections carry
WAYS = {"both": "", "out": 'oifname "wan"', "in": 'iifname "wan"'}
FLOWS = {"down": ("down",), "up": ("up",), "each": ("down", "up")}
FLUSHES = 3
STALL_S = 6      # until a pair with small segments carries; it was for ever


def make_hole(g, site, mtu, way="both"):
    for machine in (g.topo.broker, g.host.ns, g.client.ns):
        machine.ip("link", "set", "eth0", "gso_max_segs", "1")   # else bundles are judged
    box = g.topo.sites[site].box
    box.nft("table inet hole {\n  chain forward { type filter hook forward priority -10;\n"
            f"    {WAYS[way]} meta length > {mtu} counter drop\n  }}\n}}")
    return lambda: int(re.search(r"packets (\d+)",
                                 box.run("nft", "list", "table", "inet", "hole")).group(1))


@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("mtu", [1240, 1000, 600])
def test_a_network_that_swallows_large_packets(gate, mtu, site):
    """From the first one on, at the host (a) or the client; directly by UDP where 1,200
    bytes pass, else by the relay."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    swallowed = make_hole(g, site, mtu)
    g.host_proc.kill()
    g.start_host("7000")
    begin = time.monotonic()
    proc = g.connect("7000")
    done = g.client.peer("echo", "127.0.0.1", proc.port, 10000, 1)
    took = time.monotonic() - begin
    assert done.status == 0, done.stdout + done.stderr
    print(f"{mtu} bytes, {site}: {took:.2f} s")
    assert took < FIRST_S * patience(), took
    done = g.client.peer("get", "127.0.0.1", proc.port, 2000000, 1)
    assert done.status == 0, done.stdout + done.stderr
    whole = time.monotonic() - begin - took
    print(f"2 MB in {whole:.2f} s, {swallowed()} swallowed")
    assert whole < WHOLE_S * patience(), whole
    assert swallowed() > 0, "nothing large came by"


@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("mtu", [1300, 1240])
def test_a_relayed_session_where_large_packets_begin_to_be_swallowed(gate, mtu, site):
    """A download, an upload and who types, in one session over the relay alone: where
    packets of 1,200 bytes pass, TCP's do."""
    g = gate(host="masq", client="masq")
    server = g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "relay")
    flows = {"down": g.client.start_peer("gaps", "127.0.0.1", proc.port, 8, "down"),
             "up": server}
    g.client.start_peer("gaps", "127.0.0.1", proc.port, 8, "up")
    typist = g.client.start_peer("typist", "127.0.0.1", proc.port, 15)
    wait_until(lambda: all(came(f) > 4_000_000 for f in flows.values()), 20, "flows")
    begin, before = time.monotonic(), {n: came(f) for n, f in flows.items()}
    swallowed = make_hole(g, site, mtu)
    wait_until(lambda: all(came(f) > before[n] + 4_000_000 for n, f in flows.items()), 60,
               "all flows go on")
    assert typist.wait(60) == 0, typist.stdout + typist.stderr
    longest = {n: max(gaps_since(f, begin), default=0) for n, f in flows.items()}
    longest["typist"] = float(re.search(r"max (\S+)", typist.stdout).group(1))
    print("longest gaps:", mtu, site, longest, swallowed())
    assert max(longest.values()) < GAP_S * patience(), longest
    assert swallowed() == 0, "a TCP of ours sends such"


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("way", WAYS)
def test_a_relayed_session_where_1000_bytes_begin_to_be_swallowed(gate, way, site, flow):
    """The pair's own segments are swallowed from now on, in both directions or in one;
    what is small passes."""
    g = gate(host="masq", client="masq")
    server = g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "relay")
    flows = {}
    for name in FLOWS[flow]:
        peer = g.client.start_peer("gaps", "127.0.0.1", proc.port, 8, name)
        flows[name] = peer if name == "down" else server
    wait_until(lambda: all(came(f) > 4_000_000 for f in flows.values()), 20, "flows")
    begin, before = time.monotonic(), {n: came(f) for n, f in flows.items()}
    swallowed = make_hole(g, site, 1000, way)
    try:
        wait_until(lambda: all(came(f) > before[n] + 12_000_000 for n, f in flows.items()),
                   45, "all flows go on")
    finally:
        longest = {n: max(gaps_since(f, begin), default=0) for n, f in flows.items()}
        print("longest gaps:", way, site, longest, swallowed(), time.monotonic() - begin)
    assert max(longest.values()) < STALL_S * patience(), longest


def segments(g):
    """The largest that the broker has for each connection of a pair."""
    told = g.topo.broker.run("ss", "-tinH", "state", "established")
    return [int(mss) for mss, sent in re.findall(r" mss:(\d+).* bytes_sent:(\d+)", told)
            if int(sent) > 1_000_000]


@pytest.mark.parametrize("site", ["a", "b"])
@pytest.mark.parametrize("loose", [False, True])
def test_a_nat_that_forgets_leaves_segments_as_they_are(gate, loose, site):
    """Nothing is wrong with sizes there: what comes after is as fast as before."""
    g = gate(host="masq", client="masq")
    g.topo.sites[site].box.run("sysctl", "-qw",
                               f"net.netfilter.nf_conntrack_tcp_loose={int(loose)}")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "relay", "--verbose")
    g.client.start_peer("gaps", "127.0.0.1", proc.port, 8, "down")
    g.client.start_peer("gaps", "127.0.0.1", proc.port, 8, "up")
    rates = []
    for _ in range(FLUSHES):
        time.sleep(2)
        g.topo.flush_conntrack(site)
        begin = time.monotonic()
        done = g.client.peer("echo", "127.0.0.1", proc.port, 1000, 1)
        assert done.status == 0, done.stdout + done.stderr
        back = time.monotonic()
        done = g.client.peer("get", "127.0.0.1", proc.port, 40_000_000, 1)
        assert done.status == 0, done.stdout + done.stderr
        rates.append(320 / (time.monotonic() - back))
        print(f"back after {back - begin:.2f} s, then {rates[-1]:.0f} Mbit/s")
    proc.poll_output()
    print(proc.stderr[-1500:])
    assert "small ones" not in proc.stderr
    for big in segments(g):
        assert big > 1000, "small segments after a flush"
