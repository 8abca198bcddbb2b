"""A worker's private address, and how it leaves: an address exists only while a worker takes requests at it, and every request
that has reached the worker is answered before it goes."""

from __future__ import annotations

import datetime
import os
import signal
import socket
import time
from typing import Any, Callable, Optional

from ...runs import pieces, suspended
from ...runs.exchange import ENVIRON_KEY
from ...wrapper import wsgi
from .arbiter import hook
from .client import RestoreClient

# Beside the client's own header fields Tarry sends some of its own, and Tarry-State may be long.
MORE_FIELDS = 64
FIELD_SIZE = 16384
# How often a leaving worker looks whether its threads are done.
TICK = 0.01


def post_fork(server: Any, worker: Any) -> None:
    """The public sockets are Tarry's: a copy that stays open would keep their ports taken."""
    for signo, handler in hook.replaced.items():
        signal.signal(signo, handler)
    for listener in server.LISTENERS:
        listener.close()
    hook.proxy.forget()
    worker.sockets = []
    cfg = server.cfg  # this process's copy
    cfg.set("certfile", None)  # TLS, keep-alive and the PROXY protocol are between Tarry and the client
    cfg.set("keyfile", None)
    cfg.set("keepalive", 0)
    cfg.set("proxy_protocol", "off" if isinstance(cfg.proxy_protocol, str) else False)
    if cfg.limit_request_fields:
        cfg.set("limit_request_fields", min(32768, cfg.limit_request_fields + MORE_FIELDS))
    if cfg.limit_request_field_size:
        cfg.set("limit_request_field_size", max(cfg.limit_request_field_size, FIELD_SIZE))


def post_worker_init(worker: Any) -> None:
    """The app is loaded: the worker opens its address and takes the place of the worker that had its number."""
    cfg = worker.cfg
    worker.wsgi = RestoreClient(wsgi(worker.wsgi), cfg, hook.secret, hook.tcp_address())
    # The scheme headers are judged by RestoreClient, which knows the peer: for gunicorn every peer is a trusted unix socket.
    cfg.set("secure_scheme_headers", {})
    place = Place(hook.address(worker.tarry_number), hook.own_address(os.getpid()), cfg.backlog)
    worker.sockets = [place]
    worker.wait_fds = [place, worker.PIPE[0]]
    worker.tarry_place = place
    worker.log.access = one_line_a_request(worker.log.access)
    suspended.address = f"unix:{place.own}"  # views that wait in this process go on here, whatever becomes of its number
    _hide_pieces(worker)
    place.appear()
    worker.__class__ = _leaving(type(worker))
    if not worker.__dict__.pop("alive", True):  # stopped while it was loading the app
        worker.alive = False
    hook.proxy.let_start()


def one_line_a_request(access: Callable[..., None]) -> Callable[..., None]:
    """gunicorn's access log and its metrics by statsd, without the visits that end in a handoff and those that only Tarry knows of. The time
    of a request is from when its client sent it."""

    def log(resp: Any, req: Any, environ: dict[str, Any], request_time: datetime.timedelta) -> None:
        exchange = environ.get(ENVIRON_KEY)
        if exchange is None:
            return access(resp, req, environ, request_time)
        then = next((str(value) for name, value in resp.headers if name.lower() == "tarry-then"), "")
        if then == "trailer" and not getattr(environ.get(pieces.RESPONSE_KEY), "begins", False):
            return None  # a stream has the line of the visit that begins it
        if then and not then.startswith(("relay", "trailer")) or exchange.kind not in ("request", "resume", "replay"):
            return None
        if exchange.started:
            request_time = max(request_time, datetime.timedelta(seconds=time.time() - exchange.started))
        return access(resp, req, environ, request_time)

    return log


def _hide_pieces(worker: Any) -> None:
    """A visit with pieces of answers is no request: it does not count towards max_requests, and the user's hooks do not hear of it."""
    cfg = worker.cfg
    before, after = cfg.pre_request, cfg.post_request

    def pre_request(worker: Any, req: Any) -> None:
        if _brings_pieces(req):
            worker.nr -= 1
        else:
            before(worker, req)

    def post_request(worker: Any, req: Any, environ: Any, resp: Any) -> None:
        if not _brings_pieces(req):
            after(worker, req, environ, resp)

    cfg.set("pre_request", pre_request)
    cfg.set("post_request", post_request)


def _brings_pieces(req: Any) -> bool:
    return req.path == "/.tarry/pieces" and ("TARRY-KIND", "pieces") in req.headers


def worker_exit(server: Any, worker: Any) -> None:
    place: Optional[Place] = getattr(worker, "tarry_place", None)
    if place is not None:
        place.vanish()


def announce(worker: Any) -> None:
    """Asks the arbiter for another worker in this one's place. From then on gunicorn's timeout does not watch it, so that it ends
    itself should it hang."""
    with open(hook.leaving_mark(os.getpid()), "w", encoding="ascii"):
        pass
    suspended.servers_alarm = True
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, worker.cfg.graceful_timeout + (worker.cfg.timeout or 60))
    os.kill(worker.ppid, signal.SIGCHLD)


class Place(socket.socket):
    """The worker's listening socket, under two names: its number's, which the next worker takes over, and its own."""

    def __init__(self, number: str, own: str, backlog: int) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM)
        self.number = number
        self.own = own
        self.shut_down = False
        self._late: list[tuple[socket.socket, Any]] = []
        _unlink(own)  # of a dead process with the same id
        self.bind(own)
        self.listen(backlog)
        self.setblocking(False)

    def appear(self) -> None:
        """From now on requests come. rename() leaves no moment without an address."""
        new = f"{self.own}.new"
        _unlink(new)
        os.link(self.own, new)
        os.replace(new, self.number)

    def disappear(self) -> None:
        """No new requests; Tarry is refused at once and goes to another worker."""
        try:
            if os.path.samestat(os.stat(self.number), os.stat(self.own)):
                os.unlink(self.number)
        except FileNotFoundError:
            pass

    def vanish(self) -> None:
        self.disappear()
        _unlink(self.own)

    def accept(self) -> tuple[socket.socket, Any]:
        if self._late:
            return self._late.pop()
        try:
            return super().accept()
        except OSError:
            if self.shut_down:
                raise BlockingIOError(11, "nobody waits") from None
            raise

    def is_empty(self) -> bool:
        """Refuses every further connection; True if nobody is in the queue either."""
        if not self.shut_down:
            self.shutdown(socket.SHUT_RD)
            self.shut_down = True
        try:
            self._late.append(super().accept())
        except OSError:
            pass
        return not self._late


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _leaving(base: Any) -> Any:
    """The worker's class, with an `alive` that goes false only when every request that came has been answered: SIGTERM,
    max_requests and the reloader all set it."""

    class Worker(base):  # type: ignore[misc]
        tarry_leaving = False
        tarry_left = False
        tarry_deadline = 0.0

        @property
        def alive(self) -> bool:
            return not self.tarry_left

        @alive.setter
        def alive(self, value: bool) -> None:
            if value or self.tarry_leaving:
                return
            self.tarry_leaving = True
            self.tarry_deadline = time.monotonic() + self.cfg.graceful_timeout
            self.tarry_place.disappear()
            if suspended.table.runs and not os.path.exists(hook.end_mark()):
                announce(self)

        def notify(self) -> None:
            """Each turn of the worker's loop begins with it."""
            super().notify()
            if not self.tarry_leaving or self.tarry_left:
                return
            if suspended.table.runs and time.monotonic() < self.tarry_deadline and not os.path.exists(hook.end_mark()):
                return  # only this process can go on with them; elsewhere they would begin again
            empty = self.tarry_place.is_empty()
            busy = getattr(self, "nr_conns", 0)  # gthread's open connections
            self.tarry_left = empty and not busy
            if busy:
                time.sleep(TICK)  # its poller does not wait for threads, nor on a socket that is shut down

    Worker.__name__ = base.__name__
    Worker.__qualname__ = base.__qualname__
    Worker.__module__ = base.__module__
    return Worker
