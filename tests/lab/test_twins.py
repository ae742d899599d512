"""Two machines with one copied state directory: one works, the other says why not."""

import shutil
import signal
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
    shutil.copytree(g.host.state, twin.state, ignore=shutil.ignore_patterns("*.sock", "*-journal"))
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
    assert served > 2
    assert losses(g.host_proc, second) <= 2     # a second one where the machine stood still
    second.kill()
    wait_until(lambda: g.host_proc.find("broker", state="back"), 20, "the first is back")
    assert g.client.run("nc", HOST, "7000", json=False, stdin=b"GET 5 1\n").status == 0


def test_copied_clients_both_work(gate, work):
    """`up` and `connect` of one device on two machines: as two commands beside each other,
    none is thrown out; when one dies the other's connections go on."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    twin = Actor(g.programs, g.topo.stranger, f"{work}/twin")
    shutil.copytree(g.client.state, twin.state, ignore=shutil.ignore_patterns("*-journal"))
    ups = [who.start("up") for who in (g.client, twin)]
    places = [up.wait_event("service", 20)["local"].rsplit(":", 1) for up in ups]
    alone = g.other_client("client")    # the same directory, and a session of its own
    alone.more_env["POSTERN_STATE"] = shutil.copytree(g.client.state, f"{work}/third",
                                                      ignore=shutil.ignore_patterns("*.sock", "*-journal"))
    connect = g.connect("7000", who=alone)
    flows = [who.start_peer("flow", address, port, 5)
             for who, (address, port) in zip((g.client, twin), places)]
    flows.append(alone.start_peer("flow", "127.0.0.1", connect.port, 5))
    for flow in flows:
        flow.wait_line("at ", 20)
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() > begin + 11, 15)    # two sweeps and the doubt
    assert losses(*ups, connect) == 0
    held = g.host.run("status").events
    assert sum(e.get("event") == "session" for e in held) == 3, held
    ups[1].kill()
    twin_flow = flows.pop(1)
    assert twin_flow.wait(20) != 0
    for flow in flows:
        flow.signal(signal.SIGTERM)
        assert flow.wait(20) == 0 and flow.stdout.splitlines()[-1] == "whole", flow.stdout
    assert losses(ups[0], connect) == 0


@pytest.mark.parametrize("way", ["relay", "direct"])
def test_copied_host_ends_no_session_of_the_first(gate, work, way):
    """The second says that it knows no session; the one that stands answers, and goes on."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    kinds = ["--paths", "relay" if way == "relay" else "udp-punch"]
    connect = g.connect("7000", None, *kinds)
    flow = g.client.start_peer("flow", "127.0.0.1", connect.port, 5)
    flow.wait_line("at ", 20)
    twin = Actor(g.programs, g.topo.stranger, f"{work}/twin")
    shutil.copytree(g.host.state, twin.state, ignore=shutil.ignore_patterns("*.sock", "*-journal"))
    second = twin.start("serve")
    second.wait_event("ready", 15)
    g.host_proc.wait_event("broker", 10, state="lost")
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() > begin + 8, 12)     # several answers of the second
    assert connect.running, connect.stderr
    assert "does not know this session" not in connect.stderr
    flow.signal(signal.SIGTERM)
    assert flow.wait(20) == 0 and flow.stdout.splitlines()[-1] == "whole", flow.stdout
