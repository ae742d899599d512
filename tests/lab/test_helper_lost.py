"""The privileged helper killed, stopped, and killed again: the program goes on, starts
it again by itself, and the kinds that need it are there again, without a restart."""

import os
import shutil
import signal
import time

import pytest

from .actors import HOST, wait_relay
from .net import patience, wait_until
from .test_privilege import HELPER, NOBODY, alive, child, children, keepers, status
from .test_tcp_kinds import move_bytes

pytestmark = pytest.mark.postern

LOST, BACK = "it is started again by itself", "the privileged helper runs again"
BACK_S = 10    # the first pause is 1 s at most


def kill_helper(proc, number=signal.SIGKILL):
    """Its pid, dead (or stopped)."""
    found = child(proc.pid)
    assert len(found) == 1, found
    os.kill(found[0], number)
    if number == signal.SIGKILL:
        wait_until(lambda: not alive(found[0]), 5, "the helper is dead")
    return found[0]


def wait_back(proc, dead, timeout=BACK_S):
    """Another helper runs, and the program knows."""
    told = proc.stderr.count(BACK)
    wait_until(lambda: proc.stderr.count(BACK) > max(told - 1, 0) and
               [p for p in child(proc.pid) if p != dead], timeout, "the helper is back")
    return child(proc.pid)[0]


def knocks(g, kind="udp-knock"):
    """A new session comes by a kind that needs the host's helper."""
    proc = g.connect("7000", None, "--paths", f"{kind},relay")
    path = proc.wait_event("path", 15, kind=kind)
    move_bytes(g, proc)
    proc.terminate()
    return path


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def tables(g):
    return g.topo.host.ns.run("nft", "list", "tables").count("postern")


@pytest.fixture
def house(gate):
    """A host that listens to knocks, and a client behind a symmetric NAT."""
    g = gate(host="none", client="sym")
    g.host.start_peer("tcp-server", 7000)
    return g


@pytest.mark.parametrize("who", ["root", "a service's user"])
def test_serve_has_its_killed_helper_back(house, who):
    g = house
    if who != "root":
        g.host.wrapper = NOBODY
        os.makedirs(g.host.state, mode=0o700)
        os.chown(g.host.state, 65534, 65534)
        os.chmod(g.work, 0o755)
    g.up_and_joined("7000")
    knocks(g)
    wait_until(lambda: tables(g) == 0, 15, "the knock's table is gone")
    before = descriptors(g.host_proc.pid)
    dead = kill_helper(g.host_proc)
    g.host_proc.wait_line(LOST, 5, "err")
    new = wait_back(g.host_proc, dead)
    own, its = status(g.host_proc.pid), status(new)
    assert int(own["CapPrm"], 16) & (1 << 12 | 1 << 13) == 0, own
    assert int(its["CapInh"], 16) == int(its["CapAmb"], 16) == 0, its
    knocks(g)
    wait_until(lambda: descriptors(g.host_proc.pid) <= before, 15, "no descriptor leaks")
    assert g.host_proc.stderr.count(LOST) == g.host_proc.stderr.count(BACK) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_session_under_way_gets_its_kind_when_the_helper_is_back(house, number):
    """It is told why it has none meanwhile, at once, and tries again by itself. One that
    is stopped is found out by the request that it does not answer."""
    g = house
    g.up_and_joined("7000")
    dead = kill_helper(g.host_proc, number)
    proc = g.connect("7000", None, "--paths", "udp-knock,relay")
    wait_relay(proc)

    def refused():
        for found in child(g.host_proc.pid) if number == signal.SIGKILL else ():
            os.kill(found, number)  # a slow client comes when there is another already
        return proc.find("rejected", kind="udp-knock")
    no = wait_until(refused, 10, "it is told")
    assert LOST in no["reason"], no
    if number == signal.SIGSTOP:
        assert "did not answer" in no["reason"], no
    wait_back(g.host_proc, dead)
    assert not alive(dead)
    proc.wait_event("path", 30, kind="udp-knock")
    move_bytes(g, proc)


@pytest.mark.parametrize("side,kind", [("host", "udp-knock"), ("client", "tcp-knock")])
def test_what_failed_without_a_helper_is_tried_when_it_is_back(house, side, kind):
    """The pauses between tries have grown by then, to 16 s and more."""
    g = house
    g.up_and_joined("7000")
    proc = g.client.start("up", "--paths", f"{kind},relay")
    proc.wait_event("path", 20, kind=kind)
    lacks = proc if side == "client" else g.host_proc
    mark, began = proc.mark(), time.monotonic()
    g.topo.cut_direct()     # its path dies
    while time.monotonic() - began < 22:
        for found in child(lacks.pid):
            os.kill(found, signal.SIGKILL)
        time.sleep(0.05)    # how often it is killed, no wait for something
    g.topo.mend_direct()
    wait_until(lambda: lacks.stderr.count(BACK) >= lacks.stderr.count(LOST), 40, "it is back")
    began = time.monotonic()
    proc.wait_event("path", 40, since=mark, kind=kind)
    assert time.monotonic() - began < 4 * patience(), "it was tried at once"


def test_a_path_that_stands_outlives_its_helper(house):
    """And the filter, which went with it, is not left behind."""
    g = house
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "udp-knock,relay")
    proc.wait_event("path", 15, kind="udp-knock")
    assert tables(g) == 1
    mark = proc.mark()
    dead = kill_helper(g.host_proc)
    wait_until(lambda: tables(g) == 0, 5, "the dead helper's table is gone")
    move_bytes(g, proc)
    wait_back(g.host_proc, dead)
    move_bytes(g, proc)
    assert not proc.find("path", mark, kind="relay"), "the session stayed on its path"


# Between the sites nothing passes: the host waits for a knock that does not come.
DEAF = """
table inet deaf {
  chain forward { type filter hook forward priority 0;
    iifname { "a", "b" } oifname { "a", "b" } drop
  }
}
"""


@pytest.mark.parametrize("kind", ["udp-knock", "tcp-knock"])
def test_who_waits_for_a_knock_is_told_that_the_filter_is_gone(house, kind):
    g = house
    g.topo.inet.nft(DEAF)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", f"{kind},relay")
    wait_until(lambda: tables(g) == 1, 15, "the host waits for a knock")
    kill_helper(g.host_proc)
    no = proc.wait_event("rejected", 5, kind=kind)
    assert LOST in no["reason"], no


def test_up_has_its_killed_helper_back(house):
    """tcp-knock needs the client's helper too, for the number in its SYN."""
    g = house
    g.up_and_joined("7000")
    up = g.client.start("up", "--paths", "tcp-knock,relay")
    up.wait_event("path", 20, kind="tcp-knock")
    g.host_proc.kill()
    dead = kill_helper(up)
    mark = up.mark()
    g.start_host("7000")
    wait_back(up, dead)
    up.wait_event("path", 60, since=mark, kind="tcp-knock")


def test_killed_again_and_again_it_is_started_ever_later(house):
    """Whoever kills each one at once sees few starts, and the program does nothing
    meanwhile."""
    g = house
    g.up_and_joined("7000")
    pid = g.host_proc.pid
    killed, began, busy = [], time.monotonic(), cpu_s(pid)
    while time.monotonic() - began < 12:
        for found in child(pid):
            os.kill(found, signal.SIGKILL)
            killed.append(found)
        time.sleep(0.05)    # how often it is killed, no wait for something
    # Pauses of 1, 2, 4, 8 s, each down to half.
    assert 3 <= len(set(killed)) <= 6, killed
    assert cpu_s(pid) - busy < 1.5
    assert len(keepers(pid)) == 2
    wait_back(g.host_proc, killed[-1], 20)
    knocks(g)


def cpu_s(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_killed_helpers_leave_nothing_behind(house):
    g = house
    g.up_and_joined("7000")
    pid = g.host_proc.pid
    before = descriptors(pid)
    for _ in range(3):
        dead = kill_helper(g.host_proc)
        wait_back(g.host_proc, dead, 30)
    wait_until(lambda: descriptors(pid) == before, 5, "no descriptor leaks")
    assert tables(g) == 0 and not zombies(pid)


def zombies(pid):
    found = []
    for parent in [pid] + keepers(pid):
        with open(f"/proc/{parent}/task/{parent}/children", encoding="ascii") as f:
            found += [p for p in map(int, f.read().split()) if not alive(p)]
    return found


def test_the_keeper_is_replaced_too(house):
    g = house
    g.up_and_joined("7000")
    helper = child(g.host_proc.pid)[0]
    keeper = keepers(g.host_proc.pid)[0]
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: keepers(helper), BACK_S, "the helper started another keeper")
    second = keepers(helper)[0]
    os.kill(second, signal.SIGKILL)
    new = wait_until(lambda: [k for k in keepers(helper) if k != second], BACK_S,
                     "and a third")[0]
    assert not zombies(g.host_proc.pid) and not zombies(helper)
    assert LOST not in g.host_proc.stderr
    os.kill(helper, signal.SIGKILL)
    g.host_proc.wait_line(BACK, BACK_S, "err")
    knocks(g)
    g.host_proc.kill()
    wait_until(lambda: not alive(new), 10, "it ends with its program")


def asked_keepers(pid):
    """Whose child the helper is."""
    return [k for k in keepers(pid) if children(k, HELPER)]


def test_a_helper_given_up_after_its_keeper_is_told(house):
    """The keeper's end is a failure of its own; it must not hide the helper's."""
    g = house
    g.up_and_joined("7000")
    helper = child(g.host_proc.pid)[0]
    os.kill(helper, signal.SIGSTOP)  # found out by the request for another keeper
    os.kill(asked_keepers(g.host_proc.pid)[0], signal.SIGKILL)
    try:
        g.host_proc.wait_line("the privileged helper did not answer", BACK_S, "err")
        g.host_proc.wait_line(BACK, BACK_S, "err")
    finally:
        os.kill(helper, signal.SIGCONT)
    wait_until(lambda: not alive(helper), 5, "it finds that its program has another")
    knocks(g)


def test_a_keeper_killed_without_a_helper_has_a_second(house):
    g = house
    g.up_and_joined("7000")
    pid = g.host_proc.pid
    for i in range(2):
        helper = child(pid)[0]
        os.kill(asked_keepers(pid)[0], signal.SIGKILL)
        os.kill(helper, signal.SIGKILL)
        wait_until(lambda n=i + 1: g.host_proc.stderr.count(BACK) == n, BACK_S, "it is back")
        if i == 0:
            wait_until(lambda: keepers(child(pid)[0]), BACK_S, "that helper started one more")
        knocks(g)
    assert "restart" not in g.host_proc.stderr


def test_with_all_gone_the_advice_is_to_restart(house):
    g = house
    g.up_and_joined("7000")
    for pid in keepers(g.host_proc.pid) + child(g.host_proc.pid):
        os.kill(pid, signal.SIGKILL)
    g.host_proc.wait_line("restart this program", BACK_S, "err")
    proc = g.connect("7000", None, "--paths", "udp-knock,relay")
    no = proc.wait_event("rejected", 10, kind="udp-knock")
    assert "restart this program" in no["reason"], no
    wait_relay(proc)


def test_a_stopped_helper_does_not_outlive_its_program(house):
    g = house
    g.up_and_joined("7000")
    helper = kill_helper(g.host_proc, signal.SIGSTOP)
    g.host_proc.kill()
    wait_until(lambda: not alive(helper), 15, "its keeper ended it")


def test_a_helper_that_hangs_from_the_start_is_named(gate, work):
    g = gate().up_and_joined("7000")
    g.host.start_peer("tcp-server", 7000)
    place = os.path.join(work, "hung")
    os.makedirs(place)
    with open(os.path.join(place, "postern-helper"), "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nexec sleep 300 >&- 2>&-\n")
        os.fchmod(f.fileno(), 0o755)
    g.client.program = shutil.copy(g.client.program, place)
    done = g.client.run("nc", HOST, "7000", json=False, stdin=b"", timeout=20)
    assert done.status == 0, done.stderr
    assert "the privileged helper does not answer" in done.stderr, done.stderr
