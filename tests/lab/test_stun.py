"""The broker's STUN against clients of other hands (coturn's)."""

import os
import re

import pytest

from .topology import BROKER, BROKER2
from .actors import PEER, wait_direct

pytestmark = pytest.mark.postern


@pytest.mark.needs("turnutils_stunclient")
@pytest.mark.parametrize("kind", ["none", "masq", "cgn"])
def test_binding_shows_the_reflexive_address(gate, programs, kind):
    g = gate(client=kind)
    g.start_broker()
    # It then asks for answers that a NAT keeps out, and would wait for them forever.
    asks = programs.start(g.topo.client.ns, "stunclient", "turnutils_stunclient",
                          "-p", 443, BROKER)
    asks.wait_line("UDP reflexive addr")
    site = g.topo.client.site
    want = site.public if site.translates else g.topo.client.address
    found = re.search(r"reflexive addr: ([\d.]+):(\d+)", asks.stdout)
    assert found and found.group(1) == want, asks.stdout


@pytest.mark.needs("turnutils_stunclient")
def test_response_port_change_request_and_padding(gate, programs):
    """Without a NAT all three requests of coturn's client must be answered."""
    g = gate(client="none")
    g.start_broker()
    done = programs.run(g.topo.client.ns, "stunclient", "turnutils_stunclient",
                        "-p", 443, BROKER, timeout=8)
    assert done.status == 0 and "RFC 5780 response 3" in done.stdout
    assert f"Response origin: : {BROKER2}:" in done.stdout, done.stdout


@pytest.mark.needs("turnutils_natdiscovery")
@pytest.mark.parametrize("kind,mapping,filtering", [
    ("masq", "endpoint independent", "address and port dependent"),
    ("eif", "endpoint independent", "endpoint independent"),
    ("ar", "endpoint independent", "address dependent"),
    ("sym", "address and port dependent", "address and port dependent"),
])
def test_behaviour_discovery(gate, programs, kind, mapping, filtering):
    """RFC 5780 with the broker's second address and port."""
    g = gate(client=kind)
    g.start_broker()
    text = ""
    for what in ("-f", "-m"):   # filtering first: asking for the mapping opens the NAT
        done = programs.run(g.topo.client.ns, "natdiscovery", "turnutils_natdiscovery",
                            what, "-p", 443, BROKER, timeout=60)
        text += (done.stdout + done.stderr).lower().replace("-", " ")
    assert re.search(r"with " + mapping + r" mapping", text), text
    assert re.search(r"with " + filtering + r" filtering", text), text


def _stun_probe(programs, ns, packets, answered):
    """Sends raw packets to the broker; what it says to each. The first `answered` are
    waited for, the others for a moment."""
    code = ("import socket\n"
            "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
            f"for i,p in enumerate({[p.hex() for p in packets]!r}):\n"
            f" s.settimeout(10 if i < {answered} else 0.4)\n"
            f" s.sendto(bytes.fromhex(p), ('{BROKER}', 443))\n"
            " try: print(i, s.recv(2048).hex())\n"
            " except TimeoutError: print(i, 'silent')\n")
    done = programs.run(ns, "probe", PEER[0], "-c", code)
    return [line.split()[1] for line in done.stdout.splitlines()]


def test_only_stun_is_answered(gate, programs):
    g = gate(client="none")
    g.start_broker()
    head = bytes.fromhex("000100002112a442") + b"t" * 12
    good = head
    unknown = bytes.fromhex("000100082112a442") + b"t" * 12 + bytes.fromhex(
        "7f01000400000000")
    answers = _stun_probe(programs, g.topo.client.ns, [
        good, unknown, b"", b"x", b"\0" * 20, good[:19], b"\xc3" + b"q" * 1200,
        bytes.fromhex("010100002112a442") + b"t" * 12,       # a response
        bytes.fromhex("000100042112a442") + b"t" * 12], 2)   # promises more
    assert answers[0].startswith("0101") and answers[0][8:40] == head[4:].hex()
    assert answers[1].startswith("0111"), "420 for an attribute it must understand"
    assert answers[2:] == ["silent"] * 7, answers


def test_answers_come_from_the_address_that_was_asked(gate, programs):
    g = gate(client="masq")
    g.start_broker()
    for address in (BROKER, BROKER2):
        code = ("import socket\n"
                "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(3)\n"
                f"s.connect(('{address}',443))\n"
                "s.send(bytes.fromhex('000100002112a442')+b't'*12)\n"
                "print(len(s.recv(2048)) >= 32)\n")
        done = programs.run(g.topo.client.ns, "probe", PEER[0], "-c", code)
        assert done.stdout == "True\n", done.stderr


def name_is(ns, name, address):
    """A line of /etc/hosts that holds in that namespace; removed with it."""
    os.makedirs(f"/etc/netns/{ns.netns}", exist_ok=True)
    with open(f"/etc/netns/{ns.netns}/hosts", "w", encoding="ascii") as f:
        f.write(f"127.0.0.1 localhost\n{address} {name}\n")


@pytest.mark.parametrize("wrong", ["127.0.1.1", "10.0.0.5"])
def test_a_broker_that_is_wrong_about_its_own_address(gate, wrong):
    """Its own name is 127.0.1.1 in its own /etc/hosts, as Debian has it, or a private one by the
    DNS of its network: the address at which it was reached is asked by STUN; it warns."""
    g = gate(host="masq", client="masq")
    name_is(g.topo.broker, "meet.test", wrong)
    for ns in (g.topo.host.ns, g.topo.client.ns):
        name_is(ns, "meet.test", BROKER)
    g.broker_proc = g.broker.start("broker", "--listen", "0.0.0.0:443",
                                   "--public", "meet.test")
    g.link = g.broker_proc.wait_event("ready", 15)["link"]
    g.broker_proc.wait_line(f"on this machine meet.test is {wrong}", 10, "err")
    g.start_host("peer=7000")
    g.host.start_peer("tcp-server", 7000)
    g.join()
    wait_direct(g.connect("peer", None, "--paths", "udp-punch,relay"))


FORGER = """import os, socket, struct, sys, time
sources, rate, s = sys.argv[2:], int(sys.argv[1]), \
    socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
began, n = time.monotonic(), 0
while True:
    while n < (time.monotonic() - began) * rate:
        stun = struct.pack(">HHI", 1, 0, 0x2112a442) + os.urandom(12)
        udp = struct.pack(">HHHH", 1024 + n % 60000, 443 + n % 2, 28, 0) + stun
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 48, n % 65536, 0, 64, 17, 0,
                         socket.inet_aton(sources[n // 2 % len(sources)]),
                         socket.inet_aton("BROKER"))
        s.sendto(ip + udp, ("BROKER", 0))
        n += 1
    if n >= rate:
        print("forging", flush=True)
    time.sleep(0.01)
""".replace("BROKER", BROKER)


@pytest.mark.parametrize("form", ["address", "block"])
def test_forged_requests_take_no_answers_from_their_owner(gate, programs, form):
    """A stranger asks in the client's name, or in that of its /24: 300 and 3,000 a second."""
    g = gate(host="sym", client="masq")
    g.up_and_joined("7000")
    public = g.topo.client.site.public
    block = public.rsplit(".", 1)[0]
    forged = {"address": ["300", public],
              "block": ["3000", *(f"{block}.{n}" for n in range(100, 250))]}[form]
    forger = programs.start(g.topo.stranger, "forger", PEER[0], "-c", FORGER, *forged)
    forger.wait_line("forging")
    for i in range(3):
        proc = g.connect("7000", None, "--paths", "udp-punch,relay")
        wait_direct(proc, 15)
        proc.terminate()
    said = g.client.run("netcheck").stdout
    assert "could not be told" not in said and "no UDP comes back" not in said, said
    assert forger.running
