"""What hostile clients send. A test's name begins with the id of its attack in the project's list (F framing, L slow and
large, N paths and identity). What must be refused is refused before a byte of it reaches a worker, and a request pipelined
behind it is never answered."""

import resource
import select
import time

import pytest

from harness import Client, Gate, Reply, by_kind, call, eventually, handoff, problem
from harness.tarry import AccessLog

OK = Reply(200, b"ok")
MARKER = b"GET /marker HTTP/1.1\r\nHost: marker\r\n\r\n"
HOST = b"Host: a\r\n"


def rows(table):
    """Parametrizes with `raw` and `statuses`: a row is bytes, or (bytes, status, ...)."""
    params = [(row, 400) if isinstance(row, bytes) else row for row in table.values()]
    return pytest.mark.parametrize("raw, statuses", [pytest.param(p[0], p[1:], id=name) for name, p in zip(table, params)])


def post(*lines, body=b""):
    """A POST with these field lines (without line ends)."""
    return b"POST /bad HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def get(*lines):
    return b"GET /bad HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def chunked(body):
    return post(b"Transfer-Encoding: chunked", body=body)


def push(client, raw):
    """Sends as much as the peer takes: it may refuse, and close, before it has all."""
    try:
        client.send(raw)
    except (BrokenPipeError, ConnectionResetError):
        pass


def the_only_answer(client, method="GET"):
    """The response, the connection's end behind it, and nothing in between."""
    got = client.read_response(method)
    assert got.headers.get("Connection") == "close", got
    client.wait_closed()
    return got


def nothing_arrived(site):
    """No byte of what came before reached the worker; the next request does, and is alone."""
    assert site.tarry.get("/after").status == 200
    assert [r.target for r in site.worker.requests] == ["/after"]


def refused(bed, raw, statuses=(400,), top=None, method="GET"):
    site = bed.site(lambda r, c: OK, top=top)
    with site.tarry.client() as c:
        push(c, raw + MARKER)
        got = the_only_answer(c, method)
        assert got.status in statuses, got
        if method != "HEAD":
            problem(got, got.status, "http_request_error")
    nothing_arrived(site)


def two_arrive(bed, raw, top=None, method="GET"):
    """The request is served, and so is the marker behind it: both sides agree where it ends. Gives the first as it arrived."""
    site = bed.site(lambda r, c: OK, top=top)
    with site.tarry.client() as c:
        c.send(raw + MARKER)
        assert c.read_response(method).status == 200
        assert c.read_response().status == 200
    first, second = site.worker.requests
    assert second.target == "/marker" and second.body == b""
    return first


# --- F: framing ---

@rows({
    "length first": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "coding first": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    "length 0": post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "a request in the length": post(b"Content-Length: 44", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + MARKER),
    "a request in the chunks": post(b"Transfer-Encoding: chunked", b"Content-Length: 4",
                                    body=b"%x\r\n%s\r\n0\r\n\r\n" % (len(MARKER), MARKER)),
    "unknown coding": post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"0\r\n\r\n"),
    "coding misspelled": post(b"Content-Length: 5", b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"),
    "length with underscore": post(b"Content_Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "coding with underscore": post(b"Content-Length: 5", b"Transfer_Encoding: chunked", body=b"0\r\n\r\n"),
    "coding with a dot": post(b"Content-Length: 5", b"Transfer.Encoding: chunked", body=b"0\r\n\r\n"),
})
def test_F01_length_and_coding_together(bed, raw, statuses):
    refused(bed, raw, statuses)


@rows({
    "xchunked": (post(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n"), 501),
    "gzip": (post(b"Transfer-Encoding: gzip", body=b"0\r\n\r\n"), 501),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), 501),
    "identity": (post(b"Transfer-Encoding: identity", body=b""), 400, 501),
    "comma first": (post(b"Transfer-Encoding: ,chunked", body=b"0\r\n\r\n"), 400, 501),
    "comma last": (post(b"Transfer-Encoding: chunked,", body=b"0\r\n\r\n"), 400, 501),
    "chunked, identity": (post(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"), 400, 501),
    "identity, chunked": (post(b"Transfer-Encoding: identity, chunked", body=b"0\r\n\r\n"), 400, 501),
    "chunked, chunked": (post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n"), 400, 501),
    "two fields": post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    "two fields, one unknown": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", body=b"0\r\n\r\n"), 400, 501),
    "parameter": (post(b"Transfer-Encoding: chunked;a=b", body=b"0\r\n\r\n"), 400, 501),
    "quoted": (post(b'Transfer-Encoding: "chunked"', body=b"0\r\n\r\n"), 400, 501),
    "VT before": post(b"Transfer-Encoding: \x0bchunked", body=b"0\r\n\r\n"),
    "VT behind": post(b"Transfer-Encoding: chunked\x0b", body=b"0\r\n\r\n"),
    "FF behind": post(b"Transfer-Encoding: chunked\x0c", body=b"0\r\n\r\n"),
    "0x85 behind": (post(b"Transfer-Encoding: chunked\x85", body=b"0\r\n\r\n"), 400, 501),
    "0xA0 before": (post(b"Transfer-Encoding: \xa0chunked", body=b"0\r\n\r\n"), 400, 501),
    "0xA0 behind": (post(b"Transfer-Encoding: chunked\xa0", body=b"0\r\n\r\n"), 400, 501),
    "empty": post(b"Transfer-Encoding:", body=b"0\r\n\r\n"),
    "underscore name": post(b"Transfer_Encoding: chunked", body=b"0\r\n\r\n"),
    "blank before the colon": post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"),
    "HTTP/1.0": b"POST /bad HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n",
})
def test_F02_variants_of_transfer_encoding(bed, raw, statuses):
    refused(bed, raw, statuses)


@pytest.mark.parametrize("value", [b"chunked", b"CHUNKED", b"cHuNkEd", b"  chunked", b"\tchunked \t"])
def test_F02_a_single_chunked_in_any_case(bed, value):
    r = two_arrive(bed, post(b"Transfer-Encoding:" + value, body=b"3\r\nabc\r\n0\r\n\r\n"))
    assert (r.framing, r.body) == ("length", b"abc") and "Transfer-Encoding" not in r.headers


@rows({
    "different": post(b"Content-Length: 3", b"Content-Length: 5", body=b"abcde"),
    "equal": post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"),
    "in another case": post(b"Content-Length: 3", b"content-length: 3", body=b"abc"),
    "a list": post(b"Content-Length: 3, 3", body=b"abc"),
    "a list without blanks": post(b"Content-Length: 3,3", body=b"abc"),
    "a list that ends empty": post(b"Content-Length: 3,", body=b"abc"),
    "folded names": post(b"Content-Length: 3", b"Content_Length: 5", body=b"abc"),
    "one is 0": post(b"Content-Length: 0", b"Content-Length: 40"),
})
def test_F03_two_lengths(bed, raw, statuses):
    refused(bed, raw, statuses)


@rows({name: (post(b"Content-Length: " + value, body=b"abcdefghijklmnop"), 400, *more) for name, value, *more in [
    ("empty", b""), ("plus", b"+1"), ("minus", b"-1"), ("minus 0", b"-0"), ("hexadecimal", b"0x10"), ("digit group", b"1_0"),
    ("leading 0", b"010"), ("inner blank", b"1 0"), ("inner tab", b"1\t0"), ("a unit", b"1K"), ("decimal point", b"1.0"),
    ("exponent", b"1e1"), ("word", b"ten"), ("VT", b"\x0b1"), ("0xA0", b"1\xa0"), ("arabic digits", "\u0661".encode()),
    ("2^63", b"9223372036854775808", 413), ("2^64", b"18446744073709551616", 413), ("2^64 + 1", b"18446744073709551617", 413),
    ("19 digits", b"1000000000000000000", 413), ("1000 digits", b"9" * 1000, 413), ("zeros and 1", b"0" * 40 + b"1")]})
def test_F04_lengths_that_are_no_number(bed, raw, statuses):
    refused(bed, raw, statuses)


@rows({
    "name of 64 KiB": (get(b"X" * 65536 + b": 1"), 431),
    "name of 64 KiB that begins like a length": (post(b"Content-Length" + b"x" * 65530 + b": 0"), 431),
    "name of 64 KiB without a colon": (get(b"X" * 65536), 431, 400),
    "name of 270 bytes": (get(b"Content-Length:0" + b"a" * 270 + b":"), 400),
})
def test_F05_a_very_long_name(bed, raw, statuses):
    refused(bed, raw, statuses)


@rows({
    "empty name": get(b": x"),
    "empty name before a length": post(b": x", b"Content-Length: 3", body=b"abc"),
    "no colon": get(b"Nonsense"),
    "blank before the colon": get(b"A : b"),
    "tab before the colon": get(b"A\t: b"),
    "blank before the colon of the length": post(b"Content-Length : 3", body=b"abc"),
    "leading blank on the first field": b"GET /bad HTTP/1.1\r\n Host: a\r\n\r\n",
    "leading tab on the first field": b"GET /bad HTTP/1.1\r\n\tHost: a\r\n\r\n",
    "leading blank on the second field": b"GET /bad HTTP/1.1\r\nHost: a\r\n A: b\r\n\r\n",
    "blank line of blanks": b"GET /bad HTTP/1.1\r\nHost: a\r\n \r\n\r\n",
    "parenthesis in a name": get(b"A(b): c"),
    "quote in a name": get(b'"A": c'),
    "slash in a name": get(b"A/b: c"),
})
def test_F06_lines_that_are_no_field(bed, raw, statuses):
    refused(bed, raw, statuses)


@rows({name: chunked(size + b"\r\nabc\r\n0\r\n\r\n") for name, size in {
    "0x": b"0x3", "plus": b"+3", "minus": b"-3", "digit group": b"0_3", "blank before": b" 3", "blank behind": b"3 ",
    "tab behind": b"3\t", "empty": b"", "17 digits": b"00000000000000003", "17 digits that overflow": b"10000000000000003",
    "32 bits over": b"100000000000000000003", "tail": b"3g", "word": b"three", "quoted": b'"3"', "comma": b"3,3", "NUL": b"3\0",
    "VT": b"3\x0b", "a unit": b"3h", "blank and extension": b"3 ;a=b", "minus 1": b"-1", "high bit": b"\xb3"}.items()})
def test_F07_chunk_sizes_that_are_none(bed, raw, statuses):
    refused(bed, raw, statuses)


@pytest.mark.parametrize("size", [b"3", b"03", b"0000000003"])
def test_F07_good_chunk_sizes(bed, size):
    assert two_arrive(bed, chunked(size + b"\r\nabc\r\n0\r\n\r\n")).body == b"abc"
    assert two_arrive(bed.another(), chunked(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n")).body == b"0123456789" * 2


@rows({
    "size": chunked(b"3\nabc\r\n0\r\n\r\n"),
    "size, and a chunk that looks right to others": chunked(b"3\n\r\nabc\r\n0\r\n\r\n"),
    "data": chunked(b"3\r\nabc\n0\r\n\r\n"),
    "last chunk": chunked(b"3\r\nabc\r\n0\n\r\n"),
    "end": chunked(b"3\r\nabc\r\n0\r\n\n"),
    "trailer": chunked(b"3\r\nabc\r\n0\r\nA: b\n\r\n"),
    "extension": chunked(b"3;a=b\nabc\r\n0\r\n\r\n"),
    "all": chunked(b"3\nabc\n0\n\n"),
    "CR alone behind the size": chunked(b"3\rabc\r\n0\r\n\r\n"),
    "CR alone behind the data": chunked(b"3\r\nabc\r0\r\n\r\n"),
    "CR twice": chunked(b"3\r\r\nabc\r\n0\r\n\r\n"),
})
def test_F08_bare_line_ends_in_the_chunks(bed, raw, statuses):
    refused(bed, raw, statuses)


@rows({
    "LF": chunked(b"3;a\nb\r\nabc\r\n0\r\n\r\n"),
    "LF in quotes": chunked(b'3;a="\n"\r\nabc\r\n0\r\n\r\n'),
    "CR": chunked(b"3;a\rb\r\nabc\r\n0\r\n\r\n"),
    "CR in quotes": chunked(b'3;a="\r"\r\nabc\r\n0\r\n\r\n'),
    "LF, and a request behind it": chunked(b"2;\nxx\r\n4b\r\n0\r\n\r\n" + MARKER + b"\r\n0\r\n\r\n"),
    "NUL": chunked(b"3;a\0b\r\nabc\r\n0\r\n\r\n"),
})
def test_F09_line_ends_in_a_chunk_extension(bed, raw, statuses):
    refused(bed, raw, statuses)


@rows({
    "64 KiB in one": chunked(b"1;" + b"e" * 65536 + b"\r\na\r\n0\r\n\r\n"),
    "64 KiB that never ends": chunked(b"1;" + b"e" * 65536),
    "one-byte chunks with long ones": chunked((b"1;" + b"e" * 1000 + b"\r\na\r\n") * 500 + b"0\r\n\r\n"),
    "many with short ones": chunked(b"1;ee=ff\r\na\r\n" * 20000 + b"0\r\n\r\n"),
})
def test_F10_long_chunk_extensions(bed, raw, statuses):
    refused(bed, raw, statuses)


def test_F10_extensions_are_never_forwarded(bed):
    r = two_arrive(bed, chunked(b'2;name=value;x="y"\r\nab\r\n1;q\r\nc\r\n0;last\r\n\r\n'))
    assert r.body == b"abc" and b"name=value" not in r.raw and b"last" not in r.raw


@rows({
    "longer than its size": chunked(b"3\r\nabcd\r\n0\r\n\r\n"),
    "two other bytes behind the data": chunked(b"3\r\nabcXX0\r\n\r\n"),
    "LF CR behind the data": chunked(b"3\r\nabc\n\r0\r\n\r\n"),
    "nothing behind the data": chunked(b"3\r\nabc0\r\n\r\n"),
    "blank behind the data": chunked(b"3\r\nabc \r\n0\r\n\r\n"),
    "shorter than its size": chunked(b"5\r\nabc\r\n0\r\n\r\n"),
})
def test_F11_data_that_does_not_fit_its_size(bed, raw, statuses):
    refused(bed, raw, statuses)


@pytest.mark.parametrize("trailer", [b"Content-Length: 50", b"Host: evil", b"Authorization: Basic eA==", b"X-Forwarded-For: 6.6.6.6",
                                     b"Transfer-Encoding: chunked", b"Tarry-Kind: resume", b"X-Harmless: 1", b"Connection: close",
                                     b"Cookie: a=b", b"Expect: 100-continue"])
def test_F12_trailers_are_dropped(bed, trailer):
    r = two_arrive(bed, post(b"Transfer-Encoding: chunked", b"Trailer: " + trailer.partition(b":")[0],
                             body=b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n\r\n"))
    name, _, value = trailer.partition(b": ")
    assert r.body == b"abc" and "Trailer" not in r.headers
    assert (name.decode(), value.decode()) not in [(n, v) for n, v in r.headers]
    assert r.headers.get("Host") == "a" and r.kind == "request"


@rows({
    "one of 64 KiB": (chunked(b"0\r\nX: " + b"y" * 65536 + b"\r\n\r\n"), 400, 431),
    "one that never ends": (chunked(b"0\r\nX: " + b"y" * 200000), 400, 431),
    "10,000": (chunked(b"0\r\n" + b"X: 0123456789\r\n" * 10000 + b"\r\n"), 400, 431),
    "no colon": (chunked(b"0\r\nNonsense\r\n\r\n"), 400),
    "blank before the colon": (chunked(b"0\r\nA : b\r\n\r\n"), 400),
    "NUL": (chunked(b"0\r\nA: b\0c\r\n\r\n"), 400),
    "folded": (chunked(b"0\r\nA: b\r\n c\r\n\r\n"), 400),
})
def test_F12_bad_trailers(bed, raw, statuses):
    refused(bed, raw, statuses)


@rows({
    "bare LF behind the request line": b"GET /bad HTTP/1.1\nHost: a\r\n\r\n",
    "bare LF behind a field": b"GET /bad HTTP/1.1\r\nHost: a\nA: b\r\n\r\n",
    "bare LF at the end": b"GET /bad HTTP/1.1\r\nHost: a\r\n\n",
    "bare LFs": b"GET /bad HTTP/1.1\nHost: a\n\n",
    "LF CR": b"GET /bad HTTP/1.1\n\rHost: a\n\r\n\r",
    "CR in a value": get(b"A: b\rc"),
    "CR before CR LF": get(b"A: b\r"),
    "NUL in a value": get(b"A: b\0c"),
    "NUL at a value's end": get(b"A: b\0"),
    "BEL in a value": get(b"A: b\x07c"),
    "ESC in a value": get(b"A: b\x1bc"),
    "DEL in a value": get(b"A: b\x7fc"),
    "VT in a value": get(b"A: b\x0bc"),
    "NUL in a name": get(b"A\0: b"),
    "UTF-8 in a name": get("Ä: b".encode()),
    "0xFF in a name": get(b"A\xff: b"),
    "0xA0 before the colon": get(b"A\xa0: b"),
    "CR in a name": get(b"A\rB: c"),
})
def test_F13_control_octets_and_bare_line_ends(bed, raw, statuses):
    refused(bed, raw, statuses)


def test_F13_other_octets_of_a_value_arrive_as_they_are(bed):
    r = two_arrive(bed, get("A: käse \xff\x80".encode("latin-1"), b"B: a\tb"))
    assert "A: käse \xff\x80\r\n".encode("latin-1") in r.raw_head and b"B: a\tb\r\n" in r.raw_head


@rows({
    "blank": get(b"A: b\r\n c"),
    "tab": get(b"A: b\r\n\tc"),
    "before the colon": get(b"A\r\n : b"),
    "empty value": get(b"A:\r\n b"),
    "Transfer-Encoding": post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"),
    "Transfer-Encoding cut": post(b"Transfer-Encoding: chun\r\n ked", b"Content-Length: 5", body=b"0\r\n\r\n"),
    "Content-Length": post(b"Content-Length:\r\n 5", body=b"abcde"),
    "a blank line": get(b"A: b\r\n "),
    "a line that folds into a field": get(b"A: b\r\n Transfer-Encoding: chunked"),
})
def test_F14_folded_lines(bed, raw, statuses):
    refused(bed, raw, statuses)


def line(text):
    return text + b"\r\nHost: a\r\n\r\n"


@rows({
    "two blanks behind the method": line(b"GET  /bad HTTP/1.1"),
    "two blanks before the version": line(b"GET /bad  HTTP/1.1"),
    "blank first": line(b" GET /bad HTTP/1.1"),
    "blank last": line(b"GET /bad HTTP/1.1 "),
    "tab": line(b"GET\t/bad\tHTTP/1.1"),
    "VT": line(b"GET\x0b/bad HTTP/1.1"),
    "LF": b"GET /bad\nHTTP/1.1\r\nHost: a\r\n\r\n",
    "CR": b"GET /bad\rHTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": line(b"GET /bad"),
    "HTTP/0.9": b"GET /bad\r\n",
    "version 0.9": (line(b"GET /bad HTTP/0.9"), 400, 505),
    "version 1": (line(b"GET /bad HTTP/1"), 400, 505),
    "version 1.": (line(b"GET /bad HTTP/1."), 400, 505),
    "version 1.11": (line(b"GET /bad HTTP/1.11"), 400, 505),
    "version 01.1": (line(b"GET /bad HTTP/01.1"), 400, 505),
    "version 2.0": (line(b"GET /bad HTTP/2.0"), 400, 505),
    "version 2": (line(b"GET /bad HTTP/2"), 400, 505),
    "version 3.0": (line(b"GET /bad HTTP/3.0"), 400, 505),
    "version +1.1": (line(b"GET /bad HTTP/+1.1"), 400, 505),
    "another protocol": (line(b"GET /bad HTTX/1.1"), 400, 505),
    "protocol in small letters": (line(b"GET /bad http/1.1"), 400, 505),
    "ICY": (line(b"SOURCE /bad ICY/1.0"), 400, 505),
    "nearly the preface of HTTP/2": (b"PRI * HTTP/2.0\r\nHost: x\r\n\r\n", 400, 505),
    "method with a colon": line(b"G:T /bad HTTP/1.1"),
    "method with a slash": line(b"GET/ /bad HTTP/1.1"),
    "method in braces": line(b"{GET} /bad HTTP/1.1"),
    "method not ASCII": line("GËT /bad HTTP/1.1".encode()),
    "method with NUL": line(b"GE\0T /bad HTTP/1.1"),
    "empty method": line(b" /bad HTTP/1.1"),
    "very long method": (line(b"A" * 5000 + b" /bad HTTP/1.1"), 400, 414),
    "no target": line(b"GET HTTP/1.1"),
    "target without a slash": line(b"GET bad HTTP/1.1"),
    "target that is a question": line(b"GET ?bad HTTP/1.1"),
    "fragment": line(b"GET /bad#x HTTP/1.1"),
    "fragment that hides a path": line(b"GET /#/../internal HTTP/1.1"),
    "DEL in the target": line(b"GET /b\x7fad HTTP/1.1"),
    "NUL in the target": line(b"GET /b\0ad HTTP/1.1"),
    "0x01 in the target": line(b"GET /b\x01ad HTTP/1.1"),
    "not ASCII in the target": line("GET /bäd HTTP/1.1".encode()),
    "0xFF in the target": line(b"GET /b\xffad HTTP/1.1"),
    "asterisk for GET": line(b"GET * HTTP/1.1"),
    "CONNECT": (line(b"CONNECT a:443 HTTP/1.1"), 400, 405, 501),
    "authority for GET": line(b"GET a:80 HTTP/1.1"),
    "another scheme": line(b"GET ftp://a/bad HTTP/1.1"),
    "userinfo in an absolute target": line(b"GET http://user@a/bad HTTP/1.1"),
    "no host in an absolute target": line(b"GET http:///bad HTTP/1.1"),
    "two blank lines first": b"\r\n\r\n" + line(b"GET /bad HTTP/1.1"),
    "bare LF first": b"\n" + line(b"GET /bad HTTP/1.1"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
})
def test_F15_request_lines(bed, raw, statuses):
    refused(bed, raw, statuses)


def test_F15_one_empty_line_before_the_request_is_passed_over(bed):
    assert two_arrive(bed, b"\r\n" + get()).target == "/bad"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "PURGE"])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_F16_a_body_is_a_body_with_every_method(bed, method, coding):
    """What looks like a request in it is not one."""
    if coding == "length":
        raw = b"%s /first HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (method.encode(), len(MARKER), MARKER)
    else:
        raw = b"%s /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (
            method.encode(), len(MARKER), MARKER)
    first = two_arrive(bed, raw, method=method)
    assert (first.method, first.target, first.body) == (method, "/first", MARKER)


@pytest.mark.parametrize("method", ["POST", "GET", "PUT"])
@pytest.mark.parametrize("length", [b"Content-Length: 0\r\n", b""])
def test_F16_without_a_length_the_message_ends_with_its_head(bed, method, length):
    first = two_arrive(bed, method.encode() + b" /first HTTP/1.1\r\nHost: a\r\n" + length + b"\r\n")
    assert first.body == b"" and first.method == method


def test_F17_an_answer_before_the_whole_request_ends_the_worker_s_connection(bed):
    """The rest of the request must not be read as the next one."""
    ends = []

    def early(r, c):
        if r.target != "/early":
            return OK
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
        ends.append(c.wait_closed())
        c.close()
    body = MARKER * (8 * 1024 * 1024 // len(MARKER))
    site = bed.site(bed.worker(early, read_body=False))
    with site.tarry.client() as c:
        assert c.request("POST", "/early", body=body).body == b"early"
        assert c.request("GET", "/next").body == b"ok"
    eventually(lambda: ends, "the connection's end")
    assert [(r.target, r.conn.number) for r in site.worker.requests] == [("/early", 0), ("/next", 1)]


@pytest.mark.parametrize("value", [b"200-ok", b"100-continue, x", b"x", b"", b"100-continue=1", b'"100-continue"', b"100 continue"])
def test_F18_an_unknown_expectation_is_a_417(bed, value):
    refused(bed, post(b"Expect: " + value, b"Content-Length: 3", body=b"abc"), (417, 400))


def test_F18_a_repeated_expectation_is_refused(bed):
    refused(bed, post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"), (417, 400))


@pytest.mark.parametrize("value", [b"100-continue", b"100-Continue"])
def test_F18_100_continue_is_answered_by_tarry_alone(bed, value):
    site = bed.site(lambda r, c: OK)
    with site.tarry.client() as c:
        c.send(post(b"Expect: " + value, b"Content-Length: 3"))
        assert c.wire.through(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        c.send(b"abc")
        assert c.read_response("POST").status == 200
    assert site.worker.request.body == b"abc" and "Expect" not in site.worker.request.headers


@rows({
    "no route": (b"POST /nowhere HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 40\r\n\r\n", 404),
    "too large": (b"POST /app/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999\r\n\r\n", 413),
})
def test_F18_a_final_status_instead_of_100_ends_the_connection(bed, raw, statuses):
    """The client may send the body or not: nobody can know, so nothing on the connection is a request any more."""
    conf = bed.conf(bed.worker(lambda r, c: OK))
    conf.routes = [("/app/", {"workers": "app"}), ("/after", {"workers": "app"})]
    conf.top["body_max"] = "1K"
    tarry = bed.tarry(conf)
    with tarry.client() as c:
        c.send(raw)
        got = c.begin("POST")
        got.read()
        assert got.status == statuses[0] and got.interim == []
        push(c, MARKER)
        c.wait_closed()
    worker = bed.parts[0]
    assert tarry.get("/after").status == 200 and [r.target for r in worker.requests] == ["/after"]


def test_F18_a_worker_s_early_refusal_reaches_a_client_that_waits_for_100(bed):
    """The request is buffered first, so the client gets its 100 whatever the worker will say."""
    site = bed.site(lambda r, c: Reply(403, b"no"))
    with site.tarry.client() as c:
        c.send(post(b"Expect: 100-continue", b"Content-Length: 3"))
        assert c.wire.through(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        c.send(b"abc" + MARKER)
        assert c.read_response("POST").status == 403 and c.read_response().status == 403
    assert [r.target for r in site.worker.requests] == ["/bad", "/marker"]


@rows({
    "websocket": (get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: eA==", b"Sec-WebSocket-Version: 13"), 200),
    "h2c": (get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"), 200),
    "with a body": (post(b"Connection: Upgrade", b"Upgrade: foo", b"Content-Length: %d" % len(MARKER), body=MARKER), 200),
    "without Connection": (get(b"Upgrade: h2c"), 200),
})
def test_F19_upgrades_are_stripped(bed, raw, statuses):
    first = two_arrive(bed, raw)
    assert not {"upgrade", "http2-settings", "connection"} & (set(first.headers.names()) - {"connection"})
    assert "upgrade" not in " ".join(first.headers.all("Connection")).lower()
    assert first.body in (b"", MARKER)


@pytest.mark.parametrize("asked", [True, False])
def test_F19_a_worker_s_101_is_never_a_tunnel(bed, asked):
    site = bed.site(lambda r, c: OK if r.target == "/after" else
                    c.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nraw bytes") or c.wait_closed())
    with site.tarry.client() as c:
        c.send(get(*([b"Connection: Upgrade", b"Upgrade: x"] if asked else [])))
        got = c.read_response()
        problem(got, 502, "http_protocol_error")
        assert b"raw bytes" not in got.body
    assert site.tarry.get("/after").body == b"ok"
    assert site.worker.requests[-1].conn.number == 1


@rows({name: get(*lines) for name, lines in {
    "Host": [b"Connection: Host"], "host in a list": [b"Connection: keep-alive, host"],
    "Content-Length": [b"Connection: Content-Length", b"Content-Length: 0"],
    "Transfer-Encoding": [b"Connection: Transfer-Encoding"], "Authorization": [b"Connection: Authorization", b"Authorization: Basic eA=="],
    "X-Forwarded-For": [b"Connection: X-Forwarded-For"], "X-Forwarded-Proto": [b"Connection: close, x-forwarded-proto"],
    "Forwarded": [b"Connection: Forwarded"], "X-Real-IP": [b"Connection: X-Real-IP"], "Cookie": [b"Connection: Cookie", b"Cookie: a=b"],
    "Tarry-Kind": [b"Connection: Tarry-Kind"], "TARRY_AUTH": [b"Connection: TARRY_AUTH"],
    "folded name": [b"Connection: X_Forwarded_For"], "in the second field": [b"Connection: keep-alive", b"Connection: Host"],
    "hundreds": [b"Connection: " + b", ".join(b"x-%d" % i for i in range(300))],
    "no token": [b"Connection: a b"],
}.items()})
def test_F20_Connection_names_what_it_may_not(bed, raw, statuses):
    refused(bed, raw, statuses)


def test_F20_a_named_field_goes_and_tarry_s_own_stay(bed):
    first = two_arrive(bed, get(b"Connection: keep-alive, X-Private, close-not", b"X-Private: p", b"Close-Not: c", b"X-Kept: k"))
    names = first.headers.names()
    assert "x-private" not in names and "close-not" not in names and "x-kept" in names
    assert first.headers.get("X-Forwarded-For") == "127.0.0.1" and first.kind == "request"


def host(*values):
    return b"GET /bad HTTP/1.1\r\n" + b"".join(b"Host: " + v + b"\r\n" for v in values) + b"\r\n"


@rows({
    "twice": host(b"a", b"b"), "twice the same": host(b"a", b"a"), "none": host(), "empty": host(b""), "comma": host(b"a,b"),
    "comma and blank": host(b"a, b"), "blank": host(b"a b"), "userinfo": host(b"user@a"), "path": host(b"a/b"), "query": host(b"a?b"),
    "fragment": host(b"a#b"), "backslash": host(b"a\\b"), "port is a word": host(b"a:http"), "port 0": host(b"a:0"),
    "port too big": host(b"a:65536"), "port signed": host(b"a:+80"), "two ports": host(b"a:1:2"), "port alone": host(b":80"),
    "no end of the bracket": host(b"[::1"), "no IPv6 in brackets": host(b"[zz]"), "zone": host(b"[fe80::1%25eth0]"),
    "text behind the bracket": host(b"[::1]x"), "a URL": host(b"http://a"), "angle brackets": host(b"<a>"), "quote": host(b'"a"'),
    "percent": host(b"a%00b"), "not ASCII": host("ä".encode()), "300 letters": host(b"a" * 300),
    "not that of the absolute target": b"GET http://one/bad HTTP/1.1\r\nHost: two\r\n\r\n",
    "port not that of the absolute target": b"GET http://one:81/bad HTTP/1.1\r\nHost: one:82\r\n\r\n",
    "twice and an absolute target": b"GET http://a/bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "none and an absolute target": b"GET http://a/bad HTTP/1.1\r\n\r\n",
    "twice in HTTP/1.0": b"GET /bad HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "bad in HTTP/1.0": b"GET /bad HTTP/1.0\r\nHost: a/b\r\n\r\n",
})
def test_F21_Host(bed, raw, statuses):
    refused(bed, raw, statuses)


@pytest.mark.parametrize("value", ["a", "a:80", "a.example:65535", "127.0.0.1", "[::1]", "[::1]:8080", "A-b_c.Example"])
def test_F21_good_ones_arrive_as_they_are(bed, value):
    first = two_arrive(bed, host(value.encode()))
    assert first.headers.get("Host") == value and first.headers.get("X-Forwarded-Host") == value


ODD_TARGETS = ["/a%0d%0aX-Evil:%201", "/a%20HTTP/1.1%0d%0aHost:%20evil", "/a%0D%0A%0D%0AGET%20/x", "/a%0a", "/a%20b?c=%0d%0aSet-Cookie:x",
               "/%E2%98%83?%ff", "/a%2", "/a%zz"]


@pytest.mark.parametrize("target", ODD_TARGETS)
def test_F22_the_target_is_forwarded_as_received(bed, target):
    first = two_arrive(bed, b"GET " + target.encode() + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert first.target == target and "X-Evil" not in first.headers
    assert first.raw_head.startswith(b"GET " + target.encode() + b" HTTP/1.1\r\n")


@pytest.mark.parametrize("target", ODD_TARGETS)
def test_F22_so_it_is_to_an_upstream(bed, target):
    upstream = bed.upstream(lambda r, c: OK)
    conf = bed.conf([], upstream)
    conf.routes = [("/", {"upstream": "up"})]
    assert bed.tarry(conf).get(target).status == 200
    assert upstream.request.target == target


@rows({
    "no colon": get(b"Nonsense"), "two lengths": post(b"Content-Length: 1", b"Content-Length: 2"),
    "HTTP/2": (line(b"GET /bad HTTP/2.0"), 400, 505), "garbage": b"\x00\x01\x02\x03\r\n\r\n", "bad chunk": chunked(b"x\r\n\r\n"),
    "bytes behind the body": b"x y z\r\n",
})
def test_F23_a_good_request_then_a_bad_one(bed, raw, statuses):
    """The good one is answered, then the bad one, then nothing."""
    site = bed.site(lambda r, c: OK)
    with site.tarry.client() as c:
        push(c, b"POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody" + raw + MARKER)
        good = c.read_response("POST")
        assert good.status == 200 and good.body == b"ok"
        got = the_only_answer(c)
        assert got.status in statuses
    assert [(r.target, r.body) for r in site.worker.requests] == [("/good", b"body")]


def test_F23_so_it_is_when_the_good_one_takes_its_time(bed):
    gate = Gate()
    site = bed.site(lambda r, c: (gate.wait(), OK)[1])
    with site.tarry.client() as c:
        c.send(b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n")
        site.worker.wait_for(1)
        c.send(b"A : b\r\n\r\n" + MARKER)
        gate.open()
        assert c.read_response().status == 200
        assert the_only_answer(c).status == 400
    assert [r.target for r in site.worker.requests] == ["/good"]


FOLDED = ["X_Forwarded_For", "x_forwarded_proto", "X_FORWARDED_HOST", "X_Real_IP", "Tarry_Kind", "TARRY_AUTH", "tarry_state",
          "X_Forwarded-For", "X-Forwarded_For"]


def folded(headers):
    """Names as a CGI-style environment has them."""
    return [n.lower().replace("-", "_").replace(".", "_") for n, _ in headers]


@pytest.mark.parametrize("policy", [None, "drop"])
@pytest.mark.parametrize("name", ["X_Api_Key", "Content_Type", "_", "a_", *FOLDED])
def test_F24_fields_with_an_underscore_are_dropped(bed, name, policy):
    site = bed.site(lambda r, c: OK, top={"underscore_headers": policy})
    site.tarry.get("/", [(name, "forged"), ("X-Kept", "k")])
    r = site.worker.request
    assert b"forged" not in r.raw_head and r.headers.get("X-Kept") == "k"
    assert not [n for n in r.headers.names() if "_" in n]


@pytest.mark.parametrize("name", ["X_Api_Key", *[n for n in FOLDED if not n.lower().startswith("tarry")]])
def test_F24_they_can_be_refused(bed, name):
    refused(bed, get(name.encode() + b": forged"), top={"underscore_headers": "refuse"})


def test_F24_where_they_are_refused_tarry_s_own_are_removed_as_ever(bed):
    """The request itself is served."""
    r = two_arrive(bed, get(b"Tarry_Kind: forged"), top={"underscore_headers": "refuse"})
    assert r.kind == "request" and b"forged" not in r.raw_head


@pytest.mark.parametrize("name", FOLDED)
def test_F24_they_can_pass_but_not_those_that_forge(bed, name):
    site = bed.site(lambda r, c: OK, top={"underscore_headers": "pass"})
    site.tarry.get("/", [(name, "forged"), ("X_Api_Key", "mine")])
    r = site.worker.request
    assert r.headers.get("X_Api_Key") == "mine" and b"forged" not in r.raw_head
    assert folded(r.headers).count("x_forwarded_for") == 1 and folded(r.headers).count("tarry_kind") == 1


@pytest.mark.parametrize("n", [1000, 1021, 1022])
def test_a_head_with_as_many_fields_as_are_allowed_keeps_its_framing(bed, n):
    """What is behind it is its body, not the worker's next request."""
    site = bed.site(lambda r, c: OK, top={"header_fields_max": 1024, "header_max": "128K"})
    body = b"GET /internal/secret HTTP/1.1\r\nHost: x\r\nTarry-Kind: resume\r\n\r\n"
    with site.tarry.client() as c:
        c.send(post(*[b"a%d: 1" % i for i in range(n)], b"Content-Length: %d" % len(body), body=body))
        assert c.read_response("POST").status == 200
    assert [r.target for r in site.worker.requests] == ["/bad"] and site.worker.request.body == body


# --- Tarry's own fields cannot be forged ---

SPELLINGS = ["Tarry-{}", "tarry-{}", "TARRY-{}", "Tarry_{}", "tarry_{}", "Tarry.{}", "tArRy_{}", "TARRY.{}"]
OWN = ["Version", "Features", "Exchange", "Hop", "Started", "Kind", "Limits", "Origins", "State", "Attempt", "Outcome", "Auth",
       "Body-Length", "Then", "Call-Id", "New.In_Later-Version", ""]


@pytest.mark.parametrize("policy", ["drop", "pass"])
def test_no_spelling_of_a_tarry_header_gets_behind(bed, policy):
    """Not to hop 0, not to a resume, not to an upstream."""
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(upstream.origin)]), resume=OK))
    upstream = bed.upstream()
    conf = bed.conf(worker, upstream)
    conf.top.update(underscore_headers=policy, header_fields_max=1000)
    conf.routes.append(("/gate/", {"upstream": "up"}))
    tarry = bed.tarry(conf)
    forged = [(s.format(n if s[5] == "-" else n.replace("-", s[5])), "forged") for s in SPELLINGS for n in OWN]
    assert tarry.get("/", forged).status == 200 and tarry.get("/gate/", forged).status == 200
    assert len(worker.requests) == 2 and len(upstream.requests) == 2
    for r in worker.requests + upstream.requests:
        assert b"forged" not in r.raw
    for r in worker.requests:
        own = [n for n in folded(r.headers) if n.startswith("tarry_")]
        assert len(own) == len(set(own)) and not set(own) & {"tarry_attempt", "tarry_outcome", "tarry_auth", "tarry_then", "tarry_"}
    assert not [n for r in upstream.requests for n in folded(r.headers) if n.startswith("tarry")]


# --- L: slow and large ---

def dribble(client, data, pause=0.02):
    """Sends `data` byte by byte, again and again, until the peer answers or ends the connection."""
    end = time.monotonic() + 20
    while True:
        for i in range(len(data)):
            if select.select([client.sock], [], [], pause)[0]:
                return
            assert time.monotonic() < end, "the peer never said anything"
            try:
                client.sock.sendall(data[i:i + 1])
            except OSError:
                return


def test_L01_a_head_that_comes_byte_by_byte_is_a_408(bed):
    """Its time is one for the whole head, not a new one with each byte."""
    site = bed.site(lambda r, c: OK, top={"header_timeout": "400ms"})
    with site.tarry.client() as c:
        c.send(b"GET /bad HTTP/1.1\r\nHost: a\r\n")
        dribble(c, b"X-Slow: 1\r\n")
        got = the_only_answer(c)
        problem(got, 408, "http_request_error")
    nothing_arrived(site)


def test_L01_so_it_is_for_the_second_request_of_a_connection(bed):
    site = bed.site(lambda r, c: OK, top={"header_timeout": "400ms"})
    with site.tarry.client() as c:
        assert c.request().status == 200
        c.send(b"GET /bad HTTP/1.1\r\n")
        dribble(c, b"X-Slow: 1\r\n")
        problem(the_only_answer(c), 408, "http_request_error")
    assert len(site.worker.requests) == 1


@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_L01_a_silent_client_is_let_go(bed, sent):
    site = bed.site(lambda r, c: OK, top={"header_timeout": "200ms"})
    with site.tarry.client() as c:
        c.send(sent)
        rest = c.read_to_end()
        assert rest == b"" if not sent else rest.startswith(b"HTTP/1.1 408 ")
    nothing_arrived(site)


def test_L02_a_slow_body_holds_no_slot(bed):
    """One slot, ten slow uploads, and others are served."""
    site = bed.site(lambda r, c: OK, slots=1)
    slow = [site.tarry.client() for _ in range(10)]
    for i, c in enumerate(slow):
        c.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n" + b"x" * (i % 10))
    for i in range(5):
        assert site.tarry.get(f"/{i}").status == 200
    assert [r.target for r in site.worker.requests] == [f"/{i}" for i in range(5)]
    for i, c in enumerate(slow):
        c.send(b"x" * (10 - i % 10))
        assert c.read_response("POST").status == 200
        c.close()
    assert {r.body for r in site.worker.requests[5:]} == {b"x" * 10}


@pytest.mark.parametrize("raw", [post(b"Content-Length: 10", body=b"half"), chunked(b"3\r\nabc\r\n"), post(b"Content-Length: 10")])
def test_L02_a_body_that_stops_is_a_408(bed, raw):
    site = bed.site(lambda r, c: OK, top={"body_timeout": "200ms"})
    with site.tarry.client() as c:
        c.send(raw)
        problem(the_only_answer(c, "POST"), 408, "http_request_error")
    nothing_arrived(site)


def big_answer(bed, relay):
    """A site whose answer has 10 MB, and a function that tells when its source has given all of it away."""
    big = bytes(range(256)) * 40 * 1024
    upstream = bed.upstream(lambda r, c: Reply(200, big))
    if relay:
        worker = bed.worker(lambda r, c: handoff("relay", [call(upstream.origin)]) if r.target == "/big" else OK)
    else:
        worker = bed.worker(lambda r, c: Reply(200, big) if r.target == "/big" else OK)
    return big, bed.site(worker, upstream, slots=1, top={"send_timeout": "500ms"})


@pytest.mark.parametrize("relay", [False, True])
def test_L03_a_client_that_takes_nothing_is_cut_off_and_frees_the_worker(bed, relay):
    big, site = big_answer(bed, relay)
    with Client(site.tarry.address, receive_buffer=2048) as slow:
        slow.send_request("GET", "/big")
        site.worker.wait_for(1, lambda r: r.target == "/big")
        site.worker.wait_idle()
        assert site.tarry.get("/fast").body == b"ok"
        line = site.tarry.access.wait_for(lambda line: line["path"] == "/big")
        assert line["end"] != "complete" and line["bytes_out"] <= len(big)
        assert len(slow.read_to_end()) < len(big)
    eventually(lambda: all(c.closed or c.peer_is_gone() for c in site.upstream.conns), "the upstream's connection is ended")


def test_L03_a_client_that_takes_little_gets_all_and_holds_no_worker(bed):
    """A reader that goes on, however slowly, is not cut off."""
    big, site = big_answer(bed, False)
    with Client(site.tarry.address, receive_buffer=4096) as slow:
        slow.send_request("GET", "/big")
        site.worker.wait_for(1)
        site.worker.wait_idle()
        response = slow.begin()
        for _ in range(20):
            response.piece()
            assert site.tarry.get("/fast").body == b"ok"
        assert response.read() == big


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_L04_a_connection_that_gets_nowhere_is_let_go(bed, tls, sent):
    """Without a byte, or with half a ClientHello."""
    conf = bed.conf(bed.worker(lambda r, c: OK))
    if tls:
        certificate, key = bed.authority.leaf()
        conf.listens[conf.address].update(certificate=str(certificate), private_key=str(key))
    conf.top.update(header_timeout="300ms", handshake_timeout="300ms")
    tarry = bed.tarry(conf)
    with tarry.client() as c:
        c.send(sent)
        c.read_to_end()
    assert bed.parts[0].requests == []


def test_L04_a_handshake_byte_by_byte_has_one_time_for_all(bed):
    conf = bed.conf(bed.worker(lambda r, c: OK))
    certificate, key = bed.authority.leaf()
    conf.listens[conf.address].update(certificate=str(certificate), private_key=str(key))
    conf.top["handshake_timeout"] = "400ms"
    tarry = bed.tarry(conf)
    with tarry.client() as c:
        c.send(b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03")
        dribble(c, b"x" * 100)
        c.read_to_end()


def test_L04_an_address_has_so_many_connections_without_a_request(bed):
    """More of it in test_limits.py."""
    site = bed.site(lambda r, c: OK, top={"address_newcomers_max": 5, "address_limit_loopback": True})
    silent = [site.tarry.client() for _ in range(5)]
    with site.tarry.client() as c:
        assert c.read_to_end() == b""
    assert silent[0].request().status == 200
    with site.tarry.client() as c:
        assert c.request().status == 200


@rows({
    "target of 9 KiB": (b"GET /" + b"a" * 9216 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "target of 1 MiB": (b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "query of 9 KiB": (b"GET /?" + b"a" * 9216 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "absolute target of 9 KiB": (b"GET http://a/" + b"a" * 9216 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "request line that never ends": (b"GET /" + b"a" * 200000, 414),
    "header of 64 KiB": (get(b"X: " + b"a" * 65536), 431),
    "name of 64 KiB": (get(b"a" * 65536 + b": x"), 431),
    "10,000 fields": (get(*[b"A:b"] * 10000), 431),
    "101 fields": (get(*[b"A:b"] * 101), 431),
    "a field that never ends": (b"GET /bad HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 200000, 431),
})
def test_L05_large_heads(bed, raw, statuses):
    refused(bed, raw, statuses)


def test_L05_memory_stays_constant(bed):
    """A flood of too large heads leaves nothing behind."""
    site = bed.site(lambda r, c: OK)

    def flood(n):
        for _ in range(n):
            for raw in (b"GET /" + b"a" * 100000, get(b"X: " + b"a" * 65536), get(*[b"A:b"] * 5000)):
                with site.tarry.client() as c:
                    push(c, raw)
                    assert the_only_answer(c).status in (414, 431)
    flood(5)
    before = site.tarry.private_memory(), site.tarry.descriptors()
    flood(30)
    assert site.tarry.get("/after").status == 200
    assert site.tarry.sanitized or site.tarry.private_memory() < before[0] + (2 << 20)
    eventually(lambda: site.tarry.descriptors() <= before[1] + 2, "descriptors are given back")


@pytest.mark.parametrize("expect", [b"", b"Expect: 100-continue\r\n"])
def test_L06_a_declared_body_over_the_limit_is_refused_before_it_is_read(bed, expect):
    site = bed.site(lambda r, c: OK, top={"body_max": "10K"})
    with site.tarry.client() as c:
        c.send(b"POST /bad HTTP/1.1\r\nHost: a\r\n" + expect + b"Content-Length: 10241\r\n\r\n")
        got = c.read_response("POST")
        problem(got, 413, "http_request_error")
        assert got.interim == [] and got.headers.get("Connection") == "close"
        push(c, MARKER)
        c.wait_closed()
    nothing_arrived(site)


def test_L06_a_chunked_body_over_the_limit_is_refused_when_it_is(bed):
    refused(bed, chunked(b"1000\r\n" + b"x" * 4096 + b"\r\n1801\r\n" + b"x" * 6145 + b"\r\n0\r\n\r\n"), (413,), top={"body_max": "10K"})


def test_L06_the_limit_itself_is_allowed(bed):
    assert len(two_arrive(bed, post(b"Content-Length: 10240", body=b"x" * 10240), top={"body_max": "10K"}).body) == 10240


@pytest.mark.slow
def test_L07_thousands_of_idle_connections(bed):
    """Each costs little, and who works beside them is served as ever."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    n = min(20000, hard - 1000)
    site = bed.site(lambda r, c: OK)
    clients = []
    try:
        for i in range(100):
            clients.append(site.tarry.client())
            assert clients[-1].request().status == 200
        before = site.tarry.private_memory()
        while len(clients) < n:
            clients.append(site.tarry.client(source=f"127.0.0.{2 + len(clients) // 10000}"))
            assert clients[-1].request().status == 200
        each = (site.tarry.private_memory() - before) / (n - 100)
        for i in range(200):
            assert site.tarry.get(f"/{i}").body == b"ok"
        assert clients[0].request().status == 200 and clients[-1].request().status == 200
    finally:
        for c in clients:
            c.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert site.tarry.sanitized or each < 2048, each


# --- N: paths and identity ---

def guarded(bed):
    """A site with a protected prefix; its worker would serve everything."""
    worker = bed.worker(lambda r, c: OK)
    conf = bed.conf(worker)
    conf.routes = [("/", {"workers": "app"}), ("/internal/", {"workers": "app", "internal": True})]
    tarry = bed.tarry(conf)
    return worker, tarry


@pytest.mark.parametrize("target", [
    "/internal/x", "/a/../internal/x", "/a/b/../../internal/x", "/./internal/x", "/internal/./x", "/internal/a/../x", "//internal/x",
    "///internal//x", "/%69nternal/x", "/%69%6e%74%65%72%6e%61%6c/x", "/internal%2fx", "/internal%2Fx", "/a/%2e%2e/internal/x",
    "/a/.%2e/internal/x", "/a%2f..%2finternal/x", "/a%2f%2e%2e%2finternal%2fx", "/internal/%2e/x", "/internal/x?q=/../..",
    "/internal/x;a=b", "/%2finternal/x", "/internal/%00", "/a%5c..%5cinternal/x", "/internal%5cx", "/internal/",
    "http://{}/internal/x", "http://{}/a/../%69nternal/x"])
def test_N01_no_spelling_reaches_a_protected_prefix(bed, target):
    worker, tarry = guarded(bed)
    got = tarry.get(target.format(tarry.address))
    assert got.status in (404, 400), got
    problem(got, got.status, "destination_not_found" if got.status == 404 else "http_request_error")
    assert worker.requests == []


@pytest.mark.parametrize("target", ["/internal/../x", "/internal/%2e%2e/x", "/internal/a/../../x"])
def test_N01_a_path_that_begins_protected_and_leaves_is_no_way_in(bed, target):
    """A backend that does not resolve dots would see the prefix: the worker gets it only if it begins elsewhere."""
    worker, tarry = guarded(bed)
    assert tarry.get(target).status in (404, 400)
    assert worker.requests == []


@pytest.mark.parametrize("target", ["/../x", "/..", "/a/../../x", "/%2e%2e/x", "/a/%2e%2e/%2e%2e/x", "/..%2fx", "/%00", "/a%00b", "/a/%00/../x",
                                    "/%5c..%5c..", "/a/..%5c..%5cx"])
def test_N01_above_the_root_and_NUL_are_malformed(bed, target):
    worker, tarry = guarded(bed)
    problem(tarry.get(target), 400, "http_request_error")
    assert worker.requests == []


@pytest.mark.parametrize("target", ["/a/../b", "/a//b", "/a%2fb", "/a%5cb", "/a;x=1/b", "/a/./b", "/%41", "/a/%2e%2e/b", "/Internal/x", "/internalx",
                                    "/internal", "/x?p=/internal/", "/x?../internal/x", "/%2569nternal/x", "/caf%C3%A9"])
def test_N01_the_original_is_forwarded(bed, target):
    worker, tarry = guarded(bed)
    assert tarry.get(target).status == 200
    assert worker.request.target == target


@pytest.mark.parametrize("target", ["/%c0%afinternal/x", "/%c0%ae%c0%ae/internal/x", "/a/%c0%ae%c0%ae/internal/x", "/%e0%80%afinternal/x",
                                    "/internal%c0%afx"])
def test_N01_overlong_forms_reach_no_protected_prefix(bed, target):
    worker, tarry = guarded(bed)
    got = tarry.get(target)
    assert got.status in (400, 404) or worker.request.target == target and "/internal" not in got.text
    if got.status == 200:  # taken as it is written: octets of a name, nothing else
        assert b"Tarry-Kind: request" in worker.request.raw_head
    else:
        assert worker.requests == []


IDENTITY = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "7.7.7.7, 8.8.8.8"), ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Port", "666"), ("X-Forwarded-Server", "evil.example"),
            ("X-Forwarded-Prefix", "/evil"), ("X-Forwarded-Ssl", "on"), ("X-Real-IP", "6.6.6.6"), ("Forwarded", "for=6.6.6.6;host=evil.example")]
LIES = [b"6.6.6.6", b"7.7.7.7", b"8.8.8.8", b"https", b"evil", b"666"]


def test_N02_an_untrusted_peer_s_word_is_replaced(bed):
    site = bed.site(lambda r, c: OK)
    assert site.tarry.get("/", [("Host", "real.example"), *IDENTITY]).status == 200
    r = site.worker.request
    assert r.headers.get("X-Forwarded-For") == "127.0.0.1" and r.headers.get("X-Forwarded-Proto") == "http"
    assert r.headers.get("X-Forwarded-Host") == "real.example"
    assert r.headers.all("X-Real-IP") in ([], ["127.0.0.1"])
    mine = b"".join(b"%s: %s\n" % (n.encode(), v.encode()) for n, v in r.headers if not n.startswith("Tarry-"))
    assert not [lie for lie in LIES if lie in mine], mine


@pytest.mark.parametrize("value", ["", "a, b, c", "127.0.0.1\t", ",,,", "unknown", "x" * 5000, '"><script>', "\xff\xfe"])
def test_N02_bad_syntax_is_replaced_too(bed, value):
    site = bed.site(lambda r, c: OK)
    assert site.tarry.get("/", [(n, value) for n in ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Proto")]).status == 200
    h = site.worker.request.headers
    assert h.get("X-Forwarded-For") == "127.0.0.1" and h.get("X-Forwarded-Proto") == "http" and "Forwarded" not in h


@pytest.mark.parametrize("peer, believed", [("127.0.0.1/32", True), ("127.0.0.0/8", True), ("10.0.0.0/8", False)])
def test_N02_only_a_trusted_peer_is_believed(bed, peer, believed):
    site = bed.site(lambda r, c: OK, top={"trusted_proxies": [peer]})
    site.tarry.get("/", [("Host", "inner"), ("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https"),
                         ("X-Forwarded-Host", "outer")])
    h = site.worker.request.headers
    assert h.get("X-Forwarded-For") == ("203.0.113.9, 127.0.0.1" if believed else "127.0.0.1")
    assert (h.get("X-Forwarded-Proto"), h.get("X-Forwarded-Host")) == (("https", "outer") if believed else ("http", "inner"))


@pytest.mark.parametrize("value", ["x" * 129, "a b", "a\tb", "a,b", "<script>", "\xff", "a;b", "a\"b", "", "%0d%0a"])
def test_N02_an_unsafe_request_id_is_replaced(bed, value):
    site = bed.site(lambda r, c: OK)
    site.tarry.get("/", {"X-Request-Id": value})
    made = site.worker.request.headers.get("X-Request-Id")
    assert made != value and 1 <= len(made) <= 128 and made.replace("-", "").replace("_", "").replace(".", "").isalnum()


def test_N02_two_request_ids_become_one(bed):
    site = bed.site(lambda r, c: OK)
    site.tarry.get("/", [("X-Request-Id", "one"), ("X-Request-Id", "two")])
    assert len(site.worker.request.headers.all("X-Request-Id")) == 1


@pytest.mark.parametrize("value", ["x" * 128, "req-1.2_3", "0af7651916cd43dd8448eb211c80319c"])
def test_N02_a_safe_request_id_is_kept(bed, value):
    site = bed.site(lambda r, c: OK)
    site.tarry.get("/", {"X-Request-Id": value})
    assert site.worker.request.headers.get("X-Request-Id") == value


@pytest.mark.parametrize("format", ["json", "combined", "logfmt"])
def test_N06_one_line_of_the_access_log_a_request(bed, format):
    """Whatever method, target and agent are."""
    conf = bed.conf(bed.worker(lambda r, c: OK))
    conf.access_log["format"] = format
    tarry = bed.tarry(conf)
    log = AccessLog(conf.access_log["target"])
    evil = ['"', '\\"} {"status":500', "\xff\xfe", "a\tb", '" status=500 "', "\\n\\r\\x0a"]
    for agent in evil:
        tarry.request("GET", "/%0a%0dx?\\%22{}'", {"User-Agent": agent, "Referer": agent})
    tarry.request("X!#$%&'*+^`|~", "/last")
    eventually(lambda: "/last" in log.path.read_text("latin-1"), "the last line")
    lines = log.path.read_text("latin-1").splitlines()
    assert len(lines) == len(evil) + 1
    assert all(c.isprintable() for line in lines for c in line)
    if format == "json":
        assert [entry["status"] for entry in log.lines] == [200] * len(lines)
