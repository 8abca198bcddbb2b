"""Other programs that tests run: real gunicorn and Granian, and the stand-in for the AI services."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading

import pytest

from .base import DEADLINE, eventually, free_port
from .tarry import REPO, SANITIZERS


VENV = REPO / "build/python-venv"


def current_python():
    """The Python that scripts/test has given current libraries from PyPI; without it the test is skipped."""
    if not (VENV / "complete").exists():
        pytest.skip(f"needs packages from PyPI in {VENV}: scripts/test makes it where PyPI can be reached")
    return str(VENV / "bin/python")


class Program:
    """A child process whose output is collected line by line and that stops by SIGTERM."""

    what = "program"

    def __init__(self, command, env=None, cwd=None, pass_fds=()):
        self.lines = []
        self._more = threading.Condition()
        self.process = subprocess.Popen([str(c) for c in command], env=dict(os.environ, **(env or {})), cwd=cwd,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=pass_fds)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    pid = property(lambda self: self.process.pid)
    output = property(lambda self: "\n".join(self.lines))

    def _read(self):
        for raw in self.process.stdout:
            with self._more:
                self.lines.append(raw.decode("utf-8", "replace").rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def wait_line(self, pattern, timeout=None):
        """Waits for a line that the regular expression finds; returns the match."""
        def found():
            return next((m for m in map(re.compile(pattern).search, self.lines) if m), None)
        with self._more:
            ended = lambda: not self._reader.is_alive()  # noqa: E731
            self._more.wait_for(lambda: found() or ended(), DEADLINE if timeout is None else timeout)
            if not found():
                raise AssertionError(f"{self.process.args[0]}: no line {pattern!r}:\n" + self.output[-4000:])
            return found()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(DEADLINE)
        self.process.stdout.close()

    def describe(self):
        return "\n".join(self.lines[-80:])


class Gunicorn(Program):
    """gunicorn with sync workers and the app MODULE:NAME found in `folder`. `bind`: unix:PATH, or None for a free TCP port.
    `python`: another one than that of the tests."""

    def __init__(self, app, folder, workers=1, bind=None, timeout=60, env=None, args=(), python=sys.executable):
        command = [python, "-m", "gunicorn", "--workers", workers, "--worker-class", "sync",
                   "--bind", bind or "127.0.0.1:0", "--timeout", timeout, "--graceful-timeout", 1,
                   "--log-level", "info", *args, app]
        super().__init__(command, dict({"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(folder)}, **(env or {})), cwd=str(folder))
        try:
            at = self.wait_line(r"Listening at: (?:http://|unix:)(\S+)")[1]
            for _ in range(workers):
                self.wait_line(r"Booting worker")
            self.address = f"unix:{at}" if bind else at
            eventually(lambda: len(self.worker_pids()) >= workers, "gunicorn's workers")
        except BaseException:
            self.stop()
            raise

    what = "gunicorn"

    def worker_pids(self):
        text = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(p) for p in text.split()]


class Granian(Program):
    """Granian's WSGI server with one worker and one thread in it."""

    what = "granian"

    def __init__(self, app, folder, python, env=None):
        self.address = f"127.0.0.1:{free_port()}"
        host, port = self.address.split(":")
        command = [python, "-m", "granian", "--interface", "wsgi", "--workers", 1, "--blocking-threads", 1, "--backlog", 2048,
                   "--host", host, "--port", port, app]
        super().__init__(command, dict({"PYTHONUNBUFFERED": "1"}, **(env or {})), cwd=str(folder))
        try:
            self.wait_line(r"Started worker-1\b")
            self.worker_pids()
        except BaseException:
            self.stop()
            raise

    def worker_pids(self):
        """The process that runs the app: the one below the command that has loaded it."""
        found = []
        for pid in pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            try:
                line = pathlib.Path(f"/proc/{pid}/cmdline").read_text()
            except OSError:
                continue  # it has just ended
            if "resource_tracker" not in line:
                found.append(int(pid))
        return found


class Provider(Program):
    """The stand-in for the AI services (tests/provider). `records` is what it saw."""

    what = "provider"

    def __init__(self, folder, http=True, https=True, args=(), name="provider"):
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir(exist_ok=True)
        self.record = self.folder / "record.jsonl"
        binary = os.environ.get("PROVIDER_BIN") or str(REPO / "build/tests/provider/provider")
        if not os.access(binary, os.X_OK):
            raise AssertionError(f"no provider stand-in at {binary}: build it or set PROVIDER_BIN")
        command = [binary, "--record", self.record, "--certs", self.folder / "certs"]
        command += ["--http", "127.0.0.1:0"] if http else []
        command += ["--https", "127.0.0.1:0"] if https else []
        super().__init__(command + list(args))
        try:
            line = self.wait_line(r"provider: ready(.*)")[1]
        except BaseException:
            self.stop()
            raise
        facts = dict(word.split("=", 1) for word in line.split())
        self.http, self.https, self.ca = facts.get("http"), facts.get("https"), facts.get("ca")

    @property
    def records(self):
        if not self.record.exists():
            return []
        text = self.record.read_text()
        return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]

    def wait_records(self, n, check=lambda r: True, timeout=None):
        def found():
            got = [r for r in self.records if check(r)]
            return got if len(got) >= n else None
        return eventually(found, f"{n} records of the provider", timeout)

    def stop(self):
        super().stop()
        assert not SANITIZERS.search(self.output), self.output[-4000:]
