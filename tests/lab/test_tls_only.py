"""Networks that let nothing but TLS to port 443 through."""

import pytest

from .actors import wait_relay
from .net import wait_until
from .test_tcp_kinds import move_bytes

pytestmark = [pytest.mark.postern, pytest.mark.needs("nft")]

# What a TLS connection says begins with a record's header: 20-23, 3. Nothing else that
# carries bytes leaves the network, and no UDP.
ONLY_TLS = """
table inet only_tls {
  chain forward { type filter hook forward priority -10;
    iifname "lan" meta l4proto udp drop
    iifname "lan" meta l4proto tcp tcp dport != 443 %(how)s
    iifname "lan" tcp dport 443 @ih,0,32 0x5053544e %(how)s
    iifname "lan" tcp dport 443 @ih,0,16 0x0001 %(how)s
  }
}
"""


@pytest.mark.parametrize("how", ["drop", "reject with tcp reset"], ids=["drop", "reset"])
@pytest.mark.parametrize("where", ["a", "b", "ab"])
def test_relay_inside_tls(gate, where, how):
    g = gate(host="sym", client="sym")
    for letter in where:
        g.topo.sites[letter].box.nft(ONLY_TLS % {"how": how})
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "relay")
    wait_relay(proc)
    # Beyond what a control connection would carry.
    move_bytes(g, proc, 20_000_000)
    inside = g.topo.broker.sockets("-tnHo", "state", "established")
    assert len(inside) >= 4, inside   # two for control, two for the pair
