"""A thread's own state that greenlets do not switch: threading.local (Django's database connections among it), the running event loop, the
hooks of asynchronous generators. It is put aside with a suspended run and given back to it.

To the app a suspended run is then what a thread of its own would be: code that is right in a threaded server is right here."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any, Callable

try:
    from ._threads import World

    missing = ""
except ImportError as e:
    missing = str(e) if "version of Python" in str(e) else "the package's C extension is not there"

IDLE_MAX = 2
_ASGIREF = "_asgiref_local_impl_"
"""Up to 3.6 asgiref keeps its locals as attributes of the thread."""

closers: list[Callable[[], None]] = []
"""Called in a world that is given up, to close what is in it."""

_idle: list[Any] = []
"""Worlds of runs that have ended, with their caches and connections, the latest last: the next run that needs one takes it."""


class Away:
    """A world that the thread does not have at present."""

    __slots__ = ("world", "loop", "task", "asgiref")

    def __init__(self, world: Any, loop: Any, task: Any, asgiref: dict[str, Any]) -> None:
        self.world = world
        self.loop = loop
        self.task = task
        self.asgiref = asgiref


def leave() -> Away:
    """Puts the thread's world aside; the thread has another one then."""
    loop = asyncio._get_running_loop()
    task = None
    if loop is not None:
        task = _swap_task(loop, None)
        asyncio._set_running_loop(None)
    world = _idle.pop() if _idle else World()
    asgiref = _asgiref_take()
    world.swap()
    return Away(world, loop, task, asgiref)


def enter(away: Away) -> None:
    """Gives the thread a world back; the one that it had is idle then, or given up."""
    if len(_idle) >= IDLE_MAX:
        for close in closers:
            close()
    _asgiref_take()
    away.world.swap()
    if len(_idle) < IDLE_MAX:
        _idle.append(away.world)
    away.world = None  # with this the one that is given up ends
    if away.asgiref:
        vars(threading.current_thread()).update(away.asgiref)
    if away.loop is not None:
        asyncio._set_running_loop(away.loop)
        _swap_task(away.loop, away.task)


def forget() -> None:
    """In a forked child: what is idle is the parent's, connections among it, and is neither used nor closed."""
    _of_the_parent.extend(_idle)
    _idle.clear()


_of_the_parent: list[Any] = []


def _asgiref_take() -> dict[str, Any]:
    attributes = vars(threading.current_thread())
    names = [name for name in attributes if name.startswith(_ASGIREF)]
    return {name: attributes.pop(name) for name in names}


def _swap_task(loop: Any, task: Any) -> Any:
    """From 3.14 on the current task is the thread's; before, it is the loop's, and stays."""
    return getattr(asyncio.tasks, "_swap_current_task")(loop, task) if sys.version_info >= (3, 14) else None  # noqa: B009
