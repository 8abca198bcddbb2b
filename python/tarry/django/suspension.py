"""When a run of a Django view may be suspended: with no transaction, no open cursor, and nothing in the database's session that would
be gone with the connection, which is closed before."""

from __future__ import annotations

import functools
import re
import weakref
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from ..common import notices
from ..runs import suspended, world
from ..runs.exchange import current

# What a session of the database keeps. SET LOCAL and SET TRANSACTION end with their transaction.
_SESSION = re.compile(
    r"\s*(SET\s+(?!LOCAL\b|TRANSACTION\b|CONSTRAINTS\b)|LISTEN\b|PREPARE\b|DECLARE\b|ATTACH\b|LOCK\s+TABLES\b"
    r"|CREATE\s+(?:GLOBAL\s+|LOCAL\s+)?TEMP)|.*\b(set_config|pg_(?:try_)?advisory_lock\w*|get_lock)\s*\(",
    re.IGNORECASE | re.DOTALL,
)
_STATEMENT_MAX = 40


def guard() -> None:
    """Patches Django's database layer; to call it again does no harm."""
    if hasattr(BaseDatabaseWrapper.make_cursor, "__tarry__"):
        return
    for name in ("make_cursor", "make_debug_cursor"):
        _note_cursors(name)
    _note_closing()
    for name in ("execute", "executemany"):
        _note_sessions(name)
    _note_connecting()
    suspended.guards.append(_why_not)
    suspended.leaving.append(_close)
    world.closers.append(connections.close_all)


def _note_cursors(name: str) -> None:
    original = getattr(BaseDatabaseWrapper, name)

    @functools.wraps(original)
    def make(self: Any, cursor: Any) -> Any:
        made = original(self, cursor)
        exchange = current()
        if exchange is not None and exchange.run is not None:
            found = vars(exchange).setdefault("django_cursors", weakref.WeakSet())
            found.add(made)
        return made

    make.__tarry__ = original  # type: ignore[attr-defined]
    setattr(BaseDatabaseWrapper, name, make)


def _note_closing() -> None:
    """A cursor wrapper has no close() of its own; its `with` ends by it, too."""

    def close(self: Any) -> Any:
        exchange = current()
        if exchange is not None:
            vars(exchange).get("django_cursors", set()).discard(self)
        return self.cursor.close()

    CursorWrapper.close = close


def _note_sessions(name: str) -> None:
    original = getattr(CursorWrapper, name)

    @functools.wraps(original)
    def execute(self: Any, *args: Any, **kw: Any) -> Any:
        result = original(self, *args, **kw)
        exchange = current()
        if exchange is not None and exchange.run is not None and not getattr(self.db, "_tarry_connecting", False):
            statement = str(args[0]) if args else ""
            if _SESSION.match(statement):
                # Its beginning, and no value.
                vars(exchange).setdefault("django_session", " ".join(re.split(r"[=('\"]", statement)[0].split())[:_STATEMENT_MAX])
        return result

    execute.__tarry__ = original  # type: ignore[attr-defined]
    setattr(CursorWrapper, name, execute)


def _note_connecting() -> None:
    """What is set while a connection is made, by Django or on connection_created, is set again on the next one."""
    original = BaseDatabaseWrapper.connect

    @functools.wraps(original)
    def connect(self: Any) -> Any:
        self._tarry_connecting = True
        try:
            return original(self)
        finally:
            self._tarry_connecting = False

    connect.__tarry__ = original  # type: ignore[attr-defined]
    BaseDatabaseWrapper.connect = connect


def _initialized() -> list[Any]:
    """The connections that this thread has."""
    return [getattr(connections._connections, alias) for alias in connections if hasattr(connections._connections, alias)]


def _why_not(run: Any) -> str:
    for connection in _initialized():
        if connection.in_atomic_block:
            blocks = getattr(connection, "atomic_blocks", None)
            if blocks is None or any(not getattr(block, "_from_testcase", False) for block in blocks):
                return f"a transaction is open ({connection.alias})"
        elif connection.connection is not None and not connection.get_autocommit():
            return f"a transaction is open ({connection.alias})"
    session = vars(run.exchange).get("django_session", "")
    if session:
        return f"the database's session was changed ({session})"
    if any(not getattr(made.cursor, "closed", False) for made in vars(run.exchange).get("django_cursors", ())):
        return "a cursor of the database is open, as of .iterator()"
    return ""


def _close(run: Any) -> None:
    for connection in _initialized():
        if connection.connection is not None and not connection.in_atomic_block:
            try:
                connection.close()
            except Exception as e:
                notices.warn_once(f"a connection to the database could not be closed before a run was suspended: {e!r}")
