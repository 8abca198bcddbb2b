"""Django: MIDDLEWARE = […, "tarry.django.Middleware"] as the last entry, and "tarry.django" in INSTALLED_APPS for its check."""

from .middleware import Middleware

__all__ = ["Middleware"]
