"""A small Django REST framework app that hands its model calls off, without any helper library. For the tests: what it
calls is in MODEL_ORIGIN, its database in DATABASE."""

import json
import os
import time
from urllib.parse import quote

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

ORIGIN = os.environ["MODEL_ORIGIN"]

settings.configure(
    SECRET_KEY="tests", ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, DEBUG=False,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "rest_framework"],
    MIDDLEWARE=["django.middleware.gzip.GZipMiddleware", "django.contrib.sessions.middleware.SessionMiddleware",
                "django.middleware.common.CommonMiddleware"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DATABASE"]}},
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": [], "DEFAULT_PERMISSION_CLASSES": []},
)
django.setup()

from rest_framework.parsers import BaseParser  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.views import APIView  # noqa: E402


def handoff(then, *calls, **fields):
    body = b""
    for n, (target, payload) in enumerate(calls):
        data = json.dumps(payload).encode()
        body += (f"POST {ORIGIN}{target} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n"
                 f"Tarry-Call-Id: {n}\r\n\r\n").encode() + data
    response = HttpResponse(body, content_type="application/http; msgtype=request")
    response["Tarry-Then"] = then
    for name, value in fields.items():
        response["Tarry-" + name.replace("_", "-")] = value
    return response


class Enclosed(BaseParser):
    media_type = "application/http"

    def parse(self, stream, media_type=None, parser_context=None):
        rest, found = stream.read(), []
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:])
            n = int(headers["content-length"])
            found.append((int(lines[0].split()[1]), headers, rest[:n]))
            rest = rest[n:]
        return found


class Plain(APIView):
    def get(self, request):
        return Response({"plain": request.GET.get("q"), "hop": request.headers["Tarry-Hop"]})


class Relay(APIView):
    def post(self, request):
        request.session["seen"] = request.data["text"]
        return handoff("relay", ("/stream", request.data))


class Ask(APIView):
    def post(self, request):
        return handoff("resume /finish/", ("/answer", request.data), State="text=" + quote(request.data["text"][:40]))


class Both(APIView):
    def post(self, request):
        return handoff("resume /finish/", ("/first", request.data), ("/second", request.data))


class Finish(APIView):
    parser_classes = [Enclosed]

    def post(self, request):
        answers = [[status, json.loads(body)] for status, _, body in request.data]
        with connection.cursor() as c:
            c.execute("INSERT INTO answers (exchange, hop, text) VALUES (%s, %s, %s)",
                      [request.headers["Tarry-Exchange"], request.headers["Tarry-Hop"], json.dumps(answers)])
        return Response({"answers": answers, "state": request.headers.get("Tarry-State")})


class Stream(APIView):
    def get(self, request):
        def lines():
            for n in range(5):
                yield f"line {n}\n" * 100
                time.sleep(0.01)
        return StreamingHttpResponse(lines(), content_type="text/plain")


class Upload(APIView):
    def post(self, request):
        return Response({"size": len(request.body)})


urlpatterns = [path("plain/", Plain.as_view()), path("relay/", Relay.as_view()), path("ask/", Ask.as_view()),
               path("both/", Both.as_view()), path("finish/", Finish.as_view()), path("stream/", Stream.as_view()),
               path("upload/", Upload.as_view())]

with connection.cursor() as cursor:
    cursor.execute("CREATE TABLE IF NOT EXISTS answers (exchange TEXT, hop TEXT, text TEXT)")

application = get_wsgi_application()
