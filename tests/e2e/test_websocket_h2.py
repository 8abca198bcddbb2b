"""WebSocket over HTTP/2 (RFC 8441): extended CONNECT, which a worker sees as an upgrade of HTTP/1.1."""

import re

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import wsproto.connection
import wsproto.events

from harness import Gate, Reply, by_kind, call, eventually, handoff
from harness import h2client
from harness.base import connect
from harness.browser import Browser
from harness.websockets import KEY, WebSocketServer, agreeing
from test_websocket import open_site, scripted, wait_tunnels

OK = Reply(200, b"ok")


def asking(c, *more, target="/ws", protocol="websocket"):
    """The fields of an extended CONNECT."""
    return [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "https" if c.secure else "http"),
            (":authority", c.host), (":path", target), ("sec-websocket-version", "13"), *more]


def opened(c, *more, **other):
    s = c.begin(fields=asking(c, *more, **other), end=False).head()
    assert s.status == 200, s
    return s


class Talk:
    """One side of a WebSocket over bytes, by wsproto."""

    def __init__(self, send):
        self.ws, self._send = wsproto.connection.Connection(wsproto.connection.CLIENT), send
        self.messages, self.closed, self._text = [], None, ""

    def take(self, data):
        self.ws.receive_data(data)
        for event in self.ws.events():
            if isinstance(event, wsproto.events.TextMessage):
                self._text += event.data
                if event.message_finished:
                    self.messages.append(self._text)
                    self._text = ""
            elif isinstance(event, wsproto.events.Ping):
                self.say(event.response())
            elif isinstance(event, wsproto.events.CloseConnection):
                self.closed = event.code

    def say(self, event):
        self._send(self.ws.send(event))


def test_messages_go_both_ways_with_a_real_client(bed):
    """By the library h2, which knows nothing of ours."""
    server = bed.add(WebSocketServer())
    tarry = open_site(bed, server)
    sock = connect(tarry.address)
    c = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    c.initiate_connection()
    sock.sendall(c.data_to_send())
    seen = []

    def pump(until):
        while not until():
            for event in c.receive_data(sock.recv(65536)):
                seen.append(event)
                if isinstance(event, h2.events.DataReceived):
                    c.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    if event.data:
                        talk.take(event.data)
            sock.sendall(c.data_to_send())

    def send(data):
        while data:
            room = min(c.local_flow_control_window(1), c.max_outbound_frame_size)
            if room == 0:
                sock.sendall(c.data_to_send())
                pump(lambda: c.local_flow_control_window(1) > 0)
            c.send_data(1, data[:room])
            data = data[room:]
        sock.sendall(c.data_to_send())
    talk = Talk(send)
    pump(lambda: any(isinstance(e, h2.events.RemoteSettingsChanged) for e in seen))
    assert c.remote_settings[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1
    c.send_headers(1, [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/chat?room=1"),
                       (":authority", tarry.address), ("sec-websocket-version", "13"), ("origin", "http://example")])
    sock.sendall(c.data_to_send())
    pump(lambda: any(isinstance(e, h2.events.ResponseReceived) for e in seen))
    answer = dict(next(e for e in seen if isinstance(e, h2.events.ResponseReceived)).headers)
    assert answer[b":status"] == b"200"
    assert not {b"upgrade", b"connection", b"sec-websocket-accept"} & set(answer)
    texts = ["hello", "ünï" * 1000, "x" * 500000, ""]
    for n, text in enumerate(texts):
        talk.say(wsproto.events.TextMessage(data=text))
        pump(lambda: len(talk.messages) > n)
    assert talk.messages == texts
    talk.say(wsproto.events.CloseConnection(code=1000))
    pump(lambda: any(isinstance(e, h2.events.StreamEnded) for e in seen))
    assert talk.closed == 1000
    sock.close()
    head = server.heads[0]
    assert head["Upgrade"] == "websocket" and head["Host"] == tarry.address and head["Tarry-Hop"] == "0"
    line = tarry.access.wait_for()
    assert (line["status"], line["end"], line["protocol"]) == (101, "complete", "HTTP/2.0")
    assert line["bytes_in"] > 500000 and line["bytes_out"] > 500000


def test_a_browser_talks_over_the_connection_that_loaded_the_page(bed):
    """Chromium asks for its WebSocket over HTTP/2 where the server offers it."""
    server = bed.add(WebSocketServer())
    page = bed.worker(lambda r, c: Reply(200, b"<!doctype html><title>t</title>", [("Content-Type", "text/html")]))
    conf = bed.conf(page)
    conf.pools["live"] = ({}, {server.address: {"slots": 4}})
    certificate, key = bed.authority.leaf()
    conf.listens[conf.address] = {"certificate": str(certificate), "private_key": str(key)}
    conf.routes.append(("/ws", {"workers": "live", "websocket": True}))
    tarry = bed.tarry(conf)
    browser = bed.add(Browser(bed.folder, ["--ignore-certificate-errors"]))
    browser.go(f"https://{tarry.address}/")
    said = browser.run("""new Promise((done, failed) => {
        const said = [], ws = new WebSocket(`wss://${location.host}/ws`);
        ws.onopen = () => { ws.send("one"); ws.send("two".repeat(50000)); };
        ws.onmessage = e => { said.push(e.data); if (said.length == 2) ws.close(1000); };
        ws.onclose = e => done([...said, e.code]);
        ws.onerror = () => failed("error");
    })""")
    assert said == ["one", "two" * 50000, 1000]
    line = tarry.access.wait_for(lambda line: line["status"] == 101)
    assert line["protocol"] == "HTTP/2.0"


def test_beside_other_requests_on_one_connection(bed):
    tarry = open_site(bed, scripted(bed, lambda r, c: c.send(c.wire.exactly(4))))
    with tarry.h2() as c:
        streams = [opened(c) for _ in range(3)]
        assert c.request(target="/plain").body == b"ok"
        for i, s in enumerate(streams):
            c.send_body(s, b"me %d" % i, end=False)
        assert [s.read() for s in streams] == [b"me 0", b"me 1", b"me 2"]


def test_it_is_offered_only_where_a_route_takes_it(bed):
    worker = bed.worker(lambda r, c: OK)
    site = bed.site(worker)
    with site.tarry.h2() as c:
        c.ping()
        assert h2client.ENABLE_CONNECT not in c.settings
        assert c.begin(fields=asking(c), end=False).wait_reset() == h2client.PROTOCOL_ERROR
    with open_site(bed.another(), worker).h2() as c:
        c.ping()
        assert c.settings[h2client.ENABLE_CONNECT] == 1
    assert worker.requests == []


def test_d09_another_route_refuses_it(bed):
    """501, and the worker does not hear of it: it would be no ordinary request."""
    worker = bed.worker(lambda r, c: OK)
    conf = bed.conf(worker)
    conf.routes = [("/", {"workers": "app"}), ("/ws", {"workers": "app", "websocket": True})]
    tarry = bed.tarry(conf)
    with tarry.h2() as c:
        assert c.begin(fields=asking(c, target="/other"), end=False).head().status == 501
        assert c.request(target="/plain").body == b"ok"
    assert [r.target for r in worker.requests] == ["/plain"]


def test_d09_another_protocol_is_refused(bed):
    tarry = open_site(bed, bed.worker(lambda r, c: OK))
    with tarry.h2() as c:
        assert c.begin(fields=asking(c, protocol="connect-udp"), end=False).head().status == 501
        assert c.request(target="/plain").body == b"ok"


def test_f19_a_length_is_refused(bed):
    worker = scripted(bed)
    tarry = open_site(bed, worker)
    with tarry.h2() as c:
        assert c.begin(fields=asking(c, ("content-length", "5")), end=False).head().status == 400
        assert c.request(target="/plain").body == b"ok"
    assert [r.target for r in worker.requests] == ["/plain"]


@pytest.mark.parametrize("status, seen", [(200, 502), (204, 502), (401, 401), (302, 302), (500, 500)])
def test_an_answer_that_is_not_101_never_looks_like_a_tunnel(bed, status, seen):
    """Over HTTP/2 any 2xx would."""
    worker = bed.worker(lambda r, c: OK if r.target == "/plain" else
                        Reply(status, b"" if status == 204 else b"no tunnel", framing="none" if status == 204 else "length"))
    tarry = open_site(bed, worker)
    with tarry.h2() as c:
        s = c.begin(fields=asking(c), end=False).head()
        assert s.status == seen
        if seen == status:
            assert s.read() == b"no tunnel"
        assert c.request(target="/plain").body == b"ok"


def test_a_handoff_is_no_answer_either(bed):
    upstream = bed.upstream(lambda r, c: b"an answer")
    conf = bed.conf(bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin)]), resume=OK)), upstream)
    conf.routes = [("/", {"workers": "app", "websocket": True})]
    with bed.tarry(conf).h2() as c:
        assert c.begin(fields=asking(c), end=False).head().status == 502
    assert upstream.requests == []


def test_a_101_with_the_wrong_accept_is_502(bed):
    """Nobody but Tarry looks at it here."""
    tarry = open_site(bed, scripted(bed, answer=lambda r: agreeing(r, accepts="AAAAAAAAAAAAAAAAAAAAAAAAAAA=")))
    with tarry.h2() as c:
        assert c.begin(fields=asking(c), end=False).head().status == 502


def test_the_worker_gets_a_key_of_tarry_s(bed):
    worker = scripted(bed)
    tarry = open_site(bed, worker)
    with tarry.h2() as c:
        opened(c, ("sec-websocket-key", KEY), ("sec-websocket-protocol", "chat"))
        opened(c)
        first, second = (r.headers for r in worker.requests)
        assert re.fullmatch(r"[A-Za-z0-9+/]{22}==", first.get("Sec-WebSocket-Key"))
        assert len({KEY, first.get("Sec-WebSocket-Key"), second.get("Sec-WebSocket-Key")}) == 3
        assert first.get("Sec-WebSocket-Protocol") == "chat"
        assert worker.requests[0].method == "GET" and first.get("Connection") == "Upgrade"


def test_data_before_the_answer_is_held(bed):
    gate = Gate()

    def answer(r):
        gate.wait()
        return agreeing(r)
    worker = scripted(bed, lambda r, c: c.send(c.wire.exactly(9) + b"!"), answer)
    tarry = open_site(bed, worker)
    with tarry.h2() as c:
        s = c.begin(fields=asking(c), body=b"too early", end=False)
        worker.wait_for(1)
        c.ping()
        assert worker.conns[0].wire.buffer == b""
        gate.open()
        assert s.head().status == 200 and s.read() == b"too early!"


def test_each_direction_ends_for_itself(bed):
    def script(r, c):
        assert c.wire.through(b"last words") == b"last words"
        assert c.wait_closed() == "eof"
        c.send(b"after the end")
    tarry = open_site(bed, scripted(bed, script))
    with tarry.h2() as c:
        s = opened(c)
        c.send_body(s, b"last words")
        assert s.read() == b"after the end"
    assert tarry.access.wait_for()["end"] == "complete"


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_leaves_ends_the_worker_s_connection(bed, how):
    worker = scripted(bed)
    tarry = open_site(bed, worker)
    with tarry.h2() as c:
        s = opened(c)
        s.reset() if how == "reset" else c.close()
        eventually(lambda: worker.conns[0].closed, "the worker's connection to end")
        assert tarry.access.wait_for()["end"] == "client_gone"
        if how == "reset":
            assert c.request(target="/plain").body == b"ok"


def test_a_worker_that_dies_resets_the_stream(bed):
    def script(r, c):
        c.send(b"half a mess")
        c.wire.through(b"go")
        c.reset()
    tarry = open_site(bed, scripted(bed, script))
    with tarry.h2() as c:
        s = opened(c)
        s.until(b"half a mess")
        c.send_body(s, b"go", end=False)
        s.wait_reset()
        assert c.request(target="/plain").body == b"ok"


def test_a_server_that_closes_frees_its_slot_though_the_client_stays(bed):
    tarry = open_site(bed, scripted(bed, lambda r, c: c.send(b"bye")), slots=1)
    with tarry.h2() as c:
        s = opened(c)
        assert s.read() == b"bye"
        assert c.request(target="/plain").body == b"ok"


def test_a_silent_tunnel_ends_and_one_that_talks_does_not(bed):
    tarry = open_site(bed, scripted(bed), pool={"tunnel_idle_timeout": "500ms"}, top={"body_timeout": "100ms", "send_timeout": "100ms"})
    with tarry.h2() as c:
        quiet = opened(c)
        assert quiet.read() == b"\x88\x02\x03\xe9"  # a Close frame, 1001
        assert tarry.access.wait_for()["end"] == "idle_timeout"
        assert c.request(target="/plain").body == b"ok"


@pytest.mark.parametrize("direction", ["to the client", "to the worker"])
def test_who_does_not_read_holds_the_other_back(bed, direction):
    sent, resume, total = [0], Gate(), 24 << 20

    def script(r, c):
        c.sock.settimeout(60)
        if direction == "to the client":
            while sent[0] < total:
                c.sock.sendall(b"x" * 65536)
                sent[0] += 65536
            c.wait_closed()
        else:
            resume.wait(60)
            got = 0
            while got < total:
                assert c.wire.fill()
                got += len(c.wire.take(1 << 20))
            c.send(b"done")
    tarry = open_site(bed, scripted(bed, script))
    with tarry.h2(polite=direction == "to the worker", window=1 << 20) as c:
        if direction == "to the client":
            c.pump(lambda: c.settings)
            c.send(h2client.settings_frame(ack=True))
            s = opened(c)
            c.pump(lambda: len(s.so_far) == 65535, "the stream's window to be used up")
            before = -1
            while before != sent[0] or sent[0] == 0:
                before = sent[0]
                c.ping()
                resume.opened(0.3)
            assert sent[0] < total
            c.polite = True
            c.send(h2client.window_frame(s.id, 1 << 30) + h2client.window_frame(0, 1 << 30))
            c.pump(lambda: len(s.so_far) == total, "all of it", 60)
        else:
            s = opened(c)
            block = b"y" * 16384
            while min(c.room, c.rooms[s.id]) >= len(block):
                c.send_body(s, block, end=False)
                sent[0] += len(block)
                c.ping()
            assert sent[0] < total
            resume.open()
            while sent[0] < total:
                c.send_body(s, block, end=False)
                sent[0] += len(block)
            s.until(b"done", 60)
        if not tarry.sanitized:
            assert tarry.private_memory() < 24 << 20


def test_a_goaway_lets_tunnels_go_on(bed):
    tarry = open_site(bed, scripted(bed, lambda r, c: c.send(c.wire.exactly(5))), top={"shutdown_timeout": "1h"})
    with tarry.h2() as c:
        s = opened(c)
        wait_tunnels(bed, tarry, 1)
        tarry.process.terminate()
        c.wait_goaway(h2client.NO_ERROR)
        c.send_body(s, b"still", end=False)
        assert s.read() == b"still"
        c.wait_closed()
    tarry.wait_end()


def test_a_chatty_tunnel_is_no_flood(bed):
    """Many small messages, each with its frames and window updates, for as long as it likes."""
    def script(r, c):
        for _ in range(20000):
            c.send(c.wire.exactly(10))
        c.wait_closed()
    tarry = open_site(bed, scripted(bed, script))
    with tarry.h2() as c:
        s = opened(c)
        for i in range(20000):
            c.send_body(s, b"%010d" % i, end=False)
            c.pump(lambda: len(s.so_far) >= 10)
            assert s.so_far == b"%010d" % i
            s.pieces.clear()
        assert c.request(target="/plain").body == b"ok"
