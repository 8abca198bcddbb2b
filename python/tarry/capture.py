"""Calls as objects: what an SDK would have sent, or what httpx, requests and urllib have for a request."""

from __future__ import annotations

from contextvars import Token
from typing import Any, Optional

from .errors import TarryError
from .format.message import Call
from .patch import patch_all
from .runs import capturing


class Captured(BaseException):
    """Leaves the block of capture() where the call would have been made."""


class Capture:
    """`with tarry.capture() as captured: client.chat.completions.create(…)`: the call is not made, and is captured.call.

    What stands in the block after the call is not run."""

    def __init__(self) -> None:
        self._call: Optional[Call] = None
        self._token: Optional[Token[Any]] = None

    @property
    def call(self) -> Call:
        if self._call is None:
            raise TarryError(
                "nothing was called in the block of tarry.capture(), or not by a library that tarry.patch_all() knows"
            )
        return self._call

    def _take(self, call: Call) -> None:
        self._call = call
        raise Captured()

    def __enter__(self) -> "Capture":
        patch_all()
        self._token = capturing.begin(self._take)
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> bool:
        assert self._token is not None
        capturing.end(self._token)
        return isinstance(error, Captured)


def capture() -> Capture:
    """`with tarry.capture() as call:` around a call of an SDK: nothing is sent, what follows in the block is not run, and `call` is what
    tarry.relay() and tarry.resume() take. `call.call` is the Call itself; it raises TarryError if nothing was called in the block."""
    return Capture()


def as_call(request: Any) -> Call:
    """A Call out of a Call, a Capture, or a request object of httpx, requests or urllib.request."""
    if isinstance(request, Call):
        return request
    if isinstance(request, Capture):
        return request.call
    if hasattr(request, "get_full_url"):  # urllib.request.Request
        return Call(request.get_method(), request.get_full_url(), list(request.header_items()), request.data or b"")
    if hasattr(request, "prepare") and not hasattr(request, "body"):  # requests.Request
        request = request.prepare()
    if hasattr(request, "path_url"):  # requests.PreparedRequest
        body = request.body or b""
        return Call(request.method, request.url, list(request.headers.items()), body.encode() if isinstance(body, str) else body)
    if hasattr(request, "stream") and hasattr(request, "read"):  # httpx.Request
        headers = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in request.headers.raw]
        return Call(request.method, str(request.url), headers, request.read())
    raise TypeError(f"no call can be made of {type(request).__name__}")
