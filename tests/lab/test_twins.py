"""Two machines with one copied state directory: one works, the other says why not."""

import shutil
import time

import pytest

from .actors import HOST, Actor
from .net import wait_until

pytestmark = pytest.mark.postern


def losses(*procs):
    for p in procs:
        p.poll_output()
    return sum(e.get("event") == "broker" and e["state"] == "lost"
               for p in procs for e in p.events)


def test_copied_host_leaves_the_other_in_peace(gate, work):
    """The one that was thrown out waits, with words, and comes when the other goes."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    twin = Actor(g.programs, g.topo.client.ns, f"{work}/twin")
    shutil.copytree(g.host.state, twin.state, ignore=shutil.ignore_patterns("*.sock"))
    twin.start_peer("tcp-server", 7000)
    second = twin.start("serve")
    second.wait_event("ready", 15)
    lost = g.host_proc.wait_event("broker", 10, state="lost")
    assert "this device's key" in lost["reason"], lost
    begin, served = time.monotonic(), 0
    while time.monotonic() - begin < 10:
        done = g.client.run("nc", HOST, "7000", json=False, stdin=b"GET 5 1\n")
        assert done.status == 0, done.stderr
        served += 1
    assert served > 2 and losses(g.host_proc, second) == 1
    second.kill()
    wait_until(lambda: g.host_proc.find("broker", state="back"), 20, "the first is back")
    assert g.client.run("nc", HOST, "7000", json=False, stdin=b"GET 5 1\n").status == 0
