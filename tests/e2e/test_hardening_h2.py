"""What hostile HTTP/2 clients send: requests that an HTTP/1.1 server behind would read in another way (D), and floods (A). The
name of a test begins with the id of the attack. Whatever is refused, no byte of it reaches a worker, and other streams live on."""

import time

import pytest

from harness import H2Client, Reply, call, eventually, free_port, handoff, problem
from harness import h2client as h2

RESET, REFUSED = "reset", "refused"


def done(r, c):
    return Reply(200, b"done")


def pseudo(c, **changed):
    fields = {":method": "GET", ":scheme": "http", ":authority": c.host, ":path": "/"}
    fields.update({":" + k: v for k, v in changed.items()})
    return [(k, v) for k, v in fields.items() if v is not None]


def refused(site, fields, expected=RESET, status=400, body=None, last=True):
    """Sends a request with these fields (a function of the connection) on a connection with an honest stream before and behind it."""
    with site.tarry.h2() as c:
        assert c.request(target="/honest").body == b"done"
        r = c.begin(fields=fields(c), body=body, end=last)
        if expected == RESET:
            assert r.wait_reset() == h2.PROTOCOL_ERROR
        else:
            problem(r.head(), status, "http_request_error")
        assert c.request(target="/honest").body == b"done"
        assert not c.ended and not c.goaways
    assert {r.target for r in site.worker.requests} == {"/honest"}


MALFORMED = {
    "cr": ("x-a", "b\rc"), "lf": ("x-a", "b\nc"), "crlf": ("x-a", "b\r\nx-evil: 1"), "nul": ("x-a", "b\0c"), "control": ("x-a", "b\x01c"),
    "colon in the name": ("x:a", "b"), "space in the name": ("x a", "b"), "lf in the name": ("x\na", "b"), "upper case": ("X-A", "b"),
    "empty name": ("", "b"), "leading blank": ("x-a", " b"), "trailing blank": ("x-a", "b "), "tab": ("x-a", "\tb"),
}


@pytest.mark.parametrize("field", MALFORMED.values(), ids=MALFORMED)
def test_d01_malformed_fields(bed, field):
    refused(bed.site(bed.worker(done)), lambda c: pseudo(c) + [field])


PSEUDO = {
    "after a regular one": lambda c: pseudo(c, path=None) + [("x-a", "b"), (":path", "/evil")],
    "twice": lambda c: pseudo(c) + [(":path", "/evil")],
    "method twice": lambda c: pseudo(c) + [(":method", "POST")],
    "unknown": lambda c: pseudo(c) + [(":evil", "1")],
    "a response's": lambda c: pseudo(c) + [(":status", "200")],
    "no method": lambda c: pseudo(c, method=None),
    "no path": lambda c: pseudo(c, path=None),
    "no scheme": lambda c: pseudo(c, scheme=None),
    "no authority and no host": lambda c: pseudo(c, authority=None),
    "protocol without CONNECT": lambda c: pseudo(c) + [(":protocol", "websocket")],
}


@pytest.mark.parametrize("fields", PSEUDO.values(), ids=PSEUDO)
def test_d02_pseudo_fields(bed, fields):
    refused(bed.site(bed.worker(done)), fields)


def test_d02_pseudo_fields_in_trailers(bed):
    site = bed.site(bed.worker(done))
    with site.tarry.h2() as c:
        r = c.begin("POST", "/evil", body=b"x", end=False)
        c.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, r.id, c.block([(":path", "/other")])))
        assert r.wait_reset() == h2.PROTOCOL_ERROR
        assert c.request().body == b"done"
    assert len(site.worker.requests) == 1


@pytest.mark.parametrize("what,expected", [
    ({"method": "GET /evil"}, RESET), ({"method": ""}, RESET), ({"method": "G\rT"}, RESET), ({"path": "evil"}, RESET),
    ({"path": ""}, RESET), ({"path": "/evil#x"}, REFUSED), ({"path": "/e vil"}, RESET), ({"path": "/e\x7fvil"}, RESET),
    ({"path": "*"}, RESET), ({"path": "http://other/evil"}, RESET), ({"method": "X" * 33}, REFUSED), ({"path": "/../x"}, REFUSED)], ids=str)
def test_d03_method_and_path(bed, what, expected):
    refused(bed.site(bed.worker(done)), lambda c: pseudo(c, **what), expected)


def test_d03_two_slashes_are_a_path(bed):
    site = bed.site(bed.worker(done))
    with site.tarry.h2() as c:
        assert c.request(target="//evil.example/x").body == b"done"
        assert c.request("OPTIONS", "*").body == b"done"
    assert [r.target for r in site.worker.requests] == ["//evil.example/x", "*"]
    assert {r.headers.get("Host") for r in site.worker.requests} == {site.tarry.address}


@pytest.mark.parametrize("scheme", ["ht tp", "http://other/?x=", "", "ftp", "javascript"])
def test_d04_scheme(bed, scheme):
    refused(bed.site(bed.worker(done)), lambda c: pseudo(c, scheme=scheme))


def test_d04_scheme_is_that_of_the_connection(bed):
    conf = bed.conf(worker := bed.worker(done))
    certificate, key = bed.authority.leaf()
    tls = f"127.0.0.1:{free_port()}"
    conf.listens[tls] = {"certificate": str(certificate), "private_key": str(key)}
    tarry = bed.tarry(conf)
    with H2Client(tls, tls=bed.authority.client_context(alpn=("h2",))) as c:
        assert c.begin(scheme="http").wait_reset() == h2.PROTOCOL_ERROR
        assert c.request().body == b"done"
    with tarry.h2() as c:  # TLS may end at a peer in front of us; what we say is what we see
        assert c.request(scheme="https").body == b"done"
    assert [r.headers.get("X-Forwarded-Proto") for r in worker.requests] == ["https", "http"]


AUTHORITY = {
    "differs from host": lambda c: pseudo(c) + [("host", "other.example")],
    "two hosts behind it": lambda c: pseudo(c) + [("host", c.host), ("host", "other.example")],
    "userinfo": lambda c: pseudo(c, authority=f"user@{c.host}"),
    "comma": lambda c: pseudo(c, authority=f"{c.host},other.example"),
    "zone": lambda c: pseudo(c, authority="[fe80::1%25eth0]"),
    "path": lambda c: pseudo(c, authority=f"{c.host}/x"),
    "port": lambda c: pseudo(c, authority="a.example:99999"),
    "host with a comma": lambda c: pseudo(c, authority=None) + [("host", "a.example,b.example")],
}


@pytest.mark.parametrize("fields", AUTHORITY.values(), ids=AUTHORITY)
def test_d05_authority(bed, fields):
    site = bed.site(bed.worker(done))
    with site.tarry.h2() as c:
        r = c.begin(fields=fields(c))
        c.pump(lambda: r.over)  # two Host fields are the library's to reset
        assert r.status == 400 or r.reset_code == h2.PROTOCOL_ERROR
        assert c.request().body == b"done"
    assert len(site.worker.requests) == 1


@pytest.mark.parametrize("name", ["differs from host", "userinfo", "comma", "zone"])
def test_d05_authority_is_answered(bed, name):
    refused(bed.site(bed.worker(done)), AUTHORITY[name], REFUSED)


def test_d05_the_same_host_twice_is_one(bed):
    site = bed.site(bed.worker(done))
    with site.tarry.h2() as c:
        assert c.request(fields=pseudo(c) + [("host", c.host.upper())]).body == b"done"
        assert c.request(fields=pseudo(c, authority=None) + [("host", c.host)]).body == b"done"
    assert [r.headers.all("Host") for r in site.worker.requests] == [[site.tarry.address]] * 2


def _length(n):
    return lambda c: pseudo(c, method="POST") + [("content-length", n)]


@pytest.mark.parametrize("length,body,last", [("10", b"short", True), ("3", b"longer", True), ("3", b"longer", False), ("5", None, True),
                                              ("+5", b"hello", True), ("0x5", b"hello", True), ("5, 5", b"hello", True),
                                              ("", b"hello", True), ("5 5", b"hello", True)])
def test_d06_content_length_against_data(bed, length, body, last):
    refused(bed.site(bed.worker(done)), _length(length), body=body, last=last)


def test_d06_content_length_twice(bed):
    refused(bed.site(bed.worker(done)), lambda c: _length("5")(c) + [("content-length", "6")], body=b"hello")


def test_d06_short_before_trailers(bed):
    site = bed.site(bed.worker(done))
    with site.tarry.h2() as c:
        r = c.begin("POST", "/evil", {"Content-Length": 10}, body=b"short", end=False)
        c.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, r.id, c.block([("x-a", "b")])))
        assert r.wait_reset() == h2.PROTOCOL_ERROR
        assert c.request().body == b"done"
    assert len(site.worker.requests) == 1


HOP_BY_HOP = {"transfer-encoding": "chunked", "connection": "close", "upgrade": "websocket", "keep-alive": "timeout=5",
              "proxy-connection": "close", "te": "gzip", "http2-settings": "AAMAAABkAAQAAP__"}


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_d07_fields_of_http1_connections(bed, name):
    refused(bed.site(bed.worker(done)), lambda c: pseudo(c) + [(name, HOP_BY_HOP[name])])


@pytest.mark.parametrize("name", ["transfer_encoding", "content_length", "transfer.encoding"])
def test_d07_fields_that_fold_to_framing(bed, name):
    refused(bed.site(bed.worker(done)), lambda c: pseudo(c) + [(name, "chunked")], REFUSED)


def test_d07_te_trailers_ends_here(bed):
    site = bed.site(bed.worker(done))
    with site.tarry.h2() as c:
        assert c.request(headers={"TE": "trailers"}).body == b"done"
    assert "TE" not in site.worker.requests[0].headers


def test_d08_cookie_crumbs_are_joined_once(bed):
    site = bed.site(bed.worker(done))
    crumbs = [f"c{i}={i}" for i in range(50)]
    with site.tarry.h2() as c:
        assert c.request(fields=pseudo(c) + [("cookie", crumb) for crumb in crumbs[:25]] + [("x-a", "b")] +
                         [("cookie", crumb) for crumb in crumbs[25:]]).body == b"done"
    assert site.worker.requests[0].headers.all("Cookie") == ["; ".join(crumbs)]


def test_d08_a_thousand_crumbs_are_a_thousand_fields(bed):
    refused(bed.site(bed.worker(done)), lambda c: pseudo(c) + [("cookie", f"c{i}=1") for i in range(1000)], REFUSED, 431)


@pytest.mark.parametrize("fields,expected", [
    (lambda c: [(":method", "CONNECT"), (":authority", "other.example:443")], REFUSED),
    (lambda c: [(":method", "CONNECT"), (":authority", "other.example:443"), (":scheme", "http"), (":path", "/")], RESET)])
def test_d09_connect(bed, fields, expected):
    refused(bed.site(bed.worker(done)), fields, expected, 501)


def test_d09_nothing_is_pushed(bed):
    site = bed.site(bed.worker(lambda r, c: Reply(200, b"done", headers={"Link": "</style.css>; rel=preload; as=style"})))
    with site.tarry.h2(settings={h2.ENABLE_PUSH: 1}) as c:
        assert c.request().body == b"done"
        c.ping()
        assert not [f for f in c.frames if f[0] == h2.PUSH_PROMISE]
        assert c.settings[h2.ENABLE_PUSH] == 0


def test_d09_a_push_from_the_client_ends_the_connection(bed):
    site = bed.site(bed.worker(done))
    with site.tarry.h2() as c:
        c.send(h2.frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0\0\2" + c.block(pseudo(c))))
        c.wait_goaway(h2.PROTOCOL_ERROR)
        c.wait_closed()
    assert not site.worker.requests


def test_d10_a_body_without_a_length_gets_one(bed):
    from harness import Raw
    worker = bed.worker(lambda r, c: Raw(b"HTTP/1.0 200 OK\r\n\r\n" + r.body, close=True))
    site = bed.site(worker)
    with site.tarry.h2() as c:
        r = c.begin("POST", "/", body=b"one", end=False)
        c.send_body(r, b"two")
        assert r.read() == b"onetwo"
    assert worker.requests[0].headers.get("Content-Length") == "6" and "Transfer-Encoding" not in worker.requests[0].headers
