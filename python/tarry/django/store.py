"""A cache of Django as the store of once(), by its alias."""

from __future__ import annotations

from typing import Any

from django.core.cache import caches


class SharedCache:
    """What TARRY_ONCE_STORE names. Every thread has a cache object of its own, so it is looked up at each use."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._cache()  # an alias that is none is told at once

    @property
    def in_database(self) -> bool:
        """Whether its entries are rows, which a transaction of the view would take back."""
        from django.core.cache.backends.db import BaseDatabaseCache

        return isinstance(self._cache(), BaseDatabaseCache)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache(), name)

    def _cache(self) -> Any:
        return caches[self._alias]
