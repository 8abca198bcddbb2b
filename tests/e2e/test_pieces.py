"""docs/handoff.md: a response in parts, an answer in pieces."""

import threading
import time

import pytest

from harness import Gate, Moments, Raw, Reply, ScriptedWorker, Truncated, call, eventually, handoff, problem, replay_parts
from harness.parts import answer_pieces, inner, parts, read_pieces, sent

STICKY = {"Tarry-Sticky": "5"}
SSE = [("Content-Type", "text/event-stream")]


def deliver(u, id="c", **more):
    return call(u.origin + "/x", b"{}", id=id, headers=[("Tarry-Deliver", "pieces")], **more)


class Feed:
    """An upstream whose answer comes as the test sends it."""

    def __init__(self, bed, status=200):
        self.conns, self.status, self.done = [], status, Gate()
        self.ready = threading.Condition()
        self.server = bed.upstream(self.answer)

    def answer(self, r, c):
        if r.path != "/x":
            return Reply(200, b"whole")
        c.send_head(self.status, headers={"Content-Type": "text/event-stream"})
        with self.ready:
            self.conns.append(c)
            self.ready.notify_all()
        while not c.closed and not c.server.stopping.is_set() and not self.done.opened():
            if c.peer_is_gone():
                self.ends = c.wire.ended
                c.close()
        return None

    def conn(self, i=0):
        with self.ready:
            assert self.ready.wait_for(lambda: len(self.conns) > i, 20)
            return self.conns[i]

    def send(self, data):
        self.conn().send_chunk(data)

    def end(self):
        self.conn().end_chunks()
        self.done.open()

    def cut(self):
        self.conn().close()
        self.done.open()


class Work:
    """A worker of one slot: `request`, `replay` and `pieces` answer by kind; pieces(list of Piece) gives a list of answers."""

    def __init__(self, bed, feed, request=None, replay=None, pieces=None, servers=1, pool=None, slots=1):
        self.seen = Moments()
        self.request, self.replay, self.pieces = request, replay, pieces
        self.feed = feed
        self.workers = [bed.unix_worker(self.work, keep_alive=False) for _ in range(servers)]
        conf = bed.conf(self.workers, feed.server, slots=slots)
        conf.pool.update({"piece_interval": "10ms", **(pool or {})})
        conf.up["retries"] = 0
        conf.admins[f"unix:{bed.folder}/admin"] = {}
        self.conf = conf
        self.tarry = bed.tarry(conf)

    def work(self, r, c):
        if r.kind == "pieces":
            pieces = read_pieces(r)
            self.seen.note(("pieces", pieces))
            answers = self.pieces(pieces)
            return answers if isinstance(answers, (Reply, Raw)) or answers is None else answer_pieces(answers)
        self.seen.note((r.kind, r))
        answer = getattr(self, r.kind)
        return answer(r, c) if callable(answer) else answer

    def list(self, kind):
        return [what for k, what in self.seen.list if k == kind]


def streaming(bed, pieces, request=None, replay=None, **more):
    """The usual: hop 0 asks for an answer in pieces; its replay sends what has come and wants more."""
    feed = Feed(bed)

    def run(r, c):
        body = replay_parts(r)[1][-1].body
        return parts(body, "more", STICKY, headers=SSE)
    return feed, Work(bed, feed, request or (lambda r, c: handoff("replay", [deliver(feed.server)], headers=STICKY)), replay or run, pieces, **more)


def echo(pieces, back=STICKY):
    """Each piece goes to the client. `back`: where the next ones are to come."""
    return [parts(p.body, "end" if "last" in (p.piece or "") else "more", back) for p in pieces]


# --- a response in parts ---

@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
@pytest.mark.parametrize("status", [200, 404])
def test_the_data_of_the_inner_chunks_is_the_clients(bed, framing, status):
    site = bed.site(lambda r, c: parts([b"one", b"two"], "end", status=status, framing=framing,
                                       headers=[("Content-Type", "text/plain"), ("Tarry-State", "s"), ("Set-Cookie", "a=1")]))
    got = site.tarry.get("/")
    assert (got.status, got.body) == (status, b"onetwo")
    assert got.headers.get("Content-Type") == "text/plain" and got.headers.get("Set-Cookie") == "a=1"
    assert not got.headers.starting("tarry-") and "Content-Length" not in got.headers


def test_every_cut_of_the_inner_coding_is_read(bed):
    whole = inner([b"one", b"2" * 300], "end")
    site = bed.site(lambda r, c: Reply(200, [whole[i:i + 1] for i in range(len(whole))], {"Tarry-Then": "trailer"}, framing="chunked"))
    assert site.tarry.get("/").body == b"one" + b"2" * 300


def test_data_goes_to_the_client_at_once(bed):
    gate = Gate()

    def work(r, c):
        c.send_head(200, {"Tarry-Then": "trailer", "Content-Type": "text/event-stream"})
        c.send_chunk(b"5\r\nfirst\r\n")
        gate.wait()
        c.send_chunk(b"3\r\nend\r\n0\r\nTarry-Then: end\r\n\r\n")
        c.end_chunks()
    site = bed.site(work)
    with site.tarry.client() as c:
        c.send_request()
        response = c.begin()
        response.until(b"first")
        gate.open()
        assert response.read() == b"firstend"


def test_end_without_data_has_this_responses_head(bed):
    site = bed.site(lambda r, c: parts((), "end", status=201, headers=[("X-Own", "1")]))
    got = site.tarry.get("/")
    assert (got.status, got.body, got.headers.get("X-Own")) == (201, b"", "1")


def test_cut_before_a_byte_is_a_502(bed):
    problem(bed.site(lambda r, c: parts((), "cut")).tarry.get("/"), 502, "http_response_incomplete")


def test_cut_after_a_byte_cuts_the_client(bed):
    site = bed.site(lambda r, c: parts(b"some", "cut"))
    with site.tarry.client() as c:
        c.send_request()
        with pytest.raises(Truncated):
            c.begin().read()


BROKEN = [b"5\r\nabc", b"3\r\nabc\r\n", b"3\r\nabc\r\n0\r\nTarry-Then: en", b"3\r\nabc\r\n0\r\nTarry-Then: replay\r\nTarry-Length: 9\r\n\r\nGET", b""]


@pytest.mark.parametrize("content", BROKEN)
def test_content_that_ends_early_is_a_dead_worker_and_hop_0_is_not_run_again(bed, content):
    site = bed.site(lambda r, c: Reply(200, content, {"Tarry-Then": "trailer"}), pool={"retry_idempotent": True})
    with site.tarry.client() as c:
        c.send_request()
        response = c.begin()
        if response.status == 502:
            assert b"http_response_incomplete" in response.read()
        else:
            with pytest.raises(Truncated):
                response.read()
    assert len(site.worker.requests) == 1


@pytest.mark.parametrize("content", [b"x\r\n", b"-1\r\n", b"\r\n", b"0\r\nno field\r\n\r\n", b"3\nabc\n0\n\n",
                                     inner(b"", "end") + b"more", b"0\r\nTarry-Length: x\r\nTarry-Then: end\r\n\r\n"])
def test_malformed_inner_chunks_are_502(bed, content):
    problem(bed.site(lambda r, c: Reply(200, content, {"Tarry-Then": "trailer"})).tarry.get("/"), 502, "http_protocol_error")


def test_chunks_that_are_malformed_behind_data_cut_the_client(bed):
    site = bed.site(lambda r, c: Reply(200, b"3\r\nabcd\r\n", {"Tarry-Then": "trailer"}))
    with site.tarry.client() as c:
        c.send_request()
        with pytest.raises(Truncated):
            c.begin().read()


@pytest.mark.parametrize("then, fields", [("later", ()), ("more", ()), ("rest", ()), ("replay", ()), ("more", {"Tarry-Wait": "x"}),
                                          ("end", {"Tarry-Close": "nothing"}), ("more", {"Tarry-At": "unix:/x", "Tarry-Wait": "0"})])
def test_a_malformed_trailer_is_a_malformed_handoff(bed, then, fields):
    problem(bed.site(lambda r, c: parts((), then, fields)).tarry.get("/"), 502, "handoff_malformed")


def test_later_heads_are_ignored_and_calls_may_come_between(bed):
    def work(r, c):
        if r.kind == "request":
            return parts(b"one ", "replay", {"Tarry-State": "s1"}, call(up.origin + "/x", id="a"), headers=[("X-First", "1")], status=201)
        assert r.state == "s1" and r.headers.get("Tarry-Sent") == sent(b"one ")
        return parts([replay_parts(r)[1][0].body, b" two"], "end", status=404, headers=[("X-Second", "2")])
    site = bed.site(work, up := bed.upstream(lambda r, c: b"answer"))
    got = site.tarry.get("/")
    assert (got.status, got.body, got.headers.get("X-First")) == (201, b"one answer two", "1")
    assert "X-Second" not in got.headers
    assert [(r.kind, r.hop) for r in site.worker.requests] == [("request", "0"), ("replay", "1")]


def test_a_response_without_tarry_then_after_a_byte_cuts_the_client(bed):
    def work(r, c):
        return parts(b"one", "replay", (), call(up.origin + "/x")) if r.kind == "request" else Reply(500, b"an error page")
    site = bed.site(work, up := bed.upstream())
    with site.tarry.client() as c:
        c.send_request()
        with pytest.raises(Truncated) as e:
            c.begin().read()
    assert b"error page" not in e.value.so_far


def test_a_response_without_tarry_then_before_a_byte_is_the_clients(bed):
    site = bed.site(lambda r, c: parts((), "replay", (), call(up.origin + "/x")) if r.kind == "request" else Reply(418, b"mine"),
                    up := bed.upstream())
    got = site.tarry.get("/")
    assert (got.status, got.body) == (418, b"mine")


def test_a_replay_that_dies_within_its_parts_is_delivered_again_with_what_was_sent(bed):
    def work(r, c):
        if r.kind == "request":
            return parts(b"one ", "replay", (), call(up.origin + "/x"))
        if r.attempt is None:
            return Raw(b"HTTP/1.1 200 OK\r\nTarry-Then: trailer\r\nContent-Length: 999\r\n\r\n4\r\ntwo \r\n2\r\nth")
        assert r.headers.get("Tarry-Sent") == sent(b"one two th")
        return parts(b"ree", "end")
    site = bed.site(work, up := bed.upstream())
    assert site.tarry.get("/").body == b"one two three"
    assert [r.attempt for r in site.worker.requests] == [None, None, "2"]


def test_a_failure_after_the_first_byte_cuts(bed):
    site = bed.site(lambda r, c: parts(b"one", "replay", (), call("http://127.0.0.1:1/")))
    with site.tarry.client() as c:
        c.send_request()
        with pytest.raises(Truncated):
            c.begin().read()
    assert site.tarry.access.wait_for()["end"] == "handoff_forbidden"


# --- pieces ---

def test_an_answer_is_given_in_pieces_and_the_client_gets_them_as_they_come(bed):
    feed, w = streaming(bed, echo)
    with w.tarry.client() as c:
        c.send_request("GET", "/", [("Cookie", "a=1")])
        feed.send(b"data: 0\n\n")
        response = c.begin()
        assert response.headers.get("Content-Type") == "text/event-stream"
        for i in range(1, 4):
            response.until(b"data: %d\n\n" % (i - 1))
            feed.send(b"data: %d\n\n" % i)
        response.until(b"data: 3\n\n")
        feed.end()
        assert response.read() == b"".join(b"data: %d\n\n" % i for i in range(4))
    replay = w.list("replay")[0]
    assert replay.hop == "1" and len(w.list("replay")) == len(w.list("request")) == 1
    opened = replay_parts(replay)[1][-1]
    assert opened.headers.get("Tarry-Piece") == "from=0; more" and opened.body == b"data: 0\n\n" and opened.id == "c"
    pieces = [p for batch in w.list("pieces") for p in batch]
    assert {(p.exchange, p.hop) for p in pieces} == {(replay.exchange, "1")}
    off = len(opened.body)
    for p in pieces:
        assert p.piece == f"from={off}; {'last' if p is pieces[-1] else 'more'}"
        off += len(p.body)
    assert (pieces[-1].outcome, [p.outcome for p in pieces[:-1]]) == ("complete", [None] * (len(pieces) - 1))
    assert [p.headers.get("Tarry-Attempts") for p in pieces] == [None] * (len(pieces) - 1) + ["1"] and pieces[-1].headers.get("Tarry-Time")
    visit = next(r for r in w.workers[0].requests if r.kind == "pieces")
    assert "Cookie" not in visit.headers and "Tarry-State" not in visit.headers and "Tarry-Exchange" not in visit.headers
    assert visit.headers.get("Tarry-Version") == "1" and visit.headers.get("Host")
    assert w.tarry.metric("tarry_pieces_total") == len(pieces) and w.tarry.metric("tarry_piece_replays_total") == 0


def test_the_replay_waits_for_the_first_byte_and_for_the_other_calls(bed):
    gate = Gate()
    feed = Feed(bed)
    original = feed.server.handler
    feed.server.handler = lambda r, c: (gate.wait(), b"whole")[1] if r.path == "/y" else original(r, c)
    w = Work(bed, feed, lambda r, c: handoff("replay", [deliver(feed.server, "open"), call(feed.server.origin + "/y", id="y")], headers=STICKY),
             lambda r, c: parts((), "end"))
    one = bed.background(w.tarry.get, "/")
    feed.send(b"first")
    gate.open()
    assert one.result().status == 200
    found = replay_parts(w.list("replay")[0])[1]
    assert [e.id for e in found] == ["y", "open"] and found[1].body == b"first"


def test_an_answer_that_ends_at_once_is_given_with_last(bed):
    feed, w = streaming(bed, echo, replay=lambda r, c: parts(replay_parts(r)[1][-1].body, "end"))
    one = bed.background(w.tarry.get, "/")
    feed.conn().send_chunk(b"all")
    feed.end()
    assert one.result().body == b"all"


@pytest.mark.parametrize("status", [429, 500])
def test_an_answer_other_than_2xx_is_given_whole(bed, status):
    feed = Feed(bed, status)
    w = Work(bed, feed, lambda r, c: handoff("replay", [deliver(feed.server)], headers=STICKY), lambda r, c: parts(b"sorry", "end"))
    one = bed.background(w.tarry.get, "/")
    feed.send(b"an ")
    feed.send(b"error")
    feed.end()
    assert one.result().body == b"sorry"
    e = replay_parts(w.list("replay")[0])[1][-1]
    assert (e.status, e.body) == (status, b"an error") and "Tarry-Piece" not in e.headers


def test_rest_waits_for_the_end(bed):
    feed, w = streaming(bed, echo, replay=lambda r, c: parts(b"", "rest", STICKY))
    one = bed.background(w.tarry.get, "/")
    for i in range(3):
        feed.send(b"%d" % i)
    w.seen.wait_for(lambda notes: any(k == "replay" for k, _ in notes))
    feed.send(b"3")
    feed.end()
    assert one.result().body.endswith(b"3")
    (pieces,) = w.list("pieces")
    assert "last" in pieces[0].piece and pieces[0].outcome == "complete"


def test_an_upstream_that_breaks_off_is_told_with_last(bed):
    feed, w = streaming(bed, lambda pieces: [parts(p.outcome or b"", "end") for p in pieces])
    one = bed.background(w.tarry.get, "/")
    feed.send(b"some ")
    w.seen.wait_for(lambda notes: any(k == "replay" for k, _ in notes))
    feed.cut()
    assert one.result().body == b"some truncated"
    p = w.list("pieces")[-1][0]
    assert p.outcome == "truncated" and p.headers.get("Proxy-Status") == "tarry; error=http_response_incomplete"


def test_a_wait_is_a_piece_without_an_answer(bed):
    n = []

    def pieces(found):
        n.append(1)
        return [parts(b"tick ", "end" if len(n) == 3 else "more", {**STICKY, "Tarry-Wait": "0.05"}) for _ in found]
    feed = Feed(bed)
    w = Work(bed, feed, lambda r, c: parts(b"start ", "more", {**STICKY, "Tarry-Wait": "0.05"}, headers=SSE), pieces=pieces)
    got = w.tarry.get("/")
    assert got.body == b"start tick tick tick "
    for (p,) in w.list("pieces"):
        assert p.piece is None and p.body == b"" and p.hop == "0"
    assert w.tarry.metric("tarry_waits_total") == 3


def test_pieces_of_several_exchanges_go_in_one_visit_and_each_takes_effect_as_it_comes(bed):
    def pieces(found):
        return [parts(p.exchange, "end") for p in found]
    feed = Feed(bed)
    w = Work(bed, feed, lambda r, c: parts(b"x", "more", {**STICKY, "Tarry-Wait": "0"}, headers=SSE), pieces=pieces,
             pool={"piece_interval": "500ms"})
    all_of = [bed.background(w.tarry.get, f"/{i}") for i in range(12)]
    bodies = {b.result().body for b in all_of}
    assert bodies == {b"x" + r.exchange.encode() for r in w.list("request")}
    assert max(len(batch) for batch in w.list("pieces")) > 1
    assert sum(len(batch) for batch in w.list("pieces")) == 12


def test_what_a_visit_has_no_room_for_comes_with_the_next_one_at_once(bed):
    """After the first visit all become due within its pause. From then on a pause would last longer than the test."""
    feed = Feed(bed)
    w = Work(bed, feed, lambda r, c: parts(b"x", "more", {**STICKY, "Tarry-Wait": "0"}, headers=SSE),
             pieces=lambda found: [parts(b"y", "end") for _ in found], pool={"piece_interval": "4s"})
    assert w.tarry.get("/").body == b"xy"
    all_of = [bed.background(w.tarry.get, "/") for _ in range(70)]
    w.seen.wait_for(lambda notes: len([k for k, _ in notes if k == "request"]) == 71)
    w.conf.pool["piece_interval"] = "1h"
    w.tarry.reload(w.conf)
    assert [b.result().body for b in all_of] == [b"xy"] * 70
    assert [len(batch) for batch in w.list("pieces")] == [1, 64, 6]


def test_rest_without_a_process_to_come_back_to_is_a_replay_when_all_has_come(bed):
    feed = Feed(bed)
    replays = []

    def replay(r, c):
        body = replay_parts(r)[1][-1].body
        replays.append(body)
        return parts((), "rest") if len(replays) == 1 else parts(body, "end")
    w = Work(bed, feed, lambda r, c: handoff("replay", [deliver(feed.server)], headers=STICKY), replay, echo)
    one = bed.background(w.tarry.get, "/")
    feed.send(b"one ")
    w.seen.wait_for(lambda notes: replays)
    feed.send(b"two ")
    feed.send(b"three")
    feed.end()
    assert one.result().body == b"one two three" and len(replays) == 2 and not w.list("pieces")


def test_a_death_concerns_the_exchange_in_progress_and_those_behind_it(bed):
    """Of three, the first is answered; the worker dies over the second. Both others are replayed whole, with the next attempt."""
    died = []

    def pieces(found):
        if len(found) < 3 and not died:  # until all three are in one visit
            return [parts((), "more", {**STICKY, "Tarry-Wait": "0"}) for _ in found]
        if not died:
            died.append([p.exchange for p in found])
            whole = answer_pieces([parts(b"ok", "end")]).body
            return Raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: 9999\r\n\r\n" + whole
                       + b"HTTP/1.1 200 OK\r\nTarry-Then: trailer\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nha")
        return [parts(b"?", "end") for _ in found]
    feed = Feed(bed)

    def replay(r, c):
        return parts(b"again", "end")
    w = Work(bed, feed, lambda r, c: parts((), "more", {**STICKY, "Tarry-Wait": "0"}, headers=SSE), replay, pieces,
             pool={"piece_interval": "300ms"})
    all_of = [bed.background(w.tarry.get, "/") for _ in range(3)]
    bodies = sorted(b.result().body for b in all_of)
    assert bodies == [b"again", b"haagain", b"ok"]
    replays = w.list("replay")
    assert [(r.hop, r.attempt) for r in replays] == [("0", "2")] * 2
    assert {r.exchange for r in replays} == set(died[0][1:])
    assert {r.headers.get("Tarry-Sent") for r in replays} == {None, sent(b"ha")}
    assert w.tarry.metric("tarry_piece_replays_total") == 2


def test_after_resume_attempts_a_death_is_final(bed):
    feed = Feed(bed)
    w = Work(bed, feed, lambda r, c: parts(b"x", "more", {**STICKY, "Tarry-Wait": "0"}),
             lambda r, c: parts((), "more", {**STICKY, "Tarry-Wait": "0"}) if r.attempt == "2" else Raw(b""),
             lambda found: Raw(b""), pool={"resume_attempts": 2})
    with w.tarry.client() as c:
        c.send_request()
        with pytest.raises(Truncated):
            c.begin().read()


def test_409_whole_means_that_the_process_does_not_have_the_run(bed):
    feed, w = streaming(bed, lambda found: [Reply(409, b"", {"Tarry-Then": "whole"}) for _ in found],
                        replay=lambda r, c: parts(b"a", "more", STICKY) if r.attempt is None else parts(b"b", "end"))
    one = bed.background(w.tarry.get, "/")
    feed.send(b"1")
    w.seen.wait_for(lambda notes: any(k == "replay" for k, _ in notes))
    feed.send(b"2")
    assert one.result().body == b"ab"
    again = w.list("replay")[1]
    assert (again.hop, again.attempt, again.headers.get("Tarry-Sent")) == ("1", "2", sent(b"a"))
    e = replay_parts(again)[1][-1]
    assert (e.headers.get("Tarry-Piece"), e.body) == ("from=0; more", b"12")


@pytest.mark.parametrize("how", ["refuses", "another page"])
def test_a_process_that_is_gone_is_replayed_at_any_server(bed, how):
    feed, w = streaming(bed, lambda found: Reply(404, b"no such page"), servers=2,
                        replay=lambda r, c: parts(b"a", "more", STICKY) if r.attempt is None else parts(b"b", "end"))
    one = bed.background(w.tarry.get, "/")
    feed.send(b"1")
    w.seen.wait_for(lambda notes: any(k == "replay" for k, _ in notes))
    mine = next(x for x in w.workers if x.requests)
    if how == "refuses":
        mine.refuse()
    feed.send(b"2")
    assert one.result().body == b"ab"
    assert w.list("replay")[1].attempt == "2"


def test_a_process_that_is_not_free_in_time_is_not_waited_for(bed):
    gate = Gate()
    feed, w = streaming(bed, echo, servers=2, pool={"sticky_max": "200ms"},
                        replay=lambda r, c: parts(b"a", "more", STICKY) if r.attempt is None else parts(b"b", "end"))
    hop0 = w.request
    w.request = lambda r, c: (gate.wait(), b"ok")[1] if r.path == "/hold" else hop0(r, c)
    one = bed.background(w.tarry.get, "/")
    feed.send(b"1")
    w.seen.wait_for(lambda notes: any(k == "replay" for k, _ in notes))
    holds = [bed.background(w.tarry.get, "/hold") for _ in range(2)]
    w.seen.wait_for(lambda notes: sum(k == "request" and r.path == "/hold" for k, r in notes) == 2)
    feed.send(b"2")
    eventually(lambda: w.tarry.metric("tarry_piece_replays_total") == 1)
    gate.open()
    assert one.result().body == b"ab" and all(h.result().body == b"ok" for h in holds)


def test_a_handoff_of_whole_calls_leaves_the_answer_open_and_the_next_replay_has_it_last_from_0(bed):
    feed = Feed(bed)

    def replay(r, c):
        if r.hop == "1":
            return parts(b"", "replay", STICKY, call(feed.server.origin + "/y", id="y"))
        return parts(b"done", "end")
    w = Work(bed, feed, lambda r, c: handoff("replay", [deliver(feed.server)], headers=STICKY), replay)
    one = bed.background(w.tarry.get, "/")
    feed.send(b"1")
    assert one.result().body == b"done"
    found = replay_parts(w.list("replay")[1])[1]
    assert [(e.id, e.headers.get("Tarry-Piece")) for e in found] == [("y", None), ("c", "from=0; more")]
    assert found[1].body.startswith(b"1")


def test_end_and_tarry_close_reset_the_open_call(bed):
    feed, w = streaming(bed, echo, replay=lambda r, c: parts(b"enough", "end"))
    one = bed.background(w.tarry.get, "/")
    feed.send(b"1")
    assert one.result().body == b"enough"
    eventually(lambda: feed.conn().closed)


def test_tarry_close_ends_the_answer_and_another_may_be_asked_for(bed):
    feed = Feed(bed)

    def replay(r, c):
        if r.hop == "1":
            return parts(b"", "replay", {**STICKY, "Tarry-Close": "c"}, deliver(feed.server, "d"))
        return parts(b"done", "end")
    w = Work(bed, feed, lambda r, c: handoff("replay", [deliver(feed.server)], headers=STICKY), replay)
    one = bed.background(w.tarry.get, "/")
    feed.send(b"1")
    eventually(lambda: feed.conn().closed)
    feed.conn(1).send_chunk(b"2")
    assert one.result().body == b"done"
    found = replay_parts(w.list("replay")[1])[1]
    assert [(e.id, e.body, e.headers.get("Tarry-Piece")) for e in found] == [("c", b"1", "from=0; last"), ("d", b"2", "from=0; more")]


@pytest.mark.parametrize("calls", ["two at once", "one while one is open", "resume"])
def test_one_answer_is_open_at_a_time(bed, calls):
    feed = Feed(bed)
    if calls == "two at once":
        request = lambda r, c: handoff("replay", [deliver(feed.server), deliver(feed.server)], headers=STICKY)  # noqa: E731
    elif calls == "resume":
        request = lambda r, c: handoff("resume /x", [deliver(feed.server)])  # noqa: E731
    else:
        request = lambda r, c: handoff("replay", [deliver(feed.server)], headers=STICKY)  # noqa: E731
    w = Work(bed, feed, request, lambda r, c: parts((), "replay", STICKY, deliver(feed.server, "d")))
    one = bed.background(w.tarry.get, "/")
    if calls == "one while one is open":
        feed.send(b"1")
    problem(one.result(), 502, "handoff_malformed")


def test_the_upstream_is_paused_above_a_window_of_bytes_not_visited_with(bed):
    gate, count = Gate(), []

    def pieces(found):
        gate.wait()
        return echo(found)
    feed, w = streaming(bed, pieces, pool={"piece_window": "64K"})
    one = bed.background(w.tarry.get, "/")
    feed.send(b"x")
    w.seen.wait_for(lambda notes: any(k == "replay" for k, _ in notes))

    def flood():
        for _ in range(300):
            feed.send(b"y" * 65536)
            count.append(1)
        feed.end()
    sending = bed.background(flood)
    w.seen.wait_for(lambda notes: any(k == "pieces" for k, _ in notes))
    eventually(lambda: not _grows(count))
    assert len(count) < 250
    gate.open()
    sending.result(60)
    assert len(one.result(60).body) == 1 + 300 * 65536


def _grows(count):
    n = len(count)
    time.sleep(0.3)
    return len(count) > n


def test_a_client_that_has_much_to_take_is_not_visited_for(bed):
    big = b"z" * (4 << 20)
    feed, w = streaming(bed, lambda found: [parts(big, "more", STICKY) for _ in found], pool={"piece_window": "64K"},
                        replay=lambda r, c: parts(big, "more", STICKY, headers=SSE))
    with w.tarry.client(receive_buffer=4096) as c:
        c.send_request()
        feed.send(b"1")
        w.seen.wait_for(lambda notes: any(k == "replay" for k, _ in notes))
        feed.send(b"2")
        feed.send(b"3")
        with pytest.raises(AssertionError):
            w.seen.wait_for(lambda notes: any(k == "pieces" for k, _ in notes), timeout=0.7)
        response = c.begin()
        response.until(big)
        w.seen.wait_for(lambda notes: any(k == "pieces" for k, _ in notes))


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_cancel_tells_the_process_that_has_the_run(bed, leave):
    feed, w = streaming(bed, lambda found: [parts((), "end") for _ in found],
                        replay=lambda r, c: parts(b"a", "more", {**STICKY, "Tarry-On-Disconnect": "cancel"}, headers=SSE))
    client = w.tarry.client()
    client.send_request()
    feed.send(b"1")
    client.begin().until(b"a")
    w.seen.wait_for(lambda notes: any(k == "replay" for k, _ in notes))
    getattr(client, leave)()
    w.seen.wait_for(lambda notes: any(k == "pieces" for k, _ in notes))
    (p,) = w.list("pieces")[-1]
    assert p.outcome == "cancelled" and p.piece is None and p.body == b"" and p.exchange == w.list("replay")[0].exchange
    eventually(lambda: feed.conn().closed)
    assert w.tarry.access.wait_for()["end"] == "client_gone"


def test_cancel_waits_for_a_visit_that_runs(bed):
    gate, state = Gate(), []

    def pieces(found):
        if not state:
            state.append(1)
            gate.wait()
            return [parts(b"b", "more", {**STICKY, "Tarry-On-Disconnect": "cancel"}) for _ in found]
        return [parts((), "end") for _ in found]
    feed, w = streaming(bed, pieces, replay=lambda r, c: parts(b"a", "more", {**STICKY, "Tarry-On-Disconnect": "cancel"}, headers=SSE))
    client = w.tarry.client()
    client.send_request()
    feed.send(b"1")
    client.begin().until(b"a")
    feed.send(b"2")
    w.seen.wait_for(lambda notes: any(k == "pieces" for k, _ in notes))
    client.reset()
    eventually(lambda: feed.conn().closed)  # the call is reset at once
    assert len(w.list("pieces")) == 1
    gate.open()
    w.seen.wait_for(lambda notes: sum(k == "pieces" for k, _ in notes) == 2)
    (p,) = w.list("pieces")[-1]
    assert p.outcome == "cancelled"


def test_cancel_during_a_wait_with_sticky_tells_the_process_too(bed):
    feed = Feed(bed)
    w = Work(bed, feed, lambda r, c: handoff("replay", b"", headers={**STICKY, "Tarry-Wait": "60"}, on_disconnect="cancel"),
             pieces=lambda found: [parts((), "end") for _ in found])
    client = w.tarry.client()
    client.send_request()
    w.tarry.wait_log(lambda line: "visiting -> parked" in line)
    client.close()
    w.seen.wait_for(lambda notes: any(k == "pieces" for k, _ in notes))
    (p,) = w.list("pieces")[0]
    assert (p.outcome, p.hop) == ("cancelled", "0")


def test_with_finish_the_visits_go_on_and_the_data_counts(bed):
    lost = []

    def pieces(found):
        if not lost and len(w.list("pieces")) > 1:
            lost.append(1)
            return [Reply(409, b"", {"Tarry-Then": "whole"}) for _ in found]
        return echo(found)
    feed, w = streaming(bed, pieces, replay=lambda r, c: parts(b"a", "more", STICKY, headers=SSE) if r.attempt is None else parts((), "end"))
    client = w.tarry.client()
    client.send_request()
    feed.send(b"1")
    client.begin().until(b"a")
    client.reset()
    w.tarry.wait_log(lambda line: "client gone" in line)
    feed.send(b"2")
    w.seen.wait_for(lambda notes: any(k == "pieces" for k, _ in notes))
    feed.send(b"3")
    w.seen.wait_for(lambda notes: sum(k == "replay" for k, _ in notes) == 2)
    assert w.list("replay")[1].headers.get("Tarry-Sent") == sent(b"a2")


def test_keep_alive_in_a_trailer_sends_comments_between_events_that_do_not_count(bed):
    feed, w = streaming(bed, lambda found: [Reply(409, b"", {"Tarry-Then": "whole"}) for _ in found], pool={"keep_alive_interval": "50ms"},
                        replay=lambda r, c: parts(b"data: 1\n\n", "more", {**STICKY, "Tarry-Keep-Alive": "sse"}, headers=SSE)
                        if r.attempt is None else parts(b"data: 2\n\n", "end"))
    with w.tarry.client() as c:
        c.send_request()
        feed.send(b"1")
        response = c.begin()
        response.until(b"data: 1\n\n: keep-alive\n\n: keep-alive\n\n")
        feed.send(b"2")
        assert response.read().endswith(b": keep-alive\n\ndata: 2\n\n")
    assert w.list("replay")[1].headers.get("Tarry-Sent") == sent(b"data: 1\n\n")


def test_no_comments_where_an_event_is_not_complete(bed):
    feed, w = streaming(bed, echo, pool={"keep_alive_interval": "20ms"},
                        replay=lambda r, c: parts(b"data: 1\n", "more", {**STICKY, "Tarry-Keep-Alive": "sse"}, headers=SSE))
    with w.tarry.client() as c:
        c.send_request()
        feed.send(b"1")
        response = c.begin()
        response.until(b"data: 1\n")
        with pytest.raises(TimeoutError):
            response.piece(timeout=0.3)
        feed.end()
        assert response.read() == b"data: 1\n"


def test_tarry_at_is_where_pieces_go(bed):
    feed = Feed(bed)
    seen = Moments()

    def own_work(r, c):
        seen.note(r.kind)
        if r.kind == "pieces":
            return answer_pieces(echo(read_pieces(r), at))
        return parts(replay_parts(r)[1][-1].body, "more", at, headers=SSE)
    own = bed.add(ScriptedWorker(own_work, address=f"unix:{bed.folder}/own.sock", keep_alive=False))
    at = {**STICKY, "Tarry-At": f"unix:{own.address[5:]}"}
    w = Work(bed, feed, lambda r, c: handoff("replay", [deliver(feed.server)], headers=at))
    one = bed.background(w.tarry.get, "/")
    feed.send(b"1")
    seen.wait_for(lambda notes: "replay" in notes)
    for n, piece in enumerate((b"2", b"3"), 1):
        feed.send(piece)
        seen.wait_for(lambda notes: notes.count("pieces") >= n)
    feed.end()
    assert one.result().body == b"123"
    assert [r.kind for r in w.workers[0].requests] == ["request"]
