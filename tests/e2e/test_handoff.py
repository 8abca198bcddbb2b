"""docs/handoff.md: the handoff."""

import gzip
import subprocess
import zlib

import brotli
import pytest

from harness import Gate, Moments, Raw, Reply, by_kind, call, handoff, problem

DONE = Reply(200, b"done")
O = "http://model.example"  # stands for the upstream's origin in the tables below


def site_for(bed, make, upstream=None, pool=None, up=None, resume=DONE, **more):
    """A site whose worker answers hop 0 by make(origin) and resumes by DONE."""
    upstream = bed.upstream(upstream)
    worker = bed.worker(by_kind(request=lambda r, c: make(upstream.origin), resume=resume, replay=resume))
    return bed.site(worker, upstream, pool=pool, up=up, **more)


# --- what is a handoff ---

@pytest.mark.parametrize("status", [200, 201, 202, 299])
def test_a_2xx_with_tarry_then_is_a_handoff(bed, status):
    site = site_for(bed, lambda o: handoff("relay", [call(o + "/x")], status=status), lambda r, c: b"from upstream")
    assert site.tarry.get("/").body == b"from upstream"


@pytest.mark.parametrize("status", [302, 404, 500])
def test_another_status_is_no_handoff(bed, status):
    site = site_for(bed, lambda o: handoff("relay", [call(o + "/x")], status=status))
    got = site.tarry.get("/")
    assert got.status == status and b"HTTP/1.1" in got.body
    assert not got.headers.starting("tarry-")
    assert site.upstream.requests == []


def test_head_goes_to_the_worker_as_head_and_is_never_a_handoff(bed):
    site = site_for(bed, lambda o: handoff("relay", [call(o + "/x")]))
    got = site.tarry.request("HEAD", "/")
    assert (got.status, got.body) == (200, b"") and not got.headers.starting("tarry-")
    assert site.worker.request.method == "HEAD" and site.upstream.requests == []


def test_a_response_without_tarry_then_is_the_clients(bed):
    site = site_for(bed, lambda o: Reply(200, call(o + "/x"), {"Content-Type": "application/http; msgtype=request"}))
    assert site.tarry.get("/").body.startswith(b"GET http://")
    assert site.upstream.requests == []


def test_the_worker_is_free_while_parked(bed):
    gate = Gate()

    def slow(r, c):
        gate.wait()
        return b"answer"
    upstream = bed.upstream(slow)
    site = bed.site(bed.worker(lambda r, c: b"plain" if r.path == "/plain" else
                               handoff("resume /x", [call(upstream.origin)]) if r.kind == "request" else
                               Reply(200, r.enclosed[0].body)), upstream, slots=1)
    parked = [bed.background(site.tarry.get, "/ask") for _ in range(5)]
    upstream.wait_for(5)
    assert site.tarry.get("/plain").body == b"plain"
    assert all(t.running for t in parked)
    gate.open()
    assert [t.result().body for t in parked] == [b"answer"] * 5


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_the_worker_may_frame_a_handoff_as_it_likes(bed, framing):
    site = site_for(bed, lambda o: handoff("resume /x", [call(o, b"{}")], framing=framing))
    assert site.tarry.get("/").body == b"done"


def test_msgtype_may_be_missing_and_the_media_type_has_any_case(bed):
    for content_type in ("application/http", "Application/HTTP;msgtype=request", 'application/http; msgtype="request"'):
        site = site_for(bed, lambda o: handoff("resume /x", [call(o)], content_type=content_type))
        assert site.tarry.get("/").body == b"done", content_type
        site.tarry.stop()


def test_gzip_by_middleware_is_undone(bed):
    body = b'{"a":"' + b"x" * 100000 + b'"}'
    site = site_for(bed, lambda o: handoff("resume /x", [call(o, body), call(o, b"{}")], gzip=True))
    assert site.tarry.get("/").body == b"done"
    assert sorted(len(r.body) for r in site.upstream.requests) == [2, len(body)]


def zstd(data):
    return subprocess.run(["zstd", "-q", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout


PACK = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress, "zstd": zstd,
        "two gzip members": lambda data: gzip.compress(data[:500]) + gzip.compress(data[500:])}


@pytest.mark.parametrize("coding", PACK)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_each_coding_of_middleware_is_undone(bed, coding, framing):
    body = b'{"a":"' + b"x" * 3_000_000 + b'"}'

    def packed(o):
        plain = handoff("resume /x", [call(o, body), call(o, b"{}")])
        name = coding if coding in ("gzip", "deflate", "br", "zstd") else "gzip"
        return Reply(200, PACK[coding](plain.body), plain.headers + [("Content-Encoding", name)], framing=framing)
    site = site_for(bed, packed)
    assert site.tarry.get("/").body == b"done"
    assert sorted(len(r.body) for r in site.upstream.requests) == [2, len(body)]


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
def test_a_large_coded_handoff_is_unpacked_in_slices(bed, coding):
    """Other requests are served between the slices: of two that begin together, the plain one is answered first."""
    def work(r, c):
        if r.kind != "request":
            return Reply(200, b"done")
        if r.path == "/plain":
            return Reply(200, b"plain")
        reply = Reply(200, packed, plain.headers + [("Content-Encoding", coding)])
        return reply
    upstream = bed.upstream()
    plain = handoff("resume /x", [call(upstream.origin, bytes(31 << 20), headers={"Content-Type": "a/b"})] * 4)
    packed = PACK[coding](plain.body)
    site = bed.site(bed.worker(work), upstream, up={"retries": 0})
    order = Moments()
    large = bed.background(lambda: (site.tarry.get("/large"), order.note("large")))
    site.worker.wait_for(1, lambda r: r.path == "/large")
    while "large" not in order.list and order.list.count("plain") < 5:
        assert site.tarry.get("/plain").body == b"plain"
        order.note("plain")
    large.result()
    assert order.list[0] == "plain"


@pytest.mark.parametrize("then", ["relay", "resume /x"])
def test_a_damaged_coding_is_malformed(bed, then):
    def damaged(o):
        plain = handoff(then, [call(o)])
        return Reply(200, gzip.compress(plain.body)[:-3], plain.headers + [("Content-Encoding", "gzip")])
    problem(site_for(bed, damaged).tarry.get("/"), 502, "handoff_malformed")


def test_gzip_does_not_get_past_the_size_limit(bed):
    site = site_for(bed, lambda o: handoff("resume /x", [call(o, b" " * (80 << 20))], gzip=True), pool={"call_max": "1M"})
    problem(site.tarry.get("/"), 502, "handoff_limit")
    assert site.upstream.requests == []


@pytest.mark.parametrize("ending", ["at once", "drain"])
@pytest.mark.parametrize("parks", [False, True])
def test_a_worker_that_answers_before_it_has_read_all_is_read(bed, parks, ending):
    def early(r, c):
        if r.kind == "resume":
            c.read_body(r)
            return DONE
        answer = handoff("resume /x", [call(upstream.origin)]) if parks else Reply(400, b"too large")
        c.send(answer.head("close") + answer.body)
        if ending == "drain":
            c.read_body(r)
        c.close()
    upstream = bed.upstream()
    site = bed.site(bed.worker(early, read_body=False, keep_alive=False), upstream)
    got = site.tarry.post("/", b"x" * (20 << 20))
    assert (got.status, got.body) == ((200, b"done") if parks else (400, b"too large"))


# --- enclosed requests ---

def test_a_call_arrives_as_it_was_enclosed(bed):
    site = site_for(bed, lambda o: handoff("relay", [call(o + "/v1/x?a=b%20c", b'{"p": 1}', headers=[
        ("X-One", "1"), ("X-Two", "a"), ("X-Two", "b"), ("Accept", "text/event-stream")])]))
    assert site.tarry.get("/ask", {"Cookie": "session=1", "Authorization": "Bearer client"}).status == 200
    r = site.upstream.request
    assert (r.method, r.target, r.body) == ("POST", "/v1/x?a=b%20c", b'{"p": 1}')
    assert r.headers.get("Host") == site.upstream.address
    assert r.headers.get("X-One") == "1" and ", ".join(r.headers.all("X-Two")) == "a, b"
    assert r.headers.get("Accept") == "text/event-stream"
    assert r.headers.get("Content-Type") == "application/json" and r.headers.get("Content-Length") == "8"
    # Nothing of the client goes to an upstream.
    assert not set(r.headers.names()) & {"cookie", "authorization", "x-forwarded-for", "x-forwarded-host", "x-request-id"}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_any_method_can_be_enclosed(bed, method):
    site = site_for(bed, lambda o: handoff("resume /x", [call(o + "/y", method=method)]))
    assert site.tarry.get("/").body == b"done"
    assert (site.upstream.request.method, site.upstream.request.target) == (method, "/y")


def test_a_target_without_a_path_means_the_root(bed):
    site = site_for(bed, lambda o: handoff("resume /x", [call(o), call(o + "?q=1")]))
    assert site.tarry.get("/").body == b"done"
    assert sorted(r.target for r in site.upstream.requests) == ["/", "/?q=1"]


def test_the_origin_is_compared_without_case(bed):
    site = site_for(bed, lambda o: handoff("resume /x", [call(o.replace("http", "HTTP") + "/UPPER")]))
    assert site.tarry.get("/").body == b"done"
    assert site.upstream.request.target == "/UPPER"


def test_an_upstream_can_be_named(bed):
    site = site_for(bed, lambda o: handoff("relay", [call("tarry://up/v1/x?q=1", b"{}")]))
    assert site.tarry.get("/").status == 200
    r = site.upstream.request
    assert r.target == "/v1/x?q=1" and r.headers.get("Host") == site.upstream.address


def test_a_host_header_of_the_worker_is_replaced(bed):
    site = site_for(bed, lambda o: handoff("relay", [call(o, headers={"Host": "other.example"})]))
    assert site.tarry.get("/").status == 200
    assert site.upstream.request.headers.get("Host") == site.upstream.address


def test_hop_by_hop_headers_of_a_call_are_dropped(bed):
    site = site_for(bed, lambda o: handoff("relay", [call(o, headers=[
        ("Connection", "close, X-Private"), ("X-Private", "p"), ("Keep-Alive", "1"), ("TE", "trailers"),
        ("Proxy-Authorization", "x"), ("Upgrade", "h2c"), ("X-Kept", "k")])]))
    assert site.tarry.get("/").status == 200
    names = site.upstream.request.headers.names()
    assert "x-kept" in names
    assert not set(names) & {"x-private", "keep-alive", "te", "upgrade", "proxy-authorization"}


def test_the_conf_s_headers_are_set_last_and_win(bed):
    site = site_for(bed, lambda o: handoff("relay", [call(o, headers=[
        ("authorization", "Bearer worker"), ("AUTHORIZATION", "Bearer again"), ("X-Mine", "m")])]),
        up={"set_header": ["Authorization: Bearer conf", "X-Added: yes"]})
    assert site.tarry.get("/").status == 200
    h = site.upstream.request.headers
    assert (h.get("Authorization"), h.get("X-Added"), h.get("X-Mine")) == ("Bearer conf", "yes", "m")


def test_headers_for_tarry_are_never_sent_on(bed):
    site = site_for(bed, lambda o: handoff("relay", [call(o, id="a", timeout="5.5", retries=1,
                                                          headers={"tarry-future": "x", "Tarry_Other": "y"})]))
    assert site.tarry.get("/").status == 200
    assert not [n for n in site.upstream.request.headers.names() if n.startswith("tarry")]


def test_calls_run_side_by_side(bed):
    gate = Gate()

    def wait(r, c):
        gate.wait()
        return r.target.encode()
    site = site_for(bed, lambda o: handoff("resume /x", [call(f"{o}/{i}") for i in range(8)]), wait,
                    resume=lambda r, c: Reply(200, b" ".join(e.body for e in r.enclosed)))
    task = bed.background(site.tarry.get, "/")
    site.upstream.wait_for(8)
    gate.open()
    assert task.result().body == b"/0 /1 /2 /3 /4 /5 /6 /7"


@pytest.mark.parametrize("n", [2, 64])
def test_max_calls_are_allowed(bed, n):
    site = site_for(bed, lambda o: handoff("resume /x", [call(f"{o}/{i}") for i in range(n)]),
                    pool={"max_calls": n}, resume=lambda r, c: Reply(200, str(len(r.enclosed))))
    assert site.tarry.get("/").body == str(n).encode()


# --- what is refused, before any call is made ---

GOOD = "POST " + O + "/ok HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"

MALFORMED_HEADERS = {
    "other media type": dict(content_type="application/json"),
    "no media type": dict(content_type=None),
    "msgtype=response": dict(content_type="application/http; msgtype=response"),
    "then: unknown": dict(then="later"),
    "then: empty": dict(then=""),
    "then: relay with a path": dict(then="relay /x"),
    "then: resume without a path": dict(then="resume"),
    "then: replay with a path": dict(then="replay /x"),
    "then: relative path": dict(then="resume x/y"),
    "then: a URL": dict(then="resume http://h/x"),
    "then: fragment": dict(then="resume /x#y"),
    "then: space in the path": dict(then="resume /x /y"),
    "then: control characters": dict(then="resume /x\ty"),
    "then: not ASCII": dict(then="resume /\xe9"),
    "then twice": dict(headers=[("Tarry-Then", "relay")]),
    "state: space": dict(state="a b"),
    "state: not ASCII": dict(state="\xe9"),
    "state twice": dict(state="a", headers=[("Tarry-State", "b")]),
    "notify with resume": dict(notify="/n"),
    "notify with replay": dict(then="replay", notify="/n"),
    "on-error with resume": dict(on_error="/e"),
    "on-error with replay": dict(then="replay", on_error="/e"),
    "notify: no path": dict(then="relay", notify="n"),
    "on-error: no path": dict(then="relay", on_error="http://h/e"),
    "keep-alive: unknown": dict(keep_alive="yes"),
    "on-disconnect: unknown": dict(on_disconnect="stop"),
    "relay with two calls": dict(then="relay", calls=[GOOD, GOOD]),
    "unknown content-encoding": dict(headers=[("Content-Encoding", "br")]),
    "gzip that is none": dict(headers=[("Content-Encoding", "gzip")]),
}


@pytest.mark.parametrize("what", MALFORMED_HEADERS)
def test_a_malformed_handoff_is_refused(bed, what):
    args = dict(dict(then="resume /x", calls=[GOOD]), **MALFORMED_HEADERS[what])
    calls = lambda o: [c.replace(O, o) for c in args["calls"]]  # noqa: E731
    site = site_for(bed, lambda o: handoff(**dict(args, calls=calls(o))))
    problem(site.tarry.get("/"), 502, "handoff_malformed")
    assert site.upstream.requests == [] and len(site.worker.requests) == 1


MALFORMED_CALLS = {
    "nothing": "",
    "an empty line": "\r\n",
    "no end of the head": "GET " + O + "/ HTTP/1.1\r\nA: b\r\n",
    "origin-form target": "GET /x HTTP/1.1\r\nHost: model.example\r\n\r\n",
    "authority-form target": "CONNECT model.example:443 HTTP/1.1\r\n\r\n",
    "asterisk target": "OPTIONS * HTTP/1.1\r\n\r\n",
    "user in the target": "GET http://user:pass@model.example/ HTTP/1.1\r\n\r\n",
    "fragment in the target": "GET " + O + "/x#y HTTP/1.1\r\n\r\n",
    "not ASCII in the target": "GET " + O + "/\xe9 HTTP/1.1\r\n\r\n",
    "control character in the target": "GET " + O + "/\x01 HTTP/1.1\r\n\r\n",
    "HTTP/1.0": "GET " + O + "/ HTTP/1.0\r\n\r\n",
    "HTTP/2": "GET " + O + "/ HTTP/2\r\n\r\n",
    "no version": "GET " + O + "/\r\n\r\n",
    "two spaces": "GET  " + O + "/ HTTP/1.1\r\n\r\n",
    "bad method": "G(T " + O + "/ HTTP/1.1\r\n\r\n",
    "a response": "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "bare LF": "GET " + O + "/ HTTP/1.1\nA: b\n\n",
    "one bare LF": "GET " + O + "/ HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
    "bare CR": "GET " + O + "/ HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
    "NUL in a value": "GET " + O + "/ HTTP/1.1\r\nA: b\0c\r\n\r\n",
    "obs-fold": "GET " + O + "/ HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
    "space before the colon": "GET " + O + "/ HTTP/1.1\r\nA : b\r\n\r\n",
    "no colon": "GET " + O + "/ HTTP/1.1\r\nA\r\n\r\n",
    "empty name": "GET " + O + "/ HTTP/1.1\r\n: b\r\n\r\n",
    "blank line first": "\r\n" + GOOD,
    "blank line between": GOOD + "\r\n" + GOOD,
    "blank line at the end": GOOD + "\r\n",
    "bytes after the last": GOOD + "x",
    "body without Content-Length": "POST " + O + "/ HTTP/1.1\r\nContent-Type: a/b\r\n\r\n{}",
    "Transfer-Encoding": "POST " + O + "/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "Transfer-Encoding and Content-Length":
        "POST " + O + "/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
    "two Content-Length": "POST " + O + "/ HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "list of Content-Length": "POST " + O + "/ HTTP/1.1\r\nContent-Length: 2, 2\r\n\r\n{}",
    "negative Content-Length": "POST " + O + "/ HTTP/1.1\r\nContent-Length: -2\r\n\r\n{}",
    "signed Content-Length": "POST " + O + "/ HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}",
    "Content-Length past 64 bits": "POST " + O + "/ HTTP/1.1\r\nContent-Length: 18446744073709551618\r\n\r\n{}",
    "body shorter than its length": "POST " + O + "/ HTTP/1.1\r\nContent-Length: 20\r\n\r\n{}",
    "call id with a space": GOOD.replace("\r\n\r\n", "\r\nTarry-Call-Id: a b\r\n\r\n"),
    "timeout that is no number": GOOD.replace("\r\n\r\n", "\r\nTarry-Timeout: soon\r\n\r\n"),
    "timeout with a unit": GOOD.replace("\r\n\r\n", "\r\nTarry-Timeout: 5s\r\n\r\n"),
    "negative timeout": GOOD.replace("\r\n\r\n", "\r\nTarry-Timeout: -1\r\n\r\n"),
    "timeout twice": GOOD.replace("\r\n\r\n", "\r\nTarry-Timeout: 1\r\nTarry-Timeout: 2\r\n\r\n"),
    "retries that are no number": GOOD.replace("\r\n\r\n", "\r\nTarry-Retries: few\r\n\r\n"),
    "negative retries": GOOD.replace("\r\n\r\n", "\r\nTarry-Retries: -1\r\n\r\n"),
    "good, then bad": GOOD + "GET " + O + "/ HTTP/1.1\r\nA : b\r\n\r\n",
}


@pytest.mark.parametrize("what", MALFORMED_CALLS)
def test_a_malformed_call_is_refused(bed, what):
    site = site_for(bed, lambda o: handoff("resume /x", MALFORMED_CALLS[what].replace(O, o)))
    got = site.tarry.get("/")
    problem(got, 502, "handoff_malformed")
    assert site.upstream.requests == [] and len(site.worker.requests) == 1


FORBIDDEN = {
    "another host": "http://evil.example/",
    "another port": "{host}:1/",
    "the default port": "http://127.0.0.1/",
    "another scheme": "https:{rest}/",
    "a longer name": "{origin}.evil.example/",
    "an unknown upstream": "tarry://nobody/x",
    "an unknown scheme": "ftp:{rest}/",
    "a file": "file:///etc/passwd",
    "metadata service": "http://169.254.169.254/latest",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_an_origin_that_is_not_declared_is_refused(bed, what):
    def make(o):
        target = FORBIDDEN[what].format(origin=o, host=o.rpartition(":")[0], rest=o.partition(":")[2])
        return handoff("resume /x", [call(o + "/first"), call(target)])
    site = site_for(bed, make)
    got = site.tarry.get("/")
    if what in ("a longer name", "an unknown scheme", "a file") and b"handoff_malformed" in got.body:
        problem(got, 502, "handoff_malformed")  # a target that is no valid one at all is wrong syntax first
    else:
        problem(got, 502, "handoff_forbidden")
    assert site.upstream.requests == []


LIMITS = {
    "one call too many": (dict(calls=[GOOD] * 3), {"max_calls": 2}),
    "too large a call": (dict(calls=["POST " + O + "/ HTTP/1.1\r\nContent-Length: 70000\r\n\r\n" + "x" * 70000]),
                         {"call_max": "64K"}),
    "too large a call, chunked": (dict(calls=["POST " + O + "/ HTTP/1.1\r\nContent-Length: 70000\r\n\r\n" + "x" * 70000],
                                       framing="chunked"), {"call_max": "64K"}),
    "too long a state": (dict(state="s" * 8001), {}),
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_number_or_size_over_its_bound_is_refused(bed, what):
    args, pool = LIMITS[what]
    args = dict(dict(then="resume /x", calls=[GOOD]), **args)
    site = site_for(bed, lambda o: handoff(**dict(args, calls=[c.replace(O, o) for c in args["calls"]])), pool=pool)
    problem(site.tarry.get("/"), 502, "handoff_limit")
    assert site.upstream.requests == []


def test_a_call_id_over_128_bytes_is_refused(bed):
    site = site_for(bed, lambda o: handoff("resume /x", [call(o, id="i" * 129)]))
    got = site.tarry.get("/")
    problem(got, 502, "handoff_limit" if b"handoff_limit" in got.body else "handoff_malformed")
    assert site.upstream.requests == []


def test_bounds_themselves_are_allowed(bed):
    state, name = "~" * 8000, "!" * 128
    site = site_for(bed, lambda o: handoff("resume /x", [call(o, b"x" * 65536, id=name)], state=state),
                    pool={"call_max": "66K"}, resume=lambda r, c: Reply(200, f"{r.state == state} {r.enclosed[0].id == name}"))
    assert site.tarry.get("/").body == b"True True"


def test_a_handoff_that_ends_too_early_is_refused(bed):
    def cut(o):
        reply = handoff("relay", [call(o, b'{"a": 1}')])
        return Raw(reply.head() + reply.body[:-3])
    site = site_for(bed, cut)
    problem(site.tarry.get("/"), 502, "http_response_incomplete")
    assert site.upstream.requests == []


def test_the_worker_keeps_its_connection_over_a_handoff(bed):
    site = site_for(bed, lambda o: handoff("resume /x", [call(o)]))
    for _ in range(5):
        assert site.tarry.get("/").body == b"done"
    assert len(site.worker.conns) == 1


def test_a_gzipped_handoff_that_is_cut_is_refused(bed):
    def cut(o):
        reply = handoff("relay", [call(o, b'{"a": 1}')], gzip=True)
        return Reply(200, reply.body[:-9], reply.headers)
    site = site_for(bed, cut)
    problem(site.tarry.get("/"), 502, "handoff_malformed")
    assert site.upstream.requests == []


def test_bytes_after_the_gzip_stream_are_refused(bed):
    def trailing(o):
        reply = handoff("relay", [call(o)], gzip=True)
        return Reply(200, reply.body + b"junk", reply.headers)
    site = site_for(bed, trailing)
    problem(site.tarry.get("/"), 502, "handoff_malformed")
    assert site.upstream.requests == []


# --- Tarry-Timeout and Tarry-Retries ---

def test_a_call_s_timeout_covers_the_whole_call(bed):
    gate = Gate()

    def never(r, c):
        c.wait_closed()
        gate.open()
    site = site_for(bed, lambda o: handoff("resume /x", [call(o, timeout="0.3")]), never,
                    resume=lambda r, c: Reply(200, f"{r.enclosed[0].status} {r.enclosed[0].error}"))
    assert site.tarry.get("/").body == b"504 http_response_timeout"
    gate.wait()


def test_a_call_s_timeout_is_cut_to_the_conf_s(bed):
    site = site_for(bed, lambda o: handoff("resume /x", [call(o, timeout="3600")]), lambda r, c: c.wait_closed() and None,
                    up={"total_timeout": "300ms"}, resume=lambda r, c: Reply(200, str(r.enclosed[0].status)))
    assert site.tarry.get("/").body == b"504"


@pytest.mark.parametrize("asked, conf, calls", [(None, 2, 3), (0, 2, 1), (1, 2, 2), (9, 2, 3), (3, 0, 1)])
def test_a_call_s_retries_are_cut_to_the_conf_s(bed, asked, conf, calls):
    site = site_for(bed, lambda o: handoff("resume /x", [call(o, retries=asked)]), lambda r, c: Reply(503, b"busy"),
                    up={"retries": conf}, resume=lambda r, c: Reply(200, f"{r.enclosed[0].status} {r.enclosed[0].attempts}"))
    assert site.tarry.get("/").body == f"503 {calls}".encode()
    assert len(site.upstream.requests) == calls
