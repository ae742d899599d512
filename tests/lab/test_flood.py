"""What hostile clients, holders of invites and brokers can make a host send, and to whom.

The victim is a machine that knows nothing of Postern; its kernel counts what arrives.
Each test prints its figure, which docs/SECURITY.md states.
"""

import os
import re
import signal
import time

import pytest

from .actors import HOST, wait_direct
from .conftest import full
from .net import wait_until
from .topology import BROKER, build_dir

pytestmark = pytest.mark.postern

VICTIM, VICTIM6 = "198.51.77.7", "2001:db8:77::7"
MANY = "11.77"   # a /16 of victims: the lower half is vouched for, where anything is
SMALL = 40   # the allowance of 20, and what comes back to it meanwhile


def add_victim(g):
    """The stranger gets an address, and counts whatever comes for it."""
    victim = g.topo.stranger
    victim.address("eth0", f"{VICTIM}/32")
    g.topo.inet.ip("route", "add", VICTIM, "via", "198.18.9.2")
    rules = "ip daddr " + VICTIM
    if g.topo.ipv6:
        victim.ip("addr", "add", f"{VICTIM6}/128", "dev", "eth0")
        g.topo.inet.ip("-6", "route", "add", "2001:db8:77::/64", "via", "2001:db8:9::2")
        rules = "ip6 daddr 2001:db8:77::/64"
    victim.nft("table inet victim {\n  chain input {\n"
               "    type filter hook prerouting priority -300;\n"
               f"    {rules} counter drop\n  }}\n}}")


def counted(g):
    """(packets, bytes) at the victim."""
    text = g.topo.stranger.run("nft", "list", "table", "inet", "victim")
    packets, size = re.search(r"counter packets (\d+) bytes (\d+)", text).groups()
    return int(packets), int(size)


def flood(g, link, keys, seconds, *states, victim=VICTIM, **env):
    program = os.path.join(build_dir(), "tests", "lab", "flooder")
    done = g.programs.run(g.topo.client.ns, "flooder", program, link, victim, str(keys),
                          str(seconds), *states, timeout=seconds + 20,
                          env=env)
    assert done.status == 0, done.stderr
    packets, size = counted(g)
    print(f"{done.stdout.strip()}; at the victim {packets} packets, {size} bytes")
    introduced, answered, _ = map(int, re.findall(r"\d+", done.stdout.split(";")[0]))
    assert introduced > 0
    return packets, answered


def descriptors(proc):
    return len(os.listdir(f"/proc/{proc.pid}/fd"))


def start(gate, **topology):
    g = gate(host="masq", client="masq", **topology)
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("7000")
    add_victim(g)
    return g


def test_many_keys_with_one_invite_flood_nobody(gate):
    g = start(gate)
    link = g.invite()
    packets, answered = flood(g, link, 160, 11 if full() else 6)
    assert packets == 0, packets      # who has not joined is served by the relay alone
    assert answered <= 8, answered    # one use: four tries, and one more in 10 s
    # The invite still admits who was meant, though its tries are spent: after a wait.
    wait_until(lambda: g.client.run("join", link).status == 0, 40, "the right one joins")
    g.connect("7000")


@pytest.mark.parametrize("relay", [True, False])
def test_a_listed_client_floods_nobody(gate, relay):
    g = start(gate)
    g.join()
    packets, answered = flood(g, g.invite(), 1, 11 if full() else 5, g.client.state,
                              **({} if relay else {"NORELAY": "1"}))
    assert 0 < packets <= SMALL, packets
    assert answered >= 10, answered   # it was let in, and is not stopped


def test_a_listed_client_floods_no_ipv6_network(gate):
    g = start(gate, ipv6=True)
    g.join()
    packets, _ = flood(g, g.invite(), 1, 4, g.client.state, victim=VICTIM6)
    assert packets <= SMALL, packets


def test_a_listed_client_that_names_ever_new_ports_fills_no_nat(gate):
    """Ports of its own address, for which the broker vouches: each is another entry in
    the table of the host's NAT."""
    g = start(gate)
    g.join()
    box = g.topo.host.site.box
    g.topo.flush_conntrack("b")
    own = g.topo.client.site.public
    flood(g, g.invite(), 1, 20 if full() else 8, g.client.state, victim=own,
          NEWPORTS="1")
    opened = box.run("conntrack", "-L", "-d", own, check=False).count(f" dst={own} ")
    print(f"{opened} sessions in the host's NAT")
    assert 0 < opened <= 40, opened


def test_a_listed_client_that_begins_ever_anew_fills_no_nat(gate):
    """Each round of each kind has ports of its own, from which the host asks its broker
    how they are seen."""
    g = start(gate)
    g.join()
    box = g.topo.host.site.box
    g.topo.flush_conntrack("b")
    was = descriptors(g.host_proc)
    flood(g, g.invite(), 1, 20 if full() else 10, g.client.state)
    held = descriptors(g.host_proc)
    opened = box.run("conntrack", "-L", "-d", BROKER, check=False).count(f" dst={BROKER} ")
    print(f"{opened} sessions in the host's NAT, {was} descriptors before, {held} after")
    assert 0 < opened <= 150 and held - was < 60, (opened, was, held)


def test_listed_clients_that_only_introduce_themselves_fill_no_nat(gate):
    """No handshake ever comes: for each introduction the host had a relay pair and asked
    its broker how it is seen. Who comes meanwhile is served as ever."""
    g = start(gate)
    g.join()
    box = g.topo.host.site.box
    states = [f"{g.client.state}-{i}" for i in range(3)]
    for state in states:
        done = g.client.run("join", "--state", state, g.invite())
        assert done.status == 0, done.stderr
    g.topo.flush_conntrack("b")
    flood(g, g.invite(), 1, 20 if full() else 10, *states, PLAIN="1")
    opened = box.run("conntrack", "-L", "-d", BROKER, check=False).count(f" dst={BROKER} ")
    print(f"{opened} sessions in the host's NAT")
    assert 0 < opened <= 150, opened

    def standing():
        return g.topo.host.ns.run("ss", "-Htn", "state", "established", "dst",
                                  BROKER).count(BROKER)
    wait_until(lambda: standing() == 1, 15, "no pair that nobody came to is left")
    # One that has nothing left: Carry brings its handshake, and then it has all.
    g.connect("7000", None, "--state", states[0], "--paths", "relay")
    wait_until(lambda: standing() == 2, 15, "the pair stands")
    wait_direct(g.connect("7000", None, "--state", states[1]))
    wait_direct(g.connect("7000"))


def sessions_of(nat):
    """What a NAT in user space has in its table now."""
    nat.poll_output()
    told = len([e for e in nat.events if e.get("event") == "usernat"])
    nat.signal(signal.SIGUSR2)

    def reports():
        nat.poll_output()
        return [e for e in nat.events if e.get("event") == "usernat"]
    wait_until(lambda: len(reports()) > told, 5, "the NAT's report")
    return reports()[-1]


def test_a_loop_of_short_commands_fills_no_nat(gate):
    """Sessions that a listed device begins and ends in order, several a second: each left
    its relay connections in both NATs' tables for minutes, and its questions and checks."""
    table = "seed=2,sessions-max=1024,rst-closes,udp-ms=60000,tcp-transitory-ms=120000"
    g = gate(host=f"user:cone,{table}", client=f"user:cone,{table}")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    host, client = g.topo.usernats["a"], g.topo.usernats["b"]
    before = [sessions_of(nat)["sessions"] for nat in (host, client)]
    loop = ("for i in $(seq 30); do \"$0\" ping \"$1\" --count 1 >/dev/null || exit 1; done")
    procs = [g.programs.start(g.topo.client.ns, f"loop{i}", "sh", "-c", loop,
                              g.client.program, HOST, env=g.client.env) for i in range(4)]
    for proc in procs:
        assert proc.wait(90) == 0, proc.stderr
    after = [sessions_of(nat) for nat in (host, client)]
    grown = [a["sessions"] - b for a, b in zip(after, before)]
    print(f"120 sessions: {grown} entries in the host's NAT and in the client's, {after}")
    assert grown[0] <= 90, grown
    assert all(a["refused"] == 0 for a in after), after
    wait_direct(g.connect("7000"))   # and a session that stays becomes direct


FORGED = """table ip forged {{
  chain pre {{
    type filter hook prerouting priority -300;
    iifname "b" ip daddr {host} ip protocol udp @th,64,8 0x2a numgen inc mod 2 0 \\
      ip saddr set {victim}
    iifname "b" ip daddr {host} ip protocol udp @th,64,8 & 0x40 == 0x40 counter \\
      ip saddr set {victim}
  }}
}}"""


def test_a_listed_client_that_forges_its_source_floods_nobody(gate):
    """Every other check of its own comes from the victim, and all that its sessions say:
    an authentic check is no proof that its source is there."""
    g = gate(host="none", client="none")
    g.up_and_joined("7000")
    add_victim(g)
    g.topo.inet.nft(FORGED.format(host=g.topo.host.address, victim=VICTIM))

    def said():
        text = g.topo.inet.run("nft", "list", "table", "ip", "forged")
        return int(re.search(r"counter packets (\d+)", text).group(1))
    for _ in range(20):
        g.client.start("connect", "--paths", "udp-punch", f"{HOST}:7000", "127.0.0.1:0")
    wait_until(lambda: said() >= 150, 60, "much is said in the victim's name")
    packets, size = counted(g)
    print(f"{said()} packets in the victim's name; it got {packets}, {size} bytes")
    assert 0 < packets <= SMALL, packets


def start_credulous(gate, work, victim, liar=False, **env):
    g = gate(host="masq", client="masq")
    if liar:
        g.host.program = os.path.join(build_dir(), "tests", "lab", "liar")
        g.host.more_env["VICTIMS"] = victim
    g.host.start_peer("tcp-server", 7000)
    program = os.path.join(build_dir(), "tests", "lab", "credulous")
    state = os.path.join(work, "credulous")
    proc = g.programs.start(g.topo.broker, "credulous", program, "0.0.0.0:443", BROKER,
                            state, victim, env=env)
    g.link = proc.wait_event("ready", 15)["link"]
    g.start_host("7000")
    return g


def test_a_hostile_broker_and_a_listed_client_together(gate, work):
    """It vouches for the victim; sweeps need no handshake where no relay is allowed."""
    g = start_credulous(gate, work, VICTIM)
    g.join()
    add_victim(g)
    seconds = 30 if full() else 5
    packets, _ = flood(g, g.invite(), 1, seconds, g.client.state, NORELAY="1")
    # Two rounds of sweeps, the larger allowance, and their refill.
    assert packets <= 5200 + 3000 + seconds * (40 + 100) + 700, packets


# ------------------------------------------------- the sum, over all victims together

def add_victims(g):
    """The stranger is a whole /16, and counts for each address in it."""
    g.topo.inet.ip("route", "add", f"{MANY}.0.0/16", "via", "198.18.9.2")
    g.topo.stranger.nft(
        "table inet victims {\n"
        "  set each { type ipv4_addr; flags dynamic; size 65536; }\n"
        "  chain input {\n    type filter hook prerouting priority -300;\n"
        f"    ip daddr {MANY}.0.0/16 update @each {{ ip daddr counter }} drop\n  }}\n}}")


def counted_each(g):
    """{address: (packets, bytes)} of the victims."""
    text = g.topo.stranger.run("nft", "list", "set", "inet", "victims", "each")
    found = re.findall(r"(\d+\.\d+\.\d+\.\d+) counter packets (\d+) bytes (\d+)", text)
    return {a: (int(n), int(size)) for a, n, size in found}


def half(each, upper):
    """(addresses, packets, bytes, packets of the worst) in one half of the /16."""
    of = [v for a, v in each.items() if (int(a.split(".")[2]) >= 128) == upper]
    return (len(of), sum(n for n, _ in of), sum(b for _, b in of),
            max((n for n, _ in of), default=0))


def flood_many(g, floods, seconds):
    """Both halves and the time it took; prints what they were at 10 s and at the end.

    `floods`: for each hostile client its number of keys, its link and its state or None.
    """
    program = os.path.join(build_dir(), "tests", "lab", "flooder")
    env = {"SPREAD": "1", "NORELAY": "1", "SWEEPTCP": "1"}
    begun = time.monotonic()
    procs = [g.programs.start(g.topo.client.ns, "flooder", program, link, f"{MANY}.0.0",
                              str(keys), str(seconds), *([state] if state else []),
                              env=env) for keys, link, state in floods]
    for at in (10, seconds) if seconds > 10 else (seconds,):
        wait_until(lambda t=at: time.monotonic() - begun > t, at + 5, "its time")
        each = counted_each(g)
        print(f"{at} s: vouched for {half(each, False)}, others {half(each, True)}"
              " (addresses, packets, bytes, packets of the worst)")
    for proc in procs:
        assert proc.wait(20) == 0, proc.stderr
    each = counted_each(g)
    return half(each, False), half(each, True), time.monotonic() - begun


def floods_of(g, who):
    client, invite = (1, g.invite(), g.client.state), (160, g.invite(), None)
    return {"client": [client], "invite": [invite], "both": [client, invite]}[who]


LONG = 60 if full() else 2


@pytest.mark.parametrize("who", ["client", "invite", "both"] if full() else ["both"])
def test_many_victims_of_clients(gate, who):
    """A listed client, and the holder of an invite with as many keys as he likes."""
    g = start(gate)
    g.join()
    add_victims(g)
    named, others, took = flood_many(g, floods_of(g, who), LONG)
    # The allowance of all that nothing vouches for; it fills again with 20 a second.
    assert 20 < named[1] + others[1] <= 1000 + 20 * took, (named, others)
    assert max(named[3], others[3]) <= 20 + took / 15 + 1, (named, others)


@pytest.mark.parametrize("who", ["client", "both"] if full() else ["both"])
def test_many_victims_of_a_hostile_broker_with_clients(gate, work, who):
    """It vouches for whatever they name next."""
    g = start_credulous(gate, work, f"{MANY}.0.0", SPREAD="1")
    g.join()
    add_victims(g)
    vouched, others, took = flood_many(g, floods_of(g, who), LONG)
    assert 40 < vouched[1] + others[1] <= 23400 + 1180 * took, (vouched, others)
    assert vouched[3] <= 8200 + 140 * took, vouched
    assert others[1] <= 1000 + 20 * took, others
    assert others[3] <= 20 + took / 15 + 1, others


def test_many_victims_of_a_hostile_broker_alone(gate, work):
    """It vouches for what nobody named, and names STUN servers."""
    g = start_credulous(gate, work, f"{MANY}.0.0", SPREAD="1")
    add_victims(g)
    g.join()
    proc = g.connect("7000")
    wait_direct(proc)
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > LONG, LONG + 5, "its time")
    each = counted_each(g)
    print(f"{LONG} s: {each}")
    assert each, "no STUN server was asked"
    # Three servers for each connection to it: of `serve`, `join` and `connect`.
    assert max(n for n, _ in each.values()) <= 20 + LONG / 15 + 1, each
    assert len(each) <= 9, each


@pytest.mark.parametrize("command", ["connect", "up"] if full() else ["connect"])
def test_many_victims_of_a_hostile_host_and_broker(gate, work, command):
    """What they make a client send: every Offer of the host names others."""
    g = start_credulous(gate, work, f"{MANY}.0.0", liar=True, SPREAD="1")
    g.join()
    add_victims(g)
    begun = time.monotonic()
    if command == "up":
        g.client.start("up")
    else:
        g.connect("7000")
    seconds = 30 if full() else 2
    wait_until(lambda: time.monotonic() - begun > seconds, seconds + 5, "its time")
    each = counted_each(g)
    vouched, others = half(each, False), half(each, True)
    print(f"{command}, {seconds} s: vouched for {vouched}, others {others}")
    took = time.monotonic() - begun
    assert 0 < vouched[1] <= 22400 + 1160 * took + 1000 + 20 * took, vouched
    assert vouched[3] <= 8200 + 140 * took, vouched
    assert others[1] <= 1000 + 20 * took and others[3] <= 20 + took / 15 + 1, others
