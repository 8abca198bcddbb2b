"""The package's settings: arguments of patch_all(), overridden by Django settings named TARRY_… ."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any

COMMITTED_WRITES = ("warn", "raise", "direct")


@dataclass
class Settings:
    secret: str = ""
    """Refuse Tarry's headers unless they carry this (the conf's worker secret). Empty: not checked."""

    strict: bool = False
    """Raise ReplayMismatch when a call's body differs from the one that was answered; otherwise warn once."""

    committed_writes: str = "warn"
    """What to do about a call after rows were committed: "warn", "raise", or call "direct"ly."""

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
        writes = values.get("committed_writes", self.committed_writes)
        if writes not in COMMITTED_WRITES:
            raise ValueError(f"committed_writes is {writes!r}, but can be {', '.join(COMMITTED_WRITES)}")
        for name, value in values.items():
            setattr(self, name, value)


def from_environment() -> Settings:
    """TARRY_SECRET, or TARRY_SECRET_FILE that names a file with it, as the proxy's secret_file does."""
    secret = os.environ.get("TARRY_SECRET", "")
    path = os.environ.get("TARRY_SECRET_FILE")
    if not secret and path:
        with open(path, encoding="utf-8") as file:
            secret = file.read().strip()
    return Settings(secret=secret)


settings = from_environment()
