"""OpenTelemetry's and Sentry's own packages watch apps: a request is one span that lasts as long as its view, and what a left run leaves
behind is told from a response. And what the app itself can use: log records, the environ, the status of a handoff."""

import functools
import json
import logging
import os
import pathlib
import subprocess
import sys

import pytest
from asking import ask
from visits import Exchange

import tarry
from tarry.runs import suspended
from tarry.settings import settings

HERE = pathlib.Path(__file__).resolve().parent
SLOW = 0.2
TRACE = "0af7651916cd43dd8448eb211c80319c"


@functools.lru_cache(maxsize=None)
def printed(framework, resume):
    environ = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}"}
    environ.pop("DJANGO_SETTINGS_MODULE")
    command = [sys.executable, HERE / "telemetry.py", framework, resume]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Error" not in done.stderr, done.stderr
    return done.stdout


def watched(framework, resume):
    """What telemetry.py prints for two requests: one that calls a model, and one that does not."""
    for package in ("opentelemetry.sdk", "opentelemetry.instrumentation." + framework.replace("outside", "wsgi"), "sentry_sdk"):
        pytest.importorskip(package)
    pytest.importorskip({"django": "django", "flask": "flask"}.get(framework, "json"))
    if resume == "auto" and suspended.missing():
        pytest.skip(suspended.missing())
    found = json.loads(printed(framework, resume))
    assert [answer["text"] for answer in found["answers"]] == ["answer", "no call"]
    return found, [answer["id"] for answer in found["answers"]]


@pytest.mark.parametrize("framework", ["django", "flask", "wsgi"])
def test_the_span_of_a_suspended_view_ends_with_the_view(framework):
    found, (called, plain) = watched(framework, "auto")
    first, second = found["spans"]
    assert first["seconds"] >= SLOW and first["trace"] == TRACE and first["status"] == 200 and not first["failed"]
    assert (first["tarry.exchange"], first["tarry.run"], first["tarry.handoff"]) == (called, 1, None)
    assert (second["tarry.exchange"], second["parent"]) == (plain, False) and second["trace"] != TRACE
    assert found["filtered"] == found["spans"]


@pytest.mark.parametrize("framework, resume", [("django", "rerun"), ("flask", "rerun"), ("outside", "rerun"), ("outside", "auto")])
def test_the_span_of_a_visit_that_ended_in_a_handoff_says_so(framework, resume):
    """In "outside" the instrumentation is around tarry.wsgi(), and sees visits."""
    found, (called, plain) = watched(framework, resume)
    first, second, third = found["spans"]
    assert (first["tarry.exchange"], first["tarry.run"], first["tarry.handoff"]) == (called, 1, True) and not first["failed"]
    assert first["status"] in (202, None)  # Flask's says nothing of a run that is left
    assert (second["tarry.run"], second["tarry.handoff"], second["status"]) == (2 if resume == "rerun" else 1, None, 200)
    assert first["trace"] == second["trace"] == TRACE
    assert (third["tarry.exchange"], third["tarry.handoff"], third["parent"]) == (plain, None, False)
    assert found["filtered"] == [second, third]


def test_a_left_run_leaves_no_trace_context_to_the_next_request():
    """OpenTelemetry's WSGI middleware sees no Exception, and cleans nothing up."""
    found, (called, plain) = watched("wsgi", "rerun")
    answered, second = found["spans"]
    assert answered["trace"] == TRACE and (answered["kind"], answered["tarry.run"]) == ("SERVER", 2)
    assert (second["kind"], second["parent"]) == ("SERVER", False) and second["trace"] != TRACE


@pytest.mark.parametrize("resume", ["rerun", "auto"])
@pytest.mark.parametrize("framework", ["django", "flask", "wsgi", "outside"])
def test_sentry_gets_one_transaction_a_request_and_no_error(framework, resume):
    """Its integration of Flask, like "outside", is around tarry.wsgi()."""
    found, (called, plain) = watched(framework, resume)
    first, second = found["transactions"]
    assert found["errors"] == [] and first["status"] == second["status"] == 200
    runs = "2" if resume == "rerun" else "1"
    assert (first["tags"]["tarry.exchange"], first["tags"]["tarry.run"]) == (called, runs)
    assert second["tags"]["tarry.exchange"] == plain
    if resume == "auto" and framework in ("django", "wsgi"):
        assert first["seconds"] >= SLOW


def test_log_records_the_environ_and_the_status_tell_of_the_exchange(resume):
    seen, records = [], []
    handler = logging.Handler()
    handler.emit = records.append
    handler.addFilter(tarry.LogFilter())
    log = logging.getLogger("of.the.app")
    log.addHandler(handler)

    def view(environ, start_response):
        seen.append((environ["tarry.exchange_id"], environ["tarry.run"]))
        log.warning("before")
        text = ask()
        log.warning("after")
        start_response("200 OK", [])
        return [text.encode()]

    exchange = Exchange(tarry.wsgi(view))
    assert exchange.visit().status == 202 and not exchange.done
    environ = exchange.answer("answer").environ()
    exchange.app = lambda unused, start_response, app=exchange.app: app(environ, start_response)
    assert exchange.visit().text == "answer"
    log.warning("outside")
    log.removeHandler(handler)
    runs = [1, 2] if resume == "rerun" else [1]
    assert seen == [(exchange.id, run) for run in runs]
    assert (environ["tarry.exchange_id"], environ["tarry.run"]) == (exchange.id, runs[-1])  # for the server's access log
    told = [(record.getMessage(), record.tarry_exchange, record.tarry_run) for record in records]
    assert told == [
        ("before", exchange.id, 1),
        *[("before", exchange.id, 2)] * (resume == "rerun"),
        ("after", exchange.id, runs[-1]),
        ("outside", "-", 0),
    ]


def test_what_sentry_would_get_from_a_view_that_fails_has_the_exchange(monkeypatch):
    from tarry.runs.observers import _of_sentry

    settings.resume = "rerun"
    events = []

    def view(environ, start_response):
        events.append(_of_sentry({"tags": {"mine": "1"}}, {"exc_info": (ValueError, ValueError(), None)}))
        events.append(_of_sentry({}, {"exc_info": (tarry.Handoff, tarry.Handoff(), None)}))
        start_response("200 OK", [])
        return [b""]

    exchange = Exchange(tarry.wsgi(view)).visit()
    assert events == [{"tags": {"mine": "1", "tarry.exchange": exchange.id, "tarry.run": "1"}}, None]
