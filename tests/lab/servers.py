"""The real programs that are reached through Postern: OpenSSH, nginx, dnsmasq.

Knows how each is configured for a lab machine with files in a test's directory; knows
nothing of Postern beyond being handed an environment for ssh's ProxyCommand.
"""

import os

from .net import run, wait_until
from .peers import data


def listening(ns, port, udp=False):
    return any(line.split()[3].endswith(f":{port}")
               for line in ns.sockets("-lun" if udp else "-ltn"))


def blob(path, n, seed):
    """A file of n bytes that peers.digest(seed, n) describes."""
    with open(path, "wb") as f:
        for block in data(seed, n):
            f.write(block)
    return path


class Sshd:
    """OpenSSH's server in a namespace, for root by key, and the ssh command for it."""

    def __init__(self, programs, ns, work, port=22, wrapper=()):
        """`wrapper`: a program and its options, to run sshd under."""
        self.dir = os.path.join(work, "ssh")
        os.makedirs(self.dir)
        for name in ("host_key", "id"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.path(name))
        os.rename(self.path("id.pub"), self.path("authorized"))
        os.makedirs("/run/sshd", exist_ok=True)
        with open(self.path("config"), "w", encoding="utf-8") as f:
            f.write(f"HostKey {self.path('host_key')}\n"
                    f"AuthorizedKeysFile {self.path('authorized')}\n"
                    f"PidFile {self.path('pid')}\nStrictModes no\nUsePAM no\n"
                    "SetEnv SHLVL=2\n"  # bash leaves root's own start-up files alone
                    "PermitRootLogin yes\nPasswordAuthentication no\n"
                    "MaxStartups 1000\nMaxSessions 1000\nPrintMotd no\nUseDNS no\n"
                    "Subsystem sftp internal-sftp\n")
        self.proc = programs.start(ns, "sshd", *wrapper, "/usr/sbin/sshd", "-D", "-e",
                                   "-p", port, "-f", self.path("config"))
        wait_until(lambda: listening(ns, port), what="sshd")

    def path(self, name):
        return os.path.join(self.dir, name)

    def options(self, proxy=None, port=None):
        """What ssh, scp and rsync -e need to log in without asking."""
        options = ["-F", "/dev/null", "-i", self.path("id"), "-o", "BatchMode=yes",
                   "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR",
                   "-o", f"UserKnownHostsFile={self.path('known')}",
                   "-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=12"]
        if proxy:
            options += ["-o", f"ProxyCommand={proxy} nc %h %p"]
        if port:
            options += ["-o", f"Port={port}"]
        return options


class Nginx:
    """nginx with a root directory; `files` maps a name to (bytes, seed)."""

    def __init__(self, programs, ns, work, files, port=80):
        top = os.path.join(work, "nginx")
        root = os.path.join(top, "root")
        os.makedirs(root)
        os.chmod(top, 0o755)
        for name, (n, seed) in files.items():
            blob(os.path.join(root, name), n, seed)
        conf = os.path.join(top, "conf")
        with open(conf, "w", encoding="utf-8") as f:
            f.write("daemon off;\nuser root;\nworker_processes 1;\n"
                    f"pid {top}/pid;\nerror_log {top}/error;\n"
                    "events { worker_connections 1024; }\n"
                    "http {\n  access_log off;\n  sendfile on;\n"
                    + "".join(f"  {k}_temp_path {top}/{k};\n" for k in (
                        "client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
                    + "  server {\n"
                    f"    listen {port} backlog=1024;\n    listen [::]:{port};\n"
                    f"    root {root};\n  }}\n}}\n")
        self.proc = programs.start(ns, "nginx", "nginx", "-p", top, "-c", conf)
        wait_until(lambda: listening(ns, port), what="nginx")


class Dns:
    """dnsmasq that answers NAME.lab with an address and TXT of its own."""

    ADDRESS = "192.0.2.77"

    def __init__(self, programs, ns, port=53, address=ADDRESS):
        self.proc = programs.start(
            ns, "dnsmasq", "dnsmasq", "-k", "-C", "/dev/null", "-R", "-h", "-p", port,
            "-u", "root", "-x", "", f"--address=/lab/{address}",
            "--txt-record=big.lab," + ",".join("x" * 200 for _ in range(4)),
            "--local=/lab/")
        wait_until(lambda: listening(ns, port, udp=True), what="dnsmasq")


class Tinyproxy:
    """An HTTP proxy that allows CONNECT to one port, with or without a password."""

    def __init__(self, programs, ns, work, port=3128, user=None, password=None):
        self.port = port
        config = os.path.join(work, "tinyproxy.conf")
        auth = f"BasicAuth {user} {password}\n" if user else ""
        with open(config, "w", encoding="utf-8") as f:
            f.write(f"Port {port}\nTimeout 600\nMaxClients 50\nConnectPort 443\n"
                    f"LogLevel Info\n{auth}")
        self.proc = programs.start(ns, "tinyproxy", "/usr/bin/tinyproxy", "-d", "-c",
                                   config)
        wait_until(lambda: listening(ns, port), what="tinyproxy")
