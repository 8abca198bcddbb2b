"""The other half of relay() and resume(): the view that gets the answers."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import Any, BinaryIO, Callable, cast

from .common import notices
from .errors import TarryError
from .format.message import Answer, read_answers
from .handoffs import is_django, unsign
from .runs.exchange import of


class NotResumed(TarryError):
    """The request is no resume or notify of Tarry's."""


@dataclass
class Resumed:
    """What a continuation view is about."""

    kind: str
    """"resume" or "notify"."""

    outcome: str
    """Of a notify: "complete", "truncated", "cancelled" or "failed"."""

    answers: list[Answer]
    state: Any


def resumed(environ: dict[str, Any]) -> Resumed:
    """The answers and the state of a request, in Flask `tarry.resumed(flask.request.environ)`. Raises NotResumed for what Tarry did not send: such
    a request must be refused."""
    exchange = of(environ)
    if exchange is None or exchange.kind not in ("resume", "notify"):
        raise NotResumed("this address is for Tarry's continuations only")
    if not exchange.proved and not _is_debug():
        # Whoever reaches the worker could claim any answer.
        notices.warn_once(
            "a continuation is refused, because nothing proves that it comes from Tarry: set secret_file in Tarry's conf, and"
            " TARRY_SECRET_FILE in the environment of the app"
        )
        raise NotResumed("the worker has no secret of Tarry's")
    state = unsign(exchange, exchange.raw_state) if exchange.raw_state else None
    answers = list(read_answers(cast(BinaryIO, environ["wsgi.input"])))
    return Resumed(exchange.kind, environ.get("HTTP_TARRY_OUTCOME", ""), answers, state)


def _is_debug() -> bool:
    """Whether Django or Flask runs in debug mode."""
    if is_django():
        return bool(sys.modules["django.conf"].settings.DEBUG)
    flask = sys.modules.get("flask")
    return flask is not None and bool(flask.has_app_context()) and bool(flask.current_app.debug)


def continuation(view: Callable[..., Any]) -> Callable[..., Any]:
    """For a Django view, or the as_view() of a class or a DRF view: `request.tarry` is then a Resumed.

    Everything that is not a resume or notify of Tarry's gets 403. These have no CSRF token, and need none: they are exempt from its check,
    DRF's included, and nothing else is. Its form, DRF's request.data too, is empty: the answers are in `request.tarry`."""
    from django.http import HttpResponseForbidden

    @functools.wraps(view)
    def wrapper(request: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            request.tarry = resumed(request.META)
        except TarryError as e:
            return HttpResponseForbidden(str(e), content_type="text/plain")
        request._dont_enforce_csrf_checks = True
        # The body has been read. Django REST framework would have no parser for its type, and a form it never was.
        request.META["CONTENT_LENGTH"] = "0"
        return view(request, *args, **kwargs)

    wrapper.csrf_exempt = True  # type: ignore[attr-defined]
    return wrapper
