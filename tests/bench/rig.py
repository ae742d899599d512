"""The network that the benchmarks run in, drawn here, and the tunnels through it.

      host 198.51.100.2        client 203.0.113.2        broker 192.0.2.10
           |  cable (or wire)       |  cable (or wire)        |  cable
           +------------------ inet (router) -----------------+

Knows how to start Postern and each of its peers between host and client, and which
processes carry the bytes; knows nothing of what is measured. All addresses are public:
there is no NAT, so that every peer has the same way. Every machine's TCP uses CUBIC.
"""

import json
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
from lab import net, proc  # noqa: E402

net.PREFIX = "pbench-"
HOST_IP, CLIENT_IP, BROKER_IP = "198.51.100.2", "203.0.113.2", "192.0.2.10"
LOAD_PORT, SSH_PORT, TLS_PORT, WG_PORT, PROXY_PORT = 7000, 7022, 7443, 7820, 7080
PROXIED_TLS_PORT = 7444
ACROSS = "198.51.100.2"
_TICK = os.sysconf("SC_CLK_TCK")


def build_dir():
    root = os.path.dirname(os.path.dirname(HERE))
    return os.path.abspath(os.environ.get("POSTERN_BUILD", os.path.join(root, "build")))


def tool(name):
    return os.path.join(build_dir(), "tests", "bench", name)


def have(program):
    return shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def remove_stale():
    """Removes the namespaces of runs whose process is gone."""
    for line in net.run("ip", "netns", "list").splitlines():
        found = re.fullmatch(net.PREFIX + r"(\d+)-.*", line.split()[0])
        if found and not os.path.exists(f"/proc/{found.group(1)}"):
            net.remove_namespaces([line.split()[0]])


def cpu_seconds(pids):
    """User and system time of these processes and all below them, dead ones too."""
    parents, spent = {}, {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as f:
                fields = f.read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(name))
        spent[int(name)] = sum(int(t) for t in fields[11:15]) / _TICK
    total, left = 0.0, list(pids)
    while left:
        pid = left.pop()
        total += spent.get(pid, 0.0)
        left += parents.get(pid, [])
    return total


class Tunnel:
    """A way from the client to the load server: where to dial, and who carries it."""

    def __init__(self, name, ip, port, procs, middle=()):
        self.name, self.ip, self.port = name, ip, port
        self.procs, self.middle = list(procs), list(middle)

    def cpu(self):
        return cpu_seconds(p.pid for p in self.procs)

    def middle_cpu(self):
        return cpu_seconds(p.pid for p in self.middle)

    def close(self):
        for p in reversed(self.procs + self.middle):
            p.terminate()


class Rig:
    """Namespaces, the load server and whatever tunnels were asked for."""

    def __init__(self, work, wire_host=None, wire_client=None, env=None):
        os.makedirs(work, exist_ok=True)
        self.work, self.env = work, env or {}
        self.net = net.Net()
        self.programs = proc.Programs(os.path.join(work, "log"))
        self.broker_proc = self.host_proc = self.link = None
        self.wrapper = []  # before each `postern` that is started from now on
        try:
            self._build(wire_host, wire_client)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.programs.close()
        self.net.close()

    # ---------------------------------------------------------------- the network

    def _build(self, wire_host, wire_client):
        self.inet = self.net.namespace("inet")
        self.inet.forward()
        self.host = self._machine("host", f"{HOST_IP}/30", "198.51.100.1", wire_host)
        self.client = self._machine("client", f"{CLIENT_IP}/30", "203.0.113.1",
                                    wire_client)
        self.broker = self._machine("broker", f"{BROKER_IP}/24", "192.0.2.1", None)
        self.server = self.programs.start(self.host, "server", tool("load"), "server",
                                          "0.0.0.0", LOAD_PORT)
        self.server.wait_line("ready")

    def _machine(self, name, address, gateway, wire):
        ns = self.net.namespace(name)
        if wire is None:
            self.net.link(self.inet, name, ns, "eth0")
        else:
            program = os.path.join(build_dir(), "tests", "lab", "wire")
            argv = [program, "--a", self.inet.netns, name, "--b", ns.netns, "eth0"]
            self.programs.start(None, f"wire-{name}", *argv, *wire).wait_line("ready")
        self.inet.address(name, f"{gateway}/{address.split('/')[1]}")
        ns.address("eth0", address)
        ns.ip("route", "replace", "default", "via", gateway, "congctl", "cubic")
        ns.sysctl("net.ipv4.ip_local_port_range", "10000 65000")
        ns.sysctl("net.ipv4.tcp_tw_reuse", "1")
        return ns

    def load(self, verb, tunnel, *args, timeout=60):
        """Runs a load client through a tunnel; its line of JSON and the CPU it took."""
        server, carriers = cpu_seconds([self.server.pid]), tunnel.cpu()
        middle = tunnel.middle_cpu()
        done = self.programs.run(self.client, f"load-{verb}", tool("load"), verb,
                                 tunnel.ip, tunnel.port, *args, timeout=timeout)
        if done.status != 0:
            raise net.LabError(f"{tunnel.name}: load {verb}: {done.stderr.strip()}")
        result = json.loads(done.stdout)
        result["carrier_cpu_s"] = tunnel.cpu() - carriers
        result["middle_cpu_s"] = tunnel.middle_cpu() - middle
        result["app_cpu_s"] = (cpu_seconds([self.server.pid]) - server +
                               result["cpu_s"])
        return result

    # -------------------------------------------------------------------- Postern

    def _postern(self, ns, who, command, *args):
        env = {**self.env, "POSTERN_STATE": os.path.join(self.work, who)}
        program = os.path.join(build_dir(), "postern")
        return (ns, command, *self.wrapper, program, command, "--json", *args), env

    def start_postern(self, ns, who, command, *args):
        argv, env = self._postern(ns, who, command, *args)
        return self.programs.start(*argv, env=env)

    def run_postern(self, ns, who, command, *args, **more):
        argv, env = self._postern(ns, who, command, *args)
        return self.programs.run(*argv, env=env, **more)

    def deploy(self):
        """Broker and host run, and the client has joined."""
        self.broker_proc = self.start_postern(
            self.broker, "broker", "broker", "--listen", "0.0.0.0:443", "--public",
            BROKER_IP, "--open")
        self.link = self.broker_proc.wait_event("ready", 15)["link"]
        self.host_proc = self.start_postern(
            self.host, "host", "serve", "--broker", self.link, "--name", "home",
            f"load={LOAD_PORT}")
        self.host_proc.wait_event("ready", 20)
        made = self.run_postern(self.host, "host", "invite")
        link = next(e["link"] for e in made.events if "link" in e)
        joined = self.run_postern(self.client, "client", "join", link)
        if joined.status != 0:
            raise net.LabError(f"join: {joined.stderr}")

    def connect(self, kind, *more):
        """`postern connect`, with its path of that kind proven."""
        if self.broker_proc is None:
            self.deploy()
        paths = "relay" if kind == "relay" else f"relay,{kind}"
        p = self.start_postern(self.client, "client", "connect", "--paths", paths, *more,
                               "home:load", "127.0.0.1:0")
        port = int(p.wait_event("ready", 15)["local"].rsplit(":", 1)[1])
        p.wait_event("path", 20, kind=kind)
        middle = [self.broker_proc] if kind == "relay" else []
        name = {"relay": "postern relay", "udp-punch": "postern direct",
                "tcp-punch": "postern tcp-punch", "jit-listen": "postern direct, TCP"}[kind]
        return Tunnel(name, "127.0.0.1", port, [p, self.host_proc], middle)

    def postern_direct(self):
        return self.connect("udp-punch")

    def postern_tcp(self):
        """Direct over a TCP connection: jumbo packets on a stream path."""
        return self.connect("jit-listen")

    def postern_relay(self):
        return self.connect("relay")

    def punch(self):
        """tcp-punch between hosts that both have the helper: the arranged form."""
        return self.connect("tcp-punch")

    def punch_plain(self):
        """tcp-punch as an ordinary user's: the client's helper may do nothing."""
        self.wrapper = ["setpriv", "--bounding-set=-net_admin,-net_raw,-net_bind_service"]
        try:
            tunnel = self.connect("tcp-punch")
        finally:
            self.wrapper = []
        tunnel.name = "postern tcp-punch, ordinary"
        return tunnel

    # ------------------------------------------------------------------- the peers

    def plain(self):
        return Tunnel("plain TCP", HOST_IP, LOAD_PORT, [])

    def _file(self, name, text, mode=0o600):
        path = os.path.join(self.work, name)
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def _listening(self, ns, port):
        net.wait_until(lambda: ns.sockets("-lt", f"sport = :{port}"), 10,
                       f"port {port}")

    def ssh(self):
        key, host_key = (os.path.join(self.work, k) for k in ("user_key", "host_key"))
        for path in (key, host_key):
            net.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
        config = self._file("sshd_config", f"""
Port {SSH_PORT}
HostKey {host_key}
PidFile none
AuthorizedKeysFile {key}.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
""")
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        sshd = self.programs.start(self.host, "sshd", have("sshd"), "-D", "-e", "-f",
                                   config)
        self._listening(self.host, SSH_PORT)
        port = 7122
        ssh = self.programs.start(
            self.client, "ssh", "ssh", "-F", "none", "-N", "-i", key, "-p", SSH_PORT,
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-c", "aes128-gcm@openssh.com", "-L",
            f"127.0.0.1:{port}:127.0.0.1:{LOAD_PORT}", f"root@{HOST_IP}")
        self._listening(self.client, port)
        return Tunnel("ssh -L", "127.0.0.1", port, [ssh, sshd])

    def _stunnel_pair(self, name, accept, dial, local):
        cert = os.path.join(self.work, "tls.pem")
        if not os.path.exists(cert):
            net.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                    "/CN=bench", "-keyout", cert, "-out", cert + ".crt")
            with open(cert + ".crt", encoding="ascii") as f, \
                    open(cert, "a", encoding="ascii") as out:
                out.write(f.read())
        common = ("foreground = yes\npid =\ndebug = 3\nsslVersion = TLSv1.3\n"
                  "ciphersuites = TLS_AES_128_GCM_SHA256\n"
                  "socket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n")
        server = self._file(f"{name}-server.conf", common + f"cert = {cert}\n[s]\n"
                            f"accept = {accept}\nconnect = 127.0.0.1:{LOAD_PORT}\n")
        client = self._file(f"{name}-client.conf", common + "client = yes\n[s]\n"
                            f"accept = 127.0.0.1:{local}\nconnect = {dial}\n")
        program = have("stunnel4") or have("stunnel")
        procs = [self.programs.start(self.host, name, program, server),
                 self.programs.start(self.client, name, program, client)]
        self._listening(self.host, accept.rsplit(":", 1)[1])
        self._listening(self.client, local)
        return procs

    def stunnel(self):
        procs = self._stunnel_pair("stunnel", f"0.0.0.0:{TLS_PORT}",
                                   f"{HOST_IP}:{TLS_PORT}", 7123)
        return Tunnel("stunnel", "127.0.0.1", 7123, procs)

    def stunnel_relayed(self):
        """stunnel with HAProxy on the broker's machine between: as long as a relay."""
        procs = self._stunnel_pair("stunnel-far", f"0.0.0.0:{PROXIED_TLS_PORT}",
                                   f"{BROKER_IP}:{PROXY_PORT}", 7124)
        proxy = self.haproxy(self.broker, PROXY_PORT, f"{HOST_IP}:{PROXIED_TLS_PORT}")
        return Tunnel("stunnel via HAProxy", "127.0.0.1", 7124, procs, [proxy])

    def haproxy(self, ns, port, target):
        config = self._file(f"haproxy-{port}.cfg", f"""
global
    maxconn 4096
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    option splice-auto
listen l
    bind 0.0.0.0:{port}
    server s {target}
""")
        p = self.programs.start(ns, "haproxy", have("haproxy"), "-db", "-f", config)
        self._listening(ns, port)
        return p

    def nginx(self, ns, port, target):
        modules = "/usr/lib/nginx/modules/ngx_stream_module.so"
        load = f"load_module {modules};" if os.path.exists(modules) else ""
        config = self._file("nginx.conf", f"""
{load}
daemon off;
user root;
pid {self.work}/nginx.pid;
error_log stderr crit;
worker_processes 2;
events {{ worker_connections 1024; }}
stream {{ server {{ listen {port}; proxy_pass {target}; proxy_buffer_size 64k; proxy_half_close on; }} }}
""")
        p = self.programs.start(ns, "nginx", have("nginx"), "-e", "stderr", "-c", config)
        self._listening(ns, port)
        return p

    def proxied(self, name, start):
        """A plain proxy on the broker's machine, for the relay's CPU time."""
        port = {"haproxy": PROXY_PORT + 1, "nginx": PROXY_PORT + 2}[name]
        p = start(self.broker, port, f"{HOST_IP}:{LOAD_PORT}")
        return Tunnel(name, BROKER_IP, port, [], [p])

    def wireguard(self):
        keys = {}
        for name in ("host", "client"):
            private = net.run("wg", "genkey").strip()
            keys[name] = private, net.run("wg", "pubkey", stdin=private + "\n").strip()
        procs = []
        for name, ns, last, peer, far in (
                ("host", self.host, 1, "client", CLIENT_IP),
                ("client", self.client, 2, "host", HOST_IP)):
            dev = f"pb{os.getpid() % 100000}{name[0]}"
            p = self.programs.start(ns, f"wg-{name}", "wireguard-go", "-f", dev)
            procs.append(p)
            net.wait_until(lambda d=dev: os.path.exists(f"/run/wireguard/{d}.sock"), 10,
                           "wireguard-go")
            config = self._file(f"wg-{name}.conf", f"""
[Interface]
PrivateKey = {keys[name][0]}
ListenPort = {WG_PORT}
[Peer]
PublicKey = {keys[peer][1]}
AllowedIPs = 10.99.0.0/24
Endpoint = {far}:{WG_PORT}
""")
            ns.run("wg", "setconf", dev, config)
            ns.ip("link", "set", "dev", dev, "mtu", 1420)
            ns.address(dev, f"10.99.0.{last}/24")
            ns.ip("route", "change", "10.99.0.0/24", "dev", dev, "congctl", "cubic")
        return Tunnel("wireguard-go", "10.99.0.1", LOAD_PORT, procs)


def missing(name):
    """Why that peer cannot run here, or None."""
    needs = {"ssh": ("ssh", "sshd"), "stunnel": ("stunnel4",),
             "stunnel_relayed": ("stunnel4", "haproxy"),
             "wireguard": ("wireguard-go", "wg"), "haproxy": ("haproxy",),
             "nginx": ("nginx",), "punch_plain": ("setpriv",)}
    gone = [p for p in needs.get(name, ()) if not have(p)]
    return f"{', '.join(gone)} not installed" if gone else None


def kernel():
    return subprocess.run(["uname", "-r"], capture_output=True, text=True,
                          check=True).stdout.split("-")[0].strip()
