"""Which NAT pairs go direct, and that what does not go direct says why. The short form
takes a handful of pairs, POSTERN_LAB_FULL=1 all of them."""

import pytest

from .actors import NEXT_ROUND_S, are_symmetric, wait_direct, wait_relay
from .conftest import full
from .nat import KINDS
from .topology import Wire

pytestmark = pytest.mark.postern

_SHORT = {("none", "none"), ("fw", "fw"), ("masq", "cgn"), ("eif", "sym"),
          ("ar", "masq"), ("sym", "masq"), ("cgn", "cgn"), ("sym", "sym")}


def pairs():
    every = [(h, c) for h in KINDS for c in KINDS]
    return [p for p in every if full() or p in _SHORT]


def move_bytes(g, proc, n=2_000_000):
    for verb in ("get", "put"):
        done = g.client.peer(verb, "127.0.0.1", proc.port, n, 4)
        assert done.status == 0, done.stdout + done.stderr


def start(gate, **how):
    g = gate(**how)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000")
    move_bytes(g, proc, 100_000)   # works at once, whatever the path
    return g, proc


def expect_direct(g, proc, limit=15):
    wait_direct(proc, limit)
    move_bytes(g, proc)


def expect_relay_with_reason(g, proc):
    wait_relay(proc)
    for kind in ("udp-punch", "tcp-punch", "jit-listen", "jit-listen-client"):
        rejected = proc.wait_event("rejected", 30, kind=kind)
        assert rejected["reason"].strip(), rejected
        assert not proc.find("path", kind=kind)
    move_bytes(g, proc)


@pytest.mark.parametrize("host,client", pairs())
def test_pair(gate, host, client):
    g, proc = start(gate, host=host, client=client)
    expect_direct(g, proc, NEXT_ROUND_S if are_symmetric(host, client) else 15)


@pytest.mark.parametrize("host,client", [
    ("masq+invalid_drop", "masq+invalid_drop"), ("masq+reject", "masq+reject"),
    ("fw+reject", "cgn+invalid_drop"), ("masq+nosyn", "masq+nosyn")])
def test_strict_and_talkative_nats(gate, host, client):
    g, proc = start(gate, host=host, client=client)
    expect_direct(g, proc)


@pytest.mark.parametrize("host,client", [
    ("masq+udp_blocked", "masq"), ("masq", "fw+udp_blocked"),
    ("masq+udp_blocked", "masq+udp_blocked")])
def test_udp_blocked_goes_direct_by_tcp(gate, host, client):
    g, proc = start(gate, host=host, client=client)
    assert wait_direct(proc)["kind"] in ("tcp-punch", "jit-listen", "jit-listen-client")
    move_bytes(g, proc)


@pytest.mark.parametrize("host,client", [("sym+udp_blocked+nosyn", "sym+nosyn")])
def test_what_no_kind_can_pass_stays_relayed_and_says_so(gate, host, client):
    g, proc = start(gate, host=host, client=client)
    expect_relay_with_reason(g, proc)


@pytest.mark.parametrize("host,client", [("fw", "fw"), ("sym", "sym"), ("none", "masq")])
def test_ipv6_goes_through_stateful_firewalls(gate, host, client):
    g, proc = start(gate, host=host, client=client, ipv6=True)
    path = wait_direct(proc)
    if "sym" in (host, client):
        assert ":" in path["remote"].strip("[").split("]")[0], path
    move_bytes(g, proc)


def test_ipv6_alone(gate):
    g, proc = start(gate, host="fw", client="fw", ipv6=True, ipv4=False)
    expect_direct(g, proc)


def test_same_lan_goes_straight_across_it(gate):
    """Host and client behind one NAT that does not hairpin."""
    g = gate(host="masq", client="masq")
    g.topo.move(g.topo.client, "a")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000")
    move_bytes(g, proc, 1000)
    path = wait_direct(proc)
    assert path["remote"].startswith("192.168.10.20:"), path


def containers(machine, number, others):
    """As many networks of containers as that, older than the machine's cable; and
    `others` more addresses of its own LAN."""
    for n in range(number):
        machine.ns.batch(f"link add br{n} type bridge",
                         f"link add in{n} type veth peer name to{n}",
                         f"link set in{n} master br{n} up", f"link set to{n} up",
                         f"link set br{n} up",
                         f"addr add 10.{number + n}.0.1/16 dev br{n}")
    return [f"addr add 2001:db8:a:1::{machine.last}:{n}/64 dev eth0"
            for n in range(1, others + 1)]


@pytest.mark.parametrize("number,others", [(12, 0), (0, 12), (12, 12)])
@pytest.mark.parametrize("kind", ["udp-punch", "jit-listen"])
def test_same_lan_among_many_addresses(gate, number, others, kind):
    """Networks of containers, and many IPv6 addresses: the LAN's own stay in the Offer."""
    g = gate(host="masq", client="masq", ipv6=others > 0)
    for machine in (g.topo.host, g.topo.client):
        more = containers(machine, number, others)
        g.topo.move(machine, "a")
        machine.ns.batch(*more)
        # What IPv6 there is leads nowhere: the LAN's IPv4 address has to be named.
        machine.ns.nft("table ip6 f { chain i { type filter hook input priority 0; "
                       "meta l4proto { tcp, udp } drop\n }\n}")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", f"{kind},relay")
    path = wait_direct(proc)
    assert path["remote"].startswith("192.168.10.20:"), path
    move_bytes(g, proc, 1000)


@pytest.mark.parametrize("wires", [
    dict(wire_host=Wire(20), wire_client=Wire(30)),
    dict(wire_client=Wire(10, jitter_ms=10, reorder=True)),
    dict(wire_client=Wire(10, loss=0.02))], ids=["delay", "reorder", "loss"])
def test_over_bad_wires(gate, wire, wires):
    g, proc = start(gate, host="masq", client="masq", **wires)
    expect_direct(g, proc)
