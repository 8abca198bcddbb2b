"""grpc, whose calls are made directly."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .direct import before, undo


def patch(channel: ModuleType) -> None:
    for cls in _calls(channel):
        for name in ("__call__", "with_call", "future"):
            if hasattr(cls, name):
                before(cls, name, _url, "grpc")


def unpatch(channel: ModuleType) -> None:
    for cls in _calls(channel):
        for name in ("__call__", "with_call", "future"):
            undo(cls, name)


def _calls(channel: ModuleType) -> list[Any]:
    return [
        cls
        for name, cls in vars(channel).items()
        if isinstance(cls, type) and name.endswith("MultiCallable") and cls.__module__ == channel.__name__
    ]


def _url(call: Any, args: Any, kwargs: Any) -> str:
    target = call._channel.target()
    name = target.decode() if isinstance(target, bytes) else str(target)
    return "https://" + name.rsplit("/", 1)[-1]  # dns:///host:443
