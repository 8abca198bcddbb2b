"""docs/handoff.md: resume."""

import gzip
import json
import re

import pytest

from harness import Truncated, Gate, Moments, Raw, Reply, by_kind, call, eventually, handoff, problem

DONE = Reply(200, b"done")


def site_for(bed, upstream=None, calls=("/",), resume=DONE, pool=None, up=None, slots=4, top=None, **fields):
    """A site whose worker hands off these paths, and resumes at /finish/?a=1."""
    upstream = bed.upstream(upstream) if not hasattr(upstream, "origin") else upstream

    def first(r, c):
        made = [x(upstream.origin) if callable(x) else call(upstream.origin + x, id=f"id{i}") for i, x in enumerate(calls)]
        return handoff("resume /finish/?a=1", made, **fields)
    worker = bed.worker(by_kind(request=first, resume=resume))
    return bed.site(worker, upstream, pool=pool, up=dict({"retries": 0}, **(up or {})), slots=slots, top=top)


def resumed(site):
    return site.worker.wait_for(1, lambda r: r.kind == "resume")


# --- what the worker gets ---

def test_a_resume_is_a_post_to_the_path_with_the_state(bed):
    state = "conversation=42;" + "".join(map(chr, range(0x21, 0x7F)))
    site = site_for(bed, state=state)
    assert site.tarry.get("/ask?q=1").body == b"done"
    r = resumed(site)
    assert (r.method, r.target, r.kind, r.hop, r.state) == ("POST", "/finish/?a=1", "resume", "1", state)
    assert r.headers.get("Content-Type").replace(" ", "") == "application/http;msgtype=response"
    assert r.framing == "length" and r.length == len(r.body)
    assert "Tarry-Attempt" not in r.headers and "Tarry-Outcome" not in r.headers


def test_without_a_state_there_is_none(bed):
    site = site_for(bed)
    site.tarry.get("/")
    assert "Tarry-State" not in resumed(site).headers


def test_exchange_and_start_stay_the_same_over_the_hops(bed):
    upstream = bed.upstream()
    again = lambda r, c: handoff("resume /again", [call(upstream.origin)])  # noqa: E731
    worker = bed.worker(by_kind(request=again, resume=[again, again, DONE]))
    site = bed.site(worker, upstream)
    assert site.tarry.get("/").body == b"done"
    assert [r.hop for r in worker.requests] == ["0", "1", "2", "3"]
    for name in ("Tarry-Exchange", "Tarry-Started", "Tarry-Version", "Tarry-Features", "Tarry-Limits", "Tarry-Origins"):
        assert len({r.headers.get(name) for r in worker.requests}) == 1, name


def test_the_state_is_the_last_handoff_s(bed):
    upstream = bed.upstream()
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /a", [call(upstream.origin)], state="one"),
                                resume=[lambda r, c: handoff("resume /b", [call(upstream.origin)], state="two"),
                                        lambda r, c: handoff("resume /c", [call(upstream.origin)]), DONE]))
    bed.site(worker, upstream).tarry.get("/")
    assert [(r.target, r.state) for r in worker.requests[1:]] == [("/a", "one"), ("/b", "two"), ("/c", None)]


def test_the_client_s_headers_come_along(bed):
    site = site_for(bed)
    sent = [("Host", "site.example"), ("Cookie", "sessionid=1"), ("Authorization", "Token x"), ("X-Custom", "c"),
            ("Accept-Language", "de"), ("Accept-Encoding", "gzip"), ("Origin", "https://site.example"), ("traceparent",
             "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
    site.tarry.post("/ask", b"body", sent)
    first, second = site.worker.requests
    for name in ("Host", "Cookie", "Authorization", "X-Custom", "Accept-Language", "Accept-Encoding", "Origin", "X-Forwarded-For",
                 "X-Forwarded-Proto", "X-Forwarded-Host", "X-Request-Id"):
        assert second.headers.all(name) == first.headers.all(name) and first.headers.get(name), name
    assert "traceparent" in second.headers


def test_headers_of_the_old_body_and_its_conditions_stay_behind(bed):
    site = site_for(bed)
    gone = [("Content-Type", "text/plain"), ("Content-Encoding", "identity"), ("Content-Language", "de"), ("Content-MD5", "x"),
            ("Content-Disposition", "inline"), ("If-None-Match", '"x"'), ("If-Modified-Since", "now"), ("If-Match", "*"),
            ("If-Unmodified-Since", "now"), ("If-Range", "x"), ("Range", "bytes=0-1"), ("Trailer", "X"), ("Expect", "100-continue"),
            ("TE", "trailers"), ("Connection", "X-Hop"), ("X-Hop", "h")]
    site.tarry.post("/ask", b"old body", gone)
    r = resumed(site)
    left = [n for n in r.headers.names() if n in {g.lower() for g, _ in gone} - {"content-type", "connection"}]
    assert left == [] and len(r.headers.all("Content-Type")) == 1 and len(r.headers.all("Content-Length")) == 1
    assert b"old body" not in r.body


def test_responses_are_enclosed_in_the_order_of_the_calls(bed):
    """Though they complete in the reverse order."""
    done = Moments()

    def answer(r, c):
        n = int(r.path[1:])
        done.wait_for(lambda notes: len(notes) == 4 - n)
        done.note(n)
        return Reply(200, f"answer {n}", {"Content-Type": "text/plain", "X-N": str(n)})
    site = site_for(bed, answer, calls=[f"/{i}" for i in range(5)])
    assert site.tarry.get("/").body == b"done"
    answers = resumed(site).enclosed
    assert [(a.status, a.id, a.body, a.headers.get("X-N")) for a in answers] == [
        (200, f"id{i}", f"answer {i}".encode(), str(i)) for i in range(5)]
    assert all(a.attempts == "1" and re.fullmatch(r"[0-9]+(\.[0-9]+)?", a.time) for a in answers)


def test_a_call_without_an_id_gets_none_back(bed):
    site = site_for(bed, calls=[lambda o: call(o + "/a")])
    site.tarry.get("/")
    assert resumed(site).enclosed[0].id is None


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_enclosed_responses_have_a_length_whatever_the_upstream_used(bed, framing):
    site = site_for(bed, lambda r, c: Reply(200, [b"one ", b"two"], framing=framing))
    site.tarry.get("/")
    answer, = resumed(site).enclosed
    assert answer.body == b"one two" and "Connection" not in answer.headers


def test_end_to_end_headers_are_enclosed_and_others_are_not(bed):
    site = site_for(bed, lambda r, c: Reply(201, b"x", [
        ("X-Request-Id", "req"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("openai-processing-ms", "5"),
        ("Connection", "keep-alive, X-Hop"), ("X-Hop", "h"), ("Keep-Alive", "timeout=5"), ("Upgrade", "h2c"),
        ("Tarry-Call-Id", "forged"), ("tarry-attempts", "99"), ("Proxy-Status", "other; error=x")]))
    got = site.tarry.get("/")
    answer, = resumed(site).enclosed
    assert answer.status == 201
    assert answer.headers.get("X-Request-Id") == "req" and answer.headers.get("openai-processing-ms") == "5"
    assert answer.headers.all("Set-Cookie") == ["a=1", "b=2"]
    assert not set(answer.headers.names()) & {"connection", "keep-alive", "x-hop", "upgrade"}
    assert answer.headers.get("Tarry-Call-Id") == "id0" and answer.headers.get("Tarry-Attempts") == "1"
    assert not got.headers.all("Set-Cookie")


def test_an_encoded_answer_is_enclosed_as_it_is(bed):
    body = gzip.compress(b"hello")
    site = site_for(bed, lambda r, c: Reply(200, body, {"Content-Encoding": "gzip"}))
    site.tarry.get("/")
    answer, = resumed(site).enclosed
    assert answer.body == body and answer.headers.get("Content-Encoding") == "gzip"


@pytest.mark.parametrize("status, method", [(204, "POST"), (304, "GET"), (200, "HEAD")])
def test_answers_that_have_no_body_are_enclosed_with_length_0(bed, status, method):
    site = site_for(bed, lambda r, c: Reply(status, b"1234", framing="length" if method == "HEAD" else "none"),
                    calls=[lambda o: call(o + "/a", method=method), lambda o: call(o + "/b", method=method)])
    assert site.tarry.get("/").body == b"done"
    answers = resumed(site).enclosed
    assert [(a.status, a.headers.get("Content-Length"), a.body) for a in answers] == [(status, "0", b"")] * 2


@pytest.mark.parametrize("status", [400, 404, 422, 500, 503])
def test_an_upstream_s_own_failure_is_enclosed_as_it_is(bed, status):
    site = site_for(bed, lambda r, c: Reply(status, b'{"error": {}}', {"Content-Type": "application/json"}))
    assert site.tarry.get("/").body == b"done"
    answer, = resumed(site).enclosed
    assert (answer.status, answer.body, answer.error) == (status, b'{"error": {}}', None)
    assert answer.headers.get("Content-Type") == "application/json"


FAILURES = {
    "refused": (None, 502, "connection_refused"),
    "closed": (lambda r, c: c.close(), 502, "http_response_incomplete"),
    "reset": (lambda r, c: c.reset(), 502, "connection_terminated"),
    "silent": (lambda r, c: c.wait_closed() and None, 504, "http_response_timeout"),
    "garbage": (lambda r, c: Raw(b"what is this\r\n\r\n"), 502, "http_protocol_error"),
    "truncated": (lambda r, c: Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), 502, "http_response_incomplete"),
    "too large": (lambda r, c: Reply(200, b"x" * 70000), 502, "http_response_body_size_exceeded"),
    "too large, chunked": (lambda r, c: Reply(200, [b"x" * 1000] * 70, framing="chunked"), 502, "http_response_body_size_exceeded"),
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_call_without_a_response_is_enclosed_as_one_that_tarry_makes(bed, what):
    """And does not cancel its sibling."""
    answer, status, error = FAILURES[what]
    good = bed.upstream(lambda r, c: b"good")
    bad = bed.upstream(answer)
    if what == "refused":
        bad.refuse()
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(bad.origin, id="bad"), call(good.origin, id="good")]),
                                resume=DONE))
    conf = bed.conf(worker, bad)
    conf.up.update(first_byte_timeout="300ms", response_max="64K", retries=0)
    conf.upstreams["good"] = {"origin": good.origin}
    assert bed.tarry(conf).get("/").body == b"done"
    first, second = worker.wait_for(1, lambda r: r.kind == "resume").enclosed
    attempts = "4" if what == "reset" else "1"  # a new connection that is reset at once is tried again
    assert (first.status, first.error, first.id, first.attempts) == (status, error, "bad", attempts)
    assert first.headers.get("Content-Type") == "application/problem+json"
    assert json.loads(first.body)["error"] == error and json.loads(first.body)["status"] == status
    assert (second.status, second.body, second.id) == (200, b"good", "good")


def test_a_large_answer_reaches_the_worker_whole(bed):
    body = bytes(range(256)) * 4 * 8192  # 8 MiB
    site = site_for(bed, lambda r, c: Reply(200, body), calls=["/", "/"])
    assert site.tarry.get("/").body == b"done"
    assert [a.body == body for a in resumed(site).enclosed] == [True, True]


# --- what the client gets ---

def test_the_worker_s_response_is_the_clients(bed):
    site = site_for(bed, resume=Reply(418, b"teapot", [("Content-Type", "text/tea"), ("X-A", "1"), ("Tarry-State", "x")]), headers={
        "X-Handoff": "not for the client"})
    got = site.tarry.get("/")
    assert (got.status, got.body, got.headers.get("Content-Type"), got.headers.get("X-A")) == (418, b"teapot", "text/tea", "1")
    assert "X-Handoff" not in got.headers and not got.headers.starting("tarry-")


def test_a_streaming_response_at_a_later_hop_arrives_as_it_is_written(bed):
    def stream(r, c):
        c.send_head()
        c.send_chunk("one")
        gate.wait()
        c.send_chunk("two")
        c.end_chunks()
    gate = Gate()
    site = site_for(bed, resume=stream)
    with site.tarry.client() as c:
        c.send_request()
        response = c.begin()
        response.until(b"one")
        gate.open()
        assert response.read() == b"onetwo"


def test_cookies_of_handoffs_are_kept_for_the_final_response(bed):
    upstream = bed.upstream()
    hand = lambda *cookies: lambda r, c: handoff("resume /x", [call(upstream.origin)],  # noqa: E731
                                                 headers=[("Set-Cookie", x) for x in cookies])
    worker = bed.worker(by_kind(request=hand("a=1; Path=/", "b=1; HttpOnly", "c=1"), resume=[
        hand("b=2; Path=/x"), Reply(200, b"", [("Set-Cookie", "c=3; Secure"), ("Set-Cookie", "d=3")])]))
    got = bed.site(worker, upstream).tarry.get("/")
    assert sorted(got.headers.all("Set-Cookie")) == ["a=1; Path=/", "b=2; Path=/x", "c=3; Secure", "d=3"]


def test_a_head_s_answer_is_kept_without_a_body(bed):
    """A HEAD is no handoff, so it never parks; it must not disturb the connection either."""
    site = site_for(bed)
    with site.tarry.client() as c:
        assert c.request("HEAD").body == b""
        assert c.request().body == b"done"


# --- queue and redelivery ---

def test_resumes_go_ahead_of_new_requests(bed):
    order, gate = Moments(), Gate()

    def serve(r, c):
        order.note(f"{r.kind} {r.path}")
        if r.path == "/hold":
            gate.wait()
        if r.path == "/ask":
            return handoff("resume /finish", [call(upstream.origin)])
        return DONE
    upstream_gate = Gate()
    upstream = bed.upstream(lambda r, c: (upstream_gate.wait(), b"x")[1])
    site = bed.site(bed.worker(serve), upstream, slots=1)
    tasks = [bed.background(site.tarry.get, "/ask")]
    upstream.wait_for(1)
    tasks.append(bed.background(site.tarry.get, "/hold"))
    site.worker.wait_for(1, lambda r: r.path == "/hold")
    tasks += [bed.background(site.tarry.get, f"/new{i}") for i in range(5)]
    # The five wait in the queue before the answer comes.
    eventually(lambda: sum("-> queued" in line for line in site.tarry.lines) >= 7, "five queued requests in the log")
    upstream_gate.open()
    upstream.wait_idle()
    site.tarry.wait_log("parked -> queued")
    gate.open()
    for t in tasks:
        assert t.result().status == 200
    kinds = [x for x in order.list if "/hold" not in x and "/ask" not in x]
    assert kinds[0] == "resume /finish", order.list


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_resume_is_delivered_again_if_its_worker_dies(bed, end):
    die = lambda r, c: getattr(c, end)()  # noqa: E731
    site = site_for(bed, lambda r, c: b"paid for", resume=[die, die, lambda r, c: Reply(200, r.enclosed[0].body)], state="s")
    assert site.tarry.get("/").body == b"paid for"
    deliveries = [r for r in site.worker.requests if r.kind == "resume"]
    assert [r.attempt for r in deliveries] == [None, "2", "3"]
    assert len({(r.exchange, r.hop, r.state, r.body) for r in deliveries}) == 1
    assert len(site.upstream.requests) == 1


def test_after_the_last_attempt_the_client_gets_the_failure(bed):
    site = site_for(bed, resume=lambda r, c: c.close(), pool={"resume_attempts": 2})
    problem(site.tarry.get("/"), 502, "http_response_incomplete")
    assert sum(r.kind == "resume" for r in site.worker.requests) == 2


def test_a_resume_is_not_delivered_again_once_a_byte_has_gone_to_the_client(bed):
    site = site_for(bed, resume=Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"))
    with site.tarry.client() as c:
        c.send_request()
        response = c.begin()
        with pytest.raises(Truncated):
            response.read()
    assert sum(r.kind == "resume" for r in site.worker.requests) == 1


@pytest.mark.parametrize("begun", [b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\n"])
def test_a_resume_whose_worker_dies_within_the_head_is_delivered_again(bed, begun):
    site = site_for(bed, resume=[Raw(begun), Reply(200, b"done")])
    got = site.tarry.get("/")
    assert (got.status, got.body) == (200, b"done")
    assert "Set-Cookie" not in got.headers
    assert [r.attempt for r in site.worker.requests if r.kind == "resume"] == [None, "2"]


@pytest.mark.parametrize("head", [b"Content-Length: 10\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_resume_whose_worker_dies_between_head_and_body_is_delivered_again(bed, head):
    """Servers write the two apart (gunicorn does); the client has seen nothing of either."""
    def die(r, c):
        c.send(b"HTTP/1.1 200 OK\r\nX-Attempt: 1\r\n" + head + b"\r\n")
        c.close()
    site = site_for(bed, lambda r, c: b"paid for", resume=[die, lambda r, c: Reply(200, r.enclosed[0].body)])
    response = site.tarry.get("/")
    assert response.body == b"paid for" and "X-Attempt" not in response.headers
    assert [r.attempt for r in site.worker.requests if r.kind == "resume"] == [None, "2"]
    assert len(site.upstream.requests) == 1


def test_a_worker_that_always_dies_after_the_head_of_a_resume_s_response_is_a_502(bed):
    def die(r, c):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        c.close()
    site = site_for(bed, resume=die, pool={"resume_attempts": 2})
    problem(site.tarry.get("/"), 502, "http_response_incomplete")


def test_a_resume_waits_while_no_worker_can_be_reached(bed):
    gate = Gate()
    site = site_for(bed, lambda r, c: (gate.wait(), b"x")[1])
    task = bed.background(site.tarry.get, "/")
    site.upstream.wait_for(1)
    site.worker.refuse()
    for c in site.worker.conns:
        c.close()
    gate.open()
    site.tarry.wait_log(lambda line: "refused" in line.lower(), "a refused connection in the log")
    assert task.running
    site.worker.listen()
    assert task.result().body == b"done"
    assert resumed(site).attempt is None  # waiting uses up no attempt


def test_the_wait_for_a_worker_ends_after_resume_wait(bed):
    gate = Gate()
    site = site_for(bed, lambda r, c: (gate.wait(), b"x")[1], pool={"resume_wait": "300ms"})
    task = bed.background(site.tarry.get, "/")
    site.upstream.wait_for(1)
    site.worker.refuse()
    for c in site.worker.conns:
        c.close()
    gate.open()
    problem(task.result(), 502, "connection_refused")


def test_a_slow_resume_is_not_delivered_again(bed):
    """A worker that got it may still be at work: only its death allows another delivery."""
    site = site_for(bed, resume=lambda r, c: c.wait_closed() and None, pool={"response_timeout": "300ms"})
    problem(site.tarry.get("/"), 504, "http_response_timeout")
    assert sum(r.kind == "resume" for r in site.worker.requests) == 1


def test_a_resume_may_come_to_another_server_of_the_pool(bed):
    upstream = bed.upstream(lambda r, c: b"x")

    def first(r, c):
        if r.kind == "request":
            return handoff("resume /x", [call(upstream.origin)])
        c.reset()
    workers = [bed.worker(first), bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin)]), resume=DONE))]
    conf = bed.conf(workers, upstream)
    conf.pool["resume_attempts"] = 5
    tarry = bed.tarry(conf)
    for _ in range(4):
        assert tarry.get("/").body == b"done"


def test_the_access_log_tells_the_whole_exchange(bed):
    site = site_for(bed, calls=["/a", "/b"])
    site.tarry.post("/ask?q=1", b"12345")
    line = site.tarry.access.wait_for()
    assert line["exchange"] == site.worker.requests[0].exchange
    assert (line["method"], line["path"], line["status"]) == ("POST", "/ask?q=1", 200)
    assert (line["hops"], line["calls"], line["end"]) == (2, 2, "complete")
    assert line["bytes_out"] >= 4
    for name in ("time", "peer", "protocol", "bytes_in", "queue_ms", "worker_ms", "parked_ms", "total_ms", "upstream"):
        assert name in line, line
    assert line["total_ms"] >= line["parked_ms"] >= 0 and len(site.tarry.access.lines) == 1


def test_a_resume_whose_worker_dies_within_its_handoff_is_delivered_again(bed):
    """Nothing has gone to the client, and the answer has been paid for."""
    upstream = bed.upstream(lambda r, c: b"paid")

    def resume(r, c):
        if r.target == "/2":
            return DONE
        again = handoff("resume /2", [call(upstream.origin + "/2")], state="second")
        if r.headers.get("Tarry-Attempt") is None:
            c.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/http; msgtype=request\r\nContent-Length: 500\r\n"
                   b"Tarry-Then: resume /2\r\nTarry-State: second\r\n\r\nPOST ")
            c.close()
            return None
        return again
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /1", [call(upstream.origin + "/1")], state="first"),
                                resume=resume))
    site = bed.site(worker, upstream)
    assert site.tarry.get("/").body == b"done"
    first = [r for r in worker.requests if r.target == "/1"]
    assert [r.headers.get("Tarry-Attempt") for r in first] == [None, "2"]
    assert {r.headers.get("Tarry-State") for r in first} == {"first"}
    assert first[0].enclosed[0].body == first[1].enclosed[0].body == b"paid"
    assert len(upstream.requests) == 2
