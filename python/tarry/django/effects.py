"""What a view does outside of the database: mail that it sends, and tasks that it gives to Celery. Each is done again when the view is run
again, as a committed write is, and said like one."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from ..common.importing import when_imported
from ..runs.intercept import note_effect


def watch() -> None:
    """As soon as the libraries are imported, if ever; to call it again does no harm."""
    when_imported("django.core.mail.message", _watch_mail)
    when_imported("celery.app.task", _watch_tasks)


def _watch_mail(message: ModuleType) -> None:
    _watch(message.EmailMessage, "send", lambda mail: "a mail")


def _watch_tasks(task: ModuleType) -> None:
    _watch(task.Task, "apply_async", lambda self: f"{self.name}.delay()")


def _watch(cls: Any, name: str, describe: Any) -> None:
    original = getattr(cls, name)
    if hasattr(original, "__tarry__"):
        return

    @functools.wraps(original)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        note_effect(describe(self))
        return result

    wrapper.__tarry__ = original  # type: ignore[attr-defined]
    setattr(cls, name, wrapper)
