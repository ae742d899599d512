"""Records the README's first wish, from a real run in the lab, as docs/session.svg: what is
typed, what the programs answer, and when. `make session`.

Knows how a terminal looks and the order of the blocks; what is typed stands in README.md.
"""

import html
import os
import shutil
import sys
import tempfile
import time

from .actors import Gate
from .conftest import heed_signals
from .proc import Programs
from .readme import Person, Typist, blocks
from .servers import Sshd
from .test_names import House, ssh_home
from .topology import Topology, root_dir

WISH = "ssh home"
NAMES = {"broker": "meet", "host": "home", "client": "laptop", "ssh": "me@home"}
SHELL = "hostname -I"         # what is typed when ssh is there
LINES = 9                     # of one answer
COLUMNS, LINE, LEFT = 100, 20, 16
TYPED_S, READ_S = 0.03, 0.9   # a letter; before the next command


def record(t):
    """(seconds, machine or None, text): what stands on the screen from when on."""
    at, screen = 0.5, []
    for block in (b for b in blocks("README.md") if b.heading == WISH):
        for command in block.commands:
            screen.append((at, block.machine, command))
            at += TYPED_S * len(command)
            begin = time.monotonic()
            done = t.command(block.machine, command, SHELL.encode() + b"\n")
            at += time.monotonic() - begin
            if "ssh" in command.split():
                screen.append((at, "ssh", SHELL))
            lines = done.stdout.splitlines()
            screen += [(at, None, line) for line in lines[:LINES] + ["..."] * (len(lines) > LINES)]
            at += READ_S
    return screen


def picture(screen):
    height = (len(screen) + 2) * LINE
    width = LEFT * 2 + int(COLUMNS * 8.45)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
           "<title>A session: a broker, a host behind a NAT, a client behind another</title>",
           "<style>text { font: 14px monospace; fill: #d0d7de; white-space: pre; } .p { fill: #7ee787; }",
           ".l { animation: l 1ms linear both; } @keyframes l { from { opacity: 0; } }",
           "@media (prefers-reduced-motion: reduce) { .l { animation: none; } }</style>",
           '<rect width="100%" height="100%" rx="8" fill="#161b22"/>']
    for n, (at, machine, text) in enumerate(screen):
        prompt = f"{NAMES[machine]}$ " if machine else ""
        rest = text if len(prompt + text) <= COLUMNS else text[:COLUMNS - len(prompt) - 1] + "…"
        out.append(f'<text class="l" style="animation-delay: {at:.2f}s" x="{LEFT}" y="{(n + 1) * LINE + 6}">'
                   + (f'<tspan class="p">{prompt}</tspan>' if prompt else "")
                   + f"{html.escape(rest)}</text>")
    return "\n".join([*out, "</svg>", ""])


def main():
    if os.geteuid() != 0:
        sys.exit("session: network namespaces need root; run it with sudo")
    heed_signals()
    work = tempfile.mkdtemp(prefix="postern-session-", dir="/tmp")
    programs = Programs(os.path.join(work, "log"))
    with Topology(programs) as topo:
        try:
            g = Gate(programs, topo, work)
            house = House(g, work)
            ssh_home(house, Sshd(programs, topo.host.ns, work))
            typist = Typist({
                "broker": Person(programs, topo.broker, work, "broker"),
                "host": Person(programs, topo.host.ns, work, "host"),
                "client": Person(programs, topo.client.ns, work, "laptop", house.wrapper, "/root")})
            drawn = picture(record(typist))
        finally:
            programs.close()
            shutil.rmtree(work, ignore_errors=True)
    with open(os.path.join(root_dir(), "docs", "session.svg"), "w", encoding="utf-8") as f:
        f.write(drawn)


if __name__ == "__main__":
    main()
