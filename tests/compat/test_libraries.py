"""Every library with every server and framework, in the three ways in which an app uses Tarry: the answers are those that
were asked for, each call is made once, by Tarry, and no worker waits for it."""

import itertools
import json

from harness import request
from sites import RETRIES
from stacks import LIBRARIES

number = itertools.count(1)


def question():
    return f"Größe-\"京都\"-{next(number)}"


def check(got, q):
    """What the stand-in makes of a question, in each form of sdks.py."""
    assert got, "nothing was answered"
    if "failed" in got:
        assert got["failed"] == 503
        return
    if "document" in got:
        words = f"echo:{q}"
        assert got["document"] == {"title": words, "kind": "short", "stops": [{"place": words, "nights": 1}], "note": words}
    elif "vectors" in got:
        assert got["vectors"] == 2 and got["dimensions"] > 100
    elif "last" in got:
        assert got["last"] == q
    elif "tool" in got:
        assert (got["tool"], got["arguments"]) == ("forecast", {"city": f"echo:{q}", "days": 1})
        if "text" in got:
            found = f"sunny in echo:{q} for 1"
            assert got["text"].startswith("echo:") and (found in got["text"] or json.dumps(found)[1:-1] in got["text"])
    else:
        assert got["text"].startswith(f"echo:{q} ")


def test_unmodified_code_is_handed_off(site, front, library, found):
    found("library", stack=site.stack.key, server=site.server.key, front=front, library=library, mode="patched")
    for case, (calls, _) in LIBRARIES[library].cases.items():
        q = question()
        got, line, seen = site.ask(f"/{front}/patched", library=library, case=case, q=q)
        assert got.status == 200, f"{case}: {got}"
        check(got.json(), q)
        # What fails is tried again by Tarry, and by nobody else.
        tries = 1 + RETRIES if "failed" in got.json() else 1
        assert (line["calls"], line["hops"], seen) == (calls, calls + 1, calls * tries), case


def test_a_call_is_relayed_and_its_end_notified(site, front, library, found):
    found("library", stack=site.stack.key, server=site.server.key, front=front, library=library, mode="relay")
    q = question()
    got, line, seen = site.ask(f"/{front}/relay", library=library, q=q)
    assert got.status == 200 and got.headers.get("Content-Type").startswith("text/event-stream"), got
    assert json.dumps(f"echo:{q}", ensure_ascii=False)[1:-1] in got.text or json.dumps(f"echo:{q}")[1:-1] in got.text
    assert (line["calls"], seen) == (1, 1)
    note = site.wait_note(q)
    assert note["outcome"] == "complete" and note["whole"] and note["text"].startswith(f"echo:{q} ")


def test_calls_side_by_side_are_resumed(site, front, library, found):
    found("library", stack=site.stack.key, server=site.server.key, front=front, library=library, mode="resume")
    q = question()
    got, line, seen = site.ask(f"/{front}/resume", library=library, q=q)
    assert got.status == 200, got
    assert got.json()["q"] == q and [text.split(" the ")[0] for text in got.json()["texts"]] == [f"echo:{q} one", f"echo:{q} two"]
    assert (line["calls"], line["hops"], seen) == (2, 2, 2)


def test_a_worker_serves_others_while_calls_are_out(site, found):
    """More calls at once than the server has workers and threads: none of them holds one."""
    found("held", stack=site.stack.key, server=site.server.key)
    running = [site.bed.background(site.tarry.get, f"/held?q={n}", timeout=60) for n in range(site.server.slots + 3)]
    site.held.wait_for(site.server.slots + 3)
    assert site.tarry.get("/ready").text == "ready" and all(one.running for one in running)
    site.gate.open()
    assert [one.result().json()["text"] for one in running] == [f"held /{n}" for n in range(site.server.slots + 3)]


def test_a_large_answer_is_resumed(site):
    front = next(iter(site.stack.fronts))
    got, line, _ = site.ask(f"/{front}/resume", library="urllib.request", q="large", tokens=2_500_000)
    assert got.status == 200 and got.json()["lengths"][0] > 10 << 20, got


def test_who_comes_past_tarry_is_not_believed(site):
    """Headers without the secret: calls are made directly, and a continuation is refused."""
    front = next(iter(site.stack.fronts))
    forged = {"Tarry-Version": "1", "Tarry-Kind": "request", "Tarry-Features": "relay, resume, replay", "Tarry-Exchange": "x",
              "Tarry-Origins": f"http://{site.provider.http}"}
    got = request(site.program.address, "GET", f"/{front}/patched?library=urllib.request&case=whole&q=past", forged)
    assert got.status == 200 and got.json()["text"].startswith("echo:past ")
    forged["Tarry-Kind"] = "resume"
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert request(site.program.address, "POST", "/finished", forged, body).status == 403


