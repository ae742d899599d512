"""What newcomers read: each sentence says what holds, and what to do."""

import os
import re
import subprocess
import sys
import time

import pytest

from .actors import HOST, Actor
from .net import patience, wait_until
from .test_away import DEAD_DNS, NAME, NO_BROKER, etc  # noqa: F401 (a fixture)
from .test_badinput import says
from .topology import BROKER, build_dir

pytestmark = pytest.mark.postern


@pytest.fixture
def here(programs, work):
    return Actor(programs, None, os.path.join(work, "here"))


@pytest.fixture
def served(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("peer=7000")
    return g


def test_who_is_late_for_an_invite_is_told_so(served):
    """Several devices at once with one invite for one: one has it, and the others read that it is used."""
    g = served
    for round_ in range(6):
        link = g.invite()
        procs = [g.other_client(f"late-{round_}-{n}").start("join", link) for n in range(5)]
        for p in procs:
            p.wait(30)
        words = [p.find("error")["what"] for p in procs if p.find("error")]
        assert len(words) == 4, words
        assert all("the invite was used already" in w for w in words), words


@pytest.mark.parametrize("order", ["rotate-remove", "remove-rotate", "away", "twice"])
def test_a_removed_device_reads_so_after_a_rotation(served, order):
    """Whichever key it has by now, and whichever the host knew it by."""
    g = served
    g.join()
    device = g.host.run("ls", "--devices").event("client")["name"]

    def rotate():
        assert g.client.run("keys", "rotate").status == 0

    def remove():
        assert g.host.run("revoke", device).status == 0

    def use():
        return g.client.run("nc", HOST, "7000", stdin=b"", json=False)
    if order == "rotate-remove":
        rotate()
        assert use().status == 0
        remove()
    elif order == "remove-rotate":
        remove()
        rotate()
    elif order == "away":
        rotate()
        remove()
    else:
        rotate()
        assert use().status == 0
        rotate()
        remove()
        rotate()
    for _ in range(2):
        says(use(), 1, "this device was removed by the host")


def test_a_code_as_people_type_it(served):
    g = served
    proc = g.host.start("invite", "--code", "--expires", "65s")
    told = proc.wait_event("code", 15)
    assert told["lasts"] == "65 s", told
    number, one, two = told["code"].split("-")
    for text, words in ((f"{number} {one}@{BROKER}", "this is no code: that is a number"),
                        (f"{one}-{two}@{BROKER}", "this is not a Postern link, and no code"),
                        (f"{number}-{one}-{two}/{BROKER}", "behind the two words of the code stands")):
        says(g.client.run("join", text, json=False), 2, words)
    assert g.client.run("join", f"'{number}. {one.title()}, {two} at {BROKER}'").status == 0
    assert proc.wait(10) == 0


@pytest.mark.parametrize("time, words", [("5s", "Good for 5 s and"), ("90s", "Good for 90 s and"),
                                         ("1h", "Good for 1 h and"), ("600s", "Good for 10 min and")])
def test_how_long_a_code_is_good(served, time, words):
    g = served
    proc = g.programs.start(g.host.ns, "code", *g.host.wrapper, g.host.program, "invite", "--code", "--expires", time,
                            env=g.host.env)
    wait_until(lambda: words in proc.stdout, 15, words)
    proc.terminate()


def engine_bytes(program):
    """What libipsec-mb maps, where the build has it: mostly code that no page is read of."""
    found = re.search(r"libIPSec_MB\S+ => (\S+)", subprocess.run(["ldd", program], capture_output=True, text=True).stdout)
    return os.path.getsize(found[1]) if found else 0


@pytest.mark.skipif("asan" in build_dir(), reason="sanitizers map much")
def test_little_room_for_threads_is_one_line(served):
    """A thread that finds no room would end the program without a word."""
    g = served
    g.join()
    engine = engine_bytes(g.client.program)
    g.client.wrapper = ["prlimit", f"--as={16_000_000 + engine}"]
    says(g.client.run("nc", HOST, "7000", stdin=b"", json=False), 1,
         f"out of memory: this program may map {(16_000_000 + engine) // 1024} KB")
    g.client.wrapper = ["prlimit", f"--as={19_000 * 1024 + engine}"]
    done = g.client.run("join", f"7-crossover-clockwork@{'x' * 20}.invalid", json=False)
    says(done, 1, "out of memory", "ulimit -v")   # the resolver is asked in the loop's pool


@pytest.mark.skipif("asan" in build_dir(), reason="sanitizers map much")
def test_little_room_is_enough_where_little_is_needed(served):
    """Some 3 MB beyond what the program itself maps: no room for stacks that nobody uses is asked for."""
    g = served
    g.join()
    g.client.wrapper = ["prlimit", f"--as={20_000 * 1024 + engine_bytes(g.client.program)}"]
    assert g.client.run("nc", HOST, "7000", stdin=b"").status == 0
    assert g.client.run("ping", HOST).status == 0
    up = g.client.start("up", "--names", "off")
    assert up.wait_event("path", 20), up.stderr


def test_a_resolver_that_is_silent_is_spoken_of(served, etc):  # noqa: F811
    """`serve web:8080` asks whether there is such a machine before anything else."""
    g = served
    etc(g.topo.host.ns, hosts="127.0.0.1 localhost\n", resolv_conf=DEAD_DNS)
    proc = g.programs.start(g.host.ns, "serve", g.host.program, "serve", "--state", f"{g.work}/second",
                            "--broker", g.link, "web:8080")
    begin = time.monotonic()
    wait_until(lambda: "waiting: the resolver is asked for web" in proc.stderr, 10, "a word of what it waits for")
    assert time.monotonic() - begin < 2 * patience()
    proc.wait_line("which is not known here; did you mean web=8080?", 4 * patience(), "err")   # and goes on
    proc.kill()


def test_a_dead_resolver_is_not_the_broker(served, etc):  # noqa: F811
    """While the DNS server is asked it is not the broker that is waited for."""
    g = served
    etc(g.topo.client.ns, hosts="127.0.0.1 localhost\n", resolv_conf=DEAD_DNS)
    etc(g.topo.broker, hosts=f"127.0.0.1 localhost\n{BROKER} broker.lab\n", resolv_conf="")
    second = g.other_client("second", g.topo.broker).start("broker", "--listen", "0.0.0.0:8443", "--public", "broker.lab")
    link = second.wait_event("ready", 15)["link"]
    done = g.other_client("fresh").run("serve", "--broker", link, "7000", json=False, timeout=40)
    assert done.status == 1 and "name broker.lab cannot be resolved: the DNS server does not answer" in done.stderr
    assert "waiting: the DNS server has not answered yet where the broker broker.lab is" in done.stderr, done.stderr


def test_an_idle_client_is_not_called_silent(served):
    g = served
    g.join()
    up = g.client.start("up", "--names", "off")
    up.wait_event("path", 20)
    wait_until(lambda: "last heard " in g.host.run("status", json=False).stdout, 30, "it is idle")
    said = g.host.run("status", json=False).stdout
    assert "silent" not in said, said


@pytest.mark.parametrize("argv, words", [
    (("nc", "--wait", "5s", HOST, "7000"), "the time of --wait stands behind '=', not behind a blank; write --wait=5s"),
    (("nc", "--wait", "5", HOST, "7000"), "write --wait=5"),
    (("connect", "--wait", "5s", f"{HOST}:7000"), "write --wait=5s"),
    (("join", "--wait", "2m", "postern://x"), "write --wait=2m"),
    (("run", "python3", "-m", "http.server"), "stand behind --, as in: postern run -- python3 -m"),
    (("share", "/tmp", HOST), "name the directory alone: whoever joined this host opens it with 'postern open HOST:share'"),
    (("open", HOST, "web"), "a service stands behind a colon: HOST:web"),
    (("log", "anna"), "of one device or account: --who anna"),
    (("ls", HOST), f"postern status --why {HOST}"),
    (("up", HOST), "postern connect HOST:SERVICE"),
    (("socks", "1080"), "--listen 127.0.0.1:1080"),
    (("broker", "443"), "--listen 0.0.0.0:PORT"),
    (("broker", "meet.example.org"), "--public meet.example.org"),
    (("serve", "--broker", "postern://x", "home", "22"), "for the host's name write --name home"),
    (("invite", "--expires", "1", "day"), "write --expires 1d"),
    (("list",), "unknown command 'list'; did you mean 'ls'?"),
    (("forward", f"{HOST}:22"), "did you mean 'connect'?"),
], ids=lambda x: x[0] if isinstance(x, tuple) else "")
def test_a_slip_of_the_command_line_is_told_its_cure(here, argv, words):
    says(here.run(*argv, json=False), 2, words)


@pytest.mark.parametrize("argv", [("serve", "22"), ("run", "--yes", "--", "true"), ("netcheck",)], ids=lambda a: a[0])
def test_an_invite_in_the_environment_is_named(served, argv):
    other = served.other_client("other")
    other.more_env = {"POSTERN_LINK": served.invite()}
    done = other.run(*argv, json=False)
    assert "POSTERN_LINK holds an invite, which is for 'postern join'" in done.stderr, done.stderr


def test_slips_are_told_what_was_meant(served, work):
    g = served
    g.join()
    says(g.client.run("ping", HOST, "--why", json=False), 2, f"postern ping --why {HOST}")
    photo = os.path.join(work, "photo.jpg")
    with open(photo, "w", encoding="ascii") as f:
        f.write("x")
    says(g.client.run("send", HOST, photo, json=False), 2, "the host stands last", f"postern send {photo} {HOST}")
    says(g.client.run("connect", f"{HOST}:peer", "localhost:99999", json=False), 2, "no local address and port")
    proc = g.client.start("connect", f"{HOST}:peer", "localhost:18022")
    assert proc.wait_event("ready", 20)["local"] == "127.0.0.1:18022"
    proc = g.client.programs.start(g.client.ns, "open", g.client.program, "open", f"{HOST}:peer", env=g.client.env)
    proc.wait_line("/ until this ends", 20)
    done = g.client.run("leave", HOST, json=False)
    assert "where it still lists this device" in done.stdout, done.stdout


def test_an_invite_is_not_used_up_by_the_host_itself(served):
    g = served
    link = g.invite()
    says(g.host.run("join", link, json=False), 2, "this host itself", "--state DIR")
    assert g.join(link=link).event("joined")


@pytest.mark.parametrize("name", ["", "kept"])
def test_a_log_that_is_empty_is_said_to_be_so_once(here, name):
    """Also while it is followed; of a directory that was never served from, and of an account without an entry."""
    os.makedirs(here.state, mode=0o700)
    if name:
        assert here.run("keys").status == 0
    proc = here.programs.start(here.ns, "log", here.program, "log", "-f", *(["--who", name] if name else []),
                               env=here.env)
    proc.wait_line("logged", 10)
    assert "waiting for what comes" in proc.stdout and len(proc.stdout.splitlines()) == 1, proc.stdout


def test_an_invite_says_that_serve_has_lost_its_broker(served):
    g = served
    assert "broker" not in g.host.run("invite", json=False).stderr
    g.broker_proc.terminate()
    wait_until(lambda: (g.host.run("status").event("broker") or {}).get("state") != "online", 20, "it is missed")
    done = g.host.run("invite", json=False)
    assert done.status == 0 and "is without its broker now" in done.stderr, done.stderr


def test_beside_a_broker_it_is_not_said_that_there_is_none(served):
    g = served
    for command in ("netcheck", "status", "doctor"):
        done = g.broker.run(command, json=False, timeout=30)
        said = done.stdout + done.stderr
        assert "no broker is known" not in said and "none is known" not in said, said
        assert "'postern broker' does" in said or "one runs here itself" in said, said


def test_a_proxy_that_knows_the_password_better(served):
    """"It wants one" is for who gave none."""
    g = served
    serve = ("import socket\ns = socket.create_server(('127.0.0.1', 3128))\nprint('ready', flush=True)\n"
             "while True:\n c, _ = s.accept()\n c.recv(4096)\n"
             " c.sendall(b'HTTP/1.1 407 No\\r\\nContent-Length: 0\\r\\n\\r\\n')\n c.close()\n")
    proxy = g.programs.start(g.client.ns, "proxy", sys.executable, "-c", serve)
    proxy.wait_line("ready", 10)
    for user, words in (("", "wants a user name and password"), ("me:wrong@", "does not take the user name and password")):
        done = g.programs.run(g.client.ns, "netcheck", g.client.program, "netcheck", "--broker", g.link, timeout=30,
                              env={**g.client.env, "HTTPS_PROXY": f"http://{user}127.0.0.1:3128"})
        assert done.status == 1 and words in done.stderr, done.stderr


def test_a_machine_without_a_route_is_told_so(served):
    """It has an address, so that its network seems well."""
    g = served
    g.join()
    g.topo.client.ns.ip("route", "flush", "table", "main")
    done = g.client.run("nc", HOST, "7000", stdin=b"", json=False)
    says(done, 1, f"this machine has no route to the broker at {BROKER}:443")
    assert f"waiting: this machine has no route to the broker at {BROKER}:443" in done.stderr, done.stderr


@pytest.mark.parametrize("hosts, words", [
    (f"{NO_BROKER}{BROKER} {NAME}\n", f"this machine has no route to the broker at {NAME}:443"),
    (NO_BROKER, f"this machine has no route to the network, so the broker's name {NAME} cannot be resolved"),
], ids=["known", "to-be-asked"])
def test_without_a_route_no_name_and_no_firewall_is_blamed(gate, etc, hosts, words):  # noqa: F811
    """Also where the broker was never reached from here, so that no address of it is known."""
    g = gate(host="none", client="none")
    etc(g.topo.broker, hosts=f"{NO_BROKER}{BROKER} {NAME}\n", resolv_conf="")
    etc(g.topo.client.ns, hosts=hosts, resolv_conf=DEAD_DNS)
    g.broker_proc = g.broker.start("broker", "--listen", "0.0.0.0:443", "--public", NAME)
    g.link = g.broker_proc.wait_event("ready", 15)["link"]
    etc(g.topo.host.ns, hosts=f"{NO_BROKER}{BROKER} {NAME}\n", resolv_conf="")
    g.start_host("7000")
    link = g.invite()
    g.topo.client.ns.ip("route", "flush", "table", "main")
    says(g.client.run("join", link, json=False, timeout=40), 1, words, "default route (ip route)")
    done = g.client.run("doctor", "--broker", g.link, json=False, timeout=30)
    said = done.stdout
    assert words in said and "warning: network: this machine has an address, and no route beyond" in said, said
    assert "bad: resolver" not in said and "resolv.conf" not in said and "firewall" not in said, said


def test_an_invite_says_by_which_clock_it_is_over(served):
    """The host's, whose time the invite's maker is told to set right; the joiner's own does not matter."""
    g = served
    g.host_proc.terminate()
    g.host.set_clock(-7300)
    g.start_host("peer=7000")
    done = g.host.run("invite")
    assert "this machine's clock or the broker's is wrong: they are 2 h apart, this one behind" in done.stderr, done.stderr
    assert "set it right first, then make a new one; this one ends 2 h sooner then" in done.stderr, done.stderr
    late = g.other_client("late")
    late.set_clock(365 * 86400)
    assert g.join(who=late, link=done.event("invite")["link"]).event("joined")
    link = g.invite()
    g.host.set_clock(0)
    said = g.client.run("join", link, json=False)
    says(said, 1, "the invite expired 61 min ago, by the host's clock (")
    assert "behind" not in g.host.run("invite").stderr
    g.host.set_clock(7300)
    g.host_proc.terminate()
    g.start_host("peer=7000")
    assert "this one ends 2 h later then" in g.host.run("invite").stderr


def test_each_reason_is_told_once(gate):
    g = gate(host="sym", client="sym")
    g.start_broker()
    g.start_host("7000")
    g.join()
    lines = g.client.run("ping", "--why", HOST, json=False, timeout=40).stdout.splitlines()
    told = [line for line in lines if " not " in line]
    assert any("not tcp-punch" in line for line in told), lines
    twice = [line for n, line in enumerate(told) if line in told[:n]]
    assert not twice, lines


def test_status_says_how_one_is_named(served):
    g = served
    g.join()
    up = g.client.start("up")
    up.wait_event("path", 20)
    device = g.host.run("ls", "--devices").event("client")["name"]
    says(g.host.run("status", "--why", json=False), 2, "postern status --why NAME")
    says(g.host.run("status", device, json=False), 2, f"postern status --why {device}")
    wait_until(lambda: device in g.host.run("status", json=False).stdout, 10, "it is there")
    said = g.host.run("status", "--why", device, json=False).stdout
    assert f"postern ping --why HOST on {device}" in said, said
    said = g.client.run("status", "--why", HOST, json=False).stdout
    assert "not tcp-punch" in said and "is known there" not in said, said


def test_a_reload_counts_what_the_host_publishes(served, work):
    g = served
    g.host.start("receive", work).wait_event("ready", 20)
    assert g.host.run("serve", "--reload", json=False).stdout == "read again: 1 service(s): peer\n"


@pytest.mark.parametrize("local, words", [
    ("./sock", "'./sock' is no local address and port; write a socket's file as unix:./sock"),
    ("unix:", "'unix:' names no file for the socket"),
    ("web", "'web' is no local address and port; write it as 127.0.0.1:8080"),
], ids=["path", "unix", "word"])
def test_a_local_place_with_a_slip(served, local, words):
    g = served
    g.join()
    says(g.client.run("connect", f"{HOST}:peer", local, json=False), 2, words)
