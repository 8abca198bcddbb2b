"""Handoffs as a worker writes them, and enclosed responses as it reads them."""

import gzip as gz
import json
import threading

from .http1 import BadMessage, Headers, STATUS_LINE, as_bytes, pairs, parse_head, write_head
from .server import Reply

REQUESTS = "application/http; msgtype=request"


def call(target, body=b"", method=None, headers=(), id=None, timeout=None, retries=None, length=True):
    """One enclosed request. `target` is absolute: a URL, or tarry://NAME/path."""
    body = as_bytes(body)
    method = method or ("POST" if body else "GET")
    fields = pairs(headers)
    if body and not any(n.lower() == "content-type" for n, _ in fields):
        fields.append(("Content-Type", "application/json"))
    if length and (body or method in ("POST", "PUT", "PATCH")):
        fields.append(("Content-Length", len(body)))
    for name, value in (("Tarry-Call-Id", id), ("Tarry-Timeout", timeout), ("Tarry-Retries", retries)):
        if value is not None:
            fields.append((name, str(value)))
    return write_head(f"{method} {target} HTTP/1.1", fields) + body


def handoff(then="relay", calls=(), state=None, notify=None, on_error=None, keep_alive=None, on_disconnect=None,
            headers=(), content_type=REQUESTS, status=200, gzip=False, framing="length"):
    """A worker's handoff as a Reply. `calls`: one or several of call(), or raw bytes."""
    body = as_bytes(calls) if isinstance(calls, (bytes, bytearray, str)) else b"".join(as_bytes(c) for c in calls)
    fields = []
    if content_type is not None:
        fields.append(("Content-Type", content_type))
    for name, value in (("Tarry-Then", then), ("Tarry-State", state), ("Tarry-Notify", notify),
                        ("Tarry-On-Error", on_error), ("Tarry-Keep-Alive", keep_alive),
                        ("Tarry-On-Disconnect", on_disconnect)):
        if value is not None:
            fields.append((name, value))
    if gzip:
        body = gz.compress(body)
        fields.append(("Content-Encoding", "gzip"))
    return Reply(status, body, fields + pairs(headers), framing=framing)


def by_kind(request=None, resume=None, replay=None, notify=None):
    """A worker's handler that answers by Tarry-Kind. Each value is a Reply, a Raw or bytes, a function(request, conn), or
    a list of these by the order in which they come (the last one stays)."""
    answers = {"request": request, "resume": resume, "replay": replay, "notify": notify}
    count = {}
    lock = threading.Lock()

    def handler(r, c):
        answer = answers.get(r.kind)
        if isinstance(answer, list):
            with lock:
                n = count[r.kind] = count.get(r.kind, -1) + 1
            answer = answer[min(n, len(answer) - 1)]
        if answer is None:
            if r.kind == "notify":
                return Reply(204)
            raise AssertionError(f"the worker got an unexpected {r!r}")
        return answer(r, c) if callable(answer) else answer
    return handler


class Enclosed:
    """One enclosed response."""

    def __init__(self, status, reason, headers, body):
        self.status, self.reason, self.headers, self.body = status, reason, headers, body
        self.id = headers.get("Tarry-Call-Id")
        self.attempts = headers.get("Tarry-Attempts")
        self.time = headers.get("Tarry-Time")

    @property
    def error(self):
        """The error of Proxy-Status, if Tarry made this response."""
        return proxy_error(self.headers)

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<enclosed {self.status} {self.id} {self.body[:100]!r}>"


def enclosed(body):
    """The enclosed responses of a resume's, replay's or notify's body, read strictly."""
    found = []
    while body:
        end = body.find(b"\r\n\r\n")
        if end < 0:
            raise BadMessage(f"an enclosed response's head has no end: {body[:300]!r}")
        first, headers = parse_head(body[:end + 4])
        line = STATUS_LINE.match(first)
        if not line or line[1] != b"1":
            raise BadMessage(f"status line {first!r}")
        length = headers.get("Content-Length")
        if length is None or not length.isdigit():
            raise BadMessage(f"an enclosed response with Content-Length {length!r}")
        if "Transfer-Encoding" in headers:
            raise BadMessage("an enclosed response with Transfer-Encoding")
        body = body[end + 4:]
        if len(body) < int(length):
            raise BadMessage(f"an enclosed body of {len(body)} bytes with Content-Length {length}")
        found.append(Enclosed(int(line[2]), line[3].decode("latin-1"), headers, body[:int(length)]))
        body = body[int(length):]
    return found


def replay_parts(request):
    """(original body, enclosed responses) of a replay."""
    n = int(request.headers.get("Tarry-Body-Length"))
    return request.body[:n], enclosed(request.body[n:])


def proxy_error(headers):
    status = headers.get("Proxy-Status")
    if status is None:
        return None
    name, *params = [p.strip() for p in status.split(";")]
    assert name == "tarry", f"Proxy-Status {status!r}"
    return dict(p.partition("=")[::2] for p in params).get("error")


def problem(response, status, error):
    """Asserts that a response is Tarry's own problem of that status and error; returns the object."""
    assert response.status == status, f"{response!r}"
    assert response.headers.get("Content-Type") == "application/problem+json", response.headers
    assert proxy_error(response.headers) == error, response.headers
    what = json.loads(response.body)
    assert what["status"] == status and what["error"] == error, what
    assert isinstance(what["title"], str) and what["title"], what
    assert isinstance(what["exchange"], str) and what["exchange"], what
    return what


__all__ = ["Enclosed", "Headers", "by_kind", "call", "enclosed", "handoff", "problem", "proxy_error", "replay_parts"]
