"""What a call asks, in a few bytes: to know on a replay whether a recorded answer belongs to it.

Method, URL and body count, headers do not: retry counters, dates and signatures differ between runs. JSON is compared by
its content, not by the order of its keys, and a multipart body without its random boundary."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any, Iterator, Optional

from .message import Call

OUTLINE_LEAVES = 100
_STREAM_PATHS = ("-stream", "/stream")
_BOUNDARY = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)


def url_digest(call: Call) -> str:
    return hashlib.sha256(f"{call.method} {call.url.split('#', 1)[0]}".encode()).hexdigest()[:8]


def body_digest(call: Call) -> str:
    return hashlib.sha256(_canonical(call)).hexdigest()[:16]


def outline(call: Call) -> str:
    """Two characters for each value of a JSON body, in the order of sorted keys: enough to tell later which one differs,
    and nothing of what it was."""
    value = _json(call)
    if value is None:
        return ""
    hashes = []
    for _, leaf in _leaves(value, ""):
        hashes.append(_short(leaf))
        if len(hashes) == OUTLINE_LEAVES:
            break
    return "".join(hashes)


def first_difference(call: Call, earlier: str) -> str:
    """Where the call's JSON body first differs from the one with that outline; "" if that cannot be told."""
    value = _json(call)
    if value is None or not earlier:
        return ""
    before = [earlier[i : i + 2] for i in range(0, len(earlier), 2)]
    path = ""
    for n, (path, leaf) in enumerate(_leaves(value, "")):
        if n == OUTLINE_LEAVES:
            return ""
        if n >= len(before) or before[n] != _short(leaf):
            return path or "the whole value"
    return f"what follows {path}" if path else ""


def is_streamed(call: Call) -> bool:
    """True for a call that asks for an event stream: in its JSON body, as the providers have it in common, by its URL, as Gemini and
    Bedrock have it, or by what it accepts."""
    path = call.url.partition("?")[0].lower()
    if ":stream" in path or path.endswith(_STREAM_PATHS) or call.header("accept").lower().startswith("text/event-stream"):
        return True
    value = _json(call)
    return isinstance(value, dict) and value.get("stream") is True


def _canonical(call: Call) -> bytes:
    value = _json(call)
    if value is not None:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    kind = call.header("content-type")
    found = _BOUNDARY.search(kind) if kind.lower().startswith("multipart/") else None
    if found:
        return call.body.replace(b"--" + found.group(1).encode("latin-1"), b"--boundary")
    return call.body


def _json(call: Call) -> Optional[Any]:
    if call.body[:1] not in (b"{", b"["):
        return None
    try:
        return json.loads(call.body)
    except ValueError:
        return None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key in sorted(value):
            yield from _leaves(value[key], f"{path}.{key}" if path else str(key))
    elif isinstance(value, list) and value:
        for n, item in enumerate(value):
            yield from _leaves(item, f"{path}[{n}]")
    else:
        yield path, value


def _short(leaf: Any) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(json.dumps(leaf).encode()).digest()[:2])[:2].decode()
