"""The wire format: calls as HTTP requests in a handoff, answers as HTTP responses in a replay or resume."""

from __future__ import annotations

import functools
import gzip
import io
import json
import re
from dataclasses import dataclass, field
from http.client import responses as reasons
from typing import Any, BinaryIO, Iterable, Iterator, Optional
from urllib.parse import urlsplit

from ..errors import BadRecord

Headers = list[tuple[str, str]]

HANDOFF_TYPE = "application/http; msgtype=request"

HANDOFF_STATUS = "202 Accepted"
"""Any 2xx status will do. The app's middleware, metrics and logs tell handoffs from responses by this one."""

# Headers of one connection, and those that the handoff sets by itself.
_NOT_SENT = frozenset(
    ["host", "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length"]
)
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: (.*))?\Z")
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?\Z")
# OpenAI's and most others', Anthropic's, Azure's, Google's, Amazon's.
_REQUEST_IDS = ("x-request-id", "request-id", "apim-request-id", "x-ms-request-id", "x-goog-request-id", "x-amzn-requestid")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_LINE_MAX = 1 << 16


@functools.lru_cache(maxsize=256)
def origin_of(url: str) -> str:
    """scheme://host[:port] in lower case, without a default port; "" for what has no origin."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        return ""
    if not parts.scheme or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if port is None or port == _DEFAULT_PORTS.get(parts.scheme):
        return f"{parts.scheme}://{host}"
    return f"{parts.scheme}://{host}:{port}"


CONTENT_MAX = 128 << 20
"""How large Answer.content may be: four times what Tarry encloses of one response by default."""


@dataclass
class Call:
    """A request to an upstream, as a library was about to send it."""

    method: str
    url: str
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    timeout: Optional[float] = None
    """How long the caller would have waited for the response, in seconds."""

    pieces: bool = False
    """The answer is read while it comes."""

    def header(self, name: str) -> str:
        return value_of(self.headers, name)

    def encode(self, call_id: str) -> bytes:
        """As it stands in a handoff."""
        lines = [f"{self.method} {self.url.split('#', 1)[0]} HTTP/1.1"]
        # A request's Connection header names further headers of one connection.
        dropped = _NOT_SENT | {name.strip().lower() for name in self.header("connection").split(",")}
        for name, value in self.headers:
            lowered = name.lower()
            if lowered not in dropped and not lowered.startswith("tarry-call"):
                lines.append(f"{name}: {value}")
        if self.timeout is not None and not self.header("tarry-timeout"):
            lines.append(f"Tarry-Timeout: {self.timeout:.3f}")
        if self.pieces:
            lines.append("Tarry-Deliver: pieces")
        lines.append(f"Tarry-Call-Id: {call_id}")
        if self.body or self.method not in ("GET", "HEAD", "OPTIONS", "DELETE"):
            lines.append(f"Content-Length: {len(self.body)}")
        for line in lines:
            if "\r" in line or "\n" in line:
                raise ValueError("a header of the call has a line break in it")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


@dataclass(frozen=True)
class Usage:
    """How many tokens the service says that a call used; None for what it does not say."""

    input: Optional[int] = None
    """Of the prompt, those from the service's cache included."""

    output: Optional[int] = None
    """Of the answer, reasoning included."""

    cached: Optional[int] = None
    """How many of the input came from the cache."""

    reasoning: Optional[int] = None
    """How many of the output were reasoning."""


@dataclass(frozen=True)
class Times:
    """When things happened, in seconds since the call began, retries and pauses included. `sent` to `content` are of the last attempt;
    None where it did not come to that or took less than a millisecond."""

    total: float
    """The end of the answer."""

    sent: Optional[float] = None
    """The request went out."""

    head: Optional[float] = None
    """The head of the answer came."""

    content: Optional[float] = None
    """The first content came: of an event stream the first token, of an API that Tarry does not read the first byte."""


@dataclass
class Answer:
    """The response to a call, as Tarry recorded it."""

    status: int
    """The service's, or that of the response that Tarry made because there was none: then `tarry_error` says why."""

    reason: str
    headers: Headers
    body: bytes
    call_id: str = ""
    attempts: int = 1
    """How often Tarry made the call."""

    time: float = 0.0
    """How long it took, in seconds, retries and pauses included."""

    position: str = ""
    """Tarry-Piece of an answer that is given in pieces."""

    outcome: str = ""
    """How it ended, if it has, and if it is given in pieces."""

    coming: Any = None
    """What the rest of the body is read from (runs/pieces/coming.py); None where `body` is all of it."""

    def header(self, name: str) -> str:
        return value_of(self.headers, name)

    @property
    def usage(self) -> Optional[Usage]:
        """The tokens; None if the service has not said any number, or Tarry does not read its API."""
        found = {name: int(n) for name, n in _numbers(self.header("tarry-usage")) if n.isdigit()}
        found = {name: n for name, n in found.items() if name in Usage.__dataclass_fields__}
        return Usage(**found) if found else None

    @property
    def times(self) -> Times:
        found = {name: float(n) for name, n in _numbers(self.header("tarry-times")) if _SECONDS.match(n)}
        return Times(self.time, **{name: n for name, n in found.items() if name in ("sent", "head", "content")})

    @property
    def request_id(self) -> str:
        """The service's own id of the request, for its support; "" if it gave none."""
        return next((found for found in map(self.header, _REQUEST_IDS) if found), "")

    @property
    def content(self) -> bytes:
        """The body, unpacked. Raises ValueError for one that unpacks to more than CONTENT_MAX bytes."""
        coding = self.header("content-encoding").lower()
        if coding in ("", "identity"):
            return self.body
        if coding in ("gzip", "x-gzip"):
            return _unpack(self.body)
        raise ValueError(f"an answer is packed as {coding!r}: let the call say Accept-Encoding: gzip, or identity")

    def json(self) -> Any:
        """The content's JSON: what an SDK's type takes in `ChatCompletion.model_validate(answer.json())`."""
        return json.loads(self.content)

    @property
    def failed(self) -> bool:
        """True where clients try again by habit."""
        return self.status in (408, 409, 429) or self.status >= 500

    @property
    def tarry_error(self) -> str:
        """The error of a response that Tarry made because the upstream gave none; "" for an upstream's own response."""
        found = re.match(r"tarry\s*;\s*error=([a-z0-9_]+)", self.header("proxy-status"))
        return found.group(1) if found and self.status in (429, 502, 503, 504) else ""

    def as_headers(self) -> Headers:
        """The headers for the library that made the call: a failure that was tried again already says so."""
        headers = [(n, v) for n, v in self.headers if not n.lower().startswith("tarry-")]
        if self.coming is not None:
            headers = [(n, v) for n, v in headers if n.lower() != "content-length"]
        if self.failed:
            headers = [(n, v) for n, v in headers if n.lower() != "x-should-retry"]
            headers.append(("x-should-retry", "false"))
        return headers

    def encode(self) -> bytes:
        """As the upstream would have sent it, for http.client to read."""
        lines = [f"HTTP/1.1 {self.status} {self.reason}"]
        lines += [f"{n}: {v}" for n, v in self.as_headers()]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


def _unpack(packed: bytes) -> bytes:
    """All members of a gzip file, and no more than CONTENT_MAX bytes of them: a small body can unpack to a thousand times as much."""
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        content = file.read(CONTENT_MAX + 1)
    if len(content) > CONTENT_MAX:
        raise ValueError(f"an answer of {len(packed)} bytes unpacks to more than {CONTENT_MAX}: read it in pieces from its body")
    return content


def encode_handoff(calls: Iterable[tuple[str, Call]]) -> bytes:
    """The body of a handoff: each call with its id."""
    return b"".join(call.encode(call_id) for call_id, call in calls)


def read_answers(stream: BinaryIO) -> Iterator[Answer]:
    """The enclosed responses of a replay or a resume, up to the end of the stream."""
    while True:
        line = stream.readline(_LINE_MAX)
        if not line:
            return
        yield _read_answer(line, stream)


def parse_answers(data: bytes) -> list[Answer]:
    return list(read_answers(io.BytesIO(data)))


def parse_calls(data: bytes) -> list[tuple[str, Call]]:
    """The requests of a handoff with their ids: what Tarry does with it."""
    stream = io.BytesIO(data)
    calls: list[tuple[str, Call]] = []
    while True:
        line = stream.readline(_LINE_MAX)
        if not line:
            return calls
        method, url, version = read_line(line).decode("latin-1").split(" ")
        headers = read_headers(stream)
        length = int(value_of(headers, "content-length") or 0)
        if version != "HTTP/1.1" or not origin_of(url):
            raise BadRecord("an enclosed request does not begin with method, absolute URL and HTTP/1.1")
        call_id = value_of(headers, "tarry-call-id")
        timeout = value_of(headers, "tarry-timeout")
        headers = [(n, v) for n, v in headers if not n.lower().startswith("tarry-")]
        calls.append((call_id, Call(method, url, headers, stream.read(length), float(timeout) if timeout else None)))


def _read_answer(first: bytes, stream: BinaryIO) -> Answer:
    found = _STATUS_LINE.match(read_line(first))
    if not found:
        raise BadRecord("an enclosed response does not begin with a status line")
    headers = read_headers(stream)
    length = value_of(headers, "content-length")
    if not (length.isascii() and length.isdigit()):
        raise BadRecord("an enclosed response has no Content-Length")
    body = stream.read(int(length))
    if len(body) != int(length):
        raise BadRecord("an enclosed response ends too early")
    status = int(found.group(1))
    reason = (found.group(2) or b"").decode("latin-1") or reasons.get(status, "")
    return Answer(
        status,
        reason,
        headers,
        body,
        value_of(headers, "tarry-call-id"),
        int(value_of(headers, "tarry-attempts") or 1),
        float(value_of(headers, "tarry-time") or 0),
        value_of(headers, "tarry-piece"),
        value_of(headers, "tarry-outcome"),
    )


def _numbers(text: str) -> Iterator[tuple[str, str]]:
    """ "input=9, output=7" """
    for word in text.split(","):
        name, equals, value = word.strip().partition("=")
        if equals:
            yield name, value


def read_headers(stream: BinaryIO) -> Headers:
    headers: Headers = []
    while True:
        line = read_line(stream.readline(_LINE_MAX))
        if not line:
            return headers
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise BadRecord("an enclosed message has a malformed header")
        headers.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))


def read_line(line: bytes) -> bytes:
    if not line.endswith(b"\r\n"):
        raise BadRecord("an enclosed message's head ends too early")
    return line[:-2]


def value_of(headers: Headers, name: str) -> str:
    lowered = name.lower()
    for n, v in headers:
        if n.lower() == lowered:
            return v
    return ""
