"""What a call used: in the access log, the metrics, on enclosed responses and notifies; include_usage goes in, and its chunk comes out."""

import gzip
import json

import pytest

from harness import Reply, by_kind, call, eventually, handoff

SSE = {"Content-Type": "text/event-stream"}
ANSWER = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
          "usage": {"prompt_tokens": 9, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4},
                    "completion_tokens_details": {"reasoning_tokens": 3}}}
SAID = "input=9, output=7, cached=4, reasoning=3"
ROUTES = ["gateway", "relay", "resume"]


def chat(r, c):
    """As OpenAI: the usage comes with a stream only if it is asked for."""
    body = json.loads(r.body)
    if not body.get("stream"):
        return Reply(200, json.dumps(ANSWER), {"Content-Type": "application/json"})
    asked = (body.get("stream_options") or {}).get("include_usage")
    more = {"usage": None} if asked else {}
    chunks = [{"choices": [{"delta": {"content": word}}], **more} for word in ("a", "b")]
    chunks.append({"choices": [{"delta": {}, "finish_reason": "stop"}], **more})
    if asked:
        chunks.append({"choices": [], "usage": ANSWER["usage"]})
    return Reply(200, [f"data: {json.dumps(x)}\n\n" for x in chunks] + ["data: [DONE]\n\n"], SSE, framing="chunked")


class Site:
    def __init__(self, bed, route, upstream=chat, up=None, endpoints=None):
        self.route = route
        self.upstream = bed.upstream(upstream)
        self.worker = bed.worker(by_kind(request=self.first, resume=self.tell, notify=Reply(204)))
        self.conf = bed.conf(self.worker, self.upstream)
        self.conf.up.update({"include_usage": True, **(up or {})})
        if endpoints:
            del self.conf.up["origin"]
            self.conf.endpoints["up"] = endpoints(self.upstream.origin)
        self.conf.routes += [("/v1/", {"upstream": "up"})]
        self.conf.admins[f"unix:{bed.folder}/admin"] = {}
        self.tarry = bed.tarry(self.conf)

    def first(self, r, c):
        then = "resume /x" if self.route == "resume" else "relay"
        return handoff(then, [call("tarry://up/v1/chat/completions", method="POST", body=r.body, headers={"Content-Type": "application/json"})],
                       **({} if self.route == "resume" else {"notify": "/told"}))

    def tell(self, r, c):
        self.enclosed = r.enclosed[0]
        return Reply(r.enclosed[0].status, r.enclosed[0].body, SSE)

    def ask(self, body, headers=()):
        target = "/v1/chat/completions" if self.route == "gateway" else "/ask"
        return self.tarry.post(target, body if isinstance(body, (bytes, str)) else json.dumps(body), headers)

    def line(self):
        return self.tarry.access.wait_for()


@pytest.mark.parametrize("route", ROUTES)
def test_usage_is_in_the_access_log_and_the_metrics(bed, route):
    site = Site(bed, route)
    assert site.ask({"model": "m"}).status == 200
    line = site.line()
    assert [line[k] for k in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")] == [9, 7, 4, 3]
    assert (line["endpoint"], line["attempts"], line["upstream_status"]) == ("up", 1, 200) and line["first_content_ms"] >= 0
    for kind, n in (("input", 9), ("output", 7), ("cached", 4), ("reasoning", 3)):
        assert eventually(lambda: site.tarry.metrics().get(f'tarry_upstream_tokens_total{{upstream="up",kind="{kind}"}}')) == n
    if route == "resume":
        assert site.enclosed.headers.get("Tarry-Usage") == SAID
    if route == "relay":
        told = site.worker.wait_for(1, lambda r: r.kind == "notify")
        assert told.enclosed[0].headers.get("Tarry-Usage") == SAID


@pytest.mark.parametrize("route", ROUTES)
def test_usage_that_is_not_said_is_left_out(bed, route):
    site = Site(bed, route, lambda r, c: Reply(200, json.dumps({"choices": [{"message": {"content": "x"}}]}), {"Content-Type": "application/json"}))
    assert site.ask({"model": "m"}).status == 200
    assert "input_tokens" not in site.line()
    assert not site.tarry.metric_lines("tarry_upstream_tokens_total")
    if route == "resume":
        assert "Tarry-Usage" not in site.enclosed.headers
    if route == "relay":
        told = site.worker.wait_for(1, lambda r: r.kind == "notify")
        assert "Tarry-Usage" not in told.enclosed[0].headers


@pytest.mark.parametrize("route", ROUTES)
def test_a_stream_is_asked_for_its_usage_behind_the_client_s_back(bed, route):
    site = Site(bed, route)
    body = '{"model": "m",  "stream":true, "messages": [{"content": "é\\u00e9"}]}'.encode()
    got = site.ask(body)
    assert site.upstream.request.body == b'{"stream_options":{"include_usage":true},' + body[1:]
    events = [e for e in got.text.split("\n\n") if e]
    assert len(events) == 4 and events[-1] == "data: [DONE]" and "prompt_tokens" not in got.text
    line = site.line()
    assert (line["input_tokens"], line["output_tokens"]) == (9, 7)
    if route == "resume":
        assert site.enclosed.headers.get("Tarry-Usage") == SAID
    if route == "relay":
        told = site.worker.wait_for(1, lambda r: r.kind == "notify")
        assert told.enclosed[0].headers.get("Tarry-Usage") == SAID and told.enclosed[0].body == got.body


@pytest.mark.parametrize("options, chunk", [({"include_usage": True}, True), ({"include_usage": False}, False)])
def test_a_client_that_has_decided_gets_what_it_asked_for(bed, options, chunk):
    site = Site(bed, "gateway")
    body = json.dumps({"model": "m", "stream": True, "stream_options": options})
    got = site.ask(body)
    assert site.upstream.request.body.decode() == body
    assert ("prompt_tokens" in got.text) == chunk


def test_without_the_option_nothing_is_added(bed):
    site = Site(bed, "gateway", up={"include_usage": False})
    body = json.dumps({"model": "m", "stream": True})
    site.ask(body)
    assert site.upstream.request.body.decode() == body and "input_tokens" not in site.line()


@pytest.mark.parametrize("body, headers", [
    (gzip.compress(b'{"stream":true}', mtime=0), {"Content-Encoding": "gzip"}), (b'{"stream":true', {}), (b'{"stream":true,"stream":true}', {}),
    (b"", {}), (b'["stream", true]', {})])
def test_odd_bodies_stay_as_they_are(bed, body, headers):
    site = Site(bed, "gateway", lambda r, c: Reply(200, b"{}", {"Content-Type": "application/json"}))
    site.ask(body, headers)
    assert site.upstream.request.body == body


def test_other_apis_are_left_alone(bed):
    site = Site(bed, "gateway", lambda r, c: Reply(200, b"{}"))
    for path in ("/v1/responses", "/v1/messages", "/v1/completions", "/v1/files"):
        site.tarry.post(path, b'{"stream":true}')
    assert {r.body for r in site.upstream.requests} == {b'{"stream":true}'}


def test_the_model_and_the_usage_go_in_together_on_every_try(bed):
    tries = []

    def answer(r, c):
        tries.append(r.body.decode())
        return Reply(503, b"{}") if len(tries) < 3 else chat(r, c)
    site = Site(bed, "gateway", answer, endpoints=lambda origin: {"a": {"origin": origin, "model": "x"}, "b": {"origin": origin}})
    for body in ('{"stream":true,"model":"m"}', '{"stream_options":{},"model":"m","stream":true}'):
        tries.clear()
        assert "prompt_tokens" not in site.ask(body).text
        assert len(tries) == 3
        assert all(json.loads(t)["stream_options"] == {"include_usage": True} for t in tries)
        assert {json.loads(t)["model"] for t in tries} == {"m", "x"}


def test_a_large_request_is_edited_from_its_file(bed):
    site = Site(bed, "gateway")
    site.conf.top["body_memory_max"] = "4K"
    site.tarry.reload(site.conf)
    body = json.dumps({"messages": [{"content": "x" * 300_000}], "stream": True})
    assert "prompt_tokens" not in site.ask(body).text
    assert site.upstream.request.body.decode() == '{"stream_options":{"include_usage":true},' + body[1:]
