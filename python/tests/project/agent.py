"""Unmodified views: nothing here knows of Tarry, but for gather."""

import json
import os
import signal
import urllib.request

from django.http import JsonResponse, StreamingHttpResponse
from django.views.decorators.csrf import csrf_exempt

import tarry

from . import sdk

ORIGIN = os.environ.get("MODEL_ORIGIN", "")


def body_of(text):
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()


def ask(text):
    body = body_of(text)
    headers = {"Authorization": "Bearer k", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(ORIGIN + "/v1/chat/completions", body, headers)) as response:
        return json.load(response)["choices"][0]["message"]["content"]


def one(request):
    return JsonResponse({"pid": os.getpid(), "text": ask(request.GET["text"])})


def agent(request):
    """Five calls in sequence, each asks about the answer before."""
    text = json.loads(request.body)["text"]
    for n in range(5):
        text = ask(f"{n}.{text}").split(":", 1)[1].split()[0]
    return JsonResponse({"text": text})


def side_by_side(request):
    return JsonResponse({"texts": tarry.gather(lambda: ask("left"), lambda: ask("right"))})


def lines(request):
    def chunks():
        yield ask("streamed")
        yield " and done"

    return StreamingHttpResponse(chunks(), content_type="text/plain")


def fragile(request):
    """The worker is killed in the midst of the first delivery of every replay."""
    text = "x"
    for n in range(2):
        text = ask(f"{n}.{text}").split(":", 1)[1].split()[0]
        if request.META.get("HTTP_TARRY_HOP") == str(n + 1) and "HTTP_TARRY_ATTEMPT" not in request.META:
            os.kill(os.getpid(), signal.SIGKILL)
    return JsonResponse({"text": text})


def model_call(text, **more):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()
    return tarry.Call(
        "POST", ORIGIN + "/v1/chat/completions", [("Content-Type", "application/json"), ("Authorization", "Bearer k")], body
    )


def relayed(request):
    return tarry.relay(model_call("relayed", stream=True), notify="finish", state={"saved": "as"}, keep_alive="sse")


def resumed(request):
    return tarry.resume([model_call("one"), model_call("two")], then="finish", state={"id": 7})


finished = []


@tarry.continuation
def finish(request):
    got = request.tarry
    if got.kind == "notify":
        done = tarry.completed(got)
        finished.append((got.outcome, got.state, got.answers[0].body.decode(), done.text.split()[0], done.whole))
        return JsonResponse({})
    return JsonResponse({"texts": [a.json()["choices"][0]["message"]["content"] for a in got.answers], "state": got.state})


def notified(request):
    return JsonResponse({"finished": finished})


VIEWS = {
    "one": one,
    "agent": agent,
    "gather": side_by_side,
    "lines": lines,
    "fragile": fragile,
    "relay": relayed,
    "resume": resumed,
    "notified": notified,
    **sdk.VIEWS,
}


@csrf_exempt
def view(request):
    return VIEWS[request.GET["do"]](request)
