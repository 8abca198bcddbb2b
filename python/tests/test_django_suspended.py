"""Django views that run once: several requests of one process, interleaved at their calls. What a request has in thread-locals, on connections and
in context variables stays its own; no database connection is held; transactions, cursors and sessions of the database are no place to be suspended."""

import contextvars
import json
import threading

import pytest

pytest.importorskip("django")

from asking import ask  # noqa: E402
from django.contrib import messages  # noqa: E402
from django.core.signals import got_request_exception, request_finished, request_started  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.template.response import TemplateResponse  # noqa: E402
from django.utils import timezone, translation  # noqa: E402
from visits import Exchange, lose  # noqa: E402

import tarry  # noqa: E402
from tarry.runs import suspended  # noqa: E402
from tarry.settings import settings  # noqa: E402

pytestmark = pytest.mark.skipif(bool(suspended.missing()), reason=suspended.missing())

FORM = {"Content-Type": "application/x-www-form-urlencoded", "Cookie": f"csrftoken={'a' * 32}", "X-CSRFToken": "a" * 32}

local = threading.local()
var = contextvars.ContextVar("var", default="unset")


@pytest.fixture(scope="module")
def app():
    from django.core.wsgi import get_wsgi_application

    return tarry.wsgi(get_wsgi_application())


@pytest.fixture(autouse=True)
def auto(rows, monkeypatch):
    """As on a server: TARRY_RESUME in the project's settings."""
    from django.conf import settings as project

    monkeypatch.setattr(project, "TARRY_RESUME", "auto", raising=False)
    settings.resume = "auto"
    suspended.reasons.clear()
    for name in suspended.counts:
        suspended.counts[name] = 0
    yield
    suspended.drop_all()


@pytest.fixture
def view(app, serve):
    """view(function) makes it the project's; then exchange(…) is a request to it."""

    def make(function, outer=None):
        runs = []

        def counted(request):
            runs.append(request.GET.get("n"))
            return function(request)

        counted.__name__, counted.__module__ = function.__name__, function.__module__
        serve(counted, outer)
        made.runs = runs

    def made(function, outer=None):
        make(function, outer)
        return lambda n=0, **headers: Exchange(app, f"/view/?n={n}", b"q=1", headers={**FORM, **headers})

    return made


def write(text):
    from project.models import Row

    return Row.objects.create(text=text)


def test_what_is_a_threads_own_is_a_requests_own(view):
    def outer(request):
        n = request.GET["n"]
        local.tenant = connection.tenant = n
        var.set(n)
        translation.activate(["de", "fr", "en"][int(n) % 3])
        timezone.activate(["Europe/Berlin", "Asia/Tokyo", "America/New_York"][int(n) % 3])

    def seen():
        return [local.tenant, connection.tenant, var.get(), translation.get_language(), timezone.get_current_timezone_name()]

    def states(request):
        before = seen()
        write(request.GET["n"])
        ask("a")
        between = seen()
        ask("b")
        return JsonResponse({"n": request.GET["n"], "seen": before, "same": before == between == seen()})

    exchange = view(states, outer)
    all_ = [exchange(n).visit() for n in range(6)]
    for each in all_[::-1]:
        assert each.suspended and each.go().suspended
    for n, each in enumerate(all_):
        found = each.go().json()
        assert found["same"] and found["n"] == str(n) and found["seen"][:3] == [str(n)] * 3
    assert len(view.runs) == 6


def test_no_connection_is_held_while_runs_are_suspended(view):
    def reads(request):
        write("row")
        text = ask()
        write("row")
        return HttpResponse(text)

    exchange = view(reads)
    all_ = [exchange(n).visit() for n in range(5)]
    assert connection.connection is None and all(each.suspended for each in all_)
    assert [each.go().text for each in all_] == ["echo:q"] * 5


def test_a_row_before_a_call_is_written_once(view, rows, messages):
    def writes(request):
        write("before")
        try:
            text = ask("a")
        finally:
            write("finally")
        return HttpResponse(text + ask("b"))

    assert view(writes)().to_end().text == "echo:aecho:b" and rows() == ["before", "finally"] and len(view.runs) == 1
    assert messages() == []


@pytest.mark.parametrize("lost, status, written", [("rerun", 200, ["row", "row"]), ("error", 500, ["row"])])
def test_a_lost_run_that_had_written_is_run_again_or_an_error(view, rows, messages, monkeypatch, lost, status, written):
    settings.lost = lost

    def writes(request):
        write("row")
        return HttpResponse(ask("a"))

    exchange = view(writes)().visit().answer()
    lose()
    assert exchange.visit().status == status and rows() == written
    assert any("is lost, and had committed a write" in text for text in messages("WARNING" if lost == "rerun" else "ERROR"))
    if lost == "error":
        assert json.loads(exchange.data)["exchange"] == exchange.id


@pytest.mark.parametrize("lost, status", [("rerun", 200), ("error", 500)])
def test_a_run_that_died_while_it_went_on_may_have_written(view, rows, messages, lost, status):
    """The row after the call was written in a worker that died before it could say so: the next delivery knows nothing of it."""
    settings.lost = lost

    def writes(request):
        text = ask("a")
        write("after")
        return HttpResponse(text)

    exchange = view(writes)().visit().answer()
    state, record = exchange.state, exchange.record
    exchange.visit()  # all of it; its response is lost with the worker
    assert rows() == ["after"]
    exchange.kind, exchange.state, exchange.record, exchange.attempt = "replay", state, record, 2
    assert exchange.visit().status == status and rows() == ["after"] * (2 if lost == "rerun" else 1)
    level = "WARNING" if lost == "rerun" else "ERROR"
    assert any("may have committed a write before its worker died" in text for text in messages(level))


def test_a_run_that_is_there_on_the_second_delivery_goes_on(view, rows):
    """The worker that died was another one, which had not got to it."""
    settings.lost = "error"

    def writes(request):
        write("before")
        return HttpResponse(ask("a"))

    exchange = view(writes)().visit().answer()
    exchange.attempt = 2
    assert exchange.visit().text == "echo:a" and rows() == ["before"]


def test_a_lost_run_that_had_not_written_is_run_again_whatever_the_setting(view):
    settings.lost = "error"
    exchange = view(lambda request: HttpResponse(ask("a")))().visit().answer()
    lose()
    assert exchange.visit().text == "echo:a"


def late(request):
    """The second call is one at which it cannot be suspended, and a row is committed before it."""
    text = ask("a")
    write("between")
    with transaction.atomic():
        write("in atomic")
        text += ask("b", origin=request.GET.get("origin") or ask.__defaults__[1])
    return HttpResponse(text)


def test_a_refused_run_that_had_written_calls_directly(app, serve, rows, upstream, messages):
    serve(late)
    exchange = Exchange(app, f"/view/?n=0&origin={upstream.origin}", headers=FORM)
    exchange.origins += f", {upstream.origin}"
    exchange.visit()
    assert exchange.suspended and exchange.go().done and exchange.status == 200
    assert rows() == ["between", "in atomic"] and len(upstream.bodies) == 1
    assert any(
        "handing it off would run committed writes again" in text and "a transaction is open" in text for text in messages()
    )


def test_a_refused_run_that_had_written_is_an_error_if_that_is_wanted(view, rows):
    settings.lost = "error"
    raised = []

    def note(**more):
        import sys

        raised.append(sys.exc_info()[1])

    got_request_exception.connect(note)
    try:
        exchange = view(late)().visit().go()
    finally:
        got_request_exception.disconnect(note)
    assert exchange.status == 500 and rows() == ["between"] and isinstance(raised[0], tarry.RunRefused)


def test_a_refused_run_that_had_written_is_run_again_if_that_is_wanted(view, rows, messages):
    settings.committed_writes = "warn"
    assert view(late)().to_end().text == "echo:aecho:b" and rows() == ["between", "between", "in atomic"]
    assert any("committed a write" in text for text in messages())


def refused_atomic(request):
    with transaction.atomic():
        return HttpResponse(ask())


def refused_autocommit_off(request):
    transaction.set_autocommit(False)
    try:
        return HttpResponse(ask())
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


def refused_iterator(request):
    from project.models import Row

    for n in range(3):
        write(str(n)) if len(Row.objects.all()) < 3 else None
    settings.committed_writes = "warn"
    for _ in Row.objects.iterator(chunk_size=1):
        return HttpResponse(ask())


def refused_cursor(request):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 UNION SELECT 2")
        cursor.fetchone()
        return HttpResponse(ask())


def refused_session(request):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS mine (n INTEGER)")
    return HttpResponse(ask())


@pytest.mark.parametrize(
    "function, why",
    [
        (refused_atomic, "a transaction is open"),
        (refused_autocommit_off, "a transaction is open"),
        (refused_iterator, "a cursor of the database is open, as of .iterator()"),
        (refused_cursor, "a cursor of the database is open, as of .iterator()"),
        (refused_session, "the database's session was changed"),
    ],
)
def test_where_the_database_forbids_it_the_view_is_run_again(view, function, why):
    exchange = view(function)().visit()
    assert not exchange.suspended and not exchange.done and list(suspended.reasons) == [why]
    assert exchange.go().text == "echo:q" and len(view.runs) == 2


def test_a_cursor_that_was_closed_is_no_obstacle(view):
    def closed(request):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
            text = "read"
        again = connection.cursor()
        again.execute("SELECT 1")
        again.close()
        return HttpResponse(text + ask())

    assert view(closed)().visit().suspended


def test_session_and_messages(view):
    def counts(request):
        request.session["n"] = request.session.get("n", 0) + 1
        messages.info(request, "hello")
        text = ask()
        return JsonResponse(
            {"n": request.session["n"], "text": text, "messages": [str(m) for m in messages.get_messages(request)]}
        )

    exchange = view(counts)().visit().go()
    assert exchange.json() == {"n": 1, "text": "echo:q", "messages": ["hello"]} and len(exchange.fields["set-cookie"]) == 1


def test_login_before_a_call_keeps_the_visitors_session(view):
    """With sessions in a cache, a run that was left had no way to give the old one back."""
    from django.contrib.auth import get_user_model, login
    from django.test import override_settings

    get_user_model().objects.create(username="ada")

    def logs_in(request):
        request.session["cart"] = "full"
        login(request, get_user_model().objects.get(username="ada"), backend="django.contrib.auth.backends.ModelBackend")
        return JsonResponse({"text": ask(), "user": request.user.username, "cart": request.session["cart"]})

    with override_settings(SESSION_ENGINE="django.contrib.sessions.backends.cache"):
        exchange = view(logs_in)().visit().go()
    assert exchange.json() == {"text": "echo:q", "user": "ada", "cart": "full"} and len(view.runs) == 1


def test_a_call_in_a_template_and_in_a_stream(view):
    exchange = view(lambda r: TemplateResponse(r, engines["django"].from_string("{{ ask }}"), {"ask": lambda: ask("t")}))()
    assert exchange.to_end().text == "echo:t" and len(view.runs) == 1

    def chunks():
        yield ask(var.get())
        yield f" {var.get()}"

    def streams(request):
        var.set(request.GET["n"])
        return StreamingHttpResponse(chunks())

    make = view(streams)
    all_ = [make(n).visit() for n in range(3)]
    assert [each.go().text for each in all_[::-1]] == ["echo:2 2", "echo:1 1", "echo:0 0"] and len(view.runs) == 3


def test_requests_begin_and_end_in_pairs_also_where_a_run_is_given_up(view):
    seen = []

    def started(**more):
        seen.append("started")

    def finished(**more):
        seen.append("finished")

    request_started.connect(started)
    request_finished.connect(finished)
    try:
        make = view(lambda request: HttpResponse(ask()))
        exchange = make().visit()
        assert seen == ["started"]
        exchange.go()
        assert seen == ["started", "finished"]
        make().visit()
        suspended.drop_all("test")
        assert seen == ["started", "finished"] * 2
    finally:
        request_started.disconnect(started)
        request_finished.disconnect(finished)


def test_an_exception_after_the_call_is_a_500(view):
    def fails(request):
        ask()
        raise ValueError("after the call")

    exchange = view(fails)().visit().go()
    assert exchange.status == 500 and len(view.runs) == 1


def test_settings_by_the_views_name(view):
    make = view(late)
    settings.update({"resume": "rerun", "views": {"project.views.*": "auto"}})
    assert make().visit().suspended
    settings.update({"resume": "auto", "views": {"*.view": "rerun"}})
    assert not make().visit().suspended


def test_class_based_views_are_marked_as_functions_are(view):
    from django.views import View

    @tarry.rerun
    class Marked(View):
        def post(self, request):
            return HttpResponse(ask())

    exchange = view(Marked.as_view())().visit()
    assert not exchange.suspended and exchange.go().text == "echo:q" and len(view.runs) == 2


def test_rest_framework(view):
    framework = pytest.importorskip("rest_framework.views")
    from rest_framework.response import Response

    class Api(framework.APIView):
        def post(self, request):
            local.n = request.GET["n"]
            return Response({"text": ask(local.n), "data": request.data, "n": local.n})

    make = view(Api.as_view())
    all_ = [make(n, Accept="application/json").visit() for n in range(3)]
    found = [each.go().json() for each in all_[::-1]]
    assert found == [{"text": f"echo:{n}", "data": {"q": "1"}, "n": str(n)} for n in (2, 1, 0)] and len(view.runs) == 3
