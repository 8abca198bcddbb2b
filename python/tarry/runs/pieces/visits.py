"""The visit that brings the pieces of all streams of a process, and a replay of a stream where nothing is suspended."""

from __future__ import annotations

from contextvars import Context, copy_context
from typing import Any, Iterable, Iterator

from ...common import notices
from ...format.message import Headers
from ...format.parts import RESPONSES, Piece, chunk, read_pieces, trailer
from .. import suspended
from ..exchange import Exchange
from ..suspended import counts, table
from ..whole import App, StartResponse
from .response import Parts

_CHUNKED = "Transfer-Encoding: chunked"
_NOT_HERE = b"HTTP/1.1 409 Conflict\r\nTarry-Then: whole\r\nContent-Length: 0\r\n\r\n"
_TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 22\r\n\r\nInternal Server Error\n"


def serve(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Each piece goes to its run; what the runs give for their clients goes out at once."""
    pieces = list(read_pieces(environ["wsgi.input"]))
    start_response("200 OK", [("Content-Type", RESPONSES)])
    return _responses(pieces)


def _responses(pieces: list[Piece]) -> Iterator[bytes]:
    for piece in pieces:
        if piece.outcome == "cancelled" and not piece.position:
            _tell(piece)
            yield _TAKEN
        else:
            yield from _response(piece)


def _tell(piece: Piece) -> None:
    """The client has left."""
    from .run import leave

    hop = table.hops.get(piece.exchange, -1)
    if hop in (piece.hop, piece.hop + 1):
        run: Any = table.take(piece.exchange, hop)
        leave(run)


def _response(piece: Piece) -> Iterator[bytes]:
    run: Any = table.runs.get((piece.exchange, piece.hop))
    if run is None or not hasattr(run, "fits") or not run.fits(piece):
        counts["lost"] += 1
        table.drop(piece.exchange, "its piece does not fit")
        yield _NOT_HERE
        return
    table.take(piece.exchange, piece.hop)
    counts["continued"] += 1
    try:
        found = run.take(piece)
    except Exception:
        notices.log.exception("a view failed before its response began (exchange %s)", piece.exchange)
        yield _FAILED
        return
    if hasattr(found, "body"):
        yield from _whole(found.status, found.fields, found.body)
        return
    visit = run.visit(found)
    status, fields = run.head()
    head = _head(status, fields, _CHUNKED)
    try:
        for data in visit:
            yield head + data
            head = b""
    finally:
        visit.close()


def _whole(status: str, fields: Iterable[tuple[str, str]], body: Any) -> Iterator[bytes]:
    """A response that is not in parts, enclosed."""
    fields = [(name, value) for name, value in fields if name.lower() not in ("content-length", "transfer-encoding")]
    try:
        if isinstance(body, (list, tuple)):
            data = b"".join(body)
            yield _head(status, fields, f"Content-Length: {len(data)}") + data
            return
        yield _head(status, fields, _CHUNKED)
        for data in body:
            if data:
                yield chunk(data)
        yield trailer([])
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()


def _head(status: str, fields: Iterable[tuple[str, str]], framing: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", framing, *(f"{name}: {value}" for name, value in fields), "", ""]).encode("latin-1")


# Where nothing is suspended


def run_again(exchange: Exchange, environ: dict[str, Any], app: App, start_response: StartResponse) -> Iterable[bytes]:
    """Runs the view with what there is of the answers; what its client has already is left out."""
    parts = Parts(exchange, environ, app)
    context = copy_context()
    chunks = parts.run()
    first = context.run(next, chunks, None)
    if first is None and parts.body is not None:
        start_response(*parts.head)
        return suspended.in_context(context, parts.body, environ)
    start_response(*_head_of(parts))
    return _Chunks(context, chunks, first, parts)


def _head_of(parts: Parts) -> tuple[str, Headers]:
    if parts.exchange.sent or not parts.head:
        return "200 OK", [("Cache-Control", "no-store"), ("Tarry-Then", "trailer")]
    fields = [(name, value) for name, value in parts.fields if name.lower() not in ("content-length", "tarry-then")]
    return parts.head[0], [*fields, ("Tarry-Then", "trailer")]


class _Chunks:
    """The response of such a run."""

    def __init__(self, context: Context, chunks: Any, first: Any, parts: Parts) -> None:
        self._context = context
        self._chunks = chunks
        self._next = first
        self._parts = parts
        self._over = False

    def __iter__(self) -> "_Chunks":
        return self

    def __next__(self) -> bytes:
        if self._over:
            raise StopIteration
        found, self._next = self._next, None
        if found is None:
            found = self._context.run(next, self._chunks, None)
        if found is not None:
            return chunk(found)
        self._over = True
        return trailer(*self._parts.trailer)

    def close(self) -> None:
        self._context.run(self._chunks.close)
