"""A stand-in for Tarry within the process: what a worker sees of it, for tests and for running without it.

It knows nothing of frameworks: `send` has the app answer an environ, `head_of` and `body_of` read the response, and `relayed` makes one
out of a handoff's headers and the upstream's answer."""

from __future__ import annotations

import io
import secrets
import time
from typing import Any, Callable, Optional
from urllib.parse import unquote, urlsplit

from ..format.message import Answer, Call, Headers, parse_calls
from ..runs.exchange import PROVED_KEY
from ..settings import settings

HOPS_MAX = 64
# Of a relayed response these are the upstream's, all others the handoff's.
_UPSTREAMS = ("content-type", "content-encoding", "content-length", "cache-control", "retry-after")
# Describe the client's body or its conditions, and do not hold for a continuation.
_OF_THE_BODY = (
    "CONTENT_TYPE",
    "HTTP_CONTENT_",
    "HTTP_IF_",
    "HTTP_RANGE",
    "HTTP_EXPECT",
    "HTTP_TRAILER",
    "HTTP_TRANSFER_ENCODING",
)


class StandIn:
    """`calls`, `batches` and `hops` tell of the last request; `notified` of the continuations after a relay."""

    features = "relay, resume, replay, notify, on-error, keep-alive"
    secret: Optional[str] = None
    """The workers' secret; None for the one that they are set to."""

    def __init__(self, origins: Optional[list[str]] = None, **limits: int) -> None:
        self.origins = origins or []
        self.limits = {"max_hops": HOPS_MAX, "max_calls": 64, "replay_body": 10 << 20, "call": 32 << 20, "state": 8000, **limits}
        self.calls: list[Call] = []
        self.batches: list[list[Call]] = []
        """The calls, by handoff."""
        self.hops = 0
        self.notified: list[Any] = []
        """The responses to notifies."""

    def answer(self, call: Call) -> Answer:
        raise NotImplementedError

    def new_id(self) -> str:
        return secrets.token_hex(8)

    def keep_cookies(self, response: Any, cookies: list[str]) -> None:
        """Adds to the final response what handoffs before it have set, and it does not."""

    def exchange(
        self,
        environ: dict[str, Any],
        body: Optional[bytes],
        send: Callable[[dict[str, Any]], Any],
        head_of: Callable[[Any], tuple[int, Headers]],
        body_of: Callable[[Any], bytes],
        relayed: Callable[[Any, Headers, Answer, Callable[[Answer, str], None]], Any],
    ) -> Any:
        """Sends the request and, as often as the app hands off, what follows; returns the final response. Without `body` the environ's own is
        sent, and there can be no replay."""
        self.calls, self.batches, self.hops, self.notified = [], [], 0, []
        cookies: dict[str, str] = {}
        ids = {"HTTP_TARRY_EXCHANGE": self.new_id(), "HTTP_TARRY_STARTED": f"{time.time():.3f}"}
        record = b""
        visit = {**environ, **ids, **self._visit("request", "")}
        if body is not None:
            visit.update({"CONTENT_LENGTH": str(len(body)), "wsgi.input": io.BytesIO(body)})
        while True:
            response = send(visit)
            self.hops += 1
            status, headers = head_of(response)
            found = {name.lower(): value for name, value in headers}
            if "tarry-then" not in found or not 200 <= status < 300:
                for name, _ in _cookies(headers):
                    cookies.pop(name, None)
                if cookies:
                    self.keep_cookies(response, list(cookies.values()))
                return response
            cookies.update(_cookies(headers))
            if self.hops >= self.limits["max_hops"]:
                raise AssertionError(f"handed off at hop {self.hops - 1}, which is the last one allowed")
            then, _, path = found["tarry-then"].partition(" ")
            state = found.get("tarry-state", "")
            batch = parse_calls(body_of(response))
            self.batches.append([call for _, call in batch])
            self.calls += self.batches[-1]
            answers = [(call_id, self.answer(call)) for call_id, call in batch]
            if then == "replay":
                assert body is not None
                record += _enclose(answers)
                visit = {**environ, **ids, **self._visit("replay", state), "HTTP_TARRY_BODY_LENGTH": str(len(body))}
                visit.update({"CONTENT_LENGTH": str(len(body) + len(record)), "wsgi.input": io.BytesIO(body + record)})
                continue
            if then == "relay":  # its body may still be on its way
                answer = answers[0][1]
                if "tarry-on-error" not in found or 200 <= answer.status < 300:
                    notify = found.get("tarry-notify", "")

                    def ended(whole: Answer, outcome: str) -> None:
                        if notify:
                            sent = {
                                **self._continued(environ, ids, "notify", notify, state, encode_answer(whole, "0")),
                                "HTTP_TARRY_OUTCOME": outcome,
                            }
                            self.notified.append(send(sent))

                    kept = [("Set-Cookie", value) for value in cookies.values()]
                    return relayed(response, [h for h in headers if h[0].lower() != "set-cookie"] + kept, answer, ended)
                path = found["tarry-on-error"]
            visit = self._continued(environ, ids, "resume", path, state, _enclose(answers))

    def _continued(
        self, environ: dict[str, Any], ids: dict[str, str], kind: str, path: str, state: str, enclosed: bytes
    ) -> dict[str, Any]:
        visit = {name: value for name, value in environ.items() if not name.startswith(_OF_THE_BODY)}
        parts = urlsplit(path)
        script = environ.get("SCRIPT_NAME", "")
        info = unquote(parts.path, "latin-1")
        visit.update(ids)
        visit.update(self._visit(kind, state))
        visit["REQUEST_METHOD"] = "POST"
        visit["PATH_INFO"] = info[len(script) :] if script and info.startswith(script) else info
        visit["QUERY_STRING"] = parts.query
        visit["CONTENT_TYPE"] = "application/http; msgtype=response"
        visit["CONTENT_LENGTH"] = str(len(enclosed))
        visit["wsgi.input"] = io.BytesIO(enclosed)
        return visit

    def _visit(self, kind: str, state: str) -> dict[str, Any]:
        headers: dict[str, Any] = {
            PROVED_KEY: True,
            "HTTP_TARRY_VERSION": "1",
            "HTTP_TARRY_FEATURES": self.features,
            "HTTP_TARRY_HOP": str(self.hops),
            "HTTP_TARRY_KIND": kind,
            "HTTP_TARRY_LIMITS": ", ".join(f"{name.replace('_', '-')}={value}" for name, value in self.limits.items()),
            "HTTP_TARRY_ORIGINS": ", ".join(self.origins),
        }
        if state:
            headers["HTTP_TARRY_STATE"] = state
        secret = settings.secret if self.secret is None else self.secret
        if secret:
            headers["HTTP_TARRY_AUTH"] = secret
        return headers


def _cookies(headers: Headers) -> list[tuple[str, str]]:
    """Name and whole value of each Set-Cookie."""
    return [(value.split("=", 1)[0].strip(), value) for name, value in headers if name.lower() == "set-cookie"]


def relayed_headers(handoff: Headers, answer: Answer) -> Headers:
    """The headers of a response that is relayed."""
    kept = [(n, v) for n, v in handoff if n.lower() not in _UPSTREAMS and not n.lower().startswith("tarry-")]
    return kept + [(n, v) for n, v in answer.headers if n.lower() in _UPSTREAMS]


def _enclose(answers: list[tuple[str, Answer]]) -> bytes:
    return b"".join(encode_answer(answer, call_id) for call_id, answer in answers)


def encode_answer(answer: Answer, call_id: str) -> bytes:
    headers = [(n, v) for n, v in answer.headers if n.lower() != "content-length"]
    headers += [
        ("Content-Length", str(len(answer.body))),
        ("Tarry-Call-Id", call_id),
        ("Tarry-Attempts", str(answer.attempts)),
        ("Tarry-Time", f"{answer.time:.3f}"),
    ]
    head = f"HTTP/1.1 {answer.status} {answer.reason}\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers)
    return head.encode("latin-1") + b"\r\n" + answer.body
