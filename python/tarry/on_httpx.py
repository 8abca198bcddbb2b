"""httpx, and httpx2, which has the same shape: the transports of the sync and the async client.

Transports that wrap or derive from them pass through here; a MockTransport of a test does not."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Optional

from .failures import REFUSED, SLOW, SLOW_CONNECT, TERMINATED, kind_of
from .intercept import answer_to, wanted
from .message import Answer, Call


def patch(httpx: ModuleType) -> None:
    _patch_sync(httpx)
    _patch_async(httpx)


def unpatch(httpx: ModuleType) -> None:
    for cls, name in ((httpx.HTTPTransport, "handle_request"), (httpx.AsyncHTTPTransport, "handle_async_request")):
        patched = getattr(cls, name)
        setattr(cls, name, getattr(patched, "__tarry__", patched))


def _patch_sync(httpx: ModuleType) -> None:
    original = httpx.HTTPTransport.handle_request
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def handle_request(self: Any, request: Any) -> Any:
        if wanted(str(request.url)):
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
        if wanted(str(request.url)):
            await request.aread()
            answer = answer_to(_call(request))
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
    return httpx.Response(
        status_code=answer.status,
        headers=[(n.encode("latin-1"), v.encode("latin-1")) for n, v in answer.as_headers()],
        stream=httpx.ByteStream(answer.body),
        extensions={
            "http_version": b"HTTP/1.1",
            "reason_phrase": answer.reason.encode("latin-1"),
            "tarry": {"attempts": answer.attempts, "time": answer.time},
        },
    )
