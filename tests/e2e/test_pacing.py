"""Limits of upstreams: exact over all processes, fair to tenants, with a deadline; and calls that wait where the service says that
nothing is left."""

import collections
import json
import os
import signal
import threading
import time

import pytest

from harness import Gate, Reply, by_kind, call, eventually, handoff, problem

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


class Service:
    """Counts calls in flight, holds them while its gate is closed, and answers by `reply`."""

    def __init__(self, reply=None, held=False):
        self.gate, self.reply = Gate(), reply or (lambda r: Reply(200, b"ok"))
        self.lock, self.now, self.most, self.order = threading.Lock(), 0, 0, []
        if not held:
            self.gate.open()

    def __call__(self, request, conn):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.order.append(request)
        try:
            self.gate.wait()
            return self.reply(request)
        finally:
            with self.lock:
                self.now -= 1

    def tenants(self):
        with self.lock:
            return [r.headers.get("x-tenant") for r in self.order]


class Site:
    """A gateway route to a service, with sections and options inside the upstream."""

    def __init__(self, bed, service, inside="", up=None, worker=None, **top):
        self.bed, self.service = bed, service
        self.upstream = bed.upstream(service)
        conf = self.conf = bed.conf(worker or [], self.upstream)
        conf.up.update(up or {})
        conf.top.update(top)
        conf.access_log = {"target": str(bed.folder / "access.log")}
        conf.routes = [("/v1/", {"upstream": "up"})] + ([("/", {"workers": "app"})] if worker else [])
        conf.admins[f"unix:{bed.folder}/admin"] = {}
        self.plain, self.inside = conf.text, inside
        conf.text = self.text
        self.tarry = bed.tarry(conf)

    def text(self):
        """harness.Conf knows no sections inside an upstream."""
        return self.plain().replace('upstream "up" {\n', 'upstream "up" {\n' + self.inside + "\n")

    def reload(self, inside):
        self.inside = inside
        self.tarry.reload(self.conf)

    def post(self, tenant=None, path=CHAT, body=None, headers=()):
        headers = list(headers) + ([("x-tenant", tenant)] if tenant else [])
        return self.tarry.post(path, json.dumps(body or {"model": "m", "messages": []}).encode(), headers)

    def start(self, n=1, tenant=None, **more):
        return [self.bed.background(self.post, tenant, **more) for _ in range(n)]

    def waiting(self, n, series="tarry_upstream_queue_calls"):
        eventually(lambda: self.tarry.metric(f'{series}{{upstream="up"}}') == n, f"{n} in {series}")


def statuses(tasks):
    return sorted(t.result().status for t in tasks)


# --- exact over all processes ---

@pytest.mark.parametrize("processes", [1, 3])
def test_calls_in_flight_are_never_more_than_the_limit(bed, processes):
    service = Service(lambda r: (time.sleep(0.02), Reply(200, b"ok"))[1])
    site = Site(bed, service, "limit { in_flight = 4 }", processes=processes)
    assert statuses(site.start(60)) == [200] * 60
    assert service.most <= 4
    assert len(service.order) == 60


def test_calls_that_begin_within_a_window_are_counted_over_processes_reloads_and_deaths(bed):
    """As many begin as the limit says, in all."""
    service = Service()
    site = Site(bed, service, "limit { requests_per_minute = 20 }", up={"queue_timeout": "300ms"}, processes=2)
    assert statuses(site.start(12)) == [200] * 12
    site.reload("limit { requests_per_minute = 20 }")
    kill_children(site.tarry)
    assert statuses(site.start(20)) == [200] * 8 + [429] * 12
    assert len(service.order) == 20


def kill_children(tarry):
    """All serving processes die; others take their place."""
    old = serving(tarry)
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(serving(tarry) - old) == len(old), "other processes")
    eventually(lambda: answers(tarry), "a process that accepts")


def serving(tarry):
    return set(tarry.children()) - {tarry.broker()}


def answers(tarry):
    try:
        return tarry.get("/nowhere").status == 404
    except OSError:
        return False


def test_a_process_that_dies_gives_its_calls_back(bed):
    service = Service(held=True)
    site = Site(bed, service, "limit { in_flight = 2 }", processes=2)
    first = site.start(2)
    site.upstream.wait_for(2)
    more = site.start(1)
    kill_children(site.tarry)
    service.gate.open()
    last = site.start(6)
    assert statuses(last) == [200] * 6
    for t in first + more:
        try:
            t.result()
        except Exception:  # cut with its process
            pass


def test_the_processes_take_turns(bed):
    """One process's thousand calls do not keep those of another waiting."""
    service = Service(lambda r: (time.sleep(0.01), Reply(200, b"ok"))[1])
    site = Site(bed, service, "limit { in_flight = 1 }", processes=3)
    assert statuses(site.start(40)) == [200] * 40
    assert service.most == 1


@pytest.mark.parametrize("processes", [1, 2])
def test_a_reload_changes_limits_for_calls_that_wait(bed, processes):
    service = Service(held=True)
    site = Site(bed, service, "limit { in_flight = 1 }", processes=processes)
    tasks = site.start(4)
    site.upstream.wait_for(1)
    site.waiting(3)
    site.reload("limit { in_flight = 1 }")
    assert len(service.order) == 1
    site.reload("limit { in_flight = 3 }")
    site.upstream.wait_for(3)
    site.waiting(1)
    site.reload("")
    site.upstream.wait_for(4)
    service.gate.open()
    assert statuses(tasks) == [200] * 4


# --- fair to tenants ---

def test_one_tenant_s_many_calls_do_not_hold_up_another_s_one(bed):
    service = Service(held=True)
    site = Site(bed, service, "limit { in_flight = 1 }", up={"tenant": "header:x-tenant"})
    many = site.start(40, "many")
    site.waiting(39)
    one = site.start(1, "one")
    site.waiting(40)
    site.waiting(2, "tarry_upstream_queue_tenants")
    service.gate.open()
    assert statuses(many + one) == [200] * 41
    assert service.tenants().index("one") <= 3


def test_tenants_have_turns_by_weight(bed):
    service = Service(held=True)
    site = Site(bed, service, "limit { in_flight = 1 }", up={"tenant": "header:x-tenant", "tenant_weights": ["gold: 3"]})
    tasks = site.start(1, "first")
    site.upstream.wait_for(1)
    tasks += site.start(16, "gold") + site.start(16, "plain")
    site.waiting(32)
    service.gate.open()
    assert statuses(tasks) == [200] * 33
    share = collections.Counter(service.tenants()[1:13])
    assert share["gold"] == 9 and share["plain"] == 3


def test_calls_of_a_tenant_with_other_keys_do_not_wait_for_each_other(bed):
    service = Service(held=True)
    site = Site(bed, service, 'limit { key = "header:x-model"  in_flight = 1 }', up={"tenant": "header:x-tenant"})
    tasks = site.start(3, "a", headers=[("x-model", "big")])
    site.waiting(2)
    tasks += site.start(1, "a", headers=[("x-model", "small")])
    site.upstream.wait_for(2)
    service.gate.open()
    assert statuses(tasks) == [200] * 4


def test_a_call_that_waits_for_its_own_limit_holds_nothing_of_the_common_one(bed):
    service = Service(held=True)
    site = Site(bed, service, 'limit { in_flight = 3 }\nlimit { key = "tenant"  in_flight = 1 }', up={"tenant": "header:x-tenant"})
    tasks = site.start(5, "a")
    site.waiting(4)
    tasks += site.start(1, "b") + site.start(1, "c")
    site.upstream.wait_for(3)
    assert collections.Counter(service.tenants()) == {"a": 1, "b": 1, "c": 1}
    service.gate.open()
    assert statuses(tasks) == [200] * 7


def test_a_handoff_names_the_tenant(bed):
    """Tarry-Limit-Key, which goes before the conf's own, and is not sent on."""
    service = Service(held=True)
    upstream = None

    def first(r, c):
        key = r.headers.get("x-who")
        return handoff("resume /x", [call(upstream.origin + "/v1/x", b"{}", headers=[("Tarry-Limit-Key", key), ("x-tenant", key)])])
    worker = bed.worker(by_kind(request=first, resume=lambda r, c: Reply(200, r.enclosed[0].body)))
    site = Site(bed, service, 'limit { in_flight = 1 }', up={"tenant": "header:x-nothing"}, worker=worker)
    upstream = site.upstream
    many = [bed.background(site.tarry.get, "/ask", [("x-who", "many")]) for _ in range(20)]
    site.waiting(19)
    one = bed.background(site.tarry.get, "/ask", [("x-who", "one")])
    site.waiting(20)
    service.gate.open()
    assert statuses(many + [one]) == [200] * 21
    assert service.tenants().index("one") <= 3
    assert not any("Tarry-Limit-Key" in r.headers for r in service.order)


@pytest.mark.parametrize("value, error", [("", "handoff_malformed"), ("a b", "handoff_malformed"), ("k" * 129, "handoff_limit")])
def test_a_limit_key_that_is_none_is_refused(bed, value, error):
    upstream = bed.upstream(lambda r, c: b"x")
    worker = bed.worker(lambda r, c: handoff("relay", [call(upstream.origin, headers=[("Tarry-Limit-Key", value)])]))
    problem(bed.site(worker, upstream).tarry.get("/"), 502, error)
    assert not upstream.requests


@pytest.mark.parametrize("how, headers", [("address", ({"source": "127.0.0.2"}, {"source": "127.0.0.3"})),
                                          ("credential", ({"headers": [("authorization", "Bearer a")]}, {"headers": [("x-api-key", "b")]}))])
def test_clients_are_told_apart(bed, how, headers):
    service = Service(held=True)
    site = Site(bed, service, f'limit {{ key = "{how}"  in_flight = 1 }}')

    def ask(more):
        more = dict(more)
        with site.tarry.client(**({"source": more.pop("source")} if "source" in more else {})) as c:
            return c.request("POST", CHAT, more.get("headers", []), b"{}")
    tasks = [bed.background(ask, headers[i % 2]) for i in range(4)]
    site.upstream.wait_for(2)
    site.waiting(2)
    service.gate.open()
    assert statuses(tasks) == [200] * 4


# --- bounds and deadlines ---

def test_a_call_that_waits_too_long_is_a_429_with_retry_after(bed):
    service = Service()
    site = Site(bed, service, "limit { requests_per_minute = 1 }", up={"queue_timeout": "200ms"})
    assert site.post().status == 200
    r = site.post()
    assert r.status == 429
    assert 1 <= int(r.headers.get("Retry-After")) <= 60
    assert json.loads(r.body)["error"]["code"] == "rate_limit_reached"  # in the shape of the route's API
    assert "x-should-retry" not in r.headers
    assert site.tarry.metric('tarry_upstream_queue_refused_total{upstream="up",reason="timeout"}') == 1
    line = [json.loads(x) for x in (bed.folder / "access.log").read_text().splitlines()][-1]
    assert line["status"] == 429 and line["upstream_queue_ms"] >= 150
    assert len(service.order) == 1


def test_a_worker_finds_the_429_enclosed(bed):
    upstream = bed.upstream(lambda r, c: b"x")
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(f"{upstream.origin}/v1/{i}") for i in range(2)]),
                                resume=lambda r, c: Reply(200, " ".join(f"{a.status} {a.headers.get('Retry-After')}" for a in r.enclosed))))
    conf = bed.conf(worker, upstream)
    conf.up["queue_timeout"] = "200ms"
    plain = conf.text()
    tarry = bed.tarry(plain.replace('upstream "up" {\n', 'upstream "up" {\nlimit { requests_per_minute = 1 }\n'), address=conf.address)
    first, _, second, after = tarry.get("/").text.split()
    assert (first, second) == ("200", "429") and 1 <= int(after) <= 60


def test_the_queue_is_bounded_for_all_and_for_each(bed):
    service = Service(held=True)
    site = Site(bed, service, "limit { in_flight = 1 }", up={"tenant": "header:x-tenant", "queue_max": 4, "queue_tenant_max": 3})
    tasks = site.start(4, "a")
    site.waiting(3)
    assert site.post("a").status == 429
    tasks += site.start(1, "b")
    site.waiting(4)
    assert site.post("c").status == 429
    for reason in ("tenant", "full"):
        assert site.tarry.metric(f'tarry_upstream_queue_refused_total{{upstream="up",reason="{reason}"}}') == 1
    service.gate.open()
    assert statuses(tasks) == [200] * 5


def test_tenants_beyond_the_bound_share_a_turn(bed):
    service = Service(held=True)
    site = Site(bed, service, "limit { in_flight = 1 }", up={"tenant": "header:x-tenant", "queue_tenants_max": 2})
    tasks = [t for name in "abcdef" for t in site.start(1, name)]
    site.waiting(5)
    assert site.tarry.metric('tarry_upstream_queue_tenants{upstream="up"}') <= 3
    service.gate.open()
    assert statuses(tasks) == [200] * 6


def test_a_client_that_leaves_waits_no_longer(bed):
    service = Service(held=True)
    site = Site(bed, service, "limit { in_flight = 1 }")
    first = site.start(1)
    site.upstream.wait_for(1)
    with site.tarry.client() as c:
        c.send_request("POST", CHAT, body=b"{}")
        site.waiting(1)
    site.waiting(0)
    service.gate.open()
    assert statuses(first) == [200]
    assert site.post().status == 200
    assert len(service.order) == 2


def test_calls_that_wait_are_made_while_tarry_drains(bed):
    service = Service(held=True)
    site = Site(bed, service, "limit { in_flight = 1 }", processes=2)
    tasks = site.start(4)
    site.upstream.wait_for(1)
    site.waiting(3)
    site.tarry.signal(signal.SIGTERM)
    site.tarry.wait_log(lambda line: "stopping" in line)
    service.gate.open()
    assert statuses(tasks) == [200] * 4
    site.tarry.wait_end(0)


def test_what_waits_when_the_time_to_stop_is_over_is_cut(bed):
    service = Service(held=True)
    site = Site(bed, service, "limit { in_flight = 1 }", shutdown_timeout="300ms")
    tasks = site.start(3)
    site.upstream.wait_for(1)
    site.waiting(2)
    site.tarry.signal(signal.SIGTERM)
    site.tarry.wait_end(0)
    service.gate.open()
    for t in tasks:
        with pytest.raises(Exception):
            t.result()
    assert len(service.order) == 1


def test_a_retry_goes_ahead_of_its_tenant_s_other_calls(bed):
    """And gives its place back while it pauses."""
    seen = []

    def reply(r):
        seen.append(r.headers.get("x-name"))
        return Reply(503, b"no", {"retry-after-ms": "100"}) if seen.count("first") == 1 and seen[-1] == "first" else Reply(200, b"ok")
    service = Service(reply, held=True)
    site = Site(bed, service, "limit { in_flight = 1 }", up={"retry_first_pause": "1ms"})
    tasks = site.start(1, headers=[("x-name", "first")])
    site.upstream.wait_for(1)
    hold = Gate()
    service.reply = lambda r: (hold.wait() if r.headers.get("x-name") == "second" else None, reply(r))[1]
    tasks += site.start(1, headers=[("x-name", "second")])
    site.waiting(1)
    tasks += site.start(5, headers=[("x-name", "later")])
    site.waiting(6)
    service.gate.open()
    site.upstream.wait_for(2)  # the second has the place
    site.waiting(6)  # the first one's retry waits now, beside the five
    hold.open()
    assert statuses(tasks) == [200] * 7
    assert [r.headers.get("x-name") for r in service.order][:3] == ["first", "second", "first"]


# --- what the service says is left ---

class Bucket:
    """A service with a limit of its own: a call that comes when nothing is left gets 429. A window begins with its first call."""

    def __init__(self, limit, window, write):
        self.limit, self.window, self.write = limit, window, write
        self.left, self.until, self.refused, self.lock = limit, 0, 0, threading.Lock()

    def __call__(self, r):
        with self.lock:
            now = time.monotonic()
            if now >= self.until:
                self.left, self.until = self.limit, now + self.window
            status = 200 if self.left > 0 else 429
            self.left -= status == 200
            self.refused += status == 429
            return Reply(status, b"{}", self.write(self.limit, self.left, self.until - now))


def openai(limit, left, reset):
    # The time until the limit is whole again, which is later than that until there is room for one.
    return {"x-ratelimit-limit-requests": str(limit), "x-ratelimit-remaining-requests": str(left),
            "x-ratelimit-reset-requests": f"{int(reset * 1000) + 1}ms"}


def test_calls_wait_until_the_service_has_room_again(bed):
    """The service says nothing of its limit, so that the reset counts as one step."""
    def write(limit, left, reset):
        fields = openai(limit, left, reset)
        del fields["x-ratelimit-limit-requests"]
        return fields
    bucket = Bucket(3, 1.0, write)
    site = Site(bed, Service(bucket), up={"retries": 0})
    assert [site.post().status for _ in range(8)] == [200] * 8
    assert bucket.refused == 0
    assert site.tarry.metric('tarry_upstream_queue_wait_seconds_count{upstream="up"}') > 0


def test_tokens_are_held_back_by_model(bed):
    """Anthropic's fields; another model has a limit of its own."""
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 40))

    def reply(r):
        return Reply(200, b"{}", {"anthropic-ratelimit-output-tokens-limit": "80000", "anthropic-ratelimit-output-tokens-remaining": "100",
                                  "anthropic-ratelimit-output-tokens-reset": soon})
    service = Service(reply)
    site = Site(bed, service, up={"queue_timeout": "300ms"})

    def ask(model, tokens):
        return site.post(path=MESSAGES, body={"model": model, "max_tokens": tokens, "messages": []})
    assert ask("big", 50).status == 200
    r = ask("big", 79000)
    assert r.status == 429 and json.loads(r.body)["error"]["type"] == "rate_limit_error"
    assert ask("big", 50).status == 200
    assert ask("small", 79000).status == 200
    assert len(service.order) == 3


def test_another_endpoint_is_used_where_one_has_nothing_left(bed):
    empty = {"x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "50s"}
    first, second = bed.upstream(lambda r, c: Reply(200, b"1", empty)), bed.upstream(lambda r, c: b"2")
    conf = bed.conf([], first)
    del conf.up["origin"]
    conf.routes = [("/", {"upstream": "up"})]
    endpoints = "".join(f'endpoint "{n}" {{ origin = "{u.origin}" tier = {n} }}\n' for n, u in ((1, first), (2, second)))
    tarry = bed.tarry(conf.text().replace('upstream "up" {\n', 'upstream "up" {\n' + endpoints), address=conf.address)
    assert [tarry.post(CHAT, b"{}").body for _ in range(4)] == [b"1", b"2", b"2", b"2"]


@pytest.mark.parametrize("fields", [
    {"x-ratelimit-remaining-tokens": "0"}, {"x-ratelimit-remaining-tokens": "-1", "x-ratelimit-reset-tokens": "50s"},
    {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "soon"}, {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": ""},
    {"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "tomorrow"}])
def test_nothing_waits_where_nothing_is_known(bed, fields):
    site = Site(bed, Service(lambda r: Reply(200, b"{}", fields)), up={"queue_timeout": "300ms"})
    assert [site.post().status for _ in range(3)] == [200] * 3


def test_what_the_service_says_can_be_left_unheard(bed):
    empty = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "50s"}
    site = Site(bed, Service(lambda r: Reply(200, b"{}", empty)), up={"queue_timeout": "300ms", "rate_limit_headers": False})
    assert [site.post().status for _ in range(3)] == [200] * 3


# --- tokens by the conf ---

def usage(n):
    return json.dumps({"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": n, "completion_tokens": 0, "total_tokens": n}}).encode()


@pytest.mark.parametrize("processes", [1, 2])
def test_tokens_count_by_estimate_and_then_by_usage(bed, processes):
    service = Service(lambda r: Reply(200, usage(10), {"Content-Type": "application/json"}))
    site = Site(bed, service, "limit { tokens_per_minute = 1000 }", up={"queue_timeout": "300ms"}, processes=processes)

    def ask(tokens):
        return site.post(body={"model": "m", "max_tokens": tokens, "messages": []}).status
    assert [ask(900) for _ in range(5)] == [200] * 5  # 10 each, in the end
    service.reply = lambda r: Reply(200, usage(940), {"Content-Type": "application/json"})
    assert ask(100) == 200  # more than was expected
    assert ask(100) == 429
    assert len(service.order) == 6


def test_an_endpoint_has_limits_of_its_own(bed):
    first, second = bed.upstream(lambda r, c: b"1"), bed.upstream(lambda r, c: b"2")
    conf = bed.conf([], first)
    del conf.up["origin"]
    conf.up["queue_timeout"] = "300ms"
    conf.routes = [("/", {"upstream": "up"})]
    endpoints = "".join(f'endpoint "{n}" {{ origin = "{u.origin}" tier = {n} requests_per_minute = 2 }}\n' for n, u in ((1, first), (2, second)))
    tarry = bed.tarry(conf.text().replace('upstream "up" {\n', 'upstream "up" {\n' + endpoints), address=conf.address)
    answers = [tarry.post(CHAT, b"{}") for _ in range(5)]
    assert [a.body for a in answers[:4]] == [b"1", b"1", b"2", b"2"]
    assert answers[4].status == 429
