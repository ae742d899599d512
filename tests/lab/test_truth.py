"""What `status`, `log` and a terminal tell: who is away and why, whether all is well, who
connected to what, and what is waited for."""

import os
import pty
import re
import resource
import select
import signal
import socket
import subprocess
import time

import pytest

from .actors import HOST, postern
from .net import patience, wait_until
from .test_badinput import says

pytestmark = pytest.mark.postern


@pytest.fixture
def joined(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000", "web=8080")
    g.device = g.host.run("ls", "--devices").event("client")["name"]
    return g


@pytest.fixture
def warm(joined):
    g = joined
    g.up = g.client.start("up")
    wait_until(lambda: (g.client.run("status").event("host") or {}).get("state") == "online", 20, "a session")
    g.up.wait_event("path", 20)
    return g


def lines(who, *args, status=0):
    done = who.run("status", *args, json=False)
    assert done.status == status, (done.stdout, done.stderr)
    return done.stdout.splitlines()


# ----------------------------------------------------------------------------- status

def test_status_is_a_line_a_session(warm):
    g = warm
    said = lines(g.client, "--check")
    assert said[0] == "up runs" and said[1].endswith(":443 online"), said
    assert said[2].startswith(f"{HOST}  online  path ") and len(said) == 4 and "--why HOST" in said[3], said
    said = lines(g.host, "--check")
    assert said[0] == "serve runs" and said[1].endswith(":443 online"), said
    assert said[2].startswith(f"publishes as {HOST}: "), said
    assert said[3].startswith(f"{g.device}: ") and len(said) <= 5, said
    said = lines(g.client, "--why", HOST.upper())
    assert any(f"{HOST}: not jit-listen: " in x for x in said), said
    assert any(x.startswith(f"{HOST}: ") and "round trip" in x for x in said), said
    assert g.client.run("status", "--why", HOST).event("rejected")
    says(g.client.run("status", "--why", "nobody", json=False), 1, "no device 'nobody'")


def test_a_daemon_without_descriptors_says_so_itself(joined):
    """And not that it should be ended: it works."""
    g, pid = joined, joined.host_proc.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    fds = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    used = min(set(range(len(fds) + 1)) - fds)   # the next would be that
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used, before[1]))
    for _ in range(3):
        says(g.host.run("status", json=False), 1, f"too many open files: it may have {used}")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert g.host.run("status", "--check").status == 0


def test_status_takes_no_hung_host_for_one_online(warm):
    """From the first moment without a path that answers: how long it has been silent, and
    once that is a fault (4 s), the fault."""
    g, said = warm, []
    os.kill(g.host_proc.pid, signal.SIGSTOP)

    def silent():
        done = g.client.run("status", "--check", json=False)
        said.append(next(x for x in done.stdout.splitlines() if x.startswith(HOST)))
        return done if "offline" in said[-1] and "path none" not in said[-1] else None
    done = wait_until(silent, 15, "no path answers")
    os.kill(g.host_proc.pid, signal.SIGCONT)
    why = f"(silent for |nothing comes from {HOST} on any path)"
    assert done.status == 1 and re.search(f"no session to {HOST}: {why}", done.stderr), (said, done.stderr)
    assert re.match(f"{HOST}  offline: {why}", said[-1]) and " ms" not in said[-1], said


def test_a_host_that_is_away(warm):
    g = warm
    g.host_proc.terminate()
    wait_until(lambda: g.client.run("status").event("host", state="offline"), 40, "it is missed")
    wait_until(lambda: "not online at its broker" in (g.client.run("status").event("host")["reason"] or ""), 40,
               "and known why")
    said = lines(g.client)
    assert len(said) == 3 and said[2].startswith(f"{HOST}  offline: {HOST} is not online at its broker; "), said
    assert not [x for x in said if "setcap" in x or "jit-listen" in x], said
    done = g.client.run("status", "--check", json=False)
    assert done.status == 1 and f"there is no session to {HOST}: " in done.stderr, done.stderr
    says(g.host.run("status", "--check", json=False), 1, "neither 'postern serve' nor 'postern up' runs")


def test_after_a_revoke(warm):
    g = warm
    assert g.host.run("revoke", g.device).status == 0
    wait_until(lambda: "removed" in (g.client.run("status").event("host").get("reason") or ""), 20, "it says so")
    said = lines(g.client)
    assert not any("path none" in x or "Why by" in x for x in said), said
    assert "removed" in said[2] and "ask the host's owner for a new invite" in said[2], said


def test_a_broker_that_is_away(warm):
    g = warm
    g.broker_proc.kill()
    wait_until(lambda: g.host.run("status", "--check", json=False).status == 1, 40, "serve misses it")
    says(g.host.run("status", "--check", json=False), 1, "serve is without its broker")


def test_a_client_that_was_killed(joined):
    g = joined
    proc = g.connect("peer")
    proc.wait_event("path", 20)
    assert "stream(s)" in lines(g.host)[3]
    proc.kill()
    wait_until(lambda: "last heard 1 min ago" in lines(g.host)[3], 100, "it is no live path")
    assert lines(g.host)[3].startswith(f"{g.device}: last heard 1 min ago, then by "), lines(g.host)


# -------------------------------------------------------------------------------- log

def logged(g, *args):
    return [e for e in g.host.run("log", *args).events if e["event"] == "audit"]


def test_log_has_each_connection(joined):
    g = joined
    assert logged(g)[-1]["what"] == "joined" and logged(g)[-1]["who"] == g.device
    assert g.client.run("nc", HOST, "peer", json=False, stdin=b"GET 100000 1\n").status == 0
    wait_until(lambda: logged(g)[-1]["what"] == "closed", 10, "it is logged")
    opened, closed = logged(g)[-2:]
    for e in (opened, closed):
        assert e["who"] == g.device and e["object"] == "peer", e
        assert e["from"] and not e["from"].startswith("192.0.2.10"), e
    assert opened["what"] == "opened" and opened["detail"].startswith("by "), opened
    sent, received = (int(closed["detail"].split()[i]) for i in (0, 3))
    assert sent >= 100000 and received >= 13 and " s, by " in closed["detail"], closed
    narrow = g.other_client("narrow")
    g.join(narrow, None, "--services", "web", "--uses", "1")
    assert narrow.run("nc", HOST, "peer", json=False, stdin=b"").status == 1
    wait_until(lambda: logged(g)[-1]["what"] == "refused", 10, "it is logged")
    assert "may not use that service" in logged(g)[-1]["detail"]


def test_log_has_the_path_of_who_ends_at_once(joined):
    """ssh ends its ProxyCommand so: the connection began by the relay and went directly."""
    g = joined
    proc = g.client.programs.start(g.client.ns, "nc", g.client.program, "nc", HOST, "peer",
                                   env=g.client.env, stdin=subprocess.PIPE)
    proc.popen.stdin.write(b"GET 100000 1\n")
    proc.popen.stdin.flush()
    wait_until(lambda: "udp-punch to" in " ".join(lines(g.host)), 20, "it goes directly")
    proc.signal(signal.SIGHUP)
    proc.wait(10)
    wait_until(lambda: logged(g)[-1]["what"] == "closed", 10, "it is logged")
    assert logged(g)[-1]["detail"].endswith(", by udp-punch"), logged(g)[-2:]


def test_log_filters(joined):
    g = joined
    other = g.other_client("other")
    done = other.run("join", g.invite(), "--name", "other")
    assert done.status == 0
    assert other.run("nc", HOST, "peer", json=False, stdin=b"GET 10 1\n").status == 0
    wait_until(lambda: logged(g)[-1]["what"] == "closed", 10, "it is logged")
    mine = logged(g, "--who", "Other")
    assert [e["what"] for e in mine] == ["joined", "opened", "closed"], mine
    assert len(logged(g, "--since", "1h")) == len(logged(g)) > len(mine)
    assert logged(g, "--since", "2099-01-01") == [] == logged(g, "--who", "nobody")
    assert "Nothing of that is logged." in g.host.run("log", "--who", "nobody", json=False).stdout
    assert logged(g, "--since", time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() - 3600)))
    for bad in ("yesterday", "2026-13-01", "2026-01-01T", "-5"):
        says(g.host.run("log", f"--since={bad}", json=False), 2, "--since takes")
    follow = g.host.start("log", "--follow", "--who", "other", "--count", "1")
    follow.wait_event("audit", 10, what="closed")
    seen = len(follow.events)
    assert other.run("nc", HOST, "peer", json=False, stdin=b"GET 10 1\n").status == 0
    follow.wait_event("audit", 10, seen, what="closed")
    assert [e["what"] for e in follow.events] == ["closed", "opened", "closed"]
    assert follow.terminate() == 0


JOURNAL = "/run/systemd/journal/socket"


@pytest.mark.skipif(os.path.exists(JOURNAL), reason="this machine has a journal")
def test_the_journal_gets_fields(joined):
    g = joined
    g.host_proc.terminate()
    os.makedirs(os.path.dirname(JOURNAL), exist_ok=True)
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        journal.bind(JOURNAL)
        journal.settimeout(20 * patience())
        g.host.wrapper = ["sh", "-c", 'JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"', "sh"]
        g.start_host()
        assert g.client.run("nc", HOST, "peer", json=False, stdin=b"GET 10 1\n").status == 0
        entry = journal.recv(65536).decode().splitlines()
        assert "POSTERN_EVENT=opened" in entry and f"POSTERN_WHO={g.device}" in entry, entry
        assert "POSTERN_OBJECT=peer" in entry and "SYSLOG_IDENTIFIER=postern" in entry
        assert [x for x in entry if x.startswith("MESSAGE=") and "opened peer" in x], entry
    finally:
        journal.close()
        os.remove(JOURNAL)


# --------------------------------------------------------------------------- progress

def on_terminal(who, *argv):
    """What a terminal gets of it."""
    ours, theirs = pty.openpty()
    done = subprocess.Popen(who.ns.argv(postern(), *argv) if hasattr(who.ns, "argv") else
                            ["ip", "netns", "exec", who.ns.netns, postern(), *argv],
                            stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **who.env, "TERM": "xterm"})
    os.close(theirs)
    text = b""
    while select.select([ours], [], [], 30 * patience())[0]:
        try:
            text += os.read(ours, 4096)
        except OSError:
            break
    os.close(ours)
    return done.wait(10), text.decode()


@pytest.mark.parametrize("argv, word", [(["ping", "--count", "1", HOST], "looking for ways to home"),
                                        (["netcheck"], "asking the broker"), (["doctor"], "checking: ")])
def test_a_terminal_sees_what_is_under_way(joined, argv, word):
    g = joined
    status, text = on_terminal(g.client, *argv)
    assert word in text and "\r\x1b[K" in text, text
    assert "\x1b[3" not in text and not text.rstrip().endswith("..."), text
    assert status == 0, text
    plain = g.client.run(*argv, json=False, timeout=40)
    assert "\x1b" not in plain.stdout + plain.stderr and word not in plain.stdout + plain.stderr
