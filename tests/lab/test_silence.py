"""The host's network is away, or `up` does not live: whoever carries somebody's stream says
so, how long it is waited for, and when it is over."""

import os
import signal
import time

import pytest

from .actors import HOST
from .net import patience, wait_until
from .test_dark import brighten, darken
from .test_ends import pipe_nc

pytestmark = pytest.mark.postern
AWAY = f"nothing comes from {HOST} on any path: its network may be away"
WAITS = "open connections wait for it, 180 s at most"
BACK = f"{HOST} answers again"


@pytest.fixture
def warm(gate):
    """A client with `up`, and one without."""
    g = gate()
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    g.up = g.client.start("up")
    g.at = g.up.wait_event("service", 20)["local"].rsplit(":", 1)
    g.up.wait_event("path", 20)
    return g


class Held:
    """An `nc` whose stream stands and moves."""

    def __init__(self, g):
        self.proc = pipe_nc(g, "exec NC")
        self.say("HOLD")
        self.proc.wait_line("ok", 10)

    def say(self, text):
        try:
            self.proc.popen.stdin.write(text.encode() + b"\n")
            self.proc.popen.stdin.flush()
        except OSError:
            pass

    def hears(self, text):
        self.say(text)
        self.proc.wait_line(text, 15)


def carriers_alone(g):
    """What runs without `up`, each with a stream; and how to read what it says."""
    g.up.terminate()
    nc = Held(g)
    connect = g.client.start("connect", f"{HOST}:7000", "127.0.0.1:0")
    address, port = connect.wait_event("ready", 15)["local"].rsplit(":", 1)
    socks = g.client.start("socks", "--listen", "127.0.0.1:1090")
    socks.wait_event("ready", 15)
    flows = [g.client.start_peer("flow", address, port, 1),
             g.client.start_peer("flow", "127.0.0.1", 1090, 1, f"{HOST}:7000")]
    for flow in flows:
        flow.wait_line("at ")
    connect.wait_event("path", 15)
    socks.wait_event("path", 15)
    return nc, {"nc": lambda: nc.proc.stderr,
                "connect": lambda: connect.stderr + connect.stdout,
                "socks": lambda: socks.stderr + socks.stdout}


def carriers_by_up(g):
    """The same where `up` carries them; it is asked too."""
    nc = Held(g)
    connect = g.client.start("connect", f"{HOST}:7000", "127.0.0.1:0")
    address, port = connect.wait_event("ready", 15)["local"].rsplit(":", 1)
    flow = g.client.start_peer("flow", address, port, 1)
    flow.wait_line("at ")
    return nc, {"nc": lambda: nc.proc.stderr, "connect": lambda: connect.stderr,
                "up": lambda: g.up.stdout}


@pytest.mark.parametrize("carriers", [carriers_alone, carriers_by_up])
def test_everybody_says_that_the_host_is_away_and_back(warm, carriers):
    """Once an outage."""
    g = warm
    nc, said = carriers(g)

    def told(name):
        lines = [x for x in said[name]().splitlines() if AWAY in x and "rejected" not in x]
        return [x for x in lines if '"event"' not in x or name == "up"]
    for outage in (1, 2):
        darken(g, "a")
        begin = time.monotonic()
        nc.say("in the dark")
        for name in said:
            wait_until(lambda name=name: len(told(name)) >= outage, 12,
                       f"{name} says that nothing comes")
        assert time.monotonic() - begin < 12 * patience()
        brighten(g, "a")
        for name, text in said.items():
            back = '"event":"back"' if name == "up" else BACK
            wait_until(lambda text=text, back=back: text().count(back) >= outage or
                       text().count('"event":"back"') >= outage, 20, f"{name} says that it is back")
        nc.hears(f"light {outage}")
    for name, text in said.items():
        assert len(told(name)) == 2 and all(WAITS in x for x in told(name)), (name, text())


@pytest.mark.parametrize("talks", [False, True])
def test_an_nc_through_a_stopped_up_ends(warm, talks):
    """Its bytes are in the hands of a program that does not live."""
    g = warm
    nc = Held(g)
    g.up.freeze()
    begin = time.monotonic()
    try:
        if talks:
            nc.say("anybody there?")
        nc.proc.wait_line("'postern up' does not answer: it is stopped", 9, "err")
        told = time.monotonic() - begin
        assert nc.proc.wait(12) == 1
        took = time.monotonic() - begin
        assert told > 3 and took < 12 * patience(), (told, took)
        lines = nc.proc.stderr.splitlines()
        assert len(lines) == 2 and f"kill -CONT {g.up.pid}" in lines[1], lines
        assert f"the connection to {HOST} is lost" in lines[1], lines
    finally:
        g.up.signal(signal.SIGCONT)


def stands_for(g, *argv):
    """The lock of `up`, which is frozen, names another program: what is seen of that one
    (it computes; it sleeps) is taken for what `up` does."""
    proc = g.client.programs.start(g.client.ns, argv[0], *argv)
    path = os.path.join(g.client.state, "up.lock")
    with open(path, "r+", encoding="ascii") as f:
        before = f.read()
        f.seek(0)
        f.truncate()
        f.write(f"{proc.pid}\n")
    return proc, (path, before)


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "stuck"])
def test_an_up_that_is_busy_is_waited_for_and_not_called_stuck(warm, busy):
    """Among a crowd it gets no processor for long. Who has a stream through it keeps that;
    who comes stands in line and does not make a session of his own."""
    g = warm
    nc = Held(g)
    other = None
    g.up.freeze()
    try:
        other, _ = stands_for(g, *(("sh", "-c", "while :; do :; done") if busy else ("sleep", "600")))
        late = pipe_nc(g, "exec NC")
        if busy:
            late.wait_line("waiting: 'postern up' is busy", 9, "err")
            nc.proc.wait_line("'postern up' is busy", 18, "err")
            assert nc.proc.running and late.running
        else:
            late.wait_line("'postern up' does not answer; going on without it", 9, "err")
            nc.proc.wait_line("'postern up' does not answer: it is stuck", 9, "err")
    finally:
        g.up.signal(signal.SIGCONT)
        if other is not None:
            other.kill()
    nc.proc.wait_line("'postern up' answers again", 9, "err")
    nc.say("light 1")
    nc.hears("light 1")
    assert len(nc.proc.stderr.splitlines()) == 2, nc.proc.stderr
    assert busy != ("stuck" in nc.proc.stderr), nc.proc.stderr
    late.kill()


def test_a_connect_through_a_stopped_up_says_so_and_goes_on_with_it(warm):
    g = warm
    connect = g.client.start("connect", f"{HOST}:7000", "127.0.0.1:0")
    address, port = connect.wait_event("ready", 15)["local"].rsplit(":", 1)
    flow = g.client.start_peer("flow", address, port, 1)
    flow.wait_line("at ")
    g.up.freeze()
    try:
        connect.wait_line("'postern up' does not answer: it is stopped", 9, "err")
    finally:
        g.up.signal(signal.SIGCONT)
    connect.wait_line("'postern up' answers again", 9, "err")
    assert flow.running and len(connect.stderr.splitlines()) == 2, connect.stderr
    g.up.kill()
    connect.wait_line("'postern up' ended: connections through it are lost", 9, "err")
    assert flow.wait(10) != 0


def test_connect_beside_an_up_that_hears_nothing_of_the_host_says_so_at_once(warm):
    """And not when somebody connects: what it would say alone, and no `ready` that leads nowhere."""
    g = warm
    darken(g, "a")
    wait_until(lambda: g.client.run("status").event("host", state="offline"), 15, "the host is missed")
    procs = [g.client.start("connect", f"{HOST}:7000", "127.0.0.1:0"), g.client.start("open", f"{HOST}:7000")]
    for proc in procs:
        proc.wait_line(HOST, 4 * patience(), "err")
        assert not proc.find("ready") and proc.running, proc.stdout
    brighten(g, "a")
    for proc in procs:
        proc.wait_event("ready", 30)


def test_connect_beside_up_says_that_the_host_went_silent_before_anybody_connects(warm):
    g = warm
    proc = g.client.start("connect", f"{HOST}:7000", "127.0.0.1:0")
    proc.wait_event("ready", 15)
    darken(g, "a")
    proc.wait_line(AWAY, 40, "err")
    brighten(g, "a")
    proc.wait_line(BACK, 40, "err")
    g.up.kill()
    wait_until(lambda: not g.client.run("status").event("host"), 10, "nothing runs")
    assert "are lost" not in proc.stderr, proc.stderr    # there were none
    address, port = proc.wait_event("ready", 15)["local"].rsplit(":", 1)
    g.client.start_peer("flow", address, port, 1).wait_line("at ")


def test_nc_beside_up_ends_when_nothing_answers_at_all(warm):
    """As alone: within 11 s, and with the broker's silence as long as it is one."""
    g = warm
    darken(g, "b")
    done = g.client.run("nc", HOST, "7000", json=False, stdin=b"", timeout=40)
    assert done.status == 1 and "broker" in done.stderr, done.stderr
    assert done.seconds < 11 + 2 * patience(), (done.seconds, done.stderr)
