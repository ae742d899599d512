"""`postern service`: what was started by hand goes on as a unit of systemd, as the same
host. With systemd itself as process 1 of a machine of its own, and a user's own there; where it matters
how they are asked, with programs in their place that write it down."""

import os
import re
import shutil
import signal
import subprocess

import pytest

from .actors import HOST, Actor, postern
from .net import wait_until
from .test_badinput import says
from .topology import build_dir, root_dir

pytestmark = [pytest.mark.postern, pytest.mark.needs("setpriv", "unshare", "nsenter")]

HERE = os.path.dirname(os.path.abspath(__file__))
NOBODY = 65534
SYSTEMD = "/lib/systemd/systemd"


def groups():
    """Where the control groups of version 2 are."""
    with open("/proc/mounts", encoding="ascii") as f:
        found = [line.split()[1] for line in f if line.split()[2] == "cgroup2"]
    return found[0] if found else None


class Machine:
    """A machine whose process 1 is systemd, in a namespace of the lab."""

    def __init__(self, programs, ns, *shown):
        self.group = os.path.join(groups(), ns.netns)
        os.mkdir(self.group)
        self.proc = programs.start(ns, "systemd", os.path.join(HERE, "machine.sh"), ns.netns, *shown)

    def boot(self):
        wait_until(self._answers, 30, "systemd answers")

    @property
    def pid(self):
        own = self.proc.popen.pid
        with open(f"/proc/{own}/task/{own}/children", encoding="ascii") as f:
            return (f.read().split() or [None])[0]

    def _answers(self):
        assert self.proc.running, self.proc.stderr
        said = self.pid and subprocess.run([*self.inside, "systemctl", "is-system-running"], check=False,
                                           capture_output=True, text=True).stdout.strip()
        return said in ("running", "degraded")

    @property
    def inside(self):
        return ["nsenter", "--target", self.pid, "--mount", "--pid", "--cgroup", "--ipc", "--uts"]

    def end(self):
        if self.proc.running and self.pid:
            os.kill(int(self.pid), signal.SIGKILL)
        self.proc.wait(10)
        wait_until(self._emptied, 10, "its control groups are empty")

    def _emptied(self):
        for top, _, _ in os.walk(self.group, topdown=False):
            try:
                os.rmdir(top)
            except OSError:
                return False
        return True


@pytest.fixture
def served(gate):
    """A host whose machine has systemd."""
    if not os.path.exists(SYSTEMD) or groups() is None:
        pytest.skip("no systemd, or no cgroup2")
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.machine = Machine(g.host.programs, g.host.ns, g.work, build_dir())
    try:
        g.machine.boot()
        g.host.wrapper = g.machine.inside
        yield g
    finally:
        g.machine.end()


def state_of(who, role="serve"):
    done = who.run("service", "status", role)
    assert done.status == 0, done.stderr
    return done.event("unit")


def flows(g):
    return g.client.run("nc", HOST, "7000", json=False, stdin=b"").status == 0


def test_by_hand_and_by_unit_are_one_host(served):
    g = served
    g.start_host("7000")
    g.join()
    key = g.host.run("keys").event("key")["key"]
    assert state_of(g.host)["state"] == "by-hand"
    done = g.host.run("service", "install")
    assert done.status == 0, done.stderr
    unit = done.event("unit")
    assert (unit["role"], unit["state"]) == ("serve", "active"), unit
    assert unit["file"] == "/etc/systemd/system/postern-serve.service"
    assert "ran by hand" in done.stderr and g.host_proc.wait(10) == 0
    wait_until(lambda: flows(g), 20, "the same host, for who joined it before")
    assert g.host.run("keys").event("key")["key"] == key
    verified = g.host.programs.run(None, "verify", *g.machine.inside, "systemd-analyze", "verify", unit["file"])
    assert verified.status == 0 and verified.stderr == "", verified.stderr
    again = g.host.run("service", "install", "serve", "--absent", "10m")
    assert again.status == 0 and "by hand" not in again.stderr, again.stderr
    text = g.host.programs.run(None, "cat", *g.machine.inside, "cat", unit["file"]).stdout
    assert '"serve" "--absent" "10m"\n' in text, text
    wait_until(lambda: flows(g), 20)
    gone = g.host.run("service", "remove")
    assert gone.status == 0 and gone.event("unit")["state"] == "none", gone.stderr
    assert state_of(g.host) == {"event": "unit", "role": "serve", "state": "none", "file": None}
    says(g.host.run("service", "remove", json=False), 1, "there is no unit to remove")
    says(g.host.run("service", "remove", "up", json=False), 1, "there is no unit /etc/systemd")


def packaged(role, program):
    """tools/postern-ROLE.service.in, as packages and `make install` have it."""
    with open(f"{root_dir()}/tools/postern-{role}.service.in", encoding="utf-8") as f:
        return f.read().replace("@PREFIX@/bin/postern", program)


@pytest.mark.parametrize("role,most", [("serve", 2.0), ("broker", 2.0), ("up", 6.2)])
def test_how_much_the_units_of_the_packages_expose(programs, work, role, most):
    path = os.path.join(work, f"postern-{role}.service")
    with open(path, "w", encoding="utf-8") as f:
        f.write(packaged(role, "/usr/bin/postern"))
    done = programs.run(None, "exposure", "systemd-analyze", "security", "--offline=true", "--no-pager", path)
    said = re.search(r"exposure level for .*: ([0-9.]+)", done.stdout)
    assert said and float(said[1]) <= most, done.stdout


def test_the_units_of_the_packages_work(served):
    """A broker of a user of its own and a host of root's, each in its box: with the helper,
    which knocks and gates, a reload, and nothing written elsewhere."""
    g = served

    def inside(*words, **more):
        return g.host.programs.run(g.host.ns, words[0], *g.machine.inside, *words, **more)
    place = "/run/postern-lab"   # which the boxes show, wherever the build lies
    assert inside("mkdir", place).status == 0
    for program in (g.host.program, f"{os.path.dirname(g.host.program)}/postern-helper"):
        assert inside("cp", program, place).status == 0
    text = packaged("broker", f"{place}/postern").replace(
        "--public meet.example.org", "--listen 127.0.0.1:4443 --public 127.0.0.1:4443 --open")
    assert inside("tee", "/etc/systemd/system/postern-broker.service", stdin=text.encode()).status == 0
    text = packaged("serve", f"{place}/postern").replace("PrivateTmp=yes\n", "")   # the state lies there
    text = text.replace("POSTERN_STATE=/var/lib/postern", f"POSTERN_STATE={g.host.state}")
    text = text.replace("[Service]\n", f"[Service]\nReadWritePaths={g.host.state}\n")
    g.start_host("7000")
    g.join()
    hand = inside("pgrep", "--full", "postern serve").stdout.split()
    assert inside("kill", *hand).status == 0 and g.host_proc.wait(10) == 0
    assert inside("tee", "/etc/systemd/system/postern-serve.service", stdin=text.encode()).status == 0
    assert inside("systemctl", "daemon-reload").status == 0
    for role in ("broker", "serve"):
        done = inside("systemctl", "start", f"postern-{role}")
        assert done.status == 0, inside("systemctl", "status", f"postern-{role}").stdout
        pid = inside("systemctl", "show", "--property=MainPID", "--value", f"postern-{role}").stdout.strip()
        status = inside("grep", "-E", "Seccomp:|NoNewPrivs|CapPrm", f"/proc/{pid}/status").stdout
        assert "Seccomp:\t2" in status and "NoNewPrivs:\t1" in status, status
        assert int(re.search(r"CapPrm:\t(\w+)", status)[1], 16) & (1 << 12 | 1 << 13) == 0, \
            "it gave the network's capabilities to its helper"
        assert inside("pgrep", "--parent", pid, "--list-name").stdout.count("postern-keeper") == 2
        limit = inside("systemctl", "show", "--property=LimitNOFILE", "--value", f"postern-{role}").stdout
        assert int(limit) == 1048576, limit
    wait_until(lambda: flows(g), 20, "the host is there")
    proc = g.connect("7000", None, "--paths", "udp-knock,relay")
    proc.wait_event("path", 20, kind="udp-knock")
    assert inside("systemctl", "reload", "postern-serve").status == 0
    assert flows(g)
    for role in ("serve", "broker"):
        assert inside("systemctl", "stop", f"postern-{role}").status == 0
        assert inside("systemctl", "show", "--property=Result", f"postern-{role}").stdout == "Result=success\n"


SOCKET = "[Socket]\nListenStream=127.0.0.1:4443\nListenDatagram=127.0.0.1:4443\n"


def test_a_socket_unit_starts_the_broker(served):
    """It has its ports from systemd: here without the capability to bind them."""
    g = served

    def inside(*words, **more):
        return g.host.programs.run(g.host.ns, words[0], *g.machine.inside, *words, **more)
    done = g.host.run("service", "install", "broker", "--listen", "127.0.0.1:4443", "--public", "127.0.0.1:4443",
                      "--no-portal")
    assert done.status == 0 and done.event("unit")["state"] == "active", done.stderr
    assert done.event("unit")["pid"] > 0, "it was ready before that was said"
    status = inside("systemctl", "show", "--property=Type,StatusText,WatchdogUSec", "postern-broker").stdout
    assert "Type=notify" in status and "StatusText=introduces hosts and clients" in status, status
    assert inside("systemctl", "stop", "postern-broker").status == 0
    assert inside("tee", "/etc/systemd/system/postern-broker.socket", stdin=SOCKET.encode()).status == 0
    assert inside("systemctl", "daemon-reload").status == 0
    assert inside("systemctl", "start", "postern-broker.socket").status == 0
    assert state_of(g.host, "broker")["state"] == "inactive"
    knock = g.host.programs.run(g.host.ns, "knock", "python3", "-c",
                                "import socket; socket.create_connection(('127.0.0.1', 4443), 5)")
    assert knock.status == 0, knock.stderr
    wait_until(lambda: state_of(g.host, "broker")["state"] == "active", 20, "it was started")
    held = inside("ss", "--listening", "--numeric", "--processes", "--tcp", "--udp").stdout
    assert held.count("4443") >= 2 and '"systemd"' in held, held


MANAGER = """[Service]
Type=notify
User={user}
Group={user}
Delegate=yes
Environment=XDG_RUNTIME_DIR=/run/user/{user} HOME={home} PATH={path}
ExecStart=/lib/systemd/systemd --user
"""


@pytest.fixture
def manager(served):
    """A user's own systemd on that machine, as a login starts it; loginctl, which needs logind,
    is one that does nothing."""
    g = served
    home = os.path.join(g.work, "user")
    os.makedirs(f"{home}/bin", mode=0o755)
    with open(f"{home}/bin/loginctl", "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nexit 0\n")
    os.chmod(f"{home}/bin/loginctl", 0o755)
    for path in (home, f"{home}/bin"):
        os.chown(path, NOBODY, NOBODY)
    os.chmod(g.work, 0o755)
    path = f"{home}/bin:{os.environ['PATH']}"
    unit = MANAGER.format(user=NOBODY, home=home, path=path)

    def inside(*words, **more):
        done = g.host.programs.run(g.host.ns, words[0], *g.machine.inside, *words, **more)
        assert done.status == 0, (words, done.stderr)
        return done.stdout
    inside("install", "-d", "-o", str(NOBODY), "-g", str(NOBODY), "-m", "700", f"/run/user/{NOBODY}")
    inside("tee", "/run/systemd/system/manager.service", stdin=unit.encode())
    inside("systemctl", "daemon-reload")
    inside("systemctl", "start", "manager")
    who = Actor(g.host.programs, g.host.ns, f"{home}/state")
    who.wrapper = [*g.machine.inside, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    who.more_env = {"HOME": home, "XDG_CONFIG_HOME": "", "XDG_RUNTIME_DIR": f"/run/user/{NOBODY}", "PATH": path}
    who.home, who.inside = home, inside

    def systemctl(*words):
        return inside("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env",
                      f"XDG_RUNTIME_DIR=/run/user/{NOBODY}", "systemctl", "--user", *words)
    who.systemctl = systemctl
    return g, who


def test_a_user_has_a_unit_of_his_own_manager(manager):
    g, who = manager
    g.start_host("7000")
    g.join(who)
    done = who.run("service", "install", "up")
    assert done.status == 0 and done.event("unit")["state"] == "active", done.stderr
    shown = who.systemctl("show", "--property=Type,StatusText,WatchdogUSec,UnitFileState", "postern-up")
    assert "Type=notify" in shown and "WatchdogUSec=2min" in shown and "UnitFileState=enabled" in shown, shown
    wait_until(lambda: who.run("status", "--check").status == 0, 20, "its host is online")
    pid = state_of(who, "up")["pid"]
    who.inside("kill", "-KILL", str(pid))
    wait_until(lambda: state_of(who, "up").get("pid", pid) != pid, 20, "it was started again")
    gone = who.run("service", "remove", "up")
    assert gone.status == 0 and gone.event("unit")["state"] == "none", gone.stderr


def test_the_example_of_a_users_unit(manager):
    """tools/postern-up.service.in, as packages and `make install` have it."""
    g, who = manager
    g.start_host("7000")
    g.join(who)
    text = packaged("up", who.program)
    os.makedirs(f"{who.home}/.config/systemd/user")
    with open(f"{who.home}/.config/systemd/user/postern-up.service", "w", encoding="utf-8") as f:
        f.write(text.replace("[Service]\n", f"[Service]\nEnvironment=POSTERN_STATE={who.state}\n"))
    for folder in (".config", ".config/systemd", ".config/systemd/user"):
        os.chown(f"{who.home}/{folder}", NOBODY, NOBODY)
    who.systemctl("daemon-reload")
    who.systemctl("enable", "--now", "postern-up")
    assert "StatusText=" in who.systemctl("show", "--property=StatusText", "postern-up")
    wait_until(lambda: who.run("status", "--check").status == 0, 20, "its host is online")
    who.systemctl("stop", "postern-up")
    assert who.systemctl("show", "--property=Result", "postern-up") == "Result=success\n"


@pytest.fixture
def here(programs, work):
    return Actor(programs, None, os.path.join(work, "here"))


def test_without_systemd(here):
    here.wrapper = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run; exec "$@"', "sh"]
    says(here.run("service", "install", "up", json=False), 1,
         f"no systemd runs on this machine; let what starts programs here run POSTERN_STATE={here.state} postern up")
    says(here.run("service", "install", "broker", "--public", "meet.example.org", "--open", "--domain", "a b", json=False), 1,
         f"POSTERN_STATE={here.state} postern broker --public meet.example.org --open --domain 'a b'")
    says(here.run("service", "install", "up", "--names", "nonsense", json=False), 2,
         "'nonsense' is no way to make names known; use auto, hosts, resolved or off")
    with open(here.state + ".link", "w", encoding="ascii") as f:
        f.write("postern://b.example\n")
    says(here.run("service", "install", "serve", "--broker", f"@{f.name}", json=False), 2, "a link does not belong into a unit")
    says(here.run("service", "install", "serve", json=False), 1, "nothing is published here yet; run 'postern serve --broker LINK")
    for role in ("serve", "up"):
        gone = here.run("service", "remove", role, json=False)
        says(gone, 1, f"there is no unit /etc/systemd/system/postern-{role}.service; see 'postern service status'")
        assert "let what starts" not in gone.stderr
    assert here.run("keys", json=False).status == 0
    says(here.run("service", "status", json=False), 1, "nothing was started here yet")


def test_words_that_are_wrong(here):
    says(here.run("service", json=False), 2, "use install, remove or status")
    says(here.run("service", "start", json=False), 2, "'start' is nothing to do with a service")
    says(here.run("service", "status", "nc", json=False), 2, "use serve, up or broker")
    says(here.run("service", "status", json=False), 1, "nothing was started here yet")
    says(here.run("service", "remove", "up", "now", json=False), 2, "'now' means nothing here")


@pytest.fixture
def user(here, work):
    """An ordinary user, and stand-ins for systemctl and loginctl."""
    bin_dir, home = os.path.join(work, "bin"), os.path.join(work, "user")
    for path in (bin_dir, home):
        os.mkdir(path)
    calls = os.path.join(home, "calls")
    for name in ("systemctl", "loginctl"):
        with open(os.path.join(bin_dir, name), "w", encoding="ascii") as f:
            f.write(f'#!/bin/sh\necho "{name} $*" >>{calls}\n'
                    f'case "$*" in *is-active*) echo active ;; esac\n'
                    f'[ "$FAIL" != "$2" ] || {{ echo "Failed to do that" >&2; exit 1; }}\n')
        os.chmod(os.path.join(bin_dir, name), 0o755)
    shutil.copy(postern(), bin_dir)
    here.program = os.path.join(bin_dir, "postern")
    here.state = os.path.join(home, "state")
    os.chown(home, NOBODY, NOBODY)
    for path in (work, bin_dir, home):
        os.chmod(path, 0o755)
    here.wrapper = ["unshare", "--mount", "sh", "-c",
                    "mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/system /run/user/65534/systemd;"
                    ' : >/run/user/65534/systemd/private; exec "$@"', "sh",
                    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    here.more_env = {"HOME": home, "XDG_CONFIG_HOME": "", "PATH": f"{bin_dir}:{os.environ['PATH']}"}
    here.calls = calls
    here.unit = os.path.join(home, ".config/systemd/user/postern-up.service")
    return here


def test_an_ordinary_user_has_a_lingering_unit(user):
    done = user.run("service", "install", "up", "--names", "off")
    assert done.status == 0, done.stderr
    assert done.event("unit")["file"] == user.unit
    with open(user.calls, encoding="ascii") as f:
        called = f.read().splitlines()
    assert called[0] == "loginctl enable-linger"
    assert called[1:-1] == [f"systemctl --user {what}" for what in (
        "daemon-reload", "stop postern-up.service", "enable postern-up.service", "start postern-up.service")]
    with open(user.unit, encoding="ascii") as f:
        text = f.read()
    assert f'ExecStart="{user.program}" "up" "--names" "off"\n' in text, text
    assert f'Environment="POSTERN_STATE={user.state}"\n' in text
    assert "WantedBy=default.target" in text and "NoNewPrivileges" not in text
    done = user.run("service", "remove", "up")
    assert done.status == 0 and not os.path.exists(user.unit), done.stderr


def test_what_is_refused(user):
    def install(*args, **env):
        user.more_env = {**user.more_env, **env}
        return user.run("service", "install", *args, json=False)
    says(install("serve"), 1, "nothing is published here yet")
    says(install("up", "--nmaes", "off"), 2, "did you mean '--names'?")
    says(install("up", "--state", "x"), 2, "put it before that")
    says(install("serve", "--broker", "x"), 2, "a link does not belong into a unit")
    says(install("serve", "--config", "serve.conf"), 2, "a unit does not find 'serve.conf'; write it from / on")
    says(install("serve", "--config", "/a\nb"), 2, "a unit takes no line break or other control character, and one of the options")
    says(install("up", FAIL="enable"), 1, "systemctl enable postern-up.service failed: Failed to do that")
    with open(user.unit, "w", encoding="ascii") as f:
        f.write("[Service]\n")
    says(install("up"), 1, "was not made by 'postern service install'")
    says(user.run("service", "remove", "up", json=False), 1, "was not made by")


@pytest.mark.parametrize("where", ["--state", "POSTERN_STATE", "HOME"])
@pytest.mark.parametrize("char", "\n\r\t\x1b\x7f", ids=["lf", "cr", "tab", "esc", "del"])
def test_a_unit_has_no_directives_of_a_path(user, where, char):
    named = os.path.join(os.path.dirname(user.state), f"a{char}ExecStartPre=touch owned{char}#")
    more = ["--state", named] if where == "--state" else []
    user.more_env = {**user.more_env, **({where: named} if not more else {}), "XDG_STATE_HOME": ""}
    if where == "HOME":
        user.more_env["POSTERN_STATE"] = ""
    done = user.run("service", *more, "install", "up", json=False)
    says(done, 2, "a unit takes no line break or other control character, and the state directory's path has one")
    home = named if where == "HOME" else os.path.dirname(user.state)
    assert not os.path.exists(os.path.join(home, ".config")) and not os.path.exists(user.calls)


def test_words_of_a_unit_are_quoted(user):
    done = user.run("service", "install", "broker", '--domain=a"b\\c$d%e')
    assert done.status == 0, done.stderr
    with open(user.unit.replace("up", "broker"), encoding="ascii") as f:
        assert '"--domain=a\\"b\\\\c$$d%%e"' in f.read()
