"""Sessions that a view gives a new key, as login() and logout() do, before a call: the old one stays until the view has answered.

The store of a session that is not in the database's transaction (a cache, a file) would otherwise have lost the visitor's session when
the view is run again, or the worker dies."""

from __future__ import annotations

from typing import Any

from django.conf import settings


def keep_old(request: Any) -> None:
    """From now on the request's session deletes nothing; drop() or restore() follows."""
    session = getattr(request, "session", None)
    if session is None or not hasattr(session, "delete") or hasattr(session, "_tarry_deleted"):
        return
    if type(session).__module__.endswith(".signed_cookies"):
        return  # the browser has all of it
    deleted: list[str] = []

    def delete(session_key: Any = None) -> None:
        key = session_key or session.session_key
        if key:
            deleted.append(key)

    session._tarry_deleted = deleted
    session.delete = delete


def drop_old(request: Any) -> None:
    """The view has answered: what it deleted goes."""
    for session, deleted in _kept(request):
        for key in deleted:
            session.delete(key)


def restore(request: Any) -> None:
    """The view is run again: what it made in the place of the old session goes."""
    for session, _ in _kept(request):
        made = session.session_key
        if made and made != request.COOKIES.get(settings.SESSION_COOKIE_NAME):
            session.delete(made)


def _kept(request: Any) -> list[tuple[Any, list[str]]]:
    session = getattr(request, "session", None)
    deleted = vars(session).pop("_tarry_deleted", None) if hasattr(session, "__dict__") else None
    if deleted is None:
        return []
    vars(session).pop("delete", None)
    return [(session, deleted)]
