"""Reasons: what is said of a path that is not used, against what the network did."""

import pytest

from .actors import HOST
from .net import wait_until
from .test_badinput import says

pytestmark = pytest.mark.postern

NO_UDP_OUT = """
table inet own {
  chain output { type filter hook output priority 0; meta l4proto udp drop; }
}
"""


def joined(gate, *services, **network):
    g = gate(**network)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000", *services)
    g.device = g.host.run("ls", "--devices").event("client")["name"]
    return g


def reason_of(g, kind, *args, who=None):
    """What `ping` says at its end of that kind."""
    done = (who or g.client).run("ping", *args, HOST, timeout=60)
    assert done.status == 0, done.stderr
    said = [e["reason"] for e in done.events if e["event"] == "rejected" and e["kind"] == kind]
    assert said, done.stdout
    return said[-1]


# --------------------------------------------------------------------- what was sent

def test_what_never_left_is_not_called_unanswered(gate):
    """The machine's own firewall takes no UDP: no check and no request left it."""
    g = joined(gate, host="masq", client="masq")
    g.client.ns.nft(NO_UDP_OUT)
    said = reason_of(g, "udp-punch", "--paths", "udp-punch,relay")
    assert "own firewall" in said and "no answer" not in said and "check" not in said, said


def test_no_udp_comes_back(gate):
    """The host's network shows that the broker's STUN works: so it is this one."""
    g = joined(gate, host="masq", client="masq+udp_blocked")
    said = reason_of(g, "udp-punch", "--paths", "udp-punch,relay")
    assert "no UDP comes back to this side" in said, said
    assert "which answers the other side" in said and "this network blocks" in said, said


def test_a_client_that_nothing_leads_to_is_no_nat_of_the_host(gate):
    """Without UDP the client knows no address of its own by which the host could let it in."""
    g = joined(gate, host="none", client="masq")
    g.client.ns.nft(NO_UDP_OUT)
    said = reason_of(g, "udp-knock", "--paths", "udp-knock,relay")
    assert "told no address" in said and "NAT" not in said, said


@pytest.mark.parametrize("kind", ["udp-knock", "tcp-knock"])
@pytest.mark.needs("setpriv")
def test_no_advice_that_cannot_help(gate, kind):
    """No privilege lets a knock through the host's NAT."""
    g = gate(host="masq", client="masq+udp_blocked")
    for who in (g.host, g.client):
        who.wrapper = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    said = reason_of(g, kind, "--paths", f"udp-punch,{kind},relay")
    assert "setcap" not in said and "CAP_" not in said, said
    assert "behind a NAT" in said or (kind == "udp-knock" and "told no address" in said), said


def test_a_container_is_not_told_to_use_setcap(gate):
    """Root without capabilities: the advice is another."""
    g = gate(host="none", client="masq")
    g.client.wrapper = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
    g.up_and_joined("22")
    said = reason_of(g, "tcp-knock", "--paths", "tcp-knock,relay")
    assert "CAP_NET_ADMIN" in said and "setcap" not in said, said


# ------------------------------------------------------------------------ one headline

def test_ping_has_one_reason_and_folds_the_others(gate):
    g = joined(gate, host="masq+udp_blocked+nosyn+reject", client="sym+udp_blocked+nosyn")
    for who in (g.host, g.client):
        who.wrapper = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"]
    done = g.client.run("ping", HOST, json=False, timeout=60)
    lines = done.stdout.splitlines()
    assert done.status == 0, done.stderr
    assert not [x for x in lines if f"{HOST}: not " in x or "being tried" in x], lines
    assert sum("through the broker, not directly: " in x for x in lines) == 1, lines
    assert f"ping --why {HOST}" in lines[-1], lines
    lines = g.client.run("ping", "--why", HOST, json=False, timeout=60).stdout.splitlines()
    assert [x for x in lines if f"{HOST}: not tcp-punch: " in x], lines
    assert not [x for x in lines if "being tried" in x or x.endswith(": in use")], lines
    says(g.client.run("ping", "--why", HOST, "other", json=False), 2, "two hosts are named")
    done = g.client.run("ping", "-c", "1", json=False)   # the only one joined
    assert done.status == 0 and f"{HOST}: pong 1, " in done.stdout, done


def test_status_says_why_on_both_sides(gate):
    g = joined(gate, host="masq+udp_blocked", client="masq+udp_blocked")
    up = g.client.start("up", "--paths", "udp-punch,relay")
    up.wait_event("relayed", 30, kind="udp-punch")
    host = wait_until(lambda: (g.client.run("status").event("host") or {}).get("why"), 20, "a headline")
    assert "no UDP comes back to this side" in host, host
    said = g.client.run("status", json=False).stdout
    assert "not direct: no UDP comes back" in said, said
    session = wait_until(lambda: (g.host.run("status").event("session") or {}).get("why"), 20, "the host's")
    assert "no UDP comes back to this side" in session, session
    said = g.host.run("status", json=False).stdout.splitlines()
    assert said[2].startswith("publishes as ") and len(said) == 5, said
    assert "not direct: " in said[3] and "--why HOST" in said[4], said
    said = g.host.run("status", "--why", g.device, json=False).stdout
    assert f"{g.device}: not udp-punch: no UDP comes back" in said, said


def test_no_path_kind_in_common(gate):
    g = gate(host="masq", client="masq")
    g.start_broker()
    g.start_host("--paths", "tcp-punch,relay", "22")
    g.join()
    done = g.client.run("ping", "--paths", "udp-punch", "--timeout", "10s", HOST, json=False, timeout=40)
    says(done, 1, "allow no path kind in common")


# ------------------------------------------------------------------------------ netcheck

@pytest.mark.parametrize("kind, ease, words", [
    ("masq", "easy", "as most home routers have it"), ("sym", "hard", "random ports"),
    ("fw", "easy", "no NAT, a firewall"), ("masq+udp_blocked", "blocked", "over TCP only")])
def test_netcheck_profiles_the_nat(gate, kind, ease, words):
    g = joined(gate, host="masq", client=kind)
    found = g.client.run("netcheck", timeout=60).event("netcheck")
    assert found["ease"] == ease and words in found["profile"], found
    assert bool(found.get("needs")) == (ease in ("hard", "blocked")), found
    assert found["broker"] == "192.0.2.10:443" and found["broker_at"] == "192.0.2.10:443", found
    own = g.topo.client.address
    seen = "no answer" if ease == "blocked" else f"as {found['seen_as'].rsplit(':', 1)[0]}"
    assert f"{own} {seen}" in found["uplinks"], found
    text = g.client.run("netcheck", timeout=60, json=False).stdout
    assert words in text.splitlines()[0], text


def test_netcheck_sent_nothing_and_says_so(gate):
    g = joined(gate, host="masq", client="masq")
    g.client.ns.nft(NO_UDP_OUT)
    found = g.client.run("netcheck", timeout=60).event("netcheck")
    assert found["udp"] == "unknown" and "no request left this machine" in found["words"], found
    assert found["udp_rtt_ms"] is None, found


def test_netcheck_deep_measures_idle_times(gate):
    """The router forgets a silent UDP flow after 20 s."""
    g = joined(gate, host="masq", client="masq")
    box = g.topo.sites["b"].box
    for key in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
        box.sysctl(f"net.netfilter.{key}", 18)
    found = g.client.run("netcheck", "--deep", timeout=200).event("netcheck")
    assert found["idle_lives_s"] == 10 and found["idle_dies_s"] == 25, found
    assert "lives for 10 s, not for 25" in found["idle"] and found["hairpin"] == "no", found


def test_ping_all_ends_with_a_table(gate):
    g = joined(gate, host="masq", client="masq")
    done = g.client.run("ping", "--all", "--paths", "udp-punch,udp-knock,relay", HOST, json=False, timeout=90)
    table = [x.split() for x in done.stdout.splitlines()[-4:]]
    assert table[0][:2] == ["path", "kind"], done.stdout
    assert [x[:2] for x in table[1:]] == [["udp-punch", "works"], ["udp-knock", "no"], ["relay", "works"]], table


def test_a_proxy_may_be_what_is_missing(gate):
    """Nothing leads to the broker, and this machine has a network."""
    g = joined(gate, host="masq", client="masq")
    g.topo.sites["b"].box.nft("insert rule inet box forward drop")
    done = g.client.run("nc", HOST, "peer", json=False, timeout=60)
    says(done, 1, "HTTPS_PROXY")
