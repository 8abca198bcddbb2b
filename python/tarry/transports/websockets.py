"""websockets, whose connections are made directly."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from ..runs.intercept import note_direct


def patch(client: ModuleType) -> None:
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


def unpatch(client: ModuleType) -> None:
    client.connect = getattr(client.connect, "__tarry__", client.connect)  # type: ignore[attr-defined]
