"""Where only an HTTP proxy leads out: the broker and the relay."""

import os
import time

import pytest

from .servers import Tinyproxy
from .test_badinput import says
from .test_silence import Held
from .test_tcp_kinds import move_bytes
from .topology import BROKER, STRANGER

pytestmark = [pytest.mark.postern, pytest.mark.needs("tinyproxy")]


@pytest.fixture
def behind_proxy(gate, programs, work):
    """The client's network lets nothing through to the broker; a proxy outside may."""
    def make(url="http://{at}", **auth):
        g = gate(host="masq", client="masq+udp_blocked")
        os.makedirs(f"{work}/proxy")
        proxy = Tinyproxy(programs, g.topo.stranger, f"{work}/proxy", **auth)
        g.topo.client.site.box.ip("route", "add", "unreachable", BROKER)
        g.client.more_env = {"HTTPS_PROXY": url.format(at=f"{STRANGER}:{proxy.port}")}
        g.host.start_peer("tcp-server", 7000)
        g.start_broker()
        g.start_host("7000")
        return g
    return make


def test_without_the_proxy_nothing_goes(behind_proxy):
    g = behind_proxy()
    g.client.more_env = {}
    says(g.client.run("join", g.invite(), json=False, timeout=40), 1, BROKER)


def test_relay_through_a_proxy_with_a_password(behind_proxy):
    g = behind_proxy("http://lab:s%33cret@{at}", user="lab", password="s3cret")
    g.join()
    proc = g.connect("7000", None, "--paths", "relay")
    proc.wait_event("path", 15, kind="relay")
    move_bytes(g, proc, 5_000_000)


def test_wrong_password_is_told(behind_proxy):
    g = behind_proxy("http://lab:no@{at}", user="lab", password="s3cret")
    says(g.client.run("join", g.invite(), json=False, timeout=40), 1, "password")
    g.client.more_env = {"HTTPS_PROXY": "socks5://1.2.3.4"}
    says(g.client.run("join", g.invite(), json=False, timeout=40), 2, "HTTPS_PROXY")


def test_a_live_direct_path_outlives_the_hosts_proxy(gate, programs, work):
    """The host's connection to the broker ends in order, and it cannot come back at once: that
    it has ended is the broker's guess, which answers on a direct path refute."""
    g = gate(host="none", client="none")
    os.makedirs(f"{work}/proxy")
    proxy = Tinyproxy(programs, g.topo.stranger, f"{work}/proxy")
    g.host.more_env = {"HTTPS_PROXY": f"http://{STRANGER}:{proxy.port}"}
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    held = Held(g)
    spoken = 0

    def speaks(seconds):
        nonlocal spoken
        begin = time.monotonic()
        while time.monotonic() - begin < seconds:
            spoken += 1
            held.hears(f"word {spoken}.")
    speaks(3)  # every kind has been tried
    proxy.proc.kill()
    speaks(2)
    assert "has ended" not in held.proc.stderr, held.proc.stderr
