"""time.sleep after a failure: retry loops pause before they try again, and would hold the worker on every run of the view.
Tarry has waited already, so a few sleeps after a failed recorded answer, or after a handoff that was swallowed, are skipped."""

from __future__ import annotations

import functools
import time

from .branch import existing
from .exchange import current

_real = time.sleep


@functools.wraps(_real)
def _sleep(seconds: float) -> None:
    branch = existing() if current() is not None else None
    if branch is not None and branch.sleeps > 0:
        branch.sleeps -= 1
        return
    _real(seconds)


def patch() -> None:
    time.sleep = _sleep  # type: ignore[assignment]


def unpatch() -> None:
    time.sleep = _real
