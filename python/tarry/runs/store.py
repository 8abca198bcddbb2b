"""The shared store of once(): what is claimed there stays, whatever becomes of the run and of the transaction around it."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Optional, TypeVar

from ..settings import settings
from .exchange import outside

T = TypeVar("T")

SECONDS = 24 * 3600
_CLAIMED = "claimed"


def exists() -> bool:
    return settings.once_store is not None


def claim(name: str) -> bool:
    """True if the work of that name is the caller's to do."""
    return bool(_apart(lambda store: store.add(name, _CLAIMED, SECONDS)))


def result(name: str) -> Optional[str]:
    """What keep() was given; None if the work is claimed and has no result."""
    found = _apart(lambda store: store.get(name))
    return found[1:] if isinstance(found, str) and found.startswith("=") else None


def keep(name: str, text: str) -> None:
    _apart(lambda store: store.set(name, "=" + text, SECONDS))


def release(name: str) -> None:
    """Takes a claim back: the work was not done."""
    _apart(lambda store: store.delete(name))


def _apart(function: Callable[[Any], T]) -> T:
    """What the store does is not the view's work: its calls are its own, and a cache in the database must not be rolled back with the
    view's transaction. That cache gets a connection of its own then, which is a thread's."""
    store = settings.once_store
    with outside():
        if not (_is_database_cache(store) and open_transactions()):
            return function(store)
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(_with_own_connection, function, store).result()


def _with_own_connection(function: Callable[[Any], T], store: Any) -> T:
    try:
        return function(store)
    finally:
        sys.modules["django.db"].connections.close_all()


def _is_database_cache(store: Any) -> bool:
    backend = sys.modules.get("django.core.cache.backends.db")
    return getattr(store, "in_database", False) or (backend is not None and isinstance(store, backend.BaseDatabaseCache))


def open_transactions() -> frozenset[str]:
    """Aliases of the Django databases in an atomic block; those that a TestCase opened do not count."""
    db = sys.modules.get("django.db")
    if db is None:
        return frozenset()
    opened = set()
    for connection in db.connections.all():
        blocks = getattr(connection, "atomic_blocks", None)
        if blocks is None:
            if connection.in_atomic_block:
                opened.add(connection.alias)
        elif any(not getattr(block, "_from_testcase", False) for block in blocks):
            opened.add(connection.alias)
    return frozenset(opened)
