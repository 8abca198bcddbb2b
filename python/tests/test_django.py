"""The middleware's rules: what the rest of Django sees of a handoff."""

import gc

import pytest
from asking import MODEL, ask
from django.contrib import messages as django_messages
from django.contrib.auth import login
from django.core.signals import got_request_exception, request_finished, request_started
from django.db import transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.test import RequestFactory

import tarry
from tarry.test import Client


def client_of(answers=lambda call: call.body, origin=MODEL, **more):
    return Client(answers, [origin], **more)


def handoff_of(client, url="/view/", **more):
    """The response to hop 0, as Tarry gets it."""
    seen = []

    class First(Exception):
        pass

    def answer(call):
        raise First

    client.answers = answer
    original = client.exchange

    def exchange(environ, body, send, *reading):
        def keep(visit):
            seen.append(send(visit))
            return seen[-1]

        return original(environ, body, keep, *reading)

    client.exchange = exchange
    with pytest.raises(First):
        client.get(url, **more)
    return seen[0]


@pytest.fixture(autouse=True)
def database(rows):
    yield rows


def test_a_view_is_run_again_with_the_answer_and_all_middleware_see_both_responses(serve, transactions):
    serve(lambda request: HttpResponse(ask(request.POST["text"])))
    client = client_of()
    response = client.post("/view/", {"text": "hi"})
    assert response.content == b'"hi"' and response["X-Outer"] == "seen" and client.hops == 2


def test_the_handoff_goes_through_the_middleware_and_is_neither_stored_nor_compressed_nor_304(serve):
    serve(lambda request: HttpResponse(ask("long " * 1000)))
    response = handoff_of(client_of(), HTTP_ACCEPT_ENCODING="gzip", HTTP_IF_NONE_MATCH="*")
    assert response.status_code == 202 and response["X-Outer"] == "seen" and response["Tarry-Then"] == "replay"
    assert "Content-Encoding" not in response and "no-store" in response["Cache-Control"]
    assert int(response["Content-Length"]) == len(response.content) > 5000


def test_forms_are_read_by_outer_middleware_first(serve):
    seen = []
    serve(
        lambda request: HttpResponse(ask(request.POST["a"] + request.FILES["f"].read().decode())),
        outer=lambda request: seen.append(request.POST["a"]),
    )
    from django.core.files.uploadedfile import SimpleUploadedFile

    response = client_of().post("/view/", {"a": "form", "f": SimpleUploadedFile("f.txt", b"file")})
    assert response.content == b'"formfile"' and seen == ["form", "form"]


def test_csrf_is_checked_on_every_run(serve):
    serve(lambda request: HttpResponse(ask("a")))
    client = client_of(enforce_csrf_checks=True)
    assert client.post("/view/").status_code == 403
    client.cookies["csrftoken"] = "a" * 32
    assert client.post("/view/", {"csrfmiddlewaretoken": "a" * 32}).content == b'"a"'


def test_large_answers_do_not_count_as_the_apps_body(serve, settings_override):
    settings_override(DATA_UPLOAD_MAX_MEMORY_SIZE=1000)
    serve(lambda request: JsonResponse({"body": len(request.body), "answer": len(ask("a"))}))
    assert client_of(lambda call: b"x" * 100000).post("/view/", b"y" * 900, content_type="text/plain").json() == {
        "body": 900,
        "answer": 100000,
    }


@pytest.fixture
def settings_override():
    from django.test import override_settings

    used = []

    def override(**values):
        used.append(override_settings(**values))
        used[-1].enable()

    yield override
    for override in reversed(used):
        override.disable()


def test_signals_of_the_request_come_in_pairs_and_none_tells_of_an_error(serve):
    counts = {"started": 0, "finished": 0, "exception": 0}

    def receiver(name):
        def receive(**kwargs):
            counts[name] += 1

        return receive

    receivers = [
        (request_started, receiver("started")),
        (request_finished, receiver("finished")),
        (got_request_exception, receiver("exception")),
    ]
    for signal, receive in receivers:
        signal.connect(receive)
    try:

        def view(request):
            try:
                return HttpResponse(ask("a"))
            except BaseException as e:
                raise ValueError from e

        serve(view)
        assert client_of().get("/view/").content == b'"a"'
    finally:
        for signal, receive in receivers:
            signal.disconnect(receive)
    assert counts["started"] == 2 and counts["exception"] == 0


def test_no_connection_and_no_transaction_is_held_while_parked(serve, transactions, rows):
    """As a server runs it, with request_finished closing the connection."""
    from django.core.wsgi import get_wsgi_application
    from django.db import connection
    from project.models import Row

    from tarry.test import WSGIClient

    parked = []

    def view(request):
        list(Row.objects.all())
        with transaction.atomic():
            Row.objects.create(text="in the transaction")
            text = ask("a")
        return HttpResponse(text)

    def answer(call):
        parked.append((connection.connection is None, connection.in_atomic_block))
        return b"x"

    serve(view)
    client = WSGIClient(tarry.wsgi(get_wsgi_application()), answer, [MODEL])
    assert client.get("/view/").body == b"x"
    assert parked == [(True, False)] and rows() == ["in the transaction"]


def test_a_call_in_another_middleware_is_caught_by_the_wrapper_which_ends_the_request(serve, messages, resume):
    from django.core.wsgi import get_wsgi_application
    from django.db import connection
    from project.models import Row

    from tarry.test import WSGIClient

    closed = []

    def outer(request):
        list(Row.objects.all())
        request.who = ask("who")

    def answer(call):
        closed.append(connection.connection is None)
        return call.body

    serve(lambda request: HttpResponse(request.who + ask("what")), outer=outer)
    client = WSGIClient(tarry.wsgi(get_wsgi_application()), answer, [MODEL])
    assert client.get("/view/").body == b'"who""what"' and closed == [True, True]
    # Suspended, that request does not end.
    assert len([m for m in messages() if "outside of the view" in m]) == (1 if resume == "rerun" else 0)


@pytest.mark.parametrize("how", ["return", "raise"])
def test_a_swallowing_view_is_repaired_and_named(serve, transactions, rows, how, messages):
    from project.models import Row

    def swallowing(request):
        try:
            return HttpResponse(ask("a"))
        except BaseException as e:
            Row.objects.create(text="fallback")
            if how == "raise":
                raise ValueError("no model") from e
            return HttpResponse("fallback")

    serve(swallowing)
    client = client_of()
    assert client.get("/view/").content == b'"a"' and len(client.calls) == 1
    assert rows() == ([] if transactions == "atomic" else ["fallback"])
    assert any("project.views.view swallowed" in m for m in messages())


def test_the_session_is_as_the_client_knows_it_when_the_view_is_run_again(serve, transactions):
    def view(request):
        request.session["count"] = request.session.get("count", 0) + 1
        text = ask("a")
        request.session["text"] = text
        return HttpResponse(str(request.session["count"]))

    serve(view)
    client = client_of()
    assert [client.get("/view/").content for _ in range(3)] == [b"1", b"2", b"3"]
    assert client.session["count"] == 3 and client.session["text"] == '"a"'


def test_a_login_before_the_call(serve, transactions):
    from django.contrib.auth.models import User

    User.objects.create_user("ann", password="x")

    def view(request):
        login(request, User.objects.get())
        ask("a")
        return HttpResponse(request.user.username)

    serve(view)
    client = client_of()
    assert client.get("/view/").content == b"ann"
    serve(lambda request: HttpResponse(request.user.username))
    assert client.get("/view/").content == b"ann"


@pytest.mark.parametrize("engine", ["cache", "cached_db", "db", "file", "signed_cookies"])
def test_a_login_before_the_call_keeps_the_visitor_s_session(serve, settings_override, tmp_path, engine):
    """The session's key changes on each run; the one that the browser has must be there on the next."""
    from django.contrib.auth.models import User

    settings_override(SESSION_ENGINE=f"django.contrib.sessions.backends.{engine}", SESSION_FILE_PATH=str(tmp_path))
    User.objects.filter(username="bea").delete()
    user = User.objects.create_user("bea", password="x")
    client = client_of()
    serve(lambda request: (request.session.update({"basket": "full"}), HttpResponse("kept"))[1])
    client.get("/view/")

    def view(request):
        login(request, user)
        ask("a")
        return HttpResponse(f"{request.user.username} {request.session.get('basket')}")

    serve(view)
    assert client.get("/view/").content == b"bea full"
    serve(lambda request: HttpResponse(f"{request.user.username} {request.session.get('basket')}"))
    assert client.get("/view/").content == b"bea full"


def test_an_answer_that_nobody_asks_for_is_named(serve, messages):
    """A guard that lets a request pass once: the second run is refused, and the paid answer would be gone without a word."""
    from django.core.cache import cache

    cache.clear()

    def view(request):
        if not cache.add("cooldown", 1):
            return HttpResponse("not so fast", status=429)
        return HttpResponse(ask("a"))

    serve(view)
    assert client_of().get("/view/").status_code == 429
    told = [m for m in messages() if "did not ask for it" in m]
    assert len(told) == 1 and MODEL in told[0] and "tarry.once" in told[0]


def test_the_middleware_without_patch_all_is_told(serve, messages):
    from tarry.patch import unpatch_all

    unpatch_all()
    try:
        serve(lambda request: HttpResponse("served"))
        client_of().get("/view/")
        assert sum("patch_all() was not called" in m for m in messages()) == 1
    finally:
        tarry.patch_all()


@pytest.mark.parametrize("storage", ["session.SessionStorage", "cookie.CookieStorage"])
def test_messages_are_added_once(serve, settings_override, storage):
    settings_override(MESSAGE_STORAGE=f"django.contrib.messages.storage.{storage}")

    def view(request):
        django_messages.info(request, "hello")
        ask("a")
        return HttpResponse("added")

    serve(view)
    client = client_of()
    client.get("/view/")
    serve(lambda request: HttpResponse(",".join(str(m) for m in django_messages.get_messages(request))))
    assert client.get("/view/").content == b"hello" and client.get("/view/").content == b""


def test_a_message_shown_by_the_view_is_not_lost(serve):
    client = client_of()
    serve(lambda request: django_messages.info(request, "hello") or HttpResponse())
    client.get("/view/")

    def view(request):
        shown = ",".join(str(m) for m in django_messages.get_messages(request))
        ask("a")
        return HttpResponse(shown)

    serve(view)
    assert client.get("/view/").content == b"hello"
    assert client.get("/view/").content == b""


def test_a_streaming_generator_calls_first_and_a_later_call_is_direct(serve, upstream, messages):
    def view(request):
        def chunks():
            yield ask("first", upstream.origin)
            yield "|"
            yield ask("second", upstream.origin)

        return StreamingHttpResponse(chunks())

    serve(view)
    client = client_of(origin=upstream.origin)
    assert b"".join(client.get("/view/").streaming_content) == b'"first"|{"direct": 1}'
    assert client.hops == 2 and any("response has begun" in m for m in messages())


def test_handoffs_hold_no_memory(serve):
    import weakref

    held = []

    class Body:
        pass

    def view(request):
        body = Body()
        held.append(weakref.ref(body))
        return HttpResponse(ask("a"))

    serve(view)
    client_of().get("/view/")
    gc.collect()
    assert [ref() for ref in held] == [None, None]


def test_how_often_a_view_was_run_is_logged(serve, messages):
    serve(lambda request: HttpResponse(ask("a") + ask("b")))
    client_of().get("/view/")
    assert len(messages("INFO")) == 1 and "project.views.view was run 3 times" in messages("INFO")[0]


def test_a_view_is_called_by_the_name_it_was_written_with():
    decorators = pytest.importorskip("rest_framework.decorators")
    from tarry.django.middleware import name_of

    class Inner:
        class View:
            pass

    def of_rest_framework(request):
        pass

    assert name_of(decorators.api_view(["GET"])(of_rest_framework).cls).endswith(".of_rest_framework")
    assert name_of(Inner.View).endswith(".<locals>.Inner.View")


def test_without_tarry_a_view_calls_by_itself(serve, upstream):
    from django.test import Client as Plain

    serve(lambda request: HttpResponse(ask("a", upstream.origin)))
    assert Plain().get("/view/").content == b'{"direct": 1}'


def test_settings_are_read_and_checked(settings_override):
    from django.core.checks import run_checks

    from tarry.django import Middleware
    from tarry.settings import settings

    settings_override(TARRY_STRICT=True, TARRY_COMMITTED_WRITES="direct", TARRY_SECRET="s", TARRY_ONCE_STORE="default")
    Middleware(lambda request: None)
    assert (settings.strict, settings.committed_writes, settings.secret) == (True, "direct", "s") and hasattr(
        settings.once_store, "add"
    )
    assert [m.id for m in run_checks() if m.id.startswith("tarry.")] == ["tarry.E002"]
    settings_override(
        TARRY_COMMITTED_WRITES="perhaps",
        TARRY_ONCE_STORE="nowhere",
        MIDDLEWARE=["tarry.django.Middleware", "project.views.OuterMiddleware"],
    )
    assert [m.id for m in run_checks() if m.id.startswith("tarry.")] == ["tarry.W002", "tarry.E003", "tarry.E001"]
    with pytest.raises(ValueError, match="perhaps"):
        Middleware(lambda request: None)
    settings_override(
        MIDDLEWARE=[], TARRY_ONCE_STORE=None, TARRY_COMMITTED_WRITES="warn", TARRY_COMITTED_WRITES="raise", TARRY_OF_MINE=1
    )
    found = [m for m in run_checks() if m.id.startswith("tarry.")]
    assert [m.id for m in found] == ["tarry.W001", "tarry.W003"] and "TARRY_COMMITTED_WRITES" in found[1].hint


def test_how_views_go_on_is_checked(settings_override):
    from django.core.checks import run_checks

    def found():
        return [m for m in run_checks() if m.id == "tarry.E004"]

    settings_override(TARRY_RESUME="auto", TARRY_VIEWS={"shop.*": "direct"}, TARRY_LOST="error")
    assert found() == []
    settings_override(TARRY_VIEWS={"shop.*": "sometimes"})
    (error,) = found()
    assert "shop.*" in error.msg and "direct" in error.msg


def test_a_project_without_a_secret_is_told_before_it_is_deployed(settings_override):
    from django.core.checks import run_checks

    def found():
        return [m.id for m in run_checks(include_deployment_checks=True) if m.id.startswith("tarry.")]

    assert found() == ["tarry.W005", "tarry.W004"]
    settings_override(TARRY_SECRET="s")
    assert found() == []


def test_a_request_past_the_secret_is_served_without_tarry(serve, settings_override, upstream):
    from tarry.settings import settings

    settings_override(TARRY_SECRET="right")
    serve(lambda request: HttpResponse(ask("a", upstream.origin) + str("HTTP_TARRY_VERSION" in request.META)))
    client = client_of(origin=upstream.origin)
    client.secret = "wrong"
    settings.secret = "right"
    assert client.get("/view/").content == b'{"direct": 1}False'
    client.secret = "right"
    assert client.get("/view/").content == b'"a"True'


def test_the_test_client_knows_the_projects_secret(serve, settings_override):
    settings_override(TARRY_SECRET="of the project")
    serve(lambda request: HttpResponse(ask("a")))
    assert client_of().get("/view/").content == b'"a"'


def test_asgi_requests_have_no_exchange(serve):
    request = RequestFactory().get("/view/")
    from tarry.django import Middleware

    assert Middleware(lambda r: "as it is")(request) == "as it is"


def _sets(request, user):
    request.tenant = "acme"


def _adds_a_message(request, user):
    django_messages.info(request, "hello")


@pytest.mark.parametrize("function, named", [
    (lambda request, user: login(request, user), "request.user, the session"),
    (lambda request, user: request.session.update({"n": 1}), "the session"),
    (_sets, "request.tenant"),
    (_adds_a_message, "the messages"),
    (lambda request, user: (request.GET, request.content_type, bool(request.session), request.user.is_authenticated), None),
])  # fmt: skip
def test_once_around_what_changes_the_request_is_told(serve, rows, messages, function, named):
    from django.contrib.auth.models import User

    user = User.objects.create_user("cem", password="x")

    def view(request):
        tarry.once(lambda: function(request, user) and None)
        ask("a")
        return HttpResponse(request.user.username or "anonymous")

    serve(view)
    client = client_of()
    assert client.get("/view/").content == b"anonymous" and client.hops == 2
    told = [text for text in messages() if "has changed" in text]
    if named is None:
        assert told == []
    else:
        changed = told[0].partition(" has changed ")[2].partition(". ")[0].split(", ")
        assert len(told) == 1 and {*named.split(", ")} <= {*changed} and "Call it without once()" in told[0]
