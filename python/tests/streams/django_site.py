"""A Django project as its author would have written it without Tarry: views that stream what a model says. One file, one table."""

import functools
import json
import os
import time
import urllib.request
import uuid

import django
import httpx
import openai
import requests
import urllib3
from django.conf import settings

ORIGIN = os.environ["MODEL_ORIGIN"]
ASKED = [{"role": "user", "content": "-"}]

settings.configure(
    DEBUG=False,
    SECRET_KEY="s" * 50,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="streams.django_site",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        *(m for m in os.environ.get("OUTER", "").split() if m),
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"], "OPTIONS": {"timeout": 30}}},
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []},
    USE_TZ=True,
)
django.setup()

from django.contrib.auth.models import Group  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import transaction  # noqa: E402
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

# Made once, as the libraries advise.
gpt = openai.OpenAI(api_key="k", base_url=f"{ORIGIN}/v1", max_retries=0)
pool = urllib3.PoolManager()


@functools.lru_cache(maxsize=None)
def claude():
    import anthropic

    return anthropic.Anthropic(api_key="k", base_url=ORIGIN, max_retries=0)


@functools.lru_cache(maxsize=None)
def gemini():
    from google import genai

    return genai.Client(api_key="k", http_options={"base_url": ORIGIN})


def note(text):
    with open(os.environ["NOTES"], "a") as file:
        file.write(text + "\n")


def tokens(name):
    for event in gpt.chat.completions.create(model="m", messages=[{"role": "user", "content": name}], stream=True):
        if event.choices and event.choices[0].delta.content:
            yield event.choices[0].delta.content


def ask(name):
    return gpt.chat.completions.create(model="m", messages=[{"role": "user", "content": name}]).choices[0].message.content


def sse(chunks):
    return StreamingHttpResponse((f"data: {text}\n\n" for text in chunks), content_type="text/event-stream")


def plain(name):
    """What libraries without an SDK send: the model's plain text is asked for by the same JSON."""
    return {"url": f"{ORIGIN}/plain", "json": {"stream": True, "name": name}}


views = []


def view(function):
    views.append(path(f"{function.__name__}/<name>", function))
    return function


# Libraries


@view
def with_openai(request, name):
    note(f"run {name}")
    return sse(tokens(name))


@view
def with_anthropic(request, name):
    def chunks():
        with claude().messages.stream(model="m", max_tokens=100, messages=[{"role": "user", "content": name}]) as stream:
            yield from stream.text_stream
            message = stream.get_final_message()
        yield f"{message.stop_reason}: {message.content[0].text}"

    note(f"run {name}")
    return sse(chunks())


@view
def with_anthropic_create(request, name):
    def chunks():
        for event in claude().messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": name}], stream=True):
            if event.type == "content_block_delta":
                yield event.delta.text

    note(f"run {name}")
    return sse(chunks())


@view
def with_gemini(request, name):
    note(f"run {name}")
    return sse(event.text for event in gemini().models.generate_content_stream(model="m", contents=name))


@view
def with_httpx(request, name):
    def chunks():
        with httpx.stream("POST", **plain(name)) as response:
            yield from response.iter_text()

    note(f"run {name}")
    return StreamingHttpResponse(chunks(), content_type="text/plain")


@view
def with_requests(request, name):
    def chunks():
        with requests.post(**plain(name), stream=True) as response:
            yield from response.iter_content(None)

    note(f"run {name}")
    return StreamingHttpResponse(chunks(), content_type="text/plain")


@view
def with_requests_lines(request, name):
    def chunks():
        for line in requests.post(**plain(name), stream=True).iter_lines():
            yield line + b"\n"

    note(f"run {name}")
    return StreamingHttpResponse(chunks(), content_type="text/plain")


@view
def with_urllib3(request, name):
    note(f"run {name}")
    asked = plain(name)
    response = pool.request("POST", asked["url"], body=json.dumps(asked["json"]), preload_content=False)
    return StreamingHttpResponse(response.stream(), content_type="text/plain")


@view
def with_urllib(request, name):
    def chunks():
        asked = plain(name)
        call = urllib.request.Request(asked["url"], json.dumps(asked["json"]).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(call) as response:
            yield from response

    note(f"run {name}")
    return StreamingHttpResponse(chunks(), content_type="text/plain")


# What generators do


@view
def saved(request, name):
    """An ORM write after the last chunk."""

    def chunks():
        text = ""
        for token in tokens(name):
            text += token
            yield token
        Group.objects.create(name=f"{name}: {text}")
        yield "saved"

    note(f"run {name}")
    return sse(chunks())


@view
def mixed(request, name):
    def chunks():
        yield "thinking"
        yield from tokens(f"{name}-a")
        yield "asking"
        yield ask(f"{name}-b")
        yield from tokens(f"{name}-c")
        yield "end"

    note(f"run {name}")
    return sse(chunks())


@view
def breaks(request, name):
    def chunks():
        for token in tokens(f"{name}-a"):
            yield token
            break
        yield from tokens(f"{name}-b")

    note(f"run {name}")
    return sse(chunks())


@view
def beside(request, name):
    """Two streams at a time: one is live."""
    note(f"run {name}")
    return sse(f"{a}{b}" for a, b in zip(tokens(f"{name}-a"), tokens(f"{name}-b")))


@view
def amid(request, name):
    """Calls while a stream is read."""

    def chunks():
        for token in tokens(f"{name}-a"):
            yield token
            yield ask(f"{name}-{token}")

    note(f"run {name}")
    return sse(chunks())


@view
def raises(request, name):
    def chunks():
        try:
            for token in tokens(name):
                yield token
                if token == "two":
                    raise ValueError("two is too many")
        finally:
            note(f"finally {name}")

    return sse(chunks())


@view
def raises_at_once(request, name):
    def chunks():
        for token in tokens(name):
            raise ValueError("at once")
            yield token

    return sse(chunks())


@view
def left(request, name):
    def chunks():
        got = []
        try:
            for token in tokens(name):
                got.append(token)
                yield token
        except GeneratorExit:
            Group.objects.create(name=f"{name}: {' '.join(got)}")
            raise
        except BaseException as other:
            note(f"{type(other).__name__} {name}")
            raise
        finally:
            note(f"finally {name}")
        Group.objects.create(name=f"{name} ended: {' '.join(got)}")

    note(f"run {name}")
    return sse(chunks())


@view
def collected(request, name):
    note(f"run {name}")
    return JsonResponse({"text": " ".join(tokens(name)), "then": ask(f"{name}-then")})


@view
def sleeps(request, name):
    def chunks():
        for n in range(3):
            yield str(n)
            time.sleep(0.3)
        yield "end"

    note(f"run {name}")
    return sse(chunks())


@view
def sleeps_amid(request, name):
    def chunks():
        for token in tokens(name):
            yield token
            time.sleep(0.3)

    note(f"run {name}")
    return sse(chunks())


@view
def changing(request, name):
    """Other bytes on each run."""
    note(f"run {name}")
    return sse(f"{token} {uuid.uuid4().hex}" for token in tokens(name))


@view
def writes(request, name):
    def chunks():
        Group.objects.create(name=name)
        yield from tokens(name)

    note(f"run {name}")
    return sse(chunks())


@view
def atomic(request, name):
    def chunks():
        texts = tokens(name)
        yield next(texts)
        with transaction.atomic():
            Group.objects.create(name=f"{name}: {next(texts)}")
            yield "written"
            yield from texts

    note(f"run {name}")
    return sse(chunks())


@view
def session(request, name):
    request.session["n"] = request.session.get("n", 0) + 1
    note(f"run {name}")
    return sse(tokens(name))


@view
def broken(request, name):
    def chunks():
        try:
            if "httpx" in request.GET:
                with httpx.stream("POST", **plain(name)) as response:
                    yield from response.iter_text()
            else:
                yield from requests.post(**plain(name), stream=True).iter_content(None)
        except Exception as error:
            yield type(error).__name__

    return StreamingHttpResponse(chunks(), content_type="text/plain")


@view
def headers(request, name):
    note(f"run {name}")
    response = sse(tokens(name))
    response["X-Own"] = "yes"
    response.set_cookie("seen", name)
    response.status_code = int(request.GET.get("status", 203))
    return response


def rest(request, name):
    from rest_framework.decorators import api_view

    def get(request):
        note(f"run {name}")
        return sse(tokens(name))

    return api_view(["GET"])(get)(request)


def busy(request):
    """Works until it is told to stop, and lets nobody else."""
    note("busy")
    deadline = time.monotonic() + 60
    while not os.path.exists(os.environ["NOTES"] + ".free") and time.monotonic() < deadline:
        pass
    return HttpResponse("done")


def csv(request):
    rows = [f"row {n}\n" for n in range(1000)]
    return StreamingHttpResponse(rows, content_type="text/csv", headers={"Content-Length": str(sum(map(len, rows)))})


def wrapping(get_response):
    def middleware(request):
        response = get_response(request)
        if response.streaming:
            response.streaming_content = (chunk.upper() for chunk in response.streaming_content)
        return response

    return middleware


urlpatterns = [
    *views,
    path("rest/<name>", rest),
    path("csv", csv),
    path("busy", busy),
    path("ok", lambda request: HttpResponse("ok")),
    path("pid", lambda request: HttpResponse(str(os.getpid()))),
]
if __name__ == "__main__":
    call_command("migrate", verbosity=0)
else:
    application = get_wsgi_application()
