"""Every combination of a handoff's options with the ways in which an upstream fails and a client leaves, side by side on one proxy,
against a model of docs/handoff.md. The clients and servers are those of tests/chaos, with plans that are not random."""

import asyncio
import dataclasses
import itertools
import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from chaos import rounds, talks  # noqa: E402
from chaos.plan import Answer, Call, Connection, Exchange, Handoff, Round  # noqa: E402
from chaos.rules import inflate, left_over  # noqa: E402
from harness.base import DEADLINE  # noqa: E402

pytestmark = pytest.mark.slow

CONTINUATIONS = ["relay", "resume", "replay"]
# How the upstream answers: the plan of its answer, and the status that a worker finds enclosed.
UPSTREAMS = {
    "answers": (dict(), 200),
    "says 500": (dict(status=500), 500),
    "ends without a byte": (dict(fault="before", how="rst"), 502),
    "ends behind its head": (dict(fault="behind", how="rst"), 502),
    "ends in its body": (dict(fault="body", how="rst"), 502),
    "is silent": (dict(fault="silent"), 504),
}
# How the client leaves: when, and by what over HTTP/1.1 and HTTP/2.
LEAVES = {
    "stays": None,
    "half-closes while parked": ("called", {"1": "fin", "2": "stream"}),
    "resets while parked": ("called", {"1": "rst", "2": "rst"}),
    "resets while streaming": ("body", {"1": "rst", "2": "stream"}),
}
SIZE = 3000


@dataclasses.dataclass(frozen=True)
class Case:
    then: str
    keep_alive: str
    on_error: bool
    notify: bool
    on_disconnect: str
    client: str
    upstream: str
    fails: str
    leaves: str

    @property
    def name(self):
        options = [f"keep-alive={self.keep_alive}" if self.keep_alive else "", "on-error" if self.on_error else "", "notify" if self.notify else "",
                   f"on-disconnect={self.on_disconnect}" if self.on_disconnect else ""]
        return (f"{self.then} {' '.join(o for o in options if o)}; client HTTP/{self.client} {self.leaves}; "
                f"upstream HTTP/{self.upstream} {self.fails}")

    @property
    def sense(self):
        """Whether it can be asked for, and can come about."""
        if self.then != "relay" and (self.on_error or self.notify):
            return False
        return self.leaves != "resets while streaming" or self.then == "relay" and self.fails in ("answers", "ends in its body")


def all_cases():
    made = (Case(*row) for row in itertools.product(CONTINUATIONS, (None, "sse", "space"), (False, True), (False, True),
                                                    (None, "cancel", "finish"), "12", "12", UPSTREAMS, LEAVES))
    return [c for c in made if c.sense]


# --- the model: what docs/handoff.md says of a case ---

@dataclasses.dataclass
class Expected:
    client: set  # of "upstream", "worker", "problem", "cut", "nothing"
    visits: list  # alternatives, each a list of the kinds of visits behind hop 0
    outcome: set = dataclasses.field(default_factory=set)  # of a notify
    cancelled: bool = False  # the call is reset


def cancels(case):
    """Whether the client's leaving resets the call."""
    if case.leaves == "stays":
        return False
    return (case.on_disconnect or ("cancel" if case.then == "relay" and not case.notify else "finish")) == "cancel"


def model(case):
    notify = ["notify"] if case.notify else []
    if cancels(case):
        return Expected({"nothing"}, [notify], {"cancelled"}, cancelled=True)
    if case.then != "relay":
        return Expected({"worker"}, [[case.then]])
    taken_over = ["error"] if case.on_error else notify
    if case.fails == "answers":
        return Expected({"upstream"}, [notify], {"complete"})
    if case.fails == "says 500":
        return Expected({"worker" if case.on_error else "upstream"}, [taken_over], {"complete"})
    if case.fails in ("ends without a byte", "is silent"):
        return Expected({"worker" if case.on_error else "problem"}, [taken_over], {"failed"})
    if case.fails == "ends behind its head":
        # The head may have reached the client already, unless keep-alive bytes went ahead of it.
        return Expected({"worker", "problem", "cut"} if case.on_error else {"problem", "cut"}, [taken_over, notify], {"truncated", "failed"})
    if case.leaves != "stays":  # no byte has reached a client that is gone, or some have: either is right
        return Expected({"worker", "cut"}, [taken_over, notify], {"truncated"})
    return Expected({"cut"}, [notify], {"truncated"})


# --- the plans ---

def exchange_of(case, number):
    fault, _ = UPSTREAMS[case.fails]
    leave = LEAVES[case.leaves]
    answer = Answer(size=SIZE, framing="chunked", pieces=2, **fault)
    if answer.fault == "silent":
        answer.fault, answer.wait = None, "gone"
    elif cancels(case) and leave[0] == "called":
        answer.wait = "gone"
    elif leave and leave[0] == "called":
        answer.wait = "left"
    elif case.keep_alive:
        answer.wait = "head"  # of the keep-alive bytes: they went ahead
    if leave and leave[0] == "body":
        answer.wait_body = "gone" if cancels(case) else "left"
    call = Call(0, "plain" if case.upstream == "1" else "h2", attempts=[answer], timeout="3" if case.fails == "is silent" and not cancels(case) else None)
    handoff = Handoff(then=case.then, calls=[call], type="application/http; msgtype=request", keep_alive=case.keep_alive, on_error=case.on_error,
                      notify=case.notify, on_disconnect=case.on_disconnect, state=f"state-{number}")
    e = Exchange(number, kind=case.then, method="POST", size=40, visits={"request": [handoff]}, calls=[call])
    if leave:
        e.leave = leave[0], leave[1][case.client]
    for kind in ("resume", "replay", "error", "notify"):
        e.visits[kind] = [Answer(size=200)]
    return e


class Run:
    """All cases on one proxy; `wrong` has what was not as the model says, by case."""

    def __init__(self, folder, authority, cases=None, up=(), **more):
        self.cases = dict(enumerate(cases or all_cases(), 1))
        exchanges = [exchange_of(c, n) for n, c in self.cases.items()]
        # A client that leaves may take its connection along, so each has one of its own.
        plan = Round(seed="combinations", top={"shutdown_timeout": "10s", "http2_resets_max": 100000},
                     pool={"keep_alive_interval": "30ms", "notify_first_pause": "50ms", "queue_timeout": "5m"},
                     up={"retries": 0, "retry_unstarted_within": "0ms", "max_connections": 1000, **dict(up)}, slots=[100], black_hole=False, calm=True, at_once=150, events=[],
                     connections=[Connection(self.cases[e.number].client, "tcp", [e]) for e in exchanges], **more)
        self.round = rounds.Round(plan, folder, authority, log_level="info")
        self.world = self.round.world
        self.wrong = {}
        self.end = None

    async def run(self):
        world = self.world
        await world.start()
        try:
            await self.round.exchanges()
            rest = {}
            if world.proxy.alive:
                await rounds.until(lambda: self.at_rest(rest), DEADLINE)
            await self.round.end()
            self.end = ([f"it does not come to rest: {rest}"] if rest else []) + world.failures
        finally:
            await world.stop()
        for number, case in self.cases.items():
            record = world.records[number]
            said = [*Check(case, record).run(), repr(record.result)] if record.result else ["its client never began"]
            if len(said) == 1 and record.result:
                continue
            self.wrong[case] = said

    async def at_rest(self, rest):
        rest.clear()
        if self.world.proxy.alive:
            rest.update(left_over(await self.world.proxy.metrics()))
        return not rest


class Check:
    """Compares what happened in one case with the model."""

    def __init__(self, case, record):
        self.case, self.record, self.expected = case, record, model(case)

    def run(self):
        visits = [v.kind for v in self.record.visits][1:]
        if visits not in self.expected.visits:
            yield f"visits behind hop 0: {visits}, not {self.expected.visits}"
        if len(self.record.calls) != 1:
            yield f"{len(self.record.calls)} calls"
        elif self.expected.cancelled != (self.record.calls[0].peer_left and self.case.fails != "is silent" or
                                         self.record.calls[0].peer_left and self.expected.cancelled):
            yield "the call was not reset" if self.expected.cancelled else "the call was reset"
        for v in self.record.visits[1:]:
            yield from self.enclosed(v)
        yield from self.client()

    def enclosed(self, v):
        if not v.enclosed or len(v.enclosed) != 1:
            yield f"{v.kind} encloses {v.enclosed}"
            return
        a, whole = v.enclosed[0], self.record.calls[0].body if self.record.calls else b""
        if a.id != f"{self.record.exchange.number}.0":
            yield f"{v.kind} encloses the call {a.id}"
        outcome = v.headers.get("Tarry-Outcome")
        if v.kind != "notify":
            status = UPSTREAMS[self.case.fails][1]
            if a.status != status or status in (200, 500) and a.body != whole:
                yield f"{v.kind} encloses {a}, not {status}"
        elif outcome not in self.expected.outcome:
            yield f"notify says {outcome}, not {self.expected.outcome}"
        elif outcome == "complete" and (a.status != UPSTREAMS[self.case.fails][1] or a.body != whole):
            yield f"notify encloses {a}"
        elif outcome == "truncated" and not whole.startswith(a.body):
            yield f"notify encloses {a}"
        elif outcome == "failed" and a.status not in (502, 504):
            yield f"notify encloses {a}"

    def client(self):
        result = self.record.result
        if result.left and not result.complete:
            return
        got = self.got(result)
        allowed = self.expected.client
        if result.left:  # it had only ended its own direction
            allowed = allowed | {"nothing"}
        if got not in allowed:
            yield f"the client got {got} ({result}), not {allowed}"
        elif got in ("upstream", "worker") and self.case.keep_alive and not result.left and result.status != 200:
            yield f"keep-alive bytes went ahead of status {result.status}"

    def got(self, result):
        if not result.complete:
            return "cut"
        body = inflate(result.body, result.headers.get("Content-Encoding"))
        if self.case.keep_alive == "space":
            body = body.lstrip()
        elif self.case.keep_alive == "sse":
            body = b"\n".join(line for line in body.split(b"\n") if line and not line.startswith((b":", b"event:")))
            body = body.removeprefix(b"data: ")
        if body and any(body == c.body for c in self.record.calls):
            return "upstream"
        if any(body == v.body for v in self.record.visits[1:] if v.kind != "notify"):
            return "worker"
        try:
            return "problem" if {"title", "status", "error", "exchange"} <= json.loads(body).keys() else f"json {body[:100]!r}"
        except ValueError:
            return f"{body[:100]!r}"


# --- WebSockets: both far ends, every listener, every way to end ---

# Who leaves, behind how many of the three messages, how, and within a frame; None: in order.
ENDS = {
    "in order by the client": ("client", None), "in order by the far end": ("far", None),
    **{f"{who} {how} {'within a frame' if part else 'between messages'}": ("client", (who, 2, how, part))
       for who in ("client", "far") for how in ("fin", "rst") for part in (False, True)},
}


def all_talks():
    made = itertools.product(talks.FARS, ("tcp", "unix", "tls"), ENDS)
    return {(far, listener, end): talks.Talk(talks.FIRST + i, far, listener, sizes=(7, 70000, 300), closes=ENDS[end][0], leave=ENDS[end][1])
            for i, (far, listener, end) in enumerate(made)}


class Talks:
    def __init__(self, folder, authority):
        self.cases = all_talks()
        plan = Round(seed="talks", top={"linger_timeout": "100ms"}, pool={}, up={"retries": 0}, slots=[100], black_hole=False, connections=[],
                     at_once=100, events=[], calm=True, talks=list(self.cases.values()))
        self.round = rounds.Round(plan, folder, authority, log_level="info")
        self.world = self.round.world
        self.ends = {}  # as the access log has them, by path

    async def run(self):
        await self.round.run()
        for line in (self.world.folder / "access.log").read_text().splitlines():
            entry = json.loads(line)
            self.ends[entry["path"]] = entry["end"]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory, authority):
    made = Talks(tmp_path_factory.mktemp("talks"), authority())
    asyncio.run(made.run())
    return made


def test_no_websocket_hangs_loses_bytes_or_leaves_something_over(spoken):
    assert not spoken.world.failures, "\n".join(spoken.world.failures[:5])


@pytest.mark.parametrize("far", talks.FARS)
@pytest.mark.parametrize("end", ENDS)
def test_a_websocket_ends_as_its_ends_say(spoken, far, end):
    """With the right word in the access log, over every listener."""
    for (where, listener, how), talk in spoken.cases.items():
        if (where, how) != (far, end):
            continue
        said = spoken.ends[f"{talks.FARS[far]}{talk.number}"]
        record = spoken.world.talks[talk.number]
        if end.startswith("in order"):
            allowed = {"complete"}
        elif end.startswith("client"):
            # A worker may still say something after a client's FIN; it ends in order then.
            allowed = {"client_gone", "complete"} if far == "worker" and "fin" in end else {"client_gone"}
        else:
            # Over TLS an end without close_notify is a cut.
            allowed = {"complete"} if "fin" in end and far != "tls" else {"http_response_incomplete"}
            if "between messages" in end:
                # The kernel of a far end that closes with a message unread sends a reset.
                allowed.add("http_response_incomplete")
        assert said in allowed, f"{said!r}, not {allowed}\n{record.describe()}"


def test_limits_and_groups_change_nothing(tmp_path, authority):
    """Some of the cases where calls are counted, and each upstream is two endpoints."""
    limits = [{"in_flight": 160}, {"key": "tenant", "in_flight": 160}, {"tokens_per_minute": 4000000000}]
    # Keep-alive bytes may make a client leave before its call has found a connection to its endpoint.
    cases = [c for c in all_cases() if c.leaves != "resets while streaming"][::7]
    made = Run(tmp_path, authority(), cases, group=True, limits=limits, up={"breaker_failures": 1000000})
    asyncio.run(made.run())
    assert not made.end, "\n".join(made.end[:5])
    wrong = [f"{c.name}:\n    " + "\n    ".join(w) for c, w in made.wrong.items()]
    assert not wrong, f"{len(wrong)} of {len(made.cases)} cases:\n" + "\n".join(wrong[:8])


@pytest.fixture(scope="module")
def run(tmp_path_factory, authority):
    made = Run(tmp_path_factory.mktemp("combinations"), authority())
    asyncio.run(made.run())
    return made


def test_nothing_dies_hangs_or_is_left_over(run):
    assert not run.end, "\n".join(run.end[:5])


@pytest.mark.parametrize("fails", UPSTREAMS)
@pytest.mark.parametrize("leaves", LEAVES)
@pytest.mark.parametrize("then", CONTINUATIONS)
def test_as_the_model_says(run, then, leaves, fails):
    """Of each way of ending, all options and versions."""
    group = [c for c in run.cases.values() if (c.then, c.leaves, c.fails) == (then, leaves, fails)]
    if not group:
        return
    wrong = [f"{c.name}:\n    " + "\n    ".join(run.wrong[c]) for c in group if c in run.wrong]
    assert not wrong, f"{len(wrong)} of {len(group)} cases:\n" + "\n".join(wrong[:8])
