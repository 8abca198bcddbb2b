"""Views that run once: a run stands still in a greenlet at its call, and goes on from there when its replay comes to this process.

A suspended run may be lost at any time; its view is then run again. A run that is given up gets Handoff raised where it stands, as a
run that is left for a call does.

Only the main thread suspends, and only where the server has no other: a greenlet goes on in its own thread or not at all, and
the watch (watch.py) can interrupt no other thread. Elsewhere views are run again."""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import threading
import time
from collections import OrderedDict
from contextvars import Context, copy_context
from typing import Any, Callable, Iterable, Optional

from ..common import notices
from ..errors import BadRecord, Handoff
from ..format.message import HANDOFF_STATUS
from ..settings import settings
from . import held, memory, observers, watch, world
from .exchange import RUN_KEY, Exchange, running

try:
    import greenlet as _greenlet_module
    from greenlet import getcurrent, greenlet

    _missing = "" if int(_greenlet_module.__version__.split(".")[0]) >= 2 else "greenlet is older than 2.0"
except ImportError:
    _missing = "greenlet is not installed"

StartResponse = Callable[..., Any]
RunApp = Callable[[Exchange, dict[str, Any], StartResponse], Iterable[bytes]]

guards: list[Callable[["Run"], str]] = []
"""Each says why a run must not be suspended just now; "" if it may."""

leaving: list[Callable[["Run"], None]] = []
"""Called in the run, right before it is suspended."""

counts = {"begun": 0, "suspended": 0, "continued": 0, "lost": 0, "dropped": 0, "refused": 0}
reasons: dict[str, int] = {}
"""Why runs were not suspended, and how often."""

address = ""
"""This process's own address, as "unix:/path": the server's hook sets it, and continuations come there."""

servers_alarm = False
"""The server's hook has set an alarm for this process: it is no view's."""

_marked = False
_TARRY = "HTTP_TARRY_"
"""The fields of an environ that begin so describe the visit: they are replaced when a run goes on."""


class Table:
    """The suspended runs, the oldest first."""

    def __init__(self) -> None:
        self.runs: OrderedDict[tuple[str, int], Run] = OrderedDict()
        self.hops: dict[str, int] = {}
        self.busy_since = 0.0
        """When the request began that is being worked on (time.monotonic()); 0 between requests."""

        self.overdue = False
        """Runs have expired while a request was being worked on."""

    def add(self, run: "Run") -> None:
        key = (run.exchange.id, run.next_hop)
        self.runs[key] = run
        self.hops[key[0]] = key[1]

    def take(self, exchange: str, hop: int) -> Optional["Run"]:
        run = self.runs.pop((exchange, hop), None)
        if run is not None:
            self.hops.pop(exchange, None)
        return run

    def drop(self, exchange: str, why: str) -> None:
        run = self.take(exchange, self.hops.get(exchange, -1))
        if run is not None:
            run.drop(why)

    def drop_all(self, why: str) -> None:
        for exchange, _ in list(self.runs):
            self.drop(exchange, why)

    def expire(self) -> None:
        self.overdue = False
        for (exchange, _), run in list(self.runs.items()):
            if time.monotonic() - run.since < settings.suspend_seconds:
                return
            self.drop(exchange, "its replay did not come within suspend_seconds")


table = Table()


def missing() -> str:
    """Why nothing can be suspended in this process; "" if it can."""
    return _missing or world.missing


def mark() -> None:
    """A view is marked to be suspended, whatever the setting for all of them is."""
    global _marked
    _marked = True


def possible(environ: dict[str, Any]) -> bool:
    """Whether a run of this request shall be begun so that it can be suspended."""
    if not (_marked or settings.suspends):
        return False
    why = missing()
    if not why and environ.get("wsgi.multithread"):
        why = "the server has several threads, and a continuation may come to another one"
    if not why and threading.current_thread() is not threading.main_thread():
        why = "the request is not in the main thread"
    if not why and not watch.install(table):
        why = "signals cannot be handled here"
    if why:
        notices.warn_once(f"views are run again with each answer, and not suspended: {why}")
    return not why


def serve(
    exchange: Exchange,
    environ: dict[str, Any],
    new_run: Callable[[Exchange, dict[str, Any]], "Run"],
    start_response: StartResponse,
) -> Iterable[bytes]:
    before, table.busy_since = table.busy_since, time.monotonic()
    try:
        if exchange.kind == "replay":
            run = table.runs.get((exchange.id, exchange.hop))
            if run is not None and run.goes_on_with(exchange):
                table.take(exchange.id, exchange.hop)
                counts["continued"] += 1
                return run.go_on(exchange, environ, start_response)
            table.drop(exchange.id, "its exchange is run again")
            if is_lost(exchange):
                return answer_lost(exchange, start_response)
        counts["begun"] += 1
        # uWSGI has one dict for all requests of a worker, and fills it anew.
        return new_run(exchange, dict(environ)).begin(start_response)
    finally:
        table.busy_since = before
        if table.overdue:
            table.expire()


def is_lost(exchange: Exchange) -> bool:
    """Whether this replay, for whose run there is no trace here, must be answered with an error instead of being run again."""
    if exchange.kind != "replay" or not exchange.state.token:
        return False
    counts["lost"] += 1
    if not _wrote(exchange):
        return False
    if settings.lost == "error":
        return True
    notices.log.warning(
        "the suspended run of exchange %s is lost, and %s: it is run again, and writes again", exchange.id, _wrote(exchange)
    )
    return False


def _wrote(exchange: Exchange) -> str:
    """What is known of the writes of a lost run; "" if it had made none. What it had written when it was suspended is said by the state.
    Had it gone on by then, in a worker that died over it, nobody knows."""
    if exchange.state.writes:
        return f"had committed a write: {exchange.state.writes[0]}"
    return "may have committed a write before its worker died" if exchange.attempt > 1 else ""


def answer_lost(exchange: Exchange, start_response: StartResponse) -> Iterable[bytes]:
    """The response to the client with lost="error"."""
    notices.log.error(
        "the suspended run of exchange %s is lost, and %s: it is not run again", exchange.id, _wrote(exchange)
    )
    problem = {"title": "the request was interrupted, and a part of its work may have been done", "status": 500, "exchange": exchange.id}
    body = json.dumps(problem).encode()
    start_response("500 Internal Server Error", [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))])
    return [body]


def waits_for_lock() -> None:
    """The request that is being worked on sleeps between two tries to get a lock: called before each sleep."""
    waited = time.monotonic() - table.busy_since
    if table.busy_since and table.runs and 0 < settings.rescue_seconds <= waited:
        watch.rescue(table)


class Run:
    """One run of the app, in a greenlet of its own."""

    def __init__(self, exchange: Exchange, environ: dict[str, Any], run_app: RunApp) -> None:
        self.exchange = exchange
        self.context: Context = copy_context()
        self.greenlet: Any = greenlet(self._main)
        self.greenlet.gr_context = self.context
        self.children: set[Any] = set()
        """The greenlets of gather(): they wait for the one that runs them, which waits for all."""

        self.waiting: list[Any] = []
        """Futures of an event loop, whose calls are pending."""

        self.wakes: list[float] = []
        """When the sleeps end (time.monotonic()) that the run is in."""

        self.since = 0.0
        self.ending = False
        """A handoff was raised in the run: it is being left."""

        self.was_suspended = False
        self._environ = environ
        self._run_app = run_app
        self._start_response: StartResponse = _nobody
        self._point: Any = None
        self._out: Any = None
        """What the visit's response says, when the run is being suspended. In no frame of the run: it may be large, and would be kept
        for as long as the run stands."""

        self._traced = sys.gettrace()
        self._profiled = sys.getprofile()
        self._alarm = signal.getitimer(signal.ITIMER_REAL)[0]
        exchange.run = self

    @property
    def next_hop(self) -> int:
        """Of the visit that the run waits for."""
        return self.exchange.hop + 1

    def goes_on_with(self, visit: Exchange) -> bool:
        """Whether this is the run that the replay is for: of one exchange several may have come to the same hop."""
        return self.exchange.state.token == visit.state.token

    # In the server's greenlet

    def begin(self, start_response: StartResponse) -> Iterable[bytes]:
        self._start_response = start_response
        return self._switch(self.greenlet, None)

    def go_on(self, visit: Exchange, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        self._continue_with(visit, environ, start_response)
        point, self._point = self._point, None
        return self._switch(point, True)

    def _continue_with(self, visit: Exchange, environ: dict[str, Any], start_response: StartResponse) -> None:
        self.exchange.continue_with(visit)
        for name in [name for name in self._environ if name.startswith(_TARRY)]:
            del self._environ[name]
        self._environ.update({name: value for name, value in environ.items() if name.startswith(_TARRY)})
        environ[RUN_KEY] = self.exchange.runs  # for the server's access log
        self._start_response = start_response

    def drop(self, why: str) -> None:
        """Raises Handoff in the run, which is no more in the table. May be called in a signal handler, amid another run."""
        counts["dropped"] += 1
        notices.log.info("a suspended run of %s is given up: %s (exchange %s)", self.exchange.name, why, self.exchange.id)
        self.ending = self.exchange.dropped = True
        self._start_response = _nobody
        point, self._point = self._point, None
        thread = threading.get_ident()
        active = running.pop(thread, None)
        kept = world.leave()
        try:
            self._unwind(point)
        except Exception:
            notices.log.exception("a run that was given up failed (exchange %s)", self.exchange.id)
        finally:
            world.enter(kept)
            if active is not None:
                running[thread] = active

    def _unwind(self, point: Any) -> None:
        body = self._switch(point, False)
        close = getattr(body, "close", None)
        if close is not None:
            close()

    def _switch(self, point: Any, value: Any) -> Iterable[bytes]:
        self.greenlet.parent = getcurrent()
        body = point.switch(value)
        if self._out is None:
            return self._ended(body)
        (headers, content), self._out = self._out, None
        self._stands()
        self._start_response(HANDOFF_STATUS, headers)
        return [content]

    def _ended(self, body: Any) -> Iterable[bytes]:
        """The run has given the whole response."""
        self.exchange.run = None
        return in_context(self.context, body, self._environ)

    def _stands(self) -> None:
        self.since = time.monotonic()
        table.add(self)
        counts["suspended"] += 1
        watch.begin(table)

    # In the run

    def _main(self, _: Any) -> Iterable[bytes]:
        return self._run_app(self.exchange, self._environ, self._start)

    def _start(self, *head: Any) -> Any:
        return self._start_response(*head)  # of the visit that there is now

    def new_child(self, function: Callable[..., Any], context: Context) -> Any:
        """A greenlet of gather()."""
        child = greenlet(function)
        child.gr_context = context
        self.children.add(child)
        return child

    def why_not(self, frame: Any) -> str:
        """Why the run cannot be suspended now; "" if it can. `frame`: the innermost one that is not the package's."""
        why = self._why_not() or self._why_not_for_stack(frame)
        if why:
            counts["refused"] += 1
            short = why.split(" (")[0]
            reasons[short] = reasons.get(short, 0) + 1
            notices.warn_once(f"a call in {self.exchange.name} cannot be waited for in a suspended run: {why}", notices.INFO)
        return why

    def _why_not(self) -> str:
        if self.ending:
            return "the run is being left"
        if threading.current_thread() is not threading.main_thread():
            return "the call is made in another thread"
        if len(table.runs) >= settings.suspend_max:
            return f"as many runs are suspended as may be (suspend_max is {settings.suspend_max})"
        if memory.is_full(len(table.runs)):
            return f"suspended runs take all the memory that they may (suspend_memory is {settings.suspend_memory})"
        if sys.gettrace() is not self._traced or sys.getprofile() is not self._profiled:
            return "the view is being traced or profiled"
        if not self._alarm and not servers_alarm and signal.getitimer(signal.ITIMER_REAL)[0]:
            return "the view has set an alarm, which would ring in another request"
        return next((why for why in (guard(self) for guard in guards) if why), "")

    def _why_not_for_stack(self, frame: Any) -> str:
        """Also of the greenlets that wait for this one: those that run a gather(), or the view's own."""
        until = type(self)._main.__code__
        why = held.held(frame, until)
        outer = getcurrent()
        while not why and outer is not self.greenlet and outer.parent is not None:
            outer = outer.parent
            why = held.held(outer.gr_frame, until)
        return why

    def wait(self, wake: float = 0.0) -> None:
        """Returns when the pending calls are answered or, with `wake` and no calls, at about that time; raises Handoff if the run is
        given up."""
        here = getcurrent()
        if wake:
            self.wakes.append(wake)
        if here in self.children:
            if not here.parent.switch():
                raise Handoff()
            return
        exchange = self.exchange
        wakes, self.wakes = self.wakes, []
        pause = None if exchange.pending or not wakes else max(min(wakes) - time.monotonic(), 0.0)
        self._out = self._suspension(pause)
        asked = [(call_id.partition(";")[0], call.url) for call_id, call in exchange.pending]
        for _, call in exchange.pending:
            call.headers.clear()  # they are in the handoff, and take memory for as long as the run is suspended
        exchange.pending.clear()
        if not self._stand():
            self._leave()
            raise Handoff()
        for path, url in asked:
            if path not in exchange.record:
                raise BadRecord(f"the replay has no answer to the call of {url}")

    def _leave(self) -> None:
        """The run is given up: Handoff follows."""
        observers.left(self.exchange)
        self.exchange.root.leave()

    def _suspension(self, pause: Optional[float]) -> Any:
        """What the visit's response says of the pending calls."""
        return self.exchange.suspension(pause, address)

    def _stand(self) -> Any:
        """Suspends the run, whose visit ends with what `_out` says. Returns what it is switched to again with."""
        for leave in leaving:
            leave(self)
        self.was_suspended = True
        self._point = getcurrent()
        thread = threading.get_ident()
        active = running.pop(thread, None)
        away = world.leave()
        value = self.greenlet.parent.switch()
        world.enter(away)
        if active is not None:
            running[thread] = active
        return value


def _nobody(status: str, headers: Any, exc_info: Any = None) -> Any:
    return lambda data: None


def in_context(context: Context, body: Iterable[bytes], environ: dict[str, Any]) -> Iterable[bytes]:
    """The body of a response, whose rest is made in the context variables of the run that began it."""
    return body if _is_plain(body, environ) else _InContext(context, body)


def _is_plain(body: Any, environ: dict[str, Any]) -> bool:
    """A list needs no context to be sent, and a file is the server's."""
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(body, (list, tuple)) or (isinstance(wrapper, type) and isinstance(body, wrapper))


class _InContext:
    """A response whose rest is made by the app, in the context variables of the run that began it."""

    def __init__(self, context: Context, body: Any) -> None:
        self._context = context
        self._body = body
        self._chunks: Any = None

    def __iter__(self) -> "_InContext":
        return self

    def __next__(self) -> bytes:
        if self._chunks is None:
            self._chunks = self._context.run(iter, self._body)
        chunk: bytes = self._context.run(next, self._chunks)
        return chunk

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            self._context.run(close)


def drop_all(why: str = "the process ends") -> None:
    if threading.current_thread() is threading.main_thread():
        table.drop_all(why)


_of_the_parent: list[Run] = []


def _after_fork() -> None:
    """In the child: the parent's runs are kept, and never unwound here, as their finally blocks are the parent's to run."""
    _of_the_parent.extend(table.runs.values())
    table.runs.clear()
    table.hops.clear()
    table.busy_since = 0.0
    world.forget()
    watch.forget()
    for exchange in running.values():
        exchange.direct = "the call is made in a forked process"


atexit.register(drop_all)
os.register_at_fork(after_in_child=_after_fork)
