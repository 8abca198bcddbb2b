"""What the views of all frameworks do: the three ways in which an app uses Tarry, with any of the libraries of sdks.py.

`patched` has no line about Tarry in it; `relayed` and `resumed` use the explicit API."""

import json
import os

import tarry

from sdks import LIBRARIES

NOTES = os.environ.get("COMPAT_NOTES", "")


def load_all():
    """As apps do, at import: clients are made once in a process, and no request waits for it."""
    wanted = os.environ.get("APP_LIBRARIES", "").split() or LIBRARIES
    for library in (LIBRARIES[name] for name in wanted):
        for client in ("client", "model", "session", "pool", "broken"):
            getattr(library, client, None)


def patched(query):
    with open(os.environ["APP_RUNS"], "a") as runs:
        runs.write(query["q"] + "\n")
    library = LIBRARIES[query["library"]]
    _, function = library.cases[query["case"]]
    return function(library, query["q"])


def held(query):
    """A call whose answer comes when the test says so."""
    import requests

    return {"text": requests.get(f"{os.environ['GATE_ORIGIN']}/{query['q']}", timeout=60).text}


def captured(library, call, q):
    with tarry.capture() as made:
        getattr(library, call)(q)
    return made


def relayed(query):
    library = LIBRARIES[query["library"]]
    return tarry.relay(captured(library, "stream", query["q"]), notify="/noted", state={"q": query["q"]})


def resumed(query):
    library = LIBRARIES[query["library"]]
    calls = [captured(library, "plain", query["q"] + part).call for part in (" one", " two")]
    if "tokens" in query:  # the stand-in's answer shall be that long
        calls[0].headers.append(("X-Provider-Tokens", query["tokens"]))
    return tarry.resume(calls, then="/finished", state={"library": library.name, "q": query["q"]})


def finished(got):
    library = LIBRARIES[got.state["library"]]
    texts = [library.load(answer.json()) for answer in got.answers]
    return {"texts": [text[:200] for text in texts], "lengths": [len(text) for text in texts], "q": got.state["q"]}


def noted(got):
    done = tarry.completed(got)
    with open(NOTES, "a") as notes:
        notes.write(json.dumps({"outcome": got.outcome, "q": got.state["q"], "text": done.text, "whole": done.whole}) + "\n")
    return {}
