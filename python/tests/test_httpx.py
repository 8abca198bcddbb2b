"""httpx and httpx2, sync and async."""

import asyncio
import gzip
import importlib
import ssl

import pytest

import tarry
from tarry.format.message import Answer
from tarry.test import WSGIClient

pytestmark = pytest.mark.usefixtures("resume")

MODEL = "https://model.example"
URL = MODEL + "/v1/chat"


@pytest.fixture(params=["httpx", "httpx2"])
def httpx(request):
    try:
        return importlib.import_module(request.param)
    except ImportError:
        pytest.skip(f"no {request.param} here")


def run(view, answers, body=b""):
    def app(environ, start_response):
        text = view()
        start_response("200 OK", [])
        return [str(text).encode()]

    client = WSGIClient(tarry.wsgi(app), answers, [MODEL])
    return client.post("/", body).body.decode(), client


def test_a_call_is_handed_off_and_its_answer_found_on_the_next_run(httpx):
    text, client = run(lambda: httpx.post(URL, json={"q": 1}, headers={"X-A": "1"}, timeout=7).json()["a"], [{"a": "answered"}])
    assert text == "answered" and client.hops == 2
    (call,) = client.calls
    assert (call.method, call.url, call.header("x-a"), call.timeout) == ("POST", URL, "1", 7.0)


def test_the_response_is_httpxs_own(httpx):
    def view():
        seen = []
        with httpx.Client(event_hooks={"response": [lambda r: seen.append("hook")]}) as client:
            with client.stream("POST", URL, files={"f": b"data"}) as r:
                lines = [line.strip() for line in r.iter_lines()]
            return (
                r.status_code,
                r.reason_phrase,
                lines,
                r.headers.get_list("x-two"),
                sorted(client.cookies),
                seen,
                r.http_version,
                r.extensions["tarry"],
            )

    answer = Answer(
        200,
        "Fine",
        [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Two", "1"), ("X-Two", "2"), ("Content-Encoding", "gzip")],
        gzip.compress(b"one\ntwo"),
        attempts=2,
    )
    text, client = run(view, [answer])
    assert text == str((200, "Fine", ["one", "two"], ["1", "2"], ["a", "b"], ["hook"], "HTTP/1.1", {"attempts": 2, "time": 0.0}))
    assert b"data" in client.calls[0].body and client.hops == 2  # the boundary is another one on each run


def test_redirects_and_generator_bodies(httpx):
    text, client = run(
        lambda: httpx.post(URL, content=iter([b"a", b"b"]), follow_redirects=True).text,
        [(303, {"Location": "/other"}, b""), "there"],
    )
    assert text == "there" and [(c.method, c.url, c.body) for c in client.calls] == [
        ("POST", URL, b"ab"),
        ("GET", MODEL + "/other", b""),
    ]


@pytest.mark.parametrize(
    "error, status, name",
    [
        ("connection_refused", 502, "ConnectError"),
        ("connection_timeout", 504, "ConnectTimeout"),
        ("http_response_timeout", 504, "ReadTimeout"),
        ("http_protocol_error", 502, "RemoteProtocolError"),
    ],
)
def test_what_tarry_could_not_reach_is_the_librarys_exception(httpx, error, status, name):
    def view():
        try:
            httpx.post(URL)
        except getattr(httpx, name) as e:
            return f"caught {type(e).__name__}"

    text, _ = run(view, [Answer(status, "", [("Proxy-Status", f"tarry; error={error}")], b"{}")])
    assert text == f"caught {name}"


def test_a_mock_transport_stays_what_it_is(httpx):
    def view():
        with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, text="mocked"))) as client:
            return client.post(URL).text

    text, client = run(view, [])
    assert text == "mocked" and client.hops == 1


def test_asyncio_in_a_sync_view_and_two_tasks_in_one_handoff(httpx):
    async def ask(client, text):
        first = (await client.post(URL, json={"q": text})).json()
        return (await client.post(URL, json={"q": first})).json()

    async def main():
        async with httpx.AsyncClient() as client:
            return await asyncio.gather(ask(client, "a"), ask(client, "b"), ask(client, "a"))

    text, client = run(lambda: asyncio.run(main()), lambda call: '"%s+"' % call.body.decode().split('"')[3])
    assert text == "['a++', 'b++', 'a++']"
    assert [len(batch) for batch in client.batches] == [3, 3]


def test_async_to_sync_as_in_django(httpx):
    sync = pytest.importorskip("asgiref.sync")

    async def main():
        async with httpx.AsyncClient() as client:
            return [r.text for r in await asyncio.gather(*[client.post(URL, content=text) for text in "ab"])]

    text, client = run(lambda: sync.async_to_sync(main)(), lambda call: call.body)
    assert text == "['a', 'b']" and [len(batch) for batch in client.batches] == [2]


def test_a_clock_in_a_single_task_is_taken_for_the_same_call(httpx, messages, resume):
    times = iter(range(100))

    async def main():
        async with httpx.AsyncClient() as client:
            return (await client.post(URL, json={"at": next(times)})).text

    text, client = run(lambda: asyncio.run(main()), lambda call: "answer")
    assert text == "answer" and len(client.calls) == 1
    assert any("differs" in m for m in messages()) == (resume == "rerun")


def test_elapsed_is_how_long_tarry_took(httpx):
    answer = Answer(200, "OK", [], b"x", time=2.5)

    async def main():
        async with httpx.AsyncClient() as client:
            return (await client.get(URL)).elapsed

    text, _ = run(lambda: (str(httpx.get(URL).elapsed), str(asyncio.run(main()))), [answer, answer])
    assert text == "('0:00:02.500000', '0:00:02.500000')"


def test_a_client_made_on_the_first_run_alone_is_not_told(httpx, messages):
    """As one of a module that the first request loads."""
    made = []

    def view():
        if not made:
            made.append(httpx.Client())
        return made[0].post(URL, content=b"1").text + made[0].post(URL, content=b"2").text

    assert run(view, lambda call: call.body)[0] == "12" and messages() == []
    made[0].close()


def test_clients_made_in_a_view_are_told_with_their_number(httpx, messages, resume):
    shared = ssl.create_default_context()
    once = httpx.Client()

    def view():
        httpx.post(URL, content=b"1")
        with httpx.Client() as client:
            return client.post(URL, content=b"2").text + once.post(URL, content=b"3").text

    assert run(view, lambda call: call.body)[0] == "23"
    if resume == "auto":
        run(view, lambda call: call.body)  # a first run may be the one that loads a module
    told = [m for m in messages() if "clients of httpx" in m]
    assert len(told) == 1 and "made 2 clients" in told[0] and "at import" in told[0]

    def sound():
        with httpx.Client(verify=shared) as client:
            return client.post(URL, content=b"4").text

    messages_before = len(messages())
    assert run(sound, lambda call: call.body)[0] == "4" and len(messages()) == messages_before
    once.close()
