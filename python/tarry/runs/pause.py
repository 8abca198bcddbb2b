"""A view that sleeps: on a later run it does not sleep again, and a run that can be suspended holds no worker meanwhile."""

from __future__ import annotations

import sys
import time
from typing import Any

from ..errors import Handoff
from . import loops, suspended
from .branch import Branch, here
from .exchange import Exchange, current

LEFT_MIN = 0.005
"""Seconds: less than this is not slept to the end."""

_LOCKING_FRAMES = 8


def passed(seconds: float, frame: Any) -> bool:
    """True if the time has passed, on an earlier run or while the run was suspended; False if it must be slept. `frame`: the sleeper's."""
    exchange = current()
    if exchange is None or seconds < loops.SLEEP_MIN:
        return False
    branch = here(exchange.root)
    number, branch.slept = branch.slept, branch.slept + 1
    if branch.left or exchange.replayed - exchange.used:
        return bool(exchange.replayed - exchange.used)  # the recorded calls were made after this sleep
    last, wake = exchange.state.sleeps.get(branch.path, (-1, 0.0))
    if number < last:
        return True
    if number > last:
        wake = time.time() + seconds
    if wake - time.time() < LEFT_MIN:
        return True
    return _parked(exchange, branch, number, wake, frame)


def _parked(exchange: Exchange, branch: Branch, number: int, wake: float, frame: Any) -> bool:
    run = exchange.run
    if run is None or "wait" not in exchange.features or exchange.mode not in ("auto", "suspend"):
        _note_lock(frame)
        return False
    if exchange.direct or exchange.responded or run.why_not(frame) or loops.why_not():
        return False
    while wake - time.time() >= LEFT_MIN:
        exchange.state.sleeps[branch.path] = (number, round(wake, 3))
        try:
            run.wait(time.monotonic() + wake - time.time())
        except Handoff:
            branch.leave()
            raise
    return True


def _note_lock(frame: Any) -> None:
    """A lock of Redis or of a file is waited for by sleeping: it may be a suspended run that holds it."""
    for _ in range(_LOCKING_FRAMES):
        if frame is None:
            return
        if frame.f_code.co_name == "acquire":
            suspended.waits_for_lock()
            return
        frame = frame.f_back


def sleep(seconds: float) -> None:
    """As time.sleep(seconds), and in a view whose run can be suspended without holding the worker. On a later run of the view it does not
    sleep again. After patch_all() time.sleep() does the same."""
    if not passed(seconds, sys._getframe(1)):
        time.sleep(seconds)
