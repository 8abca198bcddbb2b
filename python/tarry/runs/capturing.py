"""Whether the calls of this context are captured, as in the block of tarry.capture()."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Callable, Optional

from ..format.message import Call

Take = Callable[[Call], None]

_take: ContextVar[Optional[Take]] = ContextVar("tarry_capture", default=None)


def begin(take: Take) -> Token[Optional[Take]]:
    """From here on `take` gets the calls, and leaves the block by an exception of its own."""
    return _take.set(take)


def end(token: Token[Optional[Take]]) -> None:
    _take.reset(token)


def taker() -> Optional[Take]:
    return _take.get()
