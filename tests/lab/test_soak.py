"""A soak: six devices that connect, move and die under one host, for a minute or, with
`make soak`, for ten. Nothing may hang, no byte may be wrong, and neither the host nor the
broker may hold more at the end than when all six had first come in.

What happens next is drawn from a seed, which stands in the report: POSTERN_SOAK_SEED
repeats a run, as far as networks repeat."""

import os
import random
import signal
import time

import pytest

from .actors import HOST, postern
from .net import wait_until

pytestmark = pytest.mark.postern
SOAK_S = float(os.environ.get("POSTERN_SOAK_S", "20"))
SEED = int(os.environ.get("POSTERN_SOAK_SEED", str(int(time.time()))))
GOES_ON_S = 10     # by when every connection moves again after what happened
QUIET_S = 40       # by when all that ended devices held is given back
MORE_FDS = 4       # what may come and go: sockets that linger, questions to STUN
MORE_RSS_KB = 3072 if SOAK_S < 300 else 6144   # the allocator's own slack, not a leak's


class Device:
    """A machine with one long-running command of Postern and a flow through it."""

    def __init__(self, g, number):
        self.g, self.name = g, f"d{number}"
        self.command = "up" if number % 2 else "connect"
        self.machine = g.topo.machine(self.name, "bc"[number % 2], 50 + number)
        self.actor = g.other_client(self.name, self.machine.ns)
        self.proc = self.flow = None
        self.lives = 0

    def join(self):
        self.g.join(self.actor)

    def live(self):
        """Comes in, or in again after its death."""
        self.lives += 1
        if self.command == "up":
            self.proc = self.actor.start("up", "--verbose")
            local = self.proc.wait_event("service", 20, name="7000")["local"]
        else:
            self.proc = self.actor.start("connect", "--verbose", f"{HOST}:7000", "127.0.0.1:0")
            local = self.proc.wait_event("ready", 20)["local"]
        self.address, self.port = local.rsplit(":", 1)
        self.flow = self.actor.start_peer("flow", self.address, self.port, 1)

    def die(self):
        """As of an empty battery: the network hears nothing."""
        self.proc.kill()
        assert self.flow.wait(10) != 0, "a dead device's flow must not look whole"

    def short(self, count):
        """Short connections beside its own; from three on, every third is killed."""
        procs = [self.actor.programs.start(
            self.machine.ns, "nc", "sh", "-c",
            f"{{ echo GET 20000 {i}; sleep 30; }} | {postern()} nc {HOST} 7000 | wc -c",
            env=self.actor.env) for i in range(count)]
        killed = procs[2::3]
        for i, p in enumerate(killed):
            p.signal((signal.SIGKILL, signal.SIGHUP)[i % 2])
        for p in procs:
            if p not in killed:
                wait_until(lambda p=p: "20000" in p.stdout, GOES_ON_S,
                           f"seed {SEED}: a short connection of {self.name}")
                p.signal(signal.SIGTERM)   # the whole pipe

    def got(self):
        lines = [x for x in self.flow.stdout.splitlines() if x.startswith("at ")]
        return int(lines[-1].split()[1]) if lines else 0

    def whole(self):
        """Ends the flow: every byte must have come back, once, in order."""
        self.flow.popen.send_signal(signal.SIGTERM)
        assert self.flow.wait(20) == 0, f"{self.name}: {self.flow.stdout[-300:]}"
        return float(self.flow.stdout.splitlines()[-2].split()[-1]) / 1000


class Soak:
    """What happens to the six, one thing after the other."""

    def __init__(self, g, devices, chance):
        self.g, self.devices, self.random = g, devices, chance
        self.host_at = "a"
        self.done = {}

    def goes_on(self, after):
        """Every flow receives bytes that were not under way when this was called."""
        begin = {d: d.got() for d in self.devices}

        def late():
            for d in self.devices:
                assert d.flow.running, (
                    f"seed {SEED}: {d.name} ended after {after}: {d.flow.stdout[-200:]}")
            return [d.name for d in self.devices if d.got() <= begin[d] + 40_000]
        try:
            wait_until(lambda: not late(), GOES_ON_S, "")
        except AssertionError:
            names = late()
            if names:
                for who in [self.g.host, *(d.actor for d in self.devices
                                           if d.name in names and d.command == "up")]:
                    print(who.run("status").stdout)
                raise AssertionError(f"seed {SEED}: {names} hang {GOES_ON_S} s after "
                                     f"{after}") from None

    def move(self):
        d = self.random.choice(self.devices)
        self.g.topo.move(d.machine, "c" if d.machine.site.letter == "b" else "b")

    def move_host(self):
        self.host_at = "c" if self.host_at == "a" else "a"
        self.g.topo.move(self.g.topo.host, self.host_at)

    def die(self):
        d = self.random.choice(self.devices)
        d.die()
        d.live()

    def short(self):
        self.random.choice(self.devices).short(6)

    def forget(self):
        self.g.topo.flush_conntrack(self.random.choice("abc"))

    def cut(self):
        self.g.topo.cut_direct()
        self.goes_on("cut_direct")
        self.g.topo.mend_direct()

    def step(self):
        act = self.random.choice([self.move, self.move, self.move_host, self.die, self.die,
                                  self.short, self.forget, self.cut])
        self.done[act.__name__] = self.done.get(act.__name__, 0) + 1
        act()
        self.goes_on(act.__name__)


def held(proc):
    """What a program holds: descriptors, and resident kilobytes."""
    with open(f"/proc/{proc.pid}/status", encoding="ascii") as f:
        rss = next(int(x.split()[1]) for x in f if x.startswith("VmRSS"))
    return len(os.listdir(f"/proc/{proc.pid}/fd")), rss


def test_soak(gate):
    g = gate(host="masq", client="masq")
    g.topo.move(g.topo.machine("spare", "b", 49), "c")   # makes the third site
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("--verbose", "--absent", "12s", "7000")
    watched = {"serve": g.host_proc, "broker": g.broker_proc}
    idle = {name: held(p)[0] for name, p in watched.items()}
    devices = [Device(g, i) for i in range(6)]
    for d in devices:
        d.join()
        d.live()
    soak = Soak(g, devices, random.Random(SEED))
    soak.goes_on("the beginning")
    for act in (soak.short, soak.move, soak.die):   # what the first of its kind allocates
        act()
        soak.goes_on(act.__name__)
    warm = {name: held(p) for name, p in watched.items()}
    end = time.monotonic() + SOAK_S
    while time.monotonic() < end:
        soak.step()
    last = {name: held(p) for name, p in watched.items()}
    gaps = [d.whole() for d in devices]
    for d in devices:
        assert d.proc.terminate() == 0, d.proc.stderr[-300:]
    print(f"soak: seed {SEED}, {soak.done}, longest gap of a flow {max(gaps):.1f} s; "
          f"descriptors and KB: warm {warm}, at the end {last}; idle {idle}")

    # The broker keeps the pipes of its relays for the next ones.
    most = {"serve": idle["serve"] + MORE_FDS, "broker": warm["broker"][0]}

    def calm():
        return all(held(p)[0] <= most[name] for name, p in watched.items())
    begin = time.monotonic()
    wait_until(calm, QUIET_S, f"seed {SEED}: all descriptors given back, down to {most}")
    print(f"soak: given back {time.monotonic() - begin:.1f} s after the last device's end")
    for name, p in watched.items():
        assert held(p)[1] <= warm[name][1] + MORE_RSS_KB, (SEED, name, warm, held(p))
