"""requests: its calls are caught in urllib3, below it; here is what it adds to a response."""

from __future__ import annotations

import functools
from datetime import timedelta
from types import ModuleType
from typing import Any


def patch(sessions: ModuleType) -> None:
    """requests measures how long a response took, and that was no time: told, to the hooks too, is how long Tarry took."""
    original = sessions.dispatch_hook
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def dispatch_hook(key: str, hooks: Any, hook_data: Any, **kwargs: Any) -> Any:
        seconds = getattr(getattr(hook_data, "raw", None), "tarry_time", None)
        if key == "response" and isinstance(seconds, float):
            hook_data.elapsed = timedelta(seconds=seconds)
        return original(key, hooks, hook_data, **kwargs)

    dispatch_hook.__tarry__ = original  # type: ignore[attr-defined]
    sessions.dispatch_hook = dispatch_hook  # type: ignore[attr-defined]


def unpatch(sessions: ModuleType) -> None:
    sessions.dispatch_hook = getattr(sessions.dispatch_hook, "__tarry__", sessions.dispatch_hook)  # type: ignore[attr-defined]
