"""`postern setup`: the conversation on a terminal, on three machines, to the first byte."""

import os
import pty
import re

import pytest

from .actors import HOST, Actor, postern
from .net import wait_until
from .test_badinput import says
from .test_service import served, state_of   # pylint: disable=unused-import
from .topology import BROKER

pytestmark = pytest.mark.postern

LINK = re.compile(r"postern://\S+")
NO_SYSTEMD = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run; exec "$@"', "sh"]


class Talk:
    """A setup on a terminal of its own."""

    def __init__(self, who, *more):
        self.ours, theirs = pty.openpty()
        self.text = self.shown = ""
        self.proc = who.programs.start(who.ns, "setup", *(who.wrapper or NO_SYSTEMD), "setsid", "--ctty", "--wait", postern(),
                                       "setup", *more, env=who.env, stdin=theirs)
        os.close(theirs)
        os.set_blocking(self.ours, False)

    def read(self):
        try:
            fresh = os.read(self.ours, 65536).decode()
            self.text += fresh
            self.shown += fresh
        except (BlockingIOError, OSError):
            pass
        return self.text

    def said(self, words, timeout=20):
        wait_until(lambda: words in self.read() + self.proc.stdout or not self.proc.running, timeout, words)
        assert words in self.text + self.proc.stdout, (self.text, self.proc.stdout, self.proc.stderr)

    def answer(self, question, words):
        self.said(question)
        self.text = self.text[self.text.index(question) + len(question):]
        os.write(self.ours, words.encode())

    def end(self):
        """With Ctrl-C."""
        os.write(self.ours, b"\x03")
        status = self.proc.wait(10)
        os.close(self.ours)
        return status


def host_to_the_services(talk, link):
    talk.answer("Shall this machine be the broker", "\n")
    talk.answer("Publish something that listens here", "\n")
    talk.answer("The broker's link", f"{link}\n")
    talk.answer("What shall others call this host?", f"{HOST}\n")
    talk.said("These listen here:")
    talk.answer("Which to publish", "peer=7000\n")


def test_three_machines(gate):
    g = gate()
    g.host.start_peer("tcp-server", 7000)
    broker = Talk(g.broker)
    broker.answer("Shall this machine be the broker", "y\n")
    broker.answer("By which name or address", f"{BROKER}\n")
    broker.said(f"$ postern broker --public {BROKER}")
    broker.answer("Publish something that listens here", "\n")
    broker.answer("Use another host?", "\n")
    broker.said("It runs in this terminal until Ctrl-C.")
    link = LINK.search(broker.proc.stdout)[0]
    assert f"postern serve --broker {link} 22" in broker.text.replace("\r", "")
    host = Talk(g.host)
    host_to_the_services(host, link)
    host.answer("Use another host?", "\n")
    host.said("postern join LINK")
    host.said("It runs in this terminal until Ctrl-C.")
    assert f"$ postern serve --broker {link} --name {HOST} peer=7000" in host.shown.replace("\r", ""), host.shown
    invite = [at for at in LINK.findall(host.proc.stdout) if "/i/" in at][0]
    client = Talk(g.client)
    client.answer("Shall this machine be the broker", "maybe\n")
    client.said("Please answer y or n.")
    client.answer("Shall this machine be the broker", "n\n")
    client.answer("Publish something", "n\n")
    client.answer("Use another host?", "what?\n")
    client.answer("Use another host?", "yes\n")
    client.said("Paste the link itself")
    client.answer("Use another host?", f"{link}\n")
    client.said("That link is a broker's; here it has to be an invite of a host.")
    cut = len(invite) // 2    # as a terminal showed it
    client.answer("Use another host?", f"{invite[:20]}\n\n")
    client.said("cut short or mangled")
    client.answer("Use another host?", f"{invite[:cut]}\n  {invite[cut:]}\n")
    client.said(f"joined {HOST}")
    assert f"$ postern join {invite}" in client.shown.replace("\r", ""), client.shown
    assert client.proc.wait(10) == 0
    assert g.client.run("nc", HOST, "peer", json=False, stdin=b"").status == 0
    beside = Talk(g.host)
    beside.answer("Shall this machine be the broker", "\n")
    beside.said("A 'postern serve' runs here already: 'postern serve --add SERVICE...' lets it publish more, and with --reload only those.")
    beside.answer("Use another host?", "\n")
    assert beside.proc.wait(10) == 0
    assert host.end() == 0 and broker.end() == 0
    wait_until(lambda: not g.host.run("status").event("daemon")["running"], 10, "serve has ended too")
    again = Talk(g.host)
    again.answer("Shall this machine be the broker", "\n")
    again.answer("It publishes something already. Choose anew?", "\n")
    again.answer("Use another host?", "No\n")
    again.said("Nothing was set up.")
    assert again.proc.wait(10) == 0


def test_units_of_systemd(served):
    g = served
    host = Talk(g.host)
    host_to_the_services(host, g.link)
    host.answer("Start it with this machine, by systemd?", "\n")
    host.answer("Use another host?", "\n")
    assert host.proc.wait(20) == 0, host.proc.stderr
    assert state_of(g.host)["state"] == "active"
    invite = [at for at in LINK.findall(host.proc.stdout) if "/i/" in at][0]
    g.join(link=invite)
    assert g.client.run("nc", HOST, "peer", json=False, stdin=b"").status == 0
    os.close(host.ours)


@pytest.fixture
def here(programs, work):
    return Actor(programs, None, os.path.join(work, "here"))


def test_without_a_terminal(here):
    says(here.run("setup", json=False, stdin=b""), 2,
         "setup asks on a terminal, and there is none; run 'postern broker', 'postern serve --broker LINK 22' or")


QUESTIONS = (("Shall this machine", "y"), ("By which name", ""), ("Publish something", "y"), ("The broker's link", ""),
             ("Use another host", ""))


@pytest.mark.parametrize("how", ["\x04", "\x03"], ids=["eof", "interrupt"])
@pytest.mark.parametrize("at", [0, 1], ids=["first", "second"])
def test_it_ends_at_any_question(here, how, at):
    talk = Talk(here)
    for question, words in QUESTIONS[:at]:
        talk.answer(question, words + "\n")
    talk.answer(QUESTIONS[at][0], how)
    assert talk.proc.wait(10) == 0, talk.proc.stderr
    assert talk.proc.stderr == ""
    os.close(talk.ours)


def test_a_step_that_fails(gate):
    g = gate(host="none")
    g.start_broker()
    link = g.link
    assert g.broker_proc.terminate() == 0
    talk = Talk(g.host)
    host_to_the_services(talk, link)
    assert talk.proc.wait(30) == 1
    lines = talk.proc.stderr.splitlines()
    assert lines[-1] == ("postern: 'postern serve' failed; see the line before, and run 'postern setup' again"), lines
    assert "nothing listens at the broker's address" in lines[-2] and "nothing listens" not in talk.proc.stdout
    os.close(talk.ours)
