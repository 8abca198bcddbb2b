"""Django's middleware as the innermost one, where the settings do not list it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...common.importing import when_imported

PATH = "tarry.django.Middleware"


def insert_when_django_is_loaded() -> None:
    when_imported("django.core.handlers.base", _patch)


def _patch(module: ModuleType) -> None:
    real = module.BaseHandler.load_middleware
    if getattr(real, "tarry", False):
        return

    def load_middleware(self: Any, is_async: bool = False) -> None:
        from django.conf import settings

        if not is_async and PATH not in settings.MIDDLEWARE:
            settings.MIDDLEWARE = [*settings.MIDDLEWARE, PATH]
        real(self, is_async)

    load_middleware.tarry = True  # type: ignore[attr-defined]
    module.BaseHandler.load_middleware = load_middleware
