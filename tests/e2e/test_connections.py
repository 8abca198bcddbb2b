"""Connections to services: how long they are kept, and that a server which ends them costs no call."""

import itertools
import os
import pathlib
import random
import socket
import struct
import threading
import time

import pytest

from harness import Reply, eventually
from test_name_servers import can_mount, with_resolv_conf

ENDS = ["close", "reset"]


def limited(n, end, wait=0.0):
    """A handler that answers n requests of a connection and then ends it without a word, perhaps with the next one under way."""
    def handle(r, c):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        if c.served >= n:
            time.sleep(wait)
            getattr(c, end)()
    return handle


def gateway(bed, upstream, **up):
    conf = bed.conf([], upstream)
    conf.up.update({"retries": 0, **up})
    conf.routes = [("/", {"upstream": "up"})]
    return conf, bed.tarry(conf)


def ask_many(bed, tarry, n=40, at_once=8):
    """All statuses of n calls with a body, of which at_once are under way."""
    numbers, statuses = itertools.count(), []

    def some():
        while next(numbers) < n:
            statuses.append(tarry.post("/v1/x", b"{}").status)
    for task in [bed.background(some) for _ in range(at_once)]:
        task.result()
    return statuses


@pytest.mark.parametrize("wait", [0.0, 0.005])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_server_that_allows_n_requests_a_connection_costs_no_call(bed, tls, n, end, wait):
    upstream = (bed.tls_upstream if tls else bed.upstream)(limited(n, end, wait))
    _, tarry = gateway(bed, upstream, max_connections=4)
    assert ask_many(bed, tarry) == [200] * 40
    assert len(upstream.requests) == 40, "a call was made twice"


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_server_that_allows_n_streams_a_connection_costs_no_call(bed, n):
    """It says GOAWAY with the last stream that it has taken; streams above it were never begun."""
    def answer(s):
        if s.id == 2 * n - 1:
            s.conn.goaway(s.id)
        return b"x" if s.id <= 2 * n - 1 else None
    upstream = bed.h2_upstream(answer)
    _, tarry = gateway(bed, upstream)
    assert ask_many(bed, tarry) == [200] * 40
    assert len([s for s in upstream.requests if s.id <= 2 * n - 1]) == 40


@pytest.mark.parametrize("word, again", [("timeout=0", False), ("timeout=5, max=0", False), ("timeout=5, max=99", True), ("timeout=1", True),
                                         ("nonsense, timeout=x", True)])
def test_keep_alive_of_a_service_is_heeded(bed, word, again):
    upstream = bed.upstream(lambda r, c: Reply(200, b"x", {"Keep-Alive": word}))
    _, tarry = gateway(bed, upstream)
    for _ in range(2):
        assert tarry.get("/v1/x").status == 200
    assert len(upstream.conns) == (1 if again else 2)


def test_an_idle_connection_is_closed_before_the_service_does(bed):
    """With timeout=1 after half a second, though the conf keeps it for longer."""
    upstream = bed.upstream(lambda r, c: Reply(200, b"x", {"Keep-Alive": "timeout=1"}))
    _, tarry = gateway(bed, upstream, keep_alive_timeout="1h")
    assert tarry.get("/v1/x").status == 200
    eventually(lambda: upstream.conns[0].closed, "the end of the idle connection")


@pytest.mark.parametrize("kind", ["plain", "h2"])
def test_a_connection_has_a_maximum_age(bed, kind):
    upstream = bed.h2_upstream(lambda s: b"x") if kind == "h2" else bed.upstream(lambda r, c: b"x")
    _, tarry = gateway(bed, upstream, connection_max_age="200ms")
    eventually(lambda: tarry.get("/v1/x").status == 200 and len(upstream.conns) >= 3, "the third connection")


@pytest.mark.parametrize("kind", ["plain", "h2"])
def test_a_reload_drains_connections(bed, kind):
    """Those that carry a call finish it; new calls go to new connections."""
    gate = threading.Event()

    def slow(path):
        if path.endswith("/slow"):
            gate.wait(20)
        return b"x"
    upstream = bed.h2_upstream(lambda s: slow(s.path)) if kind == "h2" else bed.upstream(lambda r, c: slow(r.path))
    conf, tarry = gateway(bed, upstream)
    under_way = bed.background(tarry.get, "/v1/slow")
    upstream.wait_for(1)
    assert tarry.get("/v1/x").status == 200
    before = len(upstream.conns)
    tarry.reload(conf)
    assert tarry.get("/v1/x").status == 200
    assert len(upstream.conns) == before + 1
    gate.set()
    assert under_way.result().status == 200


# --- names ---

class Names:
    """A name server whose answers a test changes: an IPv4 address for every name, with a time to live."""

    what = "name server"

    def __init__(self, ip=None, ttl=1):
        self.ip, self.ttl, self.mute, self.mute_v6, self.queries = ip, ttl, False, False, []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:
            self.address = "127." + ".".join(str(random.SystemRandom().randrange(1, 250)) for _ in range(3))
            try:
                self._socket.bind((self.address, 53))
                break
            except OSError:
                pass
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                q, peer = self._socket.recvfrom(512)
            except OSError:
                return
            end = q.index(0, 12) + 5
            kind = struct.unpack(">H", q[end - 4:end - 2])[0]
            self.queries.append(kind)
            if self.mute or (self.mute_v6 and kind == 28):
                continue
            answer = b""
            if self.ip and kind == 1:
                answer = b"\xc0\x0c\x00\x01\x00\x01" + struct.pack(">IH", self.ttl, 4) + socket.inet_aton(self.ip)
            code = 0x8180 if self.ip else 0x8183
            self._socket.sendto(q[:2] + struct.pack(">HHHHH", code, 1, 1 if answer else 0, 0, 0) + q[12:end] + answer, peer)

    def stop(self):
        self._socket.close()


needs_names = pytest.mark.skipif(os.geteuid() != 0 or not can_mount(), reason="only root can have another /etc/resolv.conf, where mounting is allowed")


class Site:
    """Tarry with an upstream whose name the test's own server knows; two places where it may be, on one port."""

    def __init__(self, bed, names, **more):
        self.names = bed.add(names)
        self.first = bed.upstream(lambda r, c: b"first")
        port = int(self.first.address.rpartition(":")[2])
        self.second = bed.upstream(lambda r, c: b"second", address=f"127.0.0.2:{port}")
        file = pathlib.Path(bed.folder / "resolv.conf")
        file.write_text(f"nameserver {names.address}\n")
        self.conf = bed.conf([], self.first)
        self.conf.up.update({"origin": f"http://model.example:{port}", "insecure": True, "retries": 0, **more.pop("up", {})})
        self.conf.routes = [("/", {"upstream": "up"})]
        self.conf.top.update(more.pop("top", {}))
        self.tarry = bed.tarry(self.conf, preexec=with_resolv_conf(file))

    def ask(self):
        return self.tarry.get("/x").body


@needs_names
def test_addresses_are_asked_for_again_while_calls_flow(bed):
    """The kept connection would do for all of them."""
    site = Site(bed, Names("127.0.0.1"))
    assert site.ask() == b"first"
    asked = len(site.names.queries)
    eventually(lambda: site.ask() and len(site.names.queries) > asked, "a query while calls flow")
    assert len(site.first.conns) == 1


@needs_names
def test_calls_move_to_the_new_address_with_the_connections_age(bed):
    site = Site(bed, Names("127.0.0.1"), up={"connection_max_age": "500ms"})
    assert site.ask() == b"first"
    site.names.ip = "127.0.0.2"
    eventually(lambda: site.ask() == b"second", "the second address")
    assert site.ask() == b"second"


@needs_names
def test_a_reload_moves_calls_to_the_new_address(bed):
    site = Site(bed, Names("127.0.0.1", ttl=300))
    assert site.ask() == b"first"
    site.names.ip = "127.0.0.2"
    site.tarry.reload(site.conf)
    assert site.ask() == b"second"


@needs_names
def test_an_old_address_serves_while_no_name_server_answers(bed):
    site = Site(bed, Names("127.0.0.1"), up={"keep_alive_timeout": "1ms", "connection_max_age": "1ms"})
    assert site.ask() == b"first"
    site.names.mute = True
    asked = len(site.names.queries)
    eventually(lambda: site.ask() == b"first" and len(site.names.queries) > asked, "a query in vain")
    assert site.ask() == b"first"


@needs_names
def test_an_old_address_does_not_serve_beyond_the_bound(bed):
    site = Site(bed, Names("127.0.0.1"), up={"keep_alive_timeout": "1ms", "connection_max_age": "1ms", "connect_timeout": "500ms"},
                top={"dns_stale_max": "1s"})
    assert site.ask() == b"first"
    site.names.mute = True
    eventually(lambda: site.tarry.get("/x").status == 502, "the end of the old address")
    site.names.mute = False
    eventually(lambda: site.tarry.get("/x").status == 200, "a new answer")


@needs_names
def test_a_query_for_aaaa_that_nobody_answers_holds_nothing_back(bed):
    names = Names("127.0.0.1")
    names.mute_v6 = True
    site = Site(bed, names, up={"connect_timeout": "1500ms"})  # the first retry of a query comes after 2 s
    assert site.ask() == b"first"


@needs_names
def test_a_name_that_does_not_resolve_is_no_reason_not_to_start(bed):
    site = Site(bed, Names(None))
    assert site.tarry.get("/x").status == 502
    site.names.ip = "127.0.0.1"
    assert eventually(lambda: site.ask() == b"first", "the address")
