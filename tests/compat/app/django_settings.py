"""A Django project as `startproject` makes one, without a database, and with what Tarry's manual adds."""

import os

SECRET_KEY = "for the compatibility suite"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "django_urls"
WSGI_APPLICATION = "django_wsgi.application"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "rest_framework",
    "tarry.django",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "tarry.django.Middleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
DATABASES = {}
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None}
TARRY_RESUME = os.environ["APP_RESUME"]
TARRY_SECRET = os.environ["TARRY_SECRET"]
USE_TZ = True
