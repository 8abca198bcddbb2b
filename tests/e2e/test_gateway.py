"""What SDKs need of a gateway route: errors in the shape of their API, paths, sizes, URLs that lead back, and bytes amid silence."""

import json

import pytest

from harness import Client, Gate, H2Client, Reply, eventually, problem
from harness.handoffs import proxy_error

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def gateway(bed, answer, routes=None, up=None, top=None, client=None, **more):
    """Tarry with gateway routes to `answer`: (prefix, options) each."""
    upstream = answer if hasattr(answer, "origin") else bed.upstream(answer)
    conf = bed.conf([], upstream)
    conf.routes = [(prefix, {"upstream": "up", **options}) for prefix, options in routes or [("/", {})]]
    conf.up.update(up or {})
    conf.top.update(top or {})
    return upstream, bed.tarry(conf, **more)


def cut(r, c):
    c.reset()


# --- errors ---

OPENAI = ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/models", "/v1/files"]


def openai_error(got, status, code):
    what = got.json()
    assert got.status == status and got.headers.get("Content-Type") == "application/json", got
    assert set(what) == {"error"} and set(what["error"]) == {"message", "type", "param", "code"}
    assert what["error"]["code"] == code == proxy_error(got.headers)
    assert got.headers.get("x-request-id")
    return what["error"]


@pytest.mark.parametrize("path", OPENAI)
def test_errors_have_the_shape_of_openai_s_api(bed, path):
    _, tarry = gateway(bed, cut, up={"retries": 0, "retry_unstarted_within": "0ms"})
    got = tarry.post(path, json.dumps(CHAT), {"Content-Type": "application/json"})
    error = openai_error(got, 502, "connection_terminated")
    assert error["type"] == "server_error" and error["message"] and error["param"] is None
    assert got.headers.get("x-should-retry") == "false"
    line = tarry.access.wait_for()
    assert line["exchange"] == got.headers.get("x-request-id")


@pytest.mark.parametrize("path, headers", [("/v1/messages", {}), ("/v1/messages/batches", {}), ("/v1/models", {"anthropic-version": "2023-06-01"})])
def test_errors_have_the_shape_of_anthropic_s_api(bed, path, headers):
    _, tarry = gateway(bed, cut, up={"retries": 0, "retry_unstarted_within": "0ms"})
    got = tarry.post(path, json.dumps(CHAT), headers)
    what = got.json()
    assert got.status == 502 and what["type"] == "error"
    assert (what["error"]["type"], what["error"]["code"]) == ("api_error", "connection_terminated") and what["error"]["message"]
    assert what["request_id"] == got.headers.get("request-id") == got.headers.get("x-request-id")


@pytest.mark.parametrize("path, headers", [("/v1beta/models/m:generateContent", {}), ("/x", {"x-goog-api-key": "k"}), ("/upload/v1beta/files", {})])
def test_errors_have_the_shape_of_gemini_s_api(bed, path, headers):
    _, tarry = gateway(bed, cut, up={"retries": 0, "retry_unstarted_within": "0ms"})
    got = tarry.post(path, json.dumps(CHAT), headers)
    error = got.json()["error"]
    assert got.status == error["code"] == 502 and error["status"] == "UNAVAILABLE" and error["message"]
    detail, = error["details"]
    assert detail["reason"] == "connection_terminated" and detail["metadata"]["exchange"] == got.headers.get("x-request-id")


@pytest.mark.parametrize("api, member", [("openai", "error"), ("anthropic", "request_id"), ("gemini", "error")])
def test_the_conf_s_api_decides_about_the_shape(bed, api, member):
    _, tarry = gateway(bed, cut, up={"retries": 0, "api": api, "retry_unstarted_within": "0ms"})
    got = tarry.get("/anything")
    assert got.headers.get("Content-Type") == "application/json" and member in got.json()


@pytest.mark.parametrize("path, up", [("/weather", {}), ("/v1/chat/completions", {"api": "none"})])
def test_errors_of_other_apis_are_problems(bed, path, up):
    _, tarry = gateway(bed, cut, up={"retries": 0, "retry_unstarted_within": "0ms", **up})
    problem(tarry.get(path), 502, "connection_terminated")


def test_a_refusal_before_the_call_has_the_shape_too(bed):
    _, tarry = gateway(bed, lambda r, c: Reply(200), top={"body_max": "10"})
    assert openai_error(tarry.post("/v1/files", b"x" * 11), 413, "http_request_error")["type"] == "invalid_request_error"
    with Client(tarry.address) as c:
        c.send_request("POST", "/v1/files", chunks=[b"x" * 11])
        openai_error(c.read_response(), 413, "http_request_error")
    assert tarry.post("/v1/messages", b"x" * 11).json()["error"]["type"] == "request_too_large"


def test_the_service_s_own_errors_stay_as_they_are(bed):
    body = b'{"error": "as it came"}'
    _, tarry = gateway(bed, lambda r, c: Reply(400, body, {"x-request-id": "theirs"}))
    got = tarry.post("/v1/chat/completions", "{}")
    assert got.body == body and got.headers.all("x-request-id") == ["theirs"]


# --- paths ---

@pytest.mark.parametrize("prefix, to, asked, seen", [
    ("/openai/", "/", "/openai/v1/models?a=b", "/v1/models?a=b"), ("/openai/", "/", "/openai/", "/"),
    ("/openai/", "/", "/openai/v1/a%2Fb", "/v1/a%2Fb"), ("/ai/", "/v1/", "/ai/models", "/v1/models"), ("/", "/api/v1/", "/models", "/api/v1/models"),
    ("/openai/", "/", "/openai/a/../b", "/a/../b")])
def test_a_route_s_prefix_is_replaced(bed, prefix, to, asked, seen):
    upstream, tarry = gateway(bed, lambda r, c: Reply(200), [(prefix, {"prefix_rewrite": to})])
    assert tarry.get(asked).status == 200
    assert upstream.request.target == seen
    line = tarry.access.wait_for()
    assert line["path"] == asked


def test_services_stand_side_by_side_under_prefixes(bed):
    conf = bed.conf([])
    services = {name: bed.upstream(lambda r, c, name=name: Reply(200, f"{name} {r.target}")) for name in ("openai", "anthropic")}
    conf.upstreams = {name: {"origin": s.origin} for name, s in services.items()}
    conf.routes = [(f"/{name}/", {"upstream": name, "prefix_rewrite": "/"}) for name in services]
    tarry = bed.tarry(conf)
    assert tarry.get("/openai/v1/models").text == "openai /v1/models"
    assert tarry.get("/anthropic/v1/models").text == "anthropic /v1/models"


@pytest.mark.parametrize("asked", ["/%6fpenai/v1/x", "//openai/v1/x", "/openai/a/../../openai/x", "/x/../openai/y"])
def test_a_path_in_which_the_prefix_does_not_stand_is_refused(bed, asked):
    upstream, tarry = gateway(bed, lambda r, c: Reply(200), [("/openai/", {"prefix_rewrite": "/"})])
    assert tarry.get(asked).status == 400
    assert not upstream.requests


def test_the_read_api_goes_by_the_path_that_the_service_gets(bed):
    """Usage is read though the client's path is another."""
    answer = {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    _, tarry = gateway(bed, lambda r, c: Reply(200, json.dumps(answer), {"Content-Type": "application/json"}),
                       [("/chat/", {"prefix_rewrite": "/v1/chat/"})])
    assert tarry.post("/chat/completions", json.dumps(CHAT)).status == 200
    line = tarry.access.wait_for()
    assert (line["input_tokens"], line["output_tokens"]) == (3, 4)


# --- sizes ---

def test_a_route_has_its_own_body_max(bed):
    _, tarry = gateway(bed, lambda r, c: Reply(200), [("/small/", {"body_max": "10"}), ("/large/", {"body_max": "1M"}), ("/", {})], top={"body_max": "100"})
    for path, most in (("/small/", 10), ("/", 100), ("/large/", 1 << 20)):
        for chunked in (False, True):
            for n, status in ((most, 200), (most + 1, 413)):
                body = b"x" * n
                got = tarry.request("POST", path, body=None if chunked else body, chunks=[body] if chunked else None)
                assert (path, chunked, n, got.status) == (path, chunked, n, status)


def test_a_workers_route_has_its_own_body_max(bed):
    conf = bed.conf(bed.worker(lambda r, c: Reply(200)))
    conf.routes = [("/", {"workers": "app"}), ("/upload/", {"workers": "app", "body_max": "10"})]
    tarry = bed.tarry(conf)
    assert tarry.post("/upload/", b"x" * 11).status == 413
    assert tarry.post("/", b"x" * 11).status == 200


def test_the_shape_goes_by_the_path_that_the_service_gets(bed):
    _, tarry = gateway(bed, cut, [("/ai/", {"prefix_rewrite": "/v1/"})], up={"retries": 0, "retry_unstarted_within": "0ms"})
    openai_error(tarry.get("/ai/models"), 502, "connection_terminated")


# --- the service's URLs ---

JSON = {"Content-Type": "application/json"}


def batch(origin, n=1):
    return {"id": f"msgbatch_{n}", "results_url": f"{origin}/v1/messages/batches/msgbatch_{n}/results"}


def urls(bed, answer, routes=None, **more):
    """A gateway whose service answers with answer(origin, request): status, fields, body."""
    def serve(r, c):
        status, fields, body = answer(upstream.origin, r)
        return Reply(status, body if isinstance(body, (bytes, list)) else json.dumps(body), fields, framing=more.pop("framing", "length"))
    upstream = bed.upstream(serve)
    return gateway(bed, upstream, routes, **more)


@pytest.mark.parametrize("prefix, options", [("/", {}), ("/anthropic/", {"prefix_rewrite": "/"})])
def test_results_url_leads_back_to_tarry(bed, prefix, options):
    upstream, tarry = urls(bed, lambda origin, r: (200, JSON, batch(origin)), [(prefix, options)])
    got = tarry.get(f"{prefix}v1/messages/batches/msgbatch_1", {"Accept-Encoding": "gzip, br"})
    want = f"http://{tarry.address}{prefix}v1/messages/batches/msgbatch_1/results"
    assert got.json() == {"id": "msgbatch_1", "results_url": want}
    assert upstream.request.headers.get("Accept-Encoding") == "identity"
    assert got.headers.get("Content-Length") is None and got.headers.get("Transfer-Encoding") == "chunked"
    assert tarry.get(want.removeprefix(f"http://{tarry.address}")).status == 200
    assert upstream.requests[1].target == "/v1/messages/batches/msgbatch_1/results"


def test_a_list_s_urls_and_next_links_lead_back(bed):
    def answer(origin, r):
        return 200, JSON, {"data": [batch(origin, 1), batch(origin, 2)], "next": f"{origin}/v1/x?page=2", "nextLink": None}
    _, tarry = urls(bed, answer)
    base = f"http://{tarry.address}"
    assert tarry.get("/v1/messages/batches").json() == {"data": [batch(base, 1), batch(base, 2)], "next": f"{base}/v1/x?page=2", "nextLink": None}


def test_an_http_1_0_client_gets_the_changed_body_to_the_connection_s_end(bed):
    _, tarry = urls(bed, lambda origin, r: (200, JSON, batch(origin)))
    with tarry.client() as c:
        c.send(f"GET /v1/messages/batches/x HTTP/1.0\r\nHost: {tarry.address}\r\n\r\n".encode())
        assert c.read_response().json() == batch(f"http://{tarry.address}")
        c.wait_closed()


def test_pieces_of_any_size_give_the_same_document(bed):
    document = json.dumps({"data": [batch("ORIGIN", n) for n in range(50)], "x": "y" * 1000})

    def answer(origin, r):
        body = document.replace("ORIGIN", origin).encode()
        return 200, JSON, [body[i:i + 7] for i in range(0, len(body), 7)]
    _, tarry = urls(bed, answer)
    assert tarry.get("/v1/messages/batches").text == document.replace("ORIGIN", f"http://{tarry.address}")


@pytest.mark.parametrize("name, value, want", [
    ("Location", "{origin}/v1/x", "{base}/ai/v1/x"), ("Location", "/v1/x", "/ai/v1/x"), ("Location", "https://elsewhere.example/v1/x", None),
    ("Location", "{origin}.evil.example/v1", None), ("Location", "//elsewhere/v1/x", None), ("Location", "x", None), ("Location", "{origin}", None),
    ("X-Goog-Upload-URL", "{origin}/upload/v1beta/files?upload_id=a&b=%2F", "{base}/ai/upload/v1beta/files?upload_id=a&b=%2F"),
    ("x-goog-upload-control-url", "{origin}/upload", "{base}/ai/upload"), ("Operation-Location", "{origin}/op?x", "{base}/ai/op?x"),
    ("Content-Location", "{origin}/a", "{base}/ai/a"), ("X-Other", "{origin}/a", None),
    ("Link", '<{origin}/v1/x?p=2>; rel="next", <https://elsewhere/>; rel="last"', '<{base}/ai/v1/x?p=2>; rel="next", <https://elsewhere/>; rel="last"')])
def test_urls_in_fields_lead_back(bed, name, value, want):
    _, tarry = urls(bed, lambda origin, r: (201, {name: value.format(origin=origin)}, b""), [("/ai/", {"prefix_rewrite": "/"})])
    origin, base = _.origin, f"http://{tarry.address}"
    assert tarry.post("/ai/x").headers.get(name) == (want or value).format(origin=origin, base=base)


def test_a_url_that_no_route_leads_to_stays(bed):
    """The upload's path has a route of its own, or none."""
    def answer(origin, r):
        return 200, {"X-Goog-Upload-URL": f"{origin}/upload/v1beta/files", "Location": f"{origin}/nowhere"}, b""
    upstream, tarry = urls(bed, answer, [("/v1beta/", {}), ("/upload/", {})])
    got = tarry.post("/v1beta/files")
    assert got.headers.get("X-Goog-Upload-URL") == f"http://{tarry.address}/upload/v1beta/files"
    assert got.headers.get("Location") == f"{upstream.origin}/nowhere"


def test_what_proxies_in_front_say_is_where_clients_are(bed):
    _, tarry = urls(bed, lambda origin, r: (200, JSON, batch(origin)), top={"trusted_proxies": ["127.0.0.0/8"]})
    got = tarry.get("/v1/messages/batches/x", {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "llm.example", "X-Forwarded-For": "192.0.2.1"})
    assert got.json() == batch("https://llm.example")


def test_what_strangers_say_is_not(bed):
    _, tarry = urls(bed, lambda origin, r: (200, JSON, batch(origin)))
    got = tarry.get("/v1/messages/batches/x", {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"})
    assert got.json() == batch(f"http://{tarry.address}")


@pytest.mark.parametrize("path, fields, options", [
    ("/v1/chat/completions", JSON, {}), ("/v1/messages", JSON, {}), ("/v1beta/models/m:generateContent", JSON, {}),
    ("/v1/messages/batches", {"Content-Type": "text/plain"}, {}), ("/v1/messages/batches", {"Content-Type": "application/x-jsonl"}, {}),
    ("/v1/messages/batches", {**JSON, "Content-Encoding": "x-unknown"}, {}), ("/v1/messages/batches", JSON, {"rewrite_urls": False})])
def test_other_bodies_keep_every_byte_and_their_length(bed, path, fields, options):
    upstream, tarry = urls(bed, lambda origin, r: (200, fields, batch(origin)), [("/", options)])
    got = tarry.post(path, "{}")
    assert got.json() == batch(upstream.origin) and got.headers.get("Content-Length") == str(len(got.body))


def test_fields_that_tell_of_the_service_s_bytes_do_not_tell_of_the_changed_ones(bed):
    """RFC 9110 8.6 and 8.8.1: of a HEAD they are those of the GET."""
    about = {**JSON, "ETag": '"v1"', "Accept-Ranges": "bytes", "Content-Digest": "sha-256=:YQ==:"}
    _, tarry = urls(bed, lambda origin, r: (200, about, batch(origin)))
    for method in ("GET", "HEAD"):
        got = tarry.request(method, "/v1/messages/batches/msgbatch_1")
        assert got.status == 200 and got.headers.get("ETag") == 'W/"v1"', method
        for name in ("Content-Length", "Accept-Ranges", "Content-Digest"):
            assert got.headers.get(name) is None, (method, name)


def peak(tarry):
    """Bytes: the most that it has ever had."""
    with open(f"/proc/{tarry.pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:")) << 10


def test_a_forwarded_field_of_many_proxies_takes_no_more_memory_than_its_length(bed):
    upstream, tarry = gateway(bed, lambda r, c: Reply(200, b""), top={"header_max": "1M", "trusted_proxies": ["127.0.0.0/8"]})
    before = peak(tarry)
    assert tarry.get("/x", {"Forwarded": "for=_a, " * 20000 + "for=_a"}).status == 200
    assert tarry.sanitized or peak(tarry) - before < 64 << 20


def test_a_link_field_of_many_urls_takes_no_more_memory_than_its_length(bed):
    _, tarry = gateway(bed, lambda r, c: Reply(200, b"", {"Link": "</v1/x>," * 20000}), [("/ai/", {"prefix_rewrite": "/"})], top={"header_max": "1M"})
    before = peak(tarry)
    assert tarry.get("/ai/x").headers.get("Link") == "</ai/v1/x>," * 20000
    assert tarry.sanitized or peak(tarry) - before < 64 << 20


def test_a_group_s_endpoints_all_lead_back(bed):
    a, b = (bed.upstream(lambda r, c, n=n: Reply(200, json.dumps(batch([a, b][n].origin + ["", "/openai"][n])), JSON)) for n in (0, 1))
    conf = bed.conf([], a)
    del conf.up["origin"]
    conf.endpoints["up"] = {"a": {"origin": a.origin}, "b": {"origin": b.origin, "path_prefix": "/openai"}}
    conf.routes = [("/", {"upstream": "up"})]
    tarry = bed.tarry(conf)
    eventually(lambda: tarry.get("/v1/lists").json() == batch(f"http://{tarry.address}") and a.requests and b.requests)


# --- silence ---

SSE = {"Content-Type": "text/event-stream"}
COMMENT = b": keep-alive\n\n"
STREAM = json.dumps({**CHAT, "stream": True})


def silent(bed, answer, up=None, **options):
    return gateway(bed, answer, [("/", {"keep_alive_interval": "30ms", **options})], up={"hold_timeout": "5s", **(up or {})})


@pytest.mark.parametrize("path, body, headers", [
    ("/v1/chat/completions", STREAM, {}), ("/v1/messages", STREAM, {}), ("/v1beta/models/m:streamGenerateContent?alt=sse", "{}", {}),
    ("/other", "", {"Accept": "text/event-stream"})])
def test_a_client_that_waits_for_a_stream_gets_comments(bed, path, body, headers):
    gate = Gate()
    upstream, tarry = silent(bed, lambda r, c: (gate.wait(), Reply(200, [b"data: 1\n\n"], SSE, framing="chunked"))[1], up={"api": "none"})
    with Client(tarry.address) as c:
        c.send_request("POST", path, headers, body)
        got = c.begin()
        assert got.status == 200 and got.headers.get("Content-Type") == "text/event-stream"
        got.until(COMMENT * 2)
        gate.open()
        got.read()
        assert got.body.endswith(COMMENT + b"data: 1\n\n")


def test_a_client_that_waits_for_json_gets_none(bed):
    gate = Gate()
    upstream, tarry = silent(bed, lambda r, c: (gate.wait(), Reply(500, b"{}"))[1], up={"retries": 0})
    task = bed.background(tarry.post, "/v1/chat/completions", json.dumps(CHAT))
    upstream.wait_for(1)
    gate.opened(0.2)
    gate.open()
    assert task.result().status == 500


def test_a_head_gets_the_service_s_answer_and_no_comments(bed):
    gate = Gate()
    upstream, tarry = silent(bed, lambda r, c: (gate.wait(), Reply(404, b""))[1], up={"api": "none"})
    task = bed.background(tarry.request, "HEAD", "/other", {"Accept": "text/event-stream"})
    upstream.wait_for(1)
    gate.opened(0.2)
    gate.open()
    assert task.result().status == 404


def test_comments_fill_a_stream_s_silence_and_never_an_event(bed):
    gates = [Gate() for _ in range(3)]

    def answer(r, c):
        c.send_head(200, SSE)
        for piece, gate in zip([b"data: 1\n\n", b"data: {\"a\":", b" 2}\n"], gates):
            c.send_chunk(piece)
            gate.wait()
        c.send_chunk(b"\n")
        c.end_chunks()
    upstream, tarry = silent(bed, answer, up={"api": "none"})
    with Client(tarry.address) as c:
        c.send_request("POST", "/v1/chat/completions", (), STREAM)
        got = c.begin()
        got.until(b"data: 1\n\n" + COMMENT)
        gates[0].open()
        got.until(b'{"a":')
        gates[1].opened(0.2)
        gates[1].open()
        got.until(b" 2}\n")
        gates[2].opened(0.2)
        gates[2].open()
        got.read()
    rest = got.body.replace(COMMENT, b"")
    assert rest == b'data: 1\n\ndata: {"a": 2}\n\n' and b'data: {"a": 2}\n\n' in got.body


@pytest.mark.parametrize("path, check", [
    ("/v1/chat/completions", lambda e: e["error"]["code"] == "connection_terminated"),
    ("/v1/messages", lambda e: e["type"] == "error" and e["error"]["type"] == "api_error")])
def test_a_failure_after_comments_is_an_event_in_the_sdk_s_shape(bed, path, check):
    gate = Gate()
    upstream, tarry = silent(bed, lambda r, c: (gate.wait(), c.reset())[1], up={"retries": 0})
    with Client(tarry.address) as c:
        c.send_request("POST", path, (), STREAM)
        got = c.begin()
        got.until(COMMENT)
        gate.open()
        got.read()
    head, _, data = got.body.rpartition(b"event: error\ndata: ")
    assert head.replace(COMMENT, b"") == b"" and check(json.loads(data))


def test_an_error_of_the_service_after_comments_is_an_event(bed):
    gate = Gate()
    upstream, tarry = silent(bed, lambda r, c: (gate.wait(), Reply(400, b'{"error": {"message": "m"}}', JSON))[1])
    with Client(tarry.address) as c:
        c.send_request("POST", "/v1/chat/completions", (), STREAM)
        got = c.begin()
        got.until(COMMENT)
        gate.open()
        got.read()
    assert got.body.endswith(b'event: error\ndata: {"error": {"message": "m"}}\n\n')


def test_comments_go_over_http_2_too(bed):
    gate = Gate()

    def answer(r, c):
        c.send_head(200, SSE)
        c.send_chunk(b"data: 1\n\n")
        gate.wait()
        c.end_chunks()
    upstream, tarry = silent(bed, answer, up={"api": "none"})
    with H2Client(tarry.address) as c:
        stream = c.begin("POST", "/v1/chat/completions", body=STREAM.encode())
        stream.until(b"data: 1\n\n" + COMMENT * 2)
        gate.open()
        assert stream.read().replace(COMMENT, b"") == b"data: 1\n\n"
