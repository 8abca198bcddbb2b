"""The harness against itself: what the other tests rely on."""

import ssl
import threading

import h2.config
import h2.connection
import h2.events
import pytest

from harness import (BadMessage, Client, Conf, Gate, Raw, Reply, Reset, Truncated, call, enclosed, eventually, handoff,
                     replay_parts, request)
from harness.base import connect
from harness.http1 import parse_head


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("unix", [False, True])
def test_client_reads_each_framing(bed, framing, unix):
    handler = lambda r, c: Reply(200, ["one", "two"], {"X-A": "1"}, framing=framing)  # noqa: E731
    worker = bed.unix_worker(handler) if unix else bed.worker(handler)
    got = request(worker.address, "POST", "/p?q=1", {"X-B": "2"}, b"hello")
    assert (got.status, got.body, got.headers.get("x-a")) == (200, b"onetwo", "1")
    if framing == "chunked":
        assert [p for _, p in got.pieces] == [b"one", b"two"]
    r = worker.request
    assert (r.method, r.target, r.path, r.body, r.headers.get("X-B")) == ("POST", "/p?q=1", "/p", b"hello", "2")
    assert r.raw_head.startswith(b"POST /p?q=1 HTTP/1.1\r\nHost: ") and r.raw.endswith(b"\r\n\r\nhello")


def test_chunked_request_keeps_its_raw_bytes(bed):
    worker = bed.worker()
    request(worker.address, "POST", "/", chunks=[b"abc", b"de"])
    assert worker.request.body == b"abcde"
    assert worker.request.raw_body == b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


def test_keep_alive_and_pipelining(bed):
    worker = bed.worker(lambda r, c: r.target.encode())
    with Client(worker.address) as c:
        c.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [c.read_response(m).body for m in ("GET", "HEAD", "GET")] == [b"/1", b"", b"/3"]
    assert len(worker.conns) == 1


def test_one_connection_a_request(bed):
    worker = bed.worker(keep_alive=False)
    with Client(worker.address) as c:
        assert c.request().headers.get("Connection") == "close"
        assert c.wait_closed() == "eof"


@pytest.mark.parametrize("raw, how", [(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "eof"),
                                      (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "eof")])
def test_client_sees_a_cut(bed, raw, how):
    worker = bed.worker(lambda r, c: Raw(raw))
    with Client(worker.address) as c:
        with pytest.raises(Truncated) as e:
            c.request()
    assert (e.value.how, e.value.so_far, e.value.response.status) == (how, b"abc", 200)


def test_client_sees_a_reset(bed):
    def handler(r, c):
        c.send_head()
        c.send_chunk(b"x")
        gate.wait()
        c.reset()
    gate = Gate()
    worker = bed.worker(handler)
    with Client(worker.address) as c:
        c.send_request()
        response = c.begin()
        assert response.piece() == b"x"
        gate.open()
        with pytest.raises(Truncated) as e:
            response.read()
    assert e.value.how == "reset"


@pytest.mark.parametrize("raw", [
    b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nA : b\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", b"HTTP/1.1 20 OK\r\n\r\n"])
def test_client_is_strict(bed, raw):
    worker = bed.worker(lambda r, c: Raw(raw))
    with Client(worker.address) as c, pytest.raises(BadMessage):
        c.request()


def test_server_sees_the_client_go(bed):
    worker = bed.worker(lambda r, c: seen.append(c.wait_closed()) or done.set())
    seen, done = [], threading.Event()
    s = connect(worker.address)
    s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    worker.wait_for(1)
    s.close()
    assert done.wait(10) and seen == ["eof"]


def test_interim_responses_are_put_aside(bed):
    worker = bed.worker(lambda r, c: Raw(b"HTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"))
    got = request(worker.address)
    assert got.status == 204 and [i.status for i in got.interim] == [103]


def test_refuse_and_listen_again(bed):
    worker = bed.worker()
    assert request(worker.address).status == 200
    worker.refuse()
    with pytest.raises(ConnectionRefusedError):
        connect(worker.address)
    worker.listen()
    assert request(worker.address).status == 200


def test_tls_upstream(bed):
    upstream = bed.tls_upstream(lambda r, c: b"secret")
    assert upstream.origin.startswith("https://127.0.0.1:")
    with Client(upstream.address, tls=bed.authority.client_context(), server_name="localhost") as c:
        assert c.request().body == b"secret"


@pytest.mark.parametrize("name, cert", [("wrong", {"names": ("DNS:other.example",)}), ("old", {"days": -1})])
def test_bad_certificates_are_bad(bed, name, cert):
    upstream = bed.tls_upstream(certificate=name, cert=cert)
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(upstream.address, tls=bed.authority.client_context(), server_name="localhost")


def test_handoff_and_enclosed_round_trip(bed):
    body = b"".join(call("https://a.example/x", b'{"a":1}', id=f"c{i}", timeout=3, retries=0) for i in range(2))
    head, _, rest = body.partition(b"\r\n\r\n")
    first, headers = parse_head(head + b"\r\n\r\n")
    assert first == b"POST https://a.example/x HTTP/1.1"
    assert headers == [("Content-Type", "application/json"), ("Content-Length", "7"), ("Tarry-Call-Id", "c0"),
                       ("Tarry-Timeout", "3"), ("Tarry-Retries", "0")]
    reply = handoff("resume /x", [body], state="s", gzip=True)
    assert dict(reply.headers)["Tarry-Then"] == "resume /x" and reply.body[:2] == b"\x1f\x8b"
    found = enclosed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTarry-Call-Id: c0\r\n\r\nok"
                     b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n"
                     b"Proxy-Status: tarry; error=http_response_timeout\r\n\r\n")
    assert [(f.status, f.id, f.body, f.error) for f in found] == [
        (200, "c0", b"ok", None), (504, None, b"", "http_response_timeout")]
    with pytest.raises(BadMessage):
        enclosed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok")
    worker = bed.worker()
    request(worker.address, "POST", "/", {"Tarry-Body-Length": "3"}, b"abcHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    original, answers = replay_parts(worker.request)
    assert original == b"abc" and answers[0].body == b"x"


class H2Peer:
    """Just enough of an HTTP/2 client."""

    def __init__(self, bed, upstream):
        s = connect(upstream.address)
        self.sock = bed.authority.client_context(("h2",)).wrap_socket(s, server_hostname="localhost")
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="latin-1"))
        self.h2.initiate_connection()
        self.events = []
        self.flush()

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def get(self, path):
        n = self.h2.get_next_available_stream_id()
        self.h2.send_headers(n, [(":method", "GET"), (":path", path), (":scheme", "https"), (":authority", "localhost")],
                             end_stream=True)
        self.flush()
        return n

    def wait(self, kind):
        while not any(isinstance(e, kind) for e in self.events):
            self.sock.settimeout(10)
            data = self.sock.recv(65536)
            assert data
            self.events += self.h2.receive_data(data)
            self.flush()
        return next(e for e in self.events if isinstance(e, kind))


def test_h2_upstream(bed):
    upstream = bed.h2_upstream(lambda s: Reply(200, [b"a" * 50000, b"b" * 50000], {"X-A": "1"}))
    peer = H2Peer(bed, upstream)
    peer.get("/x?y")
    peer.wait(h2.events.ResponseReceived)
    while sum(len(e.data) for e in peer.events if isinstance(e, h2.events.DataReceived)) < 65535:
        peer.events += peer.h2.receive_data(peer.sock.recv(65536))
    peer.h2.increment_flow_control_window(100000)
    peer.h2.increment_flow_control_window(100000, 1)
    peer.flush()
    peer.wait(h2.events.StreamEnded)
    assert sum(len(e.data) for e in peer.events if isinstance(e, h2.events.DataReceived)) == 100000
    assert (upstream.request.method, upstream.request.target, upstream.request.authority) == ("GET", "/x?y", "localhost")


def test_h2_hooks(bed):
    upstream = bed.h2_upstream(lambda s: {"/refuse": s.refuse, "/goaway": lambda: s.conn.goaway(0)}[s.path]())
    peer = H2Peer(bed, upstream)
    peer.get("/refuse")
    assert peer.wait(h2.events.StreamReset).error_code == 7
    peer.get("/goaway")
    assert peer.wait(h2.events.ConnectionTerminated).last_stream_id == 0


def test_h2_upstream_sees_a_reset(bed):
    codes = []
    upstream = bed.h2_upstream(lambda s: codes.append(s.wait_reset()))
    peer = H2Peer(bed, upstream)
    n = peer.get("/")
    upstream.wait_for(1)
    peer.h2.reset_stream(n, 8)
    peer.flush()
    eventually(lambda: codes)
    assert codes == [8]


def test_default_conf_has_all_parts(tmp_path):
    conf = Conf(tmp_path, ["127.0.0.1:1"], "http://127.0.0.1:2")
    conf.pool["queue_max"] = 5
    conf.up["set_header"] = ['A: "b"']
    text = conf.text()
    assert 'workers "app" {\n    queue_max = 5\n    server "127.0.0.1:1" {\n        slots = 4\n    }\n}' in text
    assert 'upstream "up" {\n    origin = "http://127.0.0.1:2"\n    retry_first_pause = "20ms"\n    set_header = { "A: \\"b\\"" }\n}' in text
    assert 'route "/" {\n    workers = "app"\n}' in text and f'listen "{conf.address}"' in text


def test_a_failing_handler_fails_the_test(tmp_path, authority):
    from harness.bed import Bed
    b = Bed(tmp_path, authority)
    worker = b.worker(lambda r, c: 1 / 0)
    with pytest.raises((Truncated, Reset, ConnectionError)):
        request(worker.address)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        b.stop()
