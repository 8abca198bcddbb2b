"""What has happened to an exchange, as clients and servers saw it; rules.py judges it."""

import asyncio
import time


def content(number, what, size):
    """`size` bytes that tell whose they are. Nothing in them looks like keep-alive bytes or a problem."""
    unit = b"<%d.%s>" % (number, what.encode())
    return (unit * (size // len(unit) + 1))[:size]


class Moment:
    """A point that is reached once; whoever waits for it goes on at once."""

    def __init__(self):
        self._event = asyncio.Event()
        self.hook = None  # called at once when it is reached for the first time

    def reach(self):
        if self.hook and not self.reached:
            self.hook()
        self._event.set()

    async def wait(self):
        await self._event.wait()

    reached = property(lambda self: self._event.is_set())


class Sent:
    """One answer as a server gave it."""

    def __init__(self, kind, answer, **more):
        self.kind, self.answer = kind, answer
        self.body = b""  # what it meant to send, decoded
        self.written = 0  # how much of it was handed to the kernel
        self.whole = False  # all of it was, and the connection was not ended within it
        self.cut = False  # ended on purpose before its end
        self.peer_left = False  # Tarry ended the connection or the stream first
        self.headers = None  # of the request
        self.enclosed = None
        self.request_whole = False
        self.tls = self.local = False  # of its connection
        self.killed = False  # its server's process has died, as far as its connections can tell
        self.__dict__.update(more)


def versions(sent):
    """The bodies that its peer may take for whole."""
    if sent.whole:
        yield sent.body
    elif sent.answer.framing == "close" and not sent.tls and (sent.answer.how == "fin" or sent.local) and sent.answer.fault in ("body", "behind"):
        yield sent.body[:sent.written]  # over HTTP/1.1 such an end is no cut


class Result:
    """What the client got."""

    def __init__(self):
        self.status = self.headers = None
        self.begun, self.seconds = time.monotonic(), None
        self.body = b""
        self.complete = False
        self.how = None  # of a cut: eof, reset, or a stream's error code
        self.left = False  # it left by itself
        self.reused = False  # it was not the connection's first
        self.sent = False  # the request went out whole
        self.refused = False  # no connection, or it ended before a byte of the response

    def __repr__(self):
        return (f"{'' if self.seconds is None else f'{self.seconds:.1f} s, '}status {self.status} {'complete' if self.complete else f'cut ({self.how})'}{', left' if self.left else ''}{', connection reused' if self.reused else ''}, "
                f"{len(self.body)} bytes {self.body[:80]!r}")


class Record:
    def __init__(self, exchange):
        self.exchange = exchange
        self.points = {}
        self.visits = []  # Sent, by the worker
        self.calls = []  # Sent, by upstreams; has .index
        self.result = None
        self.pieces = 0  # with which its run was visited
        self.turns = 0  # of its view: visits of every kind

    def point(self, name):
        if name not in self.points:
            self.points[name] = Moment()
        return self.points[name]

    def reach(self, name):
        self.point(name).reach()

    def count(self, kind):
        return sum(v.kind == kind for v in self.visits)

    def describe(self):
        e = self.exchange
        lines = [f"exchange {e.number}: {e}", f"  client: {self.result}"]
        if self.pieces:
            lines.append(f"  pieces: {self.pieces}")
        for v in self.visits + self.calls:
            outcome = v.headers and v.headers.get("Tarry-Outcome")
            lines.append(f"  {v.kind}{getattr(v, 'index', '')}{' ' + outcome if outcome else ''}: status {v.answer.status}, {v.written} of {len(v.body)} bytes"
                         f"{' whole' if v.whole else ''}{' cut' if v.cut else ''}{' peer left' if v.peer_left else ''}"
                         f"{'' if v.enclosed is None else ' enclosing ' + repr(v.enclosed)[:300]}")
        return "\n".join(lines)
