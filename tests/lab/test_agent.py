"""A whole LAN through one connection: hosts hand their services to an agent."""

import re
import shutil
import signal
import time

import pytest

from .actors import HOST, Actor
from .browser import DOMAIN
from .net import wait_until
from .test_crowd import IDLE
from .test_instances import page, says_no, web
from .test_portal_names import certificate

pytestmark = pytest.mark.postern

AGENT_PORT = 4480
PYTHON = "/usr/bin/python3"


class Lan:
    """A Gate whose host is an agent, and further hosts of its LAN without a route out."""

    def __init__(self, g, *broker_args):
        self.g = g
        self.link = None
        g.start_broker(*broker_args)

    def start_agent(self, *services, agent="--agent"):
        g = self.g
        g.host_proc = g.host.start("serve", "--broker", g.link, "--name", HOST, agent,
                                   *services)
        self.link = g.host_proc.wait_event("agent", 10)["link"]
        g.host_proc.wait_event("ready", 20)
        return g.host_proc

    def machine(self, name, last):
        """One more machine of the LAN, with no way out of it."""
        m = self.g.topo.machine(name, "a", last)
        m.ns.ip("route", "del", "default")
        return m

    def hand_over(self, machine, name, *services, link=None, wait=True):
        who = Actor(self.g.programs, machine.ns, f"{self.g.work}/{name}")
        proc = who.start("serve", "--via", link or self.link, "--name", name, *services)
        proc.who = who
        if wait:
            proc.wait_event("ready", 15)
        return proc


@pytest.fixture
def lan(gate):
    return Lan(gate(host="masq", client="masq"))


def published(lan, name, since=0, timeout=10):
    return lan.g.host_proc.wait_event("published", timeout, since, service=name)


def withdrawn(lan, name, since=0, timeout=10):
    return lan.g.host_proc.wait_event("withdrawn", timeout, since, service=name)


def services(who):
    done = who.run("connect", f"{HOST}:no-such-service", json=False)   # asks the host
    assert done.status == 1 and "no service" in done.stderr, done.stderr
    return who.run("ls").events[0]["services"]


def outgoing(lan):
    """(source, destination) of what the LAN's NAT passes, or passed lately."""
    seen = lan.g.topo.sites["a"].box.run("conntrack", "-L", check=False)
    pairs = re.findall(r"^\S+ .*?src=(192\.168\.10\.\d+) dst=(\S+)", seen, re.M)
    return {(s, d) for s, d in pairs if not d.startswith(("192.168.10.", "224."))}


def peer_at(lan, machine, port=7000):
    who = Actor(lan.g.programs, machine.ns, f"{lan.g.work}/peer-{machine.name}")
    return who.start_peer("tcp-server", port)


def fails(lan, machine, name, link, *words):
    proc = lan.hand_over(machine, name, "7000", link=link, wait=False)
    assert proc.wait(20) == (2 if words[0] in ("link", "mangled", "an invite", "give it to --broker") else 1)
    assert len(proc.stderr.splitlines()) == 1, proc.stderr
    assert any(w in proc.stderr for w in words), proc.stderr
    return proc


# ------------------------------------------------------------------------- the main job

def test_a_host_without_a_route_serves_the_world(lan):
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    peer_at(lan, nas)
    proc = lan.hand_over(nas, "nas", "data=7000")
    assert proc.wait_event("published", 10)["service"] == "data/nas"
    assert published(lan, "data/nas")["from"] == "nas"
    g.join()
    to = g.connect("data")
    for verb in ("get", "put", "echo"):   # echo half-closes and reads on
        done = g.client.peer(verb, "127.0.0.1", to.port, 8_000_000, 3)
        assert done.status == 0, (verb, done.stdout, done.stderr)
    out = outgoing(lan)
    assert out and {source for source, _ in out} == {g.topo.host.address}, out
    assert nas.ns.run("ip", "route", "get", "192.0.2.10", check=False).strip() == ""


def test_a_title_is_seen_through_the_agent(lan):
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    peer_at(lan, nas)
    proc = lan.hand_over(nas, "nas", "data=7000 Holiday pictures", "plain=7001")
    published(lan, "data/nas")
    g.join()
    up = g.client.start("up")
    up.wait_event("service", 20)

    def titles():
        return g.client.run("ls").event("host").get("titles")
    wait_until(lambda: titles() == ["data: Holiday pictures"], 20, "the title")
    to = g.connect("data")
    assert proc.who.run("serve", "--reload", "--", "data=7000 Another", "plain=7001").event("reloaded")
    wait_until(lambda: titles() == ["data: Another"], 20, "another title")
    assert not lan.g.host_proc.find("withdrawn"), "a title is no other service"
    assert proc.who.run("serve", "--reload", "--", "data=7000", "plain=7001").event("reloaded")
    wait_until(lambda: titles() is None, 20, "no title")
    assert g.client.peer("echo", "127.0.0.1", to.port, 100_000, 3).status == 0


def test_who_was_at_a_broker_once_makes_no_invite_to_it(lan):
    lan.start_agent()
    nas = lan.machine("nas", 31)
    who = Actor(lan.g.programs, nas.ns, f"{lan.g.work}/nas")
    nas.ns.ip("route", "add", "default", "via", "192.168.10.1")
    before = who.start("serve", "--broker", lan.g.link, "--name", "nas", "22")
    before.wait_event("ready", 15)
    assert who.run("invite", json=False).status == 0
    before.terminate()
    lan.hand_over(nas, "nas", "22")
    done = who.run("invite", json=False)
    assert done.status == 1 and "at the agent" in done.stderr, (done.stdout, done.stderr)


def test_a_host_behind_an_agent_is_told_that_it_knows_no_broker_itself(lan):
    lan.start_agent("7000")
    lan.g.host.start_peer("tcp-server", 7000)
    nas = lan.machine("nas", 31)
    who = lan.hand_over(nas, "nas", "nas=7000").who
    done = who.run("netcheck", json=False)
    assert done.status != 0 and "hands its services to an agent" in done.stderr and "copy" not in done.stderr, done.stderr
    said = who.run("doctor").event("check", check="broker")
    assert "hands its services to an agent" in said["what"] and "serve" not in said["do"], said


def test_one_connection_goes_out_for_all(lan):
    """The broker has one TCP connection of the site, whatever the number of hosts."""
    g = lan.g
    lan.start_agent()
    for last in (31, 32, 33):
        machine = lan.machine(f"m{last}", last)
        lan.hand_over(machine, f"m{last}", f"web{last}=80")
        published(lan, f"web{last}/m{last}")
    lines = g.topo.broker.sockets("-tn", "state", "established", "sport", "=", ":443")
    lines = [line for line in lines if "127.0.0.1" not in line]   # the portal's own
    assert len(lines) == 1, lines
    assert "198.51.100.2" in lines[0]
    assert len([e for e in g.host.run("status").events if e["event"] == "lan-host"]) == 3


def test_many_at_once(lan):
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    peer_at(lan, nas)
    lan.hand_over(nas, "nas", "data=7000")
    published(lan, "data/nas")
    g.join()
    to = g.connect("data")
    peers = [g.client.start_peer("echo", "127.0.0.1", to.port, 300_000, n)
             for n in range(40)]
    for p in peers:
        assert p.wait(60) == 0, p.stdout + p.stderr
    gone = f"( sport = :{AGENT_PORT} )"
    wait_until(lambda: len(g.topo.host.ns.sockets("-tn", "state", "connected",
                                                  "exclude", "time-wait", gone)) == 2,
               10, "only the control connection and the session's pair are left")


def test_one_device_takes_all_streams_to_a_host(lan):
    """The agent has one session to it. Who holds most gives: another device comes in."""
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    peer_at(lan, nas)
    lan.hand_over(nas, "nas", "data=7000")
    published(lan, "data/nas")
    g.join()
    other = g.other_client("other")
    g.join(other)
    crowds = []
    for i in range(2):      # two programs: each has a session of its own to the agent
        greedy = g.connect("data", None, "--paths", "relay")
        crowds.append(g.programs.start(g.topo.client.ns, f"crowd{i}", PYTHON, "-c", IDLE,
                                       greedy.port, 1_100))
        crowds[i].wait_line("open", 60)
    for _ in range(20):
        done = other.run("nc", HOST, "data", json=False, stdin=b"GET 9 1\n", timeout=20)
        assert done.status == 0 and len(done.stdout) >= 9, done.stderr
    assert all(c.running for c in crowds) and g.host_proc.running


def test_resets_and_refusals_pass(lan):
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    server = peer_at(lan, nas)
    lan.hand_over(nas, "nas", "data=7000", "none=7009", "far=192.168.10.99:80")
    published(lan, "far/nas")
    g.join()
    says_no(g, "none", "none at 127.0.0.1:7009: connection refused")
    says_no(g, "data/red", "no service")
    to = g.connect("data")
    done = g.programs.run(g.topo.client.ns, "reset", PYTHON, "-c", RESET, to.port)
    assert done.stdout == "reset\n", done.stdout + done.stderr
    flow = g.client.start_peer("flow", "127.0.0.1", to.port, 5)
    flow.wait_line("at ")
    server.kill()
    assert flow.wait(10) != 0 and "broken" in flow.stdout, flow.stdout[-300:]


RESET = """
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
s.sendall(b"RESET\\n")
try:
    while s.recv(1000): pass
    print("end")
except ConnectionResetError:
    print("reset")
"""


def test_udp_services(lan):
    """Small datagrams, large ones, several flows, and the answer of nobody."""
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    who = Actor(g.programs, nas.ns, f"{g.work}/peer-nas")
    who.start_peer("udp-server", 7000)
    via = lan.hand_over(nas, "nas", "echo=udp:7000", "udp:7001")
    assert via.wait_event("published", 10, service="echo/nas")["udp"]
    assert published(lan, "udp:7001/nas")["udp"]
    g.join(None, None, "--services", "echo")
    assert services(g.client) == ["echo"]
    to = g.connect("echo")
    for size in (64, 1_100, 9_000, 40_000):
        done = g.client.peer("udp-ping", "127.0.0.1", to.port, 40, 5, size)
        assert done.stdout.startswith("sent 40 received 40 "), (size, done.stdout)
    flows = [g.client.start_peer("udp-ping", "127.0.0.1", to.port, 100, 5) for _ in range(20)]
    for f in flows:
        assert f.wait(30) == 0 and "received 100 " in f.stdout, f.stdout
    since = g.host_proc.mark()
    via.kill()
    withdrawn(lan, "echo/nas", since)
    via = lan.hand_over(nas, "nas", "echo=udp:7000")
    published(lan, "echo/nas", since)
    wait_until(lambda: "received 0" not in g.client.peer(
        "udp-ping", "127.0.0.1", to.port, 5, 20).stdout, 10, "the flow goes on")


def test_udp_instances_of_two_hosts(lan):
    """One name for datagrams and another for connections; a host that is gone is passed over."""
    g = lan.g
    lan.start_agent()
    nas, pi = lan.machine("nas", 31), lan.machine("pi", 32)
    for m in (nas, pi):
        Actor(g.programs, m.ns, f"{g.work}/peer-{m.name}").start_peer("udp-server", 7000)
    first = lan.hand_over(nas, "nas", "echo=udp:7000")
    published(lan, "echo/nas")
    lan.hand_over(pi, "pi", "echo=udp:7000")
    published(lan, "echo/pi")
    third = lan.machine("third", 33)
    lan.hand_over(third, "third", "echo=7000")
    published(lan, "echo-2/third")   # datagrams and connections are no instances of one
    g.join()
    first.kill()
    withdrawn(lan, "echo/nas")
    for name in ("echo", "echo/pi"):
        done = g.client.peer("udp-ping", "127.0.0.1", g.connect(name).port, 20, 5)
        assert "received 20 " in done.stdout, (name, done.stdout)


# ---------------------------------------------------------------------- several of them

def test_two_hosts_with_the_same_service_are_instances(lan):
    g = lan.g
    lan.start_agent()
    nas, pi = lan.machine("nas", 31), lan.machine("pi", 32)
    one, two = web(g.programs, nas.ns, "nas"), web(g.programs, pi.ns, "pi")
    first = lan.hand_over(nas, "nas", "web=80")
    published(lan, "web/nas")
    lan.hand_over(pi, "pi", "web=80")
    published(lan, "web/pi")
    g.join()
    assert services(g.client) == ["web"]
    assert page(g, "web/nas").stdout == "nas\n"
    assert page(g, "web/pi").stdout == "pi\n"
    assert page(g, "web").stdout in ("nas\n", "pi\n")
    one.terminate()   # refused there: the other one answers
    assert page(g, "web").stdout == "pi\n"
    says_no(g, "web/nas", "refused")
    first.kill()
    withdrawn(lan, "web/nas")
    assert page(g, "web").stdout == "pi\n"
    says_no(g, "web/nas", "no service 'web/nas'")
    two.terminate()
    says_no(g, "web", "refused")


def test_a_user_is_bound_to_one_hosts_instance(lan):
    g = lan.g
    lan.start_agent()
    for name, last in (("nas", 31), ("pi", 32)):
        machine = lan.machine(name, last)
        web(g.programs, machine.ns, name)
        lan.hand_over(machine, name, "web=80")
        published(lan, f"web/{name}")
    g.join(None, None, "--services", "web/pi")
    assert page(g, "web").stdout == "pi\n"
    says_no(g, "web/nas", "may not use")
    bad = g.host.run("invite", "--services", "web/red", json=False)
    assert bad.status == 1 and "publishes no service 'web/red'" in bad.stderr


def test_names_that_are_taken(lan):
    """The agent's own come first; a second host of one name gets another."""
    g = lan.g
    web(g.programs, g.topo.host.ns, "own", 8080)
    lan.start_agent("web=8080")
    nas, other = lan.machine("nas", 31), lan.machine("other", 32)
    web(g.programs, nas.ns, "nas")
    web(g.programs, other.ns, "other")
    lan.hand_over(nas, "nas", "web=80")
    published(lan, "web-2/nas")
    twin = Actor(g.programs, other.ns, f"{g.work}/twin")
    proc = twin.start("serve", "--via", lan.link, "--name", "NAS", "web=80")
    assert proc.wait_event("published", 15)["service"] == "web-2/nas-2"
    g.join()
    assert page(g, "web").stdout == "own\n"
    assert page(g, "web-2/nas").stdout == "nas\n"
    assert page(g, "web-2/nas-2").stdout == "other\n"


# -------------------------------------------------------------------------- comings, goings

def test_killed_host_disappears_and_comes_back_with_its_address_alone(lan):
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    web(g.programs, nas.ns, "nas")
    proc = lan.hand_over(nas, "nas", "web=80")
    published(lan, "web/nas")
    g.join()
    assert page(g, "web").stdout == "nas\n"
    since = g.host_proc.mark()
    proc.kill()
    withdrawn(lan, "web/nas", since, 5)
    assert services(g.client) == []
    assert g.host.run("status").event("lan-away")["name"] == "nas"
    says_no(g, "web", "no service 'web'")
    proc = lan.hand_over(nas, "nas", "web=80", link=g.topo.host.address)
    published(lan, "web/nas", since)
    assert page(g, "web").stdout == "nas\n"
    proc.terminate()
    since = g.host_proc.mark()
    alone = proc.who.start("serve")   # the same as last time
    assert alone.wait_event("ready", 15)["via"] == f"{g.topo.host.address}:{AGENT_PORT}"
    published(lan, "web/nas", since)


def test_the_agent_restarts(lan):
    g = lan.g
    proc = lan.start_agent()
    link = lan.link
    nas = lan.machine("nas", 31)
    web(g.programs, nas.ns, "nas")
    via = lan.hand_over(nas, "nas", "web=80")
    published(lan, "web/nas")
    g.join()
    proc.kill()
    assert "agent" in via.wait_event("agent", 10, state="lost")["reason"]
    lan.start_agent()
    assert lan.link == link
    via.wait_event("agent", 20, state="back")
    published(lan, "web/nas", timeout=20)
    assert page(g, "web").stdout == "nas\n"


def test_reload_at_the_host(lan):
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    web(g.programs, nas.ns, "nas")
    peer_at(lan, nas)
    via = lan.hand_over(nas, "nas", "web=80", "data=7000")
    published(lan, "data/nas")
    g.join()
    to = g.connect("data")
    flow = g.client.start_peer("flow", "127.0.0.1", to.port, 5)
    flow.wait_line("at ")
    since = g.host_proc.mark()
    done = via.who.run("serve", "--reload", "data=7000", "new=80")
    assert done.status == 0, done.stderr
    published(lan, "new/nas", since)
    withdrawn(lan, "web/nas", since)
    assert not g.host_proc.find("withdrawn", since, service="data/nas")
    flow.signal(signal.SIGTERM)
    assert flow.wait(20) == 0, flow.stdout
    assert page(g, "new").stdout == "nas\n"
    since = g.host_proc.mark()
    assert via.who.run("serve", "--reload", "new=80", "dns=udp:53").status == 0
    assert published(lan, "dns/nas", since)["udp"]


def test_reload_at_the_agent(lan):
    g = lan.g
    web(g.programs, g.topo.host.ns, "own", 8080)
    lan.start_agent("22")
    nas = lan.machine("nas", 31)
    web(g.programs, nas.ns, "nas")
    via = lan.hand_over(nas, "nas", "web=80")
    via.wait_event("published", 10, service="web/nas")
    g.join()
    assert g.host.run("serve", "--reload", "web=8080").status == 0
    via.wait_event("published", 10, service="web-2/nas")   # the agent's own comes first
    assert page(g, "web").stdout == "own\n"
    assert page(g, "web-2").stdout == "nas\n"


def test_a_program_that_is_run_at_a_host(lan):
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    via = lan.hand_over(nas, "nas", "22")
    ran = via.who.start("run", "--yes", "--", PYTHON, "-m", "http.server", "8080")
    name = ran.wait_event("published", 20)["service"] + "/nas"
    published(lan, name)
    g.join()
    assert "Directory listing" in page(g, "8080").stdout
    ran.terminate()
    withdrawn(lan, name)


@pytest.mark.needs("curl")
def test_the_portal_shows_what_the_lans_hosts_serve(portal):
    """Up or down is what a connection through the host of the LAN would find, in 7 s."""
    site = portal(start=False)
    lan = Lan(site.gate)
    lan.start_agent("own=7009")
    nas, pi = lan.machine("nas", 31), lan.machine("pi", 32)
    server = peer_at(lan, nas)
    Actor(lan.g.programs, nas.ns, f"{lan.g.work}/udp-nas").start_peer("udp-server", 7002)
    lan.hand_over(nas, "nas", "data=7000", "none=7001", "echo=udp:7002")
    lan.hand_over(pi, "pi", "data=7000")
    published(lan, "none/nas")
    published(lan, "data/pi")
    site.add("anna", "all")
    site.add("berta", "data/pi")
    anna, berta = site.browser("anna"), site.browser("berta")
    shown = {s.name: s.up for s in anna.logged_in("anna").services()}
    assert shown == {"own": False, "data": True, "none": False, "echo": True}, shown
    assert not berta.logged_in("berta").service("data").up   # the pi's does not run
    assert site.knock(anna.ns, anna.open("data").port) == "ok\n"
    server.kill()
    anna.wait_service("data", up=False, timeout=7)
    peer_at(lan, pi)
    anna.wait_service("data", up=True, timeout=7)
    berta.wait_service("data", up=True, timeout=7)
    pi.ns.ip("link", "set", "eth0", "down")   # it does not even say no
    berta.wait_service("data", up=False, timeout=7)


@pytest.mark.needs("curl", "openssl")
def test_the_agent_ends_tls_for_a_host(portal, work):
    """A service with a certificate moves to another machine, a plain web server there."""
    site = portal(start=False)
    lan = Lan(site.gate, "--domain", DOMAIN)
    cert, key = certificate(work, "web--home")
    lan.start_agent("web=8080", "--tls", f"web={cert},{key}")
    assert lan.g.host.run("serve", "--reload", "22").status == 0
    nas = lan.machine("nas", 31)
    web(lan.g.programs, nas.ns, "nas")
    lan.hand_over(nas, "nas", "web=80")
    published(lan, "web/nas")
    site.add("anna", "all")
    anna = site.browser("anna")
    anna.logged_in("anna").service("web")
    for _ in range(3):
        done = anna.by_name("web", "/", "--cacert", cert)
        assert done.stdout == "nas\n", done.stdout + done.stderr


# ------------------------------------------------------------------------- who may hand over

def test_wrong_links_and_wrong_key(lan):
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    at = f"{g.topo.host.address}:{AGENT_PORT}"
    fails(lan, nas, "a", at, "the first time")
    fails(lan, nas, "b", g.topo.host.address, "the first time")
    fails(lan, nas, "c", "postern://x", "link")
    fails(lan, nas, "d", g.link, "give it to --broker")
    for command, more in (("serve", ["22"]), ("netcheck", []), ("run", ["--yes", "true"])):
        done = g.other_client("x").run(command, "--broker", lan.link, *more)
        assert done.status == 2 and "--via" in done.stderr, done.stderr
    fails(lan, nas, "f", lan.link.replace(":4480", ":4481"), "mangled")
    invite = g.invite()
    fails(lan, nas, "g", invite, "an invite")
    via = lan.hand_over(nas, "nas", "7000")
    g.host_proc.terminate()
    via.wait_event("agent", 10, state="lost")
    assert via.who.run("status").event("agent", address=at)["state"] != "online"
    via.terminate()
    other = Actor(g.programs, g.topo.host.ns, f"{g.work}/other-agent")
    second = other.start("serve", "--broker", g.link, "--name", "other",
                         f"--agent={at}", "22")
    link = second.wait_event("agent", 10)["link"]
    assert link.startswith(f"postern://{at}/a/") and link != lan.link
    fails(lan, nas, "h", lan.link, "another key")
    known = via.who.start("serve", "--via", at)
    assert known.wait(20) == 1 and "another key" in known.stderr
    assert not second.find("published")
    second.terminate()
    fails(lan, nas, "i", link, "no agent listens")


def test_copied_hosts_of_an_agent_leave_each_other_in_peace(lan, work):
    """Two machines with one key: the one that came last serves, the other says why it
    does not, and comes when the place is free."""
    g = lan.g
    lan.start_agent()
    nas, pi = lan.machine("nas", 31), lan.machine("pi", 32)
    first = lan.hand_over(nas, "nas", "22")
    shutil.copytree(first.who.state, f"{work}/pi", ignore=shutil.ignore_patterns("*.sock"))
    second = lan.hand_over(pi, "pi", "22")
    lost = first.wait_event("agent", 10, state="lost")
    assert "this device's key" in lost["reason"], lost
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() > begin + 12, 15)    # two tries of the first
    assert not first.find("agent", state="back")
    assert not second.find("agent", state="lost")
    second.kill()
    first.wait_event("agent", 60, state="back")
    assert g.host_proc.running


def test_forgotten_host_is_out_and_its_link_too(lan):
    g = lan.g
    lan.start_agent()
    old = lan.link
    nas, pi = lan.machine("nas", 31), lan.machine("pi", 32)
    peer_at(lan, nas)
    web(g.programs, pi.ns, "pi")
    via = lan.hand_over(nas, "nas", "data=7000")
    stays = lan.hand_over(pi, "pi", "web=80")
    published(lan, "data/nas")
    published(lan, "web/pi")
    g.join()
    to = g.connect("data")
    flow = g.client.start_peer("flow", "127.0.0.1", to.port, 5)
    flow.wait_line("at ")
    since = g.host_proc.mark()
    done = g.host.run("serve", "--agent-forget", "NAS")
    assert done.status == 0 and done.event("forgotten")["connections"] == 1, done.stdout
    assert flow.wait(10) != 0, "a connection outlived its host's removal"
    withdrawn(lan, "data/nas", since)
    assert "does not know" in via.wait_event("agent", 10, state="lost")["reason"]
    fresh = g.host_proc.wait_event("agent", 10, since)["link"]
    assert fresh != old
    fails(lan, nas, "again", old, "does not know this host")
    via.kill()
    fails(lan, nas, "nas", old, "does not know this host")
    assert page(g, "web").stdout == "pi\n" and stays.running   # the others stay
    lan.hand_over(nas, "nas", "data=7000", link=fresh)
    published(lan, "data/nas", since)
    none = g.host.run("serve", "--agent-forget", "nobody", json=False)
    assert none.status == 1 and "knows no host" in none.stderr, none.stderr


def test_what_contradicts_is_refused(lan):
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    who = Actor(g.programs, nas.ns, f"{g.work}/who")
    for args, word in {
            ("--via", lan.link): "no service",
            ("--via", lan.link, "--broker", g.link, "22"): "contradicts",
            ("--via", lan.link, "--agent", "22"): "contradicts",
            ("--broker", g.link, "--agent=nowhere", "22"): "no address",
            ("--broker", g.link, "--agent", "203.0.113.200:4480", "22"): "cannot listen",
    }.items():
        done = who.run("serve", *args, json=False)
        assert done.status in (1, 2) and len(done.stderr.splitlines()) == 1, done.stderr
        assert word in done.stderr, (word, done.stderr)
    taken = Actor(g.programs, g.topo.host.ns, f"{g.work}/taken")
    for args in (["--tls", "web=x.pem"], ["--tls", "web", "--tls-command", "true"]):
        done = who.run("serve", "--via", lan.link, *args, "web=80", json=False)
        assert done.status == 2 and "ends no TLS" in done.stderr, done.stderr
    via = lan.hand_over(nas, "nas", "web=80")
    done = via.who.run("serve", "--reload", "--tls", "web=x.pem", json=False)
    assert done.status == 2 and "ends no TLS" in done.stderr, done.stderr
    done = taken.run("serve", "--broker", g.link, "--agent", "22", json=False)
    assert done.status == 1 and "4480" in done.stderr, done.stderr


def test_noise_at_the_agents_port(lan):
    """Bytes that are nothing, silence, and a browser: the agent goes on."""
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    web(g.programs, nas.ns, "nas")
    done = g.programs.run(nas.ns, "noise", PYTHON, "-c", NOISE, g.topo.host.address,
                          AGENT_PORT, timeout=40)
    assert done.stdout == "300 closed\n", done.stdout + done.stderr
    lan.hand_over(nas, "nas", "web=80")
    published(lan, "web/nas")
    g.join()
    assert page(g, "web").stdout == "nas\n"


NOISE = """
import os, socket, ssl, sys
at = (sys.argv[1], int(sys.argv[2]))
closed = 0
silent = [socket.create_connection(at, 5) for _ in range(100)]
hello = bytes.fromhex("16030100") + b"\\xff"
for i in range(199):
    s = socket.create_connection(at, 5)
    s.settimeout(30)
    s.sendall(os.urandom(64) if i % 2 else hello + os.urandom(300))
    silent.append(s)
c = ssl._create_unverified_context()
try:
    c.wrap_socket(socket.create_connection(at, 5))
except (ssl.SSLError, ConnectionError):
    closed += 1
for s in silent:
    s.settimeout(30)
    try:
        closed += s.recv(1) == b""
    except ConnectionError:
        closed += 1
print(closed, "closed")
"""
