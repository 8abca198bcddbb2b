"""An HTTP/2 client made of frames: it can behave, and it can send whatever a test wants to see refused."""

import select
import socket
import ssl
import struct
import time

from hpack import Decoder, Encoder
from hyperframe.frame import Frame

from . import base
from .base import DEADLINE
from .http1 import Headers, Truncated, as_bytes, pairs

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
PRIORITY_UPDATE = 16
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED, FRAME_SIZE_ERROR, \
    REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(12)
TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_HEADER_LIST = range(1, 7)
ENABLE_CONNECT, NO_PRIORITIES = 8, 9


def frame(kind, flags=0, stream=0, payload=b""):
    """A frame as bytes, whether or not it makes sense."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings_frame(values=(), ack=False):
    return frame(SETTINGS, ACK if ack else 0, 0, b"".join(struct.pack(">HI", k, v) for k, v in dict(values).items()))


def reset_frame(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def window_frame(stream, increment):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


class H2Response:
    """What has come on one stream."""

    def __init__(self, client, number):
        self.client, self.id = client, number
        self.status = None
        self.headers = Headers()
        self.interim = []
        self.pieces = []  # (when, bytes)
        self.trailers = None
        self.complete = False
        self.reset_code = None

    so_far = property(lambda self: b"".join(p for _, p in self.pieces))
    body = property(lambda self: self.so_far)
    over = property(lambda self: self.complete or self.reset_code is not None or self.client.ended)

    def head(self, timeout=None):
        """Waits for the response's head."""
        self.client.pump(lambda: self.status is not None or self.over, f"the head of stream {self.id}", timeout)
        if self.status is None:
            raise Truncated(f"stream {self.id} ended with {self.reset_code}", b"")
        return self

    def until(self, mark, timeout=None):
        self.client.pump(lambda: mark in self.so_far or self.over, f"{mark!r} on stream {self.id}", timeout)
        assert mark in self.so_far, f"{mark!r} never came: {self.so_far!r}, reset {self.reset_code}"
        return self.so_far

    def read(self, timeout=None):
        """Waits for the end. Raises Truncated if it is a reset or the end of the connection."""
        self.client.pump(lambda: self.over, f"the end of stream {self.id}", timeout)
        if not self.complete:
            raise Truncated(f"stream {self.id}: reset {self.reset_code}, connection {self.client.ended}", self.so_far)
        return self.so_far

    def wait_reset(self, timeout=None):
        """Waits until it is reset; returns the code."""
        self.client.pump(lambda: self.over, f"the reset of stream {self.id}", timeout)
        assert self.reset_code is not None, f"stream {self.id} was not reset: {self!r}, connection {self.client.ended}"
        return self.reset_code

    def reset(self, code=CANCEL):
        self.client.send(reset_frame(self.id, code))

    def json(self):
        import json
        return json.loads(self.so_far)

    def __repr__(self):
        return f"<stream {self.id}: {self.status} {self.headers} {self.so_far[:300]!r} reset {self.reset_code}>"


class H2Client:
    """One connection. `polite`: acknowledges SETTINGS and PING, and opens windows as data comes. `tls`: a context whose ALPN
    offers h2. `settings`: of the client. `window`: how much more than 65,535 the connection's window is opened by."""

    def __init__(self, address, tls=None, settings=(), window=0, polite=True, receive_buffer=None, preface=True, greet=True):
        if receive_buffer:
            host, _, port = address.rpartition(":")
            self.sock = socket.socket(socket.AF_INET)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.sock.settimeout(DEADLINE)
            self.sock.connect((host, int(port)))
        else:
            self.sock = base.connect(address)
        self.host = "localhost" if address.startswith("unix:") else address
        self.secure = tls is not None
        if tls:
            self.sock = tls.wrap_socket(self.sock, server_hostname=address.rpartition(":")[0])
            assert self.sock.selected_alpn_protocol() == "h2", self.sock.selected_alpn_protocol()
        self.polite = polite
        self.buffer = bytearray()
        self.ended = None  # "eof" or "reset" once seen
        self.encoder, self.decoder = Encoder(), Decoder()
        self.decoder.max_header_list_size = 1 << 24
        self.streams = {}
        self.frames = []  # (type, flags, stream, length) as they came
        self.settings = {}  # the server's
        self.acknowledged = 0  # SETTINGS of ours
        self.pongs = []
        self.goaways = []  # (last stream, code)
        self.window = 65535 + window  # what is left of the connection's, ours
        self.room = 65535  # to send: the connection's, and by stream
        self.rooms = {}
        self._next = 1
        self._block = None
        if preface:
            self.send(PREFACE)
        if greet:
            self.send(settings_frame(settings))
            if window:
                self.send(window_frame(0, window))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        """Bytes as they are. False if the connection has ended under it."""
        self.sock.settimeout(DEADLINE)
        try:
            self.sock.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return False

    def send_some(self, data):
        """As much as the socket takes now, while what comes is read if polite; how many bytes."""
        self.sock.settimeout(0)
        try:
            return self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            return 0
        except (BrokenPipeError, ConnectionResetError):
            self.ended = "reset"
            return 0
        finally:
            self.sock.settimeout(DEADLINE)

    def wait_writable(self, seconds):
        """Whether the socket takes something, or has ended, within so many seconds."""
        return not self.ended and bool(select.select([], [self.sock], [], seconds)[1])

    def next_id(self):
        self._next += 2
        return self._next - 2

    def block(self, fields):
        """Fields as a header block, nothing checked."""
        return self.encoder.encode([(as_bytes(n), as_bytes(v)) for n, v in fields], huffman=False)

    def head_fields(self, method="GET", target="/", headers=(), authority=None, scheme=None):
        return [(":method", method), (":scheme", scheme or ("https" if self.secure else "http")),
                (":authority", self.host if authority is None else authority), (":path", target),
                *((n.lower(), str(v)) for n, v in pairs(headers))]

    def begin(self, method="GET", target="/", headers=(), body=None, end=True, fields=None, **more):
        """Sends a request: its head, and its body as far as it is given (within the windows). `fields`: instead of all that."""
        number = self.next_id()
        self.streams[number] = stream = H2Response(self, number)
        self.rooms[number] = self.settings.get(INITIAL_WINDOW, 65535)
        block = self.block(self.head_fields(method, target, headers, **more) if fields is None else fields)
        last = END_STREAM if end and body is None else 0
        pieces = [block[i:i + 16384] for i in range(0, len(block), 16384)] or [b""]
        for i, piece in enumerate(pieces):
            flags = (last if i == 0 else 0) | (END_HEADERS if i == len(pieces) - 1 else 0)
            self.send(frame(CONTINUATION if i else HEADERS, flags, number, piece))
        if body is not None:
            self.send_body(stream, as_bytes(body), end)
        return stream

    def send_body(self, stream, data, end=True):
        """Within the windows, waiting for them."""
        at = 0
        while at < len(data) and not stream.over:
            room = min(self.room, self.rooms[stream.id], 16384)
            if room <= 0:
                self.pump(lambda: stream.over or min(self.room, self.rooms[stream.id]) > 0, "a window")
                continue
            piece = data[at:at + room]
            at += len(piece)
            self.room -= len(piece)
            self.rooms[stream.id] -= len(piece)
            self.send(frame(DATA, END_STREAM if end and at == len(data) else 0, stream.id, piece))
        if not data and end:
            self.send(frame(DATA, END_STREAM, stream.id))

    def request(self, *args, timeout=None, **more):
        """Sends a request and reads the whole response."""
        stream = self.begin(*args, **more)
        stream.head(timeout)
        stream.read(timeout)
        return stream

    def pump(self, until=None, what="the event", timeout=None):
        """Reads frames until the condition holds. Without one: what is there now."""
        end = time.monotonic() + (DEADLINE if timeout is None else timeout)
        while until is None or not until():
            while self._take_frame():
                pass
            if until and until() or self.ended:
                break
            left = end - time.monotonic() if until else 0
            pending = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()
            if not pending and not select.select([self.sock], [], [], max(left, 0))[0]:
                if until is None:
                    return
                raise AssertionError(f"waited in vain for {what}; frames: {self.frames[-20:]}, goaways {self.goaways}")
            self._fill()
        while self._take_frame():
            pass

    def _fill(self):
        try:
            got = self.sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            self.ended = "reset"
            return
        if not got:
            self.ended = "eof"
        self.buffer += got

    def _take_frame(self):
        if len(self.buffer) < 9:
            return False
        length = int.from_bytes(self.buffer[:3], "big")
        if len(self.buffer) < 9 + length:
            return False
        kind, flags = self.buffer[3], self.buffer[4]
        stream = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
        raw = bytes(self.buffer[:9 + length])
        del self.buffer[:9 + length]
        self.frames.append((kind, flags, stream, length))
        if kind <= CONTINUATION:
            f, _ = Frame.parse_frame_header(raw[:9])
            f.parse_body(memoryview(raw[9:]))
            self._take(kind, flags, stream, raw[9:], f)
        return True

    def _take(self, kind, flags, number, payload, f):
        stream = self.streams.get(number)
        if kind in (HEADERS, CONTINUATION):
            self._block = (self._block or b"") + f.data
            if not flags & END_HEADERS:
                return
            fields, self._block = self.decoder.decode(self._block, raw=True), None
            if stream:
                self._take_head(stream, [(n.decode(), v.decode("latin-1")) for n, v in fields])
        elif kind == DATA and stream:
            stream.pieces.append((time.monotonic(), f.data))
            self._open(number, len(payload))
        elif kind == RST_STREAM and stream:
            stream.reset_code = f.error_code
        elif kind == SETTINGS and flags & ACK:
            self.acknowledged += 1
        elif kind == SETTINGS:
            before = self.settings.get(INITIAL_WINDOW, 65535)
            self.settings.update(f.settings)
            for k in self.rooms:
                self.rooms[k] += self.settings.get(INITIAL_WINDOW, 65535) - before
            if self.polite:
                self.send(settings_frame(ack=True))
        elif kind == PING:
            if flags & ACK:
                self.pongs.append(payload)
            elif self.polite:
                self.send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.goaways.append((f.last_stream_id, f.error_code))
        elif kind == WINDOW_UPDATE:
            if number == 0:
                self.room += f.window_increment
            elif number in self.rooms:
                self.rooms[number] += f.window_increment
        if kind in (HEADERS, DATA) and flags & END_STREAM and stream:
            stream.complete = True

    def _take_head(self, stream, fields):
        pseudo = dict(f for f in fields if f[0].startswith(":"))
        headers = Headers(f for f in fields if not f[0].startswith(":"))
        if stream.status is not None:
            stream.trailers = headers
        elif int(pseudo[":status"]) < 200:
            stream.interim.append((int(pseudo[":status"]), headers))
        else:
            stream.status, stream.headers = int(pseudo[":status"]), headers

    def _open(self, number, n):
        if not self.polite or n == 0:
            return
        self.send(window_frame(0, n) + window_frame(number, n))

    def ping(self, timeout=None):
        """A round trip: all that was sent before has been looked at."""
        mark = struct.pack(">Q", time.monotonic_ns())
        self.send(frame(PING, 0, 0, mark))
        self.pump(lambda: mark in self.pongs or self.ended, "a ping's answer", timeout)
        assert mark in self.pongs, f"the connection ended: {self.ended}, {self.goaways}"

    def wait_goaway(self, code=None, timeout=None):
        """Waits for a GOAWAY (with that code); returns (last stream, code)."""
        def found():
            return [g for g in self.goaways if code is None or g[1] == code]
        self.pump(lambda: found() or self.ended, f"GOAWAY {code}", timeout)
        assert found(), f"no GOAWAY {code}: {self.goaways}, connection {self.ended}"
        return found()[0]

    def wait_closed(self, timeout=None):
        self.pump(lambda: self.ended, "the end of the connection", timeout)
        return self.ended

    def close(self):
        self.sock.close()
