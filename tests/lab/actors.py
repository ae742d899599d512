"""Broker, host and client of Postern as the lab's tests use them.

Knows Postern's stable command line and JSON events (docs/CLI.md); knows nothing of its
insides. A Gate is one deployment in one topology: broker running, host serving, client
joined, each with its own state directory.
"""

import os
import sys

from .net import wait_until
from .topology import BROKER, build_dir

PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers.py")
PEER = [sys.executable, PEERS]
HOST = "home"
BROKER_PORT = 443


def postern():
    return os.path.join(build_dir(), "postern")


class Actor:
    """One device: a machine's namespace and a state directory of its own."""

    def __init__(self, programs, ns, state):
        self.programs, self.ns, self.state = programs, ns, state
        self.more_env = {}
        self.wrapper = []   # a program and its options, to run postern under
        self.program = postern()

    def set_clock(self, ahead_s):
        """Its wall clock, once begun before its programs, may go ahead (clock.c)."""
        path = f"{self.state}.clock"
        with open(path + ".new", "w", encoding="ascii") as f:
            f.write(str(ahead_s))
        os.rename(path + ".new", path)
        self.more_env = {**self.more_env, "LAB_CLOCK": path}
        self._preload("clock")

    def be_hasty(self):
        """It hears of who is gone, once begun, ten times as early (hasty.c)."""
        self._preload("hasty")

    def _preload(self, name):
        library = os.path.join(build_dir(), "tests", "lab", f"lib{name}.so")
        sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        self.more_env = {**self.more_env, "LD_PRELOAD": library, "ASAN_OPTIONS": sanitizer}

    @property
    def env(self):
        return {"POSTERN_STATE": self.state, **self.more_env}

    def start(self, command, *args):
        """A long-running command with --json."""
        return self.programs.start(self.ns, command, *self.wrapper, self.program, command,
                                   "--json",
                                   *args, env=self.env)

    def run(self, command, *args, timeout=20.0, json=True, **more):
        """A command run to its end."""
        options = ["--json"] if json else []
        return self.programs.run(self.ns, command, *self.wrapper, self.program, command,
                                 *options, *args,
                                 timeout=timeout, env=self.env, **more)

    def peer(self, verb, *args, timeout=60.0, **more):
        """A checking peer in this machine, run to its end."""
        return self.programs.run(self.ns, f"peer-{verb}", *PEER, verb, *args,
                                 timeout=timeout, **more)

    def start_peer(self, verb, *args, **more):
        proc = self.programs.start(self.ns, f"peer-{verb}", *PEER, verb, *args, **more)
        if verb.endswith("-server"):
            proc.wait_line("ready")
        return proc


class Gate:
    """The three roles in one topology; what a test does not start it does not get."""

    def __init__(self, programs, topo, work):
        self.programs, self.topo, self.work = programs, topo, work
        self.broker = Actor(programs, topo.broker, self._state("broker"))
        self.host = Actor(programs, topo.host.ns, self._state("host"))
        self.client = Actor(programs, topo.client.ns, self._state("client"))
        self.broker_proc = self.host_proc = None
        self.link = None

    def _state(self, name):
        return os.path.join(self.work, name)

    def other_client(self, name, ns=None):
        """One more client device, on the client's machine unless told otherwise."""
        return Actor(self.programs, ns or self.topo.client.ns, self._state(name))

    # ----------------------------------------------------------------------- roles

    def start_broker(self, *args):
        public = BROKER if self.topo.ipv4 else "2001:db8::10"
        listen = f"[::]:{BROKER_PORT}" if self.topo.ipv6 else f"0.0.0.0:{BROKER_PORT}"
        self.broker_proc = self.broker.start("broker", "--listen", listen,
                                             "--public", public, *args)
        self.link = self.broker_proc.wait_event("ready", 15)["link"]
        return self.link

    def start_host(self, *services, wait=True):
        self.host_proc = self.host.start("serve", "--broker", self.link, "--name", HOST,
                                         *services)
        if wait:
            ready = self.host_proc.wait_event("ready", 20)
            assert ready["host"] == HOST, ready
        return self.host_proc

    def invite(self, *args):
        done = self.host.run("invite", *args)
        assert done.status == 0, done.stderr
        links = [e["link"] for e in done.events if "link" in e]
        assert len(links) == 1, done.stdout
        return links[0]

    def join(self, who=None, link=None, *invite_args):
        who = who or self.client
        done = who.run("join", link or self.invite(*invite_args))
        assert done.status == 0, done.stderr
        return done

    def up_and_joined(self, *services, broker_args=()):
        """Everything to the point where the client may use the services."""
        self.start_broker(*broker_args)
        self.start_host(*services)
        self.join()
        return self

    def connect(self, service, local=None, *args, who=None):
        """`postern connect`, ready; its `port` attribute is the local port."""
        who = who or self.client
        proc = who.start("connect", *args, f"{HOST}:{service}",
                         *([local] if local else ["127.0.0.1:0"]))
        ready = proc.wait_event("ready", 15)
        proc.port = int(ready["local"].rsplit(":", 1)[1])
        return proc


# Where both NATs are symmetric one round takes all that may be opened in a minute, and about
# one in twelve is in vain: the next comes when that minute is over.
NEXT_ROUND_S = 100


def are_symmetric(*sides):
    return all(side.startswith(("sym", "cgnsym")) for side in sides)


def wait_direct(proc, timeout=15.0, since=0):
    """Waits for a direct path, of whatever kind, and returns its event."""
    def find():
        proc.poll_output()
        for e in proc.events[since:]:
            if e.get("event") == "path" and e["kind"] != "relay":
                return e
        return None
    wait_until(find, timeout, f"{proc.name}: a direct path")
    return find()


def wait_relay(proc, timeout=15.0, since=0):
    return proc.wait_event("path", timeout, since, kind="relay")
