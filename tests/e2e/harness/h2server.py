"""A scripted upstream that speaks HTTP/2 over TLS (python3-h2), with hooks for what real ones do at the worst moment."""

import select
import socket
import ssl
import threading
import time
import traceback

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from hyperframe.frame import GoAwayFrame, PingFrame

from . import base
from .base import DEADLINE
from .http1 import Headers, as_bytes, pairs
from .server import Reply

CODES = h2.errors.ErrorCodes


class Stream:
    """One request on a connection, and the way to answer it."""

    def __init__(self, conn, number, fields):
        self.conn, self.id = conn, number
        self.fields = fields  # all, pseudo-headers too
        self.headers = Headers((n, v) for n, v in fields if not n.startswith(":"))
        pseudo = dict((n, v) for n, v in fields if n.startswith(":"))
        self.method, self.target = pseudo.get(":method"), pseudo.get(":path")
        self.authority, self.scheme = pseudo.get(":authority"), pseudo.get(":scheme")
        self.body = b""
        self.complete = False
        self.reset_code = None  # what the peer reset it with
        self.time = time.monotonic()

    path = property(lambda self: self.target.partition("?")[0])

    def send_head(self, status=200, headers=(), end=False):
        fields = [(":status", str(status))] + [(n.lower(), str(v)) for n, v in pairs(headers)]
        self.conn.do(lambda h: h.send_headers(self.id, fields, end_stream=end))

    def send(self, data, end=False):
        """Sends data as the peer's windows allow, waiting for them."""
        data = as_bytes(data)
        while True:
            n = self.conn.wait_window(self.id) if data else 0
            piece, data = data[:n], data[n:]
            last = end and not data
            self.conn.do(lambda h: h.send_data(self.id, piece, end_stream=last))
            if not data:
                return

    def respond(self, reply):
        body = reply.body
        headers = list(reply.headers)
        if reply.framing == "length" and not any(n.lower() == "content-length" for n, _ in headers):
            headers.append(("content-length", str(len(body))))
        bare = self.method == "HEAD" or reply.status in (204, 304) or not body
        self.send_head(reply.status, headers, end=bare)
        if not bare:
            for i, piece in enumerate(reply.pieces):
                self.send(piece, end=i == len(reply.pieces) - 1)

    def rst(self, code=CODES.INTERNAL_ERROR):
        self.conn.do(lambda h: h.reset_stream(self.id, code))

    def refuse(self):
        self.rst(CODES.REFUSED_STREAM)

    def wait_reset(self, timeout=None):
        """Waits until the peer resets the stream (or the connection ends); returns the code, or "closed"."""
        with self.conn.changed:
            if not self.conn.changed.wait_for(lambda: self.reset_code is not None or self.conn.ended,
                                              DEADLINE if timeout is None else timeout):
                raise AssertionError(f"stream {self.id} was not reset")
            return self.reset_code if self.reset_code is not None else "closed"

    def __repr__(self):
        return f"<{self.method} {self.target} stream {self.id} of {self.conn.number}, {len(self.body)} bytes>"


class H2Conn:
    def __init__(self, server, sock, number):
        self.server, self.sock, self.number = server, sock, number
        self.changed = threading.Condition(threading.RLock())
        config = h2.config.H2Configuration(client_side=False, header_encoding="latin-1",
                                           validate_outbound_headers=False, normalize_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.streams = {}
        self.ended = None
        self.pings = 0
        self.peer_goaway = None

    def do(self, action):
        """Runs action(h2 connection) and sends what it made."""
        with self.changed:
            action(self.h2)
            self._flush()

    def _flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.settimeout(DEADLINE)
            self.sock.sendall(data)

    def send_raw(self, data):
        with self.changed:
            self._flush()
            self.sock.sendall(data)

    def goaway(self, last_stream, code=0):
        """GOAWAY; streams up to last_stream go on (the h2 package would end them, so the frame is made here)."""
        frame = GoAwayFrame(0)
        frame.last_stream_id, frame.error_code = last_stream, int(code)
        self.send_raw(frame.serialize())

    def ping(self):
        frame = PingFrame(0)
        frame.opaque_data = b"12345678"
        self.send_raw(frame.serialize())

    def wait_window(self, stream):
        end = time.monotonic() + DEADLINE
        with self.changed:
            while True:
                if self.ended or stream not in self.streams or self.streams[stream].reset_code is not None:
                    raise ConnectionError("the stream is over")
                n = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
                if n > 0:
                    return n
                if not self.changed.wait(max(0.0, end - time.monotonic())):
                    raise TimeoutError("the peer's window stayed shut")

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()

    def reset(self):
        base.reset(self.sock)


class H2Upstream:
    """`handler(stream)` runs in a thread for each complete request, and returns a Reply or does all by itself.

    max_streams     SETTINGS_MAX_CONCURRENT_STREAMS
    window          SETTINGS_INITIAL_WINDOW_SIZE for what it receives
    on_headers      called (in the reader's thread) as soon as a request's head is there
    silent          set to True: reads no more, so answers no PING either
    """

    what = "h2 upstream"

    def __init__(self, tls, handler=None, max_streams=100, window=65535, on_headers=None, address=None, credit=True):
        self.handler = handler or (lambda stream: Reply(200, b"ok"))
        self.tls, self.max_streams, self.window, self.on_headers = tls, max_streams, window, on_headers
        self.credit = credit  # whether it gives window back
        self.silent = False
        self.requests, self.conns, self.errors = [], [], []
        self.active = self.peak = 0
        self.failed_handshakes = 0
        self.stopping = threading.Event()
        self._changed = threading.Condition()
        self.address = address or f"127.0.0.1:{base.free_port()}"
        self.listen()

    origin = property(lambda self: f"https://{self.address}")
    port = property(lambda self: int(self.address.rpartition(":")[2]))

    def listen(self):
        host, _, port = self.address.rpartition(":")
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, int(port)))
        self._listener.listen(256)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self):
        self.stopping.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        for c in self.conns:
            c.close()

    def wait_for(self, n=1, what=None, timeout=None):
        with self._changed:
            def found():
                return [r for r in self.requests if what is None or what(r)]
            if not self._changed.wait_for(lambda: len(found()) >= n, DEADLINE if timeout is None else timeout):
                raise AssertionError(f"{self.what}: waited for {n} requests, got {found()} of {self.requests}")
            return found()[n - 1]

    def wait_for_conns(self, n, timeout=None):
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.conns) >= n, DEADLINE if timeout is None else timeout):
                raise AssertionError(f"{self.what}: waited for {n} connections, got {len(self.conns)}")

    @property
    def request(self):
        assert len(self.requests) == 1, self.requests
        return self.requests[0]

    def describe(self):
        lines = [f"{self.what} {self.address}: {len(self.conns)} connections, {len(self.requests)} requests"]
        lines += [f"  {r!r} {r.fields}" for r in self.requests[:20]]
        return "\n".join(lines + self.errors)

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_sock, args=(sock,), daemon=True).start()

    def _serve_sock(self, sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(DEADLINE)
        try:
            sock = self.tls.wrap_socket(sock, server_side=True)
        except (OSError, ssl.SSLError):
            with self._changed:
                self.failed_handshakes += 1
            sock.close()
            return
        with self._changed:
            conn = H2Conn(self, sock, len(self.conns))
            self.conns.append(conn)
            self._changed.notify_all()
        try:
            if sock.selected_alpn_protocol() != "h2":
                raise AssertionError(f"ALPN gave {sock.selected_alpn_protocol()!r}")
            self._serve(conn)
        except (OSError, ssl.SSLError):
            pass
        except BaseException:
            if not self.stopping.is_set():
                self.errors.append(traceback.format_exc())
        finally:
            with conn.changed:
                conn.ended = conn.ended or "eof"
                conn.changed.notify_all()
            conn.close()

    def _serve(self, conn):
        # As settings that follow the first ones: the package holds a peer to the first ones before it can know them.
        def begin(h):
            h.initiate_connection()
            h.update_settings({
                h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: self.max_streams,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: self.window,
            })
        conn.do(begin)
        while not self.stopping.is_set():
            # TLS sockets must not be read and written at once, so the reader holds the lock but for short waits.
            if self.silent:
                self.stopping.wait(0.05)
                continue
            if not conn.sock.pending():
                try:
                    ready, _, _ = select.select([conn.sock], [], [], 0.2)
                except ValueError:  # the handler has closed it
                    return
                if not ready:
                    continue
            with conn.changed:
                conn.sock.settimeout(DEADLINE)
                data = conn.sock.recv(65536)
                if not data:
                    return
                events = conn.h2.receive_data(data)
                for event in events:
                    self._on_event(conn, event)
                conn._flush()
                conn.changed.notify_all()
                if conn.ended:
                    return

    def _on_event(self, conn, event):
        if isinstance(event, h2.events.RequestReceived):
            stream = conn.streams[event.stream_id] = Stream(conn, event.stream_id, event.headers)
            if self.on_headers:
                self.on_headers(stream)
        elif isinstance(event, h2.events.DataReceived):
            stream = conn.streams[event.stream_id]
            stream.body += event.data
            if self.credit and event.flow_controlled_length:
                try:
                    conn.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                except h2.exceptions.ProtocolError:
                    pass
        elif isinstance(event, h2.events.StreamEnded):
            stream = conn.streams[event.stream_id]
            stream.complete = True
            threading.Thread(target=self._answer, args=(stream,), daemon=True).start()
        elif isinstance(event, h2.events.StreamReset):
            if event.stream_id in conn.streams and event.remote_reset:
                conn.streams[event.stream_id].reset_code = event.error_code
        elif isinstance(event, h2.events.PingReceived):
            conn.pings += 1
        elif isinstance(event, h2.events.ConnectionTerminated):
            conn.peer_goaway = event.error_code
            conn.ended = "goaway"

    def _answer(self, stream):
        with self._changed:
            self.requests.append(stream)
            self.active += 1
            self.peak = max(self.peak, self.active)
            self._changed.notify_all()
        try:
            reply = self.handler(stream)
            if isinstance(reply, (bytes, str)):
                reply = Reply(200, reply)
            if reply is not None:
                stream.respond(reply)
        except (OSError, ssl.SSLError, h2.exceptions.H2Error):
            pass  # the peer was faster in ending it; tests that care look at reset_code
        except BaseException:
            if not self.stopping.is_set():
                self.errors.append(traceback.format_exc())
        finally:
            with self._changed:
                self.active -= 1
                self._changed.notify_all()
