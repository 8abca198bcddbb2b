"""Connections of SQLAlchemy: a run that has one out of its pool is not suspended with it, as others would wait for the pool."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from . import suspended
from .exchange import current

_watched = False


def watch(sqlalchemy: ModuleType) -> None:
    """Once the whole package has been imported."""
    global _watched
    if _watched:
        return
    _watched = True
    from sqlalchemy import event
    from sqlalchemy.pool import Pool

    event.listen(Pool, "checkout", _out)
    event.listen(Pool, "checkin", _in)
    suspended.guards.append(_why_not)


def _out(connection: Any, record: Any, proxy: Any) -> None:
    exchange = current()
    if exchange is not None and exchange.run is not None:
        record.info["tarry"] = exchange
        vars(exchange)["sqlalchemy"] = vars(exchange).get("sqlalchemy", 0) + 1


def _in(connection: Any, record: Any) -> None:
    exchange = record.info.pop("tarry", None)
    if exchange is not None:
        vars(exchange)["sqlalchemy"] -= 1


def _why_not(run: Any) -> str:
    return "a connection of SQLAlchemy is in use" if vars(run.exchange).get("sqlalchemy") else ""
