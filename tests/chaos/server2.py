"""The HTTP/2 upstream."""

import asyncio
import contextlib

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hyperframe.frame import GoAwayFrame

from .server import PATIENCE, Server, TARGET, choose_call, look_at_call, Peer
from .sock import Gone

CODES = h2.errors.ErrorCodes


class Stream:
    def __init__(self, conn, number, fields):
        self.conn, self.number = conn, number
        self.fields = dict(fields)
        self.body = b""
        self.whole = asyncio.Event()
        self.over = asyncio.Event()  # reset by the peer, or the connection has ended
        self.task = None


class Conn:
    """One connection: a reader, and a task for each stream."""

    def __init__(self, server, sock):
        self.server, self.sock = server, sock
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1",
                                                                       validate_outbound_headers=False))
        self.streams = {}
        self.window = asyncio.Event()

    async def flush(self):
        data = self.h2.data_to_send()
        if data:
            await self.sock.send(data)

    async def run(self):
        self.h2.initiate_connection()
        self.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.server.max_streams})
        await self.flush()
        try:
            while True:
                data = await self.sock.recv()
                if not data:
                    return
                for event in self.h2.receive_data(data):
                    self.take(event)
                await self.flush()
        except h2.exceptions.ProtocolError as e:
            self.server.world.fail(f"the HTTP/2 upstream was sent bad frames: {e!r}")
        finally:
            for stream in self.streams.values():
                stream.over.set()
            self.window.set()

    def take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.RequestReceived):
            stream = self.streams[event.stream_id] = Stream(self, event.stream_id, event.headers)
            stream.task = asyncio.create_task(self.server.guard_stream(stream))
            self.server.tasks.add(stream.task)
            stream.task.add_done_callback(self.server.tasks.discard)
        elif isinstance(event, h2.events.DataReceived):
            stream.body += event.data
            with contextlib.suppress(h2.exceptions.ProtocolError):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            stream.whole.set()
        elif isinstance(event, h2.events.StreamReset) and stream:
            stream.over.set()
            self.window.set()
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            self.window.set()

    async def send(self, stream, data, end):
        while True:
            if stream.over.is_set():
                raise Gone("reset")
            self.window.clear()
            try:
                room = min(self.h2.local_flow_control_window(stream.number), self.h2.max_outbound_frame_size)
                if room > 0 or not data:
                    piece, data = data[:room], data[room:]
                    self.h2.send_data(stream.number, piece, end_stream=end and not data)
                    await self.flush()
                    if not data:
                        return
                    continue
            except h2.exceptions.ProtocolError as e:
                raise Gone("reset") from e
            await self.window.wait()


class H2Upstream(Server):
    def __init__(self, world, name, tls, max_streams=100):
        super().__init__(world)
        self.name, self.tls, self.max_streams = name, tls, max_streams

    origin = property(lambda self: "https://" + self.address)

    async def serve(self, sock):
        await sock.wrap(self.tls, server_side=True)
        await Conn(self, sock).run()

    async def guard_stream(self, stream):
        found = TARGET.match(stream.fields[":path"].partition("?")[0])
        record = found and self.world.records.get(int(found[1] or found[3]))
        if not record:
            self.world.fail(f"the HTTP/2 upstream was asked for {stream.fields[':path']!r}")
            return
        answer, sent, what = choose_call(record, found)
        sent.method, sent.tls = stream.fields[":method"], True
        try:
            await self.answer(stream, record, answer, sent, what)
        except (Gone, OSError, h2.exceptions.H2Error):
            sent.peer_left = sent.peer_left or not sent.cut

    async def whole(self, stream, record, sent):
        """Waits for the request's end. Gone if it never comes."""
        over = asyncio.ensure_future(stream.over.wait())
        whole = asyncio.ensure_future(stream.whole.wait())
        try:
            await asyncio.wait((over, whole), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            whole.cancel()
        if not stream.whole.is_set():
            raise Gone("reset")
        sent.request_whole = True
        look_at_call(self.world, record, sent, stream.body)

    async def answer(self, stream, record, answer, sent, what):
        conn = stream.conn
        if not answer.early:
            await self.whole(stream, record, sent)
        await asyncio.sleep(answer.delay)
        await self.hold(stream, record, answer.wait)
        if answer.fault == "silent":
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stream.over.wait(), PATIENCE)
            sent.peer_left = True
            return
        if answer.fault in ("before", "head", "garbage"):
            await self.break_off(conn, stream, answer, sent)
            return
        fields, body = Peer.made(self, record, answer, sent, what, sent.method)
        bare = not body
        head = [(":status", str(answer.status))] + [(n.lower(), v) for n, v in fields]
        if answer.framing == "length" and answer.status not in (204, 304) and sent.method != "HEAD":
            head.append(("content-length", str(len(body))))
        record.reach("upstream_head")
        if bare and answer.whole:
            sent.whole = True
        conn.h2.send_headers(stream.number, head, end_stream=bare and answer.whole)
        if bare or answer.gap or answer.pieces > 1 or not answer.whole:
            await conn.flush()  # otherwise it goes out with the first data
        await asyncio.sleep(answer.gap)
        await self.send_body(conn, stream, record, answer, sent, body)

    @staticmethod
    async def hold(stream, record, point):
        """Waits for the moment; Gone if that is the end of the stream."""
        if point == "gone":
            await asyncio.wait_for(stream.over.wait(), PATIENCE)
            raise Gone("reset")
        if point:
            await record.point(point).wait()

    async def send_body(self, conn, stream, record, answer, sent, body):
        upto = len(body) // 2 if answer.fault == "body" else 0 if answer.fault == "behind" else len(body)
        step = -(-len(body) // max(1, answer.pieces)) or 1
        for at in range(0, upto, step):
            piece = body[at:min(at + step, upto)]
            last = answer.whole and at + step >= upto
            if last:
                sent.whole = True
            await conn.send(stream, piece, last)
            sent.written += len(piece)
            record.reach("upstream_body")
            if at == 0:
                await self.hold(stream, record, answer.wait_body)
            if answer.pause and not last:
                await asyncio.sleep(answer.pause)
        if not answer.whole:
            await self.break_off(conn, stream, answer, sent)
        else:
            record.reach("upstream_end")
            if answer.close:  # gracefully; the package's own way would end the other streams
                goaway = GoAwayFrame(0)
                goaway.last_stream_id = (1 << 31) - 1
                await conn.sock.send(goaway.serialize())

    @staticmethod
    async def break_off(conn, stream, answer, sent):
        """By a reset of the stream, the end of the connection, or bytes that are no frames."""
        sent.cut = True
        if answer.fault == "garbage":
            await conn.sock.send(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00")  # WINDOW_UPDATE of 0
        if answer.how == "rst" and answer.fault != "garbage":
            with contextlib.suppress(h2.exceptions.ProtocolError):
                conn.h2.reset_stream(stream.number, CODES.INTERNAL_ERROR)
                await conn.flush()
        else:
            conn.sock.end(answer.how)
