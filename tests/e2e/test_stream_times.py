"""How long an event stream may take: total_timeout bounds the time until it is committed, then its own bounds hold."""

import json
import time

import pytest

from harness import Client, Reply, Truncated, by_kind, call, handoff

ROUTES = ["gateway", "relay", "resume"]
SSE = {"Content-Type": "text/event-stream"}
COMMENT = b": keep-alive\n\n"


def delta(word):
    return f'data: {{"choices":[{{"delta":{{"content":"{word}"}}}}]}}\n\n'


class Site:
    def __init__(self, bed, route, upstream, route_options=None, **up):
        self.route, self.enclosed = route, None
        self.upstream = bed.upstream(upstream)
        then = "resume /x" if route == "resume" else "relay"
        self.worker = bed.worker(by_kind(
            request=lambda r, c: handoff(then, [call("tarry://up/v1/chat/completions", method="POST", body=r.body)]), resume=self.tell))
        conf = bed.conf(self.worker, self.upstream)
        conf.up.update({"retries": 0, **up})
        conf.routes += [("/v1/", {"upstream": "up", **(route_options or {})})]
        self.tarry = bed.tarry(conf)

    def tell(self, r, c):
        e = r.enclosed[0]
        return Reply(e.status, e.body, {"X-Error": e.error or "none"})

    def ask(self):
        """What came, and whether it was whole."""
        with Client(self.tarry.address) as c:
            c.send_request("POST", "/v1/chat/completions" if self.route == "gateway" else "/ask", (), json.dumps({"stream": True}))
            response = c.begin()
            try:
                return response.read(), response.headers.get("X-Error") in (None, "none")
            except Truncated:
                return response.body, False


def words(n, every):
    def answer(r, c):
        c.send_head(200, SSE)
        for i in range(n):
            c.send_chunk(delta(f"w{i}"))
            time.sleep(every)
        c.send_chunk("data: [DONE]\n\n")
        c.end_chunks()
    return answer


@pytest.mark.parametrize("route", ROUTES)
def test_total_timeout_does_not_end_a_stream_that_is_committed(bed, route):
    site = Site(bed, route, words(12, 0.1), total_timeout="800ms")
    body, whole = site.ask()
    assert whole and body.count(b"w") == 12 and body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("option", ["stream_timeout", "content_idle_timeout"])
def test_a_stream_has_bounds_of_its_own(bed, route, option):
    """The second one is of silence: pings and comments do not count."""
    def answer(r, c):
        c.send_head(200, SSE)
        c.send_chunk(delta("first"))
        while not c.peer_is_gone():
            c.send_chunk(delta("more") if option == "stream_timeout" else ": ping\n\n")
            time.sleep(0.05)
    site = Site(bed, route, answer, total_timeout="10s", **{option: "400ms"})
    body, whole = site.ask()
    assert not whole and (route == "resume" or b"first" in body)


def test_comments_of_tarry_do_not_keep_a_silent_stream_alive(bed):
    def answer(r, c):
        c.send_head(200, SSE)
        c.send_chunk(delta("first"))
        c.wait_closed()
    site = Site(bed, "gateway", answer, {"keep_alive_interval": "50ms"}, content_idle_timeout="400ms")
    body, whole = site.ask()
    assert not whole and body.startswith(delta("first").encode() + COMMENT * 2)


def test_the_time_limit_holds_while_comments_go_out(bed):
    site = Site(bed, "gateway", lambda r, c: c.wait_closed() and None, {"keep_alive_interval": "50ms"}, total_timeout="400ms")
    body, whole = site.ask()
    comments, _, error = body.partition(b"event: error\ndata: ")
    assert whole and comments.startswith(COMMENT * 2)
    assert json.loads(error)["error"]["code"] == "http_response_timeout"


def test_a_long_silence_between_contents_is_no_fault(bed):
    """idle_timeout is for other answers, unless the conf sets it."""
    def answer(r, c):
        c.send_head(200, SSE)
        c.send_chunk(delta("first"))
        time.sleep(1)
        c.send_chunk(delta("second") + "data: [DONE]\n\n")
        c.end_chunks()
    site = Site(bed, "gateway", answer, total_timeout="700ms", first_byte_timeout="700ms", first_content_timeout="700ms")
    assert site.ask() == ((delta("first") + delta("second") + "data: [DONE]\n\n").encode(), True)
    again = Site(bed.another(), "gateway", answer, idle_timeout="200ms")
    assert again.ask()[1] is False
