"""The package's logger, and messages that are worth saying once."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

log = logging.getLogger("tarry")

INFO = logging.INFO

_said: set[str] = set()
_seen: set[str] = set()
_lock = threading.Lock()
_SAID_MAX = 1000


def warn_once(message: str, level: int = logging.WARNING) -> None:
    """Once in a process, whatever the number of requests."""
    with _lock:
        if message in _said:
            return
        if len(_said) >= _SAID_MAX:
            _said.clear()
        _said.add(message)
    log.log(level, "%s", message)


def seen_before(key: str) -> bool:
    """Whether this process has asked that before."""
    with _lock:
        if key in _seen:
            return True
        if len(_seen) >= _SAID_MAX:
            _seen.clear()
        _seen.add(key)
        return False


def forget() -> None:
    """For tests: what was said may be said again."""
    with _lock:
        _said.clear()
        _seen.clear()


def call_site() -> str:
    """file:line of the code that made the call: the first frame that is no installed library."""
    frame = sys._getframe(1)
    place = "?"
    while frame is not None:
        name = frame.f_code.co_filename
        if not _is_library(name) and not _is_ours(frame.f_globals.get("__name__", "")):
            return f"{name}:{frame.f_lineno}"
        place = f"{name}:{frame.f_lineno}"
        if frame.f_back is None:
            break
        frame = frame.f_back
    return place


def library_call(frame: Any) -> Any:
    """The frame of the library's function that the app has called on the way to `frame`: the same one for all tries that the library
    makes by itself. None if no code of an app is on the stack."""
    outermost = None
    while frame is not None:
        name = frame.f_code.co_filename
        if not _is_library(name) and not _is_ours(frame.f_globals.get("__name__", "")):
            return outermost
        outermost = frame
        frame = frame.f_back
    return None


def _is_library(name: str) -> bool:
    return "site-packages" in name or "dist-packages" in name or name.startswith(_STDLIB)


def _is_ours(module: str) -> bool:
    return module == "tarry" or module.startswith("tarry.")


_STDLIB = logging.__file__.rsplit("/", 2)[0] + "/"
