"""The main job: a host behind a NAT publishes, a client behind another joins with one
link and uses it; the path goes from relay to direct; strangers find nothing."""

import hashlib
import re
import signal

import pytest

from .actors import HOST, PEER, postern, wait_direct, wait_relay
from .net import wait_until
from .peers import digest
from .servers import Nginx, Sshd
from .topology import STRANGER

pytestmark = pytest.mark.postern


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def test_one_link_then_every_byte_both_ways(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    proc = g.connect("peer")
    assert g.client.peer("get", "127.0.0.1", proc.port, 5_000_000, 1).status == 0
    path = wait_direct(proc)
    assert path["peer"] == HOST and path["elapsed_ms"] >= 0 and path["rtt_ms"] >= 0
    assert path["remote"] and path["local"]
    for verb in ("get", "put", "echo"):
        done = g.client.peer(verb, "127.0.0.1", proc.port, 20_000_000, 2)
        assert done.status == 0, (verb, done.stdout, done.stderr)


def test_path_goes_from_relay_to_direct(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000")
    flow = g.client.start_peer("flow", "127.0.0.1", proc.port, 10)
    wait_direct(proc)
    kinds = [e["kind"] for e in proc.events if e.get("event") == "path"]
    assert kinds[0] == "relay" and kinds[-1] == "udp-punch" and len(kinds) <= 3, kinds
    seen = len(flow.stdout.splitlines())
    wait_until(lambda: len(flow.stdout.splitlines()) > seen + 3, 10, "flow goes on")
    flow.popen.send_signal(signal.SIGTERM)
    assert flow.wait(20) == 0, flow.stdout


@pytest.mark.needs("curl", "nginx")
def test_curl_fetches_a_page(gate, programs, work):
    g = gate(host="masq", client="fw")
    Nginx(programs, g.topo.host.ns, work, {"page": (300_000, 9)}, port=8080)
    g.up_and_joined("web=8080")
    proc = g.connect("web")
    out = f"{work}/page"
    done = programs.run(g.topo.client.ns, "curl", "curl", "-sS", "-m", 20, "-o", out,
                        f"http://127.0.0.1:{proc.port}/page")
    assert done.status == 0, done.stderr
    assert sha256(out) == digest(9, 300_000)


@pytest.mark.needs("ssh", "sshd")
def test_ssh_logs_in_through_nc(gate, programs, work):
    g = gate(host="masq", client="masq")
    sshd = Sshd(programs, g.topo.host.ns, work)
    g.up_and_joined("22")
    done = programs.run(g.topo.client.ns, "ssh", "ssh", *sshd.options(postern()),
                        f"root@{HOST}", "echo in; cat; exit 7", stdin=b"words\n",
                        env=g.client.env)
    assert done.stdout == "in\nwords\n", done.stderr
    assert done.status == 7


def test_nc_carries_half_close_and_bytes(gate, programs):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    body = bytes(range(256)) * 2000
    done = programs.run(g.topo.client.ns, "nc", postern(), "nc", HOST, 7000,
                        stdin=b"SINK\n" + body, env=g.client.env)
    assert done.status == 0, done.stderr
    assert done.stdout == hashlib.sha256(body).hexdigest() + "\n"


def test_service_on_another_machine_of_the_lan(gate):
    g = gate(host="masq", client="masq")
    beside = g.topo.service
    g.programs.start(beside.ns, "beside", *PEER, "tcp-server", 7000).wait_line("ready")
    g.up_and_joined(f"cam={beside.address}:7000", "gone=127.0.0.1:9")
    proc = g.connect("cam")
    assert g.client.peer("echo", "127.0.0.1", proc.port, 3_000_000, 3).status == 0


def test_refused_port_is_refused_with_a_reason(gate):
    g = gate(host="masq", client="masq")
    g.up_and_joined("gone=127.0.0.1:9")
    done = g.client.run("nc", HOST, "gone", json=False, stdin=b"x")
    assert done.status == 1
    assert len(done.stderr.splitlines()) == 1 and "refused" in done.stderr, done.stderr
    done = g.client.run("nc", HOST, "gone", stdin=b"x")
    assert done.status == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert [e["event"] for e in done.events] == ["error"], done.stdout
    assert "refused" in done.events[0]["what"]
    proc = g.connect("gone")
    got = g.client.peer("get", "127.0.0.1", proc.port, 10, 1)
    assert got.status != 0
    assert "wrong length: 0" in got.stdout or "Connection" in got.stderr


def test_reset_arrives_as_reset(gate, programs):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000")
    code = ("import socket,sys\n"
            f"s=socket.create_connection(('127.0.0.1',{proc.port}),10)\n"
            "s.sendall(b'RESET\\n')\n"
            "try: print('end', s.recv(10))\n"
            "except ConnectionResetError: print('reset')\n")
    done = programs.run(g.topo.client.ns, "python", PEER[0], "-c", code)
    assert done.stdout == "reset\n", done.stdout + done.stderr


def test_host_listens_on_nothing(gate):
    g = gate(host="masq", client="masq")
    g.start_broker()
    g.start_host("7000")
    assert g.topo.host.ns.tcp_listeners() == []
    assert g.topo.host.ns.udp_sockets() == []
    g.host.start_peer("tcp-server", 7000)
    g.join()
    proc = g.connect("7000")
    assert g.client.peer("get", "127.0.0.1", proc.port, 1000, 1).status == 0
    wait_direct(proc)
    ours = [x for x in g.topo.host.ns.tcp_listeners() if not re.search(r":7000\s", x)]
    assert ours == []
    assert g.topo.host.ns.udp_sockets() != []
    proc.terminate()
    wait_until(lambda: g.topo.host.ns.udp_sockets() == [], 60,
               "host closes its UDP sockets when the session has ended")


@pytest.mark.needs("tcpdump")
def test_host_is_silent_to_strangers(gate, programs):
    """A host with a public address and no firewall: nothing answers, not even ICMP."""
    g = gate(host="none", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=127.0.0.1:7000")
    proc = g.connect("peer")
    assert g.client.peer("get", "127.0.0.1", proc.port, 1000, 1).status == 0
    wait_direct(proc)
    g.topo.host.ns.sysctl("net.ipv4.icmp_ratelimit", 0)
    g.topo.host.ns.sysctl("net.ipv4.icmp_msgs_burst", 10000)

    def open_ports():
        return {line.split()[3].rsplit(":", 1)[1]
                for line in g.topo.host.ns.sockets("-4", "-au")}
    # The join's session ends first: afterwards only this one's socket stands.
    wait_until(lambda: len(open_ports()) == 1, 30, "the join's socket is closed")
    ports = open_ports()
    dump = programs.start(g.topo.stranger, "tcpdump", "tcpdump", "-nl", "--immediate-mode",
                          "-i", "eth0", "dst", "host", STRANGER)
    dump.wait_line("listening on", stream="err")
    code = ("import socket,sys,os\n"
            "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
            f"for port in {sorted(map(int, ports))}:\n"
            " for n in (0, 1, 20, 48, 200, 1200, 1400):\n"
            "  for first in (0x00, 0x40, 0x80, 0xc0, 0xff):\n"
            "   body = (bytes([first]) + os.urandom(n))\n"
            f"   s.sendto(body, ('{g.topo.host.address}', port))\n"
            "   quic = bytes([0xc3,0,0,0,1,8]) + os.urandom(8) + b'\\0' + os.urandom(1200)\n"
            f"   s.sendto(quic, ('{g.topo.host.address}', port))\n"
            "   stun = bytes.fromhex('000100002112a442') + os.urandom(12)\n"
            f"   s.sendto(stun, ('{g.topo.host.address}', port))\n"
            # The witness: this one the lab itself answers, so the capture works.
            f"s.sendto(b'x', ('{g.topo.host.address}', 9))\n")
    assert programs.run(g.topo.stranger, "junk", PEER[0], "-c", code).status == 0
    dump.wait_line("udp port 9 unreachable", 10)
    assert open_ports() == ports
    lines = [x for x in dump.stdout.splitlines() if "> " + STRANGER in x]
    assert len(lines) == 1 and "udp port 9 unreachable" in lines[0], lines
    assert g.client.peer("get", "127.0.0.1", proc.port, 1000, 1).status == 0


def test_relay_serves_when_asked_for_alone(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, "--paths", "relay")
    for verb in ("get", "put", "echo"):
        assert g.client.peer(verb, "127.0.0.1", proc.port, 20_000_000, 2).status == 0
    wait_relay(proc)
    assert not proc.find("path", kind="udp-punch")


def test_status_ping_and_ls_tell_the_truth(gate):
    g = gate(host="sym+udp_blocked", client="sym")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("peer=7000")
    listed = g.client.run("ls")
    assert listed.status == 0 and HOST in listed.stdout and "peer" in listed.stdout
    ping = g.client.run("ping", HOST)
    assert ping.status == 0, ping.stderr
    assert ping.event("path", kind="relay"), ping.stdout
    reason = ping.event("rejected", kind="udp-punch")
    assert reason and reason["reason"], ping.stdout
    counted = g.client.run("ping", HOST, "--count", "2")
    assert [e["seq"] for e in counted.events if e["event"] == "pong"] == [1, 2]
    tried = g.client.run("ping", HOST, "--all", timeout=90)
    results = {e["kind"]: e["result"] for e in tried.events if e["event"] == "tried"}
    assert results["relay"] == "works" and results["udp-punch"] == "refused", results
    assert all(e.get("reason") for e in tried.events
               if e["event"] == "tried" and e["result"] == "refused"), tried.stdout
    plain = g.client.run("ls", json=False)
    assert plain.status == 0 and HOST in plain.stdout


def test_reload_publishes_without_dropping(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000")
    flow = g.client.start_peer("flow", "127.0.0.1", proc.port, 5)
    flow.wait_line("at ")
    done = g.host.run("serve", "--reload", "7000", "more=7000")
    assert done.status == 0, done.stderr
    assert done.events == [{"event": "reloaded", "services": 2, "published": ["7000", "more"]}]
    assert g.host_proc.wait_event("reloaded")["services"] == 2
    done = g.host.run("serve", "--reload", "more=banana:70000", json=False)
    assert done.status == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    second = g.connect("more")
    assert g.client.peer("get", "127.0.0.1", second.port, 1000, 1).status == 0
    flow.popen.send_signal(signal.SIGTERM)
    assert flow.wait(20) == 0, flow.stdout


def test_up_outlives_a_service_that_leaves_while_a_connection_to_it_waits(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000", "far=192.0.2.77:80")   # nobody is there: the answer takes long
    up = g.client.start("up")
    address, port = up.wait_event("service", 20, name="far")["local"].rsplit(":", 1)
    waits = [g.client.start_peer("get", address, port, 10, 1) for _ in range(12)]
    done = g.host.run("serve", "--reload", "7000")
    assert done.status == 0, done.stderr
    assert all(w.wait(40) != 0 for w in waits)
    assert up.running, up.stderr
    address, port = up.wait_event("service", 20, name="7000")["local"].rsplit(":", 1)
    assert g.client.peer("get", address, port, 1000, 1).status == 0


@pytest.mark.needs("curl", "nginx")
def test_socks_reaches_every_host_by_name(gate, programs, work):
    g = gate(host="masq", client="masq")
    Nginx(programs, g.topo.host.ns, work, {"page": (100_000, 9)})
    g.up_and_joined("80")
    proc = g.client.start("socks", "--listen", "127.0.0.1:1080")
    assert proc.wait_event("ready")["listen"] == "127.0.0.1:1080"
    for name in (HOST, f"{HOST}.postern"):
        out = f"{work}/page"
        done = programs.run(g.topo.client.ns, "curl", "curl", "-sS", "-m", 20, "-o", out,
                            "--proxy", "socks5h://127.0.0.1:1080", f"http://{name}/page")
        assert done.status == 0, done.stderr
        assert sha256(out) == digest(9, 100_000)
