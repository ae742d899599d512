"""The NAT before an idle host forgets its connection to the broker: only the host's own
next packet can mend that, and whoever asks for the host meanwhile is told so."""

import time

import pytest

from .actors import HOST
from .net import wait_until
from .topology import BROKER

pytestmark = pytest.mark.postern
STATED_S = 5        # how long whoever asks may wait (docs/METHODS.md)
MARGIN_S = 4        # of a busy machine
SAYS = "does not answer its broker"


def known(g):
    """What the host's NAT knows of the host's TCP connections to the broker."""
    box = g.topo.sites["a"].box
    return box.run("conntrack", "-L", "-p", "tcp", "-d", BROKER, check=False).strip()


def forget(g):
    """Until the host has had nothing to say for half a second."""
    since = time.monotonic()

    def forgotten():
        nonlocal since
        if known(g):
            g.topo.flush_conntrack("a")
            since = time.monotonic()
        return time.monotonic() - since > 0.5
    wait_until(forgotten, 10, "the NAT has forgotten the host")


def idle(g):
    """A host that has told its broker that it is there, and has nothing else to say."""
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("7000")
    g.join()
    g.host_proc.terminate()
    g.start_host("7000")


def ask(g):
    done = g.client.run("nc", HOST, "7000", json=False, timeout=40,
                        stdin=b"ECHO\nhere I am\n")
    assert done.status == 0 and done.stdout == "here I am\n", done.stderr
    assert done.seconds < STATED_S + MARGIN_S, done.seconds
    if done.seconds > 4:
        assert SAYS in done.stderr, done.stderr
    return done


# A strict NAT takes no packet in the middle of a connection: it is made anew.
@pytest.mark.parametrize("loose", [1, 0])
def test_an_idle_host_that_its_nat_forgot_is_found_in_the_stated_time(gate, loose):
    g = gate()
    g.topo.sites["a"].box.sysctl("net.netfilter.nf_conntrack_tcp_loose", loose)
    idle(g)
    forget(g)
    print(f"loose {loose}: answered after {ask(g).seconds:.2f} s")
