"""Threads and executors that a view starts belong to its request: they carry its context, as asyncio's tasks do.

Without that a call in such a thread would be made directly, on each run of the view again, and be paid for each time."""

from __future__ import annotations

import concurrent.futures
import functools
import threading
from contextvars import copy_context
from typing import Any

from ..errors import Handoff
from ..runs.exchange import current, outside


def patch() -> None:
    original_start = threading.Thread.start
    original_submit: Any = concurrent.futures.ThreadPoolExecutor.submit
    if hasattr(original_start, "__tarry__"):
        return

    @functools.wraps(original_start)
    def start(self: threading.Thread) -> None:
        if current() is not None and getattr(self, "_tarry_carries", None) is None:
            self._tarry_carries = True  # type: ignore[attr-defined]
            context, run = copy_context(), self.run
            self.run = lambda: context.run(_quietly, run)  # type: ignore[method-assign]
        original_start(self)

    @functools.wraps(original_submit)
    def submit(self: Any, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        if current() is None:
            return original_submit(self, fn, *args, **kwargs)
        # The pool's own thread may live longer than the request: it must not carry it.
        context = copy_context()
        with outside():
            return original_submit(self, context.run, fn, *args, **kwargs)

    start.__tarry__ = original_start  # type: ignore[attr-defined]
    submit.__tarry__ = original_submit  # type: ignore[attr-defined]
    threading.Thread.start = start  # type: ignore[method-assign]
    concurrent.futures.ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]


def unpatch() -> None:
    for owner, name in ((threading.Thread, "start"), (concurrent.futures.ThreadPoolExecutor, "submit")):
        setattr(owner, name, getattr(getattr(owner, name), "__tarry__", getattr(owner, name)))


def _quietly(run: Any) -> None:
    """A thread that is left for a handoff has not failed."""
    try:
        run()
    except Handoff:
        pass
