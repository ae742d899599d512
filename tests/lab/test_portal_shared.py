"""Several people at one address: what each opens leads to what is theirs, by port and by
name, under their own name in the logs; what cannot be told apart is refused in words."""

import os
import sys

import pytest

from .browser import DOMAIN
from .net import run, wait_until
from .topology import BROKER

pytestmark = [pytest.mark.postern, pytest.mark.needs("curl", "openssl")]

# Each person's instance of the service, on the host's machine.
SAY = "say=anna@127.0.0.1:7101,berta@127.0.0.1:7102"
SAY_UDP = "sayu=udp:anna@127.0.0.1:7101,berta@127.0.0.1:7102"
CAM = "cam=anna@127.0.0.1:8443,berta@127.0.0.1:8444"

# Says whose it is to whatever comes, by TCP and UDP; with a certificate by HTTPS.
SERVER = """
import socket, ssl, sys, threading, time
name, port = sys.argv[1].encode() + b"\\n", int(sys.argv[2])
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("", port))
s = socket.create_server(("", port), backlog=64)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
if sys.argv[3:]: c.load_cert_chain(*sys.argv[3:])
print("ready", flush=True)
def datagrams():
    while True:
        data, who = u.recvfrom(2000)
        u.sendto(name, who)
threading.Thread(target=datagrams, daemon=True).start()
def serve(a):
    try:
        if sys.argv[3:]: a = c.wrap_socket(a, server_side=True)
        while True:
            asked = a.recv(4096)
            if not asked: break
            if not asked.startswith(b"GET"):
                a.sendall(name)
                continue
            a.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + name)
            while b"/stream" in asked: a.sendall(name); time.sleep(0.05)
            break
    except OSError: pass
    a.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""

# Asks once and prints the answer, then again for each line of its input.
KEEP = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
s.settimeout(10)
def ask():
    try: s.sendall(b"HOLD\\n"); return s.recv(100).decode().strip() or "ended"
    except OSError: return "ended"
n = 0
print(n, ask(), flush=True)
for line in sys.stdin: n += 1; print(n, ask(), flush=True)
"""

UDP = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.5)
for _ in range(10):
    s.sendto(b"who?", (sys.argv[1], int(sys.argv[2])))
    try: print(s.recv(100).decode().strip()); break
    except OSError: pass
"""


class Held:
    """A connection by port, whose server has answered."""

    def __init__(self, browser, port):
        self.count = 0
        self.proc = browser.programs.start(browser.ns, "keep", sys.executable, "-c", KEEP,
                                           BROKER, port, stdin=-1)
        self.first = self.answer()

    def answer(self):
        self.proc.wait_line(f"{self.count} ")
        wait_until(lambda: self.proc.stdout.endswith("\n"), 5, "the whole line")
        return self.proc.stdout.split()[-1]

    def again(self):
        """What the server says now, or "ended"."""
        self.count += 1
        self.proc.popen.stdin.write(b"\n")
        self.proc.popen.stdin.flush()
        return self.answer()


def serve(site, name, port, *tls):
    site.programs.start(site.topo.host.ns, f"say-{name}", sys.executable, "-c", SERVER,
                        name, port, *tls).wait_line("ready")


def people(site, service, *names):
    """Each with an account that is bound to their own instance."""
    for name in names:
        site.add(name, ",".join(f"{s}/{name}" for s in service.split(",")))


def came_in(browser, name):
    browser.logged_in(name)
    return browser


@pytest.fixture
def site(portal):
    s = portal()
    serve(s, "anna", 7101)
    serve(s, "berta", 7102)
    s.gate.start_host(SAY, SAY_UDP)
    people(s, "say,sayu", "anna", "berta")
    return s


def test_by_port_each_reaches_their_own(site):
    anna = came_in(site.browser("anna"), "anna")
    berta = came_in(site.browser("berta"), "berta")   # the same machine and address
    shown = anna.open("say")
    assert shown.port == 7101 and "Yours is" not in shown.notes, shown
    shown = berta.open("say")
    assert shown.port == 17101 and "Yours is 17101" in shown.notes, shown
    for _ in range(3):
        assert site.knock(anna.ns, 7101) == "anna\n"
        assert site.knock(anna.ns, 17101) == "berta\n"
    chosen = site.log(site.gate.broker, what="chosen", who="berta")
    assert "port 17101: another account" in chosen[0]["detail"], chosen
    site.wait_log(site.gate.host, what="chosen", who="berta", object="say at port 17101")
    for where in (site.gate.broker, site.gate.host):
        for who in ("anna", "berta"):
            wait_until(lambda who=who, where=where: len(
                site.log(where, what="opened", who=who, object="say")) == 3, 5,
                "each connection is logged under its own name")
    assert site.knock(site.topo.stranger, 17101) == "refused"


def test_by_port_one_account_twice(site):
    """Two browsers of one account share its port; one that goes takes nothing along."""
    anna = came_in(site.browser("anna"), "anna")
    phone = came_in(site.browser("phone"), "anna")
    berta = came_in(site.browser("berta"), "berta")
    assert anna.open("say").port == phone.open("say").port == 7101
    assert berta.open("say").port == 17101
    held, hers = Held(anna, 7101), Held(berta, 17101)
    assert (held.first, hers.first) == ("anna", "berta")
    anna.logout()
    assert held.again() == "anna" and phone.get("/").service("say").connections == 1
    assert site.knock(phone.ns, 7101) == "anna\n"
    anna.logged_in("anna")
    anna.open("say")
    phone.close("say")
    assert held.again() == "anna"
    anna.logout()
    assert held.again() == "ended" and site.knock(anna.ns, 7101) == "refused"
    assert hers.again() == "berta"   # and berta's is hers all the time
    site.access("remove", "berta")
    wait_until(lambda: hers.again() == "ended", 5, "a removed account's connection ends")
    wait_until(lambda: not site.listens(17101), 5, "its port is closed")


def test_by_port_datagrams(site):
    def ask(port):
        return site.programs.run(site.topo.client.ns, "udp", sys.executable, "-c", UDP,
                                 BROKER, port).stdout.strip()
    anna = came_in(site.browser("anna"), "anna")
    berta = came_in(site.browser("berta"), "berta")
    assert berta.open("sayu").port == 7101   # who comes first
    assert anna.open("sayu").port == 17101
    assert (ask(7101), ask(17101)) == ("berta", "anna")
    berta.logout()
    assert (ask(7101), ask(17101)) == ("", "anna")
    for who in ("anna", "berta"):
        assert site.log(site.gate.host, what="opened", who=who, object="sayu"), who


def test_by_port_who_moves_in_is_told(site):
    guest = site.topo.machine("guest", "a", 41)
    anna = came_in(site.browser("anna"), "anna")
    berta = came_in(site.browser("berta", guest.ns), "berta")
    assert anna.open("say").port == berta.open("say").port == 7101   # two addresses
    assert site.knock(guest.ns, 7101) == "berta\n"
    site.topo.move(guest, "b")
    shown = berta.get("/").service("say")
    assert shown.port == 17101 and "Yours is 17101" in shown.notes, shown
    assert site.knock(guest.ns, 17101) == "berta\n"
    assert site.knock(guest.ns, 7101) == "anna\n"   # who has that port there
    assert site.log(site.gate.broker, what="chosen", who="berta", detail="port 17101")


# ------------------------------------------------------------------------------ by name

def certificate(work, name):
    cert, key = os.path.join(work, f"{name}.pem"), os.path.join(work, f"{name}-key.pem")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=operator",
        "-addext", f"subjectAltName=DNS:{name}.{DOMAIN}", "-keyout", key, "-out", cert)
    return cert, key


def visit(browser, cert, url):
    """What that link brings, with the certificate checked, or curl's failure."""
    name = url.split("/")[2]
    host, _, port = name.partition(":")
    done = browser.curl("--resolve", f"{host}:{port or 443}:{BROKER}", "--cacert", cert, url)
    return done.stdout.strip() if done.status == 0 else f"curl {done.status}"


@pytest.fixture
def named(portal, work):
    """Each has a server with TLS of its own (cam), and one whose TLS the host ends (say)."""
    s = portal()
    s.cam, s.say = certificate(work, "cam--home"), certificate(work, "say--home")
    for name, port in (("anna", 1), ("berta", 2)):
        serve(s, name, 8442 + port, *s.cam)
        serve(s, name, 7100 + port)
    s.gate.start_host(CAM, SAY, "--tls", f"say={s.say[0]},{s.say[1]}")
    people(s, "cam,say", "anna", "berta")
    return s


def test_by_name_each_reaches_their_own(named):
    site = named
    anna = came_in(site.browser("anna"), "anna")
    plain = {name: f"https://{name}--home.{DOMAIN}/" for name in ("cam", "say")}
    certs = {"cam": site.cam[0], "say": site.say[0]}
    for name, url in plain.items():
        assert anna.get("/").service(name).url == url
        assert visit(anna, certs[name], url) == "anna"
    berta = came_in(site.browser("berta"), "berta")
    for name, url in plain.items():   # nobody can tell whose this is
        assert visit(anna, certs[name], url) == "curl 35"
        for browser in (anna, berta):
            shown = browser.get("/").service(name)
            assert not shown.url and "cannot tell you apart" in shown.notes, shown
    site.wait_log(site.gate.broker, what="refused", detail="several accounts")
    for browser, cam, say in ((anna, 8443, 7101), (berta, 18443, 17101)):
        for name, port in (("cam", cam), ("say", say)):
            shown = browser.open(name)
            assert shown.url == f"https://{name}--home.{DOMAIN}:{port}/", shown
            assert visit(browser, certs[name], shown.url) == browser.name
    for who in ("anna", "berta"):
        for name in plain:
            site.wait_log(site.gate.host, what="opened", who=who, object=name)
    told = site.log(site.gate.host, what="opened", who="berta")
    assert len(told) == 2, told
    berta.logout()
    for name, url in plain.items():
        assert visit(anna, certs[name], url) == "anna"
    # What is public is everybody's, and nobody's name is under it.
    site.access("public", "cam")
    berta.logged_in("berta")
    wait_until(lambda: visit(berta, site.cam[0], plain["cam"]) in ("anna", "berta"), 5,
               "everybody may")
    assert site.log(site.gate.host, what="opened", object="cam", detail="public")
    assert not site.log(site.gate.broker, what="opened", who="berta", detail="by name")


def test_by_name_one_account_twice(named):
    site = named
    anna = came_in(site.browser("anna"), "anna")
    name = f"cam--home.{DOMAIN}"
    stream = site.programs.start(
        anna.ns, "curl-stream", "curl", "-sSN", "--cacert", site.cam[0], "--resolve",
        f"{name}:443:{BROKER}", f"https://{name}/stream")
    stream.wait_line("anna")
    phone = came_in(site.browser("phone"), "anna")
    berta = came_in(site.browser("berta"), "berta")
    assert visit(phone, site.cam[0], f"https://{name}/") == "curl 35"
    berta.logout()
    assert visit(phone, site.cam[0], f"https://{name}/") == "anna"
    anna.logout()
    seen = len(stream.stdout)
    wait_until(lambda: len(stream.stdout) > seen + 50, 5, "the stream goes on")
    phone.logout()
    assert stream.wait(5) != 0
