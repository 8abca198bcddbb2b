"""What the transports over http.client have in common: request bodies of all kinds, and responses over recorded bytes."""

from __future__ import annotations

import io
from http.client import HTTPResponse
from typing import Any

from ..format.message import Answer
from ..runs.pieces.coming import Chunked


_BUFFER = 1 << 16


def read_body(body: Any) -> tuple[Any, bytes]:
    """The body for the original, which may be what was read of it, and its bytes."""
    if body is None:
        return None, b""
    if isinstance(body, str):
        return body, body.encode("utf-8")
    if hasattr(body, "read"):
        body = body.read()
        data = body.encode("utf-8") if isinstance(body, str) else bytes(body)
        return data, data
    if isinstance(body, (bytes, bytearray, memoryview)):
        return body, bytes(body)
    data = b"".join(piece.encode("utf-8") if isinstance(piece, str) else bytes(piece) for piece in body)
    return data, data


class _Socket:
    """As much of a socket as http.client needs to read a response."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file

    def makefile(self, mode: str) -> io.BufferedIOBase:
        return self._file


def plain_response(answer: Answer, method: str) -> HTTPResponse:
    """http.client's own response. One that is still coming is in chunks, as it would be without Tarry."""
    if answer.coming is None:
        file: io.BufferedIOBase = io.BytesIO(answer.encode())
    else:
        answer.headers = [*answer.headers, ("Transfer-Encoding", "chunked")]
        file = io.BufferedReader(Chunked(answer.encode(), answer.coming), _BUFFER)
    response = HTTPResponse(_Socket(file), method=method)  # type: ignore[arg-type]
    response.begin()
    return response
