"""Networks that carry nothing, or lead elsewhere: nobody hangs, and all say why."""

import os
import signal
import sys
import time

import pytest

from .actors import HOST, wait_direct
from .net import patience, wait_until
from .test_away import NAME, NO_BROKER, etc, named, refused_after
from .test_faults import hide_broker, show_broker
from .topology import BROKER

_ = etc     # a fixture
pytestmark = pytest.mark.postern
LIMIT_S = 20    # for the host's answer to a connection (docs/CLI.md)


def darken(g, letter="b"):
    """The client's router passes nothing any more; nobody is told."""
    g.topo.sites[letter].box.nft(
        "table inet dark {\n  chain forward { type filter hook forward priority -10;\n"
        "    drop\n  }\n}")


def brighten(g, letter="b"):
    g.topo.sites[letter].box.nft("delete table inet dark")


def warm_up(g):
    """`up` with a direct session, and where it listens for the service."""
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    up = g.client.start("up")
    local = up.wait_event("service", 20)["local"]
    wait_direct(up)
    address, port = local.rsplit(":", 1)
    return up, address, int(port)


def seconds_until(condition, timeout, what, since):
    wait_until(condition, timeout, what)
    return time.monotonic() - since


def test_what_is_opened_in_the_dark_ends_and_says_why(gate):
    """Opened before `up` has noticed: the stream stands on a session that is dead."""
    g = gate()
    up, address, port = warm_up(g)
    mark = up.mark()
    darken(g)
    begin = time.monotonic()
    nc = g.client.start("nc", HOST, "7000")
    refused_after(g, address, port, LIMIT_S + 4)
    told = seconds_until(lambda: not nc.running, 5, "nc ends", begin)
    assert LIMIT_S - 2 < told < LIMIT_S + 4 * patience(), told
    assert nc.status != 0 and "waiting: " in nc.stderr, nc.stderr
    up.mark()
    left = [e for e in up.events[mark:] if e.get("event") == "left"]
    assert [e for e in left if e["peer"] == "the broker"], up.events[mark:]
    assert len([e for e in left if e["peer"] == "the broker"]) == 1, left
    reasons = {e["reason"] for e in g.client.run("status").events
               if e["event"] == "rejected"}
    reasons |= {e["reason"] for e in up.events[mark:] if e.get("event") == "rejected"}
    assert not [r for r in reasons if "STUN" in r or "told no TCP" in r], reasons
    brighten(g)
    up.wait_event("broker", 20, mark, state="back")


def test_nc_tells_in_the_dark_why_it_waits(gate):
    g = gate()
    up, _, _ = warm_up(g)
    darken(g)
    begin = time.monotonic()
    nc = g.client.start("nc", HOST, "7000")
    nc.wait_line("waiting: ", 7, "err")
    assert time.monotonic() - begin < 6.5 * patience()
    assert up.running


def test_commands_alone_in_the_dark_say_so_within_five_seconds(gate):
    g = gate().up_and_joined("7000")
    darken(g)
    for command in (["ping", HOST], ["nc", HOST, "7000"], ["connect", f"{HOST}:7000"]):
        begin = time.monotonic()
        proc = g.client.start(*command)
        proc.wait_line("broker", 6, "err" if command[0] != "connect" else "out")
        assert time.monotonic() - begin < 6 * patience(), (command, proc.stderr, proc.stdout)
        proc.kill()


@pytest.mark.parametrize("side", ["a", "b"])
def test_who_is_removed_in_the_dark_is_told_when_it_is_light(gate, side):
    """The word that ended its session was lost; the host knows it no more."""
    g = gate()
    up, address, port = warm_up(g)
    flow = g.client.start_peer("flow", address, port, 5)
    flow.wait_line("at ")
    darken(g, side)
    up.wait_event("left", 25, peer=HOST)
    device = g.client.run("keys").events[0]["key"]
    assert g.host.run("revoke", device).event("revoked")["sessions"] == 1
    mark = up.mark()
    brighten(g, side)
    wait_until(lambda: [e for e in up.events[up.mark() and mark:]
                        if "was removed by the host" in e.get("reason", "")], 20,
               "it is told")
    done = g.client.run("nc", HOST, "7000", json=False, stdin=b"", timeout=15)
    assert done.status == 1 and "was removed" in done.stderr.splitlines()[-1], done.stderr
    assert flow.wait(10) != 0


def test_a_stopped_up_holds_no_nc(gate):
    g = gate()
    up, _, _ = warm_up(g)
    darken(g)   # so that the host's answer does not come before `up` is stopped
    fds = f"/proc/{up.pid}/fd"
    before = len(os.listdir(fds))
    nc = g.client.start("nc", HOST, "7000")
    wait_until(lambda: len(os.listdir(fds)) >= before + 2, 5, "up has the connection")
    up.signal(signal.SIGSTOP)
    begin = time.monotonic()
    try:
        status = nc.wait(15)
        took = time.monotonic() - begin
        assert status != 0 and "'postern up' does not answer" in nc.stderr, nc.stderr
        assert took < 12 * patience(), took
    finally:
        up.signal(signal.SIGCONT)


PORTAL = BROKER + "9"
PAGE = """
import socket, ssl, sys
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(sys.argv[2], sys.argv[3])
server = socket.create_server((sys.argv[1], 443))
print("ready")
while True:
    conn = server.accept()[0]
    try:
        tls.wrap_socket(conn, server_side=True).close()
    except OSError:
        conn.close()
"""


def login_page(g, etc, work):
    """DNS leads the client to another TLS server, and the broker is out of its reach."""
    g.topo.broker.ip("addr", "add", f"{PORTAL}/24", "dev", "eth0")
    key, cert = os.path.join(work, "page.key"), os.path.join(work, "page.crt")
    made = g.programs.run(g.topo.broker, "req", "openssl", "req", "-x509", "-newkey",
                          "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                          "-keyout", key, "-out", cert, "-days", "2",
                          "-subj", "/CN=login.lab")
    assert made.status == 0, made.stderr
    page = g.programs.start(g.topo.broker, "page", sys.executable, "-uc", PAGE, PORTAL,
                            cert, key)
    page.wait_line("ready")
    etc(g.topo.client.ns, hosts=f"{NO_BROKER}{PORTAL} {NAME}\n")
    hide_broker(g, "b")


def test_a_login_page_in_the_brokers_place_is_named_and_left_at_once(gate, etc, work):
    g = named(gate(), etc, listen=f"{BROKER}:443")
    login_page(g, etc, work)
    done = g.client.run("ping", HOST, timeout=30)
    assert done.status != 0 and f"no Postern broker answered at {PORTAL}:443" \
        in done.stderr, done.stderr
    assert "login page" in done.stderr, done.stderr
    waits = g.programs.start(g.client.ns, "nc", g.client.program, "nc", "--wait", HOST, "7000", env=g.client.env)
    waits.wait_line("no Postern broker answered", 15, "err")
    up = g.client.start("up")
    left = up.wait_event("left", 20, peer="the broker")
    assert "no Postern broker" in left["reason"], left
    begin = time.monotonic()
    done = g.client.run("nc", HOST, "7000", json=False, stdin=b"", timeout=40)
    assert done.status == 1 and "log in" in done.stderr, done.stderr   # through `up`
    wait_until(lambda: time.monotonic() > begin + 15, 20, "pauses could have grown")
    etc(g.topo.client.ns, hosts=f"{NO_BROKER}{BROKER} {NAME}\n")
    show_broker(g, "b")
    begin = time.monotonic()
    up.wait_event("path", 15)
    took = time.monotonic() - begin
    assert took < 5 * patience(), took
    assert waits.wait(30) == 0, waits.stderr


def test_a_host_without_descriptors_is_named_by_every_command(gate):
    """A first approach that is refused for now: tried again, and the reason told."""
    g = gate().up_and_joined("7000")
    link = g.invite()
    pid = g.host_proc.pid
    used = len(os.listdir(f"/proc/{pid}/fd"))
    done = g.programs.run(g.topo.host.ns, "limit", "prlimit", "--pid", pid,
                          f"--nofile={used}:{used}")
    assert done.status == 0, done.stderr
    other = g.other_client("other")
    for who, command in ((g.client, ["ping", HOST]), (g.client, ["nc", HOST, "7000"]),
                         (g.client, ["connect", f"{HOST}:7000"]), (other, ["join", link]),
                         (g.client, ["up"])):
        begin = time.monotonic()
        proc = who.start(*command)
        wait_until(lambda p=proc: "descriptors" in p.stdout + p.stderr, 8,
                   f"{command[0]} says why")
        assert time.monotonic() - begin < 5.5 * patience(), (command, proc.stdout, proc.stderr)
        proc.kill()


def test_a_lack_of_a_common_address_family_is_no_nat(gate, etc):
    g = gate(host="none", client="masq", ipv6=True)
    for ns in (g.topo.broker, g.topo.host.ns, g.topo.client.ns):
        etc(ns, hosts=f"{NO_BROKER}{BROKER} {NAME}\n2001:db8::10 {NAME}\n")
    g.topo.host.ns.ip("-4", "addr", "flush", "dev", "eth0")
    g.topo.client.ns.ip("-6", "addr", "flush", "dev", "eth0", "scope", "global")
    g.broker_proc = g.broker.start("broker", "--listen", "[::]:443", "--public", NAME)
    g.link = g.broker_proc.wait_event("ready", 15)["link"]
    g.start_host("7000")
    g.join()
    proc = g.connect("7000", None, "--paths", "tcp-knock,udp-knock,relay")
    for kind in ("tcp-knock", "udp-knock"):
        said = proc.wait_event("rejected", 15, kind=kind)
        assert "no address family in common" in said["reason"], said
