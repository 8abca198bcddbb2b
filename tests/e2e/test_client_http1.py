"""Clients that speak HTTP/1.1 and HTTP/1.0, as good clients do it and as odd ones do."""

import os
import re
import resource
import select
import signal
import socket
import time

import pytest

from harness import Client, Gate, Reply, Truncated, by_kind, call, eventually, free_port, handoff

OK = Reply(200, b"ok")


def echo(r, c):
    return Reply(200, r.target.encode() + b" " + r.body)


# --- one connection, many requests ---

def test_a_connection_is_kept(bed):
    site = bed.site(echo)
    with site.tarry.client() as c:
        for i in range(20):
            got = c.request("POST", f"/{i}", body=f"body {i}")
            assert got.body == f"/{i} body {i}".encode() and "Connection" not in got.headers


def test_connection_close_is_obeyed(bed):
    site = bed.site(echo)
    with site.tarry.client() as c:
        assert c.request().status == 200
        got = c.request("GET", "/last", {"Connection": "close"})
        assert got.status == 200 and got.headers.get("Connection") == "close" and c.wait_closed() == "eof"


@pytest.mark.parametrize("value", ["Close", "foo, close", "close, foo", "CLOSE ,x"])
def test_connection_close_in_any_form(bed, value):
    site = bed.site(echo)
    with site.tarry.client() as c:
        c.send_request("GET", "/", {"Connection": value})
        c.send(b"GET /never HTTP/1.1\r\nHost: a\r\n\r\n")
        assert c.read_response().status == 200
        c.wait_closed()
    assert [r.target for r in site.worker.requests] == ["/"]


def test_pipelined_requests_are_answered_in_their_order(bed):
    gate = Gate()
    site = bed.site(lambda r, c: (gate.wait() if r.target == "/0" else None, echo(r, c))[1])
    with site.tarry.client() as c:
        c.send(b"".join(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n%02d" % (i, i) for i in range(50)))
        site.worker.wait_for(1)
        gate.open()
        assert [c.read_response().body for _ in range(50)] == [b"/%d %02d" % (i, i) for i in range(50)]
    assert [r.target for r in site.worker.requests] == [f"/{i}" for i in range(50)]


def test_pipelined_requests_that_park(bed):
    upstream = bed.upstream(lambda r, c: Reply(200, r.target))
    site = bed.site(bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin + r.target)]),
                                       resume=lambda r, c: Reply(200, r.enclosed[0].body))), upstream)
    with site.tarry.client() as c:
        c.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(10)))
        assert [c.read_response().body for _ in range(10)] == [b"/%d" % i for i in range(10)]


@pytest.mark.parametrize("step", [1, 2, 7, 60])
def test_requests_cut_anywhere(bed, step):
    site = bed.site(echo)
    raw = (b"POST /one HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: t\r\n\r\n"
           b"GET /two HTTP/1.1\r\nHost: a\r\n\r\nPOST /three HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz")
    with site.tarry.client() as c:
        for i in range(0, len(raw), step):
            c.send(raw[i:i + step])
        assert [c.read_response().body for _ in range(3)] == [b"/one abcde", b"/two ", b"/three xyz"]


def test_an_idle_connection_is_closed_after_keep_alive_timeout(bed):
    site = bed.site(echo, top={"keep_alive_timeout": "200ms"})
    with site.tarry.client() as c:
        assert c.request().status == 200
        assert c.wait_closed() == "eof"


def test_a_request_after_a_close_of_the_client_in_mid_body_reaches_nobody(bed):
    site = bed.site(echo)
    for end in ("close", "reset", "half_close"):
        c = site.tarry.client()
        c.send(b"POST /half HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        getattr(c, end)()
        c.close()
    site.tarry.access.wait_for(lambda line: line["end"] != "complete", n=3)
    assert site.tarry.get("/after").status == 200
    assert [r.target for r in site.worker.requests] == ["/after"]


# --- bodies ---

@pytest.mark.parametrize("size", [0, 1, 16384, 65536, 65537, 3 << 20])
def test_uploads_of_any_size(bed, size):
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    site = bed.site(lambda r, c: Reply(200, str(len(r.body))))
    with site.tarry.client() as c:
        assert c.request("POST", "/length", body=body).text == str(size)
        c.send_request("POST", "/chunked", chunks=[body[i:i + 50000] for i in range(0, size, 50000)])
        assert c.read_response().text == str(size)
    assert [r.body for r in site.worker.requests] == [body, body]
    assert [r.framing for r in site.worker.requests] == ["length", "length"]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_worker_s_framing_becomes_the_client_s(bed, framing):
    site = bed.site(lambda r, c: Reply(200, [b"one ", b"two"], framing=framing))
    with site.tarry.client() as c:
        for _ in range(3):
            got = c.request()
            assert got.body == b"one two" and got.framing == ("length" if framing == "length" else "chunked")


def test_trailers_of_a_worker_are_dropped(bed):
    def answer(r, c):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nok\r\n0\r\nX-T: forged\r\nSet-Cookie: a=b\r\n\r\n")
    site = bed.site(answer)
    with site.tarry.client() as c:
        for _ in range(2):
            got = c.request()
            assert got.body == b"ok" and got.trailers == [] and "Set-Cookie" not in got.headers and "Trailer" not in got.headers


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(bed, status):
    site = bed.site(lambda r, c: Reply(status, b"", framing="none"))
    with site.tarry.client() as c:
        for _ in range(2):
            assert c.request().status == status


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_HEAD_has_the_head_of_GET_and_no_body(bed, framing):
    site = bed.site(lambda r, c: Reply(200, b"x" * 1000, {"X-Method": r.method}, framing=framing))
    with site.tarry.client() as c:
        got = c.request("HEAD", "/")
        assert got.status == 200 and got.body == b"" and got.headers.get("X-Method") == "HEAD"
        if framing == "length":
            assert got.headers.get("Content-Length") == "1000"
        assert c.request("GET", "/").body == b"x" * 1000  # nothing of the first answer is left on the connection


# --- Expect: 100-continue ---

@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_100_continue_comes_before_the_body(bed, coding):
    site = bed.site(echo)
    with site.tarry.client() as c:
        for n in range(2):
            field = b"Content-Length: 4" if coding == "length" else b"Transfer-Encoding: chunked"
            c.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" + field + b"\r\n\r\n", "POST")
            assert c.wire.through(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            assert len(site.worker.requests) == n
            c.send(b"body" if coding == "length" else b"4\r\nbody\r\n0\r\n\r\n")
            got = c.read_response()
            assert got.body == b"/ body" and got.interim == []


def test_a_body_that_does_not_wait_for_100_is_read(bed):
    site = bed.site(echo)
    with site.tarry.client() as c:
        c.send(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody")
        assert c.read_response("POST").body == b"/ body"
        assert c.request("GET", "/next").body == b"/next "


def test_an_expectation_without_a_body_gets_no_100(bed):
    site = bed.site(echo)
    with site.tarry.client() as c:
        c.send(b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n")
        got = c.read_response()
        assert got.status == 200 and got.interim == []


def test_an_http_1_0_client_gets_no_100(bed):
    site = bed.site(echo)
    with site.tarry.client() as c:
        c.send(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody")
        got = c.read_response("POST")
        assert got.body == b"/ body" and got.interim == []


# --- HTTP/1.0 ---

def test_an_http_1_0_request_ends_with_its_connection(bed):
    site = bed.site(echo)
    with site.tarry.client() as c:
        c.send(b"GET /old HTTP/1.0\r\n\r\nGET /never HTTP/1.0\r\n\r\n")
        got = c.read_response()
        assert got.body == b"/old " and got.headers.get("Connection") == "close"
        c.wait_closed()
    assert [r.target for r in site.worker.requests] == ["/old"]


def test_an_http_1_0_client_may_ask_to_keep_the_connection(bed):
    site = bed.site(echo)
    with site.tarry.client() as c:
        for i in range(3):
            c.send(b"GET /%d HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % i)
            got = c.read_response()
            assert got.body == b"/%d " % i and got.headers.get("Connection").lower() == "keep-alive"


@pytest.mark.parametrize("keep", [b"", b"Connection: keep-alive\r\n"])
@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_an_http_1_0_client_never_gets_chunks(bed, keep, framing):
    """A body of unknown length ends with the connection."""
    site = bed.site(lambda r, c: Reply(200, [b"one ", b"two"], framing=framing))
    with site.tarry.client() as c:
        c.send(b"GET / HTTP/1.0\r\n" + keep + b"\r\n")
        got = c.read_response()
        assert got.framing == "close" and got.body == b"one two" and got.headers.get("Connection") == "close"


def test_a_body_of_unknown_length_that_breaks_off_is_a_reset_for_an_http_1_0_client(bed):
    gate = Gate()

    def broken(r, c):
        c.send_head(framing="chunked")
        c.send_chunk(b"part")
        gate.wait()
        c.close()
    site = bed.site(broken)
    with site.tarry.client() as c:
        c.send(b"GET / HTTP/1.0\r\n\r\n")
        got = c.begin()
        got.until(b"part")
        gate.open()
        with pytest.raises(Truncated) as cut:
            got.read()
        assert cut.value.how == "reset"


# --- forms of the target ---

@pytest.mark.parametrize("target, arrives", [("http://{}/a/b?c=d", "/a/b?c=d"), ("http://{}", "/"), ("HTTP://{}/x", "/x"), ("http://{}?q", "/?q"),
                                             ("https://{}/s", "/s")])
def test_absolute_targets_arrive_in_origin_form(bed, target, arrives):
    site = bed.site(echo)
    got = site.tarry.get(target.format(site.tarry.address))
    if target == "http://{}?q" and got.status == 400:
        return  # no path before the query: few clients write it, and a refusal is safe
    assert got.status == 200
    assert site.worker.request.target == arrives and site.worker.request.headers.get("Host") == site.tarry.address


def test_OPTIONS_for_the_server_as_a_whole(bed):
    site = bed.site(lambda r, c: Reply(200, b"", {"Allow": "GET"}))
    assert site.tarry.request("OPTIONS", "*").headers.get("Allow") == "GET"
    assert site.tarry.request("OPTIONS", f"http://{site.tarry.address}").status == 200
    assert [(r.method, r.target) for r in site.worker.requests] == [("OPTIONS", "*")] * 2


# --- clients that end in part ---

def test_a_client_that_has_done_with_sending_gets_its_answer(bed):
    """While a worker works on it."""
    gate = Gate()
    site = bed.site(lambda r, c: (gate.wait(), OK)[1])
    with site.tarry.client() as c:
        c.send_request("GET", "/")
        site.worker.wait_for(1)
        c.half_close()
        gate.open()
        assert c.read_response().body == b"ok" and c.wait_closed() == "eof"


def test_an_end_that_comes_with_the_answer_loses_nothing_of_it(bed):
    """The client's FIN and the worker's response in the same moment: many times, for they must meet."""
    gates = [Gate()]
    site = bed.site(lambda r, c: (gates[-1].wait(), OK)[1])
    for i in range(100):
        gates.append(Gate())
        with site.tarry.client() as c:
            c.send_request("GET", "/")
            site.worker.wait_for(i + 1)
            c.half_close()
            gates[-1].open()
            assert c.read_response().body == b"ok"


@pytest.mark.parametrize("rest", [b"", b"GET /half HTTP/1.1\r\nHo"])
def test_an_end_behind_half_a_request_loses_nothing_of_the_answer_before(bed, rest):
    site = bed.site(echo)
    for _ in range(20):
        with site.tarry.client() as c:
            c.send(b"GET /whole HTTP/1.1\r\nHost: a\r\n\r\n" + rest)
            c.half_close()
            assert c.read_response().body == b"/whole "


def test_a_client_that_sends_and_is_done_at_once_gets_its_answer(bed):
    """As `printf ... | nc -N` does: Tarry sees the request and the end together."""
    site = bed.site(echo)
    for _ in range(3):
        with site.tarry.client() as c:
            site.tarry.signal(signal.SIGSTOP)
            c.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
            c.half_close()
            site.tarry.signal(signal.SIGCONT)
            assert c.read_response("POST").body == b"/x body" and c.wait_closed() == "eof"


def test_pipelined_requests_before_a_half_close_are_all_answered(bed):
    site = bed.site(echo)
    with site.tarry.client() as c:
        c.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(5)))
        c.half_close()
        assert [c.read_response().body for _ in range(5)] == [b"/%d " % i for i in range(5)]
        assert c.wait_closed() == "eof"


# --- listeners ---

def test_several_listeners_of_both_kinds(bed):
    conf = bed.conf(bed.worker(echo))
    other, path = f"127.0.0.1:{free_port()}", f"unix:{bed.folder}/tarry.sock"
    conf.listens.update({other: {}, path: {"backlog": 10}})
    tarry = bed.tarry(conf)
    for address in (tarry.address, other, path):
        with Client(address) as c:
            for i in range(3):
                assert c.request("POST", f"/{i}", body=b"x").body == b"/%d x" % i


def test_a_unix_listener_s_file_is_replaced_after_a_crash_and_removed_at_the_end(bed):
    conf = bed.conf(bed.worker(lambda r, c: Reply(200, r.headers.get("X-Forwarded-Proto"))))
    path = bed.folder / "tarry.sock"
    conf.listens = {f"unix:{path}": {}}
    tarry = bed.tarry(conf)
    with Client(conf.address) as c:
        assert c.request(host="a").body == b"http"
    tarry.kill()
    assert path.exists()
    tarry.process = None
    tarry.start()
    with Client(conf.address) as c:
        assert c.request(host="a").body == b"http"
    tarry.stop()
    assert not path.exists()


def test_ipv6(bed):
    conf = bed.conf(bed.worker(lambda r, c: Reply(200, r.headers.get("X-Forwarded-For"))))
    address = f"[::1]:{free_port()}"
    conf.listens = {address: {}}
    tarry = bed.tarry(conf)
    with Client(address) as c:
        assert c.request().body == b"::1" or c.request().body == b"[::1]"
    assert tarry.access.wait_for()["peer"] == "::1"


# --- too many ---

def quiet(tarry, seconds=1.0):
    """CPU time of the process over a while: the share of one core."""
    before, began = tarry.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (tarry.cpu_seconds() - before) / (time.monotonic() - began)


def nothing_comes(c, seconds=0.3):
    return not select.select([c.sock], [], [], seconds)[0]


def test_beyond_max_connections_others_wait(bed):
    """In the backlog, without a spin, as long as all who are in are at something; who waits is served once there is room."""
    gate = Gate()
    site = bed.site(lambda r, c: (gate.wait() if r.path == "/held" else None, echo(r, c))[1], slots=5, top={"max_connections": 5})
    held = [site.tarry.client() for _ in range(5)]
    for c in held:
        c.send_request("GET", "/held")
    site.worker.wait_for(5)
    waiting = [site.tarry.client() for _ in range(3)]
    for c in waiting:
        c.send_request("GET", "/waited")
    assert all(nothing_comes(c) for c in waiting)
    assert quiet(site.tarry) < 0.3
    gate.open()
    for c in held:
        assert c.read_response().body == b"/held "
        c.close()
    for c in waiting:
        assert c.read_response().body == b"/waited "
        c.close()


def test_out_of_descriptors_it_waits_instead_of_spinning_and_recovers(bed):
    worker = bed.worker(echo)
    tarry = bed.tarry(bed.conf(worker), preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48)))
    clients = []
    for _ in range(80):
        c = socket.create_connection(("127.0.0.1", tarry.port))
        clients.append(c)
    assert quiet(tarry, 1.5) < 0.3
    assert tarry.alive and tarry.descriptors() <= 48
    about = [line for line in tarry.lines if re.search("accept|descriptor|max_connections|open files", line)]
    assert 1 <= len(about) < 20, about
    for c in clients:
        c.close()
    for _ in range(5):
        assert tarry.get("/").status == 200


def test_with_few_descriptors_requests_still_get_through(bed):
    """Connections to workers need descriptors too: clients do not take the last one."""
    worker = bed.worker(echo)
    tarry = bed.tarry(bed.conf(worker, slots=2), preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)))
    clients = [tarry.client() for _ in range(100)]
    tasks = []
    for i, c in enumerate(clients):
        c.send_request("GET", f"/{i}", {"Connection": "close"})
        tasks.append(bed.background(lambda c=c: (c.read_response(), c.close())[0]))
    assert [t.result().body for t in tasks] == [b"/%d " % i for i in range(100)]


# --- responses as they come ---

def test_an_event_stream_of_a_worker_is_not_held_up(bed):
    gates = [Gate() for _ in range(3)]

    def stream(r, c):
        c.send_head(headers={"Content-Type": "text/event-stream"})
        for i, gate in enumerate(gates):
            c.send_chunk(f"data: {i}\n\n")
            gate.wait()
        c.end_chunks()
    site = bed.site(stream)
    for raw in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"):
        gates[:] = [Gate() for _ in range(3)]
        with site.tarry.client() as c:
            c.send(raw)
            got = c.begin()
            assert got.headers.get("Content-Type") == "text/event-stream"
            for i, gate in enumerate(gates):
                got.until(f"data: {i}\n\n".encode())
                gate.open()
            assert got.read() == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


def test_the_head_of_a_worker_s_response_comes_before_its_body(bed):
    gate = Gate()

    def slow(r, c):
        c.send_head(length=4)
        gate.wait()
        c.send(b"body")
    site = bed.site(slow)
    with site.tarry.client() as c:
        c.send_request()
        got = c.begin()
        assert got.headers.get("Content-Length") == "4"
        gate.open()
        assert got.read() == b"body"


def test_what_a_client_does_not_take_yet_is_in_a_file_without_a_name(bed):
    big = os.urandom(1 << 20) * 24
    spool = bed.folder / "spool"
    spool.mkdir()
    site = bed.site(lambda r, c: Reply(200, big) if r.target == "/big" else OK, slots=1, top={"temp_dir": str(spool)})

    def spooled():
        folder = f"/proc/{site.tarry.pid}/fd"
        return sum(os.stat(f"{folder}/{fd}").st_size for fd in os.listdir(folder) if str(spool) in os.readlink(f"{folder}/{fd}"))
    with Client(site.tarry.address, receive_buffer=4096) as c:
        c.send_request("GET", "/big")
        site.worker.wait_for(1)
        site.worker.wait_idle()
        assert site.tarry.get("/other").body == b"ok"
        assert spooled() > len(big) // 2 and list(spool.iterdir()) == []
        # The rest with a window like anybody's.
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        assert c.read_response().body == big
    eventually(lambda: spooled() == 0, "the file is closed")


def test_a_response_that_never_ends_ends_when_the_client_goes(bed):
    """The worker is let go: its connection is closed."""
    ends = []

    def forever(r, c):
        c.send_head(framing="chunked")
        try:
            while not c.server.stopping.is_set():
                c.send_chunk(b"x" * 100)
                time.sleep(0.005)
        except OSError:
            ends.append(1)
            c.close()
    site = bed.site(forever, slots=1)
    c = site.tarry.client()
    c.send_request()
    c.begin().until(b"xxx")
    c.close()
    eventually(lambda: ends, "the worker's connection to end")
    assert site.tarry.access.wait_for()["end"] == "client_gone"
