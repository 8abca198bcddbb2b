"""A Django project that asks models by any of the libraries, and has never heard of Tarry."""

import importlib
import os

from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse
from django.urls import path

from more_sdks import MORE
from sdks import LIBRARIES

os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)

SECRET_KEY = "for the compatibility suite"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = __name__
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]


EVERY = {**LIBRARIES, **MORE}


def ask(request):
    library = EVERY[request.GET["library"]]
    with open(os.environ["APP_RUNS"], "a") as file:
        file.write(request.GET["q"] + "\n")
    _, function = library.cases[request.GET["case"]]
    return JsonResponse(function(library, request.GET["q"]))


urlpatterns = [path("ok", lambda request: HttpResponse("ok")), path("ask", ask)]

for name in os.environ["APP_MODULES"].split():  # as apps do at import: no request waits for it
    importlib.import_module(name)
application = get_wsgi_application()
