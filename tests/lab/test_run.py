"""postern run: unmodified server programs, and what they listen on."""

import os
import pty
import shutil
import subprocess
import sys

import pytest

from .actors import postern
from .net import wait_until
from .test_badinput import says

pytestmark = pytest.mark.postern

PYTHON = "/usr/bin/python3"


@pytest.fixture
def site(gate):
    """Broker up, a host that has joined nobody yet; `run` is its own host."""
    g = gate(host="masq", client="masq")
    g.start_broker()
    return g


def run(g, *argv, options=("--yes",), **more):
    proc = g.programs.start(g.topo.host.ns, "run", postern(), "run", "--json", "--broker",
                            g.link, "--name", "home", *options, "--", *argv,
                            env=g.host.env, **more)
    return proc


def page(g, service, path="/", timeout=15):
    """What the client gets over postern from a web service."""
    proc = g.connect(service)
    return g.programs.run(g.topo.client.ns, "curl", "curl", "-sS", "--max-time", timeout,
                          f"http://127.0.0.1:{proc.port}{path}")


def test_a_web_server_is_published_and_withdrawn(site, work):
    os.makedirs(f"{work}/www")
    with open(f"{work}/www/hello", "w", encoding="ascii") as f:
        f.write("from an unmodified server\n")
    proc = run(site, PYTHON, "-m", "http.server", "8080", cwd=f"{work}/www")
    found = proc.wait_event("published", 20)
    assert found["port"] == 8080 and found["program"].startswith("python3"), found
    site.join()
    done = page(site, "8080", "/hello")
    assert done.stdout == "from an unmodified server\n", done.stdout + done.stderr
    proc.terminate()
    assert proc.status != 0   # the program's own: it was ended by a signal


def test_exit_status_and_errors(site):
    proc = run(site, "sh", "-c", "exit 7")
    assert proc.wait(20) == 7
    none = run(site, "/does/not/exist")
    assert none.wait(20) == 1 and "cannot be started" in none.stderr + none.stdout
    bad = site.programs.run(site.topo.host.ns, "run", postern(), "run", "--yes", "--ask",
                            "--", "true", env=site.host.env)
    assert bad.status == 2 and "contradict" in bad.stderr


SERVER = """
import os, socket, sys, threading, time
kind = sys.argv[1]
def serve(port, family=socket.AF_INET):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", port)); s.listen()
    return s
if kind == "fork":
    if os.fork() == 0:
        s = serve(7001)
        while True:
            c, _ = s.accept(); c.sendall(b"child\\n"); c.close()
    os._exit(0)                       # as a daemon does
if kind == "thread":
    t = threading.Thread(target=lambda: globals().update(s=serve(7001)))
    t.start(); t.join()
if kind == "v6":
    s = serve(7001, socket.AF_INET6)
if kind == "udp":
    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("", 7002))
    while True:
        data, a = u.recvfrom(2000); u.sendto(b"udp " + data, a)
if kind == "twins":
    a = serve(7001)
    b = socket.socket(socket.AF_INET6)
    b.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    b.bind(("", 7001)); b.listen()
    print("both", flush=True)
    input()
    a.close()
    s = b
if kind == "two":
    a, b = serve(7001), serve(7003)
    time.sleep(1.5); b.close()
    s = a
while True:
    c, _ = s.accept(); c.sendall(kind.encode() + b"\\n"); c.close()
"""


def answer(g, service):
    proc = g.connect(service)
    done = g.programs.run(g.topo.client.ns, "nc", PYTHON, "-c",
                          "import socket,sys\n"
                          f"s=socket.create_connection(('127.0.0.1',{proc.port}),10)\n"
                          "print(s.makefile().read(), end='')")
    return done.stdout


@pytest.mark.parametrize("kind,expect", [("fork", "child\n"), ("thread", "thread\n"),
                                         ("v6", "v6\n")])
def test_forks_threads_and_ipv6(site, kind, expect):
    proc = run(site, PYTHON, "-c", SERVER, kind)
    proc.wait_event("published", 20, port=7001)
    site.join()
    assert answer(site, "7001") == expect
    assert proc.running   # also after the first process has ended


def test_udp_and_what_closes_again(site):
    proc = run(site, PYTHON, "-c", SERVER, "udp")
    assert proc.wait_event("published", 20, port=7002)["udp"] is True
    proc.terminate()
    proc = run(site, PYTHON, "-c", SERVER, "two")
    proc.wait_event("published", 20, port=7003)
    proc.wait_event("withdrawn", 20, port=7003)
    site.join()
    assert answer(site, "7001") == "two\n"


def test_ipv4_and_ipv6_are_one_service(site):
    proc = run(site, PYTHON, "-c", SERVER, "twins", stdin=subprocess.PIPE)
    name = proc.wait_event("published", 20, port=7001)["service"]
    site.join()
    proc.wait_line("both", stream="err")
    proc.popen.stdin.write(b"\n")
    proc.popen.stdin.flush()
    proc.wait_event("withdrawn", 20)   # the IPv4 one; the other goes on under its name
    assert proc.wait_event("published", 20, listens="[::]:7001")["service"] == name
    told = [e["event"] for e in proc.events if "listens" in e]
    assert told == ["published", "withdrawn", "published"], proc.events
    assert answer(site, "7001") == "twins\n"


MPTCP_AND_UDP = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)   # IPPROTO_MPTCP, as Go has it
s.bind(("", 7001)); s.listen()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("", 7002))
short = socket.create_server(("", 7003)); short.close()
while True:
    c, _ = s.accept(); c.sendall(b"multipath\\n"); c.close()
"""


def test_multipath_tcp_stays_published(site):
    """Its listener stands in the kernel's list as another socket. Discover tells UDP."""
    site.host.start_peer("tcp-server", 7000)
    site.start_host("7000")
    site.join()
    proc = run(site, PYTHON, "-c", MPTCP_AND_UDP)
    multipath = proc.wait_event("published", 20, port=7001)["service"]
    udp = proc.wait_event("published", 20, port=7002)["service"]
    short = proc.wait_event("published", 20, port=7003)["service"]
    proc.wait_event("withdrawn", 10, service=short)   # the kernel's list was looked at
    assert not proc.find("withdrawn", service=multipath), proc.stdout
    seen = {e["local"].rsplit(":", 1)[1] + e["protocol"]: e["service"]
            for e in site.host.run("discover").events}
    assert seen["7002udp"] == udp and seen["7001tcp"] == multipath, seen
    assert answer(site, "7001") == "multipath\n"


WORKERS = """
import os, socket, time
def worker():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("", 7001)); s.listen()
    return s
first, second = worker(), worker()
socket.create_server(("", 7004))
c, _ = first.accept() if os.fork() == 0 else second.accept()
c.sendall(b"a worker\\n")
"""


def test_workers_on_one_port_are_one_service(site):
    site.host.start_peer("tcp-server", 7000)
    site.start_host("7000")
    site.join()
    proc = run(site, PYTHON, "-c", WORKERS)
    proc.wait_event("published", 20, port=7004)
    assert [e["port"] for e in proc.events if e["event"] == "published"] == [7001, 7004]
    assert answer(site, "7001") == "a worker\n"


def test_workers_on_one_port_are_one_line(site):
    site.programs.start(site.topo.host.ns, "workers", PYTHON, "-c", WORKERS)
    def seen():
        return [e["local"].rsplit(":", 1)[1] for e in site.host.run("discover").events]
    wait_until(lambda: sum(":7001 " in line for line in
                           site.topo.host.ns.sockets("-ltn")) == 2, what="the workers")
    assert seen().count("7001") == 1, seen()


def test_only_some_ports(site):
    proc = run(site, PYTHON, "-c", SERVER, "two", options=("--yes", "--only", "7003"))
    proc.wait_line("7001, which --only does not name: it is not published", 20, "err")
    proc.wait_event("published", 20, port=7003)
    assert not proc.find("published", port=7001)


def test_loopback_only(site):
    """The program asked for every address and got loopback: nothing else reaches it."""
    proc = run(site, PYTHON, "-c", SERVER, "thread", options=("--yes", "--loopback"))
    proc.wait_event("published", 20, port=7001)
    assert [line for line in site.topo.host.ns.tcp_listeners() if ":7001 " in line
            and "127.0.0.1:7001" not in line] == []
    site.join()
    assert answer(site, "7001") == "thread\n"


def test_through_the_running_host(site):
    """A running `serve` publishes for it, beside its own services."""
    site.host.start_peer("tcp-server", 7000)
    site.start_host("7000")
    site.join()
    proc = run(site, PYTHON, "-c", SERVER, "thread")
    proc.wait_event("published", 20, port=7001)
    site.host_proc.wait_event("published", 5, port=7001)
    assert answer(site, "7001") == "thread\n"
    seen = site.host.run("discover").events
    mine = [e for e in seen if e["local"].endswith(":7001")]
    assert len(mine) == 1 and mine[0]["service"].startswith("python3"), seen
    assert [e["service"] for e in seen if e["local"].endswith(":7000")] == ["7000"], seen
    proc.terminate()
    site.host_proc.wait_event("withdrawn", 5, port=7001)
    refused = site.client.run("nc", "home", "7001", json=False)
    assert refused.status == 1 and "no service" in refused.stderr, refused.stderr


def published(proc):
    return [e for e in proc.events if e["event"] == "published"]


def test_published_again_when_serve_is_back(site):
    site.host.start_peer("tcp-server", 7000)
    site.start_host("7000")
    site.join()
    proc = run(site, PYTHON, "-c", SERVER, "thread")
    name = proc.wait_event("published", 20, port=7001)["service"]
    site.host_proc.terminate()
    proc.wait_line("nothing is published until it is back", 10, "err")
    site.start_host("7000")
    again = site.host_proc.wait_event("published", 10, port=7001)
    assert again["service"] == name, again
    wait_until(lambda: proc.poll_output() or len(published(proc)) == 2, 5, "run says so too")
    assert answer(site, "7001") == "thread\n"
    assert proc.stderr.count("nothing is published") == 1, proc.stderr


def test_published_again_when_its_own_host_died(site):
    """Killed; the kernel's memory killer does that. What is new meanwhile is published, too."""
    proc = run(site, PYTHON, "-c", SERVER, "thread")
    proc.wait_event("ready", 20)
    proc.wait_event("published", 20, port=7001)
    site.join()
    children = f"/proc/{proc.pid}/task/{proc.pid}/children"
    [host] = [int(pid) for pid in open(children, encoding="ascii").read().split()
              if "postern" in os.readlink(f"/proc/{pid}/exe")]
    os.kill(host, 9)
    proc.wait_line("nothing is published until it is back", 10, "err")
    wait_until(lambda: proc.poll_output() or len(published(proc)) == 2, 15, "it is published again")
    assert answer(site, "7001") == "thread\n"


def test_a_broker_that_does_not_answer_yet(site):
    """The program runs, and is published when the broker is there for the first time."""
    site.broker_proc.terminate()
    proc = run(site, PYTHON, "-c", SERVER, "thread")
    proc.wait_event("error", 20, what="nothing listens at the broker's address 192.0.2.10:443")
    wait_until(lambda: ":7001 " in " ".join(site.topo.host.ns.sockets("-ltn")), 5, "the program listens")
    site.start_broker()
    proc.wait_event("ready", 20)
    site.join()
    assert answer(site, "7001") == "thread\n"
    assert len([e for e in proc.events if e["event"] == "error"]) == 1, proc.stdout


def test_the_program_goes_on_without_its_supervisor(site):
    proc = run(site, PYTHON, "-c", SERVER, "thread")
    proc.wait_event("published", 20, port=7001)
    os.kill(proc.pid, 9)   # it alone, not its group
    wait_until(lambda: not proc.running, 5, "the supervisor is gone")
    done = site.programs.run(site.topo.host.ns, "direct", PYTHON, "-c",
                             "import socket\n"
                             "s=socket.create_connection(('127.0.0.1',7001),5)\n"
                             "print(s.makefile().read(), end='')")
    assert done.stdout == "thread\n", done.stdout + done.stderr


def test_for_some_only(site):
    """--for names devices: the others neither see the service nor get through."""
    site.host.start_peer("tcp-server", 7000)
    site.start_host("7000")
    site.join(None, None)
    other = site.other_client("other")
    done = other.run("join", "--name", "phone", site.invite())
    assert done.status == 0, done.stderr
    unknown = site.programs.run(site.topo.host.ns, "run", postern(), "run", "--yes",
                                "--for", "nobody", "--", "true", env=site.host.env)
    assert unknown.status == 1 and "no device and no account is called 'nobody'" in (
        unknown.stderr), unknown.stderr
    proc = run(site, PYTHON, "-c", SERVER, "thread", options=("--yes", "--for", "phone"))
    proc.wait_event("published", 20, port=7001)
    site.host_proc.wait_event("published", 5, port=7001)
    refused = site.client.run("nc", "home", "7001", json=False)
    assert refused.status == 1 and "may not use" in refused.stderr, refused.stderr
    proc = site.connect("7001", who=other)
    got = site.programs.run(site.topo.client.ns, "get", PYTHON, "-c",
                            "import socket\n"
                            f"s=socket.create_connection(('127.0.0.1',{proc.port}),5)\n"
                            "print(s.makefile().read(), end='')")
    assert got.stdout == "thread\n", got.stdout + got.stderr


def test_asks_for_name_and_for_whom(site, work):
    """On a terminal, while the program's call waits."""
    site.host.start_peer("tcp-server", 7000)
    site.start_host("7000")
    site.join()
    device = site.host.run("ls", "--devices").events[0]["name"]
    talk = ("import os, pty, sys, time\n"
            "pid, fd = pty.fork()\n"
            "if pid == 0:\n"
            "    os.execv(sys.argv[1], sys.argv[1:])\n"
            "says = ['shop', 'nobody', sys.argv[-1]]\n"
            "seen = b''\n"
            "while True:\n"
            "    try: part = os.read(fd, 4096)\n"
            "    except OSError: break\n"
            "    if not part: break\n"
            "    os.write(1, part); seen += part\n"
            "    if says and seen.rstrip().endswith(b']'):\n"
            "        seen = b''; os.write(fd, says.pop(0).encode() + b'\\n')\n")
    proc = site.programs.start(site.topo.host.ns, "talk", PYTHON, "-c", talk, postern(),
                               "run", "--ask", "--", PYTHON, "-c", SERVER, "thread",
                               device, env=site.host.env)
    found = site.host_proc.wait_event("published", 20, port=7001)
    assert found["service"] == "shop", found
    assert "For whom?" in proc.stdout and "is called 'nobody'" in proc.stdout
    assert answer(site, "shop") == "thread\n"


@pytest.mark.needs("nginx")
def test_nginx_unmodified(site, work):
    os.makedirs(f"{work}/ngx/logs", exist_ok=True)
    with open(f"{work}/ngx/index.html", "w", encoding="ascii") as f:
        f.write("nginx it is\n")
    conf = f"{work}/ngx/nginx.conf"
    with open(conf, "w", encoding="ascii") as f:
        f.write(f"worker_processes 2;\npid {work}/ngx/pid;\nerror_log {work}/ngx/logs/e;\n"
                "events {}\nhttp { access_log off; server { listen 8081; "
                f"listen [::]:8081; root {work}/ngx; }} }}\n")
    os.chmod(work, 0o755)
    proc = run(site, shutil.which("nginx"), "-c", conf, "-e", f"{work}/ngx/logs/e")
    proc.wait_event("published", 20, port=8081)
    site.join()
    done = page(site, "8081")
    assert done.stdout == "nginx it is\n", done.stdout + done.stderr
    assert proc.running   # nginx became a daemon; it is watched all the same
    subprocess.run(["kill", open(f"{work}/ngx/pid", encoding="ascii").read().strip()],
                   check=True)
    wait_until(lambda: not proc.running, 10, "run ends with the program's last process")


@pytest.mark.needs("setpriv")
def test_an_ordinary_user_gets_no_low_port(site):
    """Root's supervisor makes the calls; the program's own rights count."""
    proc = run(site, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", PYTHON,
               "-c", "import socket\ns=socket.socket()\ntry:\n s.bind(('',80))\n"
               "except PermissionError: print('denied')\n")
    assert proc.wait(20) == 0
    assert "denied" in proc.stderr, proc.stderr + proc.stdout


def test_discover_says_that_there_is_more(site):
    """600 listeners: what is not shown is counted, and can be published all the same."""
    many = site.programs.start(site.host.ns, "many", sys.executable, "-c", """
import socket, time
held = [socket.create_server(("127.0.0.1", 20000 + n)) for n in range(600)]
print("ready", flush=True)
time.sleep(600)""")
    many.wait_line("ready")
    done = site.host.run("discover", json=False, timeout=60)
    lines = done.stdout.splitlines()
    assert done.status == 0 and len(lines) < 600, len(lines)
    assert "more sockets listen than are shown" in done.stderr, done.stderr
    assert not any(":20599" in line for line in lines), lines[-3:]
    found = site.host.run("discover", "last=20599", json=False, timeout=60)
    assert "no 'postern serve' runs" in found.stderr, found.stderr   # it was found
    many.kill()


def test_discover_follows(site):
    """What begins to listen is told once, and with --ask asked about and published."""
    g = site
    g.start_host("nothing=9")
    g.host.start_peer("tcp-server", 7069)
    follow = g.host.start("discover", "--follow")
    follow.wait_event("listening", 20)
    server = g.host.start_peer("tcp-server", 7070)
    wait_until(lambda: follow.poll_output() or [e for e in follow.events if e["local"].endswith(":7070")], 20)
    ours, theirs = pty.openpty()
    asking = g.host.programs.start(g.host.ns, "discover", "setsid", "--ctty", "--wait", postern(), "discover",
                                   "--follow", "--ask", "--json", env=g.host.env, stdin=theirs)
    os.close(theirs)
    wait_until(lambda: asking.poll_output() or [e for e in asking.events if e["local"].endswith(":7070")], 20)
    g.host.start_peer("tcp-server", 7071)
    asked = b""
    while b"[n; y; name]" not in asked:
        asked += os.read(ours, 4096)
    assert b":7071. Publish it?" in asked, asked
    os.write(ours, b"later\n")
    asking.wait_event("reloaded", 20)
    assert {e["service"] for e in g.host.run("discover").events if e["local"].endswith(":7071")} == {"later"}
    server.terminate()
    told = len([e for e in follow.events if e["local"].endswith(":7070")])
    wait_until(lambda: not [e for e in g.host.run("discover").events if e["local"].endswith(":7070")], 20)
    g.host.start_peer("tcp-server", 7072)
    wait_until(lambda: follow.poll_output() or [e for e in follow.events if e["local"].endswith(":7072")], 20)
    g.host.start_peer("tcp-server", 7070)
    wait_until(lambda: follow.poll_output() or
               len([e for e in follow.events if e["local"].endswith(":7070")]) > told, 20, "it is told again")
    assert follow.terminate() == 0
    os.write(ours, b"\x03")
    assert asking.wait(10) == 0
    os.close(ours)
    says(g.host.run("discover", "--follow", "80", json=False), 2, "takes no ports")


def test_discover_publishes_what_is_chosen(site):
    site.start_host("9")   # nothing listens there
    site.host.start_peer("tcp-server", 7070)
    site.programs.start(site.topo.host.ns, "inner", PYTHON, "-m", "http.server", "7071",
                        "--bind", site.topo.host.site.lan_address(site.topo.host.last))
    wait_until(lambda: "7071" in " ".join(site.topo.host.ns.sockets("-ltn")),
               what="a server on one address")
    done = site.host.run("discover", "echo=7070", "inner=7071")
    assert done.status == 0, done.stderr
    seen = {e["local"].rsplit(":", 1)[1]: e for e in site.host.run("discover").events}
    assert seen["7070"]["service"] == "echo" and seen["7071"]["service"] == "inner", seen
    site.join()
    [listed] = site.client.run("ls").events
    assert listed["services"] == ["9", "echo", "inner"], listed
    assert "Directory listing" in page(site, "inner").stdout
    for bad, words in (("7072", "nothing listens on TCP port 7072"),
                       ("x=y", "is not a port"), ("7070", "published already, as echo")):
        done = site.host.run("discover", bad)
        assert done.status in (1, 2) and words in done.stderr, done.stderr
