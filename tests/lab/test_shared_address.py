"""Somebody at a NAT's address floods the broker with first messages of TLS, and honest ones come
from the same address: those whom a host let in before come through, newcomers in seconds."""

import os
import signal
import time

import pytest

from .actors import HOST
from .conftest import full
from .net import patience
from .topology import BROKER, build_dir

pytestmark = pytest.mark.postern
STRANGERS = os.path.join(build_dir(), "tests", "lab", "strangers")
FAIR = ("nice", "-n", "19")
ROUNDS = 20 if full() else 6

# So many connections a second, each with one whole ClientHello and no more; the newest are held.
FLOOD = """
import collections, socket, sys, time
to, hello, rate = sys.argv[1], bytes.fromhex(sys.argv[2]), int(sys.argv[3])
begun, held, busy = 0, collections.deque(), 0
start = time.monotonic()
print("ready", flush=True)
while True:
    while begun < (time.monotonic() - start) * rate:
        s = socket.socket()
        s.setblocking(False)
        try:
            s.connect((to, 443))
        except BlockingIOError:
            pass
        held.append([s, False])
        begun += 1
    for pair in held:
        if not pair[1]:
            try:
                pair[0].send(hello)
                pair[1] = True
            except BlockingIOError:
                pass
            except OSError:
                pair[1] = True
    while len(held) > 3000:
        held.popleft()[0].close()
    time.sleep(0.005)
"""


def flood(g, rate):
    ns = g.topo.stranger
    hello = g.programs.run(ns, "hello", STRANGERS, "hello", "postern-broker/1").stdout.strip()
    proc = g.programs.start(ns, "flood", *FAIR, "prlimit", "--nofile=4000:4000",
                            "/usr/bin/python3", "-c", FLOOD, BROKER, hello, rate)
    proc.wait_line("ready")
    return proc


def timed(times, run):
    begin = time.monotonic()
    done = run()
    times.append(time.monotonic() - begin)
    return done


def told(what, times, failed):
    v = sorted(times)
    print(f"{what}: {len(v) - failed} of {len(v)}, p50 {v[len(v) // 2]:.2f} s, "
          f"p95 {v[max(0, -(-95 * len(v) // 100) - 1)]:.2f} s, load {os.getloadavg()[0]:.1f}")


@pytest.mark.parametrize("rate", [200, 1000])
def test_a_flood_from_the_own_address(gate, rate):
    g = gate(host="masq", client="masq")
    g.up_and_joined("7000", broker_args=("--threads", "2"))
    known = g.other_client("known", g.topo.stranger)
    g.join(known)
    assert known.run("ping", HOST, "-c", "1").status == 0
    links = [g.invite() for _ in range(ROUNDS)]
    proc = flood(g, rate)
    time.sleep(8)       # what an address may have saved up is used up
    pings, joins, bad = [], [], [0, 0]
    for i in range(ROUNDS):
        done = timed(pings, lambda: known.run("ping", HOST, "-c", "1", timeout=40))
        bad[0] += done.status != 0
        who = g.other_client(f"new-{i}", g.topo.stranger)
        done = timed(joins, lambda: who.run("join", links[i], timeout=40))
        bad[1] += done.status != 0
    assert proc.running
    proc.signal(signal.SIGKILL)
    told(f"ping under {rate}/s", pings, bad[0])
    told(f"join under {rate}/s", joins, bad[1])
    assert bad == [0, 0]
    assert max(pings) < 1 + patience() * 0.5
    assert sorted(joins)[len(joins) // 2] < 2 + patience()
