"""docs/handoff.md: replay."""

import pytest

from harness import Reply, by_kind, call, handoff, problem, replay_parts

DONE = Reply(200, b"done")


def site_for(bed, upstream=None, replay=DONE, request=None, pool=None, **fields):
    upstream = bed.upstream(upstream)
    worker = bed.worker(by_kind(request=request or (lambda r, c: handoff("replay", [call(upstream.origin + "/0", id="0")], **fields)),
                                replay=replay, resume=DONE))
    return bed.site(worker, upstream, pool=pool, up={"retries": 0})


def test_a_replay_is_the_clients_request_with_the_answers_behind(bed):
    site = site_for(bed, lambda r, c: Reply(200, b"answer", {"X-A": "1"}), state="st")
    sent = [("Host", "site.example"), ("Content-Type", "multipart/form-data; boundary=x"), ("Cookie", "a=1"), ("Authorization", "Token x"),
            ("If-None-Match", '"e"'), ("Range", "bytes=0-1"), ("Content-Language", "de"), ("X-Custom", "c"), ("Accept-Encoding", "gzip")]
    assert site.tarry.request("PUT", "/view?q=1", sent, b"original body").body == b"done"
    first, second = site.worker.requests
    assert (second.method, second.target, second.kind, second.hop, second.state) == ("PUT", "/view?q=1", "replay", "1", "st")
    for name, value in sent:
        assert second.headers.all(name) == [value] == first.headers.all(name), name
    for name in ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Request-Id", "Tarry-Exchange", "Tarry-Started"):
        assert second.headers.get(name) == first.headers.get(name) is not None, name
    assert second.headers.get("Tarry-Body-Length") == "13" and second.length == len(second.body)
    body, (answer,) = replay_parts(second)
    assert body == b"original body"
    assert (answer.status, answer.id, answer.body, answer.attempts, answer.headers.get("X-A")) == (200, "0", b"answer", "1", "1")


def test_tarry_body_length_is_not_sent_at_hop_0_and_cannot_be_forged(bed):
    site = site_for(bed)
    site.tarry.post("/", b"abc", {"Tarry-Body-Length": "1"})
    first, second = site.worker.requests
    assert "Tarry-Body-Length" not in first.headers and second.headers.get("Tarry-Body-Length") == "3"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_request_without_a_body_is_replayed_with_length_0(bed, method):
    site = site_for(bed, lambda r, c: b"x")
    site.tarry.request(method, "/")
    r = site.worker.requests[1]
    assert (r.method, r.headers.get("Tarry-Body-Length")) == (method, "0")
    assert replay_parts(r)[0] == b"" and len(replay_parts(r)[1]) == 1


def test_a_chunked_original_is_replayed_with_its_length(bed):
    site = site_for(bed)
    site.tarry.request("POST", "/", chunks=[b"abc", b"def"])
    r = site.worker.requests[1]
    assert r.framing == "length" and replay_parts(r)[0] == b"abcdef"


def test_answers_of_all_hops_come_in_order(bed):
    upstream = bed.upstream(lambda r, c: r.target.encode())
    hand = lambda *names, **more: lambda r, c: handoff("replay", [call(f"{upstream.origin}/{n}", id=n) for n in names], **more)  # noqa: E731
    worker = bed.worker(by_kind(request=hand("a", "b", state="one"), replay=[hand("c", state="two"), hand("d", "e"), DONE]))
    site = bed.site(worker, upstream)
    assert site.tarry.post("/", b"body").body == b"done"
    replays = [(r.hop, r.state, [a.id for a in replay_parts(r)[1]]) for r in worker.requests[1:]]
    assert replays == [("1", "one", ["a", "b"]), ("2", "two", ["a", "b", "c"]), ("3", None, ["a", "b", "c", "d", "e"])]
    assert all(replay_parts(r)[0] == b"body" for r in worker.requests[1:])
    assert [a.body for a in replay_parts(worker.requests[3])[1]] == [b"/a", b"/b", b"/c", b"/d", b"/e"]
    assert len(upstream.requests) == 5


def test_answers_of_resumed_hops_count_too(bed):
    upstream = bed.upstream(lambda r, c: r.target.encode())
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin + "/a", id="a")]),
                                resume=lambda r, c: handoff("replay", [call(upstream.origin + "/b", id="b")]), replay=DONE))
    bed.site(worker, upstream).tarry.post("/view", b"body")
    r = worker.requests[2]
    assert (r.kind, r.target, r.method) == ("replay", "/view", "POST")
    body, answers = replay_parts(r)
    assert body == b"body" and [a.id for a in answers] == ["a", "b"]


def test_failed_calls_are_in_the_record(bed):
    site = site_for(bed, lambda r, c: c.reset())
    assert site.tarry.get("/").body == b"done"
    answer, = replay_parts(site.worker.requests[1])[1]
    assert (answer.status, answer.error, answer.id) == (502, "connection_terminated", "0")


def test_the_original_body_is_kept_up_to_replay_body_max(bed):
    body = bytes(range(256)) * 4096  # 1 MiB, in a file meanwhile
    site = site_for(bed, pool={"replay_body_max": "1M"})
    assert site.tarry.post("/", body).body == b"done"
    assert replay_parts(site.worker.requests[1])[0] == body


@pytest.mark.parametrize("chunked", [False, True])
def test_a_replay_after_a_larger_body_is_refused_and_no_call_is_made(bed, chunked):
    body = b"x" * ((1 << 20) + 1)
    site = site_for(bed, pool={"replay_body_max": "1M"})
    got = site.tarry.request("POST", "/", chunks=[body]) if chunked else site.tarry.post("/", body)
    problem(got, 413, "http_request_error")
    assert site.upstream.requests == [] and len(site.worker.requests) == 1


def test_a_large_body_may_still_resume_or_relay(bed):
    upstream = bed.upstream(lambda r, c: b"x")
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin)]), resume=DONE))
    site = bed.site(worker, upstream, pool={"replay_body_max": "64K"})
    assert site.tarry.post("/", b"x" * 200000).body == b"done"


def test_a_replay_is_delivered_again_if_its_worker_dies(bed):
    site = site_for(bed, lambda r, c: b"paid", replay=[lambda r, c: c.close(), lambda r, c: Reply(200, replay_parts(r)[1][0].body)])
    assert site.tarry.post("/", b"body").body == b"paid"
    replays = site.worker.requests[1:]
    assert [r.attempt for r in replays] == [None, "2"] and replays[0].body == replays[1].body
    assert len(site.upstream.requests) == 1


def test_cookies_of_a_replayed_handoff_are_kept(bed):
    site = site_for(bed, replay=Reply(200, b"done", {"Set-Cookie": "a=2"}), headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=1")])
    assert sorted(site.tarry.get("/").headers.all("Set-Cookie")) == ["a=2", "b=1"]
