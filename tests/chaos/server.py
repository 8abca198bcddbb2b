"""The worker and the HTTP/1.1 upstream. A request's path names its exchange, and the plan of that exchange says what it gets."""

import asyncio
import contextlib
import gzip
import os
import re
import socket
import traceback

from harness.base import free_port
from harness.handoffs import call, enclosed, replay_parts
from harness.parts import read_pieces

from . import talks
from .http1 import BadMessage, Cut, Wire, chunk, write_head
from .plan import Answer, Handoff
from .record import Sent, content
from .runs import Runs
from .sock import Gone, Sock

TARGET = re.compile(r"/(?:x/(\d+)(?:/([a-z0-9]+))?|(?:c|gws?)/(\d+)(?:/(\d+))?)\Z")
PATIENCE = 90  # of a peer that never answers


def body_of(answer, number, what, method="GET"):
    """The answer's body, decoded."""
    if method == "HEAD" or answer.status in (204, 304):
        return b""
    return content(number, what, answer.size)


class Server:
    """A listener with its connections. What they do is a subclass's affair."""

    backlog = 256

    def __init__(self, world, address=None):
        self.world = world
        self.address = address or f"127.0.0.1:{free_port()}"
        self.conns = set()
        self.tasks = set()
        self._listener = self._door = self._accepting = None

    async def start(self):
        if self.address.startswith("unix:"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.address[5:])
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self.address[5:])
        else:
            host, _, port = self.address.rpartition(":")
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((host, int(port)))
        self._listener.listen(self.backlog)
        self._door = Sock(self._listener)
        self._accepting = asyncio.create_task(self._accept(self._door))

    async def _accept(self, door):
        while True:
            try:
                raw = await door.accept()
            except Gone:
                return
            task = asyncio.create_task(self._guard(Sock(raw)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _guard(self, sock):
        self.conns.add(sock)
        try:
            await self.serve(sock)
        except (Gone, Cut, OSError):
            pass
        except BadMessage as e:
            self.world.fail(f"{type(self).__name__} was sent bad HTTP: {e}")
        except Exception:
            self.world.fail(f"{type(self).__name__} failed: {traceback.format_exc()}")
        finally:
            sock.close()
            self.conns.discard(sock)

    def drop(self):
        """Ends all connections, as a process that dies does."""
        for sock in list(self.conns):
            if sock.sent:
                sock.sent.killed = True  # its last answer may not have been read yet
            sock.reset()

    def unlisten(self):
        self._door.close()  # and not the socket alone: its number is soon another's, which the loop would take for this one

    async def restart(self, away):
        self.unlisten()
        self.drop()
        await asyncio.sleep(away)
        await self.start()

    async def stop(self):
        self.unlisten()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def serve(self, sock):
        raise NotImplementedError


class Peer(Server):
    """What worker and HTTP/1.1 upstream have in common: a connection with one request after the other."""

    tls = None
    side = "worker_"  # of the points that it reaches

    async def serve(self, sock):
        if self.tls:
            await sock.wrap(self.tls, server_side=True)
        wire = Wire(sock)
        while True:
            m = await wire.request()
            if m is None:
                return
            if m.target == "/.tarry/pieces":
                await self.pieces(wire, await wire.body(m))
                continue
            found = TARGET.match(m.target.partition("?")[0])
            if found and m.headers.get("Upgrade") == "websocket":
                await talks.serve(self.world, wire, m, int(found[1] or found[3]))
                return
            record = found and self.world.records.get(int(found[1] or found[3]))
            if not record:
                self.world.fail(f"{type(self).__name__} was asked for {m.target!r}")
                return
            if not await self.exchange(wire, m, record, found):
                return

    async def pieces(self, wire, m):
        self.world.fail(f"{type(self).__name__} was visited with pieces")

    async def exchange(self, wire, m, record, found):
        """One request. True if another may come on the connection."""
        answer, sent, what = self.choose(m, record, found)
        sent.tls = wire.sock.tls is not None
        sent.local = wire.sock.local
        wire.sock.sent = sent
        if not answer.early:
            await self.take_body(wire, m, record, sent)
        try:
            stay = await self.answer(wire, m, record, answer, sent, what)
        except Gone:
            sent.peer_left = True
            raise
        if answer.early and stay:
            if answer.unread and not self.at_end(m):
                sent.cut = True  # closing over unread bytes resets the connection
                return False
            await self.take_body(wire, m, record, sent)
        return stay

    @staticmethod
    def at_end(m):
        return m.kind == "absent" or m.length == 0

    async def take_body(self, wire, m, record, sent):
        await wire.body(m)
        sent.request_whole = True
        self.look(m, record, sent)

    def choose(self, m, record, found):
        raise NotImplementedError

    def look(self, m, record, sent):
        """Judges a request that has come whole."""

    def made(self, record, answer, sent, what, method):
        """(header fields, body as it is to go out)."""
        sent.body = body_of(answer, record.exchange.number, what, method)
        fields, wire_body = [("Content-Type", answer.type), *answer.fields], sent.body
        if answer.gzip and sent.body:
            fields.append(("Content-Encoding", "gzip"))
            wire_body = gzip.compress(sent.body, 1)
        return fields, wire_body

    async def answer(self, wire, m, record, answer, sent, what):
        sock = wire.sock
        await asyncio.sleep(answer.delay)
        if not await self.hold(sock, record, answer.wait, sent):
            return False
        if answer.fault in ("before", "silent", "garbage"):
            sent.cut = True
            if answer.fault == "silent":
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(sock.watch(), PATIENCE)
                sent.peer_left = True
            elif answer.fault == "garbage":
                await sock.send(b"\x00\x01 garbage \xff" * 20)
            sock.end(answer.how)
            return False
        fields, body = self.made(record, answer, sent, what, m.method)
        bare = m.method == "HEAD" or answer.status in (204, 304)
        close = answer.close or answer.framing == "close" or answer.early and answer.unread
        head = self.head(answer, fields, body, bare, close)
        if answer.fault == "head":
            sent.cut = True
            await sock.send(head[:len(head) * 2 // 3])
            sock.end(answer.how)
            return False
        record.reach(self.side + "head")
        if bare:
            body = b""
        if not await self.send_rest(sock, record, answer, sent, head, body, bare):
            return False
        if close and not (answer.early and answer.unread):
            await sock.finish()
            return False
        return True

    @staticmethod
    async def hold(sock, record, point, sent):
        """Waits for the moment. False if that is the end of the connection."""
        if point == "gone":
            try:
                await asyncio.wait_for(sock.watch(), PATIENCE)
                sent.peer_left = True
            except asyncio.TimeoutError:
                pass
            sock.close()
            return False
        if point:
            await record.point(point).wait()
        return True

    @staticmethod
    def head(answer, fields, body, bare, close):
        fields = list(fields)
        if answer.status == 204 or bare and answer.framing != "length":
            pass
        elif answer.framing == "length":
            fields.append(("Content-Length", len(body)))
        elif answer.framing == "chunked":
            fields.append(("Transfer-Encoding", "chunked"))
        if close:
            fields.append(("Connection", "close"))
        return write_head(f"HTTP/1.1 {answer.status} Planned", fields)

    async def send_rest(self, sock, record, answer, sent, head, body, bare):
        """The head, and the body in its pieces. False if the plan was to break off."""
        upto = len(body) // 2 if answer.fault == "body" else 0 if answer.fault == "behind" else len(body)
        step = -(-len(body) // max(1, answer.pieces)) or 1
        chunked = answer.framing == "chunked" and not bare
        # Together with the last bytes: what comes after the next request has left could not be told from its answer.
        behind = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged" if answer.fault == "trailing" else b""
        pending = head
        if (answer.gap or answer.fault == "behind") and not (behind and not upto):
            await sock.send(pending)
            pending = b""
            await asyncio.sleep(answer.gap)
        for at in range(0, upto, step):
            piece = body[at:min(at + step, upto)]
            last = b"" if chunked or at + step < upto else behind
            await sock.send(pending + (chunk(piece) if chunked else piece) + last)
            pending = b""
            sent.written += len(piece)
            record.reach(self.side + "body")
            if at == 0 and not await self.hold(sock, record, answer.wait_body, sent):
                return False
            if answer.pause and at + step < upto:
                await asyncio.sleep(answer.pause)
        if not answer.whole:
            sent.whole = bare  # an end behind a head that has no body is no cut
            sent.cut = True
            if pending:
                await sock.send(pending)
            sock.end(answer.how)
            return False
        if chunked:
            pending += b"0\r\n\r\n" + behind
        elif not upto:
            pending += behind
        sent.whole = True  # before the last bytes: whoever gets them may look at once
        if pending:
            await sock.send(pending)
        record.reach(self.side + "end")
        return True


class OwnAddress(Server):
    """Of a worker's process, beside the address that it may share with others. Its connections are the worker's."""

    def __init__(self, worker):
        super().__init__(worker.world, worker.address + ".own")
        self.conns, self.tasks, self.serve = worker.conns, worker.tasks, worker.serve


class Worker(Peer):
    def __init__(self, world, address=None):
        super().__init__(world, address)
        self.own = OwnAddress(self) if self.address.startswith("unix:") else None
        self.runs = Runs(world, self.own and self.own.address)

    async def start(self):
        await super().start()
        if self.own:
            await self.own.start()

    def unlisten(self):
        super().unlisten()
        if self.own:
            self.own.unlisten()

    def drop(self):
        super().drop()
        self.runs = Runs(self.world, self.runs.address)

    async def pieces(self, wire, m):
        strangers = {p.exchange for p in read_pieces(m) if p.outcome == "cancelled"} - self.sticky_ones()
        if strangers:
            self.world.fail(f"a worker was told of what is no run of its: {m.body[:300]!r}")
        reply, breaks = self.runs.pieces(m)
        await wire.sock.send(reply.head())
        await wire.sock.send(chunk(reply.body) + (b"" if breaks else b"0\r\n\r\n"))
        if breaks:
            wire.sock.end(breaks)
            raise Gone("closed")

    def sticky_ones(self):
        return {v.headers.get("Tarry-Exchange") for r in self.world.records.values() for v in r.visits
                if r.exchange.view or getattr(v.answer, "sticky", None)}

    async def exchange(self, wire, m, record, found):
        if record.exchange.view is None or found[2]:
            return await super().exchange(wire, m, record, found)
        kind = m.headers.get("Tarry-Kind")
        sent = Sent(kind, Answer(), headers=m.headers, hop=int(m.headers.get("Tarry-Hop")), method=m.method, local=wire.sock.local)
        record.visits.append(sent)
        wire.sock.sent = sent
        runs = self.runs
        record.reach("visited" if kind == "request" else "resumed")
        await wire.body(m)
        sent.request_whole = True
        if kind == "request" and m.body != content(record.exchange.number, "body", record.exchange.size):
            self.world.fail(f"a worker got another body: {m.body[:100]!r}", record)
        reply = runs.visit(m, record)
        message = reply.head() + (chunk(reply.body) + b"0\r\n\r\n" if reply.framing == "chunked" else reply.body)
        half = len(message) // 2
        if kind == "request" and not await self.hold(wire.sock, record, record.exchange.view.hold, sent):
            return False
        record.reach("worker_head")
        await wire.sock.send(message[:half])
        await asyncio.sleep(record.exchange.pause)
        breaks = runs.breaks(record)
        if breaks:
            sent.cut = True
            runs.of.pop(m.headers.get("Tarry-Exchange"), None)
            wire.sock.end(breaks)
            return False
        await wire.sock.send(message[half:])
        record.reach("handoff")
        return True

    def choose(self, m, record, found):
        kind = m.headers.get("Tarry-Kind") or "none"
        hop = int(m.headers.get("Tarry-Hop") or 0)
        if kind == "resume":
            kind = found[2] or "request"
        elif kind == "replay" and hop > 1:
            kind = "replay2"
        answer = record.exchange.answer(kind, record.count(kind))
        sent = Sent(kind, answer, headers=m.headers, hop=hop, method=m.method)
        record.visits.append(sent)
        record.reach("visited" if kind == "request" else "resumed")
        if hop and m.headers.get("Tarry-State") not in self.states(record, hop):
            self.world.fail(f"Tarry-State {m.headers.get('Tarry-State')!r} at hop {hop}, not {self.states(record, hop)}", record)
        return answer, sent, kind

    @staticmethod
    def states(record, hop):
        """Those of the handoffs that the hop before has given, each over a delivery of its own."""
        return {v.answer.state for v in record.visits if isinstance(v.answer, Handoff) and v.hop < hop}

    def look(self, m, record, sent):
        e, body = record.exchange, m.body
        if sent.kind == "request" and body != content(e.number, "body", e.size):
            self.world.fail(f"a worker got another body: {body[:100]!r}", record)
        if sent.kind.startswith("replay"):
            original, sent.enclosed = replay_parts(m)
            if original != content(e.number, "body", e.size):
                self.world.fail(f"a replay has another body: {original[:100]!r}", record)
        elif sent.kind != "request":
            sent.enclosed = enclosed(body)

    def made(self, record, answer, sent, what, method):
        if not isinstance(answer, Handoff):
            return super().made(record, answer, sent, "w-" + what, method)
        e, number = record.exchange, record.exchange.number
        body = b"".join(
            call(f"{self.world.origin(c.upstream)}/c/{number}/{c.index}", content(number, f"call{c.index}", c.size), method="POST",
                 id=f"{number}.{c.index}", timeout=c.timeout, retries=c.retries,
                 headers=dict({"Content-Type": "text/plain"}, **({"Tarry-Limit-Key": c.tenant} if c.tenant else {}))) for c in answer.calls)
        then = answer.then
        if then == "resume":
            then += f" /x/{number}/" + ("resume" if what == "request" else "resume2")
        fields = [("Content-Type", answer.type), ("Tarry-Then", then)]
        for name, value in (("Tarry-State", answer.state), ("Tarry-Keep-Alive", answer.keep_alive), ("Tarry-On-Disconnect", answer.on_disconnect),
                            ("Tarry-Sticky", answer.sticky), ("Tarry-Wait", answer.wait_for),
                            ("Tarry-On-Error", answer.on_error and f"/x/{e.number}/error"),
                            ("Tarry-Notify", answer.notify and f"/x/{e.number}/notify")):
            if value:
                fields.append((name, value))
        sent.body = body
        if answer.gzip:
            fields.append(("Content-Encoding", "gzip"))
            body = gzip.compress(body, 1)
        return fields, body

    async def answer(self, wire, m, record, answer, sent, what):
        stay = await super().answer(wire, m, record, answer, sent, what)
        if isinstance(answer, Handoff):
            record.reach("handoff")
        return stay


class Upstream(Peer):
    side = "upstream_"

    def __init__(self, world, name, tls=None):
        super().__init__(world)
        self.name, self.tls = name, tls

    origin = property(lambda self: ("https://" if self.tls else "http://") + self.address)

    def choose(self, m, record, found):
        answer, sent, what = choose_call(record, found)
        sent.headers, sent.method = m.headers, m.method
        return answer, sent, what

    def look(self, m, record, sent):
        look_at_call(self.world, record, sent, m.body)


def choose_call(record, found):
    """What a request to an upstream gets: (answer, its record, whose the body is)."""
    index = int(found[4] or 0)
    if index >= len(record.exchange.calls):
        return Answer(404), Sent("call", Answer(404), index=index), "none"
    planned = record.exchange.calls[index]
    attempt = sum(c.index == index for c in record.calls)
    answer = planned.attempts[min(attempt, len(planned.attempts) - 1)]
    sent = Sent("call", answer, index=index, attempt=attempt)
    record.calls.append(sent)
    record.reach("called")
    return answer, sent, f"u{index}.{attempt}"


def look_at_call(world, record, sent, body):
    e = record.exchange
    expected = content(e.number, "body", e.size) if e.kind == "gateway" else content(e.number, f"call{sent.index}", e.calls[sent.index].size)
    if body != expected:
        world.fail(f"an upstream got another body for call {sent.index}: {body[:100]!r}", record)


class BlackHole(Server):
    """Connects to it neither succeed nor fail: its queue is full."""

    backlog = 0

    async def start(self):
        await super().start()
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._held = []
        for _ in range(8):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(self._listener.getsockname())
            self._held.append(s)

    async def stop(self):
        for s in self._held:
            s.close()
        self._door.close()
