"""docs/OPERATING.md: its boxes, typed in order, with sessions that stand meanwhile."""

import os
import shutil

import pytest

from .actors import HOST
from .readme import Person, Typist, blocks
from .test_faults import progress, start_flow, whole

pytestmark = pytest.mark.postern

BOXES = {b.heading: b for b in blocks("docs/OPERATING.md")}


class Operator:
    def __init__(self, g, work):
        self.state = f"{work}/var-lib/postern-broker"
        os.makedirs(os.path.dirname(self.state))
        self.person = Person(g.programs, g.topo.broker, work, "at-broker", home=work)
        self.typist = Typist({"broker": self.person})

    def does(self, heading):
        """Each command of that box; the broker's link, where one was started."""
        done = []
        for command in BOXES[heading].commands:
            command = command.replace("/var/lib/postern-broker", self.state)
            command = command.replace("broker-backup.tar", os.path.dirname(self.state) + "/broker-backup.tar")
            if " drain " in command:   # it ends by itself
                done.append(self.person.run(command))
                assert done[-1].status == 0, done[-1].stderr
            else:
                done.append(self.typist.command("broker", command))
        return done

    @property
    def broker(self):
        return self.typist.stays[-1]


@pytest.mark.needs("curl", "tar")
def test_what_an_operator_does(gate, work):
    assert set(BOXES) == {"Start, and figures", "Backup", "Restore", "Upgrade, and back"}
    g = gate(host="masq", client="masq")
    op = Operator(g, work)
    ready, metrics = op.does("Start, and figures")[1:]
    assert ready.stdout == "ok\n" and "postern_broker_connections" in metrics.stdout
    g.link = op.typist.links["broker"]
    g.host.start_peer("tcp-server", 7000)
    g.start_host("7000")
    g.join()
    g.proc = g.connect("7000")
    flow = start_flow(g)
    op.does("Backup")
    # a disk is lost
    op.broker.terminate()
    shutil.rmtree(op.state)
    op.does("Restore")
    assert op.typist.links["broker"] == g.link
    assert g.client.run("ping", HOST, "--count", "1").status == 0
    # the next version
    old = op.broker
    op.typist.stays.remove(old)
    op.does("Upgrade, and back")
    assert op.typist.links["broker"] == g.link
    assert g.client.run("ping", HOST, "--count", "1").status == 0
    g.join(g.other_client("later"))
    progress(flow)
    whole(flow)
    assert old.wait(60) == 0, old.stderr
