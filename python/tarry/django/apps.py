from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from .checks import check_deployment, check_middleware


class TarryConfig(AppConfig):
    name = "tarry.django"
    label = "tarry"
    verbose_name = "Tarry"

    def ready(self) -> None:
        checks.register(check_middleware)
        checks.register(check_deployment, checks.Tags.security, deploy=True)
