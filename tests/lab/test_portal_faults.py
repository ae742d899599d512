"""The portal when things end or fail: servers, hosts, broker, networks; and many at once."""

import os
import shutil
import sys
import time

import pytest

from .browser import DOMAIN, PASSWORD
from .conftest import full
from .net import wait_until
from .test_privilege import child
from .topology import BROKER

pytestmark = [pytest.mark.postern, pytest.mark.needs("curl")]

MB = 1 << 20


@pytest.fixture
def site(portal):
    """Broker with a portal, host with a checking server, anna with an account."""
    s = portal()
    s.server = s.gate.host.start_peer("tcp-server", 7000)
    s.gate.start_host("data=7000")
    s.add("anna")
    s.anna = s.browser("anna")
    s.anna.logged_in("anna")
    return s


def holds(browser, port=7000, count=1):
    proc = browser.start_peer("hold", BROKER, port, count)
    proc.wait_line("held ", 30)
    return proc


# ---------------------------------------------------------------------- what ends, fails

def test_the_server_dies_in_mid_transfer(site):
    site.anna.open("data")
    flow = site.anna.start_peer("flow", BROKER, 7000, 20)
    flow.wait_line("at ")
    site.server.kill()
    assert flow.wait(5) == 1 and "broken" in flow.stdout, flow.stdout
    shown = site.anna.wait_service("data", up=False)
    assert shown.connections == 0 and "refuses connections" in shown.why, shown
    # The port stays chosen: what comes now is refused, and works when the server is back.
    assert site.knock(site.anna.ns, 7000) == "refused"
    site.wait_log(site.gate.broker, what="refused", who="anna", object="data on home")
    site.gate.host.start_peer("tcp-server", 7000)
    assert site.knock(site.anna.ns, 7000) == "ok\n"


def test_the_client_goes_in_mid_transfer(site):
    site.anna.open("data")
    flow = site.anna.start_peer("flow", BROKER, 7000, 20)
    flow.wait_line("at ")
    flow.kill()
    site.anna.wait_service("data", connections=0)
    site.wait_log(site.gate.host, what="closed", who="anna", object="data")


def test_the_host_stops_and_comes_back(site):
    site.anna.open("data")
    connection = holds(site.anna)
    site.gate.host_proc.terminate()
    connection.wait_line("all ended", 15)
    shown = site.anna.wait_service("data", up=False)
    assert "not connected" in shown.why and shown.connections == 0, shown
    assert site.browser("late").login("anna").status == 303   # its people may still log in
    assert site.knock(site.anna.ns, 7000) == "refused"
    site.wait_log(site.gate.broker, what="refused", who="anna", detail="not connected")
    site.gate.start_host("data=7000")
    site.anna.wait_service("data", up=True, timeout=20)
    wait_until(lambda: site.knock(site.anna.ns, 7000) == "ok\n", 15, "it works as before")


def test_the_broker_restarts(site):
    g = site.gate
    site.anna.open("data")
    connection = holds(site.anna)
    assert g.broker_proc.terminate() == 0
    site.wait_log(g.broker, what="closed", who="anna", object="data on home")
    connection.wait_line("all ended", 5)
    site.start_broker()
    late = site.browser("late")
    wait_until(lambda: late.login("anna").status == 303, 30, "the host gave its list again")
    assert site.anna.is_in()
    assert site.knock(site.anna.ns, 7000) == "refused"   # ports are opened anew
    late.open("data")
    got = late.peer("get", BROKER, 7000, MB, 3)
    assert got.status == 0, got.stdout
    log = site.log(g.broker, what="login")   # the log has both lives of the broker
    assert len(log) == 2, log


def test_a_login_outlives_the_broker(site):
    """It is as good as before: for who is still logged in, and whose account still holds."""
    g = site.gate
    site.add("bert", "data")
    site.add("carl", "data")
    bert, carl, out = (site.browser(name) for name in ("bert", "carl", "out"))
    for browser, name in ((bert, "bert"), (carl, "carl"), (out, "anna")):
        browser.logged_in(name)
    form = site.anna.get().csrf
    thief = site.browser("thief")   # has the cookie of who logs out
    shutil.copy(out.jar, thief.jar)
    assert thief.is_in()
    shutil.copy(out.jar, thief.jar)
    out.logout()
    jars = {b: f"{b.jar}.kept" for b in (thief, carl)}
    for b, kept in jars.items():
        shutil.copy(b.jar, kept)
    site.access("remove", "carl")
    wait_until(lambda: not carl.is_in(), 10, "carl is out")
    held = os.path.join(g.broker.state, "portal.db")
    assert os.stat(held).st_mode & 0o777 == 0o600
    g.broker_proc.kill()
    g.host_proc.terminate()
    site.access("remove", "bert")   # while nobody can be told
    site.start_broker()
    assert site.anna.is_in() and not site.anna.get().services(), "without its host it opens nothing"
    for browser, kept in jars.items():
        shutil.copy(kept, browser.jar)
        assert not browser.is_in()
    g.start_host("data=7000")
    wait_until(lambda: site.anna.get().services(), 30, "the host gave its list again")
    assert not bert.is_in()
    assert site.anna.get().csrf == form, "a form that was open then may be sent"
    site.anna.open("data")
    assert site.knock(site.anna.ns, 7000) == "ok\n"
    site.access("remove", "anna")
    wait_until(lambda: not site.anna.is_in(), 10, "at once, too")


def test_the_broker_is_killed(site):
    g = site.gate
    site.anna.open("data")
    connection = holds(site.anna)
    g.broker_proc.kill()
    connection.wait_line("all ended", 5)
    site.start_broker()
    wait_until(lambda: site.anna.login("anna").status == 303, 30, "the host came back")
    site.anna.open("data")
    assert site.knock(site.anna.ns, 7000) == "ok\n"


CUT = """table inet cut_a {
  chain forward { type filter hook forward priority 0;
    iifname "a" drop
    oifname "a" drop
  }
}"""


def test_the_hosts_network_is_cut(site):
    site.anna.open("data")
    flow = site.anna.start_peer("flow", BROKER, 7000, 2)
    flow.wait_line("at ")
    site.topo.inet.nft(CUT)
    shown = site.anna.wait_service("data", up=False, timeout=20)
    assert "answer" in shown.why, shown   # before the broker has missed the host
    site.topo.inet.nft("delete table inet cut_a")
    site.anna.wait_service("data", up=True, timeout=40)
    flow.terminate(20)   # the connection outlived it, and has every byte
    assert "whole" in flow.stdout, flow.stdout


def test_a_new_address_of_the_host(site):
    """The host moves behind another NAT: it is the same host, with the same people."""
    site.anna.open("data")
    site.topo.move(site.topo.host, "c")
    site.anna.wait_service("data", up=True, timeout=40)
    wait_until(lambda: site.knock(site.anna.ns, 7000) == "ok\n", 20, "its port works")


# ------------------------------------------------------------------------------- many

def test_a_hundred_connections_at_once(site):
    site.anna.open("data")
    n = 500_000 if full() else 50_000
    done = site.anna.peer("many", BROKER, 7000, 100, n, 5, timeout=90)
    assert done.status == 0 and done.stdout == "fit 100\n", done.stdout + done.stderr
    site.anna.wait_service("data", connections=0)


def test_connections_of_a_login_are_limited(site):
    site.anna.open("data")
    many = holds(site.anna, count=300)
    assert "held 256\n" in many.stdout, many.stdout + many.stderr
    site.add("berta")
    berta = site.browser("berta", site.topo.stranger)
    berta.logged_in("berta")
    berta.open("data")
    assert site.knock(berta.ns, 7000) == "ok\n"   # another login has its own
    assert site.knock(site.anna.ns, 7000) == "refused"
    many.kill()
    wait_until(lambda: site.knock(site.anna.ns, 7000) == "ok\n", 10, "room again")


# One packet to each of the ports, SYN and UDP in turns, in somebody else's name; ever more.
SPOOF = """
import random, socket, struct, sys, time
source, to = (socket.inet_aton(a) for a in sys.argv[1:3])
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def total(data):
    words = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ~((words & 0xffff) + (words >> 16)) & 0xffff
def send(protocol, data):
    s.sendto(struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), random.getrandbits(16), 0,
                         64, protocol, 0, source, to) + data, (sys.argv[2], 0))
print("begun", flush=True)
while True:
    port = random.randrange(1024, 65535)
    head = struct.pack("!HHIIBBHHH", port, 7000, random.getrandbits(32), 0, 5 << 4, 2, 64240,
                       0, 0)
    sum_ = total(source + to + struct.pack("!BBH", 0, 6, 20) + head)
    send(6, head[:16] + struct.pack("!H", sum_) + head[18:])
    send(17, struct.pack("!HHHH", port, 7001, 9, 0) + b"z")
    time.sleep(1 / 30)
"""

NO_RESETS = """table inet mute {
  chain out { type filter hook output priority 0; tcp flags & rst == rst drop; }
}"""


def test_who_has_only_a_visitors_address_keeps_him_out_of_nothing(site):
    """The visitor's NAT says nothing to what it does not know, as most do."""
    site.gate.host.start_peer("udp-server", 7001)
    site.gate.host_proc.terminate()
    site.gate.start_host("data=7000", "echo=udp:7001")
    site.anna.wait_service("echo", up=True, timeout=20)
    site.anna.open("data")
    site.anna.open("echo")
    site.topo.client.site.box.nft(NO_RESETS)
    for name in ("all", "stranger"):
        site.topo.inet.sysctl(f"net.ipv4.conf.{name}.rp_filter", 0)
    site.programs.start(site.topo.stranger, "spoof", sys.executable, "-c", SPOOF,
                        site.topo.client.site.public, BROKER).wait_line("begun")
    wait_until(lambda: site.anna.get("/").service("echo").connections >= 16, 20, "they come")
    for _ in range(5):
        time.sleep(2)
        assert site.knock(site.anna.ns, 7000) == "ok\n"
        done = site.anna.peer("udp-ping", BROKER, 7001, 50, 5, 1200)
        assert "received 50 " in done.stdout, done.stdout
    assert len(os.listdir(f"/proc/{site.gate.host_proc.popen.pid}/fd")) < 100
    for who in (site.gate.host, site.gate.broker):
        assert len(site.log(who, object="echo")) < 300
    many = holds(site.anna, count=200)
    assert "held 200\n" in many.stdout, many.stdout


# Logs in again and again with one connection to the portal, and keeps each cookie.
LOGINS = """
import http.client, re, ssl, sys, urllib.parse
address, count, password = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile=sys.argv[4])
h = http.client.HTTPSConnection(address, context=context, timeout=20)
def ask(method, path, body=None, cookie=None):
    h.request(method, path, body, {"Cookie": cookie} if cookie else {})
    a = h.getresponse()
    return a.status, a.getheader("Set-Cookie") or "", a.read().decode()
csrf = re.search('name="csrf" value="([^"]*)', ask("GET", "/login")[2]).group(1)
form = urllib.parse.urlencode({"csrf": csrf, "name": "anna", "password": password})
cookies = []
for _ in range(count):
    status, cookie, _ = ask("POST", "/login", form)
    assert status == 303, status
    cookies.append(cookie.split(";")[0])
assert len(set(cookies)) == count
good = sum(ask("GET", "/", cookie=c)[0] == 200 for c in cookies)
print("good", good)
"""


def test_many_idle_logins(site):
    count = 200 if full() else 100
    site.anna.open("data")
    done = site.programs.run(site.topo.stranger, "logins", sys.executable, "-c", LOGINS,
                             BROKER, count, PASSWORD, site.anna.cacert, timeout=90)
    assert done.stdout == f"good {count}\n", done.stdout + done.stderr
    assert site.anna.get("/").service("data").up
    assert site.knock(site.anna.ns, 7000) == "ok\n"
    assert site.knock(site.topo.stranger, 7000) == "refused"   # they opened nothing
    # Silent ones keep nobody out of the pages.
    crowd = site.programs.start(site.topo.stranger, "crowd", sys.executable, "-c", CROWD,
                                BROKER)
    crowd.wait_line("all asked", 20)
    assert site.anna.is_in()


CROWD = """
import socket, sys, time
held = []
for _ in range(300):
    try:
        held.append(socket.create_connection((sys.argv[1], 443), 5))
        held[-1].sendall(bytes.fromhex("16030100"))
    except OSError:
        pass
print("all asked", flush=True)
time.sleep(60)
"""


# Connections that send a letter of a request now and then, for as long as they may.
LORIS = """
import socket, ssl, sys, time
c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
held = []
for _ in range(int(sys.argv[2])):
    try:
        held.append(c.wrap_socket(socket.create_connection((sys.argv[1], 443), 10)))
        held[-1].sendall(b"GET / HTTP/1.1\\r\\nX: ")
    except OSError: pass
print("all asked", flush=True)
begin = time.time()
while held:
    time.sleep(1)
    for s in held[:]:
        try: s.sendall(b"x")
        except OSError: held.remove(s)
    print("held", len(held), round(time.time() - begin), flush=True)
print("none is left after", round(time.time() - begin), flush=True)
"""


def test_who_sends_a_letter_at_a_time_keeps_nobody_out(site):
    """Of a full address the connection that proved least makes way, not the newcomer."""
    loris = site.programs.start(site.anna.ns, "loris", sys.executable, "-c", LORIS, BROKER,
                                80)
    loris.wait_line("all asked", 60)
    loris.wait_line("held ", 10)
    for _ in range(3):
        assert site.anna.is_in()   # from the same address
    loris.wait_line("held 6", 10)   # the others are still there: who is new is not slow
    if full():
        loris.wait_line("none is left", 90)


# Visitors after their handshake, from 200 addresses: kept alive and idle; who asks for much and
# reads nothing; many requests at once; headers without end; a form a letter at a time.
SLOW = """
import asyncio, ssl, sys
c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
ask = b"GET /style.css HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
seen = {}
async def visit(n):
    kind = ("idle", "deaf", "many", "huge", "slow")[n % 5]
    source = f"198.19.{n % 200 // 4}.{1 + n % 4 * 64}"
    while True:
        try:
            r, w = await asyncio.wait_for(asyncio.open_connection(
                sys.argv[1], 443, ssl=c, local_addr=(source, 0), limit=1024), 30)
            seen[kind] = seen.get(kind, 0) + 1
            if kind == "idle":
                w.write(ask)
                while await r.read(4096): pass
            elif kind == "deaf":
                w.write(ask * 2000)
                await w.drain()
                await asyncio.sleep(60)
            elif kind == "many":
                w.write(ask * 50)
                while await r.read(4096): pass
            elif kind == "huge":
                w.write(b"GET / HTTP/1.1\\r\\n")
                while True:
                    w.write(b"X: " + b"y" * 4000 + b"\\r\\n")
                    await w.drain()
                    await asyncio.sleep(0.2)
            else:
                w.write(b"POST /login HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 9000\\r\\n\\r\\n")
                while True:
                    w.write(b"x")
                    await w.drain()
                    await asyncio.sleep(1)
        except (OSError, asyncio.TimeoutError, ssl.SSLError): pass
        await asyncio.sleep(1)
async def main():
    visits = [asyncio.create_task(visit(n)) for n in range(1000)]
    for second in range(120):
        await asyncio.sleep(1)
        print(second, seen, flush=True)
asyncio.run(main())
"""


def test_slow_visitors_slow_nobody(site):
    topo = site.topo
    topo.stranger.run("ip", "route", "replace", "local", "198.19.0.0/16", "dev", "lo")
    topo.inet.run("ip", "route", "replace", "198.19.0.0/16", "via", "198.18.9.2")

    def loads(what):
        times = []
        for _ in range(10):
            begin = time.monotonic()
            assert site.anna.is_in(), what
            times.append(time.monotonic() - begin)
        print(what, [round(t, 2) for t in times])
        return sorted(times)
    calm = loads("calm")
    slow = site.programs.start(topo.stranger, "slow", "prlimit", "--nofile=8192:8192",
                               "/usr/bin/python3", "-c", SLOW, BROKER)
    slow.wait_line("8 ", 60)
    times = loads("crowd")
    proc = site.gate.broker_proc
    with open(f"/proc/{proc.pid}/status", encoding="ascii") as f:
        rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1024
    held = len(os.listdir(f"/proc/{proc.pid}/fd"))
    print(f"{rss:.0f} MB, {held} descriptors; {slow.stdout.splitlines()[-1]}")
    assert times[4] < calm[4] + 1 and times[-1] < calm[-1] + 4, times
    assert rss < 128


# What a visitor says, and that he has ended: half of what is needed to say more.
HALF = """
import os, socket, ssl, sys
address, kind, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
out = ssl.MemoryBIO()
try:
    ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=sys.argv[4]
                                          ).do_handshake()
except ssl.SSLWantReadError: pass
hello = out.read()
held = []
for i in range(24):
    s = socket.create_connection((address, port), 5)
    s.sendall({"hello": hello, "byte": b"x", "none": b""}[kind])
    if i % 2: s.shutdown(socket.SHUT_WR)
    held.append(s)
print("said", flush=True)
sys.stdin.read()
"""


def cpu_s(proc):
    """The seconds of CPU that the broker, the helper's keeper and the helper have used."""
    total = 0
    for pid in [proc.pid] + children(proc.pid) + child(proc.pid):
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(child) for child in f.read().split()]


def test_who_ends_before_he_has_spoken_costs_nothing(site):
    """At the pages, at a name, and at an open port whose server says nothing."""
    mute = site.programs.start(site.topo.host.ns, "mute", sys.executable, "-c", MUTE)
    mute.wait_line("ready")
    assert site.gate.host.run("serve", "--reload", "data=7000", "mute=8443").status == 0
    site.access("public", "mute")
    site.anna.wait_service("mute", up=True)
    site.anna.open("mute")
    name = f"mute--home.{DOMAIN}"
    visitors = [
        site.programs.start(site.anna.ns, "half", sys.executable, "-c", HALF, BROKER, kind,
                            port, sni, stdin=-1)
        for kind, port, sni in (("hello", 443, BROKER), ("hello", 443, name),
                                ("byte", 8443, name), ("none", 8443, name))]
    for visitor in visitors:
        visitor.wait_line("said", 20)
    site.anna.get("/")
    before, begin = cpu_s(site.gate.broker_proc), time.time()
    time.sleep(3)   # the measurement itself
    used = (cpu_s(site.gate.broker_proc) - before) / (time.time() - begin)
    print(f"CPU {used:.3f}")
    assert used < 0.1, used
    assert site.anna.is_in()


MUTE = """
import socket
s = socket.create_server(("", 8443), backlog=200)
held = []
print("ready", flush=True)
while True: held.append(s.accept()[0])
"""


# ------------------------------------------------------------- the broker's own stopping

@pytest.fixture
def owner(site):
    """An owner, logged in, whose page of the host waits for its answer, which is cut off."""
    site.add("otto", "all", "--owner")
    otto = site.browser("otto")
    otto.logged_in("otto")
    key = site.gate.host_proc.find("ready")["key"]
    site.topo.inet.nft(CUT)
    otto.waits = site.programs.start(
        otto.ns, "curl-waits", "curl", "-sSv", "-m", 20, "--cacert", otto.cacert, "-b",
        otto.jar, "-o", "/dev/null", "-w", "%{http_code}", f"{otto.root}/host/{key}")
    otto.waits.wait_line("> GET /", stream="err")
    return otto


def test_the_broker_stops_while_pages_wait(site, owner):
    assert site.gate.broker_proc.terminate(2.5) == 0   # and waits for no host
    assert owner.waits.wait(5) == 0 and owner.waits.stdout in ("502", "503")
    site.start_broker()


@pytest.mark.skipif(not full(), reason="takes its time; in the long form")
def test_a_browser_goes_while_its_page_waits(site, owner):
    owner.waits.kill()
    site.anna.wait_service("data", up=False)
    assert site.gate.broker_proc.running


def test_a_logout_while_a_page_waits(site, owner):
    assert owner.post("/logout").status == 303
    assert owner.waits.wait(10) == 0
    assert owner.waits.stdout == "303", owner.waits.stdout   # to the login
    assert site.gate.broker_proc.running


# Heads that mean two things to two readers (RFC 9112), each on a connection of its own: the
# answers' statuses and whether the connection ended behind them. unit/test_http_head has more.
HEADS = r"""
import socket, ssl, sys
c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
get, host, post = "GET /style.css HTTP/1.1\r\n", "Host: x\r\n", "POST /login HTTP/1.1\r\nHost: x\r\n"
fine = get + host + "\r\n"
table = [
    ("200 200 400", fine + fine + get + "\r\n" + fine),              # no Host
    ("400", get + host + "Host: y\r\n\r\n" + fine),
    ("400", post + "Content-Length: 3\r\nContent-Length: 33\r\n\r\nabc" + fine),
    ("400", post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + fine),
    ("400", post + "Transfer-Encoding: xchunked\r\n\r\n" + fine),
    ("400", post + "Content-Length : 3\r\n\r\nabc" + fine),
    ("200 400", fine + get + host + "X: a\r\n b\r\n\r\n" + fine),
    ("400", get + host + "X: a\rY: b\r\n\r\n" + fine),
    ("400", get + host + "X: a\nY: b\r\n\r\n" + fine),
    ("400", get + host + "\rX: b\r\n\r\n" + fine),
    ("403 200 400", post + "Content-Length: 3\r\n\r\na=b" + fine + "GET /\r\n\r\n" + fine),
    ("403", post + "Transfer-Encoding: chunked\r\n\r\n3\r\na=b\r\n0\r\n\r\n" + fine),
]
for n, (want, text) in enumerate(table):
    with socket.create_connection((sys.argv[1], 443), 20) as t, c.wrap_socket(t) as s:
        s.sendall(text.encode("latin-1"))
        got = b""
        while True:
            try: more = s.recv(65536)
            except OSError as e: got += repr(e).encode(); break
            if not more: break
            got += more
    seen = [part[:3] for part in got.decode("latin-1").split("HTTP/1.1 ")[1:]]
    print(n, "as wanted" if " ".join(seen) == want else f"want {want} got {got[-300:]}", flush=True)
print("all asked")
"""


def test_a_head_that_means_two_things_is_refused(site):
    done = site.programs.run(site.anna.ns, "heads", sys.executable, "-c", HEADS, BROKER,
                             timeout=60)
    lines = done.stdout.splitlines()
    assert len(lines) == 13 and lines[-1] == "all asked", done.stdout + done.stderr
    assert all(line.endswith("as wanted") for line in lines[:-1]), done.stdout
    assert site.anna.is_in()   # from the same address
