"""A command begun at the moment of a fault: how long until its first answer.

Each scene lets the host be idle, or in use by another device, brings the fault about, and
begins a fresh `nc` every fifth of a second from then on. With POSTERN_FRESH=N each is
played N times and its figures are printed (docs/METHODS.md).
"""

import os
import random
import subprocess
import threading
import time

import pytest

from .actors import BROKER_PORT, HOST, wait_direct
from .conftest import full
from .net import patience, wait_until
from .test_dark import brighten, darken
from .topology import Wire

pytestmark = pytest.mark.postern
TIMES = int(os.environ.get("POSTERN_FRESH", "3" if full() else "1"))
EVERY_S, FOR_S = 0.2, 3.0
BEFORE = 2          # begun just before the fault, where the host need not be idle
LIMIT_S = 45
HEALTH_S = (1, 4), (4, 9), (9, 14)    # from one death of a broker to the next
MOST_S = 5          # under a host's router that forgets everything (docs/METHODS.md)


class Fresh:
    """Commands of one device, each with what it took."""

    def __init__(self, g):
        self.g, self.threads, self.took = g, [], []

    def begin(self, since):
        t = threading.Thread(target=self._ask, args=(time.monotonic() - since,))
        t.start()
        self.threads.append(t)

    def _ask(self, at_s):
        c = self.g.client
        argv = c.ns.command(c.program, "nc", HOST, "7000")
        begin = time.monotonic()
        try:
            done = subprocess.run(argv, input=b"ECHO\nhere\n", capture_output=True,
                                  timeout=LIMIT_S, env={**os.environ, **c.env})
            whole = done.returncode == 0 and done.stdout == b"here\n"
            why = done.stderr.decode(errors="replace")[-300:]
        except subprocess.TimeoutExpired:
            whole, why = False, "timeout"
        self.took.append((at_s, time.monotonic() - begin, whole, why))

    def begin_all(self, since, before):
        """One at each fifth of a second, from `before` of them ahead of `since` on."""
        for i in range(-before, int(FOR_S / EVERY_S)):
            time.sleep(max(0, since + i * EVERY_S - time.monotonic()))
            self.begin(since)

    def wait(self):
        for t in self.threads:
            t.join()


def rebooted(g, letter):
    """The site's router was off for a second and has another address now."""
    darken(g, letter)
    g.topo.flush_conntrack(letter)
    time.sleep(1)
    box, site = g.topo.sites[letter].box, g.topo.sites[letter]
    g.moved = not getattr(g, "moved", False)
    other = f"198.18.7.{1 if letter == 'a' else 2}"
    if g.moved:
        box.ip("addr", "add", f"{other}/32", "dev", "wan")
        g.topo.inet.ip("route", "replace", f"{other}/32", "via", site.public)
        box.nft(f'table ip moved {{ chain out {{ type nat hook postrouting priority 90;\n'
                f'oifname "wan" snat to {other}\n}} }}')
    else:
        box.nft("delete table ip moved")
        box.ip("addr", "del", f"{other}/32", "dev", "wan")
    g.topo.flush_conntrack(letter)
    brighten(g, letter)
    return 1.0


def cut(g, letter, seconds):
    darken(g, letter)
    time.sleep(seconds)
    brighten(g, letter)
    return seconds


def lose(g, letter, percent, seconds):
    box = g.topo.sites[letter].box
    box.nft("table inet lossy {\n chain forward { type filter hook forward priority -20;\n"
            f" numgen random mod 100 < {percent} drop\n }}\n}}")
    time.sleep(seconds)
    box.nft("delete table inet lossy")
    return seconds


def flush(g, *letters):
    for letter in letters:
        g.topo.flush_conntrack(letter)
    return 0.0


def move(g, machine):
    g.topo.move(machine, "c" if machine.site.letter != "c" else
                ("a" if machine is g.topo.host else "b"))
    return 0.0


def kill_broker(g):
    g.broker_proc.kill()
    g.start_broker()
    return 0.0


FAULTS = {
    "host-flush": lambda g: flush(g, "a"),
    "client-flush": lambda g: flush(g, "b"),
    "both-flush": lambda g: flush(g, "a", "b"),
    "host-reboot": lambda g: rebooted(g, "a"),
    "client-reboot": lambda g: rebooted(g, "b"),
    "client-roam": lambda g: move(g, g.topo.client),
    "host-move": lambda g: move(g, g.topo.host),
    "broker-kill": kill_broker,
    "host-cut": lambda g: cut(g, "a", random.uniform(1, 3)),
    "client-cut": lambda g: cut(g, "b", random.uniform(1, 3)),
    "host-loss": lambda g: lose(g, "a", random.randint(20, 40), 4),
    "client-loss": lambda g: lose(g, "b", random.randint(20, 40), 4),
}


def scene(gate, busy, loose, delay_ms):
    wire = {"wire_host": Wire(delay_ms=delay_ms)} if delay_ms else {}
    g = gate(**wire)
    for letter in "ab":
        g.topo.sites[letter].box.sysctl("net.netfilter.nf_conntrack_tcp_loose", loose)
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("7000")
    g.join()
    if busy:
        other = g.other_client("other", g.topo.stranger)
        g.join(other)
        flow = g.connect("7000", who=other)
        other.start_peer("flow", "127.0.0.1", flow.port, 1).wait_line("at ")
        wait_direct(flow)
    return g


def play(g, fault, busy):
    """One time; returns what each command took beyond the fault's own time."""
    time.sleep(random.uniform(6, 11))   # idle; at any moment between two of its questions
    fresh = Fresh(g)
    since = time.monotonic() + (BEFORE * EVERY_S if busy else 0)
    t = threading.Thread(target=fresh.begin_all, args=(since, BEFORE if busy else 0))
    t.start()
    time.sleep(max(0, since - time.monotonic()))
    over = FAULTS[fault](g)     # here: a program ends with the thread that began it
    t.join()
    fresh.wait()
    return [(at, s - max(0.0, min(s, over - at)), whole, why)
            for at, s, whole, why in fresh.took]


def tell(name, took):
    s = sorted(x[1] for x in took)
    print(f"\nFRESH {name}: {len(s)} p50 {s[len(s) // 2]:.2f} p95 {s[int(len(s) * .95)]:.2f}"
          f" max {s[-1]:.2f} failed {sum(not x[2] for x in took)}"
          f" load {os.getloadavg()[0]:.1f}", flush=True)


# A strict NAT (not `loose`) takes no packet in the middle of a connection.
@pytest.mark.parametrize("delay_ms", [0, 40] if full() else [0])
@pytest.mark.parametrize("loose", [1, 0])
@pytest.mark.parametrize("busy", [False, True] if full() else [False])
@pytest.mark.parametrize("fault", FAULTS if full() else ["host-flush"])
def test_a_fresh_command_under_a_fault(gate, fault, busy, loose, delay_ms):
    g = scene(gate, busy, loose, delay_ms)
    took = []
    for _ in range(TIMES):
        took += play(g, fault, busy)
    tell(f"{fault} {'busy' if busy else 'idle'} loose {loose} delay {delay_ms}", took)
    for x in took:
        if not x[2] or x[1] > 2:
            print("   at %.1f took %.2f %s %s" % x)
    assert all(x[2] for x in took), took
    if fault == "host-flush":
        assert max(x[1] for x in took) < MOST_S * patience(), took


def killed_again_and_again(g, times):
    """The broker is gone for a second or so, back for some, and gone again; a command at
    each kill, one halfway and one when it is back. What each took beyond that moment."""
    took = []
    for i in range(times):
        fresh = Fresh(g)
        g.broker_proc.kill()
        killed = time.monotonic()
        away = random.uniform(0.05, 1.5)
        fresh.begin(killed)
        time.sleep(away / 2)
        fresh.begin(killed)
        time.sleep(away / 2)
        g.start_broker()
        back = time.monotonic() - killed
        fresh.begin(killed)
        fresh.wait()
        took += [(at, max(0.0, at + s - max(at, back)), whole, why)
                 for at, s, whole, why in fresh.took]
        time.sleep(random.uniform(*HEALTH_S[i % len(HEALTH_S)]))
    return took


def test_a_broker_that_is_killed_again_and_again(gate):
    """Nobody pauses for long because it died before: each time it is a new one."""
    g = scene(gate, False, 1, 0)
    took = killed_again_and_again(g, max(5, 8 * (TIMES - 1)))
    tell("broker killed again and again", took)
    assert all(x[2] for x in took), took
    assert max(x[1] for x in took) < 2.5 * patience(), took


COUNTED = """table inet counted {{
    chain out {{
        type filter hook output priority 0;
        ip daddr {address} tcp sport {port} meta length > 500 counter
    }}
}}"""


@pytest.mark.skipif(not os.path.exists("/proc/sys/net/ipv4/tcp_rto_max_ms"),
                    reason="kernels before 6.15 cannot be asked for it")
def test_an_introduction_that_a_host_did_not_get_is_sent_again_each_second(gate):
    """Its router may be back from one moment to the next, and then the broker's next packet
    mends it: the eighth after 5.5 s, where pauses that double would make it 25 s."""
    g = scene(gate, False, 1, 0)
    g.topo.broker.nft(COUNTED.format(address=g.topo.sites["a"].public, port=BROKER_PORT))

    def sent():
        rules = g.topo.broker.run("nft", "list", "table", "inet", "counted")
        return int(rules.split("packets ")[1].split()[0])

    before = sent()
    darken(g, "a")
    fresh = Fresh(g)
    fresh.begin(time.monotonic())
    wait_until(lambda: sent() > before, 5, "the introduction is on its way")
    begin, before = time.monotonic(), sent()
    wait_until(lambda: sent() >= before + 7, 14, "it was sent again")
    took = time.monotonic() - begin
    brighten(g, "a")
    fresh.wait()
    assert took < 10, took
    assert all(x[2] for x in fresh.took), fresh.took
