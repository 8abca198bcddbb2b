"""What one client, or one address, may take: connections, requests, time and memory. What holds for malformed input is in
test_hardening.py."""

import itertools
import select
import time

import pytest

from harness import Client, Gate, Raw, Reply, call, eventually, free_port, handoff, problem

OK = Reply(200, b"ok")


def limited(bed, handler=lambda r, c: OK, slots=4, pool=None, **top):
    """A site with these options at the top, an admin listener, and limits an address that hold for loopback."""
    return bed.site(handler, slots=slots, pool=pool, top=dict({"address_limit_loopback": True}, **top), admin=True)


def is_in(client):
    """The client is served."""
    return client.request().status == 200


def is_out(client):
    """The client is refused without a word."""
    try:
        client.send_request()
        return client.read_to_end() == b""
    except (BrokenPipeError, ConnectionResetError):
        return True


# --- connections of one address ---

def test_an_address_has_so_many_connections_and_no_more(bed):
    site = limited(bed, address_connections_max=3)
    held = [site.tarry.client() for _ in range(3)]
    assert all(is_in(c) for c in held)
    assert is_out(site.tarry.client())
    with site.tarry.client(source="127.0.0.2") as other:  # another address is another's
        assert is_in(other)
    assert site.tarry.metric("tarry_client_connections_refused_total") == 1
    site.tarry.wait_log(lambda line: "127.0.0.1" in line and "address_connections_max" in line and "trusted_proxies" in line)
    assert is_out(site.tarry.client())
    site.tarry.wait_log(lambda line: "debug" in line and "127.0.0.1 refused" in line)  # told once, and then counted
    held[0].close()
    eventually(lambda: site.tarry.metric("tarry_client_connections_open") == 2, "the closed one to be forgotten")
    with site.tarry.client() as again:
        assert is_in(again)
    assert all(is_in(c) for c in held[1:])


def test_an_address_has_so_many_connections_without_a_request_and_no_more(bed):
    site = limited(bed, address_newcomers_max=3)
    silent = [site.tarry.client() for _ in range(3)]
    eventually(lambda: site.tarry.metric("tarry_client_newcomers") == 3, "three newcomers")
    assert is_out(site.tarry.client())
    for c in silent:  # with its first request one is no newcomer any more
        assert is_in(c)
    assert site.tarry.metric("tarry_client_newcomers") == 0
    more = [site.tarry.client() for _ in range(3)]
    assert all(is_in(c) for c in more + silent)
    assert site.tarry.metric("tarry_client_addresses") == 1


@pytest.mark.parametrize("top", [{"address_limit_loopback": False}, {"trusted_proxies": ["127.0.0.1"]}])
def test_loopback_and_trusted_proxies_stand_for_many_clients(bed, top):
    site = limited(bed, address_connections_max=1, address_newcomers_max=1, **top)
    clients = [site.tarry.client() for _ in range(10)]
    assert all(is_in(c) for c in clients)
    assert site.tarry.metric("tarry_client_connections_refused_total") == 0


def test_unix_sockets_have_no_address_to_be_bounded(bed):
    worker = bed.worker(lambda r, c: OK)
    conf = bed.conf(worker)
    conf.listens = {f"unix:{bed.folder}/front": {}}
    conf.top.update(address_limit_loopback=True, address_connections_max=1, address_newcomers_max=1)
    tarry = bed.tarry(conf)
    clients = [tarry.client() for _ in range(5)]
    assert all(is_in(c) for c in clients)


def test_the_limits_of_an_address_change_with_a_reload(bed):
    site = limited(bed, address_connections_max=1)
    first = site.tarry.client()
    assert is_in(first) and is_out(site.tarry.client())
    site.conf.top["address_connections_max"] = 2
    site.tarry.reload(site.conf)
    with site.tarry.client() as second:
        assert is_in(second) and is_in(first)
        assert is_out(site.tarry.client())


def test_half_a_tls_handshake_is_a_newcomer(bed):
    ca = bed.authority
    worker = bed.worker(lambda r, c: OK)
    conf = bed.conf(worker)
    certificate, key = ca.leaf()
    conf.listens[conf.address].update(certificate=str(certificate), private_key=str(key))
    conf.top.update(address_limit_loopback=True, address_newcomers_max=2)
    tarry = bed.tarry(conf)
    half = [tarry.client() for _ in range(2)]
    for c in half:
        c.send(b"\x16\x03\x01\x02\x00\x01")
    third = tarry.client()
    assert third.read_to_end() == b""


def test_an_address_has_its_share_of_the_queue_and_no_more(bed):
    gate = Gate()
    site = limited(bed, lambda r, c: (gate.wait(), OK)[1], slots=1, pool={"queue_max": 10, "queue_address_share": 30})
    clients = [site.tarry.client() for _ in range(5)]
    for i, c in enumerate(clients):
        c.send_request("GET", f"/{i}")
        if i == 0:
            site.worker.wait_for(1)
        elif i <= 3:
            eventually(lambda: site.tarry.status()["pools"]["app"]["queued_new"] == i, "it to wait")
    problem(clients[4].read_response(), 503, "connection_limit_reached")
    assert site.tarry.metric("tarry_queue_share_refused_total") == 1
    with site.tarry.client(source="127.0.0.2") as other:
        other.send_request("GET", "/other")
        eventually(lambda: site.tarry.status()["pools"]["app"]["queued_new"] == 4, "another address's to wait too")
        gate.open()
        assert other.read_response().status == 200
    assert all(c.read_response().status == 200 for c in clients[:4])


def test_behind_a_trusted_proxy_the_client_has_that_share(bed):
    """The proxy's own address stands for many clients; what a stranger says in front of it counts for nothing."""
    gate = Gate()
    site = limited(bed, lambda r, c: (gate.wait(), OK)[1], slots=1, pool={"queue_max": 10, "queue_address_share": 20},
                   trusted_proxies=["127.0.0.1", "198.51.100.0/24"])
    said = ["192.0.2.1", "192.0.2.1, 198.51.100.7", "203.0.113.5, 192.0.2.1:4711", "192.0.2.2"]
    clients = [site.tarry.client() for _ in range(5)]
    clients[0].send_request("GET", "/0")
    site.worker.wait_for(1)
    for n, i in enumerate((0, 1, 3), 1):
        clients[n].send_request("GET", f"/{n}", headers={"X-Forwarded-For": said[i]})
        eventually(lambda: site.tarry.status()["pools"]["app"]["queued_new"] == n, "it to wait")
    clients[4].send_request("GET", "/4", headers={"X-Forwarded-For": said[2]})
    problem(clients[4].read_response(), 503, "connection_limit_reached")
    gate.open()
    assert all(c.read_response().status == 200 for c in clients[:4])


# --- requests of one connection ---

def test_a_connection_ends_with_its_last_request(bed):
    site = limited(bed, connection_requests_max=3)
    with site.tarry.client() as c:
        for i in range(3):
            got = c.request("GET", f"/{i}")
            assert got.status == 200 and (got.headers.get("Connection") == "close") == (i == 2)
        c.wait_closed()
    assert site.tarry.get("/again").status == 200
    assert site.tarry.metric("tarry_client_connections_used_up_total") == 1


def test_so_does_one_of_http2(bed):
    site = limited(bed, connection_requests_max=3)
    with site.tarry.h2() as c:
        for i in range(3):
            assert c.request(target=f"/{i}").status == 200
        c.wait_closed()
    assert site.tarry.metric("tarry_client_connections_used_up_total") == 1


@pytest.mark.parametrize("http2", [True, False])
def test_who_never_says_anything_is_counted_as_too_slow(bed, http2):
    worker = bed.worker(lambda r, c: OK)
    conf = bed.conf(worker)
    conf.listens[conf.address]["http2"] = http2
    conf.top["header_timeout"] = "200ms"
    conf.admins[f"unix:{bed.folder}/admin"] = {}
    tarry = bed.tarry(conf)
    assert tarry.client().read_to_end() == b""
    assert tarry.metric("tarry_clients_too_slow_total") == 1


def test_a_request_pipelined_behind_the_last_is_not_answered(bed):
    site = limited(bed, connection_requests_max=2)
    with site.tarry.client() as c:
        c.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(4)))
        assert [c.read_response().status for _ in range(2)] == [200, 200]
        c.wait_closed()
    assert [r.target for r in site.worker.requests] == ["/0", "/1"]


# --- bytes a second ---

def trickle(client, pieces, pause=0.02):
    """Sends these pieces, one a pause, until the peer answers or ends the connection, or there are no more."""
    for piece in pieces:
        if select.select([client.sock], [], [], pause)[0]:
            return
        try:
            client.sock.sendall(piece)
        except OSError:
            return


BODIES = {
    "length": (b"Content-Length: 1000000", itertools.repeat(b"x")),
    "chunked": (b"Transfer-Encoding: chunked", itertools.repeat(b"1\r\nx\r\n")),
    "one chunk": (b"Transfer-Encoding: chunked", itertools.chain([b"fffff\r\n"], itertools.repeat(b"x"))),
    "an extension": (b"Transfer-Encoding: chunked", itertools.chain([b"1;"], itertools.repeat(b"x"))),
}


@pytest.mark.parametrize("body", BODIES)
def test_a_body_that_trickles_in_is_a_408(bed, body):
    """A byte now and then holds no connection for ever, though no pause is long."""
    site = limited(bed, body_timeout="60s", body_rate_min="1M", rate_window="300ms")
    field, pieces = BODIES[body]
    with site.tarry.client() as c:
        c.send(b"POST /bad HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n")
        trickle(c, pieces)
        problem(c.read_response("POST"), 408, "http_request_error")
        c.wait_closed()
    assert site.worker.requests == [] and site.tarry.metric("tarry_clients_too_slow_total") == 1


def test_a_body_that_is_fast_enough_may_take_its_time(bed):
    """Longer than the window, with pauses."""
    site = limited(bed, body_timeout="60s", body_rate_min="10", rate_window="200ms")
    with site.tarry.client() as c:
        c.send(b"POST /good HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n")
        trickle(c, [b"x" * 100] * 30)
        assert c.read_response("POST").status == 200
    assert site.worker.request.body == b"x" * 3000


BIG = bytes(range(256)) * 40 * 1024


def big_site(bed, **top):
    """One slot; /big has 10 MB, which fit into the spool."""
    return limited(bed, lambda r, c: Reply(200, BIG) if r.path == "/big" else OK, slots=1, **top)


def test_a_client_that_trickles_its_response_out_is_cut_and_holds_nothing(bed):
    site = big_site(bed, send_timeout="60s", send_rate_min="100M", rate_window="300ms")
    with site.tarry.client(receive_buffer=2048) as c:
        c.send_request("GET", "/big")
        site.worker.wait_for(1)
        site.worker.wait_idle()
        assert site.tarry.get("/other").status == 200  # the slot is free long before
        end = time.monotonic() + 30
        while not site.tarry.access.lines[-1:] or site.tarry.access.lines[-1]["path"] != "/big":
            c.sock.recv(1)
            assert time.monotonic() < end
        assert site.tarry.access.lines[-1]["end"] == "client_gone"
        assert len(c.read_to_end()) < len(BIG)
    assert site.tarry.metric("tarry_clients_too_slow_total") == 1
    eventually(lambda: site.tarry.metric("tarry_client_connections_open") == 0, "the connection is gone")


def test_a_client_that_reads_fast_enough_gets_all(bed):
    site = big_site(bed, send_timeout="60s", send_rate_min="1K", rate_window="2s")
    with site.tarry.client(receive_buffer=4096) as c:
        c.send_request("GET", "/big")
        assert c.read_response().body == BIG


def test_a_stream_that_has_nothing_to_say_is_not_slow(bed):
    """Only while something waits for the client does its time run."""
    gate = Gate()

    def stream(r, c):
        if r.path != "/stream":
            return Reply(200, BIG)
        c.send_head(headers={"Content-Type": "text/event-stream"})
        c.send_chunk("data: 1\n\n")
        gate.wait()
        c.send_chunk("data: 2\n\n")
        c.end_chunks()
    site = limited(bed, stream, send_timeout="300ms", send_rate_min="1M", rate_window="100ms")
    with site.tarry.client() as c:
        c.send_request("GET", "/stream")
        response = c.begin()
        response.until(b"data: 1\n\n")
        # Another client is cut for its slowness meanwhile: the time has passed by any clock.
        with site.tarry.client(receive_buffer=2048) as slow:
            slow.send_request("GET", "/big")
            site.tarry.access.wait_for(lambda line: line["path"] == "/big" and line["end"] == "client_gone")
        gate.open()
        assert response.read() == b"data: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize("last", [True, False])
def test_the_rest_of_a_response_waits_no_longer_than_send_timeout(bed, last):
    """What fits into the socket and the queue is complete for the exchange; the connection is still not held for ever."""
    body = b"x" * (100 << 10)
    site = limited(bed, lambda r, c: Reply(200, body), send_timeout="300ms", keep_alive_timeout="300ms", linger_timeout="100ms")
    with site.tarry.client(receive_buffer=2048) as c:
        c.send_request("GET", "/", {"Connection": "close"} if last else {})
        site.tarry.access.wait_for()
        eventually(lambda: site.tarry.metric("tarry_client_newcomers") == 0 and site.tarry.metric("tarry_client_addresses") == 0,
                   "the connection is given up")


def test_a_client_that_never_reads_holds_no_worker_beyond_the_spool(bed):
    """The worker is held back while more than spool_max waits, and is free when the client is cut off."""
    site = limited(bed, lambda r, c: Reply(200, BIG) if r.path == "/big" else OK, slots=1, pool={"spool_max": "64K"}, send_timeout="500ms")
    with site.tarry.client(receive_buffer=2048) as c:
        c.send_request("GET", "/big")
        site.tarry.access.wait_for(lambda line: line["path"] == "/big" and line["end"] != "complete")
        assert site.tarry.get("/other").status == 200
    assert site.worker.peak == 1


# --- at max_connections ---

def test_who_has_been_idle_longest_makes_room(bed):
    """And nobody who is at something."""
    gate = Gate()
    site = limited(bed, lambda r, c: (gate.wait() if r.path == "/active" else None, OK)[1], max_connections=20)
    active = site.tarry.client()
    active.send_request("GET", "/active")
    site.worker.wait_for(1)
    reading = site.tarry.client()
    reading.send(b"GET /slow HTTP/1.1\r\nHo")
    idle = [site.tarry.client() for _ in range(18)]
    assert all(is_in(c) for c in idle)
    with site.tarry.client() as newcomer:
        assert is_in(newcomer)
    idle[0].wait_closed()  # the longest idle
    assert is_in(idle[-1])  # the last to become so
    evicted = site.tarry.metric("tarry_client_connections_evicted_total")
    assert 1 <= evicted <= 17
    reading.send(b"st: a\r\n\r\n")
    assert reading.read_response().status == 200
    gate.open()
    assert active.read_response().status == 200


def test_with_room_for_all_nobody_is_ended(bed):
    site = limited(bed, max_connections=20)
    clients = [site.tarry.client() for _ in range(19)]
    for _ in range(2):
        assert all(is_in(c) for c in clients)
    assert site.tarry.metric("tarry_client_connections_evicted_total") == 0


# --- other bounds of the conf ---

@pytest.mark.parametrize("most, n, status", [(0, 0, 200), (0, 1, 502), (2, 2, 200), (2, 3, 502), (1000, 500, 200)])
def test_interim_max_bounds_interim_responses(bed, most, n, status):
    site = limited(bed, lambda r, c: Raw(b"HTTP/1.1 103 Early Hints\r\n\r\n" * n + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), interim_max=most)
    assert site.tarry.get("/").status == status


@pytest.mark.parametrize("n, status", [(2, 200), (3, 502)])
def test_interim_max_bounds_those_over_http2_too(bed, n, status):
    def answer(s):
        for _ in range(n):
            s.send_head(103)
        return Reply(200, b"ok")
    up = bed.h2_upstream(answer)
    site = bed.site(lambda r, c: handoff("relay", [call(up.origin)]), up, up={"retries": 0}, top={"interim_max": 2})
    assert site.tarry.get("/").status == status


CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("raw, status", [
    (b"1;" + b"e" * 99 + b"\r\nx\r\n0\r\n\r\n", 200),
    (b"1;" + b"e" * 101 + b"\r\nx\r\n0\r\n\r\n", 400),
    ((b"1;" + b"e" * 49 + b"\r\nx\r\n") * 4 + b"0\r\n\r\n", 200),
    ((b"1;" + b"e" * 49 + b"\r\nx\r\n") * 5 + b"0\r\n\r\n", 400),
    (b"0\r\nT: " + b"t" * 90 + b"\r\n\r\n", 200),
    (b"0\r\nT: " + b"t" * 110 + b"\r\n\r\n", 400),
])
def test_chunk_line_max_and_chunk_overhead_max_bound_what_carries_nothing(bed, raw, status):
    site = limited(bed, chunk_line_max="100", chunk_overhead_max="200")
    with site.tarry.client() as c:
        c.send(CHUNKED + raw)
        assert c.read_response("POST").status == status


@pytest.mark.parametrize("size", ["4K", "1M"])
def test_output_max_is_what_waits_in_memory(bed, size):
    """Whatever it is, what comes out is whole."""
    site = big_site(bed, output_max=size)
    with site.tarry.client(receive_buffer=4096) as c:
        c.send_request("GET", "/big")
        assert c.read_response().body == BIG


def test_admin_connections_max_and_their_timeouts(bed):
    site = limited(bed, admin_connections_max=2, admin_timeout="300ms", admin_keep_alive_timeout="400ms")
    address = next(iter(site.conf.admins))
    idle, silent, third = Client(address), Client(address), Client(address)
    assert idle.request("GET", "/healthz").status == 200
    third.send_request("GET", "/healthz")  # waits
    assert silent.read_to_end() == b""
    assert third.read_response().status == 200
    assert idle.read_to_end() == b""


def test_a_server_that_refuses_is_left_alone_for_unreachable_first_pause(bed):
    """With a long one it is not asked again while the other one serves."""
    worker = bed.worker(lambda r, c: OK)
    gone = f"127.0.0.1:{free_port()}"
    conf = bed.conf([gone, worker])
    conf.pool.update(unreachable_first_pause="1h", unreachable_max_pause="1h")
    tarry = bed.tarry(conf)
    for _ in range(10):
        assert tarry.get("/").status == 200
    assert len([line for line in tarry.lines if "cannot connect to worker" in line]) == 1


def test_unreachable_max_pause_bounds_the_pauses(bed):
    worker = bed.worker(lambda r, c: OK)
    gone = f"127.0.0.1:{free_port()}"
    conf = bed.conf([gone, worker])
    conf.pool.update(unreachable_first_pause="1ms", unreachable_max_pause="1ms")
    tarry = bed.tarry(conf)

    def asked():
        assert tarry.get("/").status == 200
        return len([line for line in tarry.lines if "cannot connect to worker" in line]) >= 10
    eventually(asked, "the server to be asked again and again")


def test_linger_timeout_is_how_long_the_last_bytes_are_guarded(bed):
    """A client that goes on sending and never closes is not listened to for ever."""
    site = limited(bed, linger_timeout="200ms")
    c = site.tarry.client()
    c.send_request("GET", "/", {"Connection": "close"})
    assert c.read_response().status == 200
    eventually(lambda: site.tarry.metric("tarry_client_addresses") == 0, "the connection is given up")
    c.close()
