"""A run that stands still where its answer is used up, and goes on when the next piece has come."""

from __future__ import annotations

import secrets
import time
from typing import Any, Iterable, Optional

from greenlet import getcurrent

from ...common import notices
from ...errors import Handoff
from ...format.message import HANDOFF_STATUS, Headers
from ...format.parts import END, MORE, REST, Piece, chunk, read_position, trailer
from ...settings import settings
from .. import suspended
from ..exchange import Exchange
from ..suspended import table
from ..whole import App, StartResponse
from . import collected
from .response import OF_TRAILER, Parts, handoff_head

GONE = "gone"
"""What a run is switched to with when its client has left."""


class Stop:
    """The end of a visit's response in parts."""

    __slots__ = ("fields", "content")

    def __init__(self, fields: Headers, content: bytes = b"") -> None:
        self.fields = fields
        self.content = content


class Plain:
    """A whole response; `body` is the server's to send."""

    __slots__ = ("status", "fields", "body")

    def __init__(self, status: str, fields: Headers, body: Iterable[bytes]) -> None:
        self.status = status
        self.fields = fields
        self.body = body


class Run(suspended.Run):
    """The greenlet gives bytes for the client, and then a Stop or a Plain."""

    def __init__(self, exchange: Exchange, environ: dict[str, Any], app: App) -> None:
        super().__init__(exchange, environ, self._never)
        self.parts = Parts(exchange, self._environ, app)
        self.began = self.parts.sent.any
        """The client's response has its head."""

        self._waits_for_piece = False
        self._told: Any = None
        """What the last Tarry-State was made of."""

    @staticmethod
    def _never(*args: Any) -> Any:
        raise AssertionError("the app is run by _main")

    @property
    def next_hop(self) -> int:
        return self.exchange.hop if self._waits_for_piece else self.exchange.hop + 1

    def goes_on_with(self, visit: Exchange) -> bool:
        return super().goes_on_with(visit) and self.parts.sent.is_as(visit.sent)

    def fits(self, piece: Piece) -> bool:
        """Whether it is the piece that this run waits for."""
        if not self._waits_for_piece:
            return False
        if not piece.position:
            return True
        coming = self.exchange.coming
        return coming is not None and read_position(piece.position)[0] == coming.received

    # In the server's greenlet

    def begin(self, start_response: StartResponse) -> Iterable[bytes]:
        return self._answer(self.step(None), start_response)

    def go_on(self, visit: Exchange, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        coming = self.exchange.coming
        found = visit.record.get(coming.path) if coming is not None else None
        if found is not None:
            coming.take_whole(found[1])
        self._continue_with(visit, environ, start_response)
        return self._answer(self.resume(), start_response)

    def take(self, piece: Piece) -> Any:
        """Goes on with what the piece brings; as step()."""
        if piece.position:
            self.exchange.coming.take(piece.data, read_position(piece.position)[1], piece.outcome, piece.error)
        return self.resume()

    def resume(self) -> Any:
        return self.step(True)

    def step(self, value: Any) -> Any:
        """Up to the next bytes, Stop or Plain."""
        before, table.busy_since = table.busy_since, table.busy_since or time.monotonic()
        try:
            return self._switch_to(value)
        finally:
            table.busy_since = before
            if table.overdue and not before:
                table.expire()

    def _switch_to(self, value: Any) -> Any:
        point, self._point = self._point, None
        self.greenlet.parent = getcurrent()
        found = (self.greenlet if point is None else point).switch(value)
        if self._out is not None:
            found, self._out = self._out, None
            self._stands()
        elif self.greenlet.dead:
            self.exchange.run = self.exchange.parts = self.exchange.coming = None  # circles
        return found

    def _answer(self, found: Any, start_response: StartResponse) -> Iterable[bytes]:
        if isinstance(found, Plain):
            start_response(found.status, found.fields)
            return found.body
        start_response(*self.head())
        return self.visit(found)

    def visit(self, first: Any) -> "Visit":
        return Visit(self, first)

    def head(self) -> tuple[str, Headers]:
        """Of the visit's response: what has not gone to the client yet."""
        parts = self.parts
        if not parts.iterating or not parts.head or self.began:
            return "200 OK", [("Cache-Control", "no-store"), ("Tarry-Then", "trailer")]
        dropped = ("content-length", "transfer-encoding", "connection", "tarry-then")
        return parts.head[0], [*((n, v) for n, v in parts.fields if n.lower() not in dropped), ("Tarry-Then", "trailer")]

    def leave(self) -> None:
        """The client has left: the view learns it as a WSGI server would tell it, where it stands."""
        self.exchange.dropped = True
        self.exchange.direct = self.exchange.direct or "the client has left"
        self.ending = True
        self._run_out(GONE if self.parts.iterating else False)

    def _unwind(self, point: Any) -> None:
        self._point = point
        self._run_out(False)

    def _run_out(self, value: Any) -> None:
        """To its end, for nobody."""
        while not self.greenlet.dead:
            self.step(value)

    # In the run

    def _main(self, _: Any) -> Any:
        chunks = self.parts.run()
        try:
            for data in chunks:
                if self.greenlet.parent.switch(data) is GONE:
                    break
        finally:
            chunks.close()
        if self.parts.body is not None:
            status, fields = self.parts.head[0], self.parts.fields
            return Plain(status, fields, self._ended(self.parts.body))
        return Stop(*self.parts.trailer)

    def is_in_branch(self) -> bool:
        """In a function of gather(), which does not stand still alone."""
        return getcurrent() in self.children

    def why_not_read(self, frame: Any) -> str:
        """Why the run cannot be suspended where it reads the open answer; "" if it can."""
        if self.is_in_branch():
            return "the answer is read in a function of gather()"
        return self.why_not(frame)

    def wait_for_more(self) -> None:
        """Returns when more of the open answer has come, or its end."""
        parts = self.parts
        if not parts.iterating:
            collected.note(self.exchange)
        self._stand_or_leave(Stop(self._stop_fields(MORE if parts.iterating else REST)))

    def _suspension(self, pause: Optional[float]) -> Any:
        exchange, parts = self.exchange, self.parts
        self._waits_for_piece = False
        if pause is not None and parts.iterating:
            return Stop([*self._stop_fields(MORE), exchange.wait_field(pause)])
        headers, content = super()._suspension(pause)
        self._told = None
        if parts.goes_in_parts:
            fields = [(name, value) for name, value in headers if name.lower() in OF_TRAILER]
            return Stop([*fields, *self._of_client(), *self._closed()], content)
        if parts.iterating and parts.is_event_stream and parts.head[0].startswith("200"):
            headers = handoff_head(parts, headers)
        return Plain(HANDOFF_STATUS, [*headers, *self._of_client()[:1]], [content])

    def _stop_fields(self, then: str) -> Headers:
        exchange = self.exchange
        exchange.note_suspension()
        self._waits_for_piece = True
        fields = [("Tarry-Then", then), *exchange.where(suspended.address), *self._of_client(), *self._closed()]
        state = exchange.state
        facts = (len(state.once), len(state.notes), state.writes, dict(state.sleeps), state.runs, state.waits)
        if facts != self._told:
            if self._told is None and not self.was_suspended:
                state.token = secrets.token_hex(4)
            self._told = facts
            fields.append(("Tarry-State", state.encode()))
        return fields

    def _of_client(self) -> Headers:
        """What becomes of the call when the client leaves, and what it gets in a long silence."""
        if not self.parts.iterating:
            return [("Tarry-On-Disconnect", "finish")]
        fields = [("Tarry-On-Disconnect", settings.on_disconnect)]
        if self.parts.is_event_stream:
            fields.append(("Tarry-Keep-Alive", "sse"))
        return fields

    def _closed(self) -> Headers:
        """The open answer, if the view reads no more of it."""
        coming = self.exchange.coming
        if coming is None or coming.last or not coming.closed:
            return []
        coming.last = True
        return [("Tarry-Close", coming.call_id)]

    def _stand(self) -> Any:
        value = super()._stand()
        if value is GONE:
            raise GeneratorExit
        return value

    def _stand_or_leave(self, out: Stop) -> None:
        self._out = out
        del out
        if not self._stand():
            self._leave()
            raise Handoff()


class Visit:
    """The response to a visit: the server asks for it, and the run makes it."""

    def __init__(self, run: Run, first: Any) -> None:
        self._run = run
        self._before = run.began
        self._next = first
        self._over = False

    def __iter__(self) -> "Visit":
        return self

    def __next__(self) -> bytes:
        if self._over:
            raise StopIteration
        found, self._next = self._next, None
        if found is None:
            found = self._run.step(True)
        if isinstance(found, Stop):
            self._over = True
            self._run.began = self._run.began or found.fields[0][1] == END
            return trailer(found.fields, found.content)
        self._run.began = True
        return chunk(found)

    @property
    def begins(self) -> bool:
        """The client's response has begun in this visit."""
        return self._run.began and not self._before

    def close(self) -> None:
        if not self._over and not isinstance(self._next, Stop):
            leave(self._run)
        self._over = True


def leave(run: Run) -> None:
    """Ends a run for whose response there is nobody."""
    try:
        run.leave()
    except Exception:
        notices.log.exception("a run whose client has left failed (exchange %s)", run.exchange.id)
