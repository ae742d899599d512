"""Signals end every command in order, at any moment: soon, without a word of what was only
interrupted, and with status 0 where that is how it ends, else of the signal."""

import os
import signal
import time

import pytest

from .actors import HOST, postern
from .net import patience, wait_until

pytestmark = pytest.mark.postern

ENDS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
PYTHON = "/usr/bin/python3"
# A program on a terminal of its own: argv is TEXT, the answers to each time that TEXT
# comes (comma-separated; "^X": that signal to the program), "--", and the program.
TALK = """
import os, pty, signal, sys
cut = sys.argv.index('--')
text, says = sys.argv[1].encode(), sys.argv[2:cut]
pid, fd = pty.fork()
if pid == 0:
    os.execv(sys.argv[cut + 1], sys.argv[cut + 1:])
seen = b''
while True:
    try: part = os.read(fd, 4096)
    except OSError: break
    if not part: break
    os.write(1, part); seen += part
    if says and text in seen:
        seen = b''; word = says.pop(0)
        if word == '^C': os.write(fd, b'\\x03')
        elif word[:1] == '^': os.kill(pid, int(word[1:]))
        else: os.write(fd, word.encode() + b'\\n')
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print('status', status)
"""
LISTENS = ("import socket, time\ns = socket.socket()\ns.bind(('127.0.0.1', 7001))\n"
           "s.listen()\ntime.sleep(60)\n")


@pytest.fixture
def served(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    return g.up_and_joined("peer=7000")


def talk(g, text, says, *argv):
    return g.programs.start(g.topo.host.ns, "talk", PYTHON, "-c", TALK, text, *says, "--",
                            postern(), *argv, env=g.host.env)


@pytest.mark.parametrize("word", ["^C", "^15", "^1"])
def test_a_question_of_run_is_ended_by_a_signal(served, word):
    proc = talk(served, "Publish it?", [word], "run", "--", PYTHON, "-c", LISTENS)
    proc.wait(15)
    number = 2 if word == "^C" else int(word[1:])
    last = proc.stdout.splitlines()[-1]
    assert last in (f"status {128 + number}", "status 1"), proc.stdout   # 1: as Python ends
    assert "published" not in proc.stdout


def test_a_name_that_is_none_is_asked_for_again(served):
    proc = talk(served, "]", ["my site", "shop", ""], "run", "--", PYTHON, "-c", LISTENS)
    found = served.host_proc.wait_event("published", 20, port=7001)
    assert found["service"] == "shop", found
    wait_until(lambda: "letters, digits" in proc.stdout, 5, "the advice")
    questions = [x for x in proc.stdout.splitlines() if "Publish it?" in x]
    assert all(x.endswith("]") for x in questions), questions   # a line of its own
    proc.terminate()


def comm(pid):
    with open(f"/proc/{pid}/comm", encoding="ascii") as f:
        return f.read().strip()


STAY = ("connect", "socks", "up")   # until they are ended
COMMANDS = {
    "ping --all": ["ping", "--all", HOST],
    "ping": ["ping", "--count", "100", HOST],
    "netcheck": ["netcheck"],
    "connect": ["connect", f"{HOST}:peer", "127.0.0.1:0"],
    "socks": ["socks", "--listen", "127.0.0.1:0"],
    "up": ["up"],
    "nc": ["nc", HOST, "peer"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_signal_at_any_moment(served, command):
    """Before the handlers of a loop, in it, between two, and behind it."""
    argv = COMMANDS[command]
    moments = [0.03, 0.1, 0.25, 0.6, 1.1, 1.7]
    for i, moment in enumerate(moments):
        number = ENDS[i % 3]
        proc = served.programs.start(served.topo.client.ns, argv[0], postern(), *argv,
                                     env=served.client.env)
        wait_until(lambda p=proc: comm(p.pid) == "postern", 5, "it runs")
        time.sleep(moment)
        if not proc.running:
            break   # it had all that it wanted
        began = time.monotonic()
        os.kill(proc.pid, number)
        assert proc.wait(10) == (0 if command in STAY else -number), (moment, number, proc.stderr)
        assert time.monotonic() - began < 1 * patience(), (moment, number)
        assert "postern: " not in proc.stderr.replace("postern: warning", ""), proc.stderr
        assert not any(x.endswith("refused") for x in proc.stdout.splitlines()), \
            proc.stdout   # without a reason: it was only interrupted
