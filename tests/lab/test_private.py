"""Private addresses: others have the same numbers, and their machines are left in peace."""

import pytest

from .net import wait_until
from .test_tcp_kinds import ORDINARY, move_bytes

pytestmark = pytest.mark.postern

# Takes every connection, whatever the port, and says what came by them; one that `ends` has
# nothing to say, and shows it at once. Kernels send with 64 or 128 hops, some with 255: only these
# can be met by who calls a neighbour, and are told nothing either.
INNOCENT = """
import socket, select, sys
s = socket.create_server(("", 9), backlog=64)
open_, taken, got = {s}, 0, 0
while True:
    for c in select.select(list(open_), [], [])[0]:
        if c is s:
            one = s.accept()[0]; open_.add(one); taken += 1
            if sys.argv[1] == "ends": one.shutdown(socket.SHUT_WR)
        else:
            try: data = c.recv(4096)
            except OSError: data = b""
            got += len(data)
            if not data: open_.discard(c); c.close()
        print(f"taken {taken} bytes {got}.", flush=True)
"""
ANY_PORT = """
table ip any {
  chain in { type nat hook prerouting priority -100; meta l4proto tcp redirect to :9; }
}
"""

WALL = """
table inet wall {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept; iifname "lo" accept; meta l4proto { icmp, icmpv6 } accept;
  }
}
"""

SEEN = """
table ip seen {
  counter seen { }
  chain in { type filter hook prerouting priority -300; ip daddr 192.168.10.20 counter name seen; }
}
"""


def add_twin(g, near, number, bridge=False, manner="waits"):
    """A network of that machine's own, beside its default one, with somebody at `number`."""
    net = g.topo.net
    net.add("twin")
    twin = net.namespace("twin")
    net.link(near, "vpn", twin, "eth0")
    where = "vpn"
    if bridge:
        near.ip("link", "add", "docker9", "type", "bridge")
        near.ip("link", "set", "vpn", "master", "docker9")
        near.ip("link", "set", "docker9", "up")
        where = "docker9"
    near.address(where, number.rsplit(".", 1)[0] + ".99/24")
    twin.address("eth0", f"{number}/24")
    twin.nft(ANY_PORT)
    return g.programs.start(twin, "innocent", "/usr/bin/python3", "-c", INNOCENT, manner), twin


@pytest.mark.parametrize("side,manner,hops,wrapper", [
    ("client", "waits", 64, ORDINARY), ("host", "waits", 255, ORDINARY),
    ("client", "waits", 255, []), ("host", "ends", 255, ORDINARY), ("client", "ends", 255, [])],
    ids=lambda v: "privileged" if v == [] else "ordinary" if v is ORDINARY else str(v))
def test_an_innocent_machine_is_told_nothing(gate, side, manner, hops, wrapper):
    """It has the number of the other side: whoever opens, no byte comes to it."""
    g = gate(host="masq", client="masq")
    g.host.wrapper = g.client.wrapper = wrapper
    near, far = (g.topo.client, g.topo.host) if side == "client" else (g.topo.host, g.topo.client)
    innocent, twin = add_twin(g, near.ns, far.address, manner=manner)
    twin.run("sysctl", "-q", "-w", f"net.ipv4.ip_default_ttl={hops}")
    twin.nft(SEEN.replace("192.168.10.20", far.address))
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "tcp-punch,relay")
    proc.wait_event("path", 20, kind="tcp-punch")
    move_bytes(g, proc)
    said = innocent.stdout.splitlines()
    assert said if hops == 255 else "packets 0 " not in twin.run("nft", "list", "counters"), \
        "the innocent was not asked at all: this shows nothing"
    assert not said or said[-1].endswith(" bytes 0."), said[-1]


def test_the_machine_s_own_containers_are_no_peers(gate):
    g = gate(host="masq", client="masq")
    innocent, twin = add_twin(g, g.topo.client.ns, g.topo.host.address, bridge=True)
    twin.nft(SEEN)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "tcp-punch,udp-punch,relay")
    wait_until(lambda: [e for e in proc.events if e.get("kind") in ("tcp-punch", "udp-punch")
                        and e["event"] == "path"], 20, "a direct path")
    assert "packets 0 " in twin.run("nft", "list", "counters"), "packets came to a container"
    assert innocent.stdout == ""


@pytest.mark.parametrize("kind,wrapper", [
    ("tcp-punch", ORDINARY), ("tcp-punch", []), ("jit-listen", []), ("tcp-knock", [])],
    ids=lambda v: "privileged" if v == [] else "ordinary" if v is ORDINARY else v)
def test_neighbours_still_meet_by_tcp(gate, kind, wrapper):
    """In one LAN: who connects greets when it is greeted, or met by the other's SYN."""
    g = gate(host="masq", client="masq")
    g.host.wrapper = g.client.wrapper = wrapper
    g.topo.move(g.topo.client, "a")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", f"{kind},relay")
    path = proc.wait_event("path", 20, kind=kind)
    assert path["remote"].startswith("192.168.10.20:"), path
    print(f"{kind} after {path['elapsed_ms']} ms")
    move_bytes(g, proc)


@pytest.mark.parametrize("walls", ["host", "client", "both"])
def test_neighbours_with_firewalls_meet_by_tcp(gate, walls):
    """Each machine has a firewall of its own, as many do: only answers come in."""
    g = gate(host="masq", client="masq")
    g.host.wrapper = g.client.wrapper = ORDINARY
    g.topo.move(g.topo.client, "a")
    for name, machine in (("host", g.topo.host), ("client", g.topo.client)):
        if walls in (name, "both"):
            machine.ns.nft(WALL)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "tcp-punch,relay")
    path = proc.wait_event("path", 20, kind="tcp-punch")
    assert path["remote"].startswith("192.168.10.20:"), path
    move_bytes(g, proc)
