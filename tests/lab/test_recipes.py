"""docs/RECIPES.md: what says "Typed by a test" is typed here, as it stands, against the real
program of its heading; what is not says so."""

import glob
import os
import re
import shutil

import pytest

from .net import run, wait_until
from .readme import Person, Typist, blocks
from .servers import Sshd, listening
from .test_names import House, ssh_home
from .topology import BROKER, root_dir

pytestmark = pytest.mark.postern

RECIPES = blocks("docs/RECIPES.md")
TYPED = {b.heading for b in RECIPES if b.machine}
STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"


def test_a_recipe_is_typed_or_says_what_it_is():
    with open(f"{root_dir()}/docs/RECIPES.md", encoding="utf-8") as f:
        parts = re.split(r"^## (.*)$", f.read(), flags=re.M)[1:]
    recipes = dict(zip(parts[::2], parts[1::2]))
    assert len(recipes) >= 10
    for name, text in recipes.items():
        assert ("*Typed by a test" in text) == (name in TYPED), name
        assert name in TYPED or "tested" in text, name
    assert TYPED == {"Git", "Backup to a NAS", "Postgres", "Beside nginx on 443"}


@pytest.fixture
def kitchen(gate, work):
    """Broker, host and client; what a recipe types, type_recipe types there."""
    g = gate(host="masq", client="masq")
    house = House(g, work)
    t = Typist({
        "broker": Person(g.programs, g.topo.broker, work, "at-broker"),
        "host": Person(g.programs, g.topo.host.ns, work, "at-host"),
        "client": Person(g.programs, g.topo.client.ns, work, "at-client", house.wrapper, "/root")})
    t.gate, t.house, t.work = g, house, work
    return t


def type_recipe(t, name, *stand_ins):
    if "broker" not in {b.machine for b in RECIPES if b.heading == name}:
        t.command("broker", "sudo postern broker --public meet.example.org")
    done = []
    for block in (b for b in RECIPES if b.heading == name and b.machine):
        for command in block.commands:
            for word, stand_in in stand_ins:
                command = command.replace(word, stand_in)
            done.append(t.command(block.machine, command))
    return done


@pytest.mark.needs("git", "ssh", "sshd")
def test_git(kitchen, work):
    t = kitchen
    ssh_home(t.house, Sshd(t.gate.programs, t.gate.topo.host.ns, work))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    run(*git, "init", "-q", f"{work}/made")
    run(*git, "-C", f"{work}/made", "commit", "-q", "--allow-empty", "-m", "first")
    run(*git, "clone", "-q", "--bare", f"{work}/made", f"{work}/project.git")
    type_recipe(t, "Git", ("/srv/git/project.git", f"{work}/project.git {work}/cloned"))
    assert "first" in run("git", "-C", f"{work}/cloned", "log", "--oneline")


@pytest.mark.needs("rsync", "ssh", "sshd")
def test_backup(kitchen, work):
    t = kitchen
    ssh_home(t.house, Sshd(t.gate.programs, t.gate.topo.host.ns, work))
    os.makedirs(f"{work}/pictures/2026")
    for n in range(20):
        with open(f"{work}/pictures/2026/{n}.jpg", "wb") as f:
            f.write(os.urandom(50_000))
    type_recipe(t, "Backup to a NAS", ("/home/me/pictures/", f"{work}/pictures/"),
                ("me@nas:pictures/", f"me@nas:{work}/copied/"))
    run("diff", "-r", f"{work}/pictures", f"{work}/copied")


@pytest.mark.needs("psql")
def test_postgres(kitchen, work):
    programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not programs:
        pytest.skip("postgres is not installed")
    t = kitchen
    nobody = 65534
    data = f"{work}/pg"
    os.makedirs(data, mode=0o700)
    os.chown(data, nobody, nobody)
    for folder in (work, os.path.dirname(work)):
        os.chmod(folder, 0o755)
    as_nobody = ["setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups", "env", f"HOME={data}"]
    run(*as_nobody, f"{programs[-1]}/initdb", "-D", f"{data}/db", "-U", "postgres", "-A", "trust")
    with open(f"{data}/db/pg_hba.conf", "a", encoding="ascii") as f:
        f.write("host all all 192.168.10.0/24 trust\n")
    beside = t.gate.topo.service.ns
    t.gate.programs.start(beside, "postgres", *as_nobody, f"{programs[-1]}/postgres", "-D", f"{data}/db", "-k", data,
                          "-h", "*", "-p", "5432")
    wait_until(lambda: listening(beside, 5432), 30, "postgres")
    assert "42" in type_recipe(t, "Postgres")[-1].stdout


@pytest.mark.needs("nginx", "curl", "openssl")
def test_beside_nginx(kitchen, work):
    if not os.path.exists(STREAM):
        pytest.skip("nginx's module for streams (libnginx-mod-stream) is not installed")
    t = kitchen
    top = f"{work}/nginx"
    os.makedirs(f"{top}/www")
    with open(f"{top}/www/index.html", "w", encoding="ascii") as f:
        f.write("the site\n")
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9",
        "-subj", "/CN=www.example.org", "-keyout", f"{top}/key.pem", "-out", f"{top}/cert.pem")
    stream = next(b for b in RECIPES if b.machine == "" and "stream {" in b.lines)
    with open(f"{top}/conf", "w", encoding="utf-8") as f:
        f.write(f"load_module {STREAM};\ndaemon off;\nuser root;\npid {top}/pid;\nerror_log {top}/error;\nevents {{ }}\n"
                + "\n".join(stream.lines)
                + "\nhttp {\n  access_log off;\n"
                + "".join(f"  {k}_temp_path {top}/{k};\n" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
                + f"  server {{ listen 127.0.0.1:8443 ssl; server_name www.example.org; root {top}/www;\n"
                f"    ssl_certificate {top}/cert.pem; ssl_certificate_key {top}/key.pem; }}\n}}\n")
    at = t.gate.topo.broker
    t.gate.programs.start(at, "nginx", shutil.which("nginx"), "-p", top, "-c", f"{top}/conf")
    wait_until(lambda: listening(at, 443), what="nginx")
    t.gate.host.start_peer("tcp-server", 7000)
    type_recipe(t, "Beside nginx on 443")
    t.command("host", "postern serve --broker LINK --name home 7000")
    t.command("host", "postern invite")
    t.command("client", "postern join LINK")
    assert "udp-punch" in t.command("client", "postern ping home").stdout
    site = t.people["client"].run("curl -sSfk -m 20 --resolve www.example.org:443:" + BROKER
                                  + " https://www.example.org/")
    assert site.stdout == "the site\n", site.stderr
    assert t.people["client"].run(f"curl -sSfk -m 20 https://{BROKER}/").status == 0, "the portal"
