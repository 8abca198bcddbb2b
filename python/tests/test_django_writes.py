"""What a view writes is done once or, where that cannot be, done twice and told: row by row, in autocommit and with
ATOMIC_REQUESTS."""

import contextlib

import pytest
from asking import MODEL, ask
from django.db import connection, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse

import tarry
from tarry.settings import settings
from tarry.test import Client


def write(text="row"):
    from project.models import Row

    return Row.objects.create(text=text)


def before(request):
    write()
    return HttpResponse(ask())


def after(request):
    text = ask()
    write()
    return HttpResponse(text)


def in_a_block(request):
    with transaction.atomic():
        write()
        text = ask()
    return HttpResponse(text)


def in_a_nested_block(request):
    with transaction.atomic():
        write()
        with transaction.atomic():
            write()
            text = ask()
    return HttpResponse(text)


def in_a_block_that_is_committed_before(request):
    with transaction.atomic():
        write()
    return HttpResponse(ask())


def in_a_savepoint_that_is_rolled_back(request):
    with transaction.atomic():
        with contextlib.suppress(ValueError), transaction.atomic():
            write()
            raise ValueError
    text = ask()
    write()
    return HttpResponse(text)


def in_a_block_under_except_exception(request):
    try:
        with transaction.atomic():
            write()
            text = ask()
    except Exception:
        text = "the wrong answer"
    return HttpResponse(text)


def in_finally(request):
    try:
        text = ask()
    finally:
        write()
    return HttpResponse(text)


def in_on_commit(request):
    transaction.on_commit(write)
    return HttpResponse(ask())


def in_a_template_response(request):
    write()
    return TemplateResponse(request, engines["django"].from_string("{{ ask }}"), {"ask": ask})


def in_a_generator(request):
    write()

    def chunks():
        yield ask()

    return StreamingHttpResponse(chunks())


def in_once(request):
    number = tarry.once(lambda: write().pk)
    return HttpResponse(ask(str(number)))


def swallowed_in_a_block(request):
    with transaction.atomic():
        try:
            text = ask()
        except BaseException:
            text = "the wrong answer"
        write()
    return HttpResponse(text)


def reading_in_finally(request):
    from project.models import Row

    with transaction.atomic():
        write()
        try:
            text = ask()
        finally:
            Row.objects.count()
    return HttpResponse(text)


@pytest.mark.parametrize(
    "view, plain, atomic",
    [
        (before, 2, 1),
        (after, 1, 1),
        (in_a_block, 1, 1),
        (in_a_nested_block, 2, 2),
        (in_a_block_that_is_committed_before, 2, 1),
        (in_a_savepoint_that_is_rolled_back, 1, 1),
        (in_a_block_under_except_exception, 1, 1),
        (in_finally, 2, 1),
        (in_on_commit, 2, 1),
        (in_a_template_response, 2, 2),
        (in_a_generator, 2, 2),
        (swallowed_in_a_block, 1, 1),
        (reading_in_finally, 1, 1),
    ],
)
def test_what_is_written_twice_is_told_and_what_is_told_is_written_twice(
    rows, serve, transactions, messages, view, plain, atomic
):
    serve(view)
    client = Client(lambda call: "answer", [MODEL])
    response = client.get("/view/")
    content = b"".join(response.streaming_content) if response.streaming else response.content
    assert content == b"answer" and client.hops == 2
    expected = plain if transactions == "plain" else atomic
    wanted = 2 if view is in_a_nested_block else 1
    assert len(rows()) == expected
    told = [m for m in messages() if "INSERT INTO" in m]
    assert len(told) == (1 if expected > wanted else 0)
    assert not told or ("project.views.view" in told[0] and "row" not in told[0].split("INSERT")[1].replace("project_row", ""))


def test_once_is_no_double_write(rows, serve, messages):
    serve(in_once)
    assert Client(lambda call: "answer", [MODEL]).get("/view/").content == b"answer"
    assert len(rows()) == 1 and messages() == []


def test_once_in_a_transaction_is_refused(rows, serve):
    def view(request):
        with transaction.atomic():
            return in_once(request)

    serve(view)
    with pytest.raises(tarry.OnceUndone):
        Client(lambda call: "answer", [MODEL]).get("/view/")
    assert rows() == []


def test_once_with_a_transaction_of_its_own(rows, serve, messages):
    def work():
        with transaction.atomic():
            return write().pk

    serve(lambda request: HttpResponse(ask(str(tarry.once(work)))))
    assert Client(lambda call: "answer", [MODEL]).get("/view/").content == b"answer"
    assert len(rows()) == 1 and messages() == []


@pytest.mark.parametrize("view", [before, in_a_template_response, in_a_generator])
def test_committed_writes_can_be_an_error(rows, serve, view):
    settings.committed_writes = "raise"
    serve(view)
    with pytest.raises(tarry.CommittedWrites, match="INSERT"):
        response = Client(lambda call: "answer", [MODEL]).get("/view/")
        response.getvalue()


def test_committed_writes_can_have_the_calls_made_directly(rows, serve, upstream, messages):
    settings.committed_writes = "direct"

    def view(request):
        first = ask("before", upstream.origin)
        write()
        return HttpResponse(first + ask("after", upstream.origin))

    serve(view)
    client = Client(lambda call: "answer", [upstream.origin])
    assert client.get("/view/").content == b'answer{"direct": 1}' and client.hops == 2
    assert len(rows()) == 1 and "INSERT" in messages()[0]


def test_a_call_in_an_on_commit_hook_is_direct(rows, serve, transactions, upstream, messages):
    seen = []

    def view(request):
        with transaction.atomic():
            write()
            transaction.on_commit(lambda: seen.append(ask("hook", upstream.origin)))
        return HttpResponse("done")

    serve(view)
    client = Client(lambda call: "answer", [upstream.origin])
    assert client.get("/view/").content == b"done" and client.hops == 1
    assert seen == ['{"direct": 1}'] and len(rows()) == 1
    assert "on_commit" in messages()[0]


def test_on_commit_hooks_of_a_swallowed_handoff_do_not_run(rows, serve, transactions):
    ran = []

    def view(request):
        with transaction.atomic():
            transaction.on_commit(lambda: ran.append(1))
            try:
                return HttpResponse(ask())
            except BaseException:
                return HttpResponse("the wrong answer")

    serve(view)
    assert Client(lambda call: "answer", [MODEL]).get("/view/").content == b"answer" and ran == [1]


def test_writes_outside_of_an_exchange_are_not_watched(rows, messages):
    write()
    with transaction.atomic():
        write()
    assert len(rows()) == 2 and not hasattr(connection, "_tarry_writes") or connection._tarry_writes[1] == []
    assert messages() == []


def test_rest_framework(rows, serve, transactions):
    pytest.importorskip("rest_framework")
    from rest_framework import serializers
    from rest_framework.response import Response
    from rest_framework.views import APIView

    class Form(serializers.Serializer):
        text = serializers.CharField()

    class View(APIView):
        authentication_classes = []
        permission_classes = []

        def post(self, request):
            form = Form(data=request.data)
            form.is_valid(raise_exception=True)
            try:
                text = ask(form.validated_data["text"])
            except Exception:
                text = "the wrong answer"
            write()
            return Response({"text": text})

    serve(View.as_view())
    client = Client(lambda call: "answer", [MODEL])
    assert client.post("/view/", {"text": "t"}, content_type="application/json").json() == {"text": "answer"}
    assert client.hops == 2 and len(rows()) == 1
    assert client.post("/view/", {}, content_type="application/json").status_code == 400


def test_a_throttle_counts_a_request_once(rows, serve):
    pytest.importorskip("rest_framework")
    from django.core.cache import cache
    from rest_framework.response import Response
    from rest_framework.throttling import AnonRateThrottle
    from rest_framework.views import APIView

    class TwoAMinute(AnonRateThrottle):
        rate = "2/min"

    class View(APIView):
        authentication_classes = []
        throttle_classes = [TwoAMinute]

        def get(self, request):
            return Response({"text": ask("a") + ask("b")})

    cache.clear()
    serve(View.as_view())
    client = Client(lambda call: "answer", [MODEL])
    assert [client.get("/view/").status_code for _ in range(3)] == [200, 200, 429]


def test_custom_throttles_count_a_request_once_and_a_class_checked_twice_twice(rows, serve):
    pytest.importorskip("rest_framework")
    from rest_framework.response import Response
    from rest_framework.throttling import BaseThrottle
    from rest_framework.views import APIView

    counted = []

    class Counting(BaseThrottle):
        def allow_request(self, request, view):
            counted.append(1)
            return True

    class View(APIView):
        authentication_classes = []
        throttle_classes = [Counting]

        def get(self, request):
            self.check_throttles(request)
            return Response({"text": ask("a") + ask("b")})

    serve(View.as_view())
    client = Client(lambda call: "answer", [MODEL])
    assert client.get("/view/").status_code == 200 and client.hops == 3 and len(counted) == 2


@pytest.fixture
def database_cache(rows):
    """A cache in the database as the store of once()."""
    from django.core.management import call_command
    from django.db import connection
    from django.test import override_settings

    from tarry.django.store import SharedCache

    backend = "django.core.cache.backends.db.DatabaseCache"
    with override_settings(CACHES={"default": {"BACKEND": backend, "LOCATION": "shared_cache"}}):
        call_command("createcachetable", verbosity=0)
        settings.once_store = SharedCache("default")
        yield
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE shared_cache")


def test_a_claim_in_a_database_cache_outlives_the_transaction_of_the_view(serve, transactions, database_cache, messages):
    """Its row would be rolled back with the view's, and the work be done again after a worker's death."""
    done = []

    def view(request):
        tarry.once(lambda: done.append(1))
        ask()
        return HttpResponse("never")

    serve(view)

    def answer(call):
        from django.core.cache import cache

        held.extend(cache.get(key) for key in keys())
        return "answer"

    def keys():
        with connection.cursor() as cursor:
            cursor.execute("SELECT cache_key FROM shared_cache")
            return [row[0].split(":", 2)[2] for row in cursor.fetchall()]

    held = []
    assert Client(answer, [MODEL]).get("/view/").content == b"never"
    assert done == [1] and held == ["=null"]
    assert messages() == []  # the store's own rows are no writes of the view


def test_a_store_that_fails_after_the_work_does_not_have_it_done_again(serve, messages, rows):
    from tarry.settings import settings

    class Full(dict):
        def add(self, key, value, timeout):
            return key not in self and not self.update({key: value})

        def set(self, key, value, timeout):
            raise OSError("the store is full")

        def delete(self, key):
            self.pop(key)

    settings.once_store = Full()
    done = []
    serve(lambda request: HttpResponse(str(tarry.once(lambda: done.append(1) or len(done))) + ask()))
    assert Client(lambda call: "answer", [MODEL]).get("/view/").content == b"1answer" and done == [1]
    assert "the store is full" in messages()[0]


def _charges(upstream):
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(upstream.origin + "/charges", b"amount=1", method="POST")).read()


def _mails(upstream):
    from django.core.mail import send_mail
    from django.test import override_settings

    with override_settings(EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend"):
        send_mail("bought", "text", "a@example.com", ["b@example.com"])


@pytest.mark.parametrize("what, named", [(_charges, "/charges"), (_mails, "a mail")])
def test_what_is_done_outside_before_a_call_is_said_like_a_committed_write(serve, upstream, messages, what, named):
    def view(request):
        what(upstream)
        return HttpResponse(ask("a"))

    serve(view)
    assert Client(lambda call: "answer", [MODEL]).get("/view/").status_code == 200
    told = [m for m in messages() if "did something outside" in m]
    assert len(told) == 1 and named in told[0]


def test_a_charge_before_a_call_can_have_the_call_made_directly(serve, upstream, monkeypatch):
    monkeypatch.setattr(settings, "committed_writes", "direct")

    def view(request):
        _charges(upstream)
        return HttpResponse(ask("a", upstream.origin))

    serve(view)
    client = Client(lambda call: "answer", [MODEL])
    assert client.get("/view/").status_code == 200 and client.hops == 1
    assert upstream.bodies[0] == b"amount=1" and len(upstream.bodies) == 2


def test_a_charge_in_once_is_no_reason_to_warn(serve, upstream, messages):
    def view(request):
        tarry.once(_charges, upstream)
        return HttpResponse(ask("a"))

    serve(view)
    assert Client(lambda call: "answer", [MODEL]).get("/view/").status_code == 200
    assert upstream.bodies == [b"amount=1"] and [m for m in messages() if "outside" in m] == []
