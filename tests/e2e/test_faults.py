"""The faults that an upstream side must survive, S01 to S16 and T1 to T12, each on the three routes: a relay, a resume, and a
gateway without a worker. docs/faults.md says what each is; the stand-in (tests/provider) plays them."""

import itertools
import json
import signal
import time

import pytest

from harness import Client, Gate, Reply, Truncated, by_kind, call, eventually, free_port, handoff

ROUTES = ["relay", "resume", "gateway"]
OPTIONS = {"retry_first_pause": "20ms", "retry_max_pause": "50ms", "first_byte_timeout": "1s", "first_content_timeout": "1s",
           "content_idle_timeout": "1s", "hold_timeout": "600ms", "set_header": ["Authorization: Bearer conf"]}
keys = itertools.count()


class Answer:
    """What the client saw, or the worker that the resume went to."""

    def __init__(self, status, body, headers, whole=True, error=None):
        self.status, self.body, self.headers, self.whole, self.error = status, body, headers, whole, error

    def __repr__(self):
        return f"<{self.status} {'whole' if self.whole else 'cut'} {self.error} {self.body[-300:]!r}>"


class Site:
    def __init__(self, bed, route, tls=False, endpoints=None, **options):
        self.route, self.bed = route, bed
        worker = bed.worker(by_kind(request=self.first, resume=self.resume))
        self.providers = [bed.provider(args=args, name=f"provider{i}") for i, args in enumerate(endpoints or [[]])]
        self.provider = self.providers[0]
        origins = [f"https://localhost:{p.https.rpartition(':')[2]}" if tls else f"http://{p.http}" for p in self.providers]
        conf = bed.conf(worker, origins[0])
        conf.up.update(OPTIONS)
        conf.up.update(options)
        if tls:
            conf.up["ca_file"] = self.provider.ca
        if endpoints:
            del conf.up["origin"]
            conf.endpoints["up"] = {f"e{i}": {"origin": o, "tier": i + 1, "model": f"m{i}"} for i, o in enumerate(origins)}
        conf.routes.append(("/v1", {"upstream": "up"}))
        conf.admins[f"127.0.0.1:{free_port()}"] = {}
        self.tarry = bed.tarry(conf)

    def first(self, r, c):
        headers = r.headers.starting("x-provider-")
        return handoff("relay" if self.route == "relay" else "resume /x",
                       [call("tarry://up" + r.headers.get("x-path"), body=r.body, headers=headers)],
                       on_disconnect="cancel" if self.route == "resume" else None)

    @staticmethod
    def resume(r, c):
        e = r.enclosed[0]
        return Reply(e.status, e.body, [("X-Error", e.error or "none"), ("X-Usage", e.headers.get("tarry-usage") or "")])

    def headers(self, fault, headers):
        own = [("X-Provider-Fault", fault)] if fault else []
        if "X-Provider-Key" not in dict(headers):
            own.append(("X-Provider-Key", f"k{next(keys)}"))
        return own + [("Content-Type", "application/json"), *headers]

    def ask(self, fault=None, path="/v1/chat/completions", stream=True, headers=(), body=None):
        body = body or {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream, "max_tokens": 99,
                        "stream_options": {"include_usage": True}}
        body = json.dumps(body)
        headers = self.headers(fault, headers)
        target = path if self.route == "gateway" else "/ask"
        with Client(self.tarry.address) as client:
            client.send_request("POST", target, headers + [("X-Path", path)], body)
            response = client.begin()
            try:
                response.read()
                whole = True
            except Truncated:
                whole = False
        error = response.headers.get("x-error") or response.headers.get("proxy-status") or "none"
        return Answer(response.status, response.body, response.headers, whole and "incomplete" not in error, error)

    def requests(self, n=0):
        return [r for r in self.providers[n].records if r["method"] == "POST"]


@pytest.fixture(params=ROUTES)
def route(request):
    return request.param


def test_S01_waits_as_long_as_the_hint_says(bed, route):
    site = Site(bed, route)
    assert site.ask("429=250ms*1").status == 200
    assert [r["status"] for r in site.requests()] == [429, 200]


def test_S02_a_429_for_ever_is_told_as_it_is(bed, route):
    site = Site(bed, route)
    answer = site.ask("429=none")
    assert answer.status == 429 and b"error" in answer.body
    assert len(site.requests()) == 3
    if route == "gateway":
        assert answer.headers.get("x-should-retry") == "false"


@pytest.mark.parametrize("fault, status, requests", [("500*1", 200, 2), ("503=none", 503, 3)])
def test_S03_S04_failures_of_the_service(bed, route, fault, status, requests):
    site = Site(bed, route)
    assert site.ask(fault).status == status
    assert len(site.requests()) == requests


@pytest.mark.parametrize("tls", [False, True], ids=["http1", "http2"])
def test_S05_a_reset_before_the_answer(bed, route, tls):
    site = Site(bed, route, tls=tls, retries=0)
    assert site.ask("reset*1").status == 200


def test_S05_a_reset_after_a_while_may_have_been_billed(bed, route):
    site = Site(bed, route, tls=True)
    assert site.ask("reset", headers=[("X-Provider-Delay", "400ms")]).status == 502
    assert len(site.requests()) == 1


@pytest.mark.parametrize("delay, status", [("300ms", 200), ("", 504)])
def test_S06_S07_the_first_byte_has_its_time(bed, route, delay, status):
    site = Site(bed, route)
    answer = site.ask(None if delay else "silence", headers=[("X-Provider-Delay", delay)] if delay else [])
    assert answer.status == status
    assert len(site.requests()) <= 1


@pytest.mark.parametrize("fault", ["reset-mid=9", "close-mid=9", "stall=9"])
def test_S08_S09_what_breaks_off_never_looks_whole(bed, route, fault):
    site = Site(bed, route)
    answer = site.ask(fault)
    assert not answer.whole or answer.status in (502, 504)
    assert b"[DONE]" not in answer.body


def test_S10_a_malformed_event_is_passed_on(bed, route):
    site = Site(bed, route)
    answer = site.ask("malformed=5")
    assert answer.status == 200 and b"[DONE]" in answer.body


def test_S11_a_stream_without_its_end_is_not_complete(bed, route):
    site = Site(bed, route)
    answer = site.ask("no-terminal")
    assert not answer.whole
    if route != "resume":
        assert b"data:" in answer.body


@pytest.mark.parametrize("fault, outcome, truncated", [("no-terminal", "truncated", "stream"), ("error-event=5", "truncated", "stream"),
                                                       ("", "complete", None)])
def test_S11_a_notify_says_how_the_stream_ended(bed, fault, outcome, truncated):
    provider = bed.provider()
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True})
    ask = call(f"http://{provider.http}/v1/chat/completions", body=body, headers=[("X-Provider-Fault", fault), ("Authorization", "Bearer x")])
    worker = bed.worker(by_kind(request=lambda r, c: handoff("relay", [ask], notify="/n")))
    tarry = bed.tarry(bed.conf(worker, f"http://{provider.http}"))
    with Client(tarry.address) as client:
        client.send_request("GET", "/")
        try:
            client.read_response()
        except Truncated:
            assert fault == "no-terminal"
    told = worker.wait_for(1, lambda r: r.kind == "notify")
    assert (told.headers.get("tarry-outcome"), told.headers.get("tarry-truncated")) == (outcome, truncated)


def test_S12_a_prompt_that_is_too_long_is_not_tried_again(bed, route):
    site = Site(bed, route)
    answer = site.ask("400=context")
    assert answer.status == 400 and b"context" in answer.body
    assert len(site.requests()) == 1


def test_S12_it_goes_to_the_next_tier_if_the_conf_says_so(bed, route):
    site = Site(bed, route, endpoints=[["--fault", "400=context"], []], fallback_on=["context_length"])
    answer = site.ask()
    assert answer.status == 200 and b'"m1"' in answer.body
    assert len(site.requests(0)) == len(site.requests(1)) == 1


def test_S13_a_refusal_by_the_filter_is_an_answer(bed, route):
    site = Site(bed, route)
    answer = site.ask("filter")
    assert answer.status == 200 and b"content_filter" in answer.body
    assert len(site.requests()) == 1


def test_S14_a_fallback_that_refuses_leaves_the_first_error(bed, route):
    site = Site(bed, route, endpoints=[["--fault", "400=context"], ["--fault", "422"]], fallback_on=["context_length"])
    answer = site.ask()
    assert answer.status == 400 and b"context" in answer.body
    assert site.tarry.access.wait_for(lambda line: line["calls"])["upstream_status"] == 400


def test_S15_a_service_that_comes_back_is_used_again(bed, route):
    """Four failures: three open the breaker, one is the probe's."""
    site = Site(bed, route, endpoints=[["--fault", "500*4, 200"], []], breaker_failures=3, breaker_pause="300ms")

    def ask():
        assert site.ask(headers=[("X-Provider-Key", "same")]).status == 200
        return [r["status"] for r in site.requests(0)]
    assert [len(ask()) for _ in range(4)] == [1, 2, 3, 3]
    eventually(lambda: ask() == [500, 500, 500, 500], "the first probe")
    eventually(lambda: ask()[4:5] == [200], "the second probe")


def test_S16_usage_is_that_of_the_leg_that_paid(bed, route):
    site = Site(bed, route, endpoints=[["--fault", "503=none"], []])
    answer = site.ask(stream=False)
    used = json.loads(answer.body)["usage"]
    entry = site.tarry.access.wait_for(lambda e: e.get("input_tokens") is not None)
    assert (entry["input_tokens"], entry["output_tokens"]) == (used["prompt_tokens"], used["completion_tokens"])
    assert entry["endpoint"] == "e1"


@pytest.mark.parametrize("fault", ["goaway*1", "refused*1"])
def test_T1_a_stream_that_was_never_seen_is_free(bed, route, fault):
    site = Site(bed, route, tls=True, retries=0)
    assert site.ask(fault).status == 200


def test_T2_a_reset_that_may_have_been_billed_is_not_repeated(bed, route):
    site = Site(bed, route, tls=True)
    assert site.ask("rst").status == 502
    assert len(site.requests()) == 1


def test_T3_pings_are_no_content(bed, route):
    site = Site(bed, route, hold_timeout="5s")
    body = {"model": "m", "max_tokens": 20, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    answer = site.ask("pings", path="/v1/messages", body=body, headers=[("anthropic-version", "2023-06-01")])
    assert answer.status == 504


def test_T4_an_error_event_before_content_is_an_error(bed, route):
    site = Site(bed, route)
    body = {"model": "m", "input": "hi", "stream": True}
    answer = site.ask("error-event=0", path="/v1/responses", body=body)
    assert answer.status >= 429 and b"error" in answer.body
    answer = site.ask("error-event=0*1", path="/v1/responses", body=body)
    assert answer.status == 200 and b"response.completed" in answer.body


def test_T5_a_client_that_leaves_ends_the_call(bed, route):
    """While it streams; a resume, whose handoff says cancel, while it waits."""
    site = Site(bed, route, tls=True)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True})
    with Client(site.tarry.address) as client:
        target = "/v1/chat/completions" if route == "gateway" else "/ask"
        client.send_request("POST", target, site.headers("stall=5", [("X-Path", "/v1/chat/completions")]), body)
        if route == "resume":
            eventually(lambda: site.tarry.status()["upstreams"]["up"]["streams"] == 1, "the call")
        else:
            client.begin().until(b"data:")
    record, = site.provider.wait_records(1, lambda r: r["method"] == "POST")
    assert record["end"] == "reset-by-peer"


def test_T6_one_stream_more_than_the_peer_allows(bed, route):
    site = Site(bed, route, tls=True, endpoints=[["--max-streams", "2"]])
    tasks = [bed.background(site.ask, headers=[("X-Provider-Delay", "300ms")]) for _ in range(5)]
    assert [t.result().status for t in tasks] == [200] * 5


def test_T7_a_connection_that_died_silently_is_given_up(bed, route):
    site = Site(bed, route, tls=True, ping_interval="100ms", ping_timeout="200ms", first_byte_timeout="20s")
    assert site.ask("ping-silent").status == 502
    assert site.ask().status == 200


def test_T8_a_client_that_does_not_read_holds_up_no_other(bed, route):
    site = Site(bed, route, tls=True, idle_timeout="20s")
    target = "/v1/chat/completions" if route == "gateway" else "/ask"
    with Client(site.tarry.address, receive_buffer=4096) as slow:
        slow.send_request("POST", target, site.headers("huge=8M", [("X-Path", "/v1/chat/completions")]), "{}")
        slow.begin()
        assert site.ask().status == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_T9_bytes_split_anywhere_are_the_same(bed, route, path):
    site = Site(bed, route)
    body = {"model": "m", "input": "hé", "max_tokens": 20, "stream": True, "messages": [{"role": "user", "content": "hé"}]}
    headers = [("anthropic-version", "2023-06-01"), ("X-Provider-Tokens", "5")]
    answer = site.ask("drip=0ms", path=path, body=body, headers=headers)
    assert answer.status == 200 and answer.whole and "hé".encode() in answer.body or b"h\\u00e9" in answer.body


def test_T10_a_quota_that_is_out_is_not_tried_again(bed, route):
    site = Site(bed, route)
    answer = site.ask("429=quota")
    assert answer.status == 429
    assert len(site.requests()) == 1
    if route == "gateway":
        assert answer.headers.get("x-should-retry") == "false"
    site.tarry.wait_log(lambda line: "quota" in line, "a loud line")


def test_T10_another_key_is_used(bed, route):
    site = Site(bed, route, endpoints=[["--fault", "429=quota"], []])
    assert site.ask().status == site.ask().status == 200
    assert len(site.requests(0)) == 1


def test_T11_a_head_alone_is_no_first_content(bed, route):
    site = Site(bed, route, hold_timeout="5s")
    assert site.ask("stall=0").status == 504


def test_T12_a_trickle_ends(bed, route):
    site = Site(bed, route, stream_timeout="1s")
    answer = site.ask(headers=[("X-Provider-Pace", "200ms"), ("X-Provider-Tokens", "50")])
    assert not answer.whole or answer.status == 504


def test_an_answer_that_lay_in_the_socket_was_in_time(bed):
    """The process is stopped, as a virtual machine is that moves, for longer than the service may take."""
    asked, stopped, sent = Gate(), Gate(), Gate()

    def answer(r, c):
        asked.open()
        stopped.wait()
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        sent.open()
        return c.close()
    up = bed.tls_upstream(answer)
    conf = bed.conf(bed.worker(), up.origin)
    conf.up.update(OPTIONS, first_byte_timeout="1s", ca_file=str(bed.authority.ca))
    conf.routes.append(("/v1", {"upstream": "up"}))
    tarry = bed.tarry(conf)
    answered = bed.background(tarry.get, "/v1/x")
    asked.wait()
    tarry.signal(signal.SIGSTOP)
    try:
        stopped.open()
        sent.wait()
        time.sleep(1.5)  # first_byte_timeout and more
    finally:
        tarry.signal(signal.SIGCONT)
    got = answered.result()
    assert (got.status, got.body) == (200, b"hi")
