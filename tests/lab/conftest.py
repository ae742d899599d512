"""Fixtures of the lab: a log directory and a set of programs for each test, and the
report of what every program said when a test fails.

A missing program of Debian or a missing `postern` is a counted skip with its name.
"""

import os
import shutil
import signal

import pytest

from .actors import Actor, Gate
from .browser import Site
from .net import PREFIX, remove_stale, run_id
from .proc import Programs
from .topology import Topology, build_dir, have, wire_program

# Nothing here may touch this machine's /etc; who tests that has an /etc of its own.
os.environ["POSTERN_NAMES"] = "off"

# What runs first: the quick ones that everything else rests on; then the longest, which
# would keep one worker busy when the others are done.
_FIRST = ["test_lab", "test_stun", "test_soak", "test_strangers", "test_reasons",
          "test_vanish", "test_truth", "test_main"]

# What mostly waits, for clocks of the program or of a NAT: 2 to 6 % of a core each.
_WAITING = (
    "test_away.py", "test_dark.py", "test_faults.py", "test_halves.py", "test_helper_lost.py",
    "test_reasons.py", "test_truth.py", "test_waiting.py",
    "test_predict.py::test_a_nat_of_few_sessions", "test_predict.py::test_a_loop_of_commands",
)
_BUSY_WORKERS = 6   # two cores bear so many of the others side by side


def full():
    """True in the long form, which `make lab-full` runs."""
    return os.environ.get("POSTERN_LAB_FULL") == "1"


def scratch_dir():
    """Short, because unix sockets stand in it."""
    return f"/tmp/{PREFIX}{run_id()}"


def heed_signals():
    """What nohup(1) or a shell's `&` had ignored would be ignored by the programs too."""
    for number, action in ((signal.SIGHUP, signal.SIG_DFL),
                           (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, action)


def pytest_configure(config):
    heed_signals()
    config.addinivalue_line("markers", "needs(*programs): skipped when one is missing")
    config.addinivalue_line("markers", "postern: runs the program itself")


def kept_logs():
    return os.path.join(build_dir(), "lab-logs")


def pytest_sessionstart(session):
    if os.geteuid() != 0:
        return
    if not hasattr(session.config, "workerinput"):  # the one process, or who has workers
        remove_stale()
        shutil.rmtree(kept_logs(), ignore_errors=True)
    os.makedirs(scratch_dir(), mode=0o755, exist_ok=True)


def pytest_sessionfinish(session, exitstatus):
    if os.geteuid() != 0:
        return
    if exitstatus != 0 and os.listdir(scratch_dir()):
        shutil.copytree(scratch_dir(), kept_logs(), dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("*.sock", "*.lock", "blob*"))
        print(f"\nlogs of the failed tests: {kept_logs()}")
    shutil.rmtree(scratch_dir(), ignore_errors=True)


def pytest_collection_modifyitems(config, items):
    def place(item):
        name = item.module.__name__.split(".")[-1]
        return _FIRST.index(name) if name in _FIRST else len(_FIRST)
    items.sort(key=place)


def _waits(nodeid):
    return nodeid.split("/")[-1].startswith(_WAITING)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Workers are given their tests one by one: in large pieces, as is usual, one is left
    with many that wait long when the others are done. (One runs, the next is known.) Those
    above _BUSY_WORKERS have only what waits: so the machine is not idle while tests wait,
    and never has more to do than the others give it."""
    from xdist.scheduler import LoadScheduling

    class OneByOne(LoadScheduling):
        def _is_patient(self, node):
            few = len(self.collection) < 2 * self.numnodes    # all go at once
            return not few and int(node.gateway.id.removeprefix("gw")) >= _BUSY_WORKERS

        def _send_tests(self, node, num):
            num = max(min(num, 2 - len(self.node2pending[node])), 0)
            patient = self._is_patient(node)
            fit = [i for i in self.pending if _waits(self.collection[i]) == patient]
            chosen = (fit if patient else fit or self.pending)[:num]
            for i in chosen:
                self.pending.remove(i)
            if chosen:
                self.node2pending[node].extend(chosen)
                node.send_runtest_some(chosen)
            if patient and len(chosen) == len(fit):
                node.shutdown()    # it ends with these
    return OneByOne(config, log)


def pytest_runtest_setup(item):
    if os.geteuid() != 0:
        pytest.skip("the lab needs root for network namespaces")
    for mark in item.iter_markers("needs"):
        for program in mark.args:
            if not have(program):
                pytest.skip(f"{program} is not installed")
    if item.get_closest_marker("postern"):
        path = os.path.join(build_dir(), "postern")
        if not os.access(path, os.X_OK):
            pytest.skip(f"{path} is not built")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed and "programs" in item.funcargs:
        report.sections.append(("programs", item.funcargs["programs"].report()))


@pytest.fixture
def work(request):
    """The test's own directory, deleted when it passes."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:40]
    path = os.path.join(scratch_dir(), name)
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    yield path
    failed = getattr(request.node, "rep_failed", False)
    if not failed:
        shutil.rmtree(path, ignore_errors=True)


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    outcome = yield
    pyfuncitem.rep_failed = outcome.excinfo is not None


@pytest.fixture
def programs(work):
    p = Programs(os.path.join(work, "log"))
    yield p
    p.close()


@pytest.fixture
def lab(programs):
    """Builds topologies: `topo = lab(host="masq", client="sym")`."""
    made = []

    def build(**how):
        topo = Topology(programs, **how)
        made.append(topo)
        return topo
    yield build
    programs.close()
    for topo in made:
        topo.net.close()


@pytest.fixture
def wire():
    if not os.access(wire_program(), os.X_OK):
        pytest.skip(f"{wire_program()} is not built")
    return wire_program()


@pytest.fixture
def gate(lab, programs, work):
    """Builds a Gate: `g = gate(host="masq", client="sym")`, nothing started yet."""
    def build(**how):
        return Gate(programs, lab(**how), work)
    return build


@pytest.fixture
def here(programs, work):
    """A device on the machine itself, for what needs no network."""
    return Actor(programs, None, os.path.join(work, "here"))


@pytest.fixture
def portal(gate, work):
    """Builds a Site whose broker runs: `s = portal("--idle", "2s")`; it must end well."""
    made = []

    def build(*broker_args, start=True, host="masq", client="masq", **how):
        site = Site(gate(host=host, client=client, **how), work)
        made.append(site)
        if start:
            site.start_broker(*broker_args)
        return site
    yield build
    for site in made:
        proc = site.gate.broker_proc
        assert proc.running and proc.terminate() == 0, proc.stderr
