"""docs/handoff.md: time, sizes and hops."""

import pytest

from harness import Gate, Moments, Reply, by_kind, call, eventually, handoff, problem

DONE = Reply(200, b"done")


def answers(r, c):
    """A resume's answer that tells what was enclosed."""
    return Reply(200, " ".join(f"{a.status} {a.error} {a.attempts}" for a in r.enclosed))


def site_for(bed, upstream, up=None, resume=answers, pool=None, n=1, **call_args):
    upstream = upstream if hasattr(upstream, "origin") else bed.upstream(upstream)
    worker = bed.worker(by_kind(
        request=lambda r, c: handoff("resume /x", [call(f"{upstream.origin}/{i}", **call_args) for i in range(n)]), resume=resume))
    return bed.site(worker, upstream, up=up, pool=pool)


def silence(r, c):
    c.wait_closed()


# --- sizes ---

@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 5 << 20])
def test_calls_and_answers_of_any_size_are_whole(bed, size):
    """In memory up to 64 KiB, then in a file: nobody can see the difference."""
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    site = site_for(bed, lambda r, c: Reply(200, r.body[::-1]), body=body, method="POST",
                    resume=lambda r, c: Reply(200, r.enclosed[0].body))
    assert site.tarry.get("/").body == body[::-1]


def test_bodies_in_files_leave_nothing_behind(bed):
    big = b"x" * (2 << 20)
    spool = bed.folder / "spool"
    spool.mkdir()
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(up.origin, big)]), resume=lambda r, c: Reply(200, big)))
    up = bed.upstream(lambda r, c: Reply(200, big))
    site = bed.site(worker, up, top={"temp_dir": str(spool)})
    assert site.tarry.post("/", big).body == big
    before = site.tarry.descriptors()
    for _ in range(3):
        assert site.tarry.post("/", big).body == big
    assert list(spool.iterdir()) == []
    eventually(lambda: site.tarry.descriptors() <= before, "descriptors to be closed")


@pytest.mark.parametrize("size, status", [(65536, 200), (65537, 502)])
def test_response_max_is_the_last_size_that_passes(bed, size, status):
    site = site_for(bed, lambda r, c: Reply(200, b"x" * size), up={"response_max": "64K", "retries": 0})
    assert site.tarry.get("/").text.startswith(str(status))


# --- timeouts towards the upstream ---

def test_first_byte_timeout(bed):
    site = site_for(bed, silence, up={"first_byte_timeout": "300ms", "retries": 0})
    assert site.tarry.get("/").text == "504 http_response_timeout 1"


def test_a_slow_first_byte_is_awaited(bed):
    """The time between bytes does not count before the first one."""
    gate = Gate()
    site = site_for(bed, lambda r, c: (gate.wait(), b"x")[1], up={"idle_timeout": "200ms", "first_byte_timeout": "20s"})
    task = bed.background(site.tarry.get, "/")
    site.upstream.wait_for(1)
    # Longer than the idle timeout by any clock: another call runs into that one meanwhile.
    other = site_for_stall(bed)
    assert other.tarry.get("/").text.startswith("504")
    assert task.running
    gate.open()
    assert task.result().text == "200 None 1"


def site_for_stall(bed):
    def stall(r, c):
        c.send_head()
        c.send_chunk("x")
        c.wait_closed()
    return site_for(bed.another(), stall, up={"idle_timeout": "400ms", "first_byte_timeout": "20s", "retries": 0})


def test_idle_timeout_between_bytes(bed):
    def stall(r, c):
        c.send_head()
        c.send_chunk("x")
        c.wait_closed()
    site = site_for(bed, stall, up={"idle_timeout": "300ms", "retries": 0})
    assert site.tarry.get("/").text == "504 http_response_timeout 1"


def test_total_timeout_ends_a_trickle(bed):
    def trickle(r, c):
        c.send_head()
        while not c.server.stopping.wait(0.05):
            c.send_chunk("x")
    site = site_for(bed, trickle, up={"total_timeout": "600ms", "idle_timeout": "5s", "retries": 0})
    assert site.tarry.get("/").text.startswith("504 ")


def test_connect_timeout(bed):
    site = site_for(bed, bed.black_hole(), up={"connect_timeout": "300ms", "retries": 0})
    assert site.tarry.get("/").text == "504 connection_timeout 1"


def test_a_tls_handshake_that_never_ends_is_a_connect_timeout(bed):
    hole = bed.upstream(silence)
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(f"https://{hole.address}/")]), resume=answers))
    conf = bed.conf(worker, f"https://{hole.address}")
    conf.up.update(connect_timeout="300ms", retries=0)
    hole.handler = silence
    hole.read_body = False
    assert bed.tarry(conf).get("/").text == "504 connection_timeout 1"


# --- time in the pool ---

def test_a_request_that_waits_too_long_for_a_worker_gets_503(bed):
    gate = Gate()
    site = bed.site(lambda r, c: (gate.wait(), DONE)[1], slots=1, pool={"queue_timeout": "300ms"})
    task = bed.background(site.tarry.get, "/first")
    site.worker.wait_for(1)
    got = site.tarry.get("/second")
    problem(got, 503, "connection_limit_reached")
    assert int(got.headers.get("Retry-After")) >= 1
    gate.open()
    assert task.result().status == 200
    assert [r.path for r in site.worker.requests] == ["/first"]


def test_response_timeout_of_a_worker(bed):
    site = bed.site(silence, pool={"response_timeout": "300ms"})
    problem(site.tarry.get("/"), 504, "http_response_timeout")


def test_connect_timeout_of_a_worker(bed):
    hole = bed.black_hole()
    tarry = bed.tarry(conf_with(bed, hole.address, connect_timeout="300ms"))
    got = tarry.get("/")
    assert got.status in (502, 504) and b"connection_" in got.body


def conf_with(bed, server, **pool):
    conf = bed.conf([server])
    conf.pool.update(pool)
    return conf


def test_parked_time_is_no_worker_s_time(bed):
    """A call may take far longer than response_timeout and queue_timeout."""
    gate = Gate()
    site = site_for(bed, lambda r, c: (gate.wait(), b"x")[1], pool={"response_timeout": "200ms", "queue_timeout": "200ms"})
    task = bed.background(site.tarry.get, "/")
    site.upstream.wait_for(1)
    problem(bed.another().site(silence, pool={"response_timeout": "600ms"}).tarry.get("/"), 504, "http_response_timeout")
    assert task.running
    gate.open()
    assert task.result().text == "200 None 1"


# --- retries ---

@pytest.mark.parametrize("hint", [{"Retry-After": "1"}, {"retry-after-ms": "1000"}, {"Retry-After": "30", "retry-after-ms": "1000"}])
def test_the_provider_s_hint_is_obeyed(bed, hint):
    site = site_for(bed, lambda r, c: Reply(429, b"slow down", hint) if len(site_requests()) == 1 else b"ok", up={"retries": 2})
    site_requests = lambda: site.upstream.requests  # noqa: E731
    assert site.tarry.get("/").text == "200 None 2"
    first, second = site.upstream.requests
    assert second.time - first.time >= 0.95


def test_a_pause_that_would_pass_the_deadline_is_not_begun(bed):
    site = site_for(bed, lambda r, c: Reply(429, b"slow down", {"Retry-After": "30"}), up={"retries": 5, "total_timeout": "10s"})
    moments = Moments()
    task = bed.background(lambda: (site.tarry.get("/"), moments.note("end"))[0])
    assert task.result(timeout=5).text == "429 None 1"
    assert len(site.upstream.requests) == 1


def test_the_deadline_covers_all_retries(bed):
    site = site_for(bed, lambda r, c: Reply(503, b"busy"), up={"retries": 100, "retry_first_pause": "50ms"}, timeout="1")
    assert site.tarry.get("/").text.startswith("503 None ")
    assert len(site.upstream.requests) < 50


# --- hops ---

def hopper(bed, max_hops, then="resume /x"):
    upstream = bed.upstream(lambda r, c: b"x")
    again = lambda r, c: handoff(then, [call(upstream.origin)])  # noqa: E731
    return bed.site(bed.worker(by_kind(request=again, resume=again, replay=again)), upstream, pool={"max_hops": max_hops})


@pytest.mark.parametrize("then", ["resume /x", "replay"])
def test_a_handoff_at_the_last_hop_is_a_loop(bed, then):
    site = hopper(bed, 3, then)
    problem(site.tarry.get("/"), 508, "loop_detected")
    assert [r.hop for r in site.worker.requests] == ["0", "1", "2"]
    assert len(site.upstream.requests) == 2


def test_with_one_hop_nothing_can_be_handed_off(bed):
    site = hopper(bed, 1)
    problem(site.tarry.get("/"), 508, "loop_detected")
    assert site.upstream.requests == []


def test_the_last_hop_may_answer(bed):
    upstream = bed.upstream(lambda r, c: b"x")
    again = lambda r, c: handoff("resume /x", [call(upstream.origin)])  # noqa: E731
    site = bed.site(bed.worker(by_kind(request=again, resume=[again, DONE])), upstream, pool={"max_hops": 3})
    assert site.tarry.get("/").body == b"done"


def test_the_default_is_64_hops(bed):
    upstream = bed.upstream(lambda r, c: b"x")
    again = lambda r, c: handoff("resume /x", [call(upstream.origin)])  # noqa: E731
    site = bed.site(bed.worker(by_kind(request=again, resume=again)), upstream)
    problem(site.tarry.get("/"), 508, "loop_detected")
    assert len(site.worker.requests) == 64 and len(site.upstream.requests) == 63
    eventually(lambda: site.tarry.access.lines)
    assert site.tarry.access.lines[0]["hops"] == 64
