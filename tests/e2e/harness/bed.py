"""The test bed: starts what a test asks for, and stops all of it in reverse order."""

import threading

from .base import DEADLINE, BlackHole
from .apps import Gunicorn, Provider
from .h2server import H2Upstream
from .server import ScriptedUpstream, ScriptedWorker
from .tarry import Conf, Tarry


class Bed:
    def __init__(self, folder, authority):
        self.folder = folder
        self._authority = authority
        self.parts = []

    @property
    def authority(self):
        return self._authority()

    def another(self, name="another"):
        """A second bed with a folder of its own, stopped with this one: for a test with two proxies."""
        folder = self.folder / name
        folder.mkdir()
        return self.add(Bed(folder, self._authority))

    def add(self, part):
        self.parts.append(part)
        return part

    def worker(self, handler=None, **more):
        return self.add(ScriptedWorker(handler, **more))

    def unix_worker(self, handler=None, **more):
        return self.worker(handler, address=f"unix:{self.folder}/w{len(self.parts)}.sock", **more)

    def upstream(self, handler=None, **more):
        """An HTTP/1.1 upstream over plain http."""
        return self.add(ScriptedUpstream(handler, **more))

    def tls_upstream(self, handler=None, certificate="leaf", alpn=("http/1.1",), cert=None, **more):
        """An HTTP/1.1 upstream over TLS. `cert`: arguments of Authority.leaf() for another certificate."""
        context = self.authority.server_context(certificate, alpn=alpn, **(cert or {}))
        return self.add(ScriptedUpstream(handler, tls=context, **more))

    def h2_upstream(self, handler=None, **more):
        return self.add(H2Upstream(self.authority.server_context(alpn=("h2",)), handler, **more))

    def black_hole(self):
        """An origin and address to which no connect succeeds or fails."""
        return self.add(BlackHole())

    def conf(self, workers=(), upstream=None, slots=4):
        """A Conf for these parts; for TLS upstreams the session's CA is trusted."""
        if not isinstance(workers, (list, tuple)):
            workers = [workers]
        conf = Conf(self.folder, workers, upstream, slots)
        if getattr(upstream, "tls", None):
            conf.up["ca_file"] = str(self.authority.ca)
        return conf

    def tarry(self, conf, **more):
        """Starts the proxy with this Conf (or text)."""
        t = Tarry(self.folder, conf, start=False, **more)
        self.add(t)
        t.start()
        return t

    def site(self, worker, upstream=None, slots=4, pool=None, up=None, top=None, admin=False):
        """The usual: a scripted worker (or a handler for one), an upstream (or a handler for one), Tarry in between.
        `pool`, `up`, `top`: options of the conf; `admin`: with an admin listener, for tarry.status() and tarry.metric().
        Gives an object with worker, upstream, tarry and conf."""
        site = Site()
        site.worker = self.worker(worker) if callable(worker) else worker
        site.upstream = self.upstream(upstream) if callable(upstream) or upstream is None else upstream
        site.conf = self.conf(site.worker, site.upstream, slots)
        site.conf.pool.update(pool or {})
        site.conf.up.update(up or {})
        site.conf.top.update(top or {})
        if admin:
            site.conf.admins[f"unix:{self.folder}/admin"] = {}
        site.tarry = self.tarry(site.conf)
        return site

    def gunicorn(self, app, **more):
        return self.add(Gunicorn(app, self.folder, **more))

    def provider(self, **more):
        return self.add(Provider(self.folder, **more))

    def background(self, function, *args, **more):
        """Runs function in a thread; result() waits for its value or raises what it raised."""
        return self.add(Background(function, args, more))

    def stop(self):
        """Stops everything, whatever fails on the way; raises the first failure."""
        failures = []
        for part in reversed(self.parts):
            try:
                part.stop()
            except BaseException as e:
                failures.append(e)
        errors = [e for part in self.parts for e in getattr(part, "errors", [])]
        if failures:
            raise failures[0]
        assert not errors, "a scripted server failed:\n" + "\n".join(errors)

    def describe(self):
        """(title, text) of all logs, for a failed test's report."""
        for part in self.parts:
            if isinstance(part, Bed):
                yield from part.describe()
            elif isinstance(part, Tarry):
                yield "tarry's standard error", "\n".join(part.lines[-300:])
            elif hasattr(part, "describe"):
                yield part.what, part.describe()


class Site:
    worker = upstream = tarry = conf = None


class Background:
    what = "background"

    def __init__(self, function, args, more):
        self._value = self._error = None

        def run():
            try:
                self._value = function(*args, **more)
            except BaseException as e:
                self._error = e
        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def result(self, timeout=None):
        self._thread.join(DEADLINE if timeout is None else timeout)
        assert not self._thread.is_alive(), "a background task did not end"
        if self._error:
            raise self._error
        return self._value

    @property
    def running(self):
        return self._thread.is_alive()

    def stop(self):
        pass
