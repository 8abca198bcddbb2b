"""Views that run once: what a suspended run is, when there is none, and what becomes of it."""

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import json
import os
import signal
import sys
import threading
import time
import warnings

import pytest
from asking import ask
from visits import SILENT, Exchange, lose

import tarry
from tarry.format.message import Answer
from tarry.runs import memory, suspended, watch
from tarry.settings import settings

pytestmark = pytest.mark.skipif(bool(suspended.missing()), reason=suspended.missing())


@pytest.fixture(autouse=True)
def auto():
    settings.resume = "auto"
    for name in suspended.counts:
        suspended.counts[name] = 0
    suspended.reasons.clear()
    yield
    suspended.drop_all()


def wsgi(view):
    """view(environ) returns what becomes JSON; `runs` has an entry for each run."""

    def app(environ, start_response):
        application.runs.append(environ["QUERY_STRING"])
        made = view(environ)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(made).encode()]

    application = tarry.wsgi(app)
    application.runs = []
    return application


def interleaved(app, n=3, order=-1):
    """n exchanges of one process, each visit of all before the next one's, forth and back."""
    all_ = [Exchange(app, f"/?n={i}").visit() for i in range(n)]
    turn = 0
    while any(not each.done for each in all_):
        for each in all_[::order] if turn % 2 == 0 else all_:
            if not each.done:
                each.go()
        turn += 1
    return [each.json() for each in all_]


# It runs once


def test_a_view_runs_once_whatever_the_number_of_its_calls():
    app = wsgi(lambda environ: [ask("a"), ask("b"), ask("c")])
    exchange = Exchange(app).to_end()
    assert exchange.json() == ["echo:a", "echo:b", "echo:c"] and exchange.hop == 3 and app.runs == [""]
    assert suspended.counts == {"begun": 1, "suspended": 3, "continued": 3, "lost": 0, "dropped": 0, "refused": 0}
    assert not suspended.table.runs


def test_a_state_that_is_full_of_results_leaves_room_for_the_runs_own(upstream):
    """A larger one would be refused by Tarry, and the request with it."""
    import secrets

    limit = 1000
    for size in range(400, 760, 15):

        def view(environ, size=size):
            tarry.once(lambda: secrets.token_urlsafe(size))
            tarry.current().writes.append("INSERT INTO " + os.urandom(90).hex())
            return ask(origin=upstream.origin)

        exchange = Exchange(wsgi(view), state=limit)
        exchange.origins = upstream.origin
        exchange.visit()
        assert len(exchange.state) <= limit, size


def test_it_is_told_how_often_a_view_was_run(messages):
    app = wsgi(lambda environ: [ask("a"), ask("b")])
    Exchange(app).to_end()
    exchange = Exchange(app).visit().go().answer()
    lose()
    exchange.visit()
    told = [text for text in messages("INFO") if "was run" in text]
    assert ["was run 1 time " in told[0], "was run 2 times " in told[1]] == [True, True], told


def test_a_run_that_stands_does_not_keep_its_handoff():
    """It has the call's whole body, and may be large."""
    Exchange(wsgi(lambda environ: ask("a"))).visit()
    [run] = suspended.table.runs.values()
    frame, frames = run._point.gr_frame, 0
    while frame is not None:
        for value in [part for one in frame.f_locals.values() for part in (one if isinstance(one, tuple) else [one])]:
            assert not (isinstance(value, bytes) and b"HTTP/1.1\r\n" in value), frame.f_code.co_name
        frame, frames = frame.f_back, frames + 1
    assert frames > 3 and run._out is None


def test_answers_go_to_their_own_exchange_in_any_order():
    app = wsgi(lambda environ: [environ["QUERY_STRING"], ask(environ["QUERY_STRING"]), ask(f"again {environ['QUERY_STRING']}")])
    found = interleaved(app, 20)
    assert found == [[f"n={i}", f"echo:n={i}", f"echo:again n={i}"] for i in range(20)] and len(app.runs) == 20


def test_the_handoff_says_where_its_run_is(monkeypatch):
    monkeypatch.setattr(suspended, "address", "unix:/run/app/1.sock")
    app = wsgi(lambda environ: ask())
    exchange = Exchange(app).visit()
    assert exchange.fields["tarry-sticky"] == ["10.000"] and exchange.fields["tarry-at"] == ["unix:/run/app/1.sock"]
    # A Tarry that does not offer it is told nothing of it, and the run is found by luck.
    other = Exchange(app, features=SILENT).visit()
    assert not {"tarry-sticky", "tarry-at", "tarry-wait"} & set(other.fields)
    assert other.go().json() == "echo:q" and exchange.go().json() == "echo:q" and len(app.runs) == 2


def test_the_default_of_patch_all_is_to_run_again():
    settings.resume = "rerun"
    app = wsgi(lambda environ: ask())
    exchange = Exchange(app).visit()
    assert not exchange.suspended and exchange.go().json() == "echo:q" and len(app.runs) == 2


def test_a_body_that_is_read_after_the_call():
    app = wsgi(lambda environ: [environ["wsgi.input"].read(3).decode(), ask(), environ["wsgi.input"].read().decode()])
    assert Exchange(app, body=b"abcdef").to_end().json() == ["abc", "echo:q", "def"] and len(app.runs) == 1


def test_a_large_body_waits_in_a_file():
    app = wsgi(lambda environ: [ask(), len(environ["wsgi.input"].read())])
    assert Exchange(app, body=b"x" * (3 << 20)).to_end().json() == ["echo:q", 3 << 20]


def test_one_environ_for_all_requests_of_a_worker_as_uwsgi_has_it():
    app = wsgi(lambda environ: [environ["QUERY_STRING"], ask(), environ["QUERY_STRING"]])
    shared = {}

    def served(environ, start_response):
        shared.clear()
        shared.update(environ)
        return app(shared, start_response)

    assert interleaved_with(served, app) == [[f"n={i}", "echo:q", f"n={i}"] for i in range(3)]


def interleaved_with(served, app):
    found = interleaved(served)
    assert len(app.runs) == 3
    return found


def test_the_rest_of_a_stream_is_made_in_the_context_of_its_run():
    var = contextvars.ContextVar("var")

    def app(environ, start_response):
        var.set(environ["QUERY_STRING"])

        def chunks():
            yield ask().encode()
            yield var.get().encode()

        start_response("200 OK", [])
        return chunks()

    all_ = [Exchange(tarry.wsgi(app), f"/?{n}").visit() for n in range(3)]
    assert [each.go().text for each in all_[::-1]] == ["echo:q2", "echo:q1", "echo:q0"]
    assert var.get(None) is None


def test_an_exception_after_the_call_is_the_servers():
    def view(environ):
        ask()
        raise ValueError("after the call")

    exchange = Exchange(wsgi(view)).visit()
    with pytest.raises(ValueError, match="after the call"):
        exchange.go()
    assert not suspended.table.runs


def test_exceptions_in_hand_are_the_runs_own():
    def view(environ):
        try:
            raise ValueError(environ["QUERY_STRING"])
        except ValueError:
            ask()
            return str(sys.exc_info()[1])

    assert interleaved(wsgi(view)) == ["n=0", "n=1", "n=2"]


def test_a_failed_answer_is_not_slept_upon():
    def view(environ):
        for _ in range(3):
            try:
                return ask()
            except OSError:
                time.sleep(60)

    exchange = Exchange(wsgi(view)).visit()
    exchange.go(Answer(503, "Service Unavailable", [], b"")).go()
    assert exchange.json() == "echo:q" and not exchange.waits


# What is a thread's own


def test_thread_locals_are_the_runs_own():
    local = threading.local()

    def view(environ):
        before = getattr(local, "n", "nothing") if not hasattr(local, "seen") else "seen before"
        local.n = environ["QUERY_STRING"]
        ask()
        ask()
        return [before, local.n]

    assert [n for _, n in interleaved(wsgi(view), 5)] == [f"n={i}" for i in range(5)]


def test_thread_locals_that_are_given_up_end():
    """The worlds of ended runs are used again, and no more of them are kept than a few."""
    local = threading.local()

    class Thing:
        alive = 0

        def __init__(self):
            Thing.alive += 1

        def __del__(self):
            Thing.alive -= 1

    def view(environ):
        if not hasattr(local, "thing"):
            local.thing = Thing()
        ask()
        return 1

    app = wsgi(view)
    for _ in range(3):
        interleaved(app, 20)
    assert Thing.alive <= suspended.world.IDLE_MAX + 1


def test_decimal_and_context_variables_are_the_runs_own():
    import decimal

    var = contextvars.ContextVar("var")

    def view(environ):
        n = int(environ["QUERY_STRING"][2:])
        var.set(n)
        with decimal.localcontext() as context:
            context.prec = n + 2
            ask()
            return [decimal.getcontext().prec, var.get()]

    assert interleaved(wsgi(view)) == [[2, 0], [3, 1], [4, 2]]


# Several calls side by side


def test_gather_runs_each_function_once():
    order = []

    def branch(name, n):
        texts = []
        for k in range(n):
            order.append(f"{name}{k}")
            texts.append(ask(f"{name}{k}"))
        return texts

    def view(environ):
        return [ask("first"), tarry.gather(lambda: branch("a", 1), lambda: branch("b", 3), lambda: "c"), ask("last")]

    app = wsgi(view)
    exchange = Exchange(app).visit()
    assert [len(exchange.go().calls) for _ in range(3)] == [2, 1, 1]
    exchange.go().go()
    assert exchange.json() == ["echo:first", [["echo:a0"], ["echo:b0", "echo:b1", "echo:b2"], "c"], "echo:last"]
    assert order == ["a0", "b0", "b1", "b2"] and len(app.runs) == 1


def test_gather_in_gather_and_more_calls_than_one_handoff_takes():
    def view(environ):
        return tarry.gather(
            *[lambda n=n: ask(f"o{n}") for n in range(4)], lambda: tarry.gather(*[lambda n=n: ask(f"i{n}") for n in range(3)])
        )

    app = wsgi(view)
    exchange = Exchange(app, **{"max-calls": 2}).visit()
    sizes = [len(exchange.calls)]
    while not exchange.go().done:
        sizes.append(len(exchange.calls))
    assert sizes == [2, 2, 2, 1] and len(app.runs) == 1
    assert exchange.json() == ["echo:o0", "echo:o1", "echo:o2", "echo:o3", ["echo:i0", "echo:i1", "echo:i2"]]


def test_an_error_in_gather_comes_when_all_have_ended():
    done = []

    def view(environ):
        try:
            tarry.gather(lambda: done.append(ask("a")), lambda: 1 / 0, lambda: done.append(ask("b")))
        except ZeroDivisionError:
            return done

    assert Exchange(wsgi(view)).to_end().json() == ["echo:a", "echo:b"]


def test_a_gather_that_is_lost_is_run_again_with_what_it_has():
    app = wsgi(lambda environ: tarry.gather(lambda: [ask("a"), ask("b")], lambda: ask("c")))
    exchange = Exchange(app).visit().go()
    exchange.answer()
    lose()
    assert exchange.visit().json() == [["echo:a", "echo:b"], "echo:c"] and len(app.runs) == 2


def test_threads_of_the_view_have_it_run_again():
    def view(environ):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(contextvars.copy_context().run, ask, str(n)) for n in range(2)]
            return [future.result() for future in futures]

    app = wsgi(view)
    assert Exchange(app).to_end().json() == ["echo:0", "echo:1"] and len(app.runs) > 1
    assert "the call is made in another thread" in suspended.reasons


def test_a_thread_that_calls_while_its_run_is_suspended():
    go, done = threading.Event(), threading.Event()

    def view(environ):
        def later():
            go.wait(10)
            try:
                return ask("thread")
            finally:
                done.set()

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(contextvars.copy_context().run, later)
            first = ask("main")
            return [first, future.result()]

    exchange = Exchange(wsgi(view)).visit()
    assert exchange.suspended
    go.set()
    assert done.wait(10)
    assert exchange.to_end().json() == ["echo:main", "echo:thread"]


# asyncio

httpx = pytest.importorskip("httpx")


async def ask_async(client, text):
    return (await client.post("https://model.example/v1", json=text)).text


def run_async(function):
    async def main():
        async with httpx.AsyncClient() as client:
            return await function(client)

    return asyncio.run(main())


def test_a_loop_is_suspended_with_all_its_calls():
    async def main(client):
        both = await asyncio.gather(ask_async(client, "a"), ask_async(client, "b"))
        return [*both, await ask_async(client, "c")]

    app = wsgi(lambda environ: run_async(main))
    assert interleaved(app, 4) == [["echo:a", "echo:b", "echo:c"]] * 4
    assert len(app.runs) == 4 and suspended.counts["suspended"] == 8


def test_more_tasks_than_one_handoff_takes():
    async def main(client):
        return await asyncio.gather(*[ask_async(client, str(n)) for n in range(5)])

    app = wsgi(lambda environ: run_async(main))
    exchange = Exchange(app, **{"max-calls": 2}).to_end()
    assert exchange.json() == [f"echo:{n}" for n in range(5)] and exchange.hop == 3 and len(app.runs) == 1


def test_a_loop_whose_executor_works_is_waited_for():
    async def main(client):
        async def slow():
            return await asyncio.to_thread(time.sleep, 0.2) or "slept"

        return await asyncio.gather(ask_async(client, "a"), slow())

    if not hasattr(asyncio, "to_thread"):
        pytest.skip("no to_thread")
    assert Exchange(wsgi(lambda environ: run_async(main))).to_end().json() == ["echo:a", "slept"]


def test_a_lock_in_a_task_that_waits_is_seen():
    lock = threading.Lock()

    async def main(client):
        async def locked():
            with lock:
                return await ask_async(client, "a")

        return await asyncio.gather(locked(), ask_async(client, "b"))

    app = wsgi(lambda environ: run_async(main))
    exchange = Exchange(app).visit()
    assert not exchange.suspended and not lock.locked()
    assert exchange.to_end().json() == ["echo:a", "echo:b"]


def test_a_blocking_call_in_a_coroutine():
    async def main():
        async with asyncio.Lock():
            return ask("blocking")

    app = wsgi(lambda environ: [asyncio.run(main()), ask("after")])
    assert interleaved(app) == [["echo:blocking", "echo:after"]] * 3 and len(app.runs) == 3


def test_a_loop_that_is_lost_is_run_again():
    async def main(client):
        return [await ask_async(client, "a"), await ask_async(client, "b")]

    app = wsgi(lambda environ: run_async(main))
    exchange = Exchange(app).visit().go().answer()
    lose()
    assert exchange.visit().json() == ["echo:a", "echo:b"] and len(app.runs) == 2


# Sleeps


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only while an exchange waits."""
    now = [0.0]
    monkeypatch.setattr("tarry.runs.pause.time.time", lambda: 1e9 + now[0])
    return now


def polled(exchange, clock):
    while not exchange.done:
        wait = exchange.fields.get("tarry-wait")
        clock[0] += float(wait[0]) if wait else 0
        exchange.go()
    return exchange


def polling(environ):
    made = [ask("create")]
    for n in range(3):
        time.sleep(100)
        made.append(ask(f"poll {n}"))
    return made


def test_a_polling_view_holds_no_worker(clock):
    app = wsgi(lambda environ: [ask("create"), time.sleep(5), ask("poll"), time.sleep(0.01), ask("poll")])
    exchange = polled(Exchange(app, **{"max-hops": 4}).visit(), clock)
    assert exchange.waits == [5] and len(app.runs) == 1 and exchange.json()[-1] == "echo:poll"


def test_a_long_sleep_is_asked_for_in_parts_and_no_hop_of_it_counts(clock):
    app = wsgi(polling)
    exchange = polled(Exchange(app, **{"max-hops": 5}).visit(), clock)
    assert exchange.waits == [60, 40] * 3 and exchange.hop == 10 and len(app.runs) == 1
    assert exchange.json()[-1] == "echo:poll 2"


def test_a_run_that_is_lost_while_it_sleeps_does_not_sleep_again(clock):
    app = wsgi(polling)
    exchange = Exchange(app).visit()
    while not exchange.done:
        wait = exchange.fields.get("tarry-wait")
        clock[0] += float(wait[0]) if wait else 0
        exchange.answer()
        lose()
        exchange.visit()
    assert exchange.waits == [60, 40] * 3 and exchange.json() == ["echo:create", "echo:poll 0", "echo:poll 1", "echo:poll 2"]


def test_a_view_that_is_run_again_sleeps_each_sleep_once(monkeypatch):
    settings.resume = "rerun"
    slept = []
    monkeypatch.setattr("tarry.transports.sleep._real", slept.append)
    assert Exchange(wsgi(polling), features=SILENT).to_end().json()[-1] == "echo:poll 2"
    assert slept == [100, 100, 100]


def test_a_sleep_beside_a_call_in_gather(clock):
    app = wsgi(lambda environ: tarry.gather(lambda: ask("a"), lambda: [tarry.sleep(30), ask("b")][1]))
    exchange = Exchange(app).visit()
    assert len(exchange.calls) == 1 and not exchange.waits
    exchange.go()
    assert exchange.waits == [pytest.approx(30, abs=1)] and not exchange.calls
    assert polled(exchange, clock).json() == ["echo:a", "echo:b"] and len(app.runs) == 1


def test_asyncio_sleeps_park_too():
    async def main(client):
        first = await ask_async(client, "a")
        await asyncio.sleep(0.5)
        return [first, await ask_async(client, "b")]

    app = wsgi(lambda environ: run_async(main))
    exchange = Exchange(app).visit().go()
    assert exchange.waits and exchange.waits[0] == pytest.approx(0.5, abs=0.1) and not exchange.calls
    assert exchange.to_end().json() == ["echo:a", "echo:b"] and len(app.runs) == 1


# What is refused at the call

LOCK, RLOCK, CONDITION, SEMAPHORE = threading.Lock(), threading.RLock(), threading.Condition(), threading.Semaphore()


@contextlib.contextmanager
def locked():
    with LOCK:
        yield


class LockOfItsOwn:
    def acquire(self):
        pass

    def release(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


def in_a_block(manager):
    with manager:
        return ask()


def in_exit_stack():
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked())
        return ask()


def in_try_in_lock():
    with LOCK:
        try:
            raise ValueError
        except ValueError:
            return in_a_block(contextlib.suppress(KeyError))


def in_generator():
    def texts():
        with LOCK:
            yield ask()

    return list(texts())[0]


def in_gather():
    with LOCK:
        return tarry.gather(lambda: ask())[0]


def below_gather():
    return tarry.gather(lambda: in_a_block(LOCK))[0]


def in_decorated():
    @locked()
    def inner():
        return ask()

    return inner()


def at_import(tmp_path):
    name = f"lazy{len(sys.modules)}"
    (tmp_path / f"{name}.py").write_text("from asking import ask\ntext = ask()\n")
    sys.path.insert(0, str(tmp_path))
    try:
        return __import__(name).text
    finally:
        sys.path.remove(str(tmp_path))


def traced():
    sys.settrace(lambda *event: None)
    try:
        return ask()
    finally:
        sys.settrace(None)


def with_alarm():
    signal.setitimer(signal.ITIMER_REAL, 1000)
    try:
        return ask()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def mocked():
    from unittest import mock

    with mock.patch("os.getcwd", return_value="/mocked"):
        return ask()


REFUSED = {
    "lock": lambda: in_a_block(LOCK),
    "rlock": lambda: in_a_block(RLOCK),
    "condition": lambda: in_a_block(CONDITION),
    "semaphore": lambda: in_a_block(SEMAPHORE),
    "a lock of its own kind": lambda: in_a_block(LockOfItsOwn()),
    "a lock in a context manager": lambda: in_a_block(locked()),
    "a lock in an exit stack": in_exit_stack,
    "a lock around an exception": in_try_in_lock,
    "a lock in a generator": in_generator,
    "a lock around gather": in_gather,
    "a lock in gather": below_gather,
    "a lock by decorator": in_decorated,
    "redirect_stdout": lambda: in_a_block(contextlib.redirect_stdout(sys.stderr)),
    "catch_warnings": lambda: in_a_block(warnings.catch_warnings()),
    "mock.patch": mocked,
    "a tracer": traced,
    "an alarm": with_alarm,
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_run_again_where_a_suspended_run_could_do_harm(name):
    app = wsgi(lambda environ: [ask("before"), REFUSED[name](), ask("after")])
    all_ = [Exchange(app).visit() for _ in range(2)]
    for each in all_:
        assert each.suspended and not each.go().suspended and not each.done, suspended.reasons
        assert not LOCK.locked()
    for each in all_:
        assert each.go().suspended and each.go().json() == ["echo:before", "echo:q", "echo:after"]
    assert len(app.runs) == 4 and len(suspended.reasons) == 1, suspended.reasons


def test_a_call_while_a_module_is_imported(tmp_path):
    app = wsgi(lambda environ: at_import(tmp_path))
    exchange = Exchange(app).visit()
    assert not exchange.suspended and exchange.go().json() == "echo:q"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="it has no lock from 3.12 on")
def test_cached_property_has_a_lock_up_to_311():
    class Thing:
        @functools.cached_property
        def text(self):
            return ask()

    assert not Exchange(wsgi(lambda environ: Thing().text)).visit().suspended


def test_the_table_is_bounded():
    settings.suspend_max = 2
    app = wsgi(lambda environ: ask())
    all_ = [Exchange(app).visit() for _ in range(4)]
    assert [each.suspended for each in all_] == [True, True, False, False]
    assert [each.go().json() for each in all_] == ["echo:q"] * 4


def test_memory_is_bounded(monkeypatch):
    settings.suspend_memory = 1 << 20
    grown = [0]
    monkeypatch.setattr(memory, "resident", lambda: (50 << 20) + grown[0])
    app = wsgi(lambda environ: ask())
    some = [Exchange(app).visit() for _ in range(20)]
    assert all(each.suspended for each in some)
    grown[0] = 2 << 20
    more = [Exchange(app).visit() for _ in range(40)]
    assert not more[-1].suspended
    grown[0] = 0
    assert [each.go().json() for each in some + more] == ["echo:q"] * 60
    assert Exchange(app).visit().suspended


def test_a_server_with_threads_runs_views_again(messages):
    app = wsgi(lambda environ: ask())
    exchange = Exchange(app).visit(**{"wsgi.multithread": True})
    assert not exchange.suspended and exchange.go().json() == "echo:q"
    assert any("the server has several threads" in text for text in messages())


def test_a_thread_that_is_not_the_main_one_runs_views_again():
    app = wsgi(lambda environ: ask())
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        exchange = pool.submit(Exchange(app).visit).result()
        assert not exchange.suspended and pool.submit(exchange.go).result().json() == "echo:q"


def test_without_the_extension_views_are_run_again(monkeypatch, messages):
    monkeypatch.setattr(suspended.world, "missing", "the package's C extension is not there")
    tarry.patch_all(resume="auto")
    app = wsgi(lambda environ: ask())
    exchange = Exchange(app).visit()
    assert not exchange.suspended and exchange.go().json() == "echo:q"
    assert messages() == ["views are run again with each answer, and not suspended: the package's C extension is not there"]


# What becomes of a run whose replay does not come


def test_a_lost_run_is_run_again_with_its_answers():
    app = wsgi(lambda environ: [ask("a"), ask("b")])
    exchange = Exchange(app).visit().go().answer()
    lose()
    assert exchange.visit().json() == ["echo:a", "echo:b"] and len(app.runs) == 2
    assert suspended.counts["lost"] == 1


def test_a_replay_that_comes_twice_is_answered_twice_with_the_same():
    app = wsgi(lambda environ: [ask("a"), ask("b")])
    exchange = Exchange(app).visit().answer()
    exchange.visit()
    again = Exchange(app)
    vars(again).update(vars(exchange), attempt=2, calls=[], done=False)
    again.visit()
    assert len(suspended.table.runs) == 1 and suspended.counts["dropped"] == 1
    assert again.to_end().json() == ["echo:a", "echo:b"]


def leave_open(log):
    def view(environ):
        try:
            return ask()
        except BaseException as error:
            log.append(type(error).__name__)
            raise
        finally:
            log.append("finally")

    return view


def test_a_run_that_is_given_up_is_left_as_one_that_hands_off():
    log = []
    exchange = Exchange(wsgi(leave_open(log))).visit()
    suspended.drop_all("test")
    assert log == ["Handoff", "finally"] and exchange.go().json() == "echo:q"


def test_a_run_that_is_given_up_and_calls_again_does_not_wait():
    def view(environ):
        try:
            return ask("a")
        except BaseException:
            with contextlib.suppress(BaseException):
                ask("b")
            time.sleep(3600)
            raise

    exchange = Exchange(wsgi(view)).visit()
    suspended.drop_all("test")
    assert exchange.go().json() == "echo:a"


def test_runs_expire_without_a_request():
    log = []
    settings.suspend_seconds = 0.1
    Exchange(wsgi(leave_open(log))).visit()
    deadline = time.monotonic() + 10
    while not log and time.monotonic() < deadline:
        time.sleep(0.01)
    assert log == ["Handoff", "finally"] and not suspended.table.runs


def test_a_request_that_waits_for_a_lock_of_a_suspended_run_gets_it(messages):
    settings.rescue_seconds = 0.3
    lock = threading.Lock()

    def holds(environ):
        lock.acquire()
        try:
            return ask()
        finally:
            lock.release()

    app = wsgi(holds)
    first = Exchange(app).visit()
    assert first.suspended and lock.locked()

    def wants(environ):
        with lock:
            return "got it"

    assert Exchange(wsgi(wants)).visit().json() == "got it"
    assert any("a request waits for a lock" in text for text in messages())
    assert first.go().json() == "echo:q" and len(app.runs) == 2


def test_a_request_that_waits_for_a_lock_in_a_file_gets_it(tmp_path):
    import fcntl

    settings.rescue_seconds = 0.3

    def holds(environ):
        with open(tmp_path / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return ask()

    first = Exchange(wsgi(holds)).visit()

    def wants(environ):
        with open(tmp_path / "lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return "got it"

    assert Exchange(wsgi(wants)).visit().json() == "got it" and first.go().json() == "echo:q"


def test_a_request_that_polls_for_a_lock_gets_it():
    """As the locks of redis and filelock do."""
    settings.rescue_seconds = 0.3
    held = []

    def acquire():
        while held:
            time.sleep(0.1)
        held.append(1)

    def view(environ):
        acquire()
        try:
            return ask()
        finally:
            held.clear()

    app = wsgi(view)
    first = Exchange(app, features=SILENT).visit()
    second = Exchange(app, features=SILENT).visit()
    assert len(held) == 1 and suspended.counts["dropped"] == 1
    assert second.go().json() == first.go().json() == "echo:q"


def test_a_request_that_is_only_slow_leaves_the_others_alone():
    settings.rescue_seconds = 0.2
    app = wsgi(lambda environ: ask())
    first = Exchange(app).visit()

    def slow(environ):
        end = time.monotonic() + 0.6
        while time.monotonic() < end:
            sum(range(1000))
        time.sleep(0.6)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(time.sleep, 0.6).result()
        return "slow"

    assert Exchange(wsgi(slow), features=SILENT).visit().json() == "slow"
    assert suspended.counts["dropped"] == 0 and first.go().json() == "echo:q" and len(app.runs) == 1


def test_a_forked_child_has_none_of_its_parents_runs():
    log = []
    exchange = Exchange(wsgi(leave_open(log))).visit()
    pid = os.fork()
    if pid == 0:
        suspended.drop_all()
        os._exit(10 * len(suspended.table.runs) + len(log))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0 if hasattr(os, "waitstatus_to_exitcode") else True
    assert exchange.go().json() == "echo:q"


def test_a_process_that_a_view_forks_does_not_answer_for_it(upstream):
    def view(environ):
        pid = os.fork()
        if pid == 0:
            try:
                ask("child", origin=upstream.origin)
                os._exit(0)
            except BaseException:
                os._exit(1)
        return [os.waitpid(pid, 0)[1], ask("parent", origin=upstream.origin)]

    exchange = Exchange(wsgi(view))
    exchange.origins = upstream.origin
    assert exchange.to_end().json()[0] == 0


def test_runs_are_left_when_the_process_ends(tmp_path):
    import subprocess

    program = """
import tarry
tarry.patch_all(resume="auto")
from asking import ask
from visits import Exchange
def app(environ, start_response):
    try:
        ask()
    finally:
        print("left")
exchange = Exchange(tarry.wsgi(app)).visit()
print(exchange.suspended)
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    assert found.stdout.split() == ["True", "left"], found


def test_where_no_signal_can_be_taken_views_are_run_again(monkeypatch, messages):
    def refused(*args):
        raise ValueError("signal only works in main thread of the main interpreter")

    monkeypatch.setattr(watch, "_installed", False)
    monkeypatch.setattr(watch.signal, "signal", refused)
    exchange = Exchange(wsgi(lambda environ: ask())).visit()
    assert not exchange.suspended and exchange.go().json() == "echo:q"
    assert any("signals cannot be handled here" in text for text in messages())


def test_the_watch_takes_no_signal_that_others_use():
    assert watch.SIGNAL not in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGALRM)


# Which views


@pytest.mark.parametrize("mode, runs", [("rerun", 2), ("suspend", 1)])
def test_a_decorator_says_how_one_view_goes_on(mode, runs):
    settings.resume = "rerun" if mode == "suspend" else "auto"
    app = wsgi(getattr(tarry, mode)(lambda environ: ask()))
    exchange = Exchange(app).visit()
    assert exchange.suspended == (mode == "suspend") and exchange.go().json() == "echo:q" and len(app.runs) == runs


def test_a_direct_view_makes_its_calls_itself(upstream):
    app = wsgi(tarry.direct(lambda environ: ask(origin=upstream.origin)))
    exchange = Exchange(app)
    exchange.origins = upstream.origin
    assert exchange.visit().done and exchange.status == 200 and len(app.runs) == 1


def test_a_view_that_is_never_run_again_calls_directly_where_it_cannot_be_suspended(upstream, messages):
    @tarry.suspend
    def view(environ):
        with LOCK:
            return ask(origin=upstream.origin)

    app = wsgi(view)
    exchange = Exchange(app)
    exchange.origins = upstream.origin
    assert exchange.visit().done and exchange.status == 200 and len(app.runs) == 1
    assert any("holds the worker" in text and "a lock is held" in text for text in messages())


def test_a_setting_says_how_some_views_go_on():
    settings.update({"resume": "rerun", "views": {"/once/": "auto", "/twice/": "rerun"}})
    app = wsgi(lambda environ: ask())
    assert Exchange(app, "/once/a").visit().suspended
    assert not Exchange(app, "/twice/").visit().suspended and not Exchange(app, "/other/").visit().suspended


@pytest.mark.parametrize("wrong", [{"resume": "twice"}, {"lost": "forget"}, {"views": {"/a/": "never"}}])
def test_wrong_settings_are_told(wrong):
    with pytest.raises(ValueError, match="can be"):
        settings.update(wrong)
    assert settings.resume == "auto"


# Where suspended runs must not go wrong: below code in C


def test_calls_below_c_code():
    import re
    import sqlite3

    def in_sqlite():
        connection = sqlite3.connect(":memory:")
        connection.create_function("ask", 1, ask)
        try:
            return connection.execute("SELECT ask('x') || ask('y')").fetchone()[0]
        finally:
            connection.close()

    def deep(n):
        return deep(n - 1) if n else ask()

    def view(environ):
        return [sorted(["b", "a"], key=ask), re.sub("x", lambda found: ask(), "axb"), in_sqlite(), deep(400)]

    app = wsgi(view)
    assert interleaved(app, 4) == [[["a", "b"], "aecho:qb", "echo:xecho:y", "echo:q"]] * 4 and len(app.runs) == 4


def test_a_connection_of_sqlalchemy_that_is_in_use(tmp_path):
    """Others would wait for the pool."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/db")

    def holds(environ):
        with engine.connect() as connection:
            return [connection.execute(sqlalchemy.text("SELECT 1")).scalar(), ask()]

    def gives_back(environ):
        with engine.connect() as connection:
            found = connection.execute(sqlalchemy.text("SELECT 1")).scalar()
        return [found, ask()]

    exchange = Exchange(wsgi(holds)).visit()
    assert not exchange.suspended and exchange.go().json() == [1, "echo:q"]
    assert suspended.reasons == {"a connection of SQLAlchemy is in use": 1}
    assert Exchange(wsgi(gives_back)).visit().suspended
    engine.dispose()


def test_greenlets_of_the_view():
    from greenlet import greenlet

    def view(environ):
        inner = greenlet(lambda: ask(environ["QUERY_STRING"]))
        inner.gr_context = contextvars.copy_context()
        return inner.switch()

    app = wsgi(view)
    assert interleaved(app) == ["echo:n=0", "echo:n=1", "echo:n=2"] and len(app.runs) == 3
