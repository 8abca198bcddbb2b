"""tarryctl and the control socket (issue 11, section 2)."""

import json
import pathlib
import subprocess

import pytest
from harness import Client, Gate, Reply, by_kind, call, eventually, handoff
from harness.base import DEADLINE
from harness.tarry import find_binary, run_command

TARRYCTL = str(pathlib.Path(find_binary()).parent / "tarryctl")


class Site:
    """A Tarry with a control socket and some parked exchanges."""

    def __init__(self, bed, processes=1, parked=0):
        self.gate = Gate()
        upstream = bed.upstream(lambda r, c: (self.gate.wait(), b"answer")[1])
        self.worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /done", [call(upstream.origin)]) if r.target.startswith("/park")
                                         else Reply(200, b"ok"), resume=lambda r, c: Reply(200, r.enclosed[0].body)))
        self.conf = bed.conf(self.worker, upstream, slots=20)
        self.conf.top.update(processes=processes, shutdown_timeout="60s")
        self.socket = bed.folder / "control.sock"
        self.conf.admins = {f"unix:{self.socket}": {"control": True}}
        self.tarry = bed.tarry(self.conf)
        self.clients = [bed.add(self.tarry.client()) for _ in range(parked)]
        for i, c in enumerate(self.clients):
            c.stop = c.close
            c.send_request("GET", f"/park/{i}")
        if parked:
            upstream.wait_for(parked)
        self.bed = bed

    def ctl(self, *args, code=0):
        done = subprocess.run([TARRYCTL, "-s", str(self.socket), *args], capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == code, done
        return done.stdout if code == 0 else done.stderr

    def show(self, what):
        return json.loads(self.ctl("-j", "show", what))


@pytest.fixture(params=[1, 3])
def processes(request):
    return request.param


def test_it_shows_what_is_in_flight(bed, processes):
    site = Site(bed, processes, parked=7)
    rows = site.show("exchanges")
    assert sorted(r["path"] for r in rows) == [f"/park/{i}" for i in range(7)]
    assert all(r["state"] == "parked" and r["method"] == "GET" and r["hops"] == 1 and r["calls"] == 1 for r in rows)
    text = site.ctl("show", "exchanges").splitlines()
    assert sorted(line.split()[0] for line in text) == sorted(r["exchange"] for r in rows)
    pools = site.show("workers")
    assert len(pools) == processes and all(p["pool"] == "app" and p["slots"] == 20 and not p["paused"] for p in pools)
    assert site.ctl("show", "workers").count("pool busy") == 1
    ups = site.show("upstreams")
    assert sum(u["in_use"] for u in ups) == 7 and {u["upstream"] for u in ups} == {"up"}
    shown = site.ctl("-j", "show", "process").splitlines()
    assert sum(json.loads(line)["in_flight"] for line in shown) == 7
    assert {json.loads(line)["pid"] for line in shown} == set(site.tarry.children() or [site.tarry.pid])
    site.gate.open()
    for c in site.clients:
        assert c.read_response().body == b"answer"
    assert eventually(lambda: site.show("exchanges") == [], "none to be left") and site.ctl("show", "exchanges") == ""


def test_it_shows_the_conf_in_force(bed):
    site = Site(bed)
    before = site.ctl("show", "conf")
    assert before == run_command("-T", "-c", site.tarry.path)[1] and "queue_max = 77" not in before
    site.conf.pool["queue_max"] = 77
    site.tarry.write(site.conf)
    assert site.ctl("show", "conf") == before
    site.tarry.reload(site.conf)
    assert "queue_max = 77" in site.ctl("show", "conf") and json.loads(site.ctl("-j", "show", "conf"))["conf"] == site.ctl("show", "conf")


def test_it_shows_errors(bed, processes):
    site = Site(bed, processes)
    site.tarry.reload(site.conf.text() + "nonsense = 1\n", refused=True)
    eventually(lambda: len([e for e in site.show("errors") if "reload refused" in e]) == processes, "the errors of all")
    assert "nonsense" in site.ctl("show", "errors")


def test_it_cancels_an_exchange(bed, processes):
    site = Site(bed, processes, parked=3)
    rows = {r["path"]: r["exchange"] for r in site.show("exchanges")}
    assert site.ctl("cancel", rows["/park/1"]) == "cancelled\n"
    got = site.clients[1].read_response()
    assert got.status == 503 and json.loads(got.body)["title"] == "An operator has ended the request"
    assert "no such exchange" in site.ctl("cancel", rows["/park/1"], code=1)
    assert sorted(r["path"] for r in site.show("exchanges")) == ["/park/0", "/park/2"]
    site.gate.open()
    for i in (0, 2):
        assert site.clients[i].read_response().body == b"answer"


def test_a_paused_pool_holds_its_requests_back(bed, processes):
    site = Site(bed, processes)
    assert site.ctl("pause", "app").startswith("paused")
    seen = len(site.worker.requests)
    clients = [bed.add(site.tarry.client()) for _ in range(6)]
    for c in clients:
        c.stop = c.close
        c.send_request("GET", "/")
    eventually(lambda: sum(p["queued_new"] for p in site.show("workers")) == 6, "all to wait")
    assert all(p["paused"] for p in site.show("workers")) and len(site.worker.requests) == seen
    site.ctl("resume", "app")
    for c in clients:
        assert c.read_response().status == 200
    assert "there is no pool" in site.ctl("pause", "none", code=1)


def test_it_changes_the_level_of_the_log(bed):
    site = Site(bed)
    site.ctl("log", "error")
    since = len(site.tarry.lines)
    assert site.tarry.get("/").status == 200
    assert not [line for line in site.tarry.lines[since:] if "debug" in line]
    site.ctl("log", "debug")
    assert site.tarry.get("/").status == 200
    site.tarry.wait_log("debug", since=since)
    assert "the levels are" in site.ctl("log", "loud", code=1)


def test_it_drains(bed, processes):
    site = Site(bed, processes, parked=4)
    assert site.ctl("drain") == "draining\n"
    site.tarry.wait_log("stopping: ")
    site.gate.open()
    for c in site.clients:
        assert c.read_response().body == b"answer"
    site.tarry.wait_end(0)


def test_only_the_control_socket_changes_anything(bed):
    site = Site(bed, parked=1)
    path = f"unix:{bed.folder}/plain.sock"
    site.conf.admins[path] = {}
    site.tarry.reload(site.conf)
    with Client(path) as c:
        for target in ("/drain", "/pause/app", "/log/error"):
            assert c.request("POST", target).status == 405
        for target in ("/exchanges", "/conf", "/errors"):
            assert c.request("GET", target).status == 404
    site.gate.open()
    assert site.clients[0].read_response().body == b"answer"


@pytest.mark.parametrize("line, address, message", [
    ("control = true", "127.0.0.1:81", "control is for unix sockets"),
    ('control = true\n    mode = "0666"', "unix:/run/x.sock", "every account of this machine could use it"),
    ("control = true", "unix:/run/" + "x" * 100, "control: the path is too long")])
def test_a_mistake_is_named(tmp_path, line, address, message):
    path = tmp_path / "tarry.conf"
    path.write_text('listen "127.0.0.1:80" { }\nworkers "app" { server "127.0.0.1:1" { slots = 1 } }\nroute "/" { workers = "app" }\n'
                    f'admin "{address}" {{\n    {line}\n}}\n')
    code, _, err = run_command("-t", "-c", path)
    assert code == 1 and message in err, err


def test_wrong_use_is_said(bed):
    site = Site(bed)
    for args in ((), ("show",), ("show", "all"), ("cancel",), ("cancel", "a b"), ("pause", "../x"), ("fly",)):
        site.ctl(*args, code=2)
    done = subprocess.run([TARRYCTL, "-s", "/nonexistent", "show", "conf"], capture_output=True, text=True)
    assert done.returncode == 1 and "is Tarry running" in done.stderr
    assert subprocess.run([TARRYCTL, "-h"], capture_output=True).returncode == 0


def test_its_completion_knows_the_commands(bed):
    script = pathlib.Path(__file__).resolve().parents[2] / "packaging" / "completion" / "tarryctl.bash"
    site = Site(bed)

    def complete(*words):
        code = (f'PATH={pathlib.Path(TARRYCTL).parent}:$PATH; . {script}; COMP_WORDS=({" ".join(map(repr, words))}); COMP_CWORD={len(words) - 1}; '
                '_tarryctl; echo "${COMPREPLY[@]}"')
        return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert complete("tarryctl", "dr") == ["drain"]
    assert complete("tarryctl", "show", "e") == ["exchanges", "errors"]
    assert complete("tarryctl", "-s", str(site.socket), "pause", "a") == ["app"]
