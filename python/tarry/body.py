"""The body of the request: counted as the app reads it, and for a replay cut from the recorded answers behind it."""

from __future__ import annotations

import io
import tempfile
from typing import Any, BinaryIO, Iterator, cast

from .errors import BadRecord
from .message import Answer, read_answers

MEMORY_MAX = 1 << 20
_PIECE = 1 << 16


class Source:
    """wsgi.input with an end: reads no further than the body, and can read the rest of it away."""

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self._stream = stream
        self._left = length
        self.length = length

    @classmethod
    def of_request(cls, environ: dict[str, Any]) -> "Source":
        """Stands in for wsgi.input from here on."""
        length = environ.get("CONTENT_LENGTH") or "0"
        source = cls(environ["wsgi.input"], int(length) if length.isdigit() else 0)
        if source.length:
            environ["wsgi.input"] = source
        return source

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(self._bounded(size))
        self._left -= len(data)
        return data

    def readline(self, size: int = -1) -> bytes:
        data = self._stream.readline(self._bounded(size))
        self._left -= len(data)
        return data

    def readlines(self, hint: int = -1) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            line = self.readline()
            if not line:
                return
            yield line

    def drain(self) -> None:
        """A worker that answers with unread data resets the connection, and the answer may be lost with it."""
        while self._left > 0 and self.read(_PIECE):
            pass

    def _bounded(self, size: int) -> int:
        return self._left if size is None or size < 0 else min(size, self._left)


def split_replay(environ: dict[str, Any]) -> tuple[Source, list[Answer]]:
    """The first Tarry-Body-Length bytes become the app's body, the rest is the record."""
    total = int(environ.get("CONTENT_LENGTH") or 0)
    length = int(environ.get("HTTP_TARRY_BODY_LENGTH") or 0)
    if length > total:
        raise BadRecord("a replay's body is shorter than its Tarry-Body-Length")
    whole = Source(environ["wsgi.input"], total)
    kept = _keep(whole, length)
    answers = list(read_answers(cast(BinaryIO, whole)))
    whole.drain()
    environ["wsgi.input"] = kept
    environ["CONTENT_LENGTH"] = str(length) if length else ""
    return Source(io.BytesIO(), length), answers


def _keep(source: Source, length: int) -> BinaryIO:
    spool = io.BytesIO() if length <= MEMORY_MAX else cast(BinaryIO, tempfile.TemporaryFile())
    left = length
    while left:
        piece = source.read(min(left, _PIECE))
        if not piece:
            raise BadRecord("a replay's body ends too early")
        spool.write(piece)
        left -= len(piece)
    spool.seek(0)
    return spool
