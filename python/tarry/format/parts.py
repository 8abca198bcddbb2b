"""The wire format of a response in parts (data that the client gets at once, then a trailer section that says what follows), and of the
visit that brings pieces of answers."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import BinaryIO, Iterator

from ..errors import BadRecord
from .message import Headers, read_headers, read_line, value_of

MORE, REST, REPLAY, END, CUT = "more", "rest", "replay", "end", "cut"
"""What the trailer section's Tarry-Then says."""

TARGET = "/.tarry/piece"
RESPONSES = "application/http; msgtype=response"

_POSITION = re.compile(r"from=([0-9]{1,18}); (more|last)\Z")
_SENT = re.compile(r"bytes=([0-9]{1,18}), sha256=([A-Za-z0-9+/]{43}=)\Z")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def trailer(fields: Headers, content: bytes = b"") -> bytes:
    """The end of a response in parts; `content` is the enclosed requests of a handoff."""
    lines = ["0", *(f"{name}: {value}" for name, value in fields)]
    if content:
        lines.append(f"Tarry-Length: {len(content)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content


def read_position(text: str) -> tuple[int, bool]:
    """Tarry-Piece: where the piece begins in the answer, and whether it is the last one."""
    found = _POSITION.match(text)
    if not found:
        raise BadRecord(f"Tarry-Piece: {text!r} is not in the protocol's form")
    return int(found.group(1)), found.group(2) == "last"


class Sent:
    """What the run has given for the client. A run that follows another one gives everything anew; what the client has already, as
    Tarry-Sent says, is left out."""

    def __init__(self, text: str = "") -> None:
        found = _SENT.match(text) if text else None
        if text and not found:
            raise BadRecord(f"Tarry-Sent: {text!r} is not in the protocol's form")
        self._has = int(found.group(1)) if found else 0
        self._digest = base64.b64decode(found.group(2)) if found else b""
        self._sha = hashlib.sha256()
        self._given = 0

    @property
    def any(self) -> bool:
        """The client has something, or will have."""
        return bool(self._has or self._given)

    @property
    def missing(self) -> int:
        """How many bytes the client has that this run has not given yet."""
        return max(self._has - self._given, 0)

    def give(self, data: bytes) -> bytes:
        """What of the data is new to the client. Raises Differs when the client has something else."""
        if self._given < self._has:
            missing = self.missing
            old, data = data[:missing], data[missing:]
            self._sha.update(old)
            self._given += len(old)
            if not self.missing and self._sha.digest() != self._digest:
                raise Differs()
        self._sha.update(data)
        self._given += len(data)
        return data

    def is_as(self, text: str) -> bool:
        """Whether the client has exactly what this run has given."""
        if not text:
            return not self._given
        found = _SENT.match(text)
        return bool(found) and int(found.group(1)) == self._given and base64.b64decode(found.group(2)) == self._sha.digest()  # type: ignore[union-attr]


class Differs(Exception):
    """The client has other data than this run of the view gives."""


@dataclass
class Piece:
    """One enclosed request of a visit with pieces."""

    exchange: str
    hop: int
    position: str
    """Tarry-Piece; "" where no answer is open."""

    outcome: str
    error: str
    data: bytes


def read_pieces(stream: BinaryIO) -> Iterator[Piece]:
    while True:
        line = stream.readline(1 << 16)
        if not line:
            return
        if read_line(line) != f"POST {TARGET} HTTP/1.1".encode():
            raise BadRecord("a visit with pieces encloses something else")
        headers = read_headers(stream)
        length = value_of(headers, "content-length") or "0"
        hop = value_of(headers, "tarry-hop")
        if not (length.isascii() and length.isdigit() and hop.isascii() and hop.isdigit()):
            raise BadRecord("a piece has no length or no hop")
        data = stream.read(int(length))
        if len(data) != int(length):
            raise BadRecord("a piece ends too early")
        position = value_of(headers, "tarry-piece")
        if position:
            read_position(position)
        yield Piece(
            value_of(headers, "tarry-exchange"), int(hop), position, value_of(headers, "tarry-outcome"), error_of(headers), data
        )


def error_of(headers: Headers) -> str:
    """Why an answer broke off, as far as Tarry knows."""
    return value_of(headers, "proxy-status").partition("error=")[2].partition(";")[0].strip()
