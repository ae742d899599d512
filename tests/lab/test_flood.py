"""What hostile clients, holders of invites and brokers can make a host send, and to whom.

The victim is a machine that knows nothing of Postern; its kernel counts what arrives.
Each test prints its figure, which docs/SECURITY.md states.
"""

import os
import re

import pytest

from .conftest import full
from .net import wait_until
from .topology import BROKER, build_dir

pytestmark = pytest.mark.postern

VICTIM, VICTIM6 = "198.51.77.7", "2001:db8:77::7"
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


def flood(g, link, keys, seconds, state=None, victim=VICTIM, **env):
    program = os.path.join(build_dir(), "tests", "lab", "flooder")
    done = g.programs.run(g.topo.client.ns, "flooder", program, link, victim, str(keys),
                          str(seconds), *([state] if state else []), timeout=seconds + 20,
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


def test_a_hostile_broker_and_a_listed_client_together(gate, work):
    """It vouches for the victim; sweeps need no handshake where no relay is allowed."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    program = os.path.join(build_dir(), "tests", "lab", "credulous")
    state = os.path.join(work, "credulous")
    proc = g.programs.start(g.topo.broker, "credulous", program, "0.0.0.0:443", BROKER,
                            state, VICTIM)
    g.link = proc.wait_event("ready", 15)["link"]
    g.start_host("7000")
    g.join()
    add_victim(g)
    seconds = 30 if full() else 5
    packets, _ = flood(g, g.invite(), 1, seconds, g.client.state, NORELAY="1")
    # Two rounds of sweeps, the larger allowance, and their refill.
    assert packets <= 5200 + 3000 + seconds * (40 + 100) + 700, packets
