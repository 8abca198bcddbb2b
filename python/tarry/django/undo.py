"""What a handed-off run of a view must not leave behind in session and messages: the next run does it again.

The handoff is a successful response to SessionMiddleware, which would save the session as far as the view had changed it."""

from __future__ import annotations

from typing import Any

from django.conf import settings


def undo_request(request: Any) -> None:
    _undo_session(request)
    _undo_messages(request)
    drop_conditions(request)


def _undo_session(request: Any) -> None:
    session = getattr(request, "session", None)
    if session is None or not hasattr(session, "modified"):
        return
    if "_session_cache" in vars(session):
        del session._session_cache
    # login() gives the session a new key: the browser must keep the one that the next run will be asked with.
    session._session_key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    session.modified = False


def _undo_messages(request: Any) -> None:
    if hasattr(request, "_messages"):
        del request._messages


def drop_conditions(request: Any) -> None:
    """No compression, no 304: the handoff goes to Tarry, not to the browser."""
    for name in [n for n in request.META if n == "HTTP_ACCEPT_ENCODING" or n.startswith("HTTP_IF_")]:
        del request.META[name]
    vars(request).pop("headers", None)  # a cached copy of META
