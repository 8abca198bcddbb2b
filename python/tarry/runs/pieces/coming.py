"""An answer that the view reads while it comes. Where all that has come is read, the run stands still, in the library that reads it."""

from __future__ import annotations

import gc
import io
import sys
from dataclasses import replace
from typing import Any, Iterator, Optional

from ...errors import Handoff
from ...format.message import Answer
from ...format.parts import error_of, read_position
from .. import observers
from ..exchange import Exchange

COMPLETE = "complete"


class Truncated(Exception):
    """The answer has broken off; says why, if Tarry knows."""


class Coming:
    """What has come of an answer."""

    def __init__(self, exchange: Exchange, path: str, answer: Answer) -> None:
        self.path = path
        self.call_id = answer.call_id
        self.received = 0
        self.last = False
        self.closed = False
        """The view reads no more of it."""

        self._exchange = exchange
        self._ready: list[bytes] = []
        self._outcome = ""
        self._error = ""
        self.take_whole(answer)

    def take_whole(self, answer: Answer) -> None:
        """All that there is of it, from the beginning."""
        if not self.last:
            last = read_position(answer.position)[1]
            self.take(answer.body[self.received :], last, answer.outcome, error_of(answer.headers) if last else "")

    def take(self, data: bytes, last: bool, outcome: str, error: str) -> None:
        if data and not self.closed:
            self._ready.append(data)
        self.received += len(data)
        self.last, self._outcome, self._error = last, outcome, error

    def close(self) -> None:
        self.closed = True
        self._ready.clear()

    def is_over(self) -> bool:
        """Whether nothing of it will be read any more. A stream that was left by `break` often stands in a circle of references, as openai's
        does: then it is closed when that is collected."""
        for generation in (1, 2):
            if not self.last and not self.closed:
                gc.collect(generation)
        return self.last or self.closed

    def read(self, frame: Any) -> bytes:
        """Some of it; nothing at the end. Raises Truncated where it has broken off, and Handoff to leave the view. `frame`: of who reads."""
        while not self._ready:
            if self.closed:
                return b""
            if self.last:
                if self._outcome != COMPLETE:
                    raise Truncated(self._error)
                return b""
            wait_for_more(self._exchange, frame)
        return self._ready.pop(0)


class Reader:
    """Of one library's response object: when that is given up without being closed, the answer is not read to its end either."""

    def __init__(self, coming: Coming) -> None:
        self._coming = coming

    def read(self) -> bytes:
        return self._coming.read(sys._getframe(1))

    def __iter__(self) -> Iterator[bytes]:
        while True:
            data = self._coming.read(sys._getframe())
            if not data:
                return
            yield data

    def close(self) -> None:
        self._coming.close()

    __del__ = close


class Chunked(io.RawIOBase):
    """What http.client reads a response from: its head, and each piece as a chunk of its own, so that readers pass it on as it comes."""

    def __init__(self, head: bytes, reader: Reader) -> None:
        super().__init__()
        self._left = head
        self._reader: Optional[Reader] = reader

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left and self._reader is not None:
            try:
                data = self._reader.read()
            except Truncated:
                self._reader = None
                return 0  # there is no last chunk, and the library has an error for that
            self._left = b"%x\r\n%b\r\n" % (len(data), data)
            if not data:
                self._reader = None
        n = min(len(buffer), len(self._left))
        buffer[:n] = self._left[:n]
        self._left = self._left[n:]
        return n

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        super().close()


def opened(exchange: Exchange, path: str, answer: Answer) -> Answer:
    """A recorded answer for the library that asked for it: the rest of one that is given in pieces is read from `coming`."""
    position = answer.position
    if not position or (read_position(position)[1] and answer.outcome == COMPLETE):
        return answer
    exchange.coming = Coming(exchange, path, answer)
    answer.body = b""
    return replace(answer, coming=Reader(exchange.coming))


def wait_for_more(exchange: Exchange, frame: Any) -> None:
    """Returns when more of the open answer has come, or its end. Raises Handoff where the run cannot stand still: it is run again when all
    has come."""
    if exchange.dropped:
        raise Handoff()
    run = exchange.run
    why = run.why_not_read(frame) if run is not None else "nothing is suspended in this process"
    if why or exchange.parts is None:
        if exchange.parts is not None:
            exchange.parts.refuse_rest(why)
        observers.left(exchange)
        exchange.root.leave()
        raise Handoff()
    run.wait_for_more()
