"""Small peers that check every byte: a TCP and a UDP server, and the data they agree on.

Run in a namespace as `python3 peers.py tcp-server PORT` and so on; imported
by the tests for the same data. Knows nothing of Postern: it talks through ordinary
sockets to whatever address it is given.

TCP, one request a connection, a line first:
  GET n seed   -> n bytes of data(seed), then end
  PUT n        <- n bytes; -> their SHA-256 in hex and a newline
  SINK         <- bytes until half-close; -> SHA-256 in hex and a newline
  ECHO         every byte comes back until half-close, then end
  DEAF         answers `ok`, then neither reads nor ends
  HOLD         answers `ok`, then echoes line by line (for long-lived connections)
  RESET        resets the connection
  STREAM mbit  -> bytes at that steady rate, for ever
  WATCH        <- bytes; prints their gaps, as `gaps` does
UDP: every datagram comes back.
"""

import hashlib
import os
import random
import select
import signal
import socket
import socketserver
import struct
import sys
import threading
import time

_BLOCK = 1 << 16


def data(seed, n):
    """n bytes in blocks, each of which names its place, so that a swap is seen."""
    base = random.Random(seed).randbytes(_BLOCK)
    place = 0
    while n > 0:
        block = struct.pack(">QQ", seed, place) + base[16:]
        yield block[:n]
        n -= len(block)
        place += 1


def digest(seed, n):
    h = hashlib.sha256()
    for block in data(seed, n):
        h.update(block)
    return h.hexdigest()


class _Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        verb, *args = self.rfile.readline(200).decode("ascii", "replace").split() or [""]
        act = getattr(self, "do_" + verb.lower(), None)
        if act:
            try:
                act(*args)
            except (ConnectionError, BrokenPipeError) as e:
                print(f"{verb} {args}: {e}", flush=True)

    def do_get(self, n, seed):
        for block in data(int(seed), int(n)):
            self.connection.sendall(block)

    def do_put(self, n):
        left, h = int(n), hashlib.sha256()
        while left > 0:
            block = self.rfile.read1(min(left, _BLOCK))
            if not block:
                print(f"PUT: ended {left} bytes early", flush=True)
                return
            left -= len(block)
            h.update(block)
        self.wfile.write((h.hexdigest() + "\n").encode())

    def do_sink(self):
        h = hashlib.sha256()
        while block := self.rfile.read1(_BLOCK):
            h.update(block)
        self.wfile.write((h.hexdigest() + "\n").encode())

    def do_echo(self):
        while block := self.rfile.read1(_BLOCK):
            self.wfile.write(block)

    def do_hold(self):
        self.wfile.write(b"ok\n")
        for line in self.rfile:
            self.wfile.write(line)

    def do_deaf(self):
        self.wfile.write(b"ok\n")
        time.sleep(3600)

    def do_reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                   struct.pack("ii", 1, 0))
        self.connection.close()


    def do_stream(self, mbit):
        _steady(self.connection, float(mbit))

    def do_watch(self):
        _watch(self.connection)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 512
    address_family = socket.AF_INET6

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def handle_error(self, request, client_address):
        print(f"{client_address}: {sys.exc_info()[1]!r}", flush=True)


def tcp_server(port):
    with _Server(("::", int(port)), _Handler) as server:
        print("ready", flush=True)
        server.serve_forever()


def udp_server(port):
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    s.bind(("::", int(port)))
    print("ready", flush=True)
    while True:
        packet, sender = s.recvfrom(65536)
        s.sendto(packet, sender)


# -------------------------------------------------------------------------- clients

def slow_server(port, to_port):
    """Lets connections through to `to_port` of this machine, but the first stays unanswered."""
    def pipe(a, b):
        try:
            while block := a.recv(_BLOCK):
                b.sendall(block)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            a.close()
            b.close()

    with socket.create_server(("", int(port))) as server:
        print("ready", flush=True)
        first, _ = server.accept()
        print("first", flush=True)
        while True:
            near, _ = server.accept()
            far = socket.create_connection(("127.0.0.1", int(to_port)))
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=pipe, args=(a, b), daemon=True).start()


def _dial(address, port):
    s = socket.create_connection((address, int(port)), timeout=float(
        os.environ.get("PEER_TIMEOUT", "60")))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def get(address, port, n, seed):
    """Fetches and compares; prints `ok MBIT/S` or fails."""
    begin = time.monotonic()
    with _dial(address, port) as s:
        s.sendall(f"GET {n} {seed}\n".encode())
        h, got = hashlib.sha256(), 0
        while block := s.recv(1 << 18):
            h.update(block)
            got += len(block)
    return _verdict(got, int(n), h.hexdigest(), digest(int(seed), int(n)), begin)


def put(address, port, n, seed):
    begin = time.monotonic()
    with _dial(address, port) as s:
        s.sendall(f"PUT {n}\n".encode())
        for block in data(int(seed), int(n)):
            s.sendall(block)
        answer = s.makefile().readline().strip()
    return _verdict(int(n), int(n), answer, digest(int(seed), int(n)), begin)


def echo(address, port, n, seed):
    """Sends all, half-closes, reads all back: both directions at once."""
    begin = time.monotonic()
    with _dial(address, port) as s:
        s.sendall(b"ECHO\n")

        def send():
            for block in data(int(seed), int(n)):
                s.sendall(block)
            s.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        h, got = hashlib.sha256(), 0
        while block := s.recv(1 << 18):
            h.update(block)
            got += len(block)
        sender.join()
    return _verdict(got, int(n), h.hexdigest(), digest(int(seed), int(n)), begin)


def _verdict(got, want, seen, right, begin):
    seconds = max(time.monotonic() - begin, 1e-6)
    if got != want:
        print(f"wrong length: {got} of {want} bytes")
        return 1
    if seen != right:
        print(f"wrong bytes: {seen} is not {right}")
        return 1
    print(f"ok {want * 8 / seconds / 1e6:.0f} Mbit/s {seconds:.3f} s")
    return 0


def many(address, port, count, n, seed):
    """`count` connections that stand at the same time, each a GET; prints how many fit."""
    right, n = digest(int(seed), int(n)), int(n)
    socks = [_dial(address, port) for _ in range(int(count))]
    fit = []

    def fetch(s):
        h = hashlib.sha256()
        with s:
            s.sendall(f"GET {n} {seed}\n".encode())
            while block := s.recv(1 << 16):
                h.update(block)
        fit.append(h.hexdigest() == right)
    threads = [threading.Thread(target=fetch, args=(s,)) for s in socks]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(f"fit {sum(fit)}")
    return 0 if sum(fit) == len(socks) else 1


def hold(address, port, count):
    """Holds connections that the server has answered; prints `held N`, ends with them."""
    held = []
    for _ in range(int(count)):
        try:
            s = _dial(address, port)
            s.sendall(b"HOLD\n")
            if s.recv(3) != b"ok\n":
                break
        except OSError:
            break
        held.append(s)
    print(f"held {len(held)}", flush=True)
    watched = {s.fileno(): s for s in held}
    while watched:
        for s in select.select(list(watched.values()), [], [])[0]:
            try:
                gone = not s.recv(100)
            except OSError:
                gone = True
            if gone:
                del watched[s.fileno()]
                s.close()
    print("all ended", flush=True)
    return 0


def _through_socks(s, target):
    host, port = target.rsplit(":", 1)
    s.sendall(b"\x05\x01\x00")
    assert s.recv(2) == b"\x05\x00"
    s.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() +
              struct.pack(">H", int(port)))
    answer = s.recv(10)
    assert answer[1] == 0, answer


def endless(address, port, verb, target=""):
    """GETs or PUTs without end; prints `under way`, then how it ended after all:
    `reset`, or `end` when the stream looked complete. `target`: by a SOCKS proxy."""
    s = _dial(address, port)
    if target:
        _through_socks(s, target)
    s.sendall(f"{verb} {1 << 40}{' 1' if verb == 'GET' else ''}\n".encode())
    moved = 0
    try:
        while moved < 1 << 40:
            if verb == "GET":
                n = len(s.recv(1 << 16))
            else:
                n = s.send(bytes(1 << 16))
            if n == 0:
                break
            if moved < 1 << 24 <= moved + n:    # more than buffers hold: it came through
                print("under way", flush=True)
            moved += n
        print("end", flush=True)
    except ConnectionError:
        print("reset", flush=True)
    return 0


def repeat(address, port, count, n, side):
    """`count` short GETs, `side` at once, each compared and ended in order."""
    right, n, left = digest(3, int(n)), int(n), list(range(int(count)))
    wrong = []

    def work():
        while left:
            try:
                left.pop()
            except IndexError:
                return
            h = hashlib.sha256()
            try:
                with _dial(address, port) as s:
                    s.sendall(f"GET {n} 3\n".encode())
                    while block := s.recv(1 << 18):
                        h.update(block)
            except OSError as e:
                wrong.append(repr(e))
                continue
            if h.hexdigest() != right:
                wrong.append("cut short")
    threads = [threading.Thread(target=work) for _ in range(int(side))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(f"wrong {len(wrong)} {wrong[:3]}")
    return 1 if wrong else 0


class _Flow:
    """Numbered blocks at a steady rate, echoed by the server, until told to stop."""

    def __init__(self, sock, mbit):
        self.sock, self.gap = sock, 16384 * 8 / (float(mbit) * 1e6)
        self.stop = threading.Event()
        self.sent = self.got = 0
        self.sent_hash, self.got_hash = hashlib.sha256(), hashlib.sha256()
        self.longest_gap = 0.0
        self.trouble = None

    def send(self):
        base = random.Random(7).randbytes(16384 - 8)
        place, begin = 0, time.monotonic()
        try:
            while not self.stop.is_set():
                block = struct.pack(">Q", place) + base
                self.sock.sendall(block)
                self.sent_hash.update(block)
                self.sent += len(block)
                place += 1
                ahead = begin + place * self.gap - time.monotonic()
                if ahead < -0.5:
                    begin -= ahead   # was held up: go on at the same rate, no burst
                elif ahead > 0:
                    self.stop.wait(ahead)
            self.sock.shutdown(socket.SHUT_WR)
        except OSError as e:
            self.trouble = self.trouble or e

    def receive(self):
        said, last = 0.0, time.monotonic()
        try:
            while block := self.sock.recv(1 << 17):
                self.got_hash.update(block)
                self.got += len(block)
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - last)
                last = now
                if now - said > 0.1:
                    print(f"at {self.got}", flush=True)
                    said = now
        except OSError as e:
            self.trouble = self.trouble or e


def flow(address, port, mbit, target=""):
    """Echoes a stream until SIGTERM, then half-closes and compares what came back.
    `target`: by a SOCKS proxy."""
    s = _dial(address, port)
    if target:
        _through_socks(s, target)
    s.sendall(b"ECHO\n")
    f = _Flow(s, mbit)
    signal.signal(signal.SIGTERM, lambda *_: f.stop.set())
    sender = threading.Thread(target=f.send, daemon=True)
    sender.start()
    receiver = threading.Thread(target=f.receive, daemon=True)
    receiver.start()
    while receiver.is_alive():
        receiver.join(0.1)
    early = not f.stop.is_set()
    f.stop.set()
    sender.join(5)
    print(f"sent {f.sent} got {f.got} gap_ms {f.longest_gap * 1000:.0f}")
    if f.trouble or early:
        print(f"broken: {f.trouble or 'ended early'}")
        return 1
    if f.sent != f.got or f.sent_hash.digest() != f.got_hash.digest():
        print("wrong bytes")
        return 1
    print("whole")
    return 0


def _steady(sock, mbit):
    """A small block every 10 ms: what was held up follows at once, as a sensor's would."""
    block = b"." * int(mbit * 1e6 / 8 / 100)
    due = time.monotonic()
    while True:
        sock.sendall(block)
        due = max(due + 0.01, time.monotonic() - 0.5)
        time.sleep(max(due - time.monotonic(), 0))


def _watch(sock):
    """Prints `gap FROM TO` for each silence over 50 ms; `at NOW BYTES` each 0.1 s.

    Times are monotonic, BYTES all that came.
    """
    said = last = time.monotonic()
    total = 0
    while block := sock.recv(1 << 17):
        now = time.monotonic()
        total += len(block)
        if now - last > 0.05:
            print(f"gap {last:.4f} {now:.4f}", flush=True)
        if now - said > 0.1:
            print(f"at {now:.4f} {total}", flush=True)
            said = now
        last = now
    print("ended", flush=True)


def gaps(address, port, mbit, way="down"):
    """A steady stream from the server (`down`) or to it (`up`), and its silences."""
    with _dial(address, port) as s:
        s.settimeout(None)
        if way == "up":
            s.sendall(b"WATCH\n")
            _steady(s, float(mbit))
        s.sendall(f"STREAM {mbit}\n".encode())
        _watch(s)
    return 1


def typist(address, port, seconds):
    """A byte, its echo, a pause; then `typed N p50 S p95 S max S`, in seconds."""
    took, end = [], time.monotonic() + float(seconds)
    with _dial(address, port) as s:
        s.settimeout(60)
        s.sendall(b"ECHO\n")
        while time.monotonic() < end:
            begin = time.monotonic()
            s.sendall(b"x")
            if not s.recv(1):
                print("ended early")
                return 1
            took.append(time.monotonic() - begin)
            time.sleep(max(0, 0.2 - took[-1]))
    took.sort()
    print(f"typed {len(took)} p50 {took[len(took) // 2]:.3f} "
          f"p95 {took[len(took) * 19 // 20]:.3f} max {took[-1]:.3f}")
    return 0


def udp_ping(address, port, count, interval_ms, size=64):
    """Prints `sent N received M swapped K min A p50 B max C` (ms)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.connect((address, int(port)))
    count, gap = int(count), float(interval_ms) / 1000
    times, last, swapped = {}, -1, 0
    begin = time.monotonic()
    stop = begin + count * gap + 1.0
    sent = 0
    while len(times) < count and time.monotonic() < stop:
        if sent < count and time.monotonic() >= begin + sent * gap:
            try:
                s.send(struct.pack(">Id", sent, time.monotonic()).ljust(int(size), b"."))
            except ConnectionRefusedError:
                pass
            sent += 1
            continue
        due = begin + sent * gap if sent < count else stop
        s.settimeout(max(due - time.monotonic(), 0.0001))
        try:
            packet = s.recv(65536)
        except (TimeoutError, BlockingIOError, ConnectionRefusedError):
            continue
        number, stamp = struct.unpack(">Id", packet[:12])
        if number not in times:
            times[number] = (time.monotonic() - stamp) * 1000
            swapped += number < last
            last = max(last, number)
    took = sorted(times.values()) or [-1]
    print(f"sent {sent} received {len(times)} swapped {swapped} "
          f"min {took[0]:.3f} p50 {took[len(took) // 2]:.3f} max {took[-1]:.3f}")
    return 0 if times else 1


def udp_bursts(address, port, seconds, size=1000, burst=12, interval_ms=50):
    """Many at once, as a video's frames come: prints `longest S`, for which no answer came."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((address, int(port)))
    begin = last = due = time.monotonic()
    longest = answers = 0
    while time.monotonic() < begin + float(seconds):
        if time.monotonic() >= due:
            for _ in range(int(burst)):
                s.send(b"." * int(size))
            due += float(interval_ms) / 1000
        s.settimeout(max(due - time.monotonic(), 0.0001))
        try:
            s.recv(65536)
            answers, longest = answers + 1, max(longest, time.monotonic() - last)
            last = time.monotonic()
        except (TimeoutError, BlockingIOError):
            pass
    print(f"answers {answers} longest {max(longest, time.monotonic() - last):.3f}")
    return 0


def udp_punch(local_port, address, port, word):
    """Punches: sends `word` until the peer's word and its receipt have arrived."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("0.0.0.0", int(local_port)))
    s.settimeout(0.05)
    heard = False
    stop = time.monotonic() + 1.5
    while time.monotonic() < stop:
        s.sendto(b"ack" if heard else word.encode(), (address, int(port)))
        try:
            packet, _ = s.recvfrom(2048)
        except (TimeoutError, ConnectionRefusedError):
            continue
        if heard and packet == b"ack":
            s.sendto(b"ack", (address, int(port)))
            print("through")
            return 0
        heard = True
    print("no answer")
    return 1


_VERBS = {"tcp-server": tcp_server, "udp-server": udp_server, "get": get,
          "slow-server": slow_server,
          "endless": endless, "repeat": repeat, "put": put,
          "echo": echo, "flow": flow, "many": many, "hold": hold,
          "gaps": gaps, "typist": typist,
           "udp-ping": udp_ping, "udp-bursts": udp_bursts, "udp-punch": udp_punch}

if __name__ == "__main__":
    sys.exit(_VERBS[sys.argv[1]](*sys.argv[2:]))
