"""Whatever is wrong, one line says what and what to do, with the documented status;
nothing crashes, hangs or is lost, and nobody else is disturbed."""

import hashlib
import os
import signal
import sqlite3
import time

import pytest

from .actors import HOST, PEER, Actor, postern, wait_direct
from .conftest import full
from .net import patience, run, wait_until
from .topology import BROKER

pytestmark = pytest.mark.postern
NOBODY = 65534


def says(done, status, *words):
    """One line on stderr, `postern: WHAT; DO`, with one of `words`, and that status.
    Before it some may have said, after 1 s, what was waited for, no reason twice."""
    lines = done.stderr.splitlines()
    waited = [line for line in lines if line.startswith("postern: warning: waiting: ")]
    if waited:
        assert len(waited) == len(set(waited)) <= 2 and lines[:len(waited)] == waited, done.stderr
        del lines[:len(waited)]
        assert done.seconds > 0.9, "too early to speak of waiting"
    allowed = status if isinstance(status, tuple) else (status,)
    assert done.status in allowed, (done.argv, done.status, done.stdout, done.stderr)
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("postern: ") and "; " in lines[0], lines[0]
    assert len(lines[0]) < 600
    if words:
        assert any(w.lower() in lines[0].lower() for w in words), (words, lines[0])


@pytest.fixture
def served(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("peer=7000")
    return g


# ----------------------------------------------------------------------------- usage

@pytest.mark.parametrize("args", [
    ["nosuchcommand"], ["join"], ["connect"], ["nc", "home"], ["nc", "home", "99999"],
    ["nc", "home", "--", "-1"], ["nc", "", ""], ["connect", "home:0"], ["netcheck"], ["serve", "--nosuch"],
    ["connect", "--paths", "pigeon", "home:22"], ["ping"], ["revoke"],
    ["invite", "--expires", "soon"], ["invite", "--uses", "-3"], ["invite", "--uses", "x"],
    ["connect", "home"], ["connect", "home:22", "999.1.1.1:70000"],
    ["socks", "--listen", "nowhere"], ["broker", "--listen", "300.1.1.1:443"],
    ["broker", "--domain", "no domain"], ["broker", "--key", "/dev/null"],
], ids=" ".join)
def test_wrong_usage_is_2(here, args):
    says(here.run(args[0], *args[1:], json=False), 2)


_NO_SERVICES = ["99999", "0", "70000", "web=host:x", "web=80,x=81", "web=", "=80", "dns=udp:", "web=host:port", "x=1.2.3.4", "udp:0",
                "-1", "a b=1"]


@pytest.mark.parametrize("service", _NO_SERVICES)
def test_service_that_cannot_be(here, service):
    says(here.run("serve", "--name", "x", "--", service, json=False), 2)


def test_service_that_cannot_be_told_to_a_host(served):
    """Here nothing but the service is wrong."""
    fresh = served.other_client("fresh", ns=served.topo.host.ns)
    for who in (fresh, served.host):
        for services in [[x] for x in _NO_SERVICES] + [["80", "80"], ["w=80", "W=81"]]:
            who.run("keys")
            if who is served.host and served.host_proc.running:
                assert served.host_proc.terminate() == 0
            says(who.run("serve", "--broker", served.link, "--", *services, json=False),
                 2, "is not a port", "cannot be the name", "two services are called")
    served.start_host("peer=7000")
    for service in _NO_SERVICES:
        says(served.host.run("serve", "--reload", "--", service, json=False), 2,
             "is not a port", "cannot be the name")
    assert served.host_proc.running and not served.host_proc.find("reloaded")


def test_reload_takes_what_it_can_change(served):
    """All else is refused in one line: nothing of it would hold."""
    g = served
    for option in (["--broker", "nonsense"], ["--name", "other"], ["--paths", "relay"],
                   ["--agent"], ["--via", "x"], ["--dial-out"], ["--agent-forget", "x"]):
        says(g.host.run("serve", "--reload", *option, json=False), 2, "does nothing with")
    for value in ("x", "400d", "9s"):
        says(g.host.run("serve", "--reload", "--absent", value, json=False), 2,
             "is not a time that --absent takes")
    says(g.host.run("serve", "--agent-forget", "x", "80", json=False), 2, "no service")
    assert not g.host_proc.find("reloaded")
    assert g.host.run("serve", "--reload", "--absent", "10s", json=False).status == 0
    g.join()
    proc = g.connect("peer")
    flow = g.client.start_peer("flow", "127.0.0.1", proc.port, 60)
    flow.wait_line("at ")
    assert g.host.run("status").event("session")
    proc.signal(signal.SIGSTOP)
    try:
        wait_until(lambda: not g.host.run("status").event("session"), 40,
                   "it is waited for no longer than that")
    finally:
        proc.kill()


def test_what_a_host_says_of_its_own_list(served):
    g = served
    says(g.host.run("invite", "--expires", "400d", json=False), 2, "at most 365d")
    g.host.run("access", "add", "anna", "--services", "all", stdin=b"longenough1\n")
    says(g.host.run("access", "add", "Anna", "--services", "all", json=False,
                    stdin=b"longenough1\n"), 1, "an account 'anna' already")
    assert g.host_proc.terminate() == 0
    says(g.host.run("discover", "7000", json=False), 1, "published already, as peer")


def test_socks_says_what_it_turns_down(served):
    """The program that asked sees a number at best."""
    g = served
    g.join()
    proc = g.client.start("socks", "--listen", "127.0.0.1:0")
    port = int(proc.wait_event("ready", 10)["listen"].rsplit(":", 1)[1])
    for target, code in (("nowhere:80", "not-found"), (f"{HOST}:81", "not-found")):
        assert g.client.peer("endless", "127.0.0.1", port, "GET", target).status != 0
        proc.wait_event("refused", 15, peer=target.split(":")[0], code=code)


def test_ping_says_once_what_is_switched_off(served):
    g = served
    g.join()
    done = g.client.run("ping", "--why", HOST, json=False, timeout=30)
    assert done.status == 0 and done.stdout.count("not dial-out: off") == 1, done.stdout


def test_help_and_version(here):
    for args in (["--help"], ["--version"], ["serve", "--help"], ["connect", "--help"]):
        done = here.run(args[0], *args[1:], json=False)
        assert done.status == 0 and done.stdout and not done.stderr, args


@pytest.mark.parametrize("args", [
    ["serve", "--broker", "--state", "x"], ["serve", "80", "--name", "-v"],
    ["invite", "--uses", "--json"], ["access", "add", "anna", "--services", "--code"],
    ["ping", "home", "-c", "--all"], ["broker", "--listen", "--open"]], ids=" ".join)
def test_value_that_is_an_option(here, args):
    says(here.run(args[0], *args[1:], json=False), 2, "looks like an option")


def test_help_names_what_it_speaks_of(here):
    for command in ("serve", "run", "join", "connect", "nc", "socks", "up", "ping"):
        text = here.run(command, "--help", json=False).stdout
        for kind in ("udp-punch", "tcp-punch", "jit-listen", "jit-listen-client",
                     "udp-knock", "tcp-knock", "mapped", "mapped-tcp", "dial-out", "spoof",
                     "relay"):
            assert kind in text.replace(",", " ").split(), (command, kind)
    invite = here.run("invite", "--help", json=False).stdout
    access = here.run("access", "--help", json=False).stdout
    assert "account" not in invite and "the link is good" in invite, invite
    assert "a link" not in access and "what the account may use" in access, access


def test_nothing_to_do_is_said(here):
    for command in ("up", "socks"):
        proc = here.programs.start(None, command, postern(), command, env=here.env)
        proc.wait_line("No host joined yet: postern join LINK")
        assert proc.terminate() == 0


@pytest.mark.parametrize("link", [
    "", "hello", "postern://", "http://example.net/", "postern://192.0.2.10:443/i/",
    "postern://192.0.2.10:443/i/aaaaaaaa", "postern://192.0.2.10:99999/i/aaaa",
    "postern://[::1/i/aaaa", "postern://" + "a" * 5000, "postern://x:443/z/abcd",
    "\xff\xfe", "postern://192.0.2.10:443/i/" + "7" * 300])
def test_links_that_are_none(here, link):
    says(here.run("join", link, json=False), 2, "link")
    for command in (["serve", "--broker", link, "80"], ["netcheck", "--broker", link],
                    ["run", "--yes", "--broker", link, "--", "true"]):
        says(here.run(*command, json=False), 2, "link", "--broker")


def test_nothing_served_here_yet(here):
    says(here.run("invite", json=False), 1, "serve")


def test_unknown_host_is_named(here):
    says(here.run("nc", "nosuch", "22", json=False), 1, "nosuch")
    says(here.run("connect", "nosuch:22", json=False), 1, "nosuch")
    says(here.run("ping", "nosuch", json=False), 1, "nosuch")
    says(here.run("revoke", "nosuch", json=False), 1, "nosuch")


def test_words_that_a_terminal_would_obey_are_shown_plain(here):
    """Whoever chose them: the line stays one line and steers nothing."""
    done = here.run("nc", "\x1b[2J\x1b]0;x\x07\u009bevil\npostern: fine", "22", json=False)
    says(done, 1, "evil")
    assert all(c.isprintable() for c in done.stderr.rstrip("\n")), repr(done.stderr)


def test_error_event_goes_with_the_line(here):
    done = here.run("nc", "nosuch", "22")
    says(done, 1, "nosuch")
    event = done.event("error")
    assert event and event["what"] and event["do"], done.stdout


# ----------------------------------------------------------------------------- links

def test_mangled_invite(served):
    g = served
    link = g.invite()
    at = len(link) - 20
    other = "b" if link[at] != "b" else "c"
    for wrong in (link[:at] + other + link[at + 1:], link[:-3], link + "a",
                  link.replace("/i/", "/b/"), link.replace(":443", ":444")):
        says(g.client.run("join", wrong, json=False), 2, "link")
    assert g.client.run("join", f"  {link}\n").status == 0, "white space is no harm"


def test_broker_link_is_no_invite(served):
    says(served.client.run("join", served.link, json=False), 2, "invite")


def test_a_link_as_it_is_copied_out_of_a_sentence(served):
    done = served.client.run("join", f"<{served.invite()}>,", json=False)
    assert done.status == 0, done.stderr


def test_invite_is_no_broker_link(served):
    link = served.invite()
    other = served.other_client("x")
    says(other.run("serve", "--broker", link, "80", json=False), 2, "link")


def test_used_invite(served):
    link = served.invite()
    served.join(None, link)
    again = served.other_client("again").run("join", link, json=False)
    says(again, 1, "invite", "used")
    same = served.client.run("join", link, json=False)
    assert same.status == 0, "the device that used it is in: " + same.stderr
    assert "joined home: peer" in same.stdout and "on its list already" in same.stdout, same.stdout


def test_an_invite_that_gives_nothing_says_so(served):
    """A device on the list comes with another's invite, or an expired one."""
    g = served
    done = g.host.run("invite", "--services", "peer", "--expires", "1s")
    expired, fresh, gains = done.event("invite")["link"], g.invite(), g.invite()
    g.join(None, g.invite())
    g.other_client("again").run("join", fresh)
    wait_until(lambda: "spent" in g.client.run("join", expired).event("joined"), 10, "it has expired")
    joins = g.host_proc.stdout.count('"joined"')
    assert "gave it nothing" in g.client.run("join", fresh).event("joined")["spent"]
    assert "spent" not in g.client.run("join", gains).event("joined"), "this one is good"
    said = g.client.run("join", fresh, json=False)
    assert said.status == 0 and "this device was on its list already, and the invite, used up or expired, gave" in said.stdout
    assert g.host_proc.stdout.count('"joined"') <= joins + 1, "that of the good one"


def test_joining_twice_with_one_device_is_no_harm(served):
    served.join()
    served.join()
    done = served.client.run("nc", HOST, "peer", json=False, stdin=b"GET 5 1\n")
    assert done.status == 0, done.stderr


def test_unknown_service(served):
    served.join()
    says(served.client.run("nc", HOST, "nosuch", json=False, stdin=b""), 1, "nosuch")
    says(served.client.run("nc", HOST, "9999", json=False, stdin=b""), 1, "9999")


# --------------------------------------------------------------------------- the broker

def test_broker_is_down(served):
    g = served
    link = g.invite()
    g.join()
    g.broker_proc.kill()
    says(g.other_client("late").run("join", link, json=False, timeout=40), 1, "broker")
    says(g.client.run("nc", HOST, "peer", json=False, stdin=b"", timeout=40), 1)


def test_broker_is_unreachable(served):
    g = served
    link = g.invite()
    g.join()
    g.topo.cut_broker()
    late = g.other_client("late")
    for who, *args in ((late, "join", link), (g.client, "nc", HOST, "peer"),
                       (g.client, "ping", HOST), (g.client, "ping", HOST, "--all")):
        done = who.run(*args, json=False)
        says(done, 1, "cannot be reached")
        assert done.seconds < (15 if "--all" in args else 9) * patience(), args
        assert "no address" not in done.stdout, done.stdout


_SILENT = """
import socket
s = socket.create_server(("0.0.0.0", 443))
kept = []
while True:
    kept.append(s.accept())
    print("came", len(kept), flush=True)
"""


def cpu_s(proc):
    with open(f"/proc/{proc.popen.pid}/stat", encoding="ascii") as f:
        parts = f.read().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def test_a_broker_that_accepts_and_is_silent_costs_nothing(served):
    """Neither the host nor a client turns while it waits for the first answer."""
    g = served
    g.join()
    g.broker_proc.kill()
    silent = g.programs.start(g.topo.broker, "silent", PEER[0], "-c", _SILENT)
    silent.wait_line("came 1", 30)
    client = g.client.start("up")
    silent.wait_line("came 2", 30)
    waiting, begin = [g.host_proc, client], time.monotonic()
    before = [cpu_s(p) for p in waiting]
    silent.wait_line("came 4", 60)   # both have waited for a whole handshake
    took = time.monotonic() - begin
    used = [cpu_s(p) - b for p, b in zip(waiting, before)]
    assert max(used) < 0.1 + 0.05 * took, f"{used} s of CPU in {took:.1f} s"


def test_broker_has_another_key(served):
    g = served
    link = g.invite()
    g.broker_proc.kill()
    os.rename(g.broker.state, g.broker.state + ".old")
    g.start_broker()
    says(g.client.run("join", link, json=False, timeout=40), 1, "key")


RESETS = ("import socket, struct\ns = socket.socket()\ns.setsockopt(1, 2, 1)\n"
          "s.bind(('', 443))\ns.listen(50)\nprint('ready', flush=True)\nwhile True:\n"
          " c, _ = s.accept()\n c.recv(1)\n"
          " c.setsockopt(1, 13, struct.pack('ii', 1, 0))\n c.close()\n")


def test_what_ends_speaks_of_no_other_try(served):
    served.broker_proc.terminate()
    other = served.programs.start(served.topo.broker, "resets", "python3", "-c", RESETS)
    other.wait_line("ready")
    for i, (command, more) in enumerate((("serve", ["22"]), ("netcheck", []))):
        done = served.other_client(f"x{i}").run(command, "--broker", served.link, *more,
                                                json=False)
        says(done, 1, "try again in a moment")


def test_serve_waits_for_its_broker(served):
    g = served
    g.host_proc.terminate()
    g.broker_proc.kill()
    g.start_host("peer=7000", wait=False)
    g.start_broker()
    g.host_proc.wait_event("ready", 40)
    g.join()


def test_an_invite_before_the_first_broker_answered(served):
    g = served
    first = Actor(g.programs, g.host.ns, g.host.state + "-first")
    g.broker_proc.popen.send_signal(signal.SIGSTOP)
    waits = g.programs.start(g.host.ns, "serve", postern(), "serve", "--broker", g.link, "7000", env=first.env)

    def asked():
        return first.run("invite", json=False)
    try:
        wait_until(lambda: os.path.exists(first.state + "/serve.lock"), 20, "it waits")
        wait_until(lambda: "serve' here (process" in asked().stderr, 10, asked().stderr)
        assert "still waits for its broker, of which an invite speaks; see what it says" in asked().stderr
        assert waits.running
    finally:
        g.broker_proc.popen.send_signal(signal.SIGCONT)
    waits.wait_line("Next: 'postern invite'")
    assert asked().status == 0
    waits.terminate()


def test_habits_of_other_programs(served, work):
    """What people type who know ssh, and files whose names begin with a dash."""
    g = served
    g.join()
    for words in (["-p", "22", HOST], ["-L", "1:h:2", f"me@{HOST}"]):
        says(g.client.run("ssh", *words, json=False), 2, "ssh's own options stand behind the host, as in: postern ssh me@home -p")
    says(g.client.run("ssh", f"@{HOST}", json=False), 2, f"'@{HOST}' is not a host")
    with open(f"{work}/-dash", "w", encoding="ascii"):
        pass
    g.client.wrapper = ["env", "-C", work]
    says(g.client.run("send", "-dash", HOST, json=False), 2, "for the file of that name: postern send -- -dash")
    for port in ("22", "ssh"):
        says(g.client.run("open", f"{HOST}:{port}", json=False), 2, f"log in there: postern ssh {HOST}")
    says(g.client.run("connect", f"{HOST}:8000-8010", json=False), 2, "'8000-8010' is a range; name each")
    says(g.other_client("never").run("share", work, json=False), 1, "start it first: 'postern serve --broker LINK 22'")


def test_host_is_offline(served):
    g = served
    g.join()
    g.host_proc.terminate()
    for args in (["nc", HOST, "peer"], ["ping", HOST], ["ping", HOST, "--all"],
                 ["ping", HOST, "--timeout", "2"]):
        done = g.client.run(*args, json=False, stdin=b"")
        says(done, 1, f"{HOST} is not online at its broker")
        assert done.seconds < 6 * patience(), args


@pytest.mark.parametrize("away", ["host", "broker"])
def test_connect_waits_for_host_and_broker(served, away):
    """It says why, once, and goes on when they are back."""
    g = served
    g.join()
    proc = g.host_proc if away == "host" else g.broker_proc
    proc.kill()
    connect = g.client.start("connect", f"{HOST}:peer", "127.0.0.1:0")
    words = "is not online" if away == "host" else "nothing listens"
    connect.wait_line(words, 10, stream="err")
    proc = g.start_host if away == "host" else g.start_broker
    time.sleep(7 if full() else 1)    # some tries more
    proc("peer=7000") if away == "host" else proc()
    connect.wait_event("ready", 20)
    lines = connect.stderr.splitlines()
    assert sum(words in line for line in lines) == 1 and len(lines) <= 2, lines
    connect.terminate()


def test_status_knows_who_was_refused(served):
    """No path in use, the reason, and a connection is told at once, by `up` and without."""
    g = served
    g.join()
    up = g.client.start("up")
    up.wait_event("service", 15)
    name = g.host.run("ls", "--devices").event("client")["name"]
    assert g.host.run("revoke", name).status == 0
    up.wait_event("left", 10)
    status = g.client.run("status")
    assert not status.event("path"), status.stdout
    assert "removed" in status.event("rejected", kind="udp-punch")["reason"], status.stdout
    for kinds in ((), ("--paths", "relay")):
        done = g.client.run("nc", HOST, "peer", *kinds, json=False, stdin=b"")
        says(done, 1, "removed")
        assert done.seconds < 5 * patience()


def test_status_while_the_broker_is_away(served):
    g = served
    g.join()
    g.broker_proc.kill()
    up = g.client.start("up")
    up.wait_event("left", 10)
    status = g.client.run("status")
    assert status.event("broker", state="lost"), status.stdout
    assert status.event("host", state="offline"), status.stdout
    for e in status.events:
        if e["event"] == "rejected" and e["kind"] not in ("dial-out", "spoof"):
            assert e["reason"].startswith("not tried: nothing listens at the broker"), e
    left = [e for e in up.events if e["event"] == "left"]
    assert len(left) == 1, left


def test_enrolment_needs_the_token(served):
    """A broker link without its token, whole in itself, admits no new host."""
    g = served
    payload = g.link.rsplit("/", 1)[1]
    other = g.other_client("x")
    says(other.run("serve", "--broker", g.link.replace(payload, payload[:-8]), "80",
                   json=False), (1, 2), "link")


def test_broker_name_that_does_not_resolve(served):
    link = served.invite().replace(BROKER, "no-such-name.invalid")
    says(served.client.run("join", link, json=False, timeout=40), (1, 2))


# ------------------------------------------------------------------- ports, rights, disks

def test_port_is_taken(served):
    g = served
    g.join()
    g.client.start_peer("tcp-server", 5000)
    says(g.client.run("connect", f"{HOST}:peer", "127.0.0.1:5000", json=False), 1, "5000")
    says(g.client.run("socks", "--listen", "127.0.0.1:5000", json=False), 1, "5000")
    says(g.other_client("b2", g.topo.broker).run(
        "broker", "--listen", "0.0.0.0:443", json=False), 1, "443")


def test_second_serve_in_one_state_directory(served):
    says(served.host.run("serve", "--broker", served.link, "80", json=False), 1)
    assert served.host_proc.running


def test_second_broker_says_what_is_in_the_way(served):
    """The state directory, the port, or both: whichever is."""
    g = served
    listen = ("--listen", "0.0.0.0:443")
    both = g.broker.run("broker", *listen, json=False)
    says(both, 1, "already runs with " + g.broker.state)
    assert "it has that port" in both.stderr and "another program" not in both.stderr, both.stderr
    directory = g.broker.run("broker", "--listen", "0.0.0.0:4443", json=False)
    says(directory, 1, "already runs with " + g.broker.state)
    assert "taken" not in directory.stderr, directory.stderr
    other = Actor(g.programs, g.topo.broker, g.broker.state + "-other")
    port = other.run("broker", *listen, json=False)
    says(port, 1, "port 0.0.0.0:443 is taken")
    assert "already runs" not in port.stderr and g.broker_proc.running, port.stderr


def test_units_restart_nothing_that_a_person_must_mend(here):
    """Not configured is status 2, and the units that are installed end there."""
    says(here.run("serve", json=False), 2, "no broker is given")
    root = os.path.join(os.path.dirname(__file__), "..", "..", "tools")
    for name in ("broker", "serve", "up"):
        with open(os.path.join(root, f"postern-{name}.service.in"), encoding="utf-8") as f:
            lines = f.read().splitlines()
        assert "RestartPreventExitStatus=2" in lines and "RestartSec=5" in lines, name
        assert lines.index("StartLimitIntervalSec=0") < lines.index("[Service]"), name


def test_log_names_the_device_and_not_the_relay(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("peer=7000")
    g.join()
    entry, = [e for e in g.host.run("log").events if e["what"] == "joined"]
    assert entry["from"] == "203.0.113.2" and ", over " in entry["detail"], entry


def test_a_kind_that_cannot_come_is_not_waited_for(gate):
    """The reason is told while one waits, and the wait is not for ever."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("peer=7000")
    g.join()
    begin = time.monotonic()
    for kind, proc in [(k, g.programs.start(g.client.ns, f"nc-{k}", postern(), "nc",
                                            "--paths", k, HOST, "7000", env=g.client.env))
                       for k in ("udp-knock", "mapped")]:
        assert proc.wait(45) == 1 and time.monotonic() - begin < 30 * patience(), proc.stderr
        lines = proc.stderr.splitlines()
        assert lines[-1].startswith(f"postern: no way to home was found: {kind}: "), lines
        assert "tried again" not in proc.stderr, lines
        assert any(f"waiting: no way to home yet: {kind}: " in line for line in lines), lines


def test_a_host_says_under_which_name_it_is_reached(served):
    g = served
    g.host_proc.terminate()
    for name in ("other", HOST):    # nobody goes on with a name, for nobody has joined
        renamed = g.host.start("serve", "--name", name)
        renamed.wait_event("ready", 20)
        renamed.terminate()
        assert "joined before" not in renamed.stderr, renamed.stderr
    g.start_host()
    g.join()
    g.host_proc.terminate()
    proc = g.host.start("serve", "--name", "My H\u00f6me")
    proc.wait_event("ready", 20)
    wait_until(lambda: "reach this host as 'my-h-me'" in proc.stderr, 5, "its name")
    assert "those that joined before as it was called then" in proc.stderr, proc.stderr
    assert g.client.run("nc", HOST, "peer", json=False, stdin=b"").status == 0


def test_words_say_what_is_wrong(served):
    g = served
    for mistake in ("70000", "0", "web="):   # before the one that runs is waited for
        done = g.host.run("serve", mistake, json=False)
        assert done.status == 2 and "runs" not in done.stderr, done.stderr
    says(g.other_client("x").run("serve", "--broker", g.link, "a" * 64 + "=80", json=False),
         2, "too long")
    meant = g.other_client("y", ns=g.topo.host.ns).start("serve", "--broker", g.link,
                                                         "nosuch:8080")
    meant.wait_event("ready", 30)
    assert "did you mean nosuch=8080?" in meant.stderr, meant.stderr
    says(g.host.run("access", "add", "anna", "--services", "peer", stdin=b"", json=False),
         1, "no password was given")
    g.join()
    done = g.client.run("join", g.invite(), "--name", "other", json=False)
    assert done.status == 0 and "keeps its name" in done.stderr, done.stderr


def test_ended_and_started_anew_at_once(served):
    """As people restart by hand: the new one waits for the old one to take its leave."""
    g = served
    g.join()
    old = g.host_proc
    old.signal(signal.SIGTERM)
    g.start_host("peer=7000")
    assert not old.running
    assert g.client.run("nc", HOST, "peer", json=False, stdin=b"").status == 0


def as_nobody(actor, *args):
    return actor.programs.run(
        actor.ns, args[0], "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}",
        "--clear-groups", "--inh-caps=-all", "--bounding-set=-all", postern(), *args,
        env={**actor.env, "HOME": "/nonexistent"})


def test_no_permission(served, work):
    g = served
    os.makedirs(f"{work}/closed", mode=0o700)
    closed = Actor(g.programs, g.topo.client.ns, f"{work}/closed/state")
    says(as_nobody(closed, "keys"), 1, "permission", "denied")
    os.makedirs(f"{work}/open")
    os.chown(f"{work}/open", NOBODY, NOBODY)
    os.chmod(work, 0o755)
    own = Actor(g.programs, g.topo.stranger, f"{work}/open/state")
    says(as_nobody(own, "broker", "--listen", "0.0.0.0:443"), 1, "443", "permission")


def test_a_mode_that_keeps_the_owner_out(served, work):
    fresh = Actor(served.programs, served.topo.host.ns, f"{work}/nobodys")
    os.chmod(work, 0o755)
    os.mkdir(fresh.state, 0o700)
    os.chown(fresh.state, NOBODY, NOBODY)
    assert as_nobody(fresh, "keys").status == 0
    os.chmod(f"{fresh.state}/device.db", 0)
    says(as_nobody(fresh, "keys"), 1, "chmod u+rw")


def test_home_that_cannot_be_written(programs, work):
    home = f"{work}/home"
    os.mkdir(home)
    os.chmod(work, 0o755)
    run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", home)
    try:
        for env in ({"HOME": home, "POSTERN_STATE": ""}, {"POSTERN_STATE": f"{home}/a/b"}):
            done = programs.run(None, "keys", "setpriv", f"--reuid={NOBODY}",
                                f"--regid={NOBODY}", "--clear-groups", postern(), "keys",
                                env={**env, "XDG_STATE_HOME": ""})
            says(done, 1, "read-only disk")
    finally:
        run("umount", "-l", home)


def test_state_is_a_file(here):
    with open(here.state, "w", encoding="ascii") as f:
        f.write("not a directory")
    says(here.run("keys", json=False), 1, "directory")


@pytest.fixture
def small_disk(work):
    """A full file system: 768 KiB, of which nothing is left."""
    path = f"{work}/disk"
    os.makedirs(path)
    run("mount", "-t", "tmpfs", "-o", "size=768k,mode=755", "tmpfs", path)
    yield path
    run("umount", "-l", path)


def fill(path):
    with open(f"{path}/filler", "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"x" * 4096)
        except OSError:
            pass


def test_disk_is_full(served, small_disk):
    g = served
    link = g.invite()
    full = Actor(g.programs, g.topo.client.ns, f"{small_disk}/state")
    fill(small_disk)
    says(full.run("join", link, json=False), 1, "full", "space")
    os.unlink(f"{small_disk}/filler")
    assert full.run("join", link).status == 0, "the invite was not used up in vain"
    link = g.invite()    # and where all files were there before
    full = Actor(g.programs, g.topo.client.ns, f"{small_disk}/state2")
    assert full.run("ls").status == 0
    fill(small_disk)
    says(full.run("join", link, json=False), 1, "full", "space")
    os.unlink(f"{small_disk}/filler")
    assert full.run("join", link).status == 0, "the invite was not used up in vain"
    assert [e["name"] for e in full.run("ls").events if e["event"] == "host"] == [HOST]


def test_disk_fills_under_a_running_host(gate, work, small_disk):
    g = gate(host="none", client="none")
    g.host.state = f"{small_disk}/state"
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    link = g.invite()
    fill(small_disk)
    says(g.host.run("invite", json=False), 1, "full", "space")
    late = g.other_client("late")
    says(late.run("join", link, json=False), 1, "the host's disk is full")
    wait_until(lambda: "disk" in g.host_proc.stderr, 5, "the host says it too")
    done = g.client.run("nc", HOST, "peer", json=False, stdin=b"GET 5 1\n")
    assert done.status == 0, done.stderr
    os.unlink(f"{small_disk}/filler")
    assert late.run("join", link).status == 0
    assert g.host.run("invite").status == 0
    assert g.host_proc.running


def small_disks(g, work):
    """Broker, host and client on one file system of 3 MiB."""
    path = f"{work}/disks"
    os.makedirs(path)
    run("mount", "-t", "tmpfs", "-o", "size=3m,mode=755", "tmpfs", path)
    for actor in (g.broker, g.host, g.client):
        actor.state = f"{path}/{os.path.basename(actor.state)}"
    return path


def test_a_limit_of_file_sizes_is_a_full_disk(gate):
    """RLIMIT_FSIZE, as `ulimit -f` and LimitFSIZE= set it: its log cannot grow, and the
    host serves on."""
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.host.wrapper = ["prlimit", "--fsize=102400"]
    g.start_host("7000")
    g.join()
    connect = g.connect("7000")
    for _ in range(12):
        done = g.client.peer("typist", "127.0.0.1", connect.port, 0.1)
        assert done.status == 0, done.stdout + g.host_proc.stderr
    assert g.host_proc.running, g.host_proc.stderr


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_what_only_reads_starts_on_a_full_or_read_only_disk(gate, work, how):
    """Everybody is started again there, and carries connections."""
    g = gate(host="none", client="none")
    path = small_disks(g, work)
    try:
        g.host.start_peer("tcp-server", 7000)
        g.up_and_joined("peer=7000")
        up = g.client.start("up")
        up.wait_event("service", 15)
        for proc in (up, g.host_proc, g.broker_proc):
            proc.terminate()
        fill(path)
        if how == "read-only":
            run("mount", "-o", "remount,ro", path)
        g.start_broker()
        g.start_host("peer=7000")
        up = g.client.start("up")
        service = up.wait_event("service", 15)
        port = service["local"].rsplit(":", 1)
        assert g.client.peer("get", *port, 100_000, 1).status == 0
        connect = g.connect("peer")
        assert g.client.peer("get", "127.0.0.1", connect.port, 100_000, 1).status == 0
        for kinds in ((), ("--paths", "relay")):   # by `up`, and without
            done = g.client.run("nc", HOST, "peer", *kinds, json=False,
                                stdin=b"GET 5 1\n")
            assert done.status == 0, done.stderr
        fresh = Actor(g.programs, g.client.ns, f"{path}/fresh")
        assert fresh.run("netcheck", "--broker", g.link).event("netcheck") and not os.path.exists(fresh.state)
        if how == "read-only":
            says(g.client.run("leave", HOST, json=False), 1, "book.db is on a read-only disk")
        for actor in (g.host, g.client):   # what only reads, beside them
            done = actor.run("log", json=False)
            assert done.status == 0 and done.stdout, done.stderr
        if how == "full":
            assert g.host.run("status").event("daemon", role="serve", running=True)
        for proc in (g.broker_proc, g.host_proc, up):
            said = [x for x in proc.stderr.splitlines() if "audit log" in x]
            assert len(said) <= 1, proc.stderr
    finally:
        g.programs.close()
        run("umount", "-l", path)


def databases(state):
    return [f"{state}/{name}" for name in os.listdir(state) if name.endswith(".db")]


def test_state_from_a_newer_version(here):
    assert here.run("keys").status == 0
    files = databases(here.state)
    assert files
    for path in files:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA journal_mode=DELETE")
            db.execute("PRAGMA user_version=9999")
    before = [hashlib.sha256(open(p, "rb").read()).digest() for p in files]
    says(here.run("keys", json=False), 1, "newer")
    assert before == [hashlib.sha256(open(p, "rb").read()).digest() for p in files]


@pytest.mark.parametrize("name", ["broker.db", "device.db", "host.db", "access.db",
                                  "book.db"])
def test_state_was_emptied(served, name):
    """No new identity, and no list without entries: one line, and the file as it is."""
    g = served
    g.join()
    g.broker_proc.terminate()
    g.host_proc.terminate()
    actor, command = {
        "broker.db": (g.broker, ["broker", "--listen", "127.0.0.1:4433"]),
        "book.db": (g.client, ["ls"]),
    }.get(name, (g.host, ["serve"]))
    path = f"{actor.state}/{name}"
    for size in (0, 50, 4096):
        os.truncate(path, size)
        says(actor.run(*command, json=False), 1, f"{name} was emptied", "damaged",
             "none of")
        assert os.path.getsize(path) == size


@pytest.mark.parametrize("role", ["broker", "host", "client"])
@pytest.mark.parametrize("start", [100, 0], ids=["pages", "all"])
def test_state_is_corrupted(served, role, start):
    g = served
    g.join()
    g.broker_proc.terminate()
    g.host_proc.terminate()
    actor = getattr(g, role)
    files = databases(actor.state)
    assert files
    for path in files:
        for extra in ("-wal", "-shm"):
            if os.path.exists(path + extra):
                os.unlink(path + extra)
        size = os.path.getsize(path)
        with open(path, "r+b") as f:
            f.seek(start)
            f.write(os.urandom(size - start))
    before = [hashlib.sha256(open(p, "rb").read()).digest() for p in files]
    args = {"broker": ("broker", "--listen", "127.0.0.1:444"),
            "host": ("serve", "--broker", g.link, "80"),
            "client": ("nc", HOST, "peer")}[role]
    says(actor.run(*args, json=False), 1, "damaged", "corrupt")
    after = [hashlib.sha256(open(p, "rb").read()).digest() for p in files]
    assert before == after, "damaged state is kept for whoever can mend it"


# ------------------------------------------------------------------------------ floods

_GARBAGE = '''
import os, random, socket, sys, time
address, seconds = sys.argv[1], float(sys.argv[2])
stop, kept, n = time.monotonic() + seconds, [], 0
hello = bytes.fromhex("160301")
preface = b"PSTN\\x01\\x01\\0\\0" + b"q" * 16
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while time.monotonic() < stop:
    n += 1
    for i in range(50):
        udp.sendto(os.urandom(random.randrange(1400)), (address, 443))
        udp.sendto(bytes.fromhex("000100002112a442") + os.urandom(12), (address, 443))
    s = socket.socket()
    s.settimeout(1)
    try:
        s.connect((address, 443))
        what = n % 6
        if what == 0: s.sendall(os.urandom(5000))
        if what == 1: s.sendall(hello + b"\\x02\\x00" + os.urandom(512))
        if what == 2: s.sendall(hello + b"\\xff\\xff" + os.urandom(60000))
        if what == 3: s.sendall(preface)
        if what == 4: s.sendall(preface[:7])
    except OSError:
        pass
    kept.append(s)
    if len(kept) > 400:
        kept.pop(0).close()
print("connections", n)
'''


def memory_kb(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(x.split()[1]) for x in f if x.startswith("VmRSS"))


def test_garbage_at_the_broker_disturbs_nobody(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "relay")
    flow = g.client.start_peer("flow", "127.0.0.1", proc.port, 8)
    flow.wait_line("at ")
    before = memory_kb(g.broker_proc.pid)
    junk = g.programs.start(g.topo.stranger, "garbage", PEER[0], "-c", _GARBAGE, BROKER, 6)
    while junk.running:
        other = g.other_client(f"other{time.monotonic_ns()}")
        g.join(other)
        done = other.run("nc", HOST, "7000", json=False, stdin=b"GET 9 1\n")
        assert done.status == 0, done.stderr
    assert junk.wait() == 0 and g.broker_proc.running
    assert memory_kb(g.broker_proc.pid) - before < 64_000
    flow.popen.send_signal(signal.SIGTERM)
    assert flow.wait(20) == 0, flow.stdout[-300:]
    gap = int(flow.stdout.split("gap_ms ")[1].split()[0])
    assert gap < 1500 * patience(), "the pair next door hardly notices"


def test_garbage_at_the_hosts_port_disturbs_nobody(gate):
    g = gate(host="none", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    proc = g.connect("peer")
    flow = g.client.start_peer("flow", "127.0.0.1", proc.port, 8)
    wait_direct(proc)
    ports = sorted({int(x.split()[3].rsplit(":", 1)[1])
                    for x in g.topo.host.ns.udp_sockets()})
    code = ("import os,random,socket,time\n"
            "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
            "stop=time.monotonic()+4\n"
            "while time.monotonic()<stop:\n"
            f" for port in {ports}:\n"
            "  body=bytes([random.choice((0,1,0x40,0x80,0xc3,0xff))])\n"
            "  body+=os.urandom(random.randrange(1400))\n"
            f"  s.sendto(body,('{g.topo.host.address}',port))\n")
    assert g.programs.run(g.topo.stranger, "junk", PEER[0], "-c", code).status == 0
    flow.popen.send_signal(signal.SIGTERM)
    assert flow.wait(20) == 0, flow.stdout[-300:]
    wait_until(lambda: g.host_proc.running, what="host")


def test_a_state_directory_of_others(programs, work):
    """Another user's is refused, but to root; so is what is open to others, with the cure."""
    os.chmod(work, 0o755)
    state = os.path.join(work, "state")

    def keys(*wrapper):
        return programs.run(None, "keys", *wrapper, postern(), "keys", "--state", state)
    done = keys()
    assert done.status == 0 and done.stderr == "", done.stderr
    os.chmod(state, 0o770)
    says(keys(), 1, f"chmod 700 {state}", "a group may write")
    os.chmod(state, 0o755)
    os.chmod(os.path.join(state, "device.db"), 0o644)
    says(keys(), 1, f"chmod 600 {state}/device.db", "may read the keys")
    os.chmod(state, 0o700)
    assert keys().stderr == "", "nobody else comes to that file"
    os.chmod(os.path.join(state, "device.db"), 0o600)
    os.chown(state, 1, 1)
    done = keys()
    assert done.status == 0 and "keys and lists of user 1" in done.stderr, done.stderr
    assert "chown" not in done.stderr, done.stderr   # it may be theirs rightly
    done = keys("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert done.status != 0 and "belongs to user 1" in done.stderr, done.stderr
