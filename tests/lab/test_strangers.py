"""Strangers at a broker: from one address and from two hundred, with fresh keys, as many as
they can. Whoever is known comes in as if nobody else was there."""

import os
import signal
import time

import pytest

from .actors import HOST
from .conftest import full
from .topology import build_dir

pytestmark = pytest.mark.postern
STRANGERS = os.path.join(build_dir(), "tests", "lab", "strangers")
FIRST, COUNT, STEP = "198.19.0.1", 200, 64     # four in each /24
PINGS = 40 if full() else 8
SLACK_S = 0 if full() else 1     # a machine that does other work too


def crowd(g, mode, seconds, addresses, parallel):
    """Strangers on the internet, running; their addresses lead there and back."""
    ns, inet = g.topo.stranger, g.topo.inet
    ns.run("ip", "route", "replace", "local", "198.19.0.0/16", "dev", "lo")
    inet.run("ip", "route", "replace", "198.19.0.0/16", "via", "198.18.9.2")
    key = g.host_key if mode == "introduce" else "-"
    proc = g.programs.start(ns, "strangers", STRANGERS, mode, g.link, key, seconds, FIRST,
                            addresses, STEP, parallel)
    proc.wait_line("ready")
    return proc


def setup_s(g):
    """How long one ping takes that begins with nothing: broker, session, answer."""
    begin = time.monotonic()
    done = g.client.run("ping", HOST, "-c", "1", "--paths", "relay,udp-punch", timeout=25)
    assert done.status == 0, done.stdout + done.stderr
    return time.monotonic() - begin


def p95(values):
    return sorted(values)[max(0, -(-95 * len(values) // 100) - 1)]


@pytest.fixture
def served(gate):
    """A broker with 4,096 descriptors, which it cannot raise: 240 relay pairs and as many
    silent visitors for each of two threads, 960 devices."""
    g = gate(host="masq", client="masq")
    g.broker.wrapper = ["setpriv", "--bounding-set", "-sys_resource",
                        "prlimit", "--nofile=4096:4096"]
    g.up_and_joined("7000", broker_args=("--threads", "2"))
    g.host_key = g.host_proc.wait_event("ready")["key"]
    g.calm = p95([setup_s(g) for _ in range(PINGS)])
    return g


def under_attack(g, mode, addresses, parallel):
    proc = crowd(g, mode, 120, addresses, parallel)
    try:
        begin = time.monotonic()
        times = [setup_s(g) for _ in range(PINGS)]
        cpu = cpu_of(g.broker_proc)
        took = time.monotonic() - begin
    finally:
        proc.signal(signal.SIGTERM)
    done = proc.wait_event("strangers")
    assert done["dials"] > 100, done
    print(done)
    print(f"{mode} from {addresses}: set-up p95 {p95(times):.3f} s, calm {g.calm:.3f} s, "
          f"worst {max(times):.3f} s, {took:.1f} s, broker's CPU so far {cpu:.1f} s")
    return p95(times)


def cpu_of(proc):
    with open(f"/proc/{proc.popen.pid}/stat", encoding="ascii") as f:
        parts = f.read().rsplit(")", 1)[1].split()
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("mode,parallel", [("introduce", 100), ("silent", 9000)])
def test_strangers_stop_nobody(served, mode, parallel):
    """Every ping succeeds (setup_s) and none takes much longer than before."""
    for addresses in (1, COUNT):
        took = under_attack(served, mode, addresses, parallel)
        assert took < 2 * served.calm + SLACK_S
