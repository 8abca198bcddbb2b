"""What the view does to the database, watched while an exchange is active.

- Statements that were committed are remembered: a handoff would have them run again.
- A transaction that ends while calls are pending is rolled back, even if the view swallowed the handoff: its work is done
  again on the next run.
- Calls made in on_commit hooks are made directly: what they follow is committed, and to run it again would double it."""

from __future__ import annotations

import functools
import re
from typing import Any, Callable

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from ..once import check_write
from ..runs.exchange import Exchange, current

_WRITE = re.compile(
    r"\s*(INSERT|UPDATE|DELETE|REPLACE|MERGE|TRUNCATE|WITH\b.*\b(?:INSERT|UPDATE|DELETE|MERGE))\b", re.IGNORECASE | re.DOTALL
)
_STATEMENT_MAX = 200
_STATEMENTS_MAX = 20


def watch() -> None:
    """Patches Django's database layer; to call it again does no harm."""
    _wrap(CursorWrapper, "execute", _after_execute)
    _wrap(CursorWrapper, "executemany", _after_execute)
    _wrap(BaseDatabaseWrapper, "commit", _after_commit)
    _wrap(BaseDatabaseWrapper, "rollback", _after_rollback)
    _wrap(BaseDatabaseWrapper, "savepoint", _after_savepoint)
    _wrap(BaseDatabaseWrapper, "savepoint_rollback", _after_savepoint_rollback)
    _fence_commit_hooks()
    _roll_back_while_pending()


Observer = Callable[[Exchange, Any, tuple[Any, ...], Any], None]


def _wrap(cls: Any, name: str, observe: Observer) -> None:
    original = getattr(cls, name)
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kw: Any) -> Any:
        result = original(self, *args, **kw)
        exchange = current()
        if exchange is not None and not exchange.direct:
            observe(exchange, self, args, result)
        return result

    wrapper.__tarry__ = original  # type: ignore[attr-defined]
    setattr(cls, name, wrapper)


def _after_execute(exchange: Exchange, cursor: Any, args: tuple[Any, ...], result: Any) -> None:
    statement = str(args[0]) if args else ""
    if not _WRITE.match(statement):
        return
    connection = cursor.db
    if check_write(connection):
        return  # the work of once(): it is not done again
    statement = " ".join(statement.split())[:_STATEMENT_MAX]
    if connection.in_atomic_block or not connection.autocommit:
        _uncommitted(exchange, connection).append(statement)
    elif len(exchange.writes) < _STATEMENTS_MAX:
        exchange.writes.append(statement)


def _uncommitted(exchange: Exchange, connection: Any) -> list[str]:
    """The statements of the open transaction, as far as they belong to this exchange."""
    run = (exchange.id, exchange.hop, exchange.attempt)
    owner, statements = getattr(connection, "_tarry_writes", (None, []))
    if owner != run:
        statements = []
        connection._tarry_writes = (run, statements)
        connection._tarry_savepoints = {}
    return statements


def _after_commit(exchange: Exchange, connection: Any, args: tuple[Any, ...], result: Any) -> None:
    statements = _uncommitted(exchange, connection)
    exchange.writes.extend(statements[: _STATEMENTS_MAX - len(exchange.writes)])
    statements.clear()


def _after_rollback(exchange: Exchange, connection: Any, args: tuple[Any, ...], result: Any) -> None:
    _uncommitted(exchange, connection).clear()


def _after_savepoint(exchange: Exchange, connection: Any, args: tuple[Any, ...], result: Any) -> None:
    statements = _uncommitted(exchange, connection)
    connection._tarry_savepoints[result] = len(statements)


def _after_savepoint_rollback(exchange: Exchange, connection: Any, args: tuple[Any, ...], result: Any) -> None:
    statements = _uncommitted(exchange, connection)
    del statements[connection._tarry_savepoints.get(args[0], 0) :]


def _fence_commit_hooks() -> None:
    original = BaseDatabaseWrapper.run_and_clear_commit_hooks
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def run_and_clear_commit_hooks(self: Any) -> Any:
        exchange = current()
        if exchange is None:
            return original(self)
        before, exchange.fence = exchange.fence, "in an on_commit hook, a handoff would run the committed writes again"
        try:
            return original(self)
        finally:
            exchange.fence = before

    run_and_clear_commit_hooks.__tarry__ = original  # type: ignore[attr-defined]
    BaseDatabaseWrapper.run_and_clear_commit_hooks = run_and_clear_commit_hooks


def _roll_back_while_pending() -> None:
    original = transaction.Atomic.__exit__
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def __exit__(self: Any, exc_type: Any, exc_value: Any, traceback: Any) -> Any:
        exchange = current()
        if exchange is not None and exchange.leaving and exc_type is None:
            transaction.get_connection(self.using).needs_rollback = True
        return original(self, exc_type, exc_value, traceback)

    __exit__.__tarry__ = original  # type: ignore[attr-defined]
    transaction.Atomic.__exit__ = __exit__
