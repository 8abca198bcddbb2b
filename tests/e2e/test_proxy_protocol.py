"""The PROXY protocol on a listener, and what forwarding fields are believed (N02, N04)."""

import contextlib
import socket
import struct

import pytest

from harness import eventually, free_port
from harness.base import connect

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(source="192.0.2.7", port=4321, command=1, family=0x11, fields=b"", length=None):
    body = b""
    if family == 0x11:
        body = socket.inet_aton(source) + socket.inet_aton("198.51.100.1") + struct.pack(">HH", port, 443)
    elif family == 0x21:
        body = socket.inet_pton(socket.AF_INET6, source) * 2 + struct.pack(">HH", port, 443)
    elif family == 0x31:
        body = b"/run/x".ljust(216, b"\0")
    body += fields
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack(">H", len(body) if length is None else length) + body


V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 443\r\n"
REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"


@pytest.fixture
def conf(bed):
    """A listener with the PROXY protocol, behind a proxy on 127.0.0.1, and an admin listener."""
    conf = bed.conf(bed.worker(lambda r, c: r.headers.get("x-forwarded-for", "-").encode()))
    conf.listens[conf.address]["proxy_protocol"] = True
    conf.top["trusted_proxies"] = ["127.0.0.1"]
    conf.admins = {f"127.0.0.1:{free_port()}": {}}
    return conf


def answer(tarry, *pieces, tls=None):
    """What comes back for these pieces, sent one after the other. None: the connection was closed."""
    with connect(tarry.address) as s:
        for piece in pieces[:-1]:
            s.sendall(piece)
        if tls:
            s = tls.wrap_socket(s, server_hostname="localhost")
        try:
            s.sendall(pieces[-1])
            got = b"".join(iter(lambda: s.recv(65536), b""))
        except ConnectionError:
            return None
    return got or None


def received(s):
    try:
        return s.recv(65536)
    except ConnectionError:
        return b""


def client_of(got):
    assert got and got.startswith(b"HTTP/1.1 200"), got
    return got.partition(b"\r\n\r\n")[2].decode()


@pytest.mark.parametrize("header, client", [
    (V1, "192.0.2.7"), (b"PROXY TCP6 2001:db8::7 2001:db8::1 4321 443\r\n", "2001:db8::7"),
    (v2(), "192.0.2.7"), (v2("2001:db8::7", family=0x21), "2001:db8::7"), (v2("::ffff:192.0.2.9", family=0x21), "192.0.2.9"),
    (v2(fields=b"\xea\0\x03vpc\x04\0\x01x"), "192.0.2.7"), (v2(fields=b"\x04" + struct.pack(">H", 3000) + bytes(3000)), "192.0.2.7"),
    (v2(command=0), "127.0.0.1"),                      # the proxy for itself
    (v2(command=0, family=0), "127.0.0.1"),
    (v2(family=0), "unknown"), (b"PROXY UNKNOWN\r\n", "unknown"), (v2(family=0x31), "unknown")])
def test_N04_the_client_is_whom_the_header_names(bed, conf, header, client):
    tarry = bed.tarry(conf)
    assert client_of(answer(tarry, header + REQUEST)) == client
    assert tarry.access.wait_for()["peer"] == client


def test_N04_split_at_every_octet(bed, conf):
    tarry = bed.tarry(conf)
    for header in (V1, v2(fields=b"\x04\0\x02ab")):
        for cut in range(1, len(header) + 1):
            assert client_of(answer(tarry, header[:cut], header[cut:] + REQUEST)) == "192.0.2.7", cut
        assert client_of(answer(tarry, *(bytes([b]) for b in header), REQUEST)) == "192.0.2.7"


@pytest.mark.parametrize("what", {
    "absent": REQUEST,
    "absent, TLS": b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + bytes(200),
    "108 octets": b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n" + REQUEST,
    "bare LF": V1.replace(b"\r\n", b"\n") + REQUEST,
    "another family": V1.replace(b"TCP4", b"TCP6") + REQUEST,
    "version 3": SIGNATURE + b"\x31\x11\0\x0c" + bytes(12) + REQUEST,
    "command 2": v2(command=2) + REQUEST,
    "datagrams": SIGNATURE + b"\x21\x12\0\x0c" + bytes(12) + REQUEST,
    "short address": v2(length=11) + REQUEST,
    "longer than is taken": v2(length=0xffff) + REQUEST,
    "field overflow": v2(fields=b"\x04\xff\xff") + REQUEST,
    "wrong checksum": v2(fields=b"\x03\0\x04\0\0\0\0") + REQUEST,
    "two headers": V1 + V1 + REQUEST,
}.items(), ids=lambda x: x[0])
def test_N04_what_is_no_header_is_closed(bed, conf, what):
    """Nothing of it is taken for a request, and no answer is sent. A second header is the client's, and no HTTP."""
    tarry = bed.tarry(conf)
    got = answer(tarry, what[1])
    if what[0] == "two headers":
        assert got.startswith(b"HTTP/1.1 400")
    else:
        assert got is None
        assert tarry.metric("tarry_proxy_headers_refused_total") == 1
    assert client_of(answer(tarry, V1 + REQUEST)) == "192.0.2.7"


@pytest.mark.parametrize("begun", [b"", b"PROXY TCP4 192", v2()[:20], v2(length=200)], ids=["nothing", "half a line", "half", "more said than sent"])
def test_N04_a_header_that_does_not_come_is_not_waited_for(bed, conf, begun):
    conf.listens[conf.address]["proxy_protocol_timeout"] = "200ms"
    tarry = bed.tarry(conf)
    assert answer(tarry, begun) is None
    tarry.wait_log("its PROXY header did not come in time")


def test_N04_only_trusted_proxies_may_speak_it(bed, conf):
    conf.top["trusted_proxies"] = ["192.0.2.1"]
    tarry = bed.tarry(conf)
    assert answer(tarry, V1 + REQUEST) is None
    tarry.wait_log("it is none of trusted_proxies")
    conf.top["trusted_proxies"] = ["127.0.0.0/8"]
    tarry.reload(conf)
    assert client_of(answer(tarry, V1 + REQUEST)) == "192.0.2.7"


def test_N04_it_is_never_guessed(bed, conf):
    """A listener without the option takes it for the malformed request that it is."""
    conf.listens[conf.address]["proxy_protocol"] = False
    tarry = bed.tarry(conf)
    for header in (V1, v2()):
        assert answer(tarry, header + REQUEST).startswith(b"HTTP/1.1 400")
    conf.listens[conf.address]["proxy_protocol"] = True
    tarry.reload(conf)
    assert client_of(answer(tarry, v2() + REQUEST)) == "192.0.2.7"


@pytest.mark.parametrize("http2", [True, False])
def test_tls_follows_the_header(bed, conf, http2):
    cert, key = bed.authority.leaf()
    conf.listens[conf.address].update(certificate=str(cert), private_key=str(key), http2=http2)
    tarry, tls = bed.tarry(conf), bed.authority.client_context()
    for header in (V1, v2()):
        got = answer(tarry, header, REQUEST.replace(b"a.example", b"localhost"), tls=tls)
        assert client_of(got) == "192.0.2.7"


def test_over_a_unix_socket(bed, conf):
    address = f"unix:{bed.folder}/front.sock"
    conf.listens = {address: {"proxy_protocol": True}}
    conf.top["trusted_proxies"] = ["unix"]
    tarry = bed.tarry(conf)
    assert client_of(answer(tarry, V1 + REQUEST)) == "192.0.2.7"


def test_what_the_named_client_says_of_itself_is_not_believed(bed, conf):
    """The proxy is trusted, not who comes through it; unless the conf trusts that one too."""
    tarry = bed.tarry(conf)
    forged = REQUEST.replace(b"Connection", b"X-Forwarded-For: 203.0.113.5\r\nConnection")
    assert client_of(answer(tarry, V1 + forged)) == "192.0.2.7"
    assert client_of(answer(tarry, b"PROXY UNKNOWN\r\n" + forged)) == "unknown"
    assert client_of(answer(tarry, v2(command=0) + forged)) == "203.0.113.5, 127.0.0.1"
    conf.top["trusted_proxies"].append("192.0.2.0/24")
    tarry.reload(conf)
    assert client_of(answer(tarry, V1 + forged)) == "203.0.113.5, 192.0.2.7"


def test_limits_of_an_address_hold_for_the_named_client(bed, conf):
    conf.top["address_connections_max"] = 2
    tarry = bed.tarry(conf)
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(connect(tarry.address)) for _ in range(3)]
        for s in held:
            s.sendall(V1 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert sorted(bool(received(s)) for s in held) == [False, True, True]
        assert client_of(answer(tarry, v2("192.0.2.8") + REQUEST)) == "192.0.2.8"


def test_reload_and_stop_with_a_header_on_its_way(bed, conf):
    """What was accepted is served, under what its listener was then."""
    tarry = bed.tarry(conf)
    with connect(tarry.address) as s:
        s.sendall(V1[:10])
        eventually(lambda: tarry.metric("tarry_client_connections_total") == 1, "the accept")
        conf.listens[conf.address]["proxy_protocol"] = False
        tarry.reload(conf)
        s.sendall(V1[10:] + REQUEST)
        assert client_of(b"".join(iter(lambda: s.recv(65536), b""))) == "192.0.2.7"
    conf.listens[conf.address]["proxy_protocol"] = True
    tarry.reload(conf)
    with connect(tarry.address) as s:
        s.sendall(V1[:10])
        eventually(lambda: tarry.metric("tarry_client_connections_total") == 2, "the accept")
        tarry.signal(15)
        tarry.wait_log("stopping")
        s.sendall(V1[10:] + REQUEST)
        assert client_of(b"".join(iter(lambda: s.recv(65536), b""))) == "192.0.2.7"
    tarry.wait_end(0)
