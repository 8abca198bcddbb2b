"""http.client, and urllib.request above it: what needs no library at all.

Patched are HTTPConnection.request and getresponse. Code that writes its requests piece by piece (putrequest, putheader) is
not caught: it is seen, and the view's calls are direct from there on."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Optional

from ..format.failures import REFUSED, SLOW, SLOW_CONNECT, TERMINATED, kind_of
from ..format.message import Answer, Call
from ..runs.exchange import outside
from ..runs.intercept import answer_to, wanted
from .plain import plain_response, read_body


def patch(http_client: ModuleType) -> None:
    connection_class = http_client.HTTPConnection
    original_request, original_getresponse = connection_class.request, connection_class.getresponse
    if hasattr(original_request, "__tarry__"):
        return

    @functools.wraps(original_request)
    def request(self: Any, method: str, url: str, body: Any = None, headers: Any = {}, *, encode_chunked: bool = False) -> None:
        target = _absolute(http_client, self, url)
        self._tarry_answer = None
        if not wanted(target, method):
            return original_request(self, method, url, body, headers, encode_chunked=encode_chunked)  # type: ignore[no-any-return]
        body, data = read_body(body)
        fields = [(str(n), v.decode("latin-1") if isinstance(v, bytes) else str(v)) for n, v in headers.items()]
        answer = answer_to(Call(method.upper(), target, fields, data, _timeout(self)))
        if answer is None:
            with outside():
                return original_request(self, method, url, body, headers, encode_chunked=encode_chunked)  # type: ignore[no-any-return]
        if kind_of(answer) == REFUSED:
            raise ConnectionRefusedError(f"Tarry: {answer.tarry_error}")
        if kind_of(answer) == SLOW_CONNECT:
            raise TimeoutError(f"Tarry: {answer.tarry_error}")
        self._tarry_answer = (answer, method)

    @functools.wraps(original_getresponse)
    def getresponse(self: Any) -> Any:
        recorded = getattr(self, "_tarry_answer", None)
        if recorded is None:
            return original_getresponse(self)
        self._tarry_answer = None
        return _response(http_client, *recorded)

    request.__tarry__ = original_request  # type: ignore[attr-defined]
    getresponse.__tarry__ = original_getresponse  # type: ignore[attr-defined]
    connection_class.request = request
    connection_class.getresponse = getresponse


def unpatch(http_client: ModuleType) -> None:
    connection_class = http_client.HTTPConnection
    for name in ("request", "getresponse"):
        patched = getattr(connection_class, name)
        setattr(connection_class, name, getattr(patched, "__tarry__", patched))


def _response(http_client: ModuleType, answer: Answer, method: str) -> Any:
    if kind_of(answer) == SLOW:
        raise TimeoutError(f"Tarry: {answer.tarry_error}")
    if kind_of(answer) == TERMINATED:
        raise http_client.RemoteDisconnected(f"Tarry: {answer.tarry_error}")
    return plain_response(answer, method)


def _absolute(http_client: ModuleType, connection: Any, url: str) -> str:
    """A request through an HTTP proxy has the absolute URL already; one through a tunnel has the tunnel's end."""
    if "://" in url.split("?", 1)[0]:
        return url
    secure = isinstance(connection, http_client.HTTPSConnection)
    host, port = connection.host, connection.port
    if getattr(connection, "_tunnel_host", None):
        host, port = connection._tunnel_host, connection._tunnel_port
    name = f"[{host}]" if ":" in host else host
    suffix = "" if port in (None, 443 if secure else 80) else f":{port}"
    return f"{'https' if secure else 'http'}://{name}{suffix}{url}"


def _timeout(connection: Any) -> Optional[float]:
    timeout = connection.timeout
    return float(timeout) if isinstance(timeout, (int, float)) and timeout > 0 else None
