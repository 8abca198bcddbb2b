"""The middleware: innermost, so that all others see the handoff as the response that it is."""

from __future__ import annotations

import http.client
import weakref
from typing import Any, Callable, Iterator, Optional

from django.conf import settings as django_settings
from django.core.signals import request_started
from django.http import FileResponse, HttpResponse

from ..common import notices
from ..errors import Handoff
from ..format.message import HANDOFF_STATUS
from ..runs.exchange import ENVIRON_KEY, Exchange, of
from ..runs.intercept import note_effect
from ..settings import settings
from . import alone, changes, database, effects, sessions, suspension, throttles
from .store import SharedCache
from .undo import drop_conditions, undo_request

SETTINGS = {
    "TARRY_SECRET": "secret",
    "TARRY_STRICT": "strict",
    "TARRY_COMMITTED_WRITES": "committed_writes",
    "TARRY_ONCE_STORE": "once_store",
    "TARRY_REQUIRED": "required",
    "TARRY_RESUME": "resume",
    "TARRY_VIEWS": "views",
    "TARRY_LOST": "lost",
    "TARRY_ON_DISCONNECT": "on_disconnect",
    "TARRY_SUSPEND_MAX": "suspend_max",
    "TARRY_SUSPEND_SECONDS": "suspend_seconds",
    "TARRY_SUSPEND_MEMORY": "suspend_memory",
    "TARRY_STICKY_SECONDS": "sticky_seconds",
    "TARRY_RESCUE_SECONDS": "rescue_seconds",
}


def _read_exchange(sender: Any, environ: Optional[dict[str, Any]] = None, **kwargs: Any) -> None:
    """A replay's body must be cut off before Django makes its request object, or another middleware reads the form."""
    if environ is not None:
        environ["tarry.django"] = True
        of(environ)


class Middleware:
    """The last entry of MIDDLEWARE."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        settings.update(
            {field: getattr(django_settings, name) for name, field in SETTINGS.items() if hasattr(django_settings, name)}
        )
        if isinstance(settings.once_store, str):
            settings.once_store = SharedCache(settings.once_store)
        database.watch()
        effects.watch()
        changes.watch()
        suspension.guard()
        throttles.count_once()
        request_started.connect(_read_exchange, dispatch_uid="tarry")

    def __call__(self, request: Any) -> Any:
        exchange: Optional[Exchange] = request.META.get(ENVIRON_KEY)
        if exchange is None:
            return alone.serve(self.get_response, request)
        if not hasattr(http.client.HTTPConnection.request, "__tarry__"):
            notices.warn_once(
                "tarry.django.Middleware is installed, but tarry.patch_all() was not called: calls hold their worker. Call it first in"
                " wsgi.py, or start gunicorn with -c python:tarry.gunicorn"
            )
        with exchange.active():
            exchange.writes.clear()  # of other middleware: theirs to know
            sessions.keep_old(request)
            exchange.request = weakref.ref(request)
            left = False
            response: Any = None
            try:
                response = self.get_response(request)
                if _goes_in_parts(exchange, response):
                    return _in_parts(exchange, request, response)
                if _is_pulled(response):
                    _pull(exchange, response)
            except Handoff as handoff:
                handoff.__traceback__ = None  # its frames hold the bodies
                left = True
            if exchange.leaving:
                if not left and not getattr(response, "tarry_handoff", False):
                    _warn_swallowed(exchange)
                    _close(response)
                return response if getattr(response, "tarry_handoff", False) else self._handoff(exchange, request)
        if left:
            raise RuntimeError("a view was left for a handoff, and no call is pending")
        sessions.drop_old(request)
        if response.has_header("Tarry-Then"):
            drop_conditions(request)
        else:
            exchange.finished()
        return response

    def process_view(self, request: Any, view: Any, args: Any, kwargs: Any) -> None:
        exchange: Optional[Exchange] = request.META.get(ENVIRON_KEY)
        if exchange is not None:
            view = getattr(view, "view_class", None) or getattr(view, "cls", None) or view
            exchange.view = name_of(view)

    def process_exception(self, request: Any, exception: Exception) -> Any:
        """A view that made another exception of the handoff: before Django logs an error that is none."""
        exchange: Optional[Exchange] = request.META.get(ENVIRON_KEY)
        if exchange is None or not exchange.leaving:
            return None
        _warn_swallowed(exchange)
        return self._handoff(exchange, request)

    def _handoff(self, exchange: Exchange, request: Any) -> Any:
        sessions.restore(request)
        undo_request(request)
        headers, body = exchange.handoff()
        response = HttpResponse(body, status=int(HANDOFF_STATUS[:3]))
        for name, value in headers:
            response[name] = value
        response.tarry_handoff = True
        return response


def name_of(view: Any) -> str:
    """A view's name for messages. DRF makes a class of a function, and gives it the function's name, but not its qualified one."""
    qualified = str(getattr(view, "__qualname__", type(view).__qualname__))
    name = str(getattr(view, "__name__", qualified))
    return f"{view.__module__}.{qualified if qualified.endswith(name) else name}"


def _warn_swallowed(exchange: Exchange) -> None:
    notices.warn_once(
        f"{exchange.name} swallowed the handoff of a call (a bare except, or a retry on BaseException?): what it made of it is"
        " dropped, and it is run again with the answer. Catch Exception instead"
    )


def _is_pulled(response: Any) -> bool:
    return (
        getattr(response, "streaming", False)
        and not getattr(response, "is_async", False)
        and not isinstance(response, FileResponse)
    )


def _goes_in_parts(exchange: Exchange, response: Any) -> bool:
    """Its chunks go out one by one, and the view goes on between them: none is made before its time."""
    return (
        exchange.parts is not None
        and not exchange.leaving
        and _is_pulled(response)
        and not response.has_header("Content-Length")
        and exchange.mode in ("auto", "suspend")
    )


def _in_parts(exchange: Exchange, request: Any, response: Any) -> Any:
    if getattr(getattr(request, "session", None), "modified", False):
        note_effect("the session is saved before the response is made")

    def closed() -> None:
        if not exchange.leaving:
            sessions.drop_old(request)

    response._resource_closers.append(closed)
    return response


def _pull(exchange: Exchange, response: Any) -> None:
    """A generator that calls first and then yields works like a view: so its first chunk is made here."""
    chunks = iter(response.streaming_content)
    first = [chunk for _, chunk in zip(range(1), chunks)]
    response.streaming_content = _rest(exchange, first, chunks)


def _rest(exchange: Exchange, first: list[bytes], chunks: Iterator[bytes]) -> Iterator[bytes]:
    yield from first
    while True:
        exchange.began_response()
        with exchange.active():
            try:
                chunk = next(chunks)
            except StopIteration:
                return
        yield chunk


def _close(response: Any) -> None:
    """Frees what the dropped response holds, without the request_finished that Django sends for the one that is sent."""
    for closer in getattr(response, "_resource_closers", []):
        closer()
    if hasattr(response, "_resource_closers"):
        response._resource_closers.clear()
