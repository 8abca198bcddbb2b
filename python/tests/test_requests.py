"""urllib3, alone and below requests."""

import gzip
import io
import json

import pytest

requests = pytest.importorskip("requests")
import urllib3  # noqa: E402

import tarry  # noqa: E402
from tarry.format.message import Answer  # noqa: E402
from tarry.test import WSGIClient  # noqa: E402

pytestmark = pytest.mark.usefixtures("resume")

MODEL = "https://model.example"
URL = MODEL + "/v1/chat"


def run(view, answers, method="POST", body=b"", headers=None, **limits):
    """The view's result as the app's response, and the client."""

    def app(environ, start_response):
        text = view(environ)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(text).encode()]

    client = WSGIClient(tarry.wsgi(app), answers, [MODEL], **limits)
    return client.request(method, "/", body, headers).body.decode(), client


def failed(error, status=502):
    return Answer(
        status, "Bad Gateway", [("Proxy-Status", f"tarry; error={error}"), ("Content-Type", "application/problem+json")], b"{}"
    )


def test_a_call_is_handed_off_and_its_answer_found_on_the_next_run():
    text, client = run(lambda e: requests.post(URL, json={"q": 1}, headers={"X-A": "1"}).json()["a"], [{"a": "answered"}])
    assert text == "answered" and client.hops == 2
    (call,) = client.calls
    assert (call.method, call.url, call.body, call.header("x-a")) == ("POST", URL, b'{"q": 1}', "1")
    assert not call.header("host") and call.header("content-type") == "application/json"


def test_calls_in_sequence_run_the_view_once_more_each_and_ask_nothing_twice():
    def view(environ):
        text = environ["wsgi.input"].read().decode()
        for _ in range(4):
            text = requests.post(URL, json={"q": text}).json()
        return text

    text, client = run(view, lambda call: json.dumps(json.loads(call.body)["q"] + "x"), body=b"b")
    assert text == "bxxxx" and client.hops == 5 and len(client.calls) == 4


def test_the_response_is_requests_own():
    def view(environ):
        seen = []
        session = requests.Session()
        with session.post(URL, data=b"x", stream=True, hooks={"response": lambda r, **kw: seen.append("hook")}) as r:
            lines = list(r.iter_lines())
            return (
                r.status_code,
                r.reason,
                lines,
                sorted(session.cookies.keys()),
                seen,
                r.headers["x-two"],
                r.url,
                r.raw.version,
            )

    answer = (
        201,
        [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Two", "1"), ("X-Two", "2"), ("Content-Encoding", "gzip")],
        gzip.compress(b"one\ntwo"),
    )
    text, _ = run(view, [answer])
    assert text == str((201, "Created", [b"one", b"two"], ["a", "b"], ["hook"], "1, 2", URL, 11))


def test_redirects_are_followed_as_calls_of_their_own():
    def view(environ):
        r = requests.post(URL, data=b"x")
        return (r.text, [h.status_code for h in r.history], r.request.method)

    text, client = run(view, [(302, {"Location": "/other"}, b""), "there"])
    assert text == "('there', [302], 'GET')"
    assert [c.url for c in client.calls] == [URL, MODEL + "/other"]


def test_urllib3_itself():
    def view(environ):
        pool = urllib3.HTTPSConnectionPool("model.example")
        first = pool.request("GET", "/a?b=c")
        second = urllib3.PoolManager().request("POST", URL, fields={"f": "v"}, preload_content=False)
        return (first.data, first.headers["x"], second.read(), pool.num_connections)

    text, client = run(view, [(200, {"X": "1"}, b"one"), b"two"])
    assert text == str((b"one", "1", b"two", 0))
    assert client.calls[0].url == MODEL + "/a?b=c" and b"f" in client.calls[1].body


def test_a_pool_follows_redirects_to_its_host_by_itself():
    text, client = run(
        lambda e: urllib3.HTTPSConnectionPool("model.example").urlopen("GET", "/a").data, [(302, {"Location": "/b"}, b""), b"b"]
    )
    assert text == "b'b'" and client.calls[1].url == MODEL + "/b"


@pytest.mark.parametrize(
    "answer, error",
    [
        (failed("connection_refused"), requests.exceptions.ConnectionError),
        (failed("connection_timeout", 504), requests.exceptions.ConnectTimeout),
        (failed("http_response_timeout", 504), requests.exceptions.ReadTimeout),
        (failed("connection_terminated"), requests.exceptions.ConnectionError),
    ],
)
def test_what_tarry_could_not_reach_is_the_librarys_exception(answer, error):
    def view(environ):
        try:
            requests.post(URL, data=b"x", timeout=3)
        except error as e:
            return "caught " + type(e).__name__

    text, client = run(view, [answer])
    assert text == f"caught {error.__name__}" and client.hops == 2


def test_a_refused_response_too_large_is_a_response():
    text, _ = run(lambda e: requests.post(URL).status_code, [failed("http_response_body_size_exceeded")])
    assert text == "502"


def test_urllib3_retries_do_not_sleep_and_do_not_ask_again():
    def view(environ):
        session = requests.Session()
        retry = urllib3.Retry(3, status_forcelist=[503], backoff_factor=100, allowed_methods=None)
        session.mount("https://", requests.adapters.HTTPAdapter(max_retries=retry))
        try:
            session.post(URL)
        except requests.exceptions.RetryError:
            return "RetryError"

    text, client = run(view, [(503, {"Retry-After": "100"}, b"")])
    assert text == "RetryError" and len(client.calls) == 1


def test_a_retry_of_the_library_after_a_failure_that_tarry_saw_to_gets_the_failure_again():
    def view(environ):
        session = requests.Session()
        session.mount("https://", requests.adapters.HTTPAdapter(max_retries=3))
        try:
            session.post(URL, data=b"x")
        except requests.exceptions.ConnectionError:
            return "failed"

    text, client = run(view, [failed("connection_refused")])
    assert text == "failed" and len(client.calls) == 1


def test_a_second_try_of_the_app_is_a_call_of_its_own():
    """With a longer timeout or another key it may succeed."""

    def view(environ):
        errors = 0
        for _ in range(3):
            try:
                requests.post(URL, data=b"x")
            except requests.exceptions.ConnectionError:
                errors += 1
        return errors

    text, client = run(view, lambda call: failed("connection_refused"))
    assert text == "3" and len(client.calls) == 3


def test_the_callers_timeout_is_the_calls_but_a_streams_is_between_bytes():
    def view(environ):
        requests.post(URL, json={}, timeout=(3, 20))
        requests.post(URL, json={"stream": True}, timeout=20)
        return requests.post(URL, json={}).status_code

    _, client = run(view, lambda call: b"{}")
    assert [c.timeout for c in client.calls] == [20.0, None, None]


def test_other_origins_and_other_times_are_left_alone(upstream):
    def view(environ):
        return requests.post(upstream.origin, json={}).json()["direct"]

    text, client = run(view, [])
    assert text == "1" and client.hops == 1
    assert requests.post(upstream.origin, data=b"x").json() == {"direct": 2}


OLD = tuple(int(n) for n in requests.__version__.split(".")[:2]) < (2, 29)
GENERATOR = pytest.param(
    lambda: iter([b"by", b"tes"]),
    marks=pytest.mark.skipif(OLD, reason="this version of requests sends generators past urllib3's pool"),
)


@pytest.mark.parametrize("body", [b"bytes", "bytes", GENERATOR, lambda: io.BytesIO(b"bytes")])
def test_bodies_of_every_kind(body):
    text, client = run(lambda e: requests.post(URL, data=body() if callable(body) else body).text, ["ok"])
    assert text == "ok" and client.calls[0].body == b"bytes"


@pytest.mark.parametrize("more", [{"max_hops": 3}, {"call": 60}])
def test_a_call_past_a_limit_is_made_directly_and_all_after_it(upstream, messages, more):
    """A later handoff would run the view again, and with it the call that was made directly."""

    def view(environ):
        texts = [str(requests.post(upstream.origin, data=b"x" * size).json()) for size in (1, 2, 100, 3, 4)]
        return " ".join(texts)

    def app(environ, start_response):
        text = view(environ)
        start_response("200 OK", [])
        return [text.encode()]

    client = WSGIClient(tarry.wsgi(app), lambda call: {"handed": len(call.body)}, [upstream.origin], **more)
    text = client.get("/").body.decode()
    assert text == "{'handed': 1} {'handed': 2} {'direct': 1} {'direct': 2} {'direct': 3}"
    assert client.hops == 3 and [len(b) for b in upstream.bodies] == [100, 3, 4]
    assert "made directly" in messages("WARNING")[0] and "test_requests.py" in messages("WARNING")[0]


def test_elapsed_is_how_long_tarry_took_for_hooks_too():
    seen = []

    def view(environ):
        return requests.get(URL, hooks={"response": lambda r, **kw: seen.append(r.elapsed.total_seconds())}).elapsed

    text, _ = run(view, [tarry.Answer(200, "OK", [], b"x", time=2.5)])
    assert text == "0:00:02.500000" and seen == [2.5]


def test_a_pool_of_a_proxy_takes_the_origin_from_the_absolute_url():
    session = requests.Session()
    session.proxies = {"http": "http://proxy.example:3128"}
    call = lambda e: session.post("http://plain.example/v1", data=b"x").text  # noqa: E731

    def app(environ, start_response):
        start_response("200 OK", [])
        return [call(environ).encode()]

    client = WSGIClient(tarry.wsgi(app), ["answer"], ["http://plain.example"])
    assert client.get("/").body == b"answer" and client.calls[0].url == "http://plain.example/v1"


def test_botocore_over_urllib3():
    """As it stands in boto3: signed by the clock, with retries of its own."""
    botocore = pytest.importorskip("botocore.session")
    from botocore.config import Config

    made = botocore.Session().create_client(
        "bedrock-runtime",
        region_name="eu-central-1",
        aws_access_key_id="k",
        aws_secret_access_key="s",
        config=Config(retries={"max_attempts": 5}),
    )
    origin = "https://bedrock-runtime.eu-central-1.amazonaws.com"

    def app(environ, start_response):
        answer = made.invoke_model(modelId="m", body=b'{"q": 1}')
        start_response("200 OK", [])
        return [answer["body"].read()]

    client = WSGIClient(tarry.wsgi(app), [(200, {"Content-Type": "application/json"}, b'{"a": 1}')], [origin])
    assert client.get("/").body == b'{"a": 1}' and client.hops == 2 and client.calls[0].url == origin + "/model/m/invoke"


def test_asynchronous_sleeps_after_a_recorded_failure_are_skipped(monkeypatch):
    import asyncio

    httpx = pytest.importorskip("httpx")
    slept = []
    from tarry.transports.sleep import _real_async as real

    async def sleeper(delay, *args):
        slept.append(delay)
        await real(0)

    monkeypatch.setattr("tarry.transports.sleep._real_async", sleeper)

    async def main():
        await asyncio.sleep(1)
        async with httpx.AsyncClient() as client:
            for n in range(3):
                if (await client.post(URL, content=str(n))).status_code == 200:
                    return n
                await asyncio.sleep(100)

    text, client = run(lambda e: asyncio.run(main()), lambda call: (200 if call.body == b"2" else 503, b""))
    assert text == "2" and client.hops == 4 and 100 not in slept and 1 in slept


def test_keywords_that_only_a_fork_of_urllib3_knows_do_no_harm():
    """As niquests passes them to urllib3-future, whose response takes others than its pool."""
    import urllib3

    def view(environ):
        pool = urllib3.PoolManager().connection_from_url(URL)
        return pool.urlopen("POST", URL, body=b"x", on_post_connection=None, multiplexed=False).data.decode()

    text, client = run(view, lambda call: b"answer")
    assert text == "answer" and len(client.calls) == 1
