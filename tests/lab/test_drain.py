"""A broker that makes way for the next one: what goes directly, what is relayed, what is new."""

import re
import time

import pytest

from .actors import HOST, wait_direct, wait_relay
from .net import patience, wait_until
from .test_badinput import says
from .test_faults import progress, start_flow, whole

pytestmark = pytest.mark.postern


def longest_gap_ms(flow):
    return int(re.search(r"gap_ms (\d+)", flow.stdout).group(1))


class Load:
    """A flow through `connect` of one client."""

    def __init__(self, g, who, *paths):
        self.programs, self.client = g.programs, who
        self.proc = g.connect("7000", None, *paths, who=who)
        self.flow = start_flow(self)
        (wait_relay if paths else wait_direct)(self.proc)
        progress(self.flow)


@pytest.fixture
def busy(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    g.relayed = g.other_client("relayed")
    g.join(g.relayed)
    g.loads = [Load(g, g.client), Load(g, g.relayed, "--paths", "relay")]
    return g


def drain(g, *more):
    done = g.broker.run("broker", "drain", *more)
    assert done.status == 0, done.stderr
    return done.event("draining")


def roll(g, *more):
    """The old process, and how long a new session took from the moment that the port was free."""
    old = g.broker_proc
    told = drain(g, *more)
    began = time.monotonic()
    g.start_broker()
    done = g.client.run("ping", HOST, "--count", "1")
    assert done.status == 0, done.stderr
    took = time.monotonic() - began
    print(f"relayed {told['sessions']}, a new session after {took:.2f} s")
    return old, told, took


def test_a_rolling_restart_breaks_nothing(busy):
    g, olds = busy, []
    for turn in range(3):
        old, told, took = roll(g)
        assert turn > 0 or told["sessions"] >= 1, told
        assert took < 3 * patience(), took
        olds.append(old)
    for load in g.loads:
        progress(load.flow)
        whole(load.flow)
        print(f"longest gap {longest_gap_ms(load.flow)} ms")
        assert longest_gap_ms(load.flow) < 500 * patience(), load.flow.stdout
    for load in g.loads:
        load.proc.terminate()
    for old in olds:
        assert old.wait(90) == 0, old.stderr
    assert g.host_proc.running
    assert g.client.run("ping", HOST, "--count", "1").status == 0


def test_what_is_still_relayed_when_time_is_over_moves(busy):
    g = busy
    old, told, _ = roll(g, "--within", "2s")
    assert told["within_s"] == 2
    assert old.wait(20) == 0, old.stderr
    for load in g.loads:
        progress(load.flow)
        whole(load.flow)
        print(f"longest gap {longest_gap_ms(load.flow)} ms, old said {old.stderr}")
    assert longest_gap_ms(g.loads[0].flow) < 500 * patience()
    assert longest_gap_ms(g.loads[1].flow) < 3000 * patience()


def test_drain_says_what_it_cannot(gate, work):
    g = gate(host="none", client="none")
    g.start_broker()
    says(g.broker.run("broker", "drain", "--state", f"{work}/elsewhere", json=False), 1, "")
    says(g.broker.run("broker", "drian", json=False), 2, "there is an argument too many: 'drian'")
    says(g.broker.run("broker", "--within", "1s", json=False), 2, "for drain")
    old = g.broker_proc
    assert drain(g)["sessions"] == 0
    assert old.wait(10) == 0
    says(g.broker.run("broker", "drain", json=False), 1, "no broker runs with the state in")
    wait_until(g.start_broker, 10)
