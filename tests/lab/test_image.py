"""The image of `make image`, run by podman: a broker and a host in containers without
privileges, with a read-only root; a client of the lab goes through.

Where no engine can run a container the test is skipped, with the engine's own last words.
"""

import os
import platform
import shutil

import pytest

from .actors import HOST, Actor
from .topology import root_dir

ARCHIVE = f"{root_dir()}/build-image/postern-{platform.machine()}.tar"
UID = 65532
# crun refuses where both kinds of cgroups are mounted, so one goes, in a namespace of mounts.
ENGINE = ["unshare", "-m", "--propagation", "private", "sh", "-c",
          'umount /sys/fs/cgroup/unified 2>/dev/null; exec podman "$@"', "podman"]
LOCKED = ["--rm", "--pull=never", "--read-only", "--cap-drop=all", "--security-opt=no-new-privileges",
          "--cgroups=disabled", "--ulimit=nofile=4096:4096", "--ulimit=nproc=1000:1000"]

pytestmark = [pytest.mark.postern, pytest.mark.needs("podman"),
              pytest.mark.skipif(not os.path.exists(ARCHIVE), reason="no image is there: make image makes it")]


class Engine:
    """podman with a store of the test's own, and the image in it."""

    def __init__(self, programs, work):
        self.programs = programs
        self.argv = [*ENGINE, "--root", f"{work}/store", "--runroot",
                     os.path.join(os.path.dirname(work), "podman"),  # 50 letters at most
                     "--storage-driver=vfs",
                     "--cgroup-manager=cgroupfs"]
        done = self.run("load", "-i", ARCHIVE)
        assert done.status == 0, done.stderr
        self.image = done.stdout.split("Loaded image: ")[1].split()[0]

    def run(self, *args):
        return self.programs.run(None, "podman", *self.argv, *args, timeout=60)

    def container(self, name, ns, work, *options):
        """An Actor whose program is the image; its state is kept in a folder outside."""
        state = os.path.join(work, name)
        os.makedirs(state, mode=0o700)
        os.chown(state, UID, UID)
        who = Actor(self.programs, None, "/state")
        who.wrapper = [*self.argv, "run", *LOCKED, "--name", name, "--network", f"ns:/run/netns/{ns.netns}",
                       "-v", f"{state}:/state", *options]
        who.program = self.image
        return who


@pytest.fixture
def engine(programs, work):
    e = Engine(programs, work)
    done = e.run("run", *LOCKED, "--network=none", e.image, "version")
    if done.status != 0:
        pytest.skip(f"no container runs here: {(done.stderr.splitlines() or ['no reason'])[-1]}")
    assert done.stdout.startswith("postern ")
    yield e
    programs.close()
    e.run("rm", "--all", "--force")
    shutil.rmtree(f"{work}/store", ignore_errors=True)


def test_broker_and_host_in_containers(engine, gate, work):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.topo.broker.sysctl("net.ipv4.ip_unprivileged_port_start", 0)
    g.broker = engine.container("broker", g.topo.broker, work)
    g.start_broker()
    link = os.path.join(work, "broker-link")
    with open(link, "w", encoding="ascii") as f:
        f.write(g.link)
    os.chmod(work, 0o755)
    g.host = engine.container("host", g.topo.host.ns, work, "-v", f"{link}:/run/secrets/broker-link:ro")
    g.host_proc = g.host.start("serve", "--broker", "@/run/secrets/broker-link", "--name", HOST, "7000")
    g.host_proc.wait_event("ready", 30)
    assert engine.run("exec", "host", "/usr/bin/postern", "status", "--check").status == 0
    done = engine.run("exec", "host", "/usr/bin/postern", "invite")
    g.join(link=next(w for w in done.stdout.split() if w.startswith("postern://")))
    proc = g.connect("7000")
    assert g.client.peer("echo", "127.0.0.1", proc.port, 2_000_000, 3).status == 0
    assert engine.run("exec", "broker", "/usr/bin/postern", "status", "--check").status == 1
    for name in ("host", "broker"):
        assert engine.run("stop", "-t", "10", name).status == 0
