"""Sync web apps hand their slow model calls to Tarry, and no worker waits for them.

import tarry
tarry.patch_all()                                  # first, in wsgi.py
...
application = tarry.wsgi(get_wsgi_application())   # any WSGI app
"""

from .capture import capture
from .completed import Completed, completed
from .continuation import NotResumed, Resumed, continuation, resumed
from .errors import BadRecord, CommittedWrites, Handoff, OnceUncertain, OnceUndone, ReplayMismatch, RunRefused, TarryError
from .format.message import Answer, Call, Times, Usage
from .gather import gather
from .handoffs import relay, resume
from .once import once
from .patch import patch_all
from .runs.exchange import Exchange, current
from .runs.pause import sleep
from .telemetry import LogFilter, SpanFilter
from .views import direct, rerun, suspend
from .wrapper import wsgi

__all__ = [
    "Answer",
    "BadRecord",
    "Call",
    "CommittedWrites",
    "Completed",
    "Exchange",
    "Handoff",
    "LogFilter",
    "NotResumed",
    "OnceUncertain",
    "OnceUndone",
    "ReplayMismatch",
    "Resumed",
    "RunRefused",
    "SpanFilter",
    "TarryError",
    "Times",
    "Usage",
    "capture",
    "completed",
    "continuation",
    "current",
    "direct",
    "gather",
    "once",
    "patch_all",
    "relay",
    "rerun",
    "resume",
    "resumed",
    "sleep",
    "suspend",
    "wsgi",
]
__version__ = "0.1.0"
