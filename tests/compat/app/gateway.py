"""Unmodified SDKs at gateway routes: `gateway.py SDK BASE-URL` makes each call once and prints a JSON line for each.

A request names its case in X-Provider-Key, so that the stand-in's record can be told apart. gateway.mjs is the same in
JavaScript."""

import io
import json
import os
import sys
import time

ASKED = [{"role": "user", "content": "Why?"}]
WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
BYTES = b'{"custom_id": "one", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": []}}\n' * 3
FAULTS = {"401": "401", "429": "429=none", "500": "500", "overloaded": "503=none"}
LONG = {"X-Provider-Pace": "20ms", "X-Provider-Tokens": "3000"}


def headers_of(sdk, case, more=()):
    fault = {"X-Provider-Fault": FAULTS[case]} if case in FAULTS else {}
    return {"X-Provider-Key": f"{sdk}/python/{case}", **fault, **dict(more)}


def failure(call):
    """What the SDK makes of a failure: its own exception, with the status, and the id of the request where it has one."""
    try:
        call()
    except Exception as error:
        status = getattr(error, "status_code", None) or getattr(error, "code", None)
        return {"by": type(error).__name__, "status": status, "id": bool(getattr(error, "request_id", None)),
                "code": str(getattr(error, "code", None))}
    return {"by": None}


class OpenAI:
    def __init__(self, url):
        import openai

        self.made = lambda case, **more: openai.OpenAI(base_url=url + "/v1", api_key="-", default_headers=headers_of("openai", case, **more))

    def answer(self, case):
        return self.made(case).chat.completions.create(model="m", messages=ASKED).choices[0].message.content

    def streamed(self, case):
        stream = self.made(case).chat.completions.create(model="m", messages=ASKED, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    def tools(self, case):
        tools = [{"type": "function", "function": {"name": "forecast", "parameters": WEATHER}}]
        client, messages = self.made(case), list(ASKED)
        message = client.chat.completions.create(model="m", messages=messages, tools=tools).choices[0].message
        messages += [message, {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}]
        return client.chat.completions.create(model="m", messages=messages, tools=tools).choices[0].message.content

    def responses(self, case):
        return self.made(case).responses.create(model="m", input="Why?").output_text

    def responses_streamed(self, case):
        events = self.made(case).responses.create(model="m", input="Why?", stream=True)
        return "".join(event.delta for event in events if event.type == "response.output_text.delta")

    def embeddings(self, case):
        return [len(e.embedding) for e in self.made(case).embeddings.create(model="m", input=["a", "b"]).data]

    def files(self, case):
        client = self.made(case)
        made = client.files.create(file=("in.jsonl", io.BytesIO(BYTES)), purpose="batch")
        assert client.files.retrieve(made.id).filename == "in.jsonl"
        same = client.files.content(made.id).read() == BYTES
        return same and client.files.delete(made.id).deleted

    def batch(self, case):
        client = self.made(case)
        given = client.files.create(file=("in.jsonl", io.BytesIO(BYTES)), purpose="batch")
        batch = client.batches.create(input_file_id=given.id, endpoint="/v1/chat/completions", completion_window="24h")
        batch = client.batches.retrieve(batch.id)
        lines = client.files.content(batch.output_file_id).text.splitlines()
        return [json.loads(line)["response"]["body"]["choices"][0]["message"]["content"] for line in lines]

    def fails(self, case):
        return failure(lambda: self.made(case).chat.completions.create(model="m", messages=ASKED))

    def error_event(self, case):
        client = self.made(case, more={"X-Provider-Fault": "error-event=5"})
        return failure(lambda: list(client.chat.completions.create(model="m", messages=ASKED, stream=True)))

    def cancelled(self, case):
        with self.made(case, more=LONG).chat.completions.create(model="m", messages=ASKED, stream=True) as stream:
            next(iter(stream))
        return "left"

    def realtime(self, case):
        with self.made(case).with_options(base_url=os.environ["REALTIME"]).realtime.connect(model="m") as connection:
            connection.session.update(session={"type": "realtime"})
            connection.response.create()
            said = []
            for event in connection:
                said.append(event.type)
                if event.type == "response.done":
                    return said

    cases = {"answer": answer, "answer, streamed": streamed, "tools": tools, "responses": responses, "realtime": realtime,
             "responses, streamed": responses_streamed, "embeddings": embeddings, "files": files, "batch": batch, "401": fails,
             "429": fails, "500": fails, "overloaded": fails, "error in a stream": error_event, "cancelled": cancelled}


class Anthropic:
    def __init__(self, url):
        import anthropic

        self.made = lambda case, **more: anthropic.Anthropic(base_url=url, api_key="-", default_headers=headers_of("anthropic", case, **more))

    def ask(self, client, **more):
        return client.messages.create(model="m", max_tokens=99, messages=more.pop("messages", ASKED), **more)

    def answer(self, case):
        return self.ask(self.made(case)).content[0].text

    def streamed(self, case):
        with self.made(case).messages.stream(model="m", max_tokens=99, messages=ASKED) as stream:
            return "".join(stream.text_stream)

    def tools(self, case):
        tools = [{"name": "forecast", "input_schema": WEATHER}]
        client, first = self.made(case), None
        first = self.ask(client, tools=tools)
        result = {"type": "tool_result", "tool_use_id": first.content[0].id, "content": "sunny"}
        messages = [*ASKED, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        return self.ask(client, tools=tools, messages=messages).content[0].text

    def count(self, case):
        return self.made(case).messages.count_tokens(model="m", messages=ASKED).input_tokens > 0

    def files(self, case):
        client = self.made(case)
        made = client.beta.files.upload(file=("in.txt", io.BytesIO(BYTES), "text/plain"))
        assert client.beta.files.retrieve_metadata(made.id).filename == "in.txt"
        same = client.beta.files.download(made.id).read() == BYTES
        return same and client.beta.files.delete(made.id).type == "file_deleted"

    def batch(self, case):
        client = self.made(case)
        params = {"model": "m", "max_tokens": 9, "messages": ASKED}
        batch = client.messages.batches.create(requests=[{"custom_id": name, "params": params} for name in ("one", "two")])
        assert client.messages.batches.retrieve(batch.id).processing_status == "ended"
        return [line.result.message.content[0].text for line in client.messages.batches.results(batch.id)]

    def fails(self, case):
        more = {"X-Provider-Fault": "529=none"} if case == "overloaded" else ()
        return failure(lambda: self.ask(self.made(case, more=more)))

    def error_event(self, case):
        client = self.made(case, more={"X-Provider-Fault": "error-event=5"})
        return failure(lambda: list(self.ask(client, stream=True)))

    def cancelled(self, case):
        with self.made(case, more=LONG).messages.stream(model="m", max_tokens=9999, messages=ASKED) as stream:
            next(iter(stream.text_stream))
        return "left"

    cases = {"answer": answer, "answer, streamed": streamed, "tools": tools, "token count": count, "files": files, "batch": batch,
             "401": fails, "429": fails, "500": fails, "overloaded": fails, "error in a stream": error_event, "cancelled": cancelled}


class Gemini:
    def __init__(self, url):
        from google import genai

        self.made = lambda case, **more: genai.Client(api_key="-", http_options={
            "base_url": url, "headers": headers_of("google-genai", case, **more)})

    def answer(self, case):
        client = self.made(case)
        return client.models.generate_content(model="m", contents="Why?").text

    def streamed(self, case):
        client = self.made(case)
        return "".join(chunk.text or "" for chunk in client.models.generate_content_stream(model="m", contents="Why?"))

    def tools(self, case):
        def forecast(city: str) -> str:
            """The weather in a city."""
            return "sunny"

        client = self.made(case)
        return client.models.generate_content(model="m", contents="Why?", config={"tools": [forecast]}).text

    def embeddings(self, case):
        client = self.made(case)
        return [len(e.values) for e in client.models.embed_content(model="m", contents=["a", "b"]).embeddings]

    def count(self, case):
        client = self.made(case)
        return client.models.count_tokens(model="m", contents="Why?").total_tokens > 0

    def files(self, case):
        client = self.made(case)
        made = client.files.upload(file=io.BytesIO(BYTES), config={"mime_type": "text/plain", "display_name": "in"})
        assert client.files.get(name=made.name).size_bytes == len(BYTES)
        same = client.files.download(file=made.name) == BYTES
        client.files.delete(name=made.name)
        return same

    def batch(self, case):
        client = self.made(case)
        asked = {"contents": [{"role": "user", "parts": [{"text": "Why?"}]}]}
        batch = client.batches.create(model="m", src=[asked, asked])
        batch = client.batches.get(name=batch.name)
        return [done.response.text for done in batch.dest.inlined_responses]

    def fails(self, case):
        client = self.made(case)
        return failure(lambda: client.models.generate_content(model="m", contents="Why?"))

    def cancelled(self, case):
        client = self.made(case, more=LONG)
        stream = client.models.generate_content_stream(model="m", contents="Why?")
        next(stream)
        stream.close()
        client.close()
        return "left"

    cases = {"answer": answer, "answer, streamed": streamed, "tools": tools, "embeddings": embeddings, "token count": count,
             "files": files, "batch": batch, "401": fails, "429": fails, "500": fails, "overloaded": fails, "cancelled": cancelled}


SDKS = {"openai": OpenAI, "anthropic": Anthropic, "google-genai": Gemini}


def main():
    sdk = SDKS[sys.argv[1]](sys.argv[2])
    for case, run in sdk.cases.items():
        began = time.monotonic()
        try:
            said = {"result": run(sdk, case)}
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"case": case, "seconds": round(time.monotonic() - began, 2), **said}), flush=True)
    sys.stdin.read()  # a call that was cancelled must end by that, not by the end of this program


if __name__ == "__main__":
    main()
