"""`postern serve --config FILE` and `postern check FILE`."""

import os
import signal

import pytest

from .actors import HOST
from .net import wait_until
from .test_badinput import says

pytestmark = pytest.mark.postern
LINK = ("postern://192.0.2.10:443/b/aehg4sbdpksxxi3el5soahu6s2rtqkdr43glbgn3axdvt6wn54577pjg2jg77h4s2agvdes"
        "juxwxjjpbmkx3u")   # of a broker that nobody runs


def write(path, text, mode=0o600):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


@pytest.fixture
def here(here, work):
    here.file = os.path.join(work, "serve.conf")
    return here


@pytest.mark.parametrize("text, words", [
    ("nmae home\n", "line 1: there is no 'nmae'; did you mean 'name'?"),
    ("# all\n\nname home\nname there\n", "line 4: 'name' stands there twice"),
    ("service 22\n  service web=99999\n", "line 2: '99999' is not a port"),
    ("service web=8080\nservice web=80\n", "line 2: two services are called 'web'"),
    ("service 23\nname x\nservice 23\n", "line 3: two services are called '23'"),
    ("config x\n", "line 1: there is no 'config'; a line begins"),
    ("agent 99:99\n", "line 1: '99:99' is no address and port to listen on"),
    ("broker nothing\n", "line 1: "),
    ("absent\n", "line 1: 'absent' needs a value"),
    ("dial-out yes\n", "line 1: 'dial-out' takes no value"),
    ("jit-window 5\n", "line 1: '5' is not a number that --jit-window takes"),
    ("reload\n", "line 1: there is no 'reload'"),
    ("service\n", "line 1: '' is not a port"),
    ("absent 1w\n", "line 1: '1w' is not a time that --absent takes"),
    ("absent 1s\n", "line 1: '1s' is not a time that --absent takes"),
    ("agent\nvia 192.0.2.1\n", "--via contradicts"),
    ("name a\0b\n", "is no file of options"),
    ("name " + 73 * "a" + "\n", "line 1: the name is too long; use at most 63"),
    ("# ours\nbroker postern://no\n", "line 2: "),
], ids=range(19))
def test_what_is_wrong_has_its_line(here, text, words):
    write(here.file, text)
    says(here.run("check", here.file, json=False), 2, words)
    says(here.run("serve", "--config", here.file, json=False), 2, words)


@pytest.mark.parametrize("text, words", [
    ("tls web=/no/cert\n", "line 4: the certificate of web cannot be used: /no/cert"),
    ("tls other=/no/cert\n", "line 4: --tls: this host publishes no service 'other'"),
    ("tls web\n", "line 4: nothing says where the certificate comes from"),
    ("\ntls-command /no/such\n", "line 5: --tls-command is for no service"),
    ("state /proc/version\n", "line 4: the state directory /proc/version is not a directory"),
], ids=range(5))
def test_what_serve_would_refuse_has_its_line(here, text, words):
    """Told by `check` with its line, where it was good; `serve` refuses it as it starts. Neither makes state."""
    write(here.file, f"broker {LINK}\nservice 23\nservice web=8080\n{text}")
    says(here.run("check", here.file, json=False), 2, words)
    assert not os.path.exists(here.state)
    done = here.run("serve", "--config", here.file, json=False)
    assert done.status in (1, 2) and words.split(": ", 1)[1] in done.stderr, done.stderr


def test_a_link_elsewhere_is_read_too(here, work):
    """By both; a broker's link that is another's, too."""
    link = os.path.join(work, "link")
    for text, words in ((None, f"the link cannot be read from {link}: No such file"), ("", "there is no link in"),
                        ("postern://192.0.2.10:443/b/aa", "link")):
        if text is not None:
            write(link, text)
        write(here.file, f"service 22\nbroker @{link}\n")
        says(here.run("check", here.file, json=False), 2, f"line 2: {words}", "line 2: ")
        done = here.run("serve", "--config", here.file, json=False)
        assert done.status in (1, 2) and words in done.stderr, done.stderr
    write(link, LINK)
    assert here.run("check", here.file).status == 0


def test_json_and_verbose_in_a_file(here):
    write(here.file, f"json\nverbose\nbroker {LINK}\nservice nosuch=\n")
    done = here.run("serve", "--config", here.file, json=False)
    assert done.status == 2 and done.event("error")["what"].startswith(f"{here.file} line 4"), done.stdout


def test_a_good_one(here, work):
    write(here.file, f"# ours\n\tname  home\r\nbroker {LINK}\nservice 22\nservice web=8080  Holiday pictures\nservice 9000-9001\n"
                     "absent 10m\nagent\ntls web\ntls 9000\ntls-command true\npaths relay,udp-punch\ndial-out\n")
    done = here.run("check", here.file)
    assert done.status == 0 and done.event("checked") == {"event": "checked", "file": here.file, "services": 4}
    assert here.run("check", here.file, json=False).stdout == f"{here.file}: good, 4 service(s)\n"
    says(here.run("check", os.path.join(work, "none"), json=False), 1, "cannot be read: No such file")
    says(here.run("serve", "--reload", "--config", here.file, json=False), 2, "send SIGHUP to")
    says(here.run("check", work, json=False), 1, "cannot be read: Is a directory")


def test_a_host_by_a_file(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    path = os.path.join(g.work, "serve.conf")
    link = write(os.path.join(g.work, "link"), g.link + "\n")
    write(path, f"broker @{link}\nname {HOST}\nservice peer=7000 The peer\nservice 22\n")
    g.host_proc = g.host.start("serve", "--config", path)
    assert g.host_proc.wait_event("ready", 20)["services"] == 2
    g.join()
    assert g.client.run("ls").event("host")["titles"] == ["peer: The peer"]
    assert g.client.run("nc", HOST, "peer", json=False, stdin=b"").status == 0
    write(path, f"broker @{link}\nname {HOST}\nservice other=7000\n")
    g.host_proc.signal(signal.SIGHUP)
    assert g.host_proc.wait_event("reloaded", 20)["services"] == 1
    wait_until(lambda: g.client.run("nc", HOST, "other", json=False, stdin=b"").status == 0, 20)
    write(path, "service other=7000\nservise 22\n")
    g.host_proc.signal(signal.SIGHUP)
    assert "line 2: there is no 'servise'" in g.host_proc.wait_event("error", 20)["what"]
    assert g.client.run("nc", HOST, "other", json=False, stdin=b"").status == 0
    assert g.host_proc.terminate() == 0
    g.host_proc = g.host.start("serve")   # what was remembered
    assert g.host_proc.wait_event("ready", 20)["services"] == 1
    assert g.host_proc.terminate() == 0
    write(path, f"broker {g.link}\nname {HOST}\nservice other=7000\n", 0o644)
    g.host_proc = g.host.start("serve", "--config", path, "22", "23", "24")   # the command line goes before it
    assert g.host_proc.wait_event("ready", 20)["services"] == 3
    assert "can be read by other users, and line 1 has a link" in g.host_proc.stderr


@pytest.mark.parametrize("text, words", [
    ("", "no broker is given and none was used here before; add a line 'broker LINK'"),
    ("service 22\n", "no broker is given"),
    (f"broker {LINK}\nname home\n", "no service is named and none was published here before; add a line for each"),
    ("broker @LINKFILE\nservice 22\nvia 192.0.2.1\n", "line 3: --via contradicts"),
    ("name = home\n", "line 1: '=' stands between 'name' and its value"),
    ("service : 22\n", "line 1: ':' stands between 'service' and its value"),
    ("name=home\n", "line 1: there is no 'name=home'; write the name, a blank and the value, as in 'name VALUE'"),
    ("broker: x\n", "line 1: there is no 'broker:'; write the name, a blank"),
    ("nmae=home\n", "line 1: there is no 'nmae=home'; did you mean 'name'?"),
    ("--name home\n", "line 1: there is no '--name'; write the name, a blank"),
    ("name \"home\"\n", "line 1: there are quotes around the value of 'name'"),
    (f"broker {LINK}\nservice 22\nstate /proc/nope/deep\n", "line 3: the state directory /proc/nope/deep cannot be used"),
    ("name x\nservice 22 8080\n", "line 2: more than one service stands there: '22 8080'"),
    ("service 22 web=80\n", "line 1: more than one service stands there"),
    ("service 22 # ssh\n", "line 1: a comment stands behind the value of 'service'"),
    ("service web=80 The page # for all\n", "line 1: a comment stands behind"),
    ("name home #mine\n", "line 1: a comment stands behind the value of 'name'"),
    (f"broker {LINK}\nservice 22\nagent 1.2.3.4.5:x\n", "write it as agent 192.168.1.2:4480"),
    ("wombat x\n", "line 1: there is no 'wombat'; a line begins with 'service', or with an option of 'postern serve --help'"),
], ids=range(19))
def test_what_would_not_serve_is_not_good(here, work, text, words):
    link = write(os.path.join(work, "link"), LINK)
    write(here.file, text.replace("LINKFILE", link))
    says(here.run("check", here.file, json=False), 2, words)
    assert not os.path.exists(here.state)
    done = here.run("serve", "--config", here.file, json=False)
    words = words.split(";")[0].removeprefix("line 3: ")
    assert done.status in (1, 2) and words in done.stderr, done.stderr
    if not text:
        assert f"{here.file}: no broker" in here.run("check", here.file, json=False).stderr
    write(here.file, "broker LINK\nservice 22\n")
    os.chmod(here.file, 0o644)
    assert "can be read" not in here.run("check", here.file, json=False).stderr, "that is no link"


def test_what_is_known_elsewhere_need_not_stand_in_it(here, work):
    """By the environment, which `serve` would read too, and by the file's own state directory; an agent needs no service."""
    write(here.file, "service 22\n")
    here.more_env = {"POSTERN_LINK": LINK}
    assert here.run("check", here.file).status == 0
    here.more_env = {}
    write(here.file, f"broker {LINK}\nagent\n")
    assert here.run("check", here.file).event("checked")["services"] == 0
    write(here.file, "\ufeffname home\nvia 192.0.2.1\nservice 22\n")   # with a byte order mark
    assert here.run("check", here.file).event("checked")["services"] == 1
    assert os.listdir(work) == ["serve.conf"] or not os.path.exists(here.state)


def test_a_pipe_is_read_and_waited_for_with_a_word(here, work):
    """What nobody writes into does not hang in silence, nor for ever."""
    pipe = os.path.join(work, "pipe")
    os.mkfifo(pipe)
    proc = here.programs.start(None, "check", here.program, "check", pipe, env=here.env)
    proc.wait_line(f"warning: waiting: nothing was written into the pipe {pipe} yet", 10, "err")
    write(pipe, f"broker {LINK}\nservice 22\n")
    assert proc.wait(10) == 0 and "good, 1 service(s)" in proc.stdout, proc.stderr
    write(here.file, f"broker @{pipe}\nservice 22\n")
    many = [here.programs.start(None, "mute", here.program, *argv, env=here.env) for argv in
            (("check", pipe), ("check", here.file), ("serve", "--config", pipe), ("join", f"@{pipe}"),
             ("access", "add", "x", "--services", "all", "--password-file", pipe))]
    for proc in many[:4]:
        proc.wait(40)
        assert f"{pipe} is a pipe, and nothing was written into it for 30 s" in proc.stderr, proc.stderr
    says(here.run("join", f"@{work}", json=False), 1, f"the link cannot be read from {work}: Is a directory")


def test_a_machine_that_is_not_known_has_its_line(here):
    """It may be known later, so that it is a warning."""
    write(here.file, f"broker {LINK}\nservice 22 Camera #1 and 2\nservice web:8080 The page\n")
    done = here.run("check", here.file, json=False)
    assert done.status == 0 and "good, 2 service(s)" in done.stdout, done.stderr
    assert f"{here.file} line 3: 'web:8080 The page' is port 8080 of a machine called 'web'" in done.stderr, done.stderr
    assert "did you mean web=8080?" in done.stderr, done.stderr
