"""docs/handoff.md: Tarry-Keep-Alive."""

import gzip
import json
import subprocess
import zlib

import brotli
import pytest

from harness import Gate, Raw, Reply, Truncated, by_kind, call, handoff, problem


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout

FAST = {"keep_alive_interval": "100ms"}


def site_for(bed, kind, upstream, then="resume /x", resume=Reply(200, b"data: final\n\n"), up=None, pool=None, **fields):
    upstream = bed.upstream(upstream)
    worker = bed.worker(by_kind(request=lambda r, c: handoff(then, [call(upstream.origin)], keep_alive=kind, **fields),
                                resume=resume))
    return bed.site(worker, upstream, pool=dict(FAST, **(pool or {})), up=dict({"retries": 0}, **(up or {})))


def gated(gate, reply):
    def answer(r, c):
        gate.wait()
        return reply(r, c) if callable(reply) else reply
    return answer


def begin(site, wait=2):
    """Sends a request and reads until some keep-alive came; gives (client, response)."""
    c = site.tarry.client()
    c.send_request()
    response = c.begin()
    for _ in range(wait):
        assert response.piece()
    return c, response


def events(body):
    """An event stream without its comments: (event, data)."""
    found = []
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            fields = [line.partition(":") for line in lines]
            found.append((next((v.strip() for n, _, v in fields if n == "event"), None),
                          "\n".join(v.strip() for n, _, v in fields if n == "data")))
    return found


def test_sse_sends_comment_lines_while_parked(bed):
    gate = Gate()
    site = site_for(bed, "sse", gated(gate, b"x"), headers={"Set-Cookie": "a=1", "X-Frame-Options": "DENY"})
    c, response = begin(site, 3)
    assert response.status == 200 and response.headers.get("Content-Type") == "text/event-stream"
    assert response.headers.get("Set-Cookie") == "a=1" and response.headers.get("X-Frame-Options") == "DENY"
    assert not response.headers.starting("tarry-")
    kept = response.so_far.decode()
    assert all(line.startswith(":") or not line for line in kept.splitlines()) and kept.endswith("\n")
    gate.open()
    assert events(response.read()) == [(None, "final")]
    c.close()


def test_space_sends_white_space_before_json(bed):
    gate = Gate()
    site = site_for(bed, "space", gated(gate, b"x"), resume=Reply(200, b'{"a": 1}', {"Content-Type": "application/json"}))
    c, response = begin(site, 3)
    assert response.status == 200 and response.headers.get("Content-Type") == "application/json"
    assert response.so_far.strip(b" \t\r\n") == b"" and len(response.so_far) >= 3
    gate.open()
    assert json.loads(response.read()) == {"a": 1}
    c.close()


@pytest.mark.parametrize("kind", ["sse", "space"])
def test_a_quick_answer_is_not_touched(bed, kind):
    site = site_for(bed, kind, lambda r, c: b"x", resume=Reply(404, b"none", {"Content-Type": "text/plain"}),
                    pool={"keep_alive_interval": "10s"})
    got = site.tarry.get("/")
    assert (got.status, got.body, got.headers.get("Content-Type")) == (404, b"none", "text/plain")


def test_off_by_default(bed):
    gate = Gate()
    site = site_for(bed, None, gated(gate, b"x"), resume=Reply(201, b"end"))
    with site.tarry.client() as c:
        c.send_request()
        with pytest.raises(TimeoutError):
            c.begin(timeout=0.5)  # five times the interval
        gate.open()
        got = c.read_response()
    assert (got.status, got.body) == (201, b"end")


@pytest.mark.parametrize("kind, status", [("sse", 201), ("space", 201), ("space", 422)])
def test_the_final_body_follows_whatever_its_status_was(bed, kind, status):
    gate = Gate()
    site = site_for(bed, kind, gated(gate, b"x"), resume=Reply(status, b'{"error": "no"}', {"Content-Type": "application/json"}))
    c, response = begin(site)
    gate.open()
    body = response.read()
    assert response.status == 200 and body.endswith(b'{"error": "no"}')
    c.close()


def test_an_error_that_is_no_event_stream_follows_as_an_error_event(bed):
    gate = Gate()
    site = site_for(bed, "sse", gated(gate, b"x"), resume=Reply(422, b'{"error":\n"no"}', {"Content-Type": "application/json"}))
    c, response = begin(site)
    gate.open()
    assert events(response.read()) == [("error", '{"error":\n"no"}')]
    c.close()


def test_an_error_that_is_an_event_stream_follows_as_it_is(bed):
    gate = Gate()
    site = site_for(bed, "sse", gated(gate, b"x"),
                    resume=Reply(500, b"event: error\ndata: mine\n\n", {"Content-Type": "text/event-stream; charset=utf-8"}))
    c, response = begin(site)
    gate.open()
    assert events(response.read()) == [("error", "mine")]
    c.close()


PACK = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd}


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize("then", ["relay", "resume /done"])
def test_a_coded_answer_is_decoded(bed, coding, then):
    """Keep-alive bytes have fixed a head without Content-Encoding."""
    gate, text = Gate(), b"data: " + b"x" * 300000 + b"\n\n"
    packed = Reply(200, PACK[coding](text), {"Content-Type": "text/event-stream", "Content-Encoding": coding})
    site = site_for(bed, "sse", gated(gate, packed if then == "relay" else b"x"), then=then, resume=packed)
    c, response = begin(site)
    gate.open()
    assert response.read().endswith(text)
    c.close()
    if then == "relay":
        assert site.upstream.request.headers.all("Accept-Encoding") == ["identity"]


@pytest.mark.parametrize("coding, body, seen", [("compress", b"whatever", False), ("gzip", b"no gzip at all", False)])
def test_an_answer_that_cannot_be_decoded_is_an_error_event(bed, coding, body, seen):
    gate = Gate()
    site = site_for(bed, "sse", gated(gate, Reply(200, body, {"Content-Type": "text/event-stream", "Content-Encoding": coding})),
                    then="relay")
    c, response = begin(site)
    gate.open()
    found = events(response.read())
    assert [name for name, _ in found] == ["error"]
    assert json.loads(found[0][1])["error"] == "http_response_content_coding"
    assert body not in response.body
    c.close()


def test_a_later_failure_is_an_error_event_of_the_stream(bed):
    gate = Gate()
    site = site_for(bed, "sse", gated(gate, b"x"), resume=Raw(b"garbage\r\n\r\n"))
    c, response = begin(site)
    gate.open()
    found = events(response.read())
    assert [name for name, _ in found] == ["error"]
    what = json.loads(found[0][1])
    assert (what["status"], what["error"]) == (502, "http_protocol_error") and what["exchange"]
    c.close()


def test_a_later_failure_is_the_problem_object_in_the_json_s_place(bed):
    gate = Gate()
    site = site_for(bed, "space", gated(gate, b"x"), resume=Raw(b"garbage\r\n\r\n"))
    c, response = begin(site)
    gate.open()
    what = json.loads(response.read())
    assert (what["status"], what["error"]) == (502, "http_protocol_error") and what["exchange"]
    c.close()


def test_a_relay_is_kept_alive_until_its_first_byte(bed):
    gate = Gate()
    site = site_for(bed, "sse", gated(gate, Reply(200, [b"data: 1\n\n", b"data: 2\n\n"], {"Content-Type": "text/event-stream"},
                                                  framing="chunked")), then="relay")
    c, response = begin(site)
    gate.open()
    assert events(response.read()) == [(None, "1"), (None, "2")]
    c.close()


def test_a_failing_relay_ends_in_an_error_event(bed):
    gate = Gate()
    site = site_for(bed, "sse", gated(gate, lambda r, c: c.reset()), then="relay")
    c, response = begin(site)
    gate.open()
    (name, data), = events(response.read())
    assert name == "error" and json.loads(data)["error"] == "connection_terminated"
    c.close()


def test_a_relay_that_breaks_off_in_mid_stream_never_looks_whole(bed):
    def cut(r, c):
        gate.wait()
        c.send_head(headers={"Content-Type": "text/event-stream"})
        c.send_chunk("data: half\n\n")
        second.wait()
        c.reset()
    gate, second = Gate(), Gate()
    site = site_for(bed, "sse", cut, then="relay")
    c, response = begin(site)
    gate.open()
    response.until(b"half")
    second.open()
    try:
        body = response.read()
    except Truncated:
        pass  # the cut itself tells
    else:
        assert events(body)[-1][0] == "error"
    c.close()


def test_it_goes_on_over_several_hops(bed):
    gates = [Gate(), Gate()]
    upstream = bed.upstream(lambda r, c: (gates[int(r.path[1:])].wait(), b"x")[1])
    worker = bed.worker(by_kind(
        request=lambda r, c: handoff("resume /x", [call(upstream.origin + "/0")], keep_alive="space"),
        resume=[lambda r, c: handoff("resume /y", [call(upstream.origin + "/1")], keep_alive="space"), Reply(200, b"[1]")]))
    site = bed.site(worker, upstream, pool=FAST)
    c, response = begin(site)
    gates[0].open()
    upstream.wait_for(2)
    n = len(response.pieces)
    for _ in range(3):
        assert response.piece()
    assert len(response.pieces) == n + 3
    gates[1].open()
    assert json.loads(response.read()) == [1]
    c.close()


def test_failures_before_the_first_one_are_plain_problems(bed):
    site = site_for(bed, "sse", lambda r, c: c.reset(), then="relay", pool={"keep_alive_interval": "10s"})
    problem(site.tarry.get("/"), 502, "connection_terminated")


def test_an_http_1_0_client_is_kept_alive_too(bed):
    gate = Gate()
    site = site_for(bed, "space", gated(gate, b"x"), resume=Reply(200, b"{}"))
    with site.tarry.client() as c:
        c.send(b"GET / HTTP/1.0\r\n\r\n")
        response = c.begin()
        assert response.piece() and response.framing == "close"
        gate.open()
        assert json.loads(response.read()) == {}
