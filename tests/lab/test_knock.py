"""The kinds that ask the host's packet filter, and what strangers see of it."""

import re
import time

import pytest

from .net import wait_until
from .test_away import NAME, NO_BROKER, etc  # noqa: F401
from .test_tcp_kinds import move_bytes, start
from .topology import BROKER, BROKER6, Wire

pytestmark = [pytest.mark.postern, pytest.mark.needs("nft")]


@pytest.mark.parametrize("host,client", [
    ("none", "masq"), ("none", "sym"), ("none", "cgn"), ("none", "cgnsym"),
    ("none", "fw"), ("none", "masq+nosyn"), ("none", "none"), ("none", "masq+invalid_drop")])
def test_tcp_knock_goes_through(gate, host, client):
    g, proc = start(gate, "tcp-knock", host=host, client=client)
    proc.wait_event("path", 15, kind="tcp-knock")
    move_bytes(g, proc)


def assert_options_agree(g, path):
    """Both kernels scale windows, each by the other's number, and have timestamps and
    SACK: without them a distance of 50 ms leaves 10 Mbit/s."""
    seen = []
    for ns, what in ((g.topo.client.ns, f"sport = :{port_of(path['local'])}"),
                     (g.topo.host.ns, f"dport = :{port_of(path['local'])}")):
        found = [re.search(r"\bts sack .*wscale:(\d+),(\d+)", line)
                 for line in ns.sockets("-tieO", "state", "established", what)]
        found = [f.groups() for f in found if f]
        assert found, ns.sockets("-tieO")
        seen.append(found)
    assert any(c == h[::-1] and c != ("0", "0") for c in seen[0] for h in seen[1]), seen


def port_of(address):
    return address.rsplit(":", 1)[1]


@pytest.mark.parametrize("host,client", [
    ("masq+nosyn", "masq+nosyn"), ("fw+nosyn", "masq+nosyn"), ("masq+nosyn", "cgn"), ("cgn+nosyn", "masq+nosyn"),
    ("masq+nosyn+invalid_drop", "masq+nosyn+invalid_drop"),
    ("masq+nosyn+reject", "masq+nosyn+reject")])
def test_prearranged_punch_passes_what_swallows_syns(gate, host, client):
    g, proc = start(gate, "tcp-punch", host=host, client=client)
    path = proc.wait_event("path", 15, kind="tcp-punch")
    move_bytes(g, proc)
    assert_options_agree(g, path)


# A middlebox that knows no window scaling takes the option out of SYNs between the sites.
STRIP = """
table inet strip {
  chain forward { type filter hook forward priority 0;
    iifname { "a", "b" } oifname { "a", "b" } tcp flags & syn == syn reset tcp option window
  }
}
"""


def test_a_path_without_window_scaling_is_left_to_the_relay(gate):
    """Found, said, and not used: 64 KiB in 20 ms are 26 Mbit/s."""
    wire = Wire(delay_ms=5)
    g = gate(host="masq", client="masq", wire_host=wire, wire_client=wire)
    g.topo.inet.nft(STRIP)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    up = g.client.start("up", "--paths", "tcp-punch,relay")
    up.wait_event("ready", 15)

    def said():
        done = g.client.run("status", timeout=5)
        return [e for e in done.events if e.get("kind") == "tcp-punch" and
                "does not scale" in e.get("reason", "")]
    wait_until(said, 15, "status says why")
    assert "relay is in use" in said()[0]["reason"], said()


def test_prearranged_punch_by_ipv6(gate):
    g = gate(host="fw+nosyn", client="fw+nosyn", ipv6=True, ipv4=False)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "tcp-punch,relay")
    path = proc.wait_event("path", 15, kind="tcp-punch")
    move_bytes(g, proc)
    assert_options_agree(g, path)


@pytest.mark.parametrize("host,client", [
    ("none", "masq"), ("none", "sym"), ("none", "cgn"), ("none", "cgnsym"),
    ("none", "fw"), ("none", "ar"), ("none", "none"), ("none", "masq+invalid_drop")])
def test_udp_knock_goes_through(gate, host, client):
    g, proc = start(gate, "udp-knock", host=host, client=client)
    proc.wait_event("path", 15, kind="udp-knock")
    move_bytes(g, proc)


@pytest.mark.parametrize("kind", ["udp-knock", "tcp-knock"])
def test_knock_by_ipv6(gate, kind):
    g = gate(host="none", client="fw", ipv6=True, ipv4=False)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", f"{kind},relay")
    proc.wait_event("path", 15, kind=kind)
    move_bytes(g, proc)


@pytest.mark.parametrize("kind,lack", [("udp-knock", "route"), ("udp-knock", "answer"),
                                       ("spoof", "route"), ("tcp-knock", "answer")])
def test_a_family_that_cannot_answer_is_not_waited_for(gate, etc, kind, lack):
    """The broker has IPv6, its peers no way there, or one on which all is lost."""
    g = gate(host="none", client="fw", ipv6=True)
    for letter, machine in (("a", g.topo.host), ("b", g.topo.client)):
        if lack == "route":
            machine.ns.ip("-6", "addr", "flush", "dev", "eth0", "scope", "global")
        else:
            g.topo.sites[letter].box.nft("insert rule inet box forward meta nfproto ipv6 drop")
    for ns in (g.topo.broker, g.topo.host.ns, g.topo.client.ns):
        etc(ns, hosts=f"{NO_BROKER}{BROKER} {NAME}\n{BROKER6} {NAME}\n")
    g.broker_proc = g.broker.start("broker", "--listen", "[::]:443", "--public", NAME)
    g.link = g.broker_proc.wait_event("ready", 15)["link"]
    g.host.start_peer("tcp-server", 7000)
    g.start_host("--spoof", "7000")
    g.join()
    proc = g.connect("7000", None, "--paths", f"{kind},relay")
    begin = time.monotonic()
    proc.wait_event("path", 15, kind=kind)
    took = time.monotonic() - begin
    # Each side would wait 4 s by UDP, 3 s by TCP, for what cannot come.
    assert took < (3 if kind != "tcp-knock" else 4.5), took
    move_bytes(g, proc)


@pytest.mark.parametrize("kind", ["udp-knock", "tcp-knock"])
def test_knock_behind_a_nat_says_so(gate, kind):
    g, proc = start(gate, kind, host="masq", client="masq")
    no = proc.wait_event("rejected", 15, kind=kind)
    assert "behind a NAT" in no["reason"], no


@pytest.mark.parametrize("kind", ["udp-knock", "tcp-knock"])
def test_knock_without_privileges_says_how_to_get_them(gate, kind):
    g, proc = start(gate, kind, ordinary=True, host="none", client="masq")
    no = proc.wait_event("rejected", 15, kind=kind)
    assert "CAP_NET_ADMIN" in no["reason"], no   # root's, without it


# The rulesets that people have: nothing may pass that they did not let in.
DEFAULT_DROP = """
table inet firewall {
  chain input { type filter hook input priority 0; policy drop;
    iif "lo" accept
    ct state established,related accept
    ip protocol icmp accept
  }
}
"""


@pytest.mark.parametrize("kind", ["udp-knock", "tcp-knock"])
def test_knock_works_beside_a_default_drop_firewall(gate, kind):
    g = gate(host="none", client="sym")
    g.topo.host.ns.nft(DEFAULT_DROP)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", f"{kind},relay")
    proc.wait_event("path", 15, kind=kind)
    move_bytes(g, proc)


def ruleset(g):
    return g.topo.host.ns.run("nft", "list", "ruleset")


@pytest.mark.parametrize("kind", ["udp-knock", "tcp-knock"])
def test_knock_survives_a_flush_and_goes_with_the_host(gate, kind):
    g, proc = start(gate, kind, host="none", client="masq")
    proc.wait_event("path", 15, kind=kind)
    g.topo.host.ns.run("nft", "flush", "ruleset")
    assert "postern" in ruleset(g)
    move_bytes(g, proc)
    g.host_proc.kill()
    wait_until(lambda: "postern" not in ruleset(g), 5, "the table is gone")


@pytest.mark.needs("nmap")
@pytest.mark.parametrize("kind,scan", [("udp-knock", "-sU"), ("tcp-knock", "-sS")])
def test_scan_sees_nothing_open(gate, kind, scan):
    """During the knock's wait and after it, a stranger finds no open port; nothing
    listens; what it sends is counted."""
    g, proc = start(gate, kind, host="none", client="masq")
    path = proc.wait_event("path", 15, kind=kind)
    port = int(path["remote"].rsplit(":", 1)[1])
    done = g.programs.run(g.topo.stranger, "nmap", "nmap", "-n", "-Pn", scan, "-p",
                          f"{port - 2}-{port + 2}", g.topo.host.address, timeout=60)
    states = dict(re.findall(r"^(\d+)/(?:tcp|udp) (\S+)", done.stdout, re.M))
    assert len(states) >= 1 and done.status == 0, done.stdout
    assert "open" not in states.values(), done.stdout
    listening = [line for line in g.topo.host.ns.sockets("-lntuH")
                 if ":7000 " not in line and f":{port} " in line]
    assert listening == [], listening
    dropped = [int(n) for n in re.findall(r"counter k\d+ \{\s+packets (\d+)", ruleset(g))]
    assert sum(dropped) > 0, ruleset(g)
    move_bytes(g, proc)


def capture(g, dev, what):
    proc = g.programs.start(g.topo.inet, f"tcpdump-{dev}", "tcpdump", "-n", "-l", "-S",
                            "--immediate-mode", "-i", dev, what)
    proc.wait_line("listening on", 10, "err")
    return proc


def no_icmp(seen, port):
    """The host says nothing of that port (unreachable quotes the port it is about)."""
    said = [line for line in seen.stdout.splitlines()
            if "ICMP" in line and f"port {port} " in line]
    assert said == [], said


@pytest.mark.needs("tcpdump")
def test_wire_shows_the_tcp_knock(gate):
    """The client's SYN is answered by a SYN from the host, never by RST or SYN-ACK
    before it; the host's comes from the port that was knocked at."""
    g = gate(host="none", client="sym")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    seen = capture(g, "a", f"(tcp and host {g.topo.host.address} and net 203.0.113.0/24) "
                           f"or (icmp and host {g.topo.host.address})")
    proc = g.connect("7000", None, "--paths", "tcp-knock,relay")
    path = proc.wait_event("path", 15, kind="tcp-knock")
    move_bytes(g, proc)
    port = path["remote"].rsplit(":", 1)[1]
    found = re.findall(r"IP (\S+) > (\S+): Flags \[([^\]]+)\], seq (\d+)", seen.stdout)
    host = f"{g.topo.host.address}.{port}"
    found = [f for f in found if host in f[:2]]
    no_icmp(seen, port)
    assert (found[0][1], found[0][2]) == (host, "S"), found[:3]     # the knock
    assert (found[1][0], found[1][2]) == (host, "S"), found[:3]     # the host dials out
    assert not any("R" in flags for _, _, flags, _ in found), found
    first = [f for f in found if f[0] == host][0]
    assert first[2] == "S" and first[1] == found[0][0]


@pytest.mark.needs("tcpdump")
def test_wire_shows_the_udp_knock(gate):
    """One packet of 16 bytes in; the host's first packet goes to where it came from."""
    g = gate(host="none", client="sym")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    seen = capture(g, "a", f"(udp and host {g.topo.host.address} and net 203.0.113.0/24) "
                           f"or (icmp and host {g.topo.host.address})")
    proc = g.connect("7000", None, "--paths", "udp-knock,relay")
    path = proc.wait_event("path", 15, kind="udp-knock")
    wait_until(lambda: seen.stdout.count(" > ") > 2, 5, "packets")
    port = path["remote"].rsplit(":", 1)[1]
    host = f"{g.topo.host.address}.{port}"
    found = [f for f in re.findall(r"IP (\S+) > (\S+): UDP, length (\d+)", seen.stdout)
             if host in f[:2]]
    assert (found[0][1], found[0][2]) == (host, "16"), found[:3]
    assert (found[1][0], found[1][1]) == (host, found[0][0]), found[:3]
    no_icmp(seen, port)


STRANGE = """
import socket, sys
kind, host, port, n = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
for i in range(n):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.sendto(bytes(16), (host, port))
    s.close()
"""


def test_wrong_knocks_are_dropped_and_counted(gate):
    """Knocks of the wrong source and number, before and after the right one."""
    g, proc = start(gate, "udp-knock", host="none", client="masq")
    path = proc.wait_event("path", 15, kind="udp-knock")
    port = path["remote"].rsplit(":", 1)[1]
    for ns in (g.topo.stranger, g.topo.client.ns):
        g.programs.run(ns, "strange", "/usr/bin/python3", "-c", STRANGE, "udp",
                       g.topo.host.address, port, 50)
    count = lambda: sum(int(n) for n in re.findall(
        r"counter k\d+ \{\s+packets (\d+)", ruleset(g)))
    wait_until(lambda: count() >= 100, 5, "a hundred packets were dropped")
    move_bytes(g, proc)


REPLAY = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(30):
    s.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[1], int(sys.argv[2])))
"""


@pytest.mark.needs("tcpdump")
def test_a_replayed_knock_is_dropped(gate):
    """What was on the wire opens nothing again, from the same client or a stranger."""
    g = gate(host="none", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    seen = g.programs.start(g.topo.inet, "tcpdump", "tcpdump", "-n", "-l", "-x",
                            "--immediate-mode", "-i", "a", "udp and len = 58")
    seen.wait_line("listening on", 10, "err")
    proc = g.connect("7000", None, "--paths", "udp-knock,relay")
    path = proc.wait_event("path", 15, kind="udp-knock")
    port = path["remote"].rsplit(":", 1)[1]
    words = re.findall(r"0x00[0-9a-f]0:  ([0-9a-f ]+)",
                       seen.stdout.split(f"{g.topo.host.address}.{port}: UDP, length 16")[1])
    knock = "".join(words).replace(" ", "")[56:88]
    count = lambda: sum(int(n) for n in re.findall(
        r"counter k\d+ \{\s+packets (\d+)", ruleset(g)))
    before = count()
    for ns in (g.topo.client.ns, g.topo.stranger):
        g.programs.run(ns, "replay", "/usr/bin/python3", "-c", REPLAY,
                       g.topo.host.address, port, knock)
    wait_until(lambda: count() >= before + 60, 5, "the replays were dropped and counted")
    assert len(proc.events) == len([e for e in proc.events if e["event"] != "fault"])
    move_bytes(g, proc)


def test_ping_all_tries_the_knocks_too(gate):
    """One after the other in one process: each has the helper."""
    g = gate(host="none", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    done = g.client.run("ping", "--all", "home", timeout=150)
    tried = {e["kind"]: e for e in done.events if e["event"] == "tried"}
    for kind in ("udp-punch", "tcp-punch", "udp-knock", "tcp-knock"):
        assert tried[kind]["result"] == "works", tried[kind]
