"""What manage.py check says about the settings."""

from __future__ import annotations

import difflib
from typing import Any

from django.conf import settings
from django.core import checks

from ..settings import COMMITTED_WRITES, Settings
from ..settings import settings as in_use
from .middleware import SETTINGS

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
    found += _check_names()
    found += _check_runs()
    found += _check_secret()
    found += _check_transactions()
    writes = getattr(settings, "TARRY_COMMITTED_WRITES", COMMITTED_WRITES[0])
    if writes not in COMMITTED_WRITES:
        found.append(
            checks.Error(f"TARRY_COMMITTED_WRITES is {writes!r}, but can be {', '.join(COMMITTED_WRITES)}.", id="tarry.E003")
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


def _check_runs() -> list[Any]:
    """How views go on after a call."""
    given = {
        SETTINGS[name]: getattr(settings, name)
        for name in ("TARRY_RESUME", "TARRY_VIEWS", "TARRY_LOST")
        if hasattr(settings, name)
    }
    try:
        Settings().update(given)
    except ValueError as e:
        return [checks.Error(f"TARRY_RESUME, TARRY_VIEWS or TARRY_LOST: {e}.", id="tarry.E004")]
    return []


def _check_secret() -> list[Any]:
    if settings.DEBUG or getattr(settings, "TARRY_SECRET", "") or in_use.secret:
        return []
    return [
        checks.Warning(
            "No secret proves that requests come from Tarry: continuation views refuse them.",
            hint="Set secret_file in Tarry's conf, and TARRY_SECRET_FILE in the environment of the app. gunicorn -c python:tarry.gunicorn does both.",
            id="tarry.W005",
        )
    ]


def _check_transactions() -> list[Any]:
    aliases = [alias for alias, database in settings.DATABASES.items() if database.get("ATOMIC_REQUESTS")]
    if not aliases:
        return []
    return [
        checks.Info(
            f"ATOMIC_REQUESTS is on for {', '.join(aliases)}: views are run again after a call, never suspended.",
            hint="What such a view wrote before the call is rolled back and written again. Let views that call services be"
            " non_atomic_requests, and put their writes into transaction.atomic() after the call.",
            id="tarry.I001",
        )
    ]


def check_deployment(app_configs: Any, **kwargs: Any) -> list[Any]:
    """For check --deploy."""
    if getattr(settings, "TARRY_SECRET", "") or in_use.secret:
        return []
    return [
        checks.Warning(
            "Tarry's headers are believed from whoever reaches the workers: there is no secret.",
            hint="Set secret_file in Tarry's conf, and TARRY_SECRET_FILE in the environment of the app.",
            id="tarry.W004",
        )
    ]


def _check_names() -> list[Any]:
    """Settings that look like ours and are none."""
    found = []
    for name in dir(settings):
        if name.startswith("TARRY_") and name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0.8)
            if near:
                found.append(
                    checks.Warning(f"{name} is no setting of Tarry's.", hint=f"Did you mean {near[0]}?", id="tarry.W003")
                )
    return found
