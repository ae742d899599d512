"""`postern doctor`: what is wrong, each with its cure, within 10 s; and a report that
tells nobody's name, address or key."""

import os
import re
import signal
import sqlite3
import subprocess

import pytest

from .actors import HOST, postern
from .net import patience, wait_until
from .test_away import DEAD_DNS, NAME, NO_BROKER, etc, named  # noqa: F401
from .test_badinput import says
from .test_newcomer import AS_NOBODY, NOBODY
from .test_roam import mute
from .topology import BROKER

pytestmark = pytest.mark.postern


@pytest.fixture
def joined(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    return g.up_and_joined("peer=7000")


def checks(done):
    assert done.seconds < 10 * patience(), done.seconds
    return {e["check"]: e for e in done.events if e["event"] == "check"}


def test_with_nothing_there_it_makes_nothing(here):
    done = here.run("doctor")
    found = checks(done)
    assert found["state"]["state"] == "ok" and found["broker"]["state"] == "skipped", done.stdout
    assert "join a host" in found["broker"]["do"]
    assert done.status == (1 if any(e["state"] == "bad" for e in found.values()) else 0)
    assert not os.path.exists(here.state)


@pytest.mark.parametrize("home, what", [("/nonexistent", "no permission to use the state directory /nonexistent"),
                                        ("", "HOME is not set"), ("/proc/version", "is not a directory")])
def test_where_no_state_can_be_made(here, home, what):
    here.state, here.more_env = "", {"HOME": home, "XDG_STATE_HOME": ""}
    here.wrapper = ["setpriv", "--reuid=54321", "--regid=65534", "--clear-groups"]
    found = checks(here.run("doctor"))["state"]
    assert found["state"] == "bad" and what in found["what"] and "--state" in found["do"], found
    assert here.run("keys").status == 1, "as doctor says"


@pytest.mark.parametrize("file", ["/nonexistent/report", "/etc/passwd"])
def test_a_report_that_cannot_be_is_told_at_once(here, file):
    done = here.run("doctor", "--report", file)
    assert done.status == 1 and not [e for e in done.events if e["event"] == "check"], done.stdout
    assert "name a file that can be made" in done.stderr


def test_without_a_network(here):
    done = subprocess.run(["unshare", "-n", postern(), "doctor"], capture_output=True, text=True,
                          env={**os.environ, **here.env}, timeout=20, check=False)
    assert done.returncode == 1 and "bad: network: this machine has no address" in done.stdout
    assert done.stderr.count("\n") == 1 and "found something bad" in done.stderr, done.stderr


def test_all_is_well(joined):
    g = joined
    g.client.start("up").wait_event("path", 20)
    for who, role in ((g.client, "up"), (g.host, "serve")):
        done = who.run("doctor")
        found = checks(done)
        assert done.status == 0, done.stdout
        for check in ("state", "disk", "network", "broker", "udp", "clock", "encryption", role):
            assert found[check]["state"] == "ok", found[check]
        wait_until(lambda who=who, role=role: "1 session" in checks(who.run("doctor"))[role]["what"],
                   10, "its session is counted")
        assert "its own" in found["certificate"]["what"], found["certificate"]
        assert "the broker's" in found["clock"]["what"], found["clock"]


def two_uplinks(gate):
    """A client with a second default route, and what silences the first one."""
    g = gate(host="masq", client="masq", third="masq")
    g.up_and_joined("7000")
    ns, last = g.topo.client.ns, g.topo.client.last
    first, c = g.topo.sites["b"], g.topo.open_site("c")
    g.topo.cable(g.topo.client, "c", "eth1")
    ns.batch(f"addr add {c.lan_address(last)}/24 dev eth1",
             f"route add default via {c.lan_address(1)} metric 500")
    ns.sysctl("net.ipv4.conf.all.rp_filter", 0)
    return g, lambda: mute(first.box, "p-client", first.lan_address(last))


def test_the_first_of_two_uplinks_is_silent(gate):
    """It is what is wrong, and not the broker, which answers by the second one."""
    g, silence = two_uplinks(gate)
    ns = g.topo.client.ns
    ns.sysctl("net.ipv4.conf.eth1.rp_filter", 0)
    found = checks(g.client.run("doctor"))
    assert found["uplinks"]["state"] == "ok", found["uplinks"]
    assert found["uplinks"]["what"] == "eth0, and eth1 takes its place when it falls silent", found["uplinks"]
    silence()
    done = g.client.run("doctor")
    found = checks(done)
    assert done.status == 0 and found["broker"]["state"] == "ok", done.stdout
    assert found["uplinks"]["state"] == "warning", found["uplinks"]
    assert found["uplinks"]["what"] == "the first way out, eth0, is silent; eth1 is used", found["uplinks"]
    done = g.client.run("netcheck")
    told = done.event("netcheck")
    assert done.status == 0 and told["udp"] == "yes", done.stdout
    assert told["second_way"].startswith("the first way out, eth0, is silent; eth1 is used"), told


def test_a_second_uplink_that_the_kernel_does_not_let_in(gate):
    """rp_filter=1: it is said beforehand, and when the first one is silent."""
    g, silence = two_uplinks(gate)
    g.topo.client.ns.sysctl("net.ipv4.conf.eth1.rp_filter", 1)
    found = checks(g.client.run("doctor"))
    assert found["broker"]["state"] == "ok" and found["uplinks"]["state"] == "warning", found
    assert "rp_filter=1 drops" in found["uplinks"]["what"], found["uplinks"]
    assert found["uplinks"]["do"] == "sysctl -w net.ipv4.conf.eth1.rp_filter=2", found["uplinks"]
    silence()
    done = g.client.run("doctor")
    found = checks(done)
    assert done.status == 1 and "rp_filter=1 drops" in found["broker"]["what"], done.stdout
    said = g.client.run("netcheck", timeout=40, json=False).stderr
    assert "eth1 cannot take the place of eth0" in said and "rp_filter=2" in said, said
    g.topo.client.ns.run("sysctl", "-qw", "net.ipv4.conf.eth1.rp_filter=2")   # the cure
    assert checks(g.client.run("doctor"))["broker"]["state"] == "ok"


def test_both_uplinks_are_silent(gate):
    """The broker's firewall is not the first to be looked at, and both are named."""
    g, silence = two_uplinks(gate)
    g.topo.client.ns.sysctl("net.ipv4.conf.eth1.rp_filter", 0)
    silence()
    c = g.topo.sites["c"]
    mute(c.box, "eth1-client", c.lan_address(g.topo.client.last))
    found = checks(g.client.run("doctor", timeout=60))["broker"]
    assert found["state"] == "bad" and "neither through eth0 nor through eth1" in found["what"], found
    assert found["do"].startswith("look at what eth0 and eth1 are connected to"), found
    said = g.client.run("nc", HOST, "7000", timeout=60, json=False).stderr
    assert "neither through eth0 nor through eth1" in said, said


def test_a_silent_tunnel_is_named(joined):
    """All goes into a VPN that answers nothing: it is not gone around, and not the broker's."""
    ns = joined.client.ns
    ns.run("ip", "tuntap", "add", "dev", "vpn9", "mode", "tun")
    ns.batch("addr add 10.99.0.5/24 dev vpn9", "link set vpn9 up",
             "route add 0.0.0.0/1 dev vpn9", "route add 128.0.0.0/1 dev vpn9")
    found = checks(joined.client.run("doctor", timeout=60))["broker"]
    assert found["state"] == "bad" and "through the tunnel vpn9" in found["what"], found
    assert found["do"].startswith("look whether that VPN works"), found
    ns.batch("link del vpn9")


def test_the_clock_is_wrong(joined):
    g = joined
    g.client.set_clock(0)
    g.client.set_clock(3600)
    done = g.client.run("doctor")
    assert done.status == 1 and checks(done)["clock"]["state"] == "bad", done.stdout
    assert "60 min apart, this one ahead" in checks(done)["clock"]["what"] and "timedatectl" in checks(done)["clock"]["do"]
    g.client.set_clock(-365 * 86400)
    assert "they are 365 days apart, this one behind" in checks(g.client.run("doctor"))["clock"]["what"]


def test_a_broker_that_is_mute(joined):
    g = joined
    up = g.client.start("up")
    up.wait_event("path", 20)
    g.topo.cut_broker()
    done = g.client.run("doctor", timeout=30)
    found = checks(done)
    assert done.status == 1 and found["broker"]["state"] == "bad", done.stdout
    assert found["broker"]["do"] and "waiting: " in done.stderr, done.stderr
    g.broker_proc.kill()
    g.topo.mend_broker()
    wait_until(lambda: checks(g.client.run("doctor"))["up"]["state"] == "bad", 40, "up misses it")
    assert checks(g.client.run("doctor"))["broker"]["state"] == "bad"


def test_a_resolver_that_is_dead(gate, etc):  # noqa: F811
    g = gate(host="none", client="none")
    etc(g.topo.broker, hosts=f"{NO_BROKER}{BROKER} {NAME}\n", resolv_conf=DEAD_DNS)
    link = g.start_broker("--public", NAME)
    etc(g.topo.client.ns, hosts=NO_BROKER, resolv_conf=DEAD_DNS)
    done = g.client.run("doctor", "--broker", link, timeout=30)
    found = checks(done)
    assert done.status == 1 and found["resolver"]["what"] == "it does not answer", done.stdout
    assert "resolv.conf" in found["resolver"]["do"] and "the resolver is asked" in done.stderr
    assert found["broker"]["state"] == "skipped", "it was never asked"
    assert found["broker"]["what"] == "its name cannot be resolved", found
    g.client.ns.ip("link", "set", "eth0", "down")
    g.client.ns.ip("link", "add", "dark0", "type", "veth", "peer", "name", "dark1")   # its other end stays down
    g.client.ns.ip("link", "set", "dark0", "up")
    g.client.ns.ip("addr", "add", "192.0.2.1/24", "dev", "dark0")
    done = g.client.run("doctor", "--broker", link, timeout=30)
    found = checks(done)
    assert found["network"]["what"] == "no cable or signal on dark0", found["network"]
    for check in ("resolver", "broker"):
        assert (found[check]["state"], found[check]["what"]) == ("skipped", "no network"), found[check]
    said = g.client.run("netcheck", "--broker", link, timeout=40, json=False).stderr
    assert "no cable or signal on dark0" in said and "DNS" not in said, said


def test_a_name_that_leads_elsewhere_is_not_hidden_by_what_is_remembered(gate, etc):  # noqa: F811
    """A DNS server that lies: who found the broker before still does, and nobody else."""
    g = named(gate(host="none", client="none"), etc)
    other = BROKER + "9"
    g.topo.broker.ip("addr", "add", f"{other}/24", "dev", "eth0")
    g.topo.broker.ip("route", "replace", "default", "via", "192.0.2.1")

    def name():
        done = g.client.run("doctor", timeout=30)
        found = checks(done)
        assert found["broker"]["state"] == "ok", done.stdout
        return done.status, found.get("name")

    assert name()[1] is None
    for address, state, what in (("127.0.0.1", "bad", "nothing listens"), (other, None, None)):
        etc(g.topo.client.ns, hosts=f"{NO_BROKER}{address} {NAME}\n")
        status, found = name()
        if state is None:
            assert found is None, "the same broker, at another address"
            continue
        assert status == 1 and found["state"] == state and what in found["what"], found
        assert f"{NAME} leads to {address} now" in found["what"] and f"remembered, {BROKER}, works" in found["what"], found
    liar = g.other_client("liar", g.topo.client.ns)
    proc = liar.start("broker", "--listen", "127.0.0.1:443", "--public", "127.0.0.1:443", "--no-portal")
    proc.wait_event("ready", 15)
    etc(g.topo.client.ns, hosts=f"{NO_BROKER}127.0.0.1 {NAME}\n")
    status, found = name()
    assert status == 1 and "another key answers" in found["what"] and found["do"], found


def test_a_daemon_that_is_stopped(joined):
    g = joined
    g.host_proc.signal(signal.SIGSTOP)
    done = g.host.run("doctor")
    g.host_proc.signal(signal.SIGCONT)
    serve = checks(done)["serve"]
    assert done.status == 1 and serve["state"] == "bad" and "kill -CONT" in serve["do"], serve


def test_a_damaged_list_and_an_open_directory(joined):
    g = joined
    os.chmod(g.client.state, 0o750)
    assert checks(g.client.run("doctor"))["state"]["state"] == "warning"
    os.chmod(g.client.state, 0o700)
    with open(os.path.join(g.client.state, "book.db"), "r+b") as f:
        f.write(b"\0" * 200)
    done = g.client.run("doctor")
    assert done.status == 1 and checks(done)["state"]["state"] == "bad", done.stdout


def secrets_of(state):
    """Every key and secret in its databases, as text and as they are printed."""
    found = set()
    for name in os.listdir(state):
        if not name.endswith(".db"):
            continue
        db = sqlite3.connect(os.path.join(state, name))
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in db.execute(f"SELECT * FROM {table}"):
                found |= {v.hex() for v in row if isinstance(v, bytes) and len(v) >= 8}
                found |= {v for v in row if isinstance(v, str) and "postern://" in v}
        db.close()
    return found


def test_a_report_tells_nobody_anything(joined):
    g = joined
    env = {"USER": "wilhelmine", "HOME": "/home/wilhelmine", "LOGNAME": "wilhelmine"}
    for who in (g.client, g.host):
        who.more_env = {**who.more_env, **env}
    g.client.start("up").wait_event("path", 20)
    g.host.run("access", "add", "kunigunde", "--services", "peer", stdin=b"correct horse battery\n")
    device = g.host.run("ls", "--devices").event("client")["name"]
    keys = {g.client.run("keys").event("key")["key"], g.host.run("keys").event("key")["key"]}
    link = g.invite()
    host, client = g.topo.host.address, g.topo.client.address
    for who in (g.client, g.host):
        path = os.path.join(g.work, f"report-{os.path.basename(who.state)}")
        done = who.run("doctor", "--report", path, json=False)
        assert done.status == 0 and f"written: {path}" in done.stdout, done.stdout + done.stderr
        assert os.stat(path).st_mode & 0o777 == 0o600
        with open(path, encoding="utf-8") as f:
            text = f.read()
        assert "ok: broker: <" in text and "netcheck: {" in text and "status of serve:" in text, text
        assert re.search(r"<(host|device|machine)-1>", text), text
        hidden = {BROKER, host, client, device, "kunigunde", "wilhelmine", os.uname().nodename, g.work,
                  who.state, g.link, link, link.rsplit("/", 1)[1]} | keys | secrets_of(who.state)
        for word in hidden:
            assert not re.search(rf"\b{re.escape(word)}\b", text, re.I), (word, text)
        assert not re.search(rf"\b{HOST}\b", text), text
        assert not re.search(r"\b\d+\.\d+\.\d+\.\d+\b|[a-z2-7]{26}|[0-9a-f]*::[0-9a-f]", text), text
        says(who.run("doctor", "--report", path, json=False), 1, "cannot be written")


@pytest.mark.needs("setpriv")
def test_a_directory_that_takes_nothing_is_not_called_whole(joined, work):
    """As an ordinary user, to whom modes mean something."""
    g = joined
    g.client.run("keys")
    os.chmod(work, 0o755)
    for top, _, names in os.walk(g.client.state):
        for path in (top, *(f"{top}/{n}" for n in names)):
            os.chown(path, NOBODY, NOBODY)

    def state():
        done = g.programs.run(g.client.ns, "doctor", *AS_NOBODY, postern(), "doctor", "--json", env=g.client.env, timeout=30)
        return checks(done)["state"]
    assert state()["state"] == "ok"
    for path, mode in ((g.client.state, 0o700), (f"{g.client.state}/book.db", 0o600)):
        os.chmod(path, mode & ~0o200)
        assert state()["state"] == "bad" and "may not write" in state()["what"] and "chmod" in state()["do"], state()
        os.chmod(path, mode)
    assert state()["state"] == "ok"
