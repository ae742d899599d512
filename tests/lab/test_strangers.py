"""Strangers at a broker: from one address and from two hundred, with fresh keys, as many as
they can. Whoever is known comes in as if nobody else was there."""

import os
import resource
import signal
import sqlite3
import time

import pytest

from .actors import HOST
from .conftest import full
from .net import patience, wait_until
from .topology import BROKER, Wire, build_dir

pytestmark = pytest.mark.postern
PROTOCOLS = ("http/1.1", "postern-broker/1", "postern-relay/1")
STRANGERS = os.path.join(build_dir(), "tests", "lab", "strangers")
FIRST, COUNT, STEP = "198.19.0.1", 200, 64     # four in each /24
# Theirs are other machines: what they compute is not taken from the broker and its clients.
FAIR = ("nice", "-n", "19")
PINGS = 40 if full() else 8
SLACK_S = 0 if full() else 0.3 * patience()     # a machine that does other work too


def crowd(g, mode, seconds, addresses, parallel, *box, first=FIRST):
    """Strangers on the internet, running; their addresses lead there and back."""
    ns, inet = g.topo.stranger, g.topo.inet
    ns.run("ip", "route", "replace", "local", "198.19.0.0/16", "dev", "lo")
    inet.run("ip", "route", "replace", "198.19.0.0/16", "via", "198.18.9.2")
    key = g.host_key if mode == "introduce" else "-"
    proc = g.programs.start(ns, "strangers", *FAIR, STRANGERS, mode, g.link, key, seconds, first,
                            addresses, STEP, parallel, *box)
    proc.wait_line("ready")
    return proc


def setup_s(g):
    """How long one ping takes that begins with nothing: broker, session, answer."""
    begin = time.monotonic()
    done = g.client.run("ping", HOST, "-c", "1", "--paths", "relay,udp-punch", timeout=25)
    assert done.status == 0, done.stdout + done.stderr
    return time.monotonic() - begin


def join_s(g, ns=None):
    """How long a new device takes to join: it is a stranger too."""
    who, link = g.other_client(f"new-{time.monotonic_ns()}", ns), g.invite()
    begin = time.monotonic()
    g.join(who, link)
    return time.monotonic() - begin


def p95(values):
    """Of eight, or twelve, all but the worst, which is any other program's moment."""
    return sorted(values)[max(0, 95 * len(values) // 100 - 1)]


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


# Opens connections from many addresses, says one whole ClientHello, and no more.
# As many a second as a broker can answer that has its cores for itself, or its share of them.
HELLOS = f"PAUSE_S = {0.05 * patience()}" + """
import socket, ssl, sys, time
def browsers():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    try:
        context.wrap_bio(into, out, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        return out.read()
hello = bytes.fromhex(sys.argv[2]) if len(sys.argv) > 2 else browsers()
print("ready", flush=True)
held = []
while len(held) < 9000:
    s = socket.socket()
    s.setblocking(False)
    n = len(held)
    s.bind((f"198.19.{n % 200 // 4}.{1 + n % 4 * 64}", 0))
    try:
        s.connect((sys.argv[1], 443))
    except BlockingIOError:
        pass
    held.append(s)
    if n % 100 == 99:
        time.sleep(PAUSE_S)
        for s in held[-100:]:
            try:
                s.send(hello)
            except OSError:
                pass
print("done", flush=True)
time.sleep(60)
"""


def half_handshakes(g, protocol):
    """Nine thousand of them from 200 addresses."""
    g.topo.stranger.run("ip", "route", "replace", "local", "198.19.0.0/16", "dev", "lo")
    g.topo.inet.run("ip", "route", "replace", "198.19.0.0/16", "via", "198.18.9.2")
    said = []
    if protocol != "http/1.1":
        said = [g.programs.run(g.topo.stranger, "hello", STRANGERS, "hello",
                               protocol).stdout.strip()]
    proc = g.programs.start(g.topo.stranger, "hellos", *FAIR, "prlimit", "--nofile=10000:10000",
                            "/usr/bin/python3", "-c", HELLOS, BROKER, *said)
    proc.wait_line("ready")
    return proc


def test_strangers_delay_no_join(served):
    """Nor do those who come for the first time wait behind them."""
    g = served
    calm = p95([join_s(g) for _ in range(PINGS)])
    for addresses in (1, COUNT):
        proc = crowd(g, "introduce", 120, addresses, 100)
        times = [join_s(g) for _ in range(PINGS)]
        proc.signal(signal.SIGTERM)
        assert proc.wait_event("strangers")["introduced"] > 100
        print(f"joins during strangers from {addresses}: p95 {p95(times):.3f} s, "
              f"calm {calm:.3f} s")
        assert p95(times) < 2 * calm + SLACK_S


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_half_handshakes_stop_nobody(served, protocol):
    g = served
    proc = half_handshakes(g, protocol)
    times = [setup_s(g) for _ in range(PINGS)]
    proc.wait_line("done", 60)
    held = len(os.listdir(f"/proc/{g.broker_proc.popen.pid}/fd"))
    proc.kill()
    # The machine may have become slower meanwhile, by what is not the strangers' work.
    calm = max(g.calm, p95([setup_s(g) for _ in range(PINGS)]))
    print(f"{protocol}: set-up p95 {p95(times):.3f} s, calm {g.calm:.3f} s and {calm:.3f} s; "
          f"the broker holds {held} descriptors")
    assert p95(times) < 2 * calm + SLACK_S
    assert held < 3600


def memory_mb(g):
    with open(f"/proc/{g.broker_proc.popen.pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024


def test_half_handshakes_cost_little_memory(gate):
    """However many descriptors there are; and what they cost is given back."""
    g = gate(host="masq", client="masq")
    most_fds = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    g.broker.wrapper = ["prlimit", f"--nofile={most_fds}:{most_fds}"]
    g.up_and_joined("7000", broker_args=("--threads", "2"))
    calm = memory_mb(g)
    for protocol in PROTOCOLS:
        proc = half_handshakes(g, protocol)
        most = 0
        while "done" not in proc.stdout:
            most = max(most, memory_mb(g))
            time.sleep(0.05)
        proc.signal(signal.SIGKILL)
        begin = time.monotonic()
        print(f"{protocol}: {most:.0f} MB, calm {calm:.0f} MB")
        assert most < 64, protocol
        wait_until(lambda: memory_mb(g) < calm + 8, 60, "the memory is given back")
        print(f"given back after {time.monotonic() - begin:.0f} s")


THIN = [Wire(delay_ms=10, rate_mbit=0.256, queue_ms=1000),
        Wire(delay_ms=10, rate_mbit=1, queue_ms=1000)]
THIN_ROUNDS = 20 if full() else 6


def thin_times(g):
    """A listed device's ping and a new one's join, in turns."""
    pings, joins = [], []
    for _ in range(THIN_ROUNDS):
        pings.append(setup_s(g))
        joins.append(join_s(g))
    return pings, joins


WELL_S = 21     # so long a broker must be well for the next pause to be short


def restarted(g, since):
    """A listed device's ping when the broker has just begun anew, and knows nobody. It was
    well `since`; and is again since the second that is returned."""
    took = []
    for _ in range(3 if full() else 1):
        time.sleep(max(0, since + WELL_S - time.monotonic()))
        g.broker_proc.kill()
        g.start_broker("--threads", "2")
        took.append(setup_s(g))
        since = time.monotonic()
    return took, since


def told(what, values):
    v = sorted(values)
    print(f"{what}: p50 {v[len(v) // 2]:.2f} s, p95 {p95(v):.2f} s, worst {v[-1]:.2f} s")


@pytest.mark.parametrize("addresses,box,wire", [
    pytest.param(addresses, box, wire, id=f"{addresses}-{box}-{wire.rate_mbit} Mbit/s")
    for addresses, box, wires in [(1, 600, THIN[1:]), (25, 600, THIN), (25, 3800, THIN[:1])]
    for wire in (THIN if full() else wires[:1])])
def test_strangers_do_not_fill_a_thin_line(gate, wire, addresses, box):
    """Whatever they send to a host goes to it when its line has room, in turns."""
    g = gate(host="masq", client="masq", wire_host=wire)
    g.up_and_joined("7000", broker_args=("--threads", "2"))
    g.host_key = g.host_proc.wait_event("ready")["key"]
    since = time.monotonic()
    calm = thin_times(g)
    calm_after, since = restarted(g, since)
    told("calm ping", calm[0])
    told("calm join", calm[1])
    told("calm ping right after the broker's restart", calm_after)
    proc = crowd(g, "introduce", 600, addresses, 100, box)
    time.sleep(3)           # what the first of them sent is on its way
    crowded = thin_times(g)
    told(f"ping during strangers from {addresses}", crowded[0])
    told(f"join during strangers from {addresses}", crowded[1])
    after, _ = restarted(g, since)
    told("ping right after the broker's restart", after)
    proc.signal(signal.SIGTERM)
    print(proc.wait_event("strangers"))
    for before, then in zip(calm, crowded):
        assert p95(then) < 2 * p95(before) + SLACK_S
    # The host comes back to a broker to which all strangers come back too.
    assert max(after) < 2 * max(calm_after) + 2 + SLACK_S


def test_an_invite_passes_strangers_of_its_own_address(gate):
    """Whoever shares an address with them, behind one NAT, joins all the same."""
    g = gate(host="masq", client="masq", wire_host=THIN[0])
    g.up_and_joined("7000", broker_args=("--threads", "2"))
    g.host_key = g.host_proc.wait_event("ready")["key"]
    calm = [join_s(g, g.topo.stranger) for _ in range(THIN_ROUNDS)]
    told("calm join", calm)
    # As many connections as an address may open; with more, it is refused before TLS.
    proc = crowd(g, "introduce", 600, 1, 12, 600, first="198.18.9.2")
    time.sleep(3)
    crowded = [join_s(g, g.topo.stranger) for _ in range(2 * THIN_ROUNDS)]
    told("join from the strangers' address", crowded)
    proc.signal(signal.SIGTERM)
    assert proc.wait_event("strangers")["introduced"] > 1000
    # The machine may have become slower meanwhile, by what is not the strangers' work.
    calm += [join_s(g, g.topo.stranger) for _ in range(THIN_ROUNDS)]
    told("calm join, before and after", calm)
    bound = 2 * p95(calm) + 1.5 + SLACK_S
    assert p95(crowded) < bound
    assert max(crowded) < bound + 3     # TCP's own: a SYN is sent again after 1 s, and after 2 s more


def list_more(host, count):
    """The host's list grows by devices that never come; all are newer than who is on it."""
    db = sqlite3.connect(f"{host.state}/host.db", timeout=10)
    with db:
        db.executemany("INSERT INTO client (key, name, allowed, added_s) VALUES (?, ?, '', ?)",
                       [(os.urandom(32), f"more-{i}", int(time.time())) for i in range(count)])
    db.close()


def ping_s(who):
    begin = time.monotonic()
    done = who.run("ping", HOST, "-c", "1", "--paths", "relay", timeout=60)
    assert done.status == 0, done.stdout + done.stderr
    return time.monotonic() - begin


def test_a_restarted_broker_knows_the_oldest_of_many_devices(gate):
    """One of 5,000, of which the host names 500; it shares an address with strangers."""
    g = gate(host="masq", client="masq", wire_host=THIN[0])
    g.up_and_joined("7000", broker_args=("--threads", "2"))
    g.host_key = g.host_proc.wait_event("ready")["key"]
    old = g.other_client("old", g.topo.stranger)
    g.join(old, g.invite())
    calm = max(ping_s(old) for _ in range(3))       # listed: it is given its badge
    wait_until(lambda: os.path.exists(f"{old.state}/host-badges"), what="the badge for the host")
    list_more(g.host, 5000)
    g.host_proc.signal(signal.SIGTERM)              # it forgets who came since its start
    assert g.host_proc.wait(10) == 0
    g.host_proc = g.start_host("7000")
    g.broker_proc.kill()
    g.start_broker("--threads", "2")
    assert setup_s(g) > 0                           # the host is back
    proc = crowd(g, "introduce", 600, 1, 12, 600, first="198.18.9.2")
    time.sleep(3)
    took = ping_s(old)
    print(f"calm {calm:.2f} s, among strangers after the restart {took:.2f} s")
    proc.signal(signal.SIGTERM)
    assert proc.wait_event("strangers")["introduced"] > 1000
    assert took < 2 * calm + 1.5 + SLACK_S
