"""The stand-in for the AI services against its manual: tools and structured output, whole and streamed. That the real SDKs
understand it is shown by tests/compat."""

import json

import pytest

from harness import request

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer", "minimum": 3},
        "unit": {"enum": ["C", "F"]},
        "more": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/More"}]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 6}, "minItems": 2},
        "fixed": {"const": {"a": [1]}},
        "share": {"type": ["null", "number"], "exclusiveMaximum": 1},
        "when": {"type": "string", "format": "date"},
    },
    "$defs": {"More": {"type": "object", "properties": {"sure": {"type": "boolean"}, "more": {"$ref": "#/$defs/More"}}, "required": ["sure"]}},
}
GEMINI = {"type": "OBJECT", "properties": {"city": {"type": "STRING"}, "n": {"type": "ARRAY", "items": {"type": "INTEGER"}, "minItems": "2"}}}
Q = "Gr\u00fc\u00dfe \"aus\" \u4eac\u90fd"


@pytest.fixture
def ask(bed):
    provider = bed.provider(https=False, args=["--no-auth"])

    def post(path, body):
        got = request(provider.http, "POST", path, {"Content-Type": "application/json"}, json.dumps(body).encode())
        assert got.status == 200, got
        return got
    return post


def events(got):
    return [json.loads(block.split("data: ", 1)[1]) for block in got.text.replace("\r\n", "\n").split("\n\n")
            if "data: {" in block]


def check_document(document):
    more, depth = document.pop("more"), 0
    while more:
        assert more["sure"] is True
        more, depth = more.get("more"), depth + 1
    assert depth < 10
    assert document == {"city": "echo:" + Q, "days": 3, "unit": "C", "tags": ["echo:G"] * 2, "fixed": {"a": [1]}, "share": 0,
                        "when": "2026-01-31"}


CHAT = {"model": "m", "messages": [{"role": "user", "content": Q}]}
CHAT_TOOLS = [{"type": "function", "function": {"name": n, "parameters": SCHEMA}} for n in ("first", "second")]
RESPONSE_TOOLS = [{"type": "function", "name": n, "parameters": SCHEMA} for n in ("first", "second")]
MESSAGE_TOOLS = [{"name": n, "input_schema": SCHEMA} for n in ("first", "second")]
GEMINI_TOOLS = [{"functionDeclarations": [{"name": n, "parametersJsonSchema": SCHEMA} for n in ("first", "second")]}]
CONTENTS = [{"role": "user", "parts": [{"text": Q}]}]


@pytest.mark.parametrize("choice, name", [(None, "first"), ("auto", "first"), ("required", "first"),
                                          ({"type": "function", "function": {"name": "second"}}, "second"), ("none", None)])
def test_chat_completions_call_the_tool_that_is_chosen(ask, choice, name):
    body = {**CHAT, "tools": CHAT_TOOLS, **({"tool_choice": choice} if choice else {})}
    (whole,) = ask("/v1/chat/completions", body).json()["choices"]
    streamed = [e["choices"][0] for e in events(ask("/v1/chat/completions", {**body, "stream": True}))]
    if not name:
        assert whole["message"]["content"].startswith("echo:" + Q) and "tool_calls" not in whole["message"]
        return
    assert whole["finish_reason"] == streamed[-1]["finish_reason"] == "tool_calls" and whole["message"]["content"] is None
    (call,) = whole["message"]["tool_calls"]
    parts = [e["delta"]["tool_calls"][0] for e in streamed[:-1]]
    assert call["function"]["name"] == parts[0]["function"]["name"] == name
    assert "".join(p["function"]["arguments"] for p in parts) == call["function"]["arguments"] and len(parts) > 10
    check_document(json.loads(call["function"]["arguments"]))


def test_responses_call_a_tool(ask):
    body = {"model": "m", "input": Q, "tools": RESPONSE_TOOLS, "tool_choice": {"type": "function", "name": "second"}}
    (call,) = ask("/v1/responses", body).json()["output"]
    found = events(ask("/v1/responses", {**body, "stream": True}))
    assert (call["type"], call["name"]) == ("function_call", "second") and call["call_id"].startswith("call_")
    pieces = [e["delta"] for e in found if e["type"] == "response.function_call_arguments.delta"]
    assert "".join(pieces) == call["arguments"] == found[-1]["response"]["output"][0]["arguments"]
    assert not [e for e in found if "output_text" in e["type"] or "content_part" in e["type"]]
    check_document(json.loads(call["arguments"]))


def test_messages_call_a_tool(ask):
    body = {"model": "m", "max_tokens": 5, "messages": CHAT["messages"], "tools": MESSAGE_TOOLS, "tool_choice": {"type": "any"}}
    whole = ask("/v1/messages", body).json()
    (call,) = whole["content"]
    found = events(ask("/v1/messages", {**body, "stream": True}))
    assert (call["type"], call["name"], whole["stop_reason"]) == ("tool_use", "first", "tool_use")
    start = next(e for e in found if e["type"] == "content_block_start")["content_block"]
    assert (start["type"], start["name"], start["input"]) == ("tool_use", "first", {})
    assert json.loads("".join(e["delta"].get("partial_json", "") for e in found if e["type"] == "content_block_delta")) == call["input"]
    check_document(call["input"])


def test_generate_content_calls_a_tool(ask):
    config = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["second"]}}
    body = {"contents": CONTENTS, "tools": GEMINI_TOOLS, "toolConfig": config}
    (part,) = ask("/v1beta/models/m:generateContent", body).json()["candidates"][0]["content"]["parts"]
    (streamed,) = events(ask("/v1beta/models/m:streamGenerateContent?alt=sse", body))
    assert part["functionCall"]["name"] == "second" and streamed["candidates"][0]["content"]["parts"] == [part]
    check_document(part["functionCall"]["args"])
    config["functionCallingConfig"]["mode"] = "NONE"
    assert "text" in ask("/v1beta/models/m:generateContent", body).json()["candidates"][0]["content"]["parts"][0]


@pytest.mark.parametrize("path, body, said", [
    ("/v1/chat/completions", {**CHAT, "tools": CHAT_TOOLS, "messages": CHAT["messages"] + [
        {"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "tool_call_id": "1", "content": "found"}]}, "found"),
    ("/v1/responses", {"tools": RESPONSE_TOOLS, "input": [
        {"role": "user", "content": Q}, {"type": "function_call_output", "call_id": "1", "output": "found"}]}, "found"),
    ("/v1/messages", {"tools": MESSAGE_TOOLS, "messages": CHAT["messages"] + [
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "found"}]}]}]},
     "found"),
    ("/v1beta/models/m:generateContent", {"tools": GEMINI_TOOLS, "contents": CONTENTS + [
        {"role": "user", "parts": [{"functionResponse": {"name": "first", "response": {"x": 1}}}]}]}, '{"x": 1}'),
])
def test_after_a_tool_s_result_comes_text_that_echoes_it(ask, path, body, said):
    assert json.dumps(f"echo:{said} ")[1:-1] in ask(path, body).text


@pytest.mark.parametrize("path, more, text, piece", [
    ("/v1/chat/completions", {**CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
     lambda j: j["choices"][0]["message"]["content"], lambda e: e["choices"][0]["delta"].get("content") or ""),
    ("/v1/responses", {"input": Q, "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}},
     lambda j: j["output"][0]["content"][0]["text"], lambda e: e["delta"] if e["type"] == "response.output_text.delta" else ""),
    ("/v1/messages", {"messages": CHAT["messages"], "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
     lambda j: j["content"][0]["text"], lambda e: e["delta"]["text"] if e["type"] == "content_block_delta" else ""),
    ("/v1beta/models/m:generateContent",
     {"contents": CONTENTS, "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA}},
     lambda j: j["candidates"][0]["content"]["parts"][0]["text"], lambda e: e["candidates"][0]["content"]["parts"][0]["text"]),
])
def test_structured_output_fits_its_schema(ask, path, more, text, piece):
    whole = text(ask(path, more).json())
    stream = path.replace(":generateContent", ":streamGenerateContent?alt=sse")
    pieces = [piece(e) for e in events(ask(stream, more if stream != path else {**more, "stream": True}))]
    assert "".join(pieces) == whole and len(pieces) > 10
    check_document(json.loads(whole))


def test_gemini_s_own_schemas_and_json_without_one(ask):
    config = {"responseMimeType": "application/json", "responseSchema": GEMINI}
    got = ask("/v1beta/models/m:generateContent", {"contents": CONTENTS, "generationConfig": config}).json()
    assert json.loads(got["candidates"][0]["content"]["parts"][0]["text"]) == {"city": "echo:" + Q, "n": [1, 1]}
    got = ask("/v1/chat/completions", {**CHAT, "response_format": {"type": "json_object"}}).json()
    assert json.loads(got["choices"][0]["message"]["content"]) == {"text": "echo:" + Q}


def test_a_request_s_limit_cuts_a_document_but_no_tool_s_call(ask):
    limited = {**CHAT, "max_completion_tokens": 2}
    (cut,) = ask("/v1/chat/completions", {**limited, "response_format": {"type": "json_object"}}).json()["choices"]
    assert cut["finish_reason"] == "length" and cut["message"]["content"] == '{"text":"echo:Gr'[:16]
    (whole,) = ask("/v1/chat/completions", {**limited, "tools": CHAT_TOOLS}).json()["choices"]
    assert whole["finish_reason"] == "tool_calls"


def test_a_schema_without_end_is_answered(ask):
    endless = {"type": "object", "properties": {"self": {"$ref": "#"}}, "required": ["self"]}
    nowhere = {"type": "object", "properties": {"x": {"$ref": "#/$defs/none"}}}
    for schema in (endless, nowhere, {}, True, "x"):
        tools = [{"type": "function", "function": {"name": "first", "parameters": schema}}]
        json.loads(ask("/v1/chat/completions", {**CHAT, "tools": tools}).json()["choices"][0]["message"]["tool_calls"][0]
                   ["function"]["arguments"])
