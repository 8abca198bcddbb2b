"""docs/handoff.md: a client that disconnects, and Tarry-On-Disconnect."""

import pytest

from harness import Gate, Moments, Reply, by_kind, call, eventually, handoff

DONE = Reply(200, b"done")
LEAVE = {"fin": lambda c: c.half_close(), "close": lambda c: c.close(), "reset": lambda c: c.reset()}


class Waiting:
    """An upstream that answers when told, and notes how its connections end before that."""

    def __init__(self, bed):
        self.gate, self.ends = Gate(), Moments()
        self.server = bed.upstream(self.answer)

    def answer(self, r, c):
        while not c.server.stopping.is_set() and not self.gate.opened():
            if c.peer_is_gone():
                self.ends.note(c.wire.ended)
                return None
        return Reply(200, b"answer")


def parked(bed, then="resume /x", n=1, **fields):
    """A site with one parked exchange: (site, waiting upstream, the client that waits)."""
    waiting = Waiting(bed)
    worker = bed.worker(by_kind(request=lambda r, c: handoff(then, [call(f"{waiting.server.origin}/{i}") for i in range(n)], **fields),
                                resume=DONE, replay=DONE))
    site = bed.site(worker, waiting.server)
    client = site.tarry.client()
    client.send_request("POST", "/ask", body=b"x")
    waiting.server.wait_for(n)
    return site, waiting, client


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("n", [1, 3])
def test_cancel_resets_the_calls_at_once_and_ends_the_exchange(bed, leave, n):
    site, waiting, client = parked(bed, n=n, on_disconnect="cancel")
    LEAVE[leave](client)
    waiting.ends.wait_for(lambda notes: len(notes) == n, "the calls' connections to end")
    line = site.tarry.access.wait_for()
    assert line["end"] == "client_gone" and line["hops"] == 1 and line["calls"] == n
    assert len(site.worker.requests) == 1
    client.close()


@pytest.mark.parametrize("leave", LEAVE)
@pytest.mark.parametrize("on_disconnect", ["finish", None])
@pytest.mark.parametrize("then", ["resume /x", "replay"])
def test_finish_goes_on_as_if_the_client_were_there(bed, leave, on_disconnect, then):
    site, waiting, client = parked(bed, then, on_disconnect=on_disconnect)
    LEAVE[leave](client)
    site.tarry.wait_log(lambda line: "client" in line and "gone" in line, "a word on the client's going")
    assert waiting.ends.list == []
    waiting.gate.open()
    r = site.worker.wait_for(1, lambda r: r.kind != "request")
    assert b"answer" in r.body
    site.tarry.access.wait_for()
    client.close()


def test_finish_is_the_default_over_further_hops(bed):
    waiting = Waiting(bed)
    second = bed.upstream(lambda r, c: b"second")
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /1", [call(waiting.server.origin)]),
                                resume=[lambda r, c: handoff("resume /2", [call(second.origin)]), DONE]))
    conf = bed.conf(worker, waiting.server)
    conf.upstreams["second"] = {"origin": second.origin}
    tarry = bed.tarry(conf)
    client = tarry.client()
    client.send_request()
    waiting.server.wait_for(1)
    client.close()
    tarry.wait_log(lambda line: "client" in line and "gone" in line)
    waiting.gate.open()
    assert worker.wait_for(1, lambda r: r.target == "/2").enclosed[0].body == b"second"


def test_cancel_sends_rst_stream_over_http2(bed):
    codes = Moments()
    upstream = bed.h2_upstream(lambda s: codes.note(s.wait_reset()))
    worker = bed.worker(lambda r, c: handoff("resume /x", [call(upstream.origin)], on_disconnect="cancel"))
    site = bed.site(worker, upstream)
    client = site.tarry.client()
    client.send_request()
    upstream.wait_for(1)
    client.close()
    codes.wait_for(lambda notes: len(notes) == 1, "RST_STREAM")
    assert codes.list == [8]  # CANCEL; and the connection lives on for others
    assert upstream.conns[0].ended is None


def test_a_relay_without_notify_is_cancelled_by_default(bed):
    site, waiting, client = parked(bed, "relay")
    client.close()
    waiting.ends.wait_for(lambda notes: len(notes) == 1)
    assert site.tarry.access.wait_for()["end"] == "client_gone"


def test_a_relay_with_notify_is_finished_by_default(bed):
    site, waiting, client = parked(bed, "relay", notify="/told")
    client.close()
    site.tarry.wait_log(lambda line: "client" in line and "gone" in line)
    waiting.gate.open()
    r = site.worker.wait_for(1, lambda r: r.kind == "notify")
    assert r.outcome == "complete" and r.enclosed[0].body == b"answer" and waiting.ends.list == []


def test_a_relay_with_finish_is_read_to_its_end(bed):
    site, waiting, client = parked(bed, "relay", on_disconnect="finish")
    client.close()
    site.tarry.wait_log(lambda line: "client" in line and "gone" in line)
    waiting.gate.open()
    waiting.server.wait_idle()
    site.tarry.access.wait_for()
    assert waiting.ends.list == []


def streaming(bed, **fields):
    ends, gate = Moments(), Gate()

    def stream(r, c):
        c.send_head(headers={"Content-Type": "text/event-stream"})
        c.send_chunk("data: 1\n\n")
        while not c.server.stopping.is_set() and not gate.opened():
            if c.peer_is_gone():
                ends.note("gone")
                return
        c.send_chunk("data: 2\n\n")
        c.end_chunks()
        ends.note("sent")
    upstream = bed.upstream(stream)
    worker = bed.worker(by_kind(request=lambda r, c: handoff("relay", [call(upstream.origin)], **fields)))
    site = bed.site(worker, upstream)
    client = site.tarry.client()
    client.send_request()
    client.begin().until(b"data: 1\n\n")
    return site, client, ends, gate


@pytest.mark.parametrize("leave", ["close", "reset"])
def test_a_client_that_leaves_in_mid_stream_cancels_the_call(bed, leave):
    site, client, ends, gate = streaming(bed)
    LEAVE[leave](client)
    ends.wait_for(lambda notes: notes == ["gone"], "the upstream to see the end")
    assert site.tarry.access.wait_for()["end"] == "client_gone"


def test_with_finish_the_stream_is_read_to_its_end_and_told(bed):
    site, client, ends, gate = streaming(bed, notify="/told", on_disconnect="finish")
    client.reset()
    site.tarry.wait_log(lambda line: "client" in line and "gone" in line)
    gate.open()
    ends.wait_for(lambda notes: notes == ["sent"])
    r = site.worker.wait_for(1, lambda r: r.kind == "notify")
    assert r.outcome == "complete" and r.enclosed[0].body == b"data: 1\n\ndata: 2\n\n"


def test_a_client_that_leaves_the_queue_never_reaches_a_worker(bed):
    gate = Gate()
    site = bed.site(lambda r, c: (gate.wait(), DONE)[1], slots=1)
    first = bed.background(site.tarry.get, "/first")
    site.worker.wait_for(1)
    leaver = site.tarry.client()
    leaver.send_request("GET", "/leaver")
    site.tarry.wait_log(lambda line: "-> queued" in line, since=len(site.tarry.lines) - 1)
    leaver.reset()
    site.tarry.access.wait_for(lambda line: line["path"] == "/leaver" and line["end"] == "client_gone")
    gate.open()
    assert first.result().status == 200
    assert site.tarry.get("/last").status == 200
    assert [r.path for r in site.worker.requests] == ["/first", "/last"]


def test_a_client_that_leaves_while_its_request_is_worked_on_frees_nothing_too_early(bed):
    """The worker cannot be interrupted: its slot is taken until it has answered."""
    gate = Gate()
    site = bed.site(lambda r, c: (gate.wait(), DONE)[1] if r.path == "/slow" else DONE, slots=1)
    leaver = site.tarry.client()
    leaver.send_request("GET", "/slow")
    site.worker.wait_for(1)
    leaver.close()
    other = bed.background(site.tarry.get, "/other")
    gate.open()
    assert other.result().body == b"done"
    eventually(lambda: len(site.tarry.access.lines) == 2)
    assert site.worker.peak == 1


def test_pipelined_bytes_are_no_disconnect(bed):
    site, waiting, client = parked(bed, on_disconnect="cancel")
    client.send(b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n")
    assert waiting.ends.list == []
    waiting.gate.open()
    assert client.read_response("POST").body == b"done"
    assert client.read_response("GET").body == b"done"  # /next parks and finishes too
    client.close()
