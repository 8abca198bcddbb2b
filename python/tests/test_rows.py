"""What is run twice and what is not, row by row, in a real project behind the real Tarry: what a view writes and what is told of it,
views that swallow the handoff, sessions and messages, caches, throttles, forms."""

import http.cookies
import itertools

import pytest
from behind import Reply, Site, asked, new_bed, show

from tarry.runs import suspended

marks = (f"mark-{n}-" for n in itertools.count())


@pytest.fixture(
    scope="module",
    params=["rerun autocommit", "rerun atomic", "auto autocommit", "auto atomic", "suspend autocommit", "suspend atomic"],
)
def site(request, tmp_path_factory):
    """One worker, in autocommit or with ATOMIC_REQUESTS, and the three ways that a view goes on after a call."""
    resume, mode = request.param.split()
    if resume != "rerun" and suspended.missing():
        pytest.skip(suspended.missing())
    bed = new_bed(tmp_path_factory.mktemp(request.param.replace(" ", "-")))
    site = Site(bed, env={"ATOMIC_REQUESTS": "1" if mode == "atomic" else "0", "TARRY_RESUME": resume})
    site.resume, site.mode = resume, mode
    # A view that is never run again, and is in a transaction at its call, makes it directly.
    site.hops = 1 if request.param == "suspend atomic" else 2
    site.runs_again = resume == "rerun" or request.param == "auto atomic"
    yield site
    show(bed)
    bed.stop()


# The rows in the database after one request where the view is run again, in autocommit and with ATOMIC_REQUESTS; the rows that the view is to
# leave, which is what it leaves where it is suspended; and whether its call is made in a transaction, in autocommit and with ATOMIC_REQUESTS.
ROWS = {
    "create": (2, 1, 1, False, True),
    "create_afterwards": (1, 1, 1, False, True),
    "nested": (3, 2, 2, True, True),
    "savepoint": (1, 1, 1, True, True),
    "atomic_under_except": (1, 1, 1, True, True),
    "in_finally": (2, 1, 1, False, True),
    "on_commit": (2, 1, 1, False, True),
    "template_response": (2, 2, 1, False, False),
    "in_render": (2, 1, 1, False, True),
    "generator": (2, 2, 1, False, False),
    "class_based": (2, 1, 1, False, True),
    "in_a_renderer": (2, 2, 1, False, False),
    "in_a_serializer": (2, 1, 1, False, True),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_is_written_twice_is_told(site, name):
    if name in ("in_a_renderer", "in_a_serializer"):
        pytest.importorskip("rest_framework")
    autocommit, atomic, wanted, *in_transaction = ROWS[name]
    mark = next(marks)
    got = site.tarry.get(f"/rows/{name}/?mark={mark}")
    assert got.status == 200 and "echo:q" in got.text, got
    refused = in_transaction[site.mode == "atomic"]
    # In a transaction a run is not suspended. It is run again then; or, if it is never to be, or has committed a write before, it calls directly.
    direct = refused and (site.resume == "suspend" or (site.resume, site.mode, name) == ("auto", "autocommit", "nested"))
    assert site.visited(mark)["hops"] == (1 if direct else 2)
    expected = wanted if site.resume != "rerun" else autocommit if site.mode == "autocommit" else atomic
    assert site.rows(mark) == expected
    view = {"class_based": "ClassBased", "in_a_renderer": "InARenderer", "in_a_serializer": "InASerializer"}.get(name, name)
    n = 1 if expected > wanted else 0
    told = site.warnings(rf"rows\.{view} committed a write.*INSERT INTO", n)
    assert len(told) == n, told
    held = site.warnings(rf"rows\.{view} at .*made directly, holds the worker", 1 if direct else 0)
    assert len(held) == (1 if direct else 0)
    assert mark not in "".join(told + held)  # a statement, never its values


def test_what_an_on_commit_hook_follows_is_committed_once(site):
    mark = next(marks)
    before = len(asked(site))
    got = site.tarry.get(f"/rows/call_in_on_commit/?mark={mark}")
    assert got.status == 200 and site.visited(mark)["hops"] == (1 if site.resume == "rerun" else 2)
    assert site.rows(mark) == 1 and len(asked(site, before + 1)) == before + 1
    if site.resume == "rerun":
        assert site.warnings(r"call_in_on_commit.*on_commit hook", 1)


@pytest.mark.parametrize("name", ["return", "raise", "finally", "retry", "other_provider"])
def test_a_view_that_swallows_the_handoff_gives_the_right_answer_and_is_named(site, name):
    mark, before = next(marks), len(asked(site))
    got = site.tarry.get(f"/rows/swallow_{name}/?mark={mark}")
    assert got.status == 200 and got.text.startswith("echo:q"), got
    assert len(asked(site, before + 1)) == before + 1 and site.visited(mark)["hops"] == site.hops
    once = {"return": 0, "raise": 0, "finally": 1, "retry": 1, "other_provider": 1}[name]  # rows of the run that counts
    # What a view writes when it has swallowed the handoff stays in autocommit; the last one is left by the second call.
    stays = 1 if site.mode == "autocommit" and site.runs_again and name != "other_provider" else 0
    assert site.rows(mark) == once + stays
    n = 1 if site.runs_again and name != "other_provider" else 0
    assert len(site.warnings(rf"_swallow_{name} swallowed the handoff", n)) == n
    assert not site.warnings("Internal Server Error") and not site.warnings("Traceback")


class Browser:
    """Keeps cookies."""

    def __init__(self, site):
        self.site = site
        self.cookies = {}

    def get(self, path, method="GET", body=None, **headers):
        fields = dict(headers)
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{n}={v}" for n, v in self.cookies.items())
        got = self.site.tarry.request(method, path, fields, body)
        self.set = []
        for value in got.headers.all("Set-Cookie"):
            parsed = http.cookies.SimpleCookie(value)
            for name, morsel in parsed.items():
                self.set.append(name)
                self.cookies[name] = morsel.value
        return got


def test_session_and_messages_change_once_in_a_request_and_no_cookie_of_an_undone_run_is_kept(site):
    browser = Browser(site)
    assert browser.get("/rows/counted/").json() == {"count": 1}
    assert browser.set == ["sessionid"]
    assert browser.get("/rows/counted/").json() == {"count": 2}
    assert browser.get("/rows/shown/").json() == {"messages": ["message 1", "message 2"], "count": 2}
    assert browser.get("/rows/shown/").json() == {"messages": [], "count": 2}


def test_login_before_a_call_and_authentication_on_every_run(site):
    browser, name = Browser(site), next(marks)
    assert browser.get("/rows/who/").status == 302
    assert browser.get(f"/rows/logged_in/?mark={name}").text == name
    assert browser.set.count("sessionid") == 1
    assert browser.get("/rows/who/").text.startswith(f"{name} echo:q")


def test_a_cached_view_stores_its_answer_and_never_the_handoff(site):
    before = len(asked(site))
    key = next(marks)
    texts = {site.tarry.get(f"/rows/cached/?{key}").text for _ in range(3)}
    assert len(texts) == 1 and texts.pop().startswith("echo:q") and len(asked(site, before + 1)) == before + 1


def test_a_throttle_counts_a_request_once(site):
    pytest.importorskip("rest_framework")
    site.tarry.get("/rows/clear/")
    assert [site.tarry.get("/rows/throttled/").status for _ in range(3)] == [200, 200, 429]


def test_a_handoff_is_not_compressed_and_no_condition_of_the_client_loses_it(site):
    key = next(marks)
    got = site.tarry.get(f"/rows/asked_once/?{key}packed", {"Accept-Encoding": "gzip", "If-None-Match": '"other"'})
    assert got.status == 200 and got.text.startswith("echo:q") and site.visited(key + "packed")["hops"] == site.hops
    got = site.tarry.get(f"/rows/asked_once/?{key}any", {"If-None-Match": "*"})
    assert got.status == 304 and site.visited(key + "any")["hops"] == site.hops  # what the answer's own validator makes of it


def multipart(field, size, token=None):
    parts = [f'--B\r\nContent-Disposition: form-data; name="field"\r\n\r\n{field}\r\n']
    if token:
        parts.append(f'--B\r\nContent-Disposition: form-data; name="csrfmiddlewaretoken"\r\n\r\n{token}\r\n')
    file = '--B\r\nContent-Disposition: form-data; name="file"; filename="f"\r\nContent-Type: text/plain\r\n\r\n'
    return "".join(parts + [file]).encode() + b"x" * size + b"\r\n--B--\r\n", {"Content-Type": "multipart/form-data; boundary=B"}


@pytest.mark.parametrize(
    "how, size, kind",
    [
        ("form", 1000, "InMemoryUploadedFile"),
        ("form", 3000000, "TemporaryUploadedFile"),
        ("half", 1000, ""),
        ("body then form", 1000, ""),
        ("not at all", 5000000, ""),
    ],
)
def test_the_body_is_read_on_every_run_as_the_client_sent_it(site, how, size, kind):
    body, headers = multipart("value", size)
    got = site.tarry.post(f"/rows/upload/?read={how.replace(' ', '%20')}", body, headers).json()
    assert got["text"].startswith("echo:q") and got["kind"] == kind
    assert got["size"] == {"form": size, "half": 10, "body then form": len(body), "not at all": 0}[how]
    assert got["field"] == ("value" if "form" in how else "-")


TOKEN = "a" * 32


@pytest.mark.parametrize("form", ["urlencoded", "multipart"])
def test_the_csrf_token_of_a_form_is_read_by_the_middleware_first(site, form):
    if form == "urlencoded":
        body, headers = f"csrfmiddlewaretoken={TOKEN}&field=v", {"Content-Type": "application/x-www-form-urlencoded"}
        without = "field=v"
    else:
        body, headers = multipart("v", 10, TOKEN)
        without, _ = multipart("v", 10)
    headers["Cookie"] = f"csrftoken={TOKEN}"
    assert site.tarry.post("/rows/protected/", body, headers).text.startswith("vecho:q")
    assert site.tarry.post("/rows/protected/", without, headers).status == 403


def test_session_authentication_of_rest_framework_with_the_token_in_the_form(site):
    pytest.importorskip("rest_framework")
    browser, name = Browser(site), next(marks)
    browser.get(f"/rows/logged_in/?mark={name}")
    browser.cookies["csrftoken"] = TOKEN
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    got = browser.get("/rows/permitted/", "POST", f"csrfmiddlewaretoken={TOKEN}&field=v", **form)
    assert got.json()["user"] == name and got.json()["field"] == "v" and got.json()["text"].startswith("echo:q")
    assert browser.get("/rows/permitted/", "POST", "field=v", **form).status == 403
    assert Browser(site).get("/rows/permitted/", "POST", "field=v", **form).status == 403


@pytest.fixture
def bed(tmp_path):
    bed = new_bed(tmp_path)
    yield bed
    show(bed)
    bed.stop()


def test_a_cache_of_the_whole_site_stores_answers_and_never_a_handoff(bed):
    site = Site(bed, env={"SITE_CACHE": "1"})
    first = site.tarry.get("/rows/asked_once/?x")
    assert first.text.startswith("echo:q") and site.visited("asked_once")["hops"] == 2
    assert site.tarry.get("/rows/asked_once/?x").text == first.text and len(asked(site, 1)) == 1


def test_an_answer_of_twenty_megabytes_does_not_count_as_the_body(bed):
    large = b'{"choices": [{"message": {"content": "' + b"x" * 20000000 + b'"}}]}'
    site = Site(bed, upstream=bed.upstream(lambda r, c: Reply(200, large, {"Content-Type": "application/json"})))
    got = site.tarry.post("/rows/upload/?read=half", b"y" * 1000, {"Content-Type": "text/plain"})
    assert got.status == 200 and len(got.json()["text"]) == 20000000 and got.json()["size"] == 10


def test_a_body_larger_than_tarry_keeps_has_its_calls_made_directly(bed):
    site = Site(bed, pool={"replay_body_max": "100K"})
    body, headers = multipart("v", 200000)
    got = site.tarry.post("/rows/upload/?read=form", body, headers)
    assert got.json()["text"].startswith("echo:q") and site.visited("upload")["hops"] == 1
