"""The same small tasks with every SDK and library, each written as its own manual shows it. Nothing here knows of Tarry.

A library has `cases`: name -> (number of calls, function of the question); `stream` and `plain`, which make one call that
tarry.capture() may catch; and `load`, which makes the library's own type of an answer's JSON and returns its text."""

import json
import os
import urllib.request

ORIGIN = os.environ.get("MODEL_ORIGIN", "")
MODEL = "a-model"

LIBRARIES = {}


def library(cls):
    made = cls()
    LIBRARIES[made.name] = made
    return cls


def lazily(make):
    """A client made once in a process, when it is first needed."""
    name = "_" + make.__name__

    def get(self):
        if not hasattr(self, name):
            setattr(self, name, make(self))
        return getattr(self, name)

    return property(get)


def asked(q):
    return [{"role": "user", "content": q}]


def forecast(city, days=1):
    """The app's tool: what it finds goes back to the model."""
    return f"sunny in {city} for {days}"


WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}


def trip():
    """A model of pydantic with nested ones: what structured output is asked for as."""
    from typing import List, Literal, Optional

    import pydantic

    class Stop(pydantic.BaseModel):
        place: str
        nights: int

    class Trip(pydantic.BaseModel):
        title: str
        kind: Literal["short", "long"]
        stops: List[Stop]
        note: Optional[str]

    return Trip


BROKEN = {"X-Provider-Fault": "503=none"}
"""Of a client whose every call fails."""


def status_of(call, *arguments):
    """The status with which a call fails, as the library's own exception has it."""
    try:
        call(*arguments)
    except Exception as error:
        for found in (error, getattr(error, "response", None)):
            for name in ("status_code", "code"):
                if isinstance(getattr(found, name, None), int):
                    return {"failed": getattr(found, name), "by": type(error).__name__}
        raise
    return {}


def as_dict(model):
    return {"document": model.model_dump()}


@library
class OpenAI:
    name = "openai"
    packages = ("openai",)

    @lazily
    def client(self):
        import openai

        return openai.OpenAI(api_key="a-key", base_url=ORIGIN + "/v1")

    def plain(self, q):
        return self.client.chat.completions.create(model=MODEL, messages=asked(q))

    def stream(self, q):
        return self.client.chat.completions.create(model=MODEL, messages=asked(q), stream=True)

    def load(self, data):
        from openai.types.chat import ChatCompletion

        return ChatCompletion.model_validate(data).choices[0].message.content

    def chat(self, q):
        return {"text": self.plain(q).choices[0].message.content}

    def chat_stream(self, q):
        return {"text": "".join(chunk.choices[0].delta.content or "" for chunk in self.stream(q) if chunk.choices)}

    TOOLS = [{"type": "function", "function": {"name": "forecast", "parameters": WEATHER, "strict": True}}]

    def chat_tools(self, q):
        messages = asked(q)
        message = self.client.chat.completions.create(model=MODEL, messages=messages, tools=self.TOOLS).choices[0].message
        (call,) = message.tool_calls
        arguments = json.loads(call.function.arguments)
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": forecast(**arguments)}]
        answer = self.client.chat.completions.create(model=MODEL, messages=messages, tools=self.TOOLS)
        return {"tool": call.function.name, "arguments": arguments, "text": answer.choices[0].message.content}

    def chat_tools_stream(self, q):
        with self.client.chat.completions.stream(model=MODEL, messages=asked(q), tools=self.TOOLS) as stream:
            for _ in stream:
                pass
            (call,) = stream.get_final_completion().choices[0].message.tool_calls
        return {"tool": call.function.name, "arguments": json.loads(call.function.arguments)}

    def chat_structured(self, q):
        answer = self.client.chat.completions.parse(model=MODEL, messages=asked(q), response_format=trip())
        return as_dict(answer.choices[0].message.parsed)

    def chat_structured_stream(self, q):
        with self.client.chat.completions.stream(model=MODEL, messages=asked(q), response_format=trip()) as stream:
            for _ in stream:
                pass
            return as_dict(stream.get_final_completion().choices[0].message.parsed)

    def responses(self, q):
        return {"text": self.client.responses.create(model=MODEL, input=q).output_text}

    def responses_stream(self, q):
        events = self.client.responses.create(model=MODEL, input=q, stream=True)
        return {"text": "".join(event.delta for event in events if event.type == "response.output_text.delta")}

    RESPONSE_TOOLS = [{"type": "function", "name": "forecast", "parameters": WEATHER, "strict": True}]

    def responses_tools(self, q):
        asking = [{"role": "user", "content": q}]
        first = self.client.responses.create(model=MODEL, input=asking, tools=self.RESPONSE_TOOLS)
        (call,) = [item for item in first.output if item.type == "function_call"]
        arguments = json.loads(call.arguments)
        asking += [*first.output, {"type": "function_call_output", "call_id": call.call_id, "output": forecast(**arguments)}]
        second = self.client.responses.create(model=MODEL, input=asking, tools=self.RESPONSE_TOOLS)
        return {"tool": call.name, "arguments": arguments, "text": second.output_text}

    def responses_tools_stream(self, q):
        with self.client.responses.stream(model=MODEL, input=q, tools=self.RESPONSE_TOOLS) as stream:
            for _ in stream:
                pass
            (call,) = stream.get_final_response().output
        return {"tool": call.name, "arguments": json.loads(call.arguments)}

    def responses_structured(self, q):
        return as_dict(self.client.responses.parse(model=MODEL, input=q, text_format=trip()).output_parsed)

    def responses_structured_stream(self, q):
        with self.client.responses.stream(model=MODEL, input=q, text_format=trip()) as stream:
            for _ in stream:
                pass
            return as_dict(stream.get_final_response().output_parsed)

    @lazily
    def broken(self):
        import openai

        return openai.OpenAI(api_key="a-key", base_url=ORIGIN + "/v1", default_headers=BROKEN)

    def failing(self, q):
        return status_of(lambda: self.broken.chat.completions.create(model=MODEL, messages=asked(q)))

    def embeddings(self, q):
        data = self.client.embeddings.create(model=MODEL, input=[q, "and more"]).data
        return {"vectors": len(data), "dimensions": len(data[0].embedding)}

    cases = {
        "chat": (1, chat),
        "chat, streamed": (1, chat_stream),
        "chat, tools": (2, chat_tools),
        "chat, tools, streamed": (1, chat_tools_stream),
        "chat, structured": (1, chat_structured),
        "chat, structured, streamed": (1, chat_structured_stream),
        "responses": (1, responses),
        "responses, streamed": (1, responses_stream),
        "responses, tools": (2, responses_tools),
        "responses, tools, streamed": (1, responses_tools_stream),
        "responses, structured": (1, responses_structured),
        "responses, structured, streamed": (1, responses_structured_stream),
        "embeddings": (1, embeddings),
        "a failure": (1, failing),
    }


@library
class Anthropic:
    name = "anthropic"
    packages = ("anthropic",)

    @lazily
    def client(self):
        import anthropic

        return anthropic.Anthropic(api_key="a-key", base_url=ORIGIN)

    def plain(self, q):
        return self.client.messages.create(model=MODEL, max_tokens=1000, messages=asked(q))

    def stream(self, q):
        return self.client.messages.create(model=MODEL, max_tokens=1000, messages=asked(q), stream=True)

    def load(self, data):
        from anthropic.types import Message

        return Message.model_validate(data).content[0].text

    def messages(self, q):
        return {"text": self.plain(q).content[0].text}

    def messages_stream(self, q):
        with self.client.messages.stream(model=MODEL, max_tokens=1000, messages=asked(q)) as stream:
            return {"text": "".join(stream.text_stream)}

    TOOLS = [{"name": "forecast", "description": "The weather to come.", "input_schema": WEATHER}]

    def tools(self, q):
        messages = asked(q)
        first = self.client.messages.create(model=MODEL, max_tokens=1000, messages=messages, tools=self.TOOLS)
        (call,) = [block for block in first.content if block.type == "tool_use"]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": forecast(**call.input)}
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        second = self.client.messages.create(model=MODEL, max_tokens=1000, messages=messages, tools=self.TOOLS)
        return {"tool": call.name, "arguments": call.input, "text": second.content[0].text}

    def tools_stream(self, q):
        with self.client.messages.stream(model=MODEL, max_tokens=1000, messages=asked(q), tools=self.TOOLS) as stream:
            (call,) = stream.get_final_message().content
        return {"tool": call.name, "arguments": call.input}

    def structured(self, q):
        answer = self.client.messages.parse(model=MODEL, max_tokens=1000, messages=asked(q), output_format=trip())
        return as_dict(answer.parsed_output)

    def structured_stream(self, q):
        with self.client.messages.stream(model=MODEL, max_tokens=1000, messages=asked(q), output_format=trip()) as stream:
            return as_dict(stream.get_final_message().parsed_output)

    @lazily
    def broken(self):
        import anthropic

        return anthropic.Anthropic(api_key="a-key", base_url=ORIGIN, default_headers=BROKEN)

    def failing(self, q):
        return status_of(lambda: self.broken.messages.create(model=MODEL, max_tokens=1000, messages=asked(q)))

    cases = {
        "messages": (1, messages),
        "messages, streamed": (1, messages_stream),
        "tools": (2, tools),
        "tools, streamed": (1, tools_stream),
        "structured": (1, structured),
        "structured, streamed": (1, structured_stream),
        "a failure": (1, failing),
    }


@library
class Gemini:
    name = "google-genai"
    packages = ("google-genai",)

    @lazily
    def client(self):
        from google import genai

        return genai.Client(api_key="a-key", http_options={"base_url": ORIGIN})

    def plain(self, q):
        return self.client.models.generate_content(model=MODEL, contents=q)

    def stream(self, q):
        return list(self.client.models.generate_content_stream(model=MODEL, contents=q))

    def load(self, data):
        from google.genai.types import GenerateContentResponse

        return GenerateContentResponse.model_validate(data).text

    def generate(self, q):
        return {"text": self.plain(q).text}

    def generate_stream(self, q):
        return {"text": "".join(chunk.text or "" for chunk in self.stream(q))}

    def _tools(self):
        function = {"name": "forecast", "parameters_json_schema": WEATHER}
        return {"tools": [{"function_declarations": [function]}], "automatic_function_calling": {"disable": True}}

    def tools(self, q):
        from google.genai import types

        contents = [types.Content(role="user", parts=[types.Part(text=q)])]
        first = self.client.models.generate_content(model=MODEL, contents=contents, config=self._tools())
        (call,) = first.function_calls
        found = types.Part.from_function_response(name=call.name, response={"found": forecast(**call.args)})
        contents += [first.candidates[0].content, types.Content(role="user", parts=[found])]
        second = self.client.models.generate_content(model=MODEL, contents=contents, config=self._tools())
        return {"tool": call.name, "arguments": call.args, "text": second.text}

    def tools_automatic(self, q):
        """The SDK runs the function itself and asks again."""
        seen = []

        def weather(city: str, days: int) -> str:
            """The weather to come."""
            seen.append({"city": city, "days": days})
            return forecast(city, days)

        answer = self.client.models.generate_content(model=MODEL, contents=q, config={"tools": [weather]})
        return {"tool": "forecast", "arguments": seen[0], "text": answer.text}

    def tools_stream(self, q):
        chunks = self.client.models.generate_content_stream(model=MODEL, contents=q, config=self._tools())
        (call,) = [call for chunk in chunks for call in chunk.function_calls or []]
        return {"tool": call.name, "arguments": call.args}

    def _structured(self):
        return {"response_mime_type": "application/json", "response_schema": trip()}

    def structured(self, q):
        return as_dict(self.client.models.generate_content(model=MODEL, contents=q, config=self._structured()).parsed)

    def structured_stream(self, q):
        chunks = self.client.models.generate_content_stream(model=MODEL, contents=q, config=self._structured())
        return {"document": json.loads("".join(chunk.text or "" for chunk in chunks))}

    @lazily
    def broken(self):
        from google import genai

        return genai.Client(api_key="a-key", http_options={"base_url": ORIGIN, "headers": BROKEN})

    def failing(self, q):
        return status_of(lambda: self.broken.models.generate_content(model=MODEL, contents=q))

    cases = {
        "generate": (1, generate),
        "generate, streamed": (1, generate_stream),
        "tools": (2, tools),
        "tools, called by the SDK": (2, tools_automatic),
        "tools, streamed": (1, tools_stream),
        "structured": (1, structured),
        "structured, streamed": (1, structured_stream),
        "a failure": (1, failing),
    }


@library
class LangChain:
    name = "langchain-openai"
    packages = ("langchain-openai", "langchain-core")

    @lazily
    def model(self):
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(model=MODEL, api_key="a-key", base_url=ORIGIN + "/v1")

    def plain(self, q):
        return self.model.invoke(q)

    def stream(self, q):
        return list(self.model.stream(q))

    def load(self, data):
        return self.model._create_chat_result(data).generations[0].message.text

    def invoke(self, q):
        return {"text": self.plain(q).text}

    def streamed(self, q):
        return {"text": "".join(chunk.text for chunk in self.stream(q))}

    def tools(self, q):
        from langchain_core.messages import HumanMessage, ToolMessage

        model = self.model.bind_tools(OpenAI.TOOLS)
        messages = [HumanMessage(q)]
        messages.append(model.invoke(messages))
        (call,) = messages[-1].tool_calls
        messages.append(ToolMessage(forecast(**call["args"]), tool_call_id=call["id"]))
        return {"tool": call["name"], "arguments": call["args"], "text": model.invoke(messages).text}

    def tools_stream(self, q):
        whole = None
        for chunk in self.model.bind_tools(OpenAI.TOOLS).stream(q):
            whole = chunk if whole is None else whole + chunk
        (call,) = whole.tool_calls
        return {"tool": call["name"], "arguments": call["args"]}

    def structured(self, q):
        return as_dict(self.model.with_structured_output(trip()).invoke(q))

    def structured_by_tool(self, q):
        return as_dict(self.model.with_structured_output(trip(), method="function_calling").invoke(q))

    def embeddings(self, q):
        from langchain_openai import OpenAIEmbeddings

        # Otherwise it cuts the texts into tokens first, and fetches the tokenizer's tables from elsewhere.
        model = OpenAIEmbeddings(model=MODEL, api_key="a-key", base_url=ORIGIN + "/v1", check_embedding_ctx_length=False)
        found = model.embed_documents([q, "and more"])
        return {"vectors": len(found), "dimensions": len(found[0])}

    @lazily
    def broken(self):
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(model=MODEL, api_key="a-key", base_url=ORIGIN + "/v1", default_headers=BROKEN)

    def failing(self, q):
        return status_of(self.broken.invoke, q)

    cases = {
        "invoke": (1, invoke),
        "streamed": (1, streamed),
        "tools": (2, tools),
        "tools, streamed": (1, tools_stream),
        "structured": (1, structured),
        "structured, by a tool": (1, structured_by_tool),
        "embeddings": (1, embeddings),
        "a failure": (1, failing),
    }


class Http:
    """A plain HTTP library that speaks OpenAI's chat completions by itself."""

    URL = ORIGIN + "/v1/chat/completions"
    HEADERS = {"Authorization": "Bearer a-key", "Content-Type": "application/json"}

    def body(self, q, stream=False):
        return {"model": MODEL, "messages": asked(q), "stream": stream}

    def load(self, data):
        return data["choices"][0]["message"]["content"]

    def of_lines(self, lines):
        """The text of an event stream's lines."""
        found = []
        for line in lines:
            line = line.decode() if isinstance(line, bytes) else line
            if line.startswith("data: {"):
                found += [c["delta"].get("content") or "" for c in json.loads(line[6:])["choices"]]
        return {"text": "".join(found)}

    def whole(self, q):
        return {"text": self.load(self.plain(q))}

    def streamed(self, q):
        return self.of_lines(self.stream(q))

    def failing(self, q):
        return status_of(self.plain, q, BROKEN)

    def three(self, q):
        """Three calls in sequence, each asks about the answer before."""
        text = q
        for _ in range(3):
            text = self.load(self.plain(text)).split(":", 1)[1].split()[0]
        return {"last": text}

    cases = {"whole": (1, whole), "streamed": (1, streamed), "three in sequence": (3, three), "a failure": (1, failing)}


@library
class Requests(Http):
    name = "requests"
    packages = ("requests", "urllib3")

    @lazily
    def session(self):
        import requests

        return requests.Session()

    def plain(self, q, more=None):
        answer = self.session.post(self.URL, json=self.body(q), headers={**self.HEADERS, **(more or {})}, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def stream(self, q):
        with self.session.post(self.URL, json=self.body(q, True), headers=self.HEADERS, stream=True, timeout=30) as answer:
            return list(answer.iter_lines())


@library
class Urllib3(Http):
    name = "urllib3"
    packages = ("urllib3",)

    @lazily
    def pool(self):
        import urllib3

        return urllib3.PoolManager(retries=urllib3.Retry(2))

    def plain(self, q, more=None):
        headers = {**self.HEADERS, **(more or {})}
        answer = self.pool.request("POST", self.URL, body=json.dumps(self.body(q)), headers=headers)
        if answer.status != 200:  # it raises nothing by itself
            raise urllib.request.HTTPError(self.URL, answer.status, answer.reason, answer.headers, None)
        return json.loads(answer.data)

    def stream(self, q):
        answer = self.pool.request(
            "POST", self.URL, body=json.dumps(self.body(q, True)), headers=self.HEADERS, preload_content=False
        )
        data = b"".join(answer.stream(100))
        answer.release_conn()
        return data.splitlines()


class LikeHttpx(Http):
    @lazily
    def client(self):
        import importlib

        return importlib.import_module(self.name).Client(timeout=30, trust_env=False)

    def plain(self, q, more=None):
        answer = self.client.post(self.URL, json=self.body(q), headers={**self.HEADERS, **(more or {})})
        return answer.raise_for_status().json()

    def stream(self, q):
        with self.client.stream("POST", self.URL, json=self.body(q, True), headers=self.HEADERS) as answer:
            return list(answer.iter_lines())


@library
class Httpx(LikeHttpx):
    name = "httpx"
    packages = ("httpx", "httpcore")


@library
class Httpx2(LikeHttpx):
    name = "httpx2"
    packages = ("httpx2", "httpcore2")


@library
class Urllib(Http):
    name = "urllib.request"
    packages = ()

    def _open(self, body, more=None):
        headers = {**self.HEADERS, **(more or {})}
        return urllib.request.urlopen(urllib.request.Request(self.URL, json.dumps(body).encode(), headers), timeout=30)

    def plain(self, q, more=None):
        with self._open(self.body(q), more) as answer:
            return json.load(answer)

    def stream(self, q):
        with self._open(self.body(q, True)) as answer:
            return list(answer)
