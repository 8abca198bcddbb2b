"""Calls that nothing can hand off: of libraries with transports of their own, and of threads that know of no request. They are made as ever
and said, and what follows them in the view is made directly too: a handoff would make them again."""

import asyncio
import concurrent.futures
import http.client
import socket
import threading

import pytest
from asking import ask

import tarry
from tarry.test import WSGIClient


def run(view, origin):
    def app(environ, start_response):
        text = view()
        start_response("200 OK", [])
        return [str(text).encode()]

    client = WSGIClient(tarry.wsgi(app), lambda call: b"handed off", [origin])
    return client.get("/").body.decode(), client


def test_calls_of_a_thread_are_handed_off(upstream):
    def view():
        got = []
        for _ in range(2):
            thread = threading.Thread(target=lambda: got.append(ask("q", upstream.origin)))
            thread.start()
            thread.join()
        return got

    text, client = run(view, upstream.origin)
    assert len(client.calls) == 2 and upstream.bodies == [] and text.count("handed off") == 2


def test_calls_of_an_executor_are_handed_off_side_by_side(upstream):
    def view():
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            return sorted(pool.map(lambda prompt: ask(prompt, upstream.origin), ["a", "b", "c"]))

    text, client = run(view, upstream.origin)
    assert len(client.calls) == 3 and upstream.bodies == [] and client.hops == 2


def test_a_thread_that_outlives_its_request_makes_its_calls_itself(upstream):
    done = threading.Event()

    def later():
        done.wait(30)
        ask("q", upstream.origin)

    def view():
        view.thread = threading.Thread(target=later)
        view.thread.start()
        return "answered"

    assert run(view, upstream.origin)[0] == "answered"
    done.set()
    view.thread.join(30)
    assert len(upstream.bodies) == 1


def test_a_thread_is_left_alone_when_no_request_is_being_worked_on(upstream, messages):
    thread = threading.Thread(target=ask, args=("q", upstream.origin))
    thread.start()
    thread.join()
    assert len(upstream.bodies) == 1 and messages("INFO") == []


def test_aiohttp(upstream, messages):
    aiohttp = pytest.importorskip("aiohttp")

    async def post(url):
        async with aiohttp.ClientSession() as session:
            async with session.post(url, data=b"x") as response:
                return (await response.json())["direct"]

    text, client = run(lambda: (asyncio.run(post(upstream.origin + "/v1")), ask("q", upstream.origin)), upstream.origin)
    assert text == str((1, '{"direct": 2}')) and client.hops == 1 and len(upstream.bodies) == 2
    assert "calls of aiohttp cannot be handed off" in messages("WARNING")[0]
    with pytest.raises(tarry.TarryError, match="aiohttp"), tarry.capture():
        asyncio.run(post(upstream.origin))


def test_aiohttp_after_a_swallowed_handoff_is_not_made(upstream):
    aiohttp = pytest.importorskip("aiohttp")

    async def post():
        async with aiohttp.ClientSession(upstream.origin) as session:
            async with session.post("/v1", data=b"x"):
                pass

    def view():
        try:
            return ask("q", upstream.origin)
        except BaseException:
            asyncio.run(post())

    text, client = run(view, upstream.origin)
    assert text == "handed off" and upstream.bodies == []


def test_grpc(messages):
    grpc = pytest.importorskip("grpc")

    def view():
        with grpc.insecure_channel("127.0.0.1:1") as channel:
            try:
                channel.unary_unary("/s/M")(b"x", timeout=5)
            except grpc.RpcError:
                return "failed"

    assert run(view, "https://127.0.0.1:1")[0] == "failed"
    assert "calls of grpc cannot be handed off" in messages("WARNING")[0]


def test_websockets(messages):
    pytest.importorskip("websockets.sync.client")
    from websockets.sync.client import connect

    def view():
        try:
            connect("ws://127.0.0.1:1/v1/realtime")
        except OSError:
            return "failed"

    assert run(view, "http://127.0.0.1:1")[0] == "failed"
    assert "calls of websockets cannot be handed off" in messages("WARNING")[0]


def test_a_client_with_a_connection_of_its_own_makes_the_view_direct(upstream, messages):
    """What it sends cannot be caught, so nothing after it may be handed off: the view would be run again, and it would be paid for twice."""

    def view():
        host, port = upstream.origin.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)))
        connection.sendall(b"POST /own HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nown")
        while connection.recv(4096):
            pass
        connection.close()
        return ask("q", upstream.origin)

    text, client = run(view, upstream.origin)
    assert client.hops == 1 and upstream.bodies[0] == b"own" and len(upstream.bodies) == 2
    assert any("connection of its own" in m for m in messages())


def test_a_request_written_piece_by_piece_makes_the_view_direct(upstream, messages):
    def view():
        host, port = upstream.origin.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port))
        connection.putrequest("POST", "/own")
        connection.putheader("Content-Length", "3")
        connection.endheaders(b"own")
        connection.getresponse().read()
        connection.close()
        return ask("q", upstream.origin)

    text, client = run(view, upstream.origin)
    assert client.hops == 1 and len(upstream.bodies) == 2


@pytest.mark.parametrize("library", ["curl_cffi.requests", "pycurl"])
def test_curl_makes_the_view_direct(upstream, messages, library):
    module = pytest.importorskip(library)
    tarry.patch_all()

    def view():
        if library == "pycurl":
            curl = module.Curl()
            curl.setopt(module.URL, upstream.origin + "/own")
            curl.setopt(module.POSTFIELDS, "own")
            curl.setopt(module.WRITEFUNCTION, lambda data: None)
            curl.perform()
            curl.close()
        else:
            module.Session().post(upstream.origin + "/own", data=b"own")
        return ask("q", upstream.origin)

    text, client = run(view, upstream.origin)
    assert client.hops == 1 and len(upstream.bodies) == 2
    assert any("curl" in m for m in messages())
