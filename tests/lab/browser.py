"""A browser for the portal's tests: unmodified curl in a machine, with a cookie jar.

Knows HTTP, the portal's address, and where its pages keep what a person reads and
clicks; knows nothing else of Postern. Site is a deployment with a portal: a Gate, and
accounts on its hosts.
"""

import base64
import hashlib
import hmac
import html
import json
import os
import re
import struct
import sys
import time
from dataclasses import dataclass
from urllib.parse import urlencode

from .actors import PEER, Actor, postern
from .net import wait_until
from .servers import listening
from .topology import BROKER, BROKER6

DOMAIN = "meet.test"
PASSWORD = "correct horse"


@dataclass
class Service:
    """One service as the home page shows it."""

    name: str
    host: str
    up: bool
    why: str        # why it is down, or ""
    address: str    # where its port is open, or ""
    url: str        # of its name, or ""
    connections: int
    notes: str      # why its port or its name is not as usual, or ""

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])


class Page:
    """One answer: status, headers by their small name, body."""

    def __init__(self, status, head, body):
        self.status, self.body = status, body
        self.headers = {}
        self.cookies = []
        for line in head.splitlines()[1:]:
            name, colon, value = line.partition(":")
            if colon:
                self.headers[name.strip().lower()] = value.strip()
            if name.lower() == "set-cookie":
                self.cookies.append(value.strip())

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    @property
    def csrf(self):
        found = re.search(r'name="csrf" value="([^"]*)"', self.text)
        return found.group(1) if found else ""

    @property
    def problem(self):
        found = re.search(r'<p class="problem"[^>]*>(.*?)</p>', self.text, re.S)
        return html.unescape(found.group(1)) if found else ""

    @property
    def step(self):
        found = re.search(r'name="step" value="([^"]*)"', self.text)
        return found.group(1) if found else ""

    def hosts(self):
        """Key of each host that the page has a form or a link for, by its name."""
        found = re.findall(r'<h2>([^<]*)</h2>(.*?)(?=<h2>|</main>)', self.text, re.S)
        keys = {}
        for name, rest in found:
            key = re.search(r'(?:name="host" value="|href="/host/)([^"]*)"', rest)
            if key:
                keys[html.unescape(name)] = key.group(1)
        return keys

    def services(self):
        items = re.findall(r'<li class="service">(.*?)</li>', self.text, re.S)
        return [_service(item) for item in items]

    def service(self, name, host="home"):
        found = [s for s in self.services() if s.name == name and s.host == host]
        assert len(found) == 1, f"{name} on {host} is not on the page:\n{self.text}"
        return found[0]

    def rows(self, kind):
        """The table of that class, as lists of texts."""
        table = re.search(rf'<table[^>]*class="{kind}".*?</table>', self.text, re.S)
        if not table:
            return []
        body = table.group(0).split("<tbody", 1)[1]
        return [[html.unescape(re.sub(r"<[^>]*>", "", cell)).strip()
                 for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)]
                for row in re.findall(r"<tr.*?</tr>", body, re.S)]


def _service(item):
    def find(pattern):
        found = re.search(pattern, item, re.S)
        return html.unescape(found.group(1)) if found else ""
    return Service(name=find(r"<h3>(.*?) <span"), host=find(r'class="on">on (.*?)</span>'),
                   up=bool(re.search(r'class="state up"', item)),
                   why=find(r'class="why">(.*?)</p>'),
                   address=find(r"<dt>Address</dt><dd>.*?<code>(.*?)</code>"),
                   url=find(r'href="(https:[^"]*)"'),
                   connections=int(find(r"<dd>(\d+) connection") or 0),
                   notes=html.unescape(" ".join(re.findall(r'class="note">(.*?)</p>', item,
                                                           re.S))))


class Browser:
    """One person's browser on one machine."""

    def __init__(self, programs, ns, work, name, cacert, broker):
        self.programs, self.ns, self.name, self.cacert = programs, ns, name, cacert
        self.stem = os.path.join(work, f"browser-{name}")
        self.jar = self.stem + ".jar"
        self.csrf = ""
        self.broker = broker
        self.root = f"https://[{broker}]" if ":" in broker else f"https://{broker}"

    def curl(self, *args, timeout=20.0):
        return self.programs.run(self.ns, f"curl-{self.name}", "curl", "-sS", "--max-time",
                                 int(timeout), *args, timeout=timeout + 5)

    def fetch(self, path, *args, timeout=20.0):
        """One request to the portal; it must be answered."""
        head, body = self.stem + ".head", self.stem + ".body"
        for old in (head, body):
            if os.path.exists(old):
                os.remove(old)
        done = self.curl("--cacert", self.cacert, "-b", self.jar, "-c", self.jar, "-D", head,
                         "-o", body, "-w", "%{http_code}", *args, self.root + path,
                         timeout=timeout)
        assert done.status == 0, f"{self.name}: {path}: {done.stderr}"
        page = Page(int(done.stdout), _read(head).decode("latin-1"), _read(body))
        if page.csrf:
            self.csrf = page.csrf
        return page

    def get(self, path="/", *args):
        return self.fetch(path, *args)

    def post(self, path, *args, **fields):
        """A form; the csrf field is that of the last page unless given."""
        fields.setdefault("csrf", self.csrf)
        return self.fetch(path, "--data-raw", urlencode(fields), *args)

    def login(self, name, password=PASSWORD, code=None, **more):
        self.get("/login")
        page = self.post("/login", name=name, password=password, **more)
        if code is not None:
            assert page.status == 200 and page.step, page.text
            page = self.post("/login", name=name, step=page.step, code=code)
        return page

    def logged_in(self, name, *more, **kw):
        """Logs in, which must succeed; returns the home page."""
        page = self.login(name, *more, **kw)
        assert page.status == 303 and page.headers["location"] == "/", page.text
        return self.get("/")

    def logout(self):
        page = self.post("/logout")
        assert page.status == 303, page.text
        return page

    def is_in(self):
        return self.get("/").status == 200

    def open(self, service, host="home"):
        """Opens a service by port; returns it as the page then shows it."""
        page = self.get("/")
        done = self.post("/open", host=page.hosts()[host], service=service)
        assert done.status == 303, done.text
        return self.get("/").service(service, host)

    def close(self, service, host="home"):
        done = self.post("/close", host=self.get("/").hosts()[host], service=service)
        assert done.status == 303, done.text

    def wait_service(self, name, timeout=15.0, host="home", **want):
        """Loads the page until it shows the service so, as a person would."""
        def check():
            shown = [s for s in self.get("/").services()
                     if s.name == name and s.host == host]
            return (shown and all(getattr(shown[0], k) == v for k, v in want.items())
                    and shown[0])
        return wait_until(check, timeout, f"{name} shown with {want}")

    def wait_gone(self, name, timeout=15.0, host="home"):
        wait_until(lambda: not [s for s in self.get("/").services()
                                if s.name == name and s.host == host],
                   timeout, f"{name} not shown any more")

    def by_name(self, service, path="/", *args, host="home", **more):
        """A request to a service by its name, which resolves to the broker."""
        name = f"{service}--{host}.{DOMAIN}"
        return self.curl("--resolve", f"{name}:443:{self.broker}", *args,
                         f"https://{name}{path}", **more)

    def peer(self, verb, *args, **more):
        return self.programs.run(self.ns, f"peer-{verb}", *PEER, verb, *args, **more)

    def start_peer(self, verb, *args, **more):
        return self.programs.start(self.ns, f"peer-{verb}", *PEER, verb, *args, **more)


def _read(path):
    if not os.path.exists(path):
        return b""
    with open(path, "rb") as f:
        return f.read()


def totp(secret, at=None):
    """RFC 6238 with SHA-1, 30 s and 6 digits; `secret` is base32, as in a QR code."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    counter = struct.pack(">Q", int(time.time() if at is None else at) // 30)
    mac = hmac.new(key, counter, hashlib.sha1).digest()
    place = mac[-1] & 15
    number = struct.unpack(">I", mac[place:place + 4])[0] & 0x7fffffff
    return f"{number % 1000000:06d}"


class Site:
    """A Gate with a portal."""

    def __init__(self, gate, work):
        self.gate, self.work = gate, work
        self.topo, self.programs = gate.topo, gate.programs
        self.address = BROKER if gate.topo.ipv4 else BROKER6

    def start_broker(self, *args):
        return self.gate.start_broker("--domain", DOMAIN, *args)

    def browser(self, name, ns=None):
        """A new browser, on the client's machine unless told otherwise."""
        return Browser(self.programs, ns or self.topo.client.ns, self.work, name,
                       os.path.join(self.gate.broker.state, "portal-cert.pem"),
                       self.address)

    def host(self, name, machine):
        """One more host, on that machine, which `serve` is to be started for."""
        return Actor(self.programs, machine.ns, os.path.join(self.work, name))

    def serve(self, actor, name, *services):
        proc = actor.start("serve", "--broker", self.gate.link, "--name", name, *services)
        proc.wait_event("ready", 20)
        return proc

    def run_under(self, *options):
        """What to put before a program of the host's machine that shall be published."""
        return ("env", f"POSTERN_STATE={self.gate.host.state}", postern(), "run", "--yes",
                *options, "--")

    def access(self, *args, host=None, password=None):
        """`postern access` on a host; returns its events."""
        stdin = None if password is None else (password + "\n").encode()
        done = (host or self.gate.host).run("access", *args, stdin=stdin)
        assert done.status == 0, done.stderr
        return done.events

    def add(self, name, services="all", *args, host=None, password=PASSWORD):
        """A new account; returns what the command says of it."""
        return self.access("add", name, "--services", services, *args, host=host,
                           password=password)

    def log(self, actor, **fields):
        """Entries of an audit log with these fields; a field's value may be a part."""
        done = actor.run("log", "--count", "1000")
        assert done.status == 0, done.stderr
        return [e for e in done.events
                if all(v in (e.get(k) or "") for k, v in fields.items())]

    def wait_log(self, actor, timeout=10.0, **fields):
        return wait_until(lambda: self.log(actor, **fields), timeout,
                          f"log of {actor.state}: {fields}")

    def listens(self, port, udp=False):
        """Whether the broker's machine has anything on that port."""
        return listening(self.topo.broker, port, udp)

    def knock(self, ns, port):
        """What comes of a connection from that machine to the broker's port: an answer to
        a line, "refused", or "timeout"."""
        done = self.programs.run(ns, "try", sys.executable, "-c", _TRY, self.address,
                                 port)
        return json.loads(done.stdout)


_TRY = """
import json, socket, sys
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
    s.settimeout(5)
    s.sendall(b"HOLD\\n")
    print(json.dumps(s.recv(100).decode()))
except TimeoutError:
    print('"timeout"')
except OSError:
    print('"refused"')
"""
