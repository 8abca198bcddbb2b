"""tarry.wsgi(): the outermost wrapper of a WSGI app. For Flask and plain WSGI it is all there is; around Django it is the
net below the middleware, for calls that other middleware make."""

from __future__ import annotations

from typing import Any, Iterable

from .alone.local import Local
from .runs import observers, pieces, suspended
from .runs.exchange import Exchange, of
from .runs.whole import App, StartResponse, Whole
from .settings import settings


def wsgi(app: App) -> App:
    """application = tarry.wsgi(application): the app, for requests that come through Tarry and for others, which are served as before.

    It goes around everything else in wsgi.py. Nothing is raised by it; what the app raises passes through."""

    def run(exchange: Exchange, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        return Whole(exchange, environ, app).answer(start_response)

    def suspendable(exchange: Exchange, environ: dict[str, Any]) -> suspended.Run:
        if pieces.are_offered(exchange):
            return pieces.Run(exchange, environ, app)
        return suspended.Run(exchange, environ, run)

    def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        exchange = of(environ)
        if exchange is not None:
            if exchange.kind == "pieces":
                return pieces.serve(environ, start_response)
            start_response = observers.began(exchange, environ, start_response)
            if exchange.kind in ("request", "replay") and suspended.possible(environ):
                response = environ[pieces.RESPONSE_KEY] = suspended.serve(exchange, environ, suspendable, start_response)
                return response
            if suspended.is_lost(exchange):
                return suspended.answer_lost(exchange, start_response)
            if pieces.are_needed(exchange):
                return pieces.run_again(exchange, environ, app, start_response)
            return run(exchange, environ, start_response)
        if settings.required:
            return app(environ, start_response)
        return Local(application).serve(environ, start_response)

    return application
