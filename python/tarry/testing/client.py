"""Runs handoffs in tests, with canned answers and without a proxy.

    from tarry.test import Client          # Django's test client, with Tarry in front

    client = Client(answers={"https://api.openai.com/": {"id": "x", "choices": […]}})
    response = client.post("/chat/", {"text": "hi"})
    assert client.hops == 2 and len(client.calls) == 1

`answers` is a function of the call, a list to be used up in order, a dict from the beginnings of URLs, or Recorded(file). An answer is an
`Answer`, a tuple (status, body) or (status, headers, body), or a body alone: bytes, text, or what becomes JSON. A test must
have called tarry.patch_all(), as wsgi.py does."""

from __future__ import annotations

import io
import json
from http.client import responses as reasons
from typing import Any, Callable, Optional, Union
from urllib.parse import unquote, urlsplit

from ..alone.stand_in import StandIn, relayed_headers
from ..format.message import Answer, Call, Headers, origin_of

Answers = Union[Callable[[Call], Any], list[Any], dict[str, Any]]


class FakeTarry(StandIn):
    """Tarry with canned answers."""

    def __init__(self, answers: Answers, origins: Optional[list[str]] = None, **limits: int) -> None:
        known = [origin_of(url) for url in answers] if isinstance(answers, dict) else getattr(answers, "origins", [])
        super().__init__(origins or known, **limits)
        self.answers = answers

    def answer(self, call: Call) -> Answer:
        if origin_of(call.url) not in self.origins:
            raise AssertionError(f"the view called {call.url}, which is no origin of this client")
        answers = self.answers
        if callable(answers):
            return canned(answers(call))
        if isinstance(answers, list):
            if not answers:
                raise AssertionError(f"the view called {call.url}, and all answers are used up")
            return canned(answers.pop(0))
        for start in sorted(answers, key=len, reverse=True):
            if call.url.startswith(start):
                return canned(answers[start])
        raise AssertionError(f"the view called {call.url}, and no answer begins so")


def canned(answer: Any) -> Answer:
    """An Answer out of its short forms."""
    if isinstance(answer, Answer):
        return answer
    status, headers, body = 200, None, answer
    if isinstance(answer, tuple):
        status, body = answer[0], answer[-1]
        headers = answer[1] if len(answer) == 3 else None
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
        headers = {"Content-Type": "application/json"} if headers is None else headers
    elif isinstance(body, str) and headers is None:
        headers = {"Content-Type": "text/plain; charset=utf-8"}
    data = body if isinstance(body, bytes) else body.encode()
    fields = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    return Answer(status, reasons.get(status, ""), fields, data)


class Response:
    """What a WSGI app answered."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def header(self, name: str) -> Optional[str]:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def json(self) -> Any:
        return json.loads(self.body)


class WSGIClient(FakeTarry):
    """For an app that is no Django project: app is what tarry.wsgi() returned."""

    def __init__(self, app: Any, answers: Answers, origins: Optional[list[str]] = None, **limits: int) -> None:
        super().__init__(answers, origins, **limits)
        self.app = app

    def get(self, url: str, headers: Optional[dict[str, str]] = None) -> Response:
        return self.request("GET", url, headers=headers)

    def post(self, url: str, body: bytes = b"", headers: Optional[dict[str, str]] = None) -> Response:
        return self.request("POST", url, body, headers)

    def request(self, method: str, url: str, body: bytes = b"", headers: Optional[dict[str, str]] = None) -> Response:
        parts = urlsplit(url)
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(parts.path, "latin-1"),
            "QUERY_STRING": parts.query,
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        for name, value in (headers or {}).items():
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        response: Response = self.exchange(environ, body, self._send, lambda r: (r.status, r.headers), lambda r: r.body, _relayed)
        return response

    def keep_cookies(self, response: Response, cookies: list[str]) -> None:
        response.headers = [*response.headers, *[("Set-Cookie", cookie) for cookie in cookies]]

    def _send(self, environ: dict[str, Any]) -> Response:
        head: list[Any] = []
        written: list[bytes] = []

        def start_response(status: str, headers: Headers, exc_info: Any = None) -> Any:
            head[:] = [int(status.split()[0]), headers]
            return written.append

        body = self.app(environ, start_response)
        try:
            data = b"".join(body)
        finally:
            if hasattr(body, "close"):
                body.close()
        return Response(head[0], head[1], b"".join(written) + data)


def _relayed(response: Response, headers: Headers, answer: Answer, ended: Callable[[Answer, str], None]) -> Response:
    ended(answer, "complete")
    return Response(answer.status, relayed_headers(headers, answer), answer.body)
