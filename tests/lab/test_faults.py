"""What happens in the middle: programs die, NATs forget, clients move, paths are cut.
What must survive survives; what cannot ends clearly and works again by itself."""

import os
import shutil
import signal
import time

import pytest

from .actors import HOST, postern, wait_direct, wait_relay
from .conftest import full
from .net import patience, wait_until
from .servers import Sshd
from .topology import BROKER

pytestmark = pytest.mark.postern
AGAIN_S = 30   # by when everything must work again without anybody's help


@pytest.fixture
def running(gate):
    """Builds a Gate with a flow of bytes through `connect`, on its final path."""
    def build(direct=True, **how):
        how.setdefault("host", "masq")
        how.setdefault("client", "masq")
        g = gate(**how)
        g.host.start_peer("tcp-server", 7000)
        g.up_and_joined("7000")
        g.proc = g.connect("7000")
        g.flow = start_flow(g)
        (wait_direct if direct else wait_relay)(g.proc)
        progress(g.flow)
        return g
    return build


def start_flow(g, mbit=8):
    flow = g.client.start_peer("flow", "127.0.0.1", g.proc.port, mbit)
    flow.wait_line("at ")
    return flow


def progress(flow, timeout=AGAIN_S):
    """Waits until bytes arrive that were not on their way when it was called."""
    def count():
        lines = [x for x in flow.stdout.splitlines() if x.startswith("at ")]
        return int(lines[-1].split()[1]) if lines else 0
    begin = count()

    def more():
        assert flow.running, flow.stdout[-300:] + flow.stderr[-500:]
        return count() > begin + 1_000_000
    wait_until(more, timeout, "the flow goes on")


def whole(flow):
    """Ends the flow: every byte must have come back, once, in order."""
    flow.popen.send_signal(signal.SIGTERM)
    assert flow.wait(30) == 0, flow.stdout[-300:] + flow.stderr[-500:]
    assert flow.stdout.splitlines()[-1] == "whole"


def works_again(g, port, timeout=AGAIN_S):
    def try_once():
        return g.client.peer("get", "127.0.0.1", port, 10_000, 1,
                             env={"PEER_TIMEOUT": "8"}).status == 0
    wait_until(try_once, timeout, "a new connection through the same connect")


def why_lost(proc):
    """What the program said of its connection to the broker."""
    proc.poll_output()
    return [e.get("reason", "") for e in proc.events if e["event"] == "broker"]


# --------------------------------------------------------------------- the broker dies

def test_an_ipv6_address_that_goes_before_the_next_is_there_ends_nothing(gate):
    """Routes outlive an IPv6 address: what the host closes then does reach the broker,
    and must not be taken for the end of the host."""
    g = gate(host="fw", client="fw", ipv6=True, ipv4=False)
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("7000")
    g.join()
    proc = g.connect("7000")
    flow = g.client.start_peer("flow", "127.0.0.1", proc.port, 8)
    flow.wait_line("at ")
    ns, site = g.topo.host.ns, g.topo.host.site
    mark = g.host_proc.mark()
    ns.batch(f"addr del {site.lan_address6(g.topo.host.last)}/64 dev eth0")
    g.host_proc.wait_event("broker", 10, since=mark)   # the host saw it
    time.sleep(1)   # another network is not there at once
    ns.batch(f"addr add {site.lan_address6(g.topo.host.last + 1)}/64 dev eth0")
    progress(flow)
    whole(flow)
    assert not any("ended" in e.get("reason", "") for e in proc.events), proc.events


def test_broker_dies_and_a_direct_session_does_not_care(running):
    g = running()
    g.broker_proc.kill()
    progress(g.flow)
    works_again(g, g.proc.port, 5)   # the session stands: new streams too
    g.start_broker()
    other = g.other_client("later")
    wait_until(lambda: g.host_proc.running and
               other.run("join", g.invite(), timeout=30).status == 0,
               AGAIN_S, "the host comes back to the broker by itself")
    progress(g.flow)
    whole(g.flow)


def test_broker_dies_and_a_relayed_session_comes_back(running):
    g = running(direct=False, host="sym", client="sym")
    g.broker_proc.kill()
    g.start_broker()
    progress(g.flow)
    assert any(x.endswith(("without a word", "was reset")) for x in why_lost(g.host_proc))
    whole(g.flow)
    works_again(g, g.proc.port)


def test_broker_stops_in_order_and_all_come_back(running):
    g = running()
    assert g.broker_proc.terminate() == 0
    g.start_broker()
    fresh = g.connect("7000")
    works_again(g, fresh.port)
    progress(g.flow)
    whole(g.flow)


# ------------------------------------------------------------------ host and client die

def test_host_dies_and_comes_back(running):
    g = running()
    g.host_proc.kill()
    assert g.flow.wait(60) != 0, "a lost connection must not look like a whole one"
    assert "broken" in g.flow.stdout
    g.start_host("7000")
    assert g.proc.running
    works_again(g, g.proc.port)


@pytest.mark.parametrize("kinds", ["udp-punch", "tcp-punch", "udp-punch,relay"])
def test_a_dead_host_is_noticed_at_once_whatever_paths_are_allowed(gate, kinds):
    """The broker says so; and the same `connect` works as soon as the host is back, however
    often that happens."""
    g = without_relay(gate, kinds)
    for _ in range(4):
        g.host_proc.kill()
        begin = time.monotonic()
        assert g.flow.wait(20) != 0
        assert time.monotonic() - begin < patience(), "it was not noticed"
        g.start_host("7000", "--paths", kinds)
        begin = time.monotonic()
        works_again(g, g.proc.port, 10)
        assert time.monotonic() - begin < 2 * patience()
        g.flow = start_flow(g)
        progress(g.flow)


@pytest.mark.parametrize("kinds", ["udp-punch", "tcp-punch"])
def test_a_host_that_hung_and_was_killed_is_noticed_at_once(gate, kinds):
    """It leaves something unread, and its machine resets all its connections: the one to
    the broker, on which nothing was under way, and so by no router."""
    g = without_relay(gate, kinds)
    os.kill(g.host_proc.pid, signal.SIGSTOP)
    other = g.other_client("other")
    shutil.copytree(g.client.state, other.state, dirs_exist_ok=True)
    other.start("nc", HOST, "7000")     # its introduction is what the host does not read
    wait_until(lambda: unread_by_host(g), 5, "something unread")
    g.host_proc.kill()
    begin = time.monotonic()
    assert g.flow.wait(20) != 0
    assert time.monotonic() - begin < patience(), "it was not noticed"


@pytest.mark.skipif(not full(), reason="in the long form only")
def test_a_host_that_was_killed_while_it_was_written_to(gate):
    """As a router would that forgot it: it has the time that coming back takes."""
    g = without_relay(gate, "udp-punch")
    os.kill(g.host_proc.pid, signal.SIGSTOP)
    other = g.other_client("other")
    shutil.copytree(g.client.state, other.state, dirs_exist_ok=True)
    other.start("nc", HOST, "7000")
    wait_until(lambda: unread_by_host(g), 5, "something unread")
    g.topo.host.ns.nft("table inet deaf {\n chain in { type filter hook input priority 0;\n"
                       f"ip saddr {BROKER} drop\n}}\n}}")
    third = g.other_client("third")
    shutil.copytree(g.client.state, third.state, dirs_exist_ok=True)
    third.start("nc", HOST, "7000")     # what the broker has under way for it
    wait_until(lambda: unacknowledged_by_host(g), 5, "something under way")
    g.host_proc.kill()
    begin = time.monotonic()
    assert g.flow.wait(60) != 0
    assert time.monotonic() - begin < 15 + 2 * patience(), "it was not noticed"


def unacknowledged_by_host(g):
    return sum(int(x.split()[2]) for x in g.topo.broker.sockets("-tn")
               if f"{BROKER}:" in x and g.topo.sites["a"].public in x)


def unread_by_host(g):
    """Bytes that wait in its connection to the broker."""
    return sum(int(x.split()[1]) for x in g.topo.host.ns.sockets("-tn")
               if f"{BROKER}:" in x)


def test_a_host_that_died_with_the_broker_is_noticed_when_both_are_back(gate):
    """Nobody could say so then: the client asks, and the new host knows it not."""
    g = without_relay(gate, "udp-punch")
    g.broker_proc.kill()
    g.host_proc.kill()
    g.start_broker()
    g.start_host("7000", "--paths", "udp-punch")
    assert g.flow.wait(10 * patience()) != 0
    works_again(g, g.proc.port, 5)


def without_relay(gate, kinds):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000", "--paths", kinds)
    g.proc = g.connect("7000", None, "--paths", kinds)
    g.flow = start_flow(g)
    wait_direct(g.proc)
    progress(g.flow)
    return g


def test_the_broker_tells_who_waits_for_a_host_that_it_is_back(running):
    g = running()
    g.host_proc.kill()
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() > begin + 12, 14)   # pauses have grown to 10 s
    g.start_host("7000")
    begin = time.monotonic()
    works_again(g, g.proc.port)
    took = time.monotonic() - begin
    assert took < 3 * patience(), took


def test_host_stops_in_order(running):
    g = running()
    assert g.host_proc.terminate() == 0
    assert g.flow.wait(10) != 0
    g.start_host("7000")
    works_again(g, g.proc.port)


def test_client_dies_and_a_new_one_takes_over(running):
    g = running()
    port = g.proc.port
    g.proc.kill()
    assert g.flow.wait(10) != 0
    g.proc = g.connect("7000", f"127.0.0.1:{port}")
    g.flow = start_flow(g)
    wait_direct(g.proc)
    progress(g.flow)
    whole(g.flow)


# ------------------------------------------------------------------------ NATs and paths

@pytest.mark.parametrize("sides", ["a", "b", "ab"])
def test_conntrack_is_flushed(running, sides):
    g = running()
    for side in sides:
        g.topo.flush_conntrack(side)
    progress(g.flow)
    whole(g.flow)


def test_conntrack_is_flushed_under_symmetric_nats(running):
    """The relay's TCP connections lose their translation: they must be made anew."""
    g = running(direct=False, host="sym", client="sym")
    g.topo.flush_conntrack("a")
    g.topo.flush_conntrack("b")
    progress(g.flow, 60)
    whole(g.flow)


def test_direct_path_is_cut_and_mended(running):
    g = running()
    mark = g.proc.mark()
    g.topo.cut_direct()
    wait_relay(g.proc, 10, mark)
    progress(g.flow)
    mark = g.proc.mark()
    g.topo.mend_direct()
    wait_direct(g.proc, 90, mark)
    progress(g.flow)
    whole(g.flow)


def test_cut_again_and_again(running):
    g = running()
    for _ in range(3):
        mark = g.proc.mark()
        g.topo.cut_direct()
        wait_relay(g.proc, 10, mark)
        mark = g.proc.mark()
        g.topo.mend_direct()
        progress(g.flow)
        wait_direct(g.proc, 90, mark)
    whole(g.flow)


def test_broker_is_unreachable_for_a_while(running):
    """Direct stays up meanwhile; and when the direct path dies after, relay works."""
    g = running()
    g.topo.cut_broker()
    progress(g.flow)
    g.topo.mend_broker()
    progress(g.flow)
    mark = g.proc.mark()
    g.topo.cut_direct()
    wait_relay(g.proc, 60, mark)
    progress(g.flow)
    whole(g.flow)


def hide_broker(g, letter):
    """No packet passes between that site and the broker; nobody is told."""
    g.topo.sites[letter].box.nft(
        "table inet hide {\n  chain forward { type filter hook forward priority -10;\n"
        f"    ip daddr {BROKER} drop\n    ip saddr {BROKER} drop\n  }}\n}}")


def show_broker(g, letter):
    g.topo.sites[letter].box.nft("delete table inet hide")


def test_the_host_comes_back_to_the_broker_after_its_client(running):
    """The client has asked for it in vain by then, with pauses that grew."""
    g = running()
    g.proc.kill()
    g.proc = g.connect("7000", None, "--paths", "relay")
    g.flow = start_flow(g)
    progress(g.flow)
    hide_broker(g, "a")
    g.broker_proc.kill()
    g.start_broker()
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() > begin + 8, 10)
    wait_until(lambda: any("has not answered for" in x for x in why_lost(g.host_proc)), 12, "what is wrong")
    show_broker(g, "a")
    begin = time.monotonic()
    progress(g.flow)
    took = time.monotonic() - begin
    assert took < 9 * patience(), took
    whole(g.flow)


def test_udp_is_blocked_in_the_middle(running):
    g = running()
    mark = g.proc.mark()
    g.topo.block_udp("b")
    wait_relay(g.proc, 10, mark)
    progress(g.flow)
    whole(g.flow)


# ------------------------------------------------------------------------------- moves

@pytest.mark.parametrize("third", ["masq", "fw", "sym"])
def test_client_moves_to_another_nat(running, third):
    g = running(third=third)
    mark = g.proc.mark()
    g.topo.move(g.topo.client)
    progress(g.flow)
    if third != "sym":
        wait_direct(g.proc, 60, mark)
        progress(g.flow)
    whole(g.flow)


def test_host_moves_to_another_nat(running):
    g = running()
    mark = g.proc.mark()
    g.topo.move(g.topo.host)
    progress(g.flow, 60)
    wait_direct(g.proc, 60, mark)
    whole(g.flow)


def test_client_is_offline_for_ten_seconds(running):
    g = running()
    g.topo.detach(g.topo.client)
    gone = g.flow.stdout
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() > begin + 10, 12)
    assert g.flow.running and len(g.flow.stdout) - len(gone) < 200
    g.topo.attach(g.topo.client, "b")
    progress(g.flow)
    whole(g.flow)


@pytest.mark.parametrize("kinds", ["udp-punch,relay", "udp-punch"][:2 if full() else 1])
def test_a_host_whose_network_is_away_for_long_is_waited_for(gate, kinds):
    """Its router restarts, say: the broker misses it, and nobody has said that it ended."""
    g = without_relay(gate, kinds)
    g.topo.detach(g.topo.host)
    begin = time.monotonic()
    away_s = 150 if full() else 45
    wait_until(lambda: time.monotonic() > begin + away_s, away_s + 5)
    g.topo.attach(g.topo.host, "a")
    progress(g.flow)
    whole(g.flow)


@pytest.mark.parametrize("seconds", [15, 90] if full() else [15])
def test_client_sleeps_and_its_nat_forgets(running, seconds):
    """As a laptop's lid does: the process stands still, mappings and the broker's
    patience run out, and the flow goes on when it wakes."""
    g = running()
    os.kill(g.proc.pid, signal.SIGSTOP)
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() > begin + seconds, seconds + 5)
    g.topo.flush_conntrack("b")
    os.kill(g.proc.pid, signal.SIGCONT)
    progress(g.flow, 60)
    whole(g.flow)



@pytest.mark.skipif(not full(), reason="in the long form only")
def test_direct_again_when_the_host_wakes(running):
    """It stood still for half a minute under an open connection; the tries at direct
    paths that failed meanwhile do not hold up the next, and its sleep is no round trip."""
    g = running()
    wait_direct(g.proc)
    os.kill(g.host_proc.pid, signal.SIGSTOP)
    begin = time.monotonic()
    wait_until(lambda: time.monotonic() > begin + 30, 35)
    since = g.proc.mark()
    os.kill(g.host_proc.pid, signal.SIGCONT)
    event = wait_direct(g.proc, 8, since)
    assert event["rtt_ms"] < 1000, event
    progress(g.flow)
    whole(g.flow)


def test_more_news_of_the_network_than_a_socket_holds(gate, programs):
    """A container host starts, a routing daemon loads its table: what changes after
    that is noticed still."""
    g = gate(host="masq", client="masq")
    g.up_and_joined("22")
    up = g.client.start("up", "--verbose")
    up.wait_event("ready")
    ns = g.topo.client.ns
    flood = f"{g.work}/flood"
    with open(flood, "w", encoding="ascii") as f:
        for verb in ("add", "del"):
            f.writelines(f"addr {verb} 10.77.{n // 250}.{n % 250}/32 dev lo\n"
                         for n in range(2000))
    os.kill(up.pid, signal.SIGSTOP)
    assert programs.run(ns, "ip", "ip", "-batch", flood).status == 0
    os.kill(up.pid, signal.SIGCONT)
    for verb in ("add", "del", "add", "del"):
        told = up.stderr.count("the network changed")
        assert programs.run(ns, "ip", "ip", "addr", verb, "10.99.0.1/24", "dev",
                            "eth0").status == 0
        wait_until(lambda told=told: up.stderr.count("the network changed") > told, 20,
                   f"told of addr {verb}")


@pytest.mark.needs("ssh", "sshd")
def test_ssh_session_survives_a_move(gate, programs, work):
    g = gate(host="masq", client="masq")
    sshd = Sshd(programs, g.topo.host.ns, work)
    g.up_and_joined("22")
    ssh = programs.start(
        g.topo.client.ns, "ssh", "ssh", *sshd.options(postern()), f"root@{HOST}",
        "for i in $(seq 1 100000); do echo line $i; sleep 0.05; "
        f"test -e {work}/enough && exit 5; done", env=g.client.env)
    ssh.wait_line("line 20")
    g.topo.move(g.topo.client)
    lines = len(ssh.stdout.splitlines())
    wait_until(lambda: len(ssh.stdout.splitlines()) > lines + 100, 60, "ssh goes on")
    with open(f"{work}/enough", "w", encoding="ascii"):
        pass
    assert ssh.wait(20) == 5
    words = [int(x.split()[1]) for x in ssh.stdout.splitlines()]
    assert words == list(range(1, len(words) + 1))
