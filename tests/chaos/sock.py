"""Sockets for asyncio that read no further than they are asked to, and end in every way in which a peer can end."""

import asyncio
import contextlib
import socket
import ssl
import struct

RESET = struct.pack("ii", 1, 0)


class Gone(ConnectionError):
    """The peer has ended the connection. `how` is "eof" or "reset"."""

    def __init__(self, how):
        super().__init__(f"the connection ended ({how})")
        self.how = how


class Sock:
    """A connected socket, with TLS if `wrap` was awaited."""

    def __init__(self, raw):
        self.raw = raw
        raw.setblocking(False)
        self.local = raw.family == socket.AF_UNIX  # it knows no reset
        if not self.local:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = self._in = self._out = None
        self._waits = {}  # what is waited for, "reader" or "writer" -> future
        self._sending = asyncio.Lock()
        self.closed = False
        self.sent = None  # the last answer on it, of a server

    @classmethod
    async def connect(cls, address, receive_buffer=None):
        family = socket.AF_UNIX if address.startswith("unix:") else socket.AF_INET
        raw = socket.socket(family)
        raw.setblocking(False)
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        host, _, port = address.rpartition(":")
        where = address[5:] if family == socket.AF_UNIX else (host, int(port))
        try:
            for _ in range(100):
                try:
                    await asyncio.get_running_loop().sock_connect(raw, where)
                    break
                except BlockingIOError:  # a unix listener whose queue is full
                    await asyncio.sleep(0.02)
        except BaseException:
            raw.close()
            raise
        return cls(raw)

    async def wrap(self, context, server_side=False, name=None):
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=server_side, server_hostname=name)
        while True:
            try:
                self.tls.do_handshake()
                await self._flush()
                return self
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLError as e:
                raise Gone("reset") from e

    async def _wait(self, what):
        """Until the socket is readable or writable, or closed by us: the loop's own functions would wait for ever then."""
        loop, number = asyncio.get_running_loop(), self.raw.fileno()
        if self.closed or number < 0:
            raise Gone("closed")
        ready = self._waits[what] = loop.create_future()
        add, remove = (loop.add_reader, loop.remove_reader) if what == "reader" else (loop.add_writer, loop.remove_writer)
        add(number, lambda: ready.done() or ready.set_result(None))
        try:
            await ready
        finally:
            if not self.closed:
                remove(number)
                del self._waits[what]

    async def _receive(self, n):
        while True:
            try:
                return self.raw.recv(n)
            except BlockingIOError:
                await self._wait("reader")
            except OSError as e:
                raise Gone("closed" if self.closed else "reset") from e

    async def accept(self):
        while True:
            try:
                return self.raw.accept()[0]
            except BlockingIOError:
                await self._wait("reader")
            except OSError as e:
                raise Gone("closed") from e

    async def _feed(self):
        got = await self._receive(65536)
        if got:
            self._in.write(got)
        else:
            self._in.write_eof()
            raise Gone("eof")

    async def _flush(self):
        async with self._sending:
            while self._out.pending:
                await self._send(self._out.read())

    async def _send(self, data):
        data = memoryview(data)
        while data:
            try:
                data = data[self.raw.send(data):]
            except BlockingIOError:
                await self._wait("writer")
            except OSError as e:
                raise Gone("closed" if self.closed else "reset") from e

    async def recv(self, n=65536):
        """What has come; b"" at the end. A reset, and an end that TLS does not announce, raise Gone."""
        if not self.tls:
            return await self._receive(n)
        while True:
            try:
                return self.tls.read(n)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as e:
                raise Gone("reset") from e

    async def send(self, data):
        if not self.tls:
            async with self._sending:
                await self._send(data)
            return
        for at in range(0, len(data), 16384):
            try:
                self.tls.write(data[at:at + 16384])
            except ssl.SSLError as e:
                raise Gone("reset") from e
            await self._flush()

    async def finish(self):
        """Ends our direction in the way that TLS asks for, too."""
        if self.tls:
            with contextlib.suppress(ssl.SSLError):
                self.tls.unwrap()
            await self._flush()
        self.fin()

    def fin(self):
        """Ends our direction only; TLS is not told."""
        with contextlib.suppress(OSError):
            self.raw.shutdown(socket.SHUT_WR)

    def close(self):
        if not self.closed:
            self.closed = True
            loop = asyncio.get_event_loop()
            for what, ready in self._waits.items():
                (loop.remove_reader if what == "reader" else loop.remove_writer)(self.raw.fileno())
                if not ready.done():
                    ready.set_exception(Gone("closed"))
            self.raw.close()

    def reset(self):
        if not self.closed:
            if not self.local:
                with contextlib.suppress(OSError):
                    self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.close()

    def end(self, how):
        """`how`: "fin" (both directions), or "rst"."""
        if how == "rst":
            self.reset()
        else:
            self.close()

    async def watch(self):
        """Returns when the peer has ended the connection, and drops what it sends until then: for a server that never answers."""
        with contextlib.suppress(Gone):
            while await self._receive(65536):
                pass
