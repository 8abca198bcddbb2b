"""gather(): several branches of a view, whose calls go out side by side in one handoff."""

from __future__ import annotations

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
        parent.left = True
        parent.skip_sleeps()
        raise Handoff()
    if error is not None:
        raise error
    return results


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
