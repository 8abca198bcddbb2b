"""A thread that looks after the suspended runs while the main thread cannot.

It has them expire when no request comes, and it notices a request that waits for what a suspended run holds: a lock that was
taken by acquire(), in this process or in a file. All suspended runs are given up then, by a signal handler in the main thread, so that their
finally blocks let go of it; their replays run the views again."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any, Optional

from ..common import notices
from ..settings import settings

SIGNAL = signal.SIGRTMIN + 7 if hasattr(signal, "SIGRTMIN") else signal.SIGURG
TICK_MAX = 0.5
_LOOKS = 4
"""How often a wait is looked at before it is believed."""

_UNKNOWN = 5
"""How many times as long a wait must last where the system does not tell what it is for."""

# Numbers of futex, flock and fcntl: where a thread waits for a lock.
_LOCKING = {"x86_64": {202, 73, 72}, "aarch64": {98, 32, 25}}.get(os.uname().machine)
# Waits for another thread, which a suspended run has no part in.
_FOR_THREADS = frozenset(["wait", "wait_for", "join", "_wait_for_tstate_lock", "result"])

_installed = False
_thread: Optional[threading.Thread] = None
_wanted = threading.Event()
_stuck = 0.0
"""When the request began that was found waiting for a lock."""


def install(table: Any) -> bool:
    """Takes the signal, in the main thread; False where that cannot be, as in a subinterpreter. To call it again does no harm."""
    global _installed
    if not _installed:
        try:
            signal.signal(SIGNAL, lambda *_: _on_signal(table))
        except ValueError:
            return False
        _installed = True
    return True


def begin(table: Any) -> None:
    """Called with each suspension; starts the thread where there is none yet."""
    global _thread
    if _thread is None:
        main = (threading.get_ident(), threading.get_native_id())
        _thread = threading.Thread(target=_look, args=(table, *main), daemon=True, name="tarry-watch")
        _thread.start()
    _wanted.set()


def forget() -> None:
    """After a fork: the child has no such thread."""
    global _thread, _wanted
    _thread = None
    _wanted = threading.Event()


def _look(table: Any, main: int, native: int) -> None:
    global _stuck
    waits = _Waits(main, native)
    tick = threading.Event()
    while True:
        _wanted.wait()
        tick.wait(min(TICK_MAX, settings.rescue_seconds / _LOOKS) if settings.rescue_seconds else TICK_MAX)
        oldest = next(iter(list(table.runs.values())), None)
        if oldest is None:
            _wanted.clear()
            if table.runs:
                _wanted.set()
            continue
        busy_since = table.busy_since
        if waits.too_long(busy_since):
            _stuck = busy_since
            signal.pthread_kill(main, SIGNAL)
        elif time.monotonic() - oldest.since >= settings.suspend_seconds:
            signal.pthread_kill(main, SIGNAL)


class _Waits:
    """Whether the main thread has waited at one place for a lock, since when."""

    def __init__(self, main: int, native: int) -> None:
        self._main = main
        self._native = native
        self._place: Any = None
        self._since = 0.0
        self._looks = 0

    def too_long(self, busy_since: float) -> bool:
        place = self._where() if busy_since and settings.rescue_seconds else None
        if place is not None:
            place = (busy_since, *place)
        if place is None or place != self._place:
            self._place, self._since, self._looks = place, time.monotonic(), 1
            return False
        self._looks += 1
        seconds = settings.rescue_seconds * (1 if place[-1] else _UNKNOWN)
        return self._looks >= _LOOKS and time.monotonic() - self._since >= seconds

    def _where(self) -> Optional[tuple[Any, ...]]:
        frame = sys._current_frames().get(self._main)
        if frame is None or not _is_for_lock(frame):
            return None
        try:
            with open(f"/proc/self/task/{self._native}/syscall", encoding="ascii") as file:
                words = file.read().split()
        except OSError:
            return (id(frame), frame.f_lasti, "")
        if _LOCKING is None:
            return (id(frame), frame.f_lasti, "")
        if len(words) < 2 or not words[0].isdigit() or int(words[0]) not in _LOCKING:
            return None
        return (id(frame), frame.f_lasti, f"{words[0]} {words[1]}")


def _is_for_lock(frame: Any) -> bool:
    """Not for another thread, as Condition.wait() does; Semaphore.acquire() waits by it, too."""
    name = frame.f_code.co_name
    if name not in _FOR_THREADS or not frame.f_code.co_filename.endswith("threading.py"):
        return True
    return frame.f_back is not None and frame.f_back.f_code.co_name == "acquire"


def _on_signal(table: Any) -> None:
    if not table.busy_since:
        table.expire()
    elif table.runs and _stuck == table.busy_since:
        rescue(table)
    else:
        table.overdue = True


def rescue(table: Any) -> None:
    notices.log.warning(
        "a request waits for a lock, and one of %d suspended runs may hold it: they are given up, and their views run again."
        " A lock must not be held across a call to a model",
        len(table.runs),
    )
    table.drop_all("a request waits for a lock")
