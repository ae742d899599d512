"""The kinds that are off unless both sides switch them on: dial-out and spoof."""

import pytest

from .net import wait_until
from .test_tcp_kinds import move_bytes

pytestmark = pytest.mark.postern


def start(gate, kind, on_host=True, on_client=True, **topology):
    g = gate(**topology)
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host(*(["--" + kind] if on_host else []), "7000")
    g.join()
    paths = f"{kind},relay" if on_client else "relay"
    return g, g.connect("7000", None, "--paths", paths)


@pytest.mark.parametrize("host,client", [("masq", "none"), ("sym", "none"), ("cgn", "none"),
                                         ("fw", "none"), ("sym", "eif")])
def test_dial_out_goes_through(gate, host, client):
    g, proc = start(gate, "dial-out", host=host, client=client)
    proc.wait_event("path", 15, kind="dial-out")
    listening = [line for line in g.topo.host.ns.tcp_listeners() if ":7000 " not in line]
    assert listening == []   # the host never listens
    move_bytes(g, proc)


def test_dial_out_again_when_the_client_moved(gate):
    """`up` keeps a session in advance; the host dials again where the client is now."""
    g = gate(host="masq", client="none", third="none")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("--dial-out", "7000")
    g.join()
    proc = g.client.start("up", "--paths", "dial-out,relay")
    proc.wait_event("path", 20, kind="dial-out")
    seen = len(proc.events)
    g.topo.move(g.topo.client)
    path = proc.wait_event("path", 30, seen, kind="dial-out")
    assert path["local"].startswith("198.18.3."), path


@pytest.mark.parametrize("kind", ["dial-out", "spoof"])
@pytest.mark.parametrize("on_host,on_client", [(False, True), (True, False)])
def test_one_side_alone_does_not_switch_it_on(gate, kind, on_host, on_client):
    g, proc = start(gate, kind, on_host, on_client, host="fw", client="none")
    no = proc.wait_event("rejected", 15, kind=kind)
    assert "does not allow it" in no["reason"] or "both sides" in no["reason"], no
    move_bytes(g, proc)
    assert not proc.find("path", kind=kind)


@pytest.mark.needs("nft")
@pytest.mark.parametrize("host,client", [("fw", "fw"), ("none", "fw"), ("fw", "none"),
                                         ("fw+invalid_drop", "fw+invalid_drop")])
def test_spoof_goes_through(gate, host, client):
    g, proc = start(gate, "spoof", host=host, client=client)
    proc.wait_event("path", 15, kind="spoof")
    move_bytes(g, proc)


@pytest.mark.needs("nft")
def test_spoof_through_a_nat_says_why_not(gate):
    g, proc = start(gate, "spoof", host="masq", client="fw")
    no = proc.wait_event("rejected", 15, kind="spoof")
    assert "a NAT" in no["reason"], no


@pytest.mark.needs("tcpdump")
def test_wire_shows_the_brokers_address(gate):
    """Between the two firewalls every packet of the path has the broker's source."""
    g = gate(host="fw", client="fw")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("--spoof", "7000")
    g.join()
    seen = g.programs.start(g.topo.inet, "tcpdump", "tcpdump", "-n", "-l", "-p",
                            "--immediate-mode", "-Q", "in", "-i", "a", "udp")
    seen.wait_line("listening on", 10, "err")
    proc = g.connect("7000", None, "--paths", "spoof,relay")
    proc.wait_event("path", 15, kind="spoof")
    move_bytes(g, proc)
    path = proc.find("path", kind="spoof")
    port = path["local"].rsplit(":", 1)[1]
    to_client = [line for line in seen.stdout.splitlines()
                 if f"> {g.topo.client.address}.{port}:" in line]
    assert len(to_client) > 10, seen.stdout[:2000]
    assert all("IP 192.0.2.10." in line for line in to_client), to_client[:5]


@pytest.mark.parametrize("kind,host,client", [("dial-out", "fw", "none"),
                                              ("spoof", "fw", "fw")])
def test_by_ipv6(gate, kind, host, client):
    g, proc = start(gate, kind, host=host, client=client, ipv6=True, ipv4=False)
    proc.wait_event("path", 15, kind=kind)
    move_bytes(g, proc)
