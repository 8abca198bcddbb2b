"""Handoffs in tests: Client, WSGIClient, Recorded. tarry.testing.client says how they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .testing.client import Answers, FakeTarry, Response, WSGIClient, canned
from .testing.recorded import Recorded

__all__ = ["Answers", "Client", "FakeTarry", "Recorded", "Response", "WSGIClient", "canned"]

if TYPE_CHECKING:
    Client: Any
else:

    def __getattr__(name: str) -> Any:
        """Client needs Django, the rest of the module does not."""
        if name == "Client":
            from .django.test import Client

            return Client
        raise AttributeError(name)
