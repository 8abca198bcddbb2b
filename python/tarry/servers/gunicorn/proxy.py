"""The process tarry, a child of the arbiter: it starts when a worker serves, is watched, and started anew if it dies."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import shutil
import signal
import subprocess
import time
from typing import Any, Optional, Sequence

from .. import binary

FIRST_FD = 3
MAX_PAUSE = 10.0
# A start that lasted so long was a good one.
GOOD_START = 5.0
# How often the first start may fail before gunicorn gives up.
FIRST_FAILURES = 3
UNKNOWN = -1

# Blocked until Tarry listens to them, and unblocked by it: one that comes earlier would end it.
EARLY = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
NOT_FOR_TARRY = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
                 "GUNICORN_PID", "GUNICORN_FD", "TARRY_SECRET", "TARRY_SECRET_FILE")  # fmt: skip


class Proxy:
    """All of it belongs to the arbiter; a worker has a copy that it makes harmless with forget()."""

    def __init__(self) -> None:
        self.pid = 0  # the process that accepts; 0: none
        self.draining: set[int] = set()  # those before it, which finish what they have
        self.path = ""  # of the binary
        self.conf = ""
        self.folder = ""
        self._life = (-1, -1)  # the arbiter alone has the writing end: end of file says that it has died
        self._gate = (-1, -1)  # readable once a worker has been there: no client is accepted before
        self._started = 0.0
        self._good = False  # a start was good once
        self._failures = 0  # one after the other

    def prepare(self, path: str, folder: str, conf: str) -> None:
        self.path, self.folder, self.conf = path, folder, conf
        self._life, self._gate = os.pipe(), os.pipe()
        os.set_blocking(self._gate[1], False)

    def check(self) -> str:
        """What Tarry says against its conf; "": nothing. With SIGCHLD blocked: the handler of older gunicorns takes any child's
        status, and the check would look like a success."""
        old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        try:
            done = subprocess.run([self.path, "-t", "-c", self.conf], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                  errors="replace", env=environment())  # fmt: skip
        except OSError as error:
            return f"cannot run {self.path!r}: {error.strerror}"
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, old)
        if done.returncode == 0:
            return ""
        return done.stderr.strip() or f"{self.path!r} ended with status {done.returncode}"

    def start(self, listeners: Sequence[Any]) -> None:
        """Forks a child that becomes Tarry when a worker serves, after a pause if the one before died early."""
        pause = min(MAX_PAUSE, 0.1 * 2 ** (self._failures - 1)) if self._failures else 0.0
        fds = [listener.fileno() for listener in listeners]
        pid = os.fork()
        if pid:
            self.pid, self._started = pid, time.monotonic()
            return
        try:
            self._become(fds, pause)
        except BaseException as error:
            os.write(2, f"tarry: cannot start: {error!r}\n".encode())
        finally:
            os._exit(127)

    def _become(self, fds: list[int], pause: float) -> None:
        for signo in range(1, signal.NSIG):
            if signo not in (signal.SIGKILL, signal.SIGSTOP) and signal.getsignal(signo) not in (signal.SIG_DFL, None):
                signal.signal(signo, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGHUP, signal.SIGUSR1])
        os.setpgid(0, 0)  # Ctrl-C is for the arbiter, which tells Tarry
        os.close(self._life[1])
        self._wait(pause)
        signal.pthread_sigmask(signal.SIG_SETMASK, EARLY)
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, FIRST_FD + len(fds) + 1) for fd in [*fds, self._life[0]]]
        for i, fd in enumerate(moved):
            os.dup2(fd, FIRST_FD + i, inheritable=True)
        last = FIRST_FD + len(fds)
        os.closerange(last + 1, min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
        os.execve(self.path, ["tarry", "-c", self.conf, "-i", f"{FIRST_FD}-{last - 1}", "-l", str(last), "-r", self.folder],
                  environment())  # fmt: skip

    def _wait(self, pause: float) -> None:
        poll = select.poll()
        poll.register(self._life[0], 0)
        if pause and poll.poll(pause * 1000):
            self._bereaved()
        poll.register(self._gate[0], select.POLLIN)
        while self._gate[0] not in (ready := dict(poll.poll())):
            if self._life[0] in ready:
                self._bereaved()

    def _bereaved(self) -> None:
        """The arbiter has died before Tarry began."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os._exit(0)

    def replace(self, listeners: Sequence[Any]) -> None:
        """A new Tarry with the public sockets as they are now; the old one finishes what it has, with the same workers."""
        self.retire()
        self.start(listeners)

    def retire(self) -> None:
        if self.pid:
            old, self.pid = self.pid, 0
            self.draining.add(old)
            _kill(old, signal.SIGTERM)

    def signal(self, signo: int) -> None:
        """To the one that accepts."""
        if self.pid:
            _kill(self.pid, signo)

    def signal_all(self, signo: int) -> None:
        for pid in [*self.draining, self.pid]:
            if pid:
                _kill(pid, signo)

    def look(self) -> Optional[int]:
        """Takes the status of those that have ended. That of the one that accepts, UNKNOWN if gunicorn was faster; None: it runs."""
        for pid in [*self.draining]:
            if _ended(pid) is not None:
                self.draining.discard(pid)
        status = _ended(self.pid) if self.pid else None
        if status is None:
            return None
        self.pid = 0
        if time.monotonic() - self._started >= GOOD_START:
            self._good = True
            self._failures = 0
        self._failures += 1
        return status

    def gave_up(self) -> bool:
        """Whether it never came up: then no further start will help."""
        return not self._good and self._failures >= FIRST_FAILURES

    def end(self, patience: float) -> None:
        """Ends all of it, within some seconds more than `patience`."""
        if self.pid:
            self.draining.add(self.pid)
            self.pid = 0
        for signo, seconds in ((signal.SIGTERM, patience), (signal.SIGTERM, 1.0), (signal.SIGKILL, 5.0)):
            for pid in self.draining:
                _kill(pid, signo)
            deadline = time.monotonic() + seconds
            while self.draining and time.monotonic() < deadline:
                self.look()
                time.sleep(0.02)
        self.draining.clear()

    # --- in a worker ---

    def forget(self) -> None:
        """The arbiter's ends must be in no other process."""
        for fd in (*self._life, self._gate[0]):
            if fd >= 0:
                os.close(fd)
        self._life, self._gate = (-1, -1), (-1, self._gate[1])
        self.pid = 0
        self.draining.clear()

    def let_start(self) -> None:
        """A worker serves."""
        try:
            os.write(self._gate[1], b"r")
        except BlockingIOError:
            pass  # full: it has been open for long
        os.close(self._gate[1])
        self._gate = (-1, -1)


def environment() -> dict[str, str]:
    environ = binary.environment()
    for name in NOT_FOR_TARRY:
        environ.pop(name, None)
    return environ


def _kill(pid: int, signo: int) -> None:
    try:
        os.kill(pid, signo)
    except ProcessLookupError:
        pass


def _ended(pid: int) -> Optional[int]:
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return UNKNOWN
    return status if found else None


def text_address(name: Any) -> str:
    """A socket's address, as Tarry's conf writes it."""
    if isinstance(name, (str, bytes)):
        return "unix:" + os.path.realpath(os.fsdecode(name))
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
