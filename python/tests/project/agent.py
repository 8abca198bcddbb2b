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


def writes_and_dies(request):
    """A row after the answer; then the worker is killed before it has said so to anybody."""
    from .models import Row

    text = ask("x")
    Row.objects.create(text="after the answer")
    if "HTTP_TARRY_ATTEMPT" not in request.META:
        os.kill(os.getpid(), signal.SIGKILL)
    return JsonResponse({"text": text})


def rows(request):
    from .models import Row

    return JsonResponse({"rows": Row.objects.count()})


def model_call(text, **more):
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more}).encode()
    return tarry.Call(
        "POST", ORIGIN + "/v1/chat/completions", [("Content-Type", "application/json"), ("Authorization", "Bearer k")], body
    )


def relayed(request):
    call = model_call("relayed", stream=True, stream_options={"include_usage": True})
    return tarry.relay(call, notify="finish", state={"saved": "as"}, keep_alive="sse")


def resumed(request):
    return tarry.resume([model_call("one"), model_call("two")], then="finish", state={"id": 7})


finished = []


def facts(done):
    return {
        "tokens": done.tokens and vars(done.tokens),
        "times": vars(done.times),
        "attempts": done.attempts,
        "status": done.status,
        "request_id": done.request_id,
    }


def unread(request):
    """An address whose answers Tarry does not read."""
    call = model_call("unread")
    call.url = call.url.replace("/v1/chat/completions", "/v1/models")
    call.method, call.body = "GET", b""
    return tarry.resume([call], then="unread-answer")


@tarry.continuation
def unread_answer(request):
    answer = request.tarry.answers[0]
    return JsonResponse({"status": answer.status, "usage": answer.usage, "times": vars(answer.times)})


@tarry.continuation
def finish(request):
    got = request.tarry
    if got.kind == "notify":
        done = tarry.completed(got)
        finished.append((got.outcome, got.state, got.answers[0].body.decode(), done.text.split()[0], done.whole, facts(done), done.usage))
        return JsonResponse({})
    return JsonResponse(
        {
            "texts": [a.json()["choices"][0]["message"]["content"] for a in got.answers],
            "state": got.state,
            "facts": [facts(tarry.completed(a)) for a in got.answers],
            "usage": [a.json()["usage"] for a in got.answers],
        }
    )


def notified(request):
    return JsonResponse({"finished": finished})


VIEWS = {
    "one": one,
    "agent": agent,
    "gather": side_by_side,
    "lines": lines,
    "fragile": fragile,
    "writes_and_dies": writes_and_dies,
    "rows": rows,
    "relay": relayed,
    "resume": resumed,
    "unread": unread,
    "notified": notified,
    **sdk.VIEWS,
}


@csrf_exempt
def view(request):
    return VIEWS[request.GET["do"]](request)
