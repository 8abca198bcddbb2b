"""WebSocket through Tarry: RFC 6455 over HTTP/1.1, tunnelled to a worker where the route says so."""

import asyncio
import re
import signal
import threading

import pytest
import websockets

from harness import Gate, Reply, by_kind, call, eventually, free_port, handoff, problem, request
from harness.http1 import write_head
from harness.websockets import KEY, WebSocketServer, accept, agreeing, asking, talk

OK = Reply(200, b"ok")


def open_site(bed, worker, pool=None, slots=4, top=None, **route):
    """A site whose route is for WebSockets."""
    conf = bed.conf(worker, slots=slots)
    conf.pool.update(pool or {})
    conf.top.update(top or {})
    conf.routes = [("/", {"workers": "app", "websocket": True, **route})]
    conf.admins = {f"127.0.0.1:{free_port()}": {}}
    return bed.tarry(conf)


def metric(bed, tarry, name):
    text = request(next(iter(tarry.conf.admins)), target="/metrics").text
    return int(re.search(rf"^{re.escape(name)} (\d+)$", text, re.M)[1])


def wait_tunnels(bed, tarry, n):
    eventually(lambda: metric(bed, tarry, 'tarry_exchanges{state="tunnelling"}') == n, f"{n} tunnels")


def scripted(bed, script=None, answer=agreeing):
    """A worker that agrees and then runs script(request, conn)."""
    def handler(r, c):
        if r.target == "/plain":
            return OK
        c.send(answer(r))
        if script:
            script(r, c)
        else:
            c.wait_closed()
        c.close()
    return bed.worker(handler)


def opened(tarry, *more, target="/ws", extra=b""):
    """A client whose handshake has been answered with 101, and that answer."""
    c = tarry.client()
    c.send(write_head(f"GET {target} HTTP/1.1", [("Host", "site"), *asking(*more)]) + extra, "GET")
    head = c.wire.through(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return c, head


# --- with real peers ---

def test_messages_go_both_ways(bed):
    server = bed.add(WebSocketServer())
    tarry = open_site(bed, server)

    async def conversation(ws):
        for message in ["hello", b"\x00\xff" * 100, "", "ünï" * 1000]:
            await ws.send(message)
            assert await ws.recv() == message
        await ws.ping()
    talk(f"ws://{tarry.address}/chat?room=1", conversation, compression=None)
    line = tarry.access.wait_for()
    assert (line["status"], line["end"], line["hops"]) == (101, "complete", 1)
    assert line["bytes_in"] > 200 and line["bytes_out"] > 200
    assert metric(bed, tarry, "tarry_tunnels_total") == 1
    wait_tunnels(bed, tarry, 0)


def test_a_message_of_megabytes_arrives_whole(bed):
    server = bed.add(WebSocketServer())
    tarry = open_site(bed, server)
    message = bytes(range(256)) * (4 << 10)

    async def conversation(ws):
        for _ in range(4):
            await ws.send(message)
            assert await ws.recv() == message
    talk(f"ws://{tarry.address}/", conversation, compression=None)


def test_subprotocol_and_extensions_are_the_two_ends_own(bed):
    server = bed.add(WebSocketServer(subprotocols=["chat.v2"]))
    tarry = open_site(bed, server)

    async def conversation(ws):
        assert ws.subprotocol == "chat.v2" and ws.extensions
        await ws.send("a" * 10000)
        assert await ws.recv() == "a" * 10000
    talk(f"ws://{tarry.address}/", conversation, subprotocols=["chat.v1", "chat.v2"])


def test_many_at_once(bed):
    server = bed.add(WebSocketServer())
    tarry = open_site(bed, server, slots=50)

    async def one(i):
        async with websockets.connect(f"ws://{tarry.address}/{i}", open_timeout=None) as ws:
            for k in range(5):
                await ws.send(f"{i}-{k}")
                assert await ws.recv() == f"{i}-{k}"

    async def all_of_them():
        await asyncio.gather(*(one(i) for i in range(50)))
    asyncio.run(all_of_them())
    wait_tunnels(bed, tarry, 0)


def test_the_worker_gets_tarry_s_fields_and_no_forged_ones(bed):
    server = bed.add(WebSocketServer())
    tarry = open_site(bed, server)

    async def conversation(ws):
        await ws.send("x")
        await ws.recv()
    talk(f"ws://{tarry.address}/", conversation, extra_headers={"Tarry-Hop": "7", "X-Forwarded-For": "1.2.3.4"})
    head = server.heads[0]
    assert head["Tarry-Hop"] == "0" and head["Tarry-Kind"] == "request" and head["X-Forwarded-For"] == "127.0.0.1"


# --- the two closes ---

@pytest.mark.parametrize("who", ["client", "server"])
def test_a_close_of_either_end_reaches_the_other(bed, who):
    async def say_bye(ws):
        await ws.recv()
        if who == "server":
            await ws.close(4001, "enough")
        else:
            try:
                await ws.recv()
            except websockets.ConnectionClosed as e:
                seen.append((e.rcvd.code, e.rcvd.reason))
                done.set()
    seen, done = [], threading.Event()
    server = bed.add(WebSocketServer(say_bye))
    tarry = open_site(bed, server)

    async def conversation(ws):
        await ws.send("hello")
        if who == "client":
            await ws.close(4002, "had enough")
        else:
            with pytest.raises(websockets.ConnectionClosed) as e:
                await ws.recv()
            assert (e.value.rcvd.code, e.value.rcvd.reason) == (4001, "enough")
    talk(f"ws://{tarry.address}/", conversation)
    if who == "client":
        assert done.wait(20) and seen == [(4002, "had enough")]
    assert tarry.access.wait_for()["end"] == "complete"
    wait_tunnels(bed, tarry, 0)


def test_a_client_s_half_close_is_passed_on_and_the_rest_still_comes(bed):
    def script(r, c):
        assert c.wire.through(b"last words") == b"last words"
        assert c.wait_closed() == "eof"
        c.send(b"after the end")
    tarry = open_site(bed, scripted(bed, script))
    c, _ = opened(tarry)
    c.send(b"last words")
    c.half_close()
    assert c.read_to_end() == b"after the end"
    line = tarry.access.wait_for()
    assert line["end"] == "complete" and line["bytes_in"] == 10 and line["bytes_out"] == 13
    c.close()


def test_a_server_that_closes_frees_its_slot_though_the_client_stays(bed):
    worker = scripted(bed, lambda r, c: c.send(b"bye"))
    tarry = open_site(bed, worker, slots=1)
    c, _ = opened(tarry)
    assert c.read_to_end() == b"bye"
    assert tarry.get("/plain").body == b"ok"
    c.close()


def test_a_client_that_vanishes_ends_the_worker_s_connection(bed):
    ends = []
    done = threading.Event()

    def script(r, c):
        ends.append(c.wait_closed())
        done.set()
    tarry = open_site(bed, scripted(bed, script))
    c, _ = opened(tarry)
    c.send(b"x")
    c.reset()
    assert done.wait(20)
    assert tarry.access.wait_for()["end"] == "client_gone"


def test_a_worker_that_dies_ends_the_client_s_connection(bed):
    def script(r, c):
        c.send(b"half a mess")
        c.wire.through(b"go")
        c.reset()
    tarry = open_site(bed, scripted(bed, script))
    c, _ = opened(tarry)
    assert c.wire.exactly(11) == b"half a mess"
    c.send(b"go")
    assert c.wait_closed() in ("eof", "reset")
    assert tarry.access.wait_for()["end"] == "http_response_incomplete"
    assert tarry.get("/plain").body == b"ok"


# --- the handshake ---

def test_bytes_before_the_answer_are_held_and_are_no_request(bed):
    gate = Gate()
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

    def answer(r):
        gate.wait()
        return agreeing(r)

    def script(r, c):
        c.send(c.wire.exactly(len(smuggled)) + b"!")
    worker = scripted(bed, script, answer)
    tarry = open_site(bed, worker)
    with tarry.client() as c:
        c.send(write_head("GET /ws HTTP/1.1", [("Host", "site"), *asking()]) + smuggled)
        worker.wait_for(1)
        assert worker.conns[0].wire.buffer == b""  # nothing behind the head
        gate.open()
        assert c.wire.through(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        assert c.read_to_end() == smuggled + b"!"
    assert len(worker.requests) == 1


@pytest.mark.parametrize("status", [200, 401, 404, 426])
def test_an_answer_that_is_not_101_is_an_ordinary_one_and_what_follows_is_no_request(bed, status):
    """F19: a client that was sure of its tunnel may have sent what reads like a request."""
    worker = bed.worker(lambda r, c: Reply(status, b"no tunnel", [("Sec-WebSocket-Version", "13")]))
    tarry = open_site(bed, worker)
    with tarry.client() as c:
        c.send(write_head("GET /ws HTTP/1.1", [("Host", "site"), *asking()]) + b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", "GET")
        got = c.read_response()
        assert (got.status, got.body, got.headers.get("Connection")) == (status, b"no tunnel", "close")
        assert c.wait_closed() in ("eof", "reset")
    assert [r.target for r in worker.requests] == ["/ws"]
    assert tarry.access.wait_for()["status"] == status


def test_a_handshake_may_be_answered_by_a_handoff(bed):
    upstream = bed.upstream(lambda r, c: b"an answer")
    worker = bed.worker(by_kind(request=lambda r, c: handoff("replay", [call(upstream.origin)]), replay=OK))
    conf = bed.conf(worker, upstream)
    conf.routes = [("/", {"workers": "app", "websocket": True})]
    tarry = bed.tarry(conf)
    assert tarry.get("/", asking()).body == b"ok"
    asked, again = worker.requests
    assert asked.headers.get("Upgrade") == "websocket" and "Upgrade" not in again.headers and "Connection" not in again.headers


def test_a_handshake_and_its_answer_may_say_that_they_have_no_body(bed):
    """Charging stations and Shelly devices send Content-Length: 0 with the handshake, some servers with the 101."""
    worker = scripted(bed, answer=lambda r: agreeing(r, ("Content-Length", "0")) + b"raw bytes")
    c, head = opened(open_site(bed, worker), ("Content-Length", "0"))
    assert b"content-length" not in head.lower() and c.wire.exactly(9) == b"raw bytes"
    c.close()


WRONG = {
    "another protocol": dict(upgrade="x"),
    "two protocols": dict(upgrade="websocket, x"),
    "no Connection": dict(connection="keep-alive"),
    "another key's accept": dict(accepts=accept("AAAAAAAAAAAAAAAAAAAAAA==")),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_F19_a_101_that_does_not_match_is_502(bed, wrong):
    worker = scripted(bed, answer=lambda r: agreeing(r, **WRONG[wrong]) + b"raw bytes")
    tarry = open_site(bed, worker)
    got = tarry.get("/ws", asking())
    problem(got, 502, "http_protocol_error")
    assert b"raw bytes" not in got.body
    assert tarry.get("/plain").body == b"ok"
    assert worker.requests[-1].conn.number == 1


@pytest.mark.parametrize("announced", [("Content-Length", "5"), ("Transfer-Encoding", "chunked")])
def test_F19_a_101_with_a_body_is_502(bed, announced):
    tarry = open_site(bed, scripted(bed, answer=lambda r: agreeing(r, announced)))
    problem(tarry.get("/ws", asking()), 502, "http_protocol_error")


def test_F19_a_101_that_nobody_asked_for_is_502(bed):
    tarry = open_site(bed, scripted(bed, answer=lambda r: agreeing(r, accepts=accept(KEY))))
    problem(tarry.get("/ws"), 502, "http_protocol_error")


@pytest.mark.parametrize("body", [dict(body=b"abc"), dict(chunks=[b"abc"])])
def test_F19_an_upgrade_with_a_body_is_refused(bed, body):
    worker = scripted(bed)
    tarry = open_site(bed, worker)
    with tarry.client() as c:
        got = c.request("GET", "/ws", asking(), **body)
        problem(got, 400, "http_request_error")
        assert got.headers.get("Connection") == "close"
    assert worker.requests == []


NO_HANDSHAKE = {
    "no key": asking(key=None), "a bad key": asking(key="short=="), "another protocol": asking(upgrade="h2c"),
    "no Connection": asking(connection="keep-alive"), "two keys": asking(("Sec-WebSocket-Key", KEY)),
}


@pytest.mark.parametrize("fields", NO_HANDSHAKE)
def test_what_is_no_handshake_is_an_ordinary_request(bed, fields):
    worker = bed.worker(lambda r, c: OK)
    tarry = open_site(bed, worker)
    with tarry.client() as c:
        assert c.request("GET", "/", NO_HANDSHAKE[fields]).body == b"ok"
        assert c.request("GET", "/again").body == b"ok"
    first = worker.requests[0]
    assert "Upgrade" not in first.headers and "Connection" not in first.headers


def test_a_post_never_becomes_a_tunnel(bed):
    worker = bed.worker(lambda r, c: OK)
    tarry = open_site(bed, worker)
    assert tarry.request("POST", "/", asking(), b"x").body == b"ok"
    assert "Upgrade" not in worker.request.headers


def test_it_is_off_unless_the_route_says_so(bed):
    worker = bed.worker(lambda r, c: OK)
    site = bed.site(worker)
    assert site.tarry.get("/", asking()).status == 200
    assert "Upgrade" not in worker.request.headers and "Connection" not in worker.request.headers


def test_a_worker_s_connection_is_never_used_again(bed):
    worker = scripted(bed, lambda r, c: c.send(b"bye"))
    tarry = open_site(bed, worker, slots=1)
    c, head = opened(tarry)
    assert c.read_to_end() == b"bye"
    assert tarry.get("/plain").status == 200
    assert [r.conn.number for r in worker.requests] == [0, 1]


def test_the_answer_s_fields_reach_the_client_without_tarry_s(bed):
    tarry = open_site(bed, scripted(bed, answer=lambda r: agreeing(r, ("Tarry-State", "x"), ("Set-Cookie", "a=b"))))
    c, head = opened(tarry)
    text = head.decode().lower()
    assert "set-cookie: a=b" in text and "tarry" not in text
    assert "upgrade: websocket" in text and "connection: upgrade" in text and f"sec-websocket-accept: {accept(KEY)}".lower() in text
    c.close()


# --- slots, backpressure, time, shutdown ---

def test_a_tunnel_holds_its_slot(bed):
    worker = scripted(bed)
    tarry = open_site(bed, worker, slots=1, pool={"queue_timeout": "50ms"})
    c, _ = opened(tarry)
    wait_tunnels(bed, tarry, 1)
    assert tarry.get("/plain").status == 503
    c.close()
    wait_tunnels(bed, tarry, 0)
    assert tarry.get("/plain").status == 200


@pytest.mark.parametrize("direction", ["to the client", "to the worker"])
def test_who_does_not_read_holds_the_other_back(bed, direction):
    """What lies between is bounded; all of it arrives when it is asked for."""
    sent, resume, total = [0], Gate(), 48 << 20

    def pour(sock):
        sock.settimeout(60)
        while sent[0] < total:
            sock.sendall(bytes([sent[0] >> 16 & 255]) * 65536)
            sent[0] += 65536

    def drain(wire):
        got = 0
        while got < total:
            assert wire.fill()
            got += len(wire.take(1 << 20))
        return got

    def script(r, c):
        if direction == "to the client":
            pour(c.sock)
        else:
            resume.wait(60)
            assert drain(c.wire) == total
        c.send(b"done") if direction == "to the worker" else c.wait_closed()
    tarry = open_site(bed, scripted(bed, script))
    c, _ = opened(tarry)
    poured = bed.background(pour, c.sock) if direction == "to the worker" else None
    last = [-1]

    def stalled():
        before, last[0] = last[0], sent[0]
        return before == sent[0] > 0 and not threading.Event().wait(0.3) and before == sent[0]
    eventually(stalled, "the sender to be held back")
    assert sent[0] < total
    if not tarry.sanitized:
        assert tarry.private_memory() < 24 << 20
    if direction == "to the client":
        assert drain(c.wire) == total
    else:
        resume.open()
        poured.result(60)
        assert c.wire.exactly(4, 60) == b"done"
    c.close()


def test_a_silent_tunnel_ends(bed):
    worker = scripted(bed)
    tarry = open_site(bed, worker, pool={"tunnel_idle_timeout": "200ms"})
    c, _ = opened(tarry)
    assert c.read_to_end() == b"\x88\x02\x03\xe9"  # a Close frame, 1001
    assert tarry.access.wait_for()["end"] == "idle_timeout"
    eventually(lambda: worker.conns[0].closed, "the worker's connection to end")


def test_a_tunnel_is_not_bound_by_response_timeout(bed):
    """Silence longer than response_timeout and body_timeout, then it still works."""
    ready = Gate()

    def script(r, c):
        c.send(b"first")
        ready.wait()
        c.send(b"second")
    tarry = open_site(bed, scripted(bed, script), pool={"response_timeout": "1s"}, top={"body_timeout": "1s", "header_timeout": "1s"})
    c, _ = opened(tarry)
    assert c.wire.exactly(5) == b"first"
    with pytest.raises(TimeoutError):
        c.wire.fill(2)
    ready.open()
    assert c.wire.exactly(6) == b"second"
    c.close()


def test_a_reload_does_not_touch_tunnels(bed):
    server = bed.add(WebSocketServer())
    tarry = open_site(bed, server)

    async def conversation(ws):
        await ws.send("before")
        assert await ws.recv() == "before"
        conf = tarry.conf
        conf.routes = [("/", {"workers": "app"})]
        await asyncio.get_running_loop().run_in_executor(None, tarry.reload, conf)
        await ws.send("after")
        assert await ws.recv() == "after"
    talk(f"ws://{tarry.address}/", conversation)
    assert tarry.get("/", asking()).status != 101


def test_a_reload_without_their_pool_leaves_tunnels_alone(bed):
    server, other = bed.add(WebSocketServer()), bed.worker(lambda r, c: OK)
    tarry = open_site(bed, server)

    async def conversation(ws):
        await ws.send("before")
        assert await ws.recv() == "before"
        conf = tarry.conf
        conf.servers, conf.pools = {}, {"other": ({}, {other.address: {}})}
        conf.routes = [("/", {"workers": "other"})]
        await asyncio.get_running_loop().run_in_executor(None, tarry.reload, conf)
        await ws.send("after")
        assert await ws.recv() == "after"
    talk(f"ws://{tarry.address}/", conversation)
    assert tarry.get("/").body == b"ok"


def test_to_a_server_on_a_unix_socket(bed):
    def handler(r, c):
        c.send(agreeing(r))
        c.send(c.wire.exactly(4))
        assert c.wait_closed() == "eof"
        c.close()
    tarry = open_site(bed, bed.unix_worker(handler))
    c, _ = opened(tarry)
    c.send(b"ping")
    assert c.wire.exactly(4) == b"ping"
    c.half_close()
    assert c.read_to_end() == b""
    assert tarry.access.wait_for()["end"] == "complete"
    c.close()


def test_sigterm_lets_tunnels_go_on_until_they_end(bed):
    def script(r, c):
        c.send(c.wire.exactly(5))
    tarry = open_site(bed, scripted(bed, script), top={"shutdown_timeout": "1h"})
    c, _ = opened(tarry)
    wait_tunnels(bed, tarry, 1)
    tarry.signal(signal.SIGTERM)
    tarry.wait_log(re.compile("stopping|shutting|SIGTERM"))
    c.send(b"still")
    assert c.read_to_end() == b"still"
    tarry.wait_end()


def test_over_tls(bed):
    server = bed.add(WebSocketServer())
    conf = bed.conf(server)
    certificate, key = bed.authority.leaf()
    conf.listens[conf.address] = {"certificate": str(certificate), "private_key": str(key)}
    conf.routes = [("/", {"workers": "app", "websocket": True})]
    tarry = bed.tarry(conf)

    async def conversation(ws):
        await ws.send("secret" * 50000)
        assert await ws.recv() == "secret" * 50000
    talk(f"wss://{tarry.address}/", conversation, ssl=bed.authority.client_context())
