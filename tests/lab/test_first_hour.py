"""What a beginner types and reads: help, slips of the hand, what a host says when it
serves, and how one leaves a host."""

import os
import pty
import subprocess
import time

import pytest

from .actors import HOST, postern
from .net import patience, wait_until
from .test_badinput import says

pytestmark = pytest.mark.postern


@pytest.fixture
def served(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("peer=7000", "web=8080")
    return g


def alone(*words):
    return subprocess.run([postern(), *words], capture_output=True, text=True, timeout=20,
                          check=False)


def test_alone_it_prints_help():
    done = alone()
    assert done.returncode == 2 and done.stdout == alone("--help").stdout
    assert done.stderr.count("\n") == 1 and "no command was given" in done.stderr


def test_version():
    assert alone("version").stdout == alone("--version").stdout != ""
    assert alone("version").returncode == 0


@pytest.mark.parametrize("word, meant", [("srve", "serve"), ("Conect", "connect"), ("stats", "status"),
                                         ("jion", "join"), ("net-check", "netcheck")])
def test_a_command_with_a_slip(word, meant):
    done = alone(word)
    assert done.returncode == 2 and f"did you mean '{meant}'?" in done.stderr, done.stderr
    assert "did you mean" not in alone("frobnicate").stderr


def test_an_option_with_a_slip(here):
    assert "did you mean '--help'?" in alone("--helpp").stderr
    assert "did you mean '--version'?" in alone("-V").stderr
    says(here.run("invite", "--expire", "1h", json=False), 2, "did you mean '--expires'?")
    says(here.run("serve", "--brokr", "x", json=False), 2, "did you mean '--broker'?")


def test_hosts_and_services_with_a_slip(served):
    g = served
    g.join()
    for args in (("nc", "hoem", "peer"), ("ping", "hme"), ("leave", "homw")):
        says(g.client.run(*args, json=False), 1, f"did you mean '{HOST}'?")
    says(g.client.run("connect", f"{HOST}:perr", json=False), 1, "did you mean 'peer'?")
    says(g.client.run("nc", HOST, "pear", json=False, stdin=b""), 1, "did you mean 'peer'?")
    says(g.host.run("invite", "--services", "wbe", json=False), 1, "did you mean 'web'?")
    assert "did you mean" not in g.client.run("nc", "office", "22", json=False).stderr


def online(g):
    def state():
        return (g.client.run("status").event("host") or {}).get("state")
    wait_until(lambda: state() == "online", 20, "it is there")


def test_leave(served):
    g = served
    g.join()
    up = g.client.start("up")
    service = up.wait_event("service", 20)
    online(g)
    flow = g.client.start_peer("flow", service["local"].rsplit(":", 1)[0],
                               int(service["local"].rsplit(":", 1)[1]), 60)
    flow.wait_line("at ")
    nc = g.client.start("nc", HOST, "peer")
    done = g.client.run("leave", HOST.upper())
    assert done.status == 0 and done.event("unjoined")["host"] == HOST, done.stdout
    assert not g.client.run("ls").event("host")
    says(g.client.run("nc", HOST, "peer", json=False), 1, "none was joined yet")
    wait_until(lambda: not g.client.run("status").event("host"), 10, "up knows it no more")
    wait_until(lambda: not g.host.run("status").event("session"), 10, "nor does it keep a session")
    assert flow.wait(10) != 0, "what was open there has ended"
    nc.wait(10)
    says(g.client.run("leave", HOST, json=False), 1, "none was joined yet")
    g.join()   # and back
    online(g)
    assert up.running and g.client.run("nc", HOST, "peer", json=False, stdin=b"").status == 0
    done = g.client.run("leave", HOST, json=False)
    assert done.stdout == f"left {HOST}; where it still lists this device, 'postern revoke' there takes it off\n"


def serve_in_words(g, who, *args, **more):
    return who.programs.start(who.ns, "serve", postern(), "serve", "--broker", g.link, *args,
                              env=who.env, **more)


def test_serve_says_what_and_to_whom_and_what_next(served):
    g = served
    fresh = g.other_client("fresh", ns=g.topo.host.ns)
    proc = serve_in_words(g, fresh, "--name", "fresh", "peer=7000", "web=8080", "cam=192.0.2.77:554",
                          "dns=udp:5353")
    proc.wait_line("Nobody may come in yet. Next: 'postern invite' here, and")
    with open(proc.out_path, encoding="utf-8") as f:
        said = [" ".join(line.split()) for line in f]
    assert "peer tcp 127.0.0.1:7000 answers" in said, said
    assert "web tcp 127.0.0.1:8080 nothing listens there yet: start it" in said, said
    assert "dns udp 127.0.0.1:5353 nothing listens there yet: start it" in said, said
    assert "cam tcp 192.0.2.77:554 on another machine: 'postern doctor' tries it" in said, said
    assert proc.terminate() == 0
    g.join()
    device = g.host.run("ls", "--devices").event("client")["name"]
    assert g.host_proc.terminate() == 0
    proc = serve_in_words(g, g.host)
    proc.wait_line(f"For {device}. One more device: 'postern invite'.")


def test_a_colon_for_an_equals_sign_is_asked_about(served):
    """On a terminal; elsewhere it is a warning (test_words_say_what_is_wrong)."""
    g = served
    for answer, name in ((b"\n", "nosuch=8080"), (b"n\n", "nosuch:8080")):
        who = g.other_client(name[6:7].replace("=", "yes").replace(":", "no"), ns=g.topo.host.ns)
        ours, theirs = pty.openpty()
        proc = who.programs.start(who.ns, "serve", "setsid", "--ctty", "--wait", postern(), "serve", "--json",
                                  "--broker", g.link, "--name", "x", "nosuch:8080", env=who.env, stdin=theirs)
        os.close(theirs)
        asked = b""
        while b"[Y/n]" not in asked:
            asked += os.read(ours, 4096)
        assert b"Publish port 8080 of this machine as nosuch (nosuch=8080)?" in asked
        os.write(ours, answer)
        proc.wait_event("ready", 20)
        names = who.run("invite", "--services", "nosuch")
        assert (names.status == 0) == (answer == b"\n"), names.stderr
        os.close(ours)
        proc.kill()


def test_wait_for_a_host_that_is_away(served):
    """As long as it takes; beside `up` too, and where the broker is away as well."""
    g = served
    g.join()
    link = g.invite()
    assert g.host_proc.terminate() == 0
    other = g.other_client("other")
    connect = g.client.start("connect", "--wait", f"{HOST}:peer", "127.0.0.1:0")
    waits = [g.client.programs.start(g.client.ns, "nc", postern(), "nc", "--wait", HOST, "peer",
                                     env=g.client.env),
             other.start("join", "--wait=5m", link)]
    g.client.start("up").wait_event("ready", 10)
    waits.append(g.client.programs.start(g.client.ns, "nc", postern(), "nc", "--wait", HOST, "peer",
                                         env=g.client.env))
    begin = time.monotonic()
    for proc in waits:
        wait_until(lambda p=proc: "waiting" in p.stderr, 15, "it says what for")
    wait_until(lambda: time.monotonic() > begin + 7, 15)   # more than the usual patience
    assert g.broker_proc.terminate() == 0
    wait_until(lambda: time.monotonic() > begin + 10, 15)
    assert all(p.running for p in [*waits, connect]), [p.stderr for p in waits]
    g.start_broker()
    g.start_host("peer=7000")
    for proc in waits:
        assert proc.wait(60) == 0, proc.stderr
    connect.wait_event("ready", 30)


def test_who_waits_beside_an_up_that_knows_nothing_yet_does_so_himself(served):
    """The patience of `up` has an end."""
    g = served
    g.join()
    g.topo.cut_broker()
    g.client.start("up").wait_event("ready", 10)
    nc = g.client.programs.start(g.client.ns, "nc", postern(), "nc", "--wait", HOST, "peer", env=g.client.env)
    wait_until(lambda: any(f"pid={nc.pid}," in s for s in g.client.ns.sockets("-tanp")), 5,
               "it dials the broker")


@pytest.mark.parametrize("args", [("nc", "--wait=7s", HOST, "peer"), ("connect", f"{HOST}:peer", "--wait=7s"),
                                  ("join", "--wait=7s")], ids=lambda a: a[0])
def test_a_wait_has_an_end(served, args):
    g = served
    g.join()
    link = [g.invite()] if args[0] == "join" else []
    assert g.host_proc.terminate() == 0
    begin = time.monotonic()
    done = g.client.run(*args, *link, json=False)
    assert done.status == 1 and "not online" in done.stderr, done.stderr
    assert 6.5 < time.monotonic() - begin < 7 + patience() * 4


def test_a_range_of_ports(served):
    g = served
    assert g.host_proc.terminate() == 0
    g.start_host("6999-7001", "web=7000-7002", "udp:7000-7001", "cam=192.0.2.77:554-555")
    done = g.join()
    names = done.event("joined")["services"]
    assert names == ["6999", "7000", "7001", "web-7000", "web-7001", "web-7002", "udp:7000", "udp:7001",
                     "cam-554", "cam-555"], names
    assert g.client.run("nc", HOST, "7000", json=False, stdin=b"").status == 0
    assert g.client.run("nc", HOST, "web-7000", json=False, stdin=b"").status == 0
    assert g.host_proc.terminate() == 0
    g.host_proc = g.host.start("serve")   # as remembered
    assert g.host_proc.wait_event("ready", 20)["services"] == 10
    assert g.host.run("serve", "--reload", "--", "7000-7003").event("reloaded")["services"] == 4
    assert g.host.run("serve", "--reload", "--", "8000-8001,9000").event("reloaded")["services"] == 3
    assert g.host.run("serve", "--reload", "--", "7000-7003").event("reloaded")["services"] == 4
    for wrong in ("8010-8000", "8000-", "-8000", "8000-8100", "8000-70000", "0-5", "7000-7001-7002",
                  "8000-8001,10.0.0.2:80", "x" * 61 + "=8000-8001"):
        says(g.host.run("serve", "--reload", "--", wrong, json=False), 2, "port", "64", "too long", "cannot be")
    says(g.host.run("serve", "--reload", "--", "7000-7003", "7002", json=False), 2, "two services are called")


def test_a_title(served):
    """Behind a space; for people, who see it in ls and where it is served."""
    g = served
    assert g.host_proc.terminate() == 0
    g.start_host("peer=7000 A töst", "web=8080", "9000-9001 Two   of them ")
    g.join()
    host = g.client.run("ls").event("host")
    assert host["services"] == ["peer", "web", "9000", "9001"]
    assert host["titles"] == ["peer: A töst", "9000: Two   of them", "9001: Two   of them"]
    assert "(peer: A töst, 9000: Two" in g.client.run("ls", json=False).stdout
    assert g.client.run("nc", HOST, "peer", json=False, stdin=b"").status == 0
    up = g.client.start("up")
    up.wait_event("service", 20)
    assert g.host.run("serve", "--reload", "--", "peer=7000 Another").event("reloaded")
    wait_until(lambda: g.client.run("ls").event("host")["titles"] == ["peer: Another"], 20, "it is another")
    assert g.host.run("serve", "--reload", "--", "peer=7000").event("reloaded")
    wait_until(lambda: "titles" not in g.client.run("ls").event("host"), 20, "it is gone")
    says(g.host.run("serve", "--reload", "--", "peer=7000 " + "x" * 48, json=False), 2, "is too long")
    says(g.host.run("serve", "--reload", "--", "peer=7000 a\x1b[1m", json=False), 2, "has what is no letter")
    assert g.host_proc.terminate() == 0
    proc = serve_in_words(g, g.host, "peer=7000 A töst")
    proc.wait_line("peer         tcp 127.0.0.1:7000  answers  (A töst)")


def test_times_that_no_wait_takes(here):
    for value in ("x", "0", "31d", ""):
        says(here.run("nc", f"--wait={value}", "home", "22", json=False), 2, "--wait")
    says(here.run("nc", "--wait", "home", "22", json=False), 1, "none was joined")
