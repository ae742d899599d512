"""The static binaries of `make static`, in a root that holds nothing else: /dev, /proc and
/etc/resolv.conf. Of another processor: under qemu's user mode.

The other end is the program as it is built here, so both speak with each other.
"""

import glob
import os
import platform
import shutil

import pytest

from .actors import HOST, Actor
from .net import wait_until
from .servers import Dns
from .topology import BROKER, build_dir, root_dir

NAME = "meet.lab"
FOUND = sorted(glob.glob(f"{root_dir()}/build-static/postern-*"))
MOUNTS = 'for d in dev proc; do mount --rbind /$d "$0/$d"; done; exec chroot "$0" "$@"'

pytestmark = [pytest.mark.postern,
              pytest.mark.skipif(not FOUND, reason="build-static is empty: make static makes them")]


class Boxed(Actor):
    """A device whose whole file system is one program."""

    def __init__(self, programs, ns, work, name, path):
        super().__init__(programs, ns, "/state")
        root = os.path.join(work, name)
        for folder in ("dev", "proc", "etc"):
            os.makedirs(f"{root}/{folder}")
        shutil.copy(path, f"{root}/postern")
        with open(f"{root}/etc/resolv.conf", "w", encoding="ascii") as f:
            f.write(f"nameserver {BROKER}\n")
        self.program = "/postern"
        self.wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-ec", MOUNTS, root]
        arch = os.path.basename(path).split("-")[1]
        if arch != platform.machine():
            qemu = shutil.which(f"qemu-{arch}-static")
            if not qemu:
                pytest.skip(f"qemu-{arch}-static is not installed")
            shutil.copy(qemu, f"{root}/qemu")
            self.wrapper.append("/qemu")


def of(*profiles):
    """Those that exist, of these profiles: full, client, host."""
    def profile(path):
        return (os.path.basename(path).split("-") + ["full"])[2]
    return pytest.mark.parametrize("path", [p for p in FOUND if profile(p) in profiles],
                                   ids=lambda path: os.path.basename(str(path)))


@pytest.fixture
def named(gate):
    """A deployment whose broker is known by a name of the DNS."""
    g = gate(host="masq", client="masq")
    Dns(g.programs, g.topo.broker, address=BROKER)
    g.host.start_peer("tcp-server", 7000)
    return g


def start_broker(g, who):
    g.broker_proc = who.start("broker", "--public", NAME, "--listen", "0.0.0.0:443")
    g.link = g.broker_proc.wait_event("ready", 30)["link"]
    assert NAME in g.link


@of("full", "client", "host")
def test_alone(programs, work, path):
    who = Boxed(programs, None, work, "box", path)
    assert who.run("version", json=False).stdout.startswith("postern ")
    key = who.run("keys").event("key")
    assert key and who.run("keys").event("key") == key, "the state is kept"


@of("client", "full")
@pytest.mark.needs("dnsmasq")
def test_client(named, work, path):
    g = named
    start_broker(g, Boxed(g.programs, g.topo.broker, work, "broker", path) if path.endswith("_64") else g.broker)
    resolve_on(g)
    g.start_host("7000")
    who = Boxed(g.programs, g.topo.client.ns, work, "box", path)
    g.join(who)
    assert who.run("nc", HOST, "7000", stdin=b"SINK\nwords\n", json=False).status == 0
    done = who.run("ping", HOST, timeout=40)
    assert done.status == 0 and done.event("path", kind="udp-punch"), done.stdout


@of("host", "full")
@pytest.mark.needs("dnsmasq")
def test_host(named, work, path):
    g = named
    start_broker(g, g.broker)
    resolve_on(g)
    g.host = Boxed(g.programs, g.topo.host.ns, work, "box", path)
    g.start_host("7000")
    g.join()
    assert g.client.run("nc", HOST, "7000", stdin=b"SINK\nwords\n", json=False).status == 0
    proc = g.connect("7000")
    assert g.client.peer("echo", "127.0.0.1", proc.port, 2_000_000, 3).status == 0
    wait_until(lambda: proc.find("path", kind="udp-punch"), 20, "a direct path")


@of("client", "host")
def test_a_command_that_it_has_not(programs, work, path):
    done = Boxed(programs, None, work, "box", path).run("broker", json=False)
    assert done.status == 2 and "this build has only" in done.stderr


@of("full", "client", "host")
def test_says_that_it_has_no_helper(programs, work, path):
    done = Boxed(programs, None, work, "box", path).run("doctor")
    assert "this build of postern has no postern-helper" in done.event("check", check="helper")["what"]
    assert "without libipsec-mb" in done.event("check", check="encryption")["what"]


def resolve_on(g):
    """The machines of the other end know the name too."""
    for ns in (g.topo.host.ns, g.topo.client.ns):
        os.makedirs(f"/etc/netns/{ns.netns}", exist_ok=True)
        with open(f"/etc/netns/{ns.netns}/resolv.conf", "w", encoding="ascii") as f:
            f.write(f"nameserver {BROKER}\n")


def rss_kb(proc):
    """What the program of that name among its processes keeps in memory."""
    with open(f"/proc/{proc.pid}/smaps_rollup", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("Rss:")).split()[1])


@pytest.mark.skipif("asan" in build_dir(), reason="sanitizers take memory")
def test_idle_memory(named, work):
    """What docs/INSTALL.md says, with room for a third."""
    g = named
    found = {os.path.basename(p).replace(f"postern-{platform.machine()}", "").strip("-") or "full": p for p in FOUND
             if platform.machine() in p}
    if set(found) != {"full", "client", "host"}:
        pytest.skip("make static made not all profiles")
    broker = Boxed(g.programs, g.topo.broker, work, "broker", found["full"])
    start_broker(g, broker)
    resolve_on(g)
    g.host = Boxed(g.programs, g.topo.host.ns, work, "host", found["host"])
    g.start_host("7000")
    client = Boxed(g.programs, g.topo.client.ns, work, "client", found["client"])
    g.join(client)
    up = client.start("up")
    up.wait_event("path", 30, kind="udp-punch")
    kept = {name: rss_kb(p) for name, p in (("broker", g.broker_proc), ("host", g.host_proc), ("client", up))}
    print(kept)
    assert all(kb < limit for kb, limit in zip(kept.values(), (16_000, 8_000, 8_000))), kept
