"""Several people at one address: what each opens leads to what is theirs, by port and by
name, under their own name in the logs, and what cannot be told apart is refused in words."""

import sys

import pytest

from .browser import DOMAIN
from .net import run, wait_until
from .topology import BROKER, CLIENT_NAT

pytestmark = [pytest.mark.postern, pytest.mark.needs("curl")]

PEOPLE = {"anna": 7101, "berta": 7102}

# Says who it is to whatever comes, by TCP and UDP; keeps a connection that says HOLD.
SAY = """
import socket, sys, threading
name, port = sys.argv[1].encode() + b"\\n", int(sys.argv[2])
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("", port))
s = socket.create_server(("", port), backlog=64)
print("ready", flush=True)
def datagrams():
    while True:
        data, who = u.recvfrom(2000)
        u.sendto(name, who)
threading.Thread(target=datagrams, daemon=True).start()
def serve(a):
    try:
        while a.recv(100): a.sendall(name)
    except OSError: pass
    a.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""

# Asks once and prints the answer, then again for each line of stdin, until it ends.
KEEP = """
import socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
s.settimeout(10)
for line in ["first", *[]]:
    s.sendall(b"HOLD\\n"); print("got", s.recv(100).decode().strip(), flush=True)
for line in sys.stdin:
    try:
        s.sendall(b"HOLD\\n"); data = s.recv(100)
    except OSError: data = b""
    print("again", data.decode().strip() or "ended", flush=True)
"""


class Held:
    """A connection by port from that browser's machine, whose server has answered."""

    def __init__(self, browser, port, want):
        self.proc = browser.programs.start(browser.ns, "keep", sys.executable, "-c", KEEP,
                                           BROKER, port, stdin=-1)
        self.proc.wait_line(f"got {want}")

    def again(self):
        """What the server says now, or "ended"."""
        since = self.proc.mark()
        self.proc.popen.stdin.write(b"\n")
        self.proc.popen.stdin.flush()
        return self.proc.wait_line("again ", since=since).split()[-1]
