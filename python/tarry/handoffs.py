"""The explicit API: a view's response that names the calls, and says who answers the client when they are complete.

    return tarry.relay(call, notify="/chat/save/")                 # the upstream does, as it streams
    return tarry.resume([call, …], then="finish", state={"id": 1})  # another view does, see tarry.continuation

Without Tarry in front the wrapper tarry.wsgi() makes the calls itself, or Django's middleware; where neither is there, the response is a 501."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import sys
from contextvars import ContextVar
from http.client import responses as reasons
from typing import Any, Iterable, Iterator, Optional

from .capture import as_call
from .errors import TarryError
from .format.message import HANDOFF_STATUS, HANDOFF_TYPE, Call, Headers, encode_handoff, origin_of
from .runs.exchange import Exchange, current
from .settings import settings


def relay(
    request: Any,
    *,
    notify: Optional[str] = None,
    on_error: Optional[str] = None,
    keep_alive: Optional[str] = None,
    on_disconnect: Optional[str] = None,
    state: Any = None,
) -> Any:
    """A response that makes the upstream's response to `request` the client's, as it arrives.

    notify: where the whole of it goes afterwards; on_error: who answers if the upstream gives no 2xx response. Both are a path or the
    name of a Django URL, of a continuation view, which also gets `state`. keep_alive: "sse" or "space"; on_disconnect: "cancel" or "finish".

    Raises TarryError if the conf has no upstream for the call, or the state is larger than `state_max` bytes."""
    fields = [("Tarry-Then", "relay")]
    for name, target in (("Tarry-Notify", notify), ("Tarry-On-Error", on_error)):
        if target is not None:
            fields.append((name, _path(target)))
    return _handoff("relay", fields, [request], keep_alive, on_disconnect, state)


def resume(
    calls: Iterable[Any],
    then: str,
    *,
    state: Any = None,
    keep_alive: Optional[str] = None,
    on_disconnect: Optional[str] = None,
) -> Any:
    """A response that has the calls made side by side, and then the continuation view `then` (a path or the name of a Django URL) called with
    the answers and with `state`, which is JSON, signed, and not secret. keep_alive and on_disconnect, and what is raised: as for relay()."""
    return _handoff("resume", [("Tarry-Then", f"resume {_path(then)}")], list(calls), keep_alive, on_disconnect, state)


def _handoff(
    feature: str, fields: Headers, calls: list[Any], keep_alive: Optional[str], on_disconnect: Optional[str], state: Any
) -> Any:
    exchange = current() or _made_alone()
    if exchange is None:
        return _make_response(
            501,
            [("Content-Type", "text/plain")],
            b"This view needs Tarry in front of the app, or the app wrapped by tarry.wsgi().\n",
        )
    # Whoever reads the answer is not the library that the call was taken from, and may not know all that it could unpack: of a relay
    # it is the client, and nobody knows which; of a resume it is this package.
    made = [_accepting(call, "identity" if feature == "relay" else "gzip") for call in calls]
    _check_origins(exchange, made)
    if feature not in exchange.features:
        raise TarryError(f"this Tarry does no {feature}")
    for name, value in (("Tarry-Keep-Alive", keep_alive), ("Tarry-On-Disconnect", on_disconnect)):
        if value is not None:
            fields.append((name, value))
    if state is not None:
        fields.append(("Tarry-State", _checked(exchange, sign(exchange, state))))
    body = encode_handoff((str(n), call) for n, call in enumerate(made))
    if exchange.source is not None:
        exchange.source.drain()
    headers = [
        ("Content-Type", HANDOFF_TYPE),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store, private, max-age=0"),
    ]
    return _make_response(int(HANDOFF_STATUS[:3]), headers + fields, body)


def _accepting(given: Any, coding: str) -> Call:
    """The call, with that Accept-Encoding in place of a library's; one that was written by hand says what its author meant."""
    call = as_call(given)
    if isinstance(given, Call):
        return call
    headers = [(n, v) for n, v in call.headers if n.lower() != "accept-encoding"]
    return Call(call.method, call.url, [*headers, ("Accept-Encoding", coding)], call.body, call.timeout)


class Alone:
    """Whether a view that runs without Tarry has made a handoff: the id that its state is signed for."""

    id = ""


_alone: ContextVar[Optional[Alone]] = ContextVar("tarry_alone", default=None)


@contextlib.contextmanager
def made_alone() -> Iterator[Alone]:
    """In here relay() and resume() make handoffs without Tarry; the caller sees to them."""
    alone = Alone()
    token = _alone.set(alone)
    try:
        yield alone
    finally:
        _alone.reset(token)


def _made_alone() -> Optional[Exchange]:
    alone = _alone.get()
    if alone is None or settings.required:
        return None
    alone.id = alone.id or secrets.token_hex(8)
    return Exchange.alone(alone.id)


def _check_origins(exchange: Exchange, calls: list[Call]) -> None:
    """Tarry would refuse them, and say why in its log only."""
    if not exchange.origins:
        return  # without Tarry, any
    for call in calls:
        origin = origin_of(call.url)
        if origin not in exchange.origins and not origin.startswith("tarry://"):
            raise TarryError(
                f"Tarry's conf has no upstream with the origin {origin or call.url!r}; it has {', '.join(sorted(exchange.origins))}"
            )


def _checked(exchange: Exchange, text: str) -> str:
    if len(text) > exchange.limits.state:
        raise TarryError(
            f"the state takes {len(text)} bytes, and {exchange.limits.state} are allowed: keep it in the database, and its key here"
        )
    return text


def _path(target: str) -> str:
    if target.startswith("/"):
        return target
    from django.urls import reverse

    return str(reverse(target))


def sign(exchange: Exchange, state: Any) -> str:
    """JSON with a signature that holds for this exchange alone."""
    data = base64.urlsafe_b64encode(json.dumps(state, separators=(",", ":")).encode())
    return f"{data.decode()}.{_signature(exchange, data)}"


def unsign(exchange: Exchange, text: str) -> Any:
    """The state that sign() was given; raises TarryError if it is not one of this exchange."""
    data, _, signature = text.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(exchange, data.encode()).encode()):
        raise TarryError("the state's signature is wrong")
    return json.loads(base64.urlsafe_b64decode(data))


def _signature(exchange: Exchange, data: bytes) -> str:
    key = settings.state_key or _django_key() or settings.secret
    if not key:
        raise TarryError(
            "to sign a state, patch_all(state_key=…) must name a key that all workers share (Django's SECRET_KEY is used where there is one)"
        )
    return hmac.new(f"tarry state {key}".encode(), exchange.id.encode() + b" " + data, hashlib.sha256).hexdigest()


def _django_key() -> str:
    return str(sys.modules["django.conf"].settings.SECRET_KEY) if is_django() else ""


def is_django() -> bool:
    """Whether this process runs a Django project."""
    conf = sys.modules.get("django.conf")
    return conf is not None and bool(conf.settings.configured)


class WSGIResponse:
    """A response that is a WSGI app: what plain WSGI returns the call of, and Flask takes from a view as it is."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        start_response(f"{self.status} {reasons.get(self.status, '')}", self.headers)
        return [self.body]


def _make_response(status: int, headers: Headers, body: bytes) -> Any:
    if not is_django():
        return WSGIResponse(status, headers, body)
    from django.http import HttpResponse

    response = HttpResponse(body, status=status)
    for name, value in headers:
        response[name] = value
    return response
