"""httpx, and httpx2, which has the same shape: the transports of the sync and the async client.

Transports that wrap or derive from them pass through here; a MockTransport of a test does not."""

from __future__ import annotations

import functools
import ssl
from datetime import timedelta
from types import ModuleType
from typing import Any, Iterator, Optional

from ..format.failures import REFUSED, SLOW, SLOW_CONNECT, TERMINATED, kind_of
from ..format.message import Answer, Call
from ..runs.exchange import current
from ..runs.intercept import answer_to, answer_to_async, wanted
from ..runs.pieces.coming import Reader, Truncated


def patch(httpx: ModuleType) -> None:
    _patch_sync(httpx)
    _patch_async(httpx)
    _count(httpx.HTTPTransport)
    _count(httpx.AsyncHTTPTransport)


def unpatch(httpx: ModuleType) -> None:
    for cls, name in ((httpx.HTTPTransport, "handle_request"), (httpx.AsyncHTTPTransport, "handle_async_request")):
        for each in (name, "__init__"):
            patched = getattr(cls, each)
            setattr(cls, each, getattr(patched, "__tarry__", patched))


def _count(transport: Any) -> None:
    """Transports that are made while a view runs, each with the CA certificates of its own."""
    original = transport.__init__
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        exchange = current()
        if exchange is not None and not isinstance(kwargs.get("verify", args[0] if args else True), ssl.SSLContext):
            exchange.clients += 1
        original(self, *args, **kwargs)

    __init__.__tarry__ = original  # type: ignore[attr-defined]
    transport.__init__ = __init__


def _patch_sync(httpx: ModuleType) -> None:
    original = httpx.HTTPTransport.handle_request
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def handle_request(self: Any, request: Any) -> Any:
        if wanted(str(request.url), request.method):
            request.read()
            answer = answer_to(_call(request))
            if answer is not None:
                return _respond(httpx, request, answer)
        return original(self, request)

    handle_request.__tarry__ = original  # type: ignore[attr-defined]
    httpx.HTTPTransport.handle_request = handle_request


def _patch_async(httpx: ModuleType) -> None:
    original = httpx.AsyncHTTPTransport.handle_async_request
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        if wanted(str(request.url), request.method):
            await request.aread()
            answer = await answer_to_async(_call(request))
            if answer is not None:
                return _respond(httpx, request, answer)
        return await original(self, request)

    handle_async_request.__tarry__ = original  # type: ignore[attr-defined]
    httpx.AsyncHTTPTransport.handle_async_request = handle_async_request


def _call(request: Any) -> Call:
    headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in request.headers.raw]
    return Call(request.method, str(request.url), headers, request.content, _timeout(request))


def _timeout(request: Any) -> Optional[float]:
    read = (request.extensions.get("timeout") or {}).get("read")
    return float(read) if read else None


def _respond(httpx: ModuleType, request: Any, answer: Answer) -> Any:
    kind = kind_of(answer)
    if kind:
        errors = {
            REFUSED: httpx.ConnectError,
            SLOW_CONNECT: httpx.ConnectTimeout,
            SLOW: httpx.ReadTimeout,
            TERMINATED: httpx.RemoteProtocolError,
        }
        raise errors[kind](f"Tarry: {answer.tarry_error}", request=request)
    stream = _stream_class(httpx)(answer.body) if answer.coming is None else _coming_class(httpx)(answer.coming)
    response = httpx.Response(
        status_code=answer.status,
        headers=[(n.encode("latin-1"), v.encode("latin-1")) for n, v in answer.as_headers()],
        stream=stream,
        extensions={
            "http_version": b"HTTP/1.1",
            "reason_phrase": answer.reason.encode("latin-1"),
            "tarry": {"attempts": answer.attempts, "time": answer.time},
        },
    )
    stream.tells = (response, timedelta(seconds=answer.time))
    return response


@functools.lru_cache(maxsize=None)
def _coming_class(httpx: ModuleType) -> Any:
    class Stream(httpx.SyncByteStream):  # type: ignore[misc, name-defined]
        """A body that is still coming."""

        tells: Any = None

        def __init__(self, reader: Reader) -> None:
            self._reader = reader

        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from self._reader
            except Truncated as why:
                slow = "timeout" in str(why)
                raise (httpx.ReadTimeout if slow else httpx.RemoteProtocolError)(
                    f"Tarry: the response broke off{f' ({why})' if str(why) else ''}"
                ) from None

        def close(self) -> None:
            self._reader.close()

    return Stream


@functools.lru_cache(maxsize=None)
def _stream_class(httpx: ModuleType) -> Any:
    class Stream(httpx.ByteStream):  # type: ignore[misc, name-defined]
        """A recorded body. The client measures the time up to the stream's end, and that was none: told is how long Tarry took."""

        tells: Any = None

        def close(self) -> None:
            self._tell()

        async def aclose(self) -> None:
            self._tell()

        def _tell(self) -> None:
            if self.tells:
                response, response.elapsed = self.tells
                self.tells = None

    return Stream
