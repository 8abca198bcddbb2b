"""The package's settings: arguments of patch_all(), overridden by Django settings named TARRY_… ."""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass, field, fields
from typing import Any, Optional

COMMITTED_WRITES = ("warn", "raise", "direct")
RESUME = ("rerun", "auto", "suspend")
LOST = ("rerun", "error")
ON_DISCONNECT = ("cancel", "finish")
MODES = (*RESUME, "direct")


@dataclass
class Settings:
    secret: str = ""
    """Refuse Tarry's headers unless they carry this (the conf's worker secret). Empty: not checked."""

    strict: bool = False
    """Raise ReplayMismatch when a call's body differs from the one that was answered; otherwise warn once."""

    committed_writes: Optional[str] = None
    """What to do about a call that would have the view run again after rows were committed: "warn", "raise", or call "direct"ly. None:
    "warn", but "direct" in a run that could be suspended elsewhere, though not there."""

    resume: str = "rerun"
    """How a view goes on after a call: it is run again with the answer ("rerun"), or suspended at the call where that is safe and run
    again where it is not ("auto"), or suspended and, where it is not safe, makes the call itself ("suspend")."""

    views: dict[str, str] = field(default_factory=dict)
    """`resume`, or "direct", for some views, by a pattern of their names ("shop.views.*") or the beginning of their paths ("/shop/")."""

    lost: str = "rerun"
    """A suspended run that had committed a write, or may have, is lost with its process, or refused: "rerun" the view, or answer with an
    "error". It may have where a worker died while it went on with the run: what it did since the last call is then not known."""

    suspend_max: int = 10000
    """How many runs may be suspended in a process; further ones are run again."""

    suspend_seconds: float = 900.0
    """How long a run stays suspended; then it is given up, and run again should its answer still come."""

    suspend_memory: int = 1 << 30
    """Bytes that a process may grow by with suspended runs; 0 for any number."""

    sticky_seconds: float = 10.0
    """How long a continuation may wait for the process that has its run, before any worker runs the view again."""

    rescue_seconds: float = 2.0
    """How long a request may wait for a lock before suspended runs are given up, one of which may hold it; 0: for ever."""

    on_disconnect: str = "cancel"
    """What becomes of a streaming response whose client leaves while the view waits: the view gets GeneratorExit and its call is reset
    ("cancel"), or it goes on for nobody ("finish")."""

    once_store: Any = None
    """Where once() claims its work before it does it: an object with Django's cache API (add, get, set, delete), shared by all
    workers. With Django also the alias of a cache. None: results are carried by the handoff only."""

    state_key: str = ""
    """Signs the state of relay() and resume(). Empty: Django's SECRET_KEY, or else `secret`."""

    required: bool = False
    """Without Tarry in front, answer 501 where a view uses relay() or resume(), instead of making the calls."""

    def update(self, values: dict[str, Any]) -> None:
        known = {f.name for f in fields(self)}
        for name in values:
            if name not in known:
                raise TypeError(f"tarry has no setting {name!r}; it has {', '.join(sorted(known))}")
        choices = (("committed_writes", (*COMMITTED_WRITES, None)), ("resume", RESUME), ("lost", LOST), ("on_disconnect", ON_DISCONNECT))
        for name, allowed in choices:
            value = values.get(name, getattr(self, name))
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}, but can be {', '.join(str(each) for each in allowed)}")
        for pattern, mode in values.get("views", {}).items():
            if mode not in MODES:
                raise ValueError(f"views[{pattern!r}] is {mode!r}, but can be {', '.join(MODES)}")
        for name, value in values.items():
            setattr(self, name, value)


    @property
    def suspends(self) -> bool:
        """Whether any view may be suspended."""
        return self.resume != "rerun" or any(mode in ("auto", "suspend") for mode in self.views.values())

    def mode_of(self, view: str, path: str) -> str:
        """How that view goes on after a call."""
        for pattern, mode in self.views.items():
            if path.startswith(pattern) if pattern.startswith("/") else fnmatch.fnmatchcase(view, pattern):
                return mode
        return self.resume


def from_environment() -> Settings:
    """TARRY_SECRET, or TARRY_SECRET_FILE that names a file with it, as the proxy's secret_file does; and TARRY_RESUME, TARRY_LOST, TARRY_ON_DISCONNECT."""
    secret = os.environ.get("TARRY_SECRET", "")
    path = os.environ.get("TARRY_SECRET_FILE")
    if not secret and path:
        with open(path, encoding="utf-8") as file:
            secret = file.read().strip()
    found = Settings(secret=secret)
    names = [name for name in ("resume", "lost", "on_disconnect") if os.environ.get(f"TARRY_{name.upper()}")]
    found.update({name: os.environ[f"TARRY_{name.upper()}"] for name in names})
    return found


settings = from_environment()
