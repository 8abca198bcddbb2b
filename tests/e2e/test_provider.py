"""The stand-in for the AI services against its manual: tools and structured output, whole and streamed. That the real SDKs
understand it is shown by tests/compat."""

import json
import struct
import urllib.parse
import zlib

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


def frames(raw):
    """The events of application/vnd.amazon.eventstream: (type, payload), with their checksums checked."""
    found = []
    while raw:
        total, headers_n, prelude = struct.unpack(">III", raw[:12])
        frame, raw = raw[:total], raw[total:]
        assert len(frame) == total and zlib.crc32(frame[:8]) == prelude and zlib.crc32(frame[:-4]) == struct.unpack(">I", frame[-4:])[0]
        headers, fields = frame[12:12 + headers_n], {}
        while headers:
            n = headers[0]
            assert headers[1 + n] == 7
            (m,) = struct.unpack(">H", headers[2 + n:4 + n])
            fields[headers[1:1 + n].decode()] = headers[4 + n:4 + n + m].decode()
            headers = headers[4 + n + m:]
        assert fields[":message-type"] == "event" and fields[":content-type"] == "application/json"
        found.append((fields[":event-type"], json.loads(frame[12 + headers_n:-4])))
    return found


def test_bedrock_converses(ask):
    said = {"messages": [{"role": "user", "content": [{"text": Q}]}]}
    whole = ask("/model/m%3A0/converse", said).json()
    found = frames(ask("/model/m%3A0/converse-stream", said).body)
    assert [kind for kind, _ in found if kind != "contentBlockDelta"] == ["messageStart", "contentBlockStop", "messageStop", "metadata"]
    text = "".join(data["delta"]["text"] for kind, data in found if kind == "contentBlockDelta")
    assert text == whole["output"]["message"]["content"][0]["text"] and text.startswith("echo:" + Q)
    said["toolConfig"] = {"tools": [{"toolSpec": {"name": "first", "inputSchema": {"json": SCHEMA}}}]}
    whole = ask("/model/m/converse", said).json()
    found = frames(ask("/model/m/converse-stream", said).body)
    call = whole["output"]["message"]["content"][0]["toolUse"]
    pieces = [data["delta"]["toolUse"]["input"] for kind, data in found if kind == "contentBlockDelta"]
    assert whole["stopReason"] == "tool_use" and json.loads("".join(pieces)) == call["input"] and len(pieces) > 10
    check_document(call["input"])


def test_cohere_chats(ask):
    said = {"model": "m", "messages": [{"role": "user", "content": Q}]}
    whole = ask("/v2/chat", said).json()
    found = events(ask("/v2/chat", {**said, "stream": True}))
    assert found[0]["type"] == "message-start" and found[-1]["type"] == "message-end"
    text = "".join(e["delta"]["message"]["content"]["text"] for e in found if e["type"] == "content-delta")
    assert text == whole["message"]["content"][0]["text"] and text.startswith("echo:" + Q)
    tools = {**said, "tools": CHAT_TOOLS}
    call = ask("/v2/chat", tools).json()["message"]["tool_calls"][0]["function"]
    found = events(ask("/v2/chat", {**tools, "stream": True}))
    pieces = [e["delta"]["message"]["tool_calls"]["function"]["arguments"] for e in found if e["type"] == "tool-call-delta"]
    assert "".join(pieces) == call["arguments"]
    check_document(json.loads(call["arguments"]))


def test_ollama_chats_without_a_key_an_object_a_line(bed):
    provider = bed.provider(https=False)

    def ask(**more):
        body = {"model": "m", "messages": [{"role": "user", "content": Q}], **more}
        got = request(provider.http, "POST", "/api/chat", {}, json.dumps(body).encode())
        assert got.status == 200, got
        return [json.loads(line) for line in got.text.splitlines()]

    (whole,) = ask(stream=False)
    parts = ask()
    assert [part["done"] for part in parts] == [False] * (len(parts) - 1) + [True] and whole["done"] and len(parts) > 10
    assert "".join(part["message"]["content"] for part in parts) == whole["message"]["content"]
    assert whole["message"]["content"].startswith("echo:" + Q)
    (whole,), parts = ask(stream=False, tools=CHAT_TOOLS), ask(tools=CHAT_TOOLS)
    assert parts[0]["message"] == whole["message"] and len(parts) == 2
    check_document(whole["message"]["tool_calls"][0]["function"]["arguments"])
    check_document(json.loads(ask(stream=False, format=SCHEMA)[0]["message"]["content"]))


def test_a_prediction_is_there_at_once_or_at_the_second_look(bed):
    provider = bed.provider(https=False, args=["--no-auth"])

    def ask(method, path, body=None, **headers):
        got = request(provider.http, method, path, headers, json.dumps(body).encode() if body else None)
        assert got.status == 200, got
        return got.json()

    path, body = "/v1/models/a/model/predictions", {"input": {"prompt": Q}}
    now = ask("POST", path, body, Prefer="wait=60")
    later = ask("POST", path, body)
    assert now["status"] == "succeeded" and later["status"] == "processing" and later["output"] is None
    later = ask("GET", f"/v1/predictions/{later['id']}")
    assert later["status"] == "processing"
    later = ask("GET", f"/v1/predictions/{later['id']}")
    assert later["status"] == "succeeded" and later["output"] == now["output"] and "".join(now["output"]).startswith("echo:" + Q)
    assert request(provider.http, "GET", "/v1/predictions/x").status == 404


def test_a_charge_has_what_its_form_said(bed):
    provider = bed.provider(https=False, args=["--no-auth"])
    body = urllib.parse.urlencode({"amount": 100, "currency": "eur", "description": Q, "metadata[a]": "b", "empty": ""}).encode()
    made = [request(provider.http, "POST", "/v1/payment_intents", {}, body).json() for _ in range(2)]
    assert made[0]["id"] != made[1]["id"]
    for one in made:
        assert (one["object"], one["amount"], one["currency"], one["description"], one["empty"]) == ("payment_intent", 100, "eur", Q, "")


def test_old_completions_are_echoed(ask):
    (choice,) = ask("/v1/completions", {"model": "m", "prompt": Q}).json()["choices"]
    assert choice["text"].startswith("echo:" + Q) and choice["finish_reason"] == "stop"


@pytest.mark.parametrize("path", ["/model/m/converse", "/v2/chat", "/api/chat", "/v1/predictions", "/v1/payment_intents"])
def test_the_other_services_fail_in_json(bed, path):
    provider = bed.provider(https=False, args=["--no-auth"])
    got = request(provider.http, "POST", path, {"X-Provider-Fault": "503=none"}, b"{}")
    assert got.status == 503 and got.json()
    assert request(provider.http, "PUT", path, {}, b"{}").status == 405
