"""The kinds that end in a TCP connection, each alone, and what the wire shows of them."""

import re

import pytest

from .actors import HOST
from .net import wait_until

pytestmark = pytest.mark.postern


def start(gate, kinds, service="7000", **topology):
    """A client that may use these kinds and the relay, connected."""
    g = gate(**topology)
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined(service)
    proc = g.connect("7000", None, "--paths", f"{kinds},relay")
    return g, proc


def move_bytes(g, proc, count=300_000):
    got = g.client.peer("get", "127.0.0.1", proc.port, count, 5)
    assert got.status == 0, got.stdout + got.stderr


@pytest.mark.parametrize("host,client", [
    ("fw", "fw"), ("masq", "masq"), ("fw", "masq"), ("ar", "masq"), ("cgn", "masq"),
    ("masq", "cgn"), ("masq+invalid_drop", "masq+invalid_drop"),
    ("masq+reject", "masq+reject")])
def test_tcp_punch_goes_through(gate, host, client):
    g, proc = start(gate, "tcp-punch", host=host, client=client)
    proc.wait_event("path", 15, kind="tcp-punch")
    move_bytes(g, proc)
