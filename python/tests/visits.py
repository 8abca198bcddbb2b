"""Exchanges that a test takes through their visits one by one, as Tarry would: so that several can be interleaved in one process, answers
come late, twice or elsewhere, and a process that has a run is gone. It speaks section 9 of the protocol too: Tarry-Sticky, Tarry-At, Tarry-Wait."""

import io
import json
import secrets
import time

from asking import MODEL

from tarry.alone.stand_in import encode_answer
from tarry.format.message import Answer, parse_calls
from tarry.runs import suspended

FEATURES = "relay, resume, replay, notify, on-error, keep-alive, sticky, wait"
SILENT = "relay, resume, replay"


class Exchange:
    def __init__(self, app, path="/", body=b"", method="POST", headers=None, features=FEATURES, **limits):
        self.app, self.path, self.body, self.method, self.headers = app, path, body, method, headers or {}
        self.features = features
        self.origins = MODEL
        self.limits = {
            "max-hops": 64,
            "max-calls": 64,
            "replay-body": 10 << 20,
            "call": 32 << 20,
            "state": 8000,
            "wait": 60,
            **limits,
        }
        self.id = secrets.token_hex(8)
        self.started = time.time()
        self.hop, self.attempt = 0, 1
        self.record, self.state, self.kind = b"", "", "request"
        self.calls, self.waits = [], []
        self.status, self.fields, self.data = 0, {}, b""
        self.done = self.suspended = False

    def environ(self, **more):
        data = self.body + self.record
        environ = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": self.path.split("?")[0],
            "QUERY_STRING": self.path.partition("?")[2],
            "SERVER_NAME": "testserver",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input": io.BytesIO(data),
            "CONTENT_LENGTH": str(len(data)),
            "HTTP_TARRY_VERSION": "1",
            "HTTP_TARRY_FEATURES": self.features,
            "HTTP_TARRY_EXCHANGE": self.id,
            "HTTP_TARRY_HOP": str(self.hop),
            "HTTP_TARRY_KIND": self.kind,
            "HTTP_TARRY_ORIGINS": self.origins,
            "HTTP_TARRY_LIMITS": ", ".join(f"{name}={value}" for name, value in self.limits.items()),
            "HTTP_TARRY_STARTED": f"{self.started:.3f}",
        }
        if self.state:
            environ["HTTP_TARRY_STATE"] = self.state
        if self.kind == "replay":
            environ["HTTP_TARRY_BODY_LENGTH"] = str(len(self.body))
        if self.attempt > 1:
            environ["HTTP_TARRY_ATTEMPT"] = str(self.attempt)
        for name, value in self.headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key == "CONTENT_TYPE" else f"HTTP_{key}"] = value
        return {**environ, **more}

    def visit(self, **more):
        """One visit of a worker."""
        head = []

        def start_response(status, headers, exc_info=None):
            head[:] = [int(status.split()[0]), headers]
            return lambda data: None

        body = self.app(self.environ(**more), start_response)
        try:
            data = b"".join(body)
        finally:
            if hasattr(body, "close"):
                body.close()
        return self.received(head[0], head[1], data)

    def received(self, status, headers, data):
        self.status, self.fields = status, {}
        for name, value in headers:
            self.fields.setdefault(name.lower(), []).append(value)
        self.done = "tarry-then" not in self.fields
        self.data, self.calls = (data, []) if self.done else (b"", parse_calls(data))
        self.suspended = "tarry-sticky" in self.fields
        if not self.done:
            assert self.fields["tarry-then"] == ["replay"]
            self.state = self.fields.get("tarry-state", [""])[0]
            wait = self.fields.get("tarry-wait")
            if wait:
                self.waits.append(float(wait[0]))
            assert self.calls or wait, "a handoff without a call and without Tarry-Wait"
        return self

    def answer(self, text=None):
        """What Tarry does between two visits. `text`: of each answer, or a function of the call's body, or an Answer."""
        for call_id, call in self.calls:
            made = text(call) if callable(text) else text
            if made is None:
                made = f"echo:{json.loads(call.body)}" if call.body else "echo"
            if not isinstance(made, Answer):
                made = Answer(200, "OK", [("Content-Type", "text/plain")], made.encode())
            self.record += encode_answer(made, call_id)
        self.hop += 1
        self.attempt, self.kind = 1, "replay"
        return self

    def go(self, text=None, **more):
        return self.answer(text).visit(**more)

    def to_end(self, text=None):
        if self.kind == "request" and not self.calls:
            self.visit()
        while not self.done:
            self.go(text)
        return self

    @property
    def text(self):
        assert self.done and self.status == 200, (self.status, self.data)
        return self.data.decode()

    def json(self):
        return json.loads(self.text)


_elsewhere = []


def lose():
    """As if the visits that follow came to another process: the runs stay as they are, out of reach."""
    _elsewhere.extend(suspended.table.runs.values())
    suspended.table.runs.clear()
    suspended.table.hops.clear()
