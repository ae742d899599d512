"""Private addresses: others have the same numbers, and their machines are left in peace."""

import pytest

from .net import wait_until
from .test_tcp_kinds import ORDINARY, move_bytes

pytestmark = pytest.mark.postern

# Takes every connection, whatever the port, and says what came by them.
INNOCENT = """
import socket, select
s = socket.create_server(("", 9), backlog=64)
open_, taken, got = {s}, 0, 0
while True:
    for c in select.select(list(open_), [], [])[0]:
        if c is s:
            open_.add(s.accept()[0]); taken += 1
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

SEEN = """
table ip seen {
  counter seen { }
  chain in { type filter hook prerouting priority -300; ip daddr 192.168.10.20 counter name seen; }
}
"""


def add_twin(g, near, number, bridge=False):
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
    return g.programs.start(twin, "innocent", "/usr/bin/python3", "-c", INNOCENT), twin


@pytest.mark.parametrize("side", ["client", "host"])
def test_an_innocent_machine_is_told_nothing(gate, side):
    """It has the number of the other side: whoever opens, no byte comes to it."""
    g = gate(host="masq", client="masq")
    g.host.wrapper = g.client.wrapper = ORDINARY   # arranged connections ask nobody near
    near, far = (g.topo.client, g.topo.host) if side == "client" else (g.topo.host, g.topo.client)
    innocent, twin = add_twin(g, near.ns, far.address)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "tcp-punch,relay")
    proc.wait_event("path", 20, kind="tcp-punch")
    move_bytes(g, proc)
    said = innocent.stdout.splitlines()
    assert said, "the innocent was not asked at all: this shows nothing"
    assert said[-1].endswith(" bytes 0."), said[-1]


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


@pytest.mark.parametrize("kind", ["jit-listen", "tcp-knock"])
def test_neighbours_still_meet_by_tcp(gate, kind):
    """In one LAN: who connects greets when it is greeted, or met by the other's SYN."""
    g = gate(host="masq", client="masq")
    g.topo.move(g.topo.client, "a")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", f"{kind},relay")
    path = proc.wait_event("path", 20, kind=kind)
    assert path["remote"].startswith("192.168.10.20:"), path
    move_bytes(g, proc)
