"""One run of an app whose response is held back until its first chunk is there: up to then it may be left for a handoff."""

from __future__ import annotations

import sys
from contextvars import copy_context
from typing import Any, Callable, Iterable, Iterator, Optional, TypeVar

from ..common import notices
from ..errors import Handoff
from ..format.message import HANDOFF_STATUS
from .exchange import Exchange

T = TypeVar("T")
StartResponse = Callable[..., Any]
App = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class Whole:
    """One run of the app: its response is held back until its first chunk is there, and dropped if calls are pending."""

    def __init__(self, exchange: Exchange, environ: dict[str, Any], app: App) -> None:
        self.exchange = exchange
        self.environ = environ
        self.app = app
        self.head: tuple[Any, ...] = ()
        self.written: list[bytes] = []
        self.real_start: Optional[StartResponse] = None
        self.real_write: Callable[[bytes], Any] = self.written.append
        self.body: Optional[Iterable[bytes]] = None
        self.chunks: Iterator[bytes] = iter(())
        self._context = copy_context() if exchange.run is None else None  # a run that can be suspended has one

    def in_context(self, function: Callable[..., T], *args: Any) -> T:
        """Called in context variables of the run's own. A run that is left undoes nothing that the app has set there, such as the trace
        of an instrumentation, and the server's next request is not to find it."""
        return function(*args) if self._context is None else self._context.run(function, *args)

    def answer(self, start_response: StartResponse) -> Iterable[bytes]:
        left = False
        error: Optional[Exception] = None
        try:
            self.in_context(self._run)
        except Handoff as handoff:
            handoff.__traceback__ = None  # its frames hold the bodies
            left = True
        except Exception as raised:
            error = raised
        if self.exchange.leaving and not self.is_handoff():
            self.close(self.body, left)
            return self._handoff(start_response, left)
        if left:
            raise RuntimeError("a view was left for a handoff, and no call is pending")
        if error is not None:
            raise error
        body = self.body
        assert body is not None
        if not self.is_handoff():
            self.exchange.finished()
        if self.is_ready(body):
            self.begin(start_response)
            for data in self.written:
                self.real_write(data)
            return body
        return Rest(self, start_response, body)

    def _run(self) -> None:
        with self.exchange.active():
            self.body = self.app(self.environ, self._start)
            if not self.is_ready(self.body):
                self.chunks = iter(self.body)
                for first in self.chunks:
                    self.written.append(first)
                    break

    def _start(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        head = (status, headers, exc_info) if exc_info else (status, headers)
        if self.real_start is not None:
            self.real_start(*head)  # an error after the first byte: the server raises it
        self.head = head
        return lambda data: self.real_write(data)

    def begin(self, start_response: StartResponse) -> None:
        self.real_start = start_response
        self.real_write = start_response(*self.head)

    def is_ready(self, body: Any) -> bool:
        """A list needs no pulling, nor does Django's response if it does not stream; a file is the server's to send."""
        wrapper = self.environ.get("wsgi.file_wrapper")
        return (
            isinstance(body, (list, tuple))
            or getattr(body, "streaming", True) is False
            or (isinstance(wrapper, type) and isinstance(body, wrapper))
        )

    def is_handoff(self) -> bool:
        return bool(self.head) and any(name.lower() == "tarry-then" for name, _ in self.head[1])

    def _handoff(self, start_response: StartResponse, left: bool) -> Iterable[bytes]:
        if not left:
            self.note_swallowed()
        headers, body = self.exchange.handoff()
        start_response(HANDOFF_STATUS, headers)
        return [body]

    def note_swallowed(self) -> None:
        notices.warn_once(
            f"the handoff of a call was swallowed ({self.exchange.name}, {self.environ.get('PATH_INFO', '')}): its response is"
            " dropped and the request run again with the answer. Catch Exception, not BaseException"
        )

    def close(self, body: Any, left: bool) -> None:
        """Ends the dropped run as its framework would have."""
        close = getattr(body, "close", None)
        if close is not None:
            self.in_context(close)
            return
        signals = sys.modules.get("django.core.signals")
        if left and signals is not None and "tarry.django" in self.environ:
            notices.warn_once(
                "a call was handed off outside of the view, in a middleware: other middleware do not see the response to it",
            )
            signals.request_finished.send(sender=type(self))


class Rest:
    """The rest of the response: the first byte is out, calls made in here are direct."""

    def __init__(self, run: Whole, start_response: StartResponse, body: Iterable[bytes]) -> None:
        self._run = run
        self._exchange = run.exchange
        self._body = body
        self._first = run.written
        run.begin(start_response)

    def __iter__(self) -> "Rest":
        return self

    def __next__(self) -> bytes:
        if self._first:
            return self._first.pop(0)
        return self._run.in_context(self._next)

    def _next(self) -> bytes:
        self._exchange.began_response()
        with self._exchange.active():
            return next(self._run.chunks)

    def close(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            self._run.in_context(close)
