"""Thousands of calls in flight over HTTP/2, and every fault of docs/faults.md among them at once: scripts/soak --faults.

The clients are HTTP/2 connections with up to 100 streams each, the route is a gateway, and the services are three of the
stand-in (tests/provider). Each call names itself in X-Provider-Key, so that the stand-ins' records can be laid beside what the
client got. What must hold: each call ends, with an outcome that its fault allows; the access log has one line for it; no call
was worked on twice but for the statuses that the conf retries; no healthy call is lost, unless its connection was broken under
it; at the end nothing is in flight, and memory and descriptors are where they began."""

import argparse
import asyncio
import collections
import itertools
import json
import pathlib
import random
import resource
import shutil
import tempfile
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from harness.apps import Provider
from harness.base import free_port
from harness.tarry import Conf, Tarry

STREAMS = 100  # of a client's connection
RETRIES = 2
WAVE = 550  # calls in flight from which on Tarry gives memory back (proxy/frontend/peak.c)
REMAINS = 12 << 20  # bytes that a process may keep after its first storm: code that was run, tables, and what is between
SHARE = 0.01  # of the calls, for each kind of fault
CHAT, MESSAGES, RESPONSES, QUOTA = "/v1/chat/completions", "/v1/messages", "/v1/responses", "/compatibility/v1/chat/completions"
ENDINGS = {CHAT: b"[DONE]", QUOTA: b"[DONE]", MESSAGES: b"message_stop", RESPONSES: b"response.completed"}
WHOLE, CUT = "whole", "cut"

# Kind of call: its path, the fault, and the outcomes that are right: whole, cut (which the client sees), or a status.
Kind = collections.namedtuple("Kind", "path fault right")
KINDS = {
    "S01": Kind(CHAT, "429=250ms*1", {WHOLE}),
    "S02": Kind(CHAT, "429=none", {429}),
    "S03": Kind(CHAT, "500*1", {WHOLE}),
    "S04": Kind(CHAT, "503=none", {503}),
    "S05": Kind(CHAT, "reset*1", {502, WHOLE}),
    "S06": Kind(CHAT, "silence", {504}),
    "S08": Kind(CHAT, "rst-mid", {CUT, 502}),
    "S08b": Kind(CHAT, "close-mid=9", {CUT, 502}),
    "S09": Kind(CHAT, "stall=9", {CUT, 504}),
    "S10": Kind(CHAT, "malformed=5", {WHOLE}),
    "S11": Kind(CHAT, "no-terminal", {CUT}),
    "S12": Kind(CHAT, "400=context", {400}),
    "S13": Kind(CHAT, "filter", {WHOLE}),
    "T1": Kind(CHAT, "goaway*1", {WHOLE}),
    "T1b": Kind(CHAT, "refused*1", {WHOLE}),
    "T2": Kind(CHAT, "rst", {502}),
    "T3": Kind(MESSAGES, "pings", {504, CUT}),
    "T4": Kind(RESPONSES, "error-event=0", {503}),
    "T5": Kind(CHAT, "stall=5", {"left"}),
    "T7": Kind(CHAT, "ping-silent", {502, 504}),
    "T8": Kind(CHAT, "huge=300K", {"left"}),
    "T9": Kind(MESSAGES, "drip=0ms", {WHOLE}),
    "T10": Kind(QUOTA, "429=quota", {429}),
    "T11": Kind(CHAT, "stall=0", {504, CUT}),
    "T12": Kind(CHAT, "", {CUT}),
}
# These break the connection that they share with other calls.
BREAKERS = ("S05", "S08b", "T7")
HEALTHY = Kind(CHAT, "", {WHOLE})


class Call:
    def __init__(self, number, kind, delay):
        self.number, self.kind, self.plan = number, kind, KINDS.get(kind, HEALTHY)
        self.delay = delay
        self.status = self.outcome = None
        self.begun = self.ended = 0.0
        self.size, self.head, self.tail, self.clean = 0, b"", b"", False

    key = property(lambda self: f"c{self.number}")

    def request(self):
        fields = [("x-provider-key", self.key), ("x-provider-delay", f"{self.delay}ms"), ("content-type", "application/json")]
        if self.plan.fault:
            fields.append(("x-provider-fault", self.plan.fault))
        if self.kind == "T12":
            fields += [("x-provider-pace", "2s"), ("x-provider-tokens", "1000")]
        body = {"model": "m", "stream": True, "max_tokens": 20, "stream_options": {"include_usage": True}}
        if self.plan.path == RESPONSES:
            body = {"model": "m", "stream": True, "input": self.key}
        else:
            body["messages"] = [{"role": "user", "content": self.key}]
        return self.plan.path, fields, json.dumps(body).encode()

    def add(self, data):
        self.size += len(data)
        if len(self.head) < 2000:
            self.head += data
        self.tail = (self.tail + data)[-600:]

    def end(self, how):
        """how: "end" of the stream, "reset", "gone" (the connection), or "left" by this client."""
        self.ended = time.monotonic()
        if how == "left":
            self.outcome = "left"
        elif self.status != 200 and self.status is not None:
            self.outcome = self.status
        elif self.status is None:
            self.outcome = f"no answer ({how})"
        elif how == "end" and self.kind != "T8":
            mine = self.key.encode() in self.head
            self.outcome = WHOLE if mine and ENDINGS[self.plan.path] in self.tail else "not its own" if not mine else "whole without its end"
        else:
            self.outcome = CUT

    def __str__(self):
        return f"{self.key} ({self.kind}): {self.outcome}, {self.size} bytes, {self.ended - self.begun:.1f} s: {self.tail[-150:]!r}"


class Client(asyncio.Protocol):
    """One connection of many streams. `on_end(call)` is told of each that ended."""

    def __init__(self, authority, on_end):
        self.authority, self.on_end = authority, on_end
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_inbound_headers=False))
        self.calls = {}
        self.transport = None
        self.closed = False
        self.used = 0

    def connection_made(self, transport):
        self.transport = transport
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(1 << 26)
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if data and not self.transport.is_closing():
            self.transport.write(data)

    def free(self):
        return 0 if self.closed else STREAMS - len(self.calls)

    def ask(self, call):
        stream = self.h2.get_next_available_stream_id()
        path, fields, body = call.request()
        head = [(":method", "POST"), (":path", path), (":scheme", "http"), (":authority", self.authority)]
        self.h2.send_headers(stream, head + fields)
        self.h2.send_data(stream, body, end_stream=True)
        call.begun = time.monotonic()
        self.calls[stream] = call
        self.used += 1
        self.flush()

    def data_received(self, data):
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            raise AssertionError(f"Tarry breaks the protocol: {error}") from error
        for event in events:
            self.handle(event)
        self.flush()

    def finish(self, stream, how):
        call = self.calls.pop(stream, None)
        if call:
            call.end(how)
            self.on_end(call)

    def leave(self, stream):
        if stream in self.calls:
            try:
                self.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
            except h2.exceptions.ProtocolError:
                pass
            self.finish(stream, "left")

    def handle(self, event):
        if isinstance(event, h2.events.ResponseReceived):
            call = self.calls.get(event.stream_id)
            if call:
                call.status = int(dict(event.headers)[":status"])
        elif isinstance(event, h2.events.DataReceived):
            call = self.calls.get(event.stream_id)
            if call:
                call.add(event.data)
            if call and call.kind == "T8":  # reads no more of it, and leaves after a while
                if call.size > 60000 and call.size - len(event.data) <= 60000:
                    asyncio.get_running_loop().call_later(5, self.left_later, event.stream_id)
                self.h2.increment_flow_control_window(event.flow_controlled_length)
                return
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if call and call.kind == "T5":
                self.leave(event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.finish(event.stream_id, "end")
        elif isinstance(event, h2.events.StreamReset):
            self.finish(event.stream_id, "reset")
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.closed = True

    def left_later(self, stream):
        self.leave(stream)
        self.flush()

    def connection_lost(self, why):
        self.closed = True
        for stream in list(self.calls):
            self.finish(stream, "gone")


class Storm:
    def __init__(self, folder, calls, seconds, streams, seed):
        self.folder, self.wanted, self.seconds, self.streams = folder, calls, seconds, streams
        self.rng = random.Random(seed)
        self.numbers = itertools.count(1)
        self.done, self.failures = [], []
        self.peak = 0
        self.scale = min(1.0, seconds / 60)  # a short storm has short calls

    def start(self):
        arguments = ["--max-streams", "64", "--delay", "0ms"]
        self.services = [Provider(self.folder, http=False, args=arguments, name=f"service{i}") for i in range(3)]
        conf = Conf(self.folder)
        conf.top.update(http2_resets_max=1000000, http2_max_streams=STREAMS, http2_ping_interval="10m", http2_stalled_max=100,
                        http2_stalled_timeout="1h", http2_glitches_max=1000000, shutdown_timeout="20s")
        conf.log["level"] = "warn"
        common = {"ca_file": self.ca(), "streams_per_connection": self.streams, "max_connections": 20000, "retries": RETRIES,
                  "retry_first_pause": "100ms", "retry_max_pause": "1s", "first_byte_timeout": self.span(60), "first_content_timeout": self.span(15),
                  "hold_timeout": self.span(5), "content_idle_timeout": self.span(15), "stream_timeout": self.span(40), "total_timeout": "5m",
                  "ping_interval": self.span(15), "ping_timeout": "10s", "keep_alive_timeout": "3s", "connection_max_age": self.span(60)}
        conf.upstreams = {"up": common, "quota": dict(common, origin=self.origin(2))}
        conf.endpoints["up"] = {name: {"origin": self.origin(i), "set_header": [f"Authorization: Bearer {name}"]} for i, name in enumerate(("a", "b"))}
        conf.routes = [("/compatibility", {"upstream": "quota"}), ("/", {"upstream": "up"})]
        conf.upstreams["quota"]["set_header"] = ["Authorization: Bearer quota"]
        conf.admins = {f"127.0.0.1:{free_port()}": {}}
        self.tarry = Tarry(self.folder, conf)

    def ca(self):
        """One file with the three stand-ins' authorities."""
        path = self.folder / "ca.pem"
        path.write_text("".join(pathlib.Path(s.ca).read_text() for s in self.services))
        return str(path)

    def origin(self, i):
        return f"https://localhost:{self.services[i].https.rpartition(':')[2]}"

    def span(self, seconds):
        return f"{max(1000, int(seconds * 1000 * self.scale))}ms"

    def next_call(self):
        kind = "healthy"
        at = self.rng.random()
        if at < SHARE * len(KINDS):
            kind = list(KINDS)[int(at / SHARE)]
        return Call(next(self.numbers), kind, int(self.rng.uniform(0.2, 1.0) * 40000 * self.scale))

    # --- the storm ---

    def on_end(self, call):
        self.done.append(call)
        if call.outcome not in call.plan.right:
            self.wrong.append(call)

    async def blow(self):
        self.wrong = []
        clients = []
        end = time.monotonic() + self.seconds
        loop = asyncio.get_running_loop()
        host, _, port = self.tarry.address.rpartition(":")

        async def connect():
            return (await loop.create_connection(lambda: Client(self.tarry.address, self.on_end), host, int(port)))[1]
        begun = 0
        while time.monotonic() < end:
            clients = [c for c in clients if not c.closed or c.calls]
            flying = sum(len(c.calls) for c in clients)
            self.peak = max(self.peak, flying)
            todo = min(self.wanted - flying, max(2, self.wanted // 1000))
            if todo > 0 and sum(c.free() for c in clients) < todo:
                clients.append(await connect())
            for c in clients:
                for _ in range(min(todo, c.free())):
                    c.ask(self.next_call())
                    begun += 1
                    todo -= 1
            await asyncio.sleep(0.02)
        until = time.monotonic() + 400
        while any(c.calls for c in clients) and time.monotonic() < until:
            await asyncio.sleep(0.1)
        hang = [call for c in clients for call in c.calls.values()]
        if hang:
            self.failures.append(f"{len(hang)} calls have no end, such as {hang[0].key} ({hang[0].kind}, {hang[0].status}, {hang[0].size} bytes)")
        for c in clients:
            c.transport.close()
        self.begun = begun

    # --- the account ---

    def in_flight(self):
        lines = self.tarry.metrics()
        return {name: value for name, value in lines.items() if value and (name.startswith("tarry_exchanges{") or name == "tarry_client_connections_open")}

    def rest(self, memory, descriptors):
        """Waits until nothing is in flight; then memory and descriptors."""
        until = time.monotonic() + 60
        while time.monotonic() < until and (self.in_flight() or time.sleep(0.5) or self.tarry.descriptors() > descriptors):
            pass
        if self.in_flight():
            self.failures.append(f"it does not come to rest: {self.in_flight()}")
        time.sleep(0.5)  # the connection for the metrics ends
        if self.tarry.descriptors() > descriptors:
            self.failures.append(f"{self.tarry.descriptors()} descriptors, and {descriptors} before the storm")
        until = time.monotonic() + 30
        counts = self.peak >= WAVE and not self.tarry.sanitized
        while counts and self.tarry.private_memory() > memory + REMAINS and time.monotonic() < until:
            time.sleep(0.5)
        after = self.tarry.private_memory()
        if counts and after > memory + REMAINS:
            self.failures.append(f"{after >> 10} KiB of memory, and {memory >> 10} KiB before the storm")
        return after, self.tarry.descriptors()

    def account(self):
        """What the stand-ins did, against what the clients got."""
        lines = self.tarry.access.lines
        if len(lines) != self.begun:
            self.failures.append(f"{self.begun} calls, but {len(lines)} lines in the access log")
        tries = collections.defaultdict(list)
        for service in self.services:
            for record in service.records:
                tries[record["key"]].append(record)
        broken = sum(1 for call in self.done if call.kind in BREAKERS)
        self.twice = []
        for call in self.done:
            worked = [r for r in tries[call.key] if r["status"] in (200, None, 0) and not never_seen(r)]
            if len(worked) > (1 + RETRIES if call.kind == "T4" else 1):  # an error in a 200 is an error
                self.twice.append((call, tries[call.key]))
            if len(tries[call.key]) > 1 + RETRIES + 3:
                self.failures.append(f"{call} was made {len(tries[call.key])} times")
        if self.twice:
            call, records = self.twice[0]
            self.failures.append(f"{len(self.twice)} calls were worked on twice, such as {call}: " + str([(r["fault"], r["status"], r["end"], r["why"]) for r in records]))
        lost = [call for call in self.wrong if call.kind == "healthy"]
        by_break = [call for call in lost if broke_off(tries[call.key])]
        others = [call for call in self.wrong if call.kind != "healthy"]
        collateral = [call for call in others if self.streams > 1 and call.outcome in (502, 504, CUT) and broke_off(tries[call.key])]
        for call in [c for c in lost if c not in by_break][:5]:
            self.failures.append(f"a healthy call was lost: {call}; " + str([(r["fault"], r["status"], r["end"], r["why"]) for r in tries[call.key]]))
        for call in [c for c in others if c not in collateral][:8]:
            self.failures.append(f"{call}, which is not right; " + str([(r["fault"], r["status"], r["end"], r["why"]) for r in tries[call.key]]))
        if self.streams == 1 and by_break:
            self.failures.append(f"{len(by_break)} healthy calls lost with connections of their own, such as {by_break[0]}; " + str([(r["fault"], r["status"], r["end"], r["why"]) for r in tries[by_break[0].key]]))
        share = len(by_break) / max(1, broken)
        return {"calls": self.begun, "peak in flight": self.peak, "healthy": sum(c.kind == "healthy" for c in self.done),
                "healthy lost": len(lost), "connections broken by faults": broken,
                "healthy lost per broken connection": f"{share:.1f}", "faulty lost with them": len(collateral),
                "worked on twice": len(self.twice)}

    def stop(self):
        for part in [getattr(self, "tarry", None), *getattr(self, "services", [])]:
            try:
                if part:
                    part.stop()
            except AssertionError as error:
                self.failures.append(str(error)[-2000:])


def never_seen(record):
    """The service has said that it did not look at this one. What is cut without a fault of its own fell to another's on the
    same connection: to a GOAWAY that left it out, or to a reset; the record does not tell."""
    return record["fault"] in ("goaway", "refused") or record["why"] == "REFUSED_STREAM" or (record["end"] == "cut" and not record["fault"])


def broke_off(records):
    """The connection went under the call, or took its bytes and was silent."""
    return not records or any(r["end"] != "complete" for r in records)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="scripts/soak --faults", description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=180, help="how long calls begin (default 180)")
    parser.add_argument("--calls", type=int, default=10000, help="how many are in flight (default 10000)")
    parser.add_argument("--streams", type=int, default=32, help="streams_per_connection of the conf (default 32). With 1, no healthy call may be lost")
    parser.add_argument("--seed", default=f"{random.SystemRandom().getrandbits(40):010x}")
    given = parser.parse_args(arguments)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tarry-storm-", dir="/var/tmp"))
    storm = Storm(folder, given.calls, given.seconds, given.streams, given.seed)
    try:
        storm.start()
        memory, descriptors = storm.tarry.private_memory(), storm.tarry.descriptors()
        asyncio.run(storm.blow())
        after = storm.rest(memory, descriptors)
        facts = storm.account()
        print(f"seed {given.seed}; " + ", ".join(f"{name}: {value}" for name, value in facts.items()))
        print(f"memory {memory >> 10} KiB before, {after[0] >> 10} KiB after; descriptors {descriptors} and {after[1]}")
        outcomes = collections.Counter((call.kind, str(call.outcome)) for call in storm.done)
        print("  ".join(f"{kind} {outcome}: {n}" for (kind, outcome), n in sorted(outcomes.items())))
    finally:
        storm.stop()
    if not storm.failures:
        shutil.rmtree(folder)
        return 0
    print(f"FAILED; its files: {folder}")
    for text in storm.failures[:20]:
        print("  " + text)
    return 1
