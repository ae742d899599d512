"""Symmetric NATs: udp-punch predicts their ports."""

import json
import os
import signal
import subprocess
import time

import pytest

from .actors import HOST, NEXT_ROUND_S, are_symmetric, wait_direct, wait_relay
from .net import patience, wait_until
from .topology import BROKER
from .test_tcp_kinds import move_bytes, start

pytestmark = pytest.mark.postern


NO_LOW_PORTS = ["setpriv", "--bounding-set=-net_bind_service"]


def start_unprivileged(gate, **topology):
    g = gate(**topology)
    g.host.wrapper = g.client.wrapper = NO_LOW_PORTS
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    return g, g.connect("7000", None, "--paths", "udp-punch,relay")


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize("host,client", [("sym", "masq"), ("fw", "sym")])
def test_birthday_form_without_low_ports(gate, host, client):
    """98 % a try; a second try follows after 2 s."""
    g, proc = start_unprivileged(gate, host=host, client=client)
    wait_direct(proc, 30)
    move_bytes(g, proc)


@pytest.mark.needs("setpriv")
def test_two_symmetric_nats_without_low_ports_say_so(gate):
    g, proc = start_unprivileged(gate, host="sym", client="sym")
    reason = proc.wait_event("rejected", 30, kind="udp-punch")["reason"]
    assert "below 1024" in reason, reason


@pytest.mark.parametrize("host,client", [("sym", "masq"), ("masq", "sym"), ("fw", "sym"),
                                         ("cgn", "sym"), ("sym+reject", "fw"),
                                         ("sym", "sym")])
def test_tcp_goes_through_a_symmetric_nat(gate, host, client):
    g, proc = start(gate, "tcp-punch", host=host, client=client)
    proc.wait_event("path", NEXT_ROUND_S if are_symmetric(host, client) else 20, kind="tcp-punch")
    move_bytes(g, proc)


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize("wrapper", [[], NO_LOW_PORTS], ids=["root", "user"])
@pytest.mark.parametrize("host,client", [("user:sym", "user:prc"), ("user:fw", "user:sym")])
def test_random_ports_are_met_in_the_first_round(gate, host, client, wrapper):
    """Of a NAT that does not leave low ports low, too; 40 ms of round trip."""
    g = gate(host=f"{host},delay-ms=10", client=f"{client},delay-ms=10,seed=2")
    g.host.wrapper = g.client.wrapper = wrapper
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "udp-punch,relay")
    assert wait_direct(proc, 30)["elapsed_ms"] < 2500 * patience()
    move_bytes(g, proc)


@pytest.mark.parametrize("addresses", [1, 2])
@pytest.mark.parametrize("host,client", [("user:adm", "user:prc"), ("user:prc", "user:adm"),
                                         ("user:adm", "user:cone")])
def test_address_dependent_mapping_is_not_taken_for_an_easy_one(gate, host, client, addresses):
    """A broker's second address shows it; where there is none, checks in vain do."""
    g = gate(host=f"{host},delay-ms=5", client=f"{client},delay-ms=5,seed=2")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker(*([] if addresses == 2 else ["--stun-alternate", f"{BROKER}:444"]))
    g.start_host("7000")
    g.join()
    proc = g.connect("7000", None, "--paths", "udp-punch,relay")
    assert wait_direct(proc, 30)["elapsed_ms"] < (2000 if addresses == 2 else 4000) * patience()
    move_bytes(g, proc)


@pytest.mark.parametrize("site", ["a", "b"])
def test_udp_443_blocked_and_others_free(gate, site):
    """The second port answers for the first, which only one side's network blocks."""
    g = gate(host="user:prc,delay-ms=5", client="user:prc,delay-ms=5,seed=2")
    g.topo.inet.nft("table ip blocked {\n"
                    "  chain pre { type filter hook prerouting priority -400;\n"
                    f'    iifname "{site}" udp dport 443 drop\n'
                    "  }\n}")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "udp-punch,relay")
    assert wait_direct(proc, 30)["elapsed_ms"] < 1000 * patience()
    move_bytes(g, proc)


@pytest.mark.parametrize("host,client", [
    ("sym", "masq"), ("masq", "sym"), ("fw", "sym"), ("sym", "cgn"), ("sym", "sym"),
    ("sym+invalid_drop", "sym+reject"), ("symrange", "masq"), ("fw", "symrange"),
    ("symrange", "sym"), ("symrange", "symrange")])
def test_symmetric_goes_direct(gate, host, client):
    g, proc = start(gate, "udp-punch", host=host, client=client)
    again = are_symmetric(host, client)
    path = wait_direct(proc, NEXT_ROUND_S if again else 15)
    assert path["elapsed_ms"] < 5000 * patience() or again and path["elapsed_ms"] > 50000, path
    move_bytes(g, proc)


def test_a_nat_that_changes_addresses_among_the_data(gate):
    """An ALG without thought: the address in a check's response must not be seen as one."""
    g, proc = start(gate, "udp-punch", host="user:prc,alg", client="user:prc,alg")
    wait_direct(proc)
    move_bytes(g, proc)


@pytest.mark.parametrize("kind", ["udp-punch", "tcp-punch"])
def test_no_stranger_is_swept(gate, kind):
    """The symmetric side has addresses that look public and are somebody else's in the
    internet: squat space, and 464XLAT's. Only where it is seen is swept."""
    g = gate(host="fw", client="sym")
    g.topo.client.ns.batch("addr add 11.0.0.20/24 dev eth0", "addr add 192.0.0.4/29 dev eth0")
    g.topo.inet.nft("table ip seen {\n"
                    "  counter squat {}\n  counter clat {}\n  counter own {}\n"
                    "  chain pre { type filter hook prerouting priority -400;\n"
                    '    iifname "a" ip daddr 11.0.0.20 counter name squat\n'
                    '    iifname "a" ip daddr 192.0.0.0/24 counter name clat\n'
                    f'    iifname "a" ip daddr {g.topo.client.site.public} counter name own\n'
                    "  }\n}")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", f"{kind},relay")
    wait_direct(proc)
    told = g.topo.inet.run("nft", "-j", "list", "counters")
    seen = {c["counter"]["name"]: c["counter"]["packets"]
            for c in json.loads(told)["nftables"] if "counter" in c}
    assert seen["own"] > 25 and seen["squat"] <= 20 and seen["clat"] == 0, seen


def test_a_network_change_ends_the_prediction_that_it_cuts_short(gate):
    """The host begins anew while it predicts: no socket of the old round stays."""
    g = gate(host="sym", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    g.topo.cut_direct()
    proc = g.connect("7000", None, "--paths", "udp-punch,relay")
    host = g.topo.host.ns

    def ports():
        return {line.split()[3].rsplit(":", 1)[1] for line in host.udp_sockets()}

    wait_until(lambda: len(ports()) > 20, 15, "the host predicts")
    old = ports()
    host.ip("addr", "add", "192.168.10.21/24", "dev", "eth0")
    wait_until(lambda: len(old & ports()) <= 2, 30, "the old round's sockets are closed")
    assert proc.terminate() == 0
    wait_until(lambda: not ports(), 30, "all sockets are closed")


BYSTANDER = """
import socket, sys, time
last = time.monotonic()
while True:
    s = socket.socket()
    s.settimeout(0.25)
    try:
        s.connect((sys.argv[1], 443))
        now = time.monotonic()
        print(round(now - last, 2), flush=True)
        last = now
    except OSError:
        pass
    s.close()
    time.sleep(0.1)
"""


@pytest.mark.parametrize("bound,gaps", [(1024, 0), (256, 1), (64, 1)])
@pytest.mark.parametrize("host,client", [("user:sym", "user:cone"), ("user:cone", "user:sym")])
def test_a_nat_of_few_sessions_still_opens_connections(gate, host, client, bound, gaps):
    """Others behind the client's NAT, while ports are tried in vain again and again. What
    fills its table once is known from then on, and it is empty when its sessions end."""
    life = 15
    g = gate(host=host, client=f"{client},seed=2,sessions-max={bound},rst-closes,"
             f"tcp-transitory-ms=200,udp-ms={life * 1000}")
    g.host.wrapper = g.client.wrapper = NO_LOW_PORTS
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    g.topo.cut_direct()
    beside = g.topo.programs.start(g.topo.client.ns, "beside", "python3", "-c", BYSTANDER, BROKER)
    wait_until(lambda: beside.poll_output() or len(beside.lines) > 10, 10, "connections beside")
    proc = g.connect("7000", None, "--paths", "udp-punch,relay")
    began = len(beside.lines)
    proc.wait_event("rejected", 30, kind="udp-punch")

    def reasons():
        return [e["reason"] for e in proc.events
                if e.get("event") == "rejected" and e.get("kind") == "udp-punch"]

    def waits():
        beside.poll_output()
        return [float(line) for line in beside.lines[began:]]

    wait_until(lambda: sum(waits()) > 32, 80, "several rounds in vain")
    waited = waits()
    long = [gap for gap in waited if gap > 3 * patience()]
    print("waited:", len(waited), sorted(waited)[-4:], reasons())
    assert len(long) <= gaps and max(waited) < (life + 3) * patience(), long
    if gaps > 0:
        assert any("new connections at once" in r for r in reasons()), reasons()


SESSIONS_AT_ONCE = 848   # src/core/sessions.h


@pytest.mark.parametrize("bound,failed", [(1024, 0), (512, 16)])
def test_a_loop_of_commands_leaves_room_to_others(gate, bound, failed):
    """Each is a process, and each predicts: together they open no more than one may, so
    that a NAT of 1,024 never fills. One of 512 is full once, and not again for as long as
    that is known: its sessions end after 15 s."""
    g = gate(host="user:cone", client=f"user:sym,seed=2,sessions-max={bound},rst-closes,"
             "tcp-transitory-ms=200,udp-ms=15000")
    g.host.wrapper = g.client.wrapper = NO_LOW_PORTS
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    g.topo.cut_direct()
    beside = g.topo.programs.start(g.topo.client.ns, "beside", "python3", "-c", BYSTANDER, BROKER)
    wait_until(lambda: beside.poll_output() or len(beside.lines) > 10, 10, "connections beside")
    began = len(beside.lines)
    for _ in range(6):
        done = g.client.run("ping", HOST, "--timeout", "4", timeout=30)
        assert bound < SESSIONS_AT_ONCE or done.status == 0, done.stdout + done.stderr
    beside.poll_output()
    waited = [float(line) for line in beside.lines[began:]]
    assert sum(waited) > 15 and max(waited) < failed + 3 * patience(), sorted(waited)[-4:]
    assert len([gap for gap in waited if gap > 3 * patience()]) <= (failed > 0), waited


BYSTANDER_UDP = """
import os, socket, sys, time
while True:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(0.25)
    # STUN: a Binding request; the first connection of each second by UDP
    ask = b"\\0\\1\\0\\0\\x21\\x12\\xa4\\x42" + os.urandom(12)
    got = False
    for _ in range(3):
        s.sendto(ask, (sys.argv[1], int(sys.argv[2])))
        try:
            got = len(s.recv(512)) > 0
            break
        except OSError:
            pass
    print("answered" if got else "failed", flush=True)
    s.close()
    time.sleep(1)
"""


@pytest.mark.needs("setpriv")
def test_eight_commands_at_once_leave_room_to_others(gate):
    """Whatever all of them open counts, not ports that they try alone: a NAT of 1,024
    sessions of a minute never fills."""
    g = gate(host="user:cone", client="user:sym,seed=2,sessions-max=1024,rst-closes,"
             "tcp-transitory-ms=200,udp-ms=60000")
    g.host.wrapper = g.client.wrapper = NO_LOW_PORTS
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    g.topo.cut_direct()
    ns, programs, most = g.topo.client.ns, g.topo.programs, []
    beside = [programs.start(ns, "beside", "python3", "-c", BYSTANDER, BROKER),
              programs.start(ns, "beside-udp", "python3", "-c", BYSTANDER_UDP, BROKER, "443")]
    wait_until(lambda: all(b.poll_output() or len(b.lines) > 2 for b in beside), 15,
               "connections beside")
    began = len(beside[0].lines)
    ncs = [programs.start(ns, f"nc{i}", *NO_LOW_PORTS, g.client.program, "nc", HOST, "7000",
                          env=g.client.env, stdin=subprocess.PIPE) for i in range(8)]

    def waits():
        for b in beside:
            b.poll_output()
        nat = g.topo.usernats["b"]
        nat.signal(signal.SIGUSR2)
        nat.poll_output()
        most.extend(e["sessions"] for e in nat.events if e.get("event") == "usernat")
        return [float(line) for line in beside[0].lines[began:]]

    wait_until(lambda: sum(waits()) > 30, 90, "half a minute of connections beside")
    print("sessions at most:", max(most), "waits:", sorted(waits())[-4:],
          "by UDP:", beside[1].lines.count("failed"), "of", len(beside[1].lines), "failed")
    assert max(waits()) < 1 * patience(), sorted(waits())[-4:]
    assert "failed" not in beside[1].lines
    assert all(nc.running for nc in ncs)


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize("table", [1024])
def test_twenty_clients_at_once_of_a_host_behind_a_symmetric_nat(gate, table):
    """All are connected at once by the relay; direct as the host's sum allows."""
    g = gate(host=f"user:sym,seed=2,sessions-max={table},rst-closes,tcp-transitory-ms=200,"
             "udp-ms=60000", client="user:prc")
    g.host.wrapper = g.client.wrapper = NO_LOW_PORTS
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    clients = [g.other_client(f"c{i}") for i in range(20)]
    for c in clients:
        c.wrapper = NO_LOW_PORTS
        g.join(c)
    began = time.monotonic()
    procs = [g.connect("7000", None, "--paths", "udp-punch,relay", who=c) for c in clients]
    for proc in procs:
        wait_relay(proc)
    relayed = round(time.monotonic() - began, 1)
    nat, direct = g.topo.usernats["a"], {}

    def count():
        nat.signal(signal.SIGUSR2)
        nat.poll_output()
        for i, proc in enumerate(procs):
            proc.poll_output()
            if i not in direct and proc.find("path", kind="udp-punch"):
                direct[i] = round(time.monotonic() - began, 1)
        return len(direct)

    until = float(os.environ.get("POSTERN_TWENTY_S", "10"))
    wait_until(lambda: count() == 20 or direct and time.monotonic() - began > until,
               until + NEXT_ROUND_S, "some are direct")
    told = [e for e in nat.events if e.get("event") == "usernat"]
    print("relay after", relayed, "direct:", sorted(direct.values()), "table at most",
          max(e["sessions"] for e in told), "refused", told[-1]["refused"])
    assert told[-1]["refused"] == 0
    assert all(proc.running for proc in procs)
