import io

import pytest

from tarry.runs.exchange import of
from tarry.settings import settings

FEATURES = "relay, resume, replay, notify, on-error, keep-alive"


def environ(body=b"", **more):
    return {
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "HTTP_TARRY_VERSION": "1",
        "HTTP_TARRY_FEATURES": FEATURES,
        "HTTP_TARRY_EXCHANGE": "x1",
        "HTTP_TARRY_HOP": "0",
        "HTTP_TARRY_KIND": "request",
        "HTTP_TARRY_STARTED": "1700000000.125",
        "HTTP_TARRY_LIMITS": "max-hops=3, max-calls=2, replay-body=100, call=1000, state=500, unheard-of=1",
        "HTTP_TARRY_ORIGINS": "https://api.example, http://127.0.0.1:8000",
        **more,
    }


def test_without_tarry_there_is_no_exchange():
    assert of({"REQUEST_METHOD": "GET", "wsgi.input": io.BytesIO()}) is None
    assert of(environ(HTTP_TARRY_VERSION="2")) is None


def test_what_tarry_says_is_read():
    e = of(environ())
    assert (e.id, e.hop, e.kind, e.attempt, e.started, e.direct) == ("x1", 0, "request", 1, 1700000000.125, "")
    assert e.origins == {"https://api.example", "http://127.0.0.1:8000"}
    assert (e.limits.max_hops, e.limits.max_calls, e.limits.replay_body, e.limits.call, e.limits.state) == (3, 2, 100, 1000, 500)


def test_headers_without_the_secret_are_not_believed_and_not_shown_to_the_app(messages):
    settings.secret = "s3cret"
    for auth in ({}, {"HTTP_TARRY_AUTH": "other"}):
        forged = environ(**auth)
        assert of(forged) is None and not [n for n in forged if n.startswith("HTTP_TARRY_")]
    assert of(environ(HTTP_TARRY_AUTH="s3cret")).id == "x1"
    assert len(messages()) == 1 and "s3cret" not in messages()[0]


@pytest.mark.parametrize(
    "more, why",
    [
        ({"HTTP_TARRY_FEATURES": "relay, resume"}, "no replay"),
        ({"HTTP_TARRY_KIND": "notify"}, "notify"),
        ({"REQUEST_METHOD": "HEAD"}, "HEAD"),
        ({"CONTENT_LENGTH": "101"}, "replay_body_max"),
        ({"HTTP_TARRY_HOP": "2"}, "max_hops"),
    ],
)
def test_where_a_handoff_would_be_refused_calls_are_direct(more, why):
    assert why in of(environ(**more)).direct


@pytest.mark.parametrize("size", [0, 3, (1 << 20) + 1])
def test_a_replay_is_cut_into_the_apps_body_and_the_record(size):
    body = b"\r\n\x00" * (size // 3) + b"x" * (size % 3)
    record = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTarry-Call-Id: 2g.0.1;u.b\r\n\r\nhi"
    env = environ(body + record, HTTP_TARRY_KIND="replay", HTTP_TARRY_HOP="1", HTTP_TARRY_BODY_LENGTH=str(size))
    e = of(env)
    assert env["wsgi.input"].read() == body and env["CONTENT_LENGTH"] == (str(size) if size else "")
    digests, answer = e.record["2g.0.1"]
    assert (digests, answer.body) == ("u.b", b"hi")
    assert of(env) is e


def test_the_app_reads_its_body_and_no_further_and_the_rest_is_read_before_a_handoff():
    env = environ(b"one\ntwo\nthree")
    stream = env["wsgi.input"]
    e = of(env)
    source = env["wsgi.input"]
    assert (source.read(2), source.readline(), source.readline(2)) == (b"on", b"e\n", b"tw")
    e.handoff()
    assert stream.read() == b""


class OnlyRead:
    """The body as Granian gives it: read() takes no negative size and may give less, readline() loses the line's end."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def read(self, size):
        assert size >= 0
        return self._data.read(min(size, 5))

    def readline(self, size=0):
        return self._data.readline().rstrip(b"\n")


def test_of_the_servers_stream_only_read_is_used():
    record = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTarry-Call-Id: 0;u.b\r\n\r\nhi" * 2
    env = environ(b"one\ntwo\n" + record, HTTP_TARRY_KIND="replay", HTTP_TARRY_HOP="1", HTTP_TARRY_BODY_LENGTH="8")
    env["wsgi.input"] = OnlyRead(env["wsgi.input"].read())
    assert [answer.body for _, answer in of(env).record.values()] == [b"hi"]
    assert env["wsgi.input"].readlines() == [b"one\n", b"two\n"]
    env = environ(b"one\ntwo\nthree")
    env["wsgi.input"] = OnlyRead(env["wsgi.input"].read())
    of(env)
    assert (env["wsgi.input"].readline(), list(env["wsgi.input"])) == (b"one\n", [b"two\n", b"three"])
