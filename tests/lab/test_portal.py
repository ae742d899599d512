"""The portal: a browser behind one NAT, servers behind another, no Postern at the client."""

import hashlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from .actors import PEER
from .browser import DOMAIN, Site
from .net import run, wait_until
from .servers import Dns, Sshd, blob
from .topology import BROKER, STRANGER

pytestmark = [pytest.mark.postern, pytest.mark.needs("curl")]

MB = 1 << 20
MARKER = b"plaintext-of-nobody-but-the-two-ends"


@pytest.fixture
def site(gate, work):
    """Broker up with a portal."""
    s = Site(gate(host="masq", client="masq"), work)
    s.start_broker()
    return s


# -------------------------------------------------------------------------- by name

class TlsNginx:
    """nginx with a certificate of its own for one name, as its operator made it."""

    def __init__(self, work, name):
        self.dir = os.path.join(work, "ngx")
        os.makedirs(self.dir)
        os.chmod(work, 0o755)
        self.cert = os.path.join(self.dir, "cert.pem")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=nginx",
            "-addext", f"subjectAltName=DNS:{name}", "-keyout",
            os.path.join(self.dir, "key.pem"), "-out", self.cert)
        blob(os.path.join(self.dir, "big"), 5 * MB, 7)
        with open(os.path.join(self.dir, "big"), "r+b") as f:
            for at in range(0, 5 * MB, 64 * 1024):
                f.seek(at)
                f.write(MARKER)
        self.conf = os.path.join(self.dir, "conf")
        with open(self.conf, "w", encoding="ascii") as f:
            f.write(f"user root; worker_processes 1;\npid {self.dir}/pid;\n"
                    f"error_log {self.dir}/error;\nevents {{}}\n"
                    "http { access_log off; server { listen 443 ssl;\n"
                    f"ssl_certificate {self.cert};\nssl_certificate_key "
                    f"{self.dir}/key.pem;\nroot {self.dir}; }} }}\n")
        self.argv = [shutil.which("nginx"), "-c", self.conf, "-e", f"{self.dir}/error"]

    def digest(self):
        with open(os.path.join(self.dir, "big"), "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()


def memory_has(pid, needle):
    """Whether any readable memory of that process holds these bytes."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as maps:
        spans = [(int(a, 16), int(b, 16)) for a, b, rights in
                 re.findall(r"^([0-9a-f]+)-([0-9a-f]+) (r\S+)", maps.read(), re.M)]
    looked = 0
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for begin, end in spans:
            rest = b""
            if end - begin > 1 << 34:
                continue   # no program's data: an address sanitizer's shadow
            for at in range(begin, end, MB):
                try:
                    mem.seek(at)
                    part = mem.read(min(MB, end - at))
                except (OSError, OverflowError, ValueError):
                    break   # a mapping of the kernel's, or one that has just gone
                looked += len(part)
                if needle in rest + part:
                    return True
                rest = part[-len(needle):]
    assert looked > MB, "nothing was looked at"
    return False


@pytest.mark.needs("nginx", "openssl", "tcpdump")
def test_by_name_the_broker_sees_no_plaintext(site, work):
    nginx = TlsNginx(work, f"nginx--home.{DOMAIN}")
    program = site.programs.start(
        site.topo.host.ns, "run", *site.run_under("--json", "--broker", site.gate.link,
                                                  "--name", "home"), *nginx.argv)
    program.wait_event("ready", 20)
    service = program.wait_event("published", 20, port=443)["service"]
    assert service == "nginx", service
    site.add("anna")
    pcap = os.path.join(work, "broker.pcap")
    capture = site.programs.start(site.topo.broker, "tcpdump", "tcpdump", "-n", "-i",
                                  "eth0", "-B", "65536", "-w", pcap, "-Z", "root")
    capture.wait_line("listening on", stream="err")
    browser = site.browser("anna")

    refused = browser.by_name("nginx", "/big", "--cacert", nginx.cert, "-o", "/dev/null")
    assert refused.status == 35 and "alert" in refused.stderr.lower(), refused.stderr
    site.wait_log(site.gate.broker, what="refused", object=f"nginx--home.{DOMAIN}",
                  detail="logged in")
    shown = browser.logged_in("anna").service("nginx")
    assert shown.up and shown.url == f"https://nginx--home.{DOMAIN}/", shown
    got = os.path.join(work, "got")
    done = browser.by_name("nginx", "/big", "--cacert", nginx.cert, "-v", "-o", got)
    assert done.status == 0, done.stderr
    assert "CN=nginx" in done.stderr, done.stderr   # the server's own, not the broker's
    with open(got, "rb") as f:
        assert hashlib.sha256(f.read()).hexdigest() == nginx.digest()
    assert memory_has(site.gate.broker_proc.pid, DOMAIN.encode())   # it can see
    assert not memory_has(site.gate.broker_proc.pid, MARKER)
    capture.terminate()
    assert "\n0 packets dropped by kernel" in capture.stderr, capture.stderr
    with open(pcap, "rb") as f:
        seen = f.read()
    assert len(seen) > 9 * MB and MARKER not in seen   # in and out of the broker
    site.wait_log(site.gate.broker, what="opened", who="anna", object="nginx on home")
    site.wait_log(site.gate.broker, what="closed", who="anna", object="nginx on home",
                  detail=" back, ")
    site.wait_log(site.gate.host, what="opened", who="anna", object="nginx")

    stranger = site.browser("stranger", site.topo.stranger)
    alert = stranger.by_name("nginx", "/", "--cacert", nginx.cert)
    assert alert.status == 35 and not alert.stdout, alert.stdout + alert.stderr
    site.wait_log(site.gate.broker, what="refused", **{"from": STRANGER})
    browser.logout()
    after = browser.by_name("nginx", "/", "--cacert", nginx.cert)
    assert after.status == 35, after.stderr
    subprocess.run(["kill", open(f"{nginx.dir}/pid", encoding="ascii").read().strip()],
                   check=True)
    assert program.wait(10) == 0


# An echo over TLS is enough to see who is let in; its own nginx is seen above.
TLS_SERVER = """
import socket, ssl, sys
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(sys.argv[1], sys.argv[2])
s = socket.create_server(("", 8443))
print("ready", flush=True)
while True:
    a, _ = s.accept()
    try:
        with c.wrap_socket(a, server_side=True) as t:
            t.recv(4096)
            t.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello\\n")
    except OSError:
        pass
"""


@pytest.mark.needs("openssl")
def test_public_and_private_by_name(site, work):
    cert, key = os.path.join(work, "c.pem"), os.path.join(work, "k.pem")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-subj", "/CN=cam", "-addext", f"subjectAltName=DNS:cam--home.{DOMAIN}",
        "-keyout", key, "-out", cert)
    site.programs.start(site.topo.host.ns, "tls", sys.executable, "-c", TLS_SERVER, cert,
                        key).wait_line("ready")
    site.gate.start_host("cam=8443", "other=8443")
    stranger = site.browser("stranger", site.topo.stranger)

    def answer(service="cam"):
        done = stranger.by_name(service, "/", "--cacert", cert)
        return done.stdout or f"curl {done.status}"
    assert answer() == "curl 35"
    site.access("public", "cam")
    wait_until(lambda: answer() == "hello\n", 5, "everybody may")
    assert answer("other") == "curl 35"   # that one alone
    assert site.log(site.gate.host, what="opened", object="cam", detail="public")
    assert site.log(site.gate.broker, what="opened", object="cam on home")
    site.access("private", "cam")
    wait_until(lambda: answer() == "curl 35", 5, "nobody may any more")
    assert stranger.get("/").status == 303   # being let in there is no login


# Connections that name a service in a ClientHello and then do nothing; then says how
# many were answered with an alert, and how many of the others still stand.
KNOCK_BY_NAME = """
import select, socket, ssl, sys, time
address, name, count, wait = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
def hello():
    got, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    try: c.wrap_bio(got, out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError: pass
    return out.read()
held, alerts = [], 0
for _ in range(count):
    s = socket.create_connection((address, 443), 5)
    s.sendall(hello())
    held.append(s)
end = time.monotonic() + wait
while held and time.monotonic() < end:
    for s in select.select(held, [], [], 0.5)[0]:
        try: alerts += s.recv(100)[:2] == bytes([21, 3])
        except OSError: pass
        held.remove(s)
print("alerts", alerts, "held", len(held))
"""

SILENT_SERVER = """
import socket
s = socket.create_server(("", 8443), backlog=1024)
print("ready", flush=True)
held = []
while True:
    held.append(s.accept())
"""


def test_a_host_that_calls_itself_as_another(site):
    """It does not get the visitors of the name that the broker knows as the other's."""
    late = site.host("late", site.topo.service)
    site.programs.start(site.topo.host.ns, "silent", sys.executable, "-c",
                        SILENT_SERVER).wait_line("ready")
    site.programs.start(site.topo.service.ns, "silent", sys.executable, "-c",
                        SILENT_SERVER).wait_line("ready")
    site.gate.start_host("cam=8443", "door=8443")
    site.access("public", "door")   # so that the broker knows of it
    site.serve(late, "home", "cam=8443", "own=8443")
    site.access("public", "cam", host=late)
    site.add("anna", host=late)

    def knock(name="cam--home"):
        return site.programs.run(site.topo.stranger, "knock", sys.executable, "-c",
                                 KNOCK_BY_NAME, BROKER, f"{name}.{DOMAIN}", 1, 2).stdout
    browser = site.browser("anna", site.topo.stranger)
    wait_until(lambda: browser.login("anna").status == 303, 10, "the late one is known")
    browser.get("/")
    browser.logout()
    assert knock() == "alerts 1 held 0\n"
    site.access("public", "cam")
    wait_until(lambda: knock() == "alerts 0 held 1\n", 10, "it is the elder's to open")
    assert site.log(site.gate.host, what="opened", object="cam")
    assert not site.log(late, what="opened", object="cam")
    browser.logged_in("anna")   # who may log in there reaches it all the same
    assert knock("own--home") == "alerts 0 held 1\n"


def test_connections_by_name_are_limited_and_end(gate, work):
    """Whoever comes to what is public takes no more than a share, and not for ever."""
    site = Site(gate(host="masq", client="masq"), work)
    site.start_broker("--idle", "10s")
    site.programs.start(site.topo.host.ns, "silent", sys.executable, "-c",
                        SILENT_SERVER).wait_line("ready")
    site.gate.start_host("cam=8443")

    def knock(count, wait, name="cam--home"):
        return site.programs.run(site.topo.stranger, "knock", sys.executable, "-c",
                                 KNOCK_BY_NAME, BROKER, f"{name}.{DOMAIN}", count, wait,
                                 timeout=60).stdout
    assert knock(1, 5) == "alerts 1 held 0\n"   # nobody may
    site.access("public", "cam")
    wait_until(lambda: knock(1, 1) == "alerts 0 held 1\n", 10, "everybody may")
    assert knock(2, 1, "CAM--home") == "alerts 0 held 2\n"
    # Names of services in any form are never the portal's to answer.
    for name in ("x.cam--home", "cam--homer", "cam--", "--"):
        assert knock(1, 5, name) == "alerts 1 held 0\n", name
    assert knock(3, 40) == "alerts 0 held 0\n"   # they moved nothing
    site.wait_log(site.gate.host, what="closed", object="cam")
    alerts, held = map(int, re.findall(r"\d+", knock(266, 6)))
    assert held >= 200 and alerts >= 10 and alerts + held == 266, (alerts, held)


# -------------------------------------------------------------------------- by port

@pytest.mark.needs("ssh", "sshd", "redis-server", "redis-cli")
def test_ssh_and_redis_by_port(site, work):
    g = site.gate
    g.start_host("nobody=7000")
    os.chmod(work, 0o755)
    sshd = Sshd(site.programs, site.topo.host.ns, work, wrapper=site.run_under())
    redis = site.programs.start(site.topo.host.ns, "redis", *site.run_under(),
                                shutil.which("redis-server"), "--port", 6379, "--save", "",
                                "--protected-mode", "no", "--dir", work)
    for port in (22, 6379):
        g.host_proc.wait_event("published", 20, port=port)
    site.add("anna")
    browser = site.browser("anna")
    shown = {s.name: s.up for s in browser.logged_in("anna").services()}
    assert shown == {"sshd": True, "redis-server": True, "nobody": False}, shown
    assert not site.listens(22) and not site.listens(6379)   # nothing was chosen yet

    shown = browser.open("sshd")
    assert shown.address == f"{BROKER}:22", shown
    ssh = site.programs.run(site.topo.client.ns, "ssh", "ssh", *sshd.options(),
                            f"root@{BROKER}", "echo through the portal")
    assert ssh.stdout == "through the portal\n", ssh.stderr
    shown = browser.open("redis-server")

    def redis_cli(*args, ns=None):
        return site.programs.run(ns or site.topo.client.ns, "redis-cli", "redis-cli", "-h",
                                 BROKER, "-p", shown.port, *args).stdout.strip()
    assert redis_cli("SET", "k", "v") == "OK" and redis_cli("GET", "k") == "v"
    assert site.knock(site.topo.stranger, shown.port) == "refused"
    assert "Could not connect" in site.programs.run(
        site.topo.stranger, "redis-cli", "redis-cli", "-h", BROKER, "PING").stderr
    redis.terminate()
    browser.wait_gone("redis-server")
    wait_until(lambda: not site.listens(6379), 5, "its port is closed")
    site.wait_log(g.broker, what="opened", who="anna", object="sshd on home")
    site.wait_log(g.broker, what="chosen", who="anna", object="redis-server")
    site.wait_log(g.host, what="closed", who="anna", object="sshd")


@pytest.fixture
def by_port(site):
    """A checking server opened by port for anna, who is logged in; `held` is answered."""
    site.gate.host.start_peer("tcp-server", 7000)
    site.gate.start_host("data=7000")
    site.add("anna")
    site.anna = site.browser("anna")
    site.anna.logged_in("anna")
    site.anna.open("data")
    return site


def held(site, browser=None, port=7000, count=1):
    proc = (browser or site.anna).start_peer("hold", BROKER, port, count)
    proc.wait_line(f"held {count}")
    return proc


def test_logout_and_close_end_what_is_open(by_port):
    site, anna = by_port, by_port.anna
    got = anna.peer("get", BROKER, 7000, 4 * MB, 3)
    assert got.status == 0, got.stdout
    connection = held(site)
    assert anna.get("/").service("data").connections == 1
    assert site.knock(site.topo.stranger, 7000) == "refused"
    anna.close("data")
    connection.wait_line("all ended", 3)
    assert site.knock(anna.ns, 7000) == "refused" and not site.listens(7000)
    assert not anna.get("/").service("data").address
    anna.open("data")
    connection = held(site)
    cookie = anna.jar
    anna.logout()
    connection.wait_line("all ended", 3)
    assert site.knock(anna.ns, 7000) == "refused" and not site.listens(7000)
    assert anna.jar == cookie and not anna.is_in()
    for what in ("login", "chosen", "opened", "closed", "logout"):
        site.wait_log(site.gate.broker, what=what, who="anna")
    site.wait_log(site.gate.host, what="closed", who="anna", object="data")


def test_an_address_that_changed(by_port):
    """The machine moves behind another NAT: its next page brings the port along."""
    site, anna = by_port, by_port.anna
    connection = held(site)
    site.topo.move(site.topo.client, "c")
    assert site.knock(anna.ns, 7000) == "refused"
    assert anna.get("/").service("data").address   # the same cookie from elsewhere
    assert site.knock(anna.ns, 7000) == "ok\n"
    assert site.log(site.gate.broker, what="moved", who="anna")
    site.wait_log(site.gate.broker, what="closed", object="data")
    assert connection.running   # it cannot know: its own network went


def test_idle_connections_end(gate, work):
    site = Site(gate(host="masq", client="masq"), work)
    site.start_broker("--idle", "2s")
    site.gate.host.start_peer("tcp-server", 7000)
    site.gate.start_host("data=7000")
    site.add("anna")
    site.anna = site.browser("anna")
    site.anna.logged_in("anna")
    site.anna.open("data")
    silent = held(site)
    busy = site.anna.start_peer("flow", BROKER, 7000, 1)
    busy.wait_line("at ")
    silent.wait_line("all ended", 15)
    assert busy.running and site.anna.get("/").service("data").connections == 1
    busy.terminate(10)
    assert "whole" in busy.stdout, busy.stdout


def test_same_port_two_hosts(site):
    """Two people at two addresses choose one port and reach two hosts."""
    g = site.gate
    other = site.host("attic", site.topo.service)
    for ns, text in ((site.topo.host.ns, "home"), (site.topo.service.ns, "attic")):
        site.programs.start(ns, "say", sys.executable, "-c", SAY, text).wait_line("ready")
    g.start_host("say=7100")
    site.serve(other, "attic", "say=7100")
    site.add("anna")
    site.add("berta", host=other)
    anna, berta = site.browser("anna"), site.browser("berta", site.topo.stranger)
    anna.logged_in("anna")
    berta.logged_in("berta")
    assert anna.open("say").address == berta.open("say", "attic").address == f"{BROKER}:7100"
    for _ in range(3):
        assert site.knock(anna.ns, 7100) == "home\n"
        assert site.knock(berta.ns, 7100) == "attic\n"
    # Two at one address: the second gets another port, and is told which.
    guest = site.browser("guest")
    guest.logged_in("berta")
    shown = guest.open("say", "attic")
    assert shown.address == f"{BROKER}:17100", shown
    assert site.knock(guest.ns, 17100) == "attic\n"
    assert site.knock(anna.ns, 7100) == "home\n"
    assert site.knock(berta.ns, 17100) == "refused"
    # The same service for both of them is no conflict.
    site.add("carl", host=g.host)
    carl = site.browser("carl")
    carl.logged_in("carl")
    assert carl.open("say").address == f"{BROKER}:7100"
    anna.logout()
    assert site.knock(carl.ns, 7100) == "home\n"


SAY = """
import socket, sys
s = socket.create_server(("", 7100))
print("ready", flush=True)
while True:
    a, _ = s.accept()
    try:
        a.recv(100)
        a.sendall(sys.argv[1].encode() + b"\\n")
    except OSError:
        pass
    a.close()
"""


@pytest.mark.needs("dnsmasq", "dig")
def test_udp_by_port(site):
    Dns(site.programs, site.topo.host.ns)
    site.gate.host.start_peer("udp-server", 7001)
    site.gate.start_host("dns=udp:53", "echo=udp:7001")
    site.add("anna")
    anna = site.browser("anna")
    anna.logged_in("anna")
    assert anna.open("dns").address == f"{BROKER}:53"
    anna.open("echo")

    def dig(ns):
        return site.programs.run(ns, "dig", "dig", f"@{BROKER}", "+short", "+tries=1",
                                 "+time=2", "pi.lab").stdout
    assert dig(anna.ns).strip() == Dns.ADDRESS
    assert Dns.ADDRESS not in dig(site.topo.stranger)
    done = anna.peer("udp-ping", BROKER, 7001, 50, 5, 1200)
    assert done.status == 0 and "received 50 " in done.stdout, done.stdout
    lost = site.programs.run(site.topo.stranger, "ping", *PEER, "udp-ping", BROKER, 7001, 3,
                             5)
    assert "received 0 " in lost.stdout, lost.stdout
    assert anna.get("/").service("echo").connections == 1
    anna.close("dns")
    assert Dns.ADDRESS not in dig(anna.ns)
    assert not site.listens(53, udp=True)
