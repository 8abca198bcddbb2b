"""What the transports over http.client have in common: request bodies of all kinds, and responses over recorded bytes."""

from __future__ import annotations

import io
from http.client import HTTPResponse
from typing import Any

from ..format.message import Answer


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

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


def plain_response(answer: Answer, method: str) -> HTTPResponse:
    """http.client's own response."""
    response = HTTPResponse(_Socket(answer.encode()), method=method)  # type: ignore[arg-type]
    response.begin()
    return response
