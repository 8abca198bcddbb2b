"""aiohttp, whose calls are made directly."""

from __future__ import annotations

from types import ModuleType
from typing import Any
from urllib.parse import urljoin

from .direct import before, undo


def patch(aiohttp: ModuleType) -> None:
    before(aiohttp.ClientSession, "_request", _url, "aiohttp")


def unpatch(aiohttp: ModuleType) -> None:
    undo(aiohttp.ClientSession, "_request")


def _url(session: Any, args: Any, kwargs: Any) -> str:
    given = str(kwargs.get("str_or_url") or kwargs.get("url") or (args[1] if len(args) > 1 else ""))
    return urljoin(str(getattr(session, "_base_url", None) or ""), given)
