"""Names that resolve: HOST.postern in every program while `postern up` runs as root.

Every program of a machine runs in a mount namespace of its own with an /etc and a /root
of the test's: this machine's are never written.
"""

import os
import shutil
import stat

import pytest

from .actors import HOST, postern
from .net import wait_until
from .servers import Nginx, Sshd

pytestmark = pytest.mark.postern

COPIED = ("passwd", "group", "nsswitch.conf", "ld.so.cache", "alternatives", "ssl", "ssh",
          "services", "protocols", "host.conf", "gai.conf", "shells", "login.defs")
BEFORE = "127.0.0.1 localhost\n192.0.2.77 printer  # ours\n"
NOBODY = 65534


class House:
    """The client's machine: its /etc and /root, and what runs there."""

    def __init__(self, g, work, mount_file=False):
        self.g, self.etc, self.root = g, f"{work}/etc", f"{work}/root"
        os.makedirs(self.etc, mode=0o755)
        os.makedirs(f"{self.root}/.ssh", mode=0o700)
        for name in COPIED:
            source = f"/etc/{name}"
            if os.path.isdir(source):
                shutil.copytree(source, f"{self.etc}/{name}", symlinks=True)
            elif os.path.exists(source):
                shutil.copy2(source, self.etc)
        with open(f"{self.etc}/nsswitch.conf", "w", encoding="ascii") as f:
            f.write("passwd: files\ngroup: files\nhosts: files dns\n")
        self.hosts_file = f"{self.etc}/hosts"
        self.write(BEFORE)
        os.chmod(self.hosts_file, 0o640)
        os.chown(self.hosts_file, 0, 12)
        mounts = f"mount --bind {self.etc} /etc; mount --bind {self.root} /root; "
        if mount_file:  # as containers have it
            shutil.copy2(self.hosts_file, f"{work}/hosts")
            os.chown(f"{work}/hosts", 0, 12)
            self.hosts_file = f"{work}/hosts"
            mounts += f"mount --bind {work}/hosts /etc/hosts; "
        self.wrapper = ["unshare", "-m", "--propagation", "private", "sh", "-ec",
                        mounts + 'exec "$@"', "sh"]
        g.client.wrapper = self.wrapper
        g.client.more_env = {"POSTERN_NAMES": "", "HOME": "/root"}

    def write(self, text):
        with open(self.hosts_file, "w", encoding="ascii") as f:
            f.write(text)

    def hosts(self):
        with open(self.hosts_file, encoding="ascii") as f:
            return f.read()

    def run(self, *argv, **more):
        return self.g.programs.run(self.g.topo.client.ns, os.path.basename(argv[0]),
                                   *self.wrapper, *argv, env={"HOME": "/root"}, **more)

    def up(self, *args, by="/etc/hosts"):
        proc = self.g.client.start("up", *args)
        event = proc.wait_event("names")
        assert event["by"] == by, event
        return proc

    def has_name(self, host=HOST):
        return f" {host}.postern\n" in self.hosts()


@pytest.fixture
def house(gate, work):
    def build(*services, **how):
        g = gate(host="masq", client="masq")
        h = House(g, work, **how)
        g.up_and_joined(*services)
        return h
    return build


def ssh_home(h, sshd):
    """The key that the host's sshd knows, and what is no part of the wish: no questions."""
    shutil.copy(sshd.path("id"), f"{h.root}/.ssh/id_ed25519")
    with open(f"{h.root}/.ssh/config", "w", encoding="ascii") as f:
        f.write("StrictHostKeyChecking accept-new\nBatchMode yes\nLogLevel ERROR\n")


def users_state(g, work):
    """A copy of the client's state directory that is an ordinary user's."""
    os.chmod(work, 0o755)
    state = f"{work}/user"
    shutil.copytree(g.client.state, state, ignore=shutil.ignore_patterns("*.sock"))
    for path in (state, *(f"{state}/{name}" for name in os.listdir(state))):
        os.chown(path, NOBODY, NOBODY)
    return state


@pytest.mark.needs("ssh", "sshd", "curl", "nginx")
def test_programs_know_the_name(house, work):
    h = house("22", "web=8080")
    g = h.g
    Nginx(g.programs, g.topo.host.ns, work, {"page": (3_000, 9)}, port=8080)
    sshd = Sshd(g.programs, g.topo.host.ns, work)
    ssh_home(h, sshd)
    before = os.stat("/etc/hosts")
    up = h.up()
    up.wait_event("service", name="web")
    done = h.run("curl", "-sS", "-m", "20", f"http://{HOST}.postern:8080/page")
    assert done.status == 0 and len(done.stdout) > 2_000, done.stderr
    done = h.run("ssh", f"{HOST}.postern", "echo", "there")
    assert (done.status, done.stdout) == (0, "there\n"), done.stderr
    done = h.run("getent", "hosts", f"{HOST}.postern")
    assert done.stdout.startswith("127.80."), done.stdout
    assert up.terminate() == 0
    assert h.hosts() == BEFORE
    now = os.stat("/etc/hosts")
    assert (before.st_ino, before.st_mtime_ns) == (now.st_ino, now.st_mtime_ns)


def test_mode_and_owner_stay_and_others_lines_too(house):
    h = house("7000")
    up = h.up()
    wait_until(h.has_name, what="the name")
    st = os.stat(h.hosts_file)
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == (0o640, 0, 12)
    assert h.hosts().startswith(BEFORE)
    assert not [name for name in os.listdir(h.etc) if name.startswith("hosts.")]
    h.write(h.hosts() + "192.0.2.78 scanner\n")  # somebody adds a line behind ours
    assert up.terminate() == 0
    assert h.hosts() == BEFORE + "192.0.2.78 scanner\n"


def test_what_another_program_took_away_is_put_back(house):
    h = house("7000")
    h.up()
    wait_until(h.has_name, what="the name")
    h.write(BEFORE)
    wait_until(h.has_name, what="the name again")


def test_a_killed_one_is_cleaned_by_the_next(house):
    h = house("7000")
    up = h.up()
    wait_until(h.has_name, what="the name")
    up.kill()
    assert h.has_name()
    up = h.up()
    wait_until(h.has_name, what="the name")
    assert h.hosts().count("BEGIN") == 1
    up.kill()
    off = h.g.client.start("up", "--names", "off")
    off.wait_event("ready")
    wait_until(lambda: h.hosts() == BEFORE, what="the old file")
    refused = h.g.client.run("up", "--clean-names")
    assert refused.status == 1 and "running" in refused.event("error")["what"]
    off.terminate()
    h.up().kill()
    assert h.has_name()
    assert h.g.client.run("up", "--clean-names").status == 0
    assert h.hosts() == BEFORE


@pytest.mark.needs("setpriv")
def test_names_of_another_directory_are_cleaned_too(house, work):
    """sudo postern up --state DIR was killed; who cleans up need not know with what it ran."""
    h = house("7000")
    state = users_state(h.g, work)
    up = h.up("--state", state)
    wait_until(h.has_name, what="the name")
    assert h.g.client.run("up", "--clean-names", json=False).stderr == "" and h.has_name(), "it runs"
    assert "names" not in {e["check"] for e in h.g.client.run("doctor").events if e["event"] == "check"}
    up.kill()
    assert h.has_name()
    left, = [e for e in h.g.client.run("doctor").events if e.get("check") == "names"]
    assert left["state"] == "bad" and state in left["what"], left
    assert left["do"] == "run 'sudo postern up --clean-names'", left
    env = {"POSTERN_STATE": state}
    done = h.run("setpriv", f"--reuid={NOBODY}", "--clear-groups", "env", *(f"{k}={v}" for k, v in env.items()),
                 postern(), "up", "--clean-names")
    assert done.status == 1 and f"sudo postern up --clean-names --state {state}" in done.stderr, done.stderr
    done = h.g.client.run("up", "--clean-names", json=False)
    assert done.status == 0 and f"with {state}, which does not run any more" in done.stderr, done.stderr
    assert h.hosts() == BEFORE
    assert not [e for e in h.g.client.run("doctor").events if e.get("check") == "names"]


def test_hosts_that_join_have_their_names_at_once(house, work):
    h = house("7000")
    g = h.g
    h.up()
    other = g.other_client("second", g.topo.host.ns)
    serve = other.start("serve", "--broker", g.link, "--name", "second", "7000")
    serve.wait_event("ready", 20)
    link = other.run("invite").event("invite")["link"]
    assert not h.has_name("second")
    assert g.client.run("join", link).status == 0
    wait_until(lambda: h.has_name("second") and h.has_name(), what="both names")


def test_a_file_that_is_a_mount_is_written_into(house):
    h = house("7000", mount_file=True)
    node = os.stat(h.hosts_file).st_ino
    up = h.up()
    wait_until(h.has_name, what="the name")
    assert h.run("getent", "hosts", f"{HOST}.postern").stdout.startswith("127.80.")
    assert up.terminate() == 0
    assert h.hosts() == BEFORE and os.stat(h.hosts_file).st_ino == node


def test_a_link_out_of_its_directory_is_refused(house, work):
    h = house("7000")
    outside = f"{work}/outside"
    shutil.move(h.hosts_file, outside)
    os.symlink(outside, h.hosts_file)
    up = h.up(by=None)
    assert "link" in up.find("names")["reason"], up.stdout
    assert up.terminate() == 0 and h.hosts() == BEFORE
    failed = h.g.client.run("up", "--names", "hosts")
    assert failed.status == 1 and "link" in failed.event("error")["what"], failed.stdout
    os.unlink(h.hosts_file)
    shutil.move(outside, f"{h.etc}/hosts.real")
    os.symlink("hosts.real", h.hosts_file)  # inside it is followed
    up = h.up()
    wait_until(h.has_name, what="the name")
    assert up.terminate() == 0
    assert os.path.islink(h.hosts_file) and h.hosts() == BEFORE


def test_the_file_of_another_network_is_left_alone(house):
    """As under `ip netns exec` alone: /etc is that of who started it, loopback is not."""
    h = house("7000")
    h.g.client.wrapper = [*h.wrapper[:-2], h.wrapper[-2].replace("exec ", ""), "sh",
                          "unshare", "-n"]
    up = h.up(by=None)
    assert "another network" in up.find("names")["reason"], up.stdout
    up.terminate()
    failed = h.g.client.run("up", "--clean-names")
    assert failed.status == 1 and "another network" in failed.event("error")["what"]
    assert h.hosts() == BEFORE


@pytest.mark.needs("setpriv")
def test_an_ordinary_user_is_told_what_to_do(house, work):
    h = house("7000")
    state = users_state(h.g, work)
    up = h.g.programs.start(h.g.topo.client.ns, "up", *h.wrapper, "setpriv",
                            f"--reuid={NOBODY}", "--clear-groups", postern(), "up",
                            env={"POSTERN_STATE": state, "POSTERN_NAMES": ""})
    up.wait_line("postern ssh HOST")
    assert f"sudo postern up --state {state}" in up.stdout
    assert h.hosts() == BEFORE
    up.terminate()


@pytest.mark.needs("setpriv")
def test_root_may_run_it_with_a_users_state(house, work):
    """sudo postern up --state DIR, and afterwards the user goes on alone."""
    h = house("7000")
    g = h.g
    state = users_state(g, work)
    up = h.up("--state", state)
    wait_until(h.has_name, what="the name")
    up.wait_event("service")
    assert "root works here with the keys and lists of user" in up.stderr
    g.host.start_peer("tcp-server", 7000)
    user = g.other_client("user")
    user.state = state
    user.wrapper = [*h.wrapper, "setpriv", f"--reuid={NOBODY}", "--clear-groups"]
    assert user.run("ls").event("host")["name"] == HOST
    done = user.run("ping", "-c", "1", HOST)
    assert done.status == 0, done.stderr
    assert up.terminate() == 0
    own = user.start("up")
    own.wait_event("service")
    assert own.terminate() == 0


@pytest.mark.needs("setpriv")
def test_what_root_started_answers_the_states_owner(house, work):
    """The owner's commands beside `sudo postern up --state DIR`, and nobody else's."""
    h = house("7000")
    g = h.g
    state = users_state(g, work)
    g.client.more_env["SUDO_UID"] = str(NOBODY)
    up = h.up("--state", state)
    wait_until(h.has_name, what="the name")
    assert "lists of user" not in up.stderr
    g.host.start_peer("tcp-server", 7000)
    user = g.other_client("user")
    user.state = state
    user.wrapper = [*h.wrapper, "setpriv", f"--reuid={NOBODY}", "--clear-groups"]
    wait_until(lambda: os.path.exists(f"{state}/badges"), what="the broker's badge")
    for path in (f"{d}/{name}" for d, dirs, files in os.walk(state) for name in dirs + files):
        assert os.lstat(path).st_uid == NOBODY or path.endswith(".sock"), path
    for words in (["status"], ["nc", HOST, "7000"], ["keys", "rotate"], ["status"]):
        done = user.run(*words, json=False, stdin=b"")
        assert done.status == 0 and done.stderr == "", (words, done.stdout, done.stderr)
    os.chmod(state, 0o755)
    os.chmod(f"{state}/up.sock", 0o666)
    knock = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1]);"
             "print(s.recv(1))")
    for uid, heard in ((NOBODY - 1, False), (NOBODY, True)):
        done = g.programs.run(None, "knock", "setpriv", f"--reuid={uid}", "--clear-groups", "/usr/bin/python3", "-c", knock,
                              f"{state}/up.sock")
        assert ("timed out" in done.stderr) == heard, (uid, done.stdout, done.stderr)
    os.chmod(f"{state}/up.sock", 0o600)
    os.chmod(state, 0o700)
    done = user.run("leave", HOST, json=False)
    assert done.status == 0 and done.stderr == "", done.stderr
    wait_until(lambda: not h.has_name(), what="the name has gone")
    assert up.terminate() == 0


@pytest.mark.needs("ssh", "sshd")
def test_postern_ssh(house, work):
    h = house("22", "other=2222")
    g = h.g
    g.client.state = shutil.move(g.client.state, f"{work}/it's 100%n")
    sshd = Sshd(g.programs, g.topo.host.ns, work)
    ssh_home(h, sshd)

    def ssh(*args):
        return h.run(postern(), "ssh", *args)
    state = ("--state", g.client.state)
    for args in ((HOST, "echo", "--state", "$((6*7))"), (f"root@{HOST}.postern", "-T",
                 "echo --state $((6*7))")):
        done = ssh(*state, *args)
        assert (done.status, done.stdout) == (0, "--state 42\n"), done.stderr
    assert ssh(*state, HOST, "exit", "7").status == 7
    done = ssh(*state, HOST, "-p", "2222", "true")  # nobody listens there
    assert done.status == 255, done.stderr
    for wrong in ("-oProxyCommand=x", "me@-x", "a/b"):
        done = ssh(*state, "--", wrong)
        assert done.status == 2 and "is not a host" in done.stderr, done.stderr
    assert ssh(*state).status == 2


@pytest.mark.needs("ssh", "sshd")
def test_ssh_config_is_installed_once(house, work):
    h = house("22")
    g = h.g
    sshd = Sshd(g.programs, g.topo.host.ns, work)
    ssh_home(h, sshd)
    config, before = f"{h.root}/.ssh/config", open(f"{h.root}/.ssh/config").read()
    shutil.move(config, f"{h.root}/dotfile")  # as those who keep it elsewhere have it
    os.symlink("../dotfile", config)
    os.chmod(f"{h.root}/dotfile", 0o644)
    for _ in range(2):
        done = g.client.run("nc", "--ssh-config", "--install", "--state", g.client.state)
        assert done.status == 0 and done.event("ssh-config")["file"] == "/root/.ssh"
        with open(config, encoding="ascii") as f:
            assert f.read() == "Include postern.conf\n" + before
    assert os.path.islink(config)
    assert stat.S_IMODE(os.stat(config).st_mode) == 0o644
    assert stat.S_IMODE(os.stat(f"{h.root}/.ssh/postern.conf").st_mode) == 0o600
    done = h.run("ssh", f"{HOST}.postern", "echo", "there")
    assert (done.status, done.stdout) == (0, "there\n"), done.stderr
    shown = g.client.run("nc", "--ssh-config", json=False).stdout
    assert shown == f"Host *.postern\n    ProxyCommand {postern()} nc %n %p\n"
    os.unlink(config)
    shutil.rmtree(f"{h.root}/.ssh")
    assert g.client.run("nc", "--ssh-config", "--install").status == 0
    assert stat.S_IMODE(os.stat(f"{h.root}/.ssh").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(config).st_mode) == 0o600
    assert g.client.run("nc", "--install").status == 2


def read_if_there(path):
    if not os.path.exists(path):
        return ""
    with open(path, encoding="ascii") as f:
        return f.read()


@pytest.mark.needs("curl", "nginx")
def test_postern_open(house, work):
    h = house("22", "web=8080", "admin=9443", "dns=udp:53")
    g = h.g
    Nginx(g.programs, g.topo.host.ns, work, {"page": (3_000, 9)}, port=8080)
    os.makedirs(f"{work}/bin")
    browser = f"{work}/bin/xdg-open"
    with open(browser, "w", encoding="ascii") as f:
        f.write(f'#!/bin/sh\necho "$@" >>{work}/opened\n')
    os.chmod(browser, 0o755)
    g.client.more_env |= {"PATH": f"{work}/bin:{os.environ['PATH']}", "DISPLAY": ":7",
                          "BROWSER": ""}
    proc = g.client.start("open", HOST)
    event = proc.wait_event("open")
    assert event["url"] == "http://127.0.0.1:8080/" and event["browser"] == "xdg-open"
    wait_until(lambda: read_if_there(f"{work}/opened") == event["url"] + "\n",
               what="the browser")
    done = h.run("curl", "-sS", "-m", "20", event["url"] + "page")
    assert done.status == 0 and len(done.stdout) > 2_000, done.stderr
    assert proc.terminate() == 0
    os.unlink(browser)
    g.client.wrapper = [*h.wrapper, "/usr/bin/env", "PATH=/nowhere"]  # only printed then
    proc = g.client.start("open", f"{HOST}.postern:admin")
    event = proc.wait_event("open")
    assert event["url"] == "https://127.0.0.1:9443/" and event["browser"] is None
    assert proc.terminate() == 0


def test_postern_open_asks_which(house):
    h = house("22", "a=7001", "b=7002")
    failed = h.g.client.run("open", HOST)
    assert failed.status == 2 and "22, a, b" in failed.event("error")["what"]
    failed = h.g.client.run("open", "nowhere")
    assert failed.status == 1, failed.stdout


FAKE = """#!/bin/sh
echo "$@" >>{work}/asked
ip -o address show dev "$2" >>{work}/links
exit $(cat {work}/status 2>/dev/null || echo 0)
"""


def test_systemd_resolved_is_told(house, work):
    """By a resolvectl that only writes down what it is asked, and shows the link."""
    h = house("7000")
    g = h.g
    os.makedirs(f"{work}/run/systemd")
    os.makedirs(f"{work}/bin")
    with open(f"{work}/bin/resolvectl", "w", encoding="ascii") as f:
        f.write(FAKE.format(work=work))
    os.chmod(f"{work}/bin/resolvectl", 0o755)
    g.client.more_env["PATH"] = f"{work}/bin:{os.environ['PATH']}"
    g.client.wrapper = [*h.wrapper[:-2], f"mount --bind {work}/run /run; {h.wrapper[-2]}",
                        "sh"]
    failed = g.client.run("up", "--names", "resolved")
    assert failed.status == 1 and "does not run" in failed.event("error")["what"]
    assert failed.event("ready") is None, failed.stdout
    os.makedirs(f"{work}/run/systemd/resolve")
    up = h.up("--names", "resolved", by="systemd-resolved")
    with open(f"{work}/asked", encoding="ascii") as f:
        assert f.read() == ("dns postern0 127.80.0.53\ndomain postern0 ~postern\n"
                            "default-route postern0 no\nllmnr postern0 no\n")
    with open(f"{work}/links", encoding="ascii") as f:
        assert "inet 127.80.0.53/32 scope global postern0" in f.read()
    assert h.hosts() == BEFORE

    def has_link():
        return "postern0" in g.topo.client.ns.ip("-o", "link", "show")
    assert has_link()
    up.kill()
    wait_until(lambda: not has_link(), what="the link to go")
    with open(f"{work}/status", "w", encoding="ascii") as f:
        f.write("3")
    up = h.up("--names", "resolved", by=None)
    assert "resolvectl dns ended with 3" in up.find("names")["reason"], up.stdout
    assert up.terminate() == 0
