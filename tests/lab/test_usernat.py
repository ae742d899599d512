"""The NAT in user space proves itself with plain sockets, each of RFC 4787's words and
the others; then a few networks drawn by seed, through which Postern must go direct."""

import contextlib
import os
import re
import socket
import struct
import sys
import time

import pytest

from . import nat as natlib
from .conftest import full
from .net import patience, wait_until
from .topology import BROKER, BROKER2, STRANGER

PEER = [sys.executable, os.path.join(os.path.dirname(__file__), "peers.py")]
_SHORT, _LONG = range(1, 9), range(1, 101)


class Ends:
    """UDP sockets of one process in several machines."""

    def __init__(self):
        self.all = []

    def udp(self, ns, port=0, address="0.0.0.0"):
        with ns.inside():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((address, port))
        s.settimeout(2)
        self.all.append(s)
        return s

    def close(self):
        for s in self.all:
            s.close()


@pytest.fixture
def ends():
    made = Ends()
    yield made
    made.close()


def seen(inside, server, at):
    """Where `server`, bound to `at`, sees what `inside` sends."""
    inside.sendto(b"hello", at)
    return server.recvfrom(100)[1]


def hears(sock):
    """True when something comes within what a packet needs."""
    sock.settimeout(0.3)
    try:
        sock.recvfrom(100)
        return True
    except TimeoutError:
        return False
    finally:
        sock.settimeout(2)


@pytest.mark.parametrize("filtering", range(3))
@pytest.mark.parametrize("mapping", range(3))
def test_mapping_and_filtering(lab, ends, mapping, filtering):
    words = ("endpoint-independent", "address-dependent", "address-and-port-dependent")
    spec = f"user:sym,mapping={words[mapping]},filtering={words[filtering]}"
    with lab(host=spec) as topo:
        inside, other = ends.udp(topo.host.ns), ends.udp(topo.host.ns)
        a = ends.udp(topo.broker, 1000, BROKER)
        b = ends.udp(topo.broker, 2000, BROKER)
        c = ends.udp(topo.broker, 1000, BROKER2)
        shown = seen(other, a, (BROKER, 1000))
        b.sendto(b"other port", shown)
        assert hears(other) is (filtering < 2)
        c.sendto(b"other address", shown)
        assert hears(other) is (filtering < 1)
        shown = seen(inside, a, (BROKER, 1000))
        assert (seen(inside, b, (BROKER, 2000)) == shown) is (mapping < 2)
        assert (seen(inside, c, (BROKER2, 1000)) == shown) is (mapping < 1)


def test_ports_and_pools(lab, ends):
    servers = [(BROKER, 1000 + n) for n in range(12)]

    def shown(host):
        with lab(host=host) as topo:
            inside = ends.udp(topo.host.ns, 5000)
            at = [seen(inside, ends.udp(topo.broker, port, address), (address, port))
                  for address, port in servers]
        return [a for a, _ in at], [p for _, p in at]

    assert shown("user:prc")[1] == [5000] * 12
    _, ports = shown("user:symseq,step=2")
    assert [b - a for a, b in zip(ports, ports[1:])] == [2] * 11
    _, ports = shown("user:sym,port-first=30000,port-last=30099")
    assert len(set(ports)) == 12 and all(30000 <= p < 30100 for p in ports)
    _, ports = shown("user:symrange,range-size=32")
    assert max(ports) - min(ports) < 32 and ports != sorted(ports)
    assert len(set(shown("user:sym,pool=4")[0])) == 1
    assert len(set(shown("user:sym,pool=4,pool-arbitrary")[0])) > 1


def test_forgets_limits_and_bans(lab, ends):
    with lab(host="user:prc,udp-first-ms=300,udp-ms=900,sessions-each=4,"
             "ban-unexpected=3,ban-ms=600") as topo:
        inside = ends.udp(topo.host.ns, 5000)
        a = ends.udp(topo.broker, 1000, BROKER)
        stranger, scanner = (ends.udp(topo.stranger, port) for port in (1000, 2000))
        shown = seen(inside, a, (BROKER, 1000))

        def reaches():
            inside.sendto(b"x", (STRANGER, 1000))
            return hears(stranger)

        assert reaches()
        for _ in range(3):
            scanner.sendto(b"scan", shown)
        wait_until(lambda: not reaches(), 5, "its address is banned")
        a.sendto(b"forgotten", shown)   # 0.3 s went by
        assert not hears(inside)
        wait_until(reaches, 5, "the ban ends")
        for port in range(2000, 2010):
            inside.sendto(b"x", (BROKER, port))
        inside.sendto(b"one too many", (BROKER, 1000))
        assert not hears(a)
    with lab(host="user:prc,ban-new-per-s=50") as topo:
        inside = ends.udp(topo.host.ns)
        a = ends.udp(topo.broker, 1000, BROKER)
        for port in range(2000, 2060):
            inside.sendto(b"x", (BROKER, port))
        inside.sendto(b"x", (BROKER, 1000))
        assert not hears(a)


def test_hairpin_and_damage(lab, ends):
    for hairpins in (False, True):
        with lab(host="user:full,hairpins,alg" if hairpins else "user:full") as topo:
            inside = ends.udp(topo.host.ns, 5000)
            other = ends.udp(topo.service.ns, 6000)
            a = ends.udp(topo.broker, 1000, BROKER)
            shown = seen(inside, a, (BROKER, 1000))
            other.sendto(b"over the bend", shown)
            assert hears(inside) is hairpins
            inside.sendto(socket.inet_aton(topo.host.address), (BROKER, 1000))
            told = socket.inet_ntoa(a.recvfrom(100)[0])
            assert told == (topo.host.site.public if hairpins else topo.host.address)


@pytest.mark.parametrize("how,fails", [("drop", TimeoutError), ("icmp", OSError),
                                       ("rst", ConnectionRefusedError)])
def test_unknown_tcp(lab, how, fails):
    with lab(host=f"user:prc,tcp-unknown={how}") as topo:
        with topo.stranger.inside():
            s = socket.socket()
        s.settimeout(0.5)
        with contextlib.closing(s), pytest.raises(fails) as raised:
            s.connect((topo.host.site.public, 80))
        assert how == "drop" or not isinstance(raised.value, TimeoutError)


def test_carries_tcp(lab, programs):
    """Far above the 20 Mbit/s that its users need, and as late as it was asked to be."""
    with lab(host="user:prc,delay-ms=5") as topo:
        server = programs.start(topo.broker, "tcp-server", *PEER, "tcp-server", 7000)
        server.wait_line("ready")
        got = programs.run(topo.host.ns, "get", *PEER, "get", BROKER, 7000, 5_000_000, 5)
        assert got.status == 0, got.stdout + got.stderr
        assert float(re.search(r"ok (\d+)", got.stdout)[1]) > 20 / patience(), got.stdout
        begin = time.monotonic()
        with topo.host.ns.inside():
            s = socket.socket()
        with contextlib.closing(s):
            s.connect((BROKER, 7000))
        assert time.monotonic() - begin >= 0.01
        with topo.host.ns.inside():
            s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.connect((BROKER, 7000))
        s.close()   # a reset goes through, and the port is free for another
        assert server.running


@pytest.mark.postern
@pytest.mark.parametrize("seed", _LONG if full() else _SHORT)
def test_networks_drawn_by_seed(gate, seed):
    """Whatever two NATs are drawn: where they let it, a direct path; else the relay."""
    host, client = natlib.draw(seed)
    g = gate(host=host, client=client)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000")
    proc.wait_event("path", 15, kind="relay")
    got = g.client.peer("get", "127.0.0.1", proc.port, 100_000, 4)
    assert got.status == 0, got.stdout + got.stderr
    if natlib.must_be_direct(host, client):
        wait_until(lambda: any(e["kind"] != "relay" for e in events(proc)), 15,
                   f"a direct path between {host} and {client}")
        got = g.client.peer("get", "127.0.0.1", proc.port, 500_000, 4)
        assert got.status == 0, got.stdout + got.stderr


def events(proc):
    proc.poll_output()
    return [e for e in proc.events if e.get("event") == "path"]
