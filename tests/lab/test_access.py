"""The host's side of the portal: accounts by command, who gets in, and for how long.

The portal's own pages are used as a browser would, with curl; what they look like and
how logins work is tested elsewhere.
"""

import re
from datetime import datetime, timedelta, timezone

import pytest

from .actors import HOST, postern
from .net import wait_until
from .servers import listening
from .topology import BROKER

pytestmark = pytest.mark.postern

PYTHON = "/usr/bin/python3"
DOMAIN = "portal.test"
PASSWORD = "correct horse battery"


def access(g, *args, stdin=None, **more):
    return g.host.run("access", *args, stdin=stdin, **more)


def add(g, name, services, *args, password=PASSWORD):
    done = access(g, "add", name, "--services", services, *args,
                  stdin=password.encode() + b"\n")
    assert done.status == 0, done.stderr
    return done.event("account")


def says(done, status, *words):
    assert done.status == status, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def log(g, **fields):
    """The entries of the host's log with these fields, the newest last."""
    return [e for e in g.host.run("log", "--count", "100").events
            if all(e.get(k) == v for k, v in fields.items())]


@pytest.fixture
def site(gate):
    """A broker with a portal, and a host with two services that echo and a UDP one."""
    g = gate(host="masq", client="masq")
    g.start_broker("--domain", DOMAIN)
    g.host.start_peer("tcp-server", 7000)
    g.start_host("echo=7000", "dead=7001", "dns=udp:53")
    return g


class Browser:
    """Somebody at the client's machine with curl and a jar of cookies."""

    def __init__(self, g, name):
        self.g, self.jar = g, f"{g.work}/{name}.jar"
        self.base = f"https://{BROKER}"
        self.page = ""

    def curl(self, *args, timeout=20):
        return self.g.programs.run(self.g.topo.client.ns, "curl", "curl", "-ksS",
                                   "--max-time", timeout, "-b", self.jar, "-c", self.jar,
                                   *args, timeout=timeout + 5)

    def get(self, path="/"):
        self.page = self.curl("-L", self.base + path).stdout
        return self.page

    def field(self, name):
        return re.search(f'name="{name}" value="([^"]*)"', self.page).group(1)

    def post(self, path, **fields):
        fields["csrf"] = self.field("csrf")
        args = [a for k, v in fields.items() for a in ("--data-urlencode", f"{k}={v}")]
        done = self.curl("-w", "\n%{http_code}", "-H", f"Origin: {self.base}", *args,
                         self.base + path)
        assert done.status == 0, done.stderr
        self.page, _, code = done.stdout.rpartition("\n")
        return int(code)

    def login(self, name, password=PASSWORD):
        self.get("/login")
        assert self.post("/login", name=name, password=password, next="") == 303
        return self.get("/")

    def open(self, service):
        """The port at the broker that leads to the service."""
        self.get("/")
        key = self.field("host")
        assert self.post("/open", host=key, service=service) == 303
        row = self.get("/").split(f"<h3>{service} <", 1)[1]
        return int(re.search(re.escape(BROKER) + r":(\d+)", row).group(1))


HOLD = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
s.settimeout(30)
s.sendall(b"echo\\nhello\\n")
print(s.recv(6, socket.MSG_WAITALL).decode(), end="", flush=True)
try:
    print("end" if s.recv(1) == b"" else "more", flush=True)
except ConnectionResetError:
    print("reset", flush=True)
"""


def hold(g, port):
    """A connection that echoed once and then stays open."""
    proc = g.programs.start(g.topo.client.ns, "hold", PYTHON, "-c", HOLD, BROKER, port)
    proc.wait_line("hello", 15)
    return proc


# ------------------------------------------------------------------------- the command

def test_accounts_are_made_listed_and_removed(site):
    g = site
    made = add(g, "anna", "echo,udp:53", "--code", "--expires", "30d", "--owner")
    assert made["services"] == "echo,dns" and made["code"] and made["owner"], made
    assert made["uri"].startswith(f"otpauth://totp/Postern:anna%40{HOST}?secret="), made
    left = (datetime.fromisoformat(made["expires"].replace("Z", "+00:00"))
            - datetime.now(timezone.utc))
    assert timedelta(days=29, hours=23) < left <= timedelta(days=30), made
    add(g, "bob@example.org", "all")
    done = access(g)
    assert [(e["name"], e["services"], e["code"], e["owner"]) for e in done.events] == \
        [("anna", "echo,dns", True, True), ("bob@example.org", "all", False, False)]
    assert "uri" not in done.events[0]
    assert access(g, "set", "bob@example.org", "--services", "7000").event("account") \
        ["services"] == "echo"
    assert access(g, "passwd", "anna", stdin=b"another password\n").status == 0
    assert access(g, "public", "7000").event("public")["service"] == "echo"
    assert access(g, "ls").event("public")["service"] == "echo"
    assert access(g, "private", "echo").event("private")["service"] == "echo"
    assert access(g, "remove", "anna").event("removed")["name"] == "anna"
    assert [e["name"] for e in access(g).events] == ["bob@example.org"]
    assert [(e["what"], e["object"]) for e in log(g)] == [
        ("account-added", "anna"), ("account-added", "bob@example.org"),
        ("account-changed", "bob@example.org"), ("account-changed", "anna"),
        ("public", "echo"), ("private", "echo"), ("account-removed", "anna")]
    newest = g.host.run("log", "--count", "1").events
    assert len(newest) == 1 and newest[0]["what"] == "account-removed", newest


def test_what_the_command_refuses(site):
    g = site
    add(g, "anna", "echo")
    word = PASSWORD.encode() + b"\n"
    says(access(g, "add", "Anna", "--services", "echo", stdin=word), 1, "already")
    says(access(g, "add", "carl", stdin=word), 2, "--services all")
    says(access(g, "add", "carl", "--services", "nope", stdin=word), 1, "'nope'")
    says(access(g, "add", "carl", "--services", ",", stdin=word), 2, "no service")
    says(access(g, "add", "ca rl", "--services", "all", stdin=word), 2, "cannot be")
    says(access(g, "add", "carl", "--services", "all", stdin=b"short\n"), 1, "8 char")
    says(access(g, "add", "carl", "--services", "all", stdin=b""), 1, "no password")
    says(access(g, "add", "carl", "--services", "all", stdin=b"x" * 300), 1, "longer")
    says(access(g, "add", "carl", "--services", "all", "--password-file", "/nonexistent"),
         1, "/nonexistent", "No such file")
    says(access(g, "passwd", "carl", stdin=word), 1, "no account 'carl'")
    says(access(g, "remove", "carl"), 1, "no account 'carl'")
    says(access(g, "set", "anna"), 2, "nothing to change")
    says(access(g, "public", "dns"), 1, "UDP")
    says(access(g, "public", "nope"), 1, "'nope'")
    says(access(g, "private", "echo"), 1, "'echo' is public")
    says(access(g, "remove", "anna", "--owner"), 2, "takes no --owner")
    says(access(g, "ls", "anna"), 2, "takes no name")
    says(access(g, "add"), 2, "needs the account")
    says(access(g, "fly", "anna"), 2, "cannot 'fly'")
    assert [e["name"] for e in access(g).events] == ["anna"]


TYPIST = """
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
seen, typed = b"", 0
words = [w.encode() + b"\\n" for w in os.environ["WORDS"].split("|")]
while True:
    try:
        data = os.read(fd, 4096)
    except OSError:
        break
    if not data:
        break
    seen += data
    while typed < len(words) and seen.count(b"Password: ") + seen.count(b"Again: ") > typed:
        os.write(fd, words[typed])
        typed += 1
sys.stdout.write(seen.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def typed(g, words, *args):
    return g.programs.run(g.topo.host.ns, "typist", PYTHON, "-c", TYPIST, postern(),
                          "access", *args, env={**g.host.env, "WORDS": words})


def test_the_password_is_asked_for_unseen(site, work):
    g = site
    done = typed(g, f"{PASSWORD}|{PASSWORD}", "add", "anna", "--services", "echo")
    assert done.status == 0 and "anna" in done.stdout, done.stdout
    assert PASSWORD not in done.stdout
    done = typed(g, f"{PASSWORD}|something else", "passwd", "anna")
    assert done.status == 1 and "not the same" in done.stdout, done.stdout
    done = typed(g, f"{PASSWORD}|{PASSWORD}", "set", "anna", "--code")
    assert done.status == 0 and "\u2588" in done.stdout, "a terminal gets the QR code"
    with open(f"{work}/word", "w", encoding="ascii") as f:
        f.write(f"{PASSWORD}\nnot this line\n")
    assert access(g, "add", "bob", "--services", "echo", "--password-file",
                  f"{work}/word").status == 0
    site_login = Browser(g, "bob")
    assert "echo" in site_login.login("bob")


# -------------------------------------------------------------------------- the streams

def test_an_account_reaches_its_services_and_no_others(site):
    g = site
    add(g, "anna", "echo,dead")
    anna = Browser(g, "anna")
    page = anna.login("anna")
    assert "TCP 7000" in page and "UDP 53" not in page
    assert "refuses connections" in page.split("TCP 7001", 1)[1], "dead is shown as down"
    assert "refuses connections" not in page.split("TCP 7001", 1)[0]
    proc = hold(g, anna.open("echo"))
    opened = log(g, what="opened")
    assert len(opened) == 1 and opened[0]["who"] == "anna", opened
    assert opened[0]["object"] == "echo" and opened[0]["from"], opened
    proc.kill()
    wait_until(lambda: log(g, what="closed"), 10, "the end is logged")
    assert re.search(r"\d+ bytes sent, \d+ received", log(g, what="closed")[0]["detail"])


@pytest.mark.parametrize("change", [("remove", "anna"), ("passwd", "anna"),
                                    ("set", "anna", "--services", "dead")])
def test_a_change_ends_what_the_account_has_open(site, change):
    g = site
    add(g, "anna", "echo")
    add(g, "bob", "echo")
    anna = Browser(g, "anna")
    anna.login("anna")
    proc = hold(g, anna.open("echo"))
    assert access(g, *change, stdin=b"another password\n").status == 0
    wait_until(lambda: not proc.running, 5, "the connection has ended")
    assert "reset" in proc.stdout or "end" in proc.stdout, proc.stdout
    assert "more" not in proc.stdout
    wait_until(lambda: log(g, what="closed"), 10, "the end is logged")
    assert "ended by the host" in log(g, what="closed")[0]["detail"]


def test_another_accounts_change_ends_nothing(site):
    g = site
    add(g, "anna", "echo")
    add(g, "bob", "echo")
    anna = Browser(g, "anna")
    anna.login("anna")
    port = anna.open("echo")
    proc = hold(g, port)
    mark = g.host_proc.mark()
    assert access(g, "remove", "bob").status == 0
    g.host_proc.wait_event("reloaded", 5, since=mark)
    assert hold(g, port).running and proc.running


def test_an_account_ends_by_itself(gate):
    """The host ends what it carries, and waits for no broker's word."""
    g = gate(host="masq", client="masq")
    g.start_broker("--domain", DOMAIN)
    g.host.set_clock(0)
    g.host.start_peer("tcp-server", 7000)
    g.start_host("echo=7000")
    add(g, "anna", "echo", "--expires", "1h")
    anna = Browser(g, "anna")
    anna.login("anna")
    proc = hold(g, anna.open("echo"))
    g.host.set_clock(3700)
    wait_until(lambda: not proc.running, 20, "the connection has ended")


def test_what_a_program_publishes_comes_and_goes(site):
    g = site
    proc = g.programs.start(g.topo.host.ns, "run", postern(), "run", "--json", "--yes",
                            "--", PYTHON, "-m", "http.server", "7100", env=g.host.env)
    name = g.host_proc.wait_event("published", 20, port=7100)["service"]
    add(g, "anna", "7100,echo")
    anna = Browser(g, "anna")
    assert "TCP 7100" in anna.login("anna")
    port = anna.open(name)
    done = anna.curl("-o", "/dev/null", "-w", "%{http_code}", f"http://{BROKER}:{port}/")
    assert done.stdout == "200", done.stderr
    proc.terminate()
    g.host_proc.wait_event("withdrawn", 10, service=name)
    wait_until(lambda: "TCP 7100" not in anna.get("/"), 5, "the portal's page follows")
    assert "TCP 7000" in anna.page


# ---------------------------------------------------------------------------- by name

@pytest.fixture
def named(site, work):
    """The site with a service that speaks TLS itself."""
    g = site
    g.programs.run(None, "openssl", "openssl", "req", "-x509", "-newkey", "rsa:2048",
                   "-nodes", "-subj", "/CN=the-service-itself", "-days", "2",
                   "-keyout", f"{work}/key.pem", "-out", f"{work}/cert.pem")
    g.programs.start(g.topo.host.ns, "s_server", "openssl", "s_server", "-accept", "8443",
                     "-cert", f"{work}/cert.pem", "-key", f"{work}/key.pem", "-www",
                     "-quiet")
    wait_until(lambda: listening(g.topo.host.ns, 8443), what="the TLS server")
    assert g.host.run("serve", "--reload", "echo=7000", "https=8443").status == 0
    return g


def by_name(g, service, *args):
    name = f"{service}--{HOST}.{DOMAIN}"
    return g.programs.run(g.topo.client.ns, "curl", "curl", "-ksSv", "--max-time", "10",
                          "--resolve", f"{name}:443:{BROKER}", *args, f"https://{name}/",
                          timeout=15)


def test_a_public_service_is_open_by_its_name(named):
    g = named
    add(g, "anna", "echo")
    assert by_name(g, "https").status != 0
    said = access(g, "public", "https", json=False)
    assert said.status == 0 and "by its name in TLS; where it speaks none itself, see serve --tls" in said.stdout, said.stdout
    done = by_name(g, "https")
    assert done.status == 0, done.stderr
    assert "CN=the-service-itself" in done.stderr, "the service's own TLS, unopened"
    opened = log(g, what="opened")
    assert opened[-1]["who"] is None and opened[-1]["object"] == "https", opened
    assert access(g, "private", "https").status == 0
    assert by_name(g, "https").status != 0


# -------------------------------------------------------------------------------- owner

def test_an_owner_invites_and_revokes(site):
    g = site
    add(g, "anna", "echo", "--owner")
    anna = Browser(g, "anna")
    anna.login("anna")
    key = anna.field("host")
    anna.get(f"/host/{key}")
    assert anna.post(f"/host/{key}/invite", services="echo", expires="3600") == 200
    link = re.search(r"postern://[^\s\"<]+/i/[a-z0-9]+", anna.page).group(0)
    assert g.client.run("join", "--name", "phone", link).status == 0
    assert "phone" in anna.get(f"/host/{key}")
    device = g.host.run("ls", "--devices").events[0]
    assert device["services"] == "echo", device
    proc = g.connect("echo")
    assert anna.post(f"/host/{key}/revoke", device=device["key"]) == 200
    assert not g.host.run("ls", "--devices").events
    says(g.client.run("nc", HOST, "echo", json=False, stdin=b"x"), 1, "removed")
    proc.terminate()
    said = [(e["what"], e["who"], e["object"]) for e in log(g)
            if e["what"] in ("invite", "joined", "revoked")]
    assert said == [("invite", "anna", "echo"), ("joined", "phone", None),
                    ("revoked", "anna", "phone")], said


def test_nobody_else_is_an_owner(site):
    g = site
    add(g, "anna", "echo")
    anna = Browser(g, "anna")
    anna.login("anna")
    key = anna.field("host")
    anna.get(f"/host/{key}")
    assert "Invite" not in anna.page


# ------------------------------------------------------------- TLS that the host ends

PAGE = 3_000_000
WEB = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):   # HTTP/1.0: the end is the connection's
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(b"x" * int(sys.argv[2]))
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("", int(sys.argv[1])), H).serve_forever()
"""
MAKE = ("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-subj /CN={cn} -keyout {key} -out {cert} 2>/dev/null")


def certificate(g, cn, name):
    cert, key = f"{g.work}/{name}.crt", f"{g.work}/{name}.key"
    done = g.programs.run(None, "openssl", "sh", "-c",
                          MAKE.format(cn=cn, key=key, cert=cert))
    assert done.status == 0, done.stderr
    return f"{cert},{key}"


@pytest.fixture
def plain(site):
    """The site with a plain web server."""
    g = site
    g.programs.start(g.topo.host.ns, "web", PYTHON, "-c", WEB, 8080, PAGE)
    wait_until(lambda: listening(g.topo.host.ns, 8080), what="the web server")
    assert g.host.run("serve", "--reload", "echo=7000", "web=8080").status == 0
    return g


def fetch(g, service, *args):
    """(bytes of the page, the certificate's subject)."""
    done = by_name(g, service, "-o", "/dev/null", "-w", "%{size_download}\n", *args)
    assert done.status == 0, done.stderr
    subject = re.search(r"subject: ?(.*)", done.stderr)
    return int(done.stdout), subject.group(1).strip() if subject else ""


def test_the_host_ends_tls_for_a_plain_service(plain):
    g = plain
    first = certificate(g, "first", "first")
    assert g.host.run("serve", "--reload", "--tls", f"web={first}").status == 0
    assert access(g, "public", "web").status == 0
    assert fetch(g, "web") == (PAGE, "CN=first")
    # a slow reader: the end of the page is told from a broken connection all the same
    assert fetch(g, "web", "--limit-rate", "2M") == (PAGE, "CN=first")
    assert fetch(g, "web", "--tls-max", "1.2") == (PAGE, "CN=first")
    # what is renewed is taken up by a reload, and a broken file changes nothing
    certificate(g, "second", "first")
    assert g.host.run("serve", "--reload").status == 0
    assert fetch(g, "web") == (PAGE, "CN=second")
    with open(first.split(",", maxsplit=1)[0], "w", encoding="ascii") as f:
        f.write("no certificate\n")
    says(g.host.run("serve", "--reload"), 1, "certificate of web")
    assert fetch(g, "web") == (PAGE, "CN=second")


def test_tls_is_remembered_and_only_by_name(plain):
    g = plain
    pair = certificate(g, "kept", "kept")
    assert g.host.run("serve", "--reload", "--tls", f"web={pair}").status == 0
    assert access(g, "public", "web").status == 0
    g.host_proc.terminate()
    g.host_proc = g.host.start("serve")
    g.host_proc.wait_event("ready", 20)
    wait_until(lambda: by_name(g, "web").status == 0, 10, "the host is back")
    assert fetch(g, "web") == (PAGE, "CN=kept")
    g.join()
    proc = g.connect("web")   # a device gets the service itself
    done = g.programs.run(g.topo.client.ns, "curl", "curl", "-sS", "-o", "/dev/null", "-w",
                          "%{size_download}", f"http://127.0.0.1:{proc.port}/")
    assert done.stdout == str(PAGE), done.stderr


def test_a_command_gets_the_certificate(plain):
    g = plain
    command = (f"echo \"$POSTERN_SERVICE $POSTERN_NAME\" > {g.work}/said; "
               + MAKE.format(cn="by-command", key='"$POSTERN_KEY"', cert='"$POSTERN_CERT"'))
    done = g.host.run("serve", "--reload", "--tls", "web", "--tls-command", command)
    assert done.status == 0, done.stderr
    assert access(g, "public", "web").status == 0
    wait_until(lambda: by_name(g, "web").status == 0, 15, "the certificate is there")
    assert fetch(g, "web") == (PAGE, "CN=by-command")
    with open(f"{g.work}/said", encoding="ascii") as f:
        assert f.read() == f"web web--{HOST}.{BROKER}\n"


def test_a_command_that_fails(plain):
    g = plain
    done = g.host.run("serve", "--reload", "--tls", "web", "--tls-command", "exit 3")
    assert done.status == 0, done.stderr
    g.host_proc.wait_line("ended with status 3", 10, "err")
    assert access(g, "public", "web").status == 0
    assert by_name(g, "web").status != 0
    wait_until(lambda: log(g, what="refused"), 5, "the refusal is logged")
    assert "no certificate" in log(g, what="refused")[-1]["detail"]


def test_what_tls_refuses(plain):
    g = plain
    pair = certificate(g, "a", "a")

    def reload(*args):
        return g.host.run("serve", "--reload", *args)
    says(reload("--tls", f"nope={pair}"), 1, "'nope'")
    says(reload("--tls", "web=/nonexistent"), 1, "/nonexistent")
    says(reload("--tls", "web="), 2, "no name")
    says(reload("--tls", "web"), 2, "where the certificate comes from")
    says(reload("--tls-command", "true"), 2, "for no service")
    other = certificate(g, "b", "b")
    mixed = pair.split(",", maxsplit=1)[0] + "," + other.split(",")[1]
    says(reload("--tls", f"web={mixed}"), 1, "certificate of web")
    assert reload("--tls", f"web={pair}").status == 0
    assert reload("--tls", "none").status == 0
