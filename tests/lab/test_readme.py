"""README.md, as written: every command of its blocks is typed on machines of the lab, in
the order in which they stand under a heading, or has its reason here why it is not."""

import re
import subprocess

import pytest

from .actors import postern
from .net import wait_until
from .readme import Person, Typist, blocks, inline_commands
from .servers import Nginx, Sshd
from .test_names import House, ssh_home
from .topology import root_dir

pytestmark = pytest.mark.postern

README = blocks("README.md")
# What is not typed here, and why.
NOT_TYPED = {"make demo": "it would build; test_the_demo runs what it runs then",
             "make test": "it is what runs this test"}
WISHES = list(dict.fromkeys(b.heading for b in README if b.machine in ("broker", "host", "client")))
PASSWORD = b"correct horse battery\n"


def test_every_block_is_typed_or_has_its_reason():
    for block in README:
        assert block.shell, block.lines
        for command in block.commands:
            assert block.machine in ("broker", "host", "client") or command in NOT_TYPED, command
    assert WISHES == ["ssh home", "A web page for a friend", "A company's service"]


@pytest.fixture
def typist(gate, work):
    g = gate(host="masq", client="masq")
    house = House(g, work)
    people = {
        "broker": Person(g.programs, g.topo.broker, work, "at-broker"),
        "host": Person(g.programs, g.topo.host.ns, work, "at-host"),
        "client": Person(g.programs, g.topo.client.ns, work, "at-client", house.wrapper, "/root"),
    }
    t = Typist(people)
    t.gate, t.house = g, house
    return t


def type_wish(t, heading):
    """All blocks under a heading; the broker as under the first. What came of each command."""
    mine = [b for b in README if b.heading == heading]
    if mine[0].machine != "broker":
        mine.insert(0, next(b for b in README if b.machine == "broker"))
    return {c: done for b in mine for c, done in zip(b.commands, t.type(b, b"echo in-$((6 * 7))\n"))}


@pytest.mark.needs("ssh", "sshd")
def test_ssh_home(typist, work):
    sshd = Sshd(typist.gate.programs, typist.gate.topo.host.ns, work)
    ssh_home(typist.house, sshd)
    done = type_wish(typist, "ssh home")
    assert done["postern ssh me@home"].stdout == "in-42\n"
    assert "udp-punch" in done["postern ping home"].stdout


@pytest.mark.needs("curl", "nginx")
def test_a_web_page_for_a_friend(typist, work):
    g = typist.gate
    Nginx(g.programs, g.topo.host.ns, work, {"index.html": (3_000, 9)}, port=8080)
    done = type_wish(typist, "A web page for a friend")
    url = re.search(r"http://127[^\s,]+", done["postern open home:web"].stdout)[0]
    got = typist.people["client"].run(f"curl -sSf -m 20 {url}")
    assert got.status == 0 and len(got.stdout) > 2_000, got.stderr
    assert "anna" in typist.people["host"].run("postern access").stdout


@pytest.mark.needs("curl", "nginx")
def test_a_companys_service(typist, work):
    g = typist.gate
    Nginx(g.programs, g.topo.service.ns, work, {"index.html": (3_000, 9)}, port=80)
    done = type_wish(typist, "A company's service")
    assert len(done["curl http://office.postern/"].stdout) > 2_000
    assert "joined" in done["sudo postern log --count 20"].stdout
    wait_until(lambda: typist.people["client"].run("curl -sSf -m 5 http://office.postern/").status != 0, 20,
               "the revoked device is out")


def test_the_demo(programs):
    done = programs.run(None, "demo", f"{root_dir()}/tests/demo/demo.sh", postern(), timeout=40)
    assert done.status == 0 and "udp-punch" in done.stdout, done.stdout


def test_commands_within_the_text_are_known():
    """Command and options of each `postern ...` exist."""
    commands = inline_commands("README.md")
    assert len(commands) > 8
    for command in commands:
        words = command.replace("sudo ", "").split()
        done = subprocess.run([postern(), words[1], "--help"], capture_output=True, text=True, timeout=20,
                              check=False)
        assert done.returncode == 0, command
        for word in words[2:]:
            if word == "--":
                break
            if word.startswith("--"):
                assert word.split("=")[0] in done.stdout, command
