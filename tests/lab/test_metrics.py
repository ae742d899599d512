"""Figures for who watches: broker, serve and up; and who asks in bad faith."""

import os
import re
import shutil
import subprocess

import pytest

from .actors import HOST
from .net import wait_until
from .test_badinput import says

pytestmark = pytest.mark.postern

AT = "127.0.0.1:9440"


def ask(g, actor, path, at=AT, *options):
    """Status and text, by curl in that machine."""
    where = ["--unix-socket", at, f"http://x{path}"] if at.startswith("/") else [f"http://{at}{path}"]
    done = g.programs.run(actor.ns, "curl", "curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}",
                          *options, *where, timeout=40)
    assert done.status == 0, done.stderr
    text, status = done.stdout.rsplit("\n", 1)
    return int(status), text


def figures(g, actor, at=AT):
    """Each sample by its name and labels."""
    status, text = ask(g, actor, "/metrics", at)
    assert status == 200, text
    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    if promtool:
        checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True,
                                 text=True, check=False)
        assert checked.returncode == 0 and not checked.stderr, checked.stderr
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            assert name not in found, name
            found[name] = float(value)
    return found


@pytest.fixture
def watched(gate, work):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker("--metrics", AT)
    g.start_host("--metrics", f"{work}/host.sock", "peer=7000")
    g.join()
    return g


@pytest.mark.needs("curl")
def test_broker_host_and_up_tell_their_figures(watched, work):
    g = watched
    assert ask(g, g.broker, "/healthz")[0] == ask(g, g.broker, "/readyz")[0] == 200
    before = figures(g, g.broker)
    up = g.client.start("up", "--metrics", "127.0.0.1:9441")
    up.wait_event("path", 20)
    assert g.client.run("nc", HOST, "peer", stdin=b"", json=False).status == 0

    def seen():
        f = figures(g, g.broker)
        return f if f['postern_broker_introductions_total{outcome="introduced"}'] >= 2 else None
    f = wait_until(seen, 10)
    assert f['postern_broker_connections{state="host"}'] == 1
    assert f['postern_broker_connections{state="client"}'] >= 1
    assert f["postern_broker_introduction_seconds_count"] >= 2
    assert f["postern_broker_relay_setup_seconds_count"] == f["postern_broker_relay_pairs_total"]
    assert f["process_resident_memory_bytes"] > 1e6 and f["process_open_fds"] > 3
    assert any(n.startswith('postern_build_info{version="') and 'role="broker"' in n for n in f)
    assert set(f) == set(before), "no label comes with who is there"
    h = figures(g, g.host, f"{work}/host.sock")
    assert h["postern_host_broker_up"] == 1 and h["postern_host_services"] == 1
    assert h['postern_host_introductions_total{outcome="opened"}'] >= 2
    assert sum(v for n, v in h.items() if n.startswith("postern_host_sessions{")) == 1
    assert h["postern_host_session_setup_seconds_count"] >= 2
    assert os.stat(f"{work}/host.sock").st_mode & 0o777 == 0o600
    u = figures(g, g.client, "127.0.0.1:9441")
    assert u["postern_up_brokers_up"] == 1 and u["postern_up_calls_total"] == 1
    assert sum(v for n, v in u.items() if re.match(r"postern_up_sessions\{kind=\"(?!none)", n)) == 1
    assert ask(g, g.client, "/readyz", "127.0.0.1:9441")[0] == 200


@pytest.mark.needs("curl")
def test_ready_is_present_at_the_broker(watched, work):
    g, at = watched, f"{work}/host.sock"
    assert ask(g, g.host, "/readyz", at) == (200, "ok\n")
    g.broker_proc.kill()
    status, why = wait_until(lambda: (lambda a: a if a[0] == 503 else None)(ask(g, g.host, "/readyz", at)), 20)
    assert len(why) > 10, why
    assert ask(g, g.host, "/healthz", at)[0] == 200
    assert figures(g, g.host, at)["postern_ready"] == 0
    g.host_proc.terminate()
    assert not os.path.exists(at)


# So many silent ones, one that never ends its question, one that does not read.
CROWD = r"""
import socket, sys, time
at = ("127.0.0.1", 9440)
kept = [socket.create_connection(at) for _ in range(40)]
kept[39].sendall(b"GET /metrics HTTP/1.1\r\n")
print("ready", flush=True)
began = time.monotonic()
kept[39].settimeout(20)
assert kept[39].recv(1) == b""
print("over %d" % (time.monotonic() - began), flush=True)
time.sleep(60)
"""


@pytest.mark.needs("curl")
def test_who_asks_in_bad_faith_takes_nothing_from_others(watched):
    g = watched
    crowd = g.programs.start(g.broker.ns, "crowd", "python3", "-c", CROWD)
    crowd.wait_line("ready", 10)
    for _ in range(20):
        assert ask(g, g.broker, "/healthz")[0] == 200
    crowd.wait_line("over", 20)
    took = int(re.search(r"over (\d+)", crowd.stdout).group(1))
    assert took <= 6, took
    assert ask(g, g.broker, "/metrics", AT, "-H", "X: " + "y" * 5000)[0] == 431
    assert ask(g, g.broker, "/metrics", AT, "-X", "POST", "-d", "x")[0] == 405
    assert ask(g, g.broker, "/elsewhere")[0] == 404
    assert ask(g, g.broker, "/metrics", AT, "-I")[0] == 200
    assert figures(g, g.broker)["process_open_fds"] < 200
    assert g.client.run("ping", HOST, "--count", "1").status == 0


def test_a_place_that_cannot_be_is_named(watched):
    g = watched
    for role, more in (("broker", ()), ("serve", ("--broker", g.link, "22")), ("up", ())):
        says(g.client.run(role, "--metrics", "localhost", *more, json=False), 2, "not an address to show figures at")
    says(g.broker.run("broker", "--metrics", AT, "--listen", "127.0.0.1:4433", "--state", g.client.state,
                      json=False), 1, f"cannot show figures at {AT}")
