"""The same odd bytes, of HTTP/1.1 and HTTP/2, through Tarry to three servers that parse differently: gunicorn, Node's http, and the strict parser of
these tests. What each of them saw must be one and the same list of requests, or nothing: if two servers can disagree about what
Tarry passes on, one of them can be made to take a part of a request for another request."""

import base64
import concurrent.futures
import itertools
import json
import re
import shutil
import struct

import pytest

from harness import Reply, eventually
from harness.apps import Gunicorn, Program
from harness.tarry import REPO

APPS = REPO / "tests/e2e/apps"
HOST = b"Host: example.test"
# What Tarry adds, and what differs from one exchange to the next.
VOLATILE = re.compile(r"TARRY_(EXCHANGE|STARTED)|X_REQUEST_ID|TRACEPARENT|X_FORWARDED_HOST")


def request(*fields, line=b"POST /%s HTTP/1.1", body=b"", host=True):
    """With %s in the place of the case's mark."""
    fields = ((HOST,) if host else ()) + fields
    return line + b"\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


def framings():
    """Each way to say a length, in each pair with another, over a body that reads both ways."""
    body = b"5\r\nhello\r\n0\r\n\r\nGET /%s-hidden HTTP/1.1\r\nHost: hidden\r\n\r\n"
    ways = [b"Content-Length: 5", b"Content-Length: 15", b"Content-Length: %d" % len(body), b"Content-Length: 0", b"Content-Length: +5",
            b"Content-Length: 05", b"Content-Length: 5, 5", b"Content-Length:\t5", b"Content-Length: 5 ", b"Content-Length : 5",
            b"content-length: 5", b"CONTENT-LENGTH:5", b"Content_Length: 5", b"Content-Length: 0x5", b"Content-Length: 5\x0b",
            b"Content-Length:", b" Content-Length: 5", b"X: y\r\n Content-Length: 5", b"X: y\nContent-Length: 5", b"Content-Length: 1e1",
            b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"transfer-encoding:chunked", b"Transfer-Encoding: chunked ",
            b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: \x0bchunked", b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, identity",
            b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked;a=b", b"Transfer-Encoding: ,chunked",
            b"Transfer-Encoding : chunked", b"Transfer_Encoding: chunked", b"Transfer-Encoding: \"chunked\"", b"X: y\r\n\tTransfer-Encoding: chunked",
            b"Transfer-Encoding\x00: chunked", b"Transfer-Encoding: chunked\x00", b"X: y\rTransfer-Encoding: chunked"]
    for way in ways:
        yield request(way, body=body)
        yield request(way, line=b"GET /%s HTTP/1.1", body=body)
        yield request(way, line=b"POST /%s HTTP/1.0", body=body)
    for one, other in itertools.permutations((ways[0], ways[2], ways[9], ways[12], ways[20], ways[26], ways[32], ways[33]), 2):
        yield request(one, other, body=body)
    for drop in (b"Content-Length", b"Transfer-Encoding", b"Host", b"close, Content-Length"):
        yield request(b"Connection: " + drop, b"Content-Length: 5", body=body)
        yield request(b"Connection: " + drop, b"Transfer-Encoding: chunked", body=body)


def chunks():
    """Chunked bodies; what follows must be taken for the next request by all, or by none."""
    bodies = [b"5\r\nhello\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r\n0\n\r\n", b"5\r\nhello\r\n0\r\n\n",
              b"05\r\nhello\r\n0\r\n\r\n", b"0005\r\nhello\r\n00\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n",
              b" 5\r\nhello\r\n0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5;a=\"b;\\\"c\"\r\nhello\r\n0\r\n\r\n", b"5;\r\nhello\r\n0\r\n\r\n",
              b"5;a\nb\r\nhello\r\n0\r\n\r\n", b"5;a\rb\r\nhello\r\n0\r\n\r\n", b"5 ;a\r\nhello\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n",
              b"6\r\nhello\r\n0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n", b"5_0\r\nhello\r\n0\r\n\r\n", b"\r\nhello\r\n0\r\n\r\n", b"g\r\nhello\r\n0\r\n\r\n",
              b"-5\r\nhello\r\n0\r\n\r\n", b"FFFFFFFFFFFFFFFF5\r\nhello\r\n0\r\n\r\n", b"10000000000000005\r\nhello\r\n0\r\n\r\n",
              b"5\r\nhello\r\n0\r\nContent-Length: 99\r\n\r\n", b"5\r\nhello\r\n0\r\nHost: evil\r\nX-Forwarded-For: 9.9.9.9\r\n\r\n",
              b"5\r\nhello\r\n0\r\nno colon\r\n\r\n", b"5\r\nhello\r\n0\r\n folded\r\n\r\n", b"5\r\nhello\r\n0\r\nX: y\n\r\n", b"5\r\nhello\r\n0;ext\r\n\r\n",
              b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0\r\n\r\n", b"0\r\n0\r\n\r\n", b"1\r\na\r\n" * 50 + b"0\r\n\r\n",
              b"5\r\nhello\r\n0\r\nX: y\r\n\r\n", b"5\r\nhello\r\n\r\n0\r\n\r\n", b"5\x00\r\nhello\r\n0\r\n\r\n", b"5\t\r\nhello\r\n0\r\n\r\n"]
    for body in bodies:
        yield request(b"Transfer-Encoding: chunked", body=body)
        yield request(b"Transfer-Encoding: chunked", b"Connection: close", body=body)


def lines():
    """Request lines."""
    targets = [b"/%s", b"/%s?", b"/%s?a=b&c", b"/%s#f", b"/%s%%20x", b"/%s%%0d%%0aX:y", b"/%s%%00", b"/%s/../y", b"/%s/%%2e%%2e/y", b"//%s", b"/%s//", b"/%s;p=1/x",
               b"/%s\\x", b"/%s|{}", b"/%s\"<>", b"/%s\x01", b"/%s\x7f", b"/%s\xc3\xa9", b"/%s\xff", b"http://example.test/%s", b"http://example.test:80/%s",
               b"http://other.test/%s", b"http://a@example.test/%s", b"https://example.test/%s", b"HTTP://EXAMPLE.TEST/%s", b"ftp://example.test/%s",
               b"%s", b"example.test:80/%s", b"*%s", b"/%s [", b"/%s HTTP/1.1", b"/%s\tx", b"/%s%%zz", b"/%s%%", b"/%s?%%", b"/%s?\xc3\xa9"]
    for target in targets:
        yield request(line=b"GET " + target + b" HTTP/1.1")
    for line in (b"GET  /%s HTTP/1.1", b"GET\t/%s HTTP/1.1", b" GET /%s HTTP/1.1", b"GET /%s  HTTP/1.1", b"GET /%s HTTP/1.1 ", b"GET /%s", b"GET /%s HTTP/0.9",
                 b"GET /%s HTTP/1.2", b"GET /%s HTTP/2.0", b"GET /%s HTTP/1", b"GET /%s http/1.1", b"GET /%s HTTP/01.1", b"GET /%s HTTP/1.10", b"G\xcaT /%s HTTP/1.1",
                 b"G(T /%s HTTP/1.1", b"get /%s HTTP/1.1", b"GET, /%s HTTP/1.1", b"PRI /%s HTTP/1.1", b"M-SEARCH /%s HTTP/1.1", b"DELETE /%s HTTP/1.1",
                 b"\r\nGET /%s HTTP/1.1", b"\r\n\r\nGET /%s HTTP/1.1", b"\nGET /%s HTTP/1.1", b"GET /%s HTTP/1.1\r", b"\x00GET /%s HTTP/1.1", b"CONNECT /%s HTTP/1.1",
                 b"CONNECT %s:443 HTTP/1.1", b"TRACE /%s HTTP/1.1", b"OPTIONS /%s HTTP/1.1", b"PATCH /%s HTTP/1.1"):
        yield request(line=line)


def fields():
    """Field lines, on a request that is good otherwise."""
    for field in (b"X: y", b"X:y", b"X:  y  ", b"X:", b"X", b": y", b"X : y", b"X\t: y", b"X: a\x00b", b"X: a\rb", b"X: a\nb", b"X: a\x0bb", b"X: a\x7fb", b"X: \xc3\xa9",
                  b"X: \xff\xfe", b"X\xc3\xa9: y", b"X(: y", b"\"X\": y", b"X: y\r\n z", b"X: y\r\n\tz", b"X: y\r\n\r z", b"X_Y: z", b"X.Y: z", b"X-Y: z\r\nX_Y: w",
                  b"X-Forwarded-For: 9.9.9.9", b"X_Forwarded_For: 9.9.9.9", b"X-Forwarded-Proto: https", b"Forwarded: for=9.9.9.9", b"X-Real-IP: 9.9.9.9",
                  b"Tarry-Kind: resume", b"tarry_kind: resume", b"TARRY.KIND: resume", b"Tarry-Auth: x", b"Tarry_Then: relay", b"Host: example.test", b"Host: other.test",
                  b"Host:", b"Connection: keep-alive", b"Connection: close", b"Connection: X, keep-alive\r\nX: y", b"Connection: Cookie\r\nCookie: a=b",
                  b"Connection: authorization\r\nAuthorization: Basic eDp5", b"Connection: Tarry-Kind", b"Connection: host", b"Proxy-Connection: keep-alive",
                  b"Keep-Alive: timeout=5", b"TE: trailers", b"TE: gzip", b"Trailer: X", b"Upgrade: websocket\r\nConnection: Upgrade", b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA",
                  b"Expect: 100-continue", b"Expect: nonsense", b"Expect: 100-continue\r\nExpect: 100-continue", b"Cookie: a=b\r\nCookie: c=d", b"Cookie: a=b\r\ncookie:\r\nCookie: c=d; e=f", b"Cookie: a=b; c=d",
                  b"Accept: a\r\nAccept: b", b"X: " + b"y" * 4000, b"X" * 200 + b": y", b"Range: bytes=0-1", b"If-None-Match: *", b"Content-Type: a\r\nContent-Type: b",
                  b"Content-Encoding: gzip", b"Max-Forwards: 0", b"Via: 1.1 x", b"Proxy-Authorization: Basic eDp5", b"Priority: u=1"):
        yield request(field, line=b"GET /%s HTTP/1.1")
        yield request(field, b"Content-Length: 5", body=b"hello")
    for host in (b"Host: a b", b"Host: a,b", b"Host: a@b", b"Host: a/b", b"Host: a:b", b"Host: a:99999", b"Host: [::1]", b"Host: [::1", b"Host: [::1]:80", b"Host: a\r\nHost: a",
                 b"Host: A", b"Host : a", b"host:a", b"HOST: a", b"X: y"):
        yield request(host, line=b"GET /%s HTTP/1.1", host=False)
    yield request(line=b"GET /%s HTTP/1.0", host=False)


def trains():
    """What comes one behind the other."""
    good, bad = request(line=b"GET /%s HTTP/1.1"), request(b"Bad : x", line=b"GET /%s-bad HTTP/1.1")
    with_body = request(b"Content-Length: 5", body=b"hello")
    in_chunks = request(b"Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\r\n\r\n")
    for train in itertools.product((good, with_body, in_chunks), (good, bad, with_body, in_chunks), (b"", good, b"\r\n" + good, b"X" + good)):
        yield b"".join(train)
    for tail in (b"\r\n", b"\r\n\r\n", b"hello", b"\x00", b"0\r\n\r\n"):
        yield good + tail
        yield with_body + tail
        yield in_chunks + tail


def corpus():
    cases = {}
    for family in (framings, chunks, lines, fields, trains):
        for i, raw in enumerate(family()):
            mark = f"{family.__name__}-{i}"
            # A marker behind each: what is refused must take it along.
            raw = raw + b"GET /%s-next HTTP/1.1\r\nHost: next\r\n\r\n"
            cases[mark] = raw.replace(b"%s", mark.encode()).replace(b"%%", b"%")
    return cases


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def http2_requests():
    """(fields, bodies) of HTTP/2 requests; what an HTTP/1.1 server could misread comes as a field or as a DATA frame."""
    def pseudo(method="GET", scheme="http", path="/%s", authority="example.test"):
        pairs = ((":method", method), (":scheme", scheme), (":path", path), (":authority", authority))
        return [(n, v) for n, v in pairs if v is not None]
    hidden = b"GET /%s-hidden HTTP/1.1\r\nHost: hidden\r\n\r\n"
    for field in (("x", "y"), ("x", ""), ("x", " y "), ("x", "a\r\nb: c"), ("x", "a\nb"), ("x", "a\0b"), ("x\r\ny", "z"), ("x: y", "z"), ("X", "y"), ("", "y"), ("x y", "z"),
                  ("transfer-encoding", "chunked"), ("connection", "close"), ("connection", "x"), ("keep-alive", "x"), ("upgrade", "h2c"), ("upgrade", "websocket"),
                  ("http2-settings", "AA"), ("proxy-connection", "close"), ("te", "trailers"), ("te", "gzip"), ("host", "example.test"), ("host", "other.test"), ("host", "a,b"),
                  ("content-length", "0"), ("content-length", "5"), ("content-length", "+5"), ("content-length", "05"), ("content-length", "5, 5"), ("content_length", "5"),
                  ("transfer_encoding", "chunked"), ("transfer.encoding", "chunked"), ("tarry-kind", "resume"), ("tarry_kind", "resume"), ("x-forwarded-for", "9.9.9.9"),
                  ("x_forwarded_for", "9.9.9.9"), ("cookie", "a=b"), ("expect", "100-continue"), ("expect", "nonsense"), ("trailer", "x"), ("range", "bytes=0-1"),
                  (":path", "/again"), (":unknown", "x"), (":status", "200"), ("x", "y" * 4000), ("content-type", "a"), ("authorization", "Basic eDp5")):
        for bodies in ([], [b"hello"], [b"hel", b"lo"], [hidden]):
            yield [*pseudo("POST" if bodies else "GET"), field], bodies
        yield [*pseudo(), field, field], []
        yield [field, *pseudo()], []
    for path in ("/%s?a=b", "/%s#f", "/%s b", "/%s\r\nX: y", "/%s HTTP/1.1\r\nX: y\r\n\r\n", "%s", "*%s", "", "//%s", "/../%s", "/%s%%0d%%0a", "/%s\xc3\xa9", "http://example.test/%s", "/%s\\x"):
        yield pseudo(path=path), []
    for method in ("get", "G T", "GET /x HTTP/1.1\r\nX:", "", "CONNECT", "OPTIONS", "HEAD", "DELETE", "PRI"):
        yield pseudo(method), []
    for authority in ("a@b", "a,b", "a/b", "a b", "a:99999", "[::1]", "", None, "a\r\nX: y"):
        yield pseudo(authority=authority), []
    for scheme in ("https", "ftp", "", "http://x/", None):
        yield pseudo(scheme=scheme), []


def http2_corpus():
    cases = {}
    for i, (pairs, bodies) in enumerate(http2_requests()):
        mark = f"http2-{i}"
        put = lambda text: text.replace("%s", mark).replace("%%", "%").encode("latin-1")  # noqa: E731
        # Literals without an index, so that nothing is checked or changed on the way (RFC 7541 6.2.2).
        block = b"".join(b"\0" + hpack_text(put(n)) + hpack_text(put(v)) for n, v in pairs)
        raw = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 4 | (not bodies), 1, block)
        for k, body in enumerate(bodies, 1):
            raw += frame(0, k == len(bodies), 1, body.replace(b"%s", mark.encode()))
        cases[mark] = raw
    return cases


def hpack_text(s):
    n, out = len(s) - 127, b""
    if n < 0:
        return bytes([len(s)]) + s
    while n >= 128:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return b"\x7f" + out + bytes([n]) + s


def talk_http2(tarry, raw):
    """Sends it and reads until its stream, or the connection, has ended."""
    with tarry.client() as c:
        c.send(raw)
        while True:
            head = c.wire.exactly(9)
            if len(head) < 9:
                return
            c.wire.exactly(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind in (3, 7) or (stream == 1 and kind in (0, 1) and flags & 1):
                return


def mark_of(target):
    found = re.search(r"(framings|chunks|lines|fields|trains|http2)-[0-9]+", target, re.I)
    return found and found[0]


def again(mark):
    """The mark of a case that is tried a second time: of the same length, so that the case stays the same."""
    return mark.capitalize()


class Seen:
    """What one server saw, by case."""

    def __init__(self, name, tarry):
        self.name, self.tarry, self.by_mark, self.errors = name, tarry, {}, []

    def note(self, method, target, headers, body):
        kept = {n: ",".join(p.strip() for p in v.split(",")) for n, v in headers.items() if not VOLATILE.fullmatch(n)}
        self.by_mark.setdefault(mark_of(target), []).append((method, target, tuple(sorted(kept.items())), body))

    def known(self, methods, mark):
        """The case's requests with methods that every server knows."""
        return [r for r in self.by_mark.get(mark, []) if r[0] in methods]

    def read_lines(self, path):
        self.by_mark, self.errors = {}, []
        for line in path.read_text().splitlines() if path.exists() else ():
            r = json.loads(line)
            if "error" in r:
                self.errors.append((r["error"], r["line"]))
            else:
                self.note(r["method"], r["target"], r["headers"], base64.b64decode(r["body"]))


def differs(servers, methods, mark):
    one, *others = (s.known(methods, mark) for s in servers)
    return any(other != one for other in others)


def read_all(servers, wsgi_file, node_file, strict):
    """What gunicorn, Node and the strict parser have seen so far, a last request for each included."""
    ends = wsgi_file.read_text().count("/the-end") if wsgi_file.exists() else 0
    for s in servers:
        s.tarry.get("/the-end", {"Host": "the.end"})
    eventually(lambda: wsgi_file.exists() and wsgi_file.read_text().count("/the-end") > ends, "gunicorn's last request")
    servers[0].read_lines(wsgi_file)
    servers[1].read_lines(node_file)
    servers[2].by_mark = {}
    for r in strict.requests:
        headers = {}
        for name, value in r.headers:
            name = name.upper().replace("-", "_")
            headers[name] = headers[name] + "," + value if name in headers else value
        servers[2].note(r.method, r.target, headers, r.body)


def talk(tarry, raw):
    """Sends it and reads until Tarry ends the connection, which it does when nothing more comes."""
    with tarry.client() as c:
        try:
            c.send(raw)
        except (BrokenPipeError, ConnectionResetError):
            pass
        while c.wire.fill():
            pass


def front_of(bed, name, address):
    # Waiting for more of a case costs no longer than this.
    top = {"header_timeout": "400ms", "body_timeout": "400ms", "keep_alive_timeout": "400ms", "header_fields_max": 100}
    folder = bed.another(name)
    conf = folder.conf(slots=1)
    conf.top.update(top)
    conf.log["level"] = "info"
    conf.servers = {address: {"slots": 1}}
    conf.routes = [("/", {"workers": "app"})]
    return folder.tarry(conf)


@pytest.mark.slow
def test_three_servers_see_the_same_requests_or_nothing(bed):
    node = shutil.which("node")
    assert node, "no node: scripts/setup-packages test installs nodejs"
    http1, http2 = corpus(), http2_corpus()
    cases = {**http1, **http2}
    assert len(http1) > 400 and len(http2) > 300
    wsgi_file, node_file = bed.folder / "gunicorn.jsonl", bed.folder / "node.jsonl"
    gunicorn = bed.add(Gunicorn("seen:app", bed.folder, env={"SEEN": str(wsgi_file), "PYTHONPATH": str(APPS)}))
    node_server = bed.add(Program([node, APPS / "seen.js"], env={"SEEN": str(node_file)}))
    methods = node_server.wait_line(r"methods (.*)")[1].split()
    node_port = node_server.wait_line(r"listening on ([0-9]+)")[1]
    strict = bed.worker(lambda r, c: Reply(200, b"ok"))
    servers = [Seen("gunicorn", front_of(bed, "one", gunicorn.address)), Seen("node", front_of(bed, "two", f"127.0.0.1:{node_port}")),
               Seen("strict", front_of(bed, "three", strict.address))]

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        talks = [pool.submit(talk, s.tarry, raw) for raw in http1.values() for s in servers]
        talks += [pool.submit(talk_http2, s.tarry, raw) for raw in http2.values() for s in servers]
        for done in talks:
            done.result()
    read_all(servers, wsgi_file, node_file, strict)
    # On a busy machine a client may take longer than header_timeout or body_timeout to send its bytes. That is no difference
    # of parsers, which would be there a second time.
    late = [mark for mark in cases if differs(servers, methods, mark)]
    for mark in late[:20]:
        raw = cases[mark].replace(mark.encode(), again(mark).encode())
        for s in servers:
            (talk_http2 if mark in http2 else talk)(s.tarry, raw)
    if late:
        read_all(servers, wsgi_file, node_file, strict)
    for mark in late[:20]:
        cases[again(mark)] = cases.pop(mark)
        for s in servers:
            s.by_mark.pop(mark, None)

    # Each parsed all that it got: Tarry passed on nothing that one of them finds malformed. (Node and gunicorn refuse methods that
    # they do not know, which is a clean no.)
    unknown = {(m, t) for s in servers for rs in s.by_mark.values() for m, t, _, _ in rs if m not in methods}
    assert {tuple(line.split()[:2]) for _, line in servers[1].errors} <= unknown
    refusals = re.findall(r"Invalid request.*", gunicorn.output)
    assert all("method" in r.lower() for r in refusals), refusals
    different = {mark: (cases[mark], {s.name: s.known(methods, mark) for s in servers}) for mark in cases if differs(servers, methods, mark)}
    assert not different
    stricts = {mark: servers[2].known(methods, mark) for mark in servers[2].by_mark}
    assert {r[1] for r in stricts.pop(None)} == {"/the-end"}
    # The corpus holds good ones and bad ones.
    for family in (http1, http2):
        assert 50 < len([mark for mark in family if mark in stricts]) < len(family)
    # What was the body of a request is no request.
    assert not [r for mark in http2 for r in stricts.get(mark, []) if "hidden" in r[1]]
    # No comma between cookies, which a server that folds repeated fields would put there.
    assert not [h for rs in stricts.values() for _, _, h, _ in rs if "," in dict(h).get("COOKIE", "")]
