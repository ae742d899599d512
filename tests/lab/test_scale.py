"""Many at once, in a form short enough for every run: hundreds of control channels, and
all of them back within seconds after a restart of the broker. The load tool stands in
tests/bench; where it is not built its test is skipped."""

import os

import pytest

from .actors import HOST
from .conftest import full
from .net import Net, patience
from .topology import build_dir

pytestmark = pytest.mark.postern
BENCH = os.path.join(build_dir(), "tests", "bench")
MANY = 10_000 if full() else 500


@pytest.mark.skipif(not os.access(f"{BENCH}/brokerload", os.X_OK),
                    reason=f"{BENCH}/brokerload is not built")
def test_channels_come_back_after_a_restart(programs, work):
    """The load tool starts a broker of its own, on loopback addresses of a namespace."""
    with Net() as net:
        done = programs.run(net.namespace("load"), "brokerload", f"{BENCH}/brokerload",
                            MANY, f"{BENCH}/brokerd", "-s", f"{work}/state", timeout=240)
    assert done.status == 0, done.stderr
    assert done.event("load")["failures"] == 0, done.stdout
    assert done.event("restart")["all_back_s"] < (60 if full() else 10 * patience()), done.stdout


@pytest.mark.skipif(not os.access(f"{BENCH}/brokerload", os.X_OK),
                    reason=f"{BENCH}/brokerload is not built")
def test_a_companys_hosts_come_back_behind_one_address(programs, work):
    """More than an address may hold without badges (1,024 a thread), and with theirs no slower."""
    count, took = 5000 if full() else 2500, {}
    with Net() as net:
        ns = net.namespace("load")
        for what, more in (("unbounded", ["-n"]), ("bounded", [])):
            done = programs.run(ns, "brokerload", f"{BENCH}/brokerload", "-h", count,
                                f"{BENCH}/brokerd", "-o", "-t", 2, "-s", f"{work}/{what}",
                                *more, timeout=240)
            assert done.status == 0, done.stderr
            took[what] = done.event("restart")["all_back_s"]
    print(took)
    assert took["bounded"] < 2 * took["unbounded"] + 4 * patience(), took


def test_many_streams_through_one_session(gate, programs):
    """Hundreds of connections at once, each with its own bytes."""
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.up_and_joined("7000")
    proc = g.connect("7000")
    code = ("import asyncio,hashlib,sys\n"
            f"sys.path.insert(0,{os.path.dirname(os.path.abspath(__file__))!r})\n"
            "from peers import digest\n"
            "async def one(i):\n"
            f" r,w=await asyncio.open_connection('127.0.0.1',{proc.port})\n"
            " n=20000+i; w.write(f'GET {n} {i}\\n'.encode())\n"
            " body=await r.read(-1); w.close()\n"
            " assert hashlib.sha256(body).hexdigest()==digest(i,n),i\n"
            "async def main():\n"
            " await asyncio.gather(*[one(i) for i in range(400)])\n"
            "asyncio.run(main()); print('all right')\n")
    done = programs.run(g.topo.client.ns, "many", "/usr/bin/python3", "-c", code,
                        timeout=60)
    assert done.stdout == "all right\n", done.stderr[-500:]


def test_twenty_clients_at_once(gate):
    g = gate(host="masq", client="masq")
    g.host.start_peer("tcp-server", 7000)
    g.start_broker()
    g.start_host("7000")
    link = g.invite("--uses", "20")
    clients = [g.other_client(f"c{i}") for i in range(20)]
    joins = [c.start("join", link) for c in clients]
    assert [p.wait(60) for p in joins] == [0] * 20
    procs = [c.start("connect", f"{HOST}:7000", "127.0.0.1:0") for c in clients]
    for c, p in zip(clients, procs):
        p.port = int(p.wait_event("ready", 30)["local"].rsplit(":", 1)[1])
    gets = [c.start_peer("get", "127.0.0.1", p.port, 1_000_000, i)
            for i, (c, p) in enumerate(zip(clients, procs))]
    assert [x.wait(60) for x in gets] == [0] * 20
