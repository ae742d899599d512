"""The helper: who has which capabilities, and what it does with what it does not know."""

import array
import os
import re
import socket
import struct
import subprocess

import pytest

from .actors import postern
from .net import wait_until
from .test_tcp_kinds import move_bytes

pytestmark = [pytest.mark.postern, pytest.mark.needs("setpriv")]

NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 1 << 10, 1 << 12, 1 << 13
THREE = "+net_admin,+net_raw,+net_bind_service"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
          f"--inh-caps={THREE}", f"--ambient-caps={THREE}"]
HELPER, KEEPER = "postern-helper", "postern-keeper"


def helper_path():
    return os.path.join(os.path.dirname(postern()), HELPER)


def status(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def children(pid, name):
    """Its own children of that name that live."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        found = [int(p) for p in f.read().split()]
    return [p for p in found if alive(p) and status(p)["Name"] == name]


def keepers(pid):
    """What starts the helper for this process."""
    return children(pid, KEEPER)


def child(pid):
    """The helper that was started for this process."""
    return [p for keeper in keepers(pid) for p in children(keeper, HELPER)]


def alive(pid):
    try:
        return not status(pid)["State"].startswith("Z")
    except OSError:
        return False


@pytest.mark.parametrize("who", ["root", "a service's user"])
def test_only_the_helper_has_capabilities(gate, who):
    """A host run by root, or by an ordinary user with ambient capabilities as a service
    manager gives them: the program itself keeps none that changes the network."""
    g = gate(host="none", client="sym")
    if who != "root":
        g.host.wrapper = NOBODY
        os.makedirs(g.host.state, mode=0o700)
        os.chown(g.host.state, 65534, 65534)
        os.chmod(g.work, 0o755)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    pid = g.host_proc.pid
    helpers = child(pid)
    assert len(helpers) == 1 and len(keepers(pid)) == 2
    own, its, keeper = status(pid), status(helpers[0]), status(keepers(pid)[0])
    assert int(own["CapEff"], 16) & (NET_ADMIN | NET_RAW) == 0, own
    assert int(own["CapPrm"], 16) & (NET_ADMIN | NET_RAW) == 0, own
    assert own["NoNewPrivs"] == "1" and its["NoNewPrivs"] == "1"
    for some in (its, keeper):
        assert int(some["CapPrm"], 16) == NET_ADMIN | NET_RAW | NET_BIND_SERVICE, some
        assert int(some["CapInh"], 16) == int(some["CapAmb"], 16) == 0, some
    assert its["CapEff"] == its["CapPrm"] and keeper["NoNewPrivs"] == "1"
    proc = g.connect("7000", None, "--paths", "udp-knock,relay")
    proc.wait_event("path", 15, kind="udp-knock")
    move_bytes(g, proc)
    g.host_proc.kill()
    wait_until(lambda: not alive(helpers[0]), 5, "the helper ended with its program")


@pytest.mark.parametrize("more", [[], ["--no-portal"]])
def test_no_thread_of_a_broker_keeps_capabilities(gate, more):
    """Root's: they are a thread's own, and what devices and browsers say is read by several."""
    g = gate(host="none", client="none")
    g.start_broker(*more)
    pid = g.broker_proc.pid
    tasks = [f"{pid}/task/{task}" for task in os.listdir(f"/proc/{pid}/task")]
    assert len(tasks) > 1, tasks
    for task in tasks:
        own = status(task)
        assert int(own["CapPrm"], 16) & ~0xf & ~NET_BIND_SERVICE == 0, (task, own["CapPrm"])
        assert own["NoNewPrivs"] == "1", task


def test_file_capabilities_on_the_helper_are_enough(gate, work):
    """An ordinary user's host, and a helper with file capabilities beside it."""
    g = gate(host="none", client="sym")
    own = os.path.join(work, "bin")
    os.makedirs(own)
    os.chmod(work, 0o755)
    for name in ("postern", HELPER):
        subprocess.run(["cp", os.path.join(os.path.dirname(postern()), name), own],
                       check=True)
    done = subprocess.run(["setcap", "cap_net_admin,cap_net_raw,cap_net_bind_service+ep",
                           os.path.join(own, HELPER)], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"this file system keeps no file capabilities: {done.stderr.strip()}")
    os.makedirs(g.host.state, mode=0o700)
    os.chown(g.host.state, 65534, 65534)
    g.start_broker()
    g.host.start_peer("tcp-server", 7000)
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    g.host_proc = g.programs.start(g.topo.host.ns, "serve", *user, f"{own}/postern", "serve",
                                   "--json", "--broker", g.link, "--name", "home", "7000",
                                   env=g.host.env)
    g.host_proc.wait_event("ready", 20)
    g.host.wrapper = user
    g.join()
    proc = g.connect("7000", None, "--paths", "udp-knock,relay")
    proc.wait_event("path", 15, kind="udp-knock")


def test_the_helper_is_not_for_hands():
    done = subprocess.run([helper_path()], capture_output=True, text=True)
    assert done.returncode == 2 and "postern starts this by itself" in done.stderr


# core/privilege.h
(HELLO, KNOCK_ADD, KNOCK_REMOVE, KNOCK_SEEN, SEQUENCED, TRANSPARENT, LOW_PORT, BUFFERS, ARRANGE,
 ARRANGE_ANSWER, GATE, START, END, NAMES_LINK, ANOTHER_KEEPER) = range(1, 16)


def addr(ip="", port=0, scope=0, junk=b""):
    raw = socket.inet_pton(socket.AF_INET6 if ":" in ip else socket.AF_INET, ip) if ip else b""
    return struct.pack("=BxH16sI", len(raw) and (6 if ":" in ip else 4), port, raw + junk, scope)


def request(op, local=addr(), remote=addr(), sequence=0, peer_sequence=0, hops=0, ways=0,
            peer_ways=0, tcp=0, after_gates=0, sources=(), count=None, id=b""):
    return struct.pack("=II24s24sIIIIIBBBx96s16s", op, 7, local, remote, sequence, peer_sequence,
                       hops, ways, peer_ways, tcp, after_gates,
                       len(sources) if count is None else count, b"".join(sources), id)


class Asked:
    """The real helper, or its keeper, at the other end of our pair."""

    def __init__(self, name=HELPER, first=()):
        """`first`: what runs it."""
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.proc = subprocess.Popen([*first, helper_path()] if first else [name], pass_fds=[3],
                                     executable=None if first else helper_path(),
                                     preexec_fn=lambda: os.dup2(theirs.fileno(), 3))
        theirs.close()
        self.ours.settimeout(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ours.close()
        assert self.proc.wait(10) == 0   # it ends with its program

    def ask(self, message, *fds):
        """Its error, its reason, and the socket that came along."""
        along = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.ours.sendmsg([message], along)
        answer, came, _, _ = self.ours.recvmsg(4096, socket.CMSG_SPACE(4))
        err = struct.unpack_from("=i", answer, 8)[0]
        fd = array.array("i", came[0][2][:4])[0] if came else None
        return err, answer[56:].split(b"\0")[0].decode(), fd and socket.socket(fileno=fd)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.proc.pid}/fd"))


PEER, OWN = addr("192.0.2.7", 4000), addr("127.0.0.1", 4000)
NO_REQUESTS = [
    ("a listening socket on 443", request(SEQUENCED, addr("0.0.0.0", 443)), "port is not given"),
    ("the same by IPv6", request(SEQUENCED, addr("::", 22)), "port is not given"),
    ("a number on a low port", request(SEQUENCED, addr("0.0.0.0", 1023)), "port is not given"),
    ("a port below the low ones", request(LOW_PORT, addr("0.0.0.0", 443), tcp=1), "port is not given"),
    ("a port that needs no right", request(LOW_PORT, addr("0.0.0.0", 1024)), "port is not given"),
    ("a low port at no address", request(LOW_PORT, addr(port=600)), "no usable address of this"),
    ("a bool of 2", request(LOW_PORT, addr("127.0.0.1", 600), tcp=2), "a field has a value"),
    ("a knock of 255", request(KNOCK_ADD, addr(port=5000), tcp=255, sources=[PEER]), "a field has a value"),
    ("after 9 gates", request(HELLO, after_gates=9), "a field has a value"),
    ("a knock at ssh", request(KNOCK_ADD, addr(port=22), sources=[PEER]), "port is not given"),
    ("a knock of nobody's", request(KNOCK_ADD, addr(port=5000)), "no usable sources"),
    ("more sources than there are", request(KNOCK_ADD, addr(port=5000), sources=[PEER], count=5), "no usable sources"),
    ("a source that is none", request(KNOCK_ADD, addr(port=5000), sources=[PEER], count=2), "no usable sources"),
    ("a source beyond those", request(KNOCK_ADD, addr(port=5000), sources=[PEER, PEER], count=1), "no usable sources"),
    ("a knock from loopback", request(KNOCK_ADD, addr(port=5000), sources=[OWN]), "no usable sources"),
    ("a knock at an address", request(KNOCK_ADD, addr("10.0.0.1", 5000), sources=[PEER]), "no usable address of this"),
    ("a family that is none", request(SEQUENCED, b"\x09" + addr("0.0.0.0", 4000)[1:]), "no usable address of this"),
    ("more bytes than IPv4 has", request(SEQUENCED, addr("0.0.0.0", 4000, junk=b"x")), "no usable address of this"),
    ("an interface without need", request(SEQUENCED, addr("10.0.0.1", 4000, scope=1)), "no usable address of this"),
    ("two families", request(TRANSPARENT, PEER, addr("2001:db8::1", 4000)), "no usable address of a peer"),
    ("sending to loopback", request(TRANSPARENT, PEER, OWN), "no usable address of a peer"),
    ("sending to everybody", request(TRANSPARENT, PEER, addr("255.255.255.255", 67)), "no usable address of a peer"),
    ("raw packets from a low port", request(ARRANGE, addr("10.0.0.1", 80), PEER), "port is not given"),
    ("raw packets from nowhere", request(ARRANGE_ANSWER, addr("0.0.0.0", 4000), PEER), "no usable address of this"),
    ("raw packets from another", request(ARRANGE, addr("192.0.2.9", 4000), PEER), "not this machine"),
    ("300 hops", request(ARRANGE, addr("10.0.0.1", 4000), PEER, hops=300), "a field has a value"),
    ("IPv4 in IPv6's form", request(ARRANGE, addr("::ffff:10.0.0.1", 4000), PEER), "no usable address of this"),
    ("a peer in IPv6's form", request(TRANSPARENT, addr("2001:db8::1", 53), addr("::ffff:192.0.2.7", 4000)),
     "no usable address of a peer"),
    ("a source in IPv6's form", request(KNOCK_ADD, addr(port=5000), sources=[addr("::ffff:192.0.2.7", 4000)]),
     "no usable sources"),
    ("any address in IPv6's form", request(SEQUENCED, addr("::ffff:0.0.0.0", 4000)), "no usable address of this"),
    ("options that are none", request(ARRANGE, addr("10.0.0.1", 4000), PEER, ways=0x80), "a field has a value"),
    ("a scale of 15", request(ARRANGE, addr("10.0.0.1", 4000), PEER, peer_ways=15), "a field has a value"),
    ("a gate at port 0", request(GATE), "port is not given"),
    ("a field that it has not", request(NAMES_LINK, sequence=1), "a field has a value"),
    ("a remote that it has not", request(KNOCK_REMOVE, remote=PEER), "no usable address of a peer"),
    ("buffers of nothing", request(BUFFERS), "missing or another"),
    ("a keeper of nothing", request(ANOTHER_KEEPER), "missing or another"),
    ("its own report", request(KNOCK_SEEN), "not known here"),
    ("what the keeper is asked", request(START), "not known here"),
    ("the end", request(END), "not known here"),
    ("none", request(0), "not known here"),
    ("the first that there is not", request(16), "not known here"),
    ("the last that there is not", request(0xffffffff), "not known here"),
]


def test_the_helper_refuses_what_its_table_does_not_allow():
    with Asked() as helper:
        for what, message, words in NO_REQUESTS:
            err, why, sock = helper.ask(message)
            assert err != 0 and words in why and sock is None, (what, err, why)
        assert helper.ask(request(HELLO))[0] == 0
        before = helper.descriptors()
        with socket.socket() as tcp, open(helper_path(), "rb") as file:
            for fd in (tcp, file):
                for op in (BUFFERS, ANOTHER_KEEPER):
                    assert "missing or another" in helper.ask(request(op), fd.fileno())[1]
                assert "nothing may come along" in helper.ask(request(HELLO), fd.fileno())[1]
                helper.ask(request(HELLO), fd.fileno(), fd.fileno())
        wait_until(lambda: helper.descriptors() == before, 5, "what came along is kept by nobody")


@pytest.mark.parametrize("op", [ARRANGE, ARRANGE_ANSWER])
def test_no_network_is_sent_from_in_whole(op):
    """A network's broadcast address can be bound as if it were this machine's; raw packets
    that have it as their source would be answered by all machines there."""
    net = ("ip link add lan type veth peer name far; ip address add 10.77.0.1/24 broadcast + dev lan; "
           'ip link set lan up; ip link set far up; exec "$0"')
    with Asked(first=["unshare", "--net", "sh", "-c", net]) as helper:
        for own in ("10.77.0.255", "10.77.0.0", "10.77.0.2"):
            err, why, _ = helper.ask(request(op, addr(own, 4000), addr("10.77.0.9", 4000)))
            assert err != 0 and "not this machine" in why, (own, err, why)
        err, why, _ = helper.ask(request(op, addr("10.77.0.1", 4000), addr("10.77.0.9", 4000)))
        assert "not this machine" not in why, why


def test_what_a_number_is_chosen_for_listens_on_no_port_that_needs_a_right():
    with Asked() as helper:
        err, why, sock = helper.ask(request(SEQUENCED, addr("127.0.0.1", 0), sequence=77))
        if err != 0:
            pytest.skip(f"no sequence number can be chosen here: {why}")
        with sock:
            assert sock.getsockname()[1] >= 1024
        err, why, sock = helper.ask(request(LOW_PORT, addr("127.0.0.1", 777), tcp=1))
        assert err == 0, why
        with sock:
            assert sock.getsockname() == ("127.0.0.1", 777)


def test_keepers_are_bounded_and_take_what_is_theirs():
    with Asked() as helper:
        pairs, errors = [], []
        for _ in range(8):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            errors.append(helper.ask(request(ANOTHER_KEEPER), theirs.fileno())[0])
            theirs.close()
            pairs.append(ours)
        assert errors.count(0) == 4 and all(errors[4:]), errors
        for ours in pairs:
            ours.close()
    with Asked(KEEPER) as keeper:
        for message in (request(HELLO), request(START), request(END, tcp=1)):
            assert "the keeper refuses" in keeper.ask(message)[1]


def test_the_helper_refuses_what_it_does_not_know():
    """Too short, too long, and an unknown operation: each is answered, none obeyed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    proc = subprocess.Popen([helper_path()], pass_fds=[3],
                            preexec_fn=lambda: os.dup2(theirs.fileno(), 3))
    theirs.close()
    ours.settimeout(5)
    try:
        for request in (b"x", bytes(4096), b"\xff" * 64):
            ours.send(request)
            answer = ours.recv(4096)
            assert re.search(rb"differ|knows no request", answer), answer
    finally:
        ours.close()
    assert proc.wait(5) == 0   # it ends with its program
