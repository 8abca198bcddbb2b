"""HTTP/1.1 messages over a Sock. What is read is read strictly: a byte out of place raises BadMessage."""

import re

from harness.http1 import BadMessage, Headers, REQUEST_LINE, STATUS_LINE, chunk, framing, parse_head, write_head

from .sock import Gone

__all__ = ["BadMessage", "Cut", "Headers", "Wire", "chunk", "write_head"]


class Cut(Exception):
    """The connection ended in the middle of a message; `so_far` is what had come of the body, `head` whether its head had."""

    def __init__(self, how, so_far=b"", head=None):
        super().__init__(f"cut ({how}) after {len(so_far)} bytes")
        self.how, self.so_far, self.head = how, so_far, head


class Message:
    """A request (method, target) or a response (status) with its head read."""

    method = target = status = None

    def __init__(self, first, headers):
        self.first, self.headers, self.body = first, headers, b""
        self.kind, self.length = "absent", 0


class Wire:
    def __init__(self, sock, pace=None):
        self.sock = sock
        self.buffer = bytearray()
        self.ended = None
        self.pace = pace  # a coroutine function awaited before each read: a slow reader

    async def fill(self, most=65536):
        if self.ended:
            return False
        if self.pace:
            most = await self.pace() or most
        try:
            got = await self.sock.recv(most)
        except Gone as e:
            self.ended = e.how
            return False
        if not got:
            self.ended = "eof"
            return False
        self.buffer += got
        return True

    def take(self, n):
        got = bytes(self.buffer[:n])
        del self.buffer[:n]
        return got

    async def head(self, most=1 << 20):
        """The next head, or None if the connection ends before its first byte."""
        while True:
            at = self.buffer.find(b"\r\n\r\n")
            if at >= 0:
                return parse_head(self.take(at + 4))
            if len(self.buffer) > most:
                raise BadMessage("a head without end")
            if not await self.fill():
                if self.buffer:
                    raise Cut(self.ended)
                return None

    async def request(self):
        """The head of the next request, or None."""
        found = await self.head()
        if found is None:
            return None
        line = REQUEST_LINE.match(found[0])
        if not line:
            raise BadMessage(f"request line {found[0]!r}")
        m = Message(*found)
        m.method, m.target = line[1].decode(), line[2].decode()
        m.kind, m.length = framing(m.headers)
        return m

    async def response(self, method="GET"):
        """The head of the next final response. Interim ones are passed over. Cut if the connection ends first."""
        while True:
            found = await self.head()
            if found is None:
                raise Cut(self.ended)
            line = STATUS_LINE.match(found[0])
            if not line:
                raise BadMessage(f"status line {found[0]!r}")
            m = Message(*found)
            m.status = int(line[2])
            m.kind, m.length = framing(m.headers, method, m.status)
            if m.status == 101 or m.status >= 200:
                return m

    async def body(self, m, on_data=None, keep=True):
        """Reads the rest of the message's body into m.body. Raises Cut. `on_data`: called after each piece with the sum."""
        pieces, total = [], 0
        try:
            async for piece in self._pieces(m.kind, m.length):
                total += len(piece)
                if keep:
                    pieces.append(piece)
                if on_data:
                    on_data(total)
        except Gone as e:
            raise Cut(e.how, b"".join(pieces), m) from None
        m.body = b"".join(pieces)
        return m

    async def _pieces(self, kind, length):
        if kind == "length":
            while length:
                if not self.buffer and not await self.fill():
                    raise Gone(self.ended)
                piece = self.take(length)
                length -= len(piece)
                yield piece
        elif kind == "close":
            while self.buffer or await self.fill():
                yield self.take(len(self.buffer))
            if self.ended == "reset":
                raise Gone("reset")
        elif kind == "chunked":
            while True:
                size = await self._line()
                if not re.fullmatch(rb"[0-9A-Fa-f]+", size):
                    raise BadMessage(f"chunk size {size[:100]!r}")
                n = int(size, 16)
                if n == 0:
                    while await self._line():
                        pass
                    return
                while n:
                    if not self.buffer and not await self.fill():
                        raise Gone(self.ended)
                    piece = self.take(n)
                    n -= len(piece)
                    yield piece
                if await self._line():
                    raise BadMessage("no CRLF behind a chunk")

    async def _line(self):
        while b"\n" not in self.buffer:
            if len(self.buffer) > 65536:
                raise BadMessage("a line without end")
            if not await self.fill():
                raise Gone(self.ended)
        line = self.take(self.buffer.index(b"\n") + 1)
        if not line.endswith(b"\r\n"):
            raise BadMessage(f"bare LF after {line[:100]!r}")
        return line[:-2]
