"""The decision about a call that a library is about to make: hand it off, answer it from the record, or let it go.

The transports (on_urllib3, on_httpx, on_http_client) ask `answer_to`; none of them knows more than this."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from typing import Any, Optional, Union

from ..common import notices
from ..errors import CommittedWrites, Handoff, ReplayMismatch, RunRefused, TarryError
from ..format.digest import body_digest, first_difference, is_streamed, outline, url_digest
from ..format.message import Answer, Call, origin_of
from ..settings import settings
from . import loops, observers
from .branch import Branch, existing, here
from .capturing import taker
from .exchange import Exchange, current, running, runs_elsewhere
from .pieces import collected
from .pieces.coming import opened

REPEATS_MAX = 3
"""How often a failure that Tarry has seen to is given again to a library that tries the same call again."""


def wanted(url: str, method: str = "GET") -> bool:
    """Whether a call to this URL could be Tarry's: cheap, asked before the body is read. One to an origin that is not declared is noted if
    it does something there: it is done again when the view is run again."""
    if taker() is not None:
        return True
    exchange = current()
    if exchange is None:
        _note_lost_thread(url)
        return False
    if origin_of(url) in exchange.origins:
        return True
    if method.upper() not in _SAFE:
        note_effect(f"{method.upper()} {url.partition('?')[0]}")
    return False


_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
_EFFECTS_MAX = 10


def note_effect(text: str) -> None:
    """The view has done something outside of this process that cannot be undone: a charge, a mail, a task."""
    exchange = current()
    if exchange is None or exchange.direct or exchange.responded or running.get(threading.get_ident()) is not exchange:
        return
    branch = existing()
    if (branch is not None and branch.kept) or text in exchange.writes or len(exchange.writes) >= _EFFECTS_MAX:
        return
    exchange.writes.append(text)


def note_direct(url: str, library: str) -> None:
    """A library that cannot be caught is about to make this call itself. Raises Handoff if the view is being left."""
    if taker() is not None:
        raise TarryError(
            f"tarry.capture() cannot catch a call of {library}; it catches httpx, requests, urllib3, http.client and urllib"
        )
    if not wanted(url):
        return
    exchange = current()
    assert exchange is not None
    with exchange.lock:
        if here(exchange.root).left:
            raise Handoff()
        _go_direct(exchange, exchange.direct or f"calls of {library} cannot be handed off", logging.WARNING)


def _note_lost_thread(url: str) -> None:
    if runs_elsewhere(origin_of(url)):
        notices.warn_once(
            f"call at {notices.call_site()} made directly, holds the worker: its thread does not carry the context of the request."
            " Start it with contextvars.copy_context().run, or use tarry.gather"
        )


def answer_to(call: Call) -> Optional[Answer]:
    """The answer, recorded or waited for in a suspended run; None if the library shall make the call itself. Raises Handoff to leave the
    view."""
    found = _ask(call, sys._getframe(1), in_pieces=asyncio._get_running_loop() is None)
    return found.wait() if isinstance(found, Pending) else found


async def answer_to_async(call: Call) -> Optional[Answer]:
    """The same in an event loop, which is suspended when it has nothing else to do."""
    found = _ask(call, sys._getframe(1))
    return await found.wait_in_loop() if isinstance(found, Pending) else found


class Pending:
    """A call that is handed off from a run that can be suspended."""

    def __init__(self, exchange: Exchange, branch: Branch, path: str, call: Call, digests: tuple[str, str]) -> None:
        self._exchange = exchange
        self._branch = branch
        self._path = path
        self._call = call
        self._digests = digests

    def wait(self) -> Answer:
        exchange = self._exchange
        try:
            while self._path not in exchange.record:
                exchange.run.wait()
                self._again()
        except Handoff:
            self._branch.leave()
            raise
        return self._recorded()

    async def wait_in_loop(self) -> Answer:
        exchange = self._exchange
        try:
            while self._path not in exchange.record:
                await loops.answered(exchange.run)
                self._again()
        except Handoff:
            self._branch.leave()
            raise
        return self._recorded()

    def _again(self) -> None:
        """There may have been more calls than one handoff takes."""
        if self._path not in self._exchange.record:
            self._exchange.add(f"{self._path};{'.'.join(self._digests)}", self._call)

    def _recorded(self) -> Answer:
        return _recorded(self._exchange, self._branch, self._path, self._call, *self._digests, sys._getframe(1))


def _ask(call: Call, frame: Any, in_pieces: bool = False) -> Union[Answer, Pending, None]:
    """`frame` is the innermost one that is not the interception's. `in_pieces`: who calls can read an answer while it comes."""
    take = taker()
    if take is not None:
        take(call)
    exchange = current()
    if exchange is None or origin_of(call.url) not in exchange.origins:
        return None
    with exchange.lock:
        branch = here(exchange.root)
        if branch.left:
            raise Handoff()
        url, body = url_digest(call), body_digest(call)
        repeated = _same_failure(branch, f"{url}.{body}", frame)
        if repeated is not None:
            return repeated
        path = _path(exchange, branch, call, url, body)
        if path in exchange.record:
            return _recorded(exchange, branch, path, call, url, body, frame)
        refusal = _refusal(exchange, frame)
        if not _may_leave(exchange, call, refusal):
            return None
        if is_streamed(call):
            call.timeout = None
            call.pieces = in_pieces and refusal == "" and _may_come_in_pieces(exchange)
        exchange.state.note(path, call.url, outline(call))
        exchange.add(f"{path};{url}.{body}", call)
        if refusal == "":
            return Pending(exchange, branch, path, call, (url, body))
        branch.leave()
        observers.left(exchange)
        if exchange.run is not None:
            exchange.run.ending = True
    raise Handoff()


def _path(exchange: Exchange, branch: Branch, call: Call, url: str, body: str) -> str:
    if not branch.named:
        _name(exchange, branch, call, url, body)
    return branch.take()


def _name(exchange: Exchange, branch: Branch, call: Call, url: str, body: str) -> None:
    """A thread's or task's branch gets its name from its first call. If that is not in the record, but one recorded first
    call to the same URL has not been asked for yet, it is taken for that one, with a date or an id in it; with more than one
    nobody could say which. Where some were too many for one handoff, it is one of these, and new."""
    branch.named = True
    start = branch.path
    key = f"{start}t{body[:8]}"
    count = exchange.counts.get(key, 0)
    if f"{key}.{count}.0" not in exchange.record and exchange.record and not exchange.state.cut:
        lost = [
            path
            for path, (digests, _) in exchange.record.items()
            if path not in exchange.used and _is_first_of_child(path, start) and digests.split(".")[0] == url
        ]
        if len(lost) > 1:
            raise ReplayMismatch(
                f"{exchange.name}: a call to {call.url} in a thread or task differs from all that were answered, and"
                f" {len(lost)} answers are left to choose from. Calls side by side are told apart by what they ask: keep clock"
                " and random values out of them, or use tarry.gather"
            )
        if lost:
            branch.path = lost[0][:-1]
            return
    exchange.counts[key] = count + 1
    branch.path = f"{key}.{count}."


def _is_first_of_child(path: str, start: str) -> bool:
    parts = path[len(start) :].split(".") if path.startswith(start) else []
    return len(parts) == 3 and parts[0].startswith("t") and parts[2] == "0"


def _recorded(exchange: Exchange, branch: Branch, path: str, call: Call, url: str, body: str, frame: Any) -> Answer:
    digests, answer = exchange.record[path]
    exchange.used.add(path)
    was_url, _, was_body = digests.partition(".")
    if was_url != url:
        earlier = exchange.state.notes.get(path, ("another URL", ""))[0]
        raise ReplayMismatch(
            f"{exchange.name}: call {path} went to {earlier} and, when the view was run again, goes to {call.method} {call.url}."
            " The view must take the same way on every run"
        )
    if was_body != body:
        place = first_difference(call, exchange.state.notes.get(path, ("", ""))[1])
        message = (
            f"{exchange.name}: the body of call {path} to {call.url} differs from the one that was answered"
            + (f", first in {place}" if place else "")
            + ". A clock or a random id in it?"
        )
        if settings.strict:
            raise ReplayMismatch(message)
        notices.warn_once(message + " The recorded answer is used; strict=True makes this an error")
    if answer.failed:
        branch.skip_sleeps()
        branch.failure = (f"{url}.{body}", answer, notices.library_call(frame)) if answer.tarry_error else None
        branch.repeats = 0
    else:
        branch.sleeps = 0
        branch.failure = None
    return opened(exchange, path, answer)


def _may_come_in_pieces(exchange: Exchange) -> bool:
    """One answer is open at a time, and it is read in the view's own greenlet."""
    if exchange.parts is None or exchange.pending or exchange.run.is_in_branch():
        return False
    return (exchange.coming is None or exchange.coming.is_over()) and collected.ask(exchange)


def _same_failure(branch: Branch, digests: str, frame: Any) -> Optional[Answer]:
    """Tarry has tried this call, more than once, and got no response: a library's own retry learns just that. A second try by the app,
    with a longer timeout or another key, is a call of its own."""
    if branch.failure is None or branch.failure[0] != digests or branch.repeats >= REPEATS_MAX:
        return None
    if branch.failure[2] is not notices.library_call(frame):
        return None
    branch.repeats += 1
    return branch.failure[1]


def _refusal(exchange: Exchange, frame: Any) -> Optional[str]:
    """Why the run cannot be suspended here, "" if it can; None if it is not to be."""
    run = exchange.run
    if run is None or exchange.direct or exchange.responded or exchange.mode not in ("auto", "suspend"):
        return None
    return run.why_not(frame) or loops.why_not()


def _may_leave(exchange: Exchange, call: Call, refusal: Optional[str]) -> bool:
    """Whether a new call can be handed off; says so if not."""
    mode = exchange.mode
    why = exchange.direct
    level = logging.WARNING
    if not why and mode == "direct":
        why, level = "it is set to direct", logging.DEBUG
    if not why and len(call.body) > exchange.limits.call:
        why = "it is larger than an enclosed request may be (call_max)"
    if not why and refusal != "":
        why = exchange.fence
    if not why and refusal and mode == "suspend":
        why, level = f"the view is never run again, and cannot be suspended: {refusal}", logging.WARNING
    if not why and refusal and exchange.parts is not None and exchange.parts.sent.any:
        why = f"the response has begun, and the run cannot be suspended here: {refusal}"
    if not why and refusal != "" and exchange.writes:
        why = _why_not_again(exchange, refusal)
        level = logging.WARNING
    if not why:
        return True
    _go_direct(exchange, why, level)
    return False


def _why_not_again(exchange: Exchange, refusal: Optional[str]) -> str:
    """The view has committed a write: why it must not be run again; "" if it may."""
    choice = settings.committed_writes
    if choice is None and refusal:
        if settings.lost == "error":
            raise RunRefused(f"{exchange.about_writes()}; it cannot be suspended there: {refusal}")
        choice = "direct"
    if choice == "raise":
        raise CommittedWrites(exchange.about_writes())
    if choice == "direct":
        because = f" ({refusal})" if refusal else ""
        return f"handing it off would run committed writes again: {exchange.writes[0]}{because}"
    if refusal and settings.lost == "error":
        raise RunRefused(f"{exchange.about_writes()}; it cannot be suspended there: {refusal}")
    notices.warn_once(exchange.about_writes())
    return ""


def _go_direct(exchange: Exchange, why: str, level: int) -> None:
    if exchange.pending:
        # Part of a request that leaves anyway: made directly now, it would be made once more when the view is run again.
        raise Handoff()
    # What follows must be direct as well: a later handoff would run the view, and so this call, again.
    exchange.direct = why
    notices.warn_once(f"call in {exchange.name} at {notices.call_site()} made directly, holds the worker: {why}", level)
