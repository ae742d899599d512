"""Symmetric NATs: udp-punch predicts their ports."""

import pytest

from .actors import wait_direct
from .test_tcp_kinds import move_bytes, start

pytestmark = pytest.mark.postern


@pytest.mark.parametrize("host,client", [
    ("sym", "masq"), ("masq", "sym"), ("fw", "sym"), ("sym", "cgn"), ("sym", "sym"),
    ("sym+invalid_drop", "sym+reject")])
def test_symmetric_goes_direct(gate, host, client):
    g, proc = start(gate, "udp-punch", host=host, client=client)
    path = wait_direct(proc)
    assert path["elapsed_ms"] < 5000, path
    move_bytes(g, proc)
