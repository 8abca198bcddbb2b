"""A view for each kind of work that may be done twice when a view is run again. `mark` is the text of its rows."""

import contextlib
import time

from django.contrib import messages
from django.contrib.auth import get_user_model, login
from django.contrib.auth.decorators import login_required
from django.core.cache import cache
from django.db import connection, transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.template import engines
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_page
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET

from .agent import ask


def mark_of(request):
    return request.GET["mark"]


def write(request):
    from .models import Row

    return Row.objects.create(text=mark_of(request))


def create(request):
    write(request)
    return HttpResponse(ask("q"))


def polls(request):
    """A job that is looked at until it is done."""
    write(request)
    ask("create")
    for _ in range(3):
        time.sleep(0.5)
    return HttpResponse(ask("q"))


SESSIONS = {
    "advisory": ("SELECT pg_advisory_lock({0})", "SELECT pg_advisory_unlock({0})"),
    "setting": ("SELECT set_config('app.tenant', '{0}', false)", "SELECT current_setting('app.tenant', true) = '{0}'"),
    "table": ("CREATE TEMP TABLE IF NOT EXISTS mine AS SELECT 1", "SELECT count(*) = 1 FROM mine"),
}


def session(kind):
    """The database's session is changed before the call, and looked at after it (PostgreSQL)."""

    def view(request):
        before, after = (statement.format(mark_of(request)) for statement in SESSIONS[kind])
        with connection.cursor() as cursor:
            cursor.execute(before)
        text = ask("q")
        with connection.cursor() as cursor:
            cursor.execute(after)
            return JsonResponse({"kept": cursor.fetchone()[0], "text": text})

    return view


def create_afterwards(request):
    text = ask("q")
    write(request)
    return HttpResponse(text)


def nested(request):
    """Before it a row in autocommit, which the block's rollback does not reach."""
    write(request)
    with transaction.atomic():
        with transaction.atomic():
            write(request)
        text = ask("q")
    return HttpResponse(text)


def savepoint(request):
    with transaction.atomic():
        with contextlib.suppress(ValueError), transaction.atomic():
            write(request)
            raise ValueError
        write(request)
        text = ask("q")
    return HttpResponse(text)


def atomic_under_except(request):
    try:
        with transaction.atomic():
            write(request)
            text = ask("q")
    except Exception:
        text = "the wrong answer"
    return HttpResponse(text)


def in_finally(request):
    try:
        text = ask("q")
    finally:
        write(request)
    return HttpResponse(text)


def on_commit(request):
    transaction.on_commit(lambda: write(request))
    return HttpResponse(ask("q"))


def call_in_on_commit(request):
    texts = []
    with transaction.atomic():
        write(request)
        transaction.on_commit(lambda: texts.append(ask("q")))
    return HttpResponse("".join(texts) or "after the response")


def template_response(request):
    write(request)
    return TemplateResponse(request, engines["django"].from_string("{{ ask }}"), {"ask": lambda: ask("q")})


def in_render(request):
    write(request)
    return render(request, "ask.html", {"ask": lambda: ask("q")})


def generator(request):
    write(request)

    def chunks():
        yield ask("q")
        yield ", and more"

    return StreamingHttpResponse(chunks())


@method_decorator(require_GET, name="dispatch")
class ClassBased(View):
    def get(self, request):
        write(request)
        return HttpResponse(ask("q"))


def _swallow_return(request):
    try:
        return HttpResponse(ask("q"))
    except BaseException:
        write(request)
        return HttpResponse("the wrong answer")


def _swallow_raise(request):
    try:
        return HttpResponse(ask("q"))
    except BaseException as e:
        write(request)
        raise ValueError("no model") from e


def _swallow_finally(request):
    text = "the wrong answer"
    try:
        text = ask("q")
    finally:
        write(request)
        return HttpResponse(text)  # noqa: B012


def _swallow_retry(request):
    text = "the wrong answer"
    for _ in range(4):
        try:
            text = ask("q")
            break
        except BaseException:
            pass
    write(request)
    return HttpResponse(text)


def _swallow_other_provider(request):
    try:
        text = ask("q")
    except BaseException:
        text = ask("another")
    write(request)
    return HttpResponse(text)


def counted(request):
    """The session's counter, and a message: once in a request, however often the view is run."""
    request.session["count"] = request.session.get("count", 0) + 1
    messages.info(request, f"message {request.session['count']}")
    ask("q")
    return JsonResponse({"count": request.session["count"]})


def shown(request):
    return JsonResponse({"messages": [str(m) for m in messages.get_messages(request)], "count": request.session.get("count")})


def logged_in(request):
    users = get_user_model().objects
    user, _ = users.get_or_create(username=mark_of(request))
    login(request, user)
    ask("q")
    return HttpResponse(request.user.username)


@login_required(login_url="/rows/shown/")
def who(request):
    return HttpResponse(f"{request.user.username} {ask('q')}")


@cache_page(600)
def cached(request):
    return HttpResponse(ask("q"))


def asked_once(request):
    """For the site-wide cache: nothing of its own."""
    return HttpResponse(ask("q"))


@csrf_exempt
def upload(request):
    """Reads the body in the way that `read` names, then calls."""
    how = request.GET["read"]
    if how == "body then form":
        size, field = len(request.body), request.POST["field"]
    elif how == "form":
        size, field = request.FILES["file"].size, request.POST["field"]
    elif how == "half":
        size, field = len(request.read(10)), "-"
    else:
        size, field = 0, "-"
    text = ask("q")
    kind = type(request.FILES["file"]).__name__ if how == "form" else ""
    return JsonResponse({"size": size, "field": field, "text": text, "kind": kind})


def protected(request):
    """Behind the CSRF check."""
    return HttpResponse(request.POST["field"] + ask("q"))


def locked(request):
    from .models import Row

    with transaction.atomic():
        row = Row.objects.select_for_update().get(pk=request.GET["pk"])
        text = ask("q")
        seen = row.text
        row.text += ", locked"
        row.save()
    return JsonResponse({"seen": seen, "text": text})


def clear(request):
    cache.clear()
    return HttpResponse("cleared")


VIEWS = {
    "create": create,
    "polls": polls,
    **{f"session_{kind}": session(kind) for kind in SESSIONS},
    "create_afterwards": create_afterwards,
    "nested": nested,
    "savepoint": savepoint,
    "atomic_under_except": atomic_under_except,
    "in_finally": in_finally,
    "on_commit": on_commit,
    "call_in_on_commit": call_in_on_commit,
    "template_response": template_response,
    "in_render": in_render,
    "generator": generator,
    "class_based": ClassBased.as_view(),
    "swallow_return": _swallow_return,
    "swallow_raise": _swallow_raise,
    "swallow_finally": _swallow_finally,
    "swallow_retry": _swallow_retry,
    "swallow_other_provider": _swallow_other_provider,
    "counted": counted,
    "shown": shown,
    "logged_in": logged_in,
    "who": who,
    "cached": cached,
    "asked_once": asked_once,
    "upload": upload,
    "protected": protected,
    "locked": locked,
    "clear": clear,
}

try:
    from rest_framework import serializers
    from rest_framework.authentication import SessionAuthentication, TokenAuthentication  # noqa: F401
    from rest_framework.permissions import IsAuthenticated
    from rest_framework.renderers import BaseRenderer, JSONRenderer
    from rest_framework.response import Response
    from rest_framework.throttling import AnonRateThrottle
    from rest_framework.views import APIView
except ImportError:
    pass
else:

    class AskingRenderer(BaseRenderer):
        media_type = "text/plain"
        format = "txt"

        def render(self, data, accepted_media_type=None, renderer_context=None):
            return ask("q").encode()

    class InARenderer(APIView):
        authentication_classes = []
        renderer_classes = [AskingRenderer]

        def get(self, request):
            write(request)
            return Response({})

    class AskingSerializer(serializers.Serializer):
        text = serializers.SerializerMethodField()

        def get_text(self, row):
            return ask("q")

    class InASerializer(APIView):
        authentication_classes = []
        renderer_classes = [JSONRenderer]

        def get(self, request):
            return Response(AskingSerializer(write(request)).data)

    class TwoAMinute(AnonRateThrottle):
        rate = "2/min"

    class Throttled(APIView):
        authentication_classes = []
        throttle_classes = [TwoAMinute]
        renderer_classes = [JSONRenderer]

        def get(self, request):
            return Response({"text": ask("a") + ask("b")})

    class Permitted(APIView):
        """Authentication and permission are asked on each run; the form's token is read by the CSRF check."""

        authentication_classes = [SessionAuthentication]
        permission_classes = [IsAuthenticated]
        renderer_classes = [JSONRenderer]

        def post(self, request):
            return Response({"user": request.user.username, "field": request.data["field"], "text": ask("q")})

    VIEWS.update(
        in_a_renderer=InARenderer.as_view(),
        in_a_serializer=InASerializer.as_view(),
        throttled=Throttled.as_view(),
        permitted=Permitted.as_view(),
    )
