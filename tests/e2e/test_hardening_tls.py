"""What hostile peers do with TLS: as clients (L08, U07), as upstreams (U07, U12 to U14)."""

import datetime
import ipaddress
import socket
import ssl
import subprocess
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from harness import DEADLINE, Client, Moments, Reply, by_kind, call, free_port, handoff
from harness.base import connect
from harness.records import RecordClient

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def tarry(bed):
    """A listener with TLS and HTTP/1.1, with an admin beside it."""
    conf = bed.conf(bed.worker(lambda r, c: b"ok"))
    cert, key = bed.authority.leaf()
    conf.listens[conf.address].update(certificate=str(cert), private_key=str(key))
    conf.admins = {f"127.0.0.1:{free_port()}": {}}
    return bed.tarry(conf)


def raw(bed, tarry):
    return RecordClient(tarry.address, bed.authority.client_context(), bed.folder)


def served(bed, tarry):
    with Client(tarry.address, tls=bed.authority.client_context(), server_name="localhost") as c:
        return c.request("GET", "/", host="localhost").status == 200


# --- L08: what TLS offers beside data ---

def test_L08_renegotiation_is_off(bed, tarry):
    done = subprocess.run(["openssl", "s_client", "-connect", tarry.address, "-tls1_2"], input=b"R\n", stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=DEADLINE)
    text = done.stdout.decode("latin-1")
    assert "RENEGOTIATING" in text and "no renegotiation" in text, text
    assert served(bed, tarry)


@pytest.mark.parametrize("requested", [False, True])
def test_L08_some_key_updates_are_served(bed, tarry, requested):
    """With an update of the server's keys asked for, and without."""
    with raw(bed, tarry) as c:
        for _ in range(3):
            for _ in range(8):
                c.sock.sendall(c.key_update(requested))
            c.send(REQUEST)
            assert c.read().startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("requested", [False, True])
def test_L08_a_flood_of_key_updates_is_cut(bed, tarry, requested):
    with raw(bed, tarry) as c:
        flood = b"".join(c.key_update(requested) for _ in range(2000)) + c.record(REQUEST)
        try:
            c.sock.sendall(flood)
        except ConnectionError:
            pass
        c.wait_cut()
    assert served(bed, tarry)
    assert tarry.access.wait_for() and len(tarry.access.lines) == 1, "the flood's request was served"
    assert tarry.metric("tarry_tls_floods_total") == 1


def test_L08_a_flood_beside_an_honest_client(bed, tarry):
    """No read of a connection goes on for as long as its client sends."""
    stop = threading.Event()

    def attack():
        while not stop.is_set():
            try:
                with raw(bed, tarry) as c:
                    c.sock.sendall(b"".join(c.key_update() for _ in range(500)))
                    c.wait_cut()
            except (ConnectionError, ssl.SSLError):
                pass
    attacker = bed.background(attack)
    try:
        with Client(tarry.address, tls=bed.authority.client_context(), server_name="localhost") as c:
            for _ in range(100):
                assert c.request("GET", "/", host="localhost").status == 200
    finally:
        stop.set()
    attacker.result()


def test_L08_records_of_one_octet(bed, tarry):
    with raw(bed, tarry) as c:
        c.sock.sendall(b"".join(c.record(bytes([b])) for b in REQUEST))
        assert c.read().startswith(b"HTTP/1.1 200")


def test_L08_empty_records(bed, tarry):
    """A few between others are harmless; more in a row end the connection."""
    with raw(bed, tarry) as c:
        c.sock.sendall(b"".join(c.record(REQUEST[i:i + 1]) + c.record(b"") for i in range(len(REQUEST))))
        assert c.read().startswith(b"HTTP/1.1 200")
        try:
            c.sock.sendall(b"".join(c.record(b"", padding=100) for _ in range(1000)) + c.record(REQUEST))
        except ConnectionError:
            pass
        c.wait_cut()
    assert served(bed, tarry)
    assert tarry.access.wait_for(n=2) and len(tarry.access.lines) == 2


# --- U07: bytes that come before TLS stands ---

FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


@pytest.mark.parametrize("injected", [REQUEST, b"\x17\x03\x03" + len(REQUEST).to_bytes(2, "big") + REQUEST], ids=["text", "record"])
@pytest.mark.parametrize("after_hello", [False, True])
def test_U07_no_request_before_the_handshake(bed, tarry, injected, after_hello):
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        bed.authority.client_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    with connect(tarry.address) as s:
        s.sendall((hello.read() if after_hello else b"") + injected)
        got = b""
        try:
            while piece := s.recv(65536):
                got += piece
        except ConnectionError:
            pass
    assert b"HTTP/1.1" not in got
    assert served(bed, tarry)
    assert tarry.access.wait_for() and len(tarry.access.lines) == 1
    assert tarry.metric("tarry_tls_failed_total") == 1


class Between:
    """Somebody between Tarry and an upstream, who puts bytes of his own before the upstream's record `nth`."""

    what = "somebody between"

    def __init__(self, upstream, injected, nth):
        self.upstream, self.injected, self.nth = upstream, injected, nth
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = connect(self.upstream.address)
            threading.Thread(target=self._pipe, args=(near, far, None), daemon=True).start()
            threading.Thread(target=self._pipe, args=(far, near, self.nth), daemon=True).start()

    def _pipe(self, source, sink, nth):
        try:
            if nth == 0:
                sink.sendall(self.injected)
            for n in range(1, 1 << 30):
                piece = source.recv(65536)
                if not piece:
                    break
                if nth == 1 and n == 1:  # the upstream's hello comes first
                    end = 5 + int.from_bytes(piece[3:5], "big")
                    piece = piece[:end] + self.injected + piece[end:]
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def stop(self):
        self._listener.close()


def tell(r, c):
    return Reply(200, b" ".join(f"{a.status} {a.error}".encode() + b" " + a.body for a in r.enclosed))


def ask(bed, upstream, port, host="localhost", up=None):
    """A site that calls https://host:port, and what the worker got."""
    origin = f"https://{host}:{port}"
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call(origin + "/")]), resume=tell))
    conf = bed.conf(worker, upstream)
    conf.up.update(origin=origin, retries=0, **(up or {}))
    return bed.tarry(conf).get("/")


@pytest.mark.parametrize("injected", [FORGED, b"\x17\x03\x03\0\x30" + FORGED[:48].ljust(48, b"x")], ids=["text", "record"])
@pytest.mark.parametrize("nth", [0, 1])
def test_U07_no_answer_before_the_handshake(bed, injected, nth):
    """Before the upstream's first byte, and within its handshake."""
    up = bed.tls_upstream(lambda r, c: b"real")
    between = bed.add(Between(up, injected, nth))
    got = ask(bed, up, between.port)
    assert got.text.startswith("502 tls_protocol_error") and b"forged" not in got.body, got
    assert up.requests == []


# --- U12: certificates of upstreams; wildcards are in tests/unit/test_tls.c, since these names must resolve ---

def made(bed, name, names=(), subject="localhost", issuer=True):
    """A certificate that the openssl command would not make."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.utcnow()
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    ca = x509.load_pem_x509_certificate(bed.authority.ca.read_bytes())
    builder = (x509.CertificateBuilder().subject_name(who).issuer_name(ca.subject if issuer else who).public_key(key.public_key())
               .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
               .not_valid_after(now + datetime.timedelta(days=5)))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signer = serialization.load_pem_private_key(bed.authority.key.read_bytes(), None) if issuer else key
    cert, path = bed.folder / f"{name}.pem", bed.folder / f"{name}.key"
    cert.write_bytes(builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, path)
    return context


DNS, IP = x509.DNSName, lambda a: x509.IPAddress(ipaddress.ip_address(a))

CERTIFICATES = {
    "right name": ([DNS("localhost")], "localhost", True),
    "right address": ([IP("127.0.0.1")], "127.0.0.1", True),
    "wrong name": ([DNS("other.example")], "localhost", False),
    "the name as a part": ([DNS("localhost.example"), DNS("xlocalhost")], "localhost", False),
    "CN only": ([], "localhost", False),
    "NUL in the name": ([DNS("localhost\0.evil.example")], "localhost", False),
    "wrong address": ([IP("127.0.0.2")], "127.0.0.1", False),
    "the address as a name": ([DNS("127.0.0.1")], "127.0.0.1", False),
    "a wildcard for the address": ([DNS("*.0.0.1")], "127.0.0.1", False),
    "a wildcard without a dot": ([DNS("*")], "localhost", False),
    "a partial wildcard": ([DNS("l*t"), DNS("local*")], "localhost", False),
}


@pytest.mark.parametrize("what", CERTIFICATES)
def test_U12_the_certificate_must_have_the_name(bed, what):
    names, host, good = CERTIFICATES[what]
    up = bed.tls_upstream(lambda r, c: b"real")
    up.tls = made(bed, "made", names, host)
    got = ask(bed, up, up.port, host)
    assert got.text == ("200 None real" if good else got.text)
    if not good:
        assert got.text.startswith("502 tls_certificate_error") and b"real" not in got.body, got
        assert up.requests == []


def test_U12_self_signed_and_expired(bed):
    up = bed.tls_upstream(lambda r, c: b"real")
    up.tls = made(bed, "self", [DNS("localhost")], issuer=False)
    assert ask(bed, up, up.port).text.startswith("502 tls_certificate_error")
    other = bed.another()
    late = other.tls_upstream(lambda r, c: b"real", certificate="late", cert={"days": -1})
    assert ask(other, late, late.port).text.startswith("502 tls_certificate_error")
    assert up.requests == [] and late.requests == []


class Obstinate:
    """An upstream whose ALPN answer is what it likes (pyOpenSSL lets it)."""

    what = "an obstinate upstream"

    def __init__(self, authority, protocol):
        cert, key = authority.leaf()
        self.tls, self.moments = True, Moments()
        self._context = SSL.Context(SSL.TLS_SERVER_METHOD)
        self._context.use_certificate_file(str(cert))
        self._context.use_privatekey_file(str(key))
        self._context.set_alpn_select_callback(lambda conn, offered: (self.moments.note(list(offered)), protocol)[1])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.origin = f"https://localhost:{self.port}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            conn = SSL.Connection(self._context, sock)
            conn.set_accept_state()
            try:
                conn.do_handshake()
                self.moments.note(conn.recv(65536))
                conn.sendall(FORGED)
            except (SSL.Error, OSError) as e:
                self.moments.note(e)
            sock.close()

    def stop(self):
        self._listener.close()


@pytest.mark.parametrize("protocol, http2", [(b"h2", False), (b"spdy/3", True), (b"http/0.9", True)])
def test_U12_a_protocol_that_was_not_offered_is_not_spoken(bed, protocol, http2):
    up = bed.add(Obstinate(bed.authority, protocol))
    got = ask(bed, up, up.port, up={"http2": http2})
    assert got.text.startswith("502 tls_protocol_error") and b"forged" not in got.body, got
    offered = up.moments.list[0]
    assert offered == ([b"h2", b"http/1.1"] if http2 else [b"http/1.1"])
    assert not any(isinstance(note, bytes) and b"HTTP/1.1" in note for note in up.moments.list), "a request was sent"


# --- U13: an end without close_notify ---

@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("relayed", [True, False])
def test_U13_truncation_is_an_error(bed, clean, relayed):
    def answer(r, c):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nthe whole answer")
        if clean:
            c.sock.unwrap()
        c.sock.close()
    up = bed.tls_upstream(answer)
    first = "relay" if relayed else "resume /x"
    worker = bed.worker(by_kind(request=lambda r, c: handoff(first, [call(up.origin + "/")]), resume=tell))
    site = bed.site(worker, up, up={"retries": 0})
    with site.tarry.client() as c:
        c.send_request()
        if not relayed:
            got = c.read_response().text
            assert got == "200 None the whole answer" if clean else got.startswith("502 http_response_incomplete")
        elif clean:
            assert c.read_response().body == b"the whole answer"
        else:
            with pytest.raises(Exception, match="connection ended"):
                assert c.read_response().status == 502  # or it had begun, and is cut
                raise Exception("connection ended")


# --- U14: connections are kept for their own upstream ---

def test_U14_connections_of_one_address_are_not_shared(bed):
    """Same address and port, another authority, another name: each makes a connection of its own, and verifies."""
    seen = Moments()
    up = bed.tls_upstream(lambda r, c: (seen.note(id(c)), r.headers.get("Authorization", "-").encode())[1])
    names = []
    up.tls.sni_callback = lambda sock, name, context: names.append(name)
    stranger = bed.folder / "stranger.pem"
    made(bed, "stranger", [DNS("localhost")], issuer=False)
    worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /x", [call("tarry:/" + r.path + "/")]), resume=tell))
    conf = bed.conf(worker, up)
    conf.up.update(origin=f"https://localhost:{up.port}", retries=0, set_header=["Authorization: a"])
    same = {"ca_file": str(bed.authority.ca), "retries": 0}
    conf.upstreams["key"] = dict(same, origin=f"https://localhost:{up.port}", set_header=["Authorization: b"])
    conf.upstreams["address"] = dict(same, origin=f"https://127.0.0.1:{up.port}")
    conf.upstreams["mistrust"] = dict(same, origin=f"https://localhost:{up.port}", ca_file=str(stranger))
    tarry = bed.tarry(conf)
    assert tarry.get("/up").text == "200 None a"
    assert tarry.get("/up").text == "200 None a"
    assert tarry.get("/mistrust").text.startswith("502 tls_certificate_error")
    assert tarry.get("/key").text == "200 None b"
    assert tarry.get("/address").text == "200 None -"
    a, again, b, address = seen.list
    assert a == again and len({a, b, address}) == 3
    assert names == ["localhost", "localhost", "localhost", None]
