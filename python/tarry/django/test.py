"""Django's test client with Tarry in front; see tarry.test."""

from __future__ import annotations

from typing import Any, Callable, Optional

from django.http import HttpResponse
from django.test import Client as DjangoClient

from ..alone.stand_in import relayed_headers
from ..format.message import Answer, Headers
from ..testing.client import Answers, FakeTarry
from .alone import head_of


class Client(FakeTarry, DjangoClient):
    """All that django.test.Client does; `answers` are those of the upstreams."""

    def __init__(
        self, answers: Answers, origins: Optional[list[str]] = None, limits: Optional[dict[str, int]] = None, **kwargs: Any
    ) -> None:
        FakeTarry.__init__(self, answers, origins, **(limits or {}))
        DjangoClient.__init__(self, **kwargs)

    def request(self, **request: Any) -> Any:
        if self.handler._middleware_chain is None:
            self.handler.load_middleware()  # reads the project's settings, the secret among them
        given = request.pop("wsgi.input", None)
        body = given.read() if given is not None else b""

        def send(environ: dict[str, Any]) -> Any:
            return DjangoClient.request(self, **environ)

        return self.exchange(request, body, send, head_of, _content, _relayed)

    def keep_cookies(self, response: Any, cookies: list[str]) -> None:
        for cookie in cookies:
            response.cookies.load(cookie)


def _content(response: Any) -> bytes:
    return bytes(response.content)


def _relayed(response: Any, headers: Headers, answer: Answer, ended: Callable[[Answer, str], None]) -> Any:
    ended(answer, "complete")
    final = HttpResponse(answer.body, status=answer.status)
    for name, value in relayed_headers(headers, answer):
        if name == "Set-Cookie":
            final.cookies.load(value)
        else:
            final[name] = value
    return final
