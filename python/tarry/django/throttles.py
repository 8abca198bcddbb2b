"""DRF's rate throttles count a request once, however often its view is run: what has counted it on an earlier run lets it pass."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from ..common.importing import when_imported
from ..runs.exchange import current


def count_once() -> None:
    """As soon as DRF is imported, if ever; to call it again does no harm."""
    when_imported("rest_framework.throttling", _patch)


def _patch(throttling: ModuleType) -> None:
    original = throttling.SimpleRateThrottle.allow_request
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def allow_request(self: Any, request: Any, view: Any) -> Any:
        exchange = current()
        if exchange is None:
            return original(self, request, view)
        name = f"throttle {type(self).__module__}.{type(self).__qualname__}"
        if name in exchange.state.once:
            return True
        allowed = original(self, request, view)
        if allowed and not exchange.direct:
            exchange.state.once[name] = True
        return allowed

    allow_request.__tarry__ = original  # type: ignore[attr-defined]
    throttling.SimpleRateThrottle.allow_request = allow_request
