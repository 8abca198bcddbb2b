"""Finds what forbids to suspend a run in its stack: locks that are entered by `with`, and contexts that change the whole process.

CPython keeps the exit of each open `with` on the value stack of its frame, which _threads reads. A lock taken by a plain acquire() is
not seen here; watch.py deals with it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import threading
from types import CodeType, FrameType
from typing import Any, Optional

try:
    from ._threads import entered
except ImportError:
    pass

_PROCESS_WIDE = frozenset(
    [
        "contextlib._RedirectStream",
        "contextlib.chdir",
        "django.test.utils.TestContextDecorator",
        "freezegun.api._freeze_time",
        "time_machine.travel",
        "unittest.mock._patch",
        "unittest.mock._patch_dict",
        "_py_warnings.catch_warnings",
        "warnings.catch_warnings",
    ]
)
_OF_A_LOOP = ("asyncio.", "anyio.", "trio.", "aiohttp.")
"""Their locks are of one event loop, and that is suspended as a whole."""

_IMPORTING: Optional[CodeType] = getattr(getattr(importlib._bootstrap, "_find_and_load_unlocked", None), "__code__", None)
"""Runs under the lock of the module that is being imported."""

_kinds: dict[type, str] = {}
_KINDS_MAX = 1000


def held(frame: Optional[FrameType], until: CodeType) -> str:
    """Says what the frames from there outwards hold, up to the one that runs `until`; "" for nothing."""
    if frame is None:
        return ""
    for manager in entered(frame, until, _IMPORTING):
        found = _described(manager)
        if found:
            return found
    return ""


def held_by_tasks(loop: Any) -> str:
    """The same for the tasks of an event loop, each of which waits in a chain of coroutines."""
    for task in asyncio.all_tasks(loop):
        waiting: Any = task.get_coro()
        while waiting is not None:
            frame = _frame_of(waiting)
            found = _described_all(frame) if frame is not None else ""
            if found:
                return found
            waiting = next(
                (inner for inner in (getattr(waiting, n, None) for n in ("cr_await", "gi_yieldfrom", "ag_await")) if inner), None
            )
    return ""


def _frame_of(waiting: Any) -> Optional[FrameType]:
    for name in ("cr_frame", "gi_frame", "ag_frame"):
        frame = getattr(waiting, name, None)
        if frame is not None:
            return frame  # type: ignore[no-any-return]
    return None


def _described_all(frame: FrameType) -> str:
    return next((found for found in map(_described, entered(frame)) if found), "")


def _described(manager: Any) -> str:
    if manager is _IMPORTING:
        return "a module is being imported"
    kind = type(manager)
    found = _kinds.get(kind)
    if found is None:
        if len(_kinds) >= _KINDS_MAX:
            _kinds.clear()
        found = _kinds[kind] = _kind(kind)
    if found != "look inside":
        return found
    if isinstance(manager, (contextlib.ExitStack, contextlib.AsyncExitStack)):
        inner = (getattr(callback, "__self__", None) for _, callback in getattr(manager, "_exit_callbacks", ()))
        return next((text for text in map(_described, inner) if text), "")
    frame = _frame_of(getattr(manager, "gen", None))
    return _described_all(frame) if frame is not None else ""


def _kind(kind: type) -> str:
    """What to say of a context manager of that type; "" if it may stay entered."""
    if issubclass(kind, (contextlib._GeneratorContextManager, contextlib._AsyncGeneratorContextManager)) or issubclass(
        kind, (contextlib.ExitStack, contextlib.AsyncExitStack)
    ):
        return "look inside"
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name.startswith(_OF_A_LOOP):
        return ""
    if any(f"{base.__module__}.{base.__qualname__}" in _PROCESS_WIDE for base in kind.__mro__):
        return f"{name} is entered"
    # A Condition takes these two from its lock when it is made.
    if issubclass(kind, threading.Condition) or (
        callable(getattr(kind, "acquire", None)) and callable(getattr(kind, "release", None))
    ):
        return f"a lock is held ({name})"
    return ""
