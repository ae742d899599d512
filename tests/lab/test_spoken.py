"""A code that one person tells another: `postern invite --code`, `postern join CODE@BROKER`."""

import signal

import pytest

from .actors import HOST, Actor
from .net import wait_until
from .test_badinput import says
from .topology import BROKER

pytestmark = pytest.mark.postern


@pytest.fixture
def served(gate):
    g = gate(host="masq", client="masq")
    g.start_broker()
    g.start_host("7000")
    g.host.start_peer("tcp-server", 7000)
    return g


def told(g, *args):
    """`invite --code`, and what is to be said."""
    proc = g.host.start("invite", "--code", *args)
    code = proc.wait_event("code", 15)
    assert code["code"].count("-") == 2 and code["broker"] == BROKER, code
    return proc, code["code"]


def other_words(code):
    return code.split("-")[0] + ("-adroitness-aardvark" if "aardvark" not in code else "-adviser-absurd")


def test_two_people_on_the_phone(served):
    g = served
    proc, code = told(g, "--services", "7000")
    words = code.replace("-", " ").upper()
    done = g.client.run("join", f"{words}@{BROKER}")
    joined = done.event("joined")
    assert joined and joined["host"] == HOST and joined["services"] == ["7000"], done.stderr
    assert proc.wait_event("given", 10) and proc.wait(10) == 0
    assert g.client.run("nc", HOST, "7000", stdin=b"SINK\nwords\n", json=False).status == 0
    says(g.client.run("join", f"{code}@{BROKER}", json=False), 1, "nobody waits with the number")


def test_three_tries_with_other_words(served):
    g = served
    proc, code = told(g)
    for left in (2, 1, 0):
        says(g.client.run("join", f"{other_words(code)}@{BROKER}", json=False), 1, "the words are not those")
        if left:
            wait_until(lambda: f"it bears {left} more" in proc.stderr, 10, "a word of the giver's")
    assert proc.wait(10) == 1 and "worth nothing" in proc.find("error")["what"]
    says(g.client.run("join", f"{code}@{BROKER}", json=False), 1, "nobody waits with the number")
    assert g.host.run("ls", "--devices").event("client") is None


def test_a_try_before_leaves_the_code_good(served):
    g = served
    proc, code = told(g)
    says(g.client.run("join", f"{other_words(code)}@{BROKER}", json=False), 1, "the words are not those")
    assert g.client.run("join", f"{code}@{BROKER}").status == 0
    assert proc.wait(10) == 0


def test_it_is_asked_for_on_standard_input(served):
    g = served
    proc, code = told(g)
    done = g.client.run("join", "-", stdin=f"{code}@{BROKER}\n".encode())
    assert done.event("joined")["host"] == HOST, done.stderr
    assert proc.wait(10) == 0


def test_a_broker_that_is_known_need_not_be_said(served):
    g = served
    g.join()
    other = g.other_client("second", ns=g.topo.client.ns)
    says(other.run("join", "7-adroitness-aardvark", json=False), 2, "does not say at which broker")
    proc, code = told(g)
    assert g.client.run("join", code).status == 0
    assert proc.wait(10) == 0


def test_the_broker_is_restarted_meanwhile(served):
    g = served
    proc, code = told(g)
    g.broker_proc.signal(signal.SIGTERM)
    g.broker_proc.wait(10)
    g.start_broker()
    def joined():
        return g.client.run("join", f"{code}@{BROKER}").status == 0
    wait_until(joined, 40, "the code is good again")
    assert proc.wait(10) == 0


def test_it_ends_without_having_been_used(served):
    g = served
    proc, code = told(g, "--expires", "2s")
    assert proc.wait(20) == 1 and "nobody has used the code in time" in proc.find("error")["what"]
    proc, code = told(g)
    proc.signal(signal.SIGINT)
    assert proc.wait(10) == -signal.SIGINT
    says(g.client.run("join", f"{code}@{BROKER}", json=False), 1, "nobody waits with the number")


def test_a_broker_at_another_port(gate):
    """The code is told with it, by the giver and by the broker's page."""
    g = gate(host="none", client="none")
    g.start_broker("--public", f"{BROKER}:8443", "--listen", "0.0.0.0:8443")
    g.start_host("7000")
    proc = g.host.start("invite", "--code")
    code = proc.wait_event("code", 15)
    assert code["broker"] == f"{BROKER}:8443", code
    page = g.programs.run(g.topo.client.ns, "curl", "curl", "-ks", f"https://{BROKER}:8443/join")
    assert f"7-crossover-clockwork@{BROKER}:8443" in page.stdout, page.stdout
    assert g.client.run("join", f"{code['code']}@{code['broker']}").status == 0
    assert proc.wait(10) == 0


@pytest.mark.parametrize("args,words", [
    (("invite", "--code", "--uses", "2"), "--uses does not go with it"),
    (("invite", "--code", "--expires", "2h"), "an hour at most"),
    (("join", "7-adroitnes-aardvark@meet.lab"), "did you mean 'adroitness'"),
    (("join", "7-adroitness-aardvark@meet lab"), "is not the name of a broker"),
])
def test_what_cannot_be(programs, work, args, words):
    who = Actor(programs, None, f"{work}/state")
    says(who.run(*args, json=False), 2, words)


SWALLOWED = """table inet hide {
  chain in { type filter hook input priority -10; tcp dport 443 drop; udp dport 443 drop; }
}"""


def test_a_broker_that_swallows_everything_is_spoken_of_soon(served):
    """Both ends of a code wait 8 s for it: they say so, as with a link."""
    g = served
    g.topo.broker.nft(SWALLOWED)
    procs = [g.client.start("join", f"7-crossover-clockwork@{BROKER}"), g.host.start("invite", "--code")]
    for p in procs:
        wait_until(lambda: "waiting: the broker" in p.stderr, 5, "a word of what it waits for")
        assert p.running, p.stderr
    for p in procs:
        assert p.wait(20) == 1, p.stderr
        assert len(p.stderr.splitlines()) == 2, p.stderr
