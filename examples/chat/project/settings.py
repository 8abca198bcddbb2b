"""Settings of the example. What differs from machine to machine comes from the environment (see README.md)."""
import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

# The model's service, as an upstream in Tarry's conf declares it: calls to other origins are made by the worker itself.
MODEL_ORIGIN = os.environ.get("MODEL_ORIGIN", "https://api.openai.com").rstrip("/")
MODEL = os.environ.get("MODEL", "gpt-4o-mini")

# Behind Tarry the key can stay out of the app: an upstream's set_header adds it on the way out.
OPENAI_API_KEY = os.environ.get("OPENAI_API_KEY") or "set-by-tarry"

# TARRY_SECRET, or TARRY_SECRET_FILE, is read by the package itself.

# It signs what a handoff carries for the next view, so all workers need the same one.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or os.environ.get("TARRY_SECRET") or get_random_secret_key()
DEBUG = os.environ.get("DJANGO_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = ["tarry.django", "rest_framework", "chat"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "tarry.django.Middleware",  # the last one
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE_PATH", str(BASE_DIR / "chat.sqlite3")),
        "OPTIONS": {"timeout": 20},
        # The worker keeps its connection. What waits for a model holds none: it is not in a worker.
        "CONN_MAX_AGE": None,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True

# A public demo: nobody logs in.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}
