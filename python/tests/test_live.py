"""Streams of unmodified projects through `gunicorn -c python:tarry.gunicorn`, the real Tarry and the services' own SDKs.

That a stream is live is seen by the order of events: the model says the next token only when the client has got the one before."""

import os
import signal

import pytest
from behind import eventually, new_bed, show

pytest.importorskip("openai")
pytest.importorskip("anthropic")
pytest.importorskip("django")

from harness import Truncated  # noqa: E402
from hooked import Hooked, Model  # noqa: E402

from tarry.runs import suspended  # noqa: E402

pytestmark = pytest.mark.skipif(bool(suspended.missing()), reason=suspended.missing())


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A bed, a model and the Django site, for all tests that leave its worker as it is."""
    bed = new_bed(tmp_path_factory.mktemp("live"))
    model = Model(bed)
    try:
        yield bed, model, Hooked(bed, model)
    finally:
        show(bed)
        bed.stop()


@pytest.fixture
def model(shared):
    return shared[1]


@pytest.fixture
def site(shared):
    return shared[2]


@pytest.fixture
def bed(tmp_path):
    """For a site of the test's own."""
    bed = new_bed(tmp_path)
    yield bed
    show(bed)
    bed.stop()


@pytest.fixture
def name(request):
    """Of what is asked, and of what is noted."""
    return "".join(c for c in request.node.name if c.isalnum())


def data(*tokens):
    return "".join(f"data: {token}\n\n" for token in tokens)


def live(stream, feed, *tokens):
    """Each token is with the client before the model says the next one."""
    for token in tokens:
        feed.send(token)
        stream.until(token)
    return stream


def runs(site, name):
    return site.notes().count(f"run {name}")


# --- libraries ---

SSE = ["with_openai", "with_anthropic_create", "with_gemini", "rest", "session", "headers"]
TEXT = ["with_httpx", "with_requests", "with_requests_lines", "with_urllib3", "with_urllib"]


@pytest.mark.parametrize("view", SSE)
def test_events_of_an_sdk_are_live(site, model, name, view):
    if view == "with_gemini":
        pytest.importorskip("google.genai")
    stream = site.stream(f"/{view}/{name}")
    live(stream, model.asked(name), "one", "two", "three")
    model.asked(name).end("four")
    assert stream.rest() == data("one", "two", "three", "four") + ("data: \n\n" if view == "with_gemini" else "")
    assert runs(site, name) == 1 and model.times(name) == 1


@pytest.mark.parametrize("view", TEXT)
def test_plain_text_is_live(site, model, name, view):
    stream = site.stream(f"/{view}/{name}")
    live(stream, model.asked(name), "one", "two", "three")
    model.asked(name).end("four")
    assert stream.rest() == "one\ntwo\nthree\nfour\n"
    assert runs(site, name) == 1 and model.times(name) == 1


def test_anthropics_stream_manager_and_its_final_message(site, model, name):
    stream = site.stream(f"/with_anthropic/{name}")
    live(stream, model.asked(name), "one", "two")
    model.asked(name).end("three")
    assert stream.rest() == data("one", "two", "three", "end_turn: onetwothree") and runs(site, name) == 1


def test_the_views_head_is_the_clients(site, model, name):
    stream = site.stream(f"/headers/{name}")
    live(stream, model.asked(name), "one")
    model.asked(name).end()
    stream.rest()
    head = stream.response
    assert head.status == 203 and head.headers.get("X-Own") == "yes" and head.headers.get("Set-Cookie").startswith(f"seen={name}")
    assert head.headers.get("Content-Type") == "text/event-stream" and not head.headers.starting("tarry-")


# --- what generators do ---


def test_a_row_is_written_after_the_last_chunk(site, model, name):
    stream = site.stream(f"/saved/{name}")
    live(stream, model.asked(name), "one", "two")
    assert f"{name}: onetwo" not in site.groups()
    model.asked(name).end()
    assert stream.rest() == data("one", "two", "saved")
    assert site.groups().count(f"{name}: onetwo") == 1 and runs(site, name) == 1


def test_bytes_a_stream_a_call_and_another_stream(site, model, name):
    stream = site.stream(f"/mixed/{name}").until("thinking")
    live(stream, model.asked(f"{name}-a"), "one", "two")
    model.asked(f"{name}-a").end()
    stream.until(f"echo:{name}-b")
    live(stream, model.asked(f"{name}-c"), "three")
    model.asked(f"{name}-c").end()
    assert stream.rest() == data("thinking", "one", "two", "asking", f"echo:{name}-b", "three", "end") and runs(site, name) == 1


def test_a_stream_that_is_given_up_is_reset_and_the_next_one_is_live(site, model, name):
    stream = site.stream(f"/breaks/{name}")
    live(stream, model.asked(f"{name}-a"), "one")
    second = model.asked(f"{name}-b")
    model.asked(f"{name}-a").is_reset.wait()
    live(stream, second, "two", "three")
    second.end()
    assert stream.rest() == data("one", "two", "three") and runs(site, name) == 1


def test_two_streams_side_by_side_come_right(site, model, name):
    stream = site.stream(f"/beside/{name}")
    model.asked(f"{name}-a").send("a1", "a2")
    model.asked(f"{name}-b").end("b1", "b2")
    stream.until("a1b1").until("a2b2")
    model.asked(f"{name}-a").end()
    assert stream.rest() == data("a1b1", "a2b2") and runs(site, name) == 1


def test_calls_amid_a_stream(site, model, name):
    stream = site.stream(f"/amid/{name}")
    feed = model.asked(f"{name}-a")
    for token in ("one", "two", "three"):
        feed.send(token)
        stream.until(f"echo:{name}-{token}")
    feed.end()
    assert stream.rest() == data(*(text for t in ("one", "two", "three") for text in (t, f"echo:{name}-{t}")))
    assert runs(site, name) == 1 and model.times(f"{name}-a") == 1


def test_an_exception_after_bytes_cuts_and_finally_runs_once(site, model, name):
    stream = site.stream(f"/raises/{name}")
    live(stream, model.asked(name), "one", "two")
    with pytest.raises(Truncated):
        stream.rest()
    model.asked(name).is_reset.wait()
    assert site.notes().count(f"finally {name}") == 1
    site.wait_line("ValueError: two is too many")


def test_an_exception_before_bytes_is_a_500(site, model, name):
    stream = site.stream(f"/raises_at_once/{name}")
    model.asked(name).send("one")
    body = stream.rest()
    assert stream.response.status == 500 and "Internal Server Error" in body
    model.asked(name).is_reset.wait()


def test_a_client_that_leaves_is_generator_exit_in_the_view_and_the_call_is_reset(site, model, name):
    stream = site.stream(f"/left/{name}")
    live(stream, model.asked(name), "one", "two")
    stream.close()
    model.asked(name).is_reset.wait()
    eventually(lambda: f"{name}: one two" in site.groups(), "the row of GeneratorExit")
    eventually(lambda: f"finally {name}" in site.notes(), "the view's finally")
    assert not [line for line in site.notes() if line.endswith(f" {name}") and line.split()[0] not in ("run", "finally")]


def test_a_view_that_collects_a_stream_is_asked_whole_the_next_time(site, model, name):
    for time in ("first", "second"):
        stream = site.stream(f"/collected/{name}{time}")
        model.asked(f"{name}{time}").end("one", "two")
        assert stream.rest() == '{"text": "one two", "then": "echo:%s%s-then"}' % (name, time)
        assert runs(site, f"{name}{time}") == 1


def test_a_view_that_streams_is_live_though_it_collected_before(site, model, name):
    stream = site.stream(f"/collected/{name}")
    model.asked(name).end("one")
    stream.rest()
    test_a_row_is_written_after_the_last_chunk(site, model, f"{name}2")


def test_sleeps_in_a_generator_are_live_and_hold_no_worker(site, name):
    streams = [site.stream(f"/sleeps/{name}") for _ in range(10)]
    for stream in streams:
        assert stream.until("2").rest() == data("0", "1", "2", "end")
    assert runs(site, name) == 10


def test_sleeps_amid_a_stream(site, model, name):
    stream = site.stream(f"/sleeps_amid/{name}")
    live(stream, model.asked(name), "one", "two")
    model.asked(name).end("three")
    assert stream.rest() == data("one", "two", "three")


@pytest.mark.parametrize("library, error", [("httpx", "RemoteProtocolError"), ("requests", "ChunkedEncodingError")])
def test_an_upstream_that_breaks_off_is_the_librarys_own_exception(site, model, name, library, error):
    stream = site.stream(f"/broken/{name}?{library}")
    live(stream, model.asked(name), "one")
    model.asked(name).cut()
    assert stream.rest() == f"one\n{error}"


def test_a_stream_within_a_transaction_is_run_again_with_all_that_came(site, model, name):
    stream = site.stream(f"/atomic/{name}")
    live(stream, model.asked(name), "one")
    model.asked(name).end("two", "three")
    assert stream.rest() == data("one", "written", "three")
    assert site.groups().count(f"{name}: two") == 1 and model.times(name) == 1


def test_a_download_keeps_its_length(site):
    got = site.get("/csv")
    assert got.headers.get("Content-Length") == str(len(got.body)) and got.body.endswith(b"row 999\n")


def test_head_of_a_stream(site, model, name):
    assert site.get(f"/sleeps/{name}", method="HEAD").body == b""
