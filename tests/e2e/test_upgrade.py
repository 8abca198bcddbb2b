"""SIGUSR2: another binary takes over, and no connection is refused (issue 11, section 1)."""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import threading

import pytest
from harness import Client, Gate, Reply, by_kind, call, eventually, handoff
from harness.tarry import find_binary

KINDS = {"watched": {"master_process": True}, "two": {"processes": 2}}


class Site:
    def __init__(self, bed, kind, monkeypatch, args=(), pass_fds=(), **top):
        self.bed, self.gate = bed, Gate()
        self.binary = bed.folder / "bin" / "tarry"
        self.binary.parent.mkdir()
        shutil.copy(find_binary(), self.binary)
        monkeypatch.setenv("TARRY_BIN", str(self.binary))
        self.upstream = bed.upstream(lambda r, c: (self.gate.wait(), b"answer")[1])
        worker = bed.worker(by_kind(
            request=lambda r, c: handoff("resume /done", [call(self.upstream.origin)]) if r.target == "/park" else Reply(200, b"ok"),
            resume=lambda r, c: Reply(200, r.enclosed[0].body)))
        self.conf = bed.conf(worker, self.upstream, slots=20)
        self.conf.top.update(KINDS[kind], shutdown_timeout="60s", **top)
        self.unix = bed.folder / "l.sock"
        self.conf.listens[f"unix:{self.unix}"] = {}
        self.conf.admins = {f"unix:{bed.folder}/admin": {}}
        self.tarry = bed.tarry(self.conf, args=args, pass_fds=pass_fds)
        self.new = None
        bed.add(self)

    def replace_binary(self):
        """As a package manager does: another file of that name."""
        other = self.binary.with_suffix(".new")
        shutil.copy(self.binary, other)
        other.rename(self.binary)
        return os.stat(self.binary).st_ino

    def upgrade(self):
        since = len(self.tarry.lines)
        os.kill(self.new or self.tarry.pid, signal.SIGUSR2)
        line = self.tarry.wait_log(re.compile(r"upgrade: process \d+ serves"), since=since)
        self.new = int(re.search(r"process (\d+) serves", line)[1])
        return self.new

    def stop(self):
        """The processes that took over are nobody's children here."""
        self.gate.open()
        if self.new:
            os.kill(self.new, signal.SIGTERM)
            eventually(lambda: not alive(self.new), "the last one to end")
            if self.tarry.process is not None:
                self.tarry.process.wait(20)
                self.tarry.process = None


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(params=sorted(KINDS))
def site(bed, request, monkeypatch):
    return Site(bed, request.param, monkeypatch)


def test_another_binary_takes_over(site):
    """Parked calls finish in the old one; nobody is refused meanwhile, over TCP or a unix socket."""
    parked = [site.bed.add(site.tarry.client()) for _ in range(5)]
    for c in parked:
        c.stop = c.close
        c.send_request("GET", "/park")
    site.upstream.wait_for(5)
    failed, done, stop = [], [0], threading.Event()

    def knock(address):
        while not stop.is_set():
            try:
                with Client(address) as c:
                    assert c.request(host="a", headers={"Connection": "close"}).status == 200
                done[0] += 1
            except (OSError, AssertionError) as e:
                failed.append((address, e))
    tasks = [site.bed.background(knock, a) for a in (site.tarry.address, f"unix:{site.unix}")]
    eventually(lambda: done[0] > 20, "clients")
    inode = site.replace_binary()
    old = site.tarry.pid
    new = site.upgrade()
    assert os.stat(f"/proc/{new}/exe").st_ino == inode and new != old
    before = done[0]
    eventually(lambda: done[0] > before + 50, "clients of the new one")
    site.gate.open()
    for c in parked:
        assert c.read_response().body == b"answer"
    assert site.tarry.process.wait(20) == 0
    before = done[0]
    eventually(lambda: done[0] > before + 50, "clients of the new one alone")
    stop.set()
    for t in tasks:
        t.result()
    assert failed == []
    with Client(f"unix:{site.bed.folder}/admin") as c:
        assert c.request("GET", "/readyz").status == 200


def counters(site):
    """What may never decrease: by series."""
    with Client(f"unix:{site.bed.folder}/admin") as c:
        text = c.request("GET", "/metrics").body.decode()
    series = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(v) for name, v in series.items() if re.search(r"_(total|count|sum|bucket)($|\{)|^tarry_processes$", name)}


def test_counters_go_on_and_levels_end_with_their_process(site):
    """Over two upgrades; of three binaries that run, one is killed."""
    processes = site.conf.top.get("processes", 1)
    before = {}
    for round in range(1, 4):
        assert [site.tarry.get("/").status for _ in range(5)] == [200] * 5
        parked = site.bed.add(site.tarry.client())
        parked.stop = parked.close
        parked.send_request("GET", "/park")
        site.upstream.wait_for(round)
        eventually(lambda r=round: counters(site)["tarry_requests_total"] >= 6 * r, "the requests to be counted")
        after = counters(site)
        assert {n: v for n, v in before.items() if n != "tarry_processes" and after.get(n, 0) < v} == {}
        before = after
        if round < 3:
            site.upgrade()
    # Of an earlier binary the process that has a parked call stays.
    eventually(lambda: counters(site)["tarry_processes"] == processes + 2, "each binary's processes")
    # A killed master's process would finish its call; it is killed as well, and nobody is left who could clear its levels.
    family = pathlib.Path(f"/proc/{site.tarry.pid}/task/{site.tarry.pid}/children").read_text().split()
    site.tarry.kill()
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: counters(site)["tarry_processes"] == processes + 1, "those of the killed one to be gone")
    site.gate.open()
    eventually(lambda: counters(site)["tarry_processes"] == processes, "those that have finished to be gone")
    after = counters(site)
    assert {n: v for n, v in before.items() if n != "tarry_processes" and after.get(n, 0) < v} == {}


def test_it_can_be_done_again_and_again(site):
    for _ in range(3):
        old = site.new or site.tarry.pid
        site.upgrade()
        if old == site.tarry.pid:
            assert site.tarry.process.wait(20) == 0
        else:
            eventually(lambda: not alive(old), "the old one to end")
        assert site.tarry.get("/").status == 200
        with Client(f"unix:{site.unix}") as c:
            assert c.request(host="a").status == 200
    assert site.unix.exists()


def test_one_that_does_not_become_ready_changes_nothing(site):
    site.tarry.write(site.conf.text() + "nonsense = 1\n")
    site.tarry.signal(signal.SIGUSR2)
    site.tarry.wait_log("did not become ready; this one serves on")
    site.tarry.write(site.conf)
    assert site.tarry.get("/").status == 200 and site.unix.exists()
    site.upgrade()
    assert site.tarry.process.wait(20) == 0
    assert site.tarry.get("/").status == 200


def test_one_that_hangs_is_ended(bed, monkeypatch):
    site = Site(bed, "watched", monkeypatch, upgrade_timeout="1s")
    other = site.binary.with_suffix(".new")
    other.write_text("#!/bin/sh\nexec sleep 600\n")
    other.chmod(0o755)
    other.rename(site.binary)
    site.tarry.signal(signal.SIGUSR2)
    pid = int(re.search(r"process (\d+) is starting", site.tarry.wait_log("is starting"))[1])
    site.tarry.wait_log("did not become ready; this one serves on")
    eventually(lambda: not alive(pid), "the other one to end")
    assert site.tarry.get("/").status == 200


def test_one_that_starts_ends_with_the_first(bed, monkeypatch):
    site = Site(bed, "watched", monkeypatch)
    other = site.binary.with_suffix(".new")
    other.write_text("#!/bin/sh\nexec sleep 600\n")
    other.chmod(0o755)
    other.rename(site.binary)
    site.tarry.signal(signal.SIGUSR2)
    pid = int(re.search(r"process (\d+) is starting", site.tarry.wait_log("is starting"))[1])
    site.tarry.stop()
    eventually(lambda: not alive(pid), "the other one to end")


def test_a_socket_of_the_starter_is_passed_on(bed, monkeypatch):
    given = socket.socket()
    given.bind(("127.0.0.1", 0))
    given.listen()
    os.set_inheritable(given.fileno(), True)
    address = "127.0.0.1:%d" % given.getsockname()[1]
    site = Site(bed, "two", monkeypatch, args=["-i", str(given.fileno())], pass_fds=[given.fileno()])
    site.conf.listens[address] = {}
    site.tarry.reload(site.conf)
    given.close()
    for _ in range(2):
        with Client(address) as c:
            assert c.request().status == 200
        old = site.new or site.tarry.pid
        site.upgrade()
        if old == site.tarry.pid:
            assert site.tarry.process.wait(20) == 0
    with Client(address) as c:
        assert c.request().status == 200


def test_the_service_manager_is_told_who_is_the_main_process(bed, monkeypatch):
    path = str(bed.folder / "notify")
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(path)
    manager.settimeout(20)
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    site = Site(bed, "watched", monkeypatch)
    assert manager.recv(1000).startswith(b"READY=1")
    new = site.upgrade()
    told = []
    while not any(f"MAINPID={new}\n".encode() in m for m in told):
        told.append(manager.recv(1000))
    os.kill(new, signal.SIGHUP)
    while b"RELOADING=1" not in told[-1]:
        told.append(manager.recv(1000))


def test_without_a_master_it_is_refused(bed):
    tarry = bed.tarry(bed.conf(bed.worker()))
    tarry.signal(signal.SIGUSR2)
    tarry.wait_log("SIGUSR2 ignored: another binary is started by the master")
    assert tarry.get("/").status == 200


# --- limits of upstreams ---

@pytest.mark.parametrize("kind", KINDS)
def test_limits_count_the_calls_of_both_binaries(bed, kind, monkeypatch):
    """Those in flight while the old one finishes, and those that have begun within the minute."""
    site = Site(bed, kind, monkeypatch)
    site.tarry.conf.limits["up"] = [{"in_flight": 3}, {"requests_per_minute": 5}]
    site.tarry.conf.up["queue_timeout"] = "500ms"
    site.tarry.reload(site.tarry.conf)
    old = [bed.background(site.tarry.get, "/park") for _ in range(2)]
    site.upstream.wait_for(2)
    site.upgrade()
    new = [bed.background(site.tarry.get, "/park") for _ in range(3)]
    site.upstream.wait_for(3)
    eventually(lambda: sum(not t.running for t in new) == 2, "two to be refused")
    assert len(site.upstream.requests) == 3
    site.gate.open()
    assert sum(t.result().body == b"answer" for t in old + new) == 3
    assert sum(site.tarry.get("/park").body == b"answer" for _ in range(4)) == 2
    assert len(site.upstream.requests) == 5
