"""What newcomers try and mean: each is answered with what was wrong and what to do."""

import os
import time

import pytest

from .actors import HOST
from .net import patience, wait_until
from .test_badinput import says
from .test_doctor import checks
from .test_send import MB, pair  # noqa: F401 (a fixture)
from .test_words import here  # noqa: F401 (a fixture)

pytestmark = pytest.mark.postern


@pytest.fixture
def stood(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    return g.up_and_joined("peer=7000", "dns=udp:5353", "file=/run/none.sock")


@pytest.mark.parametrize("text, meant", [
    ("UDP:53", "udp:53"), ("TCP:22", "22"), ("dns=UDP:53", "dns=udp:53"), ("53/udp", "udp:53"), ("53:udp", "udp:53"),
    ("udp/53", "udp:53"), ("udp53", "udp:53"), ("dns=53/UDP", "dns=udp:53"), ("22/tcp", "22"), (":8080", "8080"),
    ("dns:udp:53", "dns=udp:53"), ("udp:dns=53", "dns=udp:53"), ("8080=web", "web=8080"), ("8080:web", "web=8080"),
    ("http://localhost:8080", "8080"), ("web=http://10.0.0.2/x", "web=10.0.0.2:80"), ("ssh", "ssh=22"),
    ("web=unix:/run/x.sock", "web=/run/x.sock"), ("web 8080", "web=8080"),
])
def test_a_service_in_other_words(here, text, meant):  # noqa: F811
    says(here.run("serve", "--broker", "postern://x", text, json=False), 2, f"did you mean '{meant}'?")


def test_a_link_is_no_service(here):  # noqa: F811
    says(here.run("serve", "postern://192.0.2.10:443/b/x", "22", json=False), 2, "a link is no service", "--broker LINK")


def test_a_udp_service_that_is_only_called_so_is_warned_of(here, work):  # noqa: F811
    file = os.path.join(work, "serve.conf")
    with open(file, "w", encoding="ascii") as f:
        f.write("name home\nservice udp=53\n")
    assert "for UDP write udp:53" in here.run("check", file, json=False).stderr


@pytest.mark.parametrize("argv, meant", [(("versoin",), "version"), (("hlep",), "help")], ids=lambda x: x[0])
def test_a_builtin_with_a_slip(here, argv, meant):  # noqa: F811
    says(here.run(*argv, json=False), 2, f"did you mean '{meant}'?")


def test_words_that_said_two_things(here, work):  # noqa: F811
    for option, meant in (("--hlep", "--help"), ("-V", "--version")):
        said = here.run(option, json=False).stderr
        assert f"did you mean '{meant}'" in said and "behind the command" not in said, said
    said = here.run("ssh", "hom", json=False).stderr
    assert "there is no host 'hom':" in said, said
    typo = os.path.join(work, "typo")
    done = here.run("ls", "--state", typo, json=False)
    assert done.status == 0 and f"There is no {typo} yet" in done.stdout and not os.path.exists(typo), done.stdout
    says(here.run("invite", "--expires", "1", json=False), 2, "give it a unit: --expires 1m, 1h or 1d")


@pytest.mark.parametrize("lines, words", [
    ("service web=8080\ntls web\n", "line 2: nothing says where the certificate comes from; write tls SERVICE="),
    ("agent :4480\n", "line 1: ':4480' is a port without an address to listen on; for all addresses write 0.0.0.0"),
])
def test_a_file_is_answered_in_its_own_words(here, work, lines, words):  # noqa: F811
    file = os.path.join(work, "serve.conf")
    with open(file, "w", encoding="ascii") as f:
        f.write(lines)
    done = here.run("check", file, json=False)
    says(done, 2, words)
    assert "--tls" not in done.stderr


@pytest.mark.parametrize("size", ["x", "0", "5X", "1.5G", "-1", "9999999999T"])
def test_what_is_no_size(here, size):  # noqa: F811
    says(here.run("receive", f"--max={size}", json=False), 2, "is not a size that --max takes", "500M")


def test_a_udp_service_is_no_web_page(stood):
    for name in ("dns", "5353", "udp:5353"):
        says(stood.client.run("open", f"{HOST}:{name}", json=False), 2,
             f"'dns' is a UDP service, and no web page; forward it: postern connect {HOST}:dns")


def test_a_socket_that_is_not_there_is_named(stood):
    says(stood.client.run("nc", HOST, "file", json=False, stdin=b""), 1,
         "file at /run/none.sock: there is no such file; its program makes it")


def test_a_second_serve_names_reload(stood):
    """What it advises adds: nothing that was published goes away by it, and what does is named."""
    g = stood
    says(g.host.run("serve", "web=8080", json=False, timeout=30), 1, "already runs with",
         "to publish that there too: postern serve --add web=8080 (only that: --reload)")
    done = g.host.run("serve", "--add", "web=8080")
    assert done.events == [{"event": "reloaded", "services": 4, "published": ["peer", "dns", "file", "web"]}], done.stdout
    assert g.host_proc.wait_event("reloaded", 5)["published"] == ["peer", "dns", "file", "web"]
    wanted = ["peer=7000", "dns=udp:5353", "file", "web=8080"]
    for command in ("status", "ls"):
        assert g.host.run(command).event("publishes")["services"] == wanted, command
        assert f"publishes as {HOST}: {', '.join(wanted)}" in g.host.run(command, json=False).stdout
    assert g.client.run("nc", HOST, "peer", json=False, stdin=b"GET 100 1\n").status == 0
    says(g.host.run("serve", "--add", json=False), 2, "nothing is named", "postern serve --add web=8080")
    says(g.host.run("serve", "--add", "web=81", json=False), 2, "another service called 'web' is published already",
         "--add web-2=81")
    done = g.host.run("serve", "--reload", "web=8080", json=False)
    said = done.stdout.splitlines()
    assert said[0] == "read again: 1 service(s): web; no longer published: peer, dns, file" and len(said) == 2
    assert "127.0.0.1:8080  nothing listens there yet: start it" in said[1], said
    assert g.host_proc.terminate() == 0
    assert "publishes as home: web=8080, while 'postern serve' runs" in g.host.run("ls", json=False).stdout


def test_ping_all_ends_in_its_time(stood):
    begin = time.monotonic()
    done = stood.client.run("ping", "--all", "--timeout", "1s", HOST)
    tried = [e for e in done.events if e["event"] == "tried"]
    assert time.monotonic() - begin < 1 + 2 * patience()
    assert tried[0]["result"] == "works" and done.status == 0, done.stdout
    assert tried[0]["kind"] == "relay" and tried[-1]["result"] == "untried", done.stdout
    assert tried[-1]["reason"] == "not tried: no time left (--timeout)", tried[-1]
    assert all(e["result"] != "refused" or "not tried" not in e["reason"] for e in tried), done.stdout


@pytest.mark.parametrize("away", ["host", "broker", "dropped"])
def test_a_short_wait_is_short(stood, away):
    g = stood
    link = g.invite()
    if away == "host":
        assert g.host_proc.terminate() == 0
    elif away == "broker":
        g.broker_proc.kill()
    else:
        g.topo.broker.nft("table inet own {\n chain i { type filter hook input priority 0; tcp dport 443 drop; }\n}")
    for args in (("join", "--wait=3s", link), ("nc", "--wait=3s", HOST, "peer")):
        begin = time.monotonic()
        done = g.other_client("other").run(*args, json=False) if args[0] == "join" else g.client.run(*args, json=False)
        assert done.status == 1 and len(done.stderr.splitlines()) >= 1
        assert 2.5 < time.monotonic() - begin < 3 + 1.5 * patience(), done.stderr


@pytest.mark.parametrize("rule, check, what, cure", [
    ("tcp dport 443 drop", "broker", "cannot be reached (timed out)", "let TCP port 443 in there"),
    ("tcp dport 443 reject with tcp reset", "broker", "nothing listens at the broker's address", "start the broker"),
    ("meta l4proto udp drop", "udp", "UDP", "UDP port 443 in at the broker's firewall"),
])
def test_doctor_names_the_firewall_of_the_broker(stood, rule, check, what, cure):
    g = stood
    g.topo.broker.nft("table inet own {\n chain i { type filter hook input priority 0; " + rule + "; }\n}")
    found = checks(g.client.run("doctor"))[check]
    assert found["state"] in ("bad", "warning") and what in found["what"] and cure in found["do"], found


def test_what_is_too_much_is_refused_before_it_comes(pair):  # noqa: F811
    p = pair
    p.receive("--max", "2M", p.into)
    fits, over = p.file("fits.bin", 2 * MB), p.file("over.bin", 2 * MB + 1)
    assert p.send(fits).status == 0
    for files in ((over,), (fits, p.file("one.bin", 1))):
        says(p.send(*files, json=False), 1, "it is more than is taken here", "of 2097152 at most (--max)", "send less at once")
    wait_until(lambda: "more than is taken here" in p.proc.stderr, 10, "its own words")
    assert list(p.files()) == ["fits.bin"]


@pytest.mark.parametrize("away", ["host", "broker", "dropped", "network"])
def test_who_waits_says_that_it_goes_on(stood, away):
    """At once, and again after half a minute; then it goes on by itself."""
    g = stood
    if away == "host":
        assert g.host_proc.terminate() == 0
    elif away == "broker":
        g.broker_proc.kill()
    elif away == "dropped":
        g.topo.broker.nft("table inet own {\n chain i { type filter hook input priority 0; tcp dport 443 drop; }\n}")
    else:
        g.client.ns.ip("link", "set", "eth0", "down")
    waiting = [g.client.start(*args)
               for args in (("connect", f"{HOST}:peer", "127.0.0.1:0"), ("open", f"{HOST}:peer"))]
    for proc in waiting:
        proc.wait_line("it is tried again by itself", 20, "err")
    for proc in waiting:
        proc.wait_line("warning: waiting for ", 45, "err")
        assert proc.running and len(proc.stderr.splitlines()) <= 4, proc.stderr
    if away == "host":
        g.start_host("peer=7000")
        for proc in waiting:
            proc.wait_event("ready", 60)


def test_send_goes_on_waiting_for_receive(pair):  # noqa: F811
    """`serve` is back before what its programs publish is."""
    p = pair
    one = p.file("one.bin", 1000)
    sending = p.g.client.start("send", "--wait=30s", one, HOST)
    wait_until(lambda: "receives nothing now" in sending.stderr, 10, "a word of it")
    assert sending.running
    p.receive()
    assert sending.wait(20) == 0 and list(p.files()) == ["one.bin"], sending.stderr
    p.proc.terminate()
    begin = time.monotonic()
    says(p.send("--wait=2s", p.file("two.bin", 10), json=False), 1, "receives nothing now", "run 'postern receive' there")
    assert time.monotonic() - begin < 3 + 2 * patience()


def test_receive_may_be_allowed_before_it_runs(pair):  # noqa: F811
    """And whom it is not for is told that, whether it runs or not."""
    p = pair
    g = p.g
    one = p.file("one.bin", 1000)
    for services, words in (("peer", "may not use that service"), ("peer,receive", "run 'postern receive' there")):
        other = g.other_client(services.replace(",", ""))
        assert other.run("join", g.invite("--services", services)).status == 0
        says(p.send(one, who=other, json=False), 1, words)
    p.receive()
    assert p.send(one, who=other).status == 0
    says(g.host.run("invite", "--services", "peer,recieve", json=False), 1, "no service 'recieve'")


def test_what_a_service_refuses_is_logged(stood):
    g = stood
    assert g.client.run("nc", HOST, "file", json=False, stdin=b"").status == 1
    last = g.host.run("log").events[-1]
    assert last["what"] == "refused" and last["object"] == "file" and last["who"], last
    assert "there is no such file" in last["detail"], last
