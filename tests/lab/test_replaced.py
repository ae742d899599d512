"""Files of the state directory that others replace beside the program that has them
open: a backup restored by rename, a copy in place, a file that was emptied."""

import fcntl
import os
import shutil
import sqlite3
import time

import pytest

from .actors import HOST
from .net import patience, wait_until

pytestmark = pytest.mark.postern
NOTICED_S = 8   # the host looks every 5 s


@pytest.fixture
def pair(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    return g.up_and_joined("one=7000")


def by_rename(path, source=None):
    """As rsync and most who restore do it: another inode at the same path."""
    shutil.copy(source or path, path + ".new")
    os.rename(path + ".new", path)


def works(who):
    done = who.run("nc", HOST, "one", json=False, stdin=b"GET 100 1\n", timeout=15)
    return done.status == 0 and len(done.stdout) > 0


def name_of(g, key):
    done = g.host.run("ls", "--devices")
    return [e["name"] for e in done.events if e.get("key") == key]


def device_of(actor):
    return actor.run("keys").events[0]["key"]


def test_revoke_counts_where_the_list_was_replaced(pair):
    g = pair
    proc = g.connect("one")
    flow = g.client.start_peer("flow", "127.0.0.1", proc.port, 5)
    flow.wait_line("at ")
    by_rename(f"{g.host.state}/host.db")
    done = g.host.run("revoke", device_of(g.client))
    assert done.status == 0 and done.events[-1]["sessions"] >= 1, done.stdout
    assert flow.wait(5 * patience()) != 0
    assert not works(g.client)


def test_who_joins_after_the_list_was_replaced_is_on_it(pair):
    g = pair
    by_rename(f"{g.host.state}/host.db")
    other = g.other_client("other")
    g.join(other)
    assert works(other) and name_of(g, device_of(other))
    assert g.host_proc.terminate() == 0
    g.start_host("one=7000")
    assert works(other) and works(g.client)


def test_a_list_from_before_takes_away_who_joined_since(pair, work):
    """Nobody asks the host anything: it notices by itself."""
    g = pair
    path, saved = f"{g.host.state}/host.db", f"{work}/saved"
    shutil.copy(path, saved)
    other = g.other_client("other")
    g.join(other)
    proc = g.connect("one", who=other)
    flow = other.start_peer("flow", "127.0.0.1", proc.port, 5)
    flow.wait_line("at ")
    by_rename(path, saved)
    assert flow.wait(NOTICED_S * patience()) != 0
    assert not works(other) and works(g.client)


def test_a_bad_list_is_refused_and_the_old_one_counts(pair, work):
    g = pair
    path, saved = f"{g.host.state}/host.db", f"{work}/saved"
    shutil.copy(path, saved)
    link = g.invite()
    with open(f"{work}/bad", "wb") as f:
        f.write(b"no database" * 500)
    by_rename(path, f"{work}/bad")
    done = g.host.run("serve", "--reload", json=False)
    assert done.status == 1 and "host.db" in done.stderr and \
        len(done.stderr.splitlines()) == 1, done.stderr
    assert works(g.client)
    other = g.other_client("other")
    joined = other.run("join", link, json=False)
    assert joined.status == 1, "a device that would be lost is not let in"
    wait_until(lambda: "host.db" in g.host_proc.stderr, NOTICED_S, "it is told")
    by_rename(path, saved)
    assert g.host.run("serve", "--reload").status == 0
    assert works(g.client)
    g.join(other)
    said = [x for x in g.host_proc.stderr.splitlines() if "error: " in x]
    assert len(said) == 1, said


@pytest.mark.parametrize("how", ["in place", "by rename"])
def test_accounts_that_were_emptied_are_named_and_taken_up_when_whole(pair, how, work):
    g = pair
    path, saved = f"{g.host.state}/access.db", f"{work}/saved"
    assert g.host.run("access", "public", "one").status == 0
    shutil.copy(path, saved)
    if how == "in place":
        os.truncate(path, 0)
    else:
        with open(f"{work}/empty", "wb"):
            pass
        by_rename(path, f"{work}/empty")
    done = g.host.run("serve", "--reload", json=False)
    assert done.status == 1 and "access.db was emptied" in done.stderr, done.stderr
    assert works(g.client)
    if how == "in place":
        shutil.copy(saved, path)
    else:
        by_rename(path, saved)
    assert g.host.run("serve", "--reload").status == 0
    assert g.host.run("access", "private", "one").status == 0


def test_a_list_that_was_removed_is_named_by_every_command(pair, work):
    """And made anew by none: the host would go by an empty one."""
    g = pair
    path, saved = f"{g.host.state}/host.db", f"{work}/saved"
    shutil.copy(path, saved)
    device = device_of(g.client)
    os.unlink(path)
    for command in (["ls", "--devices"], ["invite"], ["revoke", device],
                    ["serve", "--reload"], ["serve", "--reload", "one=7000"],
                    ["access", "public", "one"], ["netcheck"],
                    ["run", "--yes", "--for", "amy", "--", "true"]):
        done = g.host.run(*command, json=False)
        assert done.status == 1 and not done.stdout, (command, done.stdout)
        assert len(done.stderr.splitlines()) == 1 and "host.db was removed" in done.stderr, \
            (command, done.stderr)
        assert not os.path.exists(path)
    assert works(g.client)
    shutil.copy(saved, path)
    assert name_of(g, device) and g.host.run("serve", "--reload").status == 0
    assert works(g.client)


def test_a_book_that_was_removed_is_named_by_every_command(pair, work):
    """And made anew by none: `up` would go by an empty one."""
    g = pair
    path, saved = f"{g.client.state}/book.db", f"{work}/saved"
    up = g.client.start("up")
    up.wait_event("path", 20)
    shutil.copy(path, saved)
    link = g.invite()
    os.unlink(path)
    for command in (["nc", HOST, "one"], ["ping", HOST, "--count", "1"], ["ls"],
                    ["connect", f"{HOST}:one"], ["socks", "--listen", "127.0.0.1:1090"],
                    ["netcheck"], ["join", link], ["up"]):
        done = g.client.run(*command, json=False)
        assert done.status == 1 and not done.stdout, (command, done.stdout)
        assert len(done.stderr.splitlines()) == 1 and "book.db was removed" in done.stderr, \
            (command, done.stderr)
        assert not os.path.exists(path), command
    wait_until(lambda: "book.db was removed" in up.stderr, 5, "`up` says so too")
    shutil.copy(saved, path)
    assert works(g.client)
    assert g.client.run("join", link).status == 0


def test_accounts_that_were_removed_are_no_reload(pair, work):
    g = pair
    path, saved = f"{g.host.state}/access.db", f"{work}/saved"
    assert g.host.run("access", "public", "one").status == 0
    shutil.copy(path, saved)
    g.host_proc.wait_event("reloaded", 5)
    mark = len(g.host_proc.events)
    os.unlink(path)
    for command in (["access"], ["access", "private", "one"], ["serve", "--reload"],
                    ["serve", "--reload", "one=7000"]):
        done = g.host.run(*command, json=False)
        assert done.status == 1 and not done.stdout, (command, done.stdout)
        assert len(done.stderr.splitlines()) == 1 and \
            "access.db was removed" in done.stderr, (command, done.stderr)
        assert not os.path.exists(path)
    assert works(g.client)
    g.host_proc.poll_output()
    assert not [e for e in g.host_proc.events[mark:] if e["event"] == "reloaded"]
    assert "no such table" not in g.host_proc.stderr, g.host_proc.stderr
    shutil.copy(saved, path)
    assert g.host.run("serve", "--reload").status == 0
    assert g.host.run("access", "private", "one").status == 0


def test_a_book_that_was_replaced_is_what_up_serves(pair, work):
    g = pair
    up = g.client.start("up")
    up.wait_event("service", host=HOST)
    fresh = g.other_client("fresh")
    shutil.copytree(g.client.state, fresh.state,
                    ignore=shutil.ignore_patterns("*.sock", "*.lock", "live",
                                                  "*-journal"))
    assert fresh.run("join", g.invite(), timeout=30).status == 0
    by_rename(f"{g.client.state}/book.db", f"{fresh.state}/book.db")
    assert works(g.client) and up.running


def test_the_log_goes_on_in_the_file_that_took_its_place(pair, work):
    g = pair
    path = f"{g.host.state}/audit.db"
    g.join(g.other_client("first"))
    assert g.host.run("log").events
    shutil.copy(path, f"{work}/saved")
    by_rename(path, f"{work}/saved")
    g.join(g.other_client("second"))
    told = [e for e in g.host.run("log").events if e["what"] == "joined"]
    assert told and told[-1]["who"] is not None, told
    assert g.host_proc.running and "audit" not in g.host_proc.stderr


@pytest.mark.parametrize("name", ["device.db", "audit.db"])
def test_a_file_that_was_emptied_is_named_before_it_is_needed(pair, name):
    g = pair
    os.truncate(f"{g.host.state}/{name}", 0)
    wait_until(lambda: f"{name} was emptied; nothing" in g.host_proc.stderr and
               "restore it" in g.host_proc.stderr, NOTICED_S, "it is told")
    time.sleep(NOTICED_S)
    assert g.host_proc.stderr.count("was emptied") == 1, g.host_proc.stderr
    assert works(g.client)


def test_a_broker_goes_on_with_the_list_that_took_its_place(pair):
    g = pair
    by_rename(f"{g.broker.state}/broker.db")
    fresh = g.other_client("host2", ns=g.topo.host.ns)
    serve = fresh.start("serve", "--broker", g.link, "--name", "second", "7000")
    serve.wait_event("ready", 20)
    with sqlite3.connect(f"{g.broker.state}/broker.db") as db:
        names = [row[0] for row in db.execute("SELECT name FROM device")]
    assert "second" in names, names


def test_a_broker_whose_file_is_another_brokers_says_so_once(pair, work):
    """It keeps its key, which all know, until it is started again."""
    g = pair
    path, saved = f"{g.broker.state}/broker.db", f"{work}/saved"
    shutil.copy(path, saved)
    other = g.other_client("broker2", ns=g.topo.broker)
    second = other.start("broker", "--listen", "0.0.0.0:4443", "--public", "192.0.2.10")
    theirs = second.wait_event("ready", 15)["link"].split("/")[-1][:50]   # the key
    assert second.terminate() == 0
    by_rename(path, f"{other.state}/broker.db")
    said = "broker.db now belongs to another identity; restart to take it"
    wait_until(lambda: said in g.broker_proc.stderr, NOTICED_S, "it is told")
    g.join(g.other_client("fresh"))
    assert works(g.client)
    by_rename(path, saved)
    wait_until(lambda: "belongs to this broker again" in g.broker_proc.stderr, NOTICED_S,
               "it is told too")
    assert g.broker_proc.stderr.count("another identity") == 1, g.broker_proc.stderr
    by_rename(path, f"{other.state}/broker.db")
    assert g.broker_proc.terminate() == 0
    assert g.start_broker().split("/")[-1].startswith(theirs)


def test_the_whole_directory_was_put_back(pair):
    """As after a backup of all of it: the daemons hold the new one too, and can be asked."""
    g = pair
    g.up = g.client.start("up")
    g.up.wait_event("service", 20)
    for who, role in ((g.host, "serve"), (g.client, "up")):
        copy = who.state + ".copy"
        shutil.copytree(who.state, copy, ignore=shutil.ignore_patterns("*.sock"))
        os.rename(who.state, who.state + ".old")
        os.rename(copy, who.state)
        wait_until(lambda who=who, role=role: who.run("status", timeout=15).event(
            "daemon", role=role, running=True), NOTICED_S * patience(), f"{role} holds it")
        second = who.run(role, json=False)
        assert second.status == 1 and "already runs with" in second.stderr, second.stderr
    assert works(g.client) and g.host_proc.running and g.up.running
    other = g.other_client("other")
    g.join(other)
    assert works(other)


def test_a_brokers_directory_was_put_back(pair):
    g = pair
    state = g.broker.state
    shutil.copytree(state, state + ".copy", ignore=shutil.ignore_patterns("*.sock"))
    os.rename(state, state + ".old")
    os.rename(state + ".copy", state)

    def held():
        with open(f"{state}/broker.lock", "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False
    wait_until(held, NOTICED_S * patience(), "the broker holds it")
    second = g.broker.run("broker", "--listen", "0.0.0.0:4443", json=False, timeout=15)
    assert second.status == 1 and "already runs with" in second.stderr, second.stderr
    assert works(g.client) and g.broker_proc.running


def test_a_key_that_took_the_place_of_this_hosts_counts(pair, work):
    """An invite made beside it is for the key of the file; so is the host, soon."""
    g = pair
    other = g.other_client("elsewhere")
    theirs = device_of(other)
    by_rename(f"{g.host.state}/device.db", f"{other.state}/device.db")
    link = g.invite()
    guest = g.other_client("guest")
    assert guest.run("join", link, timeout=30).status == 0
    assert works(guest)
    said = [line for line in g.host_proc.stderr.splitlines() if "device.db" in line]
    assert len(said) == 1 and theirs in said[0], g.host_proc.stderr
    mark = g.host_proc.mark()
    g.host.run("keys", "rotate")        # the daemon's own way is no replacement
    g.host_proc.wait_event("reloaded", 10, mark)
    time.sleep(NOTICED_S - 2)           # the sweep comes by, and says nothing
    assert g.host_proc.stderr.count("device.db") == 1, g.host_proc.stderr


def test_another_took_the_directory_that_was_put_back(pair):
    """Two cannot have it: the one that began there stays."""
    g = pair
    os.rename(g.host.state, g.host.state + ".old")
    shutil.copytree(g.host.state + ".old", g.host.state,
                    ignore=shutil.ignore_patterns("*.sock"))
    second = g.host.start("serve")
    second.wait_event("ready", 15)
    assert g.host_proc.wait(NOTICED_S + 2) == 1
    assert "already runs with" in g.host_proc.stderr, g.host_proc.stderr
    wait_until(lambda: g.host.run("status").event("daemon", role="serve", running=True), 5)
    assert works(g.client) and second.running


def test_a_state_directory_with_a_long_path(gate):
    """Its daemon's socket lies in it, and in no place where others could be first."""
    g = gate(host="none", client="none")
    for who in (g.host, g.client):
        who.state = f"{who.state}/{'x' * 100}"
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("one=7000")
    g.client.start("up").wait_event("service", 20)
    assert os.path.exists(f"{g.host.state}/serve.sock")
    assert g.host.run("status").event("daemon", role="serve", running=True)
    assert g.client.run("status").event("daemon", role="up", running=True)
    assert works(g.client)
