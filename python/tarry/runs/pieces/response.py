"""One run of an app whose response goes out in parts: each chunk of it at once, and at the end of a visit what follows."""

from __future__ import annotations

from typing import Any, Callable, Generator, Iterable, Iterator

from ...common import notices
from ...errors import CommittedWrites, Handoff, RunRefused
from ...format.message import HANDOFF_STATUS, Headers
from ...format.parts import CUT, END, REST, Differs, Sent
from ...settings import settings
from ..exchange import Exchange
from ..whole import App, Rest, T, Whole

OF_TRAILER = frozenset(["tarry-then", "tarry-sticky", "tarry-at", "tarry-wait", "tarry-state"])
"""The fields of a handoff that a trailer section has."""


class Parts(Whole):
    """`run()` runs the app; when it has ended there is either `body`, a whole response with `head`, or the last trailer section."""

    def __init__(self, exchange: Exchange, environ: dict[str, Any], app: App) -> None:
        super().__init__(exchange, environ, app)
        self.sent = Sent(exchange.sent)
        self.iterating = False
        """The app has given its response, which is iterated over."""

        self.wants_rest = False
        """The run is left, and is run again when the whole of the open answer has come."""

        self.asked_at = ""
        """Where in the app the call was made whose answer comes in pieces."""

        self.trailer: tuple[Headers, bytes] = ([("Tarry-Then", CUT)], b"")
        exchange.parts = self

    @property
    def is_event_stream(self) -> bool:
        return any(name.lower() == "content-type" and value.lower().startswith("text/event-stream") for name, value in self.fields)

    @property
    def fields(self) -> Headers:
        return self.head[1] if self.head else []

    @property
    def goes_in_parts(self) -> bool:
        """Whether a handoff now must be said in a trailer section."""
        return self.sent.any or self.exchange.coming is not None

    @property
    def has_no_body(self) -> bool:
        return bool(self.head) and self.head[0].startswith(("1", "204", "304"))

    def refuse_rest(self, why: str) -> None:
        """The run cannot be suspended where it reads the open answer."""
        exchange = self.exchange
        if exchange.mode == "suspend":
            raise RunRefused(f"{exchange.name} is never run again, and cannot be suspended where it reads the answer: {why}")
        if exchange.writes and settings.lost == "error":
            raise RunRefused(f"{exchange.about_writes()}; it cannot be suspended there: {why}")
        if exchange.writes and settings.committed_writes == "raise":
            raise CommittedWrites(exchange.about_writes())
        self.wants_rest = True

    def in_context(self, function: Callable[..., T], *args: Any) -> T:
        """Who iterates over `run()` does so in the run's context."""
        return function(*args)

    # The app

    def run(self) -> Generator[bytes, None, None]:
        """What is new to the client. Raises what the app raises before its first byte."""
        exchange = self.exchange
        body: Any = None
        left = False
        why = ""
        with exchange.active():
            try:
                body = self.app(self.environ, self._start)
                if self._goes_whole(body):
                    self._hand_over(body)
                    return
                if not exchange.leaving:
                    self.iterating = True
                    yield from self._data_of(body)
            except Handoff as handoff:
                handoff.__traceback__ = None  # its frames hold the bodies
                left = True
            except GeneratorExit:
                exchange.dropped = True  # the client has left
            except Differs:
                why = "this run of the view gives other data than the client has got from an earlier one"
            except Exception as error:
                if not self.sent.any:
                    self._close(body, left)
                    raise
                notices.log.exception("%s failed amid its response, which is cut (exchange %s)", exchange.name, exchange.id)
                why = f"it raised {type(error).__name__}"
            self._close(body, left)
        self._end(left, why)

    def _data_of(self, body: Iterable[bytes]) -> Iterator[bytes]:
        exchange, give = self.exchange, self.sent.give
        for data in body:
            if exchange.leaving:
                return  # it has swallowed the handoff: what it makes of it is for nobody
            if self.written:
                data = b"".join([*self.written, data])
                self.written.clear()
            if data and not self.sent.any:
                self._begins()
            data = give(data)
            if data:
                yield data
        if self.written:
            yield give(b"".join(self.written))

    def _begins(self) -> None:
        """The first byte is here. A run that goes on after it must be one that can stand still, or make its calls itself."""
        if self.exchange.mode not in ("auto", "suspend"):
            self.exchange.began_response()

    def _goes_whole(self, body: Any) -> bool:
        """What is made while it is sent goes in parts; not a download whose length is told, which keeps its Content-Length, nor a status
        with which no server sends a body, as a file's 304."""
        if self.is_handoff():
            return not (self.exchange.leaving and self.goes_in_parts)
        if self.exchange.leaving or self.sent.any:
            return False
        return self.has_no_body or self.is_ready(body) or any(name.lower() == "content-length" for name, _ in self.fields)

    def _hand_over(self, body: Any) -> None:
        """The server sends it, as without Tarry; calls that come before its first chunk are handed off."""
        if self.is_handoff() or self.is_ready(body):
            self.body = [*self.written, *body] if self.written else body
        else:
            self.chunks = iter(body)
            self.written.extend(data for _, data in zip(range(1), self.chunks))
            self.body = Rest(self, self._ignore, body)
        if not self.is_handoff():
            self.exchange.finished()

    def _ignore(self, *head: Any) -> Any:
        return lambda data: None

    def _start(self, status: str, headers: Headers, exc_info: Any = None) -> Any:
        if exc_info and (self.sent.any or self.body is not None):
            raise exc_info[1].with_traceback(exc_info[2])
        self.head = (status, headers)
        return self.written.append

    def _close(self, body: Any, left: bool) -> None:
        try:
            self.close(body, left)
        except Handoff:
            pass  # of one more call, in a run that is left
        except Exception:
            notices.log.exception("closing the response of %s failed", self.exchange.name)

    # Its end

    def _end(self, left: bool, why: str) -> None:
        exchange = self.exchange
        if exchange.dropped:
            return
        if not why and exchange.leaving:
            if not left and not self.is_handoff():
                self.note_swallowed()
            self._hand_off()
            return
        if not why and self.sent.missing:
            why = f"this run of the view ends {self.sent.missing} bytes before what the client has got from an earlier one"
        if not why and left:
            why = "the view was left for a handoff, and no call is pending"
        if why:
            notices.log.error("the response of %s is cut: %s (exchange %s)", exchange.name, why, exchange.id)
        else:
            exchange.finished()
            if self.has_no_body and not self.sent.any:
                self.body = []
        self.trailer = ([("Tarry-Then", CUT if why else END)], b"")

    def _hand_off(self) -> None:
        """The run is left, and the view run again."""
        exchange = self.exchange
        headers, content = exchange.handoff()
        if self.wants_rest and not exchange.pending:
            headers = [(name, REST if name == "Tarry-Then" else value) for name, value in headers]
        elif not self.goes_in_parts:
            self.head, self.body = (HANDOFF_STATUS, headers), [content]
            return
        self.trailer = ([(name, value) for name, value in headers if name.lower() in OF_TRAILER], content)


def handoff_head(parts: Parts, headers: Headers) -> Headers:
    """The head of a handoff before the first byte of an event stream: should comments have to be sent meanwhile, it is the client's."""
    own = {name.lower() for name, _ in headers} | {"content-encoding"}
    return [*headers, ("Tarry-Keep-Alive", "sse"), *((n, v) for n, v in parts.fields if n.lower() not in own)]

