"""A whole LAN through one connection: hosts hand their services to an agent."""

import re
import signal

import pytest

from .actors import HOST, Actor
from .net import wait_until
from .test_instances import page, says_no, web

pytestmark = pytest.mark.postern

AGENT_PORT = 4480
PYTHON = "/usr/bin/python3"


class Lan:
    """A Gate whose host is an agent, and further hosts of its LAN without a route out."""

    def __init__(self, g):
        self.g = g
        self.link = None
        g.start_broker()

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
    done = who.run("ls")
    return done.events[0]["services"]


def test_a_host_without_a_route_serves_the_world(lan):
    g = lan.g
    lan.start_agent()
    nas = lan.machine("nas", 31)
    who = Actor(g.programs, nas.ns, f"{g.work}/peer")
    who.start_peer("tcp-server", 7000)
    proc = lan.hand_over(nas, "nas", "data=7000")
    assert proc.wait_event("published", 10)["service"] == "data/nas"
    assert published(lan, "data/nas")["from"] == "nas"
    g.join()
    to = g.connect("data")
    for verb in ("get", "put", "echo"):   # echo half-closes and reads on
        done = g.client.peer(verb, "127.0.0.1", to.port, 8_000_000, 3)
        assert done.status == 0, (verb, done.stdout, done.stderr)
    # Nothing of nas crossed the NAT: all that the box knows is of the agent's address.
    seen = g.topo.sites["a"].box.run("conntrack", "-L", check=False)
    inside = set(re.findall(r"src=(192\.168\.10\.\d+)", seen))
    assert inside == {g.topo.host.address}, seen
    route = nas.ns.run("ip", "route", "get", "192.0.2.10", check=False)
    assert not route.strip(), route
