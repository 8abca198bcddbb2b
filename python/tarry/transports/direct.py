"""Libraries whose calls cannot be handed off: their calls are made directly and hold the worker; if they go to an origin that
Tarry could have called, that is said, and what follows is made directly too."""

from __future__ import annotations

import functools
from typing import Any, Callable

from ..runs.intercept import note_direct


def before(cls: Any, name: str, url_of: Callable[[Any, Any, Any], str], library: str) -> None:
    """Has note_direct() called before the method."""
    original = getattr(cls, name)
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        note_direct(url_of(self, args, kwargs), library)
        return original(self, *args, **kwargs)

    method.__tarry__ = original  # type: ignore[attr-defined]
    setattr(cls, name, method)


def undo(cls: Any, name: str) -> None:
    original = getattr(getattr(cls, name, None), "__tarry__", None)
    if original is not None:
        setattr(cls, name, original)
