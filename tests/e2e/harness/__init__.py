"""What the end-to-end tests are made of.

    base      ports, deadlines, waiting for a condition
    http1     strict reading and plain writing of HTTP/1.1 messages
    handoffs  handoffs as a worker writes them, enclosed responses as it reads them
    parts     responses in parts, and the pieces of answers
    server    scripted workers and upstreams that speak HTTP/1.1, plain or TLS, over TCP or unix sockets
    h2server  a scripted upstream that speaks HTTP/2 over TLS
    client    a client that sees exact bytes and when they came
    h2client  an HTTP/2 client made of frames, good and bad ones
    websockets  a real WebSocket server and client, and the handshake by hand
    proxies   HTTP proxies on the way to upstreams
    certs     a certificate authority for the session
    tarry     the proxy: its conf, its process, its logs
    apps      other programs: gunicorn, Granian, the provider stand-in
    browser   headless Chromium
    crowd     many clients at once
    example   the app of examples/chat, ready to be asked
    bed       the fixture that ties these together and stops them
"""

from .base import DEADLINE, Gate, Moments, eventually, free_port
from .client import Client, request
from .handoffs import by_kind, call, enclosed, handoff, problem, replay_parts
from .http1 import BadMessage, Headers, Reset, Truncated
from .server import Raw, Reply, ScriptedServer, ScriptedUpstream, ScriptedWorker
from .h2client import H2Client, H2Response
from .h2server import H2Upstream
from .tarry import Conf, Tarry

__all__ = [
    "BadMessage", "Client", "Conf", "DEADLINE", "Gate", "H2Client", "H2Response", "H2Upstream", "Headers", "Moments", "Raw", "Reply",
    "Reset", "ScriptedServer", "ScriptedUpstream", "ScriptedWorker", "Tarry", "Truncated", "by_kind", "call", "enclosed",
    "eventually", "free_port", "handoff", "problem", "replay_parts", "request",
]
