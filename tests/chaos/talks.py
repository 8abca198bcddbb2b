"""WebSockets among the exchanges: to workers, and to upstreams by a gateway route. The far end sends every message back; either
end closes in order, or leaves at any moment, within a frame too."""

import asyncio
import dataclasses
import random
import struct
import time

from harness.websockets import KEY, accept, asking

from .http1 import BadMessage, Cut, Wire, write_head
from .plan import Short
from .record import Moment, content
from .sock import Gone, Sock

FARS = {"worker": "/x/", "plain": "/gw/", "tls": "/gws/"}  # and the routes that lead there
FIRST = 100000000  # their numbers are above those of exchanges
BINARY, CLOSE = 0x82, 0x88
GOING_AWAY = b"\x03\xe9"


def frame(kind, payload, masked):
    """A frame; a mask of zeros leaves the payload as it is."""
    n, bit = len(payload), 0x80 if masked else 0
    size = bytes([bit | n]) if n < 126 else bytes([bit | 126]) + struct.pack(">H", n) if n < 65536 else bytes([bit | 127]) + struct.pack(">Q", n)
    return bytes([kind]) + size + (bytes(4) if masked else b"") + payload


@dataclasses.dataclass(repr=False)
class Talk(Short):
    number: int
    far: str  # one of FARS
    listener: str = "tcp"
    sizes: tuple = (10,)
    closes: str = "client"  # in order, behind the last message
    leave: tuple = None  # (who, behind how many messages, how: fin, rst or close, within a frame)
    pause: float = 0  # of the client between two messages
    slow: float = 0  # of its reading
    receive_buffer: int = None
    version: str = "1"
    holds: bool = False  # until the world says so, before its last message
    link: int = None  # HTTP/2: of the connection that it shares with others of this listener


class Side:
    """What one end has sent and received."""

    def __init__(self, masked):
        self.masked = masked
        self.sent = self.got = b""
        self.code = None  # of the Close frame that came
        self.ended = None  # eof or reset
        self.left = self.killed = False

    def __repr__(self):
        return f"sent {len(self.sent)} bytes, got {len(self.got)} {self.got[-20:]!r}, close {self.code}, ended {self.ended}{', left' if self.left else ''}"


class TalkRecord:
    def __init__(self, talk):
        self.talk = talk
        self.near, self.far = Side(True), None  # None: no far end has been asked
        self.status = None
        self.refused = self.over = False
        self.seconds = None
        self.held, self.go = Moment(), Moment()

    def describe(self):
        return f"WebSocket {self.talk}\n  status {self.status}{', refused' if self.refused else ''}\n  client: {self.near}\n  far end: {self.far}"


def make_talks(seed, calm):
    rng = random.Random(seed + " websockets")
    if rng.random() < 0.4:
        return []
    often = rng.choice((0, 0.1, 0.5))
    talks = []
    for i in range(rng.choice((1, 4, 12, 30))):
        t = Talk(FIRST + i, rng.choice(list(FARS)), rng.choice(("tcp", "unix", "tls")), closes=rng.choice(("client", "far")))
        t.sizes = tuple(rng.choice((0, 5, 125, 126, 3000, 65535, 65536, 200000)) for _ in range(rng.choice((1, 2, 5, 20))))
        t.pause = rng.choice((0, 0, 0.002, 0.05))
        t.slow, t.receive_buffer = rng.choice(((0, None), (0, None), (0.01, 4096)))
        if rng.random() < often:
            t.leave = rng.choice(("client", "far")), rng.randrange(len(t.sizes) + 1), rng.choice(("fin", "rst", "close")), rng.random() < 0.5
        if rng.random() < 0.5:
            t.version, t.link = "2", rng.choice((None, 1, 2))
        talks.append(t)
    return talks


class End:
    """One end at work over a Wire. Raises Gone and Cut."""

    def __init__(self, record, side, wire, who):
        self.record, self.talk, self.side, self.wire, self.who = record, record.talk, side, wire, who

    async def send(self, data):
        self.side.sent += data
        await self.wire.sock.send(data)

    async def need(self, n):
        while len(self.wire.buffer) < n:
            if not await self.wire.fill():
                self.side.ended = self.wire.ended
                self.side.got += self.wire.take(len(self.wire.buffer))
                raise Cut(self.wire.ended)

    async def read_frame(self):
        """(kind, payload)."""
        await self.need(2)
        n, at = self.wire.buffer[1] & 0x7f, 2
        masked = bool(self.wire.buffer[1] & 0x80)
        if masked == self.side.masked:
            raise BadMessage(f"{self.who} got a frame with mask {masked}")
        if n >= 126:
            at += 2 if n == 126 else 8
            await self.need(at)
            n = int.from_bytes(self.wire.buffer[2:at], "big")
        if n > 1 << 22 or self.wire.buffer[0] not in (BINARY, CLOSE):
            raise BadMessage(f"{self.who} got {bytes(self.wire.buffer[:14])!r}")
        mask_at, at = at, at + (4 if masked else 0)
        await self.need(at + n)
        mask = bytes(self.wire.buffer[mask_at:at])
        raw = self.wire.take(at + n)
        payload = bytes(b ^ mask[i % 4] for i, b in enumerate(raw[at:])) if any(mask) else raw[at:]
        if raw[0] == CLOSE:
            self.side.code = payload[:2]
        if not any(mask):  # what Tarry itself says is not the other end's
            self.side.got += raw
        return raw[0], payload

    async def leave_after(self, n):
        """Leaves if the plan says so. True: it has left."""
        leave = self.talk.leave
        if not leave or leave[0] != self.who or leave[1] != n:
            return False
        if leave[3]:
            part = frame(BINARY, b"part of a frame", self.side.masked)[:-4]
            await self.send(part)
        self.side.left = True
        self.wire.sock.end(leave[2] if leave[2] == "rst" else "fin")
        return True

    async def close(self):
        await self.send(frame(CLOSE, b"\x03\xe8", self.side.masked))

    async def run_far(self):
        for n in range(len(self.talk.sizes) + 1):
            if await self.leave_after(n):
                return
            if n == len(self.talk.sizes) and self.talk.closes == "far":
                await self.close()
                return await self.drain()
            kind, payload = await self.read_frame()
            if kind == CLOSE:
                await self.send(frame(CLOSE, payload, False))
                return await self.wire.sock.finish()
            await self.send(frame(BINARY, payload, False))

    async def drain(self):
        while (await self.read_frame())[0] != CLOSE:
            pass
        await self.wire.sock.finish()

    async def run_near(self):
        sending = asyncio.create_task(self.send_messages())
        try:
            n = 0
            while True:
                if self.talk.slow:
                    await asyncio.sleep(self.talk.slow)
                kind, payload = await self.read_frame()
                if kind == CLOSE:
                    break
                if payload != content(self.talk.number, f"m{n}", self.talk.sizes[n]):
                    raise BadMessage(f"message {n} came back as {payload[:50]!r}")
                n += 1
            if not self.side.left and self.side.sent[-8:] != frame(CLOSE, b"\x03\xe8", True):
                await self.send(frame(CLOSE, b"\x03\xe8", True))
            while await self.wire.fill():  # the server closes first
                pass
            self.side.ended = self.wire.ended
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def send_messages(self):
        for n in range(len(self.talk.sizes) + 1):
            if await self.leave_after(n):
                return
            if self.talk.holds and n == len(self.talk.sizes) - 1:
                self.record.held.reach()
                await self.record.go.wait()
            if n < len(self.talk.sizes):
                await self.send(frame(BINARY, content(self.talk.number, f"m{n}", self.talk.sizes[n]), True))
                await asyncio.sleep(self.talk.pause)
        if self.talk.closes == "client":
            await self.close()


async def serve(world, wire, m, number):
    """The far end of one, whose handshake is `m`."""
    record = world.talks.get(number)
    if not record:
        world.fail(f"a handshake for {m.target!r}")
        return
    record.far = wire.sock.sent = side = Side(False)
    await wire.sock.send(write_head("HTTP/1.1 101 Switching Protocols", [
        ("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept(m.headers.get("Sec-WebSocket-Key")))]))
    end = End(record, side, wire, "far")
    try:
        await end.run_far()
    except (Gone, Cut, OSError) as e:
        side.ended = side.ended or getattr(e, "how", "reset")
    except BadMessage as bad:
        world.fail(f"a WebSocket's far end: {bad}", record)


class Client:
    def __init__(self, world, talk):
        self.world, self.talk, self.record = world, talk, world.talks[talk.number]

    async def run(self):
        begun = time.monotonic()
        try:
            await self.talk_to_it()
        except (OSError, Gone, Cut, ValueError) as e:
            self.record.near.ended = self.record.near.ended or getattr(e, "how", "reset")
            self.record.refused = self.record.status is None
        except BadMessage as bad:
            if not self.record.near.left:
                self.world.fail(f"a WebSocket's client: {bad}", self.record)
        self.record.seconds = time.monotonic() - begun
        self.record.over = True

    async def talk_to_it(self):
        sock = await Sock.connect(self.world.proxy.address(self.talk.listener), self.talk.receive_buffer)
        try:
            if self.talk.listener == "tls":
                await sock.wrap(self.world.client_tls(["http/1.1"]), name="localhost")
            wire = Wire(sock)
            await sock.send(write_head(f"GET {FARS[self.talk.far]}{self.talk.number} HTTP/1.1", [("Host", "localhost"), *asking(key=KEY)]))
            m = await wire.response()
            self.record.status = m.status
            if m.status == 101:
                await End(self.record, self.record.near, wire, "client").run_near()
        finally:
            sock.close()


class Judge:
    """`calm`: neither the conf nor an event of the round excuses a failure."""

    def __init__(self, world, record, calm):
        self.world, self.record, self.calm = world, record, calm

    def fail(self, text):
        self.world.fail(text, self.record)

    def judge(self):
        r, t = self.record, self.record.talk
        if not r.over:
            self.fail("a WebSocket's client never came to its end")
            return
        if r.far:
            self.passed(r.near, r.far, "the far end")
            self.passed(r.far, r.near, "the client")
        if not self.calm:
            return
        if r.status != 101:
            self.fail(f"a WebSocket was refused with {r.status}")
        elif not t.leave:
            if r.near.code is None or r.far.code is None:
                self.fail("no Close frame came")
            elif r.near.got != r.far.sent or r.far.got != r.near.sent:
                self.fail("a WebSocket lost bytes")
        elif r.far.left and r.near.ended is None or r.near.left and r.far.ended is None and r.far.code is None:
            self.fail("an end was not told that the other has left")

    def passed(self, source, sink, name):
        if source.sent.startswith(sink.got):
            return
        behind = sink.got[len(source.sent):] if sink.got.startswith(source.sent) else None
        at = next((i for i, (a, b) in enumerate(zip(source.sent, sink.got)) if a != b), min(len(source.sent), len(sink.got)))
        if behind is None:
            behind = sink.got[at:]
        if behind != frame(CLOSE, GOING_AWAY, False):  # Tarry's own; a client's is masked and not noted
            self.fail(f"{name} got other bytes from {at} on: {sink.got[at:at + 40]!r}, not {source.sent[at:at + 40]!r}")
