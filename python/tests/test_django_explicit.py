"""relay() and resume() in Django and DRF: what CSRF, sessions and large answers make of them."""

import pytest
from asking import MODEL
from django.http import HttpResponse, JsonResponse
from django.urls import path
from project import urls, views

import tarry
from tarry.test import Client

CALL = tarry.Call("POST", MODEL + "/v1", [("Content-Type", "application/json")], b'{"q": 1}')


@pytest.fixture(autouse=True)
def database(rows):
    yield


@pytest.fixture
def continue_with():
    """continue_with(view) serves it at /finish/."""
    from django.urls import clear_url_caches

    added = []

    def add(view):
        added.append(path("finish/", view, name="finish-of-test"))
        urls.urlpatterns.append(added[-1])
        clear_url_caches()

    yield add
    for pattern in added:
        urls.urlpatterns.remove(pattern)
    clear_url_caches()
    views.now.clear()


def test_a_resumed_view_needs_no_csrf_token_and_has_the_clients_session(serve, continue_with):
    def start(request):
        request.session["who"] = "ann"
        return tarry.resume([CALL], then="finish-of-test", state={"id": 1})

    @tarry.continuation
    def finish(request):
        return JsonResponse(
            {
                "who": request.session["who"],
                "state": request.tarry.state,
                "answer": request.tarry.answers[0].json(),
                "form": dict(request.POST),
            }
        )

    serve(start)
    continue_with(finish)
    client = Client({MODEL: {"a": 1}}, enforce_csrf_checks=True)
    client.cookies["csrftoken"] = "a" * 32
    # The session's cookie is new to the client: the continuation is asked as the client asked.
    serve(lambda request: HttpResponse(request.session.__setitem__("who", "ann") or ""))
    client.get("/view/")
    serve(start)
    response = client.post("/view/", {"csrfmiddlewaretoken": "a" * 32})
    assert response.json() == {"who": "ann", "state": {"id": 1}, "answer": {"a": 1}, "form": {}}
    assert response["X-Outer"] == "seen" and client.hops == 2


def test_what_is_no_continuation_gets_403(serve, continue_with):
    from django.test import Client as Plain

    continue_with(tarry.continuation(lambda request: HttpResponse("reached")))
    assert Plain().post("/finish/").status_code == 403
    assert Client([], [MODEL]).post("/finish/").status_code == 403
    forged = {"HTTP_TARRY_VERSION": "1", "HTTP_TARRY_KIND": "resume", "HTTP_TARRY_EXCHANGE": "x", "HTTP_TARRY_STATE": "e30=.00"}
    assert Plain().post("/finish/", **forged).status_code == 403


def test_answers_beyond_the_memory_limit_of_a_form(serve, continue_with):
    serve(lambda request: tarry.resume([CALL], then="/finish/"))
    continue_with(tarry.continuation(lambda request: HttpResponse(str(len(request.tarry.answers[0].body)))))
    assert Client({MODEL: b"x" * 5000000}).get("/view/").content == b"5000000"


def test_rest_framework_with_session_authentication(serve, continue_with):
    pytest.importorskip("rest_framework")
    from django.contrib.auth.models import User
    from rest_framework.authentication import SessionAuthentication
    from rest_framework.response import Response
    from rest_framework.views import APIView

    class Finish(APIView):
        authentication_classes = [SessionAuthentication]

        def post(self, request):
            return Response({"user": request.user.username, "answer": request.tarry.answers[0].json()})

    class Start(APIView):
        authentication_classes = []

        def post(self, request):
            return tarry.resume([CALL], then="finish-of-test")

    user = User.objects.create_user("ann", password="x")
    serve(Start.as_view())
    continue_with(tarry.continuation(Finish.as_view()))
    client = Client({MODEL: [1]}, enforce_csrf_checks=False)
    client.force_login(user)
    client.handler.enforce_csrf_checks = True
    client.cookies["csrftoken"] = "a" * 32
    assert client.post("/view/", {"csrfmiddlewaretoken": "a" * 32}).json() == {"user": "ann", "answer": [1]}


def test_a_relay_with_a_cookie_and_a_notify(serve, continue_with):
    saved = []

    def start(request):
        response = tarry.relay(CALL, notify="finish-of-test", state="s")
        response.set_cookie("c", "1")
        return response

    @tarry.continuation
    def save(request):
        saved.append((request.tarry.kind, request.tarry.state, request.tarry.answers[0].body))
        return HttpResponse()

    serve(start)
    continue_with(save)
    client = Client({MODEL: (200, {"Content-Type": "text/event-stream"}, b"data: 1\n\n")})
    response = client.get("/view/", HTTP_ACCEPT_ENCODING="gzip")
    assert (
        response.content == b"data: 1\n\n"
        and response["Content-Type"] == "text/event-stream"
        and client.cookies["c"].value == "1"
    )
    assert saved == [("notify", "s", b"data: 1\n\n")] and [r.status_code for r in client.notified] == [200]


def test_without_tarry_and_wrapper_the_middleware_makes_the_calls(serve, continue_with, upstream):
    """As under Django's own test client."""
    from django.contrib.auth.models import User
    from django.test import Client as Plain

    def start(request):
        request.session["started"] = True
        response = tarry.resume(
            [tarry.Call("POST", upstream.origin, [], request.POST["text"].encode())], then="finish-of-test", state=7
        )
        response.set_cookie("kept", "1")
        return response

    def finish(request):
        request.session["finished"] = True
        got = request.tarry
        return JsonResponse(
            {
                "answer": got.answers[0].json(),
                "state": got.state,
                "user": request.user.username,
                "started": request.session.get("started"),
                "form": dict(request.POST),
            }
        )

    serve(start)
    continue_with(tarry.continuation(finish))
    client = Plain(enforce_csrf_checks=True)
    client.force_login(User.objects.create_user("ann"))
    client.cookies["csrftoken"] = "a" * 32
    response = client.post("/view/", {"csrfmiddlewaretoken": "a" * 32, "text": "asked"})
    assert response.json() == {"answer": {"direct": 1}, "state": 7, "user": "ann", "started": True, "form": {}}
    assert response["X-Outer"] == "seen" and response.cookies["kept"].value == "1" and "Tarry-Then" not in response
    assert client.session["started"] and client.session["finished"] and upstream.bodies == [b"asked"]
    assert Plain().post("/finish/").status_code == 403


def test_without_tarry_and_wrapper_a_relay_is_made_and_notified(serve, continue_with, upstream):
    from django.test import Client as Plain

    saved = []
    serve(lambda request: tarry.relay(tarry.Call("POST", upstream.origin, [], b"{}"), notify="finish-of-test", keep_alive="sse"))
    continue_with(tarry.continuation(lambda request: saved.append(request.tarry) or HttpResponse()))
    response = Plain().get("/view/")
    assert response.getvalue() == b'{"direct": 1}' and response["Content-Type"] == "application/json"
    assert [(r.kind, r.outcome, r.answers[0].json()) for r in saved] == [("notify", "complete", {"direct": 1})]


def test_where_tarry_is_required_the_answer_is_501(serve):
    from django.test import Client as Plain

    from tarry.settings import settings

    Plain().get("/finish/")  # the middleware reads the project's settings when it is made
    settings.required = True
    serve(lambda request: tarry.relay(CALL))
    assert Plain().get("/view/").status_code == 501


@pytest.mark.parametrize("decorated", ["class", "function"])
def test_rest_frameworks_data_is_empty_in_a_continuation(serve, continue_with, decorated):
    """It has no parser for application/http, and would answer 415 to who looks at request.data."""
    pytest.importorskip("rest_framework")
    from rest_framework.decorators import api_view
    from rest_framework.response import Response
    from rest_framework.views import APIView

    def answer(request):
        return Response({"data": dict(request.data), "answer": request.tarry.answers[0].json()})

    class Finish(APIView):
        authentication_classes = []

        def post(self, request):
            return answer(request)

    view = Finish.as_view() if decorated == "class" else api_view(["POST"])(answer)
    serve(lambda request: tarry.resume([CALL], then="finish-of-test"))
    continue_with(tarry.continuation(view))
    client = Client({MODEL: [1]})
    assert client.get("/view/").json() == {"data": {}, "answer": [1]}


def test_cookies_of_a_handoff_are_the_final_responses(serve, continue_with):
    def start(request):
        response = tarry.resume([CALL], then="finish-of-test")
        response.set_cookie("a", "first")
        response.set_cookie("b", "first")
        return response

    def finish(request):
        response = HttpResponse()
        response.set_cookie("b", "last")
        return response

    serve(start)
    continue_with(tarry.continuation(finish))
    response = Client({MODEL: [1]}).get("/view/")
    assert {name: morsel.value for name, morsel in response.cookies.items()} == {"a": "first", "b": "last"}


def test_without_tarry_the_wrapped_project_calls_by_itself(serve, continue_with, upstream):
    from django.core.wsgi import get_wsgi_application
    from test_explicit import run_alone

    serve(lambda request: tarry.resume([tarry.Call("POST", upstream.origin, [], b"{}")], then="finish-of-test"))
    continue_with(tarry.continuation(lambda request: JsonResponse(request.tarry.answers[0].json())))
    head, body = run_alone(
        tarry.wsgi(get_wsgi_application()),
        "/view/",
        REQUEST_METHOD="GET",
        SERVER_NAME="testserver",
        SERVER_PORT="80",
        **{"wsgi.url_scheme": "http"},
    )
    assert head[0][0] == "200 OK" and b"".join(body) == b'{"direct": 1}'
