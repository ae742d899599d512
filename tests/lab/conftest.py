"""Fixtures of the lab: a log directory and a set of programs for each test, and the
report of what every program said when a test fails.

A missing program of Debian or a missing `postern` is a counted skip with its name.
"""

import os
import shutil

import pytest

from .actors import Gate
from .browser import Site
from .net import PREFIX, remove_stale
from .proc import Programs
from .topology import Topology, build_dir, have, wire_program

# The lab's files run in this order: quick ones first.
_ORDER = ["test_lab", "test_stun", "test_main", "test_trust", "test_badinput",
          "test_matrix", "test_programs", "test_faults", "test_scale"]

# What runs beside the others when POSTERN_LAB_PART asks for one part (1, 2 or 3): tests
# that wait more than they compute. The first part is what stands in none of these.
_PARTS = {
    "2": ("test_access", "test_agent", "test_gate", "test_instances", "test_knock",
          "test_mapped", "test_portal", "test_proxy", "test_run", "test_soak",
          "test_tls_only", "test_trust", "test_badinput", "test_vanish"),
    "3": ("test_away", "test_dark", "test_ends", "test_flood", "test_forgotten",
          "test_habits", "test_reborn", "test_replaced", "test_slow", "test_strangers",
          "test_trial", "test_twins", "test_waiting"),
}


def full():
    """True in the long form, which `make lab-full` runs."""
    return os.environ.get("POSTERN_LAB_FULL") == "1"


def scratch_dir():
    """Short, because unix sockets stand in it."""
    return f"/tmp/{PREFIX}{os.getpid()}"


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(*programs): skipped when one is missing")
    config.addinivalue_line("markers", "postern: runs the program itself")


def pytest_sessionstart(session):
    if os.geteuid() == 0:
        remove_stale()
        os.makedirs(scratch_dir(), mode=0o755, exist_ok=True)


def pytest_sessionfinish(session, exitstatus):
    if os.geteuid() != 0:
        return
    if exitstatus == 0 or not os.path.isdir(scratch_dir()):
        shutil.rmtree(scratch_dir(), ignore_errors=True)
    else:
        kept = os.path.join(build_dir(), "lab-logs")
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(scratch_dir(), kept, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("*.sock", "*.lock", "blob*"))
        shutil.rmtree(scratch_dir(), ignore_errors=True)
        print(f"\nlogs of the failed tests: {kept}")


def pytest_collection_modifyitems(config, items):
    def module(item):
        return item.module.__name__.split(".")[-1]

    def place(item):
        name = module(item)
        return _ORDER.index(name) if name in _ORDER else len(_ORDER)

    def part_of(name):
        return next((p for p, begins in _PARTS.items() if name.startswith(begins)), "1")
    items.sort(key=place)
    part = os.environ.get("POSTERN_LAB_PART")
    if part:
        others = [i for i in items if part_of(module(i)) != part]
        config.hook.pytest_deselected(items=others)
        items[:] = [i for i in items if i not in others]


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
