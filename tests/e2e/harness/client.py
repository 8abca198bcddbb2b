"""A client that sends exact bytes and sees what came back, in which pieces and when."""

import json
import socket
import ssl
import time

from . import base
from .base import DEADLINE
from .http1 import BadMessage, Body, STATUS_LINE, Truncated, Wire, as_bytes, framing, pairs, parse_head, write_head


class Response:
    """A response's head; piece() and read() bring the body. `pieces` are (when, bytes) as they were read."""

    def __init__(self, raw_head, wire, method):
        self.raw_head = raw_head
        first, self.headers = parse_head(raw_head)
        line = STATUS_LINE.match(first)
        if not line:
            raise BadMessage(f"status line {first!r}")
        self.version, self.status, self.reason = "1." + line[1].decode(), int(line[2]), line[3].decode("latin-1")
        self.framing, length = framing(self.headers, method, self.status)
        self._body = Body(wire, self.framing, length)
        self.pieces = []
        self.interim = []  # the 1xx responses before it
        self.arrived = time.monotonic()

    def piece(self, timeout=None):
        """The next piece of the body, one chunk where it is chunked; None at its end."""
        got = self._body.piece(timeout)
        if got is not None:
            self.pieces.append((time.monotonic(), got))
        return got

    def until(self, mark, timeout=None):
        """Reads until the body so far contains `mark`."""
        while mark not in self.so_far:
            if self.piece(timeout) is None:
                raise AssertionError(f"{mark!r} never came: {self.so_far!r}")
        return self.so_far

    def read(self, timeout=None):
        """The rest of the body. Raises Truncated if the connection ends before it."""
        end = time.monotonic() + (DEADLINE if timeout is None else timeout)
        try:
            while self.piece(end - time.monotonic()) is not None:
                pass
        except Truncated as e:
            raise Truncated(e.how, self.so_far + e.so_far, self) from None
        return self.so_far

    so_far = property(lambda self: b"".join(p for _, p in self.pieces))
    body = property(lambda self: self.so_far)
    complete = property(lambda self: self._body.done)
    trailers = property(lambda self: self._body.trailers)
    text = property(lambda self: self.so_far.decode("utf-8", "replace"))

    def json(self):
        return json.loads(self.so_far)

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.so_far[:500]!r}>"


class Client:
    """One connection. `address`: HOST:PORT or unix:PATH. `tls`: an ssl.SSLContext for a client. `source`: the IP address that it
    comes from."""

    def __init__(self, address, tls=None, server_name=None, receive_buffer=None, source=None):
        self.host = "localhost" if address.startswith("unix:") else address
        if receive_buffer:
            family = socket.AF_UNIX if address.startswith("unix:") else socket.AF_INET
            self.sock = socket.socket(family)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.sock.settimeout(DEADLINE)
            host, _, port = address.rpartition(":")
            self.sock.connect(address[5:] if family == socket.AF_UNIX else (host, int(port)))
        else:
            self.sock = base.connect(address, source=source)
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=server_name or address.rpartition(":")[0])
        self.wire = Wire(self.sock)
        self._methods = []  # of requests whose responses are still to come

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data, method=None):
        """Sends bytes as they are. `method` of the request in it, if its response will be read (default GET)."""
        if method:
            self._methods.append(method)
        self.sock.settimeout(DEADLINE)
        self.sock.sendall(as_bytes(data))

    def send_request(self, method="GET", target="/", headers=(), body=None, host=None, chunks=None):
        """`chunks`: the body in these chunks."""
        fields = pairs(headers)
        names = {n.lower() for n, _ in fields}
        if "host" not in names and host is not False:
            fields.insert(0, ("Host", host or self.host))
        if chunks is not None:
            fields.append(("Transfer-Encoding", "chunked"))
        elif body is not None and "content-length" not in names:
            fields.append(("Content-Length", len(as_bytes(body))))
        data = write_head(f"{method} {target} HTTP/1.1", fields)
        if chunks is not None:
            data += b"".join(b"%x\r\n%s\r\n" % (len(c), as_bytes(c)) for c in chunks) + b"0\r\n\r\n"
        elif body is not None:
            data += as_bytes(body)
        self.send(data, method)

    def begin(self, method=None, timeout=None):
        """Reads the next response's head (interim responses are put aside) and returns the Response, body unread."""
        interim = []
        while True:
            head = self.wire.through(b"\r\n\r\n", timeout=timeout)
            if not head.endswith(b"\r\n\r\n"):
                raise Truncated(self.wire.ended, head)
            if method is None:
                method = self._methods.pop(0) if self._methods else "GET"
            response = Response(head, self.wire, method)
            if response.status >= 200:
                response.interim = interim
                return response
            interim.append(response)

    def read_response(self, method=None, timeout=None):
        response = self.begin(method, timeout)
        response.read(timeout)
        return response

    def request(self, method="GET", target="/", headers=(), body=None, timeout=None, **more):
        """Sends a request and reads the whole response."""
        self.send_request(method, target, headers, body, **more)
        return self.read_response(timeout=timeout)

    def wait_closed(self, timeout=None):
        """Waits until the peer ends the connection; returns "eof" or "reset". Bytes before that are an error."""
        if self.wire.fill(timeout) or self.wire.buffer:
            raise AssertionError(f"more bytes came: {self.wire.buffer[:500]!r}")
        return self.wire.ended

    def read_to_end(self, timeout=None):
        """All bytes until the peer ends the connection."""
        end = time.monotonic() + (DEADLINE if timeout is None else timeout)
        while self.wire.fill(end - time.monotonic()):
            pass
        return self.wire.take(len(self.wire.buffer))

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        base.reset(self.sock)

    def close(self):
        try:
            if isinstance(self.sock, ssl.SSLSocket):
                self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


def request(address, method="GET", target="/", headers=(), body=None, timeout=None, **more):
    """One request on a connection of its own."""
    with Client(address) as c:
        return c.request(method, target, headers, body, timeout, **more)
