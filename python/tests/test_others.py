"""Calls that nothing can hand off: of libraries with transports of their own, and of threads that know of no request. They are made as ever
and said, and what follows them in the view is made directly too: a handoff would make them again."""

import asyncio
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


def test_a_thread_without_the_context_calls_directly_and_is_told_once(upstream, messages):
    def view():
        got = []
        for _ in range(2):
            thread = threading.Thread(target=lambda: got.append(ask("q", upstream.origin)))
            thread.start()
            thread.join()
        return got

    text, client = run(view, upstream.origin)
    assert text == str(['{"direct": 1}', '{"direct": 2}']) and client.hops == 1
    (told,) = messages("INFO")
    assert "asking.py" in told and "copy_context" in told


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
    assert "calls of aiohttp cannot be handed off" in messages("INFO")[0]
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
    assert "calls of grpc cannot be handed off" in messages("INFO")[0]


def test_websockets(messages):
    pytest.importorskip("websockets.sync.client")
    from websockets.sync.client import connect

    def view():
        try:
            connect("ws://127.0.0.1:1/v1/realtime")
        except OSError:
            return "failed"

    assert run(view, "http://127.0.0.1:1")[0] == "failed"
    assert "calls of websockets cannot be handed off" in messages("INFO")[0]
