"""Answers of the real services, recorded once."""

import json

import pytest
from asking import ask

import tarry
from tarry.test import Recorded, WSGIClient


def run(view, answers):
    def app(environ, start_response):
        text = view()
        start_response("200 OK", [])
        return [str(text).encode()]

    return WSGIClient(tarry.wsgi(app), answers).get("/").body.decode()


def test_what_was_recorded_is_answered_again_without_the_service(tmp_path, upstream):
    file = tmp_path / "answers" / "two.json"
    view = lambda: (ask("a", upstream.origin), ask("b", upstream.origin), ask("a", upstream.origin))  # noqa: E731
    first = run(view, Recorded(file, [upstream.origin], record=True))
    assert first == str(('{"direct": 1}', '{"direct": 2}', '{"direct": 3}')) and len(upstream.bodies) == 3
    assert run(view, Recorded(file)) == first and len(upstream.bodies) == 3
    written = file.read_text()
    assert '"a"' not in written and [entry["status"] for entry in json.loads(written)] == [200] * 3


def test_what_is_missing_is_an_error_that_says_how_to_record_it(tmp_path, upstream, monkeypatch):
    file = tmp_path / "answers.json"
    with pytest.raises(tarry.TarryError, match=f"{file}.*TARRY_RECORD=1"):
        run(lambda: ask("a", upstream.origin), Recorded(file, [upstream.origin]))
    monkeypatch.setenv("TARRY_RECORD", "1")
    assert run(lambda: ask("a", upstream.origin), Recorded(file, [upstream.origin])) == '{"direct": 1}'
    with pytest.raises(tarry.TarryError, match="no response to be recorded"):
        run(lambda: ask("a", "http://127.0.0.1:1"), Recorded(file, ["http://127.0.0.1:1"]))


def test_bodies_that_are_no_text_are_recorded_too(tmp_path):
    from tarry.format.message import Answer, Call
    from tarry.testing.recorded import _answer, _entry

    call = Call("GET", "https://a.example/x")
    answer = Answer(200, "OK", [("Content-Type", "image/png"), ("Set-Cookie", "a=1")], b"\x89PNG\xff")
    again = _answer(json.loads(json.dumps(_entry(call, "d", answer))))
    assert (again.status, again.headers, again.body) == (200, [("Content-Type", "image/png")], b"\x89PNG\xff")
