"""Services by name: TLS from a browser behind one NAT to a server behind another, which
the broker passes on and cannot read."""

import hashlib
import os
import re
import shutil
import subprocess
import sys

import pytest

from .browser import DOMAIN, Site
from .net import run, wait_until
from .servers import blob
from .topology import BROKER, STRANGER

pytestmark = [pytest.mark.postern, pytest.mark.needs("curl", "openssl")]

MB = 1 << 20
MARKER = b"plaintext-of-nobody-but-the-two-ends"


@pytest.fixture
def site(gate, work):
    """Broker up with a portal."""
    s = Site(gate(host="masq", client="masq"), work)
    s.start_broker()
    return s


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
