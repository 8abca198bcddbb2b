"""Many clients at once, each with one request on a connection of its own."""

import asyncio
import json

from .base import DEADLINE


async def _exchange(port, path, question):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        body = json.dumps(question).encode()
        writer.write(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
                     % (path.encode(), len(body), body))
        await writer.drain()
        raw = await reader.read()
    finally:
        writer.close()
    head, _, rest = raw.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), head, rest


def at_once(tarry, path, questions):
    """Posts all of them as JSON; (status, head, body) of each, in their order."""
    async def run():
        return await asyncio.wait_for(asyncio.gather(*(_exchange(tarry.port, path, q) for q in questions)), 100 + DEADLINE)
    return asyncio.run(run())
