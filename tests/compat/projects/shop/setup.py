"""The database with a user and what the packages need, made once and copied for each test's site."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.core.management import call_command  # noqa: E402

call_command("migrate", verbosity=0)
get_user_model().objects.create_superuser("ada", "ada@example.com", "correct horse")
