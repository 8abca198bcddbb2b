"""Where in a view a call stands: its path, which is the same on every run.

A view is one branch; its calls are numbered: 0, 1, 2 … Each function of gather() is a branch of its own, below the number
of the gather: 2g.0.0 is the first call of its first function. A thread or an asyncio task that carries the view's context
is a branch too; as their order is a matter of luck, they are named by what their first call asks, with a count for equals:
t4f1c09ab.0.0 ."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
from contextvars import ContextVar
from typing import Any, Iterator, Optional

from ..format.message import Answer

PATH_MAX = 90
SLEEPS_SKIPPED_MAX = 16

_branch: ContextVar[Optional["Branch"]] = ContextVar("tarry_branch", default=None)


class Branch:
    def __init__(self, path: str) -> None:
        self.path = path if len(path) <= PATH_MAX else "h" + hashlib.sha256(path.encode()).hexdigest()[:24] + "."
        self.owner: Any = None
        self.named = True
        """False for a thread or task whose first call is still to come."""

        self.left = False
        """A handoff was raised here: whatever swallowed it, nothing more is handed off before the next run."""

        self.failure: Optional[tuple[str, Answer, Any]] = None
        """The last answer, if Tarry made it because there was none: digests, answer, and the library's frame that got it."""

        self.kept = False
        """In the function of once(), whose work is not done again."""

        self.repeats = 0
        self.sleeps = 0
        """How many more sleeps are skipped, because they would wait for what Tarry has already waited for."""

        self.slept = 0
        """How many sleeps of the view's there have been."""

        self._next = 0

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        self.owner = _here()
        token = _branch.set(self)
        try:
            yield
        finally:
            _branch.reset(token)

    def take(self) -> str:
        """The next number's path."""
        path = f"{self.path}{self._next}"
        self._next += 1
        return path

    def leave(self) -> None:
        """A handoff is raised here."""
        self.left = True
        self.skip_sleeps()

    def skip_sleeps(self) -> None:
        self.sleeps = SLEEPS_SKIPPED_MAX


def here(root: Branch) -> Branch:
    """The branch of the code that runs now; a new one, still without a name, in a new thread or task."""
    branch = _branch.get() or root
    if branch.owner != _here():
        child = Branch(branch.path)
        child.named = False
        child.owner = _here()
        _branch.set(child)
        return child
    return branch


def existing() -> Optional[Branch]:
    """As here(), but makes none."""
    branch = _branch.get()
    return branch if branch is not None and branch.owner == _here() else None


def _here() -> tuple[int, Any]:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident(), task
