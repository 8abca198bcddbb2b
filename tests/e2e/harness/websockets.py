"""WebSocket: a real server and a real client (the Debian package python3-websockets), and the handshake by hand."""

import asyncio
import base64
import hashlib
import threading

import websockets

from .base import DEADLINE, free_port
from .http1 import write_head

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def accept(key):
    """RFC 6455 4.2.2."""
    return base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()


def asking(*more, key=KEY, upgrade="websocket", connection="Upgrade"):
    """The fields of an opening handshake."""
    return [("Upgrade", upgrade), ("Connection", connection), ("Sec-WebSocket-Version", "13"),
            *([("Sec-WebSocket-Key", key)] if key else []), *more]


def agreeing(request, *more, upgrade="websocket", connection="Upgrade", accepts=None):
    """The head of the answer to a scripted server's request."""
    return write_head("HTTP/1.1 101 Switching Protocols", [
        ("Upgrade", upgrade), ("Connection", connection),
        ("Sec-WebSocket-Accept", accepts or accept(request.headers.get("Sec-WebSocket-Key"))), *more])


class WebSocketServer:
    """A server whose `handler` (a coroutine) gets each connection that its clients open. Without one: an echo."""

    what = "websocket server"

    def __init__(self, handler=None, **more):
        self.address = f"127.0.0.1:{free_port()}"
        self._handler, self._more = handler or self._echo, more
        self.tls = more.get("ssl")
        self.heads = []  # the handshakes' header fields
        self._loop = asyncio.new_event_loop()
        self._started, self._stop = threading.Event(), None
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)
        self._thread.start()
        assert self._started.wait(DEADLINE), "the WebSocket server did not start"

    @property
    def origin(self):
        return f"{'https' if self.tls else 'http'}://{self.address}"

    @staticmethod
    async def _echo(ws, *_):
        async for message in ws:
            await ws.send(message)

    async def _serve(self, ws, *_):
        self.heads.append(ws.request_headers)
        await self._handler(ws)

    async def _run(self):
        self._stop = asyncio.Event()
        host, _, port = self.address.rpartition(":")
        async with websockets.serve(self._serve, host, int(port), max_size=None, **self._more):
            self._started.set()
            await self._stop.wait()

    def stop(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive(), "the WebSocket server did not stop"


def talk(url, conversation, **more):
    """Opens a WebSocket with a real client and runs the coroutine conversation(ws) on it."""
    async def run():
        async with websockets.connect(url, max_size=None, open_timeout=DEADLINE, close_timeout=DEADLINE, **more) as ws:
            return await asyncio.wait_for(conversation(ws), DEADLINE)
    return asyncio.run(run())
