"""Clients with connections of their own: what they send cannot be caught, but that they connect to a declared origin can be seen where they
look its name up, or by a patch of the client. The view's calls are direct from there on, so that nothing is paid for twice."""

from __future__ import annotations

import functools
import socket
from types import ModuleType
from typing import Any

from ..runs.exchange import current
from ..runs.intercept import note_direct

_PORTS = {443: "https", 80: "http"}


def patch() -> None:
    original = socket.getaddrinfo
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if current() is not None and isinstance(host, str):
            for url in _urls(host, port):
                note_direct(url, "a client with a connection of its own")
        return original(host, port, *args, **kwargs)

    getaddrinfo.__tarry__ = original  # type: ignore[attr-defined]
    socket.getaddrinfo = getaddrinfo


def unpatch() -> None:
    socket.getaddrinfo = getattr(socket.getaddrinfo, "__tarry__", socket.getaddrinfo)


def _urls(host: str, port: Any) -> list[str]:
    """The origins that a connection to that port may mean."""
    number = int(port) if str(port).isdigit() else {"https": 443, "http": 80}.get(str(port), 0)
    name = f"[{host}]" if ":" in host else host
    if number in _PORTS:
        return [f"{_PORTS[number]}://{name}/"]
    return [f"{scheme}://{name}:{number}/" for scheme in ("https", "http")] if number else []


def patch_curl_cffi(module: ModuleType) -> None:
    for name in ("Session", "AsyncSession"):
        client = getattr(module, name, None)
        if client is None or hasattr(client.request, "__tarry__"):
            continue
        _patch_request(client)


def _patch_request(client: Any) -> None:
    original = client.request

    @functools.wraps(original)
    def request(self: Any, method: Any, url: Any, *args: Any, **kwargs: Any) -> Any:
        if current() is not None:
            note_direct(str(url), "curl_cffi")
        return original(self, method, url, *args, **kwargs)

    request.__tarry__ = original  # type: ignore[attr-defined]
    client.request = request


def unpatch_curl_cffi(module: ModuleType) -> None:
    for name in ("Session", "AsyncSession"):
        client = getattr(module, name, None)
        if client is not None:
            client.request = getattr(client.request, "__tarry__", client.request)


def patch_pycurl(module: Any) -> None:
    """pycurl.Curl is written in C: in its place comes a class that remembers the URL."""
    original = module.Curl
    if hasattr(original, "__tarry__"):
        return

    class Curl(original):  # type: ignore[misc, valid-type]
        __tarry__ = original

        def __getattribute__(self, name: str) -> Any:
            # pycurl finds its own methods before those of a subclass.
            found = original.__getattribute__(self, name)
            if name == "setopt":
                return functools.partial(_setopt, self, found, module.URL)
            if name == "perform":
                return functools.partial(_perform, self, found)
            return found

    module.Curl = Curl


def _setopt(curl: Any, setopt: Any, url_option: int, option: int, value: Any = None) -> Any:
    if option == url_option:
        curl._tarry_url = value.decode() if isinstance(value, bytes) else str(value)
    return setopt(option, value)


def _perform(curl: Any, perform: Any) -> Any:
    url = getattr(curl, "_tarry_url", "")
    if current() is not None and url:
        note_direct(url, "pycurl")
    return perform()


def unpatch_pycurl(module: Any) -> None:
    module.Curl = getattr(module.Curl, "__tarry__", module.Curl)
