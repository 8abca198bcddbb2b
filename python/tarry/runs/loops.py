"""asyncio in a sync view, as in asyncio.run() or an agent framework's run_sync(): the calls of all tasks wait for futures, and when the
event loop has nothing else to do, the run is suspended with the whole loop, and one handoff for all calls."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from ..errors import Handoff
from . import held

SLEEP_MIN = 0.05
"""Seconds: a shorter sleep is not worth a visit."""

OTHERS_SECONDS = 0.05
"""How long a loop that waits for something else too is given for that, before it is suspended with it."""


def why_not() -> str:
    """Why the running loop cannot be suspended; "" if it can, or there is none."""
    loop = asyncio._get_running_loop()
    if loop is None:
        return ""
    if not hasattr(getattr(loop, "_selector", None), "select"):
        return "the event loop is of a kind that cannot be suspended"
    return held.held_by_tasks(loop)


async def answered(run: Any) -> None:
    """Waits for the next visit that the run goes on with."""
    loop = asyncio.get_running_loop()
    made = loop.create_future()
    run.waiting.append(made)
    hook(run, loop)
    await made


def hook(run: Any, loop: Any) -> None:
    """Has the loop's waiting for events done by _select(), for that run."""
    selector = loop._selector
    found = vars(selector).get("select")
    if found is not None:
        if getattr(found, "tarry_run", None) is run:
            return
        del selector.select
    original = selector.select

    def select(timeout: Any = None) -> Any:
        return _select(run, loop, original, timeout)

    select.tarry_run = run  # type: ignore[attr-defined]
    selector.select = select


def _select(run: Any, loop: Any, original: Any, timeout: Any) -> Any:
    if (timeout is not None and timeout <= 0) or run.exchange.run is not run:
        return original(timeout)
    wake = _wake(run, timeout)
    if not run.waiting and not wake:
        return original(timeout)
    if len(loop._selector.get_map()) > 1 or _executor_is_busy(loop):
        events = original(OTHERS_SECONDS if timeout is None else min(timeout, OTHERS_SECONDS))
        if events:
            return events
        wake = 0.0  # the loop's other events may come at any time
    why = run.why_not(sys._getframe(1)) or held.held_by_tasks(loop)
    if not run.waiting:
        if wake and not why:
            run.wait(wake)
        return original(timeout if why else 0)
    waiting, run.waiting = run.waiting, []
    try:
        if why:
            raise Handoff()
        run.wait()
    except Handoff:
        run.ending = True
        for made in waiting:
            if not made.done():
                made.set_exception(Handoff())
    else:
        for made in waiting:
            if not made.done():
                made.set_result(None)
    return original(0)


def _wake(run: Any, timeout: Any) -> float:
    """When the loop's next timer is due, if the run may be suspended until then; 0 otherwise."""
    if timeout is None or timeout < SLEEP_MIN or run.waiting or "wait" not in run.exchange.features:
        return 0.0
    return time.monotonic() + float(timeout)


def _executor_is_busy(loop: Any) -> bool:
    """asyncio.to_thread() is at work: what it does may end in a call that should go out with the others."""
    executor = getattr(loop, "_default_executor", None)
    if executor is None:
        return False
    return bool(executor._work_queue.qsize() > 0 or executor._idle_semaphore._value < len(executor._threads))
