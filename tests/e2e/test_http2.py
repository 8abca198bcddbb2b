"""Clients that speak HTTP/2: everything that HTTP/1.1 clients have, many requests at a time, and how connections end."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from harness import Client, Gate, H2Client, Reply, Truncated, by_kind, call, eventually, free_port, handoff, problem
from harness import h2client as h2
from test_disconnect import Waiting

DONE = Reply(200, b"done")


def done(r, c):
    return DONE


def step(seconds):
    """The pause of a slow peer."""
    end = time.monotonic() + seconds
    eventually(lambda: time.monotonic() > end, "a slow peer's next step")


def echo(r, c):
    return Reply(200, r.body, headers={"Content-Type": "text/plain", "X-Seen": f"{r.method} {r.target}"})


def test_carries_a_request_and_its_response(bed):
    worker = bed.worker(lambda r, c: Reply(201, b"hello", headers={"Content-Type": "text/plain", "Set-Cookie": "a=1"}))
    site = bed.site(worker)
    with site.tarry.h2() as c:
        r = c.request("POST", "/a?b=c", {"Content-Type": "x/y", "X-One": "1"}, body=b"body")
        assert (r.status, r.body) == (201, b"hello")
        assert r.headers.get("content-type") == "text/plain" and r.headers.get("set-cookie") == "a=1"
        assert "connection" not in r.headers and "transfer-encoding" not in r.headers
        assert r.headers.get("content-length") == "5"
        seen = worker.requests[0]
        assert (seen.method, seen.target, seen.body) == ("POST", "/a?b=c", b"body")
        assert seen.headers.get("Host") == site.tarry.address and seen.headers.get("X-One") == "1"
        assert seen.headers.get("X-Forwarded-Proto") == "http" and seen.headers.get("Content-Length") == "4"
        assert c.request("GET", "/again").status == 201
    line = site.tarry.access.wait_for(n=2)
    assert line["protocol"] == "HTTP/2.0" and line["status"] == 201 and line["end"] == "complete"


def test_alpn_chooses_the_version(bed):
    worker = bed.worker(done)
    conf = bed.conf(worker)
    certificate, key = bed.authority.leaf()
    plain, tls = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    conf.listens = {tls: {"certificate": str(certificate), "private_key": str(key)},
                    plain: {"certificate": str(certificate), "private_key": str(key), "http2": False}}
    tarry = bed.tarry(conf)
    with H2Client(tls, tls=bed.authority.client_context(alpn=("h2", "http/1.1"))) as c:
        assert c.request().body == b"done"
        assert worker.requests[0].headers.get("X-Forwarded-Proto") == "https"
    for address, alpn in ((tls, ("http/1.1",)), (plain, ("h2", "http/1.1")), (tls, ())):
        with tarry.client(tls=bed.authority.client_context(alpn=alpn)) if address == tls else \
                Client(plain, tls=bed.authority.client_context(alpn=alpn)) as c:
            assert c.request().body == b"done"
    tarry.access.wait_for(n=4)
    assert [line["protocol"] for line in tarry.access.lines] == ["HTTP/2.0"] + 3 * ["HTTP/1.1"]


def test_prior_knowledge_beside_http1_on_one_listener(bed):
    site = bed.site(bed.worker(echo))
    with site.tarry.h2(preface=False, greet=False) as c, site.tarry.client() as other:
        for i in range(len(h2.PREFACE)):  # the version is not known before the preface is whole
            assert c.send(h2.PREFACE[i:i + 1])
            assert other.request(target=f"/{i}").headers.get("X-Seen") == f"GET /{i}"
        c.send(h2.settings_frame())
        assert c.request(target="/h2").headers.get("x-seen") == "GET /h2"


def test_http2_can_be_switched_off(bed):
    conf = bed.conf(bed.worker(done))
    conf.listens[conf.address] = {"http2": False}
    tarry = bed.tarry(conf)
    with tarry.h2() as c:
        c.pump(lambda: c.ended)
        assert not c.frames and b"HTTP/1.1 505" in c.buffer
    assert tarry.get("/").body == b"done"


@pytest.mark.parametrize("options", [["--http2-prior-knowledge"], ["--http2"], ["--http1.1"]])
def test_curl_over_each_version(bed, options):
    site = bed.site(bed.worker(echo))
    big = bed.folder / "big"
    big.write_bytes(bytes(range(256)) * 8192)
    out = subprocess.run(["curl", "-sS", "-f", *options, "--data-binary", f"@{big}", "-w", "%{stderr}%{http_version}",
                          site.tarry.url + "/big"], capture_output=True, timeout=60, check=True)
    assert out.stdout == big.read_bytes()
    assert out.stderr == (b"2" if "prior" in options[0] else b"1.1")


NODE = """
const http2 = require('http2'), size = Number(process.argv[2]);
const session = http2.connect(process.argv[1], { rejectUnauthorized: false });
const stream = session.request({ ':method': 'POST', ':path': '/nothere', 'content-length': size });
stream.on('response', h => console.log(h[':status']));
stream.on('error', e => console.log('error', e.code));
stream.on('close', () => session.close());
stream.resume();
stream.end(Buffer.alloc(size));
"""


@pytest.mark.parametrize("size", [100, 100_000, 1_000_000])
@pytest.mark.parametrize("client", ["curl", "node"])
def test_an_answer_before_the_request_is_complete_is_not_lost(bed, client, size):
    """curl 7.88 reported error 92 in place of the status, and node's stream never ended, when RST_STREAM came in one read
    with the response."""
    certificate, key = bed.authority.leaf()
    conf = bed.conf(bed.worker(done))
    address = f"127.0.0.1:{free_port()}"
    conf.listens = {address: {"certificate": str(certificate), "private_key": str(key)}}
    conf.routes = [("/app/", {"workers": "app"})]
    bed.tarry(conf)
    body = bed.folder / "body"
    body.write_bytes(bytes(size))
    for _ in range(4):
        if client == "curl":
            command = ["curl", "-sk", "--http2", "-o", os.devnull, "-w", "%{http_code}", "--data-binary", f"@{body}",
                       f"https://{address}/nothere"]
        else:
            if not shutil.which("node"):
                pytest.skip("needs node")
            command = ["node", "-e", NODE, "--", f"https://{address}", str(size)]
        out = subprocess.run(command, capture_output=True, timeout=60, text=True)
        assert out.stdout.split()[:1] == ["404"], out


def test_h2load_gets_all_its_answers(bed):
    site = bed.site(bed.worker(done))
    out = subprocess.run(["h2load", "-n", "2000", "-c", "8", "-m", "40", site.tarry.url + "/"], capture_output=True, timeout=120,
                         check=True, text=True).stdout
    assert "2000 succeeded, 0 failed, 0 errored, 0 timeout" in out and "2000 2xx" in out, out


def test_streams_side_by_side(bed):
    gates = {f"/{i}": Gate() for i in range(20)}

    def answer(r, c):
        gates[r.target].wait()
        return Reply(200, r.target.encode())

    site = bed.site(bed.worker(answer), slots=20)
    with site.tarry.h2() as c:
        streams = [c.begin(target=t) for t in gates]
        site.worker.wait_for(20)
        for stream, (target, gate) in reversed(list(zip(streams, gates.items()))):
            gate.open()
            assert stream.read() == target.encode()


def test_streams_a_relay_piece_by_piece(bed):
    gates = [Gate() for _ in range(3)]

    def stream(r, c):
        c.send_head(200, {"Content-Type": "text/event-stream"})
        for i, gate in enumerate(gates):
            c.send_chunk(f"data: {i}\n\n")
            gate.wait()
        c.end_chunks()

    site = bed.site(lambda r, c: handoff("relay", [call(site.upstream.origin + "/v1/x", b"{}")]), stream)
    with site.tarry.h2() as c:
        r = c.begin("POST", "/", body=b"x")
        for i, gate in enumerate(gates):
            r.until(f"data: {i}\n\n".encode())
            gate.open()
        assert r.read() == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_keep_alive_comes_while_parked(bed):
    gate = Gate()
    site = bed.site(by_kind(request=lambda r, c: handoff("resume /x", [call(site.upstream.origin)], keep_alive="sse"),
                            resume=Reply(200, b"data: final\n\n")),
                    lambda r, c: (gate.wait(), Reply(200, b"x"))[1], pool={"keep_alive_interval": "50ms"})
    with site.tarry.h2() as c:
        r = c.begin("POST", "/", body=b"x").head()
        assert r.status == 200 and r.headers.get("content-type") == "text/event-stream"
        c.pump(lambda: r.so_far.count(b"\n") >= 3)
        gate.open()
        assert r.read().endswith(b"data: final\n\n")


@pytest.mark.parametrize("how", ["reset", "goaway and close", "close"])
@pytest.mark.parametrize("then", ["cancel", "finish"])
def test_a_client_that_leaves(bed, how, then):
    waiting = Waiting(bed)
    site = bed.site(bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(waiting.server.origin)], on_disconnect=then),
                                       resume=DONE)), waiting.server)
    c = site.tarry.h2()
    r = c.begin("POST", "/", body=b"x")
    waiting.server.wait_for(1)
    if how == "reset":
        r.reset()
    else:
        if "goaway" in how:
            c.send(h2.frame(h2.GOAWAY, 0, 0, bytes(8)))
        c.close()
    if then == "cancel":
        waiting.ends.wait_for(lambda notes: notes, "the call's end")
        assert site.tarry.access.wait_for()["end"] == "client_gone"
        assert len(site.worker.requests) == 1
    else:
        site.tarry.wait_log(lambda line: "client" in line and "gone" in line)
        waiting.gate.open()
        site.worker.wait_for(1, lambda r: r.kind == "resume")
    if how == "reset":  # the others on the connection are not touched
        assert c.begin("POST", "/", body=b"y").id == 3
        site.worker.wait_for(2, lambda r: r.kind == "request")
        waiting.gate.open()
        c.ping()
        c.close()


def test_a_slow_reader_holds_up_its_own_stream_only(bed):
    sent = []

    def flood(r, c):
        c.send_head(200, {"Content-Type": "text/event-stream"})
        try:
            for _ in range(400):
                c.send_chunk(b"x" * 65536)
                sent.append(1)
        except OSError:
            return
        c.end_chunks()

    site = bed.site(by_kind(request=lambda r, c: handoff("relay", [call(site.upstream.origin)]) if r.target == "/slow" else DONE),
                    flood)
    with site.tarry.h2(polite=False, window=1 << 24) as c:
        slow = c.begin("POST", "/slow", body=b"x")
        c.pump(lambda: len(slow.so_far) == 65535)  # all that its window takes
        for i in range(20):
            assert c.request(target=f"/{i}").body == b"done"
        eventually(lambda: sent and len(sent) == (c.ping(), c.ping(), len(sent))[2], "the upstream to be held up")
        assert len(sent) < 300
        c.polite = True
        c.send(h2.window_frame(slow.id, 1 << 20))
        assert len(slow.read()) == 400 * 65536


def test_uploads_are_held_to_their_windows(bed):
    site = bed.site(bed.worker(echo))
    body = bytes(range(256)) * 4096
    with site.tarry.h2() as c:
        c.ping()
        assert c.settings[h2.INITIAL_WINDOW] == 65536 and c.settings[h2.MAX_STREAMS] == 100 and c.settings[h2.NO_PRIORITIES] == 1
        assert c.room == 1 << 20
        streams = [c.begin("POST", f"/{i}", body=body) for i in range(4)]
        assert all(s.read() == body for s in streams)


def test_expect_continue(bed):
    site = bed.site(bed.worker(echo), top={"body_max": "10K"})
    with site.tarry.h2() as c:
        r = c.begin("POST", "/", {"Expect": "100-continue", "Content-Length": 5}, end=False)
        c.pump(lambda: r.interim)
        assert r.interim[0][0] == 100 and r.status is None
        c.send_body(r, b"hello")
        assert r.read() == b"hello"
        r = c.begin("POST", "/", {"Expect": "100-continue", "Content-Length": 50000}, end=False)
        r.read()
        assert r.status == 413 and not r.interim
        c.pump(lambda: r.reset_code is not None)
        assert r.reset_code == h2.NO_ERROR  # the body is not wanted, the answer is whole
        assert c.request("POST", "/", body=b"next").body == b"next"


@pytest.mark.parametrize("method,status,fields", [("HEAD", 200, {"Content-Length": 1000}), ("GET", 204, {}), ("GET", 304, {})])
def test_responses_without_a_body(bed, method, status, fields):
    site = bed.site(bed.worker(lambda r, c: Reply(status, b"" if status != 200 else b"x" * 1000)))
    with site.tarry.h2() as c:
        r = c.request(method)
        assert r.status == status and r.body == b""
        assert not [f for f in c.frames if f[0] == h2.DATA]


def test_a_truncated_answer_is_reset_after_what_came(bed):
    gate = Gate()

    def breaks(r, c):
        c.send_head(200, {"Content-Type": "text/plain"})
        c.send_chunk(b"x" * 100000)
        gate.wait()
        c.close()

    site = bed.site(lambda r, c: handoff("relay", [call(site.upstream.origin)]), breaks)
    with site.tarry.h2() as c:
        r = c.begin("POST", "/", body=b"x").head()
        gate.open()
        with pytest.raises(Truncated) as e:
            r.read()
        assert r.reset_code == h2.INTERNAL_ERROR and len(r.so_far) == 100000, e


def test_trailers_are_dropped(bed):
    site = bed.site(bed.worker(echo))
    with site.tarry.h2() as c:
        r = c.begin("POST", "/", {"X-A": "1"}, body=b"body", end=False)
        c.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, r.id, c.block([("x-trailer", "1"), ("authorization", "evil")])))
        assert r.read() == b"body"
        assert not [n for n, _ in site.worker.requests[0].headers if n.lower() in ("x-trailer", "authorization", "trailer")]


def test_limits_answer_as_in_http1(bed):
    site = bed.site(bed.worker(done), top={"header_max": "4K", "target_max": "1K", "body_max": "10K"})
    with site.tarry.h2() as c:
        problem(c.request(target="/" + "x" * 2000), 414, "http_request_error")
        problem(c.request(headers={"X-Big": "x" * 5000}), 431, "http_request_error")
        problem(c.request("POST", "/", {"Content-Length": 20000}, end=False), 413, "http_request_error")
        problem(c.request("POST", "/", body=b"x" * 20000, end=False), 413, "http_request_error")
        problem(c.request(headers={"Expect": "200-maybe"}), 417, "http_request_error")
        assert c.request().body == b"done"
    assert len(site.worker.requests) == 1


def test_a_slow_body_gets_408(bed):
    site = bed.site(bed.worker(done), top={"body_timeout": "200ms"})
    with site.tarry.h2() as c:
        r = c.begin("POST", "/", {"Content-Length": 10}, end=False)
        problem(r.head(), 408, "http_request_error")
        assert c.request().body == b"done"
    assert len(site.worker.requests) == 1


def test_a_body_and_a_reader_below_the_lowest_rate(bed):
    site = bed.site(bed.worker(lambda r, c: Reply(200, b"x" * 200_000)), top={
        "body_rate_min": "10K", "send_rate_min": "100K", "rate_window": "300ms"})
    with site.tarry.h2() as c:
        r = c.begin("POST", "/", {"Content-Length": 100000}, end=False)
        while r.status is None and not r.over:
            c.send(h2.frame(h2.DATA, 0, r.id, b"x" * 10))
            step(0.02)
            c.pump()
        problem(r.head(), 408, "http_request_error")
        c.pump(lambda: r.over)
    with site.tarry.h2(settings={h2.INITIAL_WINDOW: 1000}, polite=False) as c:
        c.send(h2.settings_frame(ack=True))
        r = c.begin().head()
        while not r.over:
            n = len(c.frames)
            c.send(h2.window_frame(r.id, 300))
            c.pump(lambda: len(c.frames) > n or r.over)
            step(0.02)
        assert r.reset_code == h2.CANCEL and not c.goaways


def test_a_head_that_never_ends(bed):
    site = bed.site(bed.worker(done), top={"header_timeout": "200ms"})
    with site.tarry.h2() as c:
        c.ping()  # nothing may come between the head's frames
        c.send(h2.frame(h2.HEADERS, h2.END_STREAM, 1, c.block(c.head_fields())))
        c.wait_goaway(h2.ENHANCE_YOUR_CALM)
        c.wait_closed()
    with site.tarry.h2(preface=False, greet=False) as c:
        c.send(h2.PREFACE[:10])
        c.wait_closed()


def test_idle_connections_end_with_a_goaway(bed):
    site = bed.site(bed.worker(done), top={"keep_alive_timeout": "200ms"})
    with site.tarry.h2() as c:
        assert c.request().body == b"done"
        assert c.wait_goaway() == (1, h2.NO_ERROR)
        c.wait_closed()


def test_a_client_that_does_not_acknowledge_settings(bed):
    site = bed.site(bed.worker(done), top={"http2_ping_timeout": "200ms"})
    with site.tarry.h2(polite=False) as c:
        c.wait_goaway(h2.SETTINGS_TIMEOUT)
        c.wait_closed()


def test_a_client_that_is_dead_is_noticed(bed):
    waiting = Waiting(bed)
    site = bed.site(lambda r, c: handoff("resume /x", [call(waiting.server.origin)], on_disconnect="cancel"), waiting.server,
                    top={"http2_ping_interval": "200ms", "http2_ping_timeout": "300ms"})
    with site.tarry.h2() as c:
        c.begin("POST", "/", body=b"x")
        waiting.server.wait_for(1)
        for _ in range(3):  # it answers, and is left alone
            n = sum(f[0] == h2.PING for f in c.frames)
            c.pump(lambda: sum(f[0] == h2.PING for f in c.frames) > n)
        assert not waiting.ends.list
        c.polite = False
        waiting.ends.wait_for(lambda notes: notes, "the call's end")


def test_a_connection_carries_so_many_requests(bed):
    site = bed.site(bed.worker(done), top={"connection_requests_max": 3})
    with site.tarry.h2() as c:
        for _ in range(3):
            assert c.request().body == b"done"
        assert c.wait_goaway()[1] == h2.NO_ERROR
        c.pump(lambda: len(c.goaways) >= 2 or c.ended)
        assert c.goaways[0][0] == (1 << 31) - 1 and c.goaways[1][0] == 5
        c.wait_closed()


def test_drain_serves_what_was_on_its_way(bed):  # D3
    gate = Gate()
    site = bed.site(bed.worker(lambda r, c: (gate.wait(), DONE)[1]))
    with site.tarry.h2() as c, site.tarry.h2() as idle:
        first = c.begin()
        site.worker.wait_for(1)
        idle.ping()
        c.polite = False  # the notice's ping is not answered yet: its round trip is not over
        site.tarry.signal(signal.SIGTERM)
        assert c.wait_goaway() == ((1 << 31) - 1, h2.NO_ERROR)
        second = c.begin()
        site.worker.wait_for(2)
        assert idle.wait_goaway() and idle.wait_closed()
        c.polite = True
        c.pump(lambda: len(c.goaways) > 1)
        assert c.goaways[1] == (second.id, h2.NO_ERROR)
        third = c.begin()
        gate.open()
        assert first.read() == second.read() == b"done"
        c.wait_closed()
        assert not third.complete and third.status is None
    site.tarry.wait_end(0)
    assert len(site.worker.requests) == 2


def test_a_preface_after_the_signal_is_served_and_sent_away(bed):  # D1
    gate = Gate()
    site = bed.site(bed.worker(lambda r, c: (gate.wait(), DONE)[1]))
    with site.tarry.client() as other, site.tarry.h2(preface=False, greet=False) as c:
        other.send_request()
        site.worker.wait_for(1)
        site.tarry.signal(signal.SIGTERM)
        site.tarry.wait_log("stopping")
        c.send(h2.PREFACE + h2.settings_frame())
        late = c.begin()
        gate.open()
        assert late.read() == b"done"
        assert c.wait_goaway()[1] == h2.NO_ERROR
        c.wait_closed()
        assert other.read_response().body == b"done"
    site.tarry.wait_end(0)


def test_reload_keeps_connections_and_changes_limits(bed):
    gate = Gate()
    site = bed.site(bed.worker(lambda r, c: (gate.wait() if r.target == "/held" else None, DONE)[1]))
    with site.tarry.h2() as c:
        held = c.begin(target="/held")
        site.worker.wait_for(1)
        site.conf.top["target_max"] = "100"
        site.tarry.reload(site.conf)
        assert c.request(target="/" + "x" * 200).status == 414
        gate.open()
        assert held.read() == b"done" and c.request().body == b"done"


def test_a_thousand_parked_streams_over_ten_connections(bed):
    gate = Gate()
    upstream = bed.upstream(lambda r, c: (gate.wait(), Reply(200, r.body))[1])
    site = bed.site(bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin, r.body)]),
                                       resume=lambda r, c: Reply(200, r.enclosed[0].body))), upstream, slots=4,
                    up={"max_connections": 2000})
    clients = [site.tarry.h2() for _ in range(10)]
    streams = [(c, c.begin("POST", "/", body=b"%d-%d" % (k, i)), b"%d-%d" % (k, i))
               for k, c in enumerate(clients) for i in range(100)]
    upstream.wait_for(1000)
    gate.open()
    assert all(s.read() == want and s.status == 200 for _, s, want in streams)
    for c in clients:
        c.close()


def test_priorities_decide_who_goes_first(bed):
    """RFC 9218: by the field, and by PRIORITY_UPDATE. Both bodies wait for the connection's window."""
    site = bed.site(bed.worker(lambda r, c: Reply(200, b"x" * 60000)))
    for update in (False, True):
        with site.tarry.h2(polite=False, settings={h2.NO_PRIORITIES: 1}) as c:
            first = c.begin(target="/blocker")
            c.pump(lambda: first.complete)
            low = c.begin(headers={} if update else {"Priority": "u=6"})
            low.head()
            high = c.begin(headers={} if update else {"Priority": "u=0"})
            high.head()
            if update:
                for stream, value in ((low, b"u=6"), (high, b"u=0")):
                    c.send(h2.frame(h2.PRIORITY_UPDATE, 0, 0, stream.id.to_bytes(4, "big") + value))
            c.ping()
            c.send(h2.window_frame(0, 50000))
            c.pump(lambda: len(first.so_far + low.so_far + high.so_far) == 65535 + 50000)
            assert len(high.so_far) >= 50000 and len(low.so_far) < 6000
