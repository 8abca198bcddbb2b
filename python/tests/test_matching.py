"""Which recorded answer belongs to which call; and leaving the view, whatever it does about that."""

import contextlib
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest

requests = pytest.importorskip("requests")

import tarry  # noqa: E402
from tarry.settings import settings  # noqa: E402
from tarry.test import WSGIClient  # noqa: E402

pytestmark = pytest.mark.usefixtures("resume")

MODEL = "https://model.example"
URL = MODEL + "/v1/chat"


def ask(text, url=URL, **more):
    return requests.post(url, json={"q": text, **more}).text


def run(view, answers=lambda call: call.body.decode().split('"')[3] + "!"):
    def app(environ, start_response):
        text = view()
        start_response("200 OK", [])
        return [str(text).encode()]

    client = WSGIClient(tarry.wsgi(app), answers, [MODEL])
    return client.get("/").body.decode(), client


def test_a_clock_in_the_body_gets_the_recorded_answer_and_is_told_once(messages, resume):
    ids = itertools.count()

    def view():
        return ask("a", at={"id": next(ids)}) + ask("b")

    assert run(view)[0] == "a!b!" and run(view)[0] == "a!b!"
    if resume == "rerun":
        (message,) = messages()
        assert "at.id" in message and URL in message and "test_matching" not in message
    else:
        assert messages() == []  # the clock is asked once


def test_strict_makes_it_an_error(resume):
    settings.strict = True
    ids = itertools.count()
    with pytest.raises(tarry.ReplayMismatch, match="at.id") if resume == "rerun" else contextlib.nullcontext():
        run(lambda: ask("a", at={"id": next(ids)}))


def test_another_url_is_always_an_error(resume):
    urls = iter([URL, MODEL + "/other"])
    with pytest.raises(tarry.ReplayMismatch, match=f"{URL}.*{MODEL}/other") if resume == "rerun" else contextlib.nullcontext():
        run(lambda: ask("a", next(urls)))


def test_gather_sends_its_calls_side_by_side_and_each_branch_goes_on_by_itself():
    def branch(text, n):
        for _ in range(n):
            text = ask(text)
        return text

    def view():
        return ask("0"), tarry.gather(
            lambda: branch("a", 1), lambda: branch("b", 2), lambda: tarry.gather(lambda: branch("c", 1), lambda: branch("d", 1))
        )

    text, client = run(view)
    assert text == str(("0!", ["a!", "b!!", ["c!", "d!"]]))
    assert [len(batch) for batch in client.batches] == [1, 4, 1]


def test_gather_raises_the_first_error_when_all_branches_are_through():
    done = []

    def view():
        try:
            tarry.gather(lambda: 1 / 0, lambda: done.append(ask("b")), lambda: [][1])
        except ZeroDivisionError as e:
            return type(e).__name__

    text, client = run(view)
    assert text == "ZeroDivisionError" and done == ["b!"] and len(client.calls) == 1


def test_gather_without_tarry_just_calls():
    assert tarry.gather(lambda: 1, lambda: 2) == [1, 2]


def test_more_calls_than_a_handoff_may_have_go_with_the_next():
    def app(environ, start_response):
        texts = tarry.gather(*[lambda n=n: ask(str(n)) for n in range(5)])
        start_response("200 OK", [])
        return ["".join(texts).encode()]

    client = WSGIClient(tarry.wsgi(app), lambda call: call.body.decode().split('"')[3], [MODEL], max_calls=2)
    assert client.get("/").body == b"01234"
    assert [len(batch) for batch in client.batches] == [2, 2, 1]


def test_threads_that_carry_the_context_leave_in_one_handoff_whatever_their_order():
    delays = itertools.cycle([0.03, 0.0, 0.01, 0.0, 0.02, 0.03])

    def work(text, delay):
        time.sleep(delay)
        return ask(ask(text))

    def view():
        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(copy_context().run, work, text, next(delays)) for text in ("a", "b", "a")]
        return [f.result() for f in futures]

    text, client = run(view)
    assert text == "['a!!', 'b!!', 'a!!']" and [len(batch) for batch in client.batches] == [3, 3]


def test_threads_whose_calls_cannot_be_told_apart_are_an_error_and_never_a_wrong_answer():
    ids = itertools.count()

    def view():
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(copy_context().run, ask, text, id=next(ids)) for text in ("a", "b")]
        return [f.result() for f in futures]

    with pytest.raises(tarry.ReplayMismatch, match="gather"):
        run(view)


def bare_except():
    try:
        return ask("a")
    except:  # noqa: E722
        return "the wrong answer"


def finally_return():
    try:
        text = ask("a")
    finally:
        with contextlib.suppress(UnboundLocalError):
            return text
        return "the wrong answer"  # noqa: B012


def another_exception():
    try:
        return ask("a")
    except BaseException as e:
        raise ValueError("the model failed") from e


def retries_on_anything():
    for _ in range(5):
        try:
            return ask("a")
        except BaseException:  # noqa: B036
            pass
    return "the wrong answer"


def another_provider():
    try:
        return ask("a")
    except BaseException:
        return ask("b")


@pytest.mark.parametrize("view", [bare_except, finally_return, another_exception, retries_on_anything, another_provider])
def test_a_view_that_swallows_the_handoff_is_run_again_and_asks_once(view, messages, resume):
    text, client = run(view)
    assert text == "a!" and len(client.calls) == 1 and client.hops == 2
    # There a second handoff left the view; and one that is suspended has nothing to swallow.
    expected = 0 if view is another_provider or resume == "auto" else 1
    assert len([m for m in messages() if "swallowed" in m]) == expected


@pytest.mark.parametrize("catch", [Exception, requests.RequestException])
def test_who_catches_exceptions_does_not_notice(catch, messages):
    def view():
        with contextlib.suppress(catch):
            return ask("a")
        return "swallowed"

    assert run(view)[0] == "a!" and messages() == []


def test_sleeps_after_a_recorded_failure_are_skipped_and_others_are_slept_once(monkeypatch):
    slept = []
    monkeypatch.setattr("tarry.transports.sleep._real", slept.append)

    def view():
        time.sleep(1)
        for n in range(3):
            if requests.post(URL, json=n).status_code == 200:
                break
            time.sleep(100 + n)
        time.sleep(2)
        return n

    text, client = run(view, lambda call: (200 if call.body == b"2" else 503, b""))
    assert text == "2" and client.hops == 4
    assert slept == [1, 2]  # the first one on the first run alone: what is recorded was asked after it


def test_tenacity_tries_again_without_holding_the_worker(monkeypatch):
    tenacity = pytest.importorskip("tenacity")
    slept = []
    monkeypatch.setattr("tarry.transports.sleep._real", slept.append)

    @tenacity.retry(wait=tenacity.wait_fixed(50), stop=tenacity.stop_after_attempt(4))
    def asked():
        r = requests.post(URL, data=b"x")
        r.raise_for_status()
        return r.text

    text, client = run(asked, [(503, b""), (503, b""), "fine"])
    assert text == "fine" and len(client.calls) == 3 and slept == []


def test_more_threads_than_one_handoff_takes_get_their_own_answers():
    """A call that had to wait is not taken for another thread's, whose answer is there and not asked for yet."""
    runs = []

    def view():
        runs.append(1)
        order = list(range(4))[:: 1 if len(runs) % 2 else -1]
        with ThreadPoolExecutor(1) as pool:
            futures = {n: pool.submit(copy_context().run, ask, f"t{n}") for n in order}
            return [futures[n].result() for n in range(4)]

    def app(environ, start_response):
        text = view()
        start_response("200 OK", [])
        return [str(text).encode()]

    client = WSGIClient(tarry.wsgi(app), lambda call: call.body.decode().split('"')[3] + "!", [MODEL], max_calls=3)
    assert client.get("/").body.decode() == str([f"t{n}!" for n in range(4)])
    assert len(client.calls) == 4
