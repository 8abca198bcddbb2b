"""patch_all(): catches calls where the libraries make them, from the moment they are imported."""

from __future__ import annotations

import sys
from typing import Any, Callable

from .common import notices
from .common.importing import Patch, when_imported
from .runs import buffers, observers, pools, suspended
from .settings import settings
from .transports import aiohttp, grpc, http_client, httpx, requests, sleep, sockets, threads, urllib3, websockets

LIBRARIES: dict[str, tuple[Patch, Callable[..., None]]] = {
    "http.client": (http_client.patch, http_client.unpatch),
    "urllib3": (urllib3.patch, urllib3.unpatch),
    "httpx": (httpx.patch, httpx.unpatch),
    "httpx2": (httpx.patch, httpx.unpatch),
    "requests.sessions": (requests.patch, requests.unpatch),
    "aiohttp": (aiohttp.patch, aiohttp.unpatch),
    "grpc._channel": (grpc.patch, grpc.unpatch),
    "curl_cffi.requests": (sockets.patch_curl_cffi, sockets.unpatch_curl_cffi),
    "pycurl": (sockets.patch_pycurl, sockets.unpatch_pycurl),
    "websockets.sync.client": (websockets.patch, websockets.unpatch),
}

_others: dict[str, Patch] = {"sqlalchemy": pools.watch}

_waiting: set[str] = set()


def patch_all(**options: Any) -> None:
    """Call it first in wsgi.py, before the app is imported. Options are the fields of tarry.settings.Settings, which says what each means
    and its unit; `python -m tarry settings` lists them.

    Requests that did not come through Tarry, and everything outside of a request (commands, task queues, tests), make their
    calls as before. To call it again does no harm.

    Raises TypeError for an option that there is not, and ValueError for a value that it cannot have."""
    settings.update(options)
    if settings.suspends and suspended.missing():
        notices.warn_once(f"views are run again with each answer, and not suspended: {suspended.missing()}")
    sleep.patch()
    sockets.patch()
    threads.patch()
    buffers.look()
    observers.watch()
    for name, patch in [*[(name, patch) for name, (patch, _) in LIBRARIES.items()], *_others.items()]:
        if name in sys.modules or name not in _waiting:
            _waiting.add(name)
            when_imported(name, patch)


def unpatch_all() -> None:
    """Undoes patch_all() for the libraries that are loaded: for tests."""
    sleep.unpatch()
    sockets.unpatch()
    threads.unpatch()
    for name, (_, unpatch) in LIBRARIES.items():
        module = sys.modules.get(name)
        if module is not None:
            unpatch(module)
