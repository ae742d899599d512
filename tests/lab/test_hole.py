"""A network that swallows large packets and says nothing of it: TCP sends a segment that
was lost for its size again, as large, for ever."""

import re
import time

import pytest

from .net import patience

pytestmark = pytest.mark.postern
FIRST_S = 3     # the handshake stood for 90 s and more
WHOLE_S = 10     # 96 KB a second where only control connections carry


def make_hole(g, site, mtu):
    for machine in (g.topo.broker, g.host.ns, g.client.ns):
        machine.ip("link", "set", "eth0", "gso_max_segs", "1")   # else bundles are judged
    box = g.topo.sites[site].box
    box.nft("table inet hole {\n  chain forward { type filter hook forward priority -10;\n"
            f"    meta length > {mtu} counter drop\n  }}\n}}")
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
