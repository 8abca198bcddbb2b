"""Answers that were recorded from the real services once, for tests that run without them.

    client = Client(answers=Recorded("tests/answers/chat.json", origins=["https://api.openai.com"]))

Run once with TARRY_RECORD=1 in the environment, the calls are made for real and their answers written to the file, which belongs into the
repository. From then on they come from there. A call is known by method, URL and body, as on a replay; equal ones by their order. Neither
headers nor bodies of requests are written, so no key and no prompt is, and no cookie of a response."""

from __future__ import annotations

import base64
import json
import os
import pathlib
from typing import Any, Optional, Union

from ..alone.local import make
from ..errors import TarryError
from ..format.digest import body_digest, url_digest
from ..format.message import Answer, Call, origin_of

_NOT_KEPT = ("set-cookie", "content-length", "connection", "keep-alive", "transfer-encoding")


class Recorded:
    """The `answers` of a test client. `record`: make and write down what is missing; by default, if TARRY_RECORD is 1."""

    def __init__(
        self, path: Union[str, "os.PathLike[str]"], origins: Optional[list[str]] = None, record: Optional[bool] = None
    ) -> None:
        self._path = pathlib.Path(path)
        self._record = os.environ.get("TARRY_RECORD") == "1" if record is None else record
        self._entries: list[dict[str, Any]] = json.loads(self._path.read_text("utf-8")) if self._path.exists() else []
        self._used: set[int] = set()
        self.origins = sorted({*(origins or []), *(origin_of(entry["url"]) for entry in self._entries)})

    def __call__(self, call: Call) -> Answer:
        digest = f"{url_digest(call)}.{body_digest(call)}"
        for n, entry in enumerate(self._entries):
            if n not in self._used and entry["digest"] == digest:
                self._used.add(n)
                return _answer(entry)
        if not self._record:
            raise TarryError(
                f"{self._path} has no answer (or no further one) to this {call.method} {call.url}:"
                " run the test once with TARRY_RECORD=1, which makes the call"
            )
        return self._make(call, digest)

    def _make(self, call: Call, digest: str) -> Answer:
        answer = make(call)
        if answer.tarry_error:
            raise TarryError(f"{call.method} {call.url} gave no response to be recorded: {answer.tarry_error}")
        self._used.add(len(self._entries))
        self._entries.append(_entry(call, digest, answer))
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._entries, indent=1, ensure_ascii=False) + "\n", "utf-8")
        return answer


def _entry(call: Call, digest: str, answer: Answer) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "method": call.method,
        "url": call.url.split("?", 1)[0],  # some services take their key in the query
        "digest": digest,
        "status": answer.status,
        "reason": answer.reason,
        "headers": [[n, v] for n, v in answer.headers if n.lower() not in _NOT_KEPT],
    }
    try:
        entry["body"] = answer.body.decode("utf-8")
    except UnicodeDecodeError:
        entry["base64"] = base64.b64encode(answer.body).decode()
    return entry


def _answer(entry: dict[str, Any]) -> Answer:
    body = base64.b64decode(entry["base64"]) if "base64" in entry else entry["body"].encode("utf-8")
    return Answer(entry["status"], entry["reason"], [(n, v) for n, v in entry["headers"]], body)
