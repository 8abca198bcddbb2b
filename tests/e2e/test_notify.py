"""docs/handoff.md: Tarry-Notify."""

import json
import signal

import pytest

from harness import Gate, Moments, Raw, Reply, Truncated, by_kind, call, eventually, handoff, problem

FAST = {"notify_first_pause": "50ms"}


def site_for(bed, upstream, notify=Reply(204), pool=None, up=None, target="/v1/x", resume=None, **fields):
    upstream = upstream if hasattr(upstream, "origin") else bed.upstream(upstream)
    worker = bed.worker(by_kind(
        request=lambda r, c: handoff("relay", [call(upstream.origin + target, id="the-call")], notify="/told?a=1", **fields),
        notify=notify, resume=resume))
    return bed.site(worker, upstream, pool=dict(FAST, **(pool or {})), up=dict({"retries": 0}, **(up or {})))


def told(site):
    return site.worker.wait_for(1, lambda r: r.kind == "notify")


def test_the_pool_is_told_what_the_client_got(bed):
    site = site_for(bed, lambda r, c: Reply(200, [b"data: 1\n\n", b"data: 2\n\n"], {"Content-Type": "text/event-stream", "X-Up": "u"},
                                            framing="chunked"), state="conversation=7")
    got = site.tarry.request("PUT", "/ask", {"Cookie": "session=1", "If-None-Match": "x", "Content-Type": "text/plain"}, b"old")
    assert got.body == b"data: 1\n\ndata: 2\n\n"
    r = told(site)
    assert (r.method, r.target, r.kind, r.hop, r.state, r.outcome) == ("POST", "/told?a=1", "notify", "1", "conversation=7", "complete")
    assert r.exchange == site.worker.requests[0].exchange and "Tarry-Attempt" not in r.headers
    assert r.headers.get("Content-Type").replace(" ", "") == "application/http;msgtype=response"
    assert r.headers.get("Cookie") == "session=1" and "If-None-Match" not in r.headers
    answer, = r.enclosed
    assert (answer.status, answer.body, answer.id, answer.attempts) == (200, got.body, "the-call", "1")
    assert answer.headers.get("X-Up") == "u" and answer.headers.get("Content-Type") == "text/event-stream"


def test_the_notify_comes_after_the_upstream_s_end(bed):
    def stream(r, c):
        c.send_head()
        c.send_chunk("1")
        gate.wait()
        moments.note("end")
        c.end_chunks()
    gate, moments = Gate(), Moments()
    site = site_for(bed, stream, notify=lambda r, c: (moments.note("told"), Reply(204))[1])
    with site.tarry.client() as c:
        c.send_request()
        response = c.begin()
        response.until(b"1")
        gate.open()
        response.read()
    moments.wait_for(lambda notes: notes == ["end", "told"])


def test_the_client_does_not_wait_for_the_notify(bed):
    gate = Gate()
    site = site_for(bed, lambda r, c: b"answer", notify=lambda r, c: (gate.wait(), Reply(204))[1])
    with site.tarry.client() as c:
        assert c.request().body == b"answer"
        told(site)
        assert c.request("HEAD", "/").status == 200  # another slot serves the same connection
    gate.open()


def test_the_notify_s_response_is_dropped(bed):
    site = site_for(bed, lambda r, c: b"answer", notify=Reply(200, b"n" * 300000, {"Set-Cookie": "a=1"}))
    for _ in range(2):
        got = site.tarry.get("/")
        assert got.body == b"answer" and "Set-Cookie" not in got.headers
    site.worker.wait_for(2, lambda r: r.kind == "notify")


def test_a_handoff_in_answer_to_a_notify_is_no_handoff(bed):
    upstream = bed.upstream(lambda r, c: b"answer")
    site = site_for(bed, upstream, notify=lambda r, c: handoff("resume /x", [call(upstream.origin + "/again")]))
    assert site.tarry.get("/").body == b"answer"
    told(site)
    site.tarry.stop()  # all is done when it has stopped
    assert [r.path for r in upstream.requests] == ["/v1/x"] and len(site.worker.requests) == 2


@pytest.mark.parametrize("failure", ["500", "404", "302", "close", "reset", "garbage"])
def test_a_failed_notify_is_delivered_again(bed, failure):
    fail = {"close": lambda r, c: c.close(), "reset": lambda r, c: c.reset(), "garbage": Raw(b"what\r\n\r\n")}.get(failure)
    fail = fail or Reply(int(failure), b"no")
    site = site_for(bed, lambda r, c: b"answer", notify=[fail, fail, Reply(200)])
    assert site.tarry.get("/").body == b"answer"
    site.worker.wait_for(3, lambda r: r.kind == "notify")
    deliveries = [r for r in site.worker.requests if r.kind == "notify"]
    assert [r.attempt for r in deliveries] == [None, "2", "3"]
    assert len({(r.exchange, r.hop, r.body, r.outcome) for r in deliveries}) == 1


def test_the_pauses_between_deliveries_grow(bed):
    site = site_for(bed, lambda r, c: b"answer", notify=[Reply(503)] * 4 + [Reply(204)], pool={"notify_first_pause": "100ms"})
    site.tarry.get("/")
    site.worker.wait_for(5, lambda r: r.kind == "notify")
    times = [r.time for r in site.worker.requests if r.kind == "notify"]
    gaps = [b - a for a, b in zip(times, times[1:])]
    # With any jitter up to a half, doubling makes the fourth at least twice the least of the first.
    assert gaps[0] >= 0.04 and gaps[3] > 2 * 0.05 and gaps[3] > gaps[0], gaps


def test_what_could_not_be_delivered_is_logged_as_an_error(bed):
    site = site_for(bed, lambda r, c: b"answer", notify=Reply(500), pool={"notify_attempts": 3})
    site.tarry.get("/")
    exchange = told(site).exchange
    site.tarry.wait_log(lambda line: exchange in line and "notify" in line and "error" in line.lower(), "the error")
    assert sum(r.kind == "notify" for r in site.worker.requests) == 3


def test_a_notify_waits_for_workers_that_come_back(bed):
    gate = Gate()
    site = site_for(bed, lambda r, c: (gate.wait(), b"answer")[1])
    with site.tarry.client() as c:
        c.send_request()
        site.upstream.wait_for(1)
        site.worker.refuse()
        for conn in site.worker.conns:
            conn.close()
        gate.open()
        assert c.read_response().body == b"answer"
    site.tarry.wait_log(lambda line: "refused" in line.lower(), "a refused connection in the log")
    site.worker.listen()
    assert told(site).outcome == "complete"


# --- outcomes ---

def test_truncated_if_the_upstream_broke_off(bed):
    def cut(r, c):
        c.send_head(status=201)
        c.send_chunk("half")
        gate.wait()
        c.reset()
    gate = Gate()
    site = site_for(bed, cut)
    with site.tarry.client() as c:
        c.send_request()
        response = c.begin()
        response.until(b"half")
        gate.open()
        with pytest.raises(Truncated):
            response.read()
    r = told(site)
    assert r.outcome == "truncated" and [(a.status, a.body) for a in r.enclosed] == [(201, b"half")]


@pytest.mark.parametrize("what, status, error", [("refuse", 502, "connection_refused"), ("reset", 502, "connection_terminated"),
                                                 ("silence", 504, "http_response_timeout"), ("garbage", 502, "http_protocol_error")])
def test_failed_if_there_was_no_response(bed, what, status, error):
    site = site_for(bed, {"refuse": None, "reset": lambda r, c: c.reset(), "silence": lambda r, c: c.wait_closed() and None,
                          "garbage": lambda r, c: Raw(b"what\r\n\r\n")}[what], up={"first_byte_timeout": "200ms"})
    if what == "refuse":
        site.upstream.refuse()
    problem(site.tarry.get("/"), status, error)
    r = told(site)
    answer, = r.enclosed
    assert r.outcome == "failed" and (answer.status, answer.error) == (status, error)
    assert answer.headers.get("Content-Type") == "application/problem+json" and json.loads(answer.body)["error"] == error


def test_an_upstream_s_own_failure_is_a_complete_response(bed):
    site = site_for(bed, lambda r, c: Reply(429, b"slow down"))
    assert site.tarry.get("/").status == 429
    r = told(site)
    assert r.outcome == "complete" and (r.enclosed[0].status, r.enclosed[0].body) == (429, b"slow down")


def streaming(bed, **fields):
    def stream(r, c):
        c.send_head()
        c.send_chunk("first")
        while not c.server.stopping.is_set() and not gate.opened():
            if c.peer_is_gone():
                return
        c.send_chunk("second")
        c.end_chunks()
    gate = Gate()
    site = site_for(bed, stream, **fields)
    client = site.tarry.client()
    client.send_request()
    client.begin().until(b"first")
    client.reset()
    return site, gate


def test_cancelled_only_where_tarry_reset_it(bed):
    site, gate = streaming(bed, on_disconnect="cancel")
    r = told(site)
    assert r.outcome == "cancelled" and [(a.status, a.body) for a in r.enclosed] == [(200, b"first")]


def test_complete_though_the_client_was_gone(bed):
    site, gate = streaming(bed)
    site.tarry.wait_log(lambda line: "client" in line and "gone" in line)
    gate.open()
    r = told(site)
    assert r.outcome == "complete" and r.enclosed[0].body == b"firstsecond"


def test_cancelled_before_a_byte_of_the_response(bed):
    site = site_for(bed, lambda r, c: c.wait_closed() and None, on_disconnect="cancel")
    client = site.tarry.client()
    client.send_request()
    site.upstream.wait_for(1)
    client.close()
    assert told(site).outcome == "cancelled"


def test_the_record_is_cut_at_response_max_and_the_client_gets_all(bed):
    body = bytes(range(256)) * 1024  # 256 KiB
    site = site_for(bed, lambda r, c: Reply(200, body), up={"response_max": "64K"})
    assert site.tarry.get("/").body == body
    answer, = told(site).enclosed
    assert len(answer.body) <= 65536 and body.startswith(answer.body) and len(answer.body) > 32768


# --- hops and on-error ---

def test_a_notify_does_not_count_towards_max_hops(bed):
    site = site_for(bed, lambda r, c: b"answer", pool={"max_hops": 2})
    assert site.tarry.get("/").body == b"answer"
    assert told(site).hop == "1"


def test_a_notify_is_sent_even_after_the_last_hop(bed):
    upstream = bed.upstream(lambda r, c: b"answer")
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin)]),
                                resume=lambda r, c: handoff("relay", [call(upstream.origin)], notify="/told")))
    site = bed.site(worker, upstream, pool={"max_hops": 3})
    assert site.tarry.get("/").body == b"answer"
    assert told(site).hop == "2"


def test_no_notify_for_a_call_that_on_error_took_over(bed):
    site = site_for(bed, lambda r, c: Reply(500, b"no"), on_error="/failed", resume=Reply(200, b"sorry"))
    assert site.tarry.get("/").body == b"sorry"
    site.tarry.stop()
    assert [r.kind for r in site.worker.requests] == ["request", "resume"]


def test_with_on_error_a_good_answer_is_still_told(bed):
    site = site_for(bed, lambda r, c: b"fine", on_error="/failed")
    assert site.tarry.get("/").body == b"fine"
    assert told(site).outcome == "complete"


def test_notifies_survive_a_graceful_stop(bed):
    """SIGTERM waits for what was paid for."""
    gate = Gate()
    site = site_for(bed, lambda r, c: b"answer", notify=[Reply(503), Reply(204)])
    site.tarry.get("/")
    told(site)
    gate.open()
    site.tarry.stop()
    assert sum(r.kind == "notify" for r in site.worker.requests) == 2


def test_the_access_log_counts_no_notify_as_a_hop(bed):
    site = site_for(bed, lambda r, c: b"answer")
    site.tarry.get("/")
    told(site)
    eventually(lambda: site.tarry.access.lines)
    assert site.tarry.access.lines[0]["hops"] == 1


@pytest.mark.parametrize("first", ["client", "upstream"])
def test_a_client_that_resets_in_the_turn_of_the_upstreams_head(bed, first):
    """Both events are read in one turn of the loop: the head that is still held must not be sent afterwards."""
    def stream(r, c):
        gate.wait()
        c.send_head(headers={"Content-Type": "text/event-stream"})
        sent.open()
        c.wait_closed()
    gate, sent = Gate(), Gate()
    site = site_for(bed, stream, on_disconnect="cancel")
    client = site.tarry.client()
    client.send_request("POST", "/ask", body=b"x")
    site.upstream.wait_for(1)
    site.tarry.signal(signal.SIGSTOP)
    try:
        if first == "client":
            client.reset()
        gate.open()
        sent.wait()
        if first != "client":
            client.reset()
    finally:
        site.tarry.signal(signal.SIGCONT)
    r = told(site)
    assert r.outcome == "cancelled"
    assert site.tarry.process.poll() is None
