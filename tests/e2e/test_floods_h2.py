"""HTTP/2 denial of service (A): an attacking connection beside an honest one. The attacker is sent away before it could have sent for
five seconds at 10 Mbit/s, Tarry's memory hardly grows, no request of the attacker's is left, and the honest client does not notice."""

import itertools
import struct
import urllib.request

import pytest

from harness import Gate, Reply, call, eventually, free_port, handoff
from harness import h2client as h2
from test_http2 import step

ENOUGH = 6_250_000  # bytes: five seconds at 10 Mbit/s
GROWTH = 8 << 20


class Siege:
    """A site and what is known of it; `top`: options."""

    def __init__(self, bed, slots=4, **top):
        self.gate = Gate()
        self.worker = bed.worker(self.answer)
        conf = bed.conf(self.worker, slots=slots)
        conf.top.update(top)
        self.admin = f"127.0.0.1:{free_port()}"
        conf.admins[self.admin] = {}
        conf.log["level"] = "info"
        self.tarry = bed.tarry(conf)
        self.honest = self.tarry.h2()
        self.check()
        self.before = self.tarry.private_memory()

    def answer(self, r, c):
        if r.path == "/hold":
            self.gate.wait()
        return Reply(200, b"x" * (300_000 if r.path == "/big" else 4))

    def check(self):
        assert self.honest.request(target="/honest").body == b"xxxx"

    def metric(self, name):
        text = urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=20).read().decode()
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith((name + " ", name + "{")))

    def over(self, floods=1):
        """After the attack. `floods`: how many are counted; None: that depends on the kernel."""
        self.check()
        assert self.honest.ended is None and not self.honest.goaways
        assert floods is None or self.metric("tarry_http2_floods_total") == floods
        self.gate.open()
        eventually(lambda: self.metric("tarry_exchanges") == 0, "the attacker's requests to end")
        eventually(lambda: self.metric("tarry_client_connections_open") == 1, "its connections to end")
        if not self.tarry.sanitized:
            assert self.tarry.private_memory() - self.before < GROWTH
        self.honest.close()


def storm(siege, pieces, code=h2.ENHANCE_YOUR_CALM, reads=True, most=ENOUGH, **client):
    """Sends piece after piece until the connection ends; it must. `code`: of the GOAWAY; None: any, or none."""
    sent = 0
    with siege.tarry.h2(**client) as c:
        for n, piece in enumerate(pieces(c) if callable(pieces) else pieces):
            sent += len(piece)
            assert sent < most, f"it may go on: {c.frames[-10:]}"
            if not c.send(piece):
                break
            if reads:
                c.pump()
                if c.ended or c.goaways:
                    break
            if n % 50 == 0:
                siege.check()
                if not reads and siege.metric("tarry_http2_floods_total"):
                    break  # it would see its GOAWAY, if it read
        if reads:
            c.wait_closed()
            assert code is None or c.goaways and c.goaways[-1][1] == code, (c.goaways, c.ended, c.frames[-5:])
        return c


def requests(c, path="/honest", method="GET", last=True, more=()):
    """Endless requests of a client: (id, bytes)."""
    for number in itertools.count(1, 2):
        yield number, h2.frame(h2.HEADERS, h2.END_HEADERS | (h2.END_STREAM if last else 0), number,
                               c.block(c.head_fields(method, path, more)))


@pytest.mark.parametrize("batch", [1, 50])
def test_a01_rapid_reset(bed, batch):
    siege = Siege(bed)

    def pieces(c):
        for _, group in itertools.groupby(enumerate(requests(c, "/attack")), lambda p: p[0] // batch):
            yield b"".join(head + h2.reset_frame(number) for _, (number, head) in group)

    storm(siege, pieces)
    siege.over()
    assert siege.metric("tarry_http2_resets_total") > 100
    # What was taken back before it was looked at has reached nobody.
    assert batch == 1 or not [r for r in siege.worker.requests if r.path == "/attack"]


def test_a01_requests_at_work_are_bounded_by_the_slots(bed):
    siege = Siege(bed, slots=4)
    with siege.tarry.h2() as c:
        for _ in range(60):  # a free slot is taken; what waits for one is forgotten with its client
            r = c.begin(target="/hold")
            c.ping()
            r.reset()
        siege.worker.wait_for(4, lambda r: r.path == "/hold")
        c.ping()
        assert len([r for r in siege.worker.requests if r.path == "/hold"]) == 4
        siege.gate.open()
        siege.check()
        c.ping()
    siege.over(floods=0)


def test_a01_a_client_that_changes_its_mind_is_none(bed):
    siege = Siege(bed)
    with siege.tarry.h2() as c:
        for _ in range(90):
            c.begin(target="/honest").reset()
        assert c.request(target="/honest").body == b"xxxx"
    siege.over(floods=0)


TRIGGERS = {  # CVE-2025-8671: what makes the server reset
    "window update of 0": (lambda n: h2.window_frame(n, 0), None),
    "window overflow": (lambda n: h2.window_frame(n, (1 << 31) - 1), h2.ENHANCE_YOUR_CALM),
    "priority on itself": (lambda n: h2.frame(h2.PRIORITY, 0, n, struct.pack(">IB", n, 1)), h2.ENHANCE_YOUR_CALM),
    "priority of a wrong length": (lambda n: h2.frame(h2.PRIORITY, 0, n, b"abc"), None),
    "headers on half-closed": (lambda n: h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, n, b"\x82"), None),
    "data on half-closed": (lambda n: h2.frame(h2.DATA, 0, n, b"x"), None),
}


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a02_made_you_reset(bed, trigger):
    make, code = TRIGGERS[trigger]
    siege = Siege(bed)
    storm(siege, lambda c: (head + make(number) for number, head in requests(c, "/attack")), code)
    siege.over(floods=0 if code is None else 1)


@pytest.mark.parametrize("piece", [h2.frame(h2.CONTINUATION, 0, 1), h2.frame(h2.CONTINUATION, 0, 1, b"\0\1x\1y" * 50)], ids=["empty", "full"])
def test_a03_continuation_without_end(bed, piece):
    siege = Siege(bed)

    def pieces(c):
        c.ping()
        yield h2.frame(h2.HEADERS, h2.END_STREAM, 1, c.block(c.head_fields()))
        yield from itertools.repeat(piece)

    storm(siege, pieces)
    siege.over()


def test_a03_empty_frames_of_heads(bed):
    siege = Siege(bed)

    def pieces(c):
        for number in itertools.count(1, 2):
            block = c.block(c.head_fields())
            yield h2.frame(h2.HEADERS, h2.END_STREAM, number) + h2.frame(h2.CONTINUATION, 0, number) + \
                h2.frame(h2.CONTINUATION, h2.END_HEADERS, number, block)

    storm(siege, pieces)
    siege.over()


@pytest.mark.parametrize("references", [8000, 60000])
def test_a04_hpack_bomb(bed, references):
    siege = Siege(bed)

    def pieces(c):
        c.ping()
        entry = b"\x40\x01x\x7f" + bytes([0x80 | (3900 - 127) & 0x7f, (3900 - 127) >> 7]) + b"y" * 3900
        head = b"\x82\x86\x84\x01\x01a"  # GET http / of "a", nothing of it in the table
        for number in itertools.count(1, 2):
            block = head + entry + b"\xbe" * references
            parts = [block[i:i + 16384] for i in range(0, len(block), 16384)]
            yield b"".join(h2.frame(h2.CONTINUATION if i else h2.HEADERS, (0 if i else h2.END_STREAM) |
                                    (h2.END_HEADERS if i == len(parts) - 1 else 0), number, p) for i, p in enumerate(parts))

    storm(siege, pieces)
    siege.over()


def test_a04_table_resizes(bed):
    siege = Siege(bed)
    sizes = b"\x3f\xe1\x1f\x20" * 4000  # 4096, 0, 4096 …: only two may begin a block

    def pieces(c):
        for number in itertools.count(1, 2):
            yield h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, number, sizes)

    storm(siege, pieces)
    siege.over()
    other = Siege(bed.another())
    storm(other, lambda c: itertools.cycle([h2.settings_frame({h2.TABLE_SIZE: 0}), h2.settings_frame({h2.TABLE_SIZE: 65536})]))
    other.over()


@pytest.mark.parametrize("crumbs", [10, 4000])
def test_a05_cookie_bomb_behind_a_closed_window(bed, crumbs):
    siege = Siege(bed, send_timeout="300ms")
    with siege.tarry.h2(settings={h2.INITIAL_WINDOW: 0}) as c:
        c.ping()
        head = c.block(c.head_fields(target="/big") + [("cookie", "a=b" * 500)])
        for number in range(1, 201, 2):
            c.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, number, head + b"\xbe" * crumbs))
            head = c.block(c.head_fields(target="/big"))
        c.pump(lambda: sum(f[0] == h2.RST_STREAM for f in c.frames) >= 100 or c.goaways)
        assert not [f for f in c.frames if f[0] == h2.DATA and f[3]]
        siege.check()
        if crumbs > 100 and not siege.tarry.sanitized:
            assert siege.tarry.private_memory() - siege.before < GROWTH
    siege.over(floods=int(crumbs > 100))


def test_a06_a_window_that_stays_closed(bed):
    siege = Siege(bed, send_timeout="300ms")
    with siege.tarry.h2(settings={h2.INITIAL_WINDOW: 0}) as c:
        streams = [c.begin(target="/big") for _ in range(50)]
        assert [s.head().status for s in streams] == [200] * 50
        siege.check()
        assert {s.wait_reset() for s in streams} == {h2.CANCEL}
        # Until then they held no worker, and others had their answers; the connection is still good.
        c.send(h2.settings_frame({h2.INITIAL_WINDOW: 65535}))
        assert c.request(target="/honest").body == b"xxxx"
    siege.over(floods=0)


def test_a06_a_connection_s_window_that_stays_closed(bed):
    siege = Siege(bed, send_timeout="300ms")
    with siege.tarry.h2(polite=False, settings={h2.INITIAL_WINDOW: 1 << 20}) as c:
        c.send(h2.settings_frame(ack=True))
        for _ in range(20):
            c.begin(target="/big")
        c.wait_goaway(h2.NO_ERROR)
        c.wait_closed()
    siege.over(floods=0)


def test_a06_who_waits_for_others_is_not_slow(bed):
    """A large response is taken slowly; a small one behind it waits for longer than send_timeout, and is not to blame."""
    siege = Siege(bed, send_timeout="400ms")
    with siege.tarry.h2(polite=False, settings={h2.INITIAL_WINDOW: 1 << 20}) as c:
        c.send(h2.settings_frame(ack=True))
        big = c.begin(target="/big", headers={"Priority": "u=1"}).head()
        c.pump(lambda: len(big.so_far) == 65535)
        small = c.begin(target="/honest", headers={"Priority": "u=5"}).head()
        while not big.complete:
            n = len(big.so_far)
            c.send(h2.window_frame(0, 16384))
            c.pump(lambda: len(big.so_far) > n)
            step(0.1)
        c.send(h2.window_frame(0, 16384))
        assert small.read() == b"xxxx"
    siege.over(floods=0)


@pytest.mark.parametrize("how", ["stream", "connection", "tcp"])
def test_a06_many_responses_that_are_not_taken(bed, how):
    """One may be slow; dozens are an attack, and are not waited for as long."""
    siege = Siege(bed, http2_stalled_max=10, http2_stalled_timeout="300ms")
    size = {"stream": 0, "connection": 1 << 20, "tcp": (1 << 31) - 1}[how]
    more = {"receive_buffer": 4096, "window": (1 << 31) - 65536} if how == "tcp" else {}
    with siege.tarry.h2(polite=False, settings={h2.INITIAL_WINDOW: size}, **more) as c:
        c.send(h2.settings_frame(ack=True))
        for number, head in itertools.islice(requests(c, "/big"), 40):
            c.send(head)
        if how == "tcp":
            eventually(lambda: siege.metric("tarry_http2_floods_total"), "the attacker to be noticed")
        else:
            c.wait_goaway(h2.ENHANCE_YOUR_CALM)
            c.wait_closed()
    siege.over()


def test_a06_some_responses_that_are_not_taken(bed):
    siege = Siege(bed, http2_stalled_max=10, http2_stalled_timeout="100ms")
    with siege.tarry.h2(settings={h2.INITIAL_WINDOW: 0}) as c:
        streams = [c.begin(target="/big").head() for _ in range(10)]
        step(0.5)
        c.send(h2.settings_frame({h2.INITIAL_WINDOW: 65535}))
        assert {len(s.read()) for s in streams} == {300_000}
    siege.over(floods=0)


@pytest.mark.parametrize("how", ["one byte at a time", "toggling"])
def test_a06_tiny_windows(bed, how):
    siege = Siege(bed)
    opened = {"one byte at a time": lambda: h2.window_frame(1, 1),
              "toggling": lambda: h2.settings_frame({h2.INITIAL_WINDOW: 1}) + h2.settings_frame({h2.INITIAL_WINDOW: 0})}[how]

    def pieces(c):
        c.begin(target="/big").head()
        c.send(h2.window_frame(1, 1))
        for _ in itertools.count():
            n = len(c.frames)
            c.pump(lambda: c.goaways or c.ended or len(c.frames) > n or how == "toggling")
            yield opened()

    storm(siege, pieces, settings={h2.INITIAL_WINDOW: 0})
    siege.over()


def test_a07_a_closed_tcp_window(bed):
    siege = Siege(bed, send_timeout="500ms")
    with siege.tarry.h2(receive_buffer=4096, settings={h2.INITIAL_WINDOW: (1 << 31) - 1}, window=(1 << 31) - 65536) as c:
        c.ping()
        for number, head in itertools.islice(requests(c, "/big"), 100):
            c.send(head)
        eventually(lambda: siege.metric("tarry_client_connections_open") == 1, "the connection to end")
    siege.over(floods=0)


FLOODS = {
    "ping": lambda c, n: h2.frame(h2.PING, 0, 0, b"12345678"),
    "settings": lambda c, n: h2.settings_frame({h2.INITIAL_WINDOW: 65535}),
    "empty settings": lambda c, n: h2.settings_frame(),
    "priority": lambda c, n: h2.frame(h2.PRIORITY, 0, 1 + 2 * n, struct.pack(">IB", 0, n % 256)),
    "priority update": lambda c, n: h2.frame(h2.PRIORITY_UPDATE, 0, 0, struct.pack(">I", 1) + b"u=%d" % (n % 8)),
    "pong": lambda c, n: h2.frame(h2.PING, h2.ACK, 0, b"12345678"),
    "window updates": lambda c, n: h2.window_frame(0, 1),
    "resets of nothing": lambda c, n: h2.reset_frame(1),
}


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("reads", [True, False], ids=["reading", "not reading"])
def test_a08_floods(bed, kind, reads):
    siege = Siege(bed)

    def pieces(c):
        if reads:
            assert c.request(target="/honest").status == 200
        else:
            yield h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, c.block(c.head_fields(target="/honest")))
        for n in itertools.count():
            yield b"".join(FLOODS[kind](c, 20 * n + i) for i in range(20))

    storm(siege, pieces, reads=reads)
    siege.over(floods=1)


@pytest.mark.parametrize("piece", [h2.frame(h2.DATA, 0, 1), h2.frame(h2.DATA, h2.PADDED, 1, b"\x63" + bytes(99))], ids=["empty", "padding"])
def test_a08_empty_data(bed, piece):
    siege = Siege(bed)

    def pieces(c):
        yield next(requests(c, "/attack", "POST", last=False))[1]
        yield from itertools.repeat(piece * 5)

    storm(siege, pieces)
    siege.over()
    assert not [r for r in siege.worker.requests if r.path == "/attack"]


def test_a08_an_upload_and_a_download_are_no_flood(bed):
    """The many frames that go with them are counted in proportion."""
    siege = Siege(bed, http2_window_updates_max=100)
    with siege.tarry.h2() as c:
        for _ in range(40):
            assert len(c.request("POST", "/big", body=b"y" * 100_000).body) == 300_000
    siege.over(floods=0)


@pytest.mark.parametrize("head", [("x-a", "b\0c"), ("X-Upper", "b"), ("content-length", "5")], ids=lambda f: f[0])
def test_a09_malformed_requests_while_never_reading(bed, head):
    siege = Siege(bed)
    storm(siege, lambda c: (b"".join(p for _, p in itertools.islice(requests(c, more=[]), 0)) or
                            h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, n, c.block(c.head_fields() + [head]))
                            for n in itertools.count(1, 2)), reads=False, receive_buffer=4096)
    siege.over()
    assert siege.metric("tarry_http2_glitches_total") > 100


@pytest.mark.slow
def test_a09_answers_that_are_never_read(bed):
    """Whatever the other bounds are: frames that wait are bounded."""
    siege = Siege(bed, http2_glitches_max=1000000, http2_resets_max=1000000, http2_queue_max=200)

    def pieces(c):
        for n in itertools.count(1, 2):
            yield h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, n, c.block(c.head_fields() + [("x-a", "b\0c")]))

    c = siege.tarry.h2(receive_buffer=4096)
    for piece in pieces(c):  # until nothing is taken any more: it is not read either
        if not c.send_some(piece) and not c.wait_writable(1):
            break
    eventually(lambda: siege.metric("tarry_client_connections_open") == 1, "the connection to end")
    c.close()
    # With its own window shut the attacker's kernel drops acknowledgements, and it may never get as far as the bound: then it
    # ends as one that has not acknowledged SETTINGS in time.
    siege.over(floods=None)


def test_a10_streams_beyond_the_limit(bed):
    siege = Siege(bed, http2_max_streams=10, slots=50)
    with siege.tarry.h2() as c:
        c.ping()
        for number, head in itertools.islice(requests(c, "/hold"), 11):
            c.send(head)
        c.wait_goaway(h2.PROTOCOL_ERROR)
        c.wait_closed()
    siege.over(floods=0)


def test_a10_streams_beyond_the_limit_before_settings_are_known(bed):
    siege = Siege(bed, http2_max_streams=10, slots=50)
    with siege.tarry.h2(polite=False) as c:
        streams = [c.begin(target="/hold") for _ in range(15)]
        assert {s.wait_reset() for s in streams[10:]} == {h2.REFUSED_STREAM}
        siege.gate.open()
        assert [s.read() for s in streams[:10]] == [b"xxxx"] * 10
    siege.over(floods=0)


def test_a10_the_last_stream_there_is(bed):
    siege = Siege(bed)
    with siege.tarry.h2() as c:
        c._next = (1 << 31) - 1
        assert c.request(target="/honest").status == 200
        c.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, c.block(c.head_fields())))  # ids only grow
        c.ping()
    assert len(siege.worker.requests) == 2
    siege.over(floods=0)


def test_a10_goaway_and_then_more(bed):
    siege = Siege(bed)
    with siege.tarry.h2() as c:
        c.send(h2.frame(h2.GOAWAY, 0, 0, bytes(8)))
        r = c.begin(target="/honest")  # it says what it will not answer, not what it will not ask
        c.pump(lambda: r.over)
        c.wait_closed()
    siege.over(floods=0)


@pytest.mark.parametrize("behind", [h2.frame(h2.DATA, 0, 0, b"x"), h2.frame(h2.SETTINGS, 0, 0, b"x"), h2.frame(h2.HEADERS, 0xff, 1, b""),
                                    b"\xff" * 4096, h2.frame(h2.PUSH_PROMISE, 4, 2, bytes(4)), b"GET / HTTP/1.1\r\n\r\n"], ids=range(6))
def test_a11_malformed_frames_behind_the_end(bed, behind):
    siege = Siege(bed)
    for first in (h2.window_frame(0, 0), h2.frame(h2.DATA, 0, 0, b"x"), h2.frame(h2.GOAWAY, 0, 0, bytes(8)), b"",
                  b"".join(h2.frame(h2.PING, 0, 0, bytes(8)) for _ in range(2000))):
        with siege.tarry.h2() as c:
            c.send(next(requests(c))[1] + first + behind)
            c.wait_closed()
    siege.check()
    assert not siege.honest.goaways


def test_a12_reset_during_the_response(bed):
    siege = Siege(bed, http2_resets_max=1000)
    with siege.tarry.h2() as c:
        for _ in range(100):
            r = c.begin(target="/big")
            c.pump(lambda: r.pieces)
            r.reset()
        assert c.request(target="/honest").body == b"xxxx"
    siege.over(floods=0)


def test_a12_reset_before_the_head_is_complete(bed):
    siege = Siege(bed)
    with siege.tarry.h2() as c:
        c.ping()
        c.send(h2.frame(h2.HEADERS, h2.END_STREAM, 1, c.block(c.head_fields())) + h2.reset_frame(1))
        c.wait_goaway(h2.PROTOCOL_ERROR)
        c.wait_closed()
    siege.over(floods=0)
    assert len(siege.worker.requests) == 2


def test_a12_reset_of_parked_calls(bed):
    """Each is reset while its call is under way, and ends there."""
    gate = Gate()
    upstream = bed.upstream(lambda r, c: (gate.wait(), b"x")[1])
    site = bed.site(bed.worker(lambda r, c: handoff("relay", [call(upstream.origin)])), upstream, up={"max_connections": 200})
    with site.tarry.h2() as c:
        for n in range(50):
            r = c.begin("POST", "/", body=b"x")
            upstream.wait_for(n + 1)
            r.reset()
        line = site.tarry.access.wait_for(n=50)
        assert line["end"] == "client_gone"
    gate.open()
