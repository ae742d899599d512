"""Several instances of one service: who wins, who is asked for, who is bound to one."""

import pytest

from .actors import HOST
from .net import patience, wait_until
from .servers import listening

pytestmark = pytest.mark.postern

PYTHON = "/usr/bin/python3"
SERVER = """
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write((sys.argv[2] + "\\n").encode())
    def log_message(self, *args): pass
http.server.HTTPServer(("", int(sys.argv[1])), H).serve_forever()
"""


def web(programs, ns, name, port=80):
    proc = programs.start(ns, f"web-{name}", PYTHON, "-c", SERVER, port, name)
    wait_until(lambda: listening(ns, port), what=f"web {name}")
    return proc


def silent(ns, port=80):
    """Packets to that port are lost, as at a machine behind a strict firewall."""
    ns.nft("table inet silent {\n  chain input { type filter hook input priority 0;\n"
           f"    tcp dport {port} drop\n  }}\n}}")


def page(g, service, who=None, timeout=15):
    """(what curl printed, its seconds) of a web service over postern."""
    proc = g.connect(service, who=who)
    done = g.programs.run(g.topo.client.ns, "curl", "curl", "-sS", "--max-time", timeout,
                          f"http://127.0.0.1:{proc.port}/", timeout=timeout + 5)
    proc.terminate()
    return done


def says_no(g, service, *words, who=None):
    done = (who or g.client).run("nc", HOST, service, json=False, stdin=b"GET /\n")
    said = [x for x in done.stderr.splitlines() if "warning: waiting: " not in x]
    assert done.status == 1 and len(said) == 1, done.stderr
    assert any(w in done.stderr for w in words), done.stderr
    return done


@pytest.fixture
def three(gate):
    """One machine refuses, one is silent, one serves, all on the host's LAN."""
    g = gate(host="masq", client="masq")
    dead, mute = g.topo.machine("dead", "a", 31), g.topo.machine("mute", "a", 32)
    silent(mute.ns)
    g.live = web(g.programs, g.topo.service.ns, "green")
    g.up_and_joined(f"app=dead@{dead.address}:80,mute@{mute.address}:80,"
                    f"green@{g.topo.service.address}:80",
                    f"slow={mute.address}:80,{g.topo.service.address}:80")
    return g


def test_the_first_that_connects_wins(three):
    g = three
    assert page(g, "app").stdout == "green\n"
    done = page(g, "slow")
    assert done.stdout == "green\n"
    assert done.seconds < 3 * patience(), "the silent one was waited for"   # its SYN is lost for 1 s


def test_one_is_asked_for_by_name(three):
    g = three
    assert page(g, "app/green").stdout == "green\n"
    says_no(g, "app/dead", "refused")
    says_no(g, "app/red", "no service 'app/red'")
    assert g.client.run("ls").events[0]["services"] == ["app", "slow"]


def test_one_alone_is_not_made_public(three):
    """It made all of them public."""
    said = three.host.run("access", "public", "app/green", json=False)
    assert said.status == 2 and "one instance alone" in said.stderr, said.stderr
    assert "public" not in three.host.run("access", "ls").stdout


def test_all_fail_and_the_first_says_why(three):
    g = three
    g.live.terminate()
    begin = says_no(g, "app", "refused")
    assert "192.168.10.31:80" in begin.stderr, begin.stderr
    assert begin.seconds < 18 * patience()


def test_two_users_are_bound_to_different_instances(gate):
    g = gate(host="masq", client="masq")
    g.start_broker()
    blue, green = g.topo.machine("blue", "a", 31), g.topo.machine("green", "a", 32)
    web(g.programs, blue.ns, "blue")
    web(g.programs, green.ns, "green")
    g.start_host(f"app=blue@{blue.address}:80,green@{green.address}:80")
    one, two = g.client, g.other_client("two")
    g.join(one, None, "--services", "app/blue")
    g.join(two, None, "--services", "APP/green")
    for who, mine, other in ((one, "blue", "green"), (two, "green", "blue")):
        assert page(g, "app", who).stdout == f"{mine}\n"
        assert page(g, f"app/{mine}", who).stdout == f"{mine}\n"
        says_no(g, f"app/{other}", "may not use", who=who)
        assert who.run("ls").events[0]["services"] == ["app"]
    devices = {e["services"] for e in g.host.run("ls", "--devices").events}
    assert devices == {"app/blue", "app/green"}
    both = g.join(one, None, "--services", "app/green")
    assert both.status == 0 and page(g, "app/green", one).stdout == "green\n"


@pytest.mark.parametrize("services", ["app/red", "app/", "red/blue", "app/blue/green", "/blue"])
def test_an_invite_for_no_instance(three, services):
    done = three.host.run("invite", "--services", services, json=False)
    assert done.status == 1 and "publishes no service" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_instances_that_cannot_be(gate):
    g = gate(host="none", client="none")
    g.start_broker()
    g.start_host("22")
    for service, why in {
            "app=blue@": "not a port", "app=@10.0.0.2:80": "''", "app=a/b@80": "'a/b'",
            "app=1@80": "'1'", "app=a@80,A@81": "two instances", "app/blue=80": "'app/blue'",
            "a=" + "b" * 62 + "@80": "too long"}.items():
        done = g.host.run("serve", "--reload", service, json=False)
        assert done.status == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert why in done.stderr, done.stderr
    assert g.host.run("serve", "--reload", "app=a@80,b@81").status == 0
