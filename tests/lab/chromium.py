"""Chromium in a machine of the lab, driven by tests/portal/e2e.mjs, a line for each act.

Knows how that program is started and asked; knows nothing of the portal's pages.
"""

import json
import os
import subprocess

import pytest

from .net import wait_until
from .topology import BROKER, build_dir, have, root_dir

PORTAL = os.path.join(root_dir(), "tests", "portal")


def need_chromium():
    """A skip with its reason where the browser or what drives it is missing."""
    for program in ("chromium", "node"):
        if not have(program):
            pytest.skip(f"{program} is not installed: tools/install-deps.sh portal")
    for module in ("playwright-core", "axe-core"):
        if not os.path.isdir(os.path.join(PORTAL, "node_modules", module)):
            pytest.skip(f"{module} is not installed: npm ci in tests/portal")


class Chromium:
    """One person at one browser. An act that fails fails the test."""

    def __init__(self, programs, ns, domain, full):
        """`full`: each page is checked in all looks, not in two."""
        self.out = os.path.join(build_dir(), "portal-e2e")
        os.makedirs(self.out, exist_ok=True)
        self.count = 0
        how = {"url": f"https://{domain}/", "out": self.out, "full": full,
               "resolve": f"MAP *.{domain} {BROKER}, MAP {domain} {BROKER}, "
                          "MAP * ~NOTFOUND"}
        self.proc = programs.start(ns, "chromium", "node", os.path.join(PORTAL, "e2e.mjs"),
                                   json.dumps(how), stdin=subprocess.PIPE)
        self.proc.wait_event("ready", 30)

    def __call__(self, verb, timeout=30.0, **fields):
        """Does it, and returns what the person saw."""
        self.count += 1
        line = json.dumps({"n": self.count, "verb": verb, **fields})
        self.proc.popen.stdin.write(line.encode() + b"\n")
        self.proc.popen.stdin.flush()

        def answered():
            failed = self.proc.find("failed", n=self.count)
            assert not failed, failed["error"]
            return self.proc.find("did", n=self.count) or not self.proc.running
        wait_until(answered, timeout, f"chromium: {verb}")
        done = self.proc.find("did", n=self.count)
        assert done, f"chromium ended: {self.proc.stderr[-400:]}"
        return done["result"]

    def close(self):
        """The browser ends with the lines."""
        self.proc.popen.stdin.close()
        self.proc.wait(10)

    def wait(self, verb, good, timeout=15.0, **fields):
        """Does it again and again until the result is good, and returns that."""
        return wait_until(lambda: good(result := self(verb, **fields)) and [result],
                          timeout, f"chromium: {verb}")[0]
