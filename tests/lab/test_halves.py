"""Who ends his half of a connection and then dies: no packet tells of that any more, and the
other end, which may have nothing to say for hours, hears of it all the same."""

import hashlib
import os
import re
import subprocess
import time

import pytest

from .actors import HOST, postern
from .conftest import full
from .net import wait_until
from .test_agent import Lan, published

pytestmark = pytest.mark.postern

# Says what it has to say, ends its half, and lives on.
HALF = """
import hashlib, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2]))) if sys.argv[1] != "-" else \\
    socket.create_server(("", 7001)).accept()[0]
s.sendall(b"all that it says " * int(sys.argv[3]))
s.shutdown(socket.SHUT_WR)
print("ended", flush=True)
got = hashlib.sha256()
while data := s.recv(65536):
    got.update(data)
print(got.hexdigest(), flush=True)
"""
# Reads to the end, as slowly as it is told, and then has nothing to say for hours.
SILENT = """
import hashlib, select, socket, sys, time
s = socket.create_connection((sys.argv[1], int(sys.argv[2]))) if sys.argv[1] != "-" else \\
    socket.create_server(("", 7001)).accept()[0]
time.sleep(float(sys.argv[3]))
got = hashlib.sha256()
while data := s.recv(65536):
    got.update(data)
print("got", got.hexdigest(), flush=True)
if sys.argv[4]:
    s.sendall(sys.argv[4].encode())
p = select.poll()
p.register(s, 0)
print("reset" if p.poll()[0][1] & select.POLLERR else "ended", flush=True)
"""
# Reads to the end, and answers for a long time.
LATE = """
import hashlib, os, socket, sys, time
s = socket.create_server(("", 7001)).accept()[0]
while s.recv(65536):
    pass
sent = hashlib.sha256()
time.sleep(float(sys.argv[1]))
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    data = os.urandom(20000)
    sent.update(data)
    s.sendall(data)
    time.sleep(0.1)
s.close()
print(sent.hexdigest(), flush=True)
"""
# Reads to the end, and answers when it is told to.
TOLD = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2]))) if sys.argv[1] != "-" else \\
    socket.create_server(("", 7001)).accept()[0]
while s.recv(65536):
    pass
print("read", flush=True)
sys.stdin.readline()
s.sendall(b"an answer")
s.close()
"""
# Of 16 bytes each: what two kernels and the program hold, and much more than that.
LITTLE, SOME, MUCH = 1, 300_000, 2_000_000


def python(g, ns, name, text, *argv, **how):
    return g.programs.start(ns, name, "/usr/bin/python3", "-c", text, *argv, **how)


def listens(ns):
    return ns.sockets("-tln", "sport", "=", ":7001")


def hours_pass(*machines):
    """A kernel keeps the half of a dead program for 60 s, and answers for it."""
    for m in machines:
        m.ns.run("sysctl", "-q", "-w", "net.ipv4.tcp_fin_timeout=2")


def cpu_s(proc):
    with open(f"/proc/{proc.pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def by_connect(g):
    connect = g.connect("7001")
    return (connect, g.host_proc), "127.0.0.1", connect.port


def by_up(g):
    up = g.client.start("up")
    address, port = up.wait_event("service", 15)["local"].rsplit(":", 1)
    return (up, g.host_proc), address, port


def dies_after_its_half(g, way, ns, dies, size, slow, says="", limit=30):
    """All that he said arrives, and then a reset; meanwhile nobody spins."""
    far, near = (HALF, size), (SILENT, slow, says)
    if dies == "caller":
        far, near = near, far
    programs, address, port = way(g)
    service = python(g, ns, "service", far[0], "-", "", *far[1:])
    wait_until(lambda: listens(ns), 10, "the service listens")
    caller = python(g, g.topo.client.ns, "caller", near[0], address, port, *near[1:])
    half, silent = (caller, service) if dies == "caller" else (service, caller)
    half.wait_line("ended", 30)
    half.kill()
    said = hashlib.sha256(b"all that it says " * size).hexdigest()
    silent.wait_line(f"got {said}", 30)
    begin, before = time.monotonic(), sum(cpu_s(p) for p in programs)
    silent.wait_line("reset", limit)
    spent = sum(cpu_s(p) for p in programs) - before
    print(f"missed after {time.monotonic() - begin:.1f} s, in which {spent:.2f} s of CPU")
    assert spent < 1.5, spent


@pytest.mark.parametrize("way", [by_connect, by_up])
@pytest.mark.parametrize("dies", ["caller", "service"])
@pytest.mark.parametrize("size,slow", [(LITTLE, 0), (SOME, 14), (MUCH, 3)],
                         ids=["little", "unread", "much"])
def test_who_dies_after_its_half_is_missed(gate, way, dies, size, slow):
    g = gate(host="masq", client="masq")
    hours_pass(g.topo.host, g.topo.client)
    g.up_and_joined("7001")
    dies_after_its_half(g, way, g.topo.host.ns, dies, size, slow)


@pytest.mark.parametrize("dies", ["caller", "service"])
def test_who_speaks_to_the_dead_is_told_at_once(gate, dies):
    """Whose kernel still keeps his half, and resets it then."""
    g = gate(host="masq", client="masq")
    g.up_and_joined("7001")
    dies_after_its_half(g, by_connect, g.topo.host.ns, dies, LITTLE, 1, "hello?", 5)


@pytest.mark.parametrize("dies", ["caller", "service"])
def test_it_is_missed_through_an_agent(gate, dies):
    lan = Lan(gate(host="masq", client="masq"))
    nas = lan.machine("nas", 31)
    hours_pass(nas, lan.g.topo.client)
    lan.start_agent()
    lan.hand_over(nas, "nas", "7001")
    published(lan, "7001/nas")
    lan.g.join()
    dies_after_its_half(lan.g, by_connect, nas.ns, dies, MUCH, 3)


@pytest.mark.parametrize("up", [True, False], ids=["up", "alone"])
def test_nc_ends_well_when_its_service_is_gone(gate, up):
    """All came, and its end; who might still say something hears that nobody hears it."""
    g = gate(host="masq", client="masq")
    hours_pass(g.topo.host)
    g.up_and_joined("7001")
    if up:
        by_up(g)
    service = python(g, g.topo.host.ns, "service", HALF, "-", "", LITTLE)
    wait_until(lambda: listens(g.topo.host.ns), 10, "the service listens")
    nc = g.programs.start(g.topo.client.ns, "nc", postern(), "nc", HOST, "7001",
                          env=g.client.env, stdin=subprocess.PIPE)
    nc.wait_line("all that it says", 20)
    service.kill()
    assert nc.wait(30) == 0, nc.stderr
    assert nc.stdout == "all that it says "


def test_a_killed_nc_is_missed(gate):
    """One whose stdin had ended, and whose connection `up` carries."""
    g = gate(host="masq", client="masq")
    g.up_and_joined("7001")
    by_up(g)
    service = python(g, g.topo.host.ns, "service", SILENT, "-", "", 0, "")
    wait_until(lambda: listens(g.topo.host.ns), 10, "the service listens")
    nc = g.programs.start(g.topo.client.ns, "nc", postern(), "nc", HOST, "7001",
                          env=g.client.env, stdin=subprocess.DEVNULL)
    service.wait_line("got ", 20)
    nc.kill()
    service.wait_line("reset", 10)


@pytest.mark.parametrize("silent,sends", [(12, 8), (0, 20), (80, 1)] if full() else [(12, 8)])
def test_who_lives_after_its_half_is_waited_for(gate, silent, sends):
    g = gate(host="masq", client="masq")
    hours_pass(g.topo.host, g.topo.client)
    g.up_and_joined("7001")
    port = g.connect("7001").port
    service = python(g, g.topo.host.ns, "service", LATE, silent, sends)
    wait_until(lambda: listens(g.topo.host.ns), 10, "the service listens")
    caller = python(g, g.topo.client.ns, "caller", HALF, "127.0.0.1", port, 1)
    assert service.wait(silent + sends + 30) == 0 and caller.wait(20) == 0
    assert caller.stdout.split()[-1] == service.stdout.strip()


def unplugged(near, away, site):
    del near
    site.box.ip("link", "set", f"p-{away.name}", "down")
    return lambda: site.box.ip("link", "set", f"p-{away.name}", "up")


def silent(near, away, site):
    del near, site
    away.ns.nft("table inet deaf {\n  chain input {\n    type filter hook input priority 0;\n"
                "    drop\n  }\n}")
    return lambda: away.ns.nft("delete table inet deaf")


def asked(near, away):
    """How often the kernel of who carries its connection has asked it in vain."""
    seen = re.findall(r"timer:\(keepalive,[^,]*,(\d+)\)",
                      "\n".join(near.ns.sockets("-tno", "dst", away.address)))
    return max(map(int, seen), default=0)


@pytest.mark.parametrize("how", [unplugged, silent] if full() else [unplugged])
@pytest.mark.parametrize("whose", ["service", "caller"])
def test_who_is_away_after_its_half_is_waited_for(gate, whose, how):
    """Another machine of the LAN than the host, or than the client: it ended its half, and
    for 150 s nothing reaches it (15 s here, since the kernel asks each second)."""
    g = gate(host="masq", client="masq")
    of_service = whose == "service"
    near, letter, actor = (g.topo.host, "a", g.host) if of_service else \
        (g.topo.client, "b", g.client)
    actor.be_hasty()
    away = g.topo.machine("away", letter, 31)
    g.up_and_joined("it=192.168.10.31:7001" if of_service else "it=7001")
    address = "127.0.0.1" if of_service else near.address
    port = g.connect("it", f"{address}:0").port
    service_at, caller_at = (away.ns, g.topo.client.ns) if of_service else \
        (g.topo.host.ns, away.ns)
    service = python(g, service_at, "service", HALF if of_service else TOLD, "-", "", LITTLE,
                     stdin=subprocess.PIPE)
    wait_until(lambda: listens(service_at), 10, "the service listens")
    caller = python(g, caller_at, "caller", TOLD if of_service else HALF, address, port, LITTLE,
                    stdin=subprocess.PIPE)
    ended, told = (service, caller) if of_service else (caller, service)
    ended.wait_line("ended", 20)
    told.wait_line("read", 20)
    back = how(near, away, g.topo.sites[letter])
    wait_until(lambda: asked(near, away) >= 15, 30, "it is away for long")
    told.popen.stdin.write(b"now\n")
    told.popen.stdin.close()
    assert told.wait(20) == 0, told.stderr
    back()
    ended.wait_line(hashlib.sha256(b"an answer").hexdigest(), 60)
