"""What a command says that it waits for is so, with a running `up` and without."""

import os
import signal
import subprocess
import sys
import time

import pytest

from .actors import BROKER_PORT, HOST
from .conftest import full
from .net import patience, wait_until

pytestmark = pytest.mark.postern


@pytest.fixture
def warm(gate):
    """A client whose `up` has a session to the host."""
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("one=7000")
    g.up = g.client.start("up")
    g.up.wait_event("service", 20)
    g.up.wait_event("path", 20)
    assert g.client.run("nc", HOST, "one", json=False, stdin=b"GET 100 1\n").status == 0
    return g


def lines_of(done):
    return [x.removeprefix("postern: ") for x in done.stderr.splitlines()]


def test_a_host_that_is_off_is_what_nc_speaks_of(warm):
    g = warm
    g.host_proc.terminate()
    done = g.client.run("nc", HOST, "one", json=False, stdin=b"", timeout=30)
    assert done.status == 1 and done.seconds < 8 * patience()
    assert f"{HOST} is not online" in lines_of(done)[-1], done.stderr
    assert "postern up" not in done.stderr, done.stderr


def test_a_broker_that_is_off_is_what_nc_waits_for(warm):
    g = warm
    g.broker_proc.kill()
    g.host_proc.kill()
    g.up.wait_event("left", 40, peer="the broker")
    wait_until(lambda: g.client.run("status").event("host", state="offline"), 60,
               "the host is missed")
    done = g.client.run("nc", HOST, "one", json=False, stdin=b"", timeout=40)
    said = lines_of(done)
    assert done.status == 1 and "postern up" not in done.stderr, done.stderr
    for line in said:
        assert "broker" in line, said
    assert all(x.startswith("warning: waiting: ") for x in said[:-1]), said
    assert len(said) <= 2 and done.seconds < 12 * patience(), (said, done.seconds)


@pytest.mark.parametrize("way", ["nc", "nc up"])
def test_a_broker_that_has_just_started_does_not_know_who_is_away(warm, way):
    """A command that finds no host there waits for it, longer than for one that is off, and says why."""
    g = warm
    g.host_proc.kill()
    if way == "nc":
        g.up.terminate()
    else:
        g.up.wait_event("left", 40, peer=HOST)
    g.broker_proc.kill()
    g.start_broker()
    c = g.client
    nc = c.programs.start(c.ns, "nc", c.program, "nc", HOST, "one", env=c.env, stdin=subprocess.PIPE)
    nc.wait_line("is not back yet at its broker, which has just started", 5, "err")
    begin = time.monotonic()    # longer than one waits for a host that is off
    wait_until(lambda: time.monotonic() > begin + 6, 10)
    assert nc.running, nc.stderr
    g.start_host("one=7000")
    nc.popen.stdin.write(b"GET 100 1\n")
    nc.popen.stdin.close()
    assert nc.wait(20) == 0 and len(lines_of(nc)) == 1, nc.stderr


def test_an_up_that_ends_is_what_nc_speaks_of(warm):
    """While they wait for their host; one has gone before."""
    g, c = warm, warm.client
    g.host_proc.terminate()
    held = f"/proc/{g.up.pid}/fd"
    before = len(os.listdir(held))
    waits = [c.programs.start(c.ns, "nc", *c.wrapper, c.program, "nc", HOST, "one", env=c.env,
                              stdin=subprocess.PIPE) for _ in range(4)]
    wait_until(lambda: len(os.listdir(held)) >= before + 8, 4, "all wait")
    waits.pop().kill()
    wait_until(lambda: len(os.listdir(held)) <= before + 6, 4, "what it asked for has gone")
    assert g.up.terminate() == 0, g.up.stderr   # with sanitizers: nothing is left
    for nc in waits:
        nc.wait(10)
        last = lines_of(nc)[-1]
        assert "'postern up' ended" in last and "service" not in last, nc.stderr


def test_a_frozen_up_is_named_and_gone_round(warm):
    g = warm
    g.up.freeze()
    try:
        done = g.client.run("nc", HOST, "one", json=False, stdin=b"GET 100 1\n",
                            timeout=30)
        assert done.status == 0 and done.stdout, done.stderr
        assert lines_of(done) == ["warning: waiting: 'postern up' is stopped and does not "
                                  "answer; going on without it"], done.stderr
        proc = g.client.start("connect", f"{HOST}:one", "127.0.0.1:0")
        proc.wait_event("ready", 15)
        assert len(proc.stderr.splitlines()) == 1 and "is stopped" in proc.stderr
        assert proc.terminate() == 0
        status = g.client.run("status", json=False, timeout=15)
        assert status.status == 1
        assert f"is stopped (process {g.up.pid})" in status.stderr, status.stderr
        assert f"kill -CONT {g.up.pid}" in status.stderr, status.stderr
    finally:
        g.up.signal(signal.SIGCONT)
    assert g.client.run("nc", HOST, "one", json=False, stdin=b"GET 100 1\n").status == 0


def test_connect_beside_up_ends_where_it_would_alone(warm):
    g = warm
    device = g.host.run("ls", "--devices").events[0]["name"]
    assert g.host.run("revoke", device).status == 0
    g.up.wait_event("left", 20, peer=HOST)
    done = g.client.run("connect", f"{HOST}:one", "127.0.0.1:0")
    assert done.status == 1 and "new invite" in done.stderr, done.stdout + done.stderr
    assert not done.event("ready"), done.stdout


def test_connect_beside_up_says_that_the_broker_is_away(gate):
    g = gate(host="none", client="none")
    g.up_and_joined("7000")
    g.broker_proc.terminate()
    up = g.client.start("up")
    up.wait_event("left", 20)
    proc = g.client.start("connect", f"{HOST}:7000", "127.0.0.1:0")
    said = proc.wait_event("error", 20)
    assert "broker" in said["what"] and said["do"], said
    assert not proc.find("ready") and proc.running


def test_connect_says_an_absence_once(warm):
    """Alone, from the first moment: no "has not answered yet" behind "is not online"."""
    g = warm
    g.up.terminate()
    g.host_proc.terminate()
    proc = g.client.start("connect", f"{HOST}:one", "127.0.0.1:0")
    proc.wait_line("is not online", 10, "err")
    begin = time.monotonic()    # by then it has said what it waits for, if it does
    wait_until(lambda: time.monotonic() > begin + 8, 10)
    assert len(proc.stderr.splitlines()) == 1, proc.stderr


def test_a_daemon_whose_socket_is_gone_is_no_daemon_that_does_not_run(warm):
    g = warm
    os.unlink(f"{g.host.state}/serve.sock")
    done = g.host.run("revoke", g.client.run("keys").events[0]["key"], json=False)
    assert done.status == 1 and "cannot be asked" in done.stderr, done.stderr
    g.up.wait_event("left", 12)    # it looks at its list all the same
    done = g.host.run("serve", "--reload", json=False)
    assert done.status == 1 and "cannot be asked" in done.stderr, done.stderr


def test_status_shows_how_a_path_came_and_none_where_nothing_comes(warm):
    g = warm
    told = g.up.wait_event("path", 10)
    status = g.client.run("status")
    path = status.event("path")
    if path["kind"] == told["kind"]:
        assert path["elapsed_ms"] == told["elapsed_ms"] > 0, (path, told)
    g.host_proc.signal(signal.SIGSTOP)
    try:
        nc = g.client.start("nc", HOST, "one")
        wait_until(lambda: g.client.run("status").event("host", state="offline"), 30,
                   "the silence is noticed")
        status = g.client.run("status")
        assert not status.event("path"), status.stdout
        assert status.event("host")["kind"] == "none", status.stdout
        nc.kill()
    finally:
        g.host_proc.signal(signal.SIGCONT)
    g.up.terminate()
    text = g.client.run("status", json=False).stdout
    assert "neither 'postern serve' nor 'postern up' runs" in text, text


def test_a_client_gets_no_list_by_a_hosts_command(warm):
    g = warm
    for command in (["revoke", "anna"], ["invite"], ["serve", "--reload"],
                    ["serve", "--reload", "80"]):
        done = g.client.run(*command, json=False)
        assert done.status == 1 and len(lines_of(done)) == 1, done.stderr
    assert g.client.run("ls", "--devices").status == 0
    assert not os.path.exists(f"{g.client.state}/host.db")


def test_nc_says_that_a_udp_service_is_none(warm):
    g = warm
    assert g.host.run("serve", "--reload", "one=7000", "dns=udp:5353").status == 0
    for stop in (False, True):
        done = g.client.run("nc", HOST, "dns", json=False, stdin=b"", timeout=30)
        assert done.status == 1 and "'dns' is a UDP service" in done.stderr, done.stderr
        assert done.seconds < 3 * patience()
        if not stop:
            g.up.terminate()


# The alert by which a broker says, before anything else, that it has no room.
_BUSY = """
import socket, sys
s = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print("listening", flush=True)
while True:
    c = s.accept()[0]
    c.recv(4096)
    c.sendall(bytes((21, 3, 3, 0, 2, 2, 90)))
    c.close()
"""


@pytest.mark.parametrize("command", ["nc", "ping", "join"] if full() else ["nc"])
def test_a_broker_that_is_always_busy_is_waited_for_in_measure(gate, command):
    """Said once, soon, with how long it may last; then the end, like that of other waits."""
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("one=7000")
    link = g.invite()
    g.broker_proc.kill()
    busy = g.programs.start(g.topo.broker, "busy", sys.executable, "-c", _BUSY,
                            BROKER_PORT)
    busy.wait_line("listening", 10)
    args = {"nc": ("nc", HOST, "one"), "ping": ("ping", HOST), "join": ("join", link)}
    who = g.other_client("other") if command == "join" else g.client
    proc = who.start(*args[command])
    proc.wait_line("is busy; for 30 s at most", 3 * patience(), "err")
    assert proc.wait(45 * patience()) == 1
    assert len(lines_of(proc)) == 2 and "is busy" in lines_of(proc)[-1], proc.stderr


def test_a_stopped_serve_is_named_by_each_command_that_asks_it(warm):
    """At once, with what lets it go on; what was stored all the same is said, and what would
    not be taken up is not stored."""
    g = warm
    pid, key = g.host_proc.pid, g.host.run("keys").events[0]["key"]
    g.host_proc.signal(signal.SIGSTOP)
    try:
        began = {args: g.host.start(*args)
                 for args in (("serve", "--reload"), ("serve", "--reload", "two=7000"),
                              ("serve", "--add", "two=7000"), ("serve", "--reload", "--absent", "10s"),
                              ("keys", "rotate"), ("access", "public", "one"),
                              ("share", g.work), ("receive", g.work), ("invite",))}
        for args, proc in began.items():
            assert proc.wait(4 * patience()) == (0 if args[0] == "invite" else 1), args
            said = lines_of(proc)
            assert f"is stopped (process {pid})" in said[-1], (args, said)
            if args[0] != "invite":
                assert f"kill -CONT {pid}" in said[-1], (args, said)
            else:
                assert "going on without it" in said[-1] and len(said) == 1, said
            if args[1:] and args[0] in ("serve", "keys") and args[-1] != "--reload":
                assert "nothing is changed: " in said[-1], (args, said)
        done = g.host.run("serve", json=False, timeout=30)
        assert done.status == 1 and f"it is stopped: let it go on with 'kill -CONT {pid}'" in done.stderr, done.stderr
    finally:
        g.host_proc.signal(signal.SIGCONT)
    assert g.host.run("serve", "--reload").event("reloaded")["published"] == ["one"]
    assert g.host.run("keys").events[0]["key"] == key
    assert g.host_proc.terminate() == 0
    for option in ("--add", "--reload"):
        done = g.host.run("serve", option, "two=7000", json=False)
        assert done.status == 1 and "nothing is changed: no 'postern serve' runs" in done.stderr, done.stderr
        assert "publishes as home: one=7000, while" in g.host.run("ls", json=False).stdout


def test_services_that_a_serve_does_not_take_up_are_not_stored(warm):
    """Nor those beside certificates that are refused."""
    g = warm
    done = g.host.run("serve", "--add", "two=7000", "--tls", "two=/nonexistent", json=False)
    assert done.status == 1 and "/nonexistent" in done.stderr, done.stderr
    assert g.host.run("serve", "--reload").event("reloaded")["published"] == ["one"]
    pem = f"{g.work}/both.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-subj", "/CN=one", "-keyout", pem, "-out", f"{pem}.crt"], check=True, capture_output=True)
    with open(pem, "a", encoding="ascii") as f, open(f"{pem}.crt", encoding="ascii") as made:
        f.write(made.read())
    assert g.host.run("serve", "--reload", "--tls", f"one={pem}").status == 0
    with open(pem, "w", encoding="ascii") as f:
        f.write("no certificate\n")
    done = g.host.run("serve", "--reload", "two=7000", json=False)
    assert done.status == 1 and "nothing is changed: " in done.stderr and "certificate of one" in done.stderr, done.stderr
    assert g.host.run("status").event("publishes")["services"] == ["one=7000"]
    assert g.host.run("serve", "--reload", "--tls", "none").event("reloaded")["published"] == ["one"]


@pytest.mark.parametrize("command", ["nc", "send"] if full() else ["send"])
def test_a_host_that_is_stopped_is_waited_for_in_measure(warm, command):
    """Nothing more is said until the end, and so how long that may take."""
    g = warm
    g.up.terminate()
    g.host_proc.signal(signal.SIGSTOP)
    try:
        proc = g.client.start(*{"nc": ("nc", HOST, "one"), "send": ("send", __file__, HOST)}[command])
        proc.wait_line("did not answer: nothing came back over relay; for 30 s at most", 20, "err")
        assert proc.wait(45 * patience()) == 1
        assert f"{HOST} did not answer" in lines_of(proc)[-1], proc.stderr
    finally:
        g.host_proc.signal(signal.SIGCONT)


def test_a_broker_that_takes_connections_and_is_mute(warm):
    """The kernel accepts for a program that is stopped: nobody's firewall is to blame,
    and who waits is told after 5 s."""
    g = warm
    g.up.terminate()
    g.broker_proc.signal(signal.SIGSTOP)
    try:
        begun = {"netcheck": g.client.start("netcheck"),
                 "ping": g.client.start("ping", HOST),
                 "serve": g.other_client("new", ns=g.topo.host.ns).start(
                     "serve", "--broker", g.link, "22")}
        for name, proc in begun.items():
            proc.wait_line("has not answered yet", 8 * patience(),
                           "err")
            assert proc.wait(40) == 1, name
            assert "warning: waiting: the broker at" in lines_of(proc)[0], proc.stderr
            assert "cannot be reached" not in proc.stderr, proc.stderr
        for name in ("ping", "serve"):
            assert "takes connections and does not answer" in begun[name].stderr, name
    finally:
        g.broker_proc.signal(signal.SIGCONT)


def test_a_host_whose_broker_swallows_everything_says_soon_what_it_waits_for(warm):
    g = warm
    g.up.terminate()
    g.topo.broker.nft("table inet mute {\n chain in { type filter hook input priority -10; "
                      "meta l4proto tcp drop; }\n}")
    began = time.monotonic()
    new = g.other_client("new", ns=g.topo.host.ns)
    serve = new.start("serve", "--broker", g.link, "22")
    serve.wait_line("warning: waiting: the broker at", 5 * patience(), "err")
    assert time.monotonic() - began < 4 * patience()
    assert serve.wait(40) == 1, serve.stderr


def held_nc(g):
    """An nc whose connection stands."""
    c = g.client
    proc = c.programs.start(c.ns, "nc", *c.wrapper, c.program, "nc", HOST, "one", env=c.env,
                            stdin=subprocess.PIPE)
    proc.popen.stdin.write(b"HOLD\n")
    proc.popen.stdin.flush()
    proc.wait_line("ok", 15)
    return proc


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("keys", [1, 3])
def test_nc_is_told_what_ended_it(warm, beside, keys):
    """Of the host, not of its service; by a running `up` as without; and where the device
    has other keys, which are tried first."""
    g = warm
    for _ in range(keys - 1):
        assert g.client.run("keys", "rotate").status == 0
    if not beside:
        g.up.terminate()
    nc = held_nc(g)
    device = g.host.run("ls", "--devices").events[0]["name"]
    assert g.host.run("revoke", device).status == 0
    assert nc.wait(10) == 1 and lines_of(nc) == [
        f"{HOST}: this device was removed by the host; ask the host's owner for a new invite"]
    g.join()
    nc = held_nc(g)
    g.host_proc.kill()
    assert nc.wait(20) == 1
    assert f"{HOST} has ended or lost its network" in lines_of(nc)[-1], nc.stderr


def test_a_join_wakes_the_up_that_was_turned_away(warm):
    """It had half a minute to wait; and it says over which path it is back."""
    g = warm
    for _ in range(2):
        device = g.host.run("ls", "--devices").events[0]["name"]
        mark = g.up.mark()
        assert g.host.run("revoke", device).status == 0
        g.up.wait_event("left", 10, since=mark, peer=HOST)
        g.join()
        g.up.wait_event("path", 3, since=mark, peer=HOST)
        status = g.client.run("status")
        assert status.event("host", state="online"), status.stdout
        assert "removed" not in status.stdout, status.stdout


def test_two_hosts_of_one_name_are_told_apart(warm):
    """What is said of a host is said by the name that it has on this device."""
    g = warm
    other = g.other_client("second", g.topo.stranger)
    serve = other.start("serve", "--broker", g.link, "--name", HOST, "two=7001")
    serve.wait_event("ready", 20)
    assert g.join(link=other.run("invite").event("invite")["link"]).event(
        "joined")["host"] == f"{HOST}-2"
    for beside in (True, False):
        if not beside:
            g.up.terminate()
        done = g.client.run("nc", f"{HOST}-2", "22", json=False, stdin=b"")
        assert done.status == 1 and lines_of(done)[-1].startswith(
            f"{HOST}-2: the host publishes no service '22'"), done.stderr
        done = g.client.run("connect", f"{HOST}-2:22", json=False)
        assert done.status == 1 and f"{HOST}-2 publishes no service" in done.stderr, done.stderr


BROKER_LINK = """table inet hide {
  chain in { type filter hook input priority -10; tcp dport 443 drop; udp dport 443 drop; }
  chain out { type filter hook output priority -10; tcp sport 443 drop; udp sport 443 drop; }
}"""


def state_of_broker(who):
    done = who.run("status")
    return done.event("broker"), done.seconds


def test_status_asks_the_broker_before_it_speaks_of_it(warm):
    """Its line was cut in silence a moment ago; and it is there again after a pause
    that had grown long."""
    g = warm
    for who in (g.client, g.host):
        at, seconds = state_of_broker(who)
        assert at["state"] == "online" and seconds < 1 * patience(), (at, seconds)
    g.topo.broker.nft(BROKER_LINK)
    for who in (g.client, g.host):
        at, seconds = state_of_broker(who)
        assert at["state"] != "online" and at["reason"], at
        assert "answer" in at["reason"] or "reached" in at["reason"], at
        assert seconds < 2 * patience(), seconds
    g.topo.broker.nft("delete table inet hide")
    for who in (g.client, g.host):
        wait_until(lambda: state_of_broker(who)[0]["state"] == "online", 10, "it answers")
    g.broker_proc.kill()
    for proc, event in ((g.up, "left"), (g.host_proc, "broker")):
        proc.wait_event(event, 20)
    time.sleep(6)    # pauses grow
    g.start_broker()
    for who in (g.client, g.host):
        wait_until(lambda: state_of_broker(who)[0]["state"] == "online", 2 * patience(),
                   "who asks brings it back")


def test_status_of_a_machine_whose_interface_went_down(warm):
    g = warm
    at, _ = state_of_broker(g.host)
    assert at["state"] == "online"
    for line in g.host.ns.run("ip", "-o", "link").splitlines():
        name = line.split(":")[1].split("@")[0].strip()
        if name != "lo":
            g.host.ns.ip("link", "set", "dev", name, "down")
    at, _ = state_of_broker(g.host)
    assert at["state"] != "online" and at["reason"], at


@pytest.mark.parametrize("command", ["nc up", "nc", "ping", "join"])
def test_who_waits_for_a_host_that_is_off_hears_so_soon(warm, command):
    g, c = warm, warm.client
    link = g.invite()
    g.host_proc.terminate()
    if command != "nc up":
        g.up.terminate()
    words = {"join": ["join", link], "ping": ["ping", HOST]}.get(command, ["nc", HOST, "one"])
    began = time.monotonic()
    proc = c.programs.start(c.ns, "waits", c.program, *words, env=c.env,
                            stdin=subprocess.PIPE)
    proc.wait_line("warning: waiting: ", 5, "err")
    assert time.monotonic() - began < 2.5 * patience()
    assert "is not online" in lines_of(proc)[0], proc.stderr
    assert proc.wait(20) == 1 and len(lines_of(proc)) == 2, proc.stderr


def test_netcheck_says_what_takes_so_long(warm):
    g = warm
    g.topo.broker.nft("table inet mute {\n chain in { type filter hook input priority -10; "
                      "meta l4proto udp drop; }\n}")
    done = g.client.run("netcheck", json=False, timeout=30)
    assert done.status == 0 and "is being checked" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_second_daemon_says_what_it_waits_for(warm):
    g = warm
    done = g.client.run("up", json=False)
    assert done.status == 1 and "may be about to end" in lines_of(done)[0], done.stderr
    assert "already runs with" in lines_of(done)[-1] and len(lines_of(done)) == 2


def test_connect_beside_up_says_what_it_has_and_not_what_it_has_not(warm):
    """The reason of each kind that is not in use is for --why, and for programs."""
    g = warm
    proc = g.programs.start(g.client.ns, "connect", g.client.program, "connect", f"{HOST}:one", "unix:x.sock",
                            env=g.client.env, cwd=g.work)
    wait_until(lambda: "ready: " in proc.stdout, 10, "ready")
    assert ": not " not in proc.stdout and f"{HOST}: " in proc.stdout, proc.stdout
    assert "x.sock" in proc.stdout and os.path.exists(os.path.join(g.work, "x.sock")), proc.stdout
    proc.terminate()


@pytest.mark.parametrize("way", ["alone", "up"])
def test_nc_to_what_is_no_stream_or_drops_what_comes_says_what_to_do(gate, way):
    """Not that the name was another's, nor that a status tells more where nothing runs."""
    g = gate(host="none", client="none")
    g.up_and_joined("dns=udp:53", "far=203.0.113.77:80")
    g.topo.host.ns.nft("table inet hole {\n  chain out { type filter hook output priority 0;\n"
                       "    ip daddr 203.0.113.77 drop\n  }\n}")
    if way == "up":
        g.client.start("up").wait_event("path", 20)
    for word in ("dns", "53"):
        done = g.client.run("nc", HOST, word, json=False, stdin=b"")
        assert done.status == 1 and done.stderr.endswith(f"; forward it: postern connect {HOST}:dns\n"), done.stderr
    done = g.client.run("nc", HOST, "far", json=False, stdin=b"", timeout=60)
    assert done.status == 1 and done.stderr.endswith("; check the service on the host\n"), done.stderr
