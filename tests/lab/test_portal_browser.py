"""The portal in a real browser, from a machine behind one NAT to servers behind another.

What people see and press; the protocol below it is tested with curl in test_portal*.py.
Pictures of the pages are left in portal-e2e/ of the build directory.
"""

import hashlib
import os
import re
import shutil
import signal
import ssl
import sys

import pytest

from .actors import HOST, wait_direct
from .browser import DOMAIN, PASSWORD, Site, totp
from .chromium import Chromium, need_chromium
from .conftest import full
from .net import run, wait_until
from .servers import Sshd
from .topology import BROKER

pytestmark = [pytest.mark.postern, pytest.mark.needs("nginx", "openssl", "sshd")]

CLICKED = "Failed to load resource: the server responded with a status of "


@pytest.fixture(autouse=True)
def _chromium_is_there():
    need_chromium()


class Nginx:
    """An unmodified nginx with a certificate of its own, under `postern run`."""

    def __init__(self, site, work):
        self.dir = os.path.join(work, "ngx")
        os.makedirs(self.dir)
        os.chmod(work, 0o755)
        self.cert = os.path.join(self.dir, "cert.pem")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
            "/CN=nginx at home", "-addext", f"subjectAltName=DNS:nginx--{HOST}.{DOMAIN}",
            "-keyout", f"{self.dir}/key.pem", "-out", self.cert)
        with open(f"{self.dir}/index.html", "w", encoding="ascii") as f:
            f.write("<!DOCTYPE html><title>Home</title><p>from nginx, behind a NAT</p>")
        conf = f"{self.dir}/conf"
        with open(conf, "w", encoding="ascii") as f:
            f.write(f"user root; worker_processes 1;\npid {self.dir}/pid;\n"
                    f"error_log {self.dir}/error;\nevents {{}}\n"
                    "http { access_log off; server { listen 443 ssl;\n"
                    f"ssl_certificate {self.cert};\nssl_certificate_key "
                    f"{self.dir}/key.pem;\ndefault_type text/html;\nroot {self.dir}; }} }}\n")
        proc = site.programs.start(
            site.topo.host.ns, "run", *site.run_under("--json"), shutil.which("nginx"),
            "-c", conf, "-e", f"{self.dir}/error")
        found = proc.wait_event("published", 20, port=443)
        assert found["service"] == "nginx", found

    def stop(self):
        """nginx became a daemon: `run` ends with it."""
        with open(f"{self.dir}/pid", encoding="ascii") as f:
            os.kill(int(f.read()), signal.SIGTERM)

    def fingerprint(self):
        with open(self.cert, encoding="ascii") as f:
            return hashlib.sha256(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()


@pytest.fixture
def site(gate, work):
    """A broker with a portal; a host with nginx, sshd, and two that nobody serves."""
    s = Site(gate(host="masq", client="masq"), work)
    s.start_broker()
    s.sshd = Sshd(s.programs, s.topo.host.ns, work)
    s.gate.start_host("ssh=22", "camera=554", "hidden=7002")
    s.nginx = Nginx(s, work)
    yield s
    s.nginx.stop()


@pytest.fixture
def chromium(site):
    """A browser on the client's machine, at the portal."""
    portal = os.path.join(site.gate.broker.state, "portal-cert.pem")
    c = Chromium(site.programs, site.topo.client.ns, DOMAIN, [portal, site.nginx.cert],
                 full())
    c("come")
    yield c
    c.close()


def log_in(site, port, address=BROKER):
    """What ssh on the browser's machine says, to an address that the page showed."""
    done = site.programs.run(site.topo.client.ns, "ssh", "ssh",
                             *site.sshd.options(port=port), f"root@{address}", "echo hello")
    return (done.stdout + done.stderr).strip()


HOLD = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
print(s.recv(100).decode(), end="", flush=True)
try:
    print("more" if s.recv(1) else "end", flush=True)
except ConnectionResetError:
    print("reset", flush=True)
"""


def hold(site, port):
    """A plain TCP client, to which sshd has said hello."""
    client = site.programs.start(site.topo.client.ns, "hold", sys.executable, "-c", HOLD,
                                 BROKER, port)
    client.wait_line("SSH-2.0")
    return client


def used(chromium, name):
    """What the page, loaded again, says of the connections of an open service."""
    chromium("again")
    return [s["used"] for s in chromium("services") if s["name"] == name][0]


def shown(services):
    return {s["name"]: s["state"] for s in services}


def test_a_visitor_logs_in_opens_and_logs_out(site, chromium):
    site.add("anna", "nginx,ssh,camera")
    assert chromium("look") == {"path": "/login", "title": "Log in · Postern",
                                "heading": "Log in", "problem": ""}
    chromium("check", name="login")
    wrong = chromium("login", name="anna", password="wrong horse")
    assert wrong["problem"] == "The name or the password is wrong.", wrong
    assert chromium("complaints") == [CLICKED + "403 (Forbidden)"]
    chromium("check", name="login-wrong")
    done = chromium("login", name="anna", password=PASSWORD)
    assert done["path"] == "/" and done["heading"] == "Services", done

    services = chromium("services")
    assert shown(services) == {"nginx": "up", "ssh": "up", "camera": "down"}, services
    assert all(s["host"] == HOST and not s["address"] for s in services), services
    assert "refuses connections" in [s["why"] for s in services if s["name"] == "camera"][0]

    web = chromium("openByName", name=f"Open nginx on {HOST}")
    assert web["status"] == 200 and web["text"] == "from nginx, behind a NAT", web
    assert web["url"] == f"https://nginx--{HOST}.{DOMAIN}/", web
    assert web["subject"] == "nginx at home", web
    assert web["sha256"] == site.nginx.fingerprint(), "nginx's own, end to end"

    assert "refused" in log_in(site, 22), "not before it is opened"
    chromium("press", name=f"Open port 22 of ssh on {HOST}")
    [address] = [s["address"] for s in chromium("services") if s["name"] == "ssh"]
    address, _, port = address.rpartition(":")
    assert log_in(site, port, address) == "hello"
    client = hold(site, port)
    wait_until(lambda: used(chromium, "ssh") == "1 connection", what="1 connection shown")
    chromium("check", name="services")
    chromium("press", name=f"Close port 22 of ssh on {HOST}")
    assert "refused" in log_in(site, port, address)
    client.wait(5)
    assert "more" not in client.stdout, "closing ends what was open"

    chromium("press", name=f"Open port 22 of ssh on {HOST}")
    assert log_in(site, port, address) == "hello"
    client = hold(site, port)
    out = chromium("press", name="Log out")
    assert out["path"] == "/login", out
    client.wait(5)
    assert "refused" in log_in(site, port, address)
    back = chromium("back")
    assert back["url"].endswith("/login") and "ssh" not in back["text"], back
    assert chromium("complaints") == []


def test_the_keyboard_alone_with_a_one_time_code(site, chromium):
    [made] = [e for e in site.add("anna", "nginx,ssh", "--code")
              if e["event"] == "account"]
    secret = made["uri"].split("secret=")[1].split("&")[0]
    step = chromium("typeLogin", name="anna", password=PASSWORD)
    assert step["heading"] == "One more step" and step["path"] == "/login", step
    chromium("check", name="code")
    done = chromium("code", code=totp(secret, at=0))
    assert done["problem"].startswith("That code is wrong"), done
    assert chromium("complaints") == [CLICKED + "403 (Forbidden)"]
    done = chromium("typeCode", code=totp(secret))
    assert done["path"] == "/", done
    web = chromium("openByName", name=f"Open nginx on {HOST}", keyboard=True)
    assert web["text"] == "from nginx, behind a NAT", web
    chromium("pressByKeyboard", name=f"Open port 22 of ssh on {HOST}")
    assert log_in(site, 22) == "hello"
    out = chromium("pressByKeyboard", name="Log out")
    assert out["path"] == "/login" and chromium("complaints") == []


TRICKLE = "while sleep 0.1; do head -c 20000 /dev/zero; done"


def test_an_owner_sees_invites_and_revokes(site, chromium):
    site.add("maria", "all", "--owner")
    chromium("login", name="maria", password=PASSWORD)
    chromium("press", name=f"Open port 22 of ssh on {HOST}")
    assert log_in(site, 22) == "hello"
    owner = chromium("follow", name=f"Devices and log of {HOST}")["path"]
    assert "No device is connected." in chromium("picture")
    chromium("check", name="owner-empty")

    fresh = chromium("invite", services="ssh")
    assert fresh["link"].startswith("postern://"), fresh
    if shutil.which("zbarimg"):
        code = run("zbarimg", "-q", "--raw", os.path.join(chromium.out, "qr.png"))
        assert code.strip() == fresh["link"]
    chromium("check", name="invite")
    laptop = site.gate.other_client("laptop")
    assert laptop.run("join", "--name", "laptop", fresh["link"]).status == 0
    session = site.gate.connect("ssh", who=laptop)
    kind = wait_direct(session)["kind"]
    # The picture renews itself: nothing was loaded again.
    chromium.wait("picture", lambda texts: {"1 connected", "laptop", f"direct, {kind}"}
                  <= set(texts) and any(re.fullmatch(r"<?\d+(\.\d)? ms", t) for t in texts))
    [row] = chromium("table", name="Sessions")
    assert row[0] == "laptop" and row[1] == f"direct, {kind}", row

    chromium("open", path=owner)
    phone = site.gate.other_client("phone", site.topo.stranger)
    link = site.gate.invite("--services", "ssh")
    assert phone.run("join", "--name", "phone", link).status == 0
    site.gate.connect("ssh", None, "--paths", "relay", who=phone)
    assert "broker, relays" in chromium("pictureShows", text="relayed")
    site.programs.start(site.topo.client.ns, "ssh", "ssh",
                        *site.sshd.options(port=session.port), "root@127.0.0.1", TRICKLE)
    chromium("pictureShows", text="kB/s")
    chromium("open", path=owner)
    devices = chromium("table", name="Devices that may enter")
    assert sorted(d[:3] for d in devices) == [["laptop", "connected", "ssh"],
                                              ["phone", "connected", "ssh"]], devices
    chromium("check", name="owner")

    chromium("revoke", device="laptop")
    assert [d[0] for d in chromium("table", name="Devices that may enter")] == ["phone"]
    assert session.wait(10) == 1
    assert "removed" in session.stdout + session.stderr, session.stdout + session.stderr
    chromium("pictureShows", text="laptop", gone=True)
    log = chromium("table", name="What happened")
    assert {("invite", "maria"), ("joined", "laptop"), ("opened", "maria"),
            ("closed", "maria"), ("revoked", "maria")} <= {(row[1], row[2]) for row in log}, log
    chromium("press", name="Log out")
    assert chromium("complaints") == []
    for _ in range(3):   # also where forms were sent
        back = chromium("back")
        assert "phone" not in back["text"] and "postern://" not in back["text"], back
