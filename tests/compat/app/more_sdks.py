"""The same small tasks with more libraries, each written as its own manual shows it. Nothing here knows of Tarry.

They are too many for one environment with those of sdks.py, so they are run under gunicorn's hook alone. A library has `cases`:
name -> (number of calls, function of the question), as in sdks.py; `again`: the cases in which a view cannot be suspended, each with
the reason; and `note`, for the page."""

import json
import os

from sdks import BROKEN, MODEL, ORIGIN, WEATHER, OpenAI, as_dict, asked, forecast, lazily, status_of, trip

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # no table of prices from elsewhere at import

MORE = {}


def library(cls):
    made = cls()
    MORE[made.name] = made
    return cls


def called(name, arguments, text):
    return {"tool": name, "arguments": arguments, "text": text}


@library
class LiteLLM:
    name = "litellm"
    packages = ("litellm",)
    HOW = dict(model="openai/" + MODEL, api_key="a-key", api_base=ORIGIN + "/v1")

    def ask(self, messages, **more):
        import litellm

        return litellm.completion(messages=messages, **{**self.HOW, **more})

    def completion(self, q):
        return {"text": self.ask(asked(q)).choices[0].message.content}

    def streamed(self, q):
        return {"text": "".join(chunk.choices[0].delta.content or "" for chunk in self.ask(asked(q), stream=True))}

    def anthropic(self, q):
        answer = self.ask(asked(q), model="anthropic/" + MODEL, api_base=ORIGIN, max_tokens=1000)
        return {"text": answer.choices[0].message.content}

    def tools(self, q):
        messages = asked(q)
        message = self.ask(messages, tools=OpenAI.TOOLS).choices[0].message
        (call,) = message.tool_calls
        arguments = json.loads(call.function.arguments)
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": forecast(**arguments)}]
        answer = self.ask(messages, tools=OpenAI.TOOLS)
        return called(call.function.name, arguments, answer.choices[0].message.content)

    def embeddings(self, q):
        import litellm

        data = litellm.embedding(input=[q, "and more"], **self.HOW).data
        return {"vectors": len(data), "dimensions": len(data[0]["embedding"])}

    def failing(self, q):
        return status_of(lambda: self.ask(asked(q), extra_headers=BROKEN))

    cases = {
        "completion": (1, completion),
        "streamed": (1, streamed),
        "Anthropic": (1, anthropic),
        "tools": (2, tools),
        "embeddings": (1, embeddings),
        "a failure": (1, failing),
    }


@library
class PydanticAI:
    name = "pydantic-ai"
    packages = ("pydantic-ai-slim",)

    def agent(self, headers=None, **more):
        """A client of its own: it keeps connections, and each request may run in another event loop."""
        import openai
        from pydantic_ai import Agent
        from pydantic_ai.models.openai import OpenAIChatModel
        from pydantic_ai.providers.openai import OpenAIProvider

        client = openai.AsyncOpenAI(api_key="a-key", base_url=ORIGIN + "/v1", default_headers=headers)
        return Agent(OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=client)), **more)

    def run(self, q):
        return {"text": self.agent().run_sync(q).output}

    def streamed(self, q):
        return {"text": self.agent().run_stream_sync(q).get_output()}

    def tools(self, q):
        seen = []
        agent = self.agent()

        @agent.tool_plain(name="forecast")
        def weather(city: str, days: int) -> str:
            """The weather to come."""
            seen.append({"city": city, "days": days})
            return forecast(city, days)

        text = agent.run_sync(q).output
        return called("forecast", seen[-1], text)

    def structured(self, q):
        return as_dict(self.agent(output_type=trip()).run_sync(q).output)

    def failing(self, q):
        return status_of(self.agent(headers=BROKEN).run_sync, q)

    cases = {
        "run_sync": (1, run),
        "streamed": (1, streamed),
        "tools": (2, tools),
        "structured": (1, structured),
        "a failure": (1, failing),
    }


@library
class Instructor:
    name = "instructor"
    packages = ("instructor",)

    @lazily
    def client(self):
        import instructor
        import openai

        return instructor.from_openai(openai.OpenAI(api_key="a-key", base_url=ORIGIN + "/v1"))

    @lazily
    def anthropic_client(self):
        import anthropic
        import instructor

        return instructor.from_anthropic(anthropic.Anthropic(api_key="a-key", base_url=ORIGIN))

    def structured(self, q):
        return as_dict(self.client.chat.completions.create(model=MODEL, messages=asked(q), response_model=trip()))

    def anthropic(self, q):
        client = self.anthropic_client
        return as_dict(client.messages.create(model=MODEL, max_tokens=1000, messages=asked(q), response_model=trip()))

    def partial(self, q):
        last = None
        for last in self.client.chat.completions.create_partial(model=MODEL, messages=asked(q), response_model=trip()):
            pass
        return as_dict(last)

    cases = {"structured": (1, structured), "structured, streamed": (1, partial), "Anthropic, structured": (1, anthropic)}


@library
class LangGraph:
    name = "langgraph"
    packages = ("langgraph", "langchain-openai")

    @lazily
    def model(self):
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(model=MODEL, api_key="a-key", base_url=ORIGIN + "/v1")

    def _graph(self):
        from langgraph.graph import END, START, MessagesState, StateGraph
        from langgraph.prebuilt import ToolNode, tools_condition

        def weather(city: str, days: int) -> str:
            """The weather to come."""
            return forecast(city, days)

        weather.__name__ = "forecast"
        model = self.model.bind_tools([weather])
        graph = StateGraph(MessagesState)
        graph.add_node("agent", lambda state: {"messages": [model.invoke(state["messages"])]})
        graph.add_node("tools", ToolNode([weather]))
        graph.add_edge(START, "agent")
        graph.add_conditional_edges("agent", tools_condition, {"tools": "tools", END: END})
        graph.add_edge("tools", "agent")
        return graph.compile()

    def agent(self, q):
        messages = self._graph().invoke({"messages": [("user", q)]})["messages"]
        (call,) = messages[1].tool_calls
        return called(call["name"], call["args"], messages[-1].text)

    def fan_out(self, q):
        """Two nodes side by side, and one that joins them."""
        from typing import TypedDict

        from langgraph.graph import END, START, StateGraph

        class State(TypedDict):
            one: str
            two: str
            text: str

        graph = StateGraph(State)
        graph.add_node("a", lambda state: {"one": self.model.invoke(q).text})
        graph.add_node("b", lambda state: {"two": self.model.invoke(q + " b").text})
        graph.add_node("c", lambda state: {"text": state["one"] if state["two"].startswith(f"echo:{q} b") else ""})
        for edge in ((START, "a"), (START, "b"), ("a", "c"), ("b", "c"), ("c", END)):
            graph.add_edge(*edge)
        return {"text": graph.compile().invoke({})["text"]}

    cases = {"agent with a tool": (2, agent), "nodes side by side": (2, fan_out)}
    again = {"nodes side by side": "its calls are made in threads"}


@library
class LlamaIndex:
    name = "llama-index"
    packages = ("llama-index-core", "llama-index-llms-openai")

    def model(self, **more):
        from llama_index.llms.openai import OpenAI as Model

        return Model(model="gpt-4o-mini", api_key="a-key", api_base=ORIGIN + "/v1", max_retries=0, **more)

    def complete(self, q):
        return {"text": self.model().complete(q).text}

    def chat(self, q):
        from llama_index.core.llms import ChatMessage

        return {"text": self.model().chat([ChatMessage(role="user", content=q)]).message.content}

    def streamed(self, q):
        return {"text": "".join(part.delta or "" for part in self.model().stream_complete(q))}

    def structured(self, q):
        from llama_index.core.prompts import PromptTemplate

        return as_dict(self.model().structured_predict(trip(), PromptTemplate("{q}"), q=q))

    def failing(self, q):
        return status_of(self.model(default_headers=BROKEN).complete, q)

    cases = {
        "complete": (1, complete),
        "chat": (1, chat),
        "streamed": (1, streamed),
        "structured": (1, structured),
        "a failure": (1, failing),
    }


@library
class OpenAIAgents:
    name = "openai-agents"
    packages = ("openai-agents",)

    def agent(self, api="chat", headers=None, **more):
        import openai
        from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, set_tracing_disabled

        set_tracing_disabled(True)
        client = openai.AsyncOpenAI(api_key="a-key", base_url=ORIGIN + "/v1", default_headers=headers)
        model = (OpenAIChatCompletionsModel if api == "chat" else OpenAIResponsesModel)(MODEL, client)
        return Agent(name="an agent", model=model, **more)

    def run(self, q):
        from agents import Runner

        return {"text": Runner.run_sync(self.agent(), q).final_output}

    def responses(self, q):
        from agents import Runner

        return {"text": Runner.run_sync(self.agent("responses"), q).final_output}

    def tools(self, q):
        from agents import Runner, function_tool

        seen = []

        @function_tool(name_override="forecast")
        def weather(city: str, days: int) -> str:
            """The weather to come."""
            seen.append({"city": city, "days": days})
            return forecast(city, days)

        text = Runner.run_sync(self.agent(tools=[weather]), q).final_output
        return called("forecast", seen[-1], text)

    def handoff(self, q):
        """One agent gives the question to another one, by a tool's call."""
        from agents import Runner

        other = self.agent()
        other.name = "other"
        first = self.agent(handoffs=[other])
        result = Runner.run_sync(first, q)
        assert result.last_agent.name == "other"
        return {"text": "echo:" + q + " " if result.final_output.startswith("echo:") else result.final_output}

    def failing(self, q):
        from agents import Runner

        return status_of(Runner.run_sync, self.agent(headers=BROKEN), q)

    cases = {
        "run_sync": (1, run),
        "run_sync, responses": (1, responses),
        "tools": (2, tools),
        "handoff": (2, handoff),
        "a failure": (1, failing),
    }


@library
class Mistral:
    name = "mistralai"
    packages = ("mistralai",)

    @lazily
    def client(self):
        from mistralai.client import Mistral as Client

        return Client(api_key="a-key", server_url=ORIGIN)

    def complete(self, q):
        return {"text": self.client.chat.complete(model=MODEL, messages=asked(q)).choices[0].message.content}

    def streamed(self, q):
        with self.client.chat.stream(model=MODEL, messages=asked(q)) as events:
            return {"text": "".join(event.data.choices[0].delta.content or "" for event in events)}

    TOOLS = [{"type": "function", "function": {"name": "forecast", "parameters": WEATHER}}]

    def tools(self, q):
        messages = asked(q)
        message = self.client.chat.complete(model=MODEL, messages=messages, tools=self.TOOLS).choices[0].message
        (call,) = message.tool_calls
        arguments = json.loads(call.function.arguments)
        messages += [message, {"role": "tool", "tool_call_id": call.id, "name": "forecast", "content": forecast(**arguments)}]
        answer = self.client.chat.complete(model=MODEL, messages=messages, tools=self.TOOLS)
        return called(call.function.name, arguments, answer.choices[0].message.content)

    def failing(self, q):
        return status_of(lambda: self.client.chat.complete(model=MODEL, messages=asked(q), http_headers=BROKEN))

    cases = {"complete": (1, complete), "streamed": (1, streamed), "tools": (2, tools), "a failure": (1, failing)}


@library
class Groq:
    name = "groq"
    packages = ("groq",)

    @lazily
    def client(self):
        import groq

        return groq.Groq(api_key="a-key", base_url=ORIGIN)

    def ask(self, messages, **more):
        return self.client.chat.completions.create(model=MODEL, messages=messages, **more)

    def chat(self, q):
        return {"text": self.ask(asked(q)).choices[0].message.content}

    def streamed(self, q):
        return {"text": "".join(chunk.choices[0].delta.content or "" for chunk in self.ask(asked(q), stream=True))}

    def tools(self, q):
        messages = asked(q)
        message = self.ask(messages, tools=Mistral.TOOLS).choices[0].message
        (call,) = message.tool_calls
        arguments = json.loads(call.function.arguments)
        messages += [message, {"role": "tool", "tool_call_id": call.id, "content": forecast(**arguments)}]
        return called(call.function.name, arguments, self.ask(messages, tools=Mistral.TOOLS).choices[0].message.content)

    def failing(self, q):
        return status_of(lambda: self.ask(asked(q), extra_headers=BROKEN))

    cases = {"chat": (1, chat), "streamed": (1, streamed), "tools": (2, tools), "a failure": (1, failing)}


@library
class Cohere:
    name = "cohere"
    packages = ("cohere",)

    @lazily
    def client(self):
        import cohere

        return cohere.ClientV2(api_key="a-key", base_url=ORIGIN)

    def chat(self, q):
        return {"text": self.client.chat(model=MODEL, messages=asked(q)).message.content[0].text}

    def streamed(self, q):
        events = self.client.chat_stream(model=MODEL, messages=asked(q))
        return {"text": "".join(event.delta.message.content.text for event in events if event.type == "content-delta")}

    def tools(self, q):
        messages = asked(q)
        message = self.client.chat(model=MODEL, messages=messages, tools=Mistral.TOOLS).message
        (call,) = message.tool_calls
        arguments = json.loads(call.function.arguments)
        messages += [{"role": "assistant", "tool_plan": message.tool_plan, "tool_calls": message.tool_calls},
                     {"role": "tool", "tool_call_id": call.id, "content": forecast(**arguments)}]
        answer = self.client.chat(model=MODEL, messages=messages, tools=Mistral.TOOLS)
        return called(call.function.name, arguments, answer.message.content[0].text)

    def failing(self, q):
        options = {"additional_headers": BROKEN}
        return status_of(lambda: self.client.chat(model=MODEL, messages=asked(q), request_options=options))

    note = "tries twice more by itself what has failed"
    cases = {"chat": (1, chat), "streamed": (1, streamed), "tools": (2, tools), "a failure": (3, failing)}


@library
class Bedrock:
    name = "boto3, bedrock-runtime"
    packages = ("boto3", "botocore")

    def make(self):
        import boto3

        return boto3.client("bedrock-runtime", endpoint_url=ORIGIN, region_name="us-east-1",
                            aws_access_key_id="an-id", aws_secret_access_key="a-key")

    @lazily
    def client(self):
        return self.make()

    def said(self, q):
        return [{"role": "user", "content": [{"text": q}]}]

    def converse(self, q):
        answer = self.client.converse(modelId=MODEL, messages=self.said(q))
        return {"text": answer["output"]["message"]["content"][0]["text"]}

    def streamed(self, q):
        events = self.client.converse_stream(modelId=MODEL, messages=self.said(q))["stream"]
        return {"text": "".join(e["contentBlockDelta"]["delta"]["text"] for e in events if "contentBlockDelta" in e)}

    TOOLS = {"tools": [{"toolSpec": {"name": "forecast", "description": "The weather to come.", "inputSchema": {"json": WEATHER}}}]}

    def tools(self, q):
        messages = self.said(q)
        message = self.client.converse(modelId=MODEL, messages=messages, toolConfig=self.TOOLS)["output"]["message"]
        (call,) = [part["toolUse"] for part in message["content"] if "toolUse" in part]
        result = {"toolUseId": call["toolUseId"], "content": [{"text": forecast(**call["input"])}]}
        messages += [message, {"role": "user", "content": [{"toolResult": result}]}]
        answer = self.client.converse(modelId=MODEL, messages=messages, toolConfig=self.TOOLS)
        return called(call["name"], call["input"], answer["output"]["message"]["content"][0]["text"])

    @lazily
    def broken(self):
        client = self.make()
        client.meta.events.register("before-call.bedrock-runtime.*", lambda params, **_: params["headers"].update(BROKEN))
        return client

    def failing(self, q):
        from botocore.exceptions import ClientError

        try:
            self.broken.converse(modelId=MODEL, messages=self.said(q))
        except ClientError as error:
            return {"failed": error.response["ResponseMetadata"]["HTTPStatusCode"], "by": type(error).__name__}

    note = "tries twice more by itself what has failed"
    cases = {"converse": (1, converse), "converse, streamed": (1, streamed), "tools": (2, tools), "a failure": (3, failing)}


@library
class Ollama:
    name = "ollama"
    packages = ("ollama",)

    @lazily
    def client(self):
        import ollama

        return ollama.Client(host=ORIGIN)

    def chat(self, q):
        return {"text": self.client.chat(model=MODEL, messages=asked(q)).message.content}

    def streamed(self, q):
        return {"text": "".join(part.message.content for part in self.client.chat(model=MODEL, messages=asked(q), stream=True))}

    def tools(self, q):
        messages = asked(q)
        message = self.client.chat(model=MODEL, messages=messages, tools=Mistral.TOOLS).message
        (call,) = message.tool_calls
        arguments = dict(call.function.arguments)
        messages += [message, {"role": "tool", "tool_name": "forecast", "content": forecast(**arguments)}]
        answer = self.client.chat(model=MODEL, messages=messages, tools=Mistral.TOOLS)
        return called(call.function.name, arguments, answer.message.content)

    def structured(self, q):
        answer = self.client.chat(model=MODEL, messages=asked(q), format=trip().model_json_schema())
        return as_dict(trip().model_validate_json(answer.message.content))

    @lazily
    def broken(self):
        import ollama

        return ollama.Client(host=ORIGIN, headers=BROKEN)

    def failing(self, q):
        return status_of(lambda: self.broken.chat(model=MODEL, messages=asked(q)))

    cases = {
        "chat": (1, chat),
        "streamed": (1, streamed),
        "tools": (2, tools),
        "structured": (1, structured),
        "a failure": (1, failing),
    }


@library
class Replicate:
    name = "replicate"
    packages = ("replicate",)

    @lazily
    def client(self):
        import replicate

        return replicate.Client(api_token="a-key", base_url=ORIGIN)

    def run(self, q):
        return {"text": "".join(self.client.run("a/model", input={"prompt": q}))}

    def polled(self, q):
        """It sleeps between its looks, half a second each by default."""
        return {"text": "".join(self.client.run("a/model", input={"prompt": q}, wait=False))}

    cases = {"run": (1, run), "run, polled": (3, polled)}


@library
class HuggingFace:
    name = "huggingface_hub"
    packages = ("huggingface_hub",)

    @lazily
    def client(self):
        from huggingface_hub import InferenceClient

        return InferenceClient(base_url=ORIGIN + "/v1", api_key="a-key")

    def chat(self, q):
        return {"text": self.client.chat_completion(asked(q), model=MODEL).choices[0].message.content}

    def streamed(self, q):
        chunks = self.client.chat_completion(asked(q), model=MODEL, stream=True)
        return {"text": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)}

    @lazily
    def broken(self):
        from huggingface_hub import InferenceClient

        return InferenceClient(base_url=ORIGIN + "/v1", api_key="a-key", headers=BROKEN)

    def failing(self, q):
        return status_of(lambda: self.broken.chat_completion(asked(q), model=MODEL))

    cases = {"chat": (1, chat), "streamed": (1, streamed), "a failure": (1, failing)}


class Paying:
    """A charge, and a question to a model."""

    packages = ("stripe",)
    to = ORIGIN

    @lazily
    def client(self):
        import stripe

        return stripe.StripeClient("sk_test_key", base_addresses={"api": self.to})

    @lazily
    def model(self):
        import openai

        return openai.OpenAI(api_key="a-key", base_url=ORIGIN + "/v1")

    def charge(self, q):
        return self.client.v1.payment_intents.create({"amount": 100, "currency": "eur", "description": q})

    def charged(self, q):
        made = self.charge(q)
        assert (made.amount, made.object) == (100, "payment_intent")
        return {"text": f"echo:{made.description} "}

    def charged_and_asked(self, q):
        made = self.charge(q)
        answer = self.model.chat.completions.create(model=MODEL, messages=asked(made.description))
        return {"text": answer.choices[0].message.content}


@library
class Stripe(Paying):
    """Its origin is declared: Tarry makes the charge."""

    name = "stripe"
    cases = {"a charge": (1, Paying.charged), "a charge, then a model": (2, Paying.charged_and_asked)}


@library
class StripeUndeclared(Paying):
    """Its origin is not declared: the worker makes the charge, and never twice."""

    name = "stripe, not declared"
    note = "the worker makes the charge itself, once; if the view is run again, once on each run, with a warning"
    to = os.environ.get("OTHER_ORIGIN", "")
    cases = {"a charge": (0, Paying.charged), "a charge, then a model": (1, Paying.charged_and_asked)}
