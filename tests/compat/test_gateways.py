"""Unmodified SDKs at gateway routes: nothing of Tarry's is in the program, and there is no worker."""

import asyncio
import json
import os
import pathlib
import queue
import subprocess
import threading
import time

import pytest
import websockets

import gateways
import stacks
from harness import DEADLINE, eventually

HEADERS = {"openai": ["Authorization: Bearer conf"], "anthropic": ["x-api-key: conf", "?anthropic-version: 2023-06-01"],
           "google-genai": ["x-goog-api-key: conf"]}
RESULTS = {"embeddings": [1536, 1536], "token count": True, "files": True, "cancelled": "left"}
BATCHES = {"openai": ["echo:one"] * 3, "anthropic": ["echo:one", "echo:two"], "google-genai": ["echo:request"] * 2}


class Realtime:
    """A service of WebSockets, as OpenAI's realtime API: it has a session, and answers each response.create."""

    what = "realtime"

    def __init__(self):
        self.asked = []  # (path, the keys that came)
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(self._serve())
        self.origin = "http://127.0.0.1:{}".format(self.server.sockets[0].getsockname()[1])
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    async def _serve(self):
        return await websockets.serve(self._talk, "127.0.0.1", 0)

    async def _talk(self, socket):
        self.asked.append((socket.path, socket.request_headers.get_all("Authorization")))
        await self._say(socket, "session.created", session={"type": "realtime"})
        async for message in socket:
            kind = json.loads(message)["type"]
            if kind == "session.update":
                await self._say(socket, "session.updated", session={"type": "realtime"})
            elif kind == "response.create":
                await self._say(socket, "response.output_text.delta", delta="hi", response_id="r", item_id="i", output_index=0, content_index=0)
                await self._say(socket, "response.done", response={"id": "r", "status": "completed"})

    @staticmethod
    async def _say(socket, kind, **more):
        await socket.send(json.dumps({"type": kind, "event_id": f"event_{kind}", **more}))

    async def _close(self):
        self.server.close()
        await self.server.wait_closed()

    def stop(self):
        asyncio.run_coroutine_threadsafe(self._close(), self.loop).result(DEADLINE)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE)
        self.loop.close()


class Run:
    """One program, which makes all calls of an SDK one after another; `said` is what it told of each case."""

    def __init__(self, bed, sdk, language):
        self.sdk, self.language = sdk, language
        self.provider = bed.provider()
        port = self.provider.https.rpartition(":")[2]
        conf = bed.conf([], f"https://localhost:{port}")
        conf.up.update(set_header=[*HEADERS[sdk], "X-Via: tarry"], ca_file=self.provider.ca, retry_first_pause="20ms", retry_max_pause="50ms",
                       retries=gateways.RETRIES, breaker_failures=1000)
        conf.routes.clear()
        conf.routes.append((f"/{sdk}/", {"upstream": "up", "prefix_rewrite": "/"}))
        address, self.base, self.trusted = conf.address, f"http://{conf.address}", {}
        if language == "javascript":  # its realtime API speaks TLS only
            certs = pathlib.Path(self.provider.ca).parent
            conf.listens[address] = {"certificate": str(certs / "leaf.pem"), "private_key": str(certs / "leaf.key")}
            self.base = f"https://localhost:{address.rpartition(':')[2]}"
            self.trusted = {"NODE_EXTRA_CA_CERTS": self.provider.ca}
        self.realtime = bed.add(Realtime())
        conf.upstreams["realtime"] = {"origin": self.realtime.origin, "set_header": HEADERS["openai"]}
        conf.routes.append(("/v1/realtime", {"upstream": "realtime", "websocket": True}))
        self.tarry = bed.tarry(conf)
        bed.add(self)
        self.said = self._read()
        eventually(lambda: self.records("cancelled"), "the end of the call that was left")
        self.process.stdin.close()
        assert self.process.wait(DEADLINE) == 0

    def _collect(self, lines):
        for line in self.process.stdout:
            lines.put(line)
        lines.put(None)

    def _read(self):
        if self.language == "python":
            command = [gateways.environments.ensure(gateways.LOCK) / "bin/python", stacks.APP / "gateway.py"]
        else:
            command = [gateways.environments.ensure(gateways.LOCK) / "bin/node", stacks.APP / "gateway.mjs"]
        self.process = subprocess.Popen([*command, self.sdk, f"{self.base}/{self.sdk}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=dict(os.environ, NODE_SDKS=str(gateways.NODE), REALTIME=f"{self.base}/v1", **self.trusted))
        lines = queue.Queue()
        threading.Thread(target=self._collect, args=(lines,), daemon=True).start()
        said, until = {}, time.monotonic() + DEADLINE * 4
        while len(said) < len(gateways.cases_of(self.sdk)):
            line = lines.get(timeout=max(until - time.monotonic(), 0.1))
            assert line, f"the program ended after {sorted(said)}"
            told = json.loads(line)
            said[told["case"]] = told
        return said

    def records(self, case):
        return [r for r in self.provider.records if r["key"] == f"{self.sdk}/{self.language}/{case}"]

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    from harness.bed import Bed

    made, beds = {}, []

    def run(sdk, language):
        if (sdk, language) not in made:
            beds.append(Bed(tmp_path_factory.mktemp("run"), None))
            made[sdk, language] = None
            made[sdk, language] = Run(beds[-1], sdk, language)
        assert made[sdk, language], "it did not come to its end, see the first failure"
        return made[sdk, language]

    yield run
    for bed in beds:
        bed.stop()


CELLS = [pytest.param(sdk, language, case, marks=pytest.mark.xdist_group(f"{sdk}-{language}"))
         for sdk in gateways.SDKS for language in gateways.LANGUAGES for case in gateways.cases_of(sdk)]


def requests_at_tarry(run, status):
    return [line for line in run.tarry.access.lines if line["status"] == status]


@pytest.mark.parametrize("sdk, language, case", CELLS)
def test_an_sdk_at_a_gateway_route(runs, found, sdk, language, case):
    found("route", sdk=sdk, language=language, case=case)
    run = runs(sdk, language)
    said, records = run.said[case], run.records(case)
    assert "error" not in said, said
    result = said["result"]
    if case in gateways.ERRORS:
        assert result["by"] == gateways.error_of(sdk, language, case), result
    elif case == "batch":
        assert result == BATCHES[sdk]
    elif case == "realtime":
        assert result == ["session.created", "session.updated", "response.output_text.delta", "response.done"]
        assert run.realtime.asked == [("/v1/realtime?model=m", ["Bearer conf"])]
    elif case in RESULTS:
        assert result == RESULTS[case]
    else:
        assert result.startswith("echo:" if case == "tools" else "echo:Why? "), result
    calls = gateways.CASES[case][1]
    assert calls is None or len(records) == calls, [r["status"] for r in records]
    if case == "cancelled":
        assert records[0]["end"] == "reset-by-peer"
    if calls == gateways.EVERY:
        assert len({r["status"] for r in records}) == 1 and result["status"] == records[0]["status"]
        assert len(requests_at_tarry(run, records[0]["status"])) == 1, "the SDK has tried again what Tarry had tried"
    if case in ("401", "429") and sdk != "google-genai":
        assert result["id"], "the service's id of the request"


@pytest.mark.parametrize("sdk, language", [pytest.param(sdk, language, marks=pytest.mark.xdist_group(f"{sdk}-{language}"))
                                           for sdk in gateways.SDKS for language in gateways.LANGUAGES])
def test_no_request_goes_past_tarry(runs, sdk, language):
    """Not even to the absolute URLs in the service's answers: a batch's results, an upload."""
    past = [r["path"] for r in runs(sdk, language).provider.records if ["X-Via", "tarry"] not in r["headers"] and ["x-via", "tarry"] not in r["headers"]]
    assert not past
