"""Namespaces, links, addresses, routes and rules of the lab's network.

Knows how to make and unmake pieces of network with ip(8) and nft(8); knows nothing of
NAT kinds, topologies or Postern. Everything a Net made goes away with its close(), and
what a killed run left behind is removed by remove_stale().
"""

import glob
import os
import re
import shutil
import signal
import subprocess
import time

PREFIX = "pl"


def patience():
    """How much longer everything may take: 1 on a machine that does nothing else, what
    POSTERN_LAB_PATIENCE says where it does, as when several tests run side by side."""
    return float(os.environ.get("POSTERN_LAB_PATIENCE", "1"))


def run_id():
    """Names this run in what stands outside its process: the pid of who began it. A worker
    of several has its own letter behind: `123-a`."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker:
        return str(os.getpid())
    return f"{os.getppid()}-{chr(ord('a') + int(worker[2:]))}"


class LabError(Exception):
    """The lab itself could not do what a test asked of it."""


def run(*argv, stdin=None, check=True):
    """Runs a short program to its end and returns its output."""
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    if check and done.returncode != 0:
        raise LabError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def pids_in(netns):
    out = run("ip", "netns", "pids", netns, check=False)
    return [int(pid) for pid in out.split()]


def remove_namespace(netns):
    """Ends every process inside, then deletes the namespace with all its links."""
    for pid in pids_in(netns):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    run("ip", "netns", "del", netns, check=False)
    shutil.rmtree(f"/etc/netns/{netns}", ignore_errors=True)


def _lab_runs(pid):
    """True when that process is a lab run; a zombie or a later process is none."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            command = f.read()
        return b"pytest" in command or b"lab.matrix" in command
    except OSError:
        return False


def remove_stale():
    """Removes what lab runs whose process is gone have left behind."""
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0]
        found = re.fullmatch(PREFIX + r"(\d+)-.*", name)
        if found and not _lab_runs(found.group(1)):
            remove_namespace(name)
    for path in glob.glob(f"/tmp/{PREFIX}*"):
        found = re.fullmatch(PREFIX + r"(\d+)(-[a-z])?", os.path.basename(path))
        if found and not _lab_runs(found.group(1)):
            for mount in run("findmnt", "-rno", "TARGET", check=False).split():
                if mount.startswith(path + "/"):
                    run("umount", "-l", mount, check=False)
            shutil.rmtree(path, ignore_errors=True)


class Namespace:
    """One machine of the lab: a network namespace with loopback up."""

    def __init__(self, name):
        self.name = name
        self.netns = f"{PREFIX}{run_id()}-{name}"
        run("ip", "netns", "add", self.netns)
        self.ip("link", "set", "lo", "up")
        # Duplicate address detection would make every IPv6 address wait a second.
        self.sysctl("net.ipv6.conf.all.accept_dad", 0)
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)
        self.sysctl("net.ipv6.conf.default.accept_ra", 0)

    def ip(self, *args, check=True):
        return run("ip", "-n", self.netns, *map(str, args), check=check)

    def batch(self, *lines):
        """Several changes of ip(8) at once, in one process."""
        run("ip", "-n", self.netns, "-batch", "-", stdin="\n".join(lines) + "\n")

    def command(self, *argv):
        """The argument list that runs `argv` in this namespace."""
        return ["ip", "netns", "exec", self.netns, *map(str, argv)]

    def run(self, *argv, stdin=None, check=True):
        return run(*self.command(*argv), stdin=stdin, check=check)

    def sysctl(self, key, value):
        self.run("sysctl", "-qw", f"{key}={value}")

    def nft(self, rules):
        self.run("nft", "-f", "-", stdin=rules)

    def forward(self):
        """Makes a router of this machine."""
        self.sysctl("net.ipv4.ip_forward", 1)
        self.sysctl("net.ipv6.conf.all.forwarding", 1)

    def address(self, dev, *addresses):
        for address in addresses:
            self.ip("addr", "add", address, "dev", dev)
        self.ip("link", "set", "dev", dev, "up")

    def flush_addresses(self, dev):
        self.ip("addr", "flush", "dev", dev)
        self.ip("-6", "addr", "flush", "dev", dev, "scope", "global", check=False)

    def default_route(self, *gateways):
        for via in gateways:
            family = "-6" if ":" in via else "-4"
            self.ip(family, "route", "replace", "default", "via", via)

    def flush_conntrack(self):
        self.run("conntrack", "-F", check=False)

    def sockets(self, *flags):
        """Local sockets as `ss -Hn FLAGS` prints them, one line each."""
        return self.run("ss", "-Hn", *flags).splitlines()

    def tcp_listeners(self):
        return self.sockets("-lt")

    def udp_sockets(self):
        return self.sockets("-au")


class Net:
    """Owns the namespaces of one test; use as a context manager."""

    def __init__(self):
        self.namespaces = {}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        for ns in list(self.namespaces.values()):
            remove_namespace(ns.netns)
        self.namespaces.clear()

    def namespace(self, name):
        ns = Namespace(name)
        self.namespaces[name] = ns
        return ns

    def link(self, a, a_dev, b, b_dev):
        """A cable: a veth pair between two machines."""
        run("ip", "link", "add", "name", a_dev, "netns", a.netns, "type", "veth",
            "peer", "name", b_dev, "netns", b.netns)
        a.ip("link", "set", "dev", a_dev, "up")
        b.ip("link", "set", "dev", b_dev, "up")

    def switch(self, ns, dev):
        """A bridge device inside `ns`; plug ports in with plug(). It has an address of
        its own: one taken from its ports would change as machines come and go, and the
        others would look for their gateway at the old one."""
        ns.ip("link", "add", "name", dev, "address", "02:00:00:00:00:01",
              "type", "bridge")
        ns.ip("link", "set", "dev", dev, "up")

    def plug(self, ns, bridge, port):
        ns.ip("link", "set", "dev", port, "master", bridge, "up")


def wait_until(condition, timeout=10.0, what="condition"):
    """Polls `condition` until it is true and returns its value."""
    timeout *= patience()
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout} s")
        time.sleep(0.02)
