"""Services by port: programs that know no Postern, from a machine that has none, through
the broker's own ports; only from the address where somebody logged in."""

import os
import re
import shutil
import signal
import sys

import pytest

from .actors import PEER
from .net import wait_until
from .servers import Dns, Sshd
from .test_privilege import child
from .topology import BROKER, BROKER6

pytestmark = [pytest.mark.postern, pytest.mark.needs("curl")]

MB = 1 << 20


@pytest.fixture
def site(portal):
    """Broker up with a portal."""
    return portal()


@pytest.mark.needs("ssh", "sshd", "redis-server", "redis-cli")
def test_ssh_and_redis_by_port(site, work):
    g = site.gate
    g.start_host("nobody=7000")
    os.chmod(work, 0o755)
    sshd = Sshd(site.programs, site.topo.host.ns, work, wrapper=site.run_under())
    redis = site.programs.start(site.topo.host.ns, "redis", *site.run_under(),
                                shutil.which("redis-server"), "--port", 6379, "--save", "",
                                "--protected-mode", "no", "--dir", work)
    for port in (22, 6379):
        g.host_proc.wait_event("published", 20, port=port)
    site.add("anna")
    browser = site.browser("anna")
    shown = {s.name: s.up for s in browser.logged_in("anna").services()}
    assert shown == {"sshd": True, "redis-server": True, "nobody": False}, shown
    assert not site.listens(22) and not site.listens(6379)   # nothing was chosen yet

    shown = browser.open("sshd")
    assert shown.address == f"{BROKER}:22", shown
    ssh = site.programs.run(site.topo.client.ns, "ssh", "ssh", *sshd.options(),
                            f"root@{BROKER}", "echo through the portal")
    assert ssh.stdout == "through the portal\n", ssh.stderr
    shown = browser.open("redis-server")

    def redis_cli(*args, ns=None):
        return site.programs.run(ns or site.topo.client.ns, "redis-cli", "redis-cli", "-h",
                                 BROKER, "-p", shown.port, *args).stdout.strip()
    assert redis_cli("SET", "k", "v") == "OK" and redis_cli("GET", "k") == "v"
    assert site.knock(site.topo.stranger, shown.port) == "refused"
    assert "Could not connect" in site.programs.run(
        site.topo.stranger, "redis-cli", "redis-cli", "-h", BROKER, "PING").stderr
    redis.terminate()
    browser.wait_gone("redis-server")
    wait_until(lambda: not site.listens(6379), 5, "its port is closed")
    site.wait_log(g.broker, what="opened", who="anna", object="sshd on home")
    site.wait_log(g.broker, what="chosen", who="anna", object="redis-server")
    site.wait_log(g.host, what="closed", who="anna", object="sshd")


@pytest.fixture
def by_port(site):
    """A checking server opened by port for anna, who is logged in; `held` is answered."""
    site.gate.host.start_peer("tcp-server", 7000)
    site.gate.start_host("data=7000")
    site.add("anna")
    site.anna = site.browser("anna")
    site.anna.logged_in("anna")
    site.anna.open("data")
    return site


def held(site, browser=None, port=7000, count=1):
    proc = (browser or site.anna).start_peer("hold", BROKER, port, count)
    proc.wait_line(f"held {count}")
    return proc


def test_logout_and_close_end_what_is_open(by_port):
    site, anna = by_port, by_port.anna
    got = anna.peer("get", BROKER, 7000, 4 * MB, 3)
    assert got.status == 0, got.stdout
    connection = held(site)
    assert anna.get("/").service("data").connections == 1
    assert site.knock(site.topo.stranger, 7000) == "refused"
    anna.close("data")
    connection.wait_line("all ended", 3)
    assert site.knock(anna.ns, 7000) == "refused" and not site.listens(7000)
    assert not anna.get("/").service("data").address
    anna.open("data")
    connection = held(site)
    cookie = anna.jar
    anna.logout()
    connection.wait_line("all ended", 3)
    assert site.knock(anna.ns, 7000) == "refused" and not site.listens(7000)
    assert anna.jar == cookie and not anna.is_in()
    for what in ("login", "chosen", "opened", "closed", "logout"):
        site.wait_log(site.gate.broker, what=what, who="anna")
    site.wait_log(site.gate.host, what="closed", who="anna", object="data")


def test_an_address_that_changed(by_port):
    """The machine moves behind another NAT: its next page brings the port along."""
    site, anna = by_port, by_port.anna
    connection = held(site)
    site.topo.move(site.topo.client, "c")
    assert site.knock(anna.ns, 7000) == "refused"
    assert anna.get("/").service("data").address   # the same cookie from elsewhere
    assert site.knock(anna.ns, 7000) == "ok\n"
    assert site.log(site.gate.broker, what="moved", who="anna")
    site.wait_log(site.gate.broker, what="closed", object="data")
    assert connection.running   # it cannot know: its own network went


def gates(site):
    rules = site.topo.broker.run("nft", "list", "ruleset") + \
        site.topo.broker.run("iptables-save")
    return set(re.findall(r"postern.gate.\d+", rules))


def test_ports_have_their_gates_again_when_the_helper_is_back(by_port):
    site, anna = by_port, by_port.anna
    connection = held(site)
    before, broker = gates(site), site.gate.broker_proc
    assert before
    os.kill(child(broker.pid)[0], signal.SIGKILL)
    broker.wait_line("runs again", 10, "err")
    wait_until(lambda: gates(site) and not gates(site) & before, 15, "other gates")
    assert site.knock(anna.ns, 7000) == "ok\n"
    assert site.knock(site.topo.stranger, 7000) == "refused"
    assert connection.running


def test_who_was_invited_is_told_what_to_do(site):
    """Without a login; and the page has no place for the invite itself."""
    guest = site.browser("guest")
    assert 'href="/join"' in guest.get("/login").text
    page = guest.get("/join")
    assert page.status == 200 and f"7-crossover-clockwork@{site.address}" in page.text, page.text
    assert "postern join" in page.text and "<input" not in page.text
    opened = guest.get("/i/" + "a" * 170)   # an invite's link in its https form
    assert opened.status == 200 and opened.text == page.text
    assert "aaaaaaaa" not in opened.text + site.gate.broker_proc.stderr


def test_the_title_of_a_service(site):
    site.gate.start_host("web=8080 Holiday <pictures>", "22")
    site.add("anna")
    page = site.browser("anna").logged_in("anna")
    assert "Holiday &lt;pictures&gt;" in page.text, page.text


def test_idle_connections_end(portal):
    site = portal("--idle", "4s")   # more than any pause of the busy one
    site.gate.host.start_peer("tcp-server", 7000)
    site.gate.start_host("data=7000")
    site.add("anna")
    site.anna = site.browser("anna")
    site.anna.logged_in("anna")
    site.anna.open("data")
    silent = held(site)
    busy = site.anna.start_peer("flow", BROKER, 7000, 1)
    busy.wait_line("at ")
    silent.wait_line("all ended", 15)
    assert busy.running and site.anna.get("/").service("data").connections == 1
    busy.terminate(10)
    assert "whole" in busy.stdout, busy.stdout


def test_same_port_two_hosts(site):
    """Two people at two addresses choose one port and reach two hosts."""
    g = site.gate
    other = site.host("attic", site.topo.service)
    for ns, text in ((site.topo.host.ns, "home"), (site.topo.service.ns, "attic")):
        site.programs.start(ns, "say", sys.executable, "-c", SAY, text).wait_line("ready")
    g.start_host("say=7100")
    site.serve(other, "attic", "say=7100")
    site.add("anna")
    site.add("berta", host=other)
    anna, berta = site.browser("anna"), site.browser("berta", site.topo.stranger)
    anna.logged_in("anna")
    berta.logged_in("berta")
    assert anna.open("say").address == berta.open("say", "attic").address == f"{BROKER}:7100"
    for _ in range(3):
        assert site.knock(anna.ns, 7100) == "home\n"
        assert site.knock(berta.ns, 7100) == "attic\n"
    # Two at one address: the second gets another port, and is told which.
    guest = site.browser("guest")
    guest.logged_in("berta")
    shown = guest.open("say", "attic")
    assert shown.address == f"{BROKER}:17100", shown
    assert site.knock(guest.ns, 17100) == "attic\n"
    assert site.knock(anna.ns, 7100) == "home\n"
    assert site.knock(berta.ns, 17100) == "refused"
    # The same service as another account is another target.
    site.add("carl", host=g.host)
    carl = site.browser("carl")
    carl.logged_in("carl")
    assert carl.open("say").address == f"{BROKER}:27100"
    anna.logout()
    assert site.knock(carl.ns, 27100) == "home\n"
    assert site.knock(carl.ns, 7100) == "refused"


SAY = """
import socket, sys
s = socket.create_server(("", 7100))
print("ready", flush=True)
while True:
    a, _ = s.accept()
    try:
        a.recv(100)
        a.sendall(sys.argv[1].encode() + b"\\n")
    except OSError:
        pass
    a.close()
"""


@pytest.mark.needs("dnsmasq", "dig")
def test_udp_by_port(site):
    Dns(site.programs, site.topo.host.ns)
    site.gate.host.start_peer("udp-server", 7001)
    site.gate.start_host("dns=udp:53", "echo=udp:7001")
    site.add("anna")
    anna = site.browser("anna")
    anna.logged_in("anna")
    assert anna.open("dns").address == f"{BROKER}:53"
    anna.open("echo")

    def dig(ns):
        return site.programs.run(ns, "dig", "dig", f"@{BROKER}", "+short", "+tries=1",
                                 "+time=1", "pi.lab").stdout
    assert dig(anna.ns).strip() == Dns.ADDRESS
    assert Dns.ADDRESS not in dig(site.topo.stranger)
    done = anna.peer("udp-ping", BROKER, 7001, 50, 5, 1200)
    assert done.status == 0 and "received 50 " in done.stdout, done.stdout
    lost = site.programs.run(site.topo.stranger, "ping", *PEER, "udp-ping", BROKER, 7001, 3,
                             5)
    assert "received 0 " in lost.stdout, lost.stdout
    assert anna.get("/").service("echo").connections == 1
    anna.close("dns")
    assert Dns.ADDRESS not in dig(anna.ns)
    assert not site.listens(53, udp=True)


def test_by_ipv6(portal):
    """A device's IPv6 addresses count as one by their first half."""
    site = portal(ipv6=True, ipv4=False)
    site.gate.host.start_peer("tcp-server", 7000)
    site.gate.host.start_peer("udp-server", 7001)
    site.gate.start_host("data=7000", "echo=udp:7001")
    site.add("anna")
    anna = site.browser("anna")
    anna.logged_in("anna")
    assert anna.open("data").address == f"[{BROKER6}]:7000"
    anna.open("echo")
    got = anna.peer("get", BROKER6, 7000, MB, 3)
    assert got.status == 0, got.stdout
    done = anna.peer("udp-ping", BROKER6, 7001, 20, 5, 1200)
    assert "received 20 " in done.stdout, done.stdout
    neighbour = site.topo.machine("neighbour", "b", 41)
    assert site.knock(neighbour.ns, 7000) == "ok\n"   # the same /64
    assert site.knock(site.topo.stranger, 7000) == "refused"


NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.mark.needs("setpriv", "ssh", "sshd")
def test_a_broker_without_rights(portal, work):
    """No gate, no low ports: connections are accepted first, and ssh is 10,000 higher."""
    site = portal(start=False)
    os.chmod(work, 0o755)
    os.makedirs(site.gate.broker.state, mode=0o700)
    os.chown(site.gate.broker.state, 65534, 65534)
    site.topo.broker.sysctl("net.ipv4.ip_unprivileged_port_start", 443)
    site.gate.broker.wrapper = NOBODY
    site.start_broker()
    sshd = Sshd(site.programs, site.topo.host.ns, work)
    server = site.gate.host.start_peer("tcp-server", 7000)
    site.gate.start_host("ssh=22", "data=7000")
    site.add("anna")
    anna = site.browser("anna")
    anna.logged_in("anna")
    assert anna.open("ssh").address == f"{BROKER}:10022"
    ssh = site.programs.run(anna.ns, "ssh", "ssh", *sshd.options(port=10022),
                            f"root@{BROKER}", "echo through the portal")
    assert ssh.stdout == "through the portal\n", ssh.stderr
    anna.open("data")
    connection = held(site, anna)
    many = anna.peer("many", BROKER, 7000, 50, 20000, 5, timeout=60)
    assert many.status == 0, many.stdout + many.stderr
    assert site.knock(site.topo.stranger, 7000) == "refused"
    server.kill()
    connection.wait_line("all ended", 5)
    assert site.knock(anna.ns, 7000) == "refused"
    anna.logout()
    assert site.knock(anna.ns, 10022) == "refused"
