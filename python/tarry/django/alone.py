"""Without Tarry and without tarry.wsgi() around the project, as under Django's own test client: the middleware makes the calls of relay() and
resume() itself, and calls the continuation."""

from __future__ import annotations

from typing import Any, Callable

from django.core.handlers.wsgi import WSGIRequest
from django.http import StreamingHttpResponse

from ..alone.local import Direct
from ..alone.stand_in import relayed_headers
from ..format.message import Answer, Headers
from ..handoffs import made_alone
from ..runs.exchange import ENVIRON_KEY, of

# What belongs to one body, and is not the continuation's.
_OF_THE_REQUEST = frozenset(
    [
        "_body",
        "_current_scheme_host",
        "_data",
        "_files",
        "_post",
        "_read_started",
        "_stream",
        "_upload_handlers",
        "accepted_types",
    ]
    + ["GET", "headers", "resolver_match"]
)


def serve(get_response: Callable[[Any], Any], request: Any) -> Any:
    with made_alone() as alone:
        response = get_response(request)
    if not alone.id or not response.has_header("Tarry-Then"):
        return response
    return _Alone(get_response, request, response, alone.id).finish()


class _Alone(Direct):
    """The continuation is a request of the same client, with all that the middleware outside have found out about it: session, user."""

    def __init__(self, get_response: Callable[[Any], Any], request: Any, first: Any, exchange_id: str) -> None:
        super().__init__()
        self._get_response = get_response
        self._request = request
        self._first = first
        self._id = exchange_id

    def finish(self) -> Any:
        environ = {n: v for n, v in self._request.META.items() if not n.startswith("HTTP_TARRY_") and n != ENVIRON_KEY}
        return self.exchange(environ, None, self._send, head_of, lambda r: r.content, relayed)

    def new_id(self) -> str:
        return self._id

    def keep_cookies(self, response: Any, cookies: list[str]) -> None:
        for cookie in cookies:
            response.cookies.load(cookie)

    def _send(self, environ: dict[str, Any]) -> Any:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        exchange = of(environ)
        assert exchange is not None
        request = WSGIRequest(environ)
        for name, value in vars(self._request).items():
            if name not in _OF_THE_REQUEST:
                vars(request).setdefault(name, value)
        with exchange.active():
            return self._get_response(request)


def head_of(response: Any) -> tuple[int, Headers]:
    cookies = [("Set-Cookie", morsel.OutputString()) for morsel in response.cookies.values()]
    return response.status_code, [*response.items(), *cookies]


def relayed(response: Any, headers: Headers, answer: Answer, ended: Callable[[Answer, str], None]) -> Any:
    final = StreamingHttpResponse(answer.chunks(ended), status=answer.status)  # type: ignore[attr-defined]
    for name, value in relayed_headers(headers, answer):
        if name == "Set-Cookie":
            final.cookies.load(value)
        else:
            final[name] = value
    return final
