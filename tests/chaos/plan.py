"""What a seed decides. A Round is the conf of one proxy, its peers and the exchanges that go through it; nothing here touches a socket,
and the same seed gives the same plan."""

import dataclasses
import random

# Where a peer's answer breaks off.
FAULTS = ("before", "head", "behind", "body", "garbage", "silent", "trailing")
# Moments of an exchange, in about their order. A client may leave at each; a peer's deeds make the others come true.
POINTS = ("request_head", "request_body", "sent", "visited", "worker_head", "worker_body", "handoff", "called", "upstream_head", "upstream_body", "upstream_end",
          "resumed", "piece", "head", "body")
RACES = ("worker_head", "upstream_head", "upstream_end")  # the client's leaving comes in the same turn as these
SIZES = {"none": (0, 0), "small": (1, 300), "middle": (3000, 20000), "spool": (60000, 140000), "large": (200000, 500000),
         "megabyte": (900000, 1300000)}


class Short:
    """Shows only what differs from the default: plans are read by people."""

    def __repr__(self):
        said = []
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if f.default is dataclasses.MISSING or value != f.default:
                said.append(f"{f.name}={value!r}")
        return f"{type(self).__name__}({', '.join(said)})"


@dataclasses.dataclass(repr=False)
class Answer(Short):
    """What a worker or an upstream sends for one request."""

    status: int = 200
    size: int = 20
    type: str = "text/plain"
    framing: str = "length"  # or chunked, close
    pieces: int = 1
    pause: float = 0  # between pieces
    delay: float = 0  # before the head
    gap: float = 0  # between head and body
    early: bool = False  # before the request's body has been read
    unread: bool = False  # and never reads it
    close: bool = False
    gzip: bool = False
    fields: tuple = ()
    fault: str = None
    how: str = "fin"  # of the fault: fin or rst
    wait: str = None  # the moment that it waits for before the head; "gone": that the peer has ended it
    wait_body: str = None  # and before the second piece of the body

    @property
    def whole(self):
        return self.fault in (None, "trailing")


@dataclasses.dataclass(repr=False)
class Call(Short):
    index: int
    upstream: str
    size: int = 10
    timeout: str = None
    retries: str = None
    tenant: str = None
    attempts: list = dataclasses.field(default_factory=lambda: [Answer()])  # the last one stays


@dataclasses.dataclass(repr=False)
class Handoff(Answer):
    then: str = "relay"
    calls: list = dataclasses.field(default_factory=list)
    keep_alive: str = None
    on_error: bool = False
    notify: bool = False
    on_disconnect: str = None
    state: str = None
    sticky: str = None
    wait_for: str = None  # Tarry-Wait


@dataclasses.dataclass(repr=False)
class View(Short):
    """What the view of a run does: it sends `begin` bytes, the answer of its call as it comes, so many `ticks` with a pause before
    each, and `end` bytes."""

    begin: int = 0  # 0: nothing goes out before the call is made
    waits: bool = False  # a pause between `begin` and the call
    rest: bool = False  # asks for the whole answer once it has begun
    ticks: int = 0
    end: int = 20
    pause: str = "0.02"
    sticky: str = "2"
    at: bool = False  # names the process's own address, where it has one
    cuts: bool = False  # fails with its call; otherwise it says so and ends
    keep_alive: bool = False  # comments of an event stream between the visits
    on_disconnect: str = None
    breaks: tuple = None  # (which of its visits is answered by half, how that ends)
    loses: int = None  # the visit by which its process has lost it
    hold: str = None  # the moment that the answer to its first visit waits for


@dataclasses.dataclass(repr=False)
class Exchange(Short):
    number: int
    kind: str = "plain"  # plain, relay, resume, replay, gateway, pieces
    method: str = "GET"
    size: int = 0
    framing: str = "length"
    pieces: int = 1
    pause: float = 0
    expect: bool = False
    close: bool = False
    encoding: str = None
    read_delay: float = 0
    read_most: int = 65536
    read_pause: float = 0
    freeze: bool = False  # the proxy is stopped meanwhile, so that it finds both in one turn
    leave: tuple = None  # (point, how): how is fin, close or rst; over HTTP/2 also stream
    prefix: str = None  # of its route; None: the usual one of its kind
    fields: tuple = ()  # of its request, beside the usual ones
    visits: dict = dataclasses.field(default_factory=dict)  # kind of visit -> its answers by delivery, the last one stays
    calls: list = dataclasses.field(default_factory=list)  # of all hops, by index
    view: View = None  # of a run that is given pieces (runs.py)

    def answer(self, kind, n):
        answers = self.visits.get(kind) or [Answer()]
        return answers[min(n, len(answers) - 1)]

    def handoff(self):
        """The (first) handoff that hop 0 may give, or None."""
        return next((a for a in self.visits.get("request", ()) if isinstance(a, Handoff)), None)

    def answers(self):
        for answers in self.visits.values():
            yield from answers
        for call in self.calls:
            yield from call.attempts


@dataclasses.dataclass(repr=False)
class Connection(Short):
    version: str  # "1" or "2"
    listener: str  # tcp, unix, tls
    exchanges: list
    receive_buffer: int = None
    window: int = 65535  # HTTP/2: initial window of its streams
    together: bool = True  # HTTP/2: all at once


@dataclasses.dataclass(repr=False)
class Round(Short):
    seed: str
    top: dict
    pool: dict
    up: dict
    slots: list  # of each worker server
    black_hole: bool
    connections: list
    at_once: int
    events: list  # (pause before it, what)
    calm: bool  # nothing in conf or events may make a good exchange fail
    processes: int = 1
    talks: list = dataclasses.field(default_factory=list)  # WebSockets (talks.py)
    limits: list = dataclasses.field(default_factory=list)  # of each upstream
    group: bool = False  # each upstream is two endpoints
    websockets: bool = False  # the conf takes them, though `talks` names none

    @property
    def exchanges(self):
        return [e for c in self.connections for e in c.exchanges]


class Taste:
    """How often each thing happens in a round. Every round has another taste, and many things not at all: what hides behind a common
    fault is found in the rounds without it."""

    NAMES = ("worker_fault", "upstream_fault", "leave", "slow", "close", "keep_alive", "on_error", "notify", "cancel", "delay", "early",
             "http2", "upload", "gzip", "limits", "retries", "pieces", "tls", "run_lost")

    def __init__(self, rng):
        self.rng = rng
        rich = rng.random() < 0.4  # what only comes of several things at once needs rounds in which all of them happen
        for name in self.NAMES:
            setattr(self, name, rng.choice((0.1, 0.3, 0.5) if rich else (0, 0, 0.05, 0.3, 0.8)))
        if rng.random() < 0.5:
            self.limits = 0
        self.kinds = weights(rng, {"plain": 3, "relay": 4, "resume": 2, "replay": 1, "gateway": 1, "pieces": 2})
        self.sizes = weights(rng, {"none": 1, "small": 6, "middle": 2, "spool": 2, "large": 1, "megabyte": 1})
        self.framings = weights(rng, {"length": 4, "chunked": 4, "close": 1})

    def has(self, name):
        return self.rng.random() < getattr(self, name)


def weights(rng, table):
    """The table with a few of its rows made much more likely."""
    return {k: v * rng.choice((0.2, 1, 1, 6)) for k, v in table.items()}


def pick(rng, table):
    return rng.choices(list(table), list(table.values()))[0]


def make_round(seed, tiny=False):
    """The plan of this seed (any text)."""
    rng = random.Random(seed)
    taste = Taste(rng)
    plan = _conf(rng, taste, seed)
    numbers = iter(range(1, 1 << 20))
    for _ in range(rng.choice((4, 20, 60, 120)) if not tiny else 4):
        plan.connections.append(_connection(rng, taste, numbers))
    plan.at_once = rng.choice((1 if len(plan.connections) <= 20 else 8, 4, 16, 48))
    if any(e.size > 100000 for e in plan.exchanges):
        plan.at_once = min(plan.at_once, 16)
    plan.events = _events(rng)
    plan.calm = plan.calm and all(what in ("reload", "bad_reload", "scrape", "stop", "reopen") for _, what in plan.events)
    return plan


def _conf(rng, taste, seed):
    tight = taste.limits > 0
    calm = not tight
    ms = lambda *choices: f"{rng.choice(choices)}ms"  # noqa: E731
    top = {"linger_timeout": ms(0, 50, 2000), "output_max": rng.choice(("4K", "16K", "64K")), "body_memory_max": rng.choice(("4K", "64K")),
           "shutdown_timeout": "3s", "http2_max_streams": rng.choice((1, 3, 100)), "http2_resets_max": 100000,
           "http2_stream_window": rng.choice(("16K", "64K", "1M")), "keep_alive_timeout": ms(1000, 5000)}
    pool = {"keep_alive_interval": ms(20, 200, 5000), "notify_first_pause": ms(5, 50), "notify_max_pause": "100ms",
            "notify_attempts": rng.choice((1, 3, 8)), "resume_attempts": rng.choice((1, 2, 3, 20)), "resume_wait": "20s",
            "unreachable_first_pause": ms(5, 50), "unreachable_max_pause": "100ms", "queue_timeout": "5m", "response_timeout": "20s",
            "abandoned_timeout": ms(50, 3000), "spool_max": rng.choice(("64K", "256K", "1G")), "keep_alive_timeout": ms(100, 2000),
            "retry_idempotent": rng.random() < 0.3, "connect_timeout": "5s", "piece_interval": ms(1, 20, 100), "piece_window": rng.choice(("4K", "256K"))}
    up = {"retries": rng.choice((0, 1, 2)), "retry_first_pause": ms(1, 20), "retry_max_pause": "50ms", "keep_alive_timeout": ms(100, 2000),
          "max_connections": rng.choice((1, 8, 256)), "total_timeout": "20s", "idle_timeout": "20s", "first_byte_timeout": "20s"}
    if calm:
        up["breaker_failures"] = 1000000  # services fail in a calm round, too, and that must not keep other calls away
    black_hole = False
    if tight:
        pool.update(queue_timeout=ms(100, 300, 2000), response_timeout=ms(300, 2000), resume_wait=ms(100, 2000),
                    connect_timeout=ms(100, 1000), queue_max=rng.choice((0, 4, 1000)), max_calls=rng.choice((2, 64)),
                    replay_body_max=rng.choice(("1K", "1M")), call_max=rng.choice(("4K", "32M")))
        up.update(total_timeout=ms(300, 3000), idle_timeout=ms(200, 2000), first_byte_timeout=ms(200, 2000),
                  response_max=rng.choice(("1K", "100K", "32M")))
        top.update(body_max=rng.choice(("10K", "100M")), header_fields_max=rng.choice((20, 100)), send_timeout=ms(300, 5000),
                   body_timeout=ms(300, 5000), header_timeout=ms(300, 5000), max_connections=rng.choice((8, 100000)))
        black_hole = rng.random() < 0.3
    limits = []
    if rng.random() < 0.4:
        # In a calm round nobody waits so long that a call would fail.
        limits = rng.choice(([{"in_flight": rng.choice((8, 20) if calm else (1, 3, 20))}], [{"key": "tenant", "in_flight": 4}],
                             [{"in_flight": 30}, {"key": "tenant", "in_flight": 6}, {"tokens_per_minute": 100000000}]))
        up.update(queue_timeout="1m" if calm else ms(100, 2000), queue_max=10000 if calm else rng.choice((0, 3, 10000)))
    return Round(seed=seed, top=top, pool=pool, up=up, slots=[rng.choice((1, 1, 2, 8)) for _ in range(rng.choice((1, 1, 2, 3)))],
                 black_hole=black_hole, connections=[], at_once=1, events=[], calm=calm, processes=rng.choice((1, 1, 1, 1, 2)), limits=limits,
                 group=rng.random() < 0.3)


def _connection(rng, taste, numbers):
    version = "2" if taste.has("http2") else "1"
    listener = "tls" if taste.has("tls") else rng.choice(("tcp", "tcp", "unix"))
    exchanges = [_exchange(rng, taste, next(numbers)) for _ in range(rng.choice((1, 1, 2, 4, 8)) if version == "2" else rng.choice((1, 1, 3)))]
    return Connection(version, listener, exchanges, receive_buffer=4096 if taste.has("slow") else None,
                      window=rng.choice((65535, 65535, 1, 200, 1 << 20)), together=rng.random() < 0.8)


def _exchange(rng, taste, number):
    e = Exchange(number, kind=pick(rng, taste.kinds))
    e.method = rng.choice(("GET", "POST", "POST", "PUT", "HEAD" if e.kind == "plain" else "GET"))
    if e.method in ("POST", "PUT"):
        e.size = size(rng, taste) if taste.has("upload") else rng.randrange(300)
        e.framing = rng.choice(("length", "chunked"))
        e.pieces = min(e.size, rng.choice((1, 1, 3, 40))) or 1
        e.pause = rng.choice((0, 0, 0.01)) if e.pieces < 10 else 0
        e.expect = rng.random() < 0.1
    e.close = taste.has("close")
    e.encoding = rng.choice(("gzip", "br", "zstd", "gzip, br")) if taste.has("gzip") else None
    if taste.has("slow"):
        e.read_delay, e.read_most = rng.choice((0.02, 0.15, 0.4)), rng.choice((1000, 8000, 65536))
        e.read_pause = rng.choice((0, 0.001, 0.01))
    if taste.has("leave"):
        e.leave = rng.choice(POINTS + RACES * 3), rng.choice(("fin", "close", "rst", "stream", "rst"))
        e.freeze = rng.random() < 0.3
    if e.kind in ("gateway", "pieces"):
        e.calls = [_call(rng, taste, 0)]
        if e.kind == "pieces":
            _view(rng, taste, e)
        return e
    e.visits["request"] = [_answer(rng, taste, "worker_fault")] if e.kind == "plain" else [_handoff(rng, taste, e)]
    for kind in ("resume", "replay", "error", "notify"):
        e.visits[kind] = [_answer(rng, taste, "worker_fault") for _ in range(rng.choice((1, 2, 3)))]
    if e.kind in ("resume", "replay") and rng.random() < 0.2:  # a second hop
        e.visits[e.kind][-1] = _handoff(rng, taste, e)
        e.visits[e.kind + "2"] = [_answer(rng, taste, "worker_fault")]
    return e


def size(rng, taste):
    low, high = SIZES[pick(rng, taste.sizes)]
    return rng.randint(low, high)


def _view(rng, taste, e):
    begin = rng.choice((0, 30, 5000))
    v = e.view = View(begin, waits=begin > 0 and rng.random() < 0.3, rest=rng.random() < 0.2, ticks=rng.choice((0, 0, 2)), end=rng.choice((0, 20)),
                      at=rng.random() < 0.5, sticky=rng.choice(("0", "0.05", "2")), cuts=rng.random() < 0.3)
    v.keep_alive = taste.has("keep_alive")
    v.on_disconnect = rng.choice(("cancel", "cancel", "finish")) if taste.has("cancel") else None
    if taste.has("worker_fault"):
        v.breaks = rng.randrange(5), rng.choice(("fin", "rst"))
    if taste.has("run_lost"):
        v.loses = rng.randrange(1, 5)
    for a in e.calls[0].attempts:
        a.gzip = False  # its view reads it
        a.pieces, a.pause = rng.choice((1, 4, 12)), rng.choice((0, 0.01, 0.05))


def _answer(rng, taste, fault, cls=Answer, **more):
    a = cls(size=size(rng, taste), framing=pick(rng, taste.framings), **more)
    a.type = rng.choice(("text/plain", "text/html", "application/json", "text/event-stream"))
    a.close = taste.has("close")
    if taste.has("pieces"):
        a.pieces, a.pause = rng.choice((2, 5, 30)), rng.choice((0, 0, 0.002, 0.02))
    if taste.has("delay"):
        a.delay, a.gap = rng.choice((0, 0.01, 0.1, 0.5)), rng.choice((0, 0, 0.05, 0.3))
    if taste.has("early"):
        a.early, a.unread = True, rng.random() < 0.3
    if taste.has("gzip"):
        a.gzip = rng.random() < 0.3 and a.framing != "close"
    if taste.has(fault):
        # A peer that never answers needs limits that end it soon.
        a.fault, a.how = rng.choice([f for f in FAULTS if taste.limits or f != "silent"]), rng.choice(("fin", "rst"))
        if a.fault == "trailing" and a.framing == "close":
            a.framing = "length"  # otherwise they belong to the body
        if a.fault in ("behind", "body"):
            a.size = max(a.size, 20)
    elif rng.random() < 0.05:
        a.status = rng.choice((204, 304, 404, 500))
    return a


def _call(rng, taste, index):
    call = Call(index, rng.choice(("plain", "plain", "tls", "h2", "h2")), size=size(rng, taste) if taste.has("upload") else rng.randrange(300))
    call.attempts = [_answer(rng, taste, "upstream_fault") for _ in range(rng.choice((1, 1, 2, 3)))]
    if taste.has("retries"):
        for a in call.attempts[:-1]:
            a.status = rng.choice((429, 500, 503, 529))
            a.fields = (("Retry-After", "0"),) if rng.random() < 0.3 else ()
    if rng.random() < 0.7:
        call.tenant = rng.choice("abcdefgh")
    if rng.random() < 0.1:
        call.retries = str(rng.choice((0, 1, 5)))
    if rng.random() < 0.05:
        call.timeout = rng.choice(("0.05", "0.3", "5"))
    return call


def _handoff(rng, taste, e):
    relay = e.kind == "relay"
    h = _answer(rng, taste, "worker_fault", Handoff, then=e.kind)
    h.status, h.type = 200, "application/http; msgtype=request"
    for _ in range(1 if relay else rng.choice((1, 1, 2, 5))):
        call = _call(rng, taste, len(e.calls))
        h.calls.append(call)
        e.calls.append(call)
    h.keep_alive = rng.choice(("sse", "space")) if taste.has("keep_alive") else None
    h.on_error, h.notify = relay and taste.has("on_error"), relay and taste.has("notify")
    h.on_disconnect = rng.choice(("cancel", "cancel", "finish")) if taste.has("cancel") else None
    if h.keep_alive:  # which means nothing unless an upstream takes its time
        for call in h.calls:
            for a in call.attempts:
                if rng.random() < 0.7:
                    a.delay, a.gap = rng.choice((0.05, 0.1, 0.3)), rng.choice((0, 0.05, 0.1))
                if a.fault and rng.random() < 0.3:
                    a.fault, a.size = "behind", max(a.size, 20)
    if (h.notify or h.on_disconnect) and rng.random() < 0.3:
        e.leave, e.freeze = (rng.choice(RACES), rng.choice(("fin", "close", "rst", "stream"))), rng.random() < 0.5
    h.state = f"state-{e.number}" if rng.random() < 0.5 else None
    h.sticky = rng.choice(("0", "0.05", "2")) if e.kind == "replay" and rng.random() < 0.5 else None
    if h.fault == "trailing" or h.framing == "close" and h.fault:
        h.framing = "length"
    return h


def _events(rng):
    busy = rng.choice((0, 0, 1, 1, 3))
    kinds = rng.choice((("reload", "scrape"), ("reload", "bad_reload", "scrape", "stop", "reopen"),
                        ("stop",), ("worker_restart", "worker_drop", "upstream_restart", "upstream_drop", "reload", "stop")))
    return [(rng.choice((0.005, 0.05, 0.2, 0.5)), rng.choice(kinds)) for _ in range(busy * 6)]
