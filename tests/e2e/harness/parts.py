"""Responses in parts as a worker writes them, pieces as it reads them, and a worker that has runs."""

import base64
import hashlib

from .handoffs import REQUESTS
from .http1 import REQUEST_LINE, as_bytes, chunk, pairs, parse_head, write_head
from .server import Reply

RESPONSES = "application/http; msgtype=response"


def inner(data=(), then="end", fields=(), content=b"", length=True):
    """The content of a response in parts."""
    content = as_bytes(content)
    trailer = [("Tarry-Then", then)] + pairs(fields)
    if content and length:
        trailer.append(("Tarry-Length", len(content)))
    lines = b"".join(f"{n}: {v}\r\n".encode("latin-1") for n, v in trailer)
    return b"".join(chunk(as_bytes(d)) for d in ([data] if isinstance(data, (bytes, str)) else data) if d) + b"0\r\n" + lines + b"\r\n" + content


def parts(data=(), then="end", fields=(), content=b"", status=200, headers=(), framing="chunked", **more):
    """A worker's response in parts."""
    return Reply(status, inner(data, then, fields, content, **more), [("Tarry-Then", "trailer")] + pairs(headers), framing=framing)


class Piece:
    """One enclosed request of a visit with pieces."""

    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body
        self.exchange, self.hop = headers.get("Tarry-Exchange"), headers.get("Tarry-Hop")
        self.piece, self.outcome = headers.get("Tarry-Piece"), headers.get("Tarry-Outcome")

    def __repr__(self):
        return f"<piece {self.exchange} {self.hop} {self.piece} {self.outcome} {self.body[:60]!r}>"


def read_pieces(request):
    """The enclosed requests of a visit with pieces, read strictly."""
    assert (request.method, request.target, request.headers.get("Tarry-Kind")) == ("POST", "/.tarry/pieces", "pieces"), request
    assert request.headers.get("Content-Type") == REQUESTS
    body, found = request.body, []
    while body:
        end = body.index(b"\r\n\r\n") + 4
        first, headers = parse_head(body[:end])
        line = REQUEST_LINE.match(first)
        n = int(headers.get("Content-Length"))
        found.append(Piece(line[1].decode(), line[2].decode(), headers, body[end:end + n]))
        assert len(found[-1].body) == n and (found[-1].method, found[-1].target) == ("POST", "/.tarry/piece")
        body = body[end + n:]
    return found


def answer_pieces(answers):
    """The worker's response to a visit with pieces: one of these a piece, in order: what parts() gives, or a whole Reply."""
    body = b""
    for a in answers:
        if isinstance(a, bytes):
            body += a
            continue
        fields = [(n, v) for n, v in a.headers if n.lower() != "content-length"]
        in_parts = any(n == "Tarry-Then" and v == "trailer" for n, v in fields)
        fields.append(("Transfer-Encoding", "chunked") if in_parts else ("Content-Length", len(a.body)))
        body += write_head(f"HTTP/1.1 {a.status} OK", fields) + a.body
    return Reply(200, body, {"Content-Type": RESPONSES}, framing="chunked")


def sent(data):
    """Tarry-Sent of that data."""
    data = as_bytes(data)
    return f"bytes={len(data)}, sha256={base64.b64encode(hashlib.sha256(data).digest()).decode()}"
