"""The portal: a browser behind one NAT, servers behind another, no Postern at the client."""

import hashlib
import os
import re
import shutil
import subprocess

import pytest

from .browser import DOMAIN, Site
from .actors import BROKER_PORT, postern
from .net import run, wait_until
from .servers import Sshd, blob
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


def run_program(site, *argv, options=("--yes",), **more):
    """An unmodified server under `postern run`, on the host's machine."""
    g = site.gate
    return site.programs.start(site.topo.host.ns, "run", postern(), "run", "--json",
                               "--broker", g.link, "--name", "home", *options, "--", *argv,
                               env=g.host.env, **more)


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
    program = run_program(site, *nginx.argv)
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
    assert len(seen) > 10 * MB and MARKER not in seen   # in and out of the broker
    site.wait_log(site.gate.broker, what="opened", who="anna", object="nginx on home")
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
