"""Responses compressed for clients: which, for whom, and that nothing waits or looks whole that is not."""

import gzip
import json
import random
import re
import subprocess
import zlib

import brotli
import pytest
import zstandard

from harness import Gate, Reply, Truncated, by_kind, call, eventually, free_port, handoff, request

JSON = [("Content-Type", "application/json")]
TEXT = json.dumps([{"id": i, "name": f"item {i}", "tags": ["a", "b"]} for i in range(500)]).encode()
ALL = "gzip, deflate, br, zstd"


class Gunzip:
    def __init__(self):
        self._d = zlib.decompressobj(31)

    def feed(self, data):
        return self._d.decompress(data)

    whole = property(lambda self: self._d.eof)


class Unbrotli:
    def __init__(self):
        self._d = brotli.Decompressor()

    def feed(self, data):
        return self._d.process(data)

    whole = property(lambda self: self._d.is_finished())


class Unzstd:
    def __init__(self):
        self._d = zstandard.ZstdDecompressor().decompressobj()

    def feed(self, data):
        return self._d.decompress(data)

    @property
    def whole(self):
        try:
            self._d.decompress(b"x")
        except zstandard.ZstdError:
            return True
        return False


DECODERS = {"gzip": Gunzip, "br": Unbrotli, "zstd": Unzstd}


def decode(response):
    d = DECODERS[response.headers.get("Content-Encoding")]()
    out = d.feed(response.body)
    assert d.whole
    return out


def compressing(bed, worker, upstream=None, **options):
    conf = bed.conf(bed.worker(worker) if callable(worker) else worker, upstream)
    conf.sections["compression"] = {"types": ["application/json", "text/*"], **options}
    conf.admins = {f"127.0.0.1:{free_port()}": {}}
    return bed.tarry(conf)


def metric(tarry, name):
    text = request(next(iter(tarry.conf.admins)), target="/metrics").text
    return int(re.search(rf"^{re.escape(name)} (\d+)$", text, re.M)[1])


@pytest.mark.parametrize("encoding", DECODERS)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_listed_type_is_compressed(bed, encoding, framing):
    tarry = compressing(bed, lambda r, c: Reply(200, TEXT, [*JSON, ("ETag", '"v1"'), ("Content-MD5", "x"), ("Accept-Ranges", "bytes")],
                                               framing=framing))
    got = tarry.get("/", [("Accept-Encoding", encoding)])
    assert got.status == 200 and decode(got) == TEXT and len(got.body) < len(TEXT) / 5
    assert got.headers.get("Vary") == "Accept-Encoding" and got.headers.get("ETag") == 'W/"v1"'
    assert not {"content-length", "content-md5", "accept-ranges"} & set(got.headers.names())
    line = tarry.access.wait_for()
    assert line["bytes_out"] == len(got.body)
    assert metric(tarry, "tarry_compressed_responses_total") == 1
    assert metric(tarry, "tarry_compression_input_bytes_total") == len(TEXT)
    assert metric(tarry, "tarry_compression_output_bytes_total") == len(got.body)
    assert metric(tarry, "tarry_compression_memory_bytes") == 0


@pytest.mark.parametrize("accept, encodings, chosen", [
    (ALL, None, "zstd"), (ALL, ["gzip", "br"], "gzip"), ("gzip;q=0.5, br;q=0.4", None, "gzip"), ("*", ["br"], "br"),
    ("identity", None, None), ("gzip;q=0", None, None), (None, None, None), ("deflate", None, None), ("zstd", ["gzip"], None)])
def test_the_client_s_wish_and_the_conf_s_order_decide(bed, accept, encodings, chosen):
    tarry = compressing(bed, lambda r, c: Reply(200, TEXT, JSON), **({"encodings": encodings} if encodings else {}))
    got = tarry.get("/", [("Accept-Encoding", accept)] if accept else [])
    assert got.headers.get("Content-Encoding") == chosen
    assert got.headers.get("Vary") == "Accept-Encoding"  # for caches, whatever this client got
    assert (decode(got) if chosen else got.body) == TEXT


def test_curl_reads_it(bed):
    tarry = compressing(bed, lambda r, c: Reply(200, TEXT, JSON))
    got = subprocess.run(["curl", "-sS", "--compressed", "-D", "-", tarry.url + "/"], capture_output=True, timeout=60, check=True)
    head, _, body = got.stdout.partition(b"\r\n\r\n")
    assert b"content-encoding:" in head.lower() and body == TEXT


NOT = {
    "an event stream": Reply(200, TEXT, [("Content-Type", "text/event-stream")]),
    "what is encoded": Reply(200, gzip.compress(TEXT), [*JSON, ("Content-Encoding", "gzip")]),
    "a type that is not listed": Reply(200, TEXT, [("Content-Type", "image/svg+xml")]),
    "no type": Reply(200, TEXT),
    "what is short": Reply(200, TEXT[:1000], JSON),
    "no-transform": Reply(200, TEXT, [*JSON, ("Cache-Control", "no-transform")]),
    "a part": Reply(206, TEXT, [*JSON, ("Content-Range", f"bytes 0-{len(TEXT) - 1}/{len(TEXT)}")]),
    "204": Reply(204, b"", JSON, framing="none"),
    "304": Reply(304, b"", [*JSON, ("ETag", '"v1"')], framing="none"),
}


@pytest.mark.parametrize("what", NOT)
def test_not_compressed(bed, what):
    tarry = compressing(bed, lambda r, c: NOT[what])
    got = tarry.get("/", [("Accept-Encoding", ALL)])
    assert got.status == NOT[what].status and got.body == NOT[what].body
    assert got.headers.all("Content-Encoding") == [v for n, v in NOT[what].headers if n == "Content-Encoding"]
    assert got.headers.get("ETag") == ('"v1"' if what == "304" else None)
    assert metric(tarry, "tarry_compressed_responses_total") == 0


@pytest.mark.parametrize("field", [("Range", "bytes=0-9"), ("Cache-Control", "no-cache, no-transform")])
def test_not_compressed_for_a_request_with(bed, field):
    tarry = compressing(bed, lambda r, c: Reply(200, TEXT, JSON))
    assert tarry.get("/", [("Accept-Encoding", ALL), field]).body == TEXT


def test_a_route_can_be_left_out(bed):
    conf = bed.conf(bed.worker(lambda r, c: Reply(200, TEXT, JSON)))
    conf.sections["compression"] = {"types": ["application/json"]}
    conf.routes = [("/", {"workers": "app"}), ("/account/", {"workers": "app", "compress": False})]
    tarry = bed.tarry(conf)
    assert decode(tarry.get("/", [("Accept-Encoding", ALL)])) == TEXT
    got = tarry.get("/account/", [("Accept-Encoding", ALL)])
    assert got.body == TEXT and "Vary" not in got.headers


def test_off_without_the_section(bed):
    site = bed.site(lambda r, c: Reply(200, TEXT, JSON))
    got = site.tarry.get("/", [("Accept-Encoding", ALL)])
    assert got.body == TEXT and "Vary" not in got.headers


def test_head_says_what_get_would(bed):
    tarry = compressing(bed, lambda r, c: Reply(200, TEXT, JSON))
    got = tarry.request("HEAD", "/", [("Accept-Encoding", "gzip")])
    assert got.headers.get("Content-Encoding") == "gzip" and "Content-Length" not in got.headers and got.body == b""
    got = tarry.request("HEAD", "/")
    assert "Content-Encoding" not in got.headers and got.headers.get("Content-Length") == str(len(TEXT))
    assert metric(tarry, "tarry_compressed_responses_total") == 0


@pytest.mark.parametrize("encoding", DECODERS)
def test_a_chunk_does_not_wait_for_the_next(bed, encoding):
    gates = [Gate() for _ in range(3)]

    def stream(r, c):
        c.send_head(200, [("Content-Type", "text/plain")])
        for i, gate in enumerate(gates):
            c.send_chunk(f"part {i};")
            gate.wait()
        c.end_chunks()
    tarry = compressing(bed, stream)
    with tarry.client() as c:
        c.send_request(headers=[("Accept-Encoding", encoding)])
        got, d, text = c.begin(), DECODERS[encoding](), b""
        for i, gate in enumerate(gates):
            while not text.endswith(f"part {i};".encode()):
                text += d.feed(got.piece())
            gate.open()
        while (piece := got.piece()) is not None:
            text += d.feed(piece)
        assert text == b"part 0;part 1;part 2;" and d.whole


@pytest.mark.parametrize("encoding", DECODERS)
@pytest.mark.parametrize("length", [True, False])
def test_a_truncated_response_does_not_look_whole(bed, encoding, length):
    def die(r, c):
        c.send_head(200, JSON, length=len(TEXT)) if length else c.send_head(200, JSON)
        c.send(TEXT[:9000]) if length else c.send_chunk(TEXT[:9000])
        c.close()
    tarry = compressing(bed, die)
    with tarry.client() as c:
        c.send_request(headers=[("Accept-Encoding", encoding)])
        with pytest.raises(Truncated) as e:
            c.read_response()
    d = DECODERS[encoding]()
    assert TEXT.startswith(d.feed(e.value.so_far)) and not d.whole
    assert tarry.access.wait_for()["end"] == "http_response_incomplete"


def test_a_relayed_response_is_compressed(bed):
    upstream = bed.upstream(lambda r, c: Reply(200, TEXT, JSON))
    tarry = compressing(bed, bed.worker(lambda r, c: handoff("relay", [call(upstream.origin)])), upstream)
    got = tarry.get("/", [("Accept-Encoding", "br")])
    assert decode(got) == TEXT


def test_a_gateway_s_response_is_compressed(bed):
    upstream = bed.upstream(lambda r, c: Reply(200, TEXT, JSON))
    conf = bed.conf((), upstream)
    conf.routes = [("/", {"upstream": "up"})]
    conf.sections["compression"] = {"types": ["application/json"]}
    assert decode(bed.tarry(conf).get("/", [("Accept-Encoding", "gzip")])) == TEXT


def test_a_resume_s_response_is_compressed_with_its_cookies(bed):
    upstream = bed.upstream(lambda r, c: b"an answer")
    tarry = compressing(bed, bed.worker(by_kind(
        request=lambda r, c: handoff("resume /x", [call(upstream.origin)], headers=[("Set-Cookie", "a=b")]),
        resume=lambda r, c: Reply(200, TEXT, JSON))), upstream)
    got = tarry.get("/", [("Accept-Encoding", "gzip")])
    assert decode(got) == TEXT and got.headers.get("Set-Cookie") == "a=b"


@pytest.mark.parametrize("encoding", DECODERS)
def test_a_slow_client_gets_all_of_a_large_body(bed, encoding):
    noise = random.Random(1).randbytes(4 << 20)  # does not shrink: the client's window fills
    tarry = compressing(bed, lambda r, c: Reply(200, noise, [("Content-Type", "text/plain")], framing="chunked"))
    with tarry.client(receive_buffer=8192) as c:
        c.send_request(headers=[("Accept-Encoding", encoding)])
        got = c.begin()
        eventually(lambda: metric(tarry, "tarry_compression_input_bytes_total") > 100000, "the first pieces")
        got.read(60)
        assert decode(got) == noise
    assert metric(tarry, "tarry_compression_memory_bytes") == 0


def test_a_client_that_leaves_takes_the_memory_with_it(bed):
    gate = Gate()

    def stream(r, c):
        c.send_head(200, [("Content-Type", "text/plain")])
        c.send_chunk(TEXT)
        gate.wait()
    tarry = compressing(bed, stream)
    c = tarry.client()
    c.send_request(headers=[("Accept-Encoding", "br")])
    c.begin().piece()
    assert metric(tarry, "tarry_compression_memory_bytes") > 100000
    c.reset()
    eventually(lambda: metric(tarry, "tarry_compression_memory_bytes") == 0, "the memory to be given back")
    gate.open()


def test_memory_max_bounds_it(bed):
    gate = Gate()

    def stream(r, c):
        c.send_head(200, [("Content-Type", "text/plain")])
        c.send_chunk(TEXT)
        if r.target == "/long":
            gate.wait()
        c.end_chunks()
    tarry = compressing(bed, stream, memory_max="100K")
    with tarry.client() as c:
        c.send_request(target="/long", headers=[("Accept-Encoding", "gzip")])
        first = c.begin()
        first.piece()
        got = tarry.get("/", [("Accept-Encoding", "gzip")])
        assert got.body == TEXT and "Content-Encoding" not in got.headers and got.headers.get("Vary") == "Accept-Encoding"
        assert metric(tarry, "tarry_compression_skipped_total") == 1
        gate.open()
        first.read()
        assert decode(first) == TEXT
    assert decode(tarry.get("/", [("Accept-Encoding", "gzip")])) == TEXT


def test_over_http2(bed):
    tarry = compressing(bed, lambda r, c: Reply(200, TEXT, JSON))
    with tarry.h2() as c:
        got = c.request(headers=[("Accept-Encoding", "br")])
        assert decode(got) == TEXT and "content-length" not in got.headers


def test_levels_and_window_are_the_conf_s(bed):
    body = TEXT * 20
    sizes = []
    for n, options in enumerate([{"gzip_level": 1}, {"gzip_level": 9}, {"gzip_level": 9, "window": "1K"}]):
        tarry = compressing(bed.another(str(n)), lambda r, c: Reply(200, body, JSON), encodings=["gzip"], **options)
        got = tarry.get("/", [("Accept-Encoding", "gzip")])
        assert decode(got) == body
        sizes.append(len(got.body))
    fast, best, narrow = sizes
    assert best < fast and best < narrow


def test_an_http_1_0_client_gets_a_whole_one(bed):
    tarry = compressing(bed, lambda r, c: Reply(200, TEXT, JSON))
    with tarry.client() as c:
        c.send(b"GET / HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n", "GET")
        assert decode(c.read_response()) == TEXT
