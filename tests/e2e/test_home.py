"""What an account keeps is asked of the endpoint that has it: stored responses, files, batches."""

import itertools
import json
import os
import signal
import subprocess

import pytest
from harness import Reply, eventually
from harness.base import DEADLINE
from test_verdicts import TARRYCTL, quietly

PROCESSES = 2
JSON = [("Content-Type", "application/json")]


class Account:
    """An endpoint that stores responses, and knows only its own."""

    def __init__(self, bed, name, ids):
        self.name, self.ids, self.seen, self.kept = name, ids, [], set()
        self.broken = None  # or the answer to everything
        self.server = bed.upstream(self.on_request)

    def on_request(self, r, c):
        self.seen.append((r.method, r.target))
        if self.broken:
            return self.broken
        if r.method == "GET":
            name = r.target.split("?")[0].rpartition("/")[2]
            return Reply(200 if name in self.kept else 404, json.dumps({"id": name, "at": self.name}), JSON)
        body = json.loads(r.body or b"{}")
        before = body.get("previous_response_id")
        if before and before not in self.kept:
            return Reply(400, json.dumps({"error": {"message": "Previous response not found", "code": "previous_response_not_found"}}), JSON)
        new = f"resp_{next(self.ids)}"
        self.kept.add(new)
        if body.get("stream"):
            events = [{"type": "response.created", "response": {"id": new}}, {"type": "response.output_text.delta", "delta": "hi"},
                      {"type": "response.completed", "response": {"id": new}}]
            return Reply(200, "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events), [("Content-Type", "text/event-stream")])
        return Reply(200, json.dumps({"id": new, "object": "response", "output": [{"type": "message"}], "at": self.name}), JSON)

    count = property(lambda self: len(self.seen))


class Site:
    def __init__(self, bed, **options):
        ids = itertools.count()
        self.accounts = {name: Account(bed, name, ids) for name in "ab"}
        self.conf = bed.conf([], self.accounts["a"].server)
        self.conf.top.update(processes=PROCESSES)
        del self.conf.up["origin"]
        self.conf.up.update({"retry_max_pause": "50ms", **options})
        self.conf.endpoints["up"] = {n: {"origin": a.server.origin} for n, a in self.accounts.items()}
        self.conf.routes = [("/", {"upstream": "up"})]
        self.socket = bed.folder / "control.sock"
        self.conf.admins = {f"unix:{self.socket}": {"control": True}}
        self.services = list(self.accounts)
        self.tarry = bed.tarry(self.conf)

    def ctl(self, *args):
        return subprocess.run([TARRYCTL, "-s", str(self.socket), *args], capture_output=True, text=True, timeout=DEADLINE, check=True).stdout

    def respond(self, **body):
        return self.tarry.post("/v1/responses", json.dumps({"model": "m", "input": "hi", **body}).encode(), JSON)

    def make(self, at, **body):
        """A stored response of that account."""
        for _ in range(200):
            answer = self.respond(**body)
            assert answer.status == 200
            new = [i for i in self.accounts[at].kept if i.encode() + b'"' in answer.body]
            if new:
                return new[0]
        raise AssertionError(f"none of 200 responses was made at {at}")


@pytest.mark.parametrize("stream", [False, True])
def test_a_stored_response_is_asked_of_the_endpoint_that_made_it(bed, stream):
    site = Site(bed)
    ids = {at: site.make(at, stream=stream) for at in "ab"}
    for at, i in [*ids.items()] * 6:  # over connections of their own, so to both processes
        assert site.tarry.get(f"/v1/responses/{i}").status == 200
        follow = site.respond(previous_response_id=i)
        assert follow.status == 200 and json.loads(follow.body)["at"] == at


def test_it_outlives_a_reload_and_the_processes_but_not_a_restart(bed):
    site = Site(bed)
    i = site.make("b")
    site.conf.up["idle_timeout"] = "77s"
    site.tarry.reload(site.conf)
    assert site.tarry.get(f"/v1/responses/{i}").status == 200
    pids = {json.loads(line)["pid"] for line in site.ctl("-j", "show", "process").splitlines()}
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len([line for line in site.tarry.lines if " started" in line]) == PROCESSES, "others to take their place")
    eventually(lambda: len(json.loads(quietly(site))) == 2 * PROCESSES, "both to answer")
    assert [site.tarry.get(f"/v1/responses/{i}").status for _ in range(8)] == [200] * 8
    site.tarry.stop()
    site.tarry.start()
    seen = site.accounts["b"].count
    assert site.tarry.get(f"/v1/responses/{i}").status == 404  # the first endpoint's answer
    assert site.accounts["b"].count == seen


@pytest.mark.parametrize("home", [None, "b"])
@pytest.mark.parametrize("method, target", [("POST", "/v1/files"), ("GET", "/v1/files"), ("POST", "/v1/batches"), ("GET", "/v1/batches/batch_1"),
                                            ("POST", "/v1/threads/t/runs"), ("GET", "/v1/responses/resp_unknown")])
def test_everything_else_is_at_home(bed, home, method, target):
    site = Site(bed, home=home)
    for _ in range(6):
        site.tarry.request(method, target, JSON, b"{}" if method == "POST" else None)
    assert site.accounts[home or "a"].count == 6


def failures():
    return {"500": Reply(500, b"{}"), "429": Reply(429, b"{}"), "401": Reply(401, b"{}")}


@pytest.mark.parametrize("what", sorted(failures()))
def test_another_account_is_not_asked_instead(bed, what):
    site = Site(bed, retries=2)
    i = site.make("b")
    seen = site.accounts["a"].count
    site.accounts["b"].broken = failures()[what]
    assert site.respond(previous_response_id=i).status == int(what)
    assert site.tarry.get(f"/v1/responses/{i}").status == int(what)
    assert site.accounts["a"].count == seen


def test_nor_if_it_cannot_be_reached_or_is_paused(bed):
    site = Site(bed, retries=1, total_timeout="2s")
    i = site.make("b")
    seen = site.accounts["a"].count
    site.ctl("pause", "up/b")
    answer = site.tarry.get(f"/v1/responses/{i}")
    assert answer.status == 503 and "destination_unavailable" in answer.headers.get("proxy-status")
    site.ctl("resume", "up/b")
    site.accounts["b"].server.stop()
    answer = site.tarry.get(f"/v1/responses/{i}")
    assert answer.status == 502 and "connection_refused" in answer.headers.get("proxy-status")
    assert site.accounts["a"].count == seen


def test_an_endpoint_that_has_left_the_conf_is_said(bed):
    site = Site(bed)
    i = site.make("b")
    del site.conf.endpoints["up"]["b"]
    site.conf.endpoints["up"]["c"] = {"origin": site.accounts["a"].server.origin}
    site.tarry.reload(site.conf)
    eventually(lambda: '"endpoint":"b"' not in quietly(site), "both to have the new conf")
    seen = site.accounts["a"].count
    answer = site.tarry.get(f"/v1/responses/{i}")
    assert answer.status == 503 and site.accounts["a"].count == seen
    site.tarry.wait_log(lambda line: "no longer in the conf" in line)


def test_keys_of_one_account_share_what_it_keeps(bed):
    site = Site(bed, stateful=False)
    for _ in range(40):
        site.tarry.get("/v1/files")
    assert site.accounts["a"].count > 0 and site.accounts["b"].count > 0


def test_a_home_that_is_no_endpoint_is_a_mistake(bed):
    site = Site(bed)
    site.conf.up["home"] = "c"
    assert site.tarry.reload(site.conf, refused=True)
    site.tarry.wait_log(lambda line: 'home is "c", which is no endpoint of upstream "up"' in line)
