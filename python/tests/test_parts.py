"""The wire format of responses in parts and of pieces, and visits with pieces to views in this process, one by one."""

import base64
import gc
import hashlib
import io
import json
import threading
import weakref

import pytest
from asking import MODEL, ask
from visits import FEATURES, Exchange, lose

import tarry
from tarry.errors import BadRecord
from tarry.format.message import parse_calls
from tarry.format.parts import Differs, Sent, chunk, read_pieces, read_position, trailer
from tarry.runs import suspended
from tarry.settings import settings

pytestmark = pytest.mark.skipif(bool(suspended.missing()), reason=suspended.missing())


@pytest.fixture(autouse=True)
def auto():
    settings.resume = "auto"
    yield
    suspended.drop_all()


def sent(data):
    return f"bytes={len(data)}, sha256={base64.b64encode(hashlib.sha256(data).digest()).decode()}"


# --- the format ---


def test_chunks_and_trailers():
    assert chunk(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"
    assert trailer([("Tarry-Then", "end")]) == b"0\r\nTarry-Then: end\r\n\r\n"
    assert trailer([("Tarry-Then", "replay")], b"abc") == b"0\r\nTarry-Then: replay\r\nTarry-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize("text", ["", "from=1", "from=-1; more", "from=1; some", "from=1;more", "from=1; last\n"])
def test_a_malformed_position_is_refused(text):
    with pytest.raises(BadRecord, match="Tarry-Piece"):
        read_position(text)


@pytest.mark.parametrize("text", ["bytes=1", "bytes=x, sha256=" + "A" * 43 + "=", sent(b"x") + "x", "bytes=-1, sha256=" + "A" * 43 + "="])
def test_a_malformed_tarry_sent_is_refused(text):
    with pytest.raises(BadRecord, match="Tarry-Sent"):
        Sent(text)


@pytest.mark.parametrize("cut", range(1, 11))
def test_what_the_client_has_is_left_out_wherever_the_chunks_end(cut):
    there = Sent(sent(b"0123456"))
    data = b"0123456789"
    got = there.give(data[:cut]) + there.give(data[cut:])
    assert got == b"789" and not there.missing and there.is_as(sent(data)) and not there.is_as(sent(b"0123456"))


def test_other_bytes_than_the_client_has_are_noticed():
    there = Sent(sent(b"0123456"))
    assert there.give(b"012") == b"" and there.missing == 4
    with pytest.raises(Differs):
        there.give(b"x456")


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"POST /.tarry/piece HTTP/1.1\r\nTarry-Hop: 1\r\nContent-Length: 3\r\n\r\nab",
                                  b"POST /.tarry/piece HTTP/1.1\r\nTarry-Hop: x\r\nContent-Length: 0\r\n\r\n"])  # fmt: skip
def test_malformed_pieces_are_refused(data):
    with pytest.raises(BadRecord):
        list(read_pieces(io.BytesIO(data)))


# --- visits ---


class Streamed(Exchange):
    """An exchange whose answer comes in pieces: `data` is what the client has got, `then` what the last trailer said."""

    def __init__(self, app, **more):
        super().__init__(app, features=FEATURES + ", pieces", **more)
        self.got, self.answered, self.given, self.then, self.trailer = b"", b"", 0, "", {}

    def received(self, status, headers, data):
        fields = {name.lower(): value for name, value in headers}
        if fields.get("tarry-then") != "trailer":
            return super().received(status, headers, data)
        self.status, self.head = status, fields
        assert self.parts(data) == b""
        return self

    def parts(self, data):
        """Takes one response's content off the data; what is behind it."""
        stream = io.BytesIO(data)
        while size := int(stream.readline(), 16):
            self.got += stream.read(size)
            assert stream.read(2) == b"\r\n"
        lines = [line.decode() for line in iter(stream.readline, b"\r\n")]
        self.trailer = dict(line.strip().split(": ", 1) for line in lines)
        self.then = self.trailer["Tarry-Then"]
        self.state = self.trailer.get("Tarry-State", self.state)
        self.calls = parse_calls(stream.read(int(self.trailer.get("Tarry-Length", 0))))
        self.done = self.then in ("end", "cut")
        return stream.read()

    def begin(self, text):
        """Hop 0, and the replay with the first content."""
        self.visit()
        ((self.call_id, _),) = self.calls
        self.hop += 1
        return self.replay(text)

    def replay(self, text="", last=False, attempt=1, **more):
        """Whole: with all that has come."""
        self.answered += text.encode()
        self.kind, self.attempt = "replay", attempt
        end = f"last\r\nTarry-Outcome: {last}" if last else "more"
        self.record = (
            f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(self.answered)}\r\nTarry-Call-Id: {self.call_id}\r\n"
            f"Tarry-Piece: from=0; {end}\r\n\r\n"
        ).encode() + self.answered
        self.given = len(self.answered)
        if self.got:
            more["HTTP_TARRY_SENT"] = sent(self.got)
        return self.visit(**more)

    def enclosed(self, text="", last=""):
        position = f"Tarry-Piece: from={self.given}; {'last' if last else 'more'}\r\n" + (f"Tarry-Outcome: {last}\r\n" if last else "")
        self.answered += text.encode()
        self.given = len(self.answered)
        return self._enclosed(position, text.encode())

    def cancelled(self):
        return self._enclosed("Tarry-Outcome: cancelled\r\n", b"")

    def _enclosed(self, fields, data):
        head = f"POST /.tarry/piece HTTP/1.1\r\nTarry-Exchange: {self.id}\r\nTarry-Hop: {self.hop}\r\n{fields}Content-Length: {len(data)}\r\n\r\n"
        return head.encode() + data


def visit(app, *pieces):
    """One visit with these: the raw response."""
    made = Exchange(app)
    made.kind, made.path, made.body, made.id = "pieces", "/.tarry/pieces", b"".join(pieces), ""
    said = []
    body = app(made.environ(), lambda status, headers, exc_info=None: said.append((status, headers)))
    assert said == [("200 OK", [("Content-Type", "application/http; msgtype=response")])]
    return b"".join(body)


def go(app, exchange, *args, **more):
    raw = visit(app, exchange.enclosed(*args, **more))
    head, _, rest = raw.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 200") and b"Tarry-Then: trailer" in head:
        assert exchange.parts(rest) == b""
    return head.decode()


def lines(name="x"):
    import urllib.request

    call = urllib.request.Request(MODEL + "/v1", json.dumps({"stream": True, "name": name}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(call) as response:
        yield from response


def streaming(make):
    """A WSGI app whose response is what `make` yields; `runs` counts."""

    def app(environ, start_response):
        application.runs += 1
        start_response("200 OK", [("Content-Type", "text/plain")])
        return make()

    application = tarry.wsgi(app)
    application.runs = 0
    return application


def test_a_generator_goes_on_with_each_piece():
    app = streaming(lines)
    x = Streamed(app).begin("one\n")
    assert (x.got, x.then, x.trailer["Tarry-On-Disconnect"]) == (b"one\n", "more", "cancel")
    go(app, x, "two\nthr")
    assert x.got == b"one\ntwo\n" and "Tarry-State" not in x.trailer
    go(app, x, "ee\n", "complete")
    assert x.got == b"one\ntwo\nthree\n" and x.then == "end" and app.runs == 1 and not suspended.table.runs


@pytest.mark.parametrize("end", ["complete", "cancelled"])
def test_nothing_of_a_stream_is_left_without_the_garbage_collector(end):
    exchanges = []

    def make():
        exchanges.append(weakref.ref(tarry.current()))
        yield from lines()

    app = streaming(make)
    gc.collect()
    gc.disable()
    try:
        x = Streamed(app).begin("one\n")
        assert exchanges[0]() is not None
        if end == "cancelled":
            visit(app, x.cancelled())
        else:
            go(app, x, "two\n", "complete")
        assert exchanges[0]() is None
    finally:
        gc.enable()


def test_a_whole_replay_goes_on_in_the_process_that_has_the_run():
    """It was not free in time: nothing is lost by that."""
    app = streaming(lines)
    x = Streamed(app).begin("one\n")
    x.replay("two\n", attempt=2)
    assert x.got == b"one\ntwo\n" and x.then == "more" and app.runs == 1
    x.replay("three\n", last="complete", attempt=3)
    assert x.got == b"one\ntwo\nthree\n" and x.then == "end" and app.runs == 1


def test_a_run_whose_bytes_did_not_arrive_is_given_up_and_run_again():
    ended = []

    def make():
        try:
            yield from lines()
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    app = streaming(make)
    x = Streamed(app).begin("one\n")
    go(app, x, "two\n")
    x.got = b"one\nt"  # Tarry has not got all of it
    x.replay(attempt=2)
    assert x.got == b"one\ntwo\n" and x.then == "more" and app.runs == 2 and ended == ["Handoff"]
    go(app, x, "three\n", "complete")
    assert x.got == b"one\ntwo\nthree\n" and x.then == "end"


def test_a_lost_run_is_asked_for_whole():
    app = streaming(lines)
    x = Streamed(app).begin("one\n")
    lose()
    assert go(app, x, "two\n").startswith("HTTP/1.1 409 Conflict\r\nTarry-Then: whole")
    x.replay(attempt=2)
    assert x.got == b"one\ntwo\n" and app.runs == 2
    go(app, x, "three\n", "complete")
    assert x.got == b"one\ntwo\nthree\n" and x.then == "end"


def test_a_piece_that_does_not_fit_is_refused():
    app = streaming(lines)
    x = Streamed(app).begin("one\n")
    x.given += 1
    assert go(app, x, "two\n").startswith("HTTP/1.1 409")
    assert not suspended.table.runs


def test_a_run_that_gives_other_bytes_is_cut(messages):
    turn = []

    def make():
        turn.append(1)
        for line in lines():
            yield b"%d %s" % (len(turn), line)

    app = streaming(make)
    x = Streamed(app).begin("one\n")
    lose()
    x.replay("two\n", attempt=2)
    assert x.then == "cut" and x.got == b"1 one\n"
    assert any("gives other data than the client has got" in text for text in messages("ERROR"))


def test_a_run_that_gives_less_is_cut(messages):
    turn = []

    def make():
        turn.append(1)
        if len(turn) == 1:
            yield b"first run"
        yield from lines()

    app = streaming(make)
    x = Streamed(app).begin("one\n")
    lose()
    x.replay(last="complete", attempt=2)
    assert x.then == "cut" and any("ends" in text and "before what the client has got" in text for text in messages("ERROR"))


def test_pieces_of_many_in_one_visit_are_answered_in_their_order():
    app = streaming(lines)
    all_ = [Streamed(app).begin(f"{n}a\n") for n in range(5)]
    raw = visit(app, *(x.enclosed(f"{n}b\n", "complete") for n, x in reversed(list(enumerate(all_)))))
    assert [part.split(b"\r\n")[0] for part in raw.split(b"HTTP/1.1 200 OK")[1:]] == [b""] * 5
    assert [f"{n}b\n".encode() in part for n, part in zip(reversed(range(5)), raw.split(b"HTTP/1.1 200 OK")[1:])] == [True] * 5
    assert app.runs == 5 and not suspended.table.runs


def test_a_client_that_leaves_is_generator_exit():
    ended = []

    def make():
        try:
            yield from lines()
        except BaseException as error:
            ended.append(type(error).__name__)
            raise
        finally:
            ended.append("finally")

    app = streaming(make)
    x = Streamed(app).begin("one\n")
    assert visit(app, x.cancelled()) == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert ended == ["GeneratorExit", "finally"] and not suspended.table.runs
    assert visit(app, x.cancelled()).startswith(b"HTTP/1.1 200")  # told once more, it does no harm


def test_an_app_that_raises_generator_exit_is_cut():
    def make():
        yield b"a"
        raise GeneratorExit

    x = Streamed(streaming(make)).visit()
    assert x.then == "cut" and x.got == b"a"


def test_a_visit_that_breaks_off_is_generator_exit_at_the_yield():
    ended = []

    def make():
        try:
            yield b"a"
            yield b"b"
        except GeneratorExit:
            ended.append("exit")

    app = streaming(make)
    x = Streamed(app)
    body = app(x.environ(), lambda *head: lambda data: None)
    assert next(iter(body)) == b"1\r\na\r\n"
    body.close()
    assert ended == ["exit"]


def test_a_failure_in_one_of_many_is_its_own(messages):
    def make():
        for line in lines():
            if line == b"bad\n":
                raise ValueError("bad")
            yield line

    app = streaming(make)
    good, bad = Streamed(app).begin("one\n"), Streamed(app).begin("one\n")
    raw = visit(app, bad.enclosed("bad\n"), good.enclosed("two\n", "complete"))
    first, second = raw.split(b"HTTP/1.1 200 OK")[1:]
    assert b"Tarry-Then: cut" in first and b"two\n" in second and b"Tarry-Then: end" in second


def test_a_view_that_collects_and_answers_at_a_piece_answers_whole():
    def app(environ, start_response):
        text = b"".join(lines())
        start_response("201 Created", [("X-Own", "1")])
        return [text]

    app = tarry.wsgi(app)
    x = Streamed(app).begin("one ")
    assert x.then == "rest" and x.got == b"" and x.trailer["Tarry-On-Disconnect"] == "finish"
    raw = visit(app, x.enclosed("two", "complete"))
    assert raw == b"HTTP/1.1 201 Created\r\nContent-Length: 7\r\nX-Own: 1\r\n\r\none two"


def under_a_lock(swallows=False):
    lock = threading.Lock()

    def make():
        stream = lines()
        yield next(stream)
        with lock:
            try:
                yield from stream
            except BaseException:
                if not swallows:
                    raise
                yield b"oops"

    return streaming(make)


@pytest.mark.parametrize("swallows", [False, True])
def test_a_run_that_holds_a_lock_where_it_reads_is_run_again_with_all(swallows):
    app = under_a_lock(swallows)
    x = Streamed(app).begin("one\n")
    assert x.got == b"one\n" and x.then == "rest" and not suspended.table.runs
    x.replay("two\n", last="complete", attempt=2)
    assert x.got == b"one\ntwo\n" and x.then == "end" and app.runs == 2


def test_a_view_that_is_set_to_suspend_is_not_run_again(messages):
    settings.resume = "suspend"
    app = under_a_lock()
    x = Streamed(app).begin("one\n")
    assert x.then == "cut" and app.runs == 1 and any("RunRefused" in text for text in messages("ERROR"))


@pytest.mark.parametrize("lost, then", [("error", "cut"), ("rerun", "rest")])
def test_a_run_that_has_written_and_holds_a_lock_where_it_reads(lost, then):
    settings.lost = lost
    lock = threading.Lock()

    def make():
        stream = lines()
        yield next(stream)
        tarry.current().writes.append("INSERT")
        with lock:
            yield from stream

    assert Streamed(streaming(make)).begin("one\n").then == then


def test_a_call_under_a_lock_after_the_first_byte_is_made_directly(upstream, messages):
    lock = threading.Lock()

    def make():
        yield b"begin "
        with lock:
            yield ask(origin=upstream.origin).encode()

    app = streaming(make)
    x = Streamed(app)
    x.origins = upstream.origin
    x.visit()
    assert x.then == "end" and x.got == b'begin {"direct": 1}' and app.runs == 1
    assert any("made directly" in text and "the response has begun" in text for text in messages())


def test_where_nothing_is_suspended_a_stream_that_has_begun_is_finished(monkeypatch):
    """A worker of another kind gets the replay: it runs the view with what there is, and again with all of it."""
    app = streaming(lines)
    x = Streamed(app).begin("one\n")
    lose()
    threads = {"wsgi.multithread": True}
    x.replay("two\n", attempt=2, **threads)
    assert x.got == b"one\ntwo\n" and x.then == "rest"
    x.replay("three\n", last="complete", attempt=3, **threads)
    assert x.got == b"one\ntwo\nthree\n" and x.then == "end" and app.runs == 3


def test_an_answer_that_is_read_in_another_thread_is_given_whole():
    def make():
        yield b"begin\n"
        stream = lines()
        yield next(stream)
        found = []

        def rest():
            try:
                found.extend(stream)
            except BaseException as error:
                found.append(error)

        thread = threading.Thread(target=rest)
        thread.start()
        thread.join()
        if found and isinstance(found[-1], BaseException):
            raise found[-1]
        yield b"".join(found)

    app = streaming(make)
    x = Streamed(app).begin("one\n")
    assert x.got == b"begin\none\n" and x.then == "rest"
    x.replay("two\n", last="complete", attempt=2)
    assert x.got == b"begin\none\ntwo\n" and x.then == "end" and app.runs == 2
