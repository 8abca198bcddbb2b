"""What is known about endpoints holds in all processes, over reloads, a process that is replaced, and an upgrade."""

import json
import os
import pathlib
import re
import signal
import subprocess

import pytest
from harness import Client, Gate, Reply, eventually
from harness.base import DEADLINE
from harness.tarry import find_binary

TARRYCTL = str(pathlib.Path(find_binary()).parent / "tarryctl")
PROCESSES = 2
MANY = 24  # connections, so that each process gets some: the kernel spreads them by their ports


class Service:
    """An endpoint whose answer the test sets, and which counts."""

    def __init__(self, bed, answer=None):
        self.answer = answer or (lambda r, c: Reply(200, b"ok"))
        self.keys = []
        self.server = bed.upstream(self.on_request)
        self.origin = self.server.origin

    def on_request(self, r, c):
        self.keys.append(r.headers.get("authorization"))
        return self.answer(r, c)

    count = property(lambda self: len(self.keys))


def status(code, *headers):
    return lambda r, c: Reply(code, b"{}", list(headers))


class Site:
    """Two endpoints, of which the second is asked only if the first cannot be, behind a gateway route."""

    def __init__(self, bed, first, second=None, keys=("a", "b"), **options):
        self.bed = bed
        self.services = [Service(bed, first)] + ([Service(bed, second)] if second else [])
        self.conf = bed.conf([], self.services[0].server)
        self.conf.top.update(processes=PROCESSES, shutdown_timeout="20s")
        self.conf.up.update({"retries": 2, "retry_first_pause": "10ms", "retry_max_pause": "20ms", **options})
        if second:
            del self.conf.up["origin"]
            self.conf.endpoints["up"] = {
                name: {"origin": s.origin, "tier": i + 1, "set_header": [f"Authorization: Bearer {keys[i]}"]}
                for i, (name, s) in enumerate(zip("ab", self.services))}
        self.conf.routes = [("/", {"upstream": "up"})]
        self.socket = bed.folder / "control.sock"
        self.conf.admins = {f"unix:{bed.folder}/admin": {}, f"unix:{self.socket}": {"control": True}}
        self.tarry = bed.tarry(self.conf)

    def ask(self, **more):
        return self.tarry.post("/v1/x", b"{}", [("Content-Type", "application/json")], **more)

    def ask_all(self, n=MANY):
        return [self.ask().status for _ in range(n)]

    def ctl(self, *args):
        return subprocess.run([TARRYCTL, "-s", str(self.socket), *args], capture_output=True, text=True, timeout=DEADLINE, check=True).stdout

    def states(self, endpoint="a"):
        """Of each process."""
        return [r["state"] for r in json.loads(self.ctl("-j", "show", "upstreams")) if r["endpoint"] == endpoint]

    def all_are(self, state, endpoint="a"):
        return self.states(endpoint) == [state] * PROCESSES

    def counts(self):
        return [s.count for s in self.services]

    def lines(self, text):
        return [line for line in self.tarry.lines if text in line]


def test_a_rest_holds_in_all_processes_and_over_a_reload(bed):
    site = Site(bed, status(429, ("Retry-After", "600")), status(200), retry_after_max="1h", total_timeout="2h")
    assert site.ask().status == 200
    assert site.all_are("resting")
    assert site.ask_all() == [200] * MANY and site.counts() == [1, MANY + 1]
    site.conf.up["idle_timeout"] = "77s"
    site.tarry.reload(site.conf)
    eventually(lambda: len(site.lines("reloaded")) == PROCESSES, "all to reload")
    assert site.all_are("resting") and site.ask_all() == [200] * MANY and site.services[0].count == 1
    assert json.loads(site.tarry.ask_admin("/status"))["upstreams"]["up"]["endpoints"]["a"]["state"] == "resting"
    eventually(lambda: site.tarry.metric('tarry_endpoint_state{upstream="up",endpoint="a",state="resting"}') == 1, "the metric")


def test_a_key_that_is_refused_is_out_everywhere_until_another_comes(bed):
    site = Site(bed, lambda r, c: Reply(401 if r.headers.get("authorization") == "Bearer a" else 200, b"{}"), status(200))
    assert site.ask_all() == [200] * MANY and site.services[0].count == 1
    assert site.all_are("out") and site.ask_all() == [200] * MANY and site.services[0].count == 1
    eventually(lambda: site.lines("refuses its key"), "the log to say so")
    told = site.lines("refuses its key")
    assert len(told) == 1 and "reload" in told[0]
    site.conf.endpoints["up"]["a"]["set_header"] = ["Authorization: Bearer a2"]
    site.tarry.reload(site.conf)
    eventually(lambda: site.all_are("ready"), "both to have the new key")
    assert site.ask_all() == [200] * MANY and site.services[0].keys[1:] == ["Bearer a2"] * MANY
    # What was known of the old one is known when it comes back.
    site.conf.endpoints["up"]["a"]["set_header"] = ["Authorization: Bearer a"]
    site.tarry.reload(site.conf)
    eventually(lambda: site.all_are("out"), "both to have the old key")
    dump = pathlib.Path(f"/proc/{site.tarry.pid}/environ").read_bytes()  # the keys are in the conf, not in what is passed on
    assert b"Bearer" not in dump


def replace_children(site):
    old = site.tarry.children()
    before = len(site.lines(" started"))
    pids = {r["pid"] for r in map(json.loads, site.ctl("-j", "show", "process").splitlines())}
    assert pids <= set(old)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(site.lines(" started")) == before + PROCESSES, "others to take their place")
    # tarryctl fails while one of them does not listen yet.
    eventually(lambda: len(json.loads(quietly(site))) == PROCESSES * len(site.services), "both to answer")


def quietly(site):
    done = subprocess.run([TARRYCTL, "-s", str(site.socket), "-j", "show", "upstreams"], capture_output=True, text=True, timeout=DEADLINE)
    return done.stdout if done.returncode == 0 else "[]"


def test_it_outlives_the_processes(bed):
    site = Site(bed, status(401), status(200))
    site.ask()
    replace_children(site)
    assert site.all_are("out") and site.ask_all() == [200] * MANY and site.services[0].count == 1


def test_it_outlives_an_upgrade(bed):
    site = Site(bed, status(401), status(200))
    site.ask()
    site.ctl("pause", "up/b")
    site.tarry.signal(signal.SIGUSR2)
    line = site.tarry.wait_log(re.compile(r"upgrade: process (\d+) serves"))
    new = int(re.search(r"process (\d+) serves", line)[1])
    try:
        site.tarry.process.wait(DEADLINE)
        assert (site.states("a"), site.states("b")) == (["out"] * PROCESSES, ["paused"] * PROCESSES)
        site.ctl("resume", "up")
        assert site.states("b") == ["ready"] * PROCESSES and site.services[0].count == 1
    finally:
        os.kill(new, signal.SIGTERM)
        site.tarry.process = None
        eventually(lambda: not pathlib.Path(f"/proc/{new}/exe").exists(), "it to end")


def test_if_all_rest_the_first_is_waited_for(bed):
    first = iter([Reply(429, b"{}", [("retry-after-ms", "300")])])
    site = Site(bed, lambda r, c: next(first, Reply(200, b"ok")), status(429, ("Retry-After", "600")), retry_after_max="1h", total_timeout="1m")
    assert site.ask_all(5) == [200] * 5
    assert site.counts() == [6, 1]


def test_a_rest_beyond_the_deadline_is_said_at_once(bed):
    site = Site(bed, status(429, ("Retry-After", "600")), status(429, ("Retry-After", "500")), retry_after_max="1h", total_timeout="1m")
    assert site.ask().status == 429
    counts = site.counts()
    answer = site.ask()
    assert answer.status == 503 and "destination_unavailable" in answer.headers.get("proxy-status")
    assert site.counts() == counts
    assert "resting for " in site.tarry.wait_log(lambda line: "no endpoint takes calls now" in line)


def broken(bed, gate, **options):
    """The breaker of a is open; what comes next waits for the gate."""
    site = Site(bed, status(500), status(200), breaker_failures=3, breaker_pause="300ms", **options)
    assert site.ask_all(3) == [200] * 3 and site.services[0].count == 3
    eventually(lambda: len(site.lines("fails too many calls")) == 1, "the log to say so")
    site.services[0].answer = lambda r, c: (gate.wait(), Reply(200, b"ok"))[1]
    return site


def begin_probe(site):
    """Asks until one of them is the probe: the client that waits for it."""
    n = site.services[0].count
    while True:
        client = site.bed.add(site.tarry.client())
        client.stop = client.close
        seen = site.services[1].count
        client.send_request("POST", "/v1/x", [("Content-Type", "application/json")], b"{}")
        eventually(lambda: site.services[0].count > n or site.services[1].count > seen, "the call to arrive")
        if site.services[0].count > n:
            return client


def test_one_call_is_the_probe_of_all_processes(bed):
    gate = Gate()
    site = broken(bed, gate)
    client = begin_probe(site)
    assert site.services[0].count == 4 and site.all_are("probing")
    assert site.ask_all() == [200] * MANY and site.services[0].count == 4
    gate.open()
    assert client.begin().status == 200
    eventually(lambda: site.all_are("ready"), "it to serve again")
    eventually(lambda: len(site.lines("serves again")) == 1, "the log to say so")
    site.ask_all(5)
    assert site.services[0].count == 9


def test_a_probe_whose_client_leaves_decides_nothing(bed):
    gate = Gate()
    site = broken(bed, gate)
    begin_probe(site).close()
    client = begin_probe(site)  # another one, and the breaker is still open
    assert site.services[0].count == 5 and site.all_are("probing")
    gate.open()
    assert client.begin().status == 200


def test_a_probe_that_gets_a_429_decides_nothing(bed):
    site = broken(bed, Gate())
    site.services[0].answer = status(429)
    before = site.services[0].count
    eventually(lambda: site.ask().status == 200 and site.services[0].count >= before + 3, "further probes")
    assert not site.lines("serves again") and len(site.lines("fails too many calls")) == 1


def test_a_probe_ends_with_its_process(bed):
    gate = Gate()
    site = broken(bed, gate)
    begin_probe(site)
    replace_children(site)
    client = begin_probe(site)
    gate.open()
    assert client.begin().status == 200


def test_a_client_that_leaves_and_a_429_do_not_open_the_breaker(bed):
    gate = Gate()
    site = Site(bed, status(429), status(200), breaker_failures=2, breaker_pause="1m")
    assert site.ask_all(6) == [200] * 6
    site.services[0].answer = lambda r, c: (gate.wait(), Reply(200, b"ok"))[1]
    for _ in range(4):
        n = site.services[0].count
        with site.tarry.client() as client:
            client.send_request("POST", "/v1/x", [("Content-Type", "application/json")], b"{}")
            eventually(lambda: site.services[0].count > n, "the call to arrive")
    gate.open()
    assert site.all_are("ready")


def test_the_breaker_goes_by_rate(bed):
    """Six of sixteen fail: three in a row, twice."""
    answers = iter([200] * 10 + [500] * 3 + [200] + [500] * 3)
    site = Site(bed, lambda r, c: Reply(next(answers, 200), b"{}"), status(200), breaker_failures=3, breaker_pause="1m")
    site.ask_all(17)
    assert site.all_are("ready") and site.services[0].count == 17
    site.services[0].answer = status(500)
    site.ask_all(6)
    assert site.all_are("broken")


def test_an_operator_pauses_an_endpoint_in_all_processes(bed):
    site = Site(bed, status(200), status(200), total_timeout="1m")
    assert "paused" in site.ctl("pause", "up/a")
    assert site.all_are("paused") and site.all_are("ready", "b")
    assert site.ask_all() == [200] * MANY and site.counts() == [0, MANY]
    site.conf.endpoints["up"]["a"]["set_header"] = ["Authorization: Bearer other"]
    site.tarry.reload(site.conf)
    eventually(lambda: len(site.lines("reloaded")) == PROCESSES, "all to reload")
    assert site.all_are("paused")
    replace_children(site)
    assert site.all_are("paused") and site.ask_all(4) == [200] * 4 and site.services[0].count == 0
    site.ctl("pause", "up")
    waiting = [bed.add(site.tarry.client()) for _ in range(4)]
    for c in waiting:
        c.stop = c.close
        c.send_request("POST", "/v1/x", [("Content-Type", "application/json")], b"{}")
    eventually(lambda: sum(r["state"] == "parked" for r in json.loads(site.ctl("-j", "show", "exchanges"))) == 4, "them to wait")
    site.ctl("resume", "up")
    assert [c.begin().status for c in waiting] == [200] * 4
    assert site.ask().status == 200 and site.services[0].count == 5


def test_a_pause_of_the_only_endpoint_ends_with_the_deadline(bed):
    site = Site(bed, status(200), total_timeout="200ms")
    site.ctl("pause", "up")
    answer = site.ask()
    assert answer.status == 503 and "destination_unavailable" in answer.headers.get("proxy-status")
    assert site.services[0].count == 0
    site.tarry.wait_log(lambda line: "while no endpoint took calls (paused)" in line)


def test_a_pool_stays_paused_when_a_process_is_replaced(bed):
    site = Site(bed, status(200))
    worker = bed.worker(lambda r, c: Reply(200, b"ok"))
    site.conf.servers = {worker.address: {"slots": 4}}
    site.conf.routes = [("/", {"upstream": "up"}), ("/app", {"workers": "app"})]
    site.tarry.reload(site.conf)
    eventually(lambda: len(site.lines("reloaded")) == PROCESSES, "all to reload")
    site.ctl("pause", "app")
    replace_children(site)
    assert [r["paused"] for r in json.loads(site.ctl("-j", "show", "workers"))] == [True] * PROCESSES
    waiting = [bed.add(site.tarry.client()) for _ in range(8)]
    for c in waiting:
        c.stop = c.close
        c.send_request("GET", "/app")
    eventually(lambda: sum(r["state"] == "queued" for r in json.loads(site.ctl("-j", "show", "exchanges"))) == 8, "them to wait")
    site.ctl("resume", "app")
    assert [c.begin().status for c in waiting] == [200] * 8


@pytest.mark.parametrize("what", ["nothing", "up/nothing", "app/a"])
def test_there_is_nothing_of_that_name_to_pause(bed, what):
    site = Site(bed, status(200))
    done = subprocess.run([TARRYCTL, "-s", str(site.socket), "pause", what], capture_output=True, text=True)
    assert done.returncode == 1 and f'there is no pool, upstream or endpoint "{what}"' in done.stderr


def test_retries_have_a_budget_over_all_processes(bed):
    """An outage is not multiplied, and the answer says that it has not been tried again."""
    site = Site(bed, status(429), retry_budget=0, retry_budget_min=3, retry_budget_window="1h")
    answers = [site.ask() for _ in range(MANY)]
    assert {a.status for a in answers} == {429} and site.services[0].count == MANY + 3
    assert answers[-1].headers.get("x-should-retry") == "false"
    entries = site.tarry.access.wait_for(lambda e: e.get("end") == "retry_budget", n=MANY - 2)
    site.tarry.wait_log(lambda line: "the retry budget is used up" in line)
    assert entries and site.tarry.metric("tarry_retries_denied_total") >= MANY - 2


def test_a_budget_is_a_share_of_the_calls(bed):
    site = Site(bed, status(503), retry_budget=50, retry_budget_min=0, retry_budget_window="1h", retries=5)
    assert set(site.ask_all(20)) == {503}
    assert site.services[0].count == 30


def test_another_endpoint_that_is_ready_takes_nothing_from_the_budget(bed):
    site = Site(bed, status(429), status(200), retry_budget=0, retry_budget_min=0)
    assert site.ask_all() == [200] * MANY
