"""The kinds that end in a TCP connection, each alone, and what the wire shows of them."""

import re

import pytest

from .net import wait_until
from .topology import Wire

pytestmark = pytest.mark.postern


# What an ordinary user has: the helper starts, and finds that it may do nothing.
ORDINARY = ["setpriv", "--bounding-set=-net_admin,-net_raw,-net_bind_service"]


def start(gate, kinds, service="7000", ordinary=False, **topology):
    """A client that may use these kinds and the relay, connected."""
    g = gate(**topology)
    if ordinary:
        g.host.wrapper = g.client.wrapper = ORDINARY
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined(service)
    proc = g.connect("7000", None, "--paths", f"{kinds},relay")
    return g, proc


def temporary_ports(ns):
    """What listens there beside the service itself."""
    return [line for line in ns.tcp_listeners() if ":7000 " not in line]


def move_bytes(g, proc, count=300_000):
    got = g.client.peer("get", "127.0.0.1", proc.port, count, 5)
    assert got.status == 0, got.stdout + got.stderr


@pytest.mark.parametrize("host,client", [
    ("fw", "fw"), ("masq", "masq"), ("fw", "masq"), ("ar", "masq"), ("cgn", "masq"),
    ("masq", "cgn"), ("masq+invalid_drop", "masq+invalid_drop"),
    ("masq+reject", "masq+reject")])
@pytest.mark.parametrize("ordinary", [True, False], ids=["ordinary", "privileged"])
def test_tcp_punch_goes_through(gate, host, client, ordinary):
    g, proc = start(gate, "tcp-punch", ordinary=ordinary, host=host, client=client)
    proc.wait_event("path", 15, kind="tcp-punch")
    move_bytes(g, proc)


@pytest.mark.parametrize("host,client", [("none", "masq"), ("fw", "fw"), ("fw", "masq"),
                                         ("eif", "sym"), ("none", "cgn")])
def test_jit_listen_goes_through(gate, host, client):
    g, proc = start(gate, "jit-listen", host=host, client=client)
    proc.wait_event("path", 15, kind="jit-listen")
    move_bytes(g, proc)


@pytest.mark.parametrize("host,client", [("masq", "none"), ("fw", "fw"), ("sym", "eif")])
def test_jit_listen_client_goes_through(gate, host, client):
    g, proc = start(gate, "jit-listen-client", host=host, client=client)
    proc.wait_event("path", 15, kind="jit-listen-client")
    assert temporary_ports(g.topo.host.ns) == []
    move_bytes(g, proc)


def test_jit_port_is_closed_again(gate):
    g, proc = start(gate, "jit-listen", host="none", client="masq")
    path = proc.wait_event("path", 15, kind="jit-listen")
    wait_until(lambda: temporary_ports(g.topo.host.ns) == [], 2, "the port is closed")
    port = int(path["remote"].rsplit(":", 1)[1])
    done = g.programs.run(g.topo.stranger, "stranger", "/usr/bin/python3", "-c",
                          "import socket\n"
                          f"s=socket.create_connection(('{g.topo.host.address}',{port}),3)")
    assert "refused" in done.stderr, done.stderr


def test_udp_blocked_on_both_sides_still_goes_direct(gate):
    g = gate(host="masq+udp_blocked", client="masq+udp_blocked")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000")
    wait_until(lambda: any(proc.find("path", kind=k) for k in
                           ("tcp-punch", "jit-listen", "jit-listen-client")), 15,
               "a direct path over TCP")
    move_bytes(g, proc)


@pytest.mark.parametrize("host,client", [("fw", "fw"), ("none", "fw")])
def test_tcp_punch_by_ipv6(gate, host, client):
    g = gate(host=host, client=client, ipv6=True, ipv4=False)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "tcp-punch,jit-listen,relay")
    wait_until(lambda: proc.find("path", kind="tcp-punch") or
               proc.find("path", kind="jit-listen"), 15, "a direct path over TCP")
    move_bytes(g, proc)


# ------------------------------------------------------------------------- on the wire

def capture(g, dev):
    """tcpdump on inet's side of a site's cable, TCP between the two sites only."""
    proc = g.programs.start(g.topo.inet, f"tcpdump-{dev}", "tcpdump", "-n", "-l", "-S",
                            "--immediate-mode", "-i", dev, "tcp and host 198.51.100.2 and "
                            "host 203.0.113.2")
    proc.wait_line("listening on", 10, "err")
    return proc


def segments(proc):
    """(source is the host, flags, sequence number) of each segment seen."""
    seen = []
    for line in proc.stdout.splitlines():
        found = re.search(r"IP (\S+) > \S+ Flags \[([^\]]+)\], seq (\d+)", line)
        if found:
            seen.append((found.group(1).startswith("198.51.100.2."), found.group(2),
                         int(found.group(3))))
    return seen


@pytest.mark.needs("tcpdump")
def test_wire_shows_the_one_way_opener(gate):
    """The host's SYN ends on the way; its SYN-ACK carries that SYN's number, and comes
    after the client's SYN."""
    g = gate(host="masq", client="masq")
    g.host.wrapper = g.client.wrapper = ORDINARY
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    at_host, at_client = capture(g, "a"), capture(g, "b")
    proc = g.connect("7000", None, "--paths", "tcp-punch,relay")
    proc.wait_event("path", 15, kind="tcp-punch")
    wait_until(lambda: any(not host and "." in flags for host, flags, _ in
                           segments(at_client)), 5, "the handshake's end")
    near, far = segments(at_host), segments(at_client)
    opener = next(seq for host, flags, seq in near if host and flags == "S")
    answer = next(i for i, (host, flags, _) in enumerate(far) if host and flags == "S.")
    assert far[answer][2] == opener
    assert not any(host and flags == "S" for host, flags, _ in far), far
    assert any(not host and flags == "S" for host, flags, _ in far[:answer]), far
    assert not any("R" in flags for _, flags, _ in near + far), near + far


def test_stranger_ends_just_in_time_listening(gate, programs):
    """A stranger that touches the port is reset, and nobody else gets in after it."""
    g = gate(host="none", client="masq", wire_client=Wire(120))
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "jit-listen,relay")
    wait_until(lambda: temporary_ports(g.topo.host.ns), 10, "the port is open")
    port = int(temporary_ports(g.topo.host.ns)[0].split()[3].rsplit(":", 1)[1])
    code = ("import socket\n"
            "try:\n"
            f" s=socket.create_connection(('{g.topo.host.address}',{port}),3)\n"
            " print('got', s.recv(100))\n"
            "except ConnectionResetError: print('reset')\n")
    done = programs.run(g.topo.stranger, "stranger", "/usr/bin/python3", "-c", code)
    assert done.stdout == "reset\n", done.stdout + done.stderr
    wait_until(lambda: temporary_ports(g.topo.host.ns) == [], 1, "the port is closed")
    move_bytes(g, proc)   # by the relay meanwhile


def test_what_worked_is_remembered_for_the_network(gate):
    """The second time the kind that worked does not wait for a cheaper one."""
    g = gate(host="masq+udp_blocked", client="masq+udp_blocked")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    times = []
    for _ in range(2):
        proc = g.connect("7000", None, "--paths", "udp-punch,tcp-punch,relay")
        times.append(proc.wait_event("path", 15, kind="tcp-punch")["elapsed_ms"])
        proc.terminate()
    assert times[1] < times[0] - 80, times
