"""docs/handoff.md: coming back to the same process, and waiting."""

import time

import pytest

from harness import Gate, Moments, Reply, ScriptedWorker, by_kind, call, eventually, handoff, problem, replay_parts

DONE = Reply(200, b"done")
SINGLE = "relay, resume, replay, notify, on-error, keep-alive, wait, sticky, pieces"


def two(bed, first, second=None, pool=None, upstream=None, slots=1):
    """A site with two servers of one slot each."""
    upstream = upstream or bed.upstream()
    workers = [bed.unix_worker(make(upstream), keep_alive=False) for make in (first, second or first)]
    conf = bed.conf(workers, upstream, slots=slots)
    conf.pool.update(pool or {})
    conf.admins[f"unix:{bed.folder}/admin"] = {}
    conf.up["retries"] = 0
    return workers, upstream, bed.tarry(conf)


def sticky(seconds="5", calls=True, **more):
    fields = {"Tarry-Sticky": seconds, **more}
    return lambda u: by_kind(request=lambda r, c: handoff("replay", [call(u.origin + "/x")] if calls else b"", headers=fields), replay=DONE)


def of_kind(worker, kind):
    return [r for r in worker.requests if r.kind == kind]


# --- sticky ---

@pytest.mark.parametrize("slots, features", [(1, SINGLE), (2, SINGLE.removesuffix(", sticky, pieces"))])
def test_sticky_is_offered_where_a_server_has_one_slot(bed, slots, features):
    site = bed.site(lambda r, c: DONE, slots=slots)
    site.tarry.get("/")
    headers = site.worker.request.headers
    assert headers.get("Tarry-Features") == features
    assert ", wait=60" in headers.get("Tarry-Limits")


def test_the_next_visit_goes_to_the_same_server(bed):
    workers, _, tarry = two(bed, sticky())
    for _ in range(8):
        assert tarry.get("/").body == b"done"
    for w in workers:
        assert len(of_kind(w, "request")) == len(of_kind(w, "replay")) == 4
        assert [r.exchange for r in of_kind(w, "request")] == [r.exchange for r in of_kind(w, "replay")]
    assert tarry.metric("tarry_sticky_hits_total") == 8 and tarry.metric("tarry_sticky_misses_total") == 0
    assert tarry.metric("tarry_suspended_total") == 8


def test_it_is_waited_for_while_it_is_busy_and_goes_ahead_of_all_others(bed):
    """The server takes another request while the call runs; the visit that comes back is its next, before those that queue."""
    gates, answers = [Gate(), Gate()], Gate()

    def work(r, c):
        if r.path == "/other":
            gates[0].wait()
        return DONE if r.kind == "replay" or r.path != "/" else handoff("replay", [call(up.origin + "/x")], headers={"Tarry-Sticky": "5"})

    up = bed.upstream(lambda r, c: (answers.wait(), b"answer")[1])
    worker = bed.unix_worker(work)
    conf = bed.conf(worker, up, slots=1)
    tarry = bed.tarry(conf)
    first = bed.background(tarry.get, "/")
    up.wait_for(1)
    other = bed.background(tarry.get, "/other")
    worker.wait_for(1, lambda r: r.path == "/other")
    late = bed.background(tarry.get, "/late")
    tarry.wait_log(lambda line: "reading -> queued" in line)
    answers.open()
    tarry.wait_log(lambda line: "parked -> queued" in line)
    gates[0].open()
    for b in (first, other, late):
        assert b.result().body == b"done"
    assert [(r.path, r.kind) for r in worker.requests] == [("/", "request"), ("/other", "request"), ("/", "replay"), ("/late", "request")]


def test_after_the_time_it_goes_to_any(bed):
    held, answers, up = [Gate(), Gate()], Gate(), bed.upstream()

    def server(number):
        def work(r, c):
            if r.path == "/hold":
                held[number].wait()
                return DONE
            return DONE if r.kind == "replay" else handoff("replay", [call(up.origin + "/x")], headers={"Tarry-Sticky": "0.2"})
        return lambda upstream: work
    up.handler = lambda r, c: (answers.wait(), b"answer")[1]
    workers, _, tarry = two(bed, server(0), server(1), upstream=up)
    one = bed.background(tarry.get, "/")
    up.wait_for(1)
    mine = 0 if workers[0].requests else 1
    holds = [bed.background(tarry.get, "/hold") for _ in range(2)]
    eventually(lambda: all(any(r.path == "/hold" for r in w.requests) for w in workers))
    held[1 - mine].open()
    holds_done = eventually(lambda: [b for b in holds if not b.running])
    answers.open()
    assert one.result().body == b"done"
    replay = of_kind(workers[1 - mine], "replay")
    assert [r.attempt for r in replay] == [None] and of_kind(workers[mine], "replay") == []
    assert tarry.metric("tarry_sticky_misses_total") == 1 and len(holds_done) == 1
    held[mine].open()


@pytest.mark.parametrize("how", ["refuses", "reloaded away"])
def test_a_server_that_is_gone_is_not_waited_for(bed, how):
    answers, up = Gate(), bed.upstream()
    up.handler = lambda r, c: (answers.wait(), b"answer")[1]
    workers, _, tarry = two(bed, sticky("60"), upstream=up, pool={"sticky_max": "60s"})
    one = bed.background(tarry.get, "/")
    up.wait_for(1)
    mine = next(w for w in workers if w.requests)
    other = next(w for w in workers if w is not mine)
    if how == "refuses":
        mine.refuse()
    else:
        conf = bed.conf([other], up, slots=1)
        conf.pool.update(sticky_max="60s")
        tarry.reload(conf)
    answers.open()
    assert one.result().body == b"done"
    assert [r.kind for r in other.requests] == ["replay"]


def test_the_content_is_the_same_in_both_cases(bed):
    """A process that has lost its state runs the view again from all of section 5."""
    workers, _, tarry = two(bed, sticky())
    tarry.request("POST", "/", body=b"the body")
    replay = next(r for w in workers for r in of_kind(w, "replay"))
    assert replay.body.startswith(b"the body") and replay.headers.get("Tarry-Body-Length") == "8"
    assert replay_parts(replay)[1][0].status == 200


def test_sticky_is_cut_to_the_conf_s(bed):
    """sticky_max = 0: the server is busy with the abandoned handoff no longer than that is waited for."""
    workers, _, tarry = two(bed, sticky("1000"), pool={"sticky_max": "1ms"})
    assert tarry.get("/").body == b"done"


# --- at ---

def test_tarry_at_is_where_the_visits_come_back_to(bed):
    up = bed.upstream()
    own = ScriptedWorker(by_kind(replay=DONE), address=f"unix:{bed.folder}/own.sock")
    bed.add(own)
    worker = bed.unix_worker(sticky(**{"Tarry-At": f"unix:{bed.folder}/own.sock"})(up))
    conf = bed.conf(worker, up, slots=1)
    tarry = bed.tarry(conf)
    for _ in range(2):
        assert tarry.get("/").body == b"done"
    assert [r.kind for r in own.requests] == ["replay"] * 2 and [r.kind for r in worker.requests] == ["request"] * 2


def test_a_refusal_there_means_that_the_process_is_gone(bed):
    up = bed.upstream()
    worker = bed.unix_worker(sticky(**{"Tarry-At": f"unix:{bed.folder}/nobody.sock"})(up))
    conf = bed.conf(worker, up, slots=1)
    tarry = bed.tarry(conf)
    assert tarry.get("/").body == b"done"
    assert [r.kind for r in worker.requests] == ["request", "replay"]
    assert tarry.get("/").body == b"done"  # the server itself was not taken for one that refuses


@pytest.mark.parametrize("at", ["unix:/etc/own.sock", "unix:{folder}/below/own.sock", "unix:{folder}/../own.sock", "unix:{folder}/",
                                "127.0.0.1:80", "{folder}/own.sock", "unix:own.sock"])
def test_tarry_at_elsewhere_is_malformed(bed, at):
    up = bed.upstream()
    worker = bed.unix_worker(sticky(**{"Tarry-At": at.format(folder=bed.folder)})(up))
    problem(bed.tarry(bed.conf(worker, up, slots=1)).get("/"), 502, "handoff_malformed")
    assert up.requests == []


@pytest.mark.parametrize("then, fields", [
    ("resume /x", {"Tarry-Sticky": "1"}), ("resume /x", {"Tarry-Wait": "1"}), ("relay", {"Tarry-Wait": "1"}),
    ("replay", {"Tarry-Sticky": "soon"}), ("replay", {"Tarry-Sticky": "-1"}), ("replay", {"Tarry-Wait": ""}),
    ("replay", {"Tarry-At": "unix:/x"})])
def test_what_does_not_belong_or_is_no_number_is_malformed(bed, then, fields):
    site = bed.site(lambda r, c: handoff(then, [call(up.origin + "/x")], headers=fields), up := bed.upstream())
    problem(site.tarry.get("/"), 502, "handoff_malformed")


# --- wait ---

def test_a_wait_alone_puts_the_next_visit_off(bed):
    when = Moments()

    def work(r, c):
        when.note((r.kind, r.hop, time.monotonic()))
        return handoff("replay", b"", headers={"Tarry-Wait": "0.3"}) if r.kind == "request" else DONE
    site = bed.site(work, admin=True)
    assert site.tarry.get("/").body == b"done"
    (_, h0, t0), (kind, h1, t1) = when.list
    assert (kind, h0, h1) == ("replay", "0", "1") and t1 - t0 >= 0.3
    assert site.tarry.metric("tarry_waits_total") == 1


def test_a_wait_with_calls_waits_for_both(bed):
    gate = Gate()
    site = bed.site(by_kind(request=lambda r, c: handoff("replay", [call(up.origin + "/x")], headers={"Tarry-Wait": "0.2"}), replay=DONE),
                    up := bed.upstream(lambda r, c: (gate.wait(), b"answer")[1]))
    one = bed.background(site.tarry.get, "/")
    up.wait_for(1)
    with pytest.raises(AssertionError):
        site.worker.wait_for(1, lambda r: r.kind == "replay", timeout=0.5)
    gate.open()
    assert one.result().body == b"done"


def test_waits_do_not_count_towards_max_hops(bed):
    def work(r, c):
        return DONE if r.hop == "9" else handoff("replay", b"", headers={"Tarry-Wait": "0"})
    site = bed.site(work, pool={"max_hops": 2})
    assert site.tarry.get("/").body == b"done"
    assert [r.hop for r in site.worker.requests] == [str(i) for i in range(10)]


def test_handoffs_with_calls_count_though_they_wait(bed):
    site = bed.site(lambda r, c: handoff("replay", [call(up.origin + "/x")], headers={"Tarry-Wait": "0"}), up := bed.upstream(),
                    pool={"max_hops": 2})
    problem(site.tarry.get("/"), 508, "loop_detected")
    assert len(site.worker.requests) == 2


def test_a_wait_is_cut_to_the_conf_s(bed):
    site = bed.site(by_kind(request=lambda r, c: handoff("replay", b"", headers={"Tarry-Wait": "3600"}), replay=DONE),
                    pool={"wait_max": "1s"})
    assert site.tarry.get("/").body == b"done"
    assert ", wait=1" in site.worker.requests[0].headers.get("Tarry-Limits")


def test_no_calls_without_a_wait_are_malformed(bed):
    site = bed.site(lambda r, c: handoff("replay", b"", headers={"Tarry-Sticky": "1"}))
    problem(site.tarry.get("/"), 502, "handoff_malformed")


def test_a_client_that_waits_is_kept_alive(bed):
    site = bed.site(by_kind(request=lambda r, c: handoff("replay", b"", headers={"Tarry-Wait": "0.5"}, keep_alive="sse"), replay=DONE),
                    pool={"keep_alive_interval": "50ms"})
    got = site.tarry.get("/")
    assert got.headers.get("Content-Type") == "text/event-stream"
    assert got.body.count(b": keep-alive\n\n") >= 2 and got.body.endswith(b"done")


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_cancel_ends_a_wait(bed, leave):
    site = bed.site(by_kind(request=lambda r, c: handoff("replay", b"", headers={"Tarry-Wait": "60"}, on_disconnect="cancel")))
    client = site.tarry.client()
    client.send_request()
    site.tarry.wait_log(lambda line: "visiting -> parked" in line)
    getattr(client, leave)()
    assert site.tarry.access.wait_for()["end"] == "client_gone"
    assert len(site.worker.requests) == 1


def test_an_exchange_ends_after_exchange_max(bed):
    site = bed.site(lambda r, c: handoff("replay", b"", headers={"Tarry-Wait": "0.05"}), pool={"exchange_max": "500ms"})
    problem(site.tarry.get("/"), 504, "http_response_timeout")
    assert len(site.worker.requests) > 2


def test_exchange_max_ends_a_visit_too(bed):
    gate = Gate()
    site = bed.site(lambda r, c: (gate.wait(), DONE)[1], pool={"exchange_max": "300ms"}, admin=True)
    problem(site.tarry.get("/"), 504, "http_response_timeout")
    assert site.tarry.metric("tarry_exchanges_timed_out_total") == 1
    gate.open()
