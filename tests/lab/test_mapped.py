"""Port mappings, asked for from the real miniupnpd on the site's router."""

import os

import pytest

from .net import wait_until
from .test_tcp_kinds import move_bytes

pytestmark = [pytest.mark.postern, pytest.mark.needs("miniupnpd")]

# miniupnpd maps no port where the outside address is one of those kept for examples,
# as the lab's are: the router gets one more that it takes for a real one, and by which it sends.
OUTSIDE = "11.0.0.1"

CHAINS = """
table inet filter {
  chain miniupnpd { }
  chain prerouting_miniupnpd { }
  chain postrouting_miniupnpd { }
  chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
  chain postrouting { type nat hook postrouting priority 90; jump postrouting_miniupnpd; }
}
insert rule inet box forward ct status dnat accept
"""


def start_router(g, letter, work, pcp=True, upnp=True, leads_here=True):
    """The router of a site that gives mappings; where nothing leads to its outside, another NAT
    is beyond it."""
    site = g.topo.sites[letter]
    site.box.address("wan", f"{OUTSIDE}/32")
    g.topo.inet.ip("route", "add", OUTSIDE, "via", site.public)
    site.box.nft(CHAINS)
    if leads_here:
        how = " fully-random" if site.kind.kind == "sym" else ""
        site.box.nft(f'insert rule ip nat out oifname "wan" snat to {OUTSIDE}{how}')
    for rule in ("tcp dport { 2189, 1900 } accept", "udp dport { 1900, 5351 } accept"):
        site.box.nft(f'insert rule inet box input iifname "lan" {rule}')
    path = os.path.join(work, f"upnp-{letter}.conf")
    with open(path, "w", encoding="ascii") as f:
        f.write("\n".join([
            "ext_ifname=wan", f"ext_ip={OUTSIDE}", "listening_ip=lan", "http_port=2189",
            f"enable_natpmp={'yes' if pcp else 'no'}",
            f"enable_upnp={'yes' if upnp else 'no'}",
            "min_lifetime=120", "max_lifetime=86400", "secure_mode=yes", "ipv6_disable=yes",
            f"lease_file={work}/leases-{letter}", "uuid=8ec9e44d-a67e-4640-92f5-806def0bc792",
            "allow 1024-65535 0.0.0.0/0 1024-65535", "deny 0-65535 0.0.0.0/0 0-65535", ""]))
    pid = os.path.join(work, f"upnp-{letter}.pid")
    proc = g.programs.start(site.box, f"miniupnpd-{letter}", "miniupnpd", "-d", "-f", path,
                            "-P", pid)
    wait_until(lambda: os.path.exists(pid), 10, "the router's daemon is ready")
    return proc


def mappings(g, letter):
    return [line for line in g.topo.sites[letter].box.run(
        "nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd").splitlines()
        if "dnat" in line]


def start(gate, work, where, **router):
    g = gate(host="sym+reject" if where == "a" else "masq", client="masq")
    start_router(g, where, work, **router)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    return g


@pytest.mark.parametrize("protocol", ["pcp", "upnp"])
def test_mapped_at_the_host(gate, work, protocol):
    g = start(gate, work, "a", pcp=protocol == "pcp", upnp=protocol == "upnp")
    proc = g.connect("7000", None, "--paths", "mapped,relay")
    path = proc.wait_event("path", 20, kind="mapped")
    assert path["remote"].startswith(OUTSIDE), path
    assert len(mappings(g, "a")) == 1, mappings(g, "a")
    move_bytes(g, proc)
    g.host_proc.terminate()
    wait_until(lambda: mappings(g, "a") == [], 10, "the mapping is taken back")


@pytest.mark.parametrize("protocol", ["pcp", "upnp"])
def test_mapped_where_udp_is_dead(gate, work, protocol):
    """The router passes no UDP to the outside, and maps a TCP port."""
    g = gate(host="sym", client="sym")
    start_router(g, "a", work, pcp=protocol == "pcp", upnp=protocol == "upnp")
    for letter in "ab":
        g.topo.block_udp(letter)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "mapped-tcp,relay")
    path = proc.wait_event("path", 20, kind="mapped-tcp")
    assert path["remote"].startswith(OUTSIDE), path
    move_bytes(g, proc)
    listening = [line for line in g.topo.host.ns.tcp_listeners() if ":7000 " not in line]
    assert listening == [], listening   # closed again when the client had come


def test_mapped_at_the_client(gate, work):
    g = start(gate, work, "b")
    proc = g.connect("7000", None, "--paths", "mapped,relay")
    proc.wait_event("path", 20, kind="mapped")
    move_bytes(g, proc)


def test_no_router_maps_and_it_says_so(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "mapped,relay")
    no = proc.wait_event("rejected", 20, kind="mapped")
    assert "no router gives a mapping" in no["reason"], no
    move_bytes(g, proc)   # by the relay meanwhile


def test_netcheck_names_what_the_router_speaks(gate, work):
    g = start(gate, work, "b")
    done = g.client.run("netcheck", timeout=40)
    assert done.status == 0, done.stderr
    found = [e for e in done.events if e["event"] == "netcheck"][0]
    assert found["port_mapping"] == "PCP" and found["privileged"] is True, found
    wait_until(lambda: mappings(g, "b") == [], 10, "the mapping is taken back")


@pytest.mark.parametrize("kind", ["mapped", "mapped-tcp"])
def test_a_mapping_that_leads_nowhere_is_not_offered(gate, work, kind):
    """The router's outside is not where the broker sees the host: nothing is sent there."""
    g = start(gate, work, "a", leads_here=False)
    g.topo.inet.nft(f"""table inet guard {{
      chain forward {{ type filter hook forward priority 0; ip daddr {OUTSIDE} counter name stray; }}
      counter stray {{ }}
    }}""")
    proc = g.connect("7000", None, "--paths", f"{kind},relay")
    no = proc.wait_event("rejected", 20, kind=kind)
    assert "leads nowhere" in no["reason"] and OUTSIDE in no["reason"], no
    assert "packets 0 " in g.topo.inet.run("nft", "list", "counters"), "a stranger was sent something"


def test_netcheck_says_that_a_mapping_leads_nowhere(gate, work):
    g = start(gate, work, "b", leads_here=False)
    found = g.client.run("netcheck", timeout=40).event("netcheck")
    assert found["port_mapping"] == "no" and "leads nowhere" in found["mapping_note"], found
    assert found["double_nat"] == "yes", found
