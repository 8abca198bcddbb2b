"""completed(): the final message out of a recorded event stream, for saving what was relayed.

Known by their shape, not by their address: OpenAI's chat completions and responses, Anthropic's messages, Gemini's generateContent, and
what speaks like them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Optional, Union

from .continuation import Resumed
from .format.message import Answer, Times, Usage


@dataclass
class Completed:
    """What completed() has read."""

    message: dict[str, Any]
    """As the provider would have answered without streaming: what its SDK's type takes in model_validate()."""

    text: str
    usage: dict[str, Any]
    """As the provider reports it, under its own names; `tokens` has the same names for all providers."""

    whole: bool
    """False if the stream ended before the provider said that it was through."""

    answer: Optional[Answer] = None
    """What it was read from: status, headers, body."""

    @property
    def tokens(self) -> Optional[Usage]:
        """What Tarry has read of the provider's report; None if it gave no number, or the call was not made by Tarry."""
        return self.answer.usage if self.answer is not None else None

    @property
    def times(self) -> Times:
        return self.answer.times if self.answer is not None else Times(0.0)

    @property
    def attempts(self) -> int:
        """How often the call was made."""
        return self.answer.attempts if self.answer is not None else 1

    @property
    def status(self) -> Optional[int]:
        """The provider's HTTP status."""
        return self.answer.status if self.answer is not None else None

    @property
    def request_id(self) -> str:
        """The provider's own id of the request; "" if it gave none."""
        return self.answer.request_id if self.answer is not None else ""


def completed(recorded: Union[Resumed, Answer]) -> Completed:
    """The final message of a notify, or of one answer. An answer in one piece is taken as it is. Raises ValueError for what is neither."""
    answer = recorded.answers[0] if isinstance(recorded, Resumed) else recorded
    found = _of_content(answer)
    found.answer = answer
    return found


def _of_content(answer: Answer) -> Completed:
    content = answer.content.decode("utf-8", "replace")
    events = _events(content)
    if not events:
        return _one_piece(json.loads(content))
    first = events[0]
    if "choices" in first:
        return _chat(events)
    if "candidates" in first or "usageMetadata" in first:
        return _gemini(events)
    kinds = {str(event.get("type", "")) for event in events}
    if any(kind.startswith("response.") for kind in kinds):
        return _responses(events)
    if "message_start" in kinds:
        return _anthropic(events)
    raise ValueError("no event stream of a known provider")


def _events(content: str) -> list[dict[str, Any]]:
    """The JSON objects of an event stream's data, or of a JSON array. What is cut off or no object is left out."""
    if content.lstrip()[:1] == "[":
        return _array(content.lstrip())
    found = []
    for block in content.replace("\r\n", "\n").replace("\r", "\n").split("\n\n"):
        data = "\n".join(line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:"))
        try:
            value = json.loads(data)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _array(content: str) -> list[dict[str, Any]]:
    decoder, at = json.JSONDecoder(), 1
    found: list[dict[str, Any]] = []
    while True:
        while content[at : at + 1] in (" ", "\n", "\r", "\t", ","):
            at += 1
        try:
            value, at = decoder.raw_decode(content, at)
        except ValueError:
            return found
        if isinstance(value, dict):
            found.append(value)


def _one_piece(message: dict[str, Any]) -> Completed:
    for shape, text in (
        ("choices", _chat_text),
        ("candidates", _gemini_text),
        ("output", _responses_text),
        ("content", _anthropic_text),
    ):
        if shape in message:
            return Completed(message, text(message), message.get("usage") or message.get("usageMetadata") or {}, True)
    raise ValueError("no answer of a known provider")


def _chat(events: list[dict[str, Any]]) -> Completed:
    choices: dict[int, dict[str, Any]] = {}
    usage: dict[str, Any] = {}
    for event in events:
        usage = event.get("usage") or usage
        for part in event.get("choices", []):
            index = part.get("index", 0)
            choice = choices.setdefault(
                index, {"index": index, "message": {"role": "assistant", "content": None}, "finish_reason": None}
            )
            choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]
            _merge(choice["message"], part.get("delta") or {})
    message = {k: v for k, v in events[0].items() if k not in ("choices", "usage", "object", "obfuscation")}
    message.update({"object": "chat.completion", "choices": [choices[i] for i in sorted(choices)]})
    if usage:
        message["usage"] = usage
    whole = bool(choices) and all(choice["finish_reason"] for choice in choices.values())
    return Completed(message, _chat_text(message), usage, whole)


def _merge(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """Texts are joined, tool calls too, each by its index; the rest is taken as it comes."""
    for name, value in delta.items():
        if value is None:
            continue
        if name == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for part in value:
                index = part.get("index", len(calls))
                while len(calls) <= index:
                    calls.append({"function": {"name": "", "arguments": ""}})
                function = part.get("function") or {}
                calls[index].update({k: v for k, v in part.items() if k not in ("index", "function") and v})
                for field in ("name", "arguments"):
                    calls[index]["function"][field] += function.get(field) or ""
        elif isinstance(value, str) and name != "role":
            message[name] = (message.get(name) or "") + value
        else:
            message[name] = value


def _chat_text(message: dict[str, Any]) -> str:
    choices = message.get("choices") or [{}]
    return (choices[0].get("message") or {}).get("content") or ""


def _responses(events: list[dict[str, Any]]) -> Completed:
    """Each event of the whole response carries all of it: the last one counts."""
    found = [event for event in events if isinstance(event.get("response"), dict)]
    if not found:
        raise ValueError("the stream ended before it said anything")
    message = found[-1]["response"]
    whole = found[-1]["type"] in ("response.completed", "response.incomplete", "response.failed")
    text = (
        _responses_text(message)
        if whole
        else "".join(e["delta"] for e in events if e.get("type") == "response.output_text.delta")
    )
    return Completed(message, text, message.get("usage") or {}, whole)


def _responses_text(message: dict[str, Any]) -> str:
    parts = [part for item in message.get("output") or [] if item.get("type") == "message" for part in item.get("content") or []]
    return "".join(part.get("text", "") for part in parts if part.get("type") == "output_text")


def _anthropic(events: list[dict[str, Any]]) -> Completed:
    message: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    arguments: dict[int, str] = {}
    whole = False
    for event in events:
        kind = event.get("type")
        index = event.get("index", 0)
        if kind == "message_start":
            message = dict(event["message"])
        elif kind == "content_block_start":
            blocks[index] = dict(event["content_block"])
        elif kind == "content_block_delta" and index in blocks:
            delta = event["delta"]
            if delta.get("type") == "input_json_delta":
                arguments[index] = arguments.get(index, "") + delta.get("partial_json", "")
            elif delta.get("type") == "citations_delta":
                blocks[index]["citations"] = [*(blocks[index].get("citations") or []), delta.get("citation")]
            else:
                for name in ("text", "thinking", "signature"):
                    if name in delta:
                        blocks[index][name] = blocks[index].get(name, "") + delta[name]
        elif kind == "message_delta":
            message.update(event.get("delta") or {})
            message["usage"] = {**(message.get("usage") or {}), **(event.get("usage") or {})}
        elif kind == "message_stop":
            whole = True
    for index, text in arguments.items():
        try:
            blocks[index]["input"] = json.loads(text or "{}")
        except ValueError:
            whole = False  # cut off in the midst of a tool's arguments
    message["content"] = [blocks[i] for i in sorted(blocks)]
    return Completed(message, _anthropic_text(message), message.get("usage") or {}, whole)


def _anthropic_text(message: dict[str, Any]) -> str:
    return "".join(block.get("text", "") for block in message.get("content") or [] if block.get("type") == "text")


def _gemini(events: list[dict[str, Any]]) -> Completed:
    message: dict[str, Any] = {}
    candidates: dict[int, dict[str, Any]] = {}
    for event in events:
        message.update({k: v for k, v in event.items() if k != "candidates"})
        for part in event.get("candidates") or []:
            index = part.get("index", 0)
            candidate = candidates.setdefault(index, {"content": {"role": "model", "parts": []}})
            candidate.update({k: v for k, v in part.items() if k != "content"})
            for piece in (part.get("content") or {}).get("parts") or []:
                _add_piece(candidate["content"]["parts"], piece)
    message["candidates"] = [candidates[i] for i in sorted(candidates)]
    whole = bool(candidates) and all(c.get("finishReason") for c in candidates.values())
    return Completed(message, _gemini_text(message), message.get("usageMetadata") or {}, whole)


def _add_piece(parts: list[dict[str, Any]], piece: dict[str, Any]) -> None:
    """Text goes on where the part before was text of the same kind; a function call or an image is a part of its own."""
    last = parts[-1] if parts else {}
    if "text" in piece and "text" in last and piece.get("thought") == last.get("thought"):
        last.update({k: v for k, v in piece.items() if k != "text"})
        last["text"] += piece["text"]
    else:
        parts.append(dict(piece))


def _gemini_text(message: dict[str, Any]) -> str:
    candidates = message.get("candidates") or [{}]
    parts = (candidates[0].get("content") or {}).get("parts") or []
    return "".join(part.get("text", "") for part in parts if not part.get("thought"))
