"""Answers that a view reads while they come, and responses that go out while the view is at work."""

from __future__ import annotations

from ..exchange import Exchange
from .visits import run_again, serve

try:
    from .run import Run
except ImportError:  # without greenlet nothing is suspended
    pass

RESPONSE_KEY = "tarry.response"
"""In the environ of a visit, for the server's access log: the response, whose `begins` says that it is the client's first byte."""

__all__ = ["RESPONSE_KEY", "Run", "are_needed", "are_offered", "run_again", "serve"]


def are_offered(exchange: Exchange) -> bool:
    """Whether the response of this exchange may go out in parts."""
    return ("pieces" in exchange.features and exchange.method != "HEAD") or are_needed(exchange)


def are_needed(exchange: Exchange) -> bool:
    """Whether an earlier run's has begun to."""
    return bool(exchange.sent) or any(answer.position for _, answer in exchange.record.values())
