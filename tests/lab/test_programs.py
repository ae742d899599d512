"""Real programs through real NATs, every byte checked: OpenSSH, rsync, nginx with curl,
iperf3, dnsmasq with dig."""

import hashlib
import json
import os

import pytest

from .actors import HOST, PEER, postern, wait_direct
from .conftest import full
from .peers import digest
from .servers import Dns, Nginx, Sshd, blob

pytestmark = pytest.mark.postern
BULK = 200_000_000 if full() else 20_000_000


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


@pytest.mark.needs("ssh", "scp", "sshd")
@pytest.mark.parametrize("host,client", [("masq", "masq"), ("sym", "sym")])
def test_scp_both_ways(gate, programs, work, host, client):
    g = gate(host=host, client=client)
    sshd = Sshd(programs, g.topo.host.ns, work)
    g.up_and_joined("22")
    source = blob(f"{work}/blob-source", BULK, 21)
    there, back = f"{work}/blob-there", f"{work}/blob-back"
    scp = ["scp", *sshd.options(postern())]
    for args in ((source, f"root@{HOST}:{there}"), (f"root@{HOST}:{there}", back)):
        done = programs.run(g.topo.client.ns, "scp", *scp, *args, env=g.client.env,
                            timeout=120)
        assert done.status == 0, done.stderr
    assert sha256(there) == sha256(back) == digest(21, BULK)


@pytest.mark.needs("ssh", "sshd", "rsync")
def test_rsync_a_tree(gate, programs, work):
    g = gate(host="masq", client="masq")
    sshd = Sshd(programs, g.topo.host.ns, work)
    g.up_and_joined("22")
    tree = f"{work}/tree"
    for i in range(40):
        os.makedirs(f"{tree}/d{i % 5}", exist_ok=True)
        blob(f"{tree}/d{i % 5}/f{i}", 1000 * i * i, i)
    ssh = " ".join(f"'{o}'" for o in ["ssh", *sshd.options(postern())])
    for source, target in ((f"{tree}/", f"root@{HOST}:{work}/there/"),
                           (f"root@{HOST}:{work}/there/", f"{work}/back/")):
        done = programs.run(g.topo.client.ns, "rsync", "rsync", "-az", "-e", ssh,
                            source, target, env=g.client.env, timeout=60)
        assert done.status == 0, done.stderr
    for i in range(40):
        assert sha256(f"{work}/back/d{i % 5}/f{i}") == digest(i, 1000 * i * i)


@pytest.mark.needs("nginx", "curl")
def test_nginx_with_200_parallel_requests(gate, programs, work):
    g = gate(host="masq", client="masq")
    files = {f"f{i}": (60_000 + 997 * i, i) for i in range(1, 201)}
    Nginx(programs, g.topo.host.ns, work, files, port=8080)
    g.up_and_joined("web=8080")
    proc = g.connect("web")
    done = programs.run(
        g.topo.client.ns, "curl", "curl", "-sS", "-Z", "--parallel-immediate",
        "--parallel-max", 200, "-m", 60, "-o", f"{work}/blob-#1",
        f"http://127.0.0.1:{proc.port}/f[1-200]", timeout=90)
    assert done.status == 0, done.stderr
    for i in range(1, 201):
        assert sha256(f"{work}/blob-{i}") == digest(i, files[f"f{i}"][0]), i


@pytest.fixture
def perf(gate, programs):
    g = gate(host="masq", client="masq")
    programs.start(g.topo.host.ns, "iperf3", "iperf3", "-s",
                   "--forceflush").wait_line("listening")
    g.up_and_joined("perf=5201", "perfu=udp:5201")
    wait_direct(g.connect("perf", "127.0.0.1:5201"))
    return g


def iperf(g, *args):
    done = g.programs.run(g.topo.client.ns, "iperf3", "iperf3", "-J", "-c", "127.0.0.1",
                          "-t", 3, *args, timeout=40)
    assert done.status == 0, done.stdout[-500:] + done.stderr
    return json.loads(done.stdout)["end"]


@pytest.mark.needs("iperf3")
def test_iperf3_tcp_both_ways(perf):
    for args in ((), ("-R",), ("--bidir",), ("-P", 8)):
        end = iperf(perf, *args)
        assert end["sum_received"]["bits_per_second"] > 100e6, args


@pytest.mark.needs("iperf3")
@pytest.mark.parametrize("args", [(), ("-R",)], ids=["up", "down"])
def test_iperf3_udp(perf, args):
    """A machine that does not let one of four programs run for 40 ms fills a socket's
    buffer, be it iperf3's own: that is one run's loss, what we lose is each one's."""
    perf.connect("perfu", "127.0.0.1:5201")
    lost = []
    while not lost or (lost[-1] >= 1 and len(lost) < 3):
        end = iperf(perf, "-u", "-b", "20M", "-l", 1000, *args)
        assert end["sum"]["packets"] > 5000
        lost.append(end["sum"]["lost_percent"])
    assert lost[-1] < 1, lost


@pytest.fixture
def names(gate, programs):
    g = gate(host="masq", client="masq")
    Dns(programs, g.topo.host.ns)
    return g.up_and_joined("dns=udp:53")


@pytest.mark.needs("dnsmasq", "dig")
def test_dns_through_connect(names):
    g = names
    g.connect("dns", "127.0.0.1:5353")
    for n in range(20):
        done = g.programs.run(g.topo.client.ns, "dig", "dig", "@127.0.0.1", "-p", 5353,
                              "+short", "+tries=1", "+time=10", f"n{n}.lab", "A")
        assert done.stdout.strip() == Dns.ADDRESS, done.stdout
    big = g.programs.run(g.topo.client.ns, "dig", "dig", "@127.0.0.1", "-p", 5353,
                         "+short", "+ignore", "+bufsize=1400", "big.lab", "TXT")
    assert big.stdout.count("x") == 800, big.stdout


@pytest.mark.needs("dnsmasq")
def test_dns_through_socks_udp_associate(names):
    """A SOCKS5 client by hand (RFC 1928): dig speaks none."""
    g = names
    g.client.start("socks", "--listen", "127.0.0.1:1080").wait_event("ready")
    done = g.programs.run(g.topo.client.ns, "socks-udp", PEER[0], "-c", _SOCKS_UDP, HOST)
    assert done.stdout.split() == [Dns.ADDRESS] * 5, done.stdout + done.stderr


@pytest.fixture
def echo(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("udp-server", 7001)
    return g.up_and_joined("echo=udp:7001")


def test_no_datagram_is_lost_while_a_session_finds_its_way(echo):
    """The first answer, the move to a direct path, the search for larger packets: each
    session sends through all of it, from before its flow is open."""
    g = echo
    done = g.programs.run(g.topo.client.ns, "sessions", PEER[0], "-c", _SESSIONS,
                          postern(), 25, env=g.client.env, timeout=240)
    assert done.stdout.split() == ["25"], done.stdout + done.stderr


_SESSIONS = '''
import json, select, socket, subprocess, sys, time
for session in range(int(sys.argv[2])):
    program = subprocess.Popen([sys.argv[1], "connect", "--json", "home:echo", "127.0.0.1:5353"],
                               stdout=subprocess.PIPE)
    while json.loads(program.stdout.readline())["event"] != "ready":
        pass
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("127.0.0.1", 5353))
    missing = set()
    begin = time.monotonic()
    for n in range(50):     # 24 of them before the answer, the others 4 ms apart
        due = begin + max(n - 24, 0) * 0.004
        while (left := due - time.monotonic()) > 0:
            if select.select([s], [], [], left)[0]:
                missing.discard(int(s.recv(2000).split()[0]))
        missing.add(n)
        s.send(b"%d " % n + bytes(n * 53 % 1400))
    s.settimeout(15)
    try:
        while missing:
            missing.discard(int(s.recv(2000).split()[0]))
    except TimeoutError:
        sys.exit(f"session {session}: no answer to {sorted(missing)}")
    program.terminate()
    program.wait()
print(session + 1)
'''


def test_udp_service_that_starts_after_its_client(gate):
    """What came before is lost, as between neighbours; what comes after is not."""
    g = gate(host="masq", client="masq")
    g.up_and_joined("echo=udp:7001")
    g.connect("echo", "127.0.0.1:5353")
    asking = g.programs.start(g.topo.client.ns, "asking", PEER[0], "-c", _ASKING)
    asking.wait_line("10 without an answer")
    g.host.start_peer("udp-server", 7001)
    asking.wait_line("answered")


_ASKING = '''
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("127.0.0.1", 5353))
s.settimeout(0.05)
for n in range(1000):
    s.send(b"anybody?")
    try:
        s.recv(100)
        print("answered", flush=True)
        break
    except TimeoutError:
        print(n + 1, "without an answer", flush=True)
'''


_SOCKS_UDP = '''
import socket, struct, sys
control = socket.create_connection(("127.0.0.1", 1080), 10)
control.sendall(b"\\x05\\x01\\x00")
assert control.recv(2) == b"\\x05\\x00"
control.sendall(b"\\x05\\x03\\x00\\x01\\0\\0\\0\\0\\0\\0")
reply = control.recv(10)
assert reply[:2] == b"\\x05\\x00", reply
port = struct.unpack(">H", reply[8:10])[0]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(3)
host = sys.argv[1].encode()
head = b"\\0\\0\\0\\x03" + bytes([len(host)]) + host + struct.pack(">H", 53)
for n in range(5):
    name = b"".join(bytes([len(p)]) + p for p in (b"n%d" % n, b"lab")) + b"\\0"
    ask = struct.pack(">6H", n, 0x100, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1)
    for attempt in range(3):
        udp.sendto(head + ask, ("127.0.0.1", port))
        try:
            answer = udp.recv(2048)
            break
        except TimeoutError:
            continue
    print(socket.inet_ntoa(answer[-4:]))
'''


@pytest.mark.needs("dnsmasq", "dig", "nginx", "curl")
def test_up_gives_local_addresses_and_names(gate, programs, work):
    g = gate(host="masq", client="masq")
    Dns(programs, g.topo.host.ns)
    Nginx(programs, g.topo.host.ns, work, {"page": (100_000, 9)}, port=8080)
    g.up_and_joined("dns=udp:53", "web=8080")
    up = g.client.start("up")
    names = up.wait_event("ready")["dns"]
    local = {name: up.wait_event("service", 20, host=HOST, name=name)["local"]
             for name in ("dns", "web")}

    def dig(at, *question):
        ip, port = at.rsplit(":", 1)
        return programs.run(g.topo.client.ns, "dig", "dig", f"@{ip}", "-p", port,
                            "+short", *question).stdout.strip()
    assert dig(local["dns"], "n.lab", "A") == Dns.ADDRESS
    assert dig(names, f"{HOST}.postern", "A") == local["web"].rsplit(":", 1)[0]
    done = programs.run(g.topo.client.ns, "curl", "curl", "-sS", "-m", 20, "-o",
                        f"{work}/page", f"http://{local['web']}/page")
    assert done.status == 0, done.stderr
    assert sha256(f"{work}/page") == digest(9, 100_000)


@pytest.mark.needs("nginx", "curl")
def test_commands_share_the_warm_session_of_up(gate, programs, work):
    g = gate(host="masq", client="masq")
    Nginx(programs, g.topo.host.ns, work, {"page": (1000, 9)}, port=8080)
    g.up_and_joined("web=8080")
    up = g.client.start("up")
    up.wait_event("ready")
    wait_direct(up)
    sockets = len(g.topo.host.ns.udp_sockets())
    for _ in range(10):
        done = g.client.run("nc", HOST, "web", json=False,
                            stdin=b"GET /page HTTP/1.0\r\n\r\n")
        assert done.status == 0 and "200 OK" in done.stdout[:40], done.stderr
    assert len(g.topo.host.ns.udp_sockets()) == sockets
