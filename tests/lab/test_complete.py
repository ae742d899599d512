"""What Tab offers: the program's own word for it, and three real shells. The manual."""

import os
import pty
import re
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from .actors import HOST, postern
from .net import patience

pytestmark = pytest.mark.postern

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "packaging" / "completion"


def complete(actor, *words):
    """The candidates for the last word."""
    done = subprocess.run([postern(), "complete", "--", *words], text=True, timeout=20,
                          env={**os.environ, "POSTERN_STATE": str(actor.state)},
                          capture_output=True, check=True)
    assert done.stderr == ""
    return [line.split("\t")[0] for line in done.stdout.splitlines()]


@pytest.fixture
def known(gate):
    """A client that joined, a host with two services, a device and an account."""
    g = gate()
    g.up_and_joined("web=8080", "22")
    done = g.host.run("access", "add", "anna", "--services", "web", stdin=b"long enough\n")
    assert done.status == 0, done.stderr
    return g


def test_offers_what_the_state_directory_knows(known, tmp_path):
    g = known
    device = g.host.run("ls", "--devices").event("client")["name"]
    assert complete(g.client, "ping", "") == [HOST]
    assert complete(g.client, "ping", "nobody") == []
    assert complete(g.client, "ping", "--json", "--count", "3", HOST[:1]) == [HOST]
    assert complete(g.client, "nc", HOST, "") == ["web", "22"]
    assert complete(g.client, "nc", HOST, "web", "") == []
    assert complete(g.client, "connect", "") == [HOST + ":"]
    assert complete(g.client, "connect", HOST + ":w") == [HOST + ":web"]
    assert complete(g.host, "revoke", "") == [device]
    assert complete(g.host, "access", "set", "") == ["anna"]
    assert complete(g.host, "access", "add", "") == []
    assert complete(g.host, "access", "public", "") == ["web", "22"]
    assert complete(g.host, "invite", "--services", "22,w") == ["22,web"]
    assert complete(g.host, "run", "--for=a") == ["--for=anna"]
    assert complete(g.client, "ping", "--paths", "relay,udp-p") == ["relay,udp-punch"]
    assert complete(g.client, "inv") == ["invite"]
    assert "--services" in complete(g.client, "invite", "--")
    assert complete(g.client, "run", "--", "--js") == [":commands"]
    assert complete(g.client, "serve", "--state", "") == [":dirs"]
    assert complete(g.client, "no-such-command", "") == []
    away = tmp_path / "away"
    assert complete(g.host, "ping", "--state", str(g.client.state), "") == [HOST]
    assert complete(g.client, "ping", "--state", str(away), "") == []
    assert not away.exists()


def shell_shows(argv, begin, typed, want, env):
    """Types into a shell on a terminal until what it shows has `want`."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], argv, env)
    try:
        os.write(fd, (begin + "\necho rea''dy\n").encode())
        shown, end, asked = "", time.monotonic() + 20 * patience(), False
        while time.monotonic() < end:
            if select.select([fd], [], [], 0.2)[0]:
                shown += os.read(fd, 4096).decode(errors="replace")
            if not asked and "ready" in shown:
                asked, shown = True, ""
                os.write(fd, typed.encode())
            if asked and want in shown:
                return
        raise AssertionError(f"{argv[0]}: {want!r} is not in {shown!r}")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(fd)


def shell_env(actor):
    return {"PATH": f"{Path(postern()).parent}:/usr/bin:/bin", "TERM": "dumb", "HOME": "/nowhere",
            "POSTERN_STATE": str(actor.state), "LANG": "C.UTF-8"}


CASES = [("postern ping " + HOST[:2] + "\t", "postern ping " + HOST),
         (f"postern connect {HOST}:w\t", f"postern connect {HOST}:web"),
         ("postern netc\t", "postern netcheck"),
         ("postern invite --exp\t", "postern invite --expires")]


def test_bash(known):
    for typed, want in CASES:
        shell_shows(["bash", "--norc", "--noprofile", "-i"], f"source {SCRIPTS}/postern.bash",
                    typed, want, shell_env(known.client))


def test_zsh(known, tmp_path):
    if not shutil.which("zsh"):
        pytest.skip("zsh is missing")
    begin = (f"fpath=({SCRIPTS} $fpath); autoload -U compinit; "
             f"compinit -u -d {tmp_path}/dump; unsetopt zle_bracketed_paste")
    for typed, want in CASES:
        shell_shows(["zsh", "-f", "-i"], begin, typed, want, shell_env(known.client))


def test_fish(known, tmp_path):
    if not shutil.which("fish"):
        pytest.skip("fish is missing")
    for typed, want in CASES:
        done = subprocess.run(
            ["fish", "--no-config", "-c",
             f"source {SCRIPTS}/postern.fish; complete -C '{typed.strip()}'"],
            env={**shell_env(known.client), "HOME": str(tmp_path)}, text=True, timeout=30,
            capture_output=True, check=True)
        assert want.split()[-1] in [x.split("\t")[0] for x in done.stdout.splitlines()], done


def test_manual_has_each_command_and_option():
    build = Path(postern()).parent
    helps = subprocess.run([postern(), "--help"], text=True, capture_output=True, check=True).stdout
    names = re.findall(r"^  (\w+) +\S", helps, re.M)
    assert sorted(p.name for p in build.glob("postern*.[15]")) == sorted(
        ["postern.1", "postern-events.5", "postern-state.5"] +
        [f"postern-{name}.1" for name in names])
    for name in names:
        page = (build / f"postern-{name}.1").read_text().replace("\\-", "-")
        told = subprocess.run([postern(), name, "--help"], text=True, capture_output=True,
                              check=True).stdout
        for option in re.findall(r"^  (?:-\w, |    )(--[\w-]+)", told, re.M):
            assert option in page, (name, option)


@pytest.mark.parametrize("lint", [["mandoc", "-T", "lint", "-W", "warning"],
                                  ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]])
def test_manual_is_clean(lint):
    if not shutil.which(lint[0]):
        pytest.skip(lint[0] + " is missing")
    for page in sorted(Path(postern()).parent.glob("postern*.[15]")):
        done = subprocess.run([*lint, str(page)], text=True, capture_output=True, check=False,
                              env={**os.environ, "LANG": "C.UTF-8"})
        said = done.stdout if lint[0] == "mandoc" else done.stderr
        assert done.returncode == 0 and said == "", said
