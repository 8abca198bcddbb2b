"""WebSocket through Tarry to an upstream: a gateway route with websocket = true, as OpenAI's realtime API needs it."""

import asyncio
import json
import re
import signal
import threading

import pytest
import websockets

from harness import Gate, Reply, eventually, free_port
from harness.browser import Browser
from harness.http1 import write_head
from harness.websockets import WebSocketServer, agreeing, asking, talk
from test_docs_services import CONFS
from test_websocket import metric, open_site as open_worker_site, scripted as scripted_worker, wait_tunnels
from test_websocket_h2 import asking as asking_h2
from test_websocket_h2 import opened as opened_h2

KEYS = ["Authorization: Bearer ours"]
GOING_AWAY = b"\x88\x02\x03\xe9"
TEXT = b"\x81\x05hello"


def open_site(bed, upstream, up=None, top=None, endpoints=None, **route):
    conf = bed.conf((), upstream)
    if endpoints:
        del conf.up["origin"]
        conf.endpoints["up"] = endpoints
    conf.up.update(up or {})
    conf.top.update(top or {})
    conf.routes = [("/v1/", {"upstream": "up", "websocket": True, **route})]
    conf.admins = {f"127.0.0.1:{free_port()}": {}}
    return bed.tarry(conf)


def tls_server(bed, handler=None, **more):
    return bed.add(WebSocketServer(handler, ssl=bed.authority.server_context(alpn=("h2", "http/1.1")), **more))


def scripted(bed, script=None, answer=agreeing, tls=False):
    """An upstream that agrees and then runs script(request, conn)."""
    def handler(r, c):
        if r.target == "/v1/plain":
            return Reply(200, b"ok")
        c.send(answer(r))
        if script:
            script(r, c)
        else:
            c.wait_closed()
        c.close()
    return bed.tls_upstream(handler) if tls else bed.upstream(handler)


def opened(tarry, *more, target="/v1/realtime?model=gpt-realtime"):
    c = tarry.client()
    c.send(write_head(f"GET {target} HTTP/1.1", [("Host", "site"), *asking(*more)]), "GET")
    head = c.wire.through(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    return c, head


def failed(reply, status, error):
    """Tarry's own answer, in whatever shape the route gives it."""
    assert reply.status == status and reply.headers.get("Proxy-Status") == f"tarry; error={error}", reply


def rest_of(conn):
    """All bytes until the peer ends the connection."""
    while conn.wire.fill():
        pass
    return conn.wire.take(len(conn.wire.buffer))


# --- with real peers ---

def test_messages_go_both_ways_over_tls(bed):
    server = tls_server(bed)
    tarry = open_site(bed, server, up={"set_header": KEYS})

    async def conversation(ws):
        for message in ["hello", b"\x00\xff" * 100, "", "ünï" * 1000, bytes(1 << 20)]:
            await ws.send(message)
            assert await ws.recv() == message
        await ws.ping()
    talk(f"ws://{tarry.address}/v1/realtime?model=gpt-realtime", conversation)
    line = tarry.access.wait_for()
    assert (line["status"], line["end"], line["calls"], line["upstream"]) == (101, "complete", 1, "up")
    assert line["bytes_in"] > 1000 and line["bytes_out"] > 1000
    head = server.heads[0]
    assert head["Authorization"] == "Bearer ours" and head["Host"] == server.address
    for direction, key in (("sent", "bytes_in"), ("received", "bytes_out")):
        assert metric(bed, tarry, f'tarry_upstream_tunnel_bytes_total{{upstream="up",direction="{direction}"}}') == line[key]
    assert metric(bed, tarry, "tarry_tunnels_total") == 1
    wait_tunnels(bed, tarry, 0)


def test_over_http2_with_the_client(bed):
    """RFC 8441 on the client's side, an upgrade of HTTP/1.1 on the service's, though that speaks HTTP/2."""
    def script(r, c):
        c.send(c.wire.exactly(5) + b"!")
        c.wait_closed()
    upstream = scripted(bed, script, tls=True)
    tarry = open_site(bed, upstream, up={"set_header": KEYS})
    with tarry.h2() as c:
        s = opened_h2(c, target="/v1/realtime")
        c.send_body(s, b"hello", end=False)
        assert s.until(b"!") == b"hello!"
        c.send_body(s, b"")
    asked = upstream.requests[0]
    assert asked.headers.get("Authorization") == "Bearer ours" and asked.headers.get("Upgrade") == "websocket"
    assert len(asked.headers.get("Sec-WebSocket-Key")) == 24
    wait_tunnels(bed, tarry, 0)


def test_a_browser_with_its_key_as_a_subprotocol(bed):
    """OpenAI's way for browsers. The page's key is a credential: the conf's takes its place."""
    server = bed.add(WebSocketServer(subprotocols=["realtime"]))
    conf = bed.conf((), server)
    conf.up["set_header"] = KEYS
    page = bed.worker(lambda r, c: Reply(200, b"<title>page</title>", [("Content-Type", "text/html")]))
    conf.servers = {page.address: {}}
    conf.routes = [("/", {"workers": "app"}), ("/v1/", {"upstream": "up", "websocket": True})]
    tarry = bed.tarry(conf)
    browser = bed.add(Browser(bed.folder))
    browser.go(f"http://{tarry.address}/")
    got = browser.run(f"""new Promise((done, failed) => {{
        const ws = new WebSocket("ws://{tarry.address}/v1/realtime",
                                 ["realtime", "openai-insecure-api-key.theirs", "openai-beta.realtime-v1"]);
        ws.onopen = () => ws.send("hi");
        ws.onmessage = e => {{ done(ws.protocol + " " + e.data); ws.close(); }};
        ws.onclose = e => failed("closed " + e.code);
    }})""")
    assert got == "realtime hi"
    head = server.heads[0]
    assert head["Authorization"] == "Bearer ours"
    assert head["Sec-WebSocket-Protocol"] == "realtime, openai-beta.realtime-v1"
    assert head["Origin"] == server.origin  # a service compares it with its own host


def test_a_client_s_own_key_stays_where_the_conf_has_none(bed):
    server = bed.add(WebSocketServer(subprotocols=["realtime"]))
    tarry = open_site(bed, server, up={"set_header": ["?Authorization: Bearer ours"]})

    async def conversation(ws):
        assert ws.subprotocol == "realtime"
    talk(f"ws://{tarry.address}/v1/realtime", conversation, subprotocols=["realtime", "openai-insecure-api-key.theirs"])
    head = server.heads[0]
    assert "openai-insecure-api-key.theirs" in head["Sec-WebSocket-Protocol"] and "Authorization" not in head


def test_a_lone_key_among_the_subprotocols_takes_the_field_with_it(bed):
    server = bed.add(WebSocketServer())
    tarry = open_site(bed, server, up={"set_header": KEYS})
    c, _ = opened(tarry, ("Sec-WebSocket-Protocol", "openai-insecure-api-key.theirs"))
    eventually(lambda: server.heads, "the server to have seen it")
    c.close()
    assert "Sec-WebSocket-Protocol" not in server.heads[0]


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
    server = tls_server(bed, say_bye)
    tarry = open_site(bed, server)

    async def conversation(ws):
        await ws.send("hello")
        if who == "client":
            await ws.close(4002, "had enough")
        else:
            with pytest.raises(websockets.ConnectionClosed) as e:
                await ws.recv()
            assert (e.value.rcvd.code, e.value.rcvd.reason) == (4001, "enough")
    talk(f"ws://{tarry.address}/v1/x", conversation)
    if who == "client":
        assert done.wait(20) and seen == [(4002, "had enough")]
    assert tarry.access.wait_for()["end"] == "complete"
    wait_tunnels(bed, tarry, 0)


def test_the_stand_in_s_realtime_api(bed):
    """A conversation as an SDK has it, over TLS; the handshake is refused without a key."""
    provider = bed.provider()
    conf = bed.conf((), f"https://localhost:{provider.https.rpartition(':')[2]}")
    conf.up.update(ca_file=provider.ca, set_header=KEYS, retries=0)
    conf.upstreams["bare"] = {"origin": conf.up["origin"], "ca_file": provider.ca, "retries": 0}
    conf.routes = [("/v1/", {"upstream": "up", "websocket": True}), ("/v1/realtime/bare", {"upstream": "bare", "websocket": True})]
    tarry = bed.tarry(conf)

    async def conversation(ws):
        assert ws.subprotocol == "realtime"
        assert json.loads(await ws.recv())["type"] == "session.created"
        await ws.send(json.dumps({"type": "response.create"}))
        assert [json.loads(await ws.recv())["type"] for _ in range(2)] == ["response.output_text.delta", "response.done"]
        for message in ["x" * 100000, b"y" * 300, "z"]:
            await ws.send(message)
            assert await ws.recv() == message
        await (await ws.ping())
    talk(f"ws://{tarry.address}/v1/realtime?model=gpt-realtime", conversation, subprotocols=["realtime", "openai-insecure-api-key.theirs"])
    assert tarry.access.wait_for()["end"] == "complete"
    record = provider.wait_records(1)[0]
    assert record["status"] == 101 and ["Authorization", "Bearer ours"] in record["headers"]
    assert tarry.get("/v1/realtime/bare", asking()).status == 401


def test_many_at_once(bed):
    server = tls_server(bed)
    tarry = open_site(bed, server, up={"max_connections": 2})  # which is for calls

    async def one(i):
        async with websockets.connect(f"ws://{tarry.address}/v1/{i}", open_timeout=None) as ws:
            for k in range(5):
                await ws.send(f"{i}-{k}")
                assert await ws.recv() == f"{i}-{k}"

    async def all_of_them():
        await asyncio.gather(*(one(i) for i in range(50)))
    asyncio.run(all_of_them())
    wait_tunnels(bed, tarry, 0)


def test_the_conf_of_the_docs_works_as_it_stands(bed):
    server = bed.add(WebSocketServer(subprotocols=["realtime"]))
    text = CONFS["realtime.conf"].replace("https://api.openai.com", server.origin)
    address = f"127.0.0.1:{free_port()}"
    bed.tarry(f'listen "{address}" {{ }}\n{text}\n', address=address, env={"OPENAI_API_KEY": "ours"})

    async def conversation(ws):
        await ws.send("{}")
        assert await ws.recv() == "{}"
    talk(f"ws://{address}/v1/realtime?model=gpt-realtime", conversation, subprotocols=["realtime"])
    assert server.heads[0]["Authorization"] == "Bearer ours"


# --- the handshake ---

@pytest.mark.parametrize("status", [401, 403, 429])
def test_a_refusal_comes_back_as_it_is(bed, status):
    """An answer with its body, not a closed connection."""
    body = json.dumps({"error": {"message": "no", "code": "refused"}}).encode()

    def refuse(r, c):
        return Reply(status, body, [("Content-Type", "application/json"), ("x-request-id", "req_1")])
    tarry = open_site(bed, bed.upstream(refuse), up={"retries": 0})
    got = tarry.get("/v1/realtime", asking())
    assert (got.status, got.body, got.headers.get("x-request-id")) == (status, body, "req_1")
    with tarry.h2() as c:
        s = c.begin(fields=asking_h2(c, target="/v1/realtime"), end=False).head()
        assert s.status == status
    assert tarry.access.wait_for()["end"] == "complete"


def test_a_429_is_tried_again_at_the_other_endpoint(bed):
    busy = bed.upstream(lambda r, c: Reply(429, b"{}", [("Retry-After", "30")]))
    server = bed.add(WebSocketServer())
    tarry = open_site(bed, server, endpoints={
        "a": {"origin": busy.origin, "tier": 1}, "b": {"origin": server.origin, "tier": 2}})

    async def conversation(ws):
        await ws.send("x")
        assert await ws.recv() == "x"
    talk(f"ws://{tarry.address}/v1/x", conversation)
    assert len(busy.requests) == 1 and tarry.access.wait_for()["endpoint"] == "b"


def test_websockets_max_goes_to_another_endpoint_and_then_503(bed):
    one, two = scripted(bed), scripted(bed)
    tarry = open_site(bed, one, up={"websockets_max": 1, "retries": 0}, endpoints={
        "a": {"origin": one.origin, "tier": 1}, "b": {"origin": two.origin, "tier": 2}})
    first, _ = opened(tarry)
    second, _ = opened(tarry)
    assert [len(one.requests), len(two.requests)] == [1, 1]
    failed(tarry.get("/v1/x", asking()), 503, "connection_limit_reached")
    assert tarry.get("/v1/plain").body == b"ok"  # calls are not concerned
    first.close()
    wait_tunnels(bed, tarry, 1)
    third, _ = opened(tarry)
    assert sum("realtime" in r.target for r in one.requests) == 2
    second.close()
    third.close()


def test_a_websocket_that_websockets_max_refuses_counts_under_no_limit(bed):
    upstream = scripted(bed)
    conf = bed.conf((), upstream)
    conf.up.update({"websockets_max": 1, "retries": 0, "queue_timeout": "200ms"})
    conf.routes = [("/v1/", {"upstream": "up", "websocket": True})]
    conf.admins = {f"127.0.0.1:{free_port()}": {}}
    text = conf.text().replace('upstream "up" {', 'upstream "up" {\n    limit { requests_per_minute = 2 }', 1)
    conf.text = lambda: text
    tarry = bed.tarry(conf)
    first, _ = opened(tarry)
    for _ in range(3):
        failed(tarry.get("/v1/x", asking()), 503, "connection_limit_reached")
    first.close()
    wait_tunnels(bed, tarry, 0)
    second, _ = opened(tarry)
    second.close()


def test_a_limit_in_flight_counts_websockets(bed):
    upstream = scripted(bed)
    conf = bed.conf((), upstream)
    conf.routes = [("/v1/", {"upstream": "up", "websocket": True})]
    conf.admins = {f"127.0.0.1:{free_port()}": {}}
    text = conf.text().replace('upstream "up" {', 'upstream "up" {\n    limit { in_flight = 1 }', 1)
    conf.text = lambda: text
    tarry = bed.tarry(conf)
    c, _ = opened(tarry)
    waiting = tarry.client()
    waiting.send(write_head("GET /v1/realtime HTTP/1.1", [("Host", "site"), *asking()]), "GET")
    eventually(lambda: len(tarry.access.lines) == 0, "nothing has ended")
    assert len(upstream.requests) == 1
    c.close()
    assert waiting.wire.through(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    waiting.close()


def test_a_service_that_cannot_be_reached_is_502(bed):
    tarry = open_site(bed, f"http://127.0.0.1:{free_port()}", up={"retries": 0})
    failed(tarry.get("/v1/x", asking()), 502, "connection_refused")


@pytest.mark.parametrize("wrong", [dict(upgrade="x"), dict(accepts="AAAAAAAAAAAAAAAAAAAAAAAAAAA=")])
def test_a_101_that_does_not_match_is_502(bed, wrong):
    tarry = open_site(bed, scripted(bed, answer=lambda r: agreeing(r, **wrong)), up={"retries": 0})
    failed(tarry.get("/v1/x", asking()), 502, "http_protocol_error")


def test_a_200_is_no_websocket_over_http2(bed):
    tarry = open_site(bed, bed.upstream(lambda r, c: Reply(200, b"page")))
    assert tarry.get("/v1/x", asking()).body == b"page"
    with tarry.h2() as c:
        assert c.begin(fields=asking_h2(c, target="/v1/x"), end=False).head().status == 502


def test_it_is_off_unless_the_route_says_so(bed):
    upstream = bed.upstream(lambda r, c: Reply(200, b"ok"))
    tarry = open_site(bed, upstream, websocket=False)
    assert tarry.get("/v1/x", asking()).body == b"ok"
    assert "Upgrade" not in upstream.requests[0].headers


@pytest.mark.parametrize("origin, status", [
    ("http://site", 101), ("https://site:8443", 101), ("https://app.example", 101), ("https://evil.example", 403), ("null", 403)])
def test_pages_of_other_hosts_get_no_websocket(bed, origin, status):
    """Browsers let every page open one anywhere, and the key would be ours."""
    upstream = scripted(bed)
    tarry = open_site(bed, upstream, websocket_origins=["app.example"])
    with tarry.client() as c:
        c.send(write_head("GET /v1/x HTTP/1.1", [("Host", "site"), *asking(("Origin", origin))]), "GET")
        if status == 101:
            assert c.wire.through(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        else:
            failed(c.read_response(), 403, "http_request_denied")
    assert [r.headers.get("Origin") for r in upstream.requests] == ([upstream.origin] if status == 101 else [])


# --- its end ---

def test_a_client_that_vanishes_ends_the_upstream_s_connection_at_once(bed):
    seen, done = [], threading.Event()

    def script(r, c):
        seen.append(rest_of(c))
        done.set()
    tarry = open_site(bed, scripted(bed, script))
    c, _ = opened(tarry)
    c.reset()
    assert done.wait(20)
    assert seen[0][:2] == b"\x88\x82"  # a masked Close frame with a status
    mask, status = seen[0][2:6], seen[0][6:8]
    assert bytes(a ^ b for a, b in zip(status, mask)) == b"\x03\xe9"
    assert tarry.access.wait_for()["end"] == "client_gone"


def test_a_killed_client_s_fin_ends_it_too(bed):
    """A process that is killed sends FIN and nothing else. The service does not have to notice by itself."""
    gate = Gate()

    def script(r, c):
        assert c.wire.exactly(8)[:2] == b"\x88\x82"
        gate.wait()
    tarry = open_site(bed, scripted(bed, script), top={"linger_timeout": "100ms"})
    c, _ = opened(tarry)
    c.half_close()
    assert tarry.access.wait_for()["end"] == "client_gone"
    gate.open()
    c.close()


def test_an_upstream_that_breaks_off_ends_the_client_s_connection(bed):
    def script(r, c):
        c.send(b"\x81\x7fhalf a mess")
        c.wire.through(b"go")
        c.reset()
    tarry = open_site(bed, scripted(bed, script))
    c, _ = opened(tarry)
    c.wire.exactly(13)
    c.send(b"go")
    assert c.wait_closed() in ("eof", "reset")
    assert tarry.access.wait_for()["end"] == "http_response_incomplete"
    assert tarry.get("/v1/plain").body == b"ok"


@pytest.mark.parametrize("option", ["tunnel_idle_timeout", "tunnel_timeout"])
def test_its_time_is_bound_and_both_ends_are_told(bed, option):
    seen, done = [], threading.Event()

    def script(r, c):
        c.send(TEXT)
        seen.append(rest_of(c))
        done.set()
    tarry = open_site(bed, scripted(bed, script), up={option: "300ms"})
    c, _ = opened(tarry)
    assert c.read_to_end() == TEXT + GOING_AWAY
    assert done.wait(20) and seen[0][:2] == b"\x88\x82"
    assert tarry.access.wait_for()["end"] == ("idle_timeout" if option == "tunnel_idle_timeout" else "total_timeout")
    c.close()


def test_no_close_frame_stands_within_another(bed):
    tarry = open_site(bed, scripted(bed, lambda r, c: (c.send(b"\x82\x05abc"), c.wait_closed())), up={"tunnel_timeout": "300ms"})
    c, _ = opened(tarry)
    assert c.wire.exactly(5) == b"\x82\x05abc"
    assert c.wait_closed() in ("eof", "reset")
    assert c.wire.buffer == b""


def test_it_outlives_the_timeouts_of_calls(bed):
    ready = Gate()

    def script(r, c):
        c.send(b"first")
        ready.wait()
        c.send(b"second")
    short = {name: "200ms" for name in ("total_timeout", "idle_timeout", "first_byte_timeout", "stream_timeout", "content_idle_timeout")}
    tarry = open_site(bed, scripted(bed, script), up=short)
    c, _ = opened(tarry)
    assert c.wire.exactly(5) == b"first"
    with pytest.raises(TimeoutError):
        c.wire.fill(1)
    ready.open()
    assert c.wire.exactly(6) == b"second"
    c.close()


# --- backpressure, reload, shutdown ---

@pytest.mark.parametrize("direction", ["to the client", "to the upstream"])
def test_who_does_not_read_holds_the_other_back(bed, direction):
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

    def script(r, c):
        if direction == "to the client":
            pour(c.sock)
            c.wait_closed()
        else:
            resume.wait(60)
            drain(c.wire)
            c.send(b"done")
    tarry = open_site(bed, scripted(bed, script))
    c, _ = opened(tarry)
    poured = bed.background(pour, c.sock) if direction == "to the upstream" else None
    last = [-1]

    def stalled():
        before, last[0] = last[0], sent[0]
        return before == sent[0] > 0 and not threading.Event().wait(0.3) and before == sent[0]
    eventually(stalled, "the sender to be held back")
    assert sent[0] < total
    if not tarry.sanitized:
        assert tarry.private_memory() < 24 << 20
    if direction == "to the client":
        drain(c.wire)
    else:
        resume.open()
        poured.result(60)
        assert c.wire.exactly(4, 60) == b"done"
    c.close()


def test_a_reload_does_not_touch_it(bed):
    server = tls_server(bed)
    tarry = open_site(bed, server)

    async def conversation(ws):
        await ws.send("before")
        assert await ws.recv() == "before"
        conf = tarry.conf
        conf.upstreams = {"other": {"origin": "https://other.invalid"}}
        conf.routes = [("/v1/", {"upstream": "other"})]
        await asyncio.get_running_loop().run_in_executor(None, tarry.reload, conf)
        await ws.send("after")
        assert await ws.recv() == "after"
    talk(f"ws://{tarry.address}/v1/x", conversation)


@pytest.mark.parametrize("kind", ["worker", "upstream"])
def test_websocket_drain_close_tells_both_ends_when_tarry_stops(bed, kind):
    seen, done, ready = [], threading.Event(), Gate()

    def script(r, c):
        c.send(TEXT + b"\x82\x05abc")
        ready.wait()
        c.send(b"de" + TEXT)
        seen.append(rest_of(c))
        done.set()
    if kind == "upstream":
        tarry = open_site(bed, scripted(bed, script), top={"shutdown_timeout": "1h", "websocket_drain": "close"})
    else:
        tarry = open_worker_site(bed, scripted_worker(bed, script), top={"shutdown_timeout": "1h", "websocket_drain": "close"})
    c, _ = opened(tarry)
    assert c.wire.exactly(12) == TEXT + b"\x82\x05abc"
    tarry.signal(signal.SIGTERM)
    tarry.wait_log(re.compile("stopping|shutting|SIGTERM"))
    ready.open()  # the frame that is under way is not broken
    rest = c.read_to_end()
    assert rest in (b"de" + GOING_AWAY, b"de" + TEXT + GOING_AWAY)
    c.close()
    tarry.wait_end()
    assert done.wait(20) and seen[0][:2] == b"\x88\x82"
    assert tarry.access.wait_for()["end"] == "shutdown"


@pytest.mark.parametrize("kind", ["worker", "upstream"])
def test_shutdown_timeout_says_1001_before_it_cuts(bed, kind):
    if kind == "upstream":
        tarry = open_site(bed, scripted(bed), top={"shutdown_timeout": "100ms"})
    else:
        tarry = open_worker_site(bed, scripted_worker(bed), top={"shutdown_timeout": "100ms"})
    c, _ = opened(tarry)
    tarry.signal(signal.SIGTERM)
    assert c.read_to_end() == GOING_AWAY
    tarry.wait_end()
    assert tarry.access.wait_for()["end"] == "shutdown"
    c.close()


def test_shutdown_says_1001_over_http2_too(bed):
    tarry = open_site(bed, scripted(bed), top={"shutdown_timeout": "100ms"})
    with tarry.h2() as c:
        s = opened_h2(c, target="/v1/realtime")
        wait_tunnels(bed, tarry, 1)
        tarry.signal(signal.SIGTERM)
        assert s.until(GOING_AWAY) == GOING_AWAY
    tarry.wait_end()


def test_a_handshake_that_waits_gets_no_comments(bed):
    """Whatever it says that it accepts: it has one answer."""
    gate = Gate()

    def handler(r, c):
        gate.wait()
        c.send(agreeing(r))
        c.wait_closed()
        c.close()
    upstream = bed.upstream(handler)
    tarry = open_site(bed, upstream, keep_alive_interval="20ms")
    c = tarry.client()
    c.send(write_head("GET /v1/realtime?alt=sse HTTP/1.1", [("Host", "site"), *asking(), ("Accept", "text/event-stream")]), "GET")
    upstream.wait_for(1)
    gate.opened(0.2)
    gate.open()
    assert c.wire.through(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
    c.close()
