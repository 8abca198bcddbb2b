"""patch_all(): catches calls where the libraries make them, from the moment they are imported."""

from __future__ import annotations

import sys
from typing import Any, Callable

from . import on_http_client, on_httpx, on_others, on_sleep, on_urllib3, server
from .importing import Patch, when_imported
from .settings import settings

_LIBRARIES: dict[str, tuple[Patch, Callable[..., None]]] = {
    "http.client": (on_http_client.patch, on_http_client.unpatch),
    "urllib3": (on_urllib3.patch, on_urllib3.unpatch),
    "httpx": (on_httpx.patch, on_httpx.unpatch),
    "httpx2": (on_httpx.patch, on_httpx.unpatch),
    "requests.sessions": (on_urllib3.patch_requests, on_urllib3.unpatch_requests),
    "aiohttp": (on_others.patch_aiohttp, on_others.unpatch_aiohttp),
    "grpc._channel": (on_others.patch_grpc, on_others.unpatch_grpc),
    "websockets.sync.client": (on_others.patch_websockets, on_others.unpatch_websockets),
}

_waiting: set[str] = set()


def patch_all(**options: Any) -> None:
    """Call it first in wsgi.py, before the app is imported. Options are the fields of tarry.settings.Settings.

    Requests that did not come through Tarry, and everything outside of a request (commands, task queues, tests), make their
    calls as before. To call it again does no harm."""
    settings.update(options)
    on_sleep.patch()
    server.look()
    for name, (patch, _) in _LIBRARIES.items():
        if name in sys.modules or name not in _waiting:
            _waiting.add(name)
            when_imported(name, patch)


def unpatch_all() -> None:
    """Undoes patch_all() for the libraries that are loaded: for tests."""
    on_sleep.unpatch()
    for name, (_, unpatch) in _LIBRARIES.items():
        module = sys.modules.get(name)
        if module is not None:
            unpatch(module)
