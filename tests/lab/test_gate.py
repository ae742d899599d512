"""The helper's gates: a SYN waits in the kernel until the program has decided. Two
machines and a cable; gatekeeper.c is the program."""

import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from .conftest import full
from .net import Net, patience, wait_until
from .test_privilege import NOBODY, child, helper_path, keepers
from .topology import build_dir

pytestmark = [pytest.mark.postern, pytest.mark.needs("nft", "iptables", "tcpdump")]

PORT = 7100
SERVER = {4: "192.0.2.1", 6: "2001:db8::1"}
CLIENT = {4: "192.0.2.2", 6: "2001:db8::2"}
BOTH = pytest.mark.parametrize("family", [4, 6])

# Connects once and says how that went and how long it took.
DIAL = """
import socket, sys, time
begin = time.monotonic()
try:
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 30)
    print("connected", time.monotonic() - begin, *s.getsockname()[:2], flush=True)
except OSError as e:
    print(type(e).__name__, time.monotonic() - begin, flush=True)
"""

# As many SYNs as asked for, each from a port of its own.
FLOOD = """
import socket, struct, sys
to, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
source = socket.inet_aton(sys.argv[4])
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
for i in range(count):
    head = struct.pack("!HHIIBBHHH", 20000 + i, port, 7, 0, 5 << 4, 2, 1024, 0, 0)
    pseudo = source + socket.inet_aton(to) + struct.pack("!BBH", 0, 6, 20)
    words = struct.unpack("!16H", pseudo + head)
    total = sum(words)
    total = (total & 0xffff) + (total >> 16)
    total = (total & 0xffff) + (total >> 16)
    s.sendto(head[:16] + struct.pack("!H", ~total & 0xffff) + head[18:], (to, 0))
"""


class Street:
    """The server with its gatekeeper, and the client."""

    def __init__(self, programs, work):
        self.programs, self.work = programs, work
        self.net = Net()
        self.server, self.client = self.net.namespace("server"), self.net.namespace("client")
        self.net.link(self.server, "eth0", self.client, "eth0")
        self.server.address("eth0", f"{SERVER[4]}/24", f"{SERVER[6]}/64")
        self.client.address("eth0", f"{CLIENT[4]}/24", f"{CLIENT[6]}/64")
        self.bin = os.path.join(work, "bin")   # the helper stands beside its program
        os.makedirs(self.bin)
        os.chmod(work, 0o755)
        for path in (helper_path(), os.path.join(build_dir(), "tests/lab/gatekeeper")):
            shutil.copy(path, self.bin)

    def keeper(self, *ports, wrapper=()):
        keeper = self.programs.start(self.server, "keeper", *wrapper,
                                     f"{self.bin}/gatekeeper", stdin=subprocess.PIPE)
        for port in ports:
            tell(keeper, f"open {port}")
            assert keeper.wait_event("gate", port=port)["result"] == "ok", keeper.stdout
        return keeper

    def watch(self):
        """What the client's cable carries, as tcpdump prints it."""
        seen = self.programs.start(self.client, "tcpdump", "tcpdump", "-n", "-l", "-S",
                                   "--immediate-mode", "-i", "eth0", "tcp")
        seen.wait_line("listening on", 10, "err")
        return seen

    def dial(self, family=4, port=PORT):
        return self.programs.start(self.client, "dial", "/usr/bin/python3", "-c", DIAL,
                                   SERVER.get(family, family), port)

    def rules(self):
        return "".join(self.server.run(*what) for what in (
            ["nft", "list", "ruleset"], ["iptables-save"], ["ip6tables-save"]))

    def has_rules(self):
        return "postern" in self.rules()


@pytest.fixture
def street(programs, work):
    s = Street(programs, work)
    yield s
    programs.close()
    s.net.close()


def tell(keeper, line):
    keeper.popen.stdin.write(line.encode() + b"\n")
    keeper.popen.stdin.flush()


def flags(seen):
    """The flags of each packet in order: S, S., R., and so on."""
    return re.findall(r"Flags \[([^\]]+)\]", seen.stdout)


def result(dial, timeout=20):
    dial.wait(timeout)
    return dial.stdout.split()


@BOTH
def test_nothing_is_answered_before_the_verdict(street, family):
    keeper = street.keeper(PORT)
    seen = street.watch()
    dial = street.dial(family)
    syn = keeper.wait_event("syn")
    assert syn["port"] == PORT and CLIENT[family] in syn["from"], syn
    # The client asks again and again: nothing is said, and nobody is told again.
    wait_until(lambda: flags(seen).count("S") == 3, 10, "two repeated SYNs")
    assert set(flags(seen)) == {"S"}, seen.stdout
    assert len([e for e in keeper.events if e["event"] == "syn"]) == 1, keeper.events
    assert not dial.stdout
    begin = time.monotonic()
    tell(keeper, f"accept {syn['id']}")
    assert result(dial)[0] == "connected"
    took = time.monotonic() - begin
    assert keeper.wait_event("accepted")["from"] == syn["from"]
    assert flags(seen)[:5] == ["S", "S", "S", "S.", "."], seen.stdout
    assert took < 0.5 * patience(), took   # with the client's end; no SYN was needed for it


@BOTH
def test_an_accepted_connection_takes_one_syn(street, family):
    keeper = street.keeper(PORT)
    tell(keeper, "always accept")
    seen = street.watch()
    for i in range(20):
        said = result(street.dial(family))
        assert said[0] == "connected" and float(said[1]) < 0.2, (i, said)
    wait_until(lambda: flags(seen).count("S.") == 20, 5, "twenty answers")
    assert flags(seen).count("S") == 20, seen.stdout
    wait_until(lambda: keeper.mark() and
               len([e for e in keeper.events if e["event"] == "accepted"]) == 20, 5,
               "twenty connections")


@BOTH
def test_a_refused_connection_gets_one_reset(street, family):
    keeper = street.keeper(PORT)
    seen = street.watch()
    dial = street.dial(family)
    tell(keeper, f"refuse {keeper.wait_event('syn')['id']}")
    said = result(dial)
    assert said[0] == "ConnectionRefusedError" and float(said[1]) < 0.9, said
    wait_until(lambda: len(flags(seen)) >= 2, 5, "the reset")
    assert flags(seen) == ["S", "R."], seen.stdout
    sequence = int(re.search(r"Flags \[S\], seq (\d+)", seen.stdout).group(1))
    answer = re.search(rf"IP6? {re.escape(SERVER[family])}\.{PORT} > .*Flags \[R\.\],.* "
                       r"ack (\d+)", seen.stdout)
    assert answer and int(answer.group(1)) == (sequence + 1) % 2**32, seen.stdout
    assert keeper.find("accepted") is None


def test_a_dropped_one_may_ask_again(street):
    keeper = street.keeper(PORT)
    dial = street.dial()
    first = keeper.wait_event("syn")
    tell(keeper, f"drop {first['id']}")
    since = keeper.mark()
    again = keeper.wait_event("syn", since=since)
    assert again["from"] == first["from"] and again["id"] != first["id"]
    tell(keeper, f"accept {first['id']}")   # means nothing any more
    tell(keeper, f"accept {again['id']}")
    assert result(dial)[0] == "connected"


def test_other_ports_are_left_alone(street):
    """A port without a gate, and one whose gate was closed; the held ones are refused."""
    keeper = street.keeper(PORT, PORT + 1)
    said = result(street.dial(port=PORT + 2))
    assert said[0] == "ConnectionRefusedError", said
    held = street.dial()
    keeper.wait_event("syn")
    tell(keeper, f"close {PORT}")
    keeper.wait_event("closed", port=PORT)
    assert result(held)[0] == "ConnectionRefusedError"
    wait_until(lambda: f"dport {PORT} " not in street.rules(), 5, "the rule is gone")
    since = keeper.mark()
    other = street.dial(port=PORT + 1)
    tell(keeper, f"accept {keeper.wait_event('syn', since=since)['id']}")
    assert result(other)[0] == "connected"
    tell(keeper, f"close {PORT + 1}")
    wait_until(lambda: not street.has_rules(), 5, "no rule is left")
    since = keeper.mark()
    tell(keeper, "always accept")
    tell(keeper, f"open {PORT}")   # and once more
    keeper.wait_event("gate", since=since, port=PORT, result="ok")
    assert result(street.dial())[0] == "connected"


@BOTH
def test_a_gate_at_an_address_holds_that_address(street, family):
    """Two of them on one port; a third address of the machine is somebody else's."""
    first, second, third = (SERVER[family] + str(n) for n in (1, 2, 3))
    bits, form = (24, "{}:{}") if family == 4 else (64, "[{}]:{}")
    street.server.address("eth0", *(f"{a}/{bits}" for a in (first, second, third)))
    wait_until(lambda: "tentative" not in street.server.run("ip", "-6", "addr"), 10, "ready")
    keeper = street.keeper()
    for a in (first, second):
        tell(keeper, "open " + form.format(a, PORT))
    wait_until(lambda: keeper.stdout.count('"result":"ok"') == 2, 10, "both stand")
    tell(keeper, "open " + form.format(first, PORT))
    assert "has a gate already" in keeper.wait_event("gate", result="in use")["why"]
    tell(keeper, f"open {PORT}")
    wait_until(lambda: keeper.stdout.count("has a gate already") == 2, 10, "it would overlap")
    for a in (first, second):
        since = keeper.mark()
        dial = street.dial(a)
        tell(keeper, f"accept {keeper.wait_event('syn', since=since)['id']}")
        assert result(dial)[0] == "connected"
    since = keeper.mark()
    assert result(street.dial(third))[0] == "ConnectionRefusedError"   # nobody listens
    assert not [e for e in keeper.events[since:] if e["event"] == "syn"]


def test_only_sensible_gates_open(street):
    keeper = street.keeper(PORT)
    tell(keeper, f"open {PORT}")
    assert "has a gate already" in keeper.wait_event("gate", result="in use")["why"]
    tell(keeper, "open 0")
    assert "port is not given" in keeper.wait_event("gate", result="not authorised")["why"]
    count = 256 if full() else 12
    for port in range(PORT + 1, PORT + count):
        tell(keeper, f"open {port}")
    keeper.wait_event("gate", 120, port=PORT + count - 1, result="ok")
    if full():
        tell(keeper, f"open {PORT + count}")
        keeper.wait_event("gate", result="limit reached")
    tell(keeper, "always refuse")
    assert result(street.dial(port=PORT + count - 1))[0] == "ConnectionRefusedError"
    assert keeper.wait_event("syn")["port"] == PORT + count - 1


def test_nothing_is_left_when_the_program_is_killed(street):
    keeper = street.keeper(PORT)
    helpers = child(keeper.pid)
    held = street.dial()
    keeper.wait_event("syn")
    assert street.has_rules() and len(helpers) == 1
    os.kill(keeper.pid, signal.SIGKILL)   # not its group: the helper lives, and notices
    wait_until(lambda: not street.has_rules(), 5, "no rule is left")
    wait_until(lambda: not os.path.exists(f"/proc/{helpers[0]}"), 5, "the helper ended")
    assert result(held)[0] == "ConnectionRefusedError"   # nobody listens any more


def test_nothing_is_left_when_all_are_told_to_end(street):
    """As a service manager stops a service: SIGTERM to each of its processes."""
    keeper = street.keeper(PORT)
    keeper.signal(signal.SIGTERM)
    wait_until(lambda: not street.has_rules(), 5, "no rule is left")


def test_without_its_helper_a_gate_stands_open(street):
    """A helper that is killed leaves iptables' rules, which let pass. The program is
    told; the next helper, of this program or another, clears them away."""
    keeper = street.keeper(PORT)
    tell(keeper, "always refuse")
    os.kill(child(keeper.pid)[0], signal.SIGKILL)
    keeper.wait_event("lost", port=PORT)
    assert result(street.dial())[0] == "connected"
    keeper.wait_event("accepted")
    for found in keepers(keeper.pid):   # that none comes before the other
        os.kill(found, signal.SIGKILL)
    left = set(re.findall(r"^:(postern-gate-\d+)", street.rules(), re.M))
    second = street.keeper(PORT + 3)
    now = set(re.findall(r"^:(postern-gate-\d+)", street.rules(), re.M))
    assert not left & now, (left, now)
    tell(keeper, f"open {PORT + 1}")
    refused = keeper.wait_event("gate", port=PORT + 1)
    assert refused["result"] == "permission denied", refused
    # A helper that lives is not disturbed by one that starts.
    street.keeper(PORT + 4)
    tell(second, "always refuse")
    assert result(street.dial(port=PORT + 3))[0] == "ConnectionRefusedError"
    assert second.wait_event("syn")["port"] == PORT + 3


def test_a_program_has_gates_again_when_its_helper_is_back(street):
    """What the dead one left is cleared away by then, whether a gate is opened or not."""
    keeper = street.keeper(PORT)
    tell(keeper, "always refuse")
    dead = child(keeper.pid)[0]
    left = set(re.findall(r"^:(postern-gate-\d+)", street.rules(), re.M))
    os.kill(dead, signal.SIGKILL)
    keeper.wait_event("lost", port=PORT)
    wait_until(lambda: [p for p in child(keeper.pid) if p != dead], 10, "it is back")
    wait_until(lambda: not left & set(re.findall(r"^:(postern-gate-\d+)", street.rules(), re.M)),
               10, "the dead helper's rules are gone")
    keeper.wait_line("runs again", 10, "err")
    tell(keeper, f"open {PORT + 1}")
    keeper.wait_event("gate", port=PORT + 1, result="ok")
    assert result(street.dial(port=PORT + 1))[0] == "ConnectionRefusedError"


def test_a_flush_opens_gates_until_the_next_change(street):
    keeper = street.keeper(PORT)
    tell(keeper, "always refuse")
    street.server.run("nft", "flush", "ruleset")
    street.server.run("iptables", "-t", "mangle", "-F", "INPUT")
    assert result(street.dial())[0] == "connected"
    tell(keeper, f"open {PORT + 1}")
    keeper.wait_event("gate", port=PORT + 1, result="ok")
    for port in (PORT, PORT + 1):
        assert result(street.dial(port=port))[0] == "ConnectionRefusedError"
    street.server.run("nft", "flush", "ruleset")
    os.kill(keeper.pid, signal.SIGKILL)
    wait_until(lambda: not street.has_rules(), 5, "no rule is left")


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize("wrapper,want", [
    (NOBODY, "ok"),
    (["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], "permission denied")])
def test_an_ordinary_user(street, wrapper, want):
    """With capabilities from a service manager, which the helper hands down; without."""
    keeper = street.keeper(wrapper=wrapper)
    tell(keeper, f"open {PORT}")
    opened = keeper.wait_event("gate", port=PORT)
    assert opened["result"] == want, opened
    if want != "ok":
        assert "setcap" in opened["why"], opened
        return
    tell(keeper, "always refuse")
    assert result(street.dial())[0] == "ConnectionRefusedError"
    os.kill(keeper.pid, signal.SIGKILL)
    wait_until(lambda: not street.has_rules(), 5, "no rule is left")


def test_a_firewall_that_drops_stays_in_force(street):
    """What the gate accepts, the machine's own rules may still drop; and refuse."""
    street.server.nft(f"""
table inet firewall {{
  chain input {{ type filter hook input priority 0; policy drop;
    tcp dport {PORT} accept
    ct state established,related accept
    meta l4proto ipv6-icmp accept
  }}
}}""")
    keeper = street.keeper(PORT, PORT + 1)
    tell(keeper, "always accept")
    assert result(street.dial())[0] == "connected"
    dropped = street.dial(port=PORT + 1)
    keeper.wait_event("syn", port=PORT + 1)
    tell(keeper, "always refuse")
    assert result(street.dial())[0] == "ConnectionRefusedError"
    assert dropped.running and not dropped.stdout
    dropped.kill()


def test_what_is_held_is_bounded(street):
    """1,024 wait; more are dropped without a word; after 15 s all of them are."""
    keeper = street.keeper(PORT)
    syns = lambda: keeper.mark() and [e for e in keeper.events if e["event"] == "syn"]
    flood = lambda: street.programs.run(street.client, "flood", "/usr/bin/python3", "-c",
                                        FLOOD, SERVER[4], PORT, 1200, CLIENT[4])
    wait_until(lambda: flood() and len(syns()) >= 1024, 10, "1,024 SYNs")
    dial = street.dial()   # finds no room, and repeats itself
    port = wait_until(lambda: [l for l in street.client.sockets("-t", "state", "syn-sent")
                               if f":{PORT}" in l], 5, "the client asks")
    assert port and len(syns()) == 1024
    late = wait_until(lambda: [e for e in syns()[1024:] if ":2" not in e["from"][9:11]],
                      25, "there is room again")
    tell(keeper, f"accept {late[0]['id']}")
    assert result(dial)[0] == "connected"
