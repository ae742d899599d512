"""A direct path that swallows bundles (UDP_SEGMENT: many packets in one call) and lets
single packets pass: to a router that forwards such a bundle it is one long packet."""

import re
import time

import pytest

from .actors import wait_direct
from .conftest import full
from .net import patience, wait_until
from .topology import BROKER, Wire

pytestmark = pytest.mark.postern
GAP_S = 1.5   # 13 s and more where bundles go on
FAR = Wire(delay_ms=20)   # QUIC paces what it sends there
WAYS = {"both": "", "down": 'oifname "wan"', "up": 'iifname "wan"'}
# Above 1,300 bytes single packets that have grown are lost as well.
SHAPES = [("both", 1500, None), ("both", 1300, FAR)]
MORE_SHAPES = [(way, length, wire) for way in WAYS for length in (1300, 1500)
               for wire in (None, FAR) if (way, length, wire) not in SHAPES]


def swallow_bundles(g, way, length):
    box = g.topo.sites["a"].box
    box.nft("table inet long {\n  chain forward { type filter hook forward priority -10;\n"
            f"    {WAYS[way]} meta l4proto udp ip saddr != {BROKER} ip daddr != {BROKER} "
            f"meta length > {length} counter drop\n  }}\n}}")
    return lambda: int(re.search(r"packets (\d+)",
                                 box.run("nft", "list", "table", "inet", "long")).group(1))


def came(watcher):
    watcher.poll_output()
    told = re.findall(r"^at \S+ (\d+)$", watcher.stdout, re.M)
    return int(told[-1]) if told else 0


def gaps_since(watcher, begin):
    return [float(b) - float(a)
            for a, b in re.findall(r"^gap (\S+) (\S+)$", watcher.stdout, re.M)
            if float(b) > begin]


@pytest.mark.parametrize("way,length,wire", SHAPES + [
    pytest.param(*shape, marks=pytest.mark.skipif(not full(), reason="in the long form"))
    for shape in MORE_SHAPES])
def test_bundles_are_swallowed_on_the_direct_path(gate, way, length, wire):
    """A download, an upload and who types, in one session beside a live relay."""
    g = gate(host="masq", client="masq", wire_client=wire)
    server = g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "udp-punch,relay")
    wait_direct(proc)
    down = g.client.start_peer("gaps", "127.0.0.1", proc.port, 16, "down")
    g.client.start_peer("gaps", "127.0.0.1", proc.port, 8, "up")
    typist = g.client.start_peer("typist", "127.0.0.1", proc.port, 8)
    flows = {"download": down, "upload": server}
    wait_until(lambda: all(came(f) > 1_000_000 for f in flows.values()), 12, "flows")
    begin, before = time.monotonic(), {n: came(f) for n, f in flows.items()}
    swallowed = swallow_bundles(g, way, length)
    wait_until(lambda: all(came(f) > before[n] + 3_000_000 for n, f in flows.items()), 40,
               "both flows go on")
    assert typist.wait(60) == 0, typist.stdout + typist.stderr
    longest = {n: max(gaps_since(f, begin), default=0) for n, f in flows.items()}
    longest["typist"] = float(re.search(r"max (\S+)", typist.stdout).group(1))
    print("longest gaps:", way, length, "far" if wire else "near", longest)
    assert max(longest.values()) < GAP_S * patience(), longest
    assert swallowed() > 0, "no bundle came by"


@pytest.mark.parametrize("size", [9000, 1000, 400])
@pytest.mark.parametrize("way", ["both", "up", "down"])
def test_udp_goes_on_where_bundles_are_swallowed(gate, way, size):
    """Nothing else is in the session. Above a packet's size datagrams go on a stream; of
    small ones, that nobody repeats, a fifth came through where bundles went on."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("udp-server", 7001)
    g.up_and_joined("echo=udp:7001")
    proc = g.connect("echo", None, "--paths", "udp-punch,relay")
    assert g.client.peer("udp-ping", "127.0.0.1", proc.port, 20, 20).status == 0
    wait_direct(proc)
    swallowed = swallow_bundles(g, way, 1500)
    flow = g.client.peer("udp-bursts", "127.0.0.1", proc.port, 5, size)
    answers, longest = re.search(r"answers (\d+) longest (\S+)", flow.stdout).groups()
    print("udp bursts:", way, size, flow.stdout)
    assert swallowed() > 0, "no bundle came by"
    assert float(longest) < GAP_S * patience(), flow.stdout
    assert int(answers) > 600, flow.stdout
