"""relay(), resume() and their continuations, in plain WSGI and Flask, with a stand-in for Tarry and without any."""

import http.server
import io
import json
import sys
import threading
import urllib.request

import pytest
from asking import MODEL

import tarry
from tarry import handoffs
from tarry.handoffs import WSGIResponse, sign, unsign
from tarry.runs.exchange import Exchange
from tarry.settings import settings
from tarry.test import WSGIClient

CALL = tarry.Call("POST", MODEL + "/v1", [("Content-Type", "application/json")], b'{"q": 1}')


@pytest.fixture(autouse=True)
def no_django(monkeypatch):
    """As in a process that has no Django project."""
    monkeypatch.setattr("tarry.handoffs.is_django", lambda: False)
    monkeypatch.setattr(sys.modules["tarry.continuation"], "is_django", lambda: False)
    settings.state_key = "k"


def app_of(**views):
    """A WSGI app with the view of each path; a view returns a WSGI app or text."""

    def app(environ, start_response):
        answer = views[environ["PATH_INFO"].strip("/") or "start"](environ)
        if not callable(answer):
            answer = WSGIResponse(200, [("Content-Type", "text/plain")], str(answer).encode())
        return answer(environ, start_response)

    return tarry.wsgi(app)


def test_a_resumed_view_gets_the_answers_in_order_and_its_state():
    def finish(environ):
        r = tarry.resumed(environ)
        return r.kind, [a.json() for a in r.answers], r.state, environ["QUERY_STRING"], environ.get("HTTP_COOKIE")

    start = lambda e: tarry.resume([CALL, tarry.Call("GET", MODEL + "/b")], then="/finish/?x=1", state={"id": 5})  # noqa: E731
    client = WSGIClient(app_of(start=start, finish=finish), {MODEL + "/v1": {"a": 1}, MODEL + "/b": {"b": 2}})
    response = client.post("/", b"the body", {"Cookie": "c=1", "Content-Type": "text/plain"})
    assert response.body.decode() == str(("resume", [{"a": 1}, {"b": 2}], {"id": 5}, "x=1", "c=1"))
    assert [len(b) for b in client.batches] == [2] and client.hops == 2


def test_a_relayed_answer_has_the_upstreams_body_and_the_views_other_headers():
    def start(environ):
        response = tarry.relay(CALL, notify="/save/", state=[1], keep_alive="sse", on_disconnect="finish")
        response.headers.append(("Set-Cookie", "a=1"))
        return response

    saved = []
    save = lambda e: saved.append(tarry.resumed(e))  # noqa: E731
    client = WSGIClient(
        app_of(start=start, save=save), [(201, {"Content-Type": "text/event-stream", "X-Inside": "1"}, "data: x\n\n")], [MODEL]
    )
    response = client.get("/")
    assert (response.status, response.body, response.header("content-type")) == (201, b"data: x\n\n", "text/event-stream")
    assert (
        response.header("set-cookie") == "a=1" and response.header("x-inside") is None and response.header("tarry-then") is None
    )
    assert [(r.kind, r.outcome, r.state, r.answers[0].body) for r in saved] == [("notify", "complete", [1], b"data: x\n\n")]


def test_a_failed_relay_is_taken_over():
    views = {"start": lambda e: tarry.relay(CALL, on_error="/sorry/"), "sorry": lambda e: tarry.resumed(e).answers[0].status}
    assert WSGIClient(app_of(**views), [(503, b"")], [MODEL]).get("/").body == b"503"


def test_a_resume_may_hand_off_again_and_calls_of_its_own_are_made_as_ever(upstream):
    def middle(environ):
        body = json.dumps(tarry.resumed(environ).answers[0].json()).encode()
        with urllib.request.urlopen(urllib.request.Request(upstream.origin, body)) as r:
            text = r.read()
        return tarry.resume([tarry.Call("POST", MODEL + "/v1", [], text)], then="/end/")

    views = {
        "start": lambda e: tarry.resume([CALL], then="/middle/"),
        "middle": middle,
        "end": lambda e: tarry.resumed(e).answers[0].body.decode(),
    }
    client = WSGIClient(app_of(**views), lambda call: call.body, [MODEL, upstream.origin])
    assert client.get("/").body == b'{"direct": 1}' and upstream.bodies == [b'{"q": 1}'] and client.hops == 3


def test_a_state_with_characters_that_no_signature_has_is_refused():
    exchange = Exchange.alone("x")
    settings.state_key = "k"
    try:
        with pytest.raises(tarry.TarryError):
            handoffs.unsign(exchange, "abc.\u00fc")
    finally:
        settings.state_key = ""


@pytest.mark.parametrize("secret, answered", [("", False), ("right", True)])
def test_without_a_secret_a_continuation_is_refused_to_the_network(secret, answered):
    """Whoever reaches the worker past Tarry could bring any answer."""
    settings.secret = secret
    environ = {"HTTP_TARRY_VERSION": "1", "HTTP_TARRY_KIND": "resume", "HTTP_TARRY_EXCHANGE": "x", "HTTP_TARRY_AUTH": secret,
               "wsgi.input": io.BytesIO(b""), "REQUEST_METHOD": "POST", "CONTENT_LENGTH": "0"}
    try:
        if answered:
            assert tarry.resumed(environ).answers == []
        else:
            with pytest.raises(tarry.NotResumed, match="no secret"):
                tarry.resumed(environ)
    finally:
        settings.secret = ""


def test_what_is_no_continuation_is_refused():
    refused = []

    def finish(environ):
        try:
            tarry.resumed(environ)
        except tarry.NotResumed:
            refused.append(True)
        return "refused"

    client = WSGIClient(app_of(finish=finish), [], [MODEL])
    forged = {"Content-Type": "application/http; msgtype=response", "Tarry-State": "x.y"}
    assert client.post("/finish/", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", forged).body == b"refused"
    assert refused == [True]


def test_state_is_of_one_exchange_and_cannot_be_changed():
    class Of:
        id = "one"

    class Other:
        id = "two"

    text = sign(Of, {"user": 1})
    assert unsign(Of, text) == {"user": 1}
    for exchange, forged in ((Other, text), (Of, "e30=." + text.partition(".")[2]), (Of, text[:-1]), (Of, "")):
        with pytest.raises(tarry.TarryError):
            unsign(exchange, forged)
    settings.state_key = ""
    with pytest.raises(tarry.TarryError, match="state_key"):
        sign(Of, 1)


def test_a_state_too_large_is_an_error_that_says_what_to_do():
    with pytest.raises(tarry.TarryError, match="database"):
        WSGIClient(app_of(start=lambda e: tarry.resume([CALL], then="/x/", state="x" * 8000)), [], [MODEL]).get("/")


def capture_of(name):
    url = MODEL + "/v1"
    if name == "urllib":
        with tarry.capture() as captured:
            urllib.request.urlopen(urllib.request.Request(url, b"{}", {"X-A": "1"}))
    elif name == "requests":
        with tarry.capture() as captured:
            pytest.importorskip("requests").post(url, data=b"{}", headers={"X-A": "1"})
    else:
        with tarry.capture() as captured:
            pytest.importorskip(name).post(url, content=b"{}", headers={"X-A": "1"})
    return captured


@pytest.mark.parametrize("name", ["urllib", "requests", "httpx", "httpx2"])
def test_what_a_library_would_have_sent(name):
    call = capture_of(name).call
    assert (call.method, call.url, call.body, call.header("x-a")) == ("POST", MODEL + "/v1", b"{}", "1")


def test_an_sdks_call_is_captured_and_relayed():
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(api_key="k", base_url=MODEL + "/v1")

    def start(environ):
        with tarry.capture() as call:
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True)
        return tarry.relay(call)

    tests = WSGIClient(app_of(start=start), ["data: [DONE]\n\n"], [MODEL])
    assert tests.get("/").body == b"data: [DONE]\n\n" and json.loads(tests.calls[0].body)["stream"] is True


def test_nobody_gets_an_encoding_that_only_the_library_knew():
    requests = pytest.importorskip("requests")
    asked = lambda: requests.Request("POST", MODEL + "/v1", json={}, headers={"Accept-Encoding": "br, zstd"})  # noqa: E731
    by_hand = tarry.Call("GET", MODEL + "/b", [("Accept-Encoding", "br")])
    views = {
        "start": lambda e: tarry.relay(asked()),
        "two": lambda e: tarry.resume([asked(), by_hand], then="/finish"),
        "finish": lambda e: "",
    }
    client = WSGIClient(app_of(**views), lambda call: call.header("accept-encoding"), [MODEL])
    assert client.get("/").body == b"identity"
    client.get("/two")
    assert [call.header("accept-encoding") for call in client.calls] == ["gzip", "br"]


def test_request_objects_of_libraries_are_calls():
    from tarry.capture import as_call

    url = MODEL + "/v1"
    made = [as_call(urllib.request.Request(url, b"{}"))]
    for name in ("httpx", "requests"):
        try:
            library = __import__(name)
        except ImportError:
            continue
        made.append(as_call(library.Request("POST", url, data={"a": "b"})))
        if name == "requests":
            made.append(as_call(library.Request("POST", url, data={"a": "b"}).prepare()))
    assert [(c.method, c.url) for c in made] == [("POST", url)] * len(made)
    assert all(c.body == b"a=b" for c in made[1:])
    with pytest.raises(TypeError):
        as_call("https://model.example/")


def test_an_empty_capture_is_an_error():
    with tarry.capture() as captured:
        pass
    with pytest.raises(tarry.TarryError):
        captured.call


def run_alone(app, path="/", **more):
    """One request with nothing in front: (status, chunks)."""
    import io

    head = []
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "wsgi.input": io.BytesIO(b"body"),
        "CONTENT_LENGTH": "4",
        **more,
    }
    body = app(environ, lambda status, headers, exc_info=None: head.append((status, headers)))
    return head, body


def test_without_tarry_the_wrapper_makes_the_calls_itself(upstream):
    call = tarry.Call("POST", upstream.origin + "/x", [], b"{}")

    def finish(environ):
        r = tarry.resumed(environ)
        return r.answers[0].json(), r.answers[1].status, r.state

    gone = tarry.Call("POST", "http://127.0.0.1:1/", [], b"{}")
    app = app_of(start=lambda e: tarry.resume([call, gone], then="/finish/", state=7), finish=finish)
    head, body = run_alone(app)
    assert head[0][0] == "200 OK" and b"".join(body) == str(({"direct": 1}, 502, 7)).encode()
    settings.secret = "s"
    assert b"".join(run_alone(app)[1]) == str(({"direct": 2}, 502, 7)).encode()
    # What a client says does not count.
    with pytest.raises(tarry.NotResumed):
        run_alone(
            app, "/finish/", HTTP_TARRY_VERSION="1", HTTP_TARRY_KIND="resume", HTTP_TARRY_EXCHANGE="e", HTTP_TARRY_AUTH="guess"
        )


def test_without_tarry_a_relay_is_passed_on_as_it_arrives():
    go_on = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(b"data: 1\n\n")
            self.wfile.flush()
            assert go_on.wait(20)
            self.wfile.write(b"data: 2\n\n")

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        saved = []
        call = tarry.Call("POST", f"http://127.0.0.1:{server.server_port}/", [], b"{}")
        app = app_of(start=lambda e: tarry.relay(call, notify="/save/"), save=lambda e: saved.append(tarry.resumed(e)))
        head, body = run_alone(app)
        chunks = iter(body)
        assert ("Content-Type", "text/event-stream") in head[0][1] and next(chunks) == b"data: 1\n\n" and saved == []
        go_on.set()
        assert b"".join(chunks) == b"data: 2\n\n"
        assert [(r.outcome, r.answers[0].body) for r in saved] == [("complete", b"data: 1\n\ndata: 2\n\n")]
    finally:
        go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("wrapped", [True, False])
def test_where_tarry_is_required_the_answer_is_501(wrapped):
    settings.required = True
    app = app_of(start=lambda e: tarry.relay(CALL)) if wrapped else lambda e, s: tarry.relay(CALL)(e, s)
    assert run_alone(app)[0][0][0] == "501 Not Implemented"


def test_flask():
    flask = pytest.importorskip("flask")
    app = flask.Flask(__name__)
    app.add_url_rule("/ask", "ask", lambda: tarry.resume([CALL], then="/finish", state=1), methods=["POST"])
    app.add_url_rule("/finish", "finish", lambda: str(tarry.resumed(flask.request.environ)), methods=["POST"])
    app.wsgi_app = tarry.wsgi(app.wsgi_app)
    assert b"state=1" in WSGIClient(app, ["answer"], [MODEL]).post("/ask").body


def test_an_origin_that_the_conf_does_not_have_is_an_error_that_names_those_it_has():
    app = app_of(start=lambda e: tarry.resume([tarry.Call("GET", "https://other.example/x")], then="/finish"))
    with pytest.raises(tarry.TarryError, match=f"no upstream with the origin 'https://other.example'; it has {MODEL}"):
        WSGIClient(app, [], [MODEL]).get("/")


def test_an_upstream_by_its_name_is_tarrys_to_call():
    app = app_of(start=lambda e: tarry.relay(tarry.Call("GET", "tarry://openai/v1/models")))
    assert WSGIClient(app, {"tarry://openai/": "models"}).get("/").body == b"models"
    with pytest.raises(tarry.TarryError, match="tarry://openai/v1/models can be called by Tarry only"):
        run_alone(app)


def test_cookies_of_a_handoff_are_the_final_responses():
    def start(environ):
        response = tarry.resume([CALL], then="/finish")
        response.headers += [("Set-Cookie", "a=first; Path=/"), ("Set-Cookie", "b=first")]
        return response

    app = app_of(start=start, finish=lambda e: WSGIResponse(200, [("Set-Cookie", "b=last")], b""))
    cookies = [v for n, v in WSGIClient(app, [b""], [MODEL]).get("/").headers if n == "Set-Cookie"]
    assert cookies == ["b=last", "a=first; Path=/"]
