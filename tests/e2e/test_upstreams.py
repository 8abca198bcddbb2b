"""Calls to upstreams: retries, HTTP/2, the HTTP/1.1 pool, TLS."""

import email.utils
import threading
import time

import pytest

from harness import Gate, Moments, Reply, by_kind, call, eventually, free_port, handoff, problem


def tell(r, c):
    return Reply(200, " ".join(f"{a.status} {a.error} {a.attempts}" for a in r.enclosed))


def bodies(r, c):
    return Reply(200, b" ".join(a.body for a in r.enclosed))


def site_for(bed, upstream, n=1, up=None, resume=tell, origin=None, slots=4, **call_args):
    """A site whose worker makes n calls to /0, /1 …, behind the client's path: /ask -> /ask/0."""
    upstream = upstream if hasattr(upstream, "origin") else bed.upstream(upstream)

    def first(r, c):
        base = (origin or upstream.origin) + ("" if r.path == "/" else r.path)
        return handoff("resume /x", [call(f"{base}/{i}", **call_args) for i in range(n)])
    worker = bed.worker(by_kind(request=first, resume=resume))
    site = type("Site", (), {})()
    site.worker, site.upstream, site.conf = worker, upstream, bed.conf(worker, upstream, slots)
    if origin:
        site.conf.up["origin"] = origin
    site.conf.up.update(up or {})
    site.tarry = bed.tarry(site.conf)
    return site


class Script:
    """Answers by a list; the last one stays."""

    def __init__(self, *answers):
        self.answers, self.n, self.lock = answers, 0, threading.Lock()

    def __call__(self, *args):
        with self.lock:
            answer = self.answers[min(self.n, len(self.answers) - 1)]
            self.n += 1
        return answer(*args) if callable(answer) else answer


# --- retries ---

@pytest.mark.parametrize("status", [409, 429, 500, 502, 503, 529])
def test_answers_that_ask_for_another_try_get_one(bed, status):
    site = site_for(bed, Script(Reply(status, b"no"), Reply(200, b"yes")))
    assert site.tarry.get("/").text == "200 None 2"
    first, second = site.upstream.requests
    assert first.raw == second.raw


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 408, 413, 422, 504])
def test_other_answers_get_none(bed, status):
    site = site_for(bed, Script(Reply(status, b"no"), Reply(200, b"yes")))
    assert site.tarry.get("/").text == f"{status} None 1"


@pytest.mark.parametrize("status, word, tries", [(503, "false", 1), (429, "false", 1), (400, "true", 2), (404, "true", 2)])
def test_x_should_retry_overrides_either_way(bed, status, word, tries):
    site = site_for(bed, Script(Reply(status, b"no", {"x-should-retry": word}), Reply(200, b"yes")))
    assert site.tarry.get("/").text == f"{200 if tries == 2 else status} None {tries}"


def test_retry_after_may_be_a_date(bed):
    when = email.utils.formatdate(time.time() + 2, usegmt=True)
    site = site_for(bed, Script(Reply(503, b"no", {"Retry-After": when}), Reply(200, b"yes")))
    assert site.tarry.get("/").text == "200 None 2"
    assert site.upstream.requests[1].time - site.upstream.requests[0].time >= 0.5


@pytest.mark.parametrize("value", ["soon", "-5", "", "99999999999999999999", "1e9", "NaN"])
def test_a_hint_that_makes_no_sense_harms_nobody(bed, value):
    site = site_for(bed, Script(Reply(503, b"no", {"Retry-After": value, "retry-after-ms": value}), Reply(200, b"yes")),
                    up={"total_timeout": "10s"})
    assert site.tarry.get("/").text in ("200 None 2", "503 None 1")


def test_the_last_failure_is_returned_intact(bed):
    site = site_for(bed, lambda r, c: Reply(429, b'{"error": "rate"}', {"x-ratelimit-remaining": "0"}), up={"retries": 2},
                    resume=lambda r, c: Reply(200, r.enclosed[0].body + r.enclosed[0].headers.get("x-ratelimit-remaining").encode()))
    assert site.tarry.get("/").body == b'{"error": "rate"}0'
    assert len(site.upstream.requests) == 3


def test_a_relay_is_retried_before_a_byte(bed):
    upstream = bed.upstream(Script(Reply(503, b"no", {"Retry-After": "0"}), Reply(200, [b"fine"], framing="chunked")))
    worker = bed.worker(lambda r, c: handoff("relay", [call(upstream.origin)]))
    assert bed.site(worker, upstream).tarry.get("/").body == b"fine"


def test_a_refused_connection_is_tried_again(bed):
    site = site_for(bed, lambda r, c: b"x", up={"retries": 50, "retry_first_pause": "50ms"})
    site.upstream.refuse()
    task = bed.background(site.tarry.get, "/")
    site.tarry.wait_log(lambda line: "refused" in line.lower(), "a refused connection in the log")
    site.upstream.listen()
    status, error, attempts = task.result().text.split()
    assert (status, error) == ("200", "None") and int(attempts) >= 2


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_call_that_may_have_been_processed_is_not_made_again(bed, end):
    site = site_for(bed, lambda r, c: (time.sleep(0.4), getattr(c, end)())[1], body="{}")
    assert site.tarry.get("/").text.startswith("502 ")
    assert len(site.upstream.requests) == 1


def test_a_new_connection_that_is_reset_at_once_never_began(bed):
    """As by a listener that is overrun: free, apart from the retries."""
    site = site_for(bed, Script(lambda r, c: c.reset(), lambda r, c: c.reset(), Reply(200, b"yes")), up={"retries": 0})
    assert site.tarry.get("/").text == "200 None 3"


def test_an_unfinished_request_never_began(bed):
    """The service goes away while the body is on its way."""
    def first(r, c):
        if c.number == 0:
            return c.reset()
        c.read_body(r)
        return Reply(200, b"yes")
    up = bed.upstream(first, read_body=False)
    site = site_for(bed, up, body=b"x" * 20_000_000, up={"retries": 0})
    assert site.tarry.get("/").text == "200 None 2"


def test_nothing_is_retried_after_a_byte_of_the_response(bed):
    def cut(r, c):
        c.send_head(200, length=100)
        c.send("half")
        c.reset()
    site = site_for(bed, cut)
    assert site.tarry.get("/").text.endswith(" 1")
    assert len(site.upstream.requests) == 1


def test_a_call_waits_for_its_retry_without_a_worker(bed):
    site = site_for(bed, Script(Reply(503, b"no", {"retry-after-ms": "700"}), Reply(200, b"yes")), slots=1)
    task = bed.background(site.tarry.get, "/ask")
    site.upstream.wait_for(1)
    site.worker.wait_idle()
    assert bed.background(site.tarry.request, "HEAD", "/plain").result() is not None
    assert task.result().text == "200 None 2"


# --- a client's SDK ---

def gateway(bed, answer, up=None):
    upstream = bed.upstream(answer)
    conf = bed.conf([], upstream)
    conf.up.update(up or {})
    conf.routes = [("/", {"upstream": "up"})]
    return upstream, bed.tarry(conf)


@pytest.mark.parametrize("count, requests", [(None, 3), ("0", 3), ("1", 2), ("2", 1), ("9", 1), ("x", 3)])
def test_the_tries_of_an_sdk_take_the_place_of_ours(bed, count, requests):
    upstream, tarry = gateway(bed, lambda r, c: Reply(503, b"no"))
    answer = tarry.get("/", [("x-stainless-retry-count", count)] if count else [])
    assert answer.status == 503 and answer.headers.get("x-should-retry") == "false"
    assert len(upstream.requests) == requests


@pytest.mark.parametrize("name", ["x-stainless-read-timeout", "x-stainless-timeout", "X-Server-Timeout"])
def test_an_sdk_that_gives_up_gets_its_answer_before(bed, name):
    upstream, tarry = gateway(bed, lambda r, c: c.wait_closed() and None)
    answer = tarry.get("/", [(name, "0.5")])
    problem(answer, 504, "http_response_timeout")
    assert answer.headers.get("x-should-retry") == "false"
    assert len(upstream.requests) == 1


# --- limits ---

def limited(bed, limit, answer, up=None):
    upstream = bed.upstream(answer)
    conf = bed.conf([], upstream)
    conf.up.update(up or {})
    conf.routes = [("/", {"upstream": "up"})]
    text = conf.text().replace('upstream "up" {\n', 'upstream "up" {\nlimit { ' + limit + " }\n")
    (conf.folder / "tarry.conf").write_text(text)
    tarry = bed.tarry(text, address=conf.address)
    return upstream, tarry


def test_calls_over_a_limit_wait_for_their_turn_and_for_nobody_else_s(bed):
    gate = Gate()
    upstream, tarry = limited(bed, 'key = "header:x-tenant" in_flight = 2', lambda r, c: (gate.wait(), b"x")[1])
    mine = [bed.background(tarry.get, "/", [("x-tenant", "a")]) for _ in range(4)]
    upstream.wait_for(2)
    other = bed.background(tarry.get, "/", [("x-tenant", "b")])
    upstream.wait_for(3)
    assert len(upstream.requests) == 3
    gate.open()
    assert [t.result().status for t in mine + [other]] == [200] * 5


def test_a_call_over_the_pace_ends_with_its_deadline(bed):
    upstream, tarry = limited(bed, "requests_per_minute = 2", lambda r, c: b"x", up={"total_timeout": "500ms", "connect_timeout": "400ms"})
    assert [tarry.get("/").status for _ in range(3)] == [200, 200, 429]
    assert len(upstream.requests) == 2


# --- HTTP/1.1 ---

def test_connections_are_used_again(bed):
    site = site_for(bed, lambda r, c: b"x")
    for _ in range(10):
        assert site.tarry.get("/").text == "200 None 1"
    assert len(site.upstream.conns) == 1


def test_connection_close_is_obeyed(bed):
    site = site_for(bed, lambda r, c: Reply(200, b"x", close=True))
    for _ in range(3):
        assert site.tarry.get("/").text == "200 None 1"
    assert len(site.upstream.conns) == 3


def test_calls_at_once_get_connections_of_their_own(bed):
    gate = Gate()
    site = site_for(bed, lambda r, c: (gate.wait(), r.target.encode())[1], n=20, resume=bodies)
    task = bed.background(site.tarry.get, "/")
    site.upstream.wait_for(20)
    gate.open()
    assert task.result().body == b" ".join(b"/%d" % i for i in range(20))
    assert len(site.upstream.conns) == 20


def test_an_idle_connection_that_the_upstream_closed_fails_no_call(bed):
    site = site_for(bed, lambda r, c: b"x", up={"retries": 2}, body="{}")
    for _ in range(20):
        assert site.tarry.get("/").text.startswith("200 None ")
        site.upstream.conns[-1].close()
    assert len(site.upstream.requests) == 20


def test_a_broken_off_call_s_connection_is_not_used_again(bed):
    def slow(r, c):
        if r.path == "/slow/0":
            c.wait_closed()
            return None
        return b"x"
    site = site_for(bed, slow, up={"first_byte_timeout": "300ms", "retries": 0})
    assert site.tarry.get("/slow").text.startswith("504 ")
    assert site.tarry.get("/").text == "200 None 1"
    assert len(site.upstream.conns) == 2


def test_bytes_behind_a_response_spoil_the_connection(bed):
    """What nobody asked for must never be taken for the next answer."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    site = site_for(bed, lambda r, c: c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" + evil), resume=bodies)
    for _ in range(3):
        assert site.tarry.get("/").body == b"good"


def test_a_name_is_resolved_and_all_its_addresses_tried(bed):
    """localhost may be ::1 first: the upstream listens on 127.0.0.1 alone."""
    upstream = bed.upstream(lambda r, c: b"x")
    site = site_for(bed, upstream, origin=f"http://localhost:{upstream.port}")
    assert site.tarry.get("/").text == "200 None 1"
    assert upstream.requests[0].headers.get("Host") == f"localhost:{upstream.port}"


def test_a_name_that_does_not_exist_is_a_failed_call(bed):
    upstream = bed.upstream()
    site = site_for(bed, upstream, origin="https://nobody.invalid", up={"retries": 0, "connect_timeout": "10s"})
    status, error, _ = site.tarry.get("/").text.split()
    assert status in ("502", "504") and error in ("dns_error", "connection_refused", "destination_ip_unroutable", "dns_timeout")


def test_ipv6_literals(bed):
    try:
        upstream = bed.upstream(lambda r, c: b"x", address=f"[::1]:{free_port()}")
    except OSError:
        pytest.skip("no IPv6 here")
    site = site_for(bed, upstream)
    assert site.tarry.get("/").text == "200 None 1"
    assert upstream.requests[0].headers.get("Host") == upstream.address


# --- HTTP/2 ---

def test_http2_is_taken_where_alpn_offers_it(bed):
    up = bed.h2_upstream(lambda s: Reply(200, s.body, {"X-A": "1"}))
    site = site_for(bed, up, body=b'{"a": 1}', headers=[("X-Mixed-Case", "v"), ("Connection", "close"), ("TE", "trailers")], resume=bodies)
    assert site.tarry.get("/ask").body == b'{"a": 1}'
    r = up.request
    assert (r.method, r.target, r.scheme, r.authority) == ("POST", "/ask/0", "https", up.address)
    assert r.headers.get("x-mixed-case") == "v" and r.headers.get("content-length") == "8"
    assert all(n == n.lower() for n, _ in r.headers)
    assert not {"connection", "te", "host", "transfer-encoding", "keep-alive"} & set(r.headers.names())


def test_many_calls_share_few_connections(bed):
    gate = Gate()
    up = bed.h2_upstream(lambda s: (gate.wait(), s.target.encode())[1])
    site = site_for(bed, up, n=50, resume=bodies, up={"streams_per_connection": 100})
    tasks = [bed.background(site.tarry.get, f"/{i}") for i in range(2)]
    up.wait_for(100)
    gate.open()
    for i, t in enumerate(tasks):
        assert t.result().body == b" ".join(b"/%d/%d" % (i, k) for k in range(50))
    assert len(up.conns) <= 2


def test_U08_the_peer_s_stream_limit_is_respected(bed):
    """Once it is known: before that, a client may open as many as it likes."""
    gate = Gate()
    up = bed.h2_upstream(lambda s: (gate.wait(), b"x")[1], max_streams=5)
    site = site_for(bed, up, n=30, resume=lambda r, c: Reply(200, str(sum(a.status == 200 for a in r.enclosed))))
    gate.open()
    assert site.tarry.get("/").body == b"30"
    gate = Gate()
    task = bed.background(site.tarry.get, "/")
    up.wait_for(30 + 5)
    gate.open()
    assert task.result().body == b"30"
    # The h2 package ends a connection whose peer goes over the limit: none did.
    assert all(c.peer_goaway is None for c in up.conns) and up.errors == []


def test_a_large_call_obeys_the_peer_s_window(bed):
    body = bytes(range(256)) * 1024  # 256 KiB through windows of 1,000 bytes
    up = bed.h2_upstream(lambda s: Reply(200, str(s.body == body)), window=1000)
    site = site_for(bed, up, body=body, resume=bodies)
    assert site.tarry.get("/").body == b"True"


def test_a_large_answer_is_not_throttled_by_default_windows(bed):
    windows = []

    def answer(s):
        windows.append(s.conn.h2.local_flow_control_window(s.id))
        return Reply(200, b"y" * (3 << 20))
    up = bed.h2_upstream(answer)
    site = site_for(bed, up, resume=lambda r, c: Reply(200, str(len(r.enclosed[0].body))))
    assert site.tarry.get("/").body == str(3 << 20).encode()
    assert windows[0] > 65535


def test_streaming_over_http2_reaches_the_client_piece_by_piece(bed):
    gates = [Gate() for _ in range(3)]

    def stream(s):
        s.send_head(200, {"content-type": "text/event-stream"})
        for i, gate in enumerate(gates):
            s.send(b"data: %d\n\n" % i, end=i == 2)
            gate.wait()
    up = bed.h2_upstream(stream)
    site = bed.site(bed.worker(lambda r, c: handoff("relay", [call(up.origin)])), up)
    with site.tarry.client() as c:
        c.send_request()
        response = c.begin()
        for i, gate in enumerate(gates):
            response.until(b"data: %d\n\n" % i)
            gate.open()
        assert response.read() == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_a_slow_client_does_not_hold_up_its_neighbours_on_the_connection(bed):
    def answer(s):
        return Reply(200, [b"z" * 65536] * 256) if s.path == "/big" else b"small"  # 16 MiB
    up = bed.h2_upstream(answer)
    site = bed.site(bed.worker(lambda r, c: handoff("relay", [call(up.origin + r.path)])), up)
    slow = site.tarry.client(receive_buffer=8192)
    slow.send_request("GET", "/big")
    slow.begin()
    for _ in range(5):
        assert site.tarry.get("/small").body == b"small"
    assert len(up.conns) == 1
    slow.close()


def test_U08_goaway_loses_no_call_that_was_not_processed(bed):
    """The stream above GOAWAY's last id goes out again on a new connection; the one below it ends on the old one."""
    gate = Gate()

    def answer(s):
        if s.conn.number == 0 and s.path == "/old/0":
            gate.wait()
        elif s.conn.number == 0:
            s.conn.goaway(1)
            return None
        return f"conn{s.conn.number}"
    up = bed.h2_upstream(answer)
    site = site_for(bed, up, resume=lambda r, c: Reply(200, r.enclosed[0].body + b" " + r.enclosed[0].attempts.encode()))
    old = bed.background(site.tarry.get, "/old")
    up.wait_for(1)
    assert site.tarry.get("/new").body.startswith(b"conn1 ")
    gate.open()
    assert old.result().body == b"conn0 1"
    assert len(up.conns) == 2


def test_U08_goaway_is_safe_even_where_no_retries_are_allowed_by_status(bed):
    up = bed.h2_upstream(lambda s: s.conn.goaway(0) if s.conn.number == 0 else b"fine")
    site = site_for(bed, up, up={"retries": 1}, body="{}", resume=bodies)
    assert site.tarry.get("/").body == b"fine"


def test_U08_new_calls_go_to_a_new_connection_after_goaway(bed):
    up = bed.h2_upstream(lambda s: f"conn{s.conn.number}")
    site = site_for(bed, up, resume=bodies)
    assert site.tarry.get("/").body == b"conn0"
    up.conns[0].goaway(1)
    eventually(lambda: up.conns[0].ended, "the drained connection to be closed")
    assert site.tarry.get("/").body == b"conn1"


def test_U08_refused_stream_is_tried_again(bed):
    up = bed.h2_upstream(Script(lambda s: s.refuse(), lambda s: b"fine"))
    site = site_for(bed, up, resume=tell, body="{}")
    assert site.tarry.get("/").text == "200 None 2"


def test_U08_a_stream_that_is_always_refused_fails_in_the_end(bed):
    up = bed.h2_upstream(lambda s: s.refuse())
    site = site_for(bed, up, up={"retries": 2})
    assert site.tarry.get("/").text == "502 connection_terminated 6"  # three of them free
    assert len(up.requests) == 6


def test_another_reset_is_not_tried_again(bed):
    up = bed.h2_upstream(lambda s: s.rst(2))
    site = site_for(bed, up)
    assert site.tarry.get("/").text == "502 connection_terminated 1"
    assert len(up.requests) == 1


def test_a_reset_in_mid_response_is_a_failed_call_and_the_connection_lives(bed):
    def cut(s):
        s.send_head(200)
        s.send(b"half")
        s.rst(2)
    up = bed.h2_upstream(Script(cut, lambda s: b"x"))
    site = site_for(bed, up)
    assert site.tarry.get("/").text.split()[0] == "502"
    assert site.tarry.get("/").text == "200 None 1"
    assert len(up.conns) == 1


def test_U08_a_silent_connection_is_given_up(bed):
    """No FIN, no RST: only an unanswered PING tells."""
    def hang(s):
        s.conn.server.silent = True
    up = bed.h2_upstream(hang)
    site = site_for(bed, up, up={"ping_interval": "200ms", "ping_timeout": "200ms", "retries": 0, "first_byte_timeout": "60s"})
    status, error, _ = site.tarry.get("/").text.split()
    assert status in ("502", "504") and error in ("connection_terminated", "connection_timeout", "http_response_timeout")
    up.silent, up.handler = False, lambda s: b"x"
    assert site.tarry.get("/").text == "200 None 1"


def test_a_long_answer_survives_pings(bed):
    gate = Gate()
    up = bed.h2_upstream(lambda s: (gate.wait(), b"x")[1])
    site = site_for(bed, up, up={"ping_interval": "100ms", "ping_timeout": "60s"})  # which no ping waits for
    task = bed.background(site.tarry.get, "/")
    up.wait_for(1)
    eventually(lambda: up.conns[0].pings >= 3, "three pings")
    gate.open()
    assert task.result().text == "200 None 1"


def test_a_connection_that_ends_takes_only_its_calls_with_it(bed):
    up = bed.h2_upstream(lambda s: s.conn.close() if s.conn.number == 0 else b"x")
    site = site_for(bed, up, up={"retries": 0, "retry_unstarted_within": "0ms"})
    assert site.tarry.get("/").text.startswith("502 ")
    assert site.tarry.get("/").text == "200 None 1"


def test_interim_and_trailers_over_http2(bed):
    def answer(s):
        s.conn.do(lambda h: h.send_headers(s.id, [(":status", "103"), ("link", "</x>")]))
        s.send_head(200, {"x-a": "1"})
        s.send(b"body")
        s.conn.do(lambda h: h.send_headers(s.id, [("x-sum", "1")], end_stream=True))
    up = bed.h2_upstream(answer)
    site = site_for(bed, up, resume=lambda r, c: Reply(200, f"{r.enclosed[0].status} {r.enclosed[0].body} {r.enclosed[0].headers.names()}"))
    text = site.tarry.get("/").text
    assert text.startswith("200 b'body'") and "x-a" in text and "x-sum" not in text and "link" not in text


@pytest.mark.parametrize("name, value", [("x-evil", "a\r\nSet-Cookie: b=1"), ("x-evil", "a\nb"), ("x-evil", "a\0b"), ("x evil", "1"),
                                         ("x-evil\r\nx", "1"), ("connection", "close"), ("transfer-encoding", "chunked")])
def test_a_header_that_http2_allows_on_the_wire_injects_nothing(bed, name, value):
    up = bed.h2_upstream(lambda s: Reply(200, b"x", [(name, value)]))
    site = bed.site(bed.worker(lambda r, c: handoff("relay", [call(up.origin)])), up, up={"retries": 0, "relay_headers": ["x-evil"]})
    got = site.tarry.get("/")
    assert got.status in (200, 502) and b"b=1" not in got.raw_head
    if got.status == 502:
        problem(got, 502, "http_protocol_error" if b"http_protocol_error" in got.body else "connection_terminated")


def test_http2_can_be_switched_off(bed):
    up = bed.tls_upstream(lambda r, c: str(c.sock.selected_alpn_protocol()).encode(), alpn=("h2", "http/1.1"))
    site = site_for(bed, up, up={"http2": False}, resume=bodies)
    assert site.tarry.get("/").body in (b"http/1.1", b"None")


def test_http_1_1_where_alpn_says_so_and_where_it_says_nothing(bed):
    for alpn in (("http/1.1",), ()):
        other = bed.another("a" + "".join(alpn).replace("/", ""))
        up = other.tls_upstream(lambda r, c: r.version.encode(), alpn=alpn)
        site = site_for(other, up, resume=bodies)
        assert site.tarry.get("/").body == b"1.1"


# --- TLS ---

@pytest.mark.parametrize("name, cert", [("wrong", {"names": ("DNS:other.example",)}), ("old", {"days": -1}),
                                        ("otherip", {"names": ("IP:127.0.0.2",)})])
def test_a_certificate_that_does_not_fit_is_refused(bed, name, cert):
    up = bed.tls_upstream(lambda r, c: b"x", certificate=name, cert=cert)
    site = site_for(bed, up, up={"retries": 0})
    assert site.tarry.get("/").text == "502 tls_certificate_error 1"
    assert up.requests == []


def test_an_unknown_authority_is_refused(bed):
    up = bed.tls_upstream(lambda r, c: b"x")
    site = site_for(bed, up, up={"retries": 0, "ca_file": ""})
    assert site.tarry.get("/").text == "502 tls_certificate_error 1"
    assert up.requests == []


def test_the_name_is_sent_and_verified(bed):
    names = []
    up = bed.tls_upstream(lambda r, c: b"x")
    up.tls.sni_callback = lambda sock, name, context: names.append(name)
    site = site_for(bed, up, origin=f"https://localhost:{up.port}")
    assert site.tarry.get("/").text == "200 None 1"
    assert names == ["localhost"]


def test_tls_sessions_are_resumed(bed):
    reused = []

    def answer(r, c):
        reused.append(c.sock.session_reused)
        return Reply(200, b"x", close=True)
    up = bed.tls_upstream(answer)
    site = site_for(bed, up)
    for _ in range(4):
        assert site.tarry.get("/").text == "200 None 1"
    assert reused[0] is False and reused[-1] is True


def test_a_certificate_error_is_not_tried_again(bed):
    up = bed.tls_upstream(certificate="wrong", cert={"names": ("DNS:other.example",)})
    site = site_for(bed, up, up={"retries": 3})
    assert site.tarry.get("/").text == "502 tls_certificate_error 1"


def test_several_upstreams_are_kept_apart(bed):
    moments = Moments()
    a = bed.upstream(lambda r, c: (moments.note("a"), r.headers.get("Authorization", "").encode())[1])
    b = bed.h2_upstream(lambda s: (moments.note("b"), s.headers.get("authorization", "").encode())[1])
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(a.origin), call(b.origin)]), resume=bodies))
    conf = bed.conf(worker, b)
    conf.up["set_header"] = ["Authorization: key-of-b"]
    conf.upstreams["a"] = {"origin": a.origin, "set_header": ["Authorization: key-of-a"]}
    assert bed.tarry(conf).get("/").body == b"key-of-a key-of-b"
    assert sorted(moments.list) == ["a", "b"]
