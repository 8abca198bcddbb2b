"""The body of the request: counted as the app reads it, and for a replay cut from the recorded answers behind it."""

from __future__ import annotations

import io
import tempfile
from typing import Any, BinaryIO, cast

from ..errors import BadRecord
from .message import Answer, read_answers

MEMORY_MAX = 1 << 20
_PIECE = 1 << 16


class Source(io.RawIOBase):
    """wsgi.input with an end: reads no further than the body, and can read the rest of it away.

    Of the server's stream only read(n) is used, as not every server's readline() keeps the line's end or knows a limit."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        super().__init__()
        self._stream = stream
        self._left = length
        self.length = length

    @classmethod
    def of_request(cls, environ: dict[str, Any]) -> "Source":
        """Stands in for wsgi.input from here on."""
        length = environ.get("CONTENT_LENGTH") or "0"
        source = cls(environ["wsgi.input"], int(length) if length.isdigit() else 0)
        if source.length:
            environ["wsgi.input"] = source.buffered()
        return source

    def buffered(self) -> BinaryIO:
        """The stream that others read it by."""
        return io.BufferedReader(self, min(_PIECE, max(self._left, 1)))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(min(len(buffer), self._left)) if self._left else b""
        self._left = self._left - len(data) if data else 0
        buffer[: len(data)] = data
        return len(data)

    def keep(self) -> None:
        """Reads the rest of the body from the server now, for the app to read later: its run is being suspended."""
        if self._left > 0:
            self._stream, self._left = _spooled(self._stream, self._left)

    def drain(self) -> None:
        """A worker that answers with unread data resets the connection, and the answer may be lost with it."""
        while self._left > 0 and self.read(_PIECE):
            pass


def split_replay(environ: dict[str, Any]) -> tuple[Source, list[Answer]]:
    """The first Tarry-Body-Length bytes become the app's body, the rest is the record."""
    total = int(environ.get("CONTENT_LENGTH") or 0)
    length = int(environ.get("HTTP_TARRY_BODY_LENGTH") or 0)
    if length > total:
        raise BadRecord("a replay's body is shorter than its Tarry-Body-Length")
    whole = Source(environ["wsgi.input"], total)
    stream = whole.buffered()
    kept = _keep(stream, length)
    answers = list(read_answers(stream))
    whole.drain()
    environ["wsgi.input"] = kept
    environ["CONTENT_LENGTH"] = str(length) if length else ""
    source = Source(io.BytesIO(), 0)  # nothing of it is still to come
    source.length = length
    return source, answers


def _keep(source: BinaryIO, length: int) -> BinaryIO:
    spool, found = _spooled(source, length)
    if found < length:
        raise BadRecord("a replay's body ends too early")
    return spool


def _spooled(source: BinaryIO, length: int) -> tuple[BinaryIO, int]:
    """What there is of so many bytes, in memory or in a file, and how many they are."""
    spool = io.BytesIO() if length <= MEMORY_MAX else cast(BinaryIO, tempfile.TemporaryFile())
    left = length
    while left:
        piece = source.read(min(left, _PIECE))
        if not piece:
            break
        spool.write(piece)
        left -= len(piece)
    spool.seek(0)
    return spool, length - left
