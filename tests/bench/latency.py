"""For scripts/bench: the time that a gateway route adds to a call, one call at a time. The same client asks the stand-in
directly and through Tarry by turns, so that whatever else the machine does meets both."""

import json
import socket
import time

CONF = """
listen "{listen}" {{ }}
upstream "model" {{
    origin     = "{origin}"
    set_header = {{ "Authorization: Bearer sk-stand-in" }}
}}
route "/" {{ upstream = "model" }}
"""
BODY = {"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": "Why? " * 100}]}
BLOCK = 25  # calls of one kind in a row
WAYS = ("straight", "tarry")
KINDS = {"whole": False, "first token": True}


class Client:
    """One connection that is kept."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = {stream: self._request(address, stream) for stream in KINDS.values()}

    @staticmethod
    def _request(address, stream):
        body = json.dumps({**BODY, "stream": stream}).encode()
        head = (f"POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer sk-stand-in\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
        return head.encode() + body

    def ask(self, stream):
        """Microseconds to the end of the answer, or of a stream to its first token."""
        begun = time.perf_counter_ns()
        self.socket.sendall(self.requests[stream])
        got, first = b"", None
        while True:
            data = self.socket.recv(65536)
            now = time.perf_counter_ns()
            if not data:
                raise RuntimeError("the connection ended")
            got += data
            if stream:
                if first is None and b'"content":"echo' in got:
                    first = now
                if got.endswith(b"\r\n0\r\n\r\n"):
                    assert first and b"[DONE]" in got
                    return (first - begun) / 1000
            else:
                head, end, body = got.partition(b"\r\n\r\n")
                if end and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
                    assert b" 200 " in got[:20]
                    return (now - begun) / 1000


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure(bench, build, rounds=16, calls=500):
    """Figures of each round are p50 and p99 of so many calls. The result is the lower quartile of the rounds: what else the
    machine does makes a round slower, never faster."""
    with bench.Stage(build) as stage:
        _, _, plain = stage.provider()
        listen = f"127.0.0.1:{bench.free_port()}"
        conf = stage.file("tarry.conf", CONF.format(listen=listen, origin=plain))
        stage.start("tarry", [stage.program("proxy/tarry"), "-c", conf], r"^tarry: ready")
        clients = {"straight": Client(plain.removeprefix("http://")), "tarry": Client(listen)}
        found = {kind: [] for kind in KINDS}
        for turn in range(rounds + 1):
            bench.progress(f"round {turn} of {rounds}")
            for kind, stream in KINDS.items():
                times = {way: [] for way in WAYS}
                for _ in range(calls // BLOCK):
                    for way in WAYS:
                        times[way] += [clients[way].ask(stream) for _ in range(BLOCK)]
                if turn:  # the first one is to get warm
                    found[kind].append({way: (percentile(times[way], 0.5), percentile(times[way], 0.99)) for way in WAYS})
    result = {}
    for kind, each in found.items():
        result[kind] = {}
        for i, name in enumerate(("p50", "p99")):
            result[kind][name] = {
                "straight_us": round(percentile([r["straight"][i] for r in each], 0.25)),
                "tarry_us": round(percentile([r["tarry"][i] for r in each], 0.25)),
                "added_us": round(percentile([r["tarry"][i] - r["straight"][i] for r in each], 0.25)),
                "rounds_us": [round(r["tarry"][i] - r["straight"][i]) for r in each],
            }
    for kind, figures in result.items():
        for name, f in figures.items():
            bench.say(f"{kind}, {name}: {f['straight_us']} µs straight, {f['tarry_us']} µs through Tarry, {f['added_us']} µs added "
                      f"(rounds: {', '.join(map(str, f['rounds_us']))})")
    return result, True
