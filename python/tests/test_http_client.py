"""http.client and urllib.request."""

import http.client
import urllib.error
import urllib.request

import pytest
from asking import MODEL

import tarry
from tarry.format.message import Answer
from tarry.test import WSGIClient

pytestmark = pytest.mark.usefixtures("resume")


def run(view, answers, origin=MODEL):
    def app(environ, start_response):
        text = view()
        start_response("200 OK", [])
        return [str(text).encode()]

    client = WSGIClient(tarry.wsgi(app), answers, [origin])
    return client.get("/").body.decode(), client


def test_urllib():
    def view():
        request = urllib.request.Request(MODEL + "/a?b=c", b"data", {"X-A": "1"})
        with urllib.request.urlopen(request, timeout=9) as r:
            return (r.status, r.reason, r.read(), r.headers.get_all("Set-Cookie"), r.url)

    text, client = run(view, [(201, [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], b"made")])
    assert text == str((201, "Created", b"made", ["a=1", "b=2"], MODEL + "/a?b=c"))
    (call,) = client.calls
    assert (call.method, call.url, call.body, call.header("x-a"), call.timeout) == ("POST", MODEL + "/a?b=c", b"data", "1", 9.0)


def test_urllib_follows_redirects_and_raises_for_errors():
    def view():
        try:
            urllib.request.urlopen(MODEL + "/a")
        except urllib.error.HTTPError as e:
            return e.code, e.read()

    text, client = run(view, [(302, {"Location": "/b"}, b""), (404, b"none")])
    assert text == str((404, b"none")) and [c.url for c in client.calls] == [MODEL + "/a", MODEL + "/b"]


def test_a_connection_with_several_requests(upstream):
    def view():
        connection = http.client.HTTPSConnection("model.example")
        texts = []
        for n in range(2):
            connection.request("PUT", f"/{n}", body=iter([b"a", b"b"]))
            texts.append(connection.getresponse().read())
        other = http.client.HTTPConnection(upstream.origin[7:])
        other.request("POST", "/", b"x")
        return texts, other.getresponse().status, connection.sock

    text, client = run(view, [b"one", b"two"])
    assert text == str(([b"one", b"two"], 200, None)) and [c.body for c in client.calls] == [b"ab", b"ab"]


@pytest.mark.parametrize(
    "error, status, expected",
    [
        ("connection_refused", 502, ConnectionRefusedError),
        ("connection_timeout", 504, TimeoutError),
        ("http_response_timeout", 504, TimeoutError),
        ("connection_terminated", 502, http.client.RemoteDisconnected),
    ],
)
def test_what_tarry_could_not_reach_is_the_usual_exception(error, status, expected):
    def view():
        try:
            urllib.request.urlopen(MODEL)
        except urllib.error.URLError as e:
            return type(e.reason).__name__
        except (OSError, http.client.HTTPException) as e:
            return type(e).__name__

    assert run(view, [Answer(status, "", [("Proxy-Status", f"tarry; error={error}")], b"{}")])[0] == expected.__name__


def test_a_direct_call_of_a_library_above_is_counted_once(upstream):
    """requests stands on http.client: what is not handed off above must not be asked about once more below."""
    requests = pytest.importorskip("requests")

    def view():
        tarry.current().direct = "for this test"
        return requests.post(upstream.origin, data=b"x").json(), tarry.current().root.take()

    assert run(view, [], upstream.origin)[0] == str(({"direct": 1}, "1"))


def test_patching_again_and_undoing_it():
    before = http.client.HTTPConnection.request
    tarry.patch_all()
    assert http.client.HTTPConnection.request is before
    from tarry.patch import unpatch_all

    unpatch_all()
    assert http.client.HTTPConnection.request is not before and not hasattr(http.client.HTTPConnection.request, "__tarry__")
    tarry.patch_all()
    assert hasattr(http.client.HTTPConnection.request, "__tarry__")


def test_a_library_is_patched_when_it_is_imported_and_never_imported(tmp_path, monkeypatch):
    import sys

    from tarry.common.importing import when_imported

    (tmp_path / "late_library.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "late_library", raising=False)
    when_imported("late_library", lambda module: setattr(module, "value", module.value + 1))
    when_imported("late_library", lambda module: setattr(module, "value", module.value * 10))
    assert "late_library" not in sys.modules
    import late_library

    assert late_library.value == 20 and "late_library" in late_library.__spec__.origin
    assert type(late_library.__loader__).__name__ == "SourceFileLoader"
