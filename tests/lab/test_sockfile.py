"""Sockets that are files, on both sides; several services in one connect; what systemd is
told, and the sockets that it hands over."""

import os
import re
import signal
import socket
import stat
import sys
import threading

import pytest

from .actors import HOST
from .net import wait_until
from .test_badinput import says
from .topology import BROKER

pytestmark = pytest.mark.postern

# WORD... : each "tcp:ADDR:PORT", "udp:ADDR:PORT" or "file:PATH" is bound and given to the
# program behind "--" as systemd gives sockets.
GIVER = r"""
import os, socket, sys
at = sys.argv.index("--")
kept = []
for what in sys.argv[1:at]:
    kind, place = what.split(":", 1)
    s = socket.socket(socket.AF_UNIX if kind == "file" else socket.AF_INET,
                      socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(place if kind == "file" else (place.rsplit(":", 1)[0], int(place.rsplit(":", 1)[1])))
    if kind != "udp":
        s.listen(16)
    kept.append(os.dup(s.fileno()) if s.fileno() < 3 + at else s.fileno())
for i, fd in enumerate([os.dup(os.dup2(fd, 40 + i)) for i, fd in enumerate(kept)]):
    os.dup2(40 + i, 3 + i, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kept)))
os.execvp(sys.argv[at + 1], sys.argv[at + 1:])
"""


def given(*sockets):
    return [sys.executable, "-c", GIVER, *sockets, "--"]


class Echo:
    """Sends back what it is sent, at a socket that is a file."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.bind(path)
        self.socket.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                conn, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=(conn,), daemon=True).start()

    @staticmethod
    def _echo(conn):
        with conn:
            while data := conn.recv(4096):
                conn.sendall(data)

    def close(self):
        if self.socket.fileno() >= 0:
            self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()


def ask(path, word=b"hello"):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(20)
        s.connect(path)
        s.sendall(word)
        s.shutdown(socket.SHUT_WR)
        back = b""
        while data := s.recv(4096):
            back += data
        return back


@pytest.fixture
def filed(gate):
    """A host that publishes a socket that is a file, and two more services."""
    g = gate(host="none", client="none")
    g.echo_path = os.path.join(g.work, "echo.sock")
    g.echo = Echo(g.echo_path)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined(f"echo={g.echo_path}", "peer=7000", "dns=udp:5353")
    yield g
    g.echo.close()


def test_files_on_both_sides(filed):
    g = filed
    path = os.path.join(g.work, "here.sock")
    done = g.client.run("nc", HOST, "echo", json=False, stdin=b"by nc")
    assert done.status == 0 and done.stdout == "by nc", done.stderr
    connect = g.client.start("connect", f"{HOST}:echo", f"unix:{path}")
    assert connect.wait_event("ready", 20)["local"] == path
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert ask(path) == b"hello"
    second = g.client.run("connect", f"{HOST}:echo", f"unix:{path}", json=False)
    says(second, 1, "is in use by another program")
    assert ask(path) == b"hello"
    assert connect.terminate() == 0 and not os.path.exists(path)
    connect = g.client.start("connect", f"{HOST}:echo", f"unix:{path}")
    connect.wait_event("ready", 20)
    connect.kill()
    assert os.path.exists(path)
    connect = g.client.start("connect", f"{HOST}:echo", f"unix:{path}")   # a dead one is replaced
    connect.wait_event("ready", 20)
    assert ask(path) == b"hello"
    assert connect.terminate() == 0
    with open(path, "w", encoding="ascii") as f:
        f.write("kept")
    says(g.client.run("connect", f"{HOST}:echo", f"unix:{path}", json=False), 1, "is in use by another program")
    assert os.path.getsize(path) == 4
    says(g.client.run("connect", f"{HOST}:dns", f"unix:{path}2", json=False), 2, "which no socket file takes")
    says(g.client.run("connect", f"{HOST}:echo", f"unix:{g.work}/no/x", json=False), 1, "cannot be made: No such file")


def test_a_file_in_words_and_its_port(filed):
    g = filed
    up = g.client.start("up")
    port = up.wait_event("service", 20, name="echo")["port"]
    assert 20000 <= port < 30000
    connect = g.connect(port)
    assert connect.terminate() == 0
    path = os.path.join(g.work, "shared.sock")
    connect = g.client.start("connect", f"{HOST}:echo", f"unix:{path}")   # by the session of `up`
    connect.wait_event("ready", 20)
    big = os.urandom(60000)
    assert ask(path, big) == big
    assert connect.terminate() == 0 and not os.path.exists(path)
    g.echo.close()
    refused = g.client.run("nc", HOST, "echo", json=False, stdin=b"")
    says(refused, 1, f"echo at {g.echo_path[:20]}")
    os.unlink(g.echo_path)
    says(g.host.run("serve", "--reload", "--", f"{g.echo_path}", json=False), 2, "has no name")
    says(g.host.run("serve", "--reload", "--", "a=udp:/run/x", json=False), 2, "is not a port")
    for good in ("a=/run/a@b:80", "a=blue@/run/x,green@10.0.0.1:80", "a=/run/8000-8010"):
        assert g.host.run("serve", "--reload", "--", good).event("reloaded")["services"] == 1


def test_several_in_one_connect(filed):
    g = filed
    path = os.path.join(g.work, "here.sock")
    connect = g.client.start("connect", f"{HOST}:echo", f"unix:{path}", f"{HOST}:peer", f"{HOST}:peer", "127.0.0.1:7777")
    wait_until(lambda: connect.poll_output() or len([e for e in connect.events if e["event"] == "ready"]) == 3, 20)
    places = [e["local"] for e in connect.events if e["event"] == "ready"]
    assert sorted(places) == sorted([path, "127.0.0.1:7000", "127.0.0.1:7777"]), places
    assert ask(path) == b"hello"
    assert connect.terminate() == 0 and not os.path.exists(path)
    says(g.client.run("connect", f"{HOST}:peer", f"{HOST}:none", json=False), 1, "publishes no service 'none'")
    says(g.client.run("connect", f"{HOST}:peer", "127.0.0.1:1", "127.0.0.1:2", json=False), 2, "names no host")
    says(g.client.run("connect", f"{HOST}:peer", "127.0.0.1:99999", json=False), 2, "no local address")


def test_two_hosts_in_one_connect(filed):
    """Each for itself: that one is away keeps nobody from the other, and is told once."""
    g = filed
    attic = g.other_client("attic", ns=g.host.ns)
    serve = attic.start("serve", "--broker", g.link, "--name", "attic", f"loft={g.echo_path}")
    serve.wait_event("ready", 20)
    assert g.client.run("join", attic.run("invite").event("invite")["link"]).status == 0
    paths = {name: os.path.join(g.work, name + ".sock") for name in ("home", "attic")}
    connect = g.client.start("connect", f"{HOST}:echo", f"unix:{paths['home']}", "attic:loft", f"unix:{paths['attic']}")
    for name in paths:
        connect.wait_event("ready", 20, peer=name)
    assert ask(paths["home"]) == ask(paths["attic"]) == b"hello"
    assert serve.terminate() == 0
    connect.wait_event("error", 20)
    assert ask(paths["home"]) == b"hello"
    mark = connect.mark()
    attic.start("serve").wait_event("ready", 20)
    connect.wait_event("path", 60, since=mark, peer="attic")
    assert ask(paths["attic"]) == ask(paths["home"]) == b"hello"
    assert len([e for e in connect.events if e["event"] == "error"]) <= 2, connect.events
    assert connect.terminate() == 0 and not any(map(os.path.exists, paths.values()))


def told(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(path)
    s.settimeout(20)
    return s


def until(s, word, most=50):
    """What systemd is told, until it has that word."""
    said = []
    while not said or not re.search(word, said[-1]):
        assert len(said) < most, said
        said.append(s.recv(4096).decode())
    return said


def test_what_systemd_is_told(filed):
    g = filed
    actors = {"broker": g.broker, "serve": g.host, "up": g.client}
    for name, args in (("broker", ("--listen", "0.0.0.0:443", "--public", BROKER)), ("serve", ()), ("up", ())):
        who = actors[name]
        path = os.path.join(g.work, name + ".notify.sock")
        with told(path) as s:
            running = {"broker": g.broker_proc, "serve": g.host_proc}.get(name)
            assert running is None or running.terminate() == 0
            who.more_env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}
            proc = who.start(name, *args)
            until(s, "^READY=1\nSTATUS=\\w")
            if name == "serve":
                until(s, f"^STATUS=publishing 3 services as {HOST}$")
            for _ in range(2):
                until(s, "^WATCHDOG=1$")
            proc.signal(signal.SIGTERM)
            until(s, "STOPPING=1")
            assert proc.wait(10) == 0
            who.more_env = {}
            if name == "broker":
                g.start_broker()
            elif name == "serve":
                g.broker_proc.terminate()   # one that took it in before is waited for
                who.more_env = {"NOTIFY_SOCKET": path}
                g.host_proc = who.start("serve")
                until(s, "READY=1\nSTATUS=waits")
                g.start_broker()
                until(s, "3 services")


def test_sockets_from_systemd(filed):
    g = filed
    assert g.broker_proc.terminate() == 0
    g.broker.wrapper = given("tcp:0.0.0.0:443", "udp:0.0.0.0:443")
    g.broker_proc = g.broker.start("broker", "--public", BROKER)
    assert g.broker_proc.wait_event("ready", 20)["link"] == g.link
    assert g.client.run("ping", HOST, timeout=40).status == 0
    assert g.client.run("netcheck").event("netcheck")["udp"] == "yes"
    path = os.path.join(g.work, "here.sock")
    g.client.wrapper = given("tcp:127.0.0.1:7999", f"file:{path}")
    connect = g.client.start("connect", f"{HOST}:peer", f"{HOST}:echo")
    first = connect.wait_event("ready", 20, service="peer")
    assert first["local"] == "127.0.0.1:7999"
    connect.wait_event("ready", 20, service="echo")
    assert ask(path) == b"hello"
    assert connect.terminate() == 0
