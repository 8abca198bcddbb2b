"""gunicorn -c python:tarry.gunicorn myproject.wsgi: gunicorn as ever, with Tarry before its workers.

The module is a gunicorn config: the user's own gunicorn.conf.py, with Tarry's server hooks behind the hooks that it has."""

from .servers.gunicorn.config import load as _load

globals().update(_load())
