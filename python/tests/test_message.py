import pytest

from tarry.errors import BadRecord
from tarry.format.digest import body_digest, first_difference, outline, url_digest
from tarry.format.message import Answer, Call, Times, Usage, encode_handoff, origin_of, parse_answers, parse_calls
from tarry.format.state import NOTES_MAX, State, decode


def json_call(text, url="https://m.example/x"):
    return Call("POST", url, [("Content-Type", "application/json")], text.encode())


def test_calls_are_written_as_whole_requests_back_to_back():
    first = Call(
        "POST",
        "https://m.example/v1?a=b#f",
        [("Host", "other"), ("X-A", "1"), ("Connection", "x-b"), ("X-B", "2"), ("Transfer-Encoding", "chunked")],
        b"{}",
    )
    data = encode_handoff([("0;d", first), ("1", Call("GET", "https://m.example/", timeout=2.5))])
    assert data == (
        b"POST https://m.example/v1?a=b HTTP/1.1\r\nX-A: 1\r\nTarry-Call-Id: 0;d\r\nContent-Length: 2\r\n\r\n{}"
        b"GET https://m.example/ HTTP/1.1\r\nTarry-Timeout: 2.500\r\nTarry-Call-Id: 1\r\n\r\n"
    )
    assert [(call_id, c.method, c.body, c.timeout) for call_id, c in parse_calls(data)] == [
        ("0;d", "POST", b"{}", None),
        ("1", "GET", b"", 2.5),
    ]


def test_a_line_break_in_a_header_is_refused():
    with pytest.raises(ValueError):
        Call("GET", "https://m.example/", [("X", "a\r\nTarry-Call-Id: 9")]).encode("0")


def test_answers_are_read_with_repeated_headers_and_binary_bodies():
    data = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nContent-Length: 4\r\nTarry-Call-Id: 0;x\r\nTarry-Attempts: 3\r\nTarry-Time: 1.5\r\n\r\n\r\n\x00\xff"
        b"HTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"
    )
    first, second = parse_answers(data)
    assert (first.status, first.body, first.call_id, first.attempts, first.time) == (200, b"\r\n\x00\xff", "0;x", 3, 1.5)
    assert first.as_headers() == [("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("Content-Length", "4")]
    assert (second.status, second.reason, second.body) == (404, "Not Found", b"")


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nBad : x\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_broken_record_is_an_error(data):
    with pytest.raises(BadRecord):
        parse_answers(data)


def test_only_failures_that_tarry_made_have_its_error():
    def answer(status, value):
        return Answer(status, "", [("Proxy-Status", value)], b"")

    assert answer(502, "tarry; error=connection_refused").tarry_error == "connection_refused"
    assert answer(200, "tarry; error=connection_refused").tarry_error == ""
    assert answer(502, "cdn; error=connection_refused").tarry_error == ""
    assert answer(429, "tarry; error=rate_limit_reached").tarry_error == "rate_limit_reached"


def test_a_failure_says_that_it_was_tried_again_already():
    assert ("x-should-retry", "false") in Answer(503, "", [("X-Should-Retry", "true")], b"").as_headers()
    assert Answer(400, "", [], b"").as_headers() == []


@pytest.mark.parametrize(
    "url, origin",
    [
        ("https://A.example:443/x", "https://a.example"),
        ("http://a.example:8080/", "http://a.example:8080"),
        ("http://[::1]:80/", "http://[::1]"),
        ("tarry://model/x", "tarry://model"),
        ("/x", ""),
        ("http://a:x/", ""),
    ],
)
def test_origins(url, origin):
    assert origin_of(url) == origin


def test_an_answer_is_unpacked_or_said_to_be_packed():
    import gzip

    assert Answer(200, "", [("Content-Encoding", "gzip")], gzip.compress(b"x")).content == b"x"
    with pytest.raises(ValueError, match="packed as 'br'.*Accept-Encoding"):
        Answer(200, "", [("Content-Encoding", "br")], b"x").content


def test_equal_json_in_another_order_has_the_same_digest_and_headers_do_not_count():
    a, b = json_call('{"a": 1, "b": [1, 2]}'), json_call('{"b":[1,2],"a":1}')
    b.headers.append(("X-Retry-Count", "1"))
    assert body_digest(a) == body_digest(b) != body_digest(json_call('{"a": 1, "b": [2, 1]}'))
    assert url_digest(a) != url_digest(json_call("{}", "https://m.example/y"))


def test_a_multipart_boundary_does_not_count():
    def upload(boundary, text="t"):
        body = f'--{boundary}\r\nContent-Disposition: form-data; name="a"\r\n\r\n{text}\r\n--{boundary}--\r\n'
        return Call("POST", "https://m.example/", [("Content-Type", f"multipart/form-data; boundary={boundary}")], body.encode())

    assert body_digest(upload("abc")) == body_digest(upload("xyz")) != body_digest(upload("abc", "other"))


def test_the_first_difference_is_named_by_its_path_and_never_by_its_content():
    before = outline(json_call('{"model": "m", "messages": [{"content": "secret"}, {"content": "at 12:01"}]}'))
    after = json_call('{"model": "m", "messages": [{"content": "secret"}, {"content": "at 12:02"}]}')
    assert "secret" not in before
    assert first_difference(after, before) == "messages[1].content"
    assert first_difference(json_call('{"a": 1}'), outline(json_call('{"a": 1, "b": 2}'))) == "what follows a"
    assert first_difference(Call("POST", "https://m.example/", body=b"text"), "") == ""


def test_state_goes_around_and_keeps_small():
    state = State({"k": [1, "ä"]})
    for n in range(200):
        state.note(str(n), f"https://m.example/{n * 7919}", outline(json_call(f'{{"a": {n}, "b": "{n * 31}", "c": {n * n}}}')))
    text = state.encode()
    assert len(text) <= NOTES_MAX and all(0x21 <= ord(c) <= 0x7E for c in text)
    again = decode(text)
    assert again.once == {"k": [1, "ä"]} and "199" in again.notes and "0" not in again.notes
    assert State().encode() == "" and decode("conversation=42").once == {} and decode("").notes == {}


def test_an_answer_does_not_unpack_to_any_size(monkeypatch):
    import gzip

    from tarry.format import message

    monkeypatch.setattr(message, "CONTENT_MAX", 1000)
    packed = lambda n: Answer(200, "OK", [("Content-Encoding", "gzip")], gzip.compress(b"x" * n))  # noqa: E731
    assert packed(1000).content == b"x" * 1000
    with pytest.raises(ValueError, match="unpacks to more than 1000"):
        packed(1001).content
    two = Answer(200, "OK", [("Content-Encoding", "gzip")], gzip.compress(b"a") + gzip.compress(b"b"))
    assert two.content == b"ab"


def test_what_is_said_of_a_call_is_read_and_nothing_else_guessed():
    def answer(**fields):
        return Answer(200, "OK", [(name.replace("_", "-"), value) for name, value in fields.items()], b"", time=2.5)

    assert answer().usage is None and answer(Tarry_Usage="").usage is None and answer(Tarry_Usage="input=x, other=3").usage is None
    assert answer(Tarry_Usage="input=9, output=7, cached=4, reasoning=3, more=1").usage == Usage(9, 7, 4, 3)
    assert answer(Tarry_Usage="input=9").usage == Usage(input=9, output=None, cached=None, reasoning=None)
    assert answer(Tarry_Times="sent=0.002, head=0.530, content=0.610, more=1").times == Times(2.5, 0.002, 0.53, 0.61)
    assert answer(Tarry_Times="head=x").times == Times(2.5)
    assert answer().request_id == "" and answer(Request_Id="req_1").request_id == "req_1"
    assert "tarry-usage" not in [name.lower() for name, _ in answer(Tarry_Usage="input=9").as_headers()]
