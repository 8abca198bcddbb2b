"""gather(): several branches of a view, whose calls go out side by side in one handoff."""

from __future__ import annotations

import sys
from contextvars import copy_context
from typing import Any, Callable, Optional

from .errors import Handoff, TarryError
from .runs.branch import Branch, here
from .runs.exchange import Exchange, current


def gather(*functions: Callable[[], Any]) -> list[Any]:
    """The results of the functions, each called without arguments, in their order.

    The functions run one after the other; it is their calls that run side by side. Each may make several calls in sequence.
    If some raise, the others are run to their end and the first of the exceptions is raised. Without Tarry in front: plain
    calls in a row."""
    exchange = current()
    if exchange is None:
        return [function() for function in functions]
    parent, start = _start(exchange)
    if parent.left:
        raise Handoff()
    if exchange.run is not None and exchange.mode in ("auto", "suspend") and not exchange.run.why_not(sys._getframe(1)):
        return _in_greenlets(exchange.run, parent, start, functions)
    results: list[Any] = []
    left = False
    error: Optional[Exception] = None
    for n, function in enumerate(functions):
        child = Branch(f"{start}g.{n}.")
        try:
            results.append(copy_context().run(_run, child, function))
        except Handoff as handoff:
            handoff.__traceback__ = None
            left = True
        except Exception as raised:
            error = error or raised
        left = left or child.left
    if left:
        parent.leave()
        raise Handoff()
    if error is not None:
        raise error
    return results


class _InGreenlets:
    """The functions, each in a greenlet: all run up to their calls, and the run is suspended with one handoff for these."""

    def __init__(self, run: Any) -> None:
        self._run = run
        self._waiting: dict[int, Any] = {}
        self.results: dict[int, Any] = {}
        self.errors: list[Exception] = []
        self.left = False

    def start(self, n: int, branch: Branch, function: Callable[[], Any]) -> None:
        child = self._run.new_child(_run, copy_context())
        self._switch(n, child, branch, function)

    def finish(self) -> None:
        """Until all have ended. If the view is being left, those that wait for an answer are left with it."""
        try:
            while self._waiting:
                if not self.left:
                    try:
                        self._run.wait()
                    except Handoff:
                        self.left = True
                waiting, self._waiting = self._waiting, {}
                for n, child in waiting.items():
                    self._switch(n, child, not self.left)
        finally:
            for child in self._waiting.values():  # something that is no Exception ends the view
                child.throw(Handoff)

    def _switch(self, n: int, child: Any, *value: Any) -> None:
        try:
            got = child.switch(*value)
        except Handoff as handoff:
            handoff.__traceback__ = None
            self.left = True
        except Exception as raised:
            self.errors.append(raised)
        else:
            if not child.dead:
                self._waiting[n] = child
                return
            self.results[n] = got
        self._run.children.discard(child)


def _in_greenlets(run: Any, parent: Branch, start: str, functions: tuple[Callable[[], Any], ...]) -> list[Any]:
    all_ = _InGreenlets(run)
    for n, function in enumerate(functions):
        all_.start(n, Branch(f"{start}g.{n}."), function)
    all_.finish()
    if all_.left:
        parent.leave()
        raise Handoff()
    if all_.errors:
        raise all_.errors[0]
    return [all_.results[n] for n in range(len(functions))]


def _start(exchange: Exchange) -> tuple[Branch, str]:
    with exchange.lock:
        branch = here(exchange.root)
        if not branch.named:
            key = f"{branch.path}tgather"
            if exchange.counts.get(key):
                raise TarryError(
                    "gather() cannot be the first thing that several threads or tasks of one view do: their order is not known"
                )
            exchange.counts[key] = 1
            branch.named = True
            branch.path = f"{key}.0."
        return branch, branch.take()


def _run(branch: Branch, function: Callable[[], Any]) -> Any:
    with branch.entered():
        return function()
