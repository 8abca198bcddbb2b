"""WebSockets over HTTP/2 (RFC 8441): clients whose connection has one of them, or several side by side."""

import asyncio
import contextlib

import h2.errors
import h2.exceptions
import h2.settings

from . import talks
from .client import Http2
from .http1 import Wire
from .plan import Connection
from .record import Result
from .sock import Gone


class Unseen:
    """What an Http2 tells the record of an exchange."""

    def reach(self, point):
        pass


class StreamSock:
    """A stream that is read and written as a Sock is."""

    local, tls = False, None

    def __init__(self, link, number, alone):
        self.link, self.number, self.alone = link, number, alone
        self.record, self.result = Unseen(), Result()
        self.over = asyncio.Event()
        self.pieces, self.credit = [], 0
        self.closed = False
        self._sending = asyncio.Lock()

    async def head(self):
        """The status of the response."""
        while self.result.status is None:
            if self.over.is_set() or self.link.sock.closed:
                raise Gone("reset")
            await self.link.wait_change()
        return self.result.status

    async def recv(self, n=65536):
        while not self.pieces:
            if self.closed:
                raise Gone("closed")
            if self.result.complete:
                return b""
            if self.over.is_set() or self.link.sock.closed:
                raise Gone("reset")
            await self.link.wait_change()
        data = self.pieces.pop(0)
        if len(data) > n:
            self.pieces.insert(0, data[n:])
            data = data[:n]
        credit, self.credit = self.credit, 0
        if credit:
            with contextlib.suppress(h2.exceptions.ProtocolError, Gone, OSError):
                self.link.h2.increment_flow_control_window(credit)
                if not self.over.is_set():
                    self.link.h2.increment_flow_control_window(credit, stream_id=self.number)
                await self.link.flush()
        return data

    async def send(self, data):
        async with self._sending:
            try:
                while data:
                    if self.closed:
                        raise Gone("closed")
                    room = min(self.link.h2.local_flow_control_window(self.number), self.link.h2.max_outbound_frame_size)
                    if room <= 0:
                        if self.over.is_set() or self.link.sock.closed:
                            raise Gone("reset")
                        await self.link.wait_change()
                        continue
                    piece, data = data[:room], data[room:]
                    self.link.h2.send_data(self.number, piece)
                    await self.link.flush()
            except h2.exceptions.ProtocolError as e:
                raise Gone("reset") from e

    async def finish(self):
        with contextlib.suppress(h2.exceptions.ProtocolError, Gone, OSError):
            self.link.h2.end_stream(self.number)
            await self.link.flush()

    def end(self, how):
        """`how`: "fin" (the connection, unless it has others), or "rst" (the stream)."""
        if how == "fin" and self.alone:
            self.link.sock.close()
        self.close()

    def close(self):
        if self.closed:
            return
        self.closed = True
        if not self.over.is_set() and not self.link.sock.closed:
            with contextlib.suppress(h2.exceptions.ProtocolError):
                self.link.h2.reset_stream(self.number, h2.errors.ErrorCodes.CANCEL)
                asyncio.ensure_future(self.link.quiet_flush())
        self.over.set()
        self.link.changed.set()


class Links:
    """The connections that several WebSockets of a world share."""

    def __init__(self, world):
        self.world = world
        self.of = {}  # (listener, name) -> Http2
        self.users = {}
        self.lock = asyncio.Lock()

    async def open(self, talk):
        key = talk.listener, talk.link if talk.link is not None else -talk.number
        async with self.lock:
            link = self.of.get(key)
            if link is None or link.going or link.sock.closed:
                link = Http2(self.world, Connection("2", talk.listener, [], receive_buffer=talk.receive_buffer))
                await link.connect()
                link.reader = asyncio.create_task(link.read())
                await link.settled.wait()
                self.of[key], self.users[link] = link, 0
            self.users[link] += 1
        return link

    async def leave(self, link):
        self.users[link] -= 1
        if self.users[link]:
            return
        del self.users[link]
        self.of = {k: v for k, v in self.of.items() if v is not link}
        await link.quiet_flush()
        link.reader.cancel()
        await asyncio.gather(link.reader, return_exceptions=True)
        link.end()


class Client(talks.Client):
    async def talk_to_it(self):
        if self.world.links is None:
            self.world.links = Links(self.world)
        while not await self.once(self.world.links):
            pass

    async def once(self, links):
        """False: the server was leaving and has not looked at it."""
        link = await links.open(self.talk)
        try:
            while not link.sock.closed and link.h2.open_outbound_streams >= link.h2.remote_settings.max_concurrent_streams:
                await asyncio.sleep(0.005)
            if link.going:
                return False
            if not link.h2.remote_settings.get(h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL):
                raise Gone("reset")
            number = link.h2.get_next_available_stream_id()
            sock = StreamSock(link, number, self.talk.link is None)
            try:
                link.h2.send_headers(number, [
                    (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https" if self.talk.listener == "tls" else "http"),
                    (":authority", "localhost"), (":path", f"{talks.FARS[self.talk.far]}{self.talk.number}"), ("sec-websocket-version", "13")])
            except h2.exceptions.ProtocolError as e:
                raise Gone("reset") from e
            link.streams[number] = sock
            await link.flush()
            try:
                status = await sock.head()
                self.record.status = 101 if status == 200 else status
                if status == 200:
                    await talks.End(self.record, self.record.near, Wire(sock), "client").run_near()
            except Gone:
                if self.record.status is None and sock.result.reused:  # GOAWAY
                    return False
                raise
            finally:
                sock.close()
            return True
        finally:
            await links.leave(link)


def client_of(world, talk):
    return (Client if talk.version == "2" else talks.Client)(world, talk)
