"""What a newcomer stumbles over: two users on a machine, words that can be meant, and
what is said of it."""

import hashlib
import os
import shutil
import ssl

import pytest

from .actors import HOST, postern
from .net import wait_until
from .test_badinput import says

pytestmark = pytest.mark.postern

NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@pytest.fixture
def stood(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    return g.up_and_joined("peer=7000")


# ------------------------------------------------------------------- root and a user

def by_default(g, actor, *args, wrapper=(), **env):
    """With the state directory that is the user's own where none is named; root's is empty."""
    inside = 'mount -t tmpfs tmpfs /var/lib; exec "$@"'
    return g.programs.run(actor.ns, args[0], "unshare", "--mount", "sh", "-c", inside, "sh", *wrapper, postern(), *args,
                          env={"POSTERN_STATE": "", "XDG_STATE_HOME": "", **env})


def users_home(g, work, name):
    """The home of a user whose state directory is a copy of that client's."""
    os.chmod(work, 0o755)
    state = f"{work}/{name}/.local/state/postern"
    shutil.copytree(g.client.state, state, ignore=shutil.ignore_patterns("*.sock"))
    for top, _, names in os.walk(f"{work}/{name}"):
        for path in (top, *(f"{top}/{n}" for n in names)):
            os.chown(path, NOBODY, NOBODY)
    return f"{work}/{name}", state


@pytest.mark.needs("setpriv")
def test_beside_roots_serve_a_user_is_told_whose_it_is(stood, work):
    g = stood
    os.chmod(work, 0o755)
    home = {"HOME": f"{work}/nothing"}
    for args in (("invite",), ("ls", "--devices"), ("access", "ls"), ("revoke", "laptop"), ("serve",),
                 ("serve", "--reload"), ("receive",)):
        done = by_default(g, g.host, *args, wrapper=AS_NOBODY, **home)
        says(done, 1, "you publish nothing here: on this machine root serves; run this with sudo and "
                      f"--state {g.host.state}")
    assert not os.path.exists(f"{work}/nothing"), "nothing was made"
    home, _ = users_home(g, work, "anna")
    says(by_default(g, g.client, "invite", wrapper=AS_NOBODY, HOME=home), 1, "nothing is published here yet")


@pytest.mark.needs("setpriv")
def test_beside_roots_up_a_user_is_told_whose_it_is(stood, work):
    g = stood
    os.chmod(work, 0o755)
    up = g.client.start("up", "--names", "off")
    up.wait_event("path", 20)
    for args in (("ping", HOST), ("nc", HOST, "peer"), ("up",), ("send", "/etc/hostname", HOST)):
        done = by_default(g, g.client, *args, wrapper=AS_NOBODY, HOME=f"{work}/nothing")
        says(done, 1, "you have joined no host: on this machine root's 'postern up' runs; run this with sudo and "
                      f"--state {g.client.state}, or join with an invite of your own")


@pytest.mark.needs("setpriv")
def test_an_empty_book_does_not_hide_whose_it_is(stood, work):
    """What a command left there before holds no host yet."""
    g = stood
    os.chmod(work, 0o755)
    os.mkdir(f"{work}/anna")
    os.chown(f"{work}/anna", NOBODY, NOBODY)
    home = {"HOME": f"{work}/anna"}
    says(by_default(g, g.client, "ping", HOST, wrapper=AS_NOBODY, **home), 1, "none was joined yet")
    assert os.path.exists(f"{work}/anna/.local/state/postern/book.db")
    up = g.client.start("up", "--names", "off")
    up.wait_event("path", 20)
    for args in (("ls",), ("ping", HOST), ("nc", HOST, "peer"), ("send", "/etc/hostname", HOST)):
        done = by_default(g, g.client, *args, wrapper=AS_NOBODY, **home)
        assert "you have joined no host: on this machine root's 'postern up' runs" in done.stderr, done.stderr
        assert done.status == (0 if args == ("ls",) else 1)


def test_who_only_looks_makes_nothing(stood, work):
    """No directory and no file; what is not there is nothing yet, not an error."""
    g = stood
    at = f"{work}/no/such/dir"
    for args, want in ((("ls",), "No host joined yet"), (("ls", "--devices"), "No device may enter yet"),
                       (("status",), "neither 'postern serve' nor"), (("log",), "Nothing is logged yet"),
                       (("log", "--since", "1d"), "Nothing of that is logged")):
        done = g.client.run(*args, "--state", at, json=False)
        assert done.status == 0 and want in done.stdout, done.stdout + done.stderr
    for args in (("leave", HOST), ("open", f"{HOST}:peer")):
        says(g.client.run(*args, "--state", at, json=False), 1, f"there is no host '{HOST}': none was joined yet")
    assert not os.path.exists(f"{work}/no")
    os.mkdir(f"{work}/here")
    assert g.client.run("ls", "--state", f"{work}/here").status == 0
    follow = g.client.start("log", "--follow", "--state", f"{work}/here")
    assert os.listdir(f"{work}/here") == [] and follow.running
    shutil.copy(f"{g.host.state}/audit.db", f"{work}/here/new")
    os.rename(f"{work}/here/new", f"{work}/here/audit.db")
    follow.wait_event("audit", 15)


@pytest.mark.needs("setpriv")
def test_with_sudo_the_users_own_state_is_named(stood, work):
    """Whether something of it runs, or it only stands in the home; no second device in silence."""
    g = stood
    home, state = users_home(g, work, "anna")
    users = f"{work}/passwd"
    with open(users, "w", encoding="ascii") as f:
        f.write(f"root:x:0:0::/root:/bin/sh\nanna:x:{NOBODY}:{NOBODY}::{home}:/bin/sh\n")
    known = ["sh", "-c", f'mount --bind {users} /etc/passwd; exec "$@"', "sh"]
    words = (f"root has joined no host: you have, with {state}; add '--state {state}', or "
             "'--state /var/lib/postern' to be another device")
    for args in (("up",), ("ping", HOST)):
        says(by_default(g, g.client, *args, wrapper=known, SUDO_UID=str(NOBODY)), 1, words)
    done = by_default(g, g.client, "ls", wrapper=known, SUDO_UID=str(NOBODY))
    assert done.status == 0 and f"warning: {words}" in done.stderr, done.stderr
    up = g.programs.start(g.client.ns, "up", *AS_NOBODY, postern(), "up", "--json",
                          env={"POSTERN_STATE": "", "XDG_STATE_HOME": "", "HOME": home})
    up.wait_event("path", 20)
    says(by_default(g, g.client, "up", SUDO_UID=str(NOBODY)), 1, words)
    # Nobody else's is named: who runs a program here might wish for it.
    for env in ({"SUDO_UID": "1234"}, {}):
        says(by_default(g, g.client, "ping", HOST, **env), 1, "none was joined yet")
    named = by_default(g, g.client, "ping", HOST, "--count", "1", "--state", state, SUDO_UID=str(NOBODY))
    assert named.status == 0, named.stderr


# ------------------------------------------------------------------- what can be meant

def test_a_host_in_other_words(stood):
    g = stood
    for name in (f"me@{HOST}", f"ME@{HOST.upper()}.postern"):
        assert g.client.run("ping", name, "--count", "1", json=False).status == 0
        assert g.client.run("nc", name, "peer", json=False, stdin=b"GET 5 1\n").status == 0
    for name in (f"{HOST}:22", f"me@{HOST}:22"):
        says(g.client.run("ping", name, json=False), 1,
             f"'{name}' is more than the name of a host; write it as {HOST}, and for that service "
             f"'postern connect {HOST}:22'")
    for name in (f"{HOST}:", f"{HOST}:/tmp"):
        says(g.client.run("send", "/etc/hostname", name, json=False), 1, f"'{name}' is more than the name of a host; "
             f"write it as {HOST}\n".rstrip())
    says(g.client.run("nc", f"{HOST}:peer", json=False), 2, f"write it as: postern nc {HOST} peer")
    says(g.client.run("ping", "me@office:22", json=False), 1, "there is no host 'me@office:22'")


def test_a_slip_in_other_places_is_answered_too(stood):
    g = stood
    up = g.client.start("up", "--names", "off")
    up.wait_event("path", 20)
    device = g.host.run("ls", "--devices").event("client")["name"]
    slip = HOST[:-2] + HOST[-1] + HOST[-2]
    for actor, args, meant in ((g.client, ("nc", f"{slip}.postern", "22"), HOST),
                               (g.client, ("status", "--why", slip), HOST),
                               (g.host, ("status", "--why", device + "x"), device),
                               (g.host, ("access", "public", "pere"), "peer"),
                               (g.host, ("revoke", device + "x"), device)):
        says(actor.run(*args, json=False), 1, f"did you mean '{meant}'?")


def test_an_invite_without_a_serve_says_so(stood):
    g = stood
    words = "warning: no 'postern serve' runs here now: who joins must wait for it"
    assert words not in g.host.run("invite").stderr
    g.host_proc.terminate()
    done = g.host.run("invite")
    assert done.status == 0 and words in done.stderr and done.event("invite"), done.stderr


def test_a_host_that_is_away_is_named_once(stood):
    """The words of the reason begin with its name too."""
    g = stood
    g.client.start("up", "--names", "off").wait_event("path", 20)
    device = g.host.run("ls", "--devices").event("client")["name"]
    assert g.host.run("revoke", device).status == 0
    wait_until(lambda: g.client.run("status").event("host", state="offline")["reason"], 20, "a reason")
    said = g.client.run("status").event("host")["reason"]
    assert said and not said.startswith(HOST), said


def test_a_firewall_that_takes_no_udp_leaves_no_raw_words(stood):
    """On stderr: of the library that looks for a router."""
    g = stood
    g.client.ns.nft("table inet own {\n chain o { type filter hook output priority 0; meta l4proto udp drop; }\n}")
    done = g.client.run("netcheck", json=False)
    assert done.status == 0, done.stderr
    assert all(x.startswith("postern: ") for x in done.stderr.splitlines()), done.stderr
    assert "not permitted" not in done.stderr
    assert g.host.run("log", "--since", "1d", "--count", "20000").status == 0


def test_ports_with_commas_are_services(gate):
    """And what stands in for another is named where it is said what is published."""
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    proc = g.programs.start(g.host.ns, "serve", postern(), "serve", "--broker", g.link, "--name", HOST, "2222,7000",
                            "web=7001,7000", env=g.host.env)
    wait_until(lambda: "web " in proc.stdout, 20, "the services")
    lines = [" ".join(x.split()) for x in proc.stdout.splitlines()]
    for line in ("2222 tcp 127.0.0.1:2222 nothing listens there yet: start it", "7000 tcp 127.0.0.1:7000 answers",
                 "web tcp 127.0.0.1:7001, else 127.0.0.1:7000 answers"):
        assert line in lines, proc.stdout
    says(g.host.run("serve", "--state", "/nonexistent", "--broker", g.link, "22,10.0.0.2:80", json=False), 2,
         "'22,10.0.0.2:80' has ports and more without a name; write one service as NAME=A,B, and several with spaces")


def test_a_listener_for_everybody_is_warned_of(stood):
    """Both kinds, beside `up` too; nobody is warned of what only this machine reaches."""
    g = stood
    warning = "warning: everybody on the network who reaches"
    for beside_up in (False, True):
        if beside_up:
            up = g.client.start("up", "--names", "off")
            up.wait_event("path", 20)
        for args, what in ((("socks", "--listen"), "every host joined here"),
                           (("connect", f"{HOST}:peer"), f"'peer' of {HOST}")):
            for at, instead in (("0.0.0.0:18080", "127.0.0.1:18080"), ("[::]:18080", "[::1]:18080"),
                                ("127.0.0.1:18080", None), ("127.0.0.1:0", None)):
                proc = g.client.start(args[0], *args[1:], at)
                proc.wait_event("ready", 20)
                if instead:
                    wait_until(lambda p=proc: warning in p.stderr, 10, "it is warned of")
                    assert f"{at} may use {what}; for this machine alone give {instead} instead" in proc.stderr
                assert proc.terminate() == 0
                assert instead or warning not in proc.stderr, proc.stderr


# --------------------------------------------------------------------------- the portal

def fingerprint(path):
    with open(path, encoding="ascii") as f:
        der = ssl.PEM_cert_to_DER_cert(f.read())
    text = hashlib.sha256(der).hexdigest().upper()
    return ":".join(text[i:i + 2] for i in range(0, len(text), 2))


def test_who_makes_an_account_is_told_where_one_logs_in(gate):
    g = gate(host="none", client="none")
    for listen, portal in (("0.0.0.0:443", "https://192.0.2.10/"), ("0.0.0.0:8443", "https://192.0.2.10:8443/")):
        link = g.broker.start("broker", "--listen", listen, "--public", portal[8:-1])
        ready = link.wait_event("ready", 20)
        assert ready["portal"] == portal
        who = g.other_client(f"host{listen[8:]}", ns=g.host.ns)
        serve = who.start("serve", "--broker", ready["link"], "--name", "home", "web=8080")
        serve.wait_event("ready", 20)
        done = who.run("access", "add", "anna", "--services", "web", stdin=b"long enough\n", json=False)
        said = done.stdout.splitlines()
        assert said[-3] == f"Next: anna logs in with a browser at {portal} while 'postern serve' runs here.", said
        assert "the browser warns at first" in said[-2] and "'postern doctor'" in said[-1], said
        assert ready["fingerprint"] == fingerprint(f"{g.broker.state}/portal-cert.pem"), ready
        again = who.run("access", "set", "anna", "--services", "all")
        assert again.event("account")["portal"] == portal
        assert "Next" not in who.run("access", "passwd", "anna", stdin=b"long enough\n", json=False).stdout
        serve.terminate()
        link.terminate()


# ------------------------------------------------------------------------ what is missing

@pytest.mark.parametrize("away", ["killed", "mute"])
def test_nc_beside_an_up_whose_broker_is_gone_names_it(stood, away):
    """Also at once, when `up` has not found out: what is waited for is named, never only that nothing came."""
    g = stood
    if away == "killed":
        g.broker_proc.kill()
    else:
        g.broker_proc.freeze()
    g.host_proc.kill()
    up = g.client.start("up", "--names", "off")
    up.wait_event("ready", 20)
    wait_until(lambda: os.path.exists(f"{g.client.state}/up.sock"), 10, "it can be asked")
    done = g.client.run("nc", HOST, "peer", json=False, stdin=b"", timeout=90)
    assert done.status == 1 and "no session to the host" not in done.stderr, done.stderr
    assert all("broker" in line for line in done.stderr.splitlines()), done.stderr
    if away == "mute":
        g.broker_proc.kill()


def test_what_ping_and_connect_say(stood):
    """No kind is refused for being in use; and which service a local port leads to is said."""
    g = stood
    for _ in range(12):   # as soon as a session stands, often while a better path is just proven
        done = g.client.run("ping", HOST, "--count", "1")
        assert done.status == 0 and not [e for e in done.events if e["event"] == "rejected" and
                                         e["reason"] == "in use"], done.stdout
    proc = g.programs.start(g.client.ns, "connect", postern(), "connect", f"{HOST}:peer", "127.0.0.1:18081",
                            env=g.client.env)
    proc.wait_line(f"ready: listening on 127.0.0.1:18081, for {HOST}:peer", 20)
    assert proc.terminate() == 0
