"""Workers whose response nobody waits for any more: a sync worker cannot be interrupted, so its slot is taken until it is done."""

import pytest

from harness import Gate, Reply, eventually, problem

DONE = Reply(200, b"done")


def slow_site(bed, slots=1, **pool):
    """A site whose worker answers /slow… when the gate opens; all else at once."""
    gate = Gate()

    def answer(r, c):
        if r.path.startswith("/slow"):
            gate.wait()
        return Reply(200, r.path)
    site = bed.site(answer, slots=slots, pool=pool, admin=True)
    return site, gate


def test_a_worker_that_took_too_long_keeps_its_slot_until_it_is_done(bed):
    site, gate = slow_site(bed, response_timeout="200ms")
    problem(site.tarry.get("/slow"), 504, "http_response_timeout")
    other = bed.background(site.tarry.get, "/other")
    eventually(lambda: site.tarry.status()["pools"]["app"]["queued_new"] == 1, "the next waits")
    pool = site.tarry.status()["pools"]["app"]
    assert (pool["busy"], pool["abandoned"]) == (1, 1) and len(site.worker.requests) == 1
    gate.open()
    assert other.result().body == b"/other"
    assert site.worker.peak == 1
    assert site.tarry.metric("tarry_visits_abandoned_total") == 1
    assert site.tarry.metric("tarry_visits_abandoned_timeouts_total") == 0
    assert site.worker.requests[0].conn is site.worker.requests[1].conn  # its late answer was read, and dropped


def test_the_slot_is_free_when_the_worker_ends_the_connection(bed):
    gate, ended = Gate(), Gate()

    def answer(r, c):
        if r.path == "/slow":
            gate.wait()
            ended.open()
            c.close()
            return None
        return DONE if ended.opened() else Reply(200, b"too early")
    site = bed.site(answer, slots=1, pool={"response_timeout": "200ms"})
    problem(site.tarry.get("/slow"), 504, "http_response_timeout")
    other = bed.background(site.tarry.get, "/other")
    gate.open()
    assert other.result().body == b"done"


def test_after_abandoned_timeout_the_slot_goes_to_the_next(bed):
    site, gate = slow_site(bed, response_timeout="100ms", abandoned_timeout="200ms")
    problem(site.tarry.get("/slow"), 504, "http_response_timeout")
    assert site.tarry.get("/other").body == b"/other"
    site.worker.conns[0].wait_closed()
    assert site.tarry.metric("tarry_visits_abandoned_timeouts_total") == 1
    site.tarry.wait_log(lambda line: "abandoned_timeout" in line)
    gate.open()


def test_without_abandoned_timeout_the_slot_goes_to_the_next_at_once(bed):
    site, gate = slow_site(bed, response_timeout="100ms", abandoned_timeout="0ms")
    problem(site.tarry.get("/slow"), 504, "http_response_timeout")
    assert site.tarry.get("/other").body == b"/other"
    assert site.tarry.metric("tarry_visits_abandoned_total") == 0
    gate.open()


@pytest.mark.parametrize("leave", ["close", "reset", "half_close"])
def test_clients_that_come_and_go_never_get_more_than_the_slots(bed, leave):
    """The HTTP/1.1 kin of a rapid reset: each client asks and leaves at once."""
    site, gate = slow_site(bed, slots=2)
    for i in range(100):
        c = site.tarry.client()
        c.send_request("GET", f"/slow/{i}")
        getattr(c, leave)()
    honest = bed.background(site.tarry.get, "/honest")
    site.worker.wait_for(2)
    gate.open()
    assert honest.result().body == b"/honest"
    assert site.worker.peak <= 2
    eventually(lambda: site.tarry.status()["pools"]["app"]["busy"] == 0, "all slots to be free")


def test_a_stream_of_unknown_length_is_cut_when_nobody_listens_and_frees_its_slot_then(bed):
    gate, ended = Gate(), Gate()

    def answer(r, c):
        if r.path != "/stream":
            return DONE
        c.send_head(headers={"Content-Type": "text/event-stream"})
        c.send_chunk("data: 1\n\n")
        gate.wait()
        try:
            while not c.server.stopping.is_set():
                c.send_chunk("data: more\n\n")
        except OSError:
            ended.open()
    site = bed.site(answer, slots=1, admin=True)
    client = site.tarry.client()
    client.send_request("GET", "/stream")
    client.begin().until(b"data: 1\n\n")
    client.reset()
    eventually(lambda: site.tarry.status()["pools"]["app"]["abandoned"] == 1, "the client's going to be seen")
    other = bed.background(site.tarry.get, "/other")
    eventually(lambda: site.tarry.status()["pools"]["app"]["queued_new"] == 1, "the next waits")
    gate.open()
    assert other.result().body == b"done"
    ended.wait()
