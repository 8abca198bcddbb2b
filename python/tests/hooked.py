"""`gunicorn -c python:tarry.gunicorn` with a project that knows nothing of Tarry, and a model whose answers come as a test sends them."""

import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

from behind import DEADLINE, HERE, Reply, eventually, find_binary  # noqa: F401 (skips where there is no Tarry)
from harness import Client, Gate, free_port, request
from harness.apps import Program


_folder = tempfile.TemporaryDirectory(prefix="tarry-live-")


class Hooked(Program):
    """One sync worker, unless the options say otherwise."""

    what = "gunicorn with Tarry"

    def __init__(self, bed, model, app="streams.django_site", args=(), conf="", **env):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="live", dir="/tmp"))  # short, for the sockets' paths
        self.address = f"127.0.0.1:{free_port()}"
        (self.folder / "tarry.conf").write_text(conf)
        command = [sys.executable, "-m", "gunicorn", "-c", "python:tarry.gunicorn", "--bind", self.address, *args, f"{app}:application"]
        self.env = {
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{HERE.parent}:{HERE}",
            "TARRY_BINARY": find_binary(),
            "TMPDIR": str(self.folder),
            "MODEL_ORIGIN": model.origin,
            "TARRY_ORIGINS": model.origin,
            "DATABASE": str(self.folder / "db.sqlite3"),
            "NOTES": str(self.folder / "notes"),
            **env,
        }
        if app == "streams.django_site":
            shutil.copyfile(_database(), self.env["DATABASE"])
        super().__init__(command, self.env, str(self.folder))
        bed.add(self)
        eventually(self._is_ready, "gunicorn to answer")

    def _is_ready(self):
        assert self.process.poll() is None, self.output
        try:
            return self.get("/ok").status == 200
        except OSError:
            return False

    def get(self, target, headers=(), method="GET"):
        return request(self.address, method, target, headers, timeout=DEADLINE)

    def stream(self, target, headers=()):
        """A response of which so far only the request has been sent."""
        return Stream(self.address, target, headers)

    def workers(self):
        """The processes that serve the app."""
        found = []
        for pid in pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            try:
                line = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue  # it has just ended
            if b"gunicorn" in line and not line.startswith(b"tarry"):
                found.append(int(pid))
        return found

    def notes(self):
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def groups(self):
        """The rows that views have written."""
        import sqlite3

        with sqlite3.connect(self.folder / "db.sqlite3", timeout=DEADLINE) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM auth_group ORDER BY id")]

    def stop(self):
        super().stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@functools.lru_cache(maxsize=None)
def _database():
    """With the project's tables, for all sites of this process."""
    path = os.path.join(_folder.name, "db.sqlite3")
    env = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}", "MODEL_ORIGIN": "http://127.0.0.1:9", "DATABASE": path, "NOTES": os.devnull}
    subprocess.run([sys.executable, "-m", "streams.django_site"], env=env, check=True)
    return path


class Stream:
    """A client that reads as the bytes come."""

    def __init__(self, address, target, headers=()):
        self.client = Client(address)
        self.client.send_request("GET", target, headers)
        self.response = None

    def until(self, text):
        """Reads until that has come: it fails where the response is held back."""
        if self.response is None:
            self.response = self.client.begin()
        self.response.until(text.encode())
        return self

    def rest(self):
        """To its end: all of the body. Raises Truncated if it is cut."""
        if self.response is None:
            self.response = self.client.begin()
        return self.response.read().decode()

    def close(self):
        self.client.close()


class Model:
    """The service. Its answers are told apart by what was asked: the user's message."""

    def __init__(self, bed):
        self._feeds = {}
        self._lock = threading.Lock()
        self.server = bed.upstream(self._answer, backlog=1024)
        self.origin = self.server.origin

    def asked(self, name, over=lambda: False):
        """The answer to that question, once it is asked. `over`: there is no sense in waiting any more."""
        eventually(lambda: name in self._feeds or over(), f"somebody to ask {name!r} (so far {sorted(self._feeds)})")
        assert name in self._feeds, f"nobody asked {name!r}"
        return self._feeds[name]

    def times(self, name):
        return self._feeds[name].times if name in self._feeds else 0

    def _answer(self, asked, connection):
        body = json.loads(asked.body)
        format_ = _format(asked.path, body)
        name = _name(body)
        if format_ is whole:
            return Reply(200, json.dumps(_whole(f"echo:{name}")).encode(), {"Content-Type": "application/json"})
        with self._lock:
            before = self._feeds.get(name)
            feed = self._feeds[name] = Feed(connection, format_, before.times + 1 if before else 1)
        feed.run()
        return None


class Feed:
    """A streamed answer: each method sends what the service would."""

    def __init__(self, connection, format_, times):
        self._connection, self._format, self.times = connection, format_, times
        self._done, self.is_reset = Gate(), Gate()
        connection.send_head(200, headers={"Content-Type": "text/plain" if format_ is text else "text/event-stream"})
        for event in format_("begin", ""):
            connection.send_chunk(event)

    def run(self):
        while not self._done.opened(0.02) and not self._connection.server.stopping.is_set():
            if self._connection.peer_is_gone():
                self._connection.close()
                self.is_reset.open()
                return

    def send(self, *tokens):
        for token in tokens:
            for event in self._format("token", token):
                self._connection.send_chunk(event)

    def end(self, *tokens):
        self.send(*tokens)
        for event in self._format("end", ""):
            self._connection.send_chunk(event)
        self._connection.end_chunks()
        self._done.open()

    def cut(self):
        self._connection.close()
        self._done.open()


def _name(body):
    if "name" in body:
        return body["name"]
    if "contents" in body:
        return body["contents"][0]["parts"][0]["text"]
    return body["messages"][-1]["content"]


def _format(path, body):
    if path.startswith("/plain"):
        return text
    if ":streamGenerateContent" in path:
        return gemini
    if path.startswith("/v1/messages"):
        return anthropic
    return openai if body.get("stream") else whole


def _event(value, kind=None):
    return (f"event: {kind}\n" if kind else "") + f"data: {json.dumps(value)}\n\n"


def whole(what, token):
    raise AssertionError("not streamed")


def text(what, token):
    return [f"{token}\n"] if what == "token" else []


def openai(what, token):
    if what == "end":
        return ["data: [DONE]\n\n"]
    delta = {"role": "assistant", "content": ""} if what == "begin" else {"content": token}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return [_event({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})]


def anthropic(what, token):
    if what == "begin":
        message = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": None, "stop_sequence": None,
                   "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        return [_event({"type": "message_start", "message": message}, "message_start"), _event(block, "content_block_start")]
    if what == "end":
        delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 5}}
        return [_event({"type": "content_block_stop", "index": 0}, "content_block_stop"), _event(delta, "message_delta"),
                _event({"type": "message_stop"}, "message_stop")]  # fmt: skip
    return [_event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token}}, "content_block_delta")]


def gemini(what, token):
    if what == "begin":
        return []
    candidate = {"content": {"role": "model", "parts": [{"text": token}]}, "index": 0}
    return [_event({"candidates": [{**candidate, **({"finishReason": "STOP"} if what == "end" else {})}]})]


def _whole(content):
    message = {"role": "assistant", "content": content}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "message": message,
            "finish_reason": "stop"}]}  # fmt: skip
