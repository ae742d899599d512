"""How old datagrams of UDP services are that come after a while without a line."""

import re
import threading
import time

import pytest

from .actors import wait_direct
from .test_fresh import cut

pytestmark = pytest.mark.postern
CUT_S = 5
OLD_S = 2.6        # a second each way and what the paths take; it was 3.5 to 6.8 s one way
SENT, EACH_MS = 1100, 10


@pytest.mark.parametrize("kind, size", [("udp-punch", 1_452), ("udp-punch", 8_000),
                                        ("relay", 1_200), ("relay", 1_452),
                                        ("tcp-punch", 1_452)])
def test_what_comes_after_a_cut_is_young(gate, kind, size):
    """Sent all the time, at a machine whose line is dead for five seconds, and echoed."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("udp-server", 7001)
    g.up_and_joined("echo=udp:7001")
    proc = g.connect("echo", None, "--paths", ",".join({kind, "relay"}))
    assert g.client.peer("udp-ping", "127.0.0.1", proc.port, 20, 20, size).status == 0
    if kind != "relay":
        wait_direct(proc)
    line = threading.Thread(target=lambda: (time.sleep(2), cut(g, "b", CUT_S)))
    line.start()
    done = g.client.peer("udp-ping", "127.0.0.1", proc.port, SENT, EACH_MS, size)
    line.join()
    came, most = re.search(r"received (\d+) .* max (\S+)", done.stdout).groups()
    print("after a cut:", kind, size, done.stdout)
    assert float(most) < OLD_S * 1000, done.stdout
    assert int(came) > 350, done.stdout   # before the cut and after it


@pytest.mark.parametrize("kind", ["udp-punch", "relay", "tcp-punch"])
def test_any_size_comes_over(gate, kind):
    g = gate(host="masq", client="masq")
    g.host.start_peer("udp-server", 7001)
    g.up_and_joined("echo=udp:7001")
    proc = g.connect("echo", None, "--paths", ",".join({kind, "relay"}))
    for size in (64, 1_150, 1_200, 1_452, 1_500, 4_000, 9_000, 30_000, 60_000, 65_000):
        done = g.client.peer("udp-ping", "127.0.0.1", proc.port, 40, 10, size)
        assert done.stdout.startswith("sent 40 received 40 "), (size, done.stdout)
