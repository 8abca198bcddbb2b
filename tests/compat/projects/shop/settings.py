"""A Django project as its users have it: the admin, and four packages of others that ask models, each with the settings of its
manual. No line of it is about Tarry."""

import os
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ["SHOP_DATA"])
MODEL = os.environ.get("MODEL_ORIGIN", "http://127.0.0.1:9") + "/v1"

SECRET_KEY = "for the compatibility suite"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
INSTALLED_APPS = [
    "shop",
    "django_ai_assistant",
    "explorer",
    "rosetta",
    "wagtail_ai",
    "django_ai_core",
    "wagtail.contrib.settings",
    "wagtail.users",
    "wagtail.documents",
    "wagtail.images",
    "wagtail.snippets",
    "wagtail.search",
    "wagtail.admin",
    "wagtail",
    "modelcluster",
    "taggit",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "shop.middleware.Counting",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": DATA / "db.sqlite3", "OPTIONS": {"timeout": 20}}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = True
LANGUAGES = [("en", "English"), ("de", "German")]
LOCALE_PATHS = [HERE / "locale"]
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = True
MEDIA_URL = "/media/"
MEDIA_ROOT = DATA / "media"

WAGTAIL_SITE_NAME = "shop"
WAGTAILADMIN_BASE_URL = "http://127.0.0.1"
WAGTAIL_AI = {
    "PROVIDERS": {"default": {"provider": "openai", "model": "a-model", "api_key": "a-key", "api_base": MODEL}},
    "BACKENDS": {"default": {"CLASS": "wagtail_ai.ai.openai.OpenAIBackend", "CONFIG": {"MODEL_ID": "gpt-4", "TOKEN_LIMIT": 4096, "OPENAI_API_KEY": "a-key", "API_BASE": MODEL}}},
}
EXPLORER_CONNECTIONS = {"Default": "default"}
EXPLORER_DEFAULT_CONNECTION = "default"
EXPLORER_AI_API_KEY = "a-key"
EXPLORER_ASSISTANT_BASE_URL = MODEL
EXPLORER_ENABLE_ANONYMOUS_STATS = False
OPENAI_API_KEY = "a-key"  # rosetta's
OPENAI_BASE_URL = MODEL
ROSETTA_SHOW_AT_ADMIN_PANEL = True
ROSETTA_ENABLE_TRANSLATION_SUGGESTIONS = True
