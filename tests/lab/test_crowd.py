"""One device that takes all it can get keeps nobody else out."""

import json
import time

import pytest

from .actors import HOST, PEER
from .conftest import full
from .net import patience, wait_until

pytestmark = pytest.mark.postern

IDLE = """
import socket, sys, time
kept = []
for _ in range(int(sys.argv[2])):
    try:  # one too many may be refused before this program hears that it is open
        kept.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20))
    except ConnectionResetError:
        pass
print("open", flush=True)
time.sleep(600)
"""


def test_one_device_holds_all_descriptors(gate):
    """It opens more idle connections than the host has descriptors; another device
    pings, connects and joins as if nothing were."""
    g = gate(host="masq", client="masq")
    g.host.wrapper = ["prlimit", "--nofile=256:256"]
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    other = g.other_client("other")
    g.join(other)
    greedy = g.connect("peer", None, "--paths", "relay")
    crowd = g.programs.start(g.topo.client.ns, "crowd", PEER[0], "-c", IDLE,
                             greedy.port, 400)
    crowd.wait_line("open", 60)
    link = g.invite()
    for args, stdin in ((("ping", HOST, "--count", "1"), None),
                        (("nc", HOST, "peer"), b"GET 9 1\n")):
        begin = time.monotonic()
        done = other.run(*args, json=False, stdin=stdin)
        assert done.status == 0, done.stderr
        assert time.monotonic() - begin < 6 * patience(), "not as if nothing were"
    begin = time.monotonic()
    g.join(g.other_client("third"), link)
    assert time.monotonic() - begin < 6 * patience()
    assert g.host_proc.running and crowd.running


def test_a_host_uses_all_descriptors_that_it_may_have(gate):
    """Shells start programs with 1,024; a host takes what it may of the hard limit first."""
    g = gate()
    g.host.wrapper = ["prlimit", "--nofile=256:4096"]
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    proc = g.connect("peer", None, "--paths", "relay")
    crowd = g.programs.start(g.topo.client.ns, "crowd", PEER[0], "-c", IDLE, proc.port, 400)
    crowd.wait_line("open", 60)
    got = g.client.peer("get", "127.0.0.1", proc.port, 1000, 5)
    assert got.status == 0, got.stdout + got.stderr
    assert "no descriptors" not in proc.stderr, proc.stderr


_PAUSED = """
import socket, sys, time
kept = []
for _ in range(int(sys.argv[2])):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
    s.sendall(b"GET 1000000000 1\\n")
    left = 30_000_000 if not kept else 100    # the first begins at full speed
    while left > 0:
        left -= len(s.recv(1 << 20))
    kept.append(s)
print("open", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("count", [1, 20])
def test_paused_downloads_stop_nobody(gate, count):
    """Programs that ask for much and do not read it, as a paused film: what else goes
    through the same session goes on, in both directions."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    proc = g.connect("peer")
    paused = g.programs.start(g.topo.client.ns, "paused", PEER[0], "-c", _PAUSED,
                              proc.port, count)
    paused.wait_line("open", 60)
    for verb in ("get", "put"):
        done = g.client.peer(verb, "127.0.0.1", proc.port, 20_000_000,
                             1, timeout=20)
        assert done.status == 0, (done.stdout, done.stderr)
    assert paused.running


def resident_mb(pid, what="VmRSS"):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(what)) / 1024


def test_memory_of_a_crowd_is_given_back(gate):
    """A device asks for much that it does not read, and is killed: the host is as small
    afterwards as one that such a device never visited, or nearly."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    at_first = resident_mb(g.host_proc.pid)
    for _ in range(2):
        proc = g.connect("peer")
        paused = g.programs.start(g.topo.client.ns, "paused", PEER[0], "-c", _PAUSED,
                                  proc.port, 300)
        paused.wait_line("open", 60)
        most = resident_mb(g.host_proc.pid, "VmHWM")
        proc.kill()
        paused.kill()
        assert g.client.run("ping", HOST, "--count", "1").status == 0
    print(at_first, most)
    assert most > at_first + 40
    wait_until(lambda: resident_mb(g.host_proc.pid) < at_first + (most - at_first) / 3,
               30, "it is given back")


def test_idle_siblings_do_not_push_each_other_out_for_ever(gate):
    """More programs of one device than a small host has room for: an idle one makes room
    for the newcomer and says so, one with a connection never, and who had to go comes
    back when it is needed, not at once to push out the next."""
    g = gate(host="masq", client="masq")
    g.host.wrapper = ["prlimit", "--nofile=64:64"]
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    used = g.connect("peer")
    held = g.programs.start(g.topo.client.ns, "held", PEER[0], "-c", IDLE, used.port, 1)
    held.wait_line("open", 10)
    idle = [g.client.start("connect", f"{HOST}:peer", "127.0.0.1:0") for _ in range(12)]

    def pushed():
        for proc in idle + [used]:
            proc.poll_output()
        return [sum(e["event"] == "error" and "need its place" in json.dumps(e)
                    for e in proc.events) for proc in idle + [used]]

    wait_until(lambda: sum(pushed()) > 0, 20, "there is no room for all")
    begin = time.monotonic()
    watched_s = 30 if full() else 10
    wait_until(lambda: time.monotonic() - begin > watched_s, watched_s + 10, "a while")
    counts = pushed()
    print("pushed out:", counts)
    assert counts[-1] == 0 and held.running, counts
    assert max(counts) == 1, counts
    gone = idle[counts.index(1)]     # and it comes back when it is needed
    port = int(gone.wait_event("ready", 1)["local"].rsplit(":", 1)[1])
    done = g.client.peer("get", "127.0.0.1", port, 1000, 1, timeout=30)
    assert done.status == 0, (done.stdout, done.stderr)
