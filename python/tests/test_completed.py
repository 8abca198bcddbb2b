"""Recorded streams become the message that the provider would have given in one piece."""

import gzip
import json

import pytest

from tarry import Answer, completed


def stream(*events, ending="\n\n", names=False):
    lines = []
    for event in events:
        data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
        lines.append((f"event: {event['type']}\n" if names else "") + f"data: {data}{ending}")
    return Answer(200, "OK", [], ("retry: 1\n\n: comment\n\n" + "".join(lines)).encode())


def chunk(delta, reason=None, **more):
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        **more,
    }


CHAT = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hä"}),
    chunk({"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}),
    chunk({"content": "llo"}),
    chunk({}, "tool_calls"),
    {**chunk({}), "choices": [], "usage": {"total_tokens": 5}},
]


def test_openai_chat():
    done = completed(stream(*CHAT, "[DONE]"))
    assert (done.text, done.usage, done.whole) == ("Hällo", {"total_tokens": 5}, True)
    (choice,) = done.message["choices"]
    assert choice["message"]["tool_calls"] == [
        {"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    ]
    assert choice["finish_reason"] == "tool_calls" and done.message["object"] == "chat.completion"


def test_openai_chat_is_what_the_sdk_takes():
    openai = pytest.importorskip("openai")
    message = openai.types.chat.ChatCompletion.model_validate({**completed(stream(*CHAT)).message, "usage": None})
    assert message.choices[0].message.content == "Hällo"


def test_a_stream_that_broke_off_is_not_whole():
    cut = stream(*CHAT[:3])
    cut.body = cut.body + b'data: {"id": "c", "cho'
    done = completed(cut)
    assert done.text == "Hä" and not done.whole


def test_openai_responses():
    final = {
        "id": "r",
        "output": [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}],
        "usage": {"total_tokens": 3},
    }
    events = [
        {"type": "response.created", "response": {"id": "r", "output": []}},
        {"type": "response.output_text.delta", "delta": "Hel"},
        {"type": "response.completed", "response": final},
    ]
    done = completed(stream(*events, names=True))
    assert (done.text, done.usage, done.whole, done.message) == ("Hello", {"total_tokens": 3}, True, final)
    done = completed(stream(*events[:2], names=True))
    assert (done.text, done.whole) == ("Hel", False)


def test_anthropic():
    events = [
        {
            "type": "message_start",
            "message": {"id": "a", "role": "assistant", "content": [], "usage": {"input_tokens": 2, "output_tokens": 1}},
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    done = completed(stream(*events, ending="\r\n\r\n"))
    assert (done.text, done.usage, done.whole) == ("Hello", {"input_tokens": 2, "output_tokens": 9}, True)
    assert (
        done.message["content"][1] == {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
        and done.message["stop_reason"] == "tool_use"
    )
    assert not completed(stream(*events[:8])).whole


GEMINI = [
    {
        "candidates": [{"content": {"parts": [{"text": "hm", "thought": True}], "role": "model"}}],
        "usageMetadata": {"totalTokenCount": 1},
    },
    {"candidates": [{"content": {"parts": [{"text": "Hel"}], "role": "model"}}]},
    {
        "candidates": [{"content": {"parts": [{"text": "lo"}, {"functionCall": {"name": "f"}}]}, "finishReason": "STOP"}],
        "usageMetadata": {"totalTokenCount": 7},
    },
]


@pytest.mark.parametrize("recorded", [stream(*GEMINI), Answer(200, "", [], json.dumps(GEMINI, indent=1).encode())])
def test_gemini_as_events_and_as_an_array(recorded):
    done = completed(recorded)
    assert (done.text, done.usage, done.whole) == ("Hello", {"totalTokenCount": 7}, True)
    assert done.message["candidates"][0]["content"]["parts"] == [
        {"text": "hm", "thought": True},
        {"text": "Hello"},
        {"functionCall": {"name": "f"}},
    ]


def test_a_gemini_array_that_broke_off():
    done = completed(Answer(200, "", [], json.dumps(GEMINI).encode()[:-60]))
    assert done.text == "Hel" and not done.whole


@pytest.mark.parametrize(
    "message, text",
    [
        ({"choices": [{"message": {"content": "Hello"}}], "usage": {"n": 1}}, "Hello"),
        ({"content": [{"type": "text", "text": "Hello"}], "usage": {"n": 1}}, "Hello"),
    ],
)
def test_an_answer_in_one_piece_packed_or_not(message, text):
    data = json.dumps(message).encode()
    for answer in (Answer(200, "", [], data), Answer(200, "", [("Content-Encoding", "gzip")], gzip.compress(data))):
        done = completed(answer)
        assert (done.message, done.text, done.usage, done.whole) == (message, text, {"n": 1}, True)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": 1}', b'data: {"type": "other"}\n\n'])
def test_what_is_no_message_is_an_error(body):
    with pytest.raises(ValueError):
        completed(Answer(200, "", [], body))


def test_what_tarry_says_of_the_call_comes_along():
    fields = [("Tarry-Usage", "input=3, output=4"), ("Tarry-Times", "content=0.5"), ("X-Request-Id", "req-1")]
    done = completed(Answer(200, "", fields, b'{"choices": [{"message": {"content": "x"}}]}', attempts=2, time=1.5))
    assert (done.tokens.input, done.tokens.output, done.tokens.cached, done.attempts) == (3, 4, None, 2)
    assert (done.times.content, done.times.total, done.status, done.request_id) == (0.5, 1.5, 200, "req-1")
    bare = completed(Answer(200, "", [], b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 3}}'))
    assert bare.tokens is None and bare.usage == {"prompt_tokens": 3} and bare.request_id == ""
