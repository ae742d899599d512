"""Networks with IPv6 only that translate to IPv4 at their edge (NAT64, DNS64): tayga on
the router, and a DNS server that makes IPv6 addresses."""

import json
import os
import re
import time

import pytest

from .actors import HOST, wait_direct
from .net import patience, wait_until
from .test_away import etc   # noqa: F401  pylint: disable=unused-import
from .topology import BROKER, BROKER6, have

pytestmark = [pytest.mark.postern,
              pytest.mark.skipif(not have("tayga"), reason="needs tayga")]
PREFIX = "2001:db8:64::"    # the well-known one is not for the lab's addresses
VICTIM = "2001:db8:5:5::"   # somebody's network, where nothing translates
NAME = "broker.lab"
DIRECT_S = 3
HERE = os.path.dirname(os.path.abspath(__file__))


def only_v6(g, machine, etc, work, prefix=PREFIX):   # pylint: disable=redefined-outer-name
    """Its LAN has no IPv4 from now on; the router translates behind PREFIX, its DNS says
    `prefix`."""
    site = machine.site
    box, ns, letter = site.box, machine.ns, site.letter
    pool = f"192.168.{90 + ord(letter) - ord('a')}"
    conf = os.path.join(work, f"tayga-{letter}.conf")
    with open(conf, "w", encoding="ascii") as f:
        f.write(f"tun-device nat64\nipv4-addr {pool}.1\nprefix {PREFIX}/96\n"
                f"dynamic-pool {pool}.0/24\n"
                f"ipv6-addr 2001:db8:{letter}:1::64\ndata-dir {work}\n")
    box.run("tayga", "--mktun", "-c", conf)
    box.ip("link", "set", "nat64", "up")
    box.ip("route", "add", f"{pool}.0/24", "dev", "nat64")
    box.ip("-6", "route", "add", f"{PREFIX}/96", "dev", "nat64")
    box.nft('insert rule inet box forward iifname "nat64" accept')
    g.programs.start(box, f"tayga-{letter}", "tayga", "-n", "-d", "-c", conf)
    address = f"2001:db8:{letter}:1::1"
    dns = g.programs.start(box, f"dns64-{letter}", "/usr/bin/python3",
                           os.path.join(HERE, "dns64.py"), address, prefix,
                           f"{NAME}={BROKER}")
    dns.wait_line("ready")
    ns.ip("-4", "addr", "flush", "dev", "eth0")
    etc(ns, resolv_conf=f"nameserver {address}\n", hosts="127.0.0.1 localhost\n")
    # IPv6 itself leads nowhere else: what is direct goes through the translator.
    box.nft("table ip6 only {\n  chain forward { type filter hook forward priority -5;\n"
            f'    ip6 daddr {prefix}/96 ip6 daddr & ::ffff:ffff == ::{BROKER} counter comment "broker"\n'
            f'    ip6 daddr {prefix}/96 counter comment "all"\n'
            f'    oifname "wan" ip6 daddr != {BROKER6} drop\n  }}\n}}')


def no_v6(machine):
    machine.ns.ip("-6", "addr", "flush", "dev", "eth0", "scope", "global")


def told(done):
    return done.stdout + done.stderr


# Where each is, and whether the link has the broker's name or its address.
SHAPES = [("v4", "nat64", BROKER), ("v4", "nat64", NAME), ("nat64", "v4", BROKER),
          ("nat64", "nat64", BROKER)]


def begin_all(g, etc, work, host, client, public):   # pylint: disable=redefined-outer-name
    for machine, kind in ((g.topo.host, host), (g.topo.client, client)):
        if kind == "nat64":
            only_v6(g, machine, etc, work)
        else:
            no_v6(machine)
            etc(machine.ns, hosts=f"127.0.0.1 localhost\n{BROKER} {NAME}\n",
                resolv_conf=f"nameserver 2001:db8:{machine.site.letter}:1::1\n")
    g.host.start_peer("tcp-server", 7000)
    g.broker_proc = g.broker.start("broker", "--listen", "0.0.0.0:443", "--public", public)
    g.link = g.broker_proc.wait_event("ready", 15)["link"]
    g.start_host("7000")
    g.join()


def begin_v6(g, etc, work, prefix):   # pylint: disable=redefined-outer-name
    """The host has IPv4, the client IPv6; both reach the broker without a translator."""
    no_v6(g.topo.host)
    only_v6(g, g.topo.client, etc, work, prefix)
    letter = g.topo.client.site.letter
    etc(g.topo.client.ns, hosts=f"127.0.0.1 localhost\n{BROKER6} {NAME}\n",
        resolv_conf=f"nameserver 2001:db8:{letter}:1::1\n")
    for ns, own in ((g.topo.host.ns, ""), (g.topo.broker, f"{BROKER6} {NAME}\n")):
        etc(ns, hosts=f"127.0.0.1 localhost\n{BROKER} {NAME}\n{own}")
    g.host.start_peer("tcp-server", 7000)
    g.broker_proc = g.broker.start("broker", "--listen", "[::]:443", "--public", NAME)
    g.link = g.broker_proc.wait_event("ready", 15)["link"]
    g.start_host("7000")
    g.join()


def sent_under(g, what):
    """Packets that the client sent to an address under the prefix that its DNS names."""
    rules = g.topo.client.site.box.run("nft", "list", "table", "ip6", "only")
    return int(re.search(rf'counter packets (\d+) .*comment "{what}"', rules).group(1))


def test_the_broker_by_ipv6_and_the_host_behind_nat64(gate, etc, work):   # noqa: F811  pylint: disable=redefined-outer-name
    """No connection went through the prefix: STUN alone proves it."""
    g = gate(host="masq", client="masq", ipv6=True)
    begin_v6(g, etc, work, PREFIX)
    event = wait_direct(g.connect("7000"))
    assert event["kind"] == "udp-punch", event


def test_dns_that_lies_sends_nothing_to_a_stranger(gate, etc, work):   # noqa: F811  pylint: disable=redefined-outer-name
    """A prefix through which no broker sees an IPv4 address is none for a host's addresses."""
    g = gate(host="masq", client="masq", ipv6=True)
    begin_v6(g, etc, work, VICTIM)
    proc = g.connect("7000")
    assert g.client.peer("get", "127.0.0.1", proc.port, 100_000, 1).status == 0
    wait_until(lambda: sent_under(g, "broker") >= 3, 20, "the broker was asked through it")
    done = g.client.run("ping", "--all", HOST, json=False)
    assert done.status == 0, told(done)
    to_broker, everything = sent_under(g, "broker"), sent_under(g, "all")
    print(f"under the prefix: {everything}, to the broker's address there {to_broker}")
    assert everything == to_broker <= 3 * 20, (everything, to_broker)   # join, connect, ping


@pytest.mark.parametrize("host,client,public", SHAPES)
def test_devices_behind_nat64(gate, etc, work, host, client, public):   # noqa: F811  pylint: disable=redefined-outer-name
    """Direct by UDP within the time that others take, and no word of blocked UDP."""
    g = gate(host="masq", client="masq", ipv6=True)
    begin_all(g, etc, work, host, client, public)
    begin = time.monotonic()
    proc = g.connect("7000")
    event = wait_direct(proc)
    took = time.monotonic() - begin
    print(f"direct after {took:.2f} s: {event}")
    assert event["kind"] == "udp-punch", event
    done = g.client.peer("get", "127.0.0.1", proc.port, 2_000_000, 1)
    assert done.status == 0, told(done)
    assert took < DIRECT_S * patience(), took
    done = g.client.run("ping", HOST, json=False)
    assert done.status == 0 and "udp-punch" in done.stdout, told(done)
    for words in (told(done), proc.stderr, g.host_proc.stderr):
        assert "blocked" not in words, words


def test_netcheck_behind_nat64(gate, etc, work):   # noqa: F811  pylint: disable=redefined-outer-name
    g = gate(host="masq", client="masq", ipv6=True)
    begin_all(g, etc, work, "v4", "nat64", BROKER)
    done = g.client.run("netcheck")
    assert done.status == 0, told(done)
    print(done.stdout)
    event = json.loads(done.stdout.splitlines()[-1])
    assert event["udp"] == "yes" and event["nat64"] == "yes", event
    assert event["mapping"] == "endpoint-independent", event
    assert "blocks" not in event["words"], event
