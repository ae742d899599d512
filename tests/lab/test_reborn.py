"""A host that is killed and there again at once, and nobody saw it end: what its clients'
next connections find."""

import signal
import time

import pytest

from .actors import wait_direct, wait_relay
from .net import patience, wait_until

pytestmark = pytest.mark.postern
KINDS = {"relay": ["--paths", "relay"], "direct": ["--paths", "udp-punch,relay"]}


def begin(gate, way):
    g = gate()
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000", None, *KINDS[way])
    (wait_direct if way == "direct" else wait_relay)(proc)
    ask(g, proc)
    return g, proc


def ask(g, proc):
    """One connection, and how long it took."""
    start = time.monotonic()
    done = g.client.peer("echo", "127.0.0.1", proc.port, 2000, 1, timeout=60)
    assert done.status == 0, (time.monotonic() - start, done.stdout, done.stderr)
    return time.monotonic() - start


def power_lost(g):
    """What the kernel says for a killed program is lost on the way."""
    g.host.ns.nft("table inet mute {\n  chain out {\n"
                  "    type filter hook output priority 0;\n"
                  "    tcp flags & (fin | rst) != 0 drop\n  }\n}")
    g.host_proc.kill()
    g.host_proc.wait()
    g.host.ns.nft("delete table inet mute")


def killed(g):
    g.host_proc.kill()
    g.host_proc.wait()


@pytest.mark.parametrize("end", [killed, power_lost])
@pytest.mark.parametrize("way", list(KINDS))
def test_the_next_connection_after_a_restart_is_none_of_the_old_session(gate, way, end):
    g, proc = begin(gate, way)
    took = []
    for _ in range(5):
        mark = proc.mark()
        end(g)
        g.start_host("7000")
        took.append(ask(g, proc))
        (wait_direct if way == "direct" else wait_relay)(proc, since=mark)
    print(f"{way}, {end.__name__}:", *(f"{t:.2f}" for t in took))
    assert max(took) < 2 * patience(), took


@pytest.mark.parametrize("way", list(KINDS))
def test_a_host_that_is_stopped_killed_and_started_is_there_at_once(gate, way):
    """And a connection that was begun while it was silent gets to the new one."""
    g, proc = begin(gate, way)
    g.client.start_peer("flow", "127.0.0.1", proc.port, 10)
    g.host_proc.signal(signal.SIGSTOP)
    wait_until(lambda: "nothing comes from" in proc.stdout + proc.stderr, 20, "silence")
    early = g.client.start_peer("echo", "127.0.0.1", proc.port, 2000, 1)
    killed(g)
    g.start_host("7000")
    start = time.monotonic()
    took = ask(g, proc)
    assert early.wait(20) == 0, early.stdout
    print(f"{way}: {took:.2f} s, the earlier one {time.monotonic() - start:.2f}")
    assert time.monotonic() - start < 2 * patience(), took
