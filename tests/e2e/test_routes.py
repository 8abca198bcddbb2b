"""Routes, the queue of a pool, and gateway routes."""

import json
import signal
import time

import pytest

from harness import Gate, Raw, Reply, Truncated, by_kind, call, eventually, handoff, problem

OK = Reply(200, b"ok")


def named(bed, *names):
    """One worker a name, that answers with its name."""
    return {name: bed.worker(lambda r, c, name=name: Reply(200, name)) for name in names}


def site(bed, workers, routes):
    """A pool for each worker; routes are (prefix, pool) or (prefix, pool, options)."""
    conf = bed.conf([])
    conf.pools = {name: ({}, {w.address: {}}) for name, w in workers.items()}
    conf.routes = [(prefix, dict({"workers": pool}, **(more[0] if more else {}))) for prefix, pool, *more in routes]
    return bed.tarry(conf)


# --- which route ---

@pytest.mark.parametrize("order", [1, -1])
def test_the_longest_prefix_wins_whatever_the_order(bed, order):
    tarry = site(bed, named(bed, "root", "a", "ab", "abc"), [("/", "root"), ("/a/", "a"), ("/a/b", "ab"), ("/a/b/c/", "abc")][::order])
    for target, name in {"/": "root", "/a": "root", "/a/": "a", "/a/x": "a", "/a/b": "ab", "/a/bc": "ab", "/a/b/": "ab", "/a/b/c": "ab",
                         "/a/b/c/": "abc", "/a/b/c/d?x": "abc", "/A/": "root", "/a/?/a/b/c/": "a", "/x/a/b/c/": "root"}.items():
        assert (target, tarry.get(target).text) == (target, name)


def test_the_normalised_path_is_matched_and_the_target_forwarded(bed):
    workers = {name: bed.worker(lambda r, c, name=name: Reply(200, f"{name} {r.target}")) for name in ("root", "a")}
    tarry = site(bed, workers, [("/", "root"), ("/a/", "a")])
    for target, name in {"/%61/x": "a", "/b/../a/x": "a", "//a//x": "a", "/a/../x": "root", "/%2561/x": "root", "/./a/": "a"}.items():
        assert tarry.get(target).text == f"{name} {target}"


def test_routes_of_the_host_are_looked_at_first(bed):
    tarry = site(bed, named(bed, "any", "anylong", "one", "onelong", "two"),
                 [("/", "any"), ("/long/", "anylong"), ("/", "one", {"host": "one.example"}), ("/x/long/", "onelong", {"host": "one.example"}),
                  ("/only/", "two", {"host": "two.example"})])
    for host, target, name in [
            ("one.example", "/", "one"), ("one.example", "/long/x", "one"), ("one.example", "/x/long/", "onelong"), ("ONE.Example", "/", "one"),
            ("one.example:8080", "/", "one"), ("other.example", "/", "any"), ("other.example", "/long/x", "anylong"),
            ("two.example", "/only/x", "two"), ("two.example", "/", "any"), ("two.example", "/long/", "anylong"), ("sub.one.example", "/", "any"),
            ("one.example.", "/", "any")]:
        got = tarry.get(target, {"Host": host}).text
        assert (host, target, got) == (host, target, name) or host == "one.example." and got == "one"


def test_the_host_of_an_absolute_target_counts(bed):
    tarry = site(bed, named(bed, "any", "one"), [("/", "any"), ("/", "one", {"host": "one.example"})])
    assert tarry.get("http://one.example/x", {"Host": "one.example"}).text == "one"
    assert tarry.get("http://other.example/x", {"Host": "other.example"}).text == "any"


def test_an_http_1_0_request_without_a_host_takes_routes_without_one(bed):
    tarry = site(bed, named(bed, "any", "one"), [("/", "any"), ("/", "one", {"host": "one.example"})])
    with tarry.client() as c:
        c.send(b"GET / HTTP/1.0\r\n\r\n")
        assert c.read_response().text == "any"


def test_a_host_without_a_route_is_a_404(bed):
    tarry = site(bed, named(bed, "one"), [("/", "one", {"host": "one.example"})])
    problem(tarry.get("/", {"Host": "other.example"}), 404, "destination_not_found")
    assert tarry.get("/", {"Host": "one.example"}).text == "one"


def test_an_internal_route_is_open_to_resumes_replays_and_notifies_only(bed):
    upstream = bed.upstream()

    def start(r, c):
        if r.target == "/resume":
            return handoff("resume /internal/x", [call(upstream.origin)])
        return handoff("relay", [call(upstream.origin)], notify="/internal/n")
    worker = bed.worker(by_kind(request=start, resume=Reply(200, b"resumed")))
    conf = bed.conf(worker, upstream)
    conf.routes = [("/", {"workers": "app"}), ("/internal/", {"workers": "app", "internal": True}),
                   ("/internal/public/", {"workers": "app"})]
    tarry = bed.tarry(conf)
    for method in ("GET", "POST", "HEAD", "OPTIONS"):
        assert tarry.request(method, "/internal/x", {"Tarry-Kind": "resume"}).status == 404
    assert worker.requests == []
    assert tarry.get("/resume").body == b"resumed" and tarry.get("/relay").body == b"ok"
    worker.wait_for(1, lambda r: r.kind == "notify")
    assert [r.target for r in worker.requests if r.kind != "request"] == ["/internal/x", "/internal/n"]
    assert tarry.get("/internal/public/x").status == 200


def test_resume_and_notify_stay_on_their_pool_whatever_the_routes_say(bed):
    """PATH is on the same worker pool; a route to another pool does not redirect it."""
    upstream = bed.upstream()
    app = bed.worker(by_kind(request=lambda r, c: handoff("resume /other/x", [call(upstream.origin)]), resume=Reply(200, b"app")))
    other = bed.worker(lambda r, c: Reply(200, b"other"))
    conf = bed.conf(app, upstream)
    conf.pools["other"] = ({}, {other.address: {}})
    conf.routes.append(("/other/", {"workers": "other"}))
    tarry = bed.tarry(conf)
    assert tarry.get("/").body == b"app" and other.requests == []
    assert tarry.get("/other/x").body == b"other"


# --- the queue ---

def held(bed, slots=1, n=1, **pool):
    """A pool whose slots are taken by requests that wait for the gate."""
    gate = Gate()
    worker = bed.worker(lambda r, c: (gate.wait(), Reply(200, r.target))[1])
    conf = bed.conf(worker, slots=slots)
    conf.pool.update(pool)
    tarry = bed.tarry(conf)
    tasks = [bed.background(tarry.get, f"/held{i}") for i in range(slots)]
    worker.wait_for(slots)
    return gate, worker, tarry, tasks


def queued(tarry, n):
    eventually(lambda: sum("-> queued" in line for line in tarry.lines) >= n, f"{n} queued requests")


def test_queue_max_bounds_the_queue(bed):
    gate, worker, tarry, tasks = held(bed, queue_max=3)
    tasks += [bed.background(tarry.get, f"/waits{i}") for i in range(3)]
    queued(tarry, 4)
    for _ in range(3):
        got = tarry.get("/over")
        problem(got, 503, "connection_limit_reached")
        assert int(got.headers.get("Retry-After")) >= 1
    gate.open()
    assert [t.result().status for t in tasks] == [200] * 4
    assert "/over" not in [r.target for r in worker.requests]
    assert tarry.get("/after").status == 200


def test_queue_max_0_queues_nobody(bed):
    gate, worker, tarry, tasks = held(bed, queue_max=0)
    problem(tarry.get("/over"), 503, "connection_limit_reached")
    gate.open()
    assert tasks[0].result().status == 200
    assert [tarry.get("/").status for _ in range(5)] == [200] * 5


def test_a_burst_that_free_slots_can_take_is_no_queue(bed):
    """However many come at the same moment: queue_max is for those that find every slot taken."""
    site = bed.site(lambda r, c: Reply(200, r.target), slots=20, pool={"queue_max": 2})
    clients = [site.tarry.client() for _ in range(20)]
    site.tarry.signal(signal.SIGSTOP)
    for i, c in enumerate(clients):
        c.send_request("GET", f"/{i}")
    site.tarry.signal(signal.SIGCONT)
    assert [c.read_response().body for c in clients] == [b"/%d" % i for i in range(20)]


def test_queue_timeout_bounds_the_wait(bed):
    gate, worker, tarry, tasks = held(bed, queue_timeout="200ms")
    got = tarry.get("/waits")
    problem(got, 503, "connection_limit_reached")
    assert int(got.headers.get("Retry-After")) >= 1
    gate.open()
    tasks[0].result()
    assert [r.target for r in worker.requests] == ["/held0"]
    assert tarry.get("/after").status == 200


def test_who_waits_is_served_in_the_order_of_coming(bed):
    gate, worker, tarry, tasks = held(bed)
    for i in range(6):
        tasks.append(bed.background(tarry.get, f"/{i}"))
        queued(tarry, i + 2)
    gate.open()
    for t in tasks:
        t.result()
    assert [r.target for r in worker.requests] == ["/held0"] + [f"/{i}" for i in range(6)]


@pytest.mark.parametrize("leave", ["close", "reset", "half_close"])
def test_a_client_that_leaves_while_it_waits_never_reaches_a_worker(bed, leave):
    gate, worker, tarry, tasks = held(bed)
    c = tarry.client()
    c.send_request("GET", "/leaves")
    queued(tarry, 2)
    getattr(c, leave)()
    line = tarry.access.wait_for(lambda line: line["path"] == "/leaves")
    assert line["end"] == "client_gone" and line["hops"] == 0
    gate.open()
    tasks[0].result()
    assert tarry.get("/after").status == 200
    assert [r.target for r in worker.requests] == ["/held0", "/after"]
    c.close()


def test_one_that_left_makes_room_in_the_queue(bed):
    gate, worker, tarry, tasks = held(bed, queue_max=1)
    c = tarry.client()
    c.send_request("GET", "/leaves")
    queued(tarry, 2)
    problem(tarry.get("/over"), 503, "connection_limit_reached")
    c.reset()
    tarry.access.wait_for(lambda line: line["path"] == "/leaves")
    tasks.append(bed.background(tarry.get, "/waits"))
    queued(tarry, 3)
    gate.open()
    assert [t.result().status for t in tasks] == [200, 200]


def test_the_least_busy_server_is_taken_by_its_share_of_slots(bed):
    gate = Gate()
    small, large = (bed.worker(lambda r, c: (gate.wait(), OK)[1]) for _ in range(2))
    conf = bed.conf([])
    conf.servers = {small.address: {"slots": 2}, large.address: {"slots": 6}}
    conf.routes = [("/", {"workers": "app"})]
    tarry = bed.tarry(conf)
    tasks = [bed.background(tarry.get, "/") for _ in range(4)]
    eventually(lambda: small.active + large.active == 4)
    assert (small.active, large.active) == (1, 3)
    tasks += [bed.background(tarry.get, "/") for _ in range(8)]
    eventually(lambda: small.active + large.active == 8)
    assert (small.active, large.active) == (2, 6)
    gate.open()
    assert [t.result().status for t in tasks] == [200] * 12
    assert small.peak <= 2 and large.peak <= 6


def test_a_server_that_refuses_is_left_alone_while_another_serves(bed):
    dead, alive = bed.worker(), bed.worker()
    dead.refuse()
    tarry = bed.tarry(bed.conf([dead, alive]))
    for _ in range(200):
        assert tarry.get("/").status == 200
    tried = sum("cannot connect" in line for line in tarry.lines)
    assert 1 <= tried < 50, tried
    dead.listen()
    eventually(lambda: tarry.get("/").status == 200 and dead.requests, "the server is used again once it is back")


def test_no_request_fails_while_a_server_restarts(bed):
    """As at a deploy of one of two backends. A listening socket that closes resets what waits in its backlog: nobody can tell
    whether that was read, so only requests that may be repeated can all be saved."""
    workers = [bed.worker(), bed.worker()]
    conf = bed.conf(workers)
    conf.pool["retry_idempotent"] = True
    tarry = bed.tarry(conf)
    results = []
    stop = time.monotonic() + 1.5
    task = bed.background(lambda: [results.append(tarry.get("/").status) for _ in iter(lambda: time.monotonic() < stop, False)])
    for w in workers * 2:
        w.refuse()
        time.sleep(0.1)
        w.listen()
        time.sleep(0.1)
    task.result()
    assert len(results) > 20 and set(results) == {200}


@pytest.mark.parametrize("unix", [False, True])
def test_a_pool_whose_only_server_is_down_is_a_502_and_then_back(bed, unix):
    worker = bed.unix_worker() if unix else bed.worker()
    tarry = bed.tarry(bed.conf(worker))
    assert tarry.get("/").status == 200
    worker.refuse()
    for c in worker.conns:
        c.close()
    problem(tarry.get("/"), 502, "connection_refused")
    worker.listen()
    assert tarry.get("/").status == 200


def test_a_full_backlog_of_a_unix_socket_is_waited_for(bed):
    """connect() says EAGAIN at once there: no failure, the server is only busy."""
    gate = Gate()
    worker = bed.unix_worker(lambda r, c: (gate.wait(), OK)[1], backlog=0, keep_alive=False)
    conf = bed.conf(worker, slots=20)
    tarry = bed.tarry(conf)
    tasks = [bed.background(tarry.get, f"/{i}") for i in range(20)]
    worker.wait_for(1)
    gate.open()
    assert [t.result().status for t in tasks] == [200] * 20


def test_resumes_go_ahead_and_are_not_bounded_by_queue_max(bed):
    gates = [Gate(), Gate()]
    upstream = bed.upstream(lambda r, c: (gates[0].wait(), b"x")[1])

    def work(r, c):
        if r.kind == "resume":
            return Reply(200, b"resumed")
        if r.target == "/park":
            return handoff("resume /x", [call(upstream.origin)])
        gates[1].wait()
        return OK
    worker = bed.worker(work)
    conf = bed.conf(worker, upstream, slots=1)
    conf.pool["queue_max"] = 2
    tarry = bed.tarry(conf)
    parked = [bed.background(tarry.get, "/park") for _ in range(2)]
    upstream.wait_for(2)
    parked += [bed.background(tarry.get, "/park") for _ in range(2)]
    upstream.wait_for(4)
    slow = [bed.background(tarry.get, "/slow")]
    worker.wait_for(1, lambda r: r.target == "/slow")
    slow += [bed.background(tarry.get, f"/new{i}") for i in range(2)]
    queued(tarry, 7)
    gates[0].open()
    queued(tarry, 11)
    gates[1].open()
    assert [t.result().body for t in parked] == [b"resumed"] * 4
    assert [t.result().status for t in slow] == [200] * 3
    assert [r.kind for r in worker.requests[5:]] == ["resume"] * 4 + ["request"] * 2


# --- gateway routes ---

def gateway(bed, answer, up=None, top=None):
    upstream = answer if hasattr(answer, "origin") else bed.upstream(answer)
    conf = bed.conf([], upstream)
    conf.routes = [("/v1/", {"upstream": "up"}), ("/gateway/", {"upstream": "up"})]
    conf.up.update(up or {})
    conf.top.update(top or {})
    return upstream, bed.tarry(conf)


def test_gateway_passes_the_request_on(bed):
    upstream, tarry = gateway(bed, lambda r, c: OK)
    assert tarry.request("PUT", "/v1/a%2Fb?c=d", [("Authorization", "Bearer mine"), ("Accept", "text/event-stream"), ("X-Twice", "1"), ("X-Twice", "2"),
                                                  ("Content-Type", "application/json")], b'{"a": 1}').status == 200
    r = upstream.request
    assert (r.method, r.target, r.body) == ("PUT", "/v1/a%2Fb?c=d", b'{"a": 1}') and r.headers.get("Host") == upstream.address
    assert r.headers.get("Authorization") == "Bearer mine" and r.headers.get("Accept") == "text/event-stream"
    assert r.headers.all("X-Twice") in (["1", "2"], ["1, 2"]) and r.headers.get("Content-Type") == "application/json"


def test_gateway_keeps_cookies_tarry_headers_and_hop_by_hop_ones_back(bed):
    upstream, tarry = gateway(bed, lambda r, c: OK)
    tarry.get("/v1/x", [("Cookie", "session=1"), ("Tarry-Kind", "resume"), ("tarry_x", "1"), ("Connection", "keep-alive, X-Hop"), ("X-Hop", "1"),
                        ("TE", "trailers"), ("Upgrade", "h2c"), ("Keep-Alive", "5"), ("Proxy-Authorization", "Basic eA=="), ("X-Kept", "1")])
    names = upstream.request.headers.names()
    assert "x-kept" in names
    assert not set(names) & {"cookie", "tarry-kind", "tarry_x", "x-hop", "te", "upgrade", "keep-alive", "proxy-authorization"}
    assert not [n for n in names if n.startswith("tarry")]


def test_gateway_sets_the_conf_s_headers_in_place_of_the_client_s(bed):
    upstream, tarry = gateway(bed, lambda r, c: OK, up={"set_header": ["Authorization: Bearer ours", "X-New: n"]})
    tarry.get("/v1/x", [("AUTHORIZATION", "Bearer theirs")])
    h = upstream.request.headers
    assert h.all("Authorization") == ["Bearer ours"] and h.get("X-New") == "n"


def test_gateway_passes_the_response_on_with_all_its_end_to_end_headers(bed):
    fields = [("Content-Type", "text/x"), ("X-Request-Id", "r1"), ("Openai-Processing-Ms", "5"), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d"),
              ("Server", "theirs"), ("Connection", "X-Hop, keep-alive"), ("X-Hop", "1"), ("Keep-Alive", "timeout=5"), ("Tarry-State", "forged")]
    upstream, tarry = gateway(bed, lambda r, c: Reply(201, b"made", fields, reason="Created"))
    got = tarry.get("/v1/x")
    assert got.status == 201 and got.body == b"made" and got.headers.get("X-Request-Id") == "r1"
    assert got.headers.get("Openai-Processing-Ms") == "5" and got.headers.all("Set-Cookie") == ["a=b", "c=d"]
    assert not {"x-hop", "keep-alive", "tarry-state"} & set(got.headers.names())


@pytest.mark.parametrize("status", [200, 204, 301, 304, 400, 404])
def test_gateway_passes_any_status_on(bed, status):
    upstream, tarry = gateway(bed, lambda r, c: Reply(status, b"" if status in (204, 304) else b"body", framing="none" if status in (204, 304) else "length"))
    with tarry.client() as c:
        for _ in range(2):
            assert c.request("GET", "/v1/x").status == status


def test_gateway_streams(bed):
    gates = [Gate() for _ in range(3)]

    def stream(r, c):
        c.send_head(headers={"Content-Type": "text/event-stream"})
        for i, gate in enumerate(gates):
            c.send_chunk(f"data: {i}\n\n")
            gate.wait()
        c.end_chunks()
    upstream, tarry = gateway(bed, stream)
    with tarry.client() as c:
        c.send_request("GET", "/v1/x")
        got = c.begin()
        for i, gate in enumerate(gates):
            got.until(f"data: {i}\n\n".encode())
            gate.open()
        got.read()


@pytest.mark.parametrize("size", [0, 1, 65537, 3 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_gateway_passes_bodies_of_any_size(bed, size, chunked):
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    upstream, tarry = gateway(bed, lambda r, c: Reply(200, r.body[::-1]))
    with tarry.client() as c:
        c.send_request("POST", "/v1/x", **({"chunks": [body[i:i + 60000] for i in range(0, size, 60000)]} if chunked else {"body": body}))
        assert c.read_response().body == body[::-1]
    assert upstream.request.headers.get("Content-Length") == str(size)


def test_gateway_answers_HEAD(bed):
    upstream, tarry = gateway(bed, lambda r, c: Reply(200, b"12345"))
    with tarry.client() as c:
        got = c.request("HEAD", "/v1/x")
        assert got.status == 200 and got.headers.get("Content-Length") == "5"
        assert c.request("GET", "/v1/x").body == b"12345"


def test_gateway_tries_again_as_calls_do(bed):
    answers = iter([Reply(503, b"no", {"Retry-After": "0"}), Reply(429, b"no", {"retry-after-ms": "10"}), OK])
    upstream, tarry = gateway(bed, lambda r, c: next(answers), up={"retries": 2})
    assert tarry.post("/v1/x", b"{}").body == b"ok"
    assert [r.body for r in upstream.requests] == [b"{}"] * 3


@pytest.mark.parametrize("what, status, error", [("refuse", 502, "connection_refused"), ("reset", 502, "connection_terminated"),
                                                 ("garbage", 502, "http_protocol_error"), ("close", 502, "http_response_incomplete"),
                                                 ("slow", 504, "http_response_timeout")])
def test_gateway_failures(bed, what, status, error):
    def fail(r, c):
        if what == "garbage":
            return Raw(b"nonsense\r\n\r\n")
        if what == "slow":
            c.wait_closed()
        getattr(c, what if what in ("reset", "close") else "close")()
    upstream, tarry = gateway(bed, fail, up={"retries": 0, "first_byte_timeout": "200ms"})
    if what == "refuse":
        upstream.refuse()
    problem(tarry.get("/gateway/x"), status, error)


def test_gateway_breaks_off_visibly(bed):
    def half(r, c):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
        c.close()
    upstream, tarry = gateway(bed, half, up={"retries": 0})
    with tarry.client() as c:
        c.send_request("GET", "/v1/x")
        try:
            got = c.read_response()
        except Truncated as e:
            assert e.so_far in (b"", b"part")
        else:
            problem(got, 502, "http_response_incomplete")


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_gateway_cancels_when_the_client_goes(bed, leave):
    gone = []
    upstream, tarry = gateway(bed, lambda r, c: gone.append(c.wait_closed()))
    c = tarry.client()
    c.send_request("GET", "/v1/x")
    upstream.wait_for(1)
    getattr(c, leave)()
    eventually(lambda: gone, "the upstream to see it")
    assert tarry.access.wait_for()["end"] == "client_gone"


def test_gateway_does_not_take_a_handoff(bed):
    inner = bed.upstream()
    upstream, tarry = gateway(bed, lambda r, c: handoff("relay", [call(inner.origin)]))
    got = tarry.get("/v1/x")
    assert got.status == 200 and b"GET " in got.body and "Tarry-Then" not in got.headers and inner.requests == []


def test_gateway_over_http2(bed):
    upstream = bed.h2_upstream(lambda s: Reply(200, s.body, {"x-path": s.target, "content-type": "text/plain"}))
    upstream, tarry = gateway(bed, upstream)
    with tarry.client() as c:
        for i in range(3):
            got = c.request("POST", f"/v1/{i}", {"Cookie": "a=b", "X-Kept": "k"}, b"body")
            assert got.body == b"body" and got.headers.get("x-path") == f"/v1/{i}"
    assert len(upstream.conns) == 1 and all("cookie" not in r.headers and r.headers.get("x-kept") == "k" for r in upstream.requests)


def test_gateway_is_in_the_access_log(bed):
    upstream, tarry = gateway(bed, lambda r, c: OK)
    tarry.post("/v1/x", b"12345")
    line = tarry.access.wait_for()
    assert (line["status"], line["hops"], line["calls"], line["bytes_in"], line["bytes_out"], line["upstream"]) == (200, 0, 1, 5, 2, "up")


def test_gateway_and_workers_side_by_side(bed):
    upstream = bed.upstream(lambda r, c: Reply(200, b"upstream"))
    conf = bed.conf(bed.worker(lambda r, c: Reply(200, json.dumps(r.target))), upstream)
    conf.routes += [("/v1/", {"upstream": "up"}), ("/", {"upstream": "up", "host": "llm.example"})]
    tarry = bed.tarry(conf)
    with tarry.client() as c:
        for _ in range(3):
            assert c.request("GET", "/x").json() == "/x"
            assert c.request("GET", "/v1/x").body == b"upstream"
            assert c.request("GET", "/x", {"Host": "llm.example"}).body == b"upstream"


@pytest.mark.parametrize("target", ["//x/internal/secret", "//x//internal/secret", "//internal/secret", "//x/%69nternal/secret",
                                    "//x/a/../internal/secret"])
def test_an_internal_route_is_none_behind_a_host_in_the_path(bed, target):
    """A backend may take //x/internal/ for a reference with a host (RFC 3986 4.2) and serve /internal/."""
    worker = bed.worker(lambda r, c: Reply(200, b"secret"))
    conf = bed.conf(worker)
    conf.routes = [("/", {"workers": "app"}), ("/internal/", {"workers": "app", "internal": True})]
    problem(bed.tarry(conf).get(target), 404, "destination_not_found")
    assert worker.requests == []
