"""SIGKILL the gunicorn worker in the middle of 200 exchanges: no paid answer is lost, no exchange hangs."""

import collections
import json
import os
import signal
import threading

import pytest

from harness import Reply, eventually
from test_django import ask, django_site


@pytest.mark.slow
def test_killed_workers_lose_no_paid_answer(bed):
    """Kills come while requests are at hop 0 and while resumes are being delivered. Only what was at hop 0 in a killed
    worker may fail, with 502; whatever reached the model comes back."""
    asked, lock, kills = collections.Counter(), threading.Lock(), []

    def model(r, c):
        text = json.loads(r.body)["text"]
        with lock:
            asked[text] += 1
        c.server.stopping.wait(0.3)
        return Reply(200, json.dumps({"answer": f"re: {text}"}), {"Content-Type": "application/json"})
    site = django_site(bed, bed.upstream(model))
    finished = lambda: len(site.tarry.access.lines)  # noqa: E731
    tasks = [bed.background(ask, site, "/ask/", f"q{i}") for i in range(200)]

    for reached in (lambda: len(asked) >= 20, lambda: finished() >= 20, lambda: len(asked) >= 120, lambda: finished() >= 120):
        eventually(lambda: reached() or finished() == 200, "the next moment to kill")
        pid, = eventually(lambda: set(site.gunicorn.worker_pids()) - set(kills), "a living worker")
        kills.append(pid)
        os.kill(pid, signal.SIGKILL)

    results = {f"q{i}": t.result() for i, t in enumerate(tasks)}
    assert len(set(kills)) == 4
    failed = {text: r.status for text, r in results.items() if r.status != 200}
    assert set(failed.values()) <= {502} and len(failed) <= len(kills), failed
    for text, r in results.items():
        if r.status == 200:
            assert r.json()["answers"] == [[200, {"answer": f"re: {text}"}]] and r.json()["state"] == "text=" + text
    lost = [text for text in asked if results[text].status != 200]
    assert lost == [] and set(asked.values()) == {1}


@pytest.mark.slow
def test_a_worker_killed_at_hop_0_is_a_502_and_the_next_request_is_served(bed):
    site = django_site(bed, bed.upstream(lambda r, c: b"{}"))
    assert site.tarry.get("/plain/?q=1").status == 200
    for _ in range(3):
        pid, = eventually(site.gunicorn.worker_pids, "a worker")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: set(site.gunicorn.worker_pids()) - {pid}, "another worker")
        assert site.tarry.get("/plain/?q=1").status == 200
