"""A Django project in one file that has never heard of Tarry: no line of it is the package's."""

import os
import time

import requests
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "for the compatibility suite"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = __name__
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
SECURE_SSL_REDIRECT = bool(os.environ.get("APP_REDIRECTS"))
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if os.environ.get("APP_PROXY_HEADER") else None

BOOTED = time.time()


def seen(request):
    names = ("REMOTE_ADDR", "SERVER_PORT", "wsgi.url_scheme", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_HOST")
    return JsonResponse({**{name: request.META.get(name) for name in names}, "pid": os.getpid(), "secure": request.is_secure(),
                         "tarry": sorted(name for name in request.META if name.startswith("HTTP_TARRY_PEER")),
                         "word": os.environ.get("APP_WORD", "")})


def ok(request):
    return HttpResponse("ok")


def ask(request):
    if "APP_RUNS" in os.environ:
        with open(os.environ["APP_RUNS"], "a") as file:
            file.write(request.GET["q"] + "\n")
    return HttpResponse(requests.post(os.environ["MODEL_ORIGIN"] + "/v1/ask", data=request.GET["q"], timeout=120).text)


def hold(request):
    """Holds the worker until a file is there."""
    while not os.path.exists(request.GET["until"]):
        time.sleep(0.01)
    return HttpResponse("held")


urlpatterns = [path("", seen), path("ok", ok), path("ask", ask), path("hold", hold)]

if os.environ.get("APP_FAILS"):
    raise RuntimeError("this app cannot boot")

application = get_wsgi_application()
