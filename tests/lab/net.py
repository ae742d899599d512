"""Namespaces, links, addresses, routes and rules of the lab's network.

Knows how to make and unmake pieces of network with ip(8) and nft(8); knows nothing of
NAT kinds, topologies or Postern. Everything a Net made goes away with its close(), and
what a killed run left behind is removed by remove_stale().
"""

import contextlib
import ctypes
import glob
import os
import re
import shutil
import signal
import subprocess
import time

PREFIX = "pl"
_LIBC = ctypes.CDLL(None, use_errno=True)


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


def _enter(fd):
    if _LIBC.setns(fd, 0) != 0:
        raise LabError(f"setns: {os.strerror(ctypes.get_errno())}")


def _processes_in(networks):
    """Of all namespaces in one look at /proc."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            there = os.stat(f"/proc/{pid}/ns/net")
        except OSError:
            continue   # it has ended
        if (there.st_dev, there.st_ino) in networks:
            yield int(pid)


def remove_namespaces(names):
    """Ends every process inside, then deletes the namespaces with all their links."""
    networks = set()
    for netns in names:
        with contextlib.suppress(OSError):
            there = os.stat(f"/run/netns/{netns}")
            networks.add((there.st_dev, there.st_ino))
    for pid in _processes_in(networks):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    batch([f"netns del {netns}" for netns in names], "-force", check=False)
    for netns in names:
        shutil.rmtree(f"/etc/netns/{netns}", ignore_errors=True)


def batch(lines, *options, check=True):
    """Several changes of ip(8), in one process."""
    if lines:
        run("ip", *options, "-batch", "-", stdin="\n".join(lines) + "\n", check=check)


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
            remove_namespaces([name])
    for path in glob.glob(f"/tmp/{PREFIX}*"):
        found = re.fullmatch(PREFIX + r"(\d+)(-[a-z])?", os.path.basename(path))
        if found and not _lab_runs(found.group(1)):
            for mount in run("findmnt", "-rno", "TARGET", check=False).split():
                if mount.startswith(path + "/"):
                    run("umount", "-l", mount, check=False)
            shutil.rmtree(path, ignore_errors=True)


class Namespace:
    """One machine of the lab: a network namespace with loopback up."""

    def __init__(self, net, name):
        self.net, self.name = net, name
        self.netns = f"{PREFIX}{run_id()}-{name}"

    def begin(self):
        with self.inside():
            # Duplicate address detection would make every IPv6 address wait a second.
            _write_sysctl("net.ipv6.conf.all.accept_dad", 0)
            _write_sysctl("net.ipv6.conf.default.accept_dad", 0)
            _write_sysctl("net.ipv6.conf.default.accept_ra", 0)
        self.tell("link set lo up")

    @contextlib.contextmanager
    def inside(self):
        """This thread is in the machine for so long, and what it starts is too; that is
        all `ip netns exec` gives to who needs neither /sys nor /etc of there."""
        with open("/proc/thread-self/ns/net", "rb") as own, \
                open(f"/run/netns/{self.netns}", "rb") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(own.fileno())

    def ip(self, *args, check=True):
        return run("ip", "-n", self.netns, *map(str, args), check=check)

    def batch(self, *lines):
        """Several changes of ip(8) at once, in one process."""
        batch(lines, "-n", self.netns)

    def tell(self, line):
        """A change of ip(8) that may wait for others (Net.together)."""
        self.net.tell(self, line)

    def command(self, *argv):
        """The argument list that runs `argv` in this namespace."""
        return ["ip", "netns", "exec", self.netns, *map(str, argv)]

    def run(self, *argv, stdin=None, check=True):
        return run(*self.command(*argv), stdin=stdin, check=check)

    def sysctl(self, key, value):
        with self.inside():
            _write_sysctl(key, value)

    def nft(self, rules):
        with self.inside():
            run("nft", "-f", "-", stdin=rules)

    def forward(self):
        """Makes a router of this machine."""
        self.sysctl("net.ipv4.ip_forward", 1)
        self.sysctl("net.ipv6.conf.all.forwarding", 1)

    def address(self, dev, *addresses):
        for address in addresses:
            self.tell(f"addr add {address} dev {dev}")
        self.tell(f"link set dev {dev} up")

    def flush_addresses(self, dev):
        self.ip("addr", "flush", "dev", dev)
        self.ip("-6", "addr", "flush", "dev", dev, "scope", "global", check=False)

    def default_route(self, *gateways):
        for via in gateways:
            everywhere = "::/0" if ":" in via else "0.0.0.0/0"
            self.tell(f"route replace {everywhere} via {via}")

    def flush_conntrack(self):
        with self.inside():
            run("conntrack", "-F", check=False)

    def sockets(self, *flags):
        """Local sockets as `ss -Hn FLAGS` prints them, one line each."""
        with self.inside():
            return run("ss", "-Hn", *flags).splitlines()

    def tcp_listeners(self):
        return self.sockets("-lt")

    def udp_sockets(self):
        return self.sockets("-au")


def _write_sysctl(key, value):
    with open("/proc/sys/" + key.replace(".", "/"), "w", encoding="ascii") as f:
        f.write(str(value))


class Net:
    """Owns the namespaces of one test; use as a context manager."""

    def __init__(self):
        self.namespaces = {}
        self._told = {}   # to ip(8), by machine; to that of none first
        self._waits = False

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        remove_namespaces([ns.netns for ns in self.namespaces.values()])
        self.namespaces.clear()

    @contextlib.contextmanager
    def together(self):
        """What is told inside is done at its end, in one process a machine: a topology
        takes a hundred changes, and a process for each took most of a second."""
        before, self._waits = self._waits, True
        try:
            yield
        finally:
            self._waits = before
        if not before:
            self._settle()

    def tell(self, ns, line):
        self._told.setdefault(ns, []).append(line)
        if not self._waits:
            self._settle()

    def _settle(self):
        told, self._told = self._told, {}
        batch(told.pop(None, []))
        for ns, lines in told.items():
            ns.batch(*lines)

    def add(self, *names):
        """Makes machines; namespace() then finds them."""
        new = [Namespace(self, name) for name in names]
        self.namespaces.update((ns.name, ns) for ns in new)
        batch([f"netns add {ns.netns}" for ns in new])
        with self.together():
            for ns in new:
                ns.begin()

    def namespace(self, name):
        if name not in self.namespaces:
            self.add(name)
        return self.namespaces[name]

    def link(self, a, a_dev, b, b_dev):
        """A cable: a veth pair between two machines."""
        with self.together():
            self.tell(None, f"link add name {a_dev} netns {a.netns} type veth "
                            f"peer name {b_dev} netns {b.netns}")
            a.tell(f"link set dev {a_dev} up")
            b.tell(f"link set dev {b_dev} up")

    def switch(self, ns, dev):
        """A bridge device inside `ns`; plug ports in with plug(). It has an address of
        its own: one taken from its ports would change as machines come and go, and the
        others would look for their gateway at the old one."""
        ns.tell(f"link add name {dev} address 02:00:00:00:00:01 type bridge")
        ns.tell(f"link set dev {dev} up")

    def plug(self, ns, bridge, port):
        ns.tell(f"link set dev {port} master {bridge} up")


def wait_until(condition, timeout=10.0, what="condition"):
    """Polls `condition` until it is true and returns its value. What takes long is asked
    less often: most conditions run a program, and other tests run beside this one."""
    timeout *= patience()
    begin = time.monotonic()
    while True:
        value = condition()
        if value:
            return value
        waited = time.monotonic() - begin
        if waited > timeout:
            raise AssertionError(f"{what}: not within {timeout} s")
        time.sleep(min(max(0.02, waited / 20), 0.2))
