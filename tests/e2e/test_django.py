"""The real thing: Django REST framework on one gunicorn sync worker, over TCP and unix sockets."""

import gzip
import json
import pathlib
import sqlite3

import pytest

from harness import Gate, Reply

APPS = pathlib.Path(__file__).parent / "apps"
JSON = {"Content-Type": "application/json"}


def model(r, c):
    """An upstream that streams or answers with what it was asked."""
    text = json.loads(r.body)["text"]
    if r.path == "/stream":
        return Reply(200, [f"data: {text} {i}\n\n" for i in range(5)], {"Content-Type": "text/event-stream"}, framing="chunked")
    return Reply(200, json.dumps({"path": r.path, "answer": f"re: {text}"}), JSON)


@pytest.fixture(params=["tcp", "unix"])
def site(bed, request):
    return django_site(bed, bed.upstream(model), unix=request.param == "unix")


def django_site(bed, upstream, unix=True, workers=1, **pool):
    site = type("Site", (), {})()
    site.upstream = upstream
    site.database = bed.folder / "answers.sqlite3"
    site.gunicorn = bed.gunicorn("chat:application", workers=workers, bind=f"unix:{bed.folder}/g.sock" if unix else None,
                                 env={"MODEL_ORIGIN": upstream.origin, "DATABASE": str(site.database), "PYTHONPATH": str(APPS)})
    conf = bed.conf(site.gunicorn, upstream, slots=workers)
    conf.pool.update(pool)
    site.tarry = bed.tarry(conf)
    return site


def ask(site, path, text, **headers):
    return site.tarry.post(path, json.dumps({"text": text}), dict(JSON, **headers))


def test_a_plain_view(site):
    got = site.tarry.get("/plain/?q=hello")
    assert got.json() == {"plain": "hello", "hop": "0"} and got.headers.get("Content-Type") == "application/json"


def test_a_relayed_stream_with_the_cookie_of_the_view(site):
    got = ask(site, "/relay/", "tell me")
    assert got.status == 200 and got.headers.get("Content-Type") == "text/event-stream"
    assert got.text == "".join(f"data: tell me {i}\n\n" for i in range(5))
    assert got.headers.get("Set-Cookie").startswith("sessionid=")


def test_a_resumed_answer_is_stored_and_returned(site):
    got = ask(site, "/ask/", "question")
    assert got.json() == {"answers": [[200, {"path": "/answer", "answer": "re: question"}]], "state": "text=question"}
    rows = sqlite3.connect(site.database).execute("SELECT hop, text FROM answers").fetchall()
    assert [(hop, json.loads(text)[0][1]["answer"]) for hop, text in rows] == [("1", "re: question")]


def test_two_calls_side_by_side(site):
    got = ask(site, "/both/", "two")
    assert [a["path"] for _, a in got.json()["answers"]] == ["/first", "/second"]


def test_middleware_may_gzip_the_handoff(site):
    """GZipMiddleware compresses what is over 200 bytes, the handoff too, for a client that would take it."""
    text = "a long question " * 100
    got = ask(site, "/both/", text, **{"Accept-Encoding": "gzip"})
    assert got.headers.get("Content-Encoding") == "gzip"
    answers = json.loads(gzip.decompress(got.body))["answers"]
    assert [a["answer"] for _, a in answers] == ["re: " + text] * 2
    assert [json.loads(r.body)["text"] for r in site.upstream.requests] == [text] * 2


def test_a_streaming_response(site):
    got = site.tarry.get("/stream/")
    assert got.text == "".join(f"line {n}\n" * 100 for n in range(5))


def test_an_upload_and_errors_of_django(site):
    assert site.tarry.post("/upload/", b"x" * 1000000, {"Content-Type": "application/octet-stream"}).json() == {"size": 1000000}
    assert site.tarry.get("/nowhere/").status == 404
    assert site.tarry.request("DELETE", "/plain/").status == 405
    head = site.tarry.request("HEAD", "/plain/?q=1")
    assert head.status in (200, 405) and head.body == b""


def test_one_worker_serves_others_while_a_hundred_are_parked(bed):
    gate = Gate()

    def slow(r, c):
        gate.wait()
        return model(r, c)
    site = django_site(bed, bed.upstream(slow))
    tasks = [bed.background(ask, site, "/ask/", f"q{i}") for i in range(100)]
    site.upstream.wait_for(100)
    assert site.tarry.get("/plain/?q=1").status == 200
    assert all(t.running for t in tasks)
    gate.open()
    answers = [t.result().json()["answers"][0][1]["answer"] for t in tasks]
    assert answers == [f"re: q{i}" for i in range(100)]
    assert len(site.gunicorn.worker_pids()) == 1
