"""The helper: who has which capabilities, and what it does with what it does not know."""

import os
import re
import socket
import subprocess

import pytest

from .actors import postern
from .net import wait_until
from .test_tcp_kinds import move_bytes

pytestmark = [pytest.mark.postern, pytest.mark.needs("setpriv")]

NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 1 << 10, 1 << 12, 1 << 13
THREE = "+net_admin,+net_raw,+net_bind_service"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
          f"--inh-caps={THREE}", f"--ambient-caps={THREE}"]
HELPER, KEEPER = "postern-helper", "postern-keeper"


def helper_path():
    return os.path.join(os.path.dirname(postern()), HELPER)


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def children(pid, name):
    """Its own children of that name that live."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        found = [int(p) for p in f.read().split()]
    return [p for p in found if alive(p) and status(p)["Name"] == name]


def keepers(pid):
    """What starts the helper for this process."""
    return children(pid, KEEPER)


def child(pid):
    """The helper that was started for this process."""
    return [p for keeper in keepers(pid) for p in children(keeper, HELPER)]


def alive(pid):
    try:
        return not status(pid)["State"].startswith("Z")
    except OSError:
        return False


@pytest.mark.parametrize("who", ["root", "a service's user"])
def test_only_the_helper_has_capabilities(gate, who):
    """A host run by root, or by an ordinary user with ambient capabilities as a service
    manager gives them: the program itself keeps none that changes the network."""
    g = gate(host="none", client="sym")
    if who != "root":
        g.host.wrapper = NOBODY
        os.makedirs(g.host.state, mode=0o700)
        os.chown(g.host.state, 65534, 65534)
        os.chmod(g.work, 0o755)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    pid = g.host_proc.pid
    helpers = child(pid)
    assert len(helpers) == 1 and len(keepers(pid)) == 2
    own, its, keeper = status(pid), status(helpers[0]), status(keepers(pid)[0])
    assert int(own["CapEff"], 16) & (NET_ADMIN | NET_RAW) == 0, own
    assert int(own["CapPrm"], 16) & (NET_ADMIN | NET_RAW) == 0, own
    assert own["NoNewPrivs"] == "1" and its["NoNewPrivs"] == "1"
    for some in (its, keeper):
        assert int(some["CapPrm"], 16) == NET_ADMIN | NET_RAW | NET_BIND_SERVICE, some
        assert int(some["CapInh"], 16) == int(some["CapAmb"], 16) == 0, some
    assert its["CapEff"] == its["CapPrm"] and keeper["NoNewPrivs"] == "1"
    proc = g.connect("7000", None, "--paths", "udp-knock,relay")
    proc.wait_event("path", 15, kind="udp-knock")
    move_bytes(g, proc)
    g.host_proc.kill()
    wait_until(lambda: not alive(helpers[0]), 5, "the helper ended with its program")


def test_file_capabilities_on_the_helper_are_enough(gate, work):
    """An ordinary user's host, and a helper with file capabilities beside it."""
    g = gate(host="none", client="sym")
    own = os.path.join(work, "bin")
    os.makedirs(own)
    os.chmod(work, 0o755)
    for name in ("postern", HELPER):
        subprocess.run(["cp", os.path.join(os.path.dirname(postern()), name), own],
                       check=True)
    done = subprocess.run(["setcap", "cap_net_admin,cap_net_raw,cap_net_bind_service+ep",
                           os.path.join(own, HELPER)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"this file system keeps no file capabilities: {done.stderr.strip()}")
    os.makedirs(g.host.state, mode=0o700)
    os.chown(g.host.state, 65534, 65534)
    g.start_broker()
    g.host.start_peer("tcp-server", 7000)
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    g.host_proc = g.programs.start(g.topo.host.ns, "serve", *user, f"{own}/postern", "serve",
                                   "--json", "--broker", g.link, "--name", "home", "7000",
                                   env=g.host.env)
    g.host_proc.wait_event("ready", 20)
    g.host.wrapper = user
    g.join()
    proc = g.connect("7000", None, "--paths", "udp-knock,relay")
    proc.wait_event("path", 15, kind="udp-knock")


def test_the_helper_is_not_for_hands():
    done = subprocess.run([helper_path()], capture_output=True, text=True)
    assert done.returncode == 2 and "postern starts this by itself" in done.stderr


def test_the_helper_refuses_what_it_does_not_know():
    """Too short, too long, and an unknown operation: each is answered, none obeyed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    proc = subprocess.Popen([helper_path()], pass_fds=[3],
                            preexec_fn=lambda: os.dup2(theirs.fileno(), 3))
    theirs.close()
    ours.settimeout(5)
    try:
        for request in (b"x", bytes(4096), b"\xff" * 64):
            ours.send(request)
            answer = ours.recv(4096)
            assert re.search(rb"differ|knows no request", answer), answer
    finally:
        ours.close()
    assert proc.wait(5) == 0   # it ends with its program
