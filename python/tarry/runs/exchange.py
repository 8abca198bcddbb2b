"""The exchange that the current request belongs to, read from the WSGI environ; and the calls it is about to hand off.

Only a request that came through Tarry has one. `current()` is what every other part of the package asks first."""

from __future__ import annotations

import contextlib
import functools
import hmac
import secrets
import threading
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Iterator, Optional

from ..common import notices
from ..format.body import Source, split_replay
from ..format.message import HANDOFF_TYPE, Answer, Call, Headers, encode_handoff, origin_of
from ..format.state import State, decode
from ..settings import settings
from .branch import Branch
from .buffers import state_max

ENVIRON_KEY = "tarry.exchange"
ID_KEY = "tarry.exchange_id"
RUN_KEY = "tarry.run"
"""In the environ, for the app and its server: the exchange's id, and which run of the view this is, from 1."""

_WRITE_MAX = 200
PROVED_KEY = "tarry.proved"
"""In the environ of a visit that was made in this process. No header can become it."""

_current: ContextVar[Optional["Exchange"]] = ContextVar("tarry_exchange", default=None)
running: dict[int, "Exchange"] = {}
"""The exchanges that views work on right now, by thread."""


@dataclass
class Limits:
    """The pool's bounds, out of Tarry-Limits; what is not given is the proxy's default."""

    max_hops: int = 64
    max_calls: int = 64
    replay_body: int = 10 << 20
    call: int = 32 << 20
    state: int = 8000
    wait: int = 60


@dataclass
class Exchange:
    """One request of a client, with all visits of workers that it takes, as this visit sees it: tarry.current()."""

    id: str
    hop: int
    kind: str
    attempt: int
    started: float
    features: frozenset[str]
    origins: frozenset[str]
    limits: Limits
    method: str
    path: str
    state: State
    raw_state: str = ""
    record: dict[str, tuple[str, Answer]] = field(default_factory=dict)
    """The recorded answers: path -> (digests, answer)."""

    source: Optional[Source] = None
    direct: str = ""
    """Why calls of this request are made directly; "" where they are handed off."""

    fence: str = ""
    """As `direct`, but for a part of the request only: while on_commit hooks run."""

    responded: bool = False
    """The first byte of the response is out."""

    view: str = ""
    request: Any = None
    """A weak reference to the framework's request object, where the package knows it."""

    clients: int = 0
    """How many clients of httpx this run made; each loads the CA certificates anew."""

    spans: list[Any] = field(default_factory=list)
    """Weak references to the spans of OpenTelemetry that the run began with."""

    pending: list[tuple[str, Call]] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    """Statements whose effect was committed while the view ran: a handoff would have them run again."""

    used: set[str] = field(default_factory=set)
    counts: dict[str, int] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    root: Branch = field(default_factory=lambda: Branch(""))

    run: Any = None
    """The Run (suspended.py) that may be suspended; None where the view is run again."""

    actives: int = 0
    """How many active() blocks are open: threads that outlive the view keep its context, and are not the exchange's any more."""

    proved: bool = False
    """It is known to come from Tarry: by the secret, or because it was made in this process."""

    marked: str = ""
    """How the view is to go on after a call, as its decorator says."""

    dropped: bool = False
    """The run was suspended and is given up: its response is dropped."""

    replayed: frozenset[str] = frozenset()
    """The paths of the answers that this run began with."""

    parts: Any = None
    """The Parts (pieces/response.py) whose response goes out while the view is at work; None where it is whole."""

    coming: Any = None
    """The Coming (pieces/coming.py) that is given in pieces; None if there is none yet."""

    sent: str = ""
    """What the client has already of the response, as Tarry-Sent says."""

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Calls made in this context belong to the exchange."""
        token = _current.set(self)
        self.actives += 1
        thread = threading.get_ident()
        before = running.get(thread)
        running[thread] = self
        try:
            with self.root.entered():
                yield
        finally:
            self.actives -= 1
            _current.reset(token)
            if before is None:
                running.pop(thread, None)
            else:
                running[thread] = before

    @classmethod
    def alone(cls, id: str) -> "Exchange":
        """For a view that runs without Tarry and whose handoff is seen to in this process."""
        features = frozenset(["relay", "resume", "notify", "on-error", "keep-alive"])
        return cls(id, 0, "request", 1, 0.0, features, frozenset(), Limits(), "", "", State(), proved=True)

    @property
    def name(self) -> str:
        """What messages call the view."""
        return self.view or "the view"

    @property
    def mode(self) -> str:
        """How the view goes on after a call: "rerun", "auto", "suspend" or "direct"."""
        return self.marked or settings.mode_of(self.view, self.path)

    @property
    def leaving(self) -> bool:
        """Whether the run ends in a handoff, or is given up."""
        return self.dropped or bool(self.pending) or (self.parts is not None and self.parts.wants_rest)

    @property
    def runs(self) -> int:
        """How often the view has been run, this run included."""
        return self.state.runs or self.hop - self.state.waits + 1

    def add(self, call_id: str, call: Call) -> None:
        with self.lock:
            if len(self.pending) < self.limits.max_calls:
                self.pending.append((call_id, call))
            else:  # it goes with the next handoff
                self.state.cut = True

    def about_writes(self) -> str:
        return (
            f"{self.name} committed a write, or did something outside, before a call that is handed off; every run of the view does it"
            f" again: {self.writes[0]} -- do it after the calls, in a transaction around them, or in tarry.once"
        )

    def began_response(self) -> None:
        """From here on no handoff can be sent."""
        if not self.responded:
            self.responded = True
            self.direct = "the response has begun; a call must come before its first byte, or the response be a tarry.relay"

    def handoff(self) -> tuple[Headers, bytes]:
        """Headers and body of the response that names the pending calls, and after which the view is run again."""
        if self.source is not None:
            self.source.drain()
        if self.writes and not self.dropped:
            notices.warn_once(self.about_writes())
        self.about_clients()
        # It is not by accident that the view is run again.
        self.state.writes = []
        self.state.token = ""
        return self._headers([])

    def suspension(self, pause: Optional[float], address: str) -> tuple[Headers, bytes]:
        """The same for a run that is being suspended. `pause`: no call is pending, and the run goes on after so many seconds."""
        self.note_suspension()
        self.state.token = secrets.token_hex(4)
        more = self.where(address)
        if pause is not None:
            self.state.waits += 1
            more.append(self.wait_field(pause))
        return self._headers(more)

    def note_suspension(self) -> None:
        """What must be known of a run that is being suspended, should it be lost."""
        if self.source is not None:
            self.source.keep()
        self.state.runs = self.runs
        self.state.writes = [text[:_WRITE_MAX] for text in self.writes[:1]]

    def where(self, address: str) -> Headers:
        """Where the run is that is being suspended."""
        if "sticky" not in self.features:
            return []
        return [("Tarry-Sticky", f"{settings.sticky_seconds:.3f}"), *([("Tarry-At", address)] if address else [])]

    def wait_field(self, pause: float) -> tuple[str, str]:
        return "Tarry-Wait", f"{min(pause, self.limits.wait):.3f}"

    def continue_with(self, visit: "Exchange") -> None:
        """This run goes on with what that visit brings."""
        self.hop, self.attempt = visit.hop, visit.attempt
        self.features, self.origins, self.limits = visit.features, visit.origins, visit.limits
        self.direct = visit.direct or self.direct
        self.record = {path: found for path, found in visit.record.items() if path not in self.used}

    def _headers(self, more: Headers) -> tuple[Headers, bytes]:
        body = encode_handoff(self.pending)
        headers = [
            ("Content-Type", HANDOFF_TYPE),
            ("Content-Length", str(len(body))),
            # Nothing on the way may store it, give it an ETag, or answer 304 in its place.
            ("Cache-Control", "no-store, private, max-age=0"),
            ("Tarry-Then", "replay"),
            *more,
        ]
        state = self.state.encode()
        if state:
            headers.append(("Tarry-State", state))
        return headers, body

    def finished(self) -> None:
        """The view has answered: tells how often it was run."""
        if self.run is not None and self.run.was_suspended:
            self.about_clients()
        if self.hop and self.kind in ("request", "replay"):  # a request's run has other hops if it was suspended
            self._warn_of_unasked()
            view = self.view or f"{self.method} {self.path}"
            notices.log.info("%s was run %d time%s (exchange %s)", view, self.runs, "s" if self.runs > 1 else "", self.id)

    def _warn_of_unasked(self) -> None:
        """The view has answered without asking for an answer that was made for it."""
        lost = [path for path in self.replayed if path not in self.used and path in self.record]
        if self.direct or not lost:
            return
        urls = ", ".join(sorted({self.state.notes.get(path, ("a call", ""))[0] for path in lost}))
        notices.warn_once(
            f"{self.name} was run again with the answer of {urls}, did not ask for it this time and answered without it: what was paid"
            " for is dropped. A guard before the call that lets a request pass only once (cache.add, a one-time token, a quota)? Put it"
            " into tarry.once, or have the view suspended (resume=\"auto\")"
        )

    def about_clients(self) -> None:
        """Says, once in a run, that clients are made in it."""
        # On the first run they may belong to a module that is loaded then, as Django's URLconf is: that is done once.
        if self.clients and notices.seen_before(f"clients in {self.view or self.path}"):
            notices.warn_once(
                f"{self.name} made {self.clients} client{'s' if self.clients > 1 else ''} of httpx on each run; openai.OpenAI() and"
                " httpx.post() make one, too. Each loads the CA certificates, some 20 ms of CPU: make it once, at import, or give it a"
                " shared ssl.SSLContext"
            )


def current() -> Optional[Exchange]:
    """The exchange of the request that is being worked on here; None outside of requests that came through Tarry."""
    exchange = _current.get()
    if exchange is None or exchange.actives or exchange.leaving:
        return exchange
    return None


def of(environ: dict[str, Any]) -> Optional[Exchange]:
    """The exchange of a request, made when it is first asked for. For a replay, wsgi.input is the client's body again from
    here on, so this must come before anything reads it."""
    if ENVIRON_KEY not in environ:
        environ[ENVIRON_KEY] = exchange = _read(environ)
        if exchange is not None:
            environ[ID_KEY], environ[RUN_KEY] = exchange.id, exchange.runs
    found: Optional[Exchange] = environ[ENVIRON_KEY]
    return found


def runs_elsewhere(origin: str) -> bool:
    """Whether this code is in a thread of no request while another one works on a request that may call that origin."""
    if not running or threading.get_ident() in running:
        return False
    return any(origin in exchange.origins for exchange in list(running.values()))


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Calls made in here are made directly, as if Tarry were not there."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def _read(environ: dict[str, Any]) -> Optional[Exchange]:
    if environ.get("HTTP_TARRY_VERSION") != "1":
        return None
    if settings.secret and not hmac.compare_digest(
        settings.secret.encode(), environ.get("HTTP_TARRY_AUTH", "").encode("latin-1", "replace")
    ):
        for name in [n for n in environ if n.startswith("HTTP_TARRY_")]:
            del environ[name]
        notices.warn_once("a request claimed to come from Tarry and did not know its secret: it is served as any other")
        return None
    limits = Limits(**_limits(environ.get("HTTP_TARRY_LIMITS", "")))
    limits.state = min(limits.state, state_max() or limits.state)
    exchange = Exchange(
        id=environ.get("HTTP_TARRY_EXCHANGE", ""),
        hop=int(environ.get("HTTP_TARRY_HOP", 0)),
        kind=environ.get("HTTP_TARRY_KIND", "request"),
        attempt=int(environ.get("HTTP_TARRY_ATTEMPT", 1)),
        started=float(environ.get("HTTP_TARRY_STARTED", 0)),
        features=_features(environ.get("HTTP_TARRY_FEATURES", "")),
        origins=_origins(environ.get("HTTP_TARRY_ORIGINS", "")),
        limits=limits,
        method=environ.get("REQUEST_METHOD", "GET"),
        path=environ.get("PATH_INFO", ""),
        state=State(),
        raw_state=environ.get("HTTP_TARRY_STATE", ""),
        sent=environ.get("HTTP_TARRY_SENT", ""),
        proved=bool(settings.secret) or environ.get(PROVED_KEY) is True,
    )
    if exchange.kind == "replay":
        exchange.state = decode(exchange.raw_state)
        exchange.source, answers = split_replay(environ)
        for answer in answers:
            path, _, digests = answer.call_id.partition(";")
            exchange.record[path] = (digests, answer)
        exchange.replayed = frozenset(exchange.record)
        if exchange.state.runs:
            exchange.state.runs += 1  # unless this visit's run is here, and goes on
    else:
        exchange.source = Source.of_request(environ)
    exchange.direct = _why_direct(exchange)
    return exchange


def _why_direct(exchange: Exchange) -> str:
    if "replay" not in exchange.features:
        return "this Tarry does no replay"
    if exchange.kind not in ("request", "replay"):
        return f"a {exchange.kind} cannot be replayed"
    if exchange.method == "HEAD":
        return "the answer to HEAD cannot be a handoff"
    if exchange.source is not None and exchange.source.length > exchange.limits.replay_body:
        return "the request's body is larger than what Tarry keeps for a replay (replay_body_max)"
    if exchange.hop - exchange.state.waits + 1 >= exchange.limits.max_hops:
        return "the exchange is at its last hop (max_hops)"
    return ""


# What Tarry says of itself is the same for all requests of a pool: read once.
@functools.lru_cache(maxsize=16)
def _limits(text: str) -> dict[str, int]:
    limits = {}
    for word in _words(text):
        name, _, value = word.partition("=")
        name = name.replace("-", "_")
        if value.isdigit() and name in Limits.__dataclass_fields__:
            limits[name] = int(value)
    return limits


@functools.lru_cache(maxsize=16)
def _features(text: str) -> frozenset[str]:
    return frozenset(_words(text))


@functools.lru_cache(maxsize=16)
def _origins(text: str) -> frozenset[str]:
    return frozenset(origin_of(origin) for origin in _words(text))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
