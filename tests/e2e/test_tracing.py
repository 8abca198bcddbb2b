"""Traces: the traceparent on every hop, and the spans that a collector gets. The collector is the test's own; what it
gets is also read with OpenTelemetry's own schema."""

import json
import pathlib
import re
import subprocess
import threading

import pytest

from harness import Gate, Reply, by_kind, call, eventually, handoff
from harness.apps import current_python

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Collector:
    """The spans that came, by trace; `answer` is what it says to each request."""

    def __init__(self, bed, answer=None, path="/v1/traces"):
        self.path = path
        self.spans, self.resources, self.bodies, self.lock = [], [], [], threading.Lock()
        self.answer = answer
        self.server = bed.upstream(self.take)
        self.origin = self.server.origin

    def take(self, r, c):
        answer = self.answer(r) if self.answer else None
        if answer:
            return answer
        assert r.method == "POST" and r.target == self.path and r.headers.get("Content-Type") == "application/json"
        with self.lock:
            self.bodies.append(r.body)
            for resource in json.loads(r.body)["resourceSpans"]:
                self.resources.append(values(resource["resource"]["attributes"]))
                for scope in resource["scopeSpans"]:
                    self.spans += scope["spans"]
        return Reply(200, b"{}", {"Content-Type": "application/json"})

    def wait(self, n):
        """The spans, once there are n of exchanges."""
        return eventually(lambda: sum(s["kind"] == 2 for s in self.spans) >= n and list(self.spans), f"{n} traces")


def values(attributes):
    return {a["key"]: next(iter(a["value"].values())) for a in attributes}


def traced_site(bed, worker, upstream=None, answer=None, top=None, **tracing):
    collector = Collector(bed, answer)
    conf = bed.conf(bed.worker(worker), upstream)
    conf.upstreams["collector"] = {"origin": collector.origin, "retries": 0}
    conf.sections["tracing"] = {"upstream": "collector", "flush_interval": "20ms", **tracing}
    conf.top.update(top or {})
    conf.admins[f"unix:{bed.folder}/admin"] = {}
    tarry = bed.tarry(conf)
    return tarry, collector, conf


def test_each_part_of_an_exchange_is_a_span(bed):
    upstream = bed.upstream(lambda r, c: Reply(200, b"answer", {"x-request-id": "req_1"}))
    seen = []

    def note(r, c):
        seen.append(r.headers.get("traceparent"))

    def first(r, c):
        note(r, c)
        return handoff("resume /x", [call(upstream.origin + "/v1")] * 2, headers=[("Tarry-Label", "tenant-7")])

    def resume(r, c):
        note(r, c)
        return Reply(200, b"done")
    tarry, collector, _ = traced_site(bed, by_kind(request=first, resume=resume), upstream, service="shop")
    assert tarry.post("/ask?secret=1", b"x", {"User-Agent": "curl/8"}).status == 200
    spans = collector.wait(1)
    root, = [s for s in spans if s["kind"] == 2]
    facts = values(root["attributes"])
    assert root["name"] == "POST app" and "parentSpanId" not in root and "status" not in root
    assert facts["url.path"] == "/ask" and "secret" not in json.dumps(spans)
    assert facts["http.response.status_code"] == "200" and facts["user_agent.original"] == "curl/8"
    assert facts["tarry.label"] == "tenant-7" and facts["tarry.upstream_request_id"] == "req_1" and facts["tarry.upstream"] == "up"
    assert len({s["spanId"] for s in spans}) == len(spans) and {s["traceId"] for s in spans} == {root["traceId"]}
    assert all(s["parentSpanId"] == root["spanId"] for s in spans if s is not root)
    assert all(int(root["startTimeUnixNano"]) <= int(s["startTimeUnixNano"]) <= int(s["endTimeUnixNano"]) <= int(root["endTimeUnixNano"])
               for s in spans)
    visits = [s for s in spans if s["name"] == "visit app"]
    attempts = [s for s in spans if s["name"] == "attempt up"]
    assert [v["spanId"] for v in visits] == [p.split("-")[2] for p in seen] and len(attempts) == 2
    assert all(values(a["attributes"])["http.response.status_code"] == "200" for a in attempts)
    assert {"queue", "parked"} <= {s["name"] for s in spans}
    assert collector.resources[0]["service.name"] == "shop"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_trace_from_outside_goes_on(bed, trusted):
    """Its decision counts where the peer is trusted; one_in decides otherwise (here: hardly ever)."""
    tarry, collector, conf = traced_site(bed, lambda r, c: Reply(200, r.headers.get("traceparent")), one_in=1000000,
                                         top={"trusted_proxies": ["127.0.0.1"]} if trusted else {})
    answer = tarry.get("/", {"traceparent": PARENT, "tracestate": "a=b"}).text
    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-0{int(trusted)}", answer) and "b7ad6b7169203331" not in answer
    if trusted:
        root, = [s for s in collector.wait(1) if s["kind"] == 2]
        assert (root["traceId"], root["parentSpanId"]) == (TRACE, "b7ad6b7169203331")


def test_without_the_section_a_traceparent_is_carried_on_as_it_is(bed):
    site = bed.site(lambda r, c: Reply(200, r.headers.get("traceparent")))
    assert site.tarry.get("/", {"traceparent": PARENT}).text == PARENT


def test_a_failure_is_an_error_of_its_span(bed):
    upstream = bed.upstream(lambda r, c: Reply(503, b"no"))
    tarry, collector, conf = traced_site(bed, lambda r, c: handoff("relay", [call(upstream.origin)]), upstream)
    conf.up["retries"] = 1
    tarry.reload(conf)
    tarry.get("/")
    spans = collector.wait(1)
    root, = [s for s in spans if s["kind"] == 2]
    assert root["status"] == {"code": 2, "message": "status 503"}
    attempts = [values(s["attributes"]) for s in spans if s["name"] == "attempt up"]
    assert [a["http.response.status_code"] for a in attempts] == ["503", "503"] and [a["tarry.attempt"] for a in attempts] == ["1", "2"]


def test_a_collector_that_is_away_holds_nobody_up(bed):
    """Spans wait up to buffer_max, then they are dropped and counted; requests do not notice."""
    gate = Gate()
    tarry, collector, _ = traced_site(bed, lambda r, c: Reply(200, b"ok"), answer=lambda r: gate.wait() and None,
                                      buffer_max="64K", batch_max="4K")
    for i in range(200):
        assert tarry.get(f"/{i}/" + "x" * 200).status == 200
    tarry.wait_log(lambda line: "were dropped" in line and "buffer_max" in line, "the loss in the log")
    gate.open()
    eventually(lambda: tarry.metric("tarry_traces_sent_total") > 0, "what was kept is sent")
    assert tarry.metric("tarry_traces_dropped_total") + tarry.metric("tarry_traces_sent_total") <= 200


@pytest.mark.parametrize("status", [400, 503])
def test_a_collector_that_refuses_is_reported(bed, status):
    tarry, collector, _ = traced_site(bed, lambda r, c: Reply(200, b"ok"), answer=lambda r: Reply(status, b"no"))
    tarry.get("/")
    tarry.wait_log(lambda line: "were dropped" in line and str(status) in line, "the refusal in the log")
    assert tarry.metric("tarry_traces_dropped_total") == 1


def test_what_is_gathered_is_sent_before_tarry_ends(bed):
    tarry, collector, _ = traced_site(bed, lambda r, c: Reply(200, b"ok"), flush_interval="10m")
    for _ in range(3):
        tarry.get("/")
    tarry.stop()
    assert sum(s["kind"] == 2 for s in collector.spans) == 3


def test_a_dead_collector_does_not_keep_tarry_from_ending(bed):
    tarry, collector, conf = traced_site(bed, lambda r, c: Reply(200, b"ok"), flush_interval="10m", finish_timeout="100ms",
                                         top={"shutdown_timeout": "30s"})
    collector.server.refuse()
    tarry.get("/")
    tarry.stop()
    assert "spans of 1 exchange(s) were dropped" in tarry.stderr


def test_reloads_and_traces(bed):
    """The section goes and comes back while requests flow; each trace that began is whole."""
    tarry, collector, conf = traced_site(bed, lambda r, c: Reply(200, b"ok"))
    section = dict(conf.sections["tracing"])
    for i in range(6):
        if i % 2:
            conf.sections["tracing"] = section
        else:
            conf.sections.pop("tracing")
        tarry.reload(conf)
        assert tarry.get("/").status == 200
    spans = collector.wait(3)
    roots = {s["spanId"] for s in spans if s["kind"] == 2}
    assert len(roots) == 3 and all(s.get("parentSpanId") in roots for s in spans if s["kind"] != 2)


def test_a_reload_changes_the_terms(bed):
    """Another collector, path, service and share; what waits for a long interval goes out at once when that is shortened."""
    tarry, collector, conf = traced_site(bed, lambda r, c: Reply(200, b"ok"), flush_interval="10m")
    tarry.get("/")
    other = Collector(bed, path="/other")
    conf.upstreams["collector"]["origin"] = other.origin
    conf.sections["tracing"].update(path="/other", service="renamed", flush_interval="10ms")
    tarry.reload(conf)
    tarry.get("/")
    other.wait(1)
    assert other.resources[0]["service.name"] == "renamed"
    conf.sections["tracing"]["one_in"] = 1000000
    tarry.reload(conf)
    for _ in range(20):
        tarry.get("/")
    conf.sections["tracing"].update(one_in=1, batch_max="4K", flush_interval="10m")
    tarry.reload(conf)
    for _ in range(10):
        tarry.get("/" + "x" * 500)
    other.wait(4)  # by their size: nobody waits for an hour
    assert sum(s["kind"] == 2 for s in other.spans + collector.spans) < 20


def test_several_processes_have_traces_of_their_own(bed):
    tarry, collector, _ = traced_site(bed, lambda r, c: Reply(200, b"ok"), top={"processes": 2})
    for _ in range(20):
        assert tarry.get("/").status == 200
    spans = collector.wait(20)
    assert len({s["traceId"] for s in spans if s["kind"] == 2}) == 20


def test_the_spans_fit_the_schema_of_opentelemetry(bed):
    """OpenTelemetry's own package reads them, and refuses what it does not know. A label with odd octets is among them."""
    python = current_python()
    upstream = bed.upstream(lambda r, c: Reply(200, b"answer"))
    worker = by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin)], headers=[("Tarry-Label", 'a"\\b')]),
                     resume=lambda r, c: Reply(200, b"done"))
    tarry, collector, _ = traced_site(bed, worker, upstream, service="the shop")
    for path in ("/", "/%22%5C?x=%00"):
        assert tarry.get(path).status == 200
    collector.wait(2)
    lines = []
    for body in collector.bodies:
        done = subprocess.run([python, pathlib.Path(__file__).parent / "apps" / "otlp_schema.py"], input=body, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        lines += done.stdout.decode().splitlines()
    assert len(lines) == len(collector.spans)
    names, kinds, traces, spans, parents = zip(*(line.split("\t") for line in lines))
    assert {"GET app", "visit app", "attempt up", "queue", "parked"} <= set(names)
    assert set(traces) == {"16"} and set(spans) == {"8"} and set(parents) == {"0", "8"}
