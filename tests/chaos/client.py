"""Clients: each connection of a plan, and its exchanges on it."""

import asyncio
import contextlib
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from .http1 import BadMessage, Cut, Wire, chunk, write_head
from .record import Result, content
from .sock import Gone, Sock


SLOW_READS = 60  # of a slow reader; it then hurries, so that a round comes to its end


def request_of(e):
    """(path, end-to-end header fields, body)."""
    path = f"{e.prefix or ('/gw/' if e.kind == 'gateway' else '/x/')}{e.number}"
    fields = [("X-Number", str(e.number)), *e.fields]
    if e.encoding:
        fields.append(("Accept-Encoding", e.encoding))
    return path, fields, content(e.number, "body", e.size)


class Leaver:
    """Makes a client leave at the moment that its plan names, whatever it is at then."""

    def __init__(self, world, record, act):
        e = record.exchange
        self.task = None
        if e.leave:
            point = record.point(e.leave[0])
            if e.freeze and not point.reached:
                point.hook = world.proxy.freeze
            self.task = asyncio.create_task(self._run(record, point, e.leave[1], act))

    @staticmethod
    async def _run(record, point, how, act):
        await point.wait()
        if not record.result.complete:
            record.result.left = True
            act(how)
            record.reach("left")

    def stop(self):
        if self.task:
            self.task.cancel()


class Http1:
    """The exchanges of a connection, one after the other; a new connection whenever the old one has ended."""

    def __init__(self, world, plan):
        self.world, self.plan = world, plan
        self.sock = self.wire = None

    async def run(self):
        for e in self.plan.exchanges:
            record = self.world.records[e.number]
            record.result = result = Result()
            try:
                result.reused = self.sock is not None
                if self.sock is None:
                    await self.connect()
            except (OSError, Gone):
                result.refused = True
                self.end()
                continue
            again = await self.exchange(record, result)
            if not again:
                self.end()
        self.end()

    async def connect(self):
        self.sock = await Sock.connect(self.world.proxy.address(self.plan.listener), self.plan.receive_buffer)
        if self.plan.listener == "tls":
            await self.sock.wrap(self.world.client_tls(["http/1.1"]), name="localhost")
        self.wire = Wire(self.sock)

    def end(self):
        if self.sock:
            self.sock.close()
        self.sock = None

    async def exchange(self, record, result):
        e, sock = record.exchange, self.sock
        ends = {"fin": sock.fin, "close": sock.close, "rst": sock.reset, "stream": sock.reset}
        leaver = Leaver(self.world, record, lambda how: ends[how]())
        sending = asyncio.create_task(self.send(record, result))
        try:
            self.wire.pace = self.pace(e)
            m = await self.wire.response(e.method)
            result.status, result.headers = m.status, m.headers
            record.reach("head")
            await self.wire.body(m, lambda total: record.reach("body"))
            result.body, result.complete = m.body, True
            return self.stays(e, m) and await self.sent_in_time(sending)
        except Cut as cut:
            result.how, result.body = cut.how, cut.so_far
            return False
        except BadMessage as bad:
            if not result.left:
                self.world.fail(f"a client was sent bad HTTP: {bad}", record)
            return False
        except (OSError, ValueError, Gone):
            return False
        finally:
            result.seconds = time.monotonic() - result.begun
            sending.cancel()
            leaver.stop()
            await asyncio.gather(sending, return_exceptions=True)

    def stays(self, e, m):
        told = (m.headers.get("Connection") or "").lower()
        return not (e.close or self.world.records[e.number].result.left or "close" in told or m.kind == "close" or self.sock.closed)

    @staticmethod
    async def sent_in_time(sending):
        """Whether the request is out: an answer may come before, and what is left must go before the next request."""
        try:
            await asyncio.wait_for(asyncio.shield(sending), 10)
        except (asyncio.TimeoutError, OSError, Gone):
            return False
        return True

    @staticmethod
    def pace(e):
        if not (e.read_delay or e.read_pause or e.read_most < 65536):
            return None
        pauses = iter([e.read_delay] + [e.read_pause] * SLOW_READS)

        async def wait():
            pause = next(pauses, None)
            if pause is not None:
                await asyncio.sleep(pause)
                return e.read_most
        return wait

    async def send(self, record, result):
        e = record.exchange
        path, fields, body = request_of(e)
        fields = [("Host", "localhost"), *fields]
        chunked = e.framing == "chunked" and e.method in ("POST", "PUT")
        if chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        elif e.method in ("POST", "PUT"):
            fields.append(("Content-Length", len(body)))
        if e.expect:
            fields.append(("Expect", "100-continue"))
        if e.close:
            fields.append(("Connection", "close"))
        head = write_head(f"{e.method} {path} HTTP/1.1", fields)
        if e.leave and e.leave[0] == "request_head":
            await self.sock.send(head[:len(head) // 2])
            record.reach("request_head")
            await asyncio.sleep(0)
            head = head[len(head) // 2:]
        await self.send_body(record, head, body, chunked, result)

    async def send_body(self, record, pending, body, chunked, result):
        e = record.exchange
        if e.expect:
            await self.sock.send(pending)
            pending = b""
            await asyncio.sleep(0.05)
        step = -(-len(body) // e.pieces) or 1
        for at in range(0, len(body), step):
            piece = body[at:at + step]
            await self.sock.send(pending + (chunk(piece) if chunked else piece))
            pending = b""
            record.reach("request_body")
            await asyncio.sleep(e.pause)
        if chunked:
            pending += b"0\r\n\r\n"
        result.sent = True
        if pending:
            await self.sock.send(pending)
        record.reach("sent")


class H2Stream:
    def __init__(self, record):
        self.record = record
        self.result = record.result
        self.over = asyncio.Event()
        self.pieces = []
        self.credit = 0  # bytes taken and not given back


def graceful(connection):
    """As RFC 9113 6.8 has it: after GOAWAY the streams that the server has taken go on, and it still acknowledges settings. The
    library takes the connection for closed instead."""
    states, inputs = h2.connection.ConnectionState, h2.connection.ConnectionInputs
    machine = connection.state_machine
    machine._transitions = {**machine._transitions, **{(state, inputs.RECV_GOAWAY): (None, state) for state in (states.IDLE, states.CLIENT_OPEN)}}
    return connection


class Http2:
    """The exchanges of a connection, side by side or one after the other, as the server's limit of streams allows."""

    def __init__(self, world, plan):
        self.world, self.plan = world, plan
        self.sock = self.h2 = self.reader = None
        self.streams = {}
        self.going = False  # the server has sent GOAWAY
        self.changed = asyncio.Event()
        self.settled = asyncio.Event()  # the server's settings are known, its limit of streams among them

    async def run(self):
        records = [self.world.records[e.number] for e in self.plan.exchanges]
        for r in records:
            r.result = Result()
        try:
            await self.connect()
        except (OSError, Gone):
            for r in records:
                r.result.refused = True
            self.end()
            return
        self.reader = asyncio.create_task(self.read())
        await self.settled.wait()
        try:
            if self.going:  # it came just when the server began to leave
                await self.renew()
            if self.plan.together:
                await asyncio.gather(*(self.exchange(r) for r in records))
            else:
                for r in records:
                    if self.going:
                        await self.renew()
                    await self.exchange(r)
        finally:
            self.reader.cancel()
            await asyncio.gather(self.reader, return_exceptions=True)
            self.end()

    async def renew(self):
        """Another connection: the server takes no more requests on this one."""
        self.reader.cancel()
        await asyncio.gather(self.reader, return_exceptions=True)
        self.end()
        self.going, self.streams = False, {}
        self.settled.clear()
        try:
            await self.connect()
        except (OSError, Gone):
            return  # the next exchange finds the socket closed
        self.reader = asyncio.create_task(self.read())
        await self.settled.wait()

    async def connect(self):
        self.sock = await Sock.connect(self.world.proxy.address(self.plan.listener), self.plan.receive_buffer)
        if self.plan.listener == "tls":
            await self.sock.wrap(self.world.client_tls(["h2"]), name="localhost")
        self.h2 = graceful(h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="latin-1")))
        self.h2.local_settings = h2.settings.Settings(client=True, initial_values={
            h2.settings.SettingCodes.ENABLE_PUSH: 0, h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: self.plan.window,
            h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: 1 << 20})
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(1 << 24)
        await self.flush()

    def end(self):
        if self.sock:
            self.sock.close()

    async def flush(self):
        data = self.h2.data_to_send()
        if data:
            await self.sock.send(data)

    async def read(self):
        try:
            while True:
                data = await self.sock.recv()
                if not data:
                    break
                for event in self.h2.receive_data(data):
                    self.take(event)
                await self.flush()
        except h2.exceptions.ProtocolError as bad:
            if not self.sock.closed and not isinstance(bad, h2.exceptions.StreamClosedError):
                self.world.fail(f"an HTTP/2 client was sent bad frames: {bad!r}")
        except (Gone, OSError):
            pass
        finally:
            self.sock.close()
            for s in self.streams.values():
                s.result.how = s.result.how or "connection"
                s.over.set()
            self.changed.set()
            self.settled.set()

    def take(self, event):
        s = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ResponseReceived):
            fields = [(n, v) for n, v in event.headers]
            s.result.status = int(dict(fields)[":status"])
            from .http1 import Headers
            s.result.headers = Headers(f for f in fields if not f[0].startswith(":"))
            s.record.reach("head")
            self.changed.set()
        elif isinstance(event, h2.events.DataReceived):
            s.pieces.append(event.data)
            s.credit += event.flow_controlled_length
            if event.data:
                s.record.reach("body")
            self.changed.set()
        elif isinstance(event, h2.events.StreamEnded):
            s.result.complete = True
            s.over.set()
            self.changed.set()
        elif isinstance(event, h2.events.StreamReset) and s:
            if not s.result.complete:
                s.result.how = s.result.how or str(event.error_code)
            s.over.set()
            self.changed.set()
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self.changed.set()
            self.settled.set()
        elif isinstance(event, h2.events.WindowUpdated):
            self.changed.set()
        elif isinstance(event, h2.events.ConnectionTerminated):
            if event.error_code:
                self.world.note(f"GOAWAY {event.error_code!r} to an HTTP/2 client")
            self.going = True
            for number, stream in self.streams.items():
                if number > event.last_stream_id and not stream.over.is_set():  # the server has not looked at it
                    stream.result.reused, stream.result.how = True, "connection"
                    stream.over.set()
            self.changed.set()

    async def wait_change(self):
        self.changed.clear()
        await self.changed.wait()

    async def exchange(self, record):
        while not self.sock.closed and self.h2.open_outbound_streams >= self.h2.remote_settings.max_concurrent_streams:
            await asyncio.sleep(0.005)
        s = H2Stream(record)
        if self.going:  # meanwhile; the server looks at no further stream
            s.result.reused, s.result.how, s.result.seconds = True, "connection", 0
            return
        try:
            number = await self.begin(record, s)
        except (h2.exceptions.ProtocolError, Gone, OSError):
            s.result.refused = True
            return
        leaver = Leaver(self.world, record, lambda how: self.leave(number, s, how))
        sending = asyncio.create_task(self.send_body(number, s))
        reading = asyncio.create_task(self.give_credit(number, s))
        try:
            await s.over.wait()
        finally:
            s.result.seconds = time.monotonic() - s.result.begun
            s.result.body = b"".join(s.pieces)
            leaver.stop()
            sending.cancel()
            reading.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)

    async def begin(self, record, s):
        e = record.exchange
        path, fields, body = request_of(e)
        number = self.h2.get_next_available_stream_id()
        s.result.reused = number > 1
        head = [(":method", e.method), (":scheme", "https" if self.plan.listener == "tls" else "http"), (":authority", "localhost"),
                (":path", path), *((n.lower(), v) for n, v in fields)]
        if e.method in ("POST", "PUT") and e.framing == "length":
            head.append(("content-length", str(len(body))))
        self.h2.send_headers(number, head, end_stream=not body)
        self.streams[number] = s
        await self.flush()
        record.reach("request_head")
        if not body:
            s.result.sent = True
            record.reach("sent")
        return number

    async def send_body(self, number, s):
        e = s.record.exchange
        body = request_of(e)[2]
        step = -(-len(body) // e.pieces) or 1
        with contextlib.suppress(h2.exceptions.ProtocolError, Gone, OSError):
            while body and not s.over.is_set():
                room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size, step)
                if room <= 0:
                    await self.wait_change()
                    continue
                piece, body = body[:room], body[room:]
                self.h2.send_data(number, piece, end_stream=not body)
                await self.flush()
                s.record.reach("request_body")
                if not body:
                    s.result.sent = True
                    s.record.reach("sent")
                await asyncio.sleep(e.pause)

    async def give_credit(self, number, s):
        """Opens the window again, as fast as this client reads."""
        e = s.record.exchange
        with contextlib.suppress(h2.exceptions.ProtocolError, Gone, OSError):
            await asyncio.sleep(e.read_delay)
            slow = SLOW_READS
            while not s.over.is_set():
                if s.credit:
                    n, s.credit = s.credit, 0
                    # The package sends an update once enough has come together; a tiny window wants it at once.
                    self.h2.increment_flow_control_window(max(n, e.read_most), stream_id=number)
                    self.h2.increment_flow_control_window(n)
                    await self.flush()
                    slow -= 1
                    await asyncio.sleep(e.read_pause if slow > 0 else 0)
                else:
                    await self.wait_change()

    def leave(self, number, s, how):
        if how in ("fin", "stream"):
            with contextlib.suppress(h2.exceptions.ProtocolError):
                self.h2.reset_stream(number, h2.errors.ErrorCodes.CANCEL)
                asyncio.ensure_future(self.quiet_flush())
            s.over.set()
            return
        for other in self.streams.values():
            if not other.result.complete:
                other.result.left = True
        self.sock.end("rst" if how == "rst" else "fin")
        for other in self.streams.values():
            other.over.set()
        self.changed.set()

    async def quiet_flush(self):
        with contextlib.suppress(Gone, OSError):
            await self.flush()


def client_of(world, plan):
    return (Http2 if plan.version == "2" else Http1)(world, plan)
