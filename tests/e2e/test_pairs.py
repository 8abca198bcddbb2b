"""Every two features together, and each with whatever goes wrong around them. FEATURES, MOMENTS and TROUBLE are the whole table;
cases are chosen so that each two values which make sense together occur in one. A seed decides which: TARRY_PAIRS_SEED sets another,
and it is in the message of a failure. The clients and servers are those of tests/chaos, and everything that the conf can switch on is on:
compression, limits with tenants, traces, endpoints in a group, an HTTP proxy on the way to a service.

Of each case: the client has the right answer whole or a clear error, the model was called once, what the access log and the span say is
what the client got, and at the end nothing is in flight and no descriptor is left."""

import asyncio
import dataclasses
import itertools
import json
import os
import pathlib
import random
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from chaos import rounds, rules, talks  # noqa: E402
from chaos.http1 import Wire, write_head  # noqa: E402
from chaos.plan import Answer, Call, Connection, Exchange, Handoff, Round, View  # noqa: E402
from chaos.server import Server, Upstream  # noqa: E402
from chaos.sock import Gone, Sock  # noqa: E402
from harness.base import DEADLINE  # noqa: E402
from harness.tarry import find_binary  # noqa: E402

pytestmark = pytest.mark.slow

TRACE = "00-%032x-b7ad6b7169203331-01"
FEATURES = {
    "kind": ["plain", "gateway", "relay", "resume", "replay", "sticky", "wait", "pieces", "websocket to a worker", "websocket to a service"],
    "client": ["1 tcp", "1 tls", "1 unix", "2 tcp", "2 tls"],
    "service": ["plain", "tls", "h2", "proxied"],
    "keep_alive": [None, "sse", "space"],
    "notify": [False, True],
    "on_error": [False, True],
    "on_disconnect": [None, "cancel", "finish"],
    "tenant": [None, "a", "b"],
    "coding": [None, "gzip"],
    "upload": [0, 300, 100000],
    "traceparent": [False, True],
    "rewrite": [False, True],
}
# Where an exchange is when something happens to it: the point of chaos.plan that tells of it.
MOMENTS = {"visit": "visited", "parked": "called", "stream": "upstream_body", "second": "resumed", "open": None}
# What goes wrong with it alone.
TROUBLE = ["nothing", "client fin", "client rst", "worker dies", "worker 500", "worker malformed", "service resets", "service 429", "service silent"]
# What happens to the whole proxy while all cases are at their moment.
EVENTS = ["nothing", "reload", "changed reload", "pool gone", "service gone", "paused pool"]
MOMENTS_OF = {"plain": ["visit"], "gateway": ["parked", "stream"], "relay": ["visit", "parked", "stream"], "pieces": ["visit", "parked", "stream"],
              "websocket to a worker": ["open"], "websocket to a service": ["open"]}
SIZE = 3000


@dataclasses.dataclass(frozen=True)
class Case:
    kind: str
    client: str
    service: str
    keep_alive: str
    notify: bool
    on_error: bool
    on_disconnect: str
    tenant: str
    coding: str
    upload: int
    traceparent: bool
    rewrite: bool
    moment: str
    trouble: str

    def __str__(self):
        return ", ".join(f"{k}={v}" for k, v in dataclasses.asdict(self).items() if v)

    @property
    def talk(self):
        return self.kind.startswith("websocket")

    @property
    def sense(self):
        relay, gateway = self.kind == "relay", self.kind == "gateway"
        who = self.trouble.partition(" ")[0]
        if self.moment not in MOMENTS_OF.get(self.kind, ["visit", "parked", "second"]):
            return False
        if who == "worker" and self.moment not in ("visit", "second") and not (self.kind == "pieces" and self.trouble == "worker dies"):
            return False
        if who == "service" and (self.moment not in ("parked", "stream") or self.moment == "stream" and self.trouble != "service resets"):
            return False
        if self.kind == "pieces" and self.trouble in ("worker 500", "worker malformed"):
            return False
        if self.talk and (self.trouble not in ("nothing", "client fin", "client rst") or self.upload or self.traceparent or self.coding):
            return False
        if gateway and self.service != "plain" or self.kind == "plain" and self.service != "plain":
            return False
        if self.talk and self.service not in ("plain", "tls") or self.kind == "websocket to a worker" and self.service != "plain":
            return False
        if gateway and self.trouble == "service silent":  # its request names no time
            return False
        if self.rewrite and not gateway:
            return False
        if (self.notify or self.on_error) and not relay:
            return False
        if self.keep_alive and (self.kind == "plain" or self.talk or self.kind in ("pieces", "gateway") and self.keep_alive == "space"):
            return False
        return not ((self.on_disconnect or self.tenant) and (self.talk or self.kind in ("plain", "gateway")))


AXES = {**FEATURES, "moment": list(MOMENTS), "trouble": TROUBLE}


def pairs_of(case):
    return set(itertools.combinations([(name, getattr(case, name)) for name in AXES], 2))


def choose(rng, troubles=TROUBLE):
    """Cases in which every two values occur together that can: greedily, of random ones."""
    axes = {**AXES, "trouble": troubles}
    # Kind, moment and trouble decide what else makes sense, so each three of them get their share.
    threes = [t for t in itertools.product(axes["kind"], axes["moment"], troubles)
              if t[1] in MOMENTS_OF.get(t[0], ["visit", "parked", "second"])]
    pool = []
    for kind, moment, trouble in threes:
        for _ in range(200):
            values = {n: rng.choice(v) for n, v in axes.items()} | {"kind": kind, "moment": moment, "trouble": trouble}
            if kind != "relay":
                values["notify"] = values["on_error"] = False
            if kind != "gateway":
                values["rewrite"] = False
            if kind in ("plain", "gateway") or kind.startswith("websocket"):
                values |= {"tenant": None, "on_disconnect": None, "service": "plain" if kind != "websocket to a service" else rng.choice(("plain", "tls"))}
            if kind.startswith("websocket"):
                values |= {"upload": 0, "traceparent": False, "coding": None, "keep_alive": None}
            case = Case(**values)
            if case.sense:
                pool.append(case)
    rng.shuffle(pool)
    left = set().union(*(pairs_of(c) for c in pool))
    chosen = []
    while left:
        best = max(rng.sample(pool, min(60, len(pool))), key=lambda c: len(pairs_of(c) & left))
        if not pairs_of(best) & left:
            best = next(c for c in pool if pairs_of(c) & left)
        chosen.append(best)
        left -= pairs_of(best)
    return chosen


# --- what is right ---

def cancels(case):
    return (case.on_disconnect or ("cancel" if case.kind in ("gateway", "relay") and not case.notify else "finish")) == "cancel"


def expected(case):
    """What the client may get: "whole" (an answer that a worker or a service gave), the status of a problem, "cut" or "left"."""
    if case.trouble.startswith("client"):
        return {"left", "whole"}  # by a FIN only its own direction ends, and it may still be answered
    if case.trouble in ("nothing", "worker 500", "service 429"):
        return {"whole"}
    if case.trouble == "worker dies":
        # A view in pieces may have begun its response before its worker dies.
        return {"whole"} if case.moment != "visit" else {502, "cut"} if case.kind == "pieces" else {502}
    if case.trouble == "worker malformed":
        return {502}
    relay = case.kind in ("gateway", "relay") and not case.on_error
    if case.moment == "stream":
        return {"cut"} if case.kind in ("gateway", "relay") else {"whole"}
    return {504 if case.trouble == "service silent" else 502} if relay else {"whole"}


# --- the plans ---

def answer_of(case, hold):
    a = Answer(size=SIZE, framing="chunked", pieces=2, type="text/event-stream" if case.kind == "gateway" and case.keep_alive else "text/plain")
    if hold == "left" and cancels(case):
        hold = "gone"
    if case.moment == "parked":
        a.wait = hold
    elif case.moment == "stream":
        a.wait_body = hold
    if case.trouble == "service resets":
        a.fault, a.how = "body" if case.moment == "stream" else "before", "rst"
    elif case.trouble == "service 429":
        a.status = 429
    elif case.trouble == "service silent":
        a.wait = "gone"
    return a


def exchange_of(case, number):
    hold = "left" if case.trouble.startswith("client") else "go"
    e = Exchange(number, kind={"sticky": "replay", "wait": "replay"}.get(case.kind, case.kind), method="POST" if case.upload else "GET",
                 size=case.upload, encoding=case.coding, framing="chunked" if case.upload == 300 else "length")
    e.fields = ((("traceparent", TRACE % number),) if case.traceparent else ()) + (
        (("Accept", "text/event-stream"),) if case.kind == "gateway" and case.keep_alive else ())
    if case.rewrite:
        e.prefix = "/rewritten/"
    if case.trouble.startswith("client"):
        e.leave = MOMENTS[case.moment], case.trouble.partition(" ")[2]
    if case.kind != "plain":
        e.calls = [Call(0, case.service, tenant=case.tenant, attempts=[answer_of(case, hold)], timeout="1" if case.trouble == "service silent" else None)]
    if case.kind == "pieces":
        e.view = View(begin=30, ticks=2, at=True, keep_alive=case.keep_alive == "sse", on_disconnect=case.on_disconnect,
                      hold=hold if case.moment == "visit" else None)
        if case.trouble == "worker dies":
            e.view.breaks = (0 if case.moment == "visit" else 2), "rst"
        return e
    first = Answer(size=SIZE) if case.kind == "plain" else Handoff(
        then=e.kind, calls=e.calls, type="application/http; msgtype=request", keep_alive=case.keep_alive, on_error=case.on_error, notify=case.notify,
        on_disconnect=case.on_disconnect, state=f"state-{number}", sticky="2" if case.kind in ("sticky", "wait") else None,
        wait_for="0.1" if case.kind == "wait" else None)
    again = Answer(size=SIZE)
    held = first if case.moment == "visit" else again if case.moment == "second" else None
    if held:
        held.wait = hold
    visits = [first] if held is first else [again]
    if case.trouble == "worker dies":
        held.fault, held.how = "before", "rst"
        visits.append(Answer(size=SIZE))
    elif case.trouble == "worker 500":
        bad = Answer(size=SIZE, status=500, wait=hold)
        visits = [bad]
    elif case.trouble == "worker malformed":
        visits = [Answer(size=SIZE, wait=hold, fields=(("Tarry-Then", "replay"),))]
    if case.kind != "gateway":
        e.visits["request"] = visits if held is first else [first]
    for kind in ("resume", "replay", "error", "notify"):
        e.visits[kind] = visits if held is again and kind == e.kind else [Answer(size=SIZE)]
    return e


def talk_of(case, number):
    version, listener = case.client.split()
    t = talks.Talk(talks.FIRST + number, {"websocket to a worker": "worker"}.get(case.kind, case.service), listener, sizes=(7, 70000, 300),
                   version=version, holds=True)
    if case.trouble != "nothing":
        t.leave = "client", 2, case.trouble.partition(" ")[2], False
        t.holds = False
    return t


# --- servers that the chaos does not have ---

class Collector(Server):
    """Takes spans."""

    def __init__(self, world):
        super().__init__(world)
        self.spans = []

    async def serve(self, sock):
        wire = Wire(sock)
        while (m := await wire.request()) is not None:
            m = await wire.body(m)
            for resource in json.loads(m.body)["resourceSpans"]:
                for scope in resource["scopeSpans"]:
                    self.spans += scope["spans"]
            await sock.send(write_head("HTTP/1.1 200 OK", [("Content-Type", "application/json"), ("Content-Length", 2)]) + b"{}")


class TunnelProxy(Server):
    """An HTTP proxy: CONNECT only."""

    async def serve(self, sock):
        wire = Wire(sock)
        found = await wire.head()
        if found is None:
            return
        method, target, _ = found[0].decode().split(" ")
        assert method == "CONNECT", found
        far = await Sock.connect(target)
        try:
            await sock.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            tasks = [asyncio.ensure_future(self.pump(*way)) for way in ((sock, far), (far, sock))]
            await asyncio.wait(tasks)
        finally:
            far.close()

    @staticmethod
    async def pump(source, to):
        try:
            while data := await source.recv():
                await to.send(data)
            to.fin()
        except Gone:
            to.reset()


# --- a run ---

class Run:
    """Chosen cases on one proxy, and an event while each of them is at its moment."""

    def __init__(self, folder, authority, event, cases, seed):
        self.event, self.seed = event, seed
        self.cases = dict(enumerate(cases, 1))
        exchanges = [(c, exchange_of(c, n)) for n, c in self.cases.items() if not c.talk]
        plan = Round(seed=f"pairs {seed}", top={"shutdown_timeout": "40s", "http2_resets_max": 100000},
                     pool={"keep_alive_interval": "30ms", "notify_first_pause": "50ms", "queue_timeout": "5m", "piece_interval": "5ms", "keep_alive_timeout": "500ms",
                           "unreachable_first_pause": "10ms"},
                     up={"retries": 0, "retry_unstarted_within": "0ms", "max_connections": 1000, "keep_alive_timeout": "500ms", "breaker_failures": 1000000},
                     # Where runs can come back to their process, a held visit holds one.
                     slots=[1] * 300, black_hole=False, calm=True, at_once=1000, events=[], group=True,
                     limits=[{"in_flight": 500}, {"key": "tenant", "in_flight": 500}, {"tokens_per_minute": 4000000000}],
                     connections=[Connection(*c.client.split(), [e]) for c, e in exchanges], websockets=True,
                     talks=[talk_of(c, n) for n, c in self.cases.items() if c.talk])
        self.round = rounds.Round(plan, folder, authority, log_level="info")
        self.world = world = self.round.world
        world.upstreams["proxied"] = Upstream(world, "proxied")
        self.collector, self.tunnels = Collector(world), TunnelProxy(world)
        world.more += [self.collector, self.tunnels]
        world.dress = self.dress
        self.socket = f"{folder}/control.sock"
        self.before = None

    def dress(self, conf):
        for options in conf.endpoints.pop("proxied").values():
            conf.upstreams["proxied"].update(origin=options["origin"], insecure=True, proxy=f"http://{self.tunnels.address}")
        conf.upstreams["collector"] = {"origin": f"http://{self.collector.address}", "retries": 0, "keep_alive_timeout": "300ms"}
        conf.sections["tracing"] = {"upstream": "collector", "flush_interval": "20ms"}
        conf.sections["compression"] = {"types": "text/*", "min_size": 100}
        conf.admins[f"unix:{self.socket}"] = {"control": True}
        conf.routes = [(p, dict(o, body_max="1M", **({"keep_alive_interval": "30ms"} if "upstream" in o else {}))) for p, o in conf.routes]
        conf.routes.append(("/rewritten/", {"upstream": "plain", "prefix_rewrite": "/gw/", "body_max": "1M", "keep_alive_interval": "30ms"}))

    def fail(self, text, number=None):
        record = number and (self.world.records.get(number) or self.world.talks.get(talks.FIRST + number))
        self.world.fail(f"{text}\n  {self.cases[number]}" if number else text, record)

    async def run(self):
        world = self.world
        await world.start()
        self.before = world.proxy.descriptors()
        try:
            happening = asyncio.create_task(self.happen())
            await self.round.exchanges()
            await happening
            if world.proxy.alive:
                await self.round.settle(self.before)
            await self.round.end()
            for number, record in world.records.items():
                rules.Judge(world, record, self.cases[number].trouble == "nothing").judge()
                self.case(number, record)
            for record in world.talks.values():
                talks.Judge(world, record, True).judge()
            self.told()
        finally:
            await world.stop()
        return world.failures

    # --- the event ---

    async def happen(self):
        for number, case in self.cases.items():
            if case.talk:
                record = self.world.talks[talks.FIRST + number]
                moment = record.held if record.talk.holds else None
            else:
                moment = self.world.records[number].point(MOMENTS[case.moment])
            try:
                if moment:
                    await asyncio.wait_for(moment.wait(), DEADLINE)
            except asyncio.TimeoutError:
                self.fail("it does not come to its moment", number)
        await getattr(self, self.event.replace(" ", "_"))()
        self.go()

    def go(self):
        for record in self.world.records.values():
            record.reach("go")
        for record in self.world.talks.values():
            record.go.reach()

    async def nothing(self):
        pass

    async def reload(self):
        await self.reloaded(self.world.proxy.conf.text())

    async def changed_reload(self):
        conf = self.world.proxy.conf
        conf.pool["state_max"] = 7999
        for limit in (o for limits in conf.limits.values() for o in limits if "in_flight" in o):
            limit["in_flight"] = 499
        conf.sections["compression"]["min_size"] = 200
        for options in conf.upstreams.values():
            options["connect_timeout"] = "7s"
        await self.reloaded(conf.text())

    async def pool_gone(self):
        conf = self.world.proxy.conf
        conf.pools["other"] = ({}, conf.servers)
        conf.servers = {}
        conf.routes = [("/x/", {"workers": "other"})]
        await self.reloaded(conf.text())

    async def service_gone(self):
        conf = self.world.proxy.conf
        conf.upstreams = {"collector": conf.upstreams["collector"]}
        conf.endpoints, conf.limits = {}, {}
        conf.routes = conf.routes[:1]
        await self.reloaded(conf.text())

    async def reloaded(self, text):
        log = self.world.proxy.log
        before = log.read_text(errors="replace").count("reload")
        await self.world.proxy.reload(text)
        for _ in range(int(DEADLINE / 0.02)):
            said = [line for line in log.read_text(errors="replace").splitlines() if "reload" in line][before:]
            if said:
                if any("refused" in line for line in said):
                    self.fail(f"{said}")
                return
            await asyncio.sleep(0.02)
        self.fail("it does not reload")

    async def paused_pool(self):
        """Second visits wait for it; nothing else does."""
        await self.ctl("pause", "app")
        self.go()

        async def waits():
            return (await self.world.proxy.metrics()).get('tarry_pool_queue{pool="app",which="resume"}', 0)
        if any(c.kind in ("resume", "replay") and c.moment == "parked" for c in self.cases.values()) and not await rounds.until(waits, DEADLINE):
            self.fail("nothing waits for a paused pool")
        await self.ctl("resume", "app")

    async def ctl(self, *args):
        tool = pathlib.Path(find_binary()).parent / "tarryctl"
        done = await asyncio.create_subprocess_exec(tool, "-s", self.socket, *args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said, _ = await asyncio.wait_for(done.communicate(), DEADLINE)
        assert done.returncode == 0, said

    # --- the verdict ---

    def got(self, record):
        r = record.result
        if not r.complete:
            return "left" if r.left else "cut"
        e = record.exchange
        body = rules.inflate(r.body, r.headers.get("Content-Encoding")) or b""
        case = self.cases[e.number]
        keep_alive = case.keep_alive if e.kind != "plain" else None
        if keep_alive == "space":
            body = body.lstrip()
        elif keep_alive:
            body = body.replace(rules.COMMENT, b"")
        judge = rules.Judge(self.world, record, True)
        if e.view and rules.fits(record, body, list(judge.bodies())):
            return "whole"
        if body.startswith(b"event: error"):
            body = judge.data_of(body)
        if not e.view and any(body == b.strip() for b in judge.bodies()):
            return "whole"
        try:
            return json.loads(body)["status"]
        except (ValueError, KeyError):
            return f"status {r.status}, {body[:100]!r}"

    def case(self, number, record):
        case = self.cases[number]
        if record.result is None:
            return
        got = self.got(record)
        if got not in expected(case):
            self.fail(f"its client got {got}, not {expected(case)}", number)
        calls = len(record.calls)
        # Without an answer of the first visit there is no call.
        none = case.kind == "plain" or case.moment == "visit" and (case.trouble.startswith("worker") or case.trouble.startswith("client"))
        if calls > 1 or calls == 0 and not none:
            self.fail(f"{calls} calls", number)
        if case.trouble.startswith("client") and case.moment == "parked" and calls and case.kind != "pieces":
            if record.calls[0].peer_left != cancels(case) and record.result.left:
                self.fail("the call was not reset" if cancels(case) else "the call was reset", number)

    def told(self):
        """The access log has one line of each, and the collector one span, which say what the clients have got."""
        lines = {}
        for text in (self.world.folder / "access.log").read_text().splitlines():
            line = json.loads(text)
            lines.setdefault(int(line["path"].rpartition("/")[2]) % talks.FIRST, []).append(line)
        roots = {}
        for span in self.collector.spans:
            if span["kind"] == 2:
                facts = {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}
                roots.setdefault(facts["tarry.exchange"], []).append(span)
        for number, case in self.cases.items():
            found = lines.get(number, [])
            if len(found) != 1:
                self.fail(f"{len(found)} lines in the access log", number)
                continue
            line = found[0]
            if not case.talk and self.world.records[number].result:
                got = self.got(self.world.records[number])
                if (line["end"] == "complete") != (got == "whole") and got != "left":
                    self.fail(f"its client got {got}, and the access log has {line['end']}", number)
            spans = roots.get(line["exchange"], [])
            if len(spans) != 1:
                self.fail(f"{len(spans)} spans", number)
            elif (line["end"] == "complete" and line["status"] < 500) != ("status" not in spans[0]):
                self.fail(f"its span says {spans[0].get('status')}, and the access log {line['end']}", number)
            elif case.traceparent and spans[0]["traceId"] != "%032x" % number:
                self.fail(f"its span is of the trace {spans[0]['traceId']}", number)


def seed():
    """Each run of the suite tries the same pairs, another seed tries others."""
    return int(os.environ.get("TARRY_PAIRS_SEED") or 11)


def run(folder, authority, event, troubles=TROUBLE):
    number = seed()
    made = Run(folder, authority, event, choose(random.Random(number), troubles), number)
    failures = asyncio.run(made.run())
    assert not failures, f"TARRY_PAIRS_SEED={number}, {len(made.cases)} cases, {len(failures)} failures:\n" + "\n".join(failures[:6])


@pytest.mark.parametrize("event", EVENTS)
def test_every_two_features_with(tmp_path, authority, event):
    """Alone each trouble of one case; while the whole proxy is troubled nothing or a client that leaves."""
    run(tmp_path, authority(), event, TROUBLE if event == "nothing" else ["nothing", "client rst"])
