"""The kinds that ask the host's packet filter, and what strangers see of it."""

import re

import pytest

from .net import wait_until
from .test_tcp_kinds import move_bytes, start

pytestmark = [pytest.mark.postern, pytest.mark.needs("nft")]


@pytest.mark.parametrize("host,client", [
    ("none", "masq"), ("none", "sym"), ("none", "cgn"), ("none", "cgnsym"),
    ("none", "fw"), ("none", "masq+nosyn"), ("none", "none"), ("none", "masq+invalid_drop")])
def test_tcp_knock_goes_through(gate, host, client):
    g, proc = start(gate, "tcp-knock", host=host, client=client)
    proc.wait_event("path", 15, kind="tcp-knock")
    move_bytes(g, proc)


@pytest.mark.parametrize("host,client", [
    ("masq+nosyn", "masq+nosyn"), ("fw+nosyn", "masq+nosyn"), ("masq+nosyn", "cgn"),
    ("masq+nosyn+invalid_drop", "masq+nosyn+invalid_drop"),
    ("masq+nosyn+reject", "masq+nosyn+reject")])
def test_prearranged_punch_passes_what_swallows_syns(gate, host, client):
    g, proc = start(gate, "tcp-punch", host=host, client=client)
    proc.wait_event("path", 15, kind="tcp-punch")
    move_bytes(g, proc)
