"""The portal's accounts: logins, codes, delays, what each may use, forms, owners."""

import os
import re
import sys
import time
from types import SimpleNamespace

import pytest

from .actors import BROKER_PORT
from .browser import PASSWORD, totp
from .net import patience, wait_until
from .topology import BROKER

pytestmark = [pytest.mark.postern, pytest.mark.needs("curl")]


@pytest.fixture
def site(portal):
    """Broker with a portal, host with two services, of which only data is there."""
    s = portal()
    s.gate.host.start_peer("tcp-server", 7000)
    s.gate.start_host("data=7000", "more=7010")
    return s


def anna_holds(site, *add_args):
    """anna, logged in, with a connection that the server has answered."""
    site.add("anna", "all", *add_args)
    anna = site.browser("anna")
    anna.logged_in("anna")
    anna.open("data")
    connection = anna.start_peer("hold", BROKER, 7000, 1)
    connection.wait_line("held 1")
    return anna, connection


# --------------------------------------------------------------------------- logging in

def test_wrong_names_and_passwords(site):
    site.add("anna")
    browser = site.browser("anna")
    wrong = browser.login("anna", "wrong")
    unknown = browser.login("nobody", PASSWORD)
    assert wrong.status == unknown.status == 403
    assert wrong.problem == unknown.problem != ""   # which names exist stays unsaid
    assert not wrong.cookies and not browser.is_in()
    site.wait_log(site.gate.broker, what="refused", who="anna", object="login")
    assert browser.login("anna@attic").status == 403   # not that host's
    browser.logged_in("anna@home")
    site.wait_log(site.gate.broker, what="login", who="anna", object="home")
    for what in ("refused", "login"):   # the host was told
        site.wait_log(site.gate.host, what=what, who="anna", detail="at the portal")


def test_a_host_that_was_away_is_told_of_logins(site):
    """While its list still lets its people in."""
    site.add("anna")
    g, browser = site.gate, site.browser("anna")
    assert g.host_proc.terminate() == 0
    assert browser.login("anna", "wrong").status == 403
    browser.logged_in("anna")
    g.start_host("data=7000", "more=7010")
    for what in ("refused", "login"):
        site.wait_log(g.host, what=what, who="anna")
        entry = [e for e in g.host.run("log").events if e["what"] == what][-1]
        assert re.fullmatch(r"at the portal, \d+ s before, while this host was away", entry["detail"]), entry


def test_the_case_of_a_name_is_none(site):
    """As where accounts are made; and failures count for one account, however it is written."""
    site.add("Anna")
    done = site.browser("anna")
    done.logged_in("aNNa@HOME")
    assert done.get("/").services()
    site.browser("other").logged_in("anna")
    assert site.browser("third").login("ANNA", "wrong").status == 403
    site.wait_log(site.gate.host, what="login", who="Anna", detail="at the portal")


def test_an_account_may_be_called_like_an_address(site):
    """What stands behind the @ may be a host, or part of the account's name."""
    for name in ("mail@x.org", "anna@home", "berta"):
        site.add(name)
    site.add("anna", password="of anna alone")
    for i, name in enumerate(["mail@x.org", "Mail@X.org", "mail@x.org@home", "anna@home",
                              "anna@home@home"]):
        site.browser(f"whole{i}").logged_in(name)
    page = site.browser("cut").login("anna@home", "of anna alone")   # both are meant
    assert page.status == 303
    assert site.browser("x").login("mail@x.org", "wrong").status == 403


def test_failures_wait_ever_longer(site):
    site.add("anna")
    site.add("berta")
    bad = site.browser("bad", site.topo.stranger)

    def fail(name):
        """Tries until the answer is 403 again; returns the longest wait it was told."""
        waits = []

        def tried():
            page = bad.login(name, "wrong")
            if page.status == 429:
                waits.append(int(page.headers["retry-after"]))
            return page.status == 403
        wait_until(tried, 20, "a try that is looked at")
        return max(waits, default=0)
    first = [fail("anna") for _ in range(4)]   # three are free: none after them waits
    assert first == [0, 0, 0, 0], first
    later = [fail("anna") for _ in range(2)]
    assert 1 <= later[0] < later[1], later
    # It holds for the address with another account, and at another address for nobody.
    assert bad.login("berta").status == 429
    site.browser("berta").logged_in("berta")
    site.browser("anna").logged_in("anna")
    wait_until(lambda: bad.login("anna").status == 303, 20, "the address may again")
    assert bad.login("anna", "wrong").status == 403   # after success it is free again


# Wrong passwords for one name, six a second, each from an address that was not seen yet.
GUESSERS = """
import http.client, re, ssl, sys, threading, time
from urllib.parse import urlencode
c = ssl.create_default_context(); c.check_hostname = False; c.verify_mode = ssl.CERT_NONE
seen, lock = {}, threading.Lock()
def guess(n):
    try:
        source = f"198.19.{n // 250 % 250}.{1 + n % 250}"
        h = http.client.HTTPSConnection(sys.argv[1], 443, timeout=40, context=c,
                                        source_address=(source, 0))
        h.request("GET", "/login")
        token = re.search(r'name="csrf" value="([^"]*)"', h.getresponse().read().decode())
        h.request("POST", "/login", urlencode(
            {"csrf": token.group(1), "name": sys.argv[2], "password": "wrong"}),
            {"Content-Type": "application/x-www-form-urlencoded"})
        what = h.getresponse().status
    except Exception as e: what = type(e).__name__
    with lock: seen[what] = seen.get(what, 0) + 1
for n in range(10000):
    threading.Thread(target=guess, args=(n,), daemon=True).start()
    time.sleep(1 / 6)
    if n == 60: print("going on", flush=True)
    if n % 60 == 59: print("seen", seen, flush=True)
"""


def test_guesses_from_everywhere_keep_no_owner_out(site):
    """Who logged in before is judged by his own count; who did not gets his turn."""
    site.add("anna")
    event = site.add("cody", "all", "--code")[0]
    secret = re.search(r"secret=([A-Z2-7]+)", event["uri"]).group(1)
    known, near = site.browser("known"), site.browser("near", site.topo.service.ns)
    for owner in (known, near):
        owner.logged_in("anna")
        owner.logout()
    os.remove(near.jar)
    site.topo.stranger.run("ip", "route", "replace", "local", "198.19.0.0/16", "dev", "lo")
    site.topo.inet.run("ip", "route", "replace", "198.19.0.0/16", "via", "198.18.9.2")
    guessers = [site.programs.start(site.topo.stranger, "guessers", sys.executable, "-c",
                                    GUESSERS, BROKER, name) for name in ("anna", "cody")]
    for proc in guessers:
        proc.wait_line("going on", 40)
    took = {}

    def login(what, browser, name="anna", **more):
        begin = time.monotonic()
        assert browser.login(name, **more).status == 303, what
        took[what] = round(time.monotonic() - begin, 2)
    login("address", near)   # that is known, the browser is not any more
    for i in range(4):    # and wrong ones of his own count for him alone
        assert known.login("anna", "wrong").status == 403, i
    assert known.login("anna").status == 429
    new = site.browser("new", site.topo.host.ns)
    login("new", new)
    login("code", site.browser("coded", site.topo.host.ns), "cody",
          code=totp(secret, time.time()))
    wait_until(lambda: known.login("anna").status == 303, 10, "the browser may again")
    known.get("/")
    known.logout()
    login("browser", known)
    print(took)
    assert took["browser"] < 2 * patience() and took["address"] < 2 * patience(), took
    assert took["new"] < 13 * patience() and took["code"] < 13 * patience(), took   # a turn comes each 10 s


def test_a_browser_is_known_to_a_broker_that_began_anew(site):
    """By its cookie alone, at an address from which nobody has logged in, during guesses."""
    for name in ("anna", "berta"):
        site.add(name)
    first = site.browser("known")
    first.logged_in("anna")
    first.logout()
    site.gate.broker_proc.terminate()
    assert site.gate.broker_proc.wait(10) == 0
    site.start_broker()
    berta = site.browser("berta")
    wait_until(lambda: berta.login("berta").status == 303, 20, "the host's list")
    site.topo.stranger.run("ip", "route", "replace", "local", "198.19.0.0/16", "dev", "lo")
    site.topo.inet.run("ip", "route", "replace", "198.19.0.0/16", "via", "198.18.9.2")
    proc = site.programs.start(site.topo.stranger, "guessers", sys.executable, "-c", GUESSERS,
                               BROKER, "anna")
    proc.wait_line("going on", 40)
    moved = site.browser("known", site.topo.service.ns)    # the same cookies
    begin = time.monotonic()
    for i in range(4):      # its failures are the browser's, not its address's
        assert moved.login("anna", "wrong").status == 403, i
    took = time.monotonic() - begin
    assert site.browser("other", site.topo.service.ns).login("berta").status == 303
    wait_until(lambda: moved.login("anna").status == 303, 10, "the browser may again")
    print(f"{took:.2f} s")
    assert took < 8 * patience()


# The same from 60 /24 of one /16, each again when it was answered; after a while somebody of that
# /16 comes who knows the password, from a /24 of his own.
NEIGHBOURS = GUESSERS.split("for n in range(10000)")[0].replace("def guess(n):", "def guess(source, password):").replace(
    """        source = f"198.19.{n // 250 % 250}.{1 + n % 250}"\n""", "").replace('"wrong"', "password") + """
    return what
def guesser(n):
    for i in range(1, 250): guess(f"198.19.{100 + n}.{i}", "wrong"); time.sleep(.5)
for n in range(60): threading.Thread(target=guesser, args=(n,), daemon=True).start()
time.sleep(float(sys.argv[4]))
begin = time.monotonic()
what = guess("198.19.251.6", sys.argv[3])
print("owner", what, round(time.monotonic() - begin, 1), seen, flush=True)
"""


def test_guesses_from_the_owners_own_16_keep_him_out_no_more(site):
    """60 /24 of it had their first turns, and he none."""
    site.add("anna")
    site.topo.stranger.run("ip", "route", "replace", "local", "198.19.0.0/16", "dev", "lo")
    site.topo.inet.run("ip", "route", "replace", "198.19.0.0/16", "via", "198.18.9.2")
    done = site.programs.run(site.topo.stranger, "neighbours", sys.executable, "-c", NEIGHBOURS,
                             BROKER, "anna", PASSWORD, 40, timeout=110)
    print(done.stdout)
    _, status, took, *_ = done.stdout.split()
    assert status == "303" and float(took) < 10, done.stdout + done.stderr


def test_a_success_elsewhere_forgets_no_failure(site):
    """Who has an account of the same name on another host cannot guess the faster."""
    other = site.host("attic", site.topo.service)
    site.serve(other, "attic", "data=7000")
    site.add("anna")
    site.add("anna", host=other, password="of the attic")
    seen = []
    for i in range(8):
        bad = site.browser(f"bad{i}", site.topo.stranger)
        seen.append(bad.login("anna@home", "wrong").status)
        if seen[-1] == 429:
            break
        assert bad.login("anna@attic", "of the attic").status == 303
    assert seen[:4] == [403] * 4 and seen[-1] == 429, seen


def test_hosts_with_accounts_of_that_name_keep_no_owner_out(portal):
    """Strangers' hosts, here first and called alike, that list an account of his name."""
    site = portal(start=False)
    site.start_broker()
    site.gate.host.start_peer("tcp-server", 7000)
    site.gate.start_host("data=7000")
    site.add("anna")
    known = site.browser("known")
    known.logged_in("anna")
    known.logout()
    site.gate.host_proc.terminate()
    site.gate.broker_proc.terminate()
    assert site.gate.host_proc.wait(10) == 0 and site.gate.broker_proc.wait(10) == 0
    site.start_broker()
    stranger = SimpleNamespace(ns=site.topo.stranger)
    hostile = [site.host(f"hostile{i}", stranger) for i in range(10)]
    procs = [site.serve(host, "home", "data=7000") for host in hostile]
    for host in hostile:
        site.add("anna", host=host, password="of somebody else")
    for proc in procs[:5]:   # that some have left changes nothing
        proc.terminate()
        assert proc.wait(10) == 0
    site.gate.start_host("data=7000")
    took = {}

    def login(what, name, browser):
        begin = time.monotonic()
        assert browser.login(name).status == 303, (what, took)
        took[what] = round(time.monotonic() - begin, 2)
        assert browser.get("/").service("data").up, what
    wait_until(lambda: known.login("anna").status == 303, 20, "the last host's list")
    known.get("/")
    known.logout()
    for i, machine in enumerate((site.topo.service.ns, site.topo.host.ns)):
        login(f"new {i}", "anna", site.browser(f"new{i}", machine))
        login(f"at home {i}", "anna@home", site.browser(f"athome{i}", machine))
    login("known", "anna", known)
    print(took)
    assert took["known"] < 2 * patience() and took["new 0"] < 13 * patience(), took
    key = known.get("/").hosts()["home"]
    login("by key", f"anna@{key[:16]}", site.browser("by key", site.topo.service.ns))
    assert site.browser("capitals", site.topo.service.ns).login(
        f"anna@{key.upper()}").status == 303
    # What names nobody is answered at once, whatever failed at the hosts that came first.
    for i, name in enumerate((f"anna@{key[:15]}", f"anna@{key[1:]}", "anna@attic")):
        short = site.browser(f"short{i}", site.topo.host.ns).login(name)
        assert short.status == 403, (name, short.problem)


def test_one_time_code(site):
    event = site.add("anna", "all", "--code")[0]
    secret = re.search(r"secret=([A-Z2-7]+)", event["uri"]).group(1)
    now = time.time()
    anna = site.browser("anna")
    page = anna.login("anna")
    assert page.status == 200 and page.step and not page.cookies, page.text
    assert anna.get("/").status == 303   # the password alone is not enough
    anna.get("/login")
    wrong = anna.post("/login", name="anna", step=page.step, code="000000")
    assert wrong.status == 403 and wrong.step == page.step
    used = totp(secret, now)
    done = anna.post("/login", name="anna", step=page.step, code=used)
    assert done.status == 303 and anna.is_in()
    again = site.browser("again").login("anna", code=used)
    assert again.status == 403 and "used" in again.problem, again.text
    site.browser("later").login("anna", code=totp(secret, now + 30))
    assert site.browser("forged").post("/login", step="a" * 52, code=used).status == 403
    site.wait_log(site.gate.broker, what="refused", who="anna", detail="code")


def test_a_changed_password_ends_what_is_open(site):
    anna, connection = anna_holds(site)
    site.access("passwd", "anna", password="another one")
    connection.wait_line("all ended", 5)
    assert not anna.get("/").services()
    assert site.knock(anna.ns, 7000) == "refused"
    assert anna.login("anna", PASSWORD).status == 403
    anna.login("anna", "another one")
    assert len(anna.get("/").services()) == 2


def test_a_removed_account_loses_all_at_once(site):
    anna, connection = anna_holds(site)
    site.access("remove", "anna")
    connection.wait_line("all ended", 5)
    assert site.knock(anna.ns, 7000) == "refused"
    assert not anna.get("/").services()
    assert anna.login("anna").status == 403
    site.wait_log(site.gate.host, what="closed", who="anna", object="data")


def test_an_account_expires(portal):
    site = portal(start=False)
    both = site.gate.broker, site.gate.host
    for who in both:
        who.set_clock(0)
    site.start_broker()
    site.gate.host.start_peer("tcp-server", 7000)
    site.gate.start_host("data=7000")
    anna, connection = anna_holds(site, "--expires", "1h")
    for who in both:
        who.set_clock(3000)
    assert anna.get("/").services() and connection.running
    for who in both:
        who.set_clock(3700)
    connection.wait_line("all ended", 25)
    wait_until(lambda: not site.listens(7000), 10, "its port is closed")
    assert not anna.get("/").services()
    late = site.browser("late")
    told = late.login("anna")
    assert told.status == 403 and "This account has expired" in told.problem
    assert "expired" not in late.login("anna", "wrong").problem   # only who knows the password is told
    site.add("berta")   # the list is sent again
    wait_until(lambda: site.browser("berta").login("berta").status == 303, 10, "it has come")
    told = site.browser("later", site.topo.client.ns).login("anna")
    assert told.status == 403 and "This account has expired" in told.problem
    assert "anna  may use: all  expired at " in site.gate.host.run("access", json=False).stdout


def test_logins_end_by_time(portal):
    s = portal("--login", "8s")
    s.gate.host.start_peer("tcp-server", 7000)
    s.gate.start_host("data=7000")
    begin = time.monotonic()
    anna, connection = anna_holds(s)
    connection.wait_line("all ended", 25)
    assert time.monotonic() - begin >= 8
    assert not anna.is_in() and not s.listens(7000)
    s.wait_log(s.gate.broker, what="logout", who="anna", detail="time is over")


# ------------------------------------------------------------------- what each may use

def test_only_the_services_of_the_account(site):
    site.add("anna")
    site.add("berta", "more")
    berta = site.browser("berta")
    page = berta.logged_in("berta")
    assert [s.name for s in page.services()] == ["more"]
    assert "data" not in page.text
    key = page.hosts()["home"]
    for service in ("data", "none", "7000", ""):
        assert berta.post("/open", host=key, service=service).status == 404, service
    for host in ("", "home", "a" * 52):
        assert berta.post("/open", host=host, service="more").status == 404, host
    assert not site.listens(7000)
    assert berta.post("/open", host=key, service="more").status == 303
    assert berta.post("/close", host=key, service="data").status == 303   # was not open
    # A service is taken from an account: what it has open ends.
    site.access("set", "anna", "--services", "more")
    anna = site.browser("anna")
    assert [s.name for s in anna.logged_in("anna").services()] == ["more"]
    site.access("set", "berta", "--services", "data")
    assert [s.name for s in berta.get("/").services()] == ["data"]
    assert not site.listens(7010)


def test_same_name_on_two_hosts(site):
    """One password opens both; another password on one opens that one alone."""
    other = site.host("attic", site.topo.service)
    site.serve(other, "attic", "data=7000")
    site.add("anna")
    site.add("anna", host=other)
    anna = site.browser("anna")
    page = anna.logged_in("anna")
    assert sorted(page.hosts()) == ["attic", "home"]
    site.access("passwd", "anna", host=other, password="another one")
    assert list(anna.get("/").hosts()) == ["home"]


# ---------------------------------------------------------------------- HTTP and forms

def test_cookies_and_headers(site):
    site.add("anna")
    anna = site.browser("anna")
    page = anna.get("/login")
    wants = {"content-security-policy": "default-src 'none'", "x-frame-options": "DENY",
             "x-content-type-options": "nosniff", "referrer-policy": "same-origin",
             "cache-control": "no-store", "content-type": "text/html"}
    done = anna.login("anna")
    for answer in (page, done, anna.get("/"), anna.get("/nothing")):
        for name, value in wants.items():
            assert value in answer.headers.get(name, ""), (answer.status, name)
    assert len(done.cookies) == 2
    for cookie, start in zip(done.cookies, ("__Host-postern=", "__Host-device-")):
        name, *flags = [part.strip() for part in cookie.split(";")]
        assert name.startswith(start) and len(name) > 60
        assert {"Path=/", "Secure", "HttpOnly", "SameSite=Strict"} <= set(flags), flags
    gone = anna.logout().cookies[0]
    assert "Max-Age=0" in gone and gone.startswith("__Host-postern=;")
    for path in ("/style.css", "/page.js", "/icon.svg"):
        assert anna.get(path).status == 200


def test_forms_that_are_not_ours(site):
    site.add("anna")
    anna = site.browser("anna")
    key = anna.logged_in("anna").hosts()["home"]
    form = {"host": key, "service": "data"}
    assert anna.post("/open", csrf="", **form).status == 403
    assert anna.post("/open", csrf="a" * 52, **form).status == 403
    stolen = site.browser("other").get("/login").csrf
    assert anna.post("/open", csrf=stolen, **form).status == 403   # of another form
    anna.get("/")
    for origin in ("https://evil.test", "null", f"http://{BROKER}", f"https://{BROKER}:1"):
        page = anna.post("/open", "-H", f"Origin: {origin}", **form)
        assert page.status == 403, origin
    assert anna.post("/logout", csrf="").status == 403
    assert not anna.get("/").service("data").address
    own = anna.post("/open", "-H", f"Origin: https://{BROKER}", csrf=anna.csrf, **form)
    assert own.status == 303 and anna.get("/").service("data").address
    nobody = site.browser("nobody")
    assert nobody.post("/open", csrf=nobody.get("/login").csrf, **form).status == 303
    assert nobody.get("/open").status == 405
    assert nobody.fetch("/login", "-X", "PUT").status == 405
    assert nobody.post("/login", name="anna", password=PASSWORD, csrf="").status == 403
    assert nobody.get("/login?next=//evil.test").text.count("evil.test") == 0
    sent = nobody.login("anna", next="//evil.test/")
    assert sent.status == 303 and sent.headers["location"] == "/", sent.headers


GARBAGE = """
import os, socket, ssl, sys
address, port = sys.argv[1], int(sys.argv[2])
def raw(data):
    with socket.create_connection((address, port), 5) as s:
        s.settimeout(1)
        try:
            s.sendall(data); s.shutdown(socket.SHUT_WR)
            while s.recv(4096): pass
        except OSError: pass
def tls(data, take=4096):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    with socket.create_connection((address, port), 5) as t:
        t.settimeout(1)
        try:
            with c.wrap_socket(t) as s:
                s.sendall(data)
                print(s.recv(take)[:12].decode("latin-1").split(chr(13))[0])
        except OSError: pass
raw(b""); raw(b"GET / HTTP/1.0\\r\\n\\r\\n"); raw(os.urandom(3000))
hello = bytes.fromhex("16030100c8010000c40303") + os.urandom(200)
raw(hello); raw(hello[:9]); raw(b"\\x16\\x03\\x01\\xff\\xff" + b"\\x01" * 70000)
tls(os.urandom(5000)); tls(b"GET / HTTP/1.1\\r\\n" + b"X: y\\r\\n" * 20000)
tls(b"GET " + b"/a" * 40000 + b" HTTP/1.1\\r\\n\\r\\n"); tls(b"\\r\\n" * 3000)
tls(b"POST /login HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: -5\\r\\n\\r\\n")
tls(b"POST /login HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 99999999999999999999\\r\\n\\r\\n")
tls(b"POST /login HTTP/1.1\\r\\nHost: x\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\nzz\\r\\n")
tls(b"POST /login HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 500\\r\\n\\r\\nname=")
tls(b"GET /%00%ff%zz HTTP/1.1\\r\\nHost: x\\r\\nCookie: " + b"__Host-postern=" * 999 + b"\\r\\n\\r\\n")
tls(b"GET /../../etc/passwd HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
print("done")
"""


def test_what_does_not_fit_and_garbage(site):
    site.add("anna")
    anna = site.browser("anna")
    anna.logged_in("anna")
    assert anna.post("/open", host="x" * 15000).status in (400, 413)
    assert anna.post("/open", host="x" * 100000).status == 413
    assert site.browser("new").fetch("/login", "--data-raw", "a=" + "b" * 100000).status == 413
    for body in ("%zz", "name=%00", "a" * 300, "&&&&", "csrf=a&csrf=b"):
        assert anna.fetch("/open", "--data-raw", body).status in (400, 403), body
    for path in ("/%2e%2e/x", "/a/b/c/d/e/f/g", "/host/", "/host/x", "/" + "a" * 2000):
        assert anna.fetch(path, "--path-as-is").status in (400, 404, 414), path
    done = site.programs.run(site.topo.stranger, "garbage", sys.executable, "-c", GARBAGE,
                             BROKER, BROKER_PORT, timeout=60)
    assert "done" in done.stdout and "200" not in done.stdout, done.stdout + done.stderr
    assert anna.is_in() and site.gate.broker_proc.running


# ----------------------------------------------------------------------------- owners

def test_an_owner_invites_and_revokes(site):
    g = site.gate
    site.add("anna", "all", "--owner")
    site.add("berta")
    g.join()
    anna, berta = site.browser("anna"), site.browser("berta")
    key = anna.logged_in("anna").hosts()["home"]
    at = f"/host/{key}"
    assert f'href="{at}"' in anna.get("/").text
    assert f'href="{at}"' not in berta.logged_in("berta").text
    for path in (at, at + "/picture", "/host/" + "a" * 52):
        assert berta.get(path).status == 404
    for verb in ("invite", "revoke"):
        assert berta.post(f"{at}/{verb}", csrf=berta.get("/").csrf).status == 404
    late = site.browser("late")
    asked = late.get(at).headers["location"]
    assert asked == f"/login?next={at}", asked
    assert f'value="{at}"' in late.get(asked).text   # where the login goes on to
    assert late.post("/login", name="anna", password=PASSWORD,
                     next=at).headers["location"] == at

    page = anna.get(at)
    assert page.status == 200
    before = {row[0] for row in page.rows("devices")}
    assert len(before) == 1, before
    made = anna.post(at + "/invite", services="data", expires="3600", csrf=page.csrf)
    link = re.search(r"postern://[^\s\"<]*", made.text)
    assert made.status == 200 and link, made.text
    assert link.group(0) not in anna.get(at).text   # it is shown once
    new = g.other_client("tablet", site.topo.stranger)
    g.join(new, link.group(0))
    call = g.connect("data", who=new)
    got = new.peer("get", "127.0.0.1", call.port, 1000, 1)
    assert got.status == 0, got.stdout
    refused = new.run("nc", "home", "more", json=False)
    assert refused.status == 1, refused.stdout   # the invite was for data only

    held = new.start_peer("hold", "127.0.0.1", call.port, 1)
    held.wait_line("held 1")
    page = anna.get(at)
    device = [row for row in page.rows("devices") if row[0] not in before]
    assert len(device) == 1 and "connected" in device[0] and "data" in device[0], device
    sessions = page.rows("sessions")
    assert [row for row in sessions if row[0] == device[0][0]], sessions
    fragment = anna.get(at + "/picture")
    assert fragment.status == 200 and device[0][0] in fragment.text
    done = anna.post(at + "/revoke", device=device[0][3], csrf=page.csrf)
    assert done.status == 200, done.text
    held.wait_line("all ended", 5)
    assert {row[0] for row in anna.get(at).rows("devices")} == before
    assert new.run("nc", "home", "data", json=False).status == 1
    bad = anna.post(at + "/revoke", device="a" * 52, csrf=page.csrf)
    assert bad.status != 200 and bad.problem, bad.text
    log = anna.get(at).rows("log")
    for what in ("invite", "joined", "revoked"):
        assert [row for row in log if row[1] == what], (what, log)
    for what in ("invite", "revoked"):
        assert site.log(g.host, what=what, who="anna"), what


def test_an_owner_of_a_host_without_services(site):
    """Nothing is published for a while: the owner still sees devices, and stays in."""
    program = site.programs.start(
        site.topo.service.ns, "run", "env", f"POSTERN_STATE={site.work}/attic",
        *site.run_under()[2:-1], "--json", "--broker", site.gate.link, "--name", "attic",
        "--", sys.executable, "-c", ON_AND_OFF, stdin=-1)
    attic = site.host("attic", site.topo.service)
    program.wait_event("published", 20, port=7200)
    site.add("carl", "all", "--owner", host=attic)
    carl = site.browser("carl")
    carl.logged_in("carl").service("python3", "attic")
    program.popen.stdin.write(b"\n")
    program.popen.stdin.flush()
    program.wait_event("withdrawn", 20)
    carl.wait_gone("python3", host="attic")
    assert "attic" in carl.get("/").hosts()
    program.popen.stdin.write(b"\n")
    program.popen.stdin.flush()
    carl.wait_service("python3", host="attic", up=True)


ON_AND_OFF = """
import socket
def serve():
    return socket.create_server(("", 7200))
s = serve(); input(); s.close(); input(); s = serve(); input()
"""
