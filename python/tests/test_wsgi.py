"""The wrapper: streams, lists, files, errors; and frameworks that know nothing of it."""

import gc
import io
import weakref

import pytest
from asking import MODEL, ask

import tarry
from tarry.settings import settings
from tarry.test import WSGIClient

pytestmark = pytest.mark.usefixtures("resume")


def client_of(app, answers=lambda call: b"answer", origin=MODEL, **limits):
    return WSGIClient(tarry.wsgi(app), answers, [origin], **limits)


def test_a_generator_that_calls_before_it_yields_works_like_a_view(resume):
    closed = []

    def app(environ, start_response):
        def chunks():
            try:
                start_response("201 Created", [("X-A", "1")])
                yield ask().encode()
                yield b"; end"
            finally:
                closed.append(True)

        return chunks()

    client = client_of(app)
    response = client.get("/")
    assert (response.status, response.header("x-a"), response.body, client.hops) == (201, "1", b"answer; end", 2)
    assert len(closed) == (2 if resume == "rerun" else 1)


def test_a_call_after_the_first_chunk_is_made_directly_and_told(upstream, messages):
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"first "
        yield ask(origin=upstream.origin).encode()

    client = client_of(app, origin=upstream.origin)
    assert client.get("/").body == b'first {"direct": 1}' and client.hops == 1
    assert len(messages()) == 1 and "the response has begun" in messages()[0]


def test_what_the_app_writes_and_returns_comes_in_order():
    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"a")
        text = ask().encode()
        write(b"b")
        return [text]

    response = client_of(app).get("/")
    assert response.body == b"ab" + b"answer"


def test_a_dropped_response_is_closed_and_an_error_passes(resume):
    class Body:
        closed = 0

        def __iter__(self):
            return iter([b"wrong"])

        def close(self):
            Body.closed += 1

    def app(environ, start_response):
        start_response("500 Oh", [])
        try:
            text = ask()
        except BaseException:
            return Body()
        if text:
            raise LookupError("the app's own")

    with pytest.raises(LookupError):
        client_of(app).get("/")
    assert Body.closed == (1 if resume == "rerun" else 0)  # suspended, there is no response to drop


def test_the_handoff_is_not_stored_and_names_its_length():
    seen = []

    def app(environ, start_response):
        text = ask()
        start_response("200 OK", [])
        return [text.encode()]

    def outer(environ, start_response):
        def start(status, headers, exc_info=None):
            seen.append((status, dict(headers)))
            return start_response(status, headers)

        return tarry.wsgi(app)(environ, start)

    WSGIClient(outer, lambda call: b"x", [MODEL]).get("/")
    status, headers = seen[0]
    assert (
        status == "202 Accepted"
        and headers["Tarry-Then"] == "replay"
        and headers["Content-Type"] == "application/http; msgtype=request"
    )
    assert "no-store" in headers["Cache-Control"] and int(headers["Content-Length"]) > 0


def test_without_tarry_calls_are_made_as_ever(upstream):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [ask(origin=upstream.origin).encode()]

    assert tarry.wsgi(app)({"REQUEST_METHOD": "GET", "wsgi.input": io.BytesIO()}, lambda *a: None) == [b'{"direct": 1}']
    assert tarry.current() is None


def test_head_is_answered_by_direct_calls(upstream):
    def app(environ, start_response):
        text = ask(origin=upstream.origin)
        start_response("200 OK", [("X-Text", text)])
        return []

    client = client_of(app, origin=upstream.origin)
    assert client.request("HEAD", "/").header("x-text") == '{"direct": 1}' and client.hops == 1


def test_nothing_of_a_parked_request_stays_in_memory():
    settings.resume = "rerun"
    alive = []

    def app(environ, start_response):
        held = type("Held", (), {})()
        alive.append(weakref.ref(held))
        text = ask()
        start_response("200 OK", [])
        return [text.encode()]

    wrapped = tarry.wsgi(app)
    seen = []

    def send_once(environ, start_response):
        if environ["HTTP_TARRY_HOP"] == "1":
            gc.collect()
            seen.append(alive[0]() is None)
        return wrapped(environ, start_response)

    WSGIClient(send_once, lambda call: b"x", [MODEL]).post("/", b"body")
    assert seen == [True]


def test_flask():
    flask = pytest.importorskip("flask")
    app = flask.Flask(__name__)

    @app.route("/form", methods=["POST"])
    def form():
        name = flask.request.form["name"]
        return flask.jsonify(text=ask(name), file=flask.request.files["f"].read().decode())

    @app.route("/stream")
    def stream():
        return flask.Response(part for part in [ask("s"), "!"])

    app.wsgi_app = tarry.wsgi(app.wsgi_app)
    client = WSGIClient(app, lambda call: call.body, [MODEL])
    body = b'--B\r\nContent-Disposition: form-data; name="name"\r\n\r\nMe\r\n--B\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\nfile\r\n--B--\r\n'
    response = client.post("/form", body, {"Content-Type": "multipart/form-data; boundary=B"})
    assert response.json() == {"text": '"Me"', "file": "file"} and client.hops == 2
    assert client.get("/stream").body == b'"s"!' and client.hops == 2
