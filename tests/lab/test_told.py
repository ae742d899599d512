"""Who waits, or has something wrong, is told so by the program itself: at later waits
too, in measure."""

import signal

import pytest

from .actors import HOST
from .test_badinput import says

pytestmark = pytest.mark.postern


@pytest.fixture
def stood(gate):
    g = gate(host="none", client="none")
    g.host.start_peer("tcp-server", 7000)
    return g.up_and_joined("peer=7000", "off=7999", "far=127.0.0.9:7998")


def test_serve_prints_who_was_refused(stood):
    """Each once or a few times, with its cause; and doctor finds the same before anybody calls."""
    g = stood
    for _ in range(9):
        assert g.client.run("nc", HOST, "off", json=False, stdin=b"").status == 1
    told = g.host_proc.wait_event("refused", 10)
    assert told["service"] == "off" and "refused" in told["reason"] and told["who"], told
    assert 5 <= len([e for e in g.host_proc.events if e["event"] == "refused"]) < 9
    found = {e["what"]: e["do"] for e in g.host.run("doctor").events if e["check"] in ("service", "services")}
    assert any("'off' does not answer at 127.0.0.1:7999" in what for what in found), found
    assert any("1 of 3 answer" in what for what in found), found


def test_a_later_wait_is_told_to_who_waits(stood):
    """connect and socks: their host stops when a session stood; a connection that is made then says why it waits."""
    g = stood
    connect = g.client.start("connect", f"{HOST}:peer", "127.0.0.1:7100")
    connect.wait_event("ready", 20)
    socks = g.client.start("socks", "--listen", "127.0.0.1:7101")
    socks.wait_event("ready", 20)
    assert g.client.peer("get", "127.0.0.1", 7100, 100, 1).status == 0
    g.host_proc.freeze()
    for port in (7100, 7101):
        g.client.programs.start(g.client.ns, f"call{port}", "bash", "-c",
                                "exec 3<>/dev/tcp/127.0.0.1/%d; printf '\\5\\1\\0\\5\\1\\0\\3\\4%s\\33\\130' >&3; "
                                "exec cat <&3" % (port, HOST))
    socks.wait_line(f"waiting: {HOST} has not answered yet", 20, "err")
    connect.wait_event("error", 30)
    connect.wait_line("waiting for 3", 60, "err")
    assert len(connect.stderr.splitlines()) <= 4, connect.stderr
    g.host_proc.signal(signal.SIGCONT)


def test_pings_only_host_needs_no_name(stood):
    assert stood.client.run("ping", "--count", "1").status == 0
    says(stood.host.run("ping", "--all", json=False), 2, "name the host")


def test_modes_are_named_where_they_are_the_matter(stood, work):
    g = stood
    says(g.client.run("ls", "--state", "~/x", json=False), 2, "the shell has left the ~")
