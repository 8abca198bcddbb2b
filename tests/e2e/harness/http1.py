"""HTTP/1.1 messages. Reading is strict: what a careful peer would refuse raises BadMessage."""

import re
import socket
import ssl
import time

from .base import DEADLINE

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
VALUE = re.compile(rb"[\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?\Z|\Z")
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)\Z")
REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) (\S+) HTTP/1\.([01])\Z")
NO_BODY = (204, 304)


class BadMessage(AssertionError):
    """The peer broke the rules of HTTP/1.1."""


class Truncated(AssertionError):
    """The connection ended in the middle of a message. `how` is "eof" or "reset"; `so_far` what had come of the body;
    `response` the response object, if its head had come."""

    def __init__(self, how, so_far=b"", response=None):
        super().__init__(f"the connection ended ({how}) after {len(so_far)} bytes of the body: {so_far[-200:]!r}")
        self.how, self.so_far, self.response = how, so_far, response


class Reset(ConnectionError):
    """The connection was reset by the peer."""


class Headers(list):
    """Header fields in order, as (name, value) strings (latin-1)."""

    def get(self, name, default=None):
        """The only value of that name; two are an error."""
        values = self.all(name)
        if len(values) > 1:
            raise AssertionError(f"{name} is there {len(values)} times: {values}")
        return values[0] if values else default

    def all(self, name):
        return [v for n, v in self if n.lower() == name.lower()]

    def __contains__(self, name):
        return bool(self.all(name))

    def names(self):
        return [n.lower() for n, _ in self]

    def starting(self, prefix):
        return [(n, v) for n, v in self if n.lower().startswith(prefix.lower())]


def parse_head(raw):
    """(first line, Headers) of a head that ends with an empty line."""
    if not raw.endswith(b"\r\n\r\n"):
        raise BadMessage(f"head without an end: {raw!r}")
    lines = raw[:-4].split(b"\r\n")
    headers = Headers()
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not TOKEN.match(name) or not VALUE.match(value):
            raise BadMessage(f"bad header line {line!r}")
        headers.append((name.decode("latin-1"), value.decode("latin-1")))
    for line in lines:
        if b"\r" in line or b"\n" in line or b"\0" in line:
            raise BadMessage(f"control characters in {line!r}")
    return lines[0], headers


def framing(headers, head_method=None, status=None):
    """("none"|"length"|"chunked"|"close"|"absent", length). "absent": a request without a body."""
    te, lengths = headers.all("Transfer-Encoding"), headers.all("Content-Length")
    if te and lengths:
        raise BadMessage("both Transfer-Encoding and Content-Length")
    if len(lengths) > 1:
        raise BadMessage(f"several Content-Length: {lengths}")
    if te and [t.lower() for t in te] != ["chunked"]:
        raise BadMessage(f"Transfer-Encoding {te}")
    if lengths and not re.fullmatch("[0-9]+", lengths[0]):
        raise BadMessage(f"Content-Length {lengths[0]!r}")
    if status is not None and (status in NO_BODY or status < 200 or head_method == "HEAD"):
        if te and (status == 204 or status < 200):
            raise BadMessage(f"Transfer-Encoding in a {status}")
        return "none", 0
    if te:
        return "chunked", None
    if lengths:
        return "length", int(lengths[0])
    return ("close", None) if status is not None else ("absent", 0)


class Wire:
    """A socket with a read buffer. Every read has a deadline; end of file gives what there is."""

    def __init__(self, sock):
        self.sock = sock
        self.buffer = bytearray()
        self.ended = None  # "eof" or "reset" once seen

    def fill(self, timeout=None):
        """Waits for more bytes; False at the end of the connection."""
        if self.ended:
            return False
        self.sock.settimeout(DEADLINE if timeout is None else max(timeout, 0.001))
        try:
            got = self.sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            self.ended = "reset"
            return False
        except ssl.SSLError as e:
            if isinstance(e, (ssl.SSLWantReadError, ssl.SSLWantWriteError)):
                raise
            self.ended = "reset"
            return False
        except socket.timeout:
            raise TimeoutError(f"nothing came; in the buffer: {self.buffer[-300:]!r}") from None
        if not got:
            self.ended = "eof"
            return False
        self.buffer += got
        return True

    def take(self, n):
        got = bytes(self.buffer[:n])
        del self.buffer[:n]
        return got

    def exactly(self, n, timeout=None):
        """n bytes, or fewer at the end of the connection."""
        end = time.monotonic() + (DEADLINE if timeout is None else timeout)
        while len(self.buffer) < n and self.fill(end - time.monotonic()):
            pass
        return self.take(n)

    def through(self, mark, most=1 << 20, timeout=None):
        """All up to and including `mark`, or what there is at the end of the connection."""
        end = time.monotonic() + (DEADLINE if timeout is None else timeout)
        at = self.buffer.find(mark)
        while at < 0:
            if len(self.buffer) > most:
                raise BadMessage(f"no {mark!r} within {most} bytes")
            seen = max(0, len(self.buffer) - len(mark))
            if not self.fill(end - time.monotonic()):
                return self.take(len(self.buffer))
            at = self.buffer.find(mark, seen)
        return self.take(at + len(mark))


class Body:
    """Reads one message's body piece by piece, and keeps the raw bytes in `raw`."""

    def __init__(self, wire, kind, length):
        self.wire, self.kind, self.left = wire, kind, length
        self.raw = bytearray()
        self.trailers = Headers()
        self.done = kind in ("none", "absent") or (kind == "length" and length == 0)

    def _cut(self):
        raise Truncated(self.wire.ended)

    def piece(self, timeout=None):
        """The next bytes of the body: one chunk where the body is chunked, else what came. None at the end."""
        if self.done:
            return None
        return {"length": self._of_length, "chunked": self._chunk, "close": self._to_close}[self.kind](timeout)

    def _of_length(self, timeout):
        if not self.wire.buffer and not self.wire.fill(timeout):
            self._cut()
        got = self.wire.take(self.left)
        self.left -= len(got)
        self.raw += got
        self.done = self.left == 0
        return got

    def _to_close(self, timeout):
        if not self.wire.buffer and not self.wire.fill(timeout):
            if self.wire.ended == "reset":
                self._cut()
            self.done = True
            return None
        got = self.wire.take(len(self.wire.buffer))
        self.raw += got
        return got

    def _line(self, timeout):
        line = self.wire.through(b"\n", timeout=timeout)
        self.raw += line
        if not line.endswith(b"\n"):
            self._cut()
        if not line.endswith(b"\r\n"):
            raise BadMessage(f"bare LF after {line!r}")
        return line[:-2]

    def _chunk(self, timeout):
        size = self._line(timeout)
        if not re.fullmatch(rb"[0-9A-Fa-f]+", size):
            raise BadMessage(f"chunk size {size!r}")
        n = int(size, 16)
        if n == 0:
            while True:
                line = self._line(timeout)
                if not line:
                    break
                name, _, value = line.partition(b":")
                self.trailers.append((name.decode("latin-1"), value.strip().decode("latin-1")))
            self.done = True
            return None
        data = self.wire.exactly(n + 2, timeout)
        self.raw += data
        if len(data) < n + 2:
            raise Truncated(self.wire.ended, data[:n])
        if data[n:] != b"\r\n":
            raise BadMessage(f"chunk of {n} bytes ends with {data[n:]!r}")
        return data[:n]

    def read(self, timeout=None):
        """All that is left. Truncated has what came before the cut."""
        got = []
        end = time.monotonic() + (DEADLINE if timeout is None else timeout)
        try:
            while not self.done:
                piece = self.piece(end - time.monotonic())
                if piece is not None:
                    got.append(piece)
        except Truncated as e:
            raise Truncated(e.how, b"".join(got) + e.so_far) from None
        return b"".join(got)


def as_bytes(text):
    return text if isinstance(text, (bytes, bytearray)) else text.encode("latin-1")


def write_head(first_line, headers):
    lines = [as_bytes(first_line)]
    lines += [as_bytes(n) + b": " + as_bytes(str(v) if isinstance(v, int) else v) for n, v in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def pairs(headers):
    return list(headers.items()) if isinstance(headers, dict) else list(headers or ())


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)
