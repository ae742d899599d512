"""State directories in which, or above which, others may write: what they put there leads
root nowhere else, and a running program takes up nothing of theirs."""

import hashlib
import os
import shutil
import struct

import pytest

from .actors import HOST, Actor, postern
from .net import wait_until
from .test_badinput import says
from .test_replaced import NOTICED_S, works

pytestmark = [pytest.mark.postern, pytest.mark.needs("setpriv")]
NOBODY = 65534


@pytest.fixture
def pair(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    return g.up_and_joined("one=7000")


def hashes(directory):
    found = {}
    for name in sorted(os.listdir(directory)):
        if os.path.isfile(f"{directory}/{name}"):
            with open(f"{directory}/{name}", "rb") as f:
                found[name] = hashlib.sha256(f.read()).hexdigest()
    return found


def users_directory(path):
    os.mkdir(path, 0o700)
    os.chown(path, NOBODY, NOBODY)
    return path


def give(path, uid=NOBODY):
    for top, dirs, files in os.walk(path):
        for name in (".", *dirs, *files):
            os.chown(f"{top}/{name}", uid, uid, follow_symlinks=False)


@pytest.mark.parametrize("how", [os.symlink, os.link], ids=["link", "second name"])
def test_root_follows_nothing_to_its_own_identity(pair, work, how):
    """`sudo postern up --state DIR`: the user of DIR would be root's device by its socket."""
    g = pair
    said = "is a link" if how is os.symlink else "a second name elsewhere"
    state = users_directory(f"{work}/user")
    for name in ("device.db", "book.db"):
        how(f"{g.client.state}/{name}", f"{state}/{name}")
    user = g.other_client("user")
    user.state = state
    user.more_env["SUDO_UID"] = str(NOBODY)
    before = hashes(g.client.state)
    for words in (["up", "--names", "off"], ["ls"], ["nc", HOST, "one"], ["leave", HOST], ["keys", "rotate"]):
        says(user.run(*words, json=False, stdin=b""), 1, said)
    assert hashes(g.client.state) == before
    assert not os.path.exists(f"{state}/up.sock")


def test_root_writes_to_no_list_that_a_link_leads_to(pair, work):
    g = pair
    assert g.host_proc.terminate() == 0
    state, roots = users_directory(f"{work}/user"), g.host.state
    for name in ("device.db", "host.db", "access.db"):
        if os.path.exists(f"{roots}/{name}"):
            os.symlink(f"{roots}/{name}", f"{state}/{name}")
    host = g.other_client("userhost", ns=g.topo.host.ns)
    host.state = state
    host.more_env["SUDO_UID"] = str(NOBODY)
    before = hashes(roots)
    for words in (["invite"], ["ls", "--devices"], ["serve", "7000"], ["access", "public", "one"]):
        says(host.run(*words, json=False), 1, "is a link")
    assert hashes(roots) == before
    for name in os.listdir(state):
        os.unlink(f"{state}/{name}")
    for name in ("notes", "notes-journal", "notes-wal"):   # of any program of root's
        with open(f"{work}/{name}", "w", encoding="ascii") as f:
            f.write("keep\n" * 300)
    os.symlink(f"{work}/notes", f"{state}/audit.db")
    says(host.run("log", json=False), 1, "is a link")
    serve = host.start("serve", "--broker", g.link, "--name", "uu", "7000")
    serve.wait_event("ready", 20)   # without a log, which it says
    assert "the audit log is not written" in serve.stderr and "is a link" in serve.stderr, serve.stderr
    assert serve.terminate() == 0
    for name in ("notes", "notes-journal", "notes-wal"):
        assert os.path.getsize(f"{work}/{name}") == 1500, name


def test_small_files_lead_root_nowhere(pair, work):
    """Hints and locks: without them all goes on, and what a link names is as it was."""
    g = pair
    roots = f"{work}/roots"
    os.makedirs(f"{roots}/live")
    state = f"{work}/user"
    shutil.copytree(g.client.state, state, ignore=shutil.ignore_patterns("*.sock", "live"))
    give(state)
    for name in ("badges", "last-good", "sessions", "live"):
        if os.path.lexists(f"{state}/{name}"):
            os.unlink(f"{state}/{name}")
        if name != "live":
            with open(f"{roots}/{name}", "w", encoding="ascii") as f:
                f.write("keep\n")
        os.symlink(f"{roots}/{name}", f"{state}/{name}")
    before = hashes(roots)
    user = g.other_client("user")
    user.state = state
    user.more_env["SUDO_UID"] = str(NOBODY)
    assert works(user)
    assert hashes(roots) == before and os.listdir(f"{roots}/live") == []
    os.symlink(f"{roots}/badges", f"{state}/x")
    os.rename(f"{state}/x", f"{state}/up.lock")
    says(user.run("up", json=False), 1, "is a link")
    os.unlink(f"{state}/up.lock")
    os.mkfifo(f"{state}/up.lock", 0o600)
    says(user.run("up", json=False), 1, "up.lock is a link, or no file")
    assert hashes(roots) == before


def test_a_file_of_a_third_is_not_opened(programs, work):
    state = users_directory(f"{work}/user")
    env = {"POSTERN_STATE": state, "SUDO_UID": str(NOBODY)}
    assert programs.run(None, "keys", postern(), "keys", env=env).status == 0
    os.chown(f"{state}/device.db", 1, 1)
    says(programs.run(None, "keys", postern(), "keys", env=env), 1, f"run 'chown {NOBODY} {state}/device.db'")
    os.chown(f"{state}/device.db", 0, 0)   # root put a backup back
    assert programs.run(None, "keys", postern(), "keys", env=env).status == 0


def test_links_above_go_on(programs, work):
    """--state LINK, and ~/.local on another disk; a copy by second names (cp -al) too."""
    os.mkdir(f"{work}/disk")
    os.mkdir(f"{work}/home")
    os.symlink(f"{work}/disk", f"{work}/home/.local")
    os.symlink(f"{work}/disk/other", f"{work}/link")
    os.mkdir(f"{work}/disk/other", 0o700)
    for words, env in (["--state", f"{work}/link"], {}), ([], {"HOME": f"{work}/home", "XDG_STATE_HOME": f"{work}/home/.local/state"}):
        for _ in range(2):
            done = programs.run(None, "keys", postern(), "keys", *words, env={"POSTERN_STATE": "", **env})
            assert done.status == 0 and done.stderr == "", done.stderr
    assert os.path.exists(f"{work}/disk/other/device.db")
    os.link(f"{work}/disk/other/device.db", f"{work}/copy.db")
    assert programs.run(None, "keys", postern(), "keys", "--state", f"{work}/link").status == 0


def test_a_directory_above_that_others_may_write_to(programs, work):
    """Refused with the cure; not where it is sticky, nor for the group of its owner alone."""
    os.chmod(work, 0o755)
    above = f"{work}/open"
    os.makedirs(f"{above}/between")
    state = f"{above}/between/state"

    def keys(*wrapper):
        return programs.run(None, "keys", *wrapper, postern(), "keys", "--state", state)
    assert keys().status == 0
    for mode, group, good in ((0o777, 0, False), (0o1777, 0, True), (0o775, 0, True), (0o775, 4321, False),
                              (0o1775, 4321, True), (0o755, 4321, True)):
        os.chown(above, 0, group)
        os.chmod(above, mode)
        if good:
            assert keys().status == 0, (oct(mode), group, keys().stderr)
        else:
            says(keys(), 1, f"run 'chmod go-w {above}'")
    give(above)
    os.chmod(above, 0o775)   # as users have it whose umask is 002
    for wrapper in ([], ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]):
        assert keys(*wrapper).status == 0, keys(*wrapper).stderr


def below_its_own(g, work):
    """The host's state below a directory in which nothing else lies."""
    above = f"{work}/above"
    assert g.host_proc.terminate() == 0
    os.mkdir(above)
    shutil.copytree(g.host.state, f"{above}/state", ignore=shutil.ignore_patterns("*.sock"))
    g.host.state = f"{above}/state"
    g.start_host("one=7000")
    return above, g.host.state


def test_a_directory_of_others_is_not_taken_up(pair, work):
    """Renamed into the place of a running host's: their key and list count for nothing."""
    g = pair
    above, state = below_its_own(g, work)
    theirs = g.other_client("theirs", ns=g.topo.host.ns)
    their_serve = theirs.start("serve", "--broker", g.link, "--name", "theirs", "7000")
    their_serve.wait_event("ready", 20)
    link = theirs.run("invite").event("invite")["link"]
    assert their_serve.terminate() == 0
    give(theirs.state)
    ours = g.host.run("keys").events[0]["key"]
    os.rename(state, f"{above}/away")
    os.rename(theirs.state, state)
    wait_until(lambda: f"belongs to user {NOBODY} now" in g.host_proc.stderr, NOTICED_S, "it is told")
    fresh = g.other_client("fresh")
    assert fresh.run("join", link, json=False, timeout=30).status == 1
    assert works(g.client)
    assert not any(name.endswith(".sock") for name in os.listdir(state))
    assert "was replaced" not in g.host_proc.stderr.replace("warning: root", ""), g.host_proc.stderr
    os.rename(state, theirs.state)
    os.rename(f"{above}/away", state)
    assert g.host.run("serve", "--reload").status == 0
    assert g.host.run("keys").events[0]["key"] == ours and works(g.client)
    said = [x for x in g.host_proc.stderr.splitlines() if "error: " in x]
    assert len(said) == len({x.split("error: ")[1] for x in said}), said


@pytest.mark.parametrize("how", ["owner", "link", "above"])
def test_a_list_of_others_is_not_taken_up(pair, work, how):
    """One file, replaced beside the host: what it held before counts, until it is whole."""
    g = pair
    above, state = below_its_own(g, work)
    path = f"{state}/host.db"
    shutil.copy(path, f"{work}/theirs")
    shutil.copy(path, f"{work}/good")
    link = g.invite()
    if how == "link":
        os.symlink(f"{work}/theirs", f"{work}/new")
    else:
        os.rename(f"{work}/theirs", f"{work}/new")
    if how == "owner":
        os.chown(f"{work}/new", NOBODY, NOBODY)
    if how == "above":
        os.chmod(above, 0o777)
    os.rename(f"{work}/new", path)
    said = {"owner": f"belongs to user {NOBODY}, and its directory", "link": "is a link", "above": "others may write to"}[how]
    wait_until(lambda: said in g.host_proc.stderr, NOTICED_S, "it is told")
    assert works(g.client)
    assert g.other_client("fresh").run("join", link, json=False, timeout=30).status == 1
    says(g.host.run("serve", "--reload", json=False), 1, said)
    os.chmod(above, 0o755)
    os.rename(f"{work}/good", path)
    assert g.host.run("serve", "--reload").status == 0
    assert works(g.client)
    assert g.host_proc.stderr.count(said) <= 2, g.host_proc.stderr   # by itself and by the reload


def test_a_journal_does_not_choose_what_root_deletes(programs, work):
    """SQLite deletes the file that a journal names as that of a transaction over several databases."""
    os.chmod(work, 0o755)
    state = users_directory(f"{work}/user")
    user = Actor(programs, None, state)
    assert user.run("keys").status == 0
    victim = f"{work}/victim"
    with open(victim, "w", encoding="ascii") as f:
        f.write("root's")
    database = f"{state}/device.db"
    with open(database, "rb") as f:
        page = struct.unpack(">H", f.read(18)[16:])[0]
    magic, name = bytes.fromhex("d9d505f920a163d7"), victim.encode()
    journal = (magic + struct.pack(">IIIII", 0, 1, os.path.getsize(database) // page, 512, page)).ljust(512, b"\0")
    journal += struct.pack(">I", 0x40000000 // page + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    with open(f"{database}-journal", "wb") as f:
        f.write(journal)
    give(state)
    user.run("keys", json=False)   # what it says is SQLite's
    with open(victim, encoding="ascii") as f:
        assert f.read() == "root's"


VOLUME = "mount -t tmpfs -o %s tmpfs %s && shift && exec setpriv --reuid=%d --regid=%d --clear-groups \"$@\""


@pytest.mark.parametrize("options", ["mode=0777", f"mode=2775,gid={NOBODY}", f"mode=0770,gid={NOBODY}"])
def test_a_containers_volume_is_taken_as_it_is_mounted(programs, work, options):
    """Root's, and writable for who runs there: nothing that who runs there could change."""
    os.chmod(work, 0o755)
    volume = f"{work}/volume"
    os.mkdir(volume)
    for state in (volume, f"{volume}/deeper"):
        who = Actor(programs, None, state)
        who.wrapper = ["unshare", "--mount", "sh", "-c", VOLUME % (options, volume, NOBODY, NOBODY), "sh", "-"]
        done = who.run("keys", json=False)
        assert done.status == 0 and "run 'chmod" not in done.stderr, done.stderr
