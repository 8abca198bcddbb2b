"""What OpenTelemetry and Sentry are told of a request: the exchange that it belongs to, which run of the view this is, and that a run has
ended in a handoff, and not in a response.

Where the view is suspended, a span that began inside of the run ends with the view. A run that is left for a call, and a span that
covers one visit only (of an instrumentation around tarry.wsgi()), are marked: neither is the request's success."""

from __future__ import annotations

import sys
import weakref
from types import ModuleType
from typing import Any, Callable, Optional

from ..common.importing import when_imported
from ..errors import Handoff
from ..format.message import Headers
from .exchange import RUN_KEY, Exchange, current

EXCHANGE, RUN, HANDOFF = "tarry.exchange", "tarry.run", "tarry.handoff"
"""The names of the attributes and tags."""

StartResponse = Callable[..., Any]

_provider: Any = None


def watch() -> None:
    """To call it again does no harm."""
    when_imported("sentry_sdk.scope", _watch_sentry)


def began(exchange: Exchange, environ: dict[str, Any], start_response: StartResponse) -> StartResponse:
    """A visit begins. Its start_response tells those that watch around the app how it has ended."""
    if "opentelemetry.sdk.trace" in sys.modules:
        _watch_opentelemetry()
    elif "sentry_sdk" not in sys.modules:
        return start_response
    span, transaction = _open_span(), _transaction()

    def start(status: str, headers: Headers, exc_info: Any = None) -> Any:
        left = any(name.lower() == "tarry-then" and value == "replay" for name, value in headers)
        if span is not None:
            _describe(span, exchange.id, environ[RUN_KEY])
            if left:
                span.set_attribute(HANDOFF, True)
        _tag(transaction, exchange.id, environ[RUN_KEY], left)
        return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

    return start


def left(exchange: Exchange) -> None:
    """The run is left, and the view is run again: called in the run."""
    spans, exchange.spans = exchange.spans, []
    for reference in spans:
        span = reference()
        if span is not None and span.is_recording():
            span.set_attribute(HANDOFF, True)
    _tag(_transaction(), exchange.id, exchange.runs, True)


# --- OpenTelemetry ---


def _watch_opentelemetry() -> None:
    """The provider that the process has by now."""
    global _provider
    api = sys.modules.get("opentelemetry.trace")
    provider: Any = api.get_tracer_provider() if api is not None else None
    if provider is not _provider and hasattr(provider, "add_span_processor"):
        _provider = provider
        provider.add_span_processor(_Describer())


class _Describer:
    """A span processor: each span of a run says whose it is."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        exchange = current()
        if exchange is None:
            return
        _describe(span, exchange.id, exchange.runs)
        if span.parent is None or span.parent.is_remote:
            exchange.spans.append(weakref.ref(span))

    def on_end(self, span: Any) -> None:
        pass

    def _on_ending(self, span: Any) -> None:
        pass

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


def _open_span() -> Any:
    """The span that is open around the app, if there is one."""
    api = sys.modules.get("opentelemetry.trace")
    span = api.get_current_span() if api is not None else None
    return span if span is not None and span.is_recording() else None


def _describe(span: Any, exchange: str, run: int) -> None:
    span.set_attribute(EXCHANGE, exchange)
    span.set_attribute(RUN, run)


# --- Sentry ---


def _watch_sentry(scope: ModuleType) -> None:
    if hasattr(scope, "add_global_event_processor"):
        scope.add_global_event_processor(_of_sentry)


def _of_sentry(event: Any, hint: Any) -> Any:
    """A run that is left is no error, and no transaction of its own. Other events say whose they are."""
    kind = (hint or {}).get("exc_info", (None,))[0]
    if isinstance(kind, type) and issubclass(kind, Handoff):
        return None
    tags = event.get("tags") or {}
    if event.get("type") == "transaction" and tags.get(HANDOFF):
        return None
    exchange = current()
    if exchange is not None:
        event["tags"] = {EXCHANGE: exchange.id, RUN: str(exchange.runs), **tags}
    return event


def _transaction() -> Optional[Any]:
    sdk = sys.modules.get("sentry_sdk")
    try:
        return sdk.get_current_scope().transaction if sdk is not None else None
    except AttributeError:  # of a version that has other names for it
        return None


def _tag(transaction: Any, exchange: str, run: int, left: bool) -> None:
    if hasattr(transaction, "set_tag"):
        transaction.set_tag(EXCHANGE, exchange)
        transaction.set_tag(RUN, str(run))
        if left:
            transaction.set_tag(HANDOFF, "yes")
