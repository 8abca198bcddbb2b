"""Views that use requests and the providers' own SDKs, as they are. The clients are made at import, once for a process."""

import os

from django.http import HttpResponse, JsonResponse

ORIGIN = os.environ.get("MODEL_ORIGIN", "")


def openai_client():
    import openai

    return openai.OpenAI(api_key="k", base_url=ORIGIN + "/v1")


def anthropic_client():
    import anthropic

    return anthropic.Anthropic(api_key="k", base_url=ORIGIN)


_clients = {}


def client(make):
    if make not in _clients:
        _clients[make] = make()
    return _clients[make]


ASKED = [{"role": "user", "content": "hello"}]


def with_requests(request):
    import requests

    body = {"model": "m", "messages": ASKED}
    answer = requests.post(ORIGIN + "/v1/chat/completions", json=body, headers={"Authorization": "Bearer k"})
    return HttpResponse(answer.json()["choices"][0]["message"]["content"])


def openai_chat(request):
    answer = client(openai_client).chat.completions.create(model="m", messages=ASKED)
    return HttpResponse(answer.choices[0].message.content)


def openai_stream(request):
    chunks = client(openai_client).chat.completions.create(model="m", messages=ASKED, stream=True)
    return HttpResponse("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))


def openai_responses(request):
    return HttpResponse(client(openai_client).responses.create(model="m", input="hello").output_text)


def openai_embeddings(request):
    answer = client(openai_client).embeddings.create(model="m", input=["hello", "you"])
    return JsonResponse({"n": len(answer.data), "size": len(answer.data[0].embedding)})


def openai_async(request):
    import asyncio

    import openai

    async def main():
        async with openai.AsyncOpenAI(api_key="k", base_url=ORIGIN + "/v1") as c:
            return await asyncio.gather(
                *[c.chat.completions.create(model="m", messages=[{"role": "user", "content": t}]) for t in "ab"]
            )

    return HttpResponse("|".join(a.choices[0].message.content for a in asyncio.run(main())))


def openai_failing(request):
    """Its retries are Tarry's affair: one failure, told at once."""
    import openai

    try:
        client(openai_client).chat.completions.create(model="m", messages=ASKED, extra_headers={"X-Provider-Fault": "503=none"})
    except openai.InternalServerError as e:
        return HttpResponse(f"caught {e.status_code}")


def anthropic_chat(request):
    answer = client(anthropic_client).messages.create(model="m", max_tokens=50, messages=ASKED)
    return HttpResponse(answer.content[0].text)


def anthropic_stream(request):
    with client(anthropic_client).messages.stream(model="m", max_tokens=50, messages=ASKED) as stream:
        return HttpResponse("".join(stream.text_stream))


VIEWS = [
    with_requests,
    openai_chat,
    openai_stream,
    openai_responses,
    openai_embeddings,
    openai_async,
    openai_failing,
    anthropic_chat,
    anthropic_stream,
]
VIEWS = {view.__name__: view for view in VIEWS}
