"""What can be raised."""

from __future__ import annotations


class Handoff(BaseException):
    """Leaves the view, because a call is handed to Tarry; the view is run again with the answer.

    No Exception: so `except Exception`, SDKs and retry libraries let it pass, while `finally`, context managers and
    transactions see it as the error that they roll back for."""


class TarryError(Exception):
    """The base of the errors below."""


class ReplayMismatch(TarryError):
    """The view, run again, asks something other than what the recorded answers were given to."""


class CommittedWrites(TarryError):
    """A view committed rows before a call: they would be written again when it is run again."""


class RunRefused(TarryError):
    """lost="error": a run that has committed a write is at a call that it cannot be suspended at."""


class OnceUncertain(TarryError):
    """A worker died where once() was running: whether the function did its work cannot be known."""


class OnceUndone(TarryError):
    """once() was to keep work that the handoff undoes, because it is part of an open transaction."""


class BadRecord(TarryError):
    """What came with a replay or a resume is not in the protocol's form."""
