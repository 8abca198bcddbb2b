"""Memory and descriptors that cannot be had, at every place where they are asked for: only the request at hand dies.

Each scenario is run again and again, and each time another allocation fails: the first one that it makes, the second, and
so on until there are no more. After each of them Tarry must be alive and serve the same scenario well."""

import json
import pathlib
import re
import resource
import select
import signal
import threading
import time

import pytest

from harness import Client, Gate, H2Client, Reply, by_kind, call, eventually, free_port, handoff
from harness.http1 import Truncated, write_head
from harness.nomem import ANYBODY, Shortage
from harness.tarry import run_command
from harness.websockets import agreeing, asking

TEXT = b"text that can be compressed " * 1000
BODY = b"b" * 70000  # more than is kept in memory


def work(r, c):
    if r.kind in ("resume", "replay", "notify"):
        return Reply(200, b"done")
    if r.target == "/text":
        return Reply(200, TEXT, {"Content-Type": "text/plain"})
    if r.target == "/ws/":
        c.send(agreeing(r))
        try:
            c.send(c.wire.exactly(3))
        except (OSError, AssertionError, Truncated):
            pass
        return c.close()
    if r.target == "/notify":
        return handoff("relay", [call("tarry://plain/stream")], notify="/saved")
    if r.target == "/resume":
        return handoff("resume /done", [call("tarry://plain/a", b"prompt"), call("tarry://plain/b")], state="s")
    if r.target == "/replay":
        return handoff("replay", [call("tarry://plain/a")])
    if r.target == "/relay":
        return handoff("relay", [call("tarry://tls/stream")], keep_alive="sse")
    if r.target == "/h2":
        return handoff("resume /done", [call("tarry://h2/x", b"y" * 5000)])
    if r.target == "/gzip":
        return handoff("relay", [call("tarry://plain/a")], gzip=True)
    return Reply(200, b"%d" % len(r.body), {"Set-Cookie": "a=b"})


def model(r, c):
    return Reply(200, b"answer " * 2000, {"Content-Type": "text/event-stream"})


class Tunnelled:
    def __init__(self, status, body):
        self.status, self.body = 200 if status == 101 else status, body


class Site:
    """`patience`: how long anything may take. `gate`: what answers wait for."""

    def __init__(self, bed, patience="1s", gate=None):
        self.bed = bed

        def held(handler):
            return (lambda *args: (gate.wait(), handler(*args))[1]) if gate else handler
        self.shortage = bed.add(Shortage(bed.folder))
        conf = bed.conf(bed.worker(lambda r, c: work(r, c) if r.target != "/" else held(work)(r, c)), slots=8)
        conf.pool.update(response_timeout=patience, resume_wait="1s", abandoned_timeout="1s", notify_first_pause="10ms")
        conf.top.update(header_timeout="1s", body_timeout="1s", send_timeout="1s", keep_alive_timeout="1s")
        plain, secure = bed.upstream(held(model)), bed.tls_upstream(held(model))
        h2 = bed.h2_upstream(held(lambda stream: Reply(200, b"answer " * 2000)))
        for name, up in (("plain", plain), ("tls", secure), ("h2", h2)):
            conf.upstreams[name] = {"origin": up.origin, "retries": 1, "retry_first_pause": "1ms", "first_byte_timeout": patience,
                                    "idle_timeout": patience, "connect_timeout": "1s", "total_timeout": patience, "keep_alive_timeout": "50ms"}
            if name != "plain":
                conf.upstreams[name]["ca_file"] = str(bed.authority.ca)
        conf.routes.append(("/gateway/", {"upstream": "plain"}))
        self.admin = f"127.0.0.1:{free_port()}"
        conf.admins[self.admin] = {}
        certificate, key = bed.authority.leaf("leaf")
        conf.sections["compression"] = {"types": ["text/plain"]}
        conf.routes.append(("/ws/", {"workers": "app", "websocket": True}))
        conf.top["trusted_proxies"] = ["127.0.0.1"]
        self.proxied = f"127.0.0.1:{free_port()}"
        conf.listens[self.proxied] = {"proxy_protocol": True}
        self.tls = f"127.0.0.1:{free_port()}"
        conf.listens[self.tls] = {"certificate": str(certificate), "private_key": str(key)}
        self.context = bed.authority.client_context()
        self.conf, self.tarry = conf, bed.tarry(conf, env=self.shortage.env)
        # Every allocation at first, then a part of them: more of them with a sanitizer, which makes more.
        self.dense = 10 if self.tarry.sanitized else 40

    def ask(self, target, body=None):
        with self.tarry.client() as c:
            return c.request("POST" if body is not None else "GET", target, {"Cookie": "c=d", "X-Long": "x" * 2000}, body)

    def over_tls(self, target):
        with Client(self.tls, tls=self.context, server_name="localhost") as c:
            return c.request("GET", target)

    def over_h2(self, target):
        with H2Client(self.tarry.address) as c:
            return c.request("GET", target)

    def over_tls_and_h2(self, target):
        with H2Client(self.tls, tls=self.bed.authority.client_context(alpn=("h2",))) as c:
            return c.request("GET", target)

    def compressed(self, encoding):
        with self.tarry.client() as c:
            got = c.request("GET", "/text", {"Accept-Encoding": encoding})
        assert got.headers.get("Content-Encoding") == encoding or got.body == TEXT
        return got

    def websocket(self):
        with self.tarry.client() as c:
            c.send(write_head("GET /ws/ HTTP/1.1", [("Host", "site"), *asking()]) + b"raw", "GET")
            head = c.wire.through(b"\r\n\r\n")
            return Tunnelled(int(head[9:12]), c.read_to_end())

    def through_a_proxy(self):
        with Client(self.proxied) as c:
            c.send(b"PROXY TCP4 192.0.2.7 198.51.100.1 4321 443\r\n")
            return c.request("GET", "/", host="a")

    def status(self):
        with Client(self.admin) as c:
            return c.request("GET", "/status")

    def left_over(self):
        """What is still going on, by the status page."""
        got = json.loads(self.status().body)
        counts = {**got["exchanges"], **got["pools"]["app"], **{f"{u} {k}": n for u, c in got["upstreams"].items() for k, n in c.items()}}
        return {k: n for k, n in counts.items() if n and not k.endswith(("slots", "servers", "connections", "endpoints"))}

    def wait_at_rest(self):
        try:
            eventually(lambda: not self.left_over(), "everything to be at rest")
        except AssertionError:
            raise AssertionError(f"left over: {self.left_over()}") from None


SCENARIOS = {
    "a request": (lambda s: s.ask("/"), b"0"),
    "a body in a file": (lambda s: s.ask("/", BODY), b"70000"),
    "a resume": (lambda s: s.ask("/resume"), b"done"),
    "a replay": (lambda s: s.ask("/replay", b"body"), b"done"),
    "a compressed handoff": (lambda s: s.ask("/gzip"), b"answer " * 2000),
    "a gateway": (lambda s: s.ask("/gateway/x"), b"answer " * 2000),
    "a relay over TLS": (lambda s: s.ask("/relay"), b"answer " * 2000),
    "a call over HTTP/2": (lambda s: s.ask("/h2"), b"done"),
    "a client over TLS": (lambda s: s.over_tls("/"), b"0"),
    "a client over HTTP/2": (lambda s: s.over_h2("/"), b"0"),
    "a client over TLS and HTTP/2": (lambda s: s.over_tls_and_h2("/"), b"0"),
    "a notify": (lambda s: s.ask("/notify"), b"answer " * 2000),
    "zstd": (lambda s: s.compressed("zstd"), None),
    "brotli": (lambda s: s.compressed("br"), None),
    "gzip": (lambda s: s.compressed("gzip"), None),
    "a WebSocket": (lambda s: s.websocket(), b"raw"),
    "the PROXY protocol": (lambda s: s.through_a_proxy(), b"0"),
    "the status page": (lambda s: s.status(), None),
}


def tries(site, scenario, first):
    """Runs it while the first-th allocation fails: whether that many were made."""
    site.shortage.begin(site.tarry.pid, first)
    try:
        scenario(site)
    except (OSError, AssertionError, ValueError, KeyError, StopIteration, IndexError):
        pass  # any end is good but Tarry's
    seen, failed = site.shortage.end()
    return failed > 0


@pytest.mark.parametrize("what", SCENARIOS)
def test_only_the_request_at_hand_dies(bed, what):
    site = Site(bed)
    scenario, good = SCENARIOS[what]
    for _ in range(3):  # what is made once is made
        assert good is None or scenario(site).body.endswith(good)
    site.wait_at_rest()
    before = site.tarry.descriptors()
    first, step = 1, 1
    while tries(site, scenario, first):
        assert site.tarry.alive, f"allocation {first}:\n" + "\n".join(site.tarry.lines[-20:])
        got = scenario(site)
        assert got.status == 200 and (good is None or got.body.endswith(good)), (first, got)
        step = max(1, first // site.dense)
        first += step
    assert first > 1
    site.wait_at_rest()
    eventually(lambda: site.tarry.descriptors() <= before + 4, "no descriptor to be left over")


@pytest.mark.slow
def test_a_reload_without_memory_changes_nothing_or_all(bed):
    """Each allocation of a reload fails once: it is refused or taken, and the next one is taken."""
    site = Site(bed)
    tarry, first = site.tarry, 1

    def reload():
        since = len(tarry.lines)
        tarry.signal(signal.SIGHUP)
        return "refused" not in tarry.wait_log(re.compile("reloaded|reload refused"), since=since)
    assert reload()
    while True:
        site.shortage.begin(tarry.pid, first)
        reload()
        _, failed = site.shortage.end()
        assert tarry.alive, first
        if not failed:
            break
        assert site.ask("/resume").body == b"done", first
        first += max(1, first // (site.dense // 4 if first < 500 else 2))
    assert first > 100
    assert reload() and site.over_tls("/").status == 200
    site.wait_at_rest()


CHECKED = """
temp_dir = "{folder}"
trusted_proxies = {{"127.0.0.1", "::1"}}
log {{ target = "{folder}/log" }}
access_log {{ target = "{folder}/access" }}
compression {{ types = {{"text/plain", "text/html"}} }}
tracing {{ upstream = up one_in = 2 }}
listen "127.0.0.1:1" {{ }}
admin "unix:{folder}/admin" {{ }}
workers app {{ server "127.0.0.1:2" {{ slots = 3 }} server "127.0.0.1:3" {{ }} }}
upstream up {{
    retry_on = {{429, 503}}
    endpoint a {{ origin = "https://a.test" set_header = {{"Authorization: Bearer x"}} }}
    endpoint b {{ origin = "https://b.test" proxy = "http://127.0.0.1:4" tier = 2 }}
    limit {{ key = "header:Authorization" requests_per_minute = 10 }}
}}
route /ai/ {{ upstream = up prefix_rewrite = "/" }}
route / {{ workers = app }}
"""


def test_a_conf_that_memory_does_not_suffice_for_is_refused(bed):
    """Each allocation of `tarry -t` fails once: nothing that could not be stored is used by the checks that follow."""
    shortage = bed.add(Shortage(bed.folder))
    path, first = bed.folder / "checked.conf", 1
    path.write_text(CHECKED.format(folder=bed.folder))
    assert run_command("-t", "-c", path)[0] == 0
    while True:
        shortage.begin(ANYBODY, first)
        code, _, err = run_command("-t", "-c", path, env=shortage.env)
        _, failed = shortage.end()
        if not failed:
            break
        assert code == 0 or (code == 1 and "memory" in err and err.count("\n") == 1), (first, code, err)
        first += 1
    assert code == 0 and first > 30


def address_space(pid):
    return 1024 * int(re.search(r"^VmSize:\s+(\d+) kB", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1])


def answered(clients):
    """Whether one of these connections has an answer or its end, although every answer is held."""
    poll = select.poll()
    for c in clients:
        poll.register(c.sock, select.POLLIN)
    return bool(poll.poll(0))


def come_until_refused(tarry, targets):
    """Clients with bodies that come and stay, until one of them is refused: memory has run out then, whatever the machine is at."""
    clients = []
    for i in range(3000):
        try:
            client = tarry.client()
            clients.append(client)
            client.send_request("POST", targets[i % len(targets)], body=BODY)
        except OSError:
            return clients
        if answered(clients):
            return clients
    raise AssertionError("memory suffices for 3,000 clients at once")


@pytest.mark.parametrize("targets", [["/"], ["/resume", "/replay"], ["/h2", "/relay"]], ids=["requests", "resumes", "relays"])
def test_a_wave_that_memory_does_not_suffice_for(bed, targets):
    """The process may not grow, and clients come until one is refused: it refuses what does not fit, and lives."""
    gate = Gate()
    site = Site(bed, patience="10s", gate=gate)
    tarry = site.tarry
    if tarry.sanitized:
        pytest.skip("a sanitizer takes addresses by the terabyte")
    unlimited = resource.prlimit(tarry.pid, resource.RLIMIT_AS)
    resource.prlimit(tarry.pid, resource.RLIMIT_AS, (address_space(tarry.pid) + (200 << 10), unlimited[1]))
    clients = come_until_refused(tarry, targets)
    gate.open()
    ends = []
    for client in clients:
        try:
            ends.append(client.read_response().status)
        except (OSError, AssertionError, ValueError) as e:
            ends.append(type(e).__name__)
        client.close()
    assert tarry.alive, "\n".join(tarry.lines[-20:])
    resource.prlimit(tarry.pid, resource.RLIMIT_AS, unlimited)
    assert any(end != 200 for end in ends)
    site.wait_at_rest()
    for scenario, good in SCENARIOS.values():
        got = scenario(site)
        assert got.status == 200 and (good is None or got.body.endswith(good)), got


# --- descriptors ---

@pytest.mark.parametrize("what", SCENARIOS)
def test_without_descriptors_only_the_request_at_hand_dies(bed, what):
    """One descriptor is left, then two, and so on until the scenario comes through."""
    site = Site(bed)
    scenario, good = SCENARIOS[what]
    pid = site.tarry.pid
    scenario(site)
    site.wait_at_rest()
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    before = site.tarry.descriptors()
    for left in range(1, 40):
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free(pid, left), hard))
        end = []
        task = threading.Thread(target=lambda: end.append(ends_well(site, scenario, good)))
        task.start()
        task.join(5)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
        task.join()
        assert site.tarry.alive, left
        got = scenario(site)
        assert got.status == 200 and (good is None or got.body.endswith(good)), (left, got)
        site.wait_at_rest()
        if end[0] and left >= 12:
            break
    eventually(lambda: site.tarry.descriptors() <= before + 6, "no descriptor to be left over")


def lowest_free(pid, n):
    """The limit under which exactly n descriptors more can be opened."""
    used = {int(p.name) for p in pathlib.Path(f"/proc/{pid}/fd").iterdir()}
    limit = 0
    while n > 0 or limit in used:
        n -= limit not in used
        limit += 1
    return limit


def ends_well(site, scenario, good):
    try:
        got = scenario(site)
        return got.status == 200 and (good is None or got.body.endswith(good))
    except (OSError, AssertionError, ValueError, KeyError, IndexError):
        return False


@pytest.mark.slow
def test_clients_that_cannot_be_accepted_cost_no_time(bed):
    """They wait in the kernel, where accept() finds them again and again: that must not keep the process busy."""
    site = Site(bed)
    tarry = site.tarry
    soft, hard = resource.prlimit(tarry.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(tarry.pid, resource.RLIMIT_NOFILE, (3, hard))
    waiting = [bed.background(site.ask, "/") for _ in range(5)]
    tarry.wait_log("not accepting on")
    used, seconds = tarry.cpu_seconds(), 2
    time.sleep(seconds)
    assert tarry.cpu_seconds() - used < seconds / 4
    resource.prlimit(tarry.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert [task.result().status for task in waiting] == [200] * 5
