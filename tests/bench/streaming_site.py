"""The view that scripts/bench streams measures: what a model says, by OpenAI's SDK, as events. No line of it knows of Tarry or of gevent."""

import os

import django
import openai
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

settings.configure(
    SECRET_KEY="s" * 50,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
client = openai.OpenAI(api_key="k", base_url=f"{os.environ['MODEL_ORIGIN']}/v1")


def stream(request):
    def events():
        for event in client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Why?"}], stream=True):
            if event.choices and event.choices[0].delta.content:
                yield f"data: {event.choices[0].delta.content}\n\n"

    return StreamingHttpResponse(events(), content_type="text/event-stream")


urlpatterns = [path("stream", stream), path("ok", lambda request: HttpResponse("ok"))]
application = get_wsgi_application()
