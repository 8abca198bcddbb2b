"""docs/handoff.md: relay, with what is said there on errors and keep-alive of a relay."""

import hashlib
import time

import pytest

from harness import Client, Gate, Raw, Reply, Truncated, by_kind, call, eventually, handoff, problem
from harness.server import Conn  # noqa: F401


def relay(bed, upstream, up=None, pool=None, top=None, resume=None, **fields):
    """A site whose worker relays every request to the upstream, with these fields of the handoff."""
    upstream = upstream if hasattr(upstream, "origin") else bed.upstream(upstream)
    method = fields.pop("method", None)
    target = fields.pop("target", "/v1/x")
    worker = bed.worker(by_kind(request=lambda r, c: handoff("relay", [call(upstream.origin + target, method=method)], **fields),
                                resume=resume))
    return bed.site(worker, upstream, up=dict({"retries": 0}, **(up or {})), pool=pool, top=top)


# --- as it arrives ---

def test_each_chunk_is_flushed_as_it_arrives(bed):
    def stream(r, c):
        c.send_head(headers={"Content-Type": "text/event-stream"})
        for i, gate in enumerate(gates):
            c.send_chunk(f"data: {i}\n\n")
            gate.wait()
        c.end_chunks()
    gates = [Gate() for _ in range(5)]
    site = relay(bed, stream)
    with site.tarry.client() as c:
        c.send_request()
        response = c.begin()
        assert response.headers.get("Content-Type") == "text/event-stream"
        for i, gate in enumerate(gates):
            response.until(f"data: {i}\n\n".encode())
            gate.open()
        assert response.read() == b"".join(b"data: %d\n\n" % i for i in range(5))


def test_the_head_comes_before_the_first_byte_of_the_body(bed):
    def stream(r, c):
        c.send_head()
        gate.wait()
        c.end_chunks()
    gate = Gate()
    site = relay(bed, stream, up={"hold_timeout": "100ms"})
    with site.tarry.client() as c:
        c.send_request()
        response = c.begin()
        gate.open()
        assert response.read() == b""


def test_every_cut_of_the_stream_is_byte_exact(bed):
    text = "data: {\"t\": \"gr\xfc\xdfe \u4f60\u597d \U0001f600\"}\n\n".encode() * 3

    def stream(r, c):
        c.send_head()
        for i in range(len(text)):
            c.send_chunk(text[i:i + 1])
        c.end_chunks()
    site = relay(bed, stream)
    assert site.tarry.get("/").body == text


def test_a_slow_client_slows_the_upstream(bed):
    """Backpressure: Tarry holds a small window of a large stream, not all of it."""
    piece, count = bytes(range(256)) * 256, 1024  # 64 MiB
    sent = []

    def stream(r, c):
        c.send_head(framing="length", length=len(piece) * count)
        for _ in range(count):
            c.send(piece)
            sent.append(1)
    site = relay(bed, stream, up={"idle_timeout": "60s"})
    digest = hashlib.sha256()
    with Client(site.tarry.address, receive_buffer=16384) as c:
        c.send_request()
        response = c.begin()
        # The upstream comes to a stand while nobody reads.
        last, since = -1, time.monotonic()
        while time.monotonic() - since < 0.5:
            if len(sent) != last:
                last, since = len(sent), time.monotonic()
            time.sleep(0.02)
        assert last < count // 2
        before = site.tarry.private_memory()
        total = 0
        while True:
            got = response.piece()
            if got is None:
                break
            total += len(got)
            digest.update(got)
            response.pieces.clear()
        assert total == len(piece) * count
        assert digest.hexdigest() == hashlib.sha256(piece * count).hexdigest()
        assert site.tarry.sanitized or site.tarry.private_memory() - before < 32 << 20


def test_a_large_body_is_relayed_whole(bed):
    body = bytes(range(256)) * 4 * 40960  # 40 MiB: a relay has no response_max
    site = relay(bed, lambda r, c: Reply(200, body), up={"response_max": "1M"})
    assert site.tarry.get("/").body == body


# --- status, framing and headers ---

@pytest.mark.parametrize("status", [200, 201, 400, 401, 404, 418, 429, 500, 503, 529])
def test_status_and_body_are_the_upstream_s(bed, status):
    site = relay(bed, lambda r, c: Reply(status, b'{"error": 1}', {"Content-Type": "application/json"}))
    got = site.tarry.get("/")
    assert (got.status, got.body, got.headers.get("Content-Type")) == (status, b'{"error": 1}', "application/json")


@pytest.mark.parametrize("framing, expected", [("length", "length"), ("chunked", "chunked"), ("close", "chunked")])
def test_the_length_is_kept_if_it_is_known(bed, framing, expected):
    site = relay(bed, lambda r, c: Reply(200, b"some text", framing=framing))
    with site.tarry.client() as c:
        for _ in range(2):  # whatever the upstream does, the client's connection lives on
            got = c.request()
            assert (got.framing, got.body) == (expected, b"some text")


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_is_relayed(bed, status):
    site = relay(bed, lambda r, c: Reply(status, framing="none"))
    with site.tarry.client() as c:
        assert c.request().status == status
        assert c.request().status == status


def test_interim_responses_of_the_upstream_stay_inside(bed):
    site = relay(bed, lambda r, c: Raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
                                       b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    got = site.tarry.get("/")
    assert (got.status, got.body, got.interim) == (200, b"ok", [])


def test_headers_come_from_the_upstream_or_the_handoff(bed):
    upstream = lambda r, c: Reply(200, b"u", [  # noqa: E731
        ("Content-Type", "text/upstream"), ("Content-Encoding", "identity"), ("Cache-Control", "no-cache"), ("Retry-After", "7"),
        ("Set-Cookie", "up=1"), ("X-Internal", "secret"), ("Access-Control-Allow-Origin", "https://up.example"),
        ("X-Request-Id", "req-1"), ("Server", "upstream-server"), ("Location", "/inside")])
    site = relay(bed, upstream, headers=[("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2"), ("Cache-Control", "private"),
                                         ("Access-Control-Allow-Origin", "https://site.example"), ("X-Frame-Options", "DENY"),
                                         ("Retry-After", "99"), ("Vary", "Cookie")])
    h = site.tarry.get("/").headers
    assert h.get("Content-Type") == "text/upstream"
    assert h.get("Content-Encoding") == "identity"
    assert h.get("Content-Length") == "1"
    assert h.all("Cache-Control") == ["no-cache", "private"]  # the service's, and what the application insists on
    assert h.get("Retry-After") == "7"
    assert h.all("Set-Cookie") == ["a=1; Path=/", "b=2"]
    assert h.get("Access-Control-Allow-Origin") == "https://site.example"
    assert h.get("X-Frame-Options") == "DENY" and h.get("Vary") == "Cookie"
    assert not {"x-internal", "x-request-id", "location"} & set(h.names())
    assert "upstream-server" not in h.all("Server")
    assert not h.starting("tarry-")


def test_the_handoff_s_own_type_and_length_are_not_the_clients(bed):
    site = relay(bed, lambda r, c: Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"))
    h = site.tarry.get("/").headers
    assert "Content-Type" not in h and "Content-Length" not in h


def test_a_gzipped_handoff_does_not_label_the_answer(bed):
    site = relay(bed, lambda r, c: Reply(200, b"plain text"), gzip=True, headers=[("Vary", "Accept-Encoding")])
    got = site.tarry.get("/", {"Accept-Encoding": "gzip"})
    assert got.body == b"plain text" and "Content-Encoding" not in got.headers


def test_relay_headers_of_the_conf_come_from_the_upstream_too(bed):
    site = relay(bed, lambda r, c: Reply(200, b"u", [("X-Request-Id", "req-1"), ("X-Ratelimit-Remaining", "5"), ("X-Other", "o")]),
                 up={"relay_headers": ["x-request-id", "X-RateLimit-Remaining"]}, headers=[("X-Request-Id", "worker")])
    h = site.tarry.get("/").headers
    assert h.get("X-Request-Id") == "req-1" and h.get("X-Ratelimit-Remaining") == "5" and "X-Other" not in h


def test_trailers_of_the_upstream_are_dropped(bed):
    site = relay(bed, lambda r, c: Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
                                       b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"))
    got = site.tarry.get("/")
    assert (got.body, got.trailers) == (b"ok", [])


def test_an_http_1_0_client_gets_a_body_that_ends_with_the_connection(bed):
    site = relay(bed, lambda r, c: Reply(200, [b"one", b"two"], framing="chunked"))
    with site.tarry.client() as c:
        c.send(b"GET / HTTP/1.0\r\n\r\n")
        response = c.read_response()
        assert (response.framing, response.body) == ("close", b"onetwo")
        assert c.wait_closed() == "eof"


# --- when it breaks off ---

def test_an_end_before_a_byte_is_a_502(bed):
    site = relay(bed, lambda r, c: c.close())
    problem(site.tarry.get("/"), 502, "http_response_incomplete")


@pytest.mark.parametrize("raw", [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 40,
                                 b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n28\r\n" + b"x" * 40 + b"\r\n",
                                 b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\n" + b"x" * 40,
                                 b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n28\r\n" + b"x" * 40 + b"\r\nzz\r\n"])
@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_truncated_answer_never_looks_whole(bed, raw, end):
    def cut(r, c):
        c.send(raw)
        gate.wait()
        getattr(c, end)()
    gate = Gate()
    site = relay(bed, cut)
    with site.tarry.client() as c:
        c.send_request()
        response = c.begin()
        if b"zz" not in raw:
            response.until(b"x" * 40)
        gate.open()
        with pytest.raises(Truncated):
            response.read()
    line = site.tarry.access.wait_for()
    assert line["end"] != "complete"


def test_an_http_1_0_client_sees_the_cut_as_a_reset(bed):
    """Where the end of the connection is the end of the body, a FIN would make half an answer look whole."""
    def cut(r, c):
        c.send_head()
        c.send_chunk("half")
        gate.wait()
        c.close()
    gate = Gate()
    site = relay(bed, cut)
    with site.tarry.client() as c:
        c.send(b"GET / HTTP/1.0\r\n\r\n")
        response = c.begin()
        response.until(b"half")
        gate.open()
        with pytest.raises(Truncated) as e:
            response.read()
    assert e.value.how == "reset"


# --- Tarry-On-Error ---

def on_error(bed, upstream, **more):
    return relay(bed, upstream, on_error="/failed?x=1", state="st",
                 resume=lambda r, c: Reply(200, f"sorry: {r.target} {r.state} {r.hop} {r.enclosed[0].status} {r.enclosed[0].error}"),
                 **more)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503, 302])
def test_on_error_a_worker_answers_instead(bed, status):
    site = on_error(bed, lambda r, c: Reply(status, b"no"))
    got = site.tarry.get("/")
    assert (got.status, got.text) == (200, f"sorry: /failed?x=1 st 1 {status} None")
    r = site.worker.requests[1]
    assert (r.method, r.kind) == ("POST", "resume") and r.enclosed[0].body == b"no"


@pytest.mark.parametrize("what, status, error", [("refuse", 502, "connection_refused"), ("close", 502, "http_response_incomplete"),
                                                 ("reset", 502, "connection_terminated"), ("silence", 504, "http_response_timeout"),
                                                 ("garbage", 502, "http_protocol_error")])
def test_on_error_gets_the_failure_that_tarry_made(bed, what, status, error):
    site = on_error(bed, {"close": lambda r, c: c.close(), "reset": lambda r, c: c.reset(), "silence": lambda r, c: c.wait_closed() and None,
                          "garbage": lambda r, c: Raw(b"what?\r\n\r\n"), "refuse": None}[what], up={"first_byte_timeout": "300ms"})
    if what == "refuse":
        site.upstream.refuse()
    assert site.tarry.get("/").text == f"sorry: /failed?x=1 st 1 {status} {error}"


def test_on_error_comes_after_the_retries(bed):
    site = on_error(bed, lambda r, c: Reply(503, b"busy"), up={"retries": 2})
    assert site.tarry.get("/").text == "sorry: /failed?x=1 st 1 503 None"
    assert len(site.upstream.requests) == 3
    assert site.worker.requests[1].enclosed[0].attempts == "3"


def test_on_error_does_not_touch_a_good_answer(bed):
    site = on_error(bed, lambda r, c: Reply(201, b"fine"))
    got = site.tarry.get("/")
    assert (got.status, got.body) == (201, b"fine") and len(site.worker.requests) == 1


def test_on_error_is_too_late_once_a_byte_went_out(bed):
    def cut(r, c):
        c.send_head()
        c.send_chunk("half")
        gate.wait()
        c.reset()
    gate = Gate()
    site = on_error(bed, cut)
    with site.tarry.client() as c:
        c.send_request()
        response = c.begin()
        response.until(b"half")
        gate.open()
        with pytest.raises(Truncated):
            response.read()
    assert len(site.worker.requests) == 1


def test_without_on_error_the_client_gets_the_failure(bed):
    site = relay(bed, lambda r, c: Reply(503, b"busy", {"Retry-After": "3"}), up={"retries": 1, "total_timeout": "2s"})
    got = site.tarry.get("/")
    assert (got.status, got.body, got.headers.get("Retry-After")) == (503, b"busy", "3")


# --- several hops ---

def test_a_resumed_worker_may_relay(bed):
    upstream = bed.upstream(lambda r, c: r.target.encode())
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin + "/1")], headers={"Set-Cookie": "a=1"}),
                                resume=lambda r, c: handoff("relay", [call(upstream.origin + "/2")], headers={"Set-Cookie": "b=2"})))
    site = bed.site(worker, upstream)
    got = site.tarry.get("/")
    assert got.body == b"/2" and sorted(got.headers.all("Set-Cookie")) == ["a=1", "b=2"]
    line = site.tarry.access.wait_for()
    assert (line["hops"], line["calls"], line["status"], line["end"]) == (2, 2, 200, "complete")


def test_many_relays_at_once_through_one_slot(bed):
    gate = Gate()

    def stream(r, c):
        c.send_head()
        c.send_chunk(r.target)
        gate.wait()
        c.send_chunk(" end")
        c.end_chunks()
    upstream = bed.upstream(stream)
    worker = bed.worker(lambda r, c: handoff("relay", [call(upstream.origin + r.target)]))
    site = bed.site(worker, upstream, slots=1)
    clients = [site.tarry.client() for _ in range(40)]
    for i, c in enumerate(clients):
        c.send_request("GET", f"/{i}")
    responses = [c.begin() for c in clients]
    for i, r in enumerate(responses):
        assert r.until(f"/{i}".encode())
    gate.open()
    assert [r.read() for r in responses] == [f"/{i} end".encode() for i in range(40)]
    for c in clients:
        c.close()
    eventually(lambda: len(site.tarry.access.lines) == 40)


@pytest.mark.parametrize("end", ["reset", "close"])
def test_a_whole_response_stays_whole_when_the_upstream_then_ends(bed, end):
    """All of it has come, though the client takes it slowly: how the upstream's connection ends is of no concern."""
    size, count = 1024, 100  # less than a receive buffer, so that all of it arrives

    def stream(r, c):
        body = b"".join(b"%x\r\n" % size + b"x" * size + b"\r\n" for _ in range(count)) + b"0\r\n\r\n"
        c.send_head(headers={"Content-Type": "text/event-stream", "Connection": "close"})
        c.send(body)
        arrived.wait()
        (c.reset if end == "reset" else c.close)()
        ended.open()
    arrived, ended = Gate(), Gate()
    site = relay(bed, stream, top={"output_max": "4K"})
    with Client(site.tarry.address, receive_buffer=4096) as c:
        c.send_request()
        response = c.begin()
        response.until(b"x")
        arrived.open()
        ended.wait()
        assert len(response.read()) == size * count


@pytest.mark.parametrize("service, app, told", [
    (None, "max-age=60", ["max-age=60"]), ("max-age=5", "max-age=60", ["max-age=5"]),
    ("public, max-age=5", "no-store", ["public, max-age=5", "no-store"]), ("no-store", "private", ["no-store", "private"])])
def test_cache_control_is_never_less_strict_than_the_application_s(bed, service, app, told):
    fields = [("Cache-Control", service)] if service else []
    site = relay(bed, lambda r, c: Reply(200, b"x", fields), headers=[("Cache-Control", app)])
    assert site.tarry.get("/").headers.all("Cache-Control") == told


def test_a_relayed_range_says_which_it_is(bed):
    site = relay(bed, lambda r, c: Reply(206, b"abc", {"Content-Range": "bytes 0-2/9", "Content-Type": "a/b"}))
    got = site.tarry.get("/")
    assert (got.status, got.body, got.headers.get("Content-Range")) == (206, b"abc", "bytes 0-2/9")


def test_an_upstream_without_an_address_is_a_dns_error(bed):
    worker = bed.worker(lambda r, c: handoff("relay", [call("http://name.invalid:8000/x")]))
    conf = bed.conf(worker, None)
    conf.upstreams = {"ai": {"origin": "http://name.invalid:8000", "insecure": True, "retries": 0}}
    problem(bed.tarry(conf).get("/"), 502, "dns_error")
