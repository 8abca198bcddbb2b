"""docs/handoff.md: what a worker receives."""

import re
import time

import pytest

from harness import Client, Gate, Raw, Reply, by_kind, call, eventually, handoff

OK = Reply(200, b"ok")


def echo(bed, **more):
    """A site whose worker answers 200; site.seen() is the only request that it got."""
    return bed.site(lambda r, c: OK, **more)


# --- the headers ---

def test_hop_0_says_version_kind_and_hop(bed):
    site = echo(bed)
    assert site.tarry.get("/").status == 200
    h = site.worker.request.headers
    assert (h.get("Tarry-Version"), h.get("Tarry-Kind"), h.get("Tarry-Hop")) == ("1", "request", "0")


def test_features_are_listed(bed):
    site = echo(bed)
    site.tarry.get("/")
    features = [f.strip() for f in site.worker.request.headers.get("Tarry-Features").split(",")]
    assert sorted(features) == sorted(["relay", "resume", "replay", "notify", "on-error", "keep-alive", "wait"])


def test_exchange_ids_are_unique_and_unguessable(bed):
    site = echo(bed)
    with site.tarry.client() as c:
        for _ in range(50):
            c.request()
    for _ in range(10):
        site.tarry.get("/")
    ids = [r.exchange for r in site.worker.requests]
    assert len(set(ids)) == 60
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{16,64}", i) for i in ids), ids
    # What is the same in all of them guesses nothing; the rest must be long enough, and no counter.
    fixed = sum(len(set(column)) == 1 for column in zip(*ids))
    assert min(map(len, ids)) - fixed >= 16, ids[:5]
    for a, b in zip(ids, ids[1:]):
        assert sum(x != y for x, y in zip(a, b)) >= 8, (a, b)


def test_started_is_now_in_seconds_with_milliseconds(bed):
    site = echo(bed)
    before = time.time()
    site.tarry.get("/")
    after = time.time()
    started = site.worker.request.headers.get("Tarry-Started")
    assert re.fullmatch(r"[0-9]+\.[0-9]{3}", started)
    assert before - 0.01 <= float(started) <= after + 0.01


def limits(request):
    return dict(p.strip().split("=") for p in request.headers.get("Tarry-Limits").split(","))


def test_limits_have_the_default_bounds(bed):
    site = echo(bed)
    site.tarry.get("/")
    assert limits(site.worker.request) == {
        "max-hops": "64", "max-calls": "64", "replay-body": "10485760", "call": "33554432", "state": "8000", "wait": "60"}


def test_limits_follow_the_conf(bed):
    site = echo(bed, pool={"max_hops": 5, "max_calls": 7, "replay_body_max": "1M", "call_max": "2M"})
    site.tarry.get("/")
    assert limits(site.worker.request) == {
        "max-hops": "5", "max-calls": "7", "replay-body": "1048576", "call": "2097152", "state": "8000", "wait": "60"}


def test_origins_are_the_declared_upstreams(bed):
    worker = bed.worker()
    conf = bed.conf(worker, "https://api.example.com")
    conf.upstreams["local"] = {"origin": "http://127.0.0.1:8123"}
    bed.tarry(conf).get("/")
    origins = [o.strip() for o in worker.request.headers.get("Tarry-Origins").split(",")]
    assert sorted(origins) == ["http://127.0.0.1:8123", "https://api.example.com"]


def test_hop_0_has_no_state_attempt_or_outcome(bed):
    site = echo(bed)
    site.tarry.get("/")
    h = site.worker.request.headers
    assert not [n for n in ("Tarry-State", "Tarry-Attempt", "Tarry-Outcome") if n in h]


def test_auth_is_the_conf_s_secret_on_every_kind(bed):
    secret = bed.folder / "secret"
    secret.write_text("s3cr3t-value\n")
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(up.origin)]), resume=OK))
    up = bed.upstream()
    conf = bed.conf(worker, up)
    conf.pool["secret_file"] = str(secret)
    assert bed.tarry(conf).get("/").status == 200
    assert [r.headers.get("Tarry-Auth") for r in worker.requests] == ["s3cr3t-value"] * 2


def test_without_a_secret_there_is_no_auth(bed):
    site = echo(bed)
    site.tarry.get("/")
    assert "Tarry-Auth" not in site.worker.request.headers


# --- what a client cannot forge ---

@pytest.mark.parametrize("name", [
    "Tarry-Kind", "tarry-kind", "TARRY-KIND", "Tarry_Kind", "tarry_kind", "Tarry.Kind", "TaRrY_.-x", "Tarry-", "tarry_",
    "Tarry-Auth", "TARRY_AUTH", "Tarry-State", "Tarry-Attempt", "Tarry-Outcome", "Tarry-Unknown-Future"])
def test_tarry_headers_of_a_client_are_removed(bed, name):
    site = echo(bed)
    with site.tarry.client() as c:
        assert c.request("GET", "/", [(name, "forged"), ("X-Other", "kept")]).status == 200
    r = site.worker.request
    assert r.headers.get("X-Other") == "kept"
    assert b"forged" not in r.raw_head
    folded = [n.lower().replace("_", "-").replace(".", "-") for n, _ in r.headers]
    assert folded.count("tarry-kind") == 1 and r.kind == "request"


@pytest.mark.parametrize("name", ["X-Tarry-Kind", "Tarrying", "Tarr-y"])
def test_other_names_are_left_alone(bed, name):
    site = echo(bed)
    site.tarry.get("/", {name: "mine"})
    assert site.worker.request.headers.get(name) == "mine"


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("name", ["Tarry-State", "tarry-anything", "Tarry_Exchange", "TARRY.X"])
def test_tarry_headers_of_a_worker_are_removed(bed, name, status):
    site = bed.site(lambda r, c: Reply(status, b"x", [(name, "inner"), ("X-Other", "kept")]))
    got = site.tarry.get("/")
    assert got.status == status and got.headers.get("X-Other") == "kept"
    assert b"inner" not in got.raw_head


# --- what is forwarded ---

def test_request_is_otherwise_the_clients(bed):
    site = echo(bed)
    target = "/a%2Fb/../c?q=%20x&y=a+b"
    site.tarry.request("PUT", target, [("Host", "site.example:81"), ("Cookie", "a=b; c=d"), ("Authorization", "Basic eA=="),
                                       ("Accept-Encoding", "gzip"), ("X-Twice", "1"), ("X-Twice", "2"),
                                       ("Content-Type", "text/plain")], b"the body")
    r = site.worker.request
    assert (r.method, r.target, r.body) == ("PUT", target, b"the body")
    assert r.headers.get("Host") == "site.example:81"
    assert r.headers.get("Cookie") == "a=b; c=d"
    assert r.headers.get("Authorization") == "Basic eA=="
    assert r.headers.get("Accept-Encoding") == "gzip"
    assert r.headers.get("Content-Type") == "text/plain"
    assert ", ".join(r.headers.all("X-Twice")) == "1, 2"


def test_hop_by_hop_headers_stay_behind(bed):
    site = echo(bed)
    site.tarry.get("/", [("Connection", "keep-alive, X-Private"), ("X-Private", "p"), ("Keep-Alive", "timeout=5"),
                         ("TE", "trailers"), ("Proxy-Connection", "keep-alive"), ("Upgrade", "h2c"), ("X-Kept", "k")])
    names = site.worker.request.headers.names()
    assert "x-kept" in names
    assert not set(names) & {"x-private", "keep-alive", "te", "proxy-connection", "upgrade"}


def test_a_chunked_upload_reaches_the_worker_with_a_length(bed):
    site = echo(bed)
    assert site.tarry.request("POST", "/", chunks=[b"abc", b"defg"]).status == 200
    r = site.worker.request
    assert (r.framing, r.body) == ("length", b"abcdefg")


def test_forwarding_headers_from_outside_are_replaced(bed):
    site = echo(bed)
    site.tarry.get("/", [("Host", "real.example"), ("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "https"),
                         ("X-Forwarded-Host", "evil.example"), ("X_Forwarded_For", "7.7.7.7")])
    h = site.worker.request.headers
    assert h.get("X-Forwarded-For") == "127.0.0.1"
    assert h.get("X-Forwarded-Proto") == "http"
    assert h.get("X-Forwarded-Host") == "real.example"
    head = site.worker.request.raw_head
    assert b"6.6.6.6" not in head and b"7.7.7.7" not in head and b"evil" not in head


def test_forwarding_headers_of_a_trusted_peer_are_believed(bed):
    site = echo(bed, top={"trusted_proxies": ["127.0.0.1/32"]})
    site.tarry.get("/", [("Host", "inner"), ("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https"),
                         ("X-Forwarded-Host", "outer.example")])
    h = site.worker.request.headers
    assert h.get("X-Forwarded-For").split(",")[0].strip() == "203.0.113.9"
    assert h.get("X-Forwarded-Proto") == "https"
    assert h.get("X-Forwarded-Host") == "outer.example"


def test_request_id_is_made_or_kept(bed):
    site = echo(bed)
    site.tarry.get("/")
    site.tarry.get("/", {"X-Request-Id": "given-1"})
    made, kept = (r.headers.get("X-Request-Id") for r in site.worker.requests)
    assert made and kept == "given-1"


def test_traceparent_is_carried_on(bed):
    site = echo(bed)
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    site.tarry.get("/", {"traceparent": trace, "tracestate": "a=1"})
    h = site.worker.request.headers
    assert h.get("traceparent").split("-")[1] == trace.split("-")[1] and h.get("tracestate") == "a=1"


# --- buffering ---

def test_a_slow_upload_holds_no_worker(bed):
    site = echo(bed, slots=1)
    body = bytes(range(256)) * 4096  # 1 MiB: past what stays in memory
    with site.tarry.client() as slow:
        slow.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:-1])
        assert site.tarry.get("/fast").status == 200
        assert [r.target for r in site.worker.requests] == ["/fast"]
        slow.send(body[-1:])
        assert slow.read_response().status == 200
    assert site.worker.wait_for(1, lambda r: r.target == "/slow").body == body


def test_a_slow_download_holds_no_worker(bed):
    big = bytes(range(256)) * 4 * 8192  # 8 MiB: more than the sockets hold
    site = bed.site(lambda r, c: Reply(200, big) if r.target == "/big" else OK, slots=1)
    with Client(site.tarry.address, receive_buffer=8192) as slow:
        slow.send_request("GET", "/big")
        site.worker.wait_for(1)
        site.worker.wait_idle()
        assert site.tarry.get("/fast").status == 200
        assert slow.read_response().body == big


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_streaming_response_arrives_as_it_is_written(bed, framing):
    def stream(r, c):
        c.send_head(framing=framing)
        for i, gate in enumerate(gates):
            piece = f"piece {i}\n"
            c.send_chunk(piece) if framing == "chunked" else c.send(piece)
            gate.wait()
        if framing == "chunked":
            c.end_chunks()
        else:
            c.close()
    gates = [Gate() for _ in range(3)]
    site = bed.site(stream)
    with site.tarry.client() as c:
        c.send_request()
        response = c.begin()
        for i, gate in enumerate(gates):
            response.until(f"piece {i}\n".encode())
            gate.open()
        assert response.read() == b"piece 0\npiece 1\npiece 2\n"


# --- hop 0 is delivered once ---

def dying_pair(bed, **pool):
    def die(r, c):
        c.reset()
    workers = [bed.worker(die), bed.worker(die)]
    conf = bed.conf(workers)
    conf.pool.update(pool)
    return workers, bed.tarry(conf)


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_hop_0_is_never_sent_to_a_second_worker(bed, method):
    workers, tarry = dying_pair(bed)
    assert tarry.request(method, "/", body=b"x" if method == "POST" else None).status == 502
    assert sum(len(w.requests) for w in workers) == 1


def test_an_idempotent_request_goes_to_another_worker_if_the_conf_allows(bed):
    workers, tarry = dying_pair(bed, retry_idempotent=True)
    assert tarry.get("/").status == 502
    assert sum(len(w.requests) for w in workers) == 2
    assert not any("Tarry-Attempt" in r.headers for w in workers for r in w.requests)  # it counts deliveries of later hops
    assert tarry.post("/", b"x").status == 502
    assert sum(len(w.requests) for w in workers) == 3


def test_a_worker_that_refuses_is_passed_over(bed):
    dead, alive = bed.worker(), bed.worker()
    dead.refuse()
    tarry = bed.tarry(bed.conf([dead, alive]))
    for _ in range(6):
        assert tarry.post("/", b"x").status == 200
    assert len(alive.requests) == 6


def test_an_idle_connection_that_the_worker_closed_fails_no_request(bed):
    """The close may cross the next request: nothing of it was processed, so it goes out on a fresh connection."""
    site = echo(bed)
    with site.tarry.client() as c:
        for i in range(20):
            assert c.request("POST", f"/{i}", body=b"x").status == 200
            site.worker.conns[-1].close()
    assert [r.target for r in site.worker.requests] == [f"/{i}" for i in range(20)]


def test_keep_alive_connections_to_a_worker_are_used_again(bed):
    site = echo(bed)
    for _ in range(10):
        assert site.tarry.get("/").status == 200
    assert len(site.worker.conns) == 1


def test_one_connection_a_request_where_the_worker_wants_it(bed):
    site = bed.site(bed.unix_worker(lambda r, c: OK, keep_alive=False))
    with site.tarry.client() as c:
        for _ in range(10):
            assert c.request().body == b"ok"
    assert len(site.worker.conns) == 10


def test_slots_bound_the_requests_at_once(bed):
    gate = Gate()

    def hold(r, c):
        gate.wait()
        return OK
    site = bed.site(hold, slots=3)
    tasks = [bed.background(site.tarry.get, f"/{i}") for i in range(12)]
    site.worker.wait_for(3)
    gate.open()
    assert [t.result().status for t in tasks] == [200] * 12
    assert site.worker.peak == 3


def test_the_least_busy_server_is_taken_first(bed):
    gate = Gate()

    def hold(r, c):
        gate.wait()
        return OK
    workers = [bed.worker(hold), bed.worker(hold)]
    tarry = bed.tarry(bed.conf(workers, slots=5))
    tasks = [bed.background(tarry.get, "/") for _ in range(6)]
    eventually(lambda: sum(w.active for w in workers) == 6)
    assert [w.active for w in workers] == [3, 3]
    gate.open()
    assert [t.result().status for t in tasks] == [200] * 6


def test_a_server_that_closes_without_saying_so_gets_each_request_on_a_connection_of_its_own(bed):
    """RFC 9112 9.6 wants "Connection: close"; uWSGI's http-socket leaves it out. A request that crosses the close is lost, so at
    most the first ones may be."""
    site = bed.site(lambda r, c: Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), slots=1)
    assert site.tarry.post("/", b"first").status == 200
    site.tarry.wait_log("without \"Connection: close\"")
    running = [bed.background(site.tarry.post, "/", b"x" * 100) for _ in range(30)]
    assert [one.result().status for one in running] == [200] * 30
    assert len(site.worker.conns) == 31 and sum("Connection: close" in line for line in site.tarry.lines) == 1


def test_a_server_that_closes_at_once_is_learned_of_by_its_failures_too(bed):
    site = bed.site(lambda r, c: Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), slots=1)
    running = [bed.background(site.tarry.post, "/", b"x" * 100) for _ in range(30)]
    statuses = [one.result().status for one in running]
    assert set(statuses) <= {200, 502} and statuses.count(502) <= 1
    site.tarry.wait_log("without \"Connection: close\"")
