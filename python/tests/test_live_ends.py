"""What becomes of streams when a worker is killed, replaced or reloaded, when a client leaves, and under other servers."""

import os
import signal

import pytest
from behind import eventually, new_bed, show

pytest.importorskip("openai")
pytest.importorskip("anthropic")
pytest.importorskip("django")

from harness import Truncated, request  # noqa: E402
from hooked import Hooked, Model  # noqa: E402
from test_live import data, live, runs  # noqa: E402

from tarry.runs import suspended  # noqa: E402

pytestmark = pytest.mark.skipif(bool(suspended.missing()), reason=suspended.missing())


@pytest.fixture
def bed(tmp_path):
    bed = new_bed(tmp_path)
    yield bed
    show(bed)
    bed.stop()


@pytest.fixture
def model(bed):
    return Model(bed)


def kill(site):
    (pid,) = site.workers()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: site.workers() and site.workers() != [pid], "another worker")


# --- kills ---


def test_a_killed_workers_stream_is_run_again_and_the_client_gets_each_byte_once(bed, model):
    site = Hooked(bed, model)
    stream = site.stream("/saved/x")
    live(stream, model.asked("x"), "one", "two")
    kill(site)
    live(stream, model.asked("x"), "three", "four")
    kill(site)
    model.asked("x").end("five")
    assert stream.rest() == data("one", "two", "three", "four", "five", "saved")
    assert model.times("x") == 1 and runs(site, "x") == 3 and site.groups() == ["x: onetwothreefourfive"]


def test_a_stream_that_comes_otherwise_when_run_again_is_cut_and_the_log_says_why(bed, model):
    site = Hooked(bed, model)
    stream = site.stream("/changing/x")
    live(stream, model.asked("x"), "one", "two")
    kill(site)
    model.asked("x").send("three")
    with pytest.raises(Truncated):
        stream.rest()
    site.wait_line(r"the response of .*changing is cut: this run of the view gives other data than the client has got from an earlier one")
    model.asked("x").is_reset.wait()


def test_calls_and_sleeps_of_a_killed_run_are_not_done_again(bed, model):
    site = Hooked(bed, model)
    stream = site.stream("/mixed/x").until("thinking")
    live(stream, model.asked("x-a"), "one")
    model.asked("x-a").end("two")
    live(stream.until("echo:x-b"), model.asked("x-c"), "three")
    kill(site)
    live(stream, model.asked("x-c"), "four")
    model.asked("x-c").end()
    assert stream.rest() == data("thinking", "one", "two", "asking", "echo:x-b", "three", "four", "end")
    assert [model.times(f"x-{n}") for n in "ac"] == [1, 1] and runs(site, "x") == 2


def test_with_lost_error_a_stream_that_had_written_is_cut_and_not_run_again(bed, model):
    site = Hooked(bed, model, TARRY_LOST="error")
    stream = site.stream("/writes/x")
    live(stream, model.asked("x"), "one")
    kill(site)
    model.asked("x").send("two")
    with pytest.raises(Truncated):
        stream.rest()
    assert runs(site, "x") == 1 and site.groups() == ["x"]
    site.wait_line("is lost, and had committed a write: .*: it is not run again")


# --- workers that are replaced ---


def test_a_reload_lets_the_old_worker_finish_its_streams(bed, model):
    site = Hooked(bed, model)
    (old,) = site.workers()
    streams = [site.stream(f"/changing/x{n}") for n in range(5)]
    for n, stream in enumerate(streams):
        live(stream, model.asked(f"x{n}"), "one")
    site.process.send_signal(signal.SIGHUP)
    eventually(lambda: site.get("/pid").body != str(old).encode(), "a new worker")
    for n, stream in enumerate(streams):
        live(stream, model.asked(f"x{n}"), "two", "three")
        model.asked(f"x{n}").end()
        assert [line.split()[1] for line in stream.rest().splitlines() if line] == ["one", "two", "three"]
        assert runs(site, f"x{n}") == 1
    eventually(lambda: old not in site.workers(), "the old worker's end")


def test_max_requests_lets_the_worker_finish_its_streams_and_does_not_count_pieces(bed, model):
    site = Hooked(bed, model, args=("--max-requests", "15"))
    (old,) = site.workers()
    stream = site.stream("/changing/x")
    feed = model.asked("x")
    live(stream, feed, *(f"t{n}." for n in range(20)))
    assert site.workers() == [old]  # 20 visits with pieces, and no more than a few requests
    eventually(lambda: site.get("/pid").body != str(old).encode(), "a new worker")
    live(stream, feed, "last but one")
    feed.end("last")
    assert stream.rest().count("data: ") == 22 and runs(site, "x") == 1
    eventually(lambda: old not in site.workers(), "the old worker's end")


def test_pieces_are_in_no_log_and_the_users_hooks_do_not_hear_of_them(bed, model, tmp_path):
    config = tmp_path / "conf.py"
    config.write_text(
        "import os\n"
        "def pre_request(worker, req): open('seen', 'a').write(f'pre {req.path}\\n')\n"
        "def post_request(worker, req, environ, resp): open('seen', 'a').write(f'post {req.path}\\n')\n"
        "def post_worker_init(worker): worker.log.access = lambda resp, req, *more: open('seen', 'a').write(f'log {req.path}\\n')\n"
    )
    site = Hooked(bed, model, TARRY_GUNICORN_CONFIG=str(config), args=("--access-logfile", "-"))
    stream = site.stream("/with_openai/x")
    live(stream, model.asked("x"), "one", "two", "three")
    model.asked("x").end()
    stream.rest()
    assert site.get("/pid").status == 200
    site.wait_line("GET /pid HTTP")  # of Tarry's log
    seen = (site.folder / "seen").read_text().splitlines()
    assert {word.split()[0] for word in seen} == {"pre", "post", "log"} and not [line for line in seen if "tarry" in line]
    assert seen.count("log /with_openai/x") == 1
    assert len([line for line in site.lines if "GET /with_openai/x" in line]) == 1 and "/.tarry/" not in site.output


# --- clients ---


def test_with_finish_the_view_goes_on_though_the_client_has_left(bed, model):
    site = Hooked(bed, model, TARRY_ON_DISCONNECT="finish")
    stream = site.stream("/left/x")
    live(stream, model.asked("x"), "one")
    stream.close()
    model.asked("x").send("two")
    model.asked("x").end("three")
    eventually(lambda: site.groups() == ["x ended: one two three"], "the row behind the stream")


def test_many_streams_of_one_worker_at_a_time_and_plain_requests_beside_them(bed, model):
    site = Hooked(bed, model)
    streams = {f"x{n}": site.stream(f"/with_openai/x{n}") for n in range(30)}
    for round_ in ("one", "two", "three"):
        for name in streams:
            model.asked(name).send(f"{name}-{round_}")
        for name, stream in streams.items():
            stream.until(f"{name}-{round_}")
        assert site.get("/ok").status == 200
    for name, stream in streams.items():
        model.asked(name).end()
        assert stream.rest() == data(*(f"{name}-{word}" for word in ("one", "two", "three")))


def test_a_worker_that_is_busy_for_too_long_goes_on_with_its_streams(bed, model):
    """The replay that Tarry then sends to any worker comes to the one that has the run."""
    site = Hooked(bed, model, conf='workers "app" { sticky_max = "10ms" }\nadmin "unix:admin.sock" { }\n')
    stream = site.stream("/changing/x")
    live(stream, model.asked("x"), "one")
    busy = bed.background(site.get, "/busy")
    eventually(lambda: "busy" in site.notes(), "the busy view")
    model.asked("x").send("two")

    def replays():
        found = request(f"unix:{site.folder}/admin.sock", "GET", "/metrics").body.decode()
        return next(float(line.split()[1]) for line in found.splitlines() if line.startswith("tarry_piece_replays_total "))

    eventually(lambda: replays() == 1, "a replay in the place of the piece")
    (site.folder / "notes.free").touch()
    assert busy.result().body == b"done"
    live(stream.until("two"), model.asked("x"), "three")
    model.asked("x").end()
    assert stream.rest().count("data: ") == 3 and runs(site, "x") == 1


SHORT = 'workers "app" { keep_alive_interval = "50ms" }\n'


def test_comments_in_a_long_silence_before_the_first_byte_and_between_events(bed, model):
    site = Hooked(bed, model, conf=SHORT)
    stream = site.stream("/headers/x?status=200").until(": keep-alive")
    feed = model.asked("x")
    live(stream, feed, "one")
    stream.until(": keep-alive")
    feed.end("two")
    body = stream.rest()
    assert "".join(part for part in body.split(": keep-alive\n\n")) == data("one", "two")
    assert stream.response.headers.get("X-Own") == "yes"


def test_no_comments_in_plain_text(bed, model):
    site = Hooked(bed, model, conf=SHORT)
    stream = site.stream("/with_httpx/x")
    live(stream, model.asked("x"), "one")
    other = site.stream("/with_openai/y")
    live(other, model.asked("y"), "one")
    other.until(": keep-alive").until(": keep-alive")
    model.asked("x").end("two")
    assert stream.rest() == "one\ntwo\n"


# --- other apps and servers ---


def test_middleware_that_wraps_the_content_is_live(bed, model):
    site = Hooked(bed, model, OUTER="streams.django_site.wrapping")
    stream = site.stream("/with_openai/x")
    for token in ("one", "two"):
        model.asked("x").send(token)
        stream.until(token.upper())
    model.asked("x").end()
    assert stream.rest() == data("one", "two").upper() and runs(site, "x") == 1


def test_gzip_is_right_though_not_live(bed, model):
    import gzip

    site = Hooked(bed, model, OUTER="django.middleware.gzip.GZipMiddleware")
    stream = site.stream("/with_openai/x", [("Accept-Encoding", "gzip")])
    model.asked("x").end("one", "two", "three")
    stream.response = stream.client.begin()
    assert gzip.decompress(stream.response.read()).decode() == data("one", "two", "three") and runs(site, "x") == 1


@pytest.mark.parametrize("target, expected", [("plain", "{0}"), ("context", "{0} /context/x")])
def test_flask(bed, model, target, expected):
    pytest.importorskip("flask")
    site = Hooked(bed, model, "streams.flask_site")
    stream = site.stream(f"/{target}/x")
    live(stream, model.asked("x"), "one", "two")
    model.asked("x").end("three")
    assert stream.rest() == data(*(expected.format(word) for word in ("one", "two", "three")))


@pytest.mark.parametrize("target", ["generator", "writes"])
def test_plain_wsgi(bed, model, target):
    site = Hooked(bed, model, "streams.plain_site")
    stream = site.stream(f"/{target}/x")
    live(stream, model.asked("x"), "one", "two")
    model.asked("x").end("three")
    assert stream.rest() == {"generator": "begin\n", "writes": "written\n"}[target] + "one\ntwo\nthree\n"


def test_a_response_without_a_body_is_not_in_parts(bed, model):
    """No server sends a body with these, and so no part of one."""
    site = Hooked(bed, model, "streams.plain_site")
    for status in (204, 304):
        got = site.get(f"/{status}")
        assert (got.status, got.body, got.headers.get("ETag")) == (status, b"", '"a"')


def test_under_threads_a_stream_comes_whole_and_right(bed, model):
    site = Hooked(bed, model, args=("--threads", "3"))
    streams = {name: site.stream(f"/mixed/{name}") for name in ("x", "y")}
    for name, stream in streams.items():
        model.asked(f"{name}-a").end("one", "two")
    for name, stream in streams.items():
        stream.until("two")
        if model.times(f"{name}-c") == 0:
            eventually(lambda name=name: model.times(f"{name}-c"), "the second stream")
        model.asked(f"{name}-c").end("three")
    for name, stream in streams.items():
        assert stream.rest() == data("thinking", "one", "two", "asking", f"echo:{name}-b", "three", "end")


def test_a_view_that_is_run_again_by_its_setting_streams_whole(bed, model):
    site = Hooked(bed, model, TARRY_RESUME="rerun")
    stream = site.stream("/with_openai/x")
    model.asked("x").end("one", "two")
    assert stream.rest() == data("one", "two") and runs(site, "x") == 2
