"""A command that stands (connect, socks, up, serve, share, receive) ends by itself where
waiting cannot help, and for nothing else: what passes is waited out, as often and as long
as it comes. core/patience says which errors do."""

import sys
import time

import pytest

from .actors import BROKER_PORT, HOST
from .conftest import full
from .net import wait_until
from .test_away import DEAD_DNS, NO_BROKER, etc   # noqa: F401
from .test_waiting import _BUSY
from .topology import BROKER

pytestmark = pytest.mark.postern
LONG_S = 33     # a command that is not a standing one ends after 30
NAME = "broker.lab"


class Fault:
    """Comes and goes between the client and its broker."""

    def __init__(self, g, kind):
        self.g, self.kind, self.busy = g, kind, None
        self.ns, self.site = g.topo.client.ns, g.topo.sites["b"]
        self.at = self.site.lan_address(g.topo.client.last)

    def begin(self):
        if self.kind == "address":
            self.ns.batch("addr flush dev eth0")
        elif self.kind == "unreachable":
            self.ns.batch("route del default", f"route add unreachable {BROKER}")
        elif self.kind == "silent":
            self.site.box.nft(f"""table inet cut {{ chain on {{
                type filter hook forward priority -10; ip daddr {BROKER} drop; }} }}""")
        else:
            self.g.broker_proc.kill()
        if self.kind == "busy":
            self.busy = self.g.programs.start(self.g.topo.broker, "busy", sys.executable, "-c",
                                              _BUSY, BROKER_PORT)
            self.busy.wait_line("listening", 10)

    def end(self):
        if self.kind == "address":
            self.ns.batch(f"addr add {self.at}/24 dev eth0",
                          f"route add default via {self.site.lan_address(1)}")
        elif self.kind == "unreachable":
            self.ns.batch(f"route del unreachable {BROKER}",
                          f"route add default via {self.site.lan_address(1)}")
        elif self.kind == "silent":
            self.site.box.nft("delete table inet cut")
        else:
            if self.busy:
                self.busy.kill()
            self.g.start_broker()


def meets_broker(g, proc):
    return any(f"pid={proc.pid}," in line for line in
               g.topo.client.ns.sockets("-tp", "state", "established", "dst", BROKER))


@pytest.mark.parametrize("kind", ["address", "unreachable", "refused", "busy", "silent"] if full()
                         else ["address", "busy"])
def test_what_passes_ends_no_standing_command(gate, kind):
    """The broker takes in and is lost again and again, and the host is away all the while."""
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("one=7000")
    other = g.other_client("other")
    g.join(other)
    standing = {"connect": other.start("connect", f"{HOST}:one", "127.0.0.1:9001"),
                "socks": other.start("socks", "--listen", "127.0.0.1:9002"),
                "up": g.client.start("up")}
    standing["connect"].wait_event("ready", 20)
    standing["up"].wait_event("path", 20)
    g.host_proc.kill()
    standing["connect"].wait_event("error", 20)
    fault, began = Fault(g, kind), time.monotonic()
    for _ in range(4):
        fault.begin()
        wait_until(lambda: not any(meets_broker(g, p) for p in standing.values()), 60, "it is lost")
        fault.end()
        wait_until(lambda: meets_broker(g, standing["connect"]) and meets_broker(g, standing["up"]), 60,
                   "the broker is met again")
    fault.begin()
    wait_until(lambda: time.monotonic() > began + LONG_S or
               not all(p.running for p in standing.values()), LONG_S + 60)
    for name, proc in standing.items():
        assert proc.running, (name, proc.stderr)
    send = other.start("send", "--wait=60", "/etc/hostname", HOST)
    fault.end()
    g.start_host()
    receive = g.host.start("receive", g.work)
    receive.wait_event("ready", 20)
    for target in ((9001, "GET"), (9002, "GET", f"{HOST}.postern:7000")):
        g.client.start_peer("endless", "127.0.0.1", *target).wait_line("under way", 30)
    assert send.wait(60) == 0, send.stderr


@pytest.mark.parametrize("kind", ["refused", "busy"])
def test_a_host_its_receive_and_share_outlast_their_broker(gate, kind):
    g = gate(host="none", client="none")
    g.up_and_joined("one=7000")
    standing = [g.host.start("receive", g.work), g.host.start("share", g.work), g.host_proc]
    for proc in standing[:2]:
        proc.wait_event("ready", 20)
    fault = Fault(g, kind)
    for _ in range(3):
        mark = g.host_proc.mark()
        fault.begin()
        g.host_proc.wait_event("broker", 30, since=mark, state="lost")
        fault.end()
        g.host_proc.wait_event("broker", 60, since=mark, state="back")
    for proc in standing:
        assert proc.running, proc.stderr
    assert g.client.run("send", "--wait=30", "/etc/hostname", HOST, timeout=60).status == 0


def test_a_resolver_that_is_away_ends_no_standing_command(gate, etc):   # noqa: F811
    """From the start on: longer than a command waits for it that is done some time."""
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    known = f"{NO_BROKER}{BROKER} {NAME}\n"
    for ns in (g.topo.broker, g.topo.host.ns, g.topo.client.ns):
        etc(ns, hosts=known)
    g.start_broker("--public", NAME)
    g.start_host("one=7000")
    g.join()
    g.client.ns.run("rm", "-f", f"{g.client.state}/last-good")
    etc(g.topo.client.ns, hosts=NO_BROKER, resolv_conf=DEAD_DNS)
    began = time.monotonic()
    standing = {"connect": g.client.start("connect", f"{HOST}:one", "127.0.0.1:9001"),
                "socks": g.client.start("socks", "--listen", "127.0.0.1:9002"),
                "up": g.client.start("up")}
    standing["connect"].wait_line("cannot be resolved", 20, "err")
    wait_until(lambda: time.monotonic() > began + 14 or
               not all(p.running for p in standing.values()), 30)
    for name, proc in standing.items():
        assert proc.running, (name, proc.stderr)
    etc(g.topo.client.ns, hosts=known)
    standing["connect"].wait_event("ready", 60)
