"""What SDKs need of a gateway route: errors in the shape of their API, paths, sizes, URLs that lead back, and bytes amid silence."""

import json

import pytest

from harness import Client, Gate, Reply, Truncated, eventually, problem
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
