"""once(): work that must not be done again when a view is run again, such as charging a card or sending a mail.

Its result travels with the handoff. A worker that dies after the work and before its response takes the result with it: with
a shared store the work is claimed there first, so that it is done at most once whatever dies."""

from __future__ import annotations

import hashlib
import json
from contextvars import ContextVar
from typing import Any, Callable, Optional, TypeVar, cast

from .common import notices
from .errors import Handoff, OnceUncertain, OnceUndone
from .format.state import SMALL, SUSPENDED
from .runs import store
from .runs.branch import Branch, here
from .runs.exchange import Exchange, current

T = TypeVar("T")

watchers: list[Callable[[Exchange], Callable[[], str]]] = []
"""Each is called before the work, and returns what says afterwards what the work has changed that goes with this run; "" for nothing."""

_inside: ContextVar[Optional[frozenset[str]]] = ContextVar("tarry_once", default=None)
"""While the function of once() runs: the databases that have an open transaction around it."""


def once(function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
    """function(*args, **kwargs), done on the first run of the view; later runs get its result, which must be JSON.

    An exception of the function is not kept: it is called again on the next run. Nor is what the function does to the request, its user or
    its session, as login() does: call such a function without once(), or after the calls.

    Raises OnceUncertain if a worker died where it may or may not have done the work, and OnceUndone if the function writes to
    a database whose transaction the handoff rolls back. Outside of a request that came through Tarry it is a plain call."""
    exchange = current()
    if exchange is None or (exchange.direct and not exchange.record and not exchange.hop):
        return function(*args, **kwargs)
    key = _key(exchange, function)
    if key in exchange.state.once:
        return cast(T, exchange.state.once[key])
    claimed = _claim(exchange, key)
    if claimed is not None:
        result = claimed[0]
    else:
        result = _do(exchange, key, function, args, kwargs)
    _carry(exchange, key, result, function)
    return cast(T, result)


def check_write(connection: Any) -> bool:
    """True for a write by the function of once(); raises OnceUndone if it stands in a transaction from before."""
    open_before = _inside.get()
    if open_before is None:
        return False
    if connection.alias in open_before:
        raise OnceUndone(
            "once() holds work that survives the request; this write is undone by the handoff. Move once() out of the"
            " transaction, or do without it: what the transaction rolls back may safely be done again"
        )
    return True


def _key(exchange: Exchange, function: Callable[..., Any]) -> str:
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    with exchange.lock:
        branch = here(exchange.root)
        count_of = f"once {branch.path} {name}"
        count = exchange.counts.get(count_of, 0)
        exchange.counts[count_of] = count + 1
    return hashlib.sha256(f"{count_of} {count}".encode()).hexdigest()[:12]


def _claim(exchange: Exchange, key: str) -> Optional[tuple[Any]]:
    """None if the work is ours to do, or its result if another run has done it."""
    if not store.exists():
        if exchange.attempt > 1:
            raise OnceUncertain(
                f"{exchange.name}: a worker died while the view ran, and nobody knows whether it had done the work of once()."
                " A shared once_store narrows this down to a death inside the function"
            )
        return None
    name = _stored(exchange, key)
    if store.claim(name):
        return None
    found = store.result(name)
    if found is not None:
        return (json.loads(found),)
    raise OnceUncertain(f"{exchange.name}: a worker died inside the function of once(); whether it did its work is not known")


def _do(exchange: Exchange, key: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Runs the function, in a branch of its own: the calls it makes are not counted on the runs that skip it."""
    parent = here(exchange.root)
    branch = Branch(f"{parent.path}o{key}.")
    branch.kept = True
    changes = [watcher(exchange) for watcher in watchers]
    token = _inside.set(store.open_transactions())
    try:
        with branch.entered():
            result = function(*args, **kwargs)
    except (Exception, Handoff):
        # It did not do its work, as it says itself, and is asked again on the next run. Anything else that ends it, such as
        # the server's time limit, leaves the claim: then it is not known.
        if store.exists():
            store.release(_stored(exchange, key))
        raise
    finally:
        parent.left = parent.left or branch.left
        _inside.reset(token)
    _warn_of_changes(exchange, function, [change for change in (each() for each in changes) if change])
    encoded = _encode(result)
    if store.exists() and encoded is not None:
        try:
            store.keep(_stored(exchange, key), encoded)
        except Exception as e:  # the work is done all the same, and its result goes on with the handoff
            notices.warn_once(f"{exchange.name}: the result of once() could not be kept in the once_store: {e!r}")
    return result


def _warn_of_changes(exchange: Exchange, function: Callable[..., Any], changes: list[str]) -> None:
    if changes:
        notices.warn_once(
            f"{exchange.name}: once({getattr(function, '__qualname__', function)}) has changed {', '.join(changes)}. If the view is run"
            " again, the function is not called again, and the request is without the change: after login() the user would be anonymous."
            " Call it without once(), which is safe for login(), logout() and messages, or after the calls to models"
        )


def _carry(exchange: Exchange, key: str, result: Any, function: Callable[..., Any]) -> None:
    """Into the state of the next handoff; where there is a store, no more than what every server takes. What cannot be carried is not
    lost: the rest of the request is then not handed off, and the function not asked again."""
    encoded = _encode(result)
    if encoded is not None:
        exchange.state.once[key] = result
        size = len(exchange.state.encode())
        room = exchange.limits.state - (SUSPENDED if exchange.run is not None else 0)
        if size <= min(room, SMALL if store.exists() else size):
            return
        del exchange.state.once[key]
        if store.exists():
            return
    exchange.direct = (
        f"the result of once({getattr(function, '__qualname__', function)}) cannot be carried: it is no JSON, or"
        f" with the others larger than {exchange.limits.state} bytes (a once_store takes what is larger)"
    )
    notices.warn_once(f"{exchange.name}: {exchange.direct}")


def _encode(result: Any) -> Optional[str]:
    try:
        return json.dumps(result)
    except (TypeError, ValueError):
        return None


def _stored(exchange: Exchange, key: str) -> str:
    return f"tarry:{exchange.id}:{key}"
