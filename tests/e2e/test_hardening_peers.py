"""What hostile or broken workers and upstreams send. A test's name begins with the id of its attack in the project's list (U
broken peers, N03 forged handoffs). Nothing that they send becomes a header, a response or a request that Tarry did not mean."""

import zlib

import pytest

from harness import Client, Gate, Raw, Reply, Truncated, by_kind, call, eventually, handoff, problem, replay_parts
from harness.handoffs import proxy_error

OK = Reply(200, b"ok")
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nX-Forged: yes\r\n\r\nforged"

PEERS = ["worker", "relay", "resume", "gateway"]


class Peer:
    """A site with one peer that sends `raw` in answer to /bad and a good answer to everything else. `peer` says who it is and on
    which way its answer comes to the client; ask() gives (status, error) of what became of the answer."""

    def __init__(self, bed, peer, raw, **more):
        self.peer = peer

        def answer(r, c):
            if r.target != "/bad":
                return OK
            return raw(r, c) if callable(raw) else raw if isinstance(raw, Raw) else Raw(raw)
        conf = None
        if peer == "worker":
            self.source = worker = bed.worker(answer, **more)
            upstream = None
        else:
            self.source = upstream = bed.upstream(answer, **more)
            then = "relay" if peer == "relay" else "resume /done"
            worker = bed.worker(by_kind(request=lambda r, c: handoff(then, [call(upstream.origin + r.target, id="mine")]),
                                        resume=lambda r, c: self.resumed(r)))
        conf = bed.conf([worker], upstream)
        if upstream:
            conf.up["retries"] = 0
        if peer == "gateway":
            conf.routes = [("/", {"upstream": "up"})]
        self.tarry = bed.tarry(conf)

    @staticmethod
    def resumed(r):
        a, = r.enclosed  # read strictly
        return Reply(200, f"{a.status} {a.error} ".encode() + a.body, {"X-Enclosed": str(len(a.headers))})

    def ask(self, target="/bad", client=None):
        got = client.request("GET", target) if client else self.tarry.get(target)
        if self.peer == "resume":
            status, error, body = got.body.split(b" ", 2)
            return int(status), None if error == b"None" else error.decode(), body
        return got.status, proxy_error(got.headers), got.body


def rows(table):
    return pytest.mark.parametrize("raw", [pytest.param(raw, id=name) for name, raw in table.items()])


def is_a_502(bed, peer, raw, errors=("http_protocol_error", "http_response_header_section_size", "http_response_incomplete")):
    """The answer is a 502 of Tarry's, no byte of the peer's gets through, and the connection to it is not used again."""
    p = Peer(bed, peer, raw)
    with p.tarry.client() as c:
        status, error, body = p.ask(client=c)
        assert status == 502 and error in errors, (status, error)
        assert b"forged" not in body.lower()
        assert p.ask("/good", client=c) == (200, None, b"ok")
    if not callable(raw):
        assert p.source.requests[0].conn is not p.source.requests[1].conn


def head(*lines, status=b"200 OK", body=b""):
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def endless(first, piece):
    def send(r, c):
        c.send(first)
        try:
            for _ in range(20000):
                c.send(piece)
        except OSError:
            pass
        else:
            raise AssertionError("20,000 pieces were taken")
        c.close()
    return send


# --- U01: heads without end ---

@pytest.mark.parametrize("peer", PEERS)
@rows({
    "endless fields": endless(b"HTTP/1.1 200 OK\r\n", b"X-Field: " + b"v" * 1000 + b"\r\n"),
    "endless value": endless(b"HTTP/1.1 200 OK\r\nX-Field: ", b"v" * 1000),
    "endless name": endless(b"HTTP/1.1 200 OK\r\n", b"v" * 1000),
    "endless reason": endless(b"HTTP/1.1 200 ", b"v" * 1000),
})
def test_U01_a_head_without_end(bed, peer, raw):
    is_a_502(bed, peer, raw)


@pytest.mark.parametrize("peer", PEERS)
@rows({
    "10,000 fields": head(*[b"A: b"] * 10000, b"Content-Length: 0"),
    "field of 1 MiB": head(b"A: " + b"b" * (1 << 20), b"Content-Length: 0"),
    "101 fields": head(*[b"A: b"] * 101, b"Content-Length: 0"),
})
def test_U01_too_large_a_head(bed, peer, raw):
    p = Peer(bed, peer, raw)
    assert p.ask()[0] == 502
    assert p.ask("/good") == (200, None, b"ok")


def test_U01_a_large_head_over_http2(bed):
    up = bed.h2_upstream(lambda s: Reply(200, b"x", [(f"x-{i}", "v" * 100) for i in range(1000)]) if s.target == "/bad" else b"ok")
    worker = bed.worker(lambda r, c: handoff("relay", [call(up.origin + r.target)]))
    site = bed.site(worker, up, up={"retries": 0})
    got = site.tarry.get("/bad")
    assert got.status == 502 and b"v" * 100 not in got.raw_head + got.body
    assert site.tarry.get("/good").body == b"ok"


# --- U02: malformed heads ---

@pytest.mark.parametrize("peer", PEERS)
@rows({
    "NUL in a value": head(b"A: b\0c", b"Content-Length: 0"),
    "bare CR in a value": head(b"A: b\rX-Forged: yes", b"Content-Length: 0"),
    "bare LF in a value": head(b"A: b\nX-Forged: yes", b"Content-Length: 0"),
    "bare LF and a response": head(b"A: b\n\n" + FORGED, b"Content-Length: 0"),
    "control octet in a value": head(b"A: b\x01c", b"Content-Length: 0"),
    "folded": head(b"A: b", b" c", b"Content-Length: 0"),
    "folded length": head(b"Content-Length:", b" 0"),
    "no colon": head(b"forged", b"Content-Length: 0"),
    "blank before the colon": head(b"Content-Length : 0"),
    "empty name": head(b": x", b"Content-Length: 0"),
    "name with a blank": head(b"A b: c", b"Content-Length: 0"),
    "leading blank": head(b" A: b", b"Content-Length: 0"),
    "bare LFs": b"HTTP/1.1 200 OK\nContent-Length: 6\n\nforged",
    "status 99": head(status=b"99 Forged"),
    "status 099": head(status=b"099 Forged"),
    "status 600": head(status=b"600 Forged"),
    "status 1000": head(status=b"1000 Forged"),
    "status 20": head(status=b"20 Forged"),
    "status is a word": head(status=b"forged"),
    "status with a sign": head(status=b"+200 Forged"),
    "status in hexadecimal": head(status=b"0xC8 Forged"),
    "two blanks before the status": b"HTTP/1.1  200 Forged\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "CR in the reason": head(b"Content-Length: 0", status=b"200 O\rX-Forged: yes"),
    "NUL in the reason": head(b"Content-Length: 0", status=b"200 O\0K"),
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/0.9": b"forged forged forged\r\n\r\n",
    "ICY": b"ICY 200 OK\r\n\r\n",
    "blank line first": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
})
def test_U02_a_malformed_head_is_never_forwarded(bed, peer, raw):
    is_a_502(bed, peer, raw)


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("reason", [b"", b" ", b" OK", b" not quite what it is", b" K\xe4se"])
def test_U02_any_reason_is_fine(bed, peer, reason):
    p = Peer(bed, peer, b"HTTP/1.1 200" + reason + b"\r\nContent-Length: 2\r\n\r\nok")
    assert p.ask() == (200, None, b"ok")


# --- U03: interim responses ---

@pytest.mark.parametrize("peer", PEERS)
@rows({
    "hundreds of 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 300 + GOOD,
    "hundreds of 103": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 300 + GOOD,
    "17 of 102": b"HTTP/1.1 102 Processing\r\n\r\n" * 17 + GOOD,
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + FORGED,
    "malformed 103": b"HTTP/1.1 103 Early Hints\r\nA : b\r\n\r\n" + GOOD,
    "103 and the end": b"HTTP/1.1 103 Early Hints\r\n\r\n",
})
def test_U03_interim_responses_without_measure(bed, peer, raw):
    is_a_502(bed, peer, raw)


@pytest.mark.parametrize("peer", PEERS)
def test_U03_a_few_are_passed_over(bed, peer):
    p = Peer(bed, peer, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-Forged: yes\r\n\r\n" * 8 + GOOD)
    assert p.ask() == (200, None, b"ok")


# --- U04: lengths and early ends ---

@pytest.mark.parametrize("peer", PEERS)
@rows({
    "length and coding": head(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nforged"),
    "coding and length": head(b"Transfer-Encoding: chunked", b"Content-Length: 6", body=b"0\r\n\r\nforged"),
    "two lengths": head(b"Content-Length: 1", b"Content-Length: 6", body=b"forged"),
    "twice the same length": head(b"Content-Length: 6", b"Content-Length: 6", body=b"forged"),
    "list of lengths": head(b"Content-Length: 6, 6", body=b"forged"),
    "negative": head(b"Content-Length: -6", body=b"forged"),
    "plus": head(b"Content-Length: +6", body=b"forged"),
    "hexadecimal": head(b"Content-Length: 0x6", body=b"forged"),
    "empty": head(b"Content-Length:", body=b"forged"),
    "past 64 bits": head(b"Content-Length: 18446744073709551622", body=b"forged"),
    "unknown coding": head(b"Transfer-Encoding: gzip", body=b"forged"),
    "gzip, chunked": head(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
    "two codings": head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "chunked twice": head(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"),
    "coding in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "end in the head": b"HTTP/1.1 200 OK\r\nContent-Len",
    "end before a byte": b"",
})
def test_U04_lengths_that_contradict(bed, peer, raw):
    is_a_502(bed, peer, raw, ("http_protocol_error", "http_response_incomplete", "connection_terminated"))


CUT = {
    "short of its length": head(b"Content-Length: 100", body=b"part"),
    "last chunk missing": head(b"Transfer-Encoding: chunked", body=b"4\r\npart\r\n"),
    "in a chunk": head(b"Transfer-Encoding: chunked", body=b"10\r\npart"),
    "in the trailer": head(b"Transfer-Encoding: chunked", body=b"4\r\npart\r\n0\r\nA: b\r\n"),
    "bad chunk size": head(b"Transfer-Encoding: chunked", body=b"4\r\npart\r\nxyz\r\nforged"),
    "bare LF behind a chunk": head(b"Transfer-Encoding: chunked", body=b"4\r\npart\n0\r\n\r\n"),
    "chunk longer than its size": head(b"Transfer-Encoding: chunked", body=b"4\r\npartforged\r\n0\r\n\r\n"),
    "negative chunk": head(b"Transfer-Encoding: chunked", body=b"4\r\npart\r\n-1\r\n"),
    "chunk past 64 bits": head(b"Transfer-Encoding: chunked", body=b"4\r\npart\r\n1" + b"0" * 16 + b"\r\n"),
    "CR in an extension": head(b"Transfer-Encoding: chunked", body=b"4\r\npart\r\n1;a\rb\r\nx\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("begun", [False, True])
@rows(CUT)
def test_U04_a_body_that_breaks_off_never_looks_whole(bed, peer, begun, raw):
    """Whether the client has its beginning already or not."""
    gate = Gate()

    def send(r, c):
        at = raw.index(b"part") + 2
        c.send(raw[:at] if begun else raw)
        if begun:
            gate.wait()
            c.send(raw[at:])
        c.close()
    p = Peer(bed, peer, send)
    with p.tarry.client() as c:
        c.send_request("GET", "/bad")
        try:
            if begun and peer != "resume":
                response = c.begin()
                response.until(b"pa")
                gate.open()
                response.read()
            else:
                gate.open()
                response = c.read_response()
        except Truncated as e:
            assert b"forged" not in e.so_far and peer != "resume"
        else:
            if peer == "resume":
                assert response.body.startswith(b"502 http_"), response
            else:
                problem(response, 502, proxy_error(response.headers))
                assert not begun
    assert p.ask("/good") == (200, None, b"ok")


# --- U05: bytes that nobody asked for ---

@pytest.mark.parametrize("peer", PEERS)
def test_U05_bytes_behind_a_response_are_never_used(bed, peer):
    p = Peer(bed, peer, Raw(GOOD + FORGED, close=False))
    with p.tarry.client() as c:
        assert p.ask(client=c) == (200, None, b"ok")
        for _ in range(3):
            assert p.ask("/good", client=c) == (200, None, b"ok")
    p.source.conns[0].wait_closed()
    assert p.source.requests[0].conn is not p.source.requests[1].conn


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("junk", [FORGED, b"x", b"\r\n", b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"])
def test_U05_bytes_on_an_idle_connection_are_never_used(bed, peer, junk):
    p = Peer(bed, peer, GOOD)
    assert p.ask("/good") == (200, None, b"ok")
    first = p.source.conns[0]
    first.send(junk)
    assert p.ask("/good") == (200, None, b"ok")
    eventually(lambda: first.closed or first.peer_is_gone(), "the connection's end")
    assert p.source.requests[-1].conn is not first


@pytest.mark.parametrize("peer", PEERS)
def test_U05_a_second_response_that_comes_in_pieces_is_never_used(bed, peer):
    """Its first bytes come with the end of the first response, the others when the connection would be idle."""
    def twice(r, c):
        c.send(GOOD[:-1])
        c.send(GOOD[-1:] + FORGED[:10])
        try:
            c.send(FORGED[10:])
        except OSError:
            pass
    p = Peer(bed, peer, twice)
    with p.tarry.client() as c:
        for _ in range(10):
            assert p.ask("/bad", client=c) == (200, None, b"ok")


# --- U06: bodies where none may be ---

@pytest.mark.parametrize("peer", PEERS)
@rows({
    "204 with a length": head(b"Content-Length: 6", status=b"204 No Content", body=b"forged"),
    "204 chunked": head(b"Transfer-Encoding: chunked", status=b"204 No Content", body=b"6\r\nforged\r\n0\r\n\r\n"),
    "204 without a length": head(status=b"204 No Content", body=b"forged"),
    "204 and a response": head(status=b"204 No Content", body=FORGED),
    "304 with a length": head(b"Content-Length: 6", status=b"304 Not Modified", body=b"forged"),
    "304 and a response": head(status=b"304 Not Modified", body=FORGED),
})
def test_U06_a_body_with_204_and_304_is_not_forwarded(bed, peer, raw):
    p = Peer(bed, peer, Raw(raw, close=False))
    with p.tarry.client() as c:
        status, error, body = p.ask(client=c)
        assert (status, body) == (int(raw[9:12]), b"") or (status, error) == (502, "http_protocol_error")
        for _ in range(3):
            assert p.ask("/good", client=c) == (200, None, b"ok")
    assert p.source.requests[0].conn is not p.source.requests[1].conn


@pytest.mark.parametrize("raw", [head(b"Content-Length: 6", body=b"forged"), head(b"Content-Length: 0", body=FORGED),
                                 head(b"Transfer-Encoding: chunked", body=b"6\r\nforged\r\n0\r\n\r\n")])
@pytest.mark.parametrize("peer", ["worker", "gateway"])
def test_U06_a_body_in_answer_to_HEAD_is_not_forwarded(bed, peer, raw):
    p = Peer(bed, peer, Raw(raw, close=False))
    with p.tarry.client() as c:
        got = c.request("HEAD", "/bad")
        assert got.status in (200, 502)
        for _ in range(3):
            assert p.ask("/good", client=c) == (200, None, b"ok")
    assert p.source.requests[0].conn is not p.source.requests[1].conn


def test_U06_an_enclosed_HEAD_with_a_body(bed):
    upstream = bed.upstream(lambda r, c: Raw(head(b"Content-Length: 6", body=b"forged"), close=False))
    seen = []
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin, method="HEAD"),
                                                                           call(upstream.origin, method="HEAD")]),
                                resume=lambda r, c: seen.extend(r.enclosed) or OK))
    assert bed.site(worker, upstream).tarry.get("/").status == 200
    assert [(a.status, a.body, a.headers.get("Content-Length")) for a in seen] == [(200, b"", "0")] * 2


# --- U08: HTTP/2 upstreams that play with the rules (more of it in test_upstreams.py) ---

def h2_site(bed, up, **options):
    """Calls go to the path of the request; what comes is told."""
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /done", [call(up.origin + r.target, id="mine")]),
                                resume=lambda r, c: Peer.resumed(r)))
    return bed.site(worker, up, up=dict({"retries": 0}, **options))


def frame(kind, stream, payload=b"", flags=0):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def set_limit(conn, n):
    conn.send_raw(frame(4, 0, (3).to_bytes(2, "big") + n.to_bytes(4, "big")))


def test_U08_a_limit_of_no_streams_is_waited_for(bed):
    gate = Gate()  # a call may be made before the limit is known
    up = bed.h2_upstream(lambda s: (gate.wait(), b"fine")[1], max_streams=0)
    site = h2_site(bed, up)
    task = bed.background(site.tarry.get, "/x")
    up.wait_for_conns(1)
    conn = up.conns[0]
    eventually(lambda: conn.h2.local_settings.max_concurrent_streams == 0, "the limit to be acknowledged")
    assert task.running
    conn.do(lambda h: h.update_settings({3: 100}))
    gate.open()
    assert task.result().body == b"200 None fine"


def test_U08_a_limit_that_stays_at_0_ends_with_the_call_s_time(bed):
    up = bed.h2_upstream(lambda s: s.wait_reset() and None, max_streams=0)
    site = h2_site(bed, up, total_timeout="600ms", connect_timeout="300ms")
    status, error, _ = site.tarry.get("/x").body.split(b" ", 2)
    assert status in (b"502", b"503", b"504") and error != b"None"


def test_U08_a_limit_lowered_under_way_harms_no_stream(bed):
    gate = Gate()
    up = bed.h2_upstream(lambda s: (gate.wait(), b"old")[1] if s.path == "/old" else b"new")
    site = h2_site(bed, up)
    old = bed.background(site.tarry.get, "/old")
    up.wait_for(1)
    set_limit(up.conns[0], 0)
    gate.open()
    assert old.result().body == b"200 None old"
    task = bed.background(site.tarry.get, "/new")  # on a connection of its own, or when there is room again
    set_limit(up.conns[0], 10)
    assert task.result().body == b"200 None new"


def test_U08_a_stream_error_costs_that_stream_and_no_other(bed):
    gate = Gate()

    def answer(s):
        if s.path == "/other":
            gate.wait()
        elif s.path == "/bad":
            s.conn.send_raw(frame(8, s.id, b"\x7f\xff\xff\xff"))  # past 2^31 with what it has
            return None
        return b"fine"
    up = bed.h2_upstream(answer)
    site = h2_site(bed, up)
    other = bed.background(site.tarry.get, "/other")
    up.wait_for(1)
    assert site.tarry.get("/bad").body.startswith(b"502 ")
    gate.open()
    assert other.result().body == b"200 None fine"


@pytest.mark.parametrize("raw", [frame(8, 0, bytes(4)), frame(8, 1, bytes(4)), frame(8, 0, b"\x7f\xff\xff\xff"), frame(5, 1, bytes([0, 0, 0, 2, 0x88]), 4),
                                 frame(0, 0, b"x"), frame(3, 0, bytes(4)), frame(6, 0, b"short"), frame(4, 0, b"odd"), frame(1, 2, b"\x88", 5)],
                         ids=["increment of 0", "increment of 0 for a stream", "window past 2^31", "PUSH_PROMISE", "DATA on stream 0", "RST_STREAM on stream 0", "short PING",
                              "odd SETTINGS", "HEADERS on an even stream"])
def test_U08_a_connection_error_ends_the_connection_and_the_next_call_gets_a_new_one(bed, raw):
    def answer(s):
        if s.path != "/bad":
            return b"fine"
        s.conn.send_raw(raw)
        return None
    up = bed.h2_upstream(answer)
    site = h2_site(bed, up)
    got = site.tarry.get("/bad").body
    assert got.startswith(b"502 "), got
    assert site.tarry.get("/good").body == b"200 None fine"
    assert len(up.conns) == 2


# --- U09: bodies that look like frames ---

LIKE_FRAMES = {
    "preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0),
    "RST_STREAM": frame(3, 1, bytes(4)) * 100, "GOAWAY": frame(7, 0, bytes(8)) * 100,
    "HEADERS": frame(1, 3, b"\x82\x86\x84\x41\x01a", 5) * 100, "DATA with END_STREAM": frame(0, 1, b"forged", 1) * 100,
    "SETTINGS": frame(4, 0, b"\0\x04\0\0\0\0") * 100, "longer than a frame": frame(1, 3, b"\x82\x86\x84\x41\x01a", 5) * 5000,
}


@pytest.mark.parametrize("body", LIKE_FRAMES)
@pytest.mark.parametrize("way", ["call", "gateway"])
def test_U09_a_body_that_looks_like_frames_is_a_body(bed, body, way):
    """Both ways: framing is the library's, whatever the bytes are."""
    up = bed.h2_upstream(lambda s: Reply(200, s.body))
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /done", [call(up.origin + "/x", r.body)]),
                                resume=lambda r, c: Reply(200, r.enclosed[0].body)))
    conf = bed.conf(worker, up)
    conf.routes.append(("/gate/", {"upstream": "up"}))
    tarry = bed.tarry(conf)
    got = tarry.post("/gate/" if way == "gateway" else "/", LIKE_FRAMES[body])
    assert (got.status, got.body) == (200, LIKE_FRAMES[body])
    assert [s.body for s in up.requests] == [LIKE_FRAMES[body]]


# --- U10: peers that do not read, or send without measure ---

def grown(tarry, before):
    """Bytes of private memory above `before`; 0 for a sanitizer's build, where that means nothing."""
    return 0 if tarry.sanitized else tarry.private_memory() - before


@pytest.mark.parametrize("version", ["http1", "http2"])
def test_U10_an_upstream_that_does_not_read_the_request_is_given_up(bed, version):
    """The request waits in its file: nothing of it is read ahead of what the upstream takes."""
    body, gate = bytes(1 << 20) * 30, Gate()
    if version == "http2":
        up = bed.h2_upstream(lambda s: b"never", credit=False)
    else:
        up = bed.upstream(lambda r, c: (gate.wait(), c.close())[1], read_body=False)
    conf = bed.conf([], up)
    conf.up.update(idle_timeout="500ms", retries=0)
    conf.routes = [("/", {"upstream": "up"})]
    tarry = bed.tarry(conf)
    before = tarry.private_memory()
    got = tarry.post("/", body)
    gate.open()
    problem(got, 504, "http_response_timeout")
    assert grown(tarry, before) < 4 << 20


@pytest.mark.parametrize("peer", ["worker", "relay", "gateway"])
def test_U10_a_gigabyte_to_a_client_that_does_not_read(bed, peer):
    """The source is held back; a worker's response goes to a file up to spool_max."""
    sent, done = [], Gate()

    def pour(r, c):
        if r.target != "/bad":
            return OK
        try:
            c.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 30))
            for _ in range(1 << 10):
                c.send(bytes(1 << 20))
                sent.append(1)
        except OSError:
            pass
        done.open()
        c.close()
        return None
    upstream = bed.upstream(pour)
    worker = bed.worker(pour if peer == "worker" else lambda r, c: handoff("relay", [call(upstream.origin + r.target)]))
    conf = bed.conf(worker, upstream)
    conf.top["send_timeout"] = "500ms"
    conf.pool.update(spool_max="8M", abandoned_timeout="0ms")
    if peer == "gateway":
        conf.routes = [("/", {"upstream": "up"})]
    tarry = bed.tarry(conf)
    assert tarry.get("/good").body == b"ok"
    before = tarry.private_memory()
    with Client(tarry.address, receive_buffer=2048) as slow:
        slow.send_request("GET", "/bad")
        tarry.access.wait_for(lambda line: line["path"] == "/bad")
        assert grown(tarry, before) < 4 << 20
    if peer != "worker":
        done.wait()  # the call ends with its client; a worker that said how much is to come may finish
        assert len(sent) < 32
    assert tarry.get("/good").body == b"ok"


# --- U11: compression bombs ---

def bomb(size):
    """So many zeros, compressed."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(deflate.compress(bytes(1 << 20)) for _ in range(size >> 20)) + deflate.flush()


@pytest.mark.parametrize("peer", ["worker", "relay", "gateway"])
def test_U11_a_compressed_response_is_passed_on_as_it_is(bed, peer):
    """Nobody but the client undoes it, and no filter of Tarry's touches what is encoded."""
    raw = bomb(256 << 20)
    p = Peer(bed, peer, Raw(head(b"Content-Type: application/json", b"Content-Encoding: gzip", b"Content-Length: %d" % len(raw), body=raw)))
    before = p.tarry.private_memory()
    got = p.tarry.get("/bad", {"Accept-Encoding": "gzip"})
    assert got.status == 200 and got.headers.get("Content-Encoding") == "gzip" and got.body == raw
    assert grown(p.tarry, before) < 4 << 20


def test_U11_so_it_is_enclosed_for_a_worker(bed):
    raw = bomb(256 << 20)
    upstream = bed.upstream(lambda r, c: Reply(200, raw, {"Content-Encoding": "gzip"}))
    seen = []
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin)]), resume=lambda r, c: seen.extend(r.enclosed) or OK))
    site = bed.site(worker, upstream)
    before = site.tarry.private_memory()
    assert site.tarry.get("/").body == b"ok"
    assert seen[0].body == raw and seen[0].headers.get("Content-Encoding") == "gzip"
    assert grown(site.tarry, before) < 4 << 20


def test_U11_a_compressed_handoff_is_undone_within_its_limit(bed):
    """The one thing that Tarry decompresses: 256 MB of zeros stop at handoff_max, without memory for them."""
    upstream = bed.upstream()
    raw = bomb(256 << 20)
    site = bed.site(lambda r, c: Reply(200, raw, {"Tarry-Then": "relay", "Content-Type": "application/http; msgtype=request",
                                                  "Content-Encoding": "gzip"}), upstream, pool={"call_max": "1M", "handoff_max": "2M"})
    before = site.tarry.private_memory()
    problem(site.tarry.get("/"), 502, "handoff_limit")
    assert upstream.requests == [] and grown(site.tarry, before) < 6 << 20


# --- nothing can be injected ---

# Header values that a careless application might make of user input, as they leave it on the wire.
SPLITS = {
    "CR LF": b"a\r\nX-Forged: yes", "CR LF CR LF": b"a\r\n\r\n" + FORGED, "LF": b"a\nX-Forged: yes", "CR": b"a\rX-Forged: yes",
    "NUL": b"a\0X-Forged: yes", "fold": b"a\r\n X-Forged: yes", "LF LF": b"a\n\n" + FORGED,
}
NAMES = ["Set-Cookie", "Location", "Content-Type", "X-Plain"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", [k for k in SPLITS if k not in ("CR LF", "CR LF CR LF")])
@pytest.mark.parametrize("peer", PEERS)
def test_a_value_with_a_line_end_is_never_forwarded(bed, peer, split, name):
    is_a_502(bed, peer, head(name.encode() + b": " + SPLITS[split], b"Content-Length: 0"))


@pytest.mark.parametrize("peer", PEERS)
def test_a_response_that_a_peer_split_itself_reaches_one_client_once(bed, peer):
    """A whole second response behind CR LF CR LF is the peer's own, but nobody's answer."""
    p = Peer(bed, peer, head(b"X: " + SPLITS["CR LF CR LF"], b"Content-Length: 0"))
    with p.tarry.client() as c:
        status, error, body = p.ask(client=c)
        assert (status, error) == (200, None) and body.startswith(FORGED)  # without a length, all that follows is the body
    with p.tarry.client() as c:
        assert p.ask("/good", client=c) == (200, None, b"ok")


@pytest.mark.parametrize("value", [b"plain", "käse".encode(), b"a\tb", b"\xff\xfe", b"x" * 4000, b"HTTP/1.1 200 OK", b"a: b; c"])
def test_odd_but_sound_values_arrive_as_they_are(bed, value):
    site = bed.site(lambda r, c: Raw(head(b"X-Odd: " + value, b"Set-Cookie: a=" + value, b"Content-Length: 2", body=b"ok")))
    got = site.tarry.get("/")
    assert b"X-Odd: " + value + b"\r\n" in got.raw_head and b"Set-Cookie: a=" + value + b"\r\n" in got.raw_head


BODIES = {
    "a response": FORGED, "a handoff": b"HTTP/1.1 200 OK\r\nTarry-Then: relay\r\nContent-Length: 0\r\n\r\n",
    "a head": b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", "blank lines": b"\r\n\r\n\r\n", "chunks": b"0\r\n\r\n" + FORGED,
    "a request": b"GET /forged HTTP/1.1\r\nHost: a\r\n\r\n", "NULs": b"\0" * 1000, "empty": b"",
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_enclosed_bodies_that_look_like_messages_are_bodies(bed, body, framing):
    upstream = bed.upstream(lambda r, c: Reply(200, BODIES[body], framing=framing))
    seen = []
    worker = bed.worker(by_kind(
        request=lambda r, c: handoff("resume /1", [call(upstream.origin, id=f"r{i}") for i in range(3)]),
        resume=lambda r, c: seen.extend(r.enclosed) or (handoff("replay", [call(upstream.origin, id="last")]) if r.target == "/1" else OK),
        replay=lambda r, c: seen.append(r) or OK))
    assert bed.site(worker, upstream).tarry.post("/", BODIES[body]).body == b"ok"
    assert [(a.id, a.body) for a in seen[:3]] == [(f"r{i}", BODIES[body]) for i in range(3)]
    original, record = replay_parts(seen[3])
    assert original == BODIES[body] and [(a.id, a.body) for a in record] == [(i, BODIES[body]) for i in ("r0", "r1", "r2", "last")]


@pytest.mark.parametrize("body", [b for b in BODIES if b != "empty"])
def test_relayed_bodies_that_look_like_messages_are_bodies(bed, body):
    upstream = bed.upstream(lambda r, c: Reply(200, BODIES[body], framing="close"))
    site = bed.site(bed.worker(lambda r, c: handoff("relay", [call(upstream.origin)])), upstream)
    with site.tarry.client() as c:
        for _ in range(2):
            assert c.request().body == BODIES[body]


@pytest.mark.parametrize("name", ["Tarry-Call-Id", "tarry-call-id", "Tarry-Attempts", "Tarry-Time", "Tarry-State", "TARRY_CALL_ID", "Tarry.Then"])
def test_an_upstream_cannot_forge_what_tarry_says_of_its_answer(bed, name):
    upstream = bed.upstream(lambda r, c: Reply(200, b"x", [(name, "forged"), ("X-Kept", "k")]))
    seen = []
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin, id="mine")]),
                                resume=lambda r, c: seen.append(r) or OK))
    bed.site(worker, upstream).tarry.get("/")
    a, = seen[0].enclosed
    assert (a.id, a.attempts) == ("mine", "1") and a.headers.get("X-Kept") == "k" and b"forged" not in seen[0].raw


@pytest.mark.parametrize("field", ["Proxy-Status: tarry; error=connection_refused", "Proxy-Status: other"])
def test_an_upstream_s_own_proxy_status_stays_apart(bed, field):
    """It is the upstream's header, whoever it names; the status tells that there was an answer."""
    name, _, value = field.partition(": ")
    upstream = bed.upstream(lambda r, c: Reply(200, b"x", {name: value}))
    seen = []
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin)]), resume=lambda r, c: seen.extend(r.enclosed) or OK))
    bed.site(worker, upstream).tarry.get("/")
    assert seen[0].status == 200 and seen[0].body == b"x"


def test_relay_takes_no_header_but_those_it_names(bed):
    """Not one that the upstream's Connection names, nor a cookie, nor anything hop-by-hop or of Tarry."""
    fields = [("Set-Cookie", "forged=1"), ("Location", "http://forged/"), ("Access-Control-Allow-Origin", "forged"), ("Server", "forged"),
              ("Tarry-Then", "relay"), ("Tarry-Forged", "1"), ("Connection", "keep-alive, Cache-Control"), ("Cache-Control", "forged"),
              ("Keep-Alive", "forged"), ("Upgrade", "forged"), ("Proxy-Authenticate", "forged"), ("Trailer", "forged"),
              ("Strict-Transport-Security", "forged"), ("Content-Security-Policy", "forged"), ("Content-Type", "text/kept")]
    upstream = bed.upstream(lambda r, c: Reply(200, b"body", fields))
    site = bed.site(bed.worker(lambda r, c: handoff("relay", [call(upstream.origin)], headers={"X-Frame-Options": "DENY"})), upstream)
    got = site.tarry.get("/")
    assert got.body == b"body" and got.headers.get("Content-Type") == "text/kept" and got.headers.get("X-Frame-Options") == "DENY"
    assert b"forged" not in got.raw_head.lower() and not got.headers.starting("Tarry-")


def test_relay_headers_cannot_name_what_frames_a_message(bed):
    """A conf that asks for them is refused, or they are not relayed."""
    upstream = bed.upstream(lambda r, c: Reply(200, b"body", {"Connection": "close, x-forged", "Tarry-State": "forged"}, framing="chunked"))
    site = bed.site(bed.worker(lambda r, c: handoff("relay", [call(upstream.origin)])), upstream,
                    up={"relay_headers": ["x-request-id"]})
    with site.tarry.client() as c:
        for _ in range(2):
            got = c.request()
            assert got.body == b"body" and b"forged" not in got.raw_head


VISIBLE = "".join(chr(c) for c in range(0x21, 0x7f))


@pytest.mark.parametrize("then", ["resume /x", "replay"])
@pytest.mark.parametrize("state", [VISIBLE, "a,b;c=d", "%0d%0aX-Forged:yes", '"', "\\r\\nX", "a" * 8000, ":", ","])
def test_a_state_of_visible_ascii_comes_back_byte_for_byte(bed, then, state):
    upstream = bed.upstream()
    worker = bed.worker(by_kind(request=lambda r, c: handoff(then, [call(upstream.origin)], state=state), resume=OK, replay=OK))
    assert bed.site(worker, upstream).tarry.get("/").status == 200
    assert worker.requests[-1].state == state


@pytest.mark.parametrize("header", ["Tarry-State", "Tarry-Then", "Tarry-Notify", "Tarry-On-Error"])
@pytest.mark.parametrize("octet", ["\t", " ", "\x80", "\xff", "\xa0", "\x85"])
def test_odd_octets_in_a_handoff_s_header_are_malformed(bed, header, octet):
    upstream = bed.upstream()
    value = {"Tarry-State": "a{}b", "Tarry-Then": "resume /a{}b", "Tarry-Notify": "/a{}b", "Tarry-On-Error": "/a{}b"}[header].format(octet)
    fields = [("Tarry-Then", "relay")] if header in ("Tarry-Notify", "Tarry-On-Error") else [] if header == "Tarry-Then" else [("Tarry-Then", "replay")]
    site = bed.site(bed.worker(lambda r, c: handoff(None, [call(upstream.origin)], headers=fields + [(header, value)])), upstream)
    problem(site.tarry.get("/"), 502, "handoff_malformed")
    assert upstream.requests == [] and len(site.worker.requests) == 1


PATHS = ["/a%0d%0aX-Forged:%20yes", "/a%20HTTP/1.1", "//other.example/x", "/..%2f..%2fx", "/a?b=c&d=%00", "/a;b", "/%", "/a?http://x/"]


@pytest.mark.parametrize("path", PATHS)
def test_a_resume_s_path_is_the_target_as_it_was_written(bed, path):
    upstream = bed.upstream()
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume " + path, [call(upstream.origin)]), resume=OK))
    got = bed.site(worker, upstream).tarry.get("/")
    if got.status == 502:
        problem(got, 502, "handoff_malformed")
        assert upstream.requests == []
    else:
        assert worker.requests[1].target == path and b"X-Forged" not in worker.requests[1].raw_head.replace(path.encode(), b"")


def test_cookies_of_handoffs_are_values_and_nothing_else(bed):
    cookie = 'a="x y"; Path=/; HttpOnly, b=c\t\xff'
    upstream = bed.upstream()
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin)], headers=[("Set-Cookie", cookie)]), resume=OK))
    got = bed.site(worker, upstream).tarry.get("/")
    assert got.headers.all("Set-Cookie") == [cookie]


# --- N03: handoffs that are none ---

@pytest.mark.parametrize("name", ["Tarry-Then", "tarry-then", "TARRY_THEN", "Tarry.Then"])
@pytest.mark.parametrize("where", ["head", "trailer", "body"])
def test_N03_a_client_cannot_hand_off(bed, name, where):
    """Neither is the request taken for a handoff, nor can a worker that echoes its headers be made to send one unnoticed."""
    upstream = bed.upstream()
    body = call(upstream.origin + "/forged")
    site = bed.site(lambda r, c: Reply(200, r.body, [(n, v) for n, v in r.headers if n.lower().startswith("x-") or "then" in n.lower()]), upstream)
    with site.tarry.client() as c:
        fields = [("Content-Type", "application/http; msgtype=request"), ("X-Other", "kept")]
        if where == "head":
            got = c.request("POST", "/", fields + [(name, "relay")], body)
        elif where == "trailer":
            c.send_request("POST", "/", fields + [("Transfer-Encoding", "chunked"), ("Trailer", name)])
            c.send(b"%x\r\n%s\r\n0\r\n%s: relay\r\n\r\n" % (len(body), body, name.encode()))
            got = c.read_response("POST")
        else:
            got = c.request("POST", "/", fields, b"Tarry-Then: relay\r\n\r\n" + body)
    assert got.status == 200 and got.body.endswith(body) and got.headers.get("X-Other") == "kept"
    assert upstream.requests == []


@pytest.mark.parametrize("peer", ["relay", "resume", "gateway"])
@pytest.mark.parametrize("name", ["Tarry-Then", "TARRY_THEN", "tarry.then"])
def test_N03_an_upstream_cannot_hand_off(bed, peer, name):
    inner = bed.upstream()
    reply = Reply(200, call(inner.origin + "/forged"), [(name, "relay"), ("Content-Type", "application/http; msgtype=request")])
    p = Peer(bed, peer, lambda r, c: reply)
    status, error, body = p.ask()
    assert (status, error, body) == (200, None, reply.body)
    assert inner.requests == []


def test_N03_a_handoff_in_a_relayed_answer_over_http2(bed):
    inner = bed.upstream()
    up = bed.h2_upstream(lambda s: Reply(200, call(inner.origin), {"tarry-then": "relay", "content-type": "application/http"}))
    worker = bed.worker(lambda r, c: handoff("relay", [call(up.origin)]))
    got = bed.site(worker, up).tarry.get("/")
    assert got.status == 200 and got.body == call(inner.origin) and not got.headers.starting("tarry") and inner.requests == []


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data/", "http://localhost:{port}/", "http://127.1:{port}/",
                                    "http://2130706433:{port}/", "http://0x7f000001:{port}/", "http://[::ffff:127.0.0.1]:{port}/",
                                    "http://127.0.0.1.evil.example:{port}/", "http://evil.example/", "http://127.0.0.1:{other}/",
                                    "https://127.0.0.1:{port}/", "tarry://other/", "tarry://up.evil/", "tarry://UP /", "http://127.0.0.1:{port}.evil/",
                                    "http://127.0.0.1:{port}@evil.example/", "http://evil.example@127.0.0.1:{port}/", "http:127.0.0.1:{port}/",
                                    "http:///127.0.0.1:{port}/", "http://127.0.0.1:{port}#@evil/", "http://127.0.0.1%3a{port}/", "http://127.0.0.1:0{port}/"])
def test_N03_a_worker_cannot_call_a_foreign_origin(bed, target):
    upstream, other = bed.upstream(), bed.upstream()
    target = target.format(port=upstream.port, other=other.port)
    worker = bed.worker(lambda r, c: handoff("resume /x", f"GET {target} HTTP/1.1\r\n\r\n"))
    got = bed.site(worker, upstream).tarry.get("/")
    assert got.status == 502 and proxy_error(got.headers) in ("handoff_forbidden", "handoff_malformed")
    assert upstream.requests == [] and other.requests == [] and len(worker.requests) == 1


@pytest.mark.parametrize("then", ["resume /again", "replay"])
def test_N03_a_loop_ends_at_max_hops(bed, then):
    upstream = bed.upstream()
    worker = bed.worker(lambda r, c: handoff(then, [call(upstream.origin)]))
    site = bed.site(worker, upstream, pool={"max_hops": 7})
    problem(site.tarry.get("/"), 508, "loop_detected")
    assert len(worker.requests) == 7 and len(upstream.requests) == 6


def test_N03_a_call_to_tarry_itself_is_refused_like_any_other_foreign_origin(bed):
    site = bed.site(bed.worker(lambda r, c: handoff("relay", [call(f"http://{r.headers.get('Host')}/again")])))
    problem(site.tarry.get("/"), 502, "handoff_forbidden")
    assert len(site.worker.requests) == 1


@pytest.mark.parametrize("raw", [b"Tarry-Then: relay\rX: y\r\n", b"Tarry-Then: resume /x\nX-Forged: yes\r\n", b"Tarry-Then: resume /x\r\n X-Forged: y\r\n",
                                 b"Tarry-Then: resume /x\0\r\n", b"Tarry-Then : relay\r\n"])
def test_N03_line_ends_in_a_handoff_s_head_are_a_malformed_response(bed, raw):
    upstream = bed.upstream()
    body = call(upstream.origin)
    site = bed.site(lambda r, c: Raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/http; msgtype=request\r\n" + raw +
                                     b"Content-Length: %d\r\n\r\n" % len(body) + body), upstream)
    problem(site.tarry.get("/"), 502, "http_protocol_error")
    assert upstream.requests == [] and len(site.worker.requests) == 1


@pytest.mark.parametrize("value", ["a\r\nX-Forged: yes", "a\nX-Forged: yes", "a\rb", "a\0b"])
def test_N03_line_ends_in_an_enclosed_request_never_reach_an_upstream(bed, value):
    upstream = bed.upstream()
    raw = f"GET {upstream.origin}/ HTTP/1.1\r\nX-Plain: {value}\r\n\r\n"
    site = bed.site(bed.worker(by_kind(request=lambda r, c: handoff("resume /x", raw), resume=OK)), upstream)
    got = site.tarry.get("/")
    if value == "a\r\nX-Forged: yes":  # two header lines, as the worker wrote them: that is its right
        assert got.status == 200 and upstream.request.headers.get("X-Forged") == "yes"
    else:
        problem(got, 502, "handoff_malformed")
        assert upstream.requests == []


@pytest.mark.parametrize("name", ["Connection", "Transfer-Encoding", "Host", "Tarry-State", "Upgrade", "TE", "Keep-Alive"])
def test_N03_an_enclosed_request_cannot_reframe_itself(bed, name):
    value = {"Connection": "X-Plain, close", "Transfer-Encoding": "chunked", "Host": "evil.example"}.get(name, "x")
    upstream = bed.upstream()
    raw = f"POST {upstream.origin}/ HTTP/1.1\r\n{name}: {value}\r\nX-Plain: 1\r\nContent-Length: 2\r\n\r\n{{}}"
    site = bed.site(bed.worker(by_kind(request=lambda r, c: handoff("resume /x", raw), resume=OK)), upstream)
    got = site.tarry.get("/")
    if got.status == 502:
        assert upstream.requests == []
        problem(got, 502, "handoff_malformed")
    else:
        r = upstream.request
        assert r.body == b"{}" and r.framing == "length" and r.headers.get("Host") == upstream.address
        assert name == "Host" or name == "Connection" or name not in r.headers
