"""Scripted servers: a Python function answers each request, and may do what no real server does on purpose."""

import os
import select
import socket
import ssl
import threading
import time
import traceback

from . import base
from .base import DEADLINE
from .http1 import BadMessage, Body, REQUEST_LINE, Truncated, Wire, as_bytes, chunk, framing, pairs, parse_head, write_head

REASONS = {200: "OK", 201: "Created", 204: "No Content", 302: "Found", 304: "Not Modified", 400: "Bad Request",
           404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


class Reply:
    """A response. `framing`: "length", "chunked", "close" (body ends with the connection) or "none" (no length at all).
    A body given as a list of pieces is sent as that many chunks or writes."""

    def __init__(self, status=200, body=b"", headers=(), framing="length", reason=None, version="1.1", close=False):
        self.status, self.headers, self.framing, self.version = status, pairs(headers), framing, version
        self.pieces = [as_bytes(p) for p in body] if isinstance(body, (list, tuple)) else [as_bytes(body)]
        self.reason = REASONS.get(status, "Whatever") if reason is None else reason
        self.close = close

    @property
    def body(self):
        return b"".join(self.pieces)

    def head(self, connection=None):
        fields = list(self.headers)
        if self.framing == "length" and not any(n.lower() == "content-length" for n, _ in fields):
            fields.append(("Content-Length", len(self.body)))
        elif self.framing == "chunked":
            fields.append(("Transfer-Encoding", "chunked"))
        if connection:
            fields.append(("Connection", connection))
        return write_head(f"HTTP/{self.version} {self.status} {self.reason}", fields)


class Raw:
    """Bytes to be sent as they are; then the connection is closed, unless `close` is False."""

    def __init__(self, data, close=True):
        self.data, self.close = as_bytes(data), close


class Request:
    """What arrived: `raw_head` and `raw_body` are the exact bytes, `body` is without chunked framing."""

    def __init__(self, raw_head, conn):
        self.raw_head, self.raw_body, self.body = raw_head, b"", b""
        self.conn = conn
        self.time = time.monotonic()
        first, self.headers = parse_head(raw_head)
        line = REQUEST_LINE.match(first)
        if not line:
            raise BadMessage(f"request line {first!r}")
        self.method, self.target = line[1].decode(), line[2].decode("latin-1")
        self.version = "1." + line[3].decode()
        self.framing, self.length = framing(self.headers)

    raw = property(lambda self: self.raw_head + self.raw_body)
    path = property(lambda self: self.target.partition("?")[0])
    kind = property(lambda self: self.headers.get("Tarry-Kind"))
    hop = property(lambda self: self.headers.get("Tarry-Hop"))
    exchange = property(lambda self: self.headers.get("Tarry-Exchange"))
    state = property(lambda self: self.headers.get("Tarry-State"))
    attempt = property(lambda self: self.headers.get("Tarry-Attempt"))
    outcome = property(lambda self: self.headers.get("Tarry-Outcome"))

    @property
    def enclosed(self):
        from .handoffs import enclosed
        return enclosed(self.body)

    def __repr__(self):
        return f"<{self.method} {self.target} {self.kind or ''} {self.hop or ''} {len(self.body)} bytes>"


class Conn:
    """One accepted connection, as a handler sees it. A handler that answers by these functions returns None."""

    def __init__(self, server, sock, number):
        self.server, self.sock, self.number = server, sock, number
        self.wire = Wire(sock)
        self.closed = False
        self.served = 0  # requests read on it

    def send(self, data):
        self.sock.settimeout(DEADLINE)
        self.sock.sendall(as_bytes(data))

    def send_head(self, status=200, headers=(), framing="chunked", length=None):
        reply = Reply(status, headers=pairs(headers) + ([("Content-Length", length)] if length is not None else []),
                      framing="length" if length is not None else framing)
        self.send(reply.head("close" if framing == "close" else None))

    def send_chunk(self, data):
        self.send(chunk(as_bytes(data)))

    def end_chunks(self):
        self.send(b"0\r\n\r\n")

    def read_body(self, request, timeout=None):
        body = Body(self.wire, request.framing, request.length)
        request.body = body.read(timeout)
        request.raw_body = bytes(body.raw)
        return request.body

    def close(self):
        """Ends the connection by FIN."""
        if not self.closed:
            self.closed = True
            try:
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self.sock.close()

    def reset(self):
        if not self.closed:
            self.closed = True
            base.reset(self.sock)

    def wait_closed(self, timeout=None):
        """Waits until the peer ends the connection: "eof" or "reset". Bytes that come meanwhile are kept."""
        end = time.monotonic() + (DEADLINE if timeout is None else timeout)
        while self.wire.fill(end - time.monotonic()):
            pass
        return self.wire.ended

    def peer_is_gone(self):
        """Whether the peer has ended the connection by now."""
        try:
            ready, _, _ = select.select([self.sock], [], [], 0)
            return bool(ready) and not self.wire.fill()
        except (OSError, ValueError):  # its own thread has closed it meanwhile
            return True


class ScriptedServer:
    """Listens at once. `handler(request, conn)` returns a Reply, a Raw, bytes (a 200 with that body), or None if it did
    all by itself. It runs in a thread of its own for each connection.

    keep_alive    False: one request a connection, as gunicorn's sync worker does
    read_body     False: the handler is called with the head alone and may call conn.read_body(request)
    tls           an ssl.SSLContext for a server
    """

    what = "server"

    def __init__(self, handler=None, address=None, keep_alive=True, read_body=True, tls=None, backlog=1024):
        self.handler = handler or (lambda request, conn: Reply(200, b"ok"))
        self.keep_alive, self.read_body, self.tls = keep_alive, read_body, tls
        self.requests = []
        self.conns = []
        self.errors = []
        self.active = self.peak = 0  # handlers running now, and most at once
        self.stopping = threading.Event()
        self._changed = threading.Condition()
        self._backlog = backlog
        self._listener = self._thread = None
        self.address = address
        self.listen()

    # --- life ---
    def listen(self):
        """Begins to accept, again after refuse()."""
        address = self.address or f"127.0.0.1:{base.free_port()}"
        if address.startswith("unix:"):
            if os.path.exists(address[5:]):
                os.unlink(address[5:])
            s = socket.socket(socket.AF_UNIX)
            s.bind(address[5:])
        else:
            host, _, port = address.rpartition(":")
            host = host.strip("[]")
            s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((host, int(port)))
        self.address = address
        s.listen(self._backlog)
        self._listener = s
        self._thread = threading.Thread(target=self._accept, args=(s,), daemon=True)
        self._thread.start()

    def refuse(self):
        """Stops listening: new connections are refused, those that are there stay."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        try:
            listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(DEADLINE)
        listener.close()
        if self.address.startswith("unix:") and os.path.exists(self.address[5:]):
            os.unlink(self.address[5:])

    def stop(self):
        self.stopping.set()
        self.refuse()
        for c in list(self.conns):
            c.close()

    port = property(lambda self: int(self.address.rpartition(":")[2]))

    @property
    def origin(self):
        return f"{'https' if self.tls else 'http'}://{self.address}"

    # --- what happened ---
    def wait_for(self, n=1, what=None, timeout=None):
        """Waits until n requests that what(request) accepts have been read; returns the last of these n."""
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

    def wait_idle(self, timeout=None):
        """Waits until no handler runs."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.active == 0, DEADLINE if timeout is None else timeout):
                raise AssertionError(f"{self.what}: {self.active} handlers still run")

    @property
    def request(self):
        """The only request so far."""
        assert len(self.requests) == 1, self.requests
        return self.requests[0]

    def describe(self):
        lines = [f"{self.what} {self.address}: {len(self.conns)} connections, {len(self.requests)} requests"]
        for r in self.requests[:20]:
            lines.append(f"  conn {r.conn.number}: {r.raw_head[:1500]!r} + {len(r.body)} bytes {r.body[:300]!r}")
        return "\n".join(lines + self.errors)

    # --- threads ---
    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve_sock, args=(sock,), daemon=True).start()

    def _serve_sock(self, sock):
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            sock.settimeout(DEADLINE)
            try:
                sock = self.tls.wrap_socket(sock, server_side=True)
            except (OSError, ssl.SSLError):
                self._note_failed_tls()
                sock.close()
                return
        with self._changed:
            conn = Conn(self, sock, len(self.conns))
            self.conns.append(conn)
            self._changed.notify_all()
        try:
            self._serve(conn)
        except (ConnectionError, Truncated, ssl.SSLError, TimeoutError, socket.timeout, OSError) as e:
            if not self.stopping.is_set() and isinstance(e, TimeoutError):
                self.errors.append(f"{self.what}: {e!r}")
        except BaseException:
            if not self.stopping.is_set():
                self.errors.append(traceback.format_exc())
        finally:
            conn.close()

    failed_handshakes = 0

    def _note_failed_tls(self):
        with self._changed:
            self.failed_handshakes += 1
            self._changed.notify_all()

    def _serve(self, conn):
        while not conn.closed and not self.stopping.is_set():
            # An idle connection may stay for as long as the test does.
            while not conn.wire.buffer:
                try:
                    if not conn.wire.fill(1):
                        return
                except TimeoutError:
                    if self.stopping.is_set():
                        return
            head = conn.wire.through(b"\r\n\r\n")
            if not head.endswith(b"\r\n\r\n"):
                return
            request = Request(head, conn)
            if self.read_body:
                conn.read_body(request)
            conn.served += 1
            with self._changed:
                self.requests.append(request)
                self.active += 1
                self.peak = max(self.peak, self.active)
                self._changed.notify_all()
            try:
                answer = self.handler(request, conn)
                stay = self._answer(conn, request, answer)
            finally:
                with self._changed:
                    self.active -= 1
                    self._changed.notify_all()
            if not stay:
                return

    def _answer(self, conn, request, answer):
        if conn.closed:
            return False
        if answer is None:
            return self.keep_alive
        if isinstance(answer, Raw):
            conn.send(answer.data)
            return not answer.close
        if isinstance(answer, (bytes, str)):
            answer = Reply(200, answer)
        stay = self.keep_alive and answer.framing != "close" and not answer.close
        head = answer.head(None if stay else "close")
        if request.method == "HEAD" or answer.status in (204, 304):
            conn.send(head)
        elif len(answer.pieces) == 1 and answer.framing != "chunked":
            conn.send(head + answer.pieces[0])
        else:
            conn.send(head)
            for piece in answer.pieces:
                if piece:  # an empty chunk would be the last one
                    conn.send(chunk(piece) if answer.framing == "chunked" else piece)
            if answer.framing == "chunked":
                conn.end_chunks()
        return stay


class ScriptedWorker(ScriptedServer):
    what = "worker"


class ScriptedUpstream(ScriptedServer):
    what = "upstream"
