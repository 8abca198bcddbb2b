"""Decorators that say of one view how it goes on after a call, whatever the setting for all of them is.

They stand for a function or a class with dispatch(), Django's and DRF's among them, and are the outermost decorator or any other."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, TypeVar, cast

from .errors import TarryError
from .runs import suspended
from .runs.exchange import current

View = TypeVar("View", bound=Callable[..., Any])


def direct(view: View) -> View:
    """The view makes its calls itself, and holds the worker; it is run once."""
    return cast(View, _marked(view, "direct"))


def rerun(view: View) -> View:
    """The view is run again with each answer."""
    return cast(View, _marked(view, "rerun"))


def suspend(view: View) -> View:
    """The view is suspended at its calls, and never run again on purpose: a call at which it cannot be suspended holds the worker."""
    suspended.mark()
    return cast(View, _marked(view, "suspend"))


def _marked(view: Any, mode: str) -> Any:
    if isinstance(view, type):
        dispatch = getattr(view, "dispatch", None)
        if dispatch is None:
            raise TarryError(f"@tarry.{mode} stands for a function or for a class with dispatch(), and {view.__name__} has none")
        view.dispatch = _wrapped(dispatch, mode)  # type: ignore[attr-defined]
        return view
    return _wrapped(view, mode)


def _wrapped(view: Any, mode: str) -> Any:
    if inspect.iscoroutinefunction(view):

        @functools.wraps(view)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            _mark(mode)
            return await view(*args, **kwargs)

    else:

        @functools.wraps(view)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            _mark(mode)
            return view(*args, **kwargs)

    return wrapper


def _mark(mode: str) -> None:
    """For the rest of the request: a template or a stream may be made after the view."""
    exchange = current()
    if exchange is not None:
        exchange.marked = mode
