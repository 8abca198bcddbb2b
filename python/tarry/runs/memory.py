"""How much memory suspended runs take: what the process has grown by since none was suspended."""

from __future__ import annotations

import os
from typing import Optional

from ..settings import settings

_EVERY = 16
"""To look costs some microseconds, so it is done once in so many suspensions."""

_page = os.sysconf("SC_PAGE_SIZE")
_base: Optional[int] = None
_full = False
_looked = 0


def is_full(suspended: int) -> bool:
    """Whether no further run may be suspended, with so many that are."""
    global _base, _full, _looked
    if not settings.suspend_memory:
        return False
    _looked += 1
    if suspended == 0:
        _base, _full = None, False
    if _base is None:
        _base = resident()
    elif _full or _looked % _EVERY == 0:
        _full = resident() - _base > settings.suspend_memory
    return _full


def resident() -> int:
    """Bytes of memory that the process has; 0 where that is not told."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _page
    except OSError:
        return 0
