"""What manage.py check says about the settings."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core import checks

PATH = "tarry.django.Middleware"
# Rolled back or not, work in these is done again on each run; nothing of ours can undo it.
_PROCESS_CACHES = ("django.core.cache.backends.locmem.LocMemCache", "django.core.cache.backends.dummy.DummyCache")


def check_middleware(app_configs: Any, **kwargs: Any) -> list[Any]:
    found = []
    listed = list(settings.MIDDLEWARE)
    if PATH not in listed:
        found.append(
            checks.Warning(
                f"{PATH} is not in MIDDLEWARE.",
                hint="Make it the last entry: it catches the handoff of a view so that all other middleware see a response.",
                id="tarry.W001",
            )
        )
    elif listed[-1] != PATH:
        found.append(
            checks.Warning(
                f"{PATH} is not the last entry of MIDDLEWARE.",
                hint=f"Those behind it ({', '.join(listed[listed.index(PATH) + 1 :])}) do not see the response to a handoff.",
                id="tarry.W002",
            )
        )
    store = getattr(settings, "TARRY_ONCE_STORE", None)
    if isinstance(store, str):
        cache = settings.CACHES.get(store)
        if cache is None:
            found.append(checks.Error(f"TARRY_ONCE_STORE names {store!r}, which is not in CACHES.", id="tarry.E001"))
        elif cache.get("BACKEND") in _PROCESS_CACHES:
            found.append(
                checks.Error(
                    f"TARRY_ONCE_STORE names {store!r}, a cache that lives in one process.",
                    hint="What once() claims there is unknown to the worker that runs the view again: use a shared cache.",
                    id="tarry.E002",
                )
            )
    return found
