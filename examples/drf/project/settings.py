"""Settings of the example. What differs from machine to machine comes from the environment (see README.md)."""
import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key

BASE_DIR = Path(__file__).resolve().parent.parent

# The model's service, as the conf of Tarry declares it: a call to any other origin is refused there.
MODEL_ORIGIN = os.environ.get("MODEL_ORIGIN", "https://api.openai.com").rstrip("/")
MODEL = os.environ.get("MODEL", "gpt-4o-mini")

# The same secret as in Tarry's conf (secret_file). It tells a resume from someone who pretends to be one.
TARRY_SECRET = os.environ.get("TARRY_SECRET", "")

# Only the view that waits by itself needs the key; for the others Tarry adds it on the way out.
OPENAI_API_KEY = os.environ.get("OPENAI_API_KEY", "")

# Signs nothing that outlives the process here. An app with sessions needs a lasting one.
SECRET_KEY = os.environ.get("DJANGO_SECRET_KEY") or get_random_secret_key()
DEBUG = os.environ.get("DJANGO_DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")

INSTALLED_APPS = ["rest_framework", "chat"]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE_PATH", str(BASE_DIR / "answers.sqlite3")),
        # The worker keeps its connection. What waits for a model holds none: it is not in a worker.
        "CONN_MAX_AGE": None,
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
TIME_ZONE = "UTC"
USE_TZ = True

# A public demo: nobody logs in. README.md tells what changes with SessionAuthentication.
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}
