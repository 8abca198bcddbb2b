"""Views that read a stream to its end before they answer: from the second time on they are given it whole, which saves a visit."""

from __future__ import annotations

from ...common import notices
from ..exchange import Exchange

_MAX = 1000

_known: set[tuple[str, str]] = set()


def _key(exchange: Exchange, site: str) -> tuple[str, str]:
    return exchange.view or f"{exchange.method} {exchange.path}", site


def ask(exchange: Exchange) -> bool:
    """Whether the answer to the call that is being made shall come in pieces."""
    exchange.parts.asked_at = notices.call_site()
    return exchange.parts.iterating or _key(exchange, exchange.parts.asked_at) not in _known


def note(exchange: Exchange) -> None:
    """The view reads the open answer, and has not answered."""
    if len(_known) >= _MAX:
        _known.clear()
    _known.add(_key(exchange, exchange.parts.asked_at))


def forget() -> None:
    """For tests."""
    _known.clear()
