"""What the access log says of an exchange: who asked, under which ids, what it came to and who ended it."""

import json
import re

import pytest

from harness import Gate, Raw, Reply, by_kind, call, eventually, handoff

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def ok(r, c):
    return Reply(200, b"ok")


def test_who_asked_and_where(bed):
    site = bed.site(ok, top={"trusted_proxies": ["127.0.0.1"]})
    site.tarry.get("/a", {"Host": "shop.example", "X-Forwarded-For": "203.0.113.9, 127.0.0.1"})
    line = site.tarry.access.wait_for()
    assert (line["peer"], line["client"], line["host"]) == ("127.0.0.1", "203.0.113.9", "shop.example")


def test_an_address_from_a_stranger_is_not_believed(bed):
    site = bed.site(ok)
    site.tarry.get("/a", {"X-Forwarded-For": "203.0.113.9"})
    assert site.tarry.access.wait_for()["client"] == "127.0.0.1"


def test_the_ids_of_the_request(bed):
    site = bed.site(ok)
    site.tarry.get("/given", {"X-Request-Id": "abc-123", "traceparent": PARENT})
    site.tarry.get("/made")
    given, made = site.tarry.access.wait_for(n=2) and site.tarry.access.lines
    assert (given["request_id"], given["trace"]) == ("abc-123", TRACE)
    assert made["request_id"] == made["exchange"] == site.worker.requests[1].headers.get("X-Request-Id")
    assert "trace" not in made


@pytest.mark.parametrize("bad", ["00-" + "0" * 32 + "-b7ad6b7169203331-01", f"ff-{TRACE}-b7ad6b7169203331-01", "x",
                                 f"00-{TRACE.upper()}-b7ad6b7169203331-01", PARENT + "-x"])
def test_a_malformed_traceparent_is_no_trace(bed, bad):
    site = bed.site(ok)
    assert site.tarry.get("/", {"traceparent": bad}).status == 200
    assert "trace" not in site.tarry.access.wait_for()


@pytest.mark.parametrize("kind", ["plain", "relay", "resume"])
def test_the_app_may_label_an_exchange(bed, kind):
    upstream = bed.upstream(lambda r, c: Reply(200, b"answer", {"x-request-id": "req_42"}))
    label = [("Tarry-Label", 'tenant-"7"')]

    def first(r, c):
        if kind == "plain":
            return Reply(200, b"ok", label)
        return handoff("relay" if kind == "relay" else "resume /x", [call(upstream.origin)], headers=label)
    site = bed.site(bed.worker(by_kind(request=first, resume=ok)), upstream)
    answer = site.tarry.get("/")
    line = site.tarry.access.wait_for()
    assert answer.status == 200 and "Tarry-Label" not in answer.headers
    assert line["label"] == 'tenant-"7"'
    if kind != "plain":
        assert (line["upstream_request_id"], line["upstream_status"], line["attempts"]) == ("req_42", 200, 1)


@pytest.mark.parametrize("query, shown", [("key=s3cret", "key=***"), ("a=1&KEY=s3cret&b=2", "a=1&KEY=***&b=2"), ("key=", "key="), ("k%65y=s3cret", "k%65y=***"),
                                          ("api_key=s&access_token=s3cret", "api_key=***&access_token=***"), ("monkey=banana", "monkey=banana")])
def test_keys_in_a_query_are_shown_to_nobody(bed, query, shown):
    """Google's services take a key from there. The worker gets it; the log and the pages do not."""
    site = bed.site(ok, admin=True)
    site.tarry.get("/v1?" + query)
    assert site.tarry.access.wait_for()["path"] == "/v1?" + shown
    assert site.worker.request.target == "/v1?" + query
    assert "s3cret" not in site.tarry.ask_admin("/dashboard.json")


def test_a_client_cannot_set_the_label(bed):
    site = bed.site(ok)
    site.tarry.get("/", {"Tarry-Label": "forged"})
    assert "label" not in site.tarry.access.wait_for()
    assert site.worker.requests[0].headers.get("Tarry-Label") is None


REFUSED = {
    "a head over the limit": (b"GET /too/large HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40000 + b"\r\n\r\n", "GET", "/too/large", 431),
    "a malformed field": (b"POST /odd HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", "POST", "/odd", 400),
    "two lengths": (b"POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "POST", "/two", 400),
    "no host": (b"GET /nohost HTTP/1.1\r\n\r\n", "GET", "/nohost", 400),
    "no route": (b"GET /hidden/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET", "/hidden/x", 404),
    "a body over the limit": (b"PUT /big HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n", "PUT", "/big", 413),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_requests_have_their_method_and_path(bed, what):
    raw, method, path, status = REFUSED[what]
    conf = bed.conf(bed.worker(ok))
    conf.top.update(body_max="4K")
    conf.routes.append(("/hidden/", {"workers": "app", "internal": True}))
    tarry = bed.tarry(conf)
    with tarry.client() as c:
        c.send(raw)
        assert c.read_response().status == status
    line = tarry.access.wait_for()
    assert (line["method"], line["path"], line["status"], line["code"]) == (method, path, status, "CR")


def test_the_code_says_who_ended_it_and_when(bed):
    gate = Gate()

    def model(r, c):
        if r.path == "/cut":
            return Raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nda")
        if r.path == "/refuse":
            return Raw(b"HTTP/1.1 nonsense\r\n\r\n")
        gate.wait()
        return Reply(200, b"late")
    upstream = bed.upstream(model)

    def first(r, c):
        if r.path == "/dies":
            return Raw(b"")
        if r.path in ("/cut", "/refuse", "/parked"):
            return handoff("relay", [call(upstream.origin + r.path)])
        return Reply(200, b"ok")
    site = bed.site(bed.worker(first), upstream)
    for path in ("/", "/dies", "/refuse"):
        site.tarry.get(path)
    with site.tarry.client() as c:
        c.send(b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n")
        while c.sock.recv(4096):
            pass
    with site.tarry.client() as c:
        c.send(b"GET /parked HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually(lambda: [r for r in upstream.requests if r.path == "/parked"], "the call")
    site.tarry.access.wait_for(n=5)
    gate.open()
    codes = {line["path"]: line["code"] for line in site.tarry.access.lines}
    assert codes == {"/": "--", "/dies": "WV", "/refuse": "UP", "/cut": "UA", "/parked": "CP"}


def test_logfmt_has_them_too(bed):
    site_conf = bed.conf(bed.worker(lambda r, c: Reply(200, b"ok", {"Tarry-Label": "a b"})))
    site_conf.access_log["format"] = "logfmt"
    tarry = bed.tarry(site_conf)
    tarry.get("/x", {"Host": "h", "X-Request-Id": "id-1", "traceparent": PARENT})
    path = bed.folder / "access.log"
    line = eventually(lambda: path.exists() and path.read_text(), "a line")
    fields = dict(re.findall(r'(\w+)=("[^"]*"|\S*)', line))
    assert fields["client"] == "127.0.0.1" and fields["request_id"] == '"id-1"' and fields["trace"] == TRACE
    assert fields["label"] == '"a b"' and fields["host"] == '"h"' and fields["code"] == "--"
    assert json.loads("[" + fields["status"] + "]") == [200]
