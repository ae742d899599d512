"""The examples of packaging/container as they stand, but for names and addresses of the lab:
compose.yaml by podman-compose, sidecar.yaml by `podman play kube`. A client of the lab goes through.

nginx's image is stood in for by a web server of BusyBox. Where no engine can run a container
the tests are skipped, with the engine's own last words.
"""

import base64
import json
import os
import re
import shutil
import subprocess

import pytest

from .net import wait_until
from .test_image import ARCHIVE
from .topology import BROKER, root_dir

EXAMPLES = f"{root_dir()}/packaging/container"
NGINX = "docker.io/library/nginx:alpine"
# Control groups only where a pod needs them; DNS on the containers' network.
CONFIG = """[containers]
{cgroups}default_ulimits = ["nofile=4096:4096", "nproc=1000:1000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
network_config_dir = "{dir}/net"
"""

pytestmark = [pytest.mark.postern, pytest.mark.needs("podman", "busybox", "nft"),
              pytest.mark.skipif(not os.path.exists(ARCHIVE), reason="no image is there: make image makes it")]


class Machine:
    """Podman on one machine of the lab, with a store, networks and images of its own."""

    def __init__(self, g, ns, work, name, alone=True):
        self.programs, self.ns = g.programs, ns
        self.dir = os.path.join(work, name)
        os.makedirs(f"{self.dir}/bin")
        os.makedirs(f"{self.dir}/net")
        with open(f"{self.dir}/containers.conf", "w", encoding="ascii") as f:
            f.write(CONFIG.format(cgroups='cgroups = "disabled"\n' if alone else "", dir=self.dir))
        with open(f"{self.dir}/bin/podman", "w", encoding="ascii") as f:
            f.write("#!/bin/sh\n"
                    f"export CONTAINERS_CONF={self.dir}/containers.conf\n"
                    f'exec /usr/bin/podman --root {self.dir}/store --runroot /run/containers/lab --storage-driver=vfs "$@"\n')
        os.chmod(f"{self.dir}/bin/podman", 0o755)
        # Mounts of its own, which live as long as it. Not as ns.command does: with another /sys no
        # container runtime finds its control groups, and with both kinds of them crun refuses.
        self.mounts = g.programs.start(
            None, "mounts", "nsenter", f"--net=/run/netns/{ns.netns}", "unshare", "-m", "--propagation", "private",
            "sh", "-c", "umount /sys/fs/cgroup/unified 2>/dev/null; mount -t tmpfs tmpfs /run/netns; "
            "mkdir -p /run/containers; mount -t tmpfs tmpfs /run/containers; " # state, and the DNS server of all networks
            "echo ready; exec sleep 100000")
        self.mounts.wait_line("ready")

    def open(self):
        self.do("podman", "load", "-i", ARCHIVE)
        self._stand_in()
        return self

    def run(self, *argv, timeout=90, **more):
        env = {"PATH": f"{self.dir}/bin:{os.environ['PATH']}"}
        return self.programs.run(None, argv[0], "nsenter", "-t", self.mounts.pid, "-m", "-n", "-w" + self.dir, *argv,
                                 timeout=timeout, cwd=self.dir, env=env, **more)

    def do(self, *argv, **more):
        done = self.run(*argv, **more)
        assert done.status == 0, (argv, done.stdout, done.stderr)
        return done.stdout

    def _stand_in(self):
        root = f"{self.dir}/web"
        os.makedirs(f"{root}/bin")
        os.makedirs(f"{root}/www")
        shutil.copy(shutil.which("busybox"), f"{root}/bin/busybox")
        with open(f"{root}/www/index.html", "w", encoding="ascii") as f:
            f.write("from the container\n")
        subprocess.run(["tar", "-C", root, "-cf", f"{self.dir}/web.tar", "."], check=True)
        self.do("podman", "import", "--change", 'ENTRYPOINT ["/bin/busybox","httpd","-f","-p","80","-h","/www"]',
                f"{self.dir}/web.tar", NGINX)
        done = self.run("podman", "run", "--rm", "--pull=never", "--network=none", "--entrypoint",
                        '["/bin/busybox","true"]', NGINX)
        if done.status != 0:
            pytest.skip(f"no container runs here: {(done.stderr.splitlines() or ['no reason'])[-1]}")

    def example(self, name, *changes):
        with open(f"{EXAMPLES}/{name}", encoding="utf-8") as f:
            text = f.read()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        with open(f"{self.dir}/{name}", "w", encoding="utf-8") as f:
            f.write(text)

    def write(self, name, text):
        with open(f"{self.dir}/{name}", "w", encoding="ascii") as f:
            f.write(text)

    def close(self):
        self.run("podman", "pod", "rm", "--all", "--force", "-t", "1")
        self.run("podman", "rm", "--all", "--force", "-t", "1")


@pytest.fixture
def machines(gate, work):
    made = []
    g = gate(host="masq", client="masq")

    def machine(ns, name, **how):
        made.append(Machine(g, ns, work, name, **how))
        return made[-1].open()  # what it has begun is ended whatever comes of that
    yield g, machine
    for m in made:
        m.close()


def link_in(text, kind):
    found = re.search(rf"postern://[^\s\"']+/{kind}/[a-z2-7]+", text)
    return found and found.group(0)


def read_page(g):
    proc = g.client.start("connect", "home:web", "127.0.0.1:0")
    at = proc.wait_event("ready", 30)["local"]
    done = g.programs.run(g.topo.client.ns, "curl", "curl", "-sS", "--max-time", "20", f"http://{at}/")
    assert done.stdout == "from the container\n", done.stderr


@pytest.mark.needs("podman-compose", "curl")
def test_compose(machines):
    g, machine = machines
    there = machine(g.topo.broker, "there")
    there.example("compose.yaml", ("meet.example.org", BROKER))
    there.do("podman-compose", "up", "-d", "broker")
    wait_until(lambda: link_in(there.do("podman-compose", "logs", "broker"), "b"), 30, "the broker's link")
    g.link = link_in(there.do("podman-compose", "logs", "broker"), "b")
    here = machine(g.topo.host.ns, "here")
    here.example("compose.yaml")
    here.write("broker-link", g.link)
    here.do("podman-compose", "up", "-d", "web", "host")

    def invite():
        done = here.run("podman-compose", "exec", "-T", "host", "postern", "invite")
        return link_in(done.stdout, "i")
    wait_until(invite, 60, "an invite")
    g.join(link=invite())
    read_page(g)
    # Another start is the same host.
    here.do("podman-compose", "stop", "-t", "10", "host")
    here.do("podman-compose", "start", "host")
    read_page(g)


@pytest.mark.needs("catatonit", "curl")
def test_kubernetes(machines):
    g, machine = machines
    g.start_broker()
    pods = machine(g.topo.host.ns, "pods", alone=False)
    pods.example("sidecar.yaml", ("serve, --name, wiki,", "serve, --name, home,"), ('"web=80"', '"web=80"'))
    pods.write("secret.json", json.dumps({"link": base64.b64encode(g.link.encode()).decode()}))
    pods.do("podman", "secret", "create", "postern", "secret.json") # as `kubectl create secret` has it
    pods.do("podman", "play", "kube", "sidecar.yaml", timeout=120)
    name = next(n for n in pods.do("podman", "ps", "--format", "{{.Names}}").split() if n.endswith("-postern"))

    def invite():
        return link_in(pods.run("podman", "exec", name, "/usr/bin/postern", "invite").stdout, "i")
    wait_until(invite, 60, "an invite")
    g.join(link=invite())
    read_page(g)
    assert pods.run("podman", "exec", name, "/usr/bin/postern", "status", "--check").status == 0
