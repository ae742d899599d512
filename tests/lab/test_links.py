"""Links as people hand them on: copied, wrapped, quoted; and given where no other user
of the machine reads them: on standard input, in a file, in the environment."""

import os
import pty
import subprocess
import textwrap

import pytest

from .actors import HOST, postern
from .net import patience, wait_until
from .test_badinput import says

pytestmark = pytest.mark.postern


@pytest.fixture
def served(gate):
    g = gate(host="none", client="none")
    g.start_broker()
    g.start_host("22")
    return g


def joins(who, *args, **more):
    done = who.run("join", *args, **more)
    assert done.status == 0, (args, done.stderr)
    assert done.event("joined")["host"] == HOST


@pytest.fixture
def link(served):
    """One that may be used as often as a test likes."""
    return served.invite("--uses", "1000")


def test_a_link_is_taken_as_it_was_copied(served, link):
    wrapped = "\n".join("> " + line for line in textwrap.wrap(link, 40))
    for text in (f"“{link}”.", f"<{link}>,", f"**{link}**", f"Look: {link} . Anna", wrapped,
                 wrapped.replace("\n", "\r\n"), link.upper(), "P" + link[1:],
                 " ".join(link[i:i + 7] for i in range(0, len(link), 7)),
                 f'<a href="{link}">join</a>', link.replace("postern:", "https:"),
                 link.replace("postern:", "https:").replace(":443/", "/#"),
                 link.replace("/i/", "/i/\u200b")):
        joins(served.client, text)


def test_a_link_that_the_shell_took_apart(served, link):
    joins(served.client, link[:30], link[30:90], link[90:])
    says(served.client.run("join", link, "laptop", json=False), 2, "argument too many: 'laptop'")
    says(served.client.run("join", "-", "laptop", json=False, stdin=b""), 2, "argument too many")
    says(served.client.run("join", *["word"] * 2000, json=False), 2, "too long", "link")


def test_standard_input(served, link):
    joins(served.client, "-", stdin=f"{link}\n".encode())
    joins(served.client, "-", stdin=f"Hello,\r\n{link[:50]}\r\n{link[50:]}\r\nBye".encode())
    joins(served.client, "-", stdin=link.encode())
    new = served.other_client("new", ns=served.topo.host.ns)
    assert served.host_proc.terminate() == 0
    proc = new.programs.start(new.ns, "serve", "sh", "-c",
                              f"echo '{served.link}' | {postern()} serve --json --broker - 22",
                              env=new.env)
    proc.wait_event("ready", 15)
    with open(f"/proc/{proc.pid}/cmdline", "rb") as f:
        shown = f.read()
    assert b"serve" in shown


def test_no_other_user_sees_it(served, link):
    """What is read from elsewhere stands in no command line, nor in what it starts."""
    os.makedirs(served.client.state, mode=0o700, exist_ok=True)
    path = os.path.join(served.client.state, "link")
    with open(path, "w", encoding="ascii") as f:
        f.write(served.link + "\n")
    who = served.other_client("new")
    who.more_env = {"POSTERN_LINK": served.link}
    done = who.run("run", "--yes", "--", "sh", "-c", "echo got:$POSTERN_LINK:", json=False)
    assert done.status == 0, done.stderr
    assert "got::" in done.stdout
    who.more_env = {}
    proc = who.start("serve", "--broker", "@" + path, "--name", "other", "22")
    proc.wait_event("ready", 15)
    with open(f"/proc/{proc.pid}/cmdline", "rb") as f:
        assert b"postern://" not in f.read()


def shown(proc):
    with open(f"/proc/{proc.pid}/cmdline", "rb") as f:
        return f.read().decode().split("\0")


def test_who_was_given_it_in_the_command_line_hides_it(served, link):
    """A program that stays, or waits, shows its other words only."""
    served.host_proc.terminate()
    for form in (["--broker", served.link], [f"--broker={served.link}"]):
        proc = served.host.start("serve", *form, "--name", HOST, "22")
        proc.wait_event("ready", 15)
        words = shown(proc)
        assert "serve" in words and "22" in words and HOST in words, words
        assert any(set(w.removeprefix("--broker=")) == {"*"} for w in words if w), words
        assert not any("postern:" in w for w in words), words
        assert proc.terminate() == 0
    for given in ([link], [link[:30], link[30:90], link[90:]]):
        proc = served.client.start("join", *given)
        wait_until(lambda p=proc: not any(part in " ".join(shown(p)) for part in given), 10,
                   "the invite is hidden while the host is away")
        assert "join" in shown(proc)
        proc.kill()


def test_more_than_the_link_stays_unread(served, link):
    """`join -` in a script leaves the lines behind the link to who reads next."""
    c = served.client
    done = c.programs.run(c.ns, "sh", "sh", "-c", f"{postern()} join -; read x; echo \"left: $x\"",
                          env=c.env, stdin=f"{link}\nnext\n".encode())
    assert "left: next" in done.stdout, (done.stdout, done.stderr)


def test_a_file(served, link, work):
    path = os.path.join(work, "link")
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"\ufeffDear Anna,\n\n  {link}\n\nBye\n")
    joins(served.client, "@" + path)
    done = served.client.run("netcheck", "--broker", "@" + path, json=False)
    says(done, 2, "this link is an invite")
    with open(path, "w", encoding="utf-8") as f:
        f.write(served.link)
    assert served.client.run("netcheck", "--broker=@" + path, timeout=40).status == 0


def test_the_environment(served, link):
    c = served.client
    c.more_env = {"POSTERN_LINK": f" <{link}>\n"}
    joins(c)
    assert c.run("netcheck", timeout=40).status == 0, "an invite is for join"
    c.more_env = {"POSTERN_LINK": served.link}
    joins(c, link)
    says(c.run("join", json=False), 2, "a broker's link, not an invite")
    fresh = served.other_client("fresh", ns=served.topo.host.ns)
    fresh.more_env = c.more_env
    proc = fresh.start("serve", "--name", "fresh", "22")
    proc.wait_event("ready", 15)
    assert proc.terminate() == 0
    fresh.more_env = {}
    fresh.start("serve").wait_event("ready", 15)


def test_an_agents_link_from_elsewhere(served, work):
    served.host_proc.terminate()
    served.host_proc = served.host.start("serve", "--agent", "127.0.0.1:4480", "22")
    agent = served.host_proc.wait_event("agent", 15)["link"]
    other = served.other_client("nas", ns=served.topo.host.ns)
    other.more_env = {"POSTERN_LINK": agent}
    proc = other.start("serve", "--name", "nas", "80")
    assert proc.wait_event("ready", 15)["via"]
    assert proc.terminate() == 0
    other.more_env = {}
    path = os.path.join(work, "agent")
    with open(path, "w", encoding="ascii") as f:
        f.write("127.0.0.1:4480\n")
    other.start("serve", "--via", "@" + path).wait_event("ready", 15)


def test_on_a_terminal_it_is_asked_for(served, link):
    c = served.client
    ours, theirs = pty.openpty()
    proc = c.programs.start(c.ns, "join", postern(), "join", "--json", "-", env=c.env, stdin=theirs)
    os.close(theirs)
    wait_until(lambda: "Paste the link" in open(proc.err_path, encoding="utf-8").read(),
               patience() * 10, "it asks")
    os.write(ours, f"{link[:60]}\n{link[60:]}\n".encode())
    assert proc.wait(20) == 0
    os.close(ours)
    ours, theirs = pty.openpty()
    proc = c.programs.start(c.ns, "join", postern(), "join", "-", env=c.env, stdin=theirs)
    os.close(theirs)
    os.write(ours, b"what link?\n\n")
    assert proc.wait(20) == 2
    os.close(ours)


@pytest.mark.parametrize("what", [b"", b"\n \n", b"hello\n", b"\0", b"x" * 100000,
                                  b"postern://", b"\xff\xfe\n", b"https://example.org/\n"])
def test_what_is_no_link_there_either(here, work, what):
    path = os.path.join(work, "link")
    with open(path, "wb") as f:
        f.write(what)
    for args, more in ((["-"], {"stdin": what}), (["@" + path], {})):
        says(here.run("join", *args, json=False, **more), 2, "link")
        says(here.run("serve", "--broker", *args, "22", json=False, **more), 2, "link", "--broker")
        says(here.run("run", "--yes", "--broker", *args, "true", json=False, **more), 2, "link")
    if b"\0" not in what and len(what) < 10000:
        env = {**os.environ, **here.env, "POSTERN_LINK": what}
        done = subprocess.run([postern(), "join"], env=env, capture_output=True, timeout=20,
                              check=False)
        assert done.returncode == 2 and done.stderr.count(b"\n") == 1, done.stderr
        assert b"link" in done.stderr and b"; " in done.stderr, done.stderr


def test_files_that_cannot_be_read(here, work):
    for path in (os.path.join(work, "nosuch"), work, ""):
        says(here.run("join", "@" + path, json=False), (1, 2), "link")
        says(here.run("netcheck", "--broker", "@" + path, json=False), (1, 2), "link")
