"""Libraries whose calls cannot be handed off: aiohttp, grpc, websockets. Their calls are made directly and hold the worker; if they go
to an origin that Tarry could have called, that is said, and what follows is made directly too."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Callable
from urllib.parse import urljoin

from ..runs.intercept import note_direct


def patch_aiohttp(aiohttp: ModuleType) -> None:
    _before(aiohttp.ClientSession, "_request", _aiohttp_url, "aiohttp")


def unpatch_aiohttp(aiohttp: ModuleType) -> None:
    _undo(aiohttp.ClientSession, "_request")


def _aiohttp_url(session: Any, args: Any, kwargs: Any) -> str:
    given = str(kwargs.get("str_or_url") or kwargs.get("url") or (args[1] if len(args) > 1 else ""))
    return urljoin(str(getattr(session, "_base_url", None) or ""), given)


def patch_grpc(channel: ModuleType) -> None:
    for cls in _grpc_calls(channel):
        for name in ("__call__", "with_call", "future"):
            if hasattr(cls, name):
                _before(cls, name, _grpc_url, "grpc")


def unpatch_grpc(channel: ModuleType) -> None:
    for cls in _grpc_calls(channel):
        for name in ("__call__", "with_call", "future"):
            _undo(cls, name)


def _grpc_calls(channel: ModuleType) -> list[Any]:
    return [
        cls
        for name, cls in vars(channel).items()
        if isinstance(cls, type) and name.endswith("MultiCallable") and cls.__module__ == channel.__name__
    ]


def _grpc_url(call: Any, args: Any, kwargs: Any) -> str:
    target = call._channel.target()
    name = target.decode() if isinstance(target, bytes) else str(target)
    return "https://" + name.rsplit("/", 1)[-1]  # dns:///host:443


def patch_websockets(client: ModuleType) -> None:
    original = client.connect
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def connect(*args: Any, **kwargs: Any) -> Any:
        url = str(args[0] if args else kwargs.get("uri", ""))
        note_direct("http" + url[2:] if url.startswith("ws") else url, "websockets")
        return original(*args, **kwargs)

    connect.__tarry__ = original  # type: ignore[attr-defined]
    client.connect = connect  # type: ignore[attr-defined]


def unpatch_websockets(client: ModuleType) -> None:
    client.connect = getattr(client.connect, "__tarry__", client.connect)  # type: ignore[attr-defined]


def _before(cls: Any, name: str, url_of: Callable[[Any, Any, Any], str], library: str) -> None:
    """Has note_direct() called before the method."""
    original = getattr(cls, name)
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        note_direct(url_of(self, args, kwargs), library)
        return original(self, *args, **kwargs)

    method.__tarry__ = original  # type: ignore[attr-defined]
    setattr(cls, name, method)


def _undo(cls: Any, name: str) -> None:
    original = getattr(getattr(cls, name, None), "__tarry__", None)
    if original is not None:
        setattr(cls, name, original)
