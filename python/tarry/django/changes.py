"""What the function of once() does to the request: that is gone when the view is run again, and the function is not."""

from __future__ import annotations

from typing import Any, Callable

from ..once import watchers
from ..runs.exchange import Exchange


def watch() -> None:
    """To call it again does no harm."""
    if _watch not in watchers:
        watchers.append(_watch)


def _watch(exchange: Exchange) -> Callable[[], str]:
    request = exchange.request() if exchange.request is not None else None
    if request is None:
        return lambda: ""
    before = _state(request)

    def changed() -> str:
        after = _state(request)
        return ", ".join(name for name in sorted({**before, **after}) if before.get(name) != after.get(name))

    return changed


def _state(request: Any) -> dict[str, Any]:
    """By the words of a message, what can be compared."""
    state: dict[str, Any] = {}
    for name, value in vars(request).items():
        # What a class computes on demand, such as request.GET, is no change.
        if not name.startswith("_") and not hasattr(type(request), name):
            state["the session" if name == "session" else f"request.{name}"] = id(value)
    session = getattr(request, "session", None)
    if session is not None:
        state["the session"] = (id(session), getattr(session, "modified", False), getattr(session, "session_key", None))
    messages = getattr(request, "_messages", None)
    if messages is not None:
        state["the messages"] = len(getattr(messages, "_queued_messages", ()))
    return state
