"""The commands that documents show, as a person would type them: fenced blocks of Markdown
whose first line says on which machine (```sh host), run in a deployment.

Knows Markdown's fences, the words that stand for something (LINK, DEVICE) and which commands
stay; knows of a document only what is handed in.
"""

import os
import re
import shlex

from .actors import HOST, postern
from .net import wait_until
from .topology import BROKER, root_dir

# What stands for what the lab has.
STAND_INS = {"meet.example.org": BROKER, "me@": "root@"}
# Commands that stay, and what they print when they are ready.
STAYS = {"broker": "postern://", "serve": "Next: 'postern invite'|One more device|^For ", "open": "http://127",
         "up": "names|postern", "connect": "127.0.0.1"}


class Block:
    """One fenced block: under which heading, for which machine, its commands."""

    def __init__(self, heading, info, lines):
        self.heading, self.lines = heading, lines
        language, _, self.machine = info.partition(" ")
        self.shell = language == "sh"

    @property
    def commands(self):
        whole = "\n".join(self.lines).replace("\\\n", " ").splitlines()
        return [c for c in (re.sub(r"(^|\s+)#.*", "", line).strip() for line in whole) if c]


def blocks(document):
    """All fenced blocks of a document of the project's root."""
    with open(os.path.join(root_dir(), document), encoding="utf-8") as f:
        lines = f.read().splitlines()
    found, heading, info, inside = [], "", None, []
    for line in lines:
        if info is None and line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("```"):
            inside.append(line)
        elif info is None:
            info, inside = line[3:], []
        else:
            found.append(Block(heading, info, inside))
            info, inside = None, []
    return found


class Person:
    """At one machine, with a shell, `sudo`, and a home of their own."""

    def __init__(self, programs, ns, work, name, wrapper=(), home=None):
        self.programs, self.ns, self.wrapper = programs, ns, list(wrapper)
        top = os.path.join(work, name)
        self.home = home or os.path.join(top, "home")
        os.makedirs(f"{top}/bin")
        os.makedirs(self.home, exist_ok=True)
        os.symlink(postern(), f"{top}/bin/postern")
        with open(f"{top}/bin/sudo", "w", encoding="ascii") as f:
            f.write(f'#!/bin/sh\nexec env POSTERN_STATE={top}/root-state "$@"\n')
        os.chmod(f"{top}/bin/sudo", 0o755)
        self.env = {"HOME": self.home, "PATH": f"{top}/bin:{os.environ['PATH']}", "POSTERN_NAMES": "",
                    "POSTERN_STATE": f"{self.home}/.local/state/postern"}

    def start(self, command, **more):
        return self.programs.start(self.ns, "sh", *self.wrapper, "sh", "-c", f"exec {command}", env=self.env,
                                   **more)

    def run(self, command, **more):
        return self.programs.run(self.ns, "sh", *self.wrapper, "sh", "-c", command, env=self.env, **more)


class Typist:
    """Types the blocks of a document, keeps what the next ones need."""

    def __init__(self, people):
        self.people = people
        self.links = {}
        self.stays = []

    def type(self, block, stdin=b""):
        """Every command of a block; a list of what came of each."""
        return [self.command(block.machine, c, stdin) for c in block.commands]

    def _filled(self, person, command):
        for word, stand_in in STAND_INS.items():
            command = command.replace(word, stand_in)
        if "LINK" in command:
            command = command.replace("LINK", self.links["broker" if "--broker" in command else "invite"])
        if "DEVICE" in command.split():
            sudo = "sudo " if command.startswith("sudo ") else ""
            device = person.run(f"{sudo}postern ls --devices --json").event("client")["name"]
            command = command.replace("DEVICE", device)
        return command

    def command(self, machine, written, stdin=b""):
        """One command at a machine: its result, or the program that stays."""
        person = self.people[machine]
        command = self._filled(person, written)
        words = [w for w in shlex.split(command) if w != "sudo"]
        verb = words[1] if words[0] == "postern" else None
        if verb in STAYS:
            return self._stay(person, command, verb, written)
        done = person.run(command, stdin=stdin, timeout=40)
        assert done.status == 0, (written, done.stdout, done.stderr)
        if verb == "invite":
            self.links["invite"] = re.search(r"postern://\S+", done.stdout)[0]
        return done

    def _stay(self, person, command, verb, written):
        for other in list(self.stays):   # what is typed again on the same machine takes its place
            if other.who is person and other.verb == verb:
                other.terminate()
                self.stays.remove(other)
        proc = person.start(command)
        proc.who, proc.verb = person, verb
        self.stays.append(proc)

        def ready():
            assert proc.running, (written, proc.stdout, proc.stderr)
            return re.search(STAYS[verb], proc.stdout, re.M)
        wait_until(ready, 20, written)
        if verb == "broker":
            self.links["broker"] = re.search(r"postern://\S+", proc.stdout)[0]
        return proc


def inline_commands(document):
    """`postern ...` within the text."""
    with open(os.path.join(root_dir(), document), encoding="utf-8") as f:
        text = re.sub(r"^```.*?^```", "", f.read(), flags=re.M | re.S)
    return re.findall(r"`((?:sudo )?postern [^`]+)`", text)


__all__ = ["HOST", "Block", "Person", "Typist", "blocks", "inline_commands"]
