"""A host that the client joined turns hostile, and says through the broker what it can: the
client's thin line stays its own. Each test prints its figures, which docs/SECURITY.md states."""

import os
import time

import pytest

from .actors import HOST, Actor
from .conftest import full
from .net import patience, wait_until
from .topology import Wire, build_dir

pytestmark = pytest.mark.postern

THIN = Wire(delay_ms=10, rate_mbit=0.256, queue_ms=1000)
LINE = 32000           # bytes a second
ROUNDS = 10 if full() else 4
SLACK_S = 0.5 * patience()
EVIL = "evil"


class Rig:
    """A client of two hosts, one of which turns hostile when it is told to."""

    def __init__(self, g, work):
        self.g, self.order = g, os.path.join(work, "flood")
        g.up_and_joined("7000", broker_args=("--threads", "2"))
        self.evil = Actor(g.programs, g.topo.stranger, os.path.join(work, EVIL))
        self.evil.program = os.path.join(build_dir(), "tests", "lab", "turncoat")
        self.evil.more_env["FLOOD"] = self.order
        self.evil_proc = self.evil.start("serve", "--broker", g.link, "--name", EVIL, "7000")
        self.evil_proc.wait_event("ready", 20)
        link = next(e["link"] for e in self.evil.run("invite").events if "link" in e)
        assert g.client.run("join", link).status == 0

    def flood(self, how):
        with open(self.order + ".new", "w", encoding="ascii") as f:
            f.write(how)
        os.rename(self.order + ".new", self.order)

    def calm(self):
        if os.path.exists(self.order):
            os.unlink(self.order)

    def moved(self):
        """Bytes that came to the client's site, and that went from it."""
        return [int(self.g.topo.sites["b"].box.run(
            "cat", f"/sys/class/net/wan/statistics/{way}_bytes")) for way in ("rx", "tx")]

    def rates(self, seconds):
        before, begin = self.moved(), time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - begin
        return [(now - then) / took for now, then in zip(self.moved(), before)]

    def ping_s(self, who):
        """From nothing to an answer by the relay."""
        begin = time.monotonic()
        done = self.g.client.run("ping", who, "-c", "1", "--paths", "relay", timeout=60)
        assert done.status == 0, done.stdout + done.stderr
        return time.monotonic() - begin

    def pings(self):
        return sorted(self.ping_s(HOST) for _ in range(ROUNDS))


@pytest.fixture
def rig(gate, work):
    r = Rig(gate(host="masq", client="masq", wire_client=THIN), work)
    r.quiet = r.pings()
    yield r
    r.calm()


def programs(r, count):
    """So many of the client's programs, each with a session with that host of its own."""
    procs = [r.g.client.start("connect", "--paths", "relay", f"{EVIL}:7000", "127.0.0.1:0")
             for _ in range(count)]
    for p in procs:
        p.wait_event("ready", 30 * patience())
        p.wait_event("path", 30 * patience(), kind="relay")
    return procs


def held_off(r, what, most):
    """An honest host is reached as when it is calm, and no more than that is on the line."""
    wait_until(lambda: max(r.rates(1)) < most, 30 * patience(),
               f"{what}: what it may at once is said")
    (rate, sent), then = r.rates(8), r.pings()
    print(f"{what}: {rate / 1000:.1f} KB/s of {LINE / 1000:.0f}, and {sent / 1000:.1f} sent; ping of another host p50 "
          f"{then[len(then) // 2]:.2f} s, slowest {then[-1]:.2f} s; calm "
          f"{r.quiet[len(then) // 2]:.2f} and {r.quiet[-1]:.2f} s")
    assert rate < most and sent < most, (rate, sent)
    assert then[-1] < 2 * r.quiet[-1] + SLACK_S, then


@pytest.mark.parametrize("how", ["carry", "signal", "refuse", "accept"])
def test_a_host_does_not_fill_the_line_of_who_uses_it(rig, how):
    programs(rig, 1)
    rig.flood(how)
    held_off(rig, how, 10000)


@pytest.mark.parametrize("how", ["reset", "renew"])
def test_a_host_that_makes_its_client_speak(rig, how):
    """By the broker, and on the paths that it lets the client try again and again."""
    programs(rig, 1)
    rig.flood(how)
    held_off(rig, how, 20000)


@pytest.mark.parametrize("how", ["fresh carry", "back carry", "fresh renew", "back"])
def test_a_host_that_lets_its_client_begin_anew(rig, how):
    """Nothing is had anew by that, and it happens less and less often."""
    rig.flood(how)
    up = rig.g.client.start("up", "--paths", "relay")
    up.wait_event("service", 20 * patience(), host=HOST)
    time.sleep(5)       # what it may at once
    held_off(rig, how, 12000)


@pytest.mark.parametrize("how", ["unasked carry", "unasked refuse"])
def test_unasked_words_to_many_programs(rig, how):
    """They count as what they are on the line, and all copies of them together."""
    programs(rig, 12)
    rig.flood(how)
    held_off(rig, how, 3000)


def test_who_has_left_a_host_hears_no_more_of_it(rig):
    up = rig.g.client.start("up")
    up.wait_event("service", 20 * patience(), host=EVIL)
    rig.flood("carry")
    held_off(rig, "carry to `up`", 10000)
    assert rig.g.client.run("leave", EVIL).status == 0
    held_off(rig, "carry after `leave`", 3000)
