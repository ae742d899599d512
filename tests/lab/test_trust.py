"""Who may enter, and who no longer may: the host's own list decides."""

import base64
import os
import shutil
import signal
import time

import pytest

from .actors import HOST, wait_direct
from .net import patience, wait_until

pytestmark = pytest.mark.postern


@pytest.fixture
def pair(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.host.start_peer("tcp-server", 7001)
    return g.up_and_joined("one=7000", "two=7001")


def device_of(actor):
    """The device's key as `keys show --json` gives it."""
    done = actor.run("keys", "show")
    assert done.status == 0, done.stderr
    for e in done.events:
        for name in ("device", "key", "public", "public_key"):
            if e.get(name):
                return e[name]
    raise AssertionError(f"no key in {done.stdout}")


def finish(flow):
    """Ends a flow of bytes and sees that none was lost or changed."""
    flow.signal(signal.SIGTERM)
    assert flow.wait(20) == 0, flow.stdout[-300:] + flow.stderr[-300:]
    assert flow.stdout.splitlines()[-1] == "whole"


def works(g, who, service, timeout=20):
    done = who.run("nc", HOST, service, json=False, stdin=b"GET 100 1\n",
                   timeout=timeout)
    return done.status == 0 and len(done.stdout) > 0


def test_revoke_ends_a_live_session_at_once(pair):
    g = pair
    proc = g.connect("one")
    flow = g.client.start_peer("flow", "127.0.0.1", proc.port, 5)
    flow.wait_line("at ")
    wait_direct(proc)
    key = device_of(g.client)
    begin = time.monotonic()
    done = g.host.run("revoke", key)
    assert done.status == 0, done.stderr
    assert flow.wait(5) != 0
    assert time.monotonic() - begin < 3 * patience()
    again = g.client.run("nc", HOST, "one", json=False, stdin=b"GET 10 1\n")
    assert again.status == 1 and len(again.stderr.splitlines()) == 1, again.stderr


def test_revoke_leaves_the_others_alone(pair):
    g = pair
    other = g.other_client("other")
    g.join(other)
    proc = g.connect("one", who=other)
    flow = other.start_peer("flow", "127.0.0.1", proc.port, 5)
    flow.wait_line("at ")
    assert g.host.run("revoke", device_of(g.client)).status == 0
    assert not works(g, g.client, "one")
    assert works(g, other, "two")
    flow.signal(15)
    assert flow.wait(20) == 0, flow.stdout


def test_client_is_held_to_its_services(pair):
    g = pair
    limited = g.other_client("limited")
    g.join(limited, None, "--services", "one")
    assert works(g, limited, "one")
    done = limited.run("nc", HOST, "two", json=False, stdin=b"GET 10 1\n")
    assert done.status == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    listed = limited.run("ls").stdout
    assert "one" in listed and "two" not in listed
    assert works(g, g.client, "two")


def test_one_use_is_one_use(pair):
    g = pair
    link = g.invite()
    first, second = g.other_client("first"), g.other_client("second")
    g.join(first, link)
    done = second.run("join", link)
    assert done.status == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert works(g, first, "one")
    assert not works(g, second, "one")


def test_one_use_for_two_at_the_same_time(pair):
    g = pair
    link = g.invite()
    racers = [g.other_client(f"racer{i}") for i in range(4)]
    procs = [r.start("join", link) for r in racers]
    assert sorted(p.wait(30) for p in procs) == [0, 1, 1, 1]


def test_many_uses(pair):
    g = pair
    link = g.invite("--uses", "2")
    statuses = [g.other_client(f"n{i}").run("join", link).status for i in range(3)]
    assert statuses == [0, 0, 1]


def test_expired_invite(gate):
    g = gate(host="masq", client="masq")
    g.host.set_clock(0)
    g.start_broker()
    g.start_host("one=7000")
    link = g.invite("--expires", "1h")
    g.host.set_clock(3700)
    done = g.other_client("late").run("join", link)
    assert done.status == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "expire" in done.stderr.lower() or "invite" in done.stderr.lower()


def test_stranger_with_the_brokers_link_gets_nothing(pair):
    """Knowing the broker and the host's name is not being invited."""
    g = pair
    stranger = g.other_client("stranger", g.topo.stranger)
    done = stranger.run("nc", HOST, "one", json=False, stdin=b"GET 10 1\n")
    assert done.status == 1 and len(done.stderr.splitlines()) == 1, done.stderr


def test_rotated_client_key_is_followed(pair):
    g = pair
    assert works(g, g.client, "one")
    before = device_of(g.client)
    done = g.client.run("keys", "rotate")
    assert done.status == 0, done.stderr
    assert device_of(g.client) != before
    assert works(g, g.client, "one", 30)
    assert works(g, g.client, "one", 30)


def test_programs_that_began_before_follow_a_rotated_key(pair):
    """The host hears of the newest key by another command, and then begins anew. More
    rotations than a host was met in between are followed as well."""
    g = pair
    socks = g.client.start("socks")
    socks.wait_event("ready", 15)
    older = g.connect("one")
    assert g.client.peer("get", "127.0.0.1", older.port, 1000, 1).status == 0
    for _ in range(6):
        assert g.client.run("keys", "rotate").status == 0
    assert works(g, g.client, "one", 30)
    g.host_proc.terminate()
    g.host_proc = g.host.start("serve")
    g.host_proc.wait_event("ready", 20)
    wait_until(lambda: g.client.peer("get", "127.0.0.1", older.port, 1000, 1).status == 0,
               10, "the connect that ran before the rotation works")
    assert older.running and socks.running


def test_a_running_up_takes_a_rotated_key(pair):
    """The host is told in the session that stands, which goes on; the next one is by the new
    key, since the host knows the old one no more."""
    g = pair
    up = g.client.start("up")
    at = up.wait_event("service", 20)["local"].rsplit(":", 1)
    up.wait_event("path", 20)
    flow = g.client.start_peer("flow", at[0], at[1], 1)
    flow.wait_line("at ")
    for _ in range(2):
        assert g.client.run("keys", "rotate").status == 0
        newest = device_of(g.client)
        wait_until(lambda newest=newest: newest in g.host.run("ls", "--devices").stdout, 10,
                   "the host lists the new key")
    flow.signal(signal.SIGTERM)
    assert flow.wait(10) == 0, flow.stdout
    g.host_proc.terminate()
    g.host_proc = g.host.start("serve")
    g.host_proc.wait_event("ready", 20)
    wait_until(lambda: g.client.peer("get", at[0], at[1], 1000, 1).status == 0, 10,
               "up works with the new key")


def test_rotated_host_key_is_followed(pair):
    g = pair
    assert works(g, g.client, "one")
    before = device_of(g.host)
    done = g.host.run("keys", "rotate")
    assert done.status == 0, done.stderr
    assert device_of(g.host) != before
    wait_until(lambda: works(g, g.client, "one", 30), 60, "client follows the host")


def test_host_key_rotates_under_a_running_host(pair):
    """The running host takes the new key, its sessions go on, and clients follow it
    through more rotations than the host keeps old keys."""
    g = pair
    flow = g.client.start_peer("flow", "127.0.0.1", g.connect("one").port, 8)
    flow.wait_line("at ")
    for i in range(4):
        before, mark = device_of(g.host), g.host_proc.mark()
        assert g.host.run("keys", "rotate").status == 0
        g.host_proc.wait_event("reloaded", 10, since=mark)
        assert device_of(g.host) != before
        assert works(g, g.client, "one", 30)
        if i == 1:
            finish(flow)
    joined = [e for e in g.client.run("ls").events if e.get("event") == "host"]
    assert joined[0]["key"] == device_of(g.host), joined


@pytest.mark.parametrize("restarted", [False, True])
def test_a_device_that_was_away_follows_a_host_through_many_keys(pair, restarted):
    """Each rotation came after its last visit; its first visit brings it to the newest
    key, in the book too. An invite of long ago lets in as well."""
    g = pair
    assert works(g, g.client, "one")
    link = g.invite()
    for _ in range(6):
        mark = g.host_proc.mark()
        assert g.host.run("keys", "rotate").status == 0
        g.host_proc.wait_event("reloaded", 10, since=mark)
    if restarted:
        g.host_proc.terminate()
        g.start_host("one=7000", "two=7001")
    assert works(g, g.client, "one", 10)
    assert g.client.run("ls").event("host")["key"] == device_of(g.host)
    assert [e["state"] for e in g.host.run("status").events
            if e.get("event") == "broker"] == ["online"]
    late = g.other_client("late", g.topo.stranger)
    g.join(late, link)
    assert late.run("ls").event("host")["key"] == device_of(g.host)
    assert works(g, late, "two", 10)


def test_secret_never_reaches_broker_or_log(pair):
    """The invite's secret part stands in no broker state and no broker output."""
    g = pair
    link = g.invite()
    payload = link.rsplit("/", 1)[1].upper()
    secret = base64.b32decode(payload + "=" * (-len(payload) % 8))[65:81]
    assert len(secret) == 16
    g.join(g.other_client("joins"), link)
    kept = b""
    for top, _, files in os.walk(g.broker.state):
        for name in files:
            if name.endswith(".sock"):      # nothing is kept in it
                continue
            with open(os.path.join(top, name), "rb") as f:
                kept += f.read()
    kept += g.broker_proc.stdout.encode() + g.broker_proc.stderr.encode()
    for form in (secret, secret.hex().encode(), link.encode()):
        assert form not in kept


def test_revoke_after_rotation_ends_the_session_that_rotated(pair):
    """And the device's other sessions, which began under the old key."""
    g = pair
    older = g.connect("one")
    flow = g.client.start_peer("flow", "127.0.0.1", older.port, 5)
    flow.wait_line("at ")
    assert g.client.run("keys", "rotate").status == 0
    assert works(g, g.client, "two", 30)
    assert flow.running, flow.stdout[-200:]
    assert g.host.run("revoke", device_of(g.client)).status == 0
    assert flow.wait(5) != 0
    assert not works(g, g.client, "one")


def test_an_older_invite_after_a_rotation(pair):
    """Removed by its newest key, a device does not come back by one from before."""
    g = pair
    link = g.invite()
    assert g.client.run("keys", "rotate").status == 0
    assert works(g, g.client, "two", 30)
    assert g.host.run("revoke", device_of(g.client)).status == 0
    assert not works(g, g.client, "one")
    done = g.client.run("join", link, json=False)
    assert done.status == 1 and "does not let this device in" in done.stderr, done.stderr
    g.join()
    assert works(g, g.client, "one")


def device_names(g):
    return sorted(e["name"] for e in g.host.run("ls", "--devices").events
                  if e.get("event") == "client")


def test_a_copy_with_an_earlier_key_is_no_other_device(pair):
    """It does not join beside the device whose key it was, by no open invite, and so can
    neither stay nor come back when that one is removed; whatever is rotated since."""
    g = pair
    before = g.invite("--uses", "9")
    name = device_names(g)[0]
    copy = g.other_client("copy")
    shutil.copytree(g.client.state, copy.state)
    assert g.client.run("keys", "rotate").status == 0
    assert works(g, g.client, "one", 30)
    for _ in range(2):
        done = copy.run("join", "--name", "other", before, json=False)
        assert done.status == 1 and "this device's key was changed since" in done.stderr, done.stderr
        assert "'postern revoke' at the host" in done.stderr, done.stderr
        done = copy.run("nc", HOST, "one", json=False, stdin=b"GET 10 1\n")
        assert done.status == 1 and "this device's key was changed since" in done.stderr, done.stderr
        assert device_names(g) == [name]
        assert g.client.run("keys", "rotate").status == 0    # and once more, after that
        assert works(g, g.client, "one", 30)
    assert g.host.run("revoke", name).status == 0
    for who in (copy, g.client):
        assert not works(g, who, "one")
        done = who.run("join", before, json=False)
        assert done.status == 1 and "does not let this device in" in done.stderr, done.stderr
        assert not works(g, who, "one")
    assert device_names(g) == []


def test_an_old_backup_is_restored(pair):
    """It has a key from before: its owner removes the device and invites it anew, as told."""
    g = pair
    backup = g.client.state + ".backup"
    shutil.copytree(g.client.state, backup)
    assert g.client.run("keys", "rotate").status == 0
    assert works(g, g.client, "one", 30)
    shutil.rmtree(g.client.state)
    shutil.copytree(backup, g.client.state)
    done = g.client.run("nc", HOST, "one", json=False, stdin=b"GET 10 1\n")
    assert done.status == 1 and "'postern revoke' at the host" in done.stderr, done.stderr
    assert "ask the host's owner for a new invite" in done.stderr, done.stderr
    assert g.host.run("revoke", device_names(g)[0]).status == 0
    g.join()
    assert works(g, g.client, "one")
    assert len(device_names(g)) == 1


def homes(who):
    return [e for e in who.run("status").events
            if e.get("event") == "host" and e["name"] == HOST]


@pytest.mark.parametrize("host_runs", [True, False])
def test_a_host_with_a_new_key_stays_one_home(pair, host_runs):
    """In an `up` that ran before, and in one of a device with an older invite; also when
    the host rotates twice, and other programs of the device write the key down."""
    g = pair
    link = g.invite()
    first = g.client.start("up")
    local = first.wait_event("service", 20, name="one")["local"]
    wait_until(lambda: [e["state"] for e in homes(g.client)] == ["online"], 20, "online")
    late, late_up = g.other_client("late", g.topo.stranger), None
    for i in range(2):
        if not host_runs:
            g.host_proc.terminate()
        mark = first.mark()
        assert g.host.run("keys", "rotate").status == 0
        if not host_runs:
            g.start_host("one=7000", "two=7001")
        if i == 0:
            g.join(late, link)
            late_up = late.start("up")
        for who, up in ((g.client, first), (late, late_up)):
            wait_until(lambda: works(g, who, "one", 30), 60, "it is followed")
            wait_until(lambda: who.run("ls").event("host")["key"] == device_of(g.host),
                       20, "the book has the new key")
        first.wait_event("rotated", 20, since=mark, peer=HOST, key=device_of(g.host))
        for who in (g.client, late):
            assert works(g, who, "two", 30)
            assert len(homes(who)) == 1, homes(who)
    late_up.wait_event("rotated", 20, key=device_of(g.host))
    for up in (first, late_up):
        up.poll_output()
        assert sorted(e["name"] for e in up.events if e.get("event") == "service") == \
            ["one", "two"], up.stdout
    told = [e["key"] for e in first.events if e.get("event") == "rotated"]
    assert len(told) == len(set(told)) == 2, told
    first.terminate()
    again = g.client.start("up")
    assert again.wait_event("service", 20, name="one")["local"] == local


def test_two_services_of_one_port_both_have_a_local_address(pair):
    g = pair
    up = g.client.start("up")
    up.wait_event("service", 20, name="one")
    done = g.host.run("serve", "--reload", "one=7000", "two=7001", "new=7000")
    assert done.status == 0, done.stderr
    local = up.wait_event("service", 20, name="new")["local"]
    first = up.find("service", 0, name="one")["local"]
    assert first.endswith(":7000") and local == first[:-5] + ":7002"
    assert "in use" not in up.stderr
    host, port = local.rsplit(":", 1)
    assert g.client.start_peer("get", host, port, 1000, 1).wait(20) == 0


@pytest.mark.parametrize("rotations", [1, 3])
def test_joining_again_finds_the_same_home(pair, rotations):
    """By an invite that was made after the host's key had changed, of a device that has
    not met the host since: it stays one home with one name, also where the host has
    left its oldest key; and a device whose own key changed stays one device."""
    g = pair
    assert works(g, g.client, "one")
    for _ in range(rotations):
        mark = g.host_proc.mark()
        assert g.host.run("keys", "rotate").status == 0
        g.host_proc.wait_event("reloaded", 10, since=mark)
    assert g.join().event("joined")["host"] == HOST
    hosts = [e for e in g.client.run("ls").events if e.get("event") == "host"]
    assert [(e["name"], e["key"]) for e in hosts] == [(HOST, device_of(g.host))], hosts
    assert g.client.run("keys", "rotate").status == 0
    g.join()
    assert works(g, g.client, "one", 30)
    devices = [e for e in g.host.run("ls", "--devices").events
               if e.get("event") == "client"]
    assert [e["key"] for e in devices] == [device_of(g.client)], devices


def to_broker(g, proc):
    """The connections of one program to the broker's port."""
    return [x for x in g.client.ns.sockets("-tnp", "state", "established")
            if f"pid={proc.pid}," in x and ":443 " in x.replace("users", " users")]


def brokers(who):
    return [e["state"] for e in who.run("status").events if e.get("event") == "broker"]


def test_an_up_that_tries_its_keys_keeps_one_connection(pair):
    """What the host refused is left, as often as they are all tried; and after another
    join as well."""
    g = pair
    up = g.client.start("up", "--paths", "relay")
    up.wait_event("path", 20)
    for _ in range(4):
        assert g.client.run("keys", "rotate").status == 0
    mark = up.mark()
    assert g.host.run("revoke", device_of(g.client)).status == 0 or \
        g.host.run("revoke", g.host.run("ls", "--devices").events[0]["name"]).status == 0
    up.wait_event("left", 20, since=mark, peer=HOST)
    wait_until(lambda: len(to_broker(g, up)) == 1, 5, "what was refused is closed")
    assert brokers(g.client) == ["online"]
    mark = up.mark()
    g.join()
    up.wait_event("path", 5, since=mark)
    assert works(g, g.client, "one")
    assert brokers(g.client) == ["online"]
    wait_until(lambda: len(to_broker(g, up)) == 2, 5, "one, and a relay pair")


def test_rotate_says_which_key_counts_no_more(gate):
    """A host is present under its last 32 earlier keys: the one that goes is named."""
    who = gate(host="none", client="none").client
    first = next(e["key"] for e in who.run("keys").events if e.get("state") == "current")
    for _ in range(31):
        done = who.run("keys", "rotate")
        assert done.status == 0 and done.stderr == "", done.stderr
    done = who.run("keys", "rotate")
    assert done.status == 0 and f"the next rotation ends key {first} for good: first let this device" in done.stderr, done.stderr
    done = who.run("keys", "rotate")
    assert done.status == 0 and f"key {first} counts no more" in done.stderr, done.stderr
    assert "a host that met this device then and not since lets it in by a new invite only" in done.stderr


def test_a_host_that_rotated_too_often(gate):
    """Who was away meanwhile is told so, and how to go on."""
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    g.host_proc.terminate()
    said = [g.host.run("keys", "rotate").stderr for _ in range(34)]
    assert "first let each device connect once" in said[31] and "must be invited anew" in said[32], said
    g.start_host("peer=7000")
    done = g.client.run("nc", HOST, "peer", json=False, stdin=b"")
    assert done.status == 1, done.stderr
    assert "if its key was changed often meanwhile, ask for a new invite" in done.stderr
    done = g.client.run("join", g.invite(), json=False)
    assert done.status == 0 and f"joined {HOST}-2: peer" in done.stdout, done.stderr
    assert f"so this one is called {HOST}-2" in done.stderr and f"'postern leave {HOST}'" in done.stderr, done.stderr


def test_a_rotation_is_no_outage(gate):
    """The new key connects for the first time: nothing is "back" that was not lost."""
    g = gate(host="none", client="none")
    g.up_and_joined("7000")
    g.host.run("keys", "rotate")
    g.host_proc.wait_event("reloaded", 10)
    g.join(g.other_client("guest"))     # by an invite of the new key: it is there
    assert not g.host_proc.find("broker", state="back"), g.host_proc.stdout
