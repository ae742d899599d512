"""The broker cannot be found: its name is not resolved, or another stands in its place."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from .actors import HOST, wait_direct, wait_relay
from .net import patience, run, wait_until
from .servers import Dns
from .test_faults import progress, whole, why_lost
from .topology import BROKER

pytestmark = pytest.mark.postern
NAME = "broker.lab"


@pytest.fixture
def etc():
    """Gives a namespace its own files in /etc: `etc(ns, hosts="...")`; removed with it."""
    def write(ns, **files):
        directory = f"/etc/netns/{ns.netns}"
        os.makedirs(directory, exist_ok=True)
        for name, text in files.items():
            with open(f"{directory}/{name.replace('_', '.')}", "w", encoding="ascii") as f:
                f.write(text)
    return write


DEAD_DNS = "nameserver 192.0.2.99\noptions timeout:30 attempts:1\n"   # nobody is there
NO_BROKER = "127.0.0.1 localhost\n"


def named(g, etc, listen="0.0.0.0:443"):
    """Broker, host and client, who know the broker by a name from /etc/hosts."""
    for ns in (g.topo.broker, g.topo.host.ns, g.topo.client.ns):
        etc(ns, hosts=f"{NO_BROKER}{BROKER} {NAME}\n", resolv_conf=DEAD_DNS)
    g.broker_proc = g.broker.start("broker", "--listen", listen, "--public", NAME)
    g.link = g.broker_proc.wait_event("ready", 15)["link"]
    assert NAME in g.link
    g.host.start_peer("tcp-server", 7000)
    g.start_host("7000")
    g.join()
    return g


def test_a_dead_resolver_keeps_nobody_from_a_broker_that_was_found_before(gate, etc):
    g = named(gate(), etc)
    for ns in (g.topo.host.ns, g.topo.client.ns):
        etc(ns, hosts=NO_BROKER)
    g.host_proc.kill()
    begin = time.monotonic()
    g.start_host("7000")            # a new process: the address comes from the disk
    proc = g.connect("7000")
    took = time.monotonic() - begin
    assert g.client.peer("get", "127.0.0.1", proc.port, 10_000, 1).status == 0
    assert took < 8 * patience(), took   # the resolver alone takes 30 s
    wait_direct(proc)
    checked = g.client.run("netcheck", timeout=20)
    assert checked.status == 0 and checked.event("netcheck")["udp"] == "yes", checked.stderr
    mark = proc.mark()
    g.topo.move(g.topo.client, "c")  # and one that runs needs no name for its roaming
    wait_direct(proc, since=mark)


@pytest.mark.parametrize("files, words", [
    ({"hosts": NO_BROKER, "resolv_conf": ""}, "names no DNS server"),
    ({"hosts": f"127.0.1.1 {NAME}\n"}, "this machine itself here (127.0.1.1)"),
    ({"hosts": NO_BROKER, "resolv_conf": DEAD_DNS}, "the DNS server does not answer"),
])
def test_what_is_wrong_with_the_name_is_said(gate, etc, files, words):
    g = gate()
    etc(g.topo.client.ns, hosts=f"{NO_BROKER}{BROKER} {NAME}\n", resolv_conf="")
    etc(g.topo.broker, hosts=f"{NO_BROKER}{BROKER} {NAME}\n", resolv_conf="")
    g.broker_proc = g.broker.start("broker", "--listen", "0.0.0.0:443", "--public", NAME)
    g.link = g.broker_proc.wait_event("ready", 15)["link"]
    etc(g.topo.client.ns, **files)
    done = g.client.run("serve", "--broker", g.link, "7000", timeout=20)
    assert done.status == 1 and words in done.stderr, done.stderr


# Questions for AAAA: type 28, class 1, after a header of 12 bytes and NAME's 12.
SWALLOW_AAAA = """table inet dns {
    chain in {
        type filter hook input priority 0;
        udp dport 53 @th,256,32 0x001c0001 counter drop
    }
}"""


@pytest.mark.needs("dnsmasq")
def test_a_dns_server_that_swallows_questions_for_ipv6_keeps_nobody_away(gate, etc):
    g = gate()
    etc(g.topo.broker, hosts=f"{NO_BROKER}{BROKER} {NAME}\n", resolv_conf="")
    for ns in (g.topo.host.ns, g.topo.client.ns):
        etc(ns, hosts=NO_BROKER, resolv_conf=f"nameserver {BROKER}\n")
    Dns(g.topo.programs, g.topo.broker, address=BROKER)
    g.topo.broker.nft(SWALLOW_AAAA)
    g.broker_proc = g.broker.start("broker", "--listen", "0.0.0.0:443", "--public", NAME)
    g.link = g.broker_proc.wait_event("ready", 15)["link"]
    begin = time.monotonic()
    g.start_host("7000")    # neither has been at this broker before
    g.join()
    took = time.monotonic() - begin
    assert took < 5 * patience(), took
    assert "packets 0" not in g.topo.broker.run("nft", "list", "ruleset")


def test_a_name_that_is_not_resolved_is_named_where_the_last_address_refuses(gate, etc):
    g = named(gate(), etc)
    g.host_proc.kill()
    g.broker_proc.kill()
    etc(g.topo.client.ns, hosts=NO_BROKER)
    done = g.client.run("nc", "home", "7000", json=False, stdin=b"", timeout=30)
    said = done.stderr.splitlines()[-1]
    assert done.status == 1 and "the DNS server does not answer" in said, done.stderr
    assert f"{BROKER}:443, where it was last, refuses connections" in said, said
    assert 9 < done.seconds < 12 * patience(), done.seconds   # as where the name is known


NO_DNS = "nameserver 127.0.0.9\n"    # refuses at once


def broker_away(g):
    g.broker_proc.kill()
    return "where it was last, refuses connections", lambda: g.broker.start(
        "broker", "--listen", "0.0.0.0:443", "--public", NAME).wait_event("ready", 15)


def no_route(g):
    """What the middle of a DHCP is: there is an address, and no way out yet."""
    ns = g.topo.client.ns
    way = ns.ip("route", "show", "default").split("\n")[0].split()
    ns.ip("route", "del", "default")
    return (f"this machine has no route to the broker at {NAME}:443",
            lambda: ns.ip("route", "add", *way))


@pytest.mark.parametrize("resolv_conf", [NO_DNS, DEAD_DNS], ids=["refused", "silent"])
@pytest.mark.parametrize("away", [broker_away, no_route])
def test_a_try_that_fails_in_passing_ends_no_wait(gate, etc, away, resolv_conf):
    """Nothing answers for the name, and where the broker was last it is not for a moment."""
    g = named(gate(), etc)
    etc(g.topo.client.ns, hosts=NO_BROKER, resolv_conf=resolv_conf)
    words, back = away(g)
    c = g.client
    nc = c.programs.start(c.ns, "nc", *c.wrapper, c.program, "nc", "home", "7000", env=c.env,
                          stdin=subprocess.PIPE)
    nc.wait_line(words, 7, "err")
    assert nc.running, nc.stderr
    back()
    nc.popen.stdin.write(b"GET 100 1\n")
    nc.popen.stdin.close()
    assert nc.wait(20) == 0 and len(nc.stderr.splitlines()) <= 2, nc.stderr


def test_a_name_that_is_asked_for_in_vain_is_waited_for(gate, etc):
    """Who joins as the network comes up; the DNS server is a moment behind."""
    g = named(gate(), etc)
    link = g.invite()
    etc(g.topo.client.ns, hosts=NO_BROKER, resolv_conf=NO_DNS)
    c = g.other_client("fresh")
    join = c.programs.start(c.ns, "join", *c.wrapper, c.program, "join", link, env=c.env)
    join.wait_line("the DNS server does not answer", 5, "err")
    assert join.running, join.stderr
    etc(g.topo.client.ns, hosts=f"{NO_BROKER}{BROKER} {NAME}\n")
    assert join.wait(20) == 0, join.stderr


def test_a_machine_without_a_network_is_told_so(gate, etc):
    g = named(gate(), etc)
    etc(g.topo.client.ns, hosts=NO_BROKER)
    connect = g.client.start("connect", "home:7000", "127.0.0.1:0")
    connect.wait_event("ready", 15)
    g.topo.client.ns.ip("link", "set", "eth0", "down")
    done = g.client.run("nc", "home", "7000", json=False, stdin=b"", timeout=30)
    said = done.stderr.splitlines()[-1]
    assert done.status == 1 and "this machine has no network" in said, done.stderr
    assert connect.running


def test_a_broker_asks_what_its_own_name_is_beside_its_work(gate, etc):
    """Its DNS server may be silent as it starts; then it listens all the same, and ends when it is told to."""
    g = gate()

    def start():
        proc = g.broker.start("broker", "--listen", "0.0.0.0:443", "--public", NAME)
        proc.wait_event("ready", 4 * patience())
        return proc

    etc(g.topo.broker, hosts=NO_BROKER, resolv_conf=DEAD_DNS)
    proc = start()
    proc.signal(signal.SIGTERM)
    assert proc.wait(3 * patience()) == 0, proc.stderr
    etc(g.topo.broker, hosts=NO_BROKER, resolv_conf=NO_DNS)
    proc = start()
    proc.wait_line(f"cannot resolve the public name {NAME} (the DNS server does not answer); it is asked for again",
                   10, "err")
    etc(g.topo.broker, hosts=f"{NO_BROKER}127.0.1.1 {NAME}\n")
    proc.wait_line(f"on this machine {NAME} is 127.0.1.1", 20, "err")
    assert proc.stderr.count("cannot resolve") == 1, proc.stderr


def state_of(g):
    return g.client.run("status").event("broker") or {}


def another_broker(g):
    """One with a fresh state directory, and so another key, stands in its place."""
    g.broker_proc.terminate()
    shutil.move(g.broker.state, g.broker.state + ".kept")
    link = g.link
    g.start_broker()
    assert g.link != link


def first_broker_back(g):
    g.broker_proc.kill()
    shutil.rmtree(g.broker.state)
    shutil.move(g.broker.state + ".kept", g.broker.state)
    g.start_broker()


def test_another_broker_in_its_place_is_named_and_waited_out(gate):
    g = gate()
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("7000")
    g.join()
    up = g.client.start("up")
    port = int(up.wait_event("service", 20)["local"].rsplit(":", 1)[1])
    address = up.find("service")["local"].rsplit(":", 1)[0]
    wait_direct(up)
    flow = g.client.start_peer("flow", address, port, 8)
    flow.wait_line("at ")
    another_broker(g)
    wait_until(lambda: "another key" in state_of(g).get("reason", ""), 20, "status says so")
    assert up.wait_event("left", 20, reason=state_of(g)["reason"])
    wait_until(lambda: any("another key" in x for x in why_lost(g.host_proc)), 30,
               "the host, which saw its broker stop, says so too")
    at = flow.stdout.count("at ")
    wait_until(lambda: flow.stdout.count("at ") > at + 5, 10, "the direct session goes on")
    first_broker_back(g)
    wait_until(lambda: state_of(g).get("state") == "online", 11, "it is found again")
    assert flow.running


def test_another_broker_is_told_beside_an_up_that_has_just_begun_as_alone(gate):
    """`up` has no session and knows nothing yet: `connect` finds out by itself, and `nc` ends with the same cure."""
    g = gate()
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("7000")
    g.join()
    another_broker(g)
    alone = g.client.run("connect", f"{HOST}:7000", "127.0.0.1:0", json=False, timeout=20)
    assert alone.status == 1 and "do not go on if nobody renewed it there" in alone.stderr, alone.stderr
    up = g.client.start("up")
    up.wait_event("ready", 10)
    for argv in (("connect", f"{HOST}:7000", "127.0.0.1:0"), ("nc", HOST, "7000")):
        done = g.client.run(*argv, json=False, stdin=b"", timeout=20)
        assert done.status == 1 and done.stderr.splitlines()[-1] == alone.stderr.splitlines()[-1], done.stderr
        assert "ready" not in done.stdout and done.seconds < 5 * patience(), done.seconds
    up.wait_event("left", 10)
    done = g.client.run("nc", HOST, "7000", json=False, stdin=b"", timeout=20)
    assert done.stderr.splitlines()[-1] == alone.stderr.splitlines()[-1], done.stderr


def test_a_host_that_starts_under_another_broker_waits_for_its_own(gate):
    g = gate()
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("7000")
    link = g.link
    assert g.host_proc.terminate() == 0
    another_broker(g)
    again = g.host.start("serve")
    again.wait_line("another key", 10, stream="err")
    time.sleep(5)    # some tries more
    assert again.running and not again.find("ready")
    assert again.stderr.count("another key") == 1, again.stderr
    stranger = g.other_client("new", ns=g.topo.host.ns)
    done = stranger.run("serve", "--broker", link, "7000", json=False, timeout=20)
    assert done.status == 1 and "another key" in done.stderr, done.stderr
    first_broker_back(g)
    again.wait_event("ready", 20)


def refused_after(g, address, port, timeout):
    """Seconds until a connection to the service ends in an error, not in silence."""
    code = ("import socket, sys, time; t = time.time()\n"
            "s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)\n"
            "s.settimeout(float(sys.argv[3]))\n"
            "try: data = s.recv(1); print('end' if data == b'' else 'data')\n"
            "except ConnectionResetError: print('reset', time.time() - t)\n"
            "except TimeoutError: print('silence')\n")
    done = run("ip", "netns", "exec", g.topo.client.ns.netns, "/usr/bin/python3", "-c",
               code, address, str(port), str(timeout))
    assert done.startswith("reset"), done
    return done


def test_who_is_cut_off_behind_another_broker_gets_errors(gate):
    g = gate()
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("7000")
    g.join()
    connect = g.connect("7000")
    wait_direct(connect)
    flow = g.client.start_peer("flow", "127.0.0.1", connect.port, 8)
    flow.wait_line("at ")
    another_broker(g)
    connect.wait_event("error", 20)
    g.topo.cut_direct()
    wait_until(lambda: not flow.running, 40, "what stood gets an error")
    assert connect.running
    refused_after(g, "127.0.0.1", connect.port, 8)
    first_broker_back(g)
    wait_until(lambda: g.client.start_peer("get", "127.0.0.1", connect.port, 1000, 1)
               .wait(30) == 0, 25, "it carries again")


def test_a_connection_that_stays_unanswered_does_not_hold_up_the_next(gate):
    """As where the way is cut between the first packets and the broker's welcome."""
    g = gate()
    g.broker_proc = g.broker.start("broker", "--listen", "0.0.0.0:8443",
                                   "--public", f"{BROKER}:443")
    g.link = g.broker_proc.wait_event("ready", 15)["link"]
    slow = g.broker.start_peer("slow-server", 443, 8443)
    begin = time.monotonic()
    g.start_host("7000")
    took = time.monotonic() - begin
    assert "first" in slow.stdout
    assert took < 8 * patience(), took   # the patience with one connection is 10 s


def test_the_broker_is_replaced_at_another_address_without_a_word(gate, etc):
    """Its machine is gone, its name leads to another at once, and the host's NAT restarts."""
    g = named(gate(), etc)
    g.join()
    proc = g.connect("7000", None, "--paths", "relay")
    wait_relay(proc)
    flow = g.client.start_peer("flow", "127.0.0.1", proc.port, 2)
    progress(flow)
    g.topo.broker.ip("addr", "del", f"{BROKER}/24", "dev", "eth0")
    g.broker_proc.kill()
    other = BROKER + "9"
    g.topo.broker.ip("addr", "add", f"{other}/24", "dev", "eth0")
    g.topo.broker.ip("route", "replace", "default", "via", "192.0.2.1")
    for ns in (g.topo.broker, g.topo.host.ns, g.topo.client.ns):
        etc(ns, hosts=f"{NO_BROKER}{other} {NAME}\n", resolv_conf=DEAD_DNS)
    g.broker_proc = g.broker.start("broker", "--listen", "0.0.0.0:443", "--public", NAME)
    g.broker_proc.wait_event("ready", 15)
    g.topo.flush_conntrack("a")
    begin = time.monotonic()
    progress(flow)
    took = time.monotonic() - begin
    assert took < 6 * patience(), took
    whole(flow)
