"""Without Tarry in front, as on a development server: tarry.wsgi() makes the calls of relay() and resume() itself, in the worker, and
calls the continuation in the same process. A relayed response is passed on as it arrives here too."""

from __future__ import annotations

import http.client
from typing import Any, Callable, Iterable, Iterator
from urllib.parse import urlsplit

from ..errors import TarryError
from ..format.message import Answer, Call, Headers
from ..runs.exchange import ENVIRON_KEY, outside
from .stand_in import StandIn, relayed_headers

_PIECE = 1 << 14
_TIMEOUT = 600.0


class Direct(StandIn):
    """Calls in a view's own code are made by its libraries as ever: no origin is handed off, and there is no replay."""

    features = "relay, resume, notify, on-error, keep-alive"

    def answer(self, call: Call) -> Answer:
        """The head, and a body that is read later: a relayed one as it arrives."""
        return _Arriving(call)


class Local(Direct):
    """For tarry.wsgi()."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        super().__init__()
        self.app = app

    def serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # Nothing of a client's may look as if it were Tarry's.
        given = {name: value for name, value in environ.items() if not name.startswith("HTTP_TARRY_") and name != ENVIRON_KEY}
        final: _Response = self.exchange(given, None, self._send, lambda r: (r.status, r.headers), _Response.whole, self._relayed)
        return final.serve(start_response)

    def keep_cookies(self, response: "_Response", cookies: list[str]) -> None:
        status, headers, *more = response.head
        response.head = (status, [*headers, *[("Set-Cookie", cookie) for cookie in cookies]], *more)

    def _send(self, environ: dict[str, Any]) -> "_Response":
        return _Response(self.app, environ)

    def _relayed(
        self, response: "_Response", headers: Headers, answer: Answer, ended: Callable[[Answer, str], None]
    ) -> "_Response":
        assert isinstance(answer, _Arriving)
        response.head = (f"{answer.status} {answer.reason}", relayed_headers(headers, answer))
        response.body = answer.chunks(ended)
        return response


def make(call: Call) -> Answer:
    """Makes the call here and now, and waits for all of the response; one with Proxy-Status stands for none."""
    arriving = _Arriving(call)
    try:
        body = arriving.body
    finally:
        arriving.close()
    return Answer(arriving.status, arriving.reason, arriving.headers, body)


class _Response:
    """What the app answers; its body is not touched before someone wants it."""

    def __init__(self, app: Callable[..., Iterable[bytes]], environ: dict[str, Any]) -> None:
        self.head: tuple[Any, ...] = ()
        self.written: list[bytes] = []
        self.body = app(environ, self._start)

    @property
    def status(self) -> int:
        return int(self.head[0].split()[0])

    @property
    def headers(self) -> Headers:
        return list(self.head[1])

    def _start(self, *head: Any) -> Callable[[bytes], None]:
        self.head = head
        return self.written.append

    def whole(self) -> bytes:
        try:
            return b"".join(self.written) + b"".join(self.body)
        finally:
            self.close()

    def serve(self, start_response: Any) -> Iterable[bytes]:
        write = start_response(*self.head)
        for data in self.written:
            write(data)
        return self.body

    def close(self) -> None:
        close = getattr(self.body, "close", None)
        if close is not None:
            close()


class _Arriving(Answer):
    """The answer to a call that is being made; reading `body` waits for all of it."""

    def __init__(self, call: Call) -> None:
        self._data: list[bytes] = []
        self._done = False
        with outside():
            try:
                self._open(call)
            except (OSError, http.client.HTTPException) as e:
                self._fail(e)

    def _open(self, call: Call) -> None:
        parts = urlsplit(call.url)
        if parts.scheme not in ("http", "https"):
            raise TarryError(
                f"{call.url} can be called by Tarry only, whose conf says what it is: without Tarry, give the origin itself"
            )
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.netloc, timeout=call.timeout or _TIMEOUT)
        headers = {
            n: v for n, v in call.headers if n.lower() not in ("host", "content-length", "connection", "transfer-encoding")
        }
        target = parts.path or "/"
        self._connection.request(call.method, f"{target}?{parts.query}" if parts.query else target, call.body or None, headers)
        response = self._connection.getresponse()
        self._response = response
        fields = [(n, v) for n, v in response.getheaders() if n.lower() not in ("connection", "keep-alive", "transfer-encoding")]
        self.status, self.reason, self.headers = response.status, response.reason, fields
        self.call_id, self.attempts, self.time = "", 1, 0.0

    def _fail(self, error: Exception) -> None:
        self.status, self.reason = 502, "Bad Gateway"
        self.headers = [("Content-Type", "application/problem+json"), ("Proxy-Status", "tarry; error=connection_refused")]
        self.call_id, self.attempts, self.time = "", 1, 0.0
        self._data = [b'{"title": "no response from the upstream", "status": 502}']
        self._done = True

    @property
    def body(self) -> bytes:  # type: ignore[override]
        for _ in self._pieces():
            pass
        return b"".join(self._data)

    def chunks(self, ended: Callable[[Answer, str], None]) -> Iterator[bytes]:
        """The body as it arrives; then the continuation is called."""
        outcome = "complete" if not self._done else "failed"
        yield from list(self._data)
        try:
            yield from self._pieces()
        except (OSError, http.client.HTTPException):
            outcome = "truncated"
        except GeneratorExit:
            outcome = "cancelled"
            raise
        finally:
            self._done = True
            self.close()
            ended(Answer(self.status, self.reason, self.headers, b"".join(self._data)), outcome)

    def _pieces(self) -> Iterator[bytes]:
        while not self._done:
            piece = self._response.read1(_PIECE)
            if not piece:
                self._done = True
                return
            self._data.append(piece)
            yield piece

    def close(self) -> None:
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()
