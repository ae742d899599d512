"""Services by name: TLS from a browser behind one NAT to a server behind another, which
the broker passes on and cannot read."""

import hashlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from .browser import DOMAIN
from .conftest import full
from .net import run, wait_until
from .servers import blob
from .topology import BROKER, STRANGER

pytestmark = [pytest.mark.postern, pytest.mark.needs("curl", "openssl")]

MB = 1 << 20
MARKER = b"plaintext-of-nobody-but-the-two-ends"


@pytest.fixture
def site(portal):
    """Broker up with a portal."""
    return portal()


def certificate(work, name):
    """A certificate for one name as its operator made it, and its key."""
    cert, key = os.path.join(work, "cert.pem"), os.path.join(work, "key.pem")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=operator",
        "-addext", f"subjectAltName=DNS:{name}.{DOMAIN}", "-keyout", key, "-out", cert)
    return cert, key


class MarkedNginx:
    """nginx with one big file full of the marker; with a certificate or without."""

    def __init__(self, work, listen, tls=None):
        self.dir = os.path.join(work, "ngx")
        os.makedirs(self.dir)
        os.chmod(work, 0o755)
        blob(os.path.join(self.dir, "big"), 5 * MB, 7)
        with open(os.path.join(self.dir, "big"), "r+b") as f:
            for at in range(0, 5 * MB, 64 * 1024):
                f.seek(at)
                f.write(MARKER)
        self.conf = os.path.join(self.dir, "conf")
        lines = f"ssl_certificate {tls[0]};\nssl_certificate_key {tls[1]};\n" if tls else ""
        with open(self.conf, "w", encoding="ascii") as f:
            f.write(f"user root; worker_processes 1;\npid {self.dir}/pid;\n"
                    f"error_log {self.dir}/error;\nevents {{}}\n"
                    f"http {{ access_log off; server {{ listen {listen};\n{lines}"
                    f"root {self.dir}; }} }}\n")
        self.argv = [shutil.which("nginx"), "-c", self.conf, "-e", f"{self.dir}/error"]

    def is_file(self, path):
        return sha(path) == sha(os.path.join(self.dir, "big"))

    def stop(self):
        with open(f"{self.dir}/pid", encoding="ascii") as f:
            subprocess.run(["kill", f.read().strip()], check=True)


def sha(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


class Capture:
    """All that the broker's cable carries."""

    def __init__(self, site, work):
        self.path = os.path.join(work, "broker.pcap")
        self.proc = site.programs.start(site.topo.broker, "tcpdump", "tcpdump", "-n", "-i",
                                        "eth0", "-B", "65536", "-w", self.path, "-Z",
                                        "root")
        self.proc.wait_line("listening on", stream="err")

    def has(self, needle):
        """Ends it; whether these bytes went over the cable."""
        self.proc.terminate()
        assert "\n0 packets dropped by kernel" in self.proc.stderr, self.proc.stderr
        with open(self.path, "rb") as f:
            seen = f.read()
        assert len(seen) > 9 * MB   # in and out of the broker
        return needle in seen


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


@pytest.mark.needs("nginx", "tcpdump")
def test_by_name_the_broker_sees_no_plaintext(site, work):
    cert, key = certificate(work, "nginx--home")
    nginx = MarkedNginx(work, "443 ssl", (cert, key))
    program = site.programs.start(
        site.topo.host.ns, "run", *site.run_under("--json", "--broker", site.gate.link,
                                                  "--name", "home"), *nginx.argv)
    program.wait_event("ready", 20)
    service = program.wait_event("published", 20, port=443)["service"]
    assert service == "nginx", service
    site.add("anna")
    capture = Capture(site, work)
    browser = site.browser("anna")

    refused = browser.by_name("nginx", "/big", "--cacert", cert, "-o", "/dev/null")
    assert refused.status == 35 and "alert" in refused.stderr.lower(), refused.stderr
    site.wait_log(site.gate.broker, what="refused", object=f"nginx--home.{DOMAIN}",
                  detail="logged in")
    shown = browser.logged_in("anna").service("nginx")
    assert shown.up and shown.url == f"https://nginx--home.{DOMAIN}/", shown
    got = os.path.join(work, "got")
    done = browser.by_name("nginx", "/big", "--cacert", cert, "-v", "-o", got)
    assert done.status == 0, done.stderr
    assert "CN=operator" in done.stderr, done.stderr   # the server's, not the broker's
    assert nginx.is_file(got)
    assert memory_has(site.gate.broker_proc.pid, DOMAIN.encode())   # it can see
    assert not memory_has(site.gate.broker_proc.pid, MARKER)
    assert not capture.has(MARKER)
    site.wait_log(site.gate.broker, what="opened", who="anna", object="nginx on home")
    site.wait_log(site.gate.broker, what="closed", who="anna", object="nginx on home",
                  detail=" back, ")
    site.wait_log(site.gate.host, what="opened", who="anna", object="nginx")

    stranger = site.browser("stranger", site.topo.stranger)
    alert = stranger.by_name("nginx", "/", "--cacert", cert)
    assert alert.status == 35 and not alert.stdout, alert.stdout + alert.stderr
    site.wait_log(site.gate.broker, what="refused", **{"from": STRANGER})
    browser.logout()
    after = browser.by_name("nginx", "/", "--cacert", cert)
    assert after.status == 35, after.stderr
    nginx.stop()
    assert program.wait(10) == 0


@pytest.mark.needs("nginx", "tcpdump")
def test_tls_that_the_host_ends(site, work):
    """A plain web server: TLS by its name ends at the host, and the broker sees none."""
    cert, key = certificate(work, "web--home")
    nginx = MarkedNginx(work, 80)
    site.programs.start(site.topo.host.ns, "nginx", *nginx.argv, "-g", "daemon off;")
    site.gate.start_host("web=80", "plain=80", "--tls", f"web={cert},{key}")
    site.add("anna")
    capture = Capture(site, work)
    anna = site.browser("anna")
    shown = anna.logged_in("anna").service("web")
    assert shown.url == f"https://web--home.{DOMAIN}/", shown
    got = os.path.join(work, "got")
    done = anna.by_name("web", "/big", "--cacert", cert, "-v", "-o", got)
    assert done.status == 0 and "CN=operator" in done.stderr, done.stderr
    assert nginx.is_file(got)
    assert not memory_has(site.gate.broker_proc.pid, MARKER)
    assert not capture.has(MARKER)
    # A service without a certificate is plain HTTP, by port.
    assert not anna.get("/").service("plain").url
    assert anna.open("plain").address == f"{BROKER}:80"
    plain = anna.curl("-o", got, f"http://{BROKER}/big")
    assert plain.status == 0 and nginx.is_file(got), plain.stderr
    assert site.browser("stranger", site.topo.stranger).curl(f"http://{BROKER}/").status == 7


# An echo over TLS is enough to see who is let in; its own nginx is seen above.
TLS_SERVER = """
import socket, ssl, sys, time
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(sys.argv[1], sys.argv[2])
s = socket.create_server(("", 8443))
print("ready", flush=True)
while True:
    a, _ = s.accept()
    try:
        with c.wrap_socket(a, server_side=True) as t:
            asked = t.recv(4096)
            while b"/stream" in asked:
                t.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" if asked[-1:] != b"." else b"tick\\n")
                asked = b"/stream."
                time.sleep(0.05)
            t.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nhello\\n")
    except OSError:
        pass
"""


def test_public_and_private_by_name(site, work):
    cert, key = certificate(work, "cam--home")
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


def test_logout_ends_what_is_open_by_name(site, work):
    cert, key = certificate(work, "cam--home")
    site.programs.start(site.topo.host.ns, "tls", sys.executable, "-c", TLS_SERVER, cert,
                        key).wait_line("ready")
    site.gate.start_host("cam=8443")
    site.add("anna")
    anna = site.browser("anna")
    anna.logged_in("anna")
    stream = site.programs.start(
        anna.ns, "curl-stream", "curl", "-sSN", "--cacert", cert, "--resolve",
        f"cam--home.{DOMAIN}:443:{BROKER}", f"https://cam--home.{DOMAIN}/stream")
    stream.wait_line("tick")
    assert stream.running
    anna.logout()
    assert stream.wait(5) != 0
    site.wait_log(site.gate.host, what="closed", who="anna", object="cam")


def test_a_host_that_is_away_by_name(site, work):
    cert, key = certificate(work, "web--home")
    site.gate.start_host("web=8443")
    site.add("anna")
    anna = site.browser("anna")
    anna.logged_in("anna")
    # The host is there, its server is not: an alert, at once, and the log says why.
    dead = anna.by_name("web", "/", "--cacert", cert, timeout=5)
    assert dead.status == 35 and "alert" in dead.stderr, dead.stderr
    site.wait_log(site.gate.broker, what="refused", who="anna", object="web on home")
    site.gate.host_proc.terminate()
    anna.wait_service("web", up=False)
    gone = anna.by_name("web", "/", "--cacert", cert, timeout=5)
    assert gone.status == 35 and "alert" in gone.stderr, gone.stderr
    site.wait_log(site.gate.broker, what="refused", who="anna", detail="not connected")


def test_the_operators_certificate(portal, work):
    """The portal's own certificate, and a new one in its place while people are in."""
    def make(serial):
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN=portal-{serial}",
            "-addext", f"subjectAltName=IP:{BROKER}", "-keyout", f"{work}/new-key.pem",
            "-out", f"{work}/new.pem")
        os.rename(f"{work}/new-key.pem", f"{work}/p-key.pem")
        os.rename(f"{work}/new.pem", f"{work}/p.pem")
    make(1)
    site = portal("--certificate", f"{work}/p.pem", "--key", f"{work}/p-key.pem")
    site.gate.start_host("web=8443")
    site.add("anna")
    anna = site.browser("anna")
    anna.cacert = f"{work}/p.pem"
    anna.logged_in("anna")
    assert "max-age" in anna.get("/").headers["strict-transport-security"]
    make(2)   # now anna trusts only the second one

    def is_new():
        return anna.curl("-o", "/dev/null", "--cacert", anna.cacert, anna.root).status == 0
    wait_until(is_new, 15, "the new certificate is in use")
    assert anna.is_in()


# Takes whatever comes, answers with a byte, and waits.
SILENT = """
import socket, threading
s = socket.create_server(("", 8443), backlog=512)
print("ready", flush=True)
def serve(a):
    try:
        a.recv(4096); a.sendall(b"x")
        while a.recv(4096): pass
    except OSError: pass
    a.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""

# Asks for a name again and again; prints how many connections were answered, then
# waits until the first of them ends.
ASK = """
import socket, ssl, sys
name, address, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
out = ssl.MemoryBIO()
try:
    ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=name
                                          ).do_handshake()
except ssl.SSLWantReadError: pass
hello, held = out.read(), []
for _ in range(count):
    s = socket.create_connection((address, 443), 10)
    s.sendall(hello)
    if s.recv(1) == b"x":
        held.append(s)
print("answered", len(held), flush=True)
if held:
    held[0].settimeout(60)
    try: ended = held[0].recv(1) == b""
    except ConnectionError: ended = True
    print("ended", ended, flush=True)
"""


def ask_for(site, ns, service, count):
    proc = site.programs.start(ns, "ask", sys.executable, "-c", ASK,
                               f"{service}--home.{DOMAIN}", BROKER, count)
    proc.wait_line("answered ", 40)
    return proc, int(proc.stdout.split()[1])


def test_by_name_has_limits(portal):
    """A public service is open to everybody: nobody may fill it alone, or for nothing."""
    site = portal("--idle", "5s")
    site.programs.start(site.topo.host.ns, "silent", sys.executable, "-c",
                        SILENT).wait_line("ready")
    site.gate.start_host("cam=8443")
    site.access("public", "cam")
    many, answered = ask_for(site, site.topo.stranger, "cam", 300)
    assert answered == 256, answered
    _, answered = ask_for(site, site.topo.client.ns, "cam", 1)
    assert answered == 1   # another address
    if full():
        many.wait_line("ended True", 20)   # it moved nothing


def test_a_flood_of_strangers_does_not_drown_the_log(site):
    site.gate.start_host("cam=8443")
    _, answered = ask_for(site, site.topo.stranger, "none", 300)
    assert answered == 0
    told = site.log(site.gate.broker, what="refused", **{"from": STRANGER})
    assert len(told) == 60, len(told)
