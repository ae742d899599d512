"""`postern send` and `postern receive`: every byte arrives, nothing is overwritten, no
half file stands under its name, and what was begun goes on where it was."""

import hashlib
import os
import shutil
import signal
import stat
import struct
import subprocess

import pytest

from .actors import HOST, postern
from .conftest import full
from .net import run, wait_until
from .test_badinput import says

pytestmark = pytest.mark.postern
MB = 1024 * 1024


class Pair:
    """A client that sends from `out`, and a host that receives into `into`."""

    def __init__(self, g):
        self.g, self.work = g, g.work
        self.out, self.into = os.path.join(g.work, "out"), os.path.join(g.work, "into")
        os.makedirs(self.out)
        os.makedirs(self.into)
        self.proc = None

    def receive(self, *args):
        self.proc = self.g.host.start("receive", *(args or (self.into,)))
        self.proc.wait_event("ready", 10)
        return self.proc

    def file(self, name, size, seed=b"x"):
        path = os.path.join(self.out, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            for i in range(0, size, MB):
                block = hashlib.shake_128(seed + str(i).encode()).digest(4096)
                f.write((block * 256)[:min(MB, size - i)])
        return path

    def send(self, *paths, who=None, timeout=60, **more):
        return (who or self.g.client).run("send", *paths, HOST, timeout=timeout, **more)

    def got(self, name):
        return os.path.join(self.into, name)

    def files(self):
        found = {}
        for top, _, names in os.walk(self.into):
            for name in names:
                path = os.path.join(top, name)
                found[os.path.relpath(path, self.into)] = digest(path)
        return found


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "blake2b").hexdigest()


@pytest.fixture
def pair(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    return Pair(g.up_and_joined("peer=7000"))


def test_files_and_directories(pair):
    p = pair
    p.receive()
    a = p.file("a.bin", 5 * MB + 17)
    empty = p.file("empty", 0)
    p.file("tree/b", 3)
    p.file("tree/deep/.hidden", 40)
    os.makedirs(os.path.join(p.out, "tree/void"))
    os.chmod(a, 0o754)
    os.utime(a, (1_600_000_000, 1_600_000_000))
    done = p.send(a, empty, os.path.join(p.out, "tree/"))
    assert done.status == 0, done.stderr
    want = {"a.bin", "empty", "tree/b", "tree/deep/.hidden"}
    assert {e["file"] for e in done.events if e["event"] == "sent"} == want, done.stdout
    wait_until(lambda: len([e for e in p.proc.events if e["event"] == "received"]) == 4 or
               p.proc.poll_output(), 5, "the host says so")
    assert p.proc.find("received", file="a.bin")["from"], p.proc.events
    assert set(p.files()) == want and all(p.files()[n] == digest(os.path.join(p.out, n)) for n in want)
    assert os.path.isdir(p.got("tree/void"))
    there = os.stat(p.got("a.bin"))
    assert stat.S_IMODE(there.st_mode) == 0o754 & ~0o022 | 0o044 & 0o754 and there.st_mtime == 1_600_000_000
    assert p.proc.terminate() == 0
    assert not os.path.exists(p.got(".postern-parts"))


def test_nothing_is_overwritten_and_what_is_there_is_not_sent_again(pair):
    p = pair
    p.receive()
    a = p.file("a.txt", 3 * MB)
    assert p.send(a).status == 0
    again = p.send(a).event("sent")
    assert again["note"] and os.listdir(p.into) == ["a.txt"], again
    here = p.proc.wait_event("already-here", 5)
    assert here["file"] == "a.txt" and here["bytes"] == 3 * MB and here["from"], here
    assert len([e for e in p.proc.events if e["event"] == "received"]) == 1
    first = digest(a)
    p.file("a.txt", 3 * MB, b"other")
    assert p.send(a).event("sent")["as"] == "a (2).txt"
    p.file("a.txt", 10, b"third")
    assert p.send(a).event("sent")["as"] == "a (3).txt"
    want = ["a (2).txt", "a (3).txt", "a.txt"]
    assert sorted(os.listdir(p.into)) == want and p.files()["a.txt"] == first
    for size, seed, name in ((10, b"third", "a (3).txt"), (3 * MB, b"other", "a (2).txt"), (3 * MB, b"x", None)):
        p.file("a.txt", size, seed)
        again = p.send(a).event("sent")
        assert again["note"] and again.get("as") == name and sorted(os.listdir(p.into)) == want, again


def test_of_what_cannot_be_read_the_rest_is_sent(pair):
    p = pair
    p.receive()
    p.file("d/fine", 3)
    p.file("d/locked/in it", 3)
    os.makedirs(os.path.join(p.out, "d", *["x" * 200] * 6))
    os.chmod(os.path.join(p.out, "d/locked"), 0)
    p.g.client.wrapper = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]   # as who is not root
    done = p.send(os.path.join(p.out, "d"))
    p.g.client.wrapper = []
    assert done.status == 1 and "is not sent: File name too long" in done.stderr, done.stderr
    assert "d/locked is not sent: Permission denied" in done.stderr, done.stderr
    assert "were not sent" in done.stderr.splitlines()[-1] and list(p.files()) == ["d/fine"], done.stderr


def test_a_file_that_fails_is_not_one_that_changed(pair):
    pair.receive()
    done = pair.send("/sys/class/net/lo/speed")   # the loopback device has none
    assert done.status == 1 and "speed is not sent: Invalid argument" in done.stderr


def test_sparse_and_large(pair):
    p = pair
    p.receive()
    path = os.path.join(p.out, "disk.img")
    with open(path, "wb") as f:
        f.truncate(20_000 * MB)
        f.seek(7_000 * MB + 5)
        f.write(b"in the middle")
    done = p.send(path, timeout=60)
    assert done.status == 0, done.stderr
    there = os.stat(p.got("disk.img"))
    assert there.st_size == 20_000 * MB and there.st_blocks * 512 < 10 * MB
    with open(p.got("disk.img"), "rb") as f:
        f.seek(7_000 * MB + 5)
        assert f.read(14) == b"in the middle\0"




def parts(p):
    folder = p.got(".postern-parts")
    return sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder)) \
        if os.path.isdir(folder) else 0


def test_killed_in_the_middle_it_goes_on(pair):
    p = pair
    p.receive()
    big = p.file("big.bin", 200 * MB)
    for _ in range(2):
        before = parts(p)
        proc = p.g.client.start("send", big, HOST)
        wait_until(lambda: parts(p) > before + 20 * MB or not proc.running, 60, "some of it is there")  # noqa: B023
        assert proc.running, proc.stderr
        proc.kill()
        assert not os.path.exists(p.got("big.bin"))
        assert parts(p) > before
    done = p.send(big, timeout=120)
    assert done.status == 0, done.stderr
    assert p.files() == {"big.bin": digest(big)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_was_not_sent(pair, number):
    """`send FILE HOST && rm FILE` keeps the file; to all of its processes as by Ctrl-C, or to one."""
    p = pair
    p.receive()
    big = p.file("big.bin", 200 * MB)
    for at_all in (True, False):
        before = parts(p)
        proc = p.g.programs.start(p.g.topo.client.ns, "send", "sh", "-c", '"$@" && rm "$FILE"', "sh",
                                  postern(), "send", big, HOST, env={**p.g.client.env, "FILE": big})
        wait_until(lambda: parts(p) > before + 5 * MB or not proc.running, 60, "some of it is there")  # noqa: B023
        assert proc.running, proc.stderr
        if at_all:
            os.killpg(proc.pid, number)
        else:
            os.kill(children(proc.pid)[0], number)
        assert proc.wait(10) in (-number, 128 + number), proc.stderr
        wait_until(lambda: "not sent: interrupted; run it again to go on" in proc.stderr, 5, "it says so")  # noqa: B023
        assert len(proc.stderr.splitlines()) == 1 or not at_all, proc.stderr
        assert os.path.exists(big) and not os.path.exists(p.got("big.bin"))
    assert p.send(big, timeout=120).status == 0 and p.files() == {"big.bin": digest(big)}


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(x) for x in f.read().split()]


def test_the_host_killed_in_the_middle(pair):
    p = pair
    p.receive()
    big = p.file("big.bin", 200 * MB)
    proc = p.g.client.start("send", big, HOST)
    wait_until(lambda: parts(p) > 10 * MB, 60, "some of it is there")
    p.proc.kill()
    assert proc.wait(20) == 1
    assert "send it again: it goes on where it was" in proc.stderr, proc.stderr
    assert len(proc.stderr.splitlines()) == 1, proc.stderr
    assert not os.path.exists(p.got("big.bin"))
    says(p.send(big, json=False), 1, "receives nothing now; run 'postern receive' there")
    p.receive()
    assert p.send(big, timeout=120).status == 0 and p.files() == {"big.bin": digest(big)}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_receiver_ends_while_it_reads_what_it_has(pair, number):
    """Nothing is under way then that could fail: only the end of the stream tells it."""
    p = pair
    p.receive()
    big = p.file("big.bin", 600 * MB)
    proc = p.g.client.start("send", big, HOST)
    wait_until(lambda: parts(p) > 400 * MB or not proc.running, 60, "most of it is there")
    proc.kill()
    proc = p.g.client.start("send", big, HOST)
    reader = wait_until(lambda: [c for c in children(p.proc.pid) if reads_a_part(c)], 15, "it reads what it has")
    os.kill(int(reader[0]), signal.SIGSTOP)
    os.kill(p.proc.pid, number)
    assert proc.wait(5) == 1
    assert "the receiver on home ended in the middle; run 'postern receive' there" in proc.stderr, proc.stderr
    assert len(proc.stderr.splitlines()) == 1, proc.stderr
    p.receive()
    assert p.send(big, timeout=120).status == 0 and p.files() == {"big.bin": digest(big)}


def reads_a_part(pid):
    """It has one open that it does not write to."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as f:
                flags = int(f.read().split("flags:")[1].split()[0], 8)
            if "/.postern-parts/" in os.readlink(f"/proc/{pid}/fd/{fd}") and flags & os.O_ACCMODE == os.O_RDONLY:
                return True
        except OSError:
            continue
    return False


def test_a_part_that_is_not_the_file_is_begun_anew(pair):
    p = pair
    p.receive()
    big = p.file("big.bin", 100 * MB)
    proc = p.g.client.start("send", big, HOST)
    wait_until(lambda: parts(p) > 20 * MB, 60, "some of it is there")
    proc.kill()
    folder = p.got(".postern-parts")
    with open(os.path.join(folder, os.listdir(folder)[0]), "r+b") as f:
        f.seek(3 * MB)
        f.write(b"rot")
    assert p.send(big, timeout=120).status == 0 and p.files() == {"big.bin": digest(big)}


def test_a_source_that_changes(pair):
    p = pair
    p.receive()
    big, fine = p.file("big.bin", 200 * MB), p.file("fine.txt", 9)
    proc = p.g.client.start("send", big, fine, HOST)
    wait_until(lambda: parts(p) > 20 * MB, 60, "some of it is there")
    with open(big, "ab") as f:
        f.write(b"more")
    assert proc.wait(60) == 1
    lines = proc.stderr.splitlines()
    assert "big.bin is not sent: it changed" in lines[0] and "1 of 2 were not sent" in lines[-1], lines
    assert list(p.files()) == ["fine.txt"]


def test_two_senders_at_once(pair):
    p = pair
    p.receive()
    other = p.g.other_client("other")
    p.g.join(other)
    mine = p.file("one/same.bin", 30 * MB, b"mine")
    theirs = p.file("two/same.bin", 30 * MB, b"theirs")
    procs = [who.start("send", path, HOST) for who, path in ((p.g.client, mine), (other, theirs))]
    for proc in procs:
        assert proc.wait(120) == 0, proc.stderr
    assert sorted(p.files().values()) == sorted([digest(mine), digest(theirs)])
    assert sorted(p.files()) == ["same (2).bin", "same.bin"]


def test_a_full_disk(pair):
    p = pair
    disk = os.path.join(p.work, "disk")
    os.makedirs(disk)
    run("mount", "-t", "tmpfs", "-o", "size=20m", "none", disk)
    try:
        p.receive(disk)
        big = p.file("big.bin", 50 * MB)
        says(p.send(big, json=False), 1, "the disk is too full")
        assert os.listdir(disk) == []
    finally:
        if p.proc is not None:
            p.proc.kill()
        run("umount", "-l", disk)


def test_links_and_odd_names(pair):
    p = pair
    p.receive()
    p.file("d/fine", 3)
    os.symlink("/etc/passwd", os.path.join(p.out, "d/link"))
    os.mkfifo(os.path.join(p.out, "d/fifo"))
    p.file("d/a\nb\x1b[31m", 4)
    p.file("d/photo\u202egpj.exe", 4)
    p.file(".profile", 5)
    done = p.send(os.path.join(p.out, "d"), os.path.join(p.out, ".profile"))
    assert done.status == 0 and len(done.stderr.splitlines()) == 2, done.stderr   # as rsync and cp do
    assert "d/link is a symbolic link, and is not sent" in done.stderr and "d/fifo is no regular file" in done.stderr
    assert sorted(p.files()) == ["_profile", "d/a_b_[31m", "d/fine", "d/photo___gpj.exe"]
    says(p.send(os.path.join(p.out, "d/link"), json=False), 1, "a symbolic link; name what it leads to")
    for i in range(20):   # a tree full of them: five are named
        os.makedirs(os.path.join(p.out, "modules"), exist_ok=True)
        os.symlink("../d/fine", os.path.join(p.out, f"modules/{i}"))
    done = p.send(os.path.join(p.out, "modules"))
    assert done.status == 0 and len(done.stderr.splitlines()) == 6, done.stderr
    assert "15 more are links or no regular files, and are not sent" in done.stderr, done.stderr
    os.rmdir(p.got("modules"))
    p.file("home/.state/device.db", 9)   # what `send .` in one's home would take along
    p.file("home/text", 9)
    done = p.send(os.path.join(p.out, "home"))
    assert done.status == 0 and "/home/.state holds a device's private key, and is not sent" in done.stderr, done.stderr
    assert os.listdir(p.got("home")) == ["text"]
    assert p.send(os.path.join(p.out, "home/.state")).status == 0
    assert os.path.exists(p.got("_state/device.db"))
    shutil.rmtree(p.got("home"))
    shutil.rmtree(p.got("_state"))
    says(p.send(os.path.join(p.out, "nosuch"), json=False), 1, "nosuch cannot be sent")
    # nor is one followed there
    os.rename(p.got("d"), p.got("e"))
    elsewhere = os.path.join(p.work, "elsewhere")
    os.makedirs(elsewhere)
    os.symlink(elsewhere, p.got("d"))
    os.remove(os.path.join(p.out, "d/link"))
    os.remove(os.path.join(p.out, "d/fifo"))
    says(p.send(os.path.join(p.out, "d"), json=False), 1,
         "a link or a file stands there where its directory would be; move that away there")
    assert os.listdir(elsewhere) == []


def test_a_tree_as_deep_as_a_path_is_long(pair):
    p = pair
    p.receive()
    p.file("tree/" + "d/" * 300 + "f", 7)
    done = p.send(os.path.join(p.out, "tree"))
    assert done.status == 0, done.stderr
    assert list(p.files()) == ["tree/" + "d/" * 300 + "f"]


ANSWER = """
import socket, struct, sys
at = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
for line in sys.stdin:
    conn, _ = at.accept()
    words = bytes.fromhex(line)
    conn.sendall(struct.pack(">BI", 13, len(words)) + words)
    while conn.recv(65536):
        pass
    conn.close()
"""


def test_whatever_reason_the_other_end_gives(pair):
    """Another's words: what is no advice is not taken for it, none is not shown as one."""
    p = pair
    proc = p.g.programs.start(p.g.topo.host.ns, "answer", "/usr/bin/python3", "-c", ANSWER, "7001",
                              stdin=subprocess.PIPE)
    wait_until(lambda: (proc.poll_output(), proc.lines)[1], 10, "it listens")
    p.g.host_proc.terminate()
    p.g.host_proc = p.g.host.start("serve", "receive=7001")
    p.g.host_proc.wait_event("ready", 15)
    a = p.file("a", 1)
    for words, want in ((b"\x1b]0;pwn\x07", "]0;pwn?; send it again"), (b"", "refused without a reason; send it again"),
                        (b"no; not; today", "no; not; today"), (b"full; ", "full; send it again"),
                        (b"; go", "refused without a reason; go")):
        proc.popen.stdin.write((words.hex() + "\n").encode())
        proc.popen.stdin.flush()
        says(p.send(a, json=False), 1, want)


def test_a_receiver_that_does_not_answer(pair):
    p = pair
    p.receive()
    p.proc.signal(signal.SIGSTOP)
    proc = p.g.client.start("send", p.file("a", 5), HOST)
    wait_until(lambda: "waiting: the receiver on home does not answer; this ends after 30 s" in proc.stderr, 15, "it says so")
    if full():
        assert proc.wait(40) == 1 and "nothing came from the receiver on home for 30 s" in proc.stderr, proc.stderr
        proc = p.g.client.start("send", p.file("a", 5), HOST)
    p.proc.signal(signal.SIGCONT)
    assert proc.wait(10) == 0 and list(p.files()) == ["a"], proc.stderr


def silent(p, clients, count):
    """Connections to `receive` that say nothing, spread over the devices; all are served."""
    held = [p.g.programs.start(p.g.topo.client.ns, "hold", postern(), "nc", HOST, "receive", env=clients[i % len(clients)].env,
                               stdin=subprocess.PIPE) for i in range(count)]
    wait_until(lambda: len(children(p.proc.popen.pid)) >= min(count, 16), 60, "all places are taken")
    return held


@pytest.mark.parametrize("devices", [1, 16])
def test_who_says_nothing_keeps_nobody_from_receive(pair, devices):
    p = pair
    other = p.g.other_client("other")
    p.g.join(other)
    crowd = [p.g.client] + [p.g.other_client(f"device-{i}") for i in range(1, devices)]
    for client in crowd[1:]:
        p.g.join(client)
    p.receive()
    held = silent(p, crowd, 16)
    wait_until(lambda: p.send(p.file("a", 5), who=other).status == 0, 10, "one that was silent for a second gives its place")
    wait_until(lambda: "another device sends, too" in p.proc.stderr, 5, "it is told so")
    assert p.send(p.file("b", 5)).status == 0 and sorted(p.files()) == ["a", "b"]
    for proc in held:
        proc.kill()


def test_who_may(pair):
    p = pair
    a = p.file("a", 1)
    says(p.send(a, json=False), 1, "receives nothing now; run 'postern receive' there")
    p.receive()
    seen = len(p.g.host_proc.stdout)
    for _ in range(3):
        says(p.g.host.run("receive", p.into, json=False), 1, "publishes a service 'receive' already")
    p.g.host_proc.poll_output()
    assert "receive-2" not in p.g.host_proc.stdout[seen:], "refused before anybody was told of it"
    narrow = p.g.other_client("narrow")
    p.g.join(narrow, None, "--services", "peer")
    says(p.send(a, who=narrow, json=False), 1, "may not use that service")
    p.g.host_proc.terminate()
    wait_until(lambda: "waits until it is back" in p.proc.stderr, 10, "it says so")
    p.g.host_proc = p.g.host.start("serve")
    p.proc.wait_event("ready", 15, 1)
    assert p.send(a).status == 0 and len(p.proc.stderr.splitlines()) == 1, p.proc.stderr
    p.g.host_proc.terminate()
    assert p.proc.terminate() == 0
    says(p.g.host.run("receive", p.into, json=False), 1, "no 'postern serve' runs here")
    says(p.g.host.run("receive", "/nosuch", json=False), 1, "nothing can be received into /nosuch")
    says(p.send(a, json=False), 1, "not online")


def test_a_sender_that_speaks_nonsense(pair):
    """What a listed device may say, by hand: it gets no further than its own part."""
    p = pair
    p.receive()

    def frame(kind, body):
        return struct.pack(">BI", kind, len(body)) + body

    def file(path, size):
        return frame(2, struct.pack(">BHQq", 0, 0o4777, size, 0) + path)
    hello, listed = frame(1, struct.pack(">I", 1)), frame(3, struct.pack(">Q", 1))
    start, zeros = frame(6, struct.pack(">IQ", 0, 0)), frame(8, struct.pack(">Q", 1 << 40))
    for data in (b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", hello + hello[:3], hello + start, hello + listed + start,
                 hello + file(b"huge", 1 << 47), hello + file(b"", 1), hello + file(b"a\0b", 1),
                 hello + file(b"x", 5) + listed + start + zeros, hello + file(b"x", 5) + listed + start + start,
                 hello + file(b"x", 5) + listed + frame(6, struct.pack(">IQ", 7, 0)),
                 hello + file(b"x", 5) + listed + start + frame(7, b"12345678"),
                 hello + file(b"x", 5) + listed + start + frame(7, b"12345") + frame(9, b"\0" * 32),
                 hello + frame(1, struct.pack(">I", 2))):
        p.g.client.run("nc", HOST, "receive", json=False, stdin=data)
    assert p.files() == {} or set(p.files()) <= {os.path.join(".postern-parts", n) for n in
                                                 os.listdir(p.got(".postern-parts"))}, p.files()
    assert p.proc.running and p.send(p.file("fine", 5)).status == 0
    assert "makes no sense" in p.proc.stderr and "another version" in p.proc.stderr, p.proc.stderr
    # whatever it is refused for, it is told
    for data, words in ((b"\xff" * 100, b"makes no sense"), (hello + b"\7\xff\xff\xff\xff", b"makes no sense"),
                        (hello + file(b"/", 1), b"has no name; send it under another name")):
        assert words.decode() in p.g.client.run("nc", HOST, "receive", json=False, stdin=data).stdout, data
    data = hello + file(b"../../up/x", 1) + listed + start + frame(7, b"1")
    p.g.client.run("nc", HOST, "receive", json=False, stdin=data)
    assert not os.path.exists(os.path.join(p.work, "up")) and not os.path.exists(os.path.join(p.into, "../up"))


def test_beside_up_and_with_lines_of_progress(pair):
    p = pair
    p.receive()
    p.g.client.start("up").wait_event("path", 20)
    big = p.file("big.bin", 400 * MB)
    done = p.send(big, timeout=200)
    assert done.status == 0, done.stderr
    assert done.seconds < 6 or done.event("progress")["of"] == 400 * MB, done.stdout
    assert os.path.getsize(p.got("big.bin")) == 400 * MB


# ----------------------------------------------------------------------------- share

@pytest.fixture
def shared(pair):
    p = pair
    p.file("film.mp4", 3 * MB + 5)
    p.file("pictures/a & <b>.jpg", 100)
    p.file(".secret", 5)
    p.file("pictures/.git/config", 5)
    os.symlink("/etc/passwd", os.path.join(p.out, "link"))
    os.symlink("/etc/apt", os.path.join(p.out, "etc"))
    p.proc = p.g.host.start("share", p.out)
    p.proc.wait_event("ready", 10)
    p.port = p.g.connect("share").port
    return p


def curl(p, path, *args):
    done = p.g.programs.run(p.g.topo.client.ns, "curl", "curl", "-s", "-S", "--path-as-is", "-D", "-", *args,
                            f"http://127.0.0.1:{p.port}{path}", timeout=30)
    head, _, body = done.stdout.replace("\r", "").partition("\n\n")
    return int(head.split()[1]), head, body


def test_share_shows_a_directory(shared):
    p = shared
    status, _, page = curl(p, "/")
    assert status == 200 and 'href="./film.mp4"' in page and 'href="./pictures/"' in page
    assert "secret" not in page and "link" not in page and "etc" not in page, page
    status, _, page = curl(p, "/pictures", "-L")
    assert "a &amp; &lt;b&gt;.jpg" in page and "a%20%26%20%3Cb%3E.jpg" in page and ".git" not in page, page
    assert curl(p, "/pictures/a%20%26%20%3Cb%3E.jpg", "-o", os.path.join(p.work, "got"))[0] == 200
    for path in ("/.secret", "/link", "/etc/sources.list", "/../host/device.db", "/%2e%2e/host/device.db",
                 "/pictures/../.secret", "/pictures/.git/config", "/nosuch", "/film.mp4/x"):
        status, _, body = curl(p, path)
        assert status == 404 and body == "There is nothing here.\n", (path, body)
    assert curl(p, "/film.mp4", "-X", "PUT", "-d", "x")[0] == 405


def test_share_serves_ranges(shared):
    p = shared
    with open(os.path.join(p.out, "film.mp4"), "rb") as f:
        whole = f.read()
    got = os.path.join(p.work, "got")
    for text, want in (("0-9", whole[:10]), ("3145728-", whole[3145728:]), ("-7", whole[-7:]),
                       ("5-99999999", whole[5:])):
        p.g.programs.run(p.g.topo.client.ns, "curl", "curl", "-s", "-r", text, "-o", got,
                         f"http://127.0.0.1:{p.port}/film.mp4")
        with open(got, "rb") as f:
            assert f.read() == want, text
    assert "206" in curl(p, "/film.mp4", "-I", "-r", "0-9")[1]
    assert curl(p, "/film.mp4", "-I", "-r", "99999999-")[0] == 416
    assert curl(p, "/film.mp4", "-I", "-r", "9-2")[0] == 200
    assert curl(p, "/film.mp4", "-I", "-r", "9223372036854775807-")[0] == 416
    assert curl(p, "/film.mp4", "-I", "-r", "0-99999999999999999999999")[0] == 206
    assert curl(p, "/film.mp4%00.txt")[0] == 404


MANY = """
import socket, sys, time
text = sys.argv[2].encode().decode("unicode_escape").encode()
held = []
for _ in range(220):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    s.sendall(text)
    held.append(s)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("text", ["GET /film.mp4 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n", "GET /film.mp4 HTT"],
                         ids=["downloads", "half heads"])
def test_one_device_does_not_keep_share_from_another(shared, text):
    p = shared
    other = p.g.other_client("other")
    p.g.join(other)
    greedy = p.port
    p.port = p.g.connect("share", who=other).port
    proc = p.g.programs.start(p.g.topo.client.ns, "many", "/usr/bin/python3", "-c", MANY, str(greedy), text,
                              stdin=subprocess.PIPE)
    wait_until(lambda: (proc.poll_output(), proc.lines)[1], 30, "they are open")
    status, _, page = curl(p, "/")
    assert status == 200 and "film.mp4" in page
    proc.popen.stdin.close()
    assert proc.wait(10) == 0
    for _ in range(2):
        assert curl(p, "/film.mp4", "-o", os.path.join(p.work, "got"))[0] == 200
    p.port = greedy
    assert curl(p, "/", "--retry", "3")[0] == 200
    assert p.proc.terminate() == 0


def test_share_is_for_who_may(shared):
    p = shared
    narrow = p.g.other_client("narrow")
    p.g.join(narrow, None, "--services", "peer")
    says(narrow.run("nc", HOST, "share", json=False, stdin=b""), 1, "may not use that service")
    says(p.g.host.run("share", p.out, json=False), 1, "publishes a service 'share' already")
    says(p.g.host.run("share", "/nosuch", json=False), 1, "/nosuch cannot be shared")
    assert p.proc.terminate() == 0
    says(p.g.client.run("nc", HOST, "share", json=False, stdin=b""), 1, "publishes no service 'share'")


@pytest.mark.parametrize("size", [60 * MB, 5 * MB + 17])
def test_the_same_file_twice_at_once_from_one_device(pair, size):
    """Each has a part of its own; the first one's file is not touched by the second, and is the only one."""
    p = pair
    p.receive()
    a = p.file("two.bin", size)
    for round_ in range(5):
        procs = [p.g.client.start("send", a, HOST) for _ in range(4)]
        assert [x.wait(60) for x in procs] == [0] * 4, [x.stderr for x in procs]
        found = p.files()
        assert found == {"two.bin": digest(a)}, (round_, found)
        os.unlink(p.got("two.bin"))


def test_the_second_goes_on_where_the_first_was_when_asked(pair):
    """The first stands in the middle; the second must not cut its part, nor wait for it."""
    p = pair
    p.receive()
    a = p.file("big.bin", 200 * MB)
    first = p.g.client.start("send", a, HOST)
    parts = p.got(".postern-parts")

    def begun():
        return os.path.isdir(parts) and any(os.path.getsize(os.path.join(parts, n)) > 8 * MB for n in os.listdir(parts))
    wait_until(begun, 30, "a part")
    first.signal(signal.SIGSTOP)
    for pid in children(first.pid):
        os.kill(pid, signal.SIGSTOP)
    second = p.send(a)
    assert second.status == 0 and p.files()["big.bin"] == digest(a), second.stderr
    for pid in children(first.pid):
        os.kill(pid, signal.SIGCONT)
    first.signal(signal.SIGCONT)
    assert first.wait(60) == 0, first.stderr
    assert list(p.files()) == ["big.bin"], "what is there already stays the only one"


@pytest.mark.parametrize("path", ["/proc/version", "/proc/sys/kernel/ostype", "/sys/class/net/lo/mtu"])
def test_a_file_whose_size_the_kernel_does_not_say_is_not_lost_in_silence(pair, path):
    p = pair
    p.receive()
    p.file("version", 0)
    for _ in range(2):
        done = p.send(path)
        assert done.status == 1 and "its size is not what the kernel says" in done.stderr, done.stderr
        open(p.got(os.path.basename(path)), "w").close()   # one of size 0 is there, and is not the same
