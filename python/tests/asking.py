"""How the views of the tests call a model where it does not matter which library they use: with what Python brings along."""

import json
import urllib.request

MODEL = "https://model.example"


def ask(text="q", origin=MODEL):
    """The text of the answer."""
    request = urllib.request.Request(origin + "/v1", json.dumps(text).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return response.read().decode()
