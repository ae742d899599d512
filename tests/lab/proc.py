"""Programs that run in the lab: start, watch, wait for, end.

Knows processes, their output and JSON events; knows nothing of networks or Postern.
All output goes to files in one directory a test, whose ends are shown when it fails.
"""

import ctypes
import json
import os
import select
import signal
import subprocess
import time

from .net import patience, wait_until

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def _die_with_parent():
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Ended(AssertionError):
    """The program ended while a test was still waiting for it to say something."""


class Proc:
    """One running program; stdout is kept as lines and, where they parse, events."""

    def __init__(self, name, argv, out_path, err_path, **popen):
        self.name = name
        self.argv = argv
        self.out_path = out_path
        self.err_path = err_path
        self._read = 0
        self._rest = b""
        self.lines = []
        self._events = []
        popen.setdefault("stdin", subprocess.DEVNULL)
        with open(out_path, "wb") as out, open(err_path, "wb") as err:
            self.popen = subprocess.Popen(
                argv, stdout=out, stderr=err, start_new_session=True,
                preexec_fn=_die_with_parent, **popen)

    @property
    def pid(self):
        return self.popen.pid

    @property
    def running(self):
        return self.popen.poll() is None

    @property
    def status(self):
        return self.popen.poll()

    def poll_output(self):
        """Takes in what was printed since the last call."""
        with open(self.out_path, "rb") as f:
            f.seek(self._read)
            data = f.read()
        self._read += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        for raw in whole:
            line = raw.decode("utf-8", "replace")
            self.lines.append(line)
            if line.startswith("{"):
                try:
                    self._events.append(json.loads(line))
                except ValueError:
                    pass

    @property
    def events(self):
        """All so far: a condition that looks at them sees what was printed meanwhile."""
        self.poll_output()
        return self._events

    @property
    def stdout(self):
        with open(self.out_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    @property
    def stderr(self):
        with open(self.err_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def find(self, event, since=0, **fields):
        """The first event of that name and those fields, from index `since` on."""
        for e in self.events[since:]:
            if e.get("event") == event and all(e.get(k) == v for k, v in fields.items()):
                return e
        return None

    def mark(self):
        """Where the events stand now; give it to wait_event as `since`."""
        return len(self.events)

    def wait_event(self, event, timeout=10.0, since=0, **fields):
        what = f"{self.name}: event {event} {fields or ''}"

        def check():
            ended = not self.running
            found = self.find(event, since, **fields)
            if not found and ended:
                raise Ended(f"{what}: program ended with {self.status}: "
                            f"{self.stderr.strip()[-400:]}")
            return found
        return wait_until(check, timeout, what)

    def wait_line(self, text, timeout=10.0, stream="out"):
        """Waits until a line with `text` stands in the output."""
        def check():
            ended = not self.running
            body = self.stdout if stream == "out" else self.stderr
            if text in body:
                return True
            if ended:
                raise Ended(f"{self.name}: ended with {self.status} before {text!r}: "
                            f"{self.stderr.strip()[-400:]}")
            return False
        return wait_until(check, timeout, f"{self.name}: {text!r}")

    def ends_within(self, seconds):
        """Popen.wait() with a limit looks for the end only every 50 ms."""
        if self.running:
            fd = os.pidfd_open(self.pid)
            end = select.poll()
            end.register(fd, select.POLLIN)
            end.poll(1000 * seconds)
            os.close(fd)
        return not self.running

    def wait(self, timeout=30.0):
        """Waits for the end and returns the exit status."""
        timeout *= patience()
        if not self.ends_within(timeout):
            raise AssertionError(f"{self.name}: still running after {timeout} s")
        self.poll_output()
        return self.status

    def signal(self, number):
        if not self.running:
            return
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def freeze(self):
        """Stops it where it holds no lock of a database: others would wait for that."""
        def stopped():
            self.signal(signal.SIGSTOP)
            with open("/proc/locks", encoding="ascii") as f:
                mine = [line for line in f if f" {self.pid} " in line]
            if not any("POSIX" in line and "WRITE" in line for line in mine):
                return True
            self.signal(signal.SIGCONT)
            return False
        wait_until(stopped, 10, f"{self.name}: a moment without a lock")

    def terminate(self, timeout=5.0):
        """Asks to end, then makes sure; returns the exit status."""
        if self.running:
            self.signal(signal.SIGTERM)
            if not self.ends_within(timeout):
                self.kill()
        return self.popen.poll()

    def kill(self):
        """Ends the whole group at once, also what it left behind."""
        self.signal(signal.SIGKILL)
        self.popen.wait()


class Result:
    """What a program that ran to its end has said."""

    def __init__(self, proc, seconds):
        self.argv = proc.argv
        self.status = proc.status
        self.stdout = proc.stdout
        self.stderr = proc.stderr
        self.events = proc.events
        self.seconds = seconds

    def event(self, name, **fields):
        for e in self.events:
            if e.get("event") == name and all(e.get(k) == v for k, v in fields.items()):
                return e
        return None


class Programs:
    """Starts programs in namespaces; close() ends them all, the newest first."""

    def __init__(self, log_dir):
        self.log_dir = log_dir
        self.started = []
        os.makedirs(log_dir, exist_ok=True)

    def start(self, ns, name, *argv, cwd=None, env=None, **popen):
        """`ns` is a net.Namespace, or None for the machine itself."""
        argv = [str(a) for a in argv]
        if ns is not None:
            argv = ns.command(*argv)
        if env is not None:
            env = {**os.environ, **env}
        stem = os.path.join(self.log_dir, f"{len(self.started):02d}-{name}")
        proc = Proc(name, argv, stem + ".out", stem + ".err", cwd=cwd, env=env, **popen)
        self.started.append(proc)
        return proc

    def run(self, ns, name, *argv, timeout=30.0, stdin=None, **more):
        """Runs to the end; a program that hangs fails the test."""
        begin = time.monotonic()
        if stdin is not None:
            path = os.path.join(self.log_dir, f"{len(self.started):02d}-{name}.in")
            with open(path, "wb") as f:
                f.write(stdin)
            with open(path, "rb") as f:
                proc = self.start(ns, name, *argv, stdin=f, **more)
        else:
            proc = self.start(ns, name, *argv, **more)
        try:
            proc.wait(timeout)
        finally:
            if proc.running:
                proc.kill()
        return Result(proc, time.monotonic() - begin)

    def close(self):
        for proc in reversed(self.started):
            proc.signal(signal.SIGTERM)
        for proc in reversed(self.started):
            proc.ends_within(2.0)
            proc.kill()

    def report(self, tail=25):
        """The ends of all output, for a failed test's report."""
        parts = []
        for proc in self.started:
            parts.append(f"$ {' '.join(proc.argv)}   -> {proc.status}")
            for mark, text in ((" ", proc.stdout), ("!", proc.stderr)):
                lines = text.splitlines()
                if len(lines) > tail:
                    parts.append(f"  {mark} ... {len(lines) - tail} lines before")
                parts += [f"  {mark} {line[:300]}" for line in lines[-tail:]]
        return "\n".join(parts)
