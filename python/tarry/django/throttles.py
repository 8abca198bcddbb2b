"""Throttles count a request once, however often its view is run: what has let it pass on an earlier run does so again.

The nth check of a run is the nth of the run before, so that one class checked twice counts twice. Caught are DRF's check of all
throttles of a view, custom ones too, and django-ratelimit."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from ..common.importing import when_imported
from ..runs.exchange import Exchange, current


def count_once() -> None:
    """As soon as the libraries are imported, if ever; to call it again does no harm."""
    when_imported("rest_framework.views", _patch_views)
    when_imported("django_ratelimit.core", _patch_ratelimit)


def _key(exchange: Exchange, name: str) -> str:
    with exchange.lock:
        count = exchange.counts.get(name, 0)
        exchange.counts[name] = count + 1
    return f"{name} {count}" if count else name


def _patch_views(views: ModuleType) -> None:
    original = views.APIView.check_throttles
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def check_throttles(self: Any, request: Any) -> Any:
        exchange = current()
        if exchange is None:
            return original(self, request)
        key = _key(exchange, f"throttles {type(self).__module__}.{type(self).__qualname__}")
        if key in exchange.state.once:
            return None
        original(self, request)  # raises Throttled
        if not exchange.direct:
            exchange.state.once[key] = True
        return None

    check_throttles.__tarry__ = original  # type: ignore[attr-defined]
    views.APIView.check_throttles = check_throttles


def _patch_ratelimit(core: ModuleType) -> None:
    original = core.get_usage
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def get_usage(request: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = current()
        if exchange is None or not kwargs.get("increment"):
            return original(request, *args, **kwargs)
        key = _key(exchange, f"ratelimit {kwargs.get('group') or ''}")
        if key in exchange.state.once:
            kwargs["increment"] = False
        usage = original(request, *args, **kwargs)
        if not exchange.direct and not (usage and usage.get("should_limit")):
            exchange.state.once[key] = True
        return usage

    get_usage.__tarry__ = original  # type: ignore[attr-defined]
    core.get_usage = get_usage  # type: ignore[attr-defined]
