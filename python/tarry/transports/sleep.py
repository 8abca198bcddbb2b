"""time.sleep and asyncio.sleep after a failure: retry loops pause before they try again, and would hold the worker on every run of the view.
Tarry has waited already, so a few sleeps after a failed recorded answer, or after a handoff that was swallowed, are skipped. Other sleeps,
as between two looks at a job, are slept once: see runs/pause.py."""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from typing import Any

from ..runs.branch import existing
from ..runs.exchange import current
from ..runs.pause import passed

_real = time.sleep
_real_async: Any = asyncio.sleep


@functools.wraps(_real)
def _sleep(seconds: float) -> None:
    if not _is_skipped(seconds) and not passed(seconds, sys._getframe(1)):
        _real(seconds)


@functools.wraps(_real_async)
async def _sleep_async(delay: float, *args: Any, **kwargs: Any) -> Any:
    return await _real_async(0 if _is_skipped(delay) else delay, *args, **kwargs)


def _is_skipped(seconds: float) -> bool:
    branch = existing() if current() is not None and seconds > 0 else None
    if branch is None or branch.sleeps <= 0:
        return False
    branch.sleeps -= 1
    return True


def patch() -> None:
    time.sleep = _sleep  # type: ignore[assignment]
    asyncio.sleep = asyncio.tasks.sleep = _sleep_async


def unpatch() -> None:
    time.sleep = _real
    asyncio.sleep = asyncio.tasks.sleep = _real_async
