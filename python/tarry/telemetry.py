"""For logs, metrics and traces of the app: which exchange a line or a span belongs to, and which runs of a view ended in a handoff."""

from __future__ import annotations

import logging
from typing import Any

from .runs.exchange import current
from .runs.observers import HANDOFF


class LogFilter(logging.Filter):
    """Gives each record `tarry_exchange` (the exchange's id, which Tarry's own logs have too) and `tarry_run` (which run of the view this
    is, from 1). Outside of requests that came through Tarry they are "-" and 0. For Django:

        LOGGING = {"filters": {"tarry": {"()": "tarry.LogFilter"}}, "handlers": {"console": {"filters": ["tarry"], …}}, …}

    Put it on handlers: a filter of a logger does not see the records of the loggers below it."""

    def filter(self, record: logging.LogRecord) -> bool:
        exchange = current()
        record.tarry_exchange = exchange.id if exchange is not None else "-"
        record.tarry_run = exchange.runs if exchange is not None else 0
        return True


class SpanFilter:
    """A span processor of OpenTelemetry around another one, which does not get the spans of runs that ended in a handoff:

        provider.add_span_processor(tarry.SpanFilter(BatchSpanProcessor(exporter)))

    What then remains of a request is the span of the run that answered it. Spans within a run that was left are passed on: what they tell
    of was done."""

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._processor.on_start(span, parent_context)

    def on_end(self, span: Any) -> None:
        if not (span.attributes or {}).get(HANDOFF):
            self._processor.on_end(span)

    def _on_ending(self, span: Any) -> None:
        ending = getattr(self._processor, "_on_ending", None)
        if ending is not None:
            ending(span)

    def shutdown(self) -> None:
        self._processor.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return bool(self._processor.force_flush(timeout_millis))
