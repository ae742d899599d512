"""What a refusal says to run, run: in a setting of two accounts no hint leads to another
refusal, and none to nothing."""

import os
import re

import pytest

from .actors import HOST, postern
from .net import wait_until
from .test_newcomer import AS_NOBODY, NOBODY

pytestmark = [pytest.mark.postern, pytest.mark.needs("setpriv")]


class Two:
    """Ann, an ordinary user, and root, which she may become; each with the directory that
    is used where none is named. Ann's is in her home, root's is empty at the start."""

    def __init__(self, g, work):
        self.g, self.home = g, f"{work}/anna"
        self.state = f"{self.home}/.local/state/postern"
        os.chmod(work, 0o755)
        os.mkdir(self.home)
        os.chown(self.home, NOBODY, NOBODY)
        os.mkdir(f"{work}/varlib")
        users = f"{work}/passwd"
        with open(users, "w", encoding="ascii") as f:
            f.write(f"root:x:0:0::/root:/bin/sh\nanna:x:{NOBODY}:{NOBODY}::{self.home}:/bin/sh\n")
        self.mounts = ["unshare", "--mount", "sh", "-c", f'mount --bind {work}/varlib /var/lib; mount --bind {users} '
                       '/etc/passwd; exec "$@"', "sh"]

    def words(self, who, args):
        env = {"POSTERN_STATE": "", "XDG_STATE_HOME": "", "HOME": self.home}
        if who == "sudo":
            return [*self.mounts, postern(), *args], {**env, "SUDO_UID": str(NOBODY)}
        return [*self.mounts, *AS_NOBODY, postern(), *args], env

    def run(self, who, *args, ns=None):
        argv, env = self.words(who, args)
        return self.g.programs.run(ns or self.g.topo.host.ns, args[0], *argv, env=env)

    def start(self, who, *args, ns=None):
        argv, env = self.words(who, args)
        return self.g.programs.start(ns or self.g.topo.host.ns, args[0], *argv, env=env)

    def serve(self, who, *services, name=HOST):
        proc = self.start(who, "serve", "--json", "--broker", self.g.link, "--name", name, *services)
        proc.wait_event("ready", 20)
        return proc


@pytest.fixture
def two(gate, work):
    g = gate(host="none", client="none")
    g.start_broker()
    g.host.start_peer("tcp-server", 7000)
    return Two(g, work)


def hints(who, args, said):
    """(account, words) of each command that the last line advises."""
    line = said.strip().splitlines()[-1]
    advice = line.split("; ", 1)[-1]
    found = [("ann", list(args))] if "without sudo" in advice else []
    state = re.search(r"--state (/[^\s']*)", advice)
    if "run this with sudo" in advice:
        found.append(("sudo", [*args, *(["--state", state[1]] if state else [])]))
    elif state and "add '--state" in advice:
        found.append((who, [*args, "--state", state[1]]))
    for quoted, plain in re.findall(r"'(?:sudo )?postern ([^']*)'|(?<!['\w])postern ([a-z]+ [^;()']*)", advice):
        found.append(("sudo" if "sudo postern" in advice else who, (quoted or plain).split()))
    assert found, f"a refusal without anything to run: {line}"
    return found


def follow(t, who, args):
    """The command is refused, and each thing that it says to run works."""
    refused = t.run(who, *args)
    assert refused.status == 1, (who, args, refused.stdout, refused.stderr)
    for account, words in hints(who, args, refused.stderr):
        done = t.run(account, *words)
        assert done.status == 0, f"{who} {args}: {refused.stderr}\nsaid to run, as {account}: {words}\n{done.stderr}"


def test_sudo_beside_a_users_serve(two):
    """What is hers is named, and root may go on with it, or she without sudo."""
    t = two
    t.serve("ann", "7000")
    for args in (("invite",), ("ls", "--devices"), ("access", "ls"), ("serve", "--add", "more=7000"),
                 ("serve", "--reload")):
        follow(t, "sudo", args)
    for args in (("status",), ("doctor",), ("discover",)):
        told = t.run("sudo", *args)
        assert f"you do, with {t.state}; run this without sudo, or add '--state {t.state}'" in told.stderr, told.stderr
        beside = t.run("sudo", *args, "--state", t.state)
        assert beside.status == 0, beside.stderr
        assert all(": waiting: " in line for line in beside.stderr.splitlines()), beside.stderr
    assert "7000" in t.run("sudo", "status", "--state", t.state).stdout


def test_sudo_revoke_beside_a_users_serve(two):
    t = two
    t.serve("ann", "7000")
    link = t.run("ann", "invite", "--json").event("invite")["link"]
    assert t.g.client.run("join", link).status == 0
    t.g.client.start("up", "--names", "off").wait_event("path", 20)
    name = t.run("ann", "ls", "--devices", "--json").event("client")["name"]
    wait_until(lambda: name in t.run("ann", "status").stdout, what="the session")
    done = t.run("sudo", "revoke", name, "--state", t.state)
    assert done.status == 0 and done.stderr == "" and "1 live session" in done.stdout, (done.stdout, done.stderr)
    assert name not in t.run("ann", "status").stdout


def test_a_users_directory_that_root_serves(two):
    t = two
    t.run("ann", "ls", "--devices")
    os.makedirs(t.state, mode=0o700)
    at = t.state
    while at != t.home:
        os.chown(at, NOBODY, NOBODY)
        at = os.path.dirname(at)
    proc = t.start("sudo", "serve", "--json", "--broker", t.g.link, "--name", HOST, "7000", "--state", t.state)
    proc.wait_event("ready", 20)
    for args in (("status",), ("serve", "--add", "more=7000")):
        follow(t, "ann", args)


def test_services_beside_a_serve(two):
    """`serve SERVICE` beside one that runs: what it says to run publishes what is not yet published."""
    t = two
    t.serve("ann", "7000", "web=7000")
    follow(t, "ann", ("serve", "more=7000"))
    follow(t, "ann", ("serve", "7000"))
    follow(t, "ann", ("serve", "7000", "third=7000"))
    assert "third" in t.run("ann", "status", "--json").stdout or "third" in t.run("ann", "invite").stdout
    again = t.run("ann", "serve", "--add", "web=7000")
    assert again.status == 0 and "'web=7000' is published already" in again.stderr, again.stderr
    other = t.run("ann", "serve", "--add", "web=7001")
    assert other.status == 2 and "another service called 'web' is published already" in other.stderr, other.stderr
    assert "--add web-2=7001" in other.stderr, other.stderr


def test_what_is_added_and_does_not_answer_is_named(two):
    t = two
    t.serve("ann", "7000")
    done = t.run("ann", "serve", "--add", "nothere=9999", "cam=nosuchname:554", "sock=/run/nosuch.sock", "here=7000")
    assert done.status == 0, done.stderr
    for words in ("nothing listens there yet: start it", "on another machine: 'postern doctor' tries it",
                  "/run/nosuch.sock  is not there yet", "answers"):
        assert words in done.stdout, done.stdout
    for name in ("nothere", "cam", "sock"):
        assert name in done.stdout, done.stdout
    done = t.run("ann", "serve", "--reload", "7000", "gone=9998")
    assert done.status == 0 and "nothing listens there yet" in done.stdout, done.stdout


def test_a_user_without_home_is_known_by_her_number(two):
    """cron, systemd and `env -i` name no HOME."""
    t = two
    t.serve("ann", "7000")
    for home in ("", None):
        argv, env = t.words("ann", ("invite",))
        env["HOME"] = ""
        drop = ["env", "-u", "HOME"] if home is None else []
        done = t.g.programs.run(t.g.topo.host.ns, "invite", *argv[:-2], *drop, *argv[-2:], env=env)
        assert done.status == 0 and "postern" in done.stdout, done.stderr


def test_a_first_serve_beside_roots(two):
    """Who publishes with a broker's link is no one who meant root's."""
    t = two
    t.serve("sudo", "7000")
    proc = t.serve("ann", "7000", name="faybox")
    assert "root serves" not in proc.stderr, proc.stderr


def users_path(t):
    """Her directories down to the state directory, as a first command of hers makes them."""
    assert t.run("ann", "keys").status == 0
    return [f"{t.state}/{name}" for name in os.listdir(t.state)]


def test_roots_files_in_a_users_directory(two):
    """Restored by root, say: the mode is right, and it is the owner that has to change."""
    t = two
    files = users_path(t)
    t.run("ann", "ls", "--devices")
    for path in files:
        os.chown(path, 0, 0)
    for args in (("keys",), ("doctor",), ("up", "--names", "off")):
        done = t.run("ann", *args)
        cure = f"sudo chown -R {NOBODY} {t.state}"
        assert done.status == 1 and cure in done.stdout + done.stderr, (args, done.stdout, done.stderr)
        assert "chmod" not in done.stdout + done.stderr, (args, done.stdout, done.stderr)
    open(f"{t.state}/serve.lock", "w", encoding="ascii").close()
    os.chmod(f"{t.state}/serve.lock", 0o600)
    done = t.run("ann", "serve", "--broker", t.g.link, "--name", "anns", "22")
    assert done.status == 1 and cure in done.stderr and "chmod" not in done.stderr, done.stderr
    for top, _, names in os.walk(t.state):
        for path in (top, *(f"{top}/{n}" for n in names)):
            os.chown(path, NOBODY, NOBODY)
    assert t.run("ann", "keys").status == 0


def test_what_root_makes_in_a_home_is_the_users(two, work):
    """sudo postern join --state NEWDIR: the user goes on with it alone."""
    t = two
    t.serve("sudo", "7000")
    link = t.run("sudo", "invite", "--json").event("invite")["link"]
    new = f"{t.home}/a/b/state"
    assert t.run("sudo", "join", link, "--state", new).status == 0
    for top, _, names in os.walk(f"{t.home}/a"):
        assert {os.stat(path).st_uid for path in (top, *(f"{top}/{n}" for n in names))} == {NOBODY}, top
    assert HOST in t.run("ann", "ls", "--state", new).stdout
    os.mkdir(f"{work}/elsewhere", mode=0o700)  # root's: a link there makes nothing for her
    os.symlink(f"{work}/elsewhere", f"{t.home}/link")
    done = t.run("sudo", "keys", "--state", f"{t.home}/link/new")
    assert done.status == 0 and os.stat(f"{work}/elsewhere/new").st_uid == 0, done.stderr


def test_check_tells_no_link_again(two):
    t = two
    done = t.run("ann", "check", t.g.link)
    assert done.status == 2 and "a link is no file" in done.stderr, done.stderr
    assert t.g.link.split("/")[-1] not in done.stdout + done.stderr


# (what was done before, what is refused, the commands that it says to run). What a person
# has to fill in: LINK, NAME, LIST and SERVICE...
NOTHING, SERVED, ENDED, JOINED = "nothing yet", "a serve runs", "a serve ended", "a host was joined"
TABLE = [
    (NOTHING, ("invite",), ["serve --broker LINK SERVICE..."]),
    (NOTHING, ("serve",), []),
    (NOTHING, ("serve", "--add", "web=80"), ["serve --broker LINK SERVICE..."]),
    (NOTHING, ("serve", "--reload"), ["serve --broker LINK SERVICE..."]),
    (NOTHING, ("share", "/tmp"), ["serve --broker LINK 22"]),
    (NOTHING, ("receive", "/tmp"), ["serve --broker LINK 22"]),
    (NOTHING, ("nc", "home", "7000"), ["join LINK"]),
    (NOTHING, ("connect", "home:7000"), ["join LINK"]),
    (NOTHING, ("open", "home"), ["join LINK"]),
    (NOTHING, ("send", "/etc/hosts", "home"), ["join LINK"]),
    (NOTHING, ("ping",), ["ls"]),
    (NOTHING, ("access", "ls"), ["serve --broker LINK SERVICE...", "access add NAME --services LIST"]),
    (NOTHING, ("ls",), ["join LINK"]),
    (NOTHING, ("setup",), ["broker", "serve --broker LINK 22", "join LINK"]),
    (NOTHING, ("status",), ["ls"]),
    (ENDED, ("serve", "--reload"), ["serve"]),
    (ENDED, ("serve", "--add", "web=80"), ["serve"]),
    (ENDED, ("share", "/tmp"), ["serve"]),
    (SERVED, ("revoke", "nobody"), ["ls --devices"]),
    (SERVED, ("access", "set", "nobody", "--services", "all"), ["access"]),
    (SERVED, ("access", "remove", "nobody"), ["access"]),
    (SERVED, ("ls", "--devices"), ["invite"]),
    (JOINED, ("ping", "nobody"), ["ls"]),
    (JOINED, ("leave", "nobody"), ["ls"]),
]
STANDING = ("serve", "broker")


def advised(said):
    """The commands in what was said last, as they are to be typed."""
    advice = said.strip().splitlines()[-1].split("; ", 1)[-1]
    return re.findall(r"'postern ([^']*)'|postern (serve|join LINK)(?=$|[,; ])", advice)


@pytest.mark.parametrize("before, args, wanted", TABLE, ids=lambda x: " ".join(x) if isinstance(x, tuple) else "")
def test_each_command_that_is_advised_works(two, before, args, wanted):
    t = two
    t.g.start_host("7000")
    link = t.g.invite()
    if before == NOTHING and "join LINK" not in wanted:
        t.g.host_proc.terminate()   # else she is told of that one
    if before in (SERVED, ENDED):
        proc = t.serve("ann", "7000", name="anns")
        if before == ENDED:
            proc.terminate()
    elif before == JOINED:
        assert t.run("ann", "join", link).status == 0
    done = t.run("ann", *args)
    said = [a or b for a, b in advised(done.stderr if done.status else done.stdout)]
    said = [text for text in said if text not in ("broker", "invite") or text in wanted]   # who prints the link
    assert said == wanted, (said, done.stdout, done.stderr)
    for text in wanted:
        text = text.replace("--broker LINK", f"--broker {t.g.link} --name fay").replace("LINK", link)
        words = text.replace("SERVICE...", "7000").replace("NAME", "fay").replace("LIST", "all").split()
        if words[0] in STANDING:
            more = ["--listen", "127.0.0.1:8443"] if words[0] == "broker" else []
            proc = t.start("ann", *words, *more, "--json")
            proc.wait_event("ready", 20)
            if text == wanted[-1] or words[0] == "broker":
                proc.terminate()
        else:
            stdin = b"long enough\n" if words[:2] == ["access", "add"] else None
            argv, env = t.words("ann", words)
            done = t.g.programs.run(t.g.topo.host.ns, words[0], *argv, env=env, stdin=stdin)
            assert done.status == 0, (words, done.stdout, done.stderr)
