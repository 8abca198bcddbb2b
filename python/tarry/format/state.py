"""What Tarry-State carries from one run of a view to the next: results of once(), and what earlier calls looked like."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from typing import Any

SMALL = 2000
"""What a server with small buffers takes too: uWSGI's default is 4,096 bytes for the whole head."""

NOTES_MAX = 1800
"""A state with notes on calls stays below this, and what else is in it below SMALL, where there is another place for it."""
SUSPENDED = 400
"""What a suspended run may add to it: a statement, a token, some counts."""

_URL_MAX = 200
_UNPACKED_MAX = 1 << 20


@dataclass
class State:
    once: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By path: the URL of a call and the outline of its body, for messages only."""

    writes: list[str] = field(default_factory=list)
    """A statement that a suspended run had committed: for the case that the run is lost."""

    runs: int = 0
    """How often the view has been run so far; 0 where that is said by the hop."""

    waits: int = 0
    """Hops without a call, which do not count towards max_hops."""

    cut: bool = False
    """There were more calls side by side than one handoff takes: some of the record's may have no answer yet."""

    token: str = ""
    """Which run this is the state of, if it is suspended: several may have come to the same hop."""

    sleeps: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By a branch's path: the number of the sleep that it is in, and when that ends."""

    def note(self, path: str, url: str, outline: str) -> None:
        self.notes[path] = (url[:_URL_MAX], outline)

    def encode(self) -> str:
        """ "" for nothing. The oldest notes are left out when there are too many."""
        rest = {"w": self.writes, "r": self.runs, "v": self.waits, "s": self.sleeps, "t": self.token, "c": self.cut}
        kept: dict[str, Any] = {"o": self.once, **{name: value for name, value in rest.items() if value}}
        notes = dict(self.notes)
        while notes:
            packed = _pack({**kept, "n": notes})
            if len(packed) <= NOTES_MAX:
                return packed
            for path in list(notes)[: max(len(notes) // 4, 1)]:
                del notes[path]
        return _pack(kept) if len(kept) > 1 or self.once else ""


def decode(text: str) -> State:
    """The state of an earlier run; an empty one for what this package did not write (an app's own handoff)."""
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.urlsafe_b64decode(text), _UNPACKED_MAX)
        value = json.loads(data)
        notes = {path: (url, shape) for path, (url, shape) in value.get("n", {}).items()}
        sleeps = {path: (int(n), float(wake)) for path, (n, wake) in value.get("s", {}).items()}
        return State(
            dict(value.get("o", {})),
            notes,
            [str(statement) for statement in value.get("w", [])],
            int(value.get("r", 0)),
            int(value.get("v", 0)),
            bool(value.get("c", False)),
            str(value.get("t", "")),
            sleeps,
        )
    except (ValueError, zlib.error, AttributeError, TypeError):
        return State()


def _pack(value: Any) -> str:
    data = json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(zlib.compress(data, 6)).decode()
