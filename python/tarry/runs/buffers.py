"""What the server that runs the app can take of a request's head: uWSGI closes the connection, without a word, on one larger than its
buffer, and by default that is smaller than a Tarry-State may be."""

from __future__ import annotations

import functools
import importlib
import sys
from types import ModuleType
from typing import Optional

from ..common import notices
from ..format.state import SMALL

_HEAD = 16384
"""Bytes that a head may well have: a state of 8,000, cookies, and what Tarry adds."""


def state_max() -> int:
    """The largest state that reaches the app again; 0 if the server sets no bound."""
    size = _uwsgi_buffer()
    return SMALL if 0 < size < _HEAD else 0


def look() -> None:
    """Says once, at start, what is wrong with the server's settings."""
    size = _uwsgi_buffer()
    if 0 < size < _HEAD:
        notices.warn_once(
            f"uWSGI's buffer-size is {size}: requests whose headers are larger get no answer, and Tarry-State is kept below"
            f" {SMALL} bytes for it. Set buffer-size = 32768"
        )


def _uwsgi_buffer() -> int:
    module = sys.modules.get("uwsgi") or _uwsgi()
    return int(getattr(module, "buffer_size", 0))


@functools.lru_cache(maxsize=1)
def _uwsgi() -> Optional[ModuleType]:
    """There only within uWSGI. An import that fails looks through all of sys.path, and each request asks: so it is tried once."""
    try:
        return importlib.import_module("uwsgi")
    except ImportError:
        return None
