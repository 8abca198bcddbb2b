"""Through the real Tarry, on gunicorn's sync workers, to the stand-in for the AI services. Skipped where Tarry is not built,
or gunicorn and h2 (which the harness of tests/e2e stands on) are not installed."""

import importlib.util

import pytest
from behind import Site, asked, eventually, new_bed, show

pytestmark = pytest.mark.usefixtures("resume")

SDK = {
    "requests": ["with_requests"],
    "openai": ["openai_chat", "openai_stream", "openai_responses", "openai_async"],
    "anthropic": ["anthropic_chat", "anthropic_stream"],
}


@pytest.fixture
def bed(tmp_path):
    bed = new_bed(tmp_path)
    yield bed
    show(bed)
    bed.stop()


def test_an_unmodified_view_holds_no_worker(bed):
    site = Site(bed, delay="300ms")
    running = [bed.background(site.tarry.get, f"/agent/?do=one&text=t{n}") for n in range(20)]
    answers = [r.result().json() for r in running]
    assert [a["text"].split()[0] for a in answers] == [f"echo:t{n}" for n in range(20)]
    assert len(asked(site, 20)) == 20 and len({a["pid"] for a in answers}) == 1
    assert all(line["hops"] == 2 and line["calls"] == 1 for line in site.tarry.access.lines)


def test_an_agent_on_two_workers_asks_each_question_once(bed):
    site = Site(bed, workers=2)
    running = [
        bed.background(site.tarry.post, "/agent/?do=agent", f'{{"text": "t{n}"}}', {"Content-Type": "application/json"})
        for n in range(10)
    ]
    assert sorted(r.result().json()["text"] for r in running) == sorted(f"4.3.2.1.0.t{n}" for n in range(10))
    assert len(asked(site, 50)) == 50


def test_a_new_process_for_every_hop(bed):
    """State is never in the process. gunicorn needs a second or two for each new one, so there are only two clients."""
    site = Site(bed, workers=2, args=["--max-requests", "1", "--preload"])
    running = [
        bed.background(site.tarry.post, "/agent/?do=agent", f'{{"text": "t{n}"}}', {"Content-Type": "application/json"})
        for n in range(2)
    ]
    assert sorted(r.result().json()["text"] for r in running) == sorted(f"4.3.2.1.0.t{n}" for n in range(2))
    assert len(asked(site, 10)) == 10


def test_gather_and_a_streamed_view(bed):
    site = Site(bed)
    texts = site.tarry.get("/agent/?do=gather").json()["texts"]
    assert [t.split()[0] for t in texts] == ["echo:left", "echo:right"]
    assert site.tarry.get("/agent/?do=lines").text.startswith("echo:streamed")
    assert len(asked(site, 3)) == 3


def test_a_worker_that_dies_on_every_run_loses_no_answer_and_asks_nothing_twice(bed):
    site = Site(bed)
    got = site.tarry.get("/agent/?do=fragile")
    assert got.json() == {"text": "1.0.x"}
    # The view kills its worker at the first delivery of each later hop, a suspended one too: its fields of Tarry are the visit's.
    assert len(asked(site, 2)) == 2 and site.gunicorn.output.count("Booting worker") == 3


@pytest.mark.parametrize("resume", ["auto"], indirect=True)  # a view that is run again is not lost
@pytest.mark.parametrize("lost, status, written", [("rerun", 200, 2), ("error", 500, 1)])
def test_a_worker_that_dies_after_a_write_that_nobody_has_heard_of(bed, resume, lost, status, written):
    """The state that came back with the answer knows of no write: lost="error" does not run the view again all the same."""
    site = Site(bed, env={"TARRY_LOST": lost})
    assert site.tarry.get("/agent/?do=writes_and_dies").status == status
    assert site.tarry.get("/agent/?do=rows").json() == {"rows": written}
    assert "may have committed a write before its worker died" in site.gunicorn.output


def check_facts(facts, usage):
    """What Tarry says of a call is what the service's own report says; what that leaves out is None."""
    details = (usage.get("prompt_tokens_details", {}), usage.get("completion_tokens_details", {}))
    assert facts["tokens"] == {
        "input": usage["prompt_tokens"],
        "output": usage["completion_tokens"],
        "cached": details[0].get("cached_tokens"),
        "reasoning": details[1].get("reasoning_tokens"),
    }
    assert (facts["attempts"], facts["status"]) == (1, 200) and facts["request_id"]
    times = [facts["times"][name] for name in ("head", "content", "total")]
    assert None not in times and times == sorted(times)


def test_relay_resume_and_notify(bed):
    site = Site(bed, delay="20ms")
    got = site.tarry.get("/agent/?do=resume").json()
    assert [t.split()[0] for t in got["texts"]] == ["echo:one", "echo:two"] and got["state"] == {"id": 7}
    for facts, usage in zip(got["facts"], got["usage"]):
        check_facts(facts, usage)
    stream = site.tarry.get("/agent/?do=relay")
    assert stream.headers.get("Content-Type").startswith("text/event-stream") and stream.text.rstrip().endswith("data: [DONE]")
    site.tarry.access.wait_for(lambda line: True, n=2)
    ((outcome, state, body, text, whole, facts, usage),) = eventually(
        lambda: site.tarry.get("/agent/?do=notified").json()["finished"], "the notify"
    )
    assert (outcome, state, body) == ("complete", {"saved": "as"}, stream.text)
    assert (text, whole) == ("echo:relayed", True)
    check_facts(facts, usage)
    unread = site.tarry.get("/agent/?do=unread").json()
    assert (unread["status"], unread["usage"]) == (200, None)
    assert site.tarry.post("/agent/finish/", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").status == 403


@pytest.fixture(scope="module")
def sdk_site(tmp_path_factory):
    """One for all SDKs: to import them takes a worker longer than all else."""
    folder = tmp_path_factory.mktemp("sdk")
    bed = new_bed(folder)
    yield Site(bed)
    bed.stop()


def visited(site, view):
    """(status, text, hops, calls) of one request."""
    got = site.tarry.get(f"/agent/?do={view}")
    line = site.tarry.access.wait_for(lambda line: f"do={view}" in str(line))
    return got.status, got.text, line["hops"], line["calls"]


@pytest.mark.parametrize("name, view", [(name, view) for name, views in SDK.items() for view in views])
def test_a_library_as_it_is(sdk_site, name, view):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"no {name} here")
    status, text, hops, calls = visited(sdk_site, view)
    assert status == 200 and text.startswith("echo:")
    if view == "openai_async":  # its first call in a process asks a thread for the platform, and the other task may come too late
        assert hops in (2, 3) and calls == 2
    else:
        assert (hops, calls) == (2, 1)


def test_embeddings(sdk_site):
    pytest.importorskip("openai")
    got = sdk_site.tarry.get("/agent/?do=openai_embeddings").json()
    assert got["n"] == 2 and got["size"] > 0


def test_a_failure_that_tarry_tried_again_is_not_tried_again_by_the_sdk(sdk_site):
    pytest.importorskip("openai")
    status, text, hops, calls = visited(sdk_site, "openai_failing")
    assert (status, text, hops, calls) == (200, "caught 503", 2, 1)
