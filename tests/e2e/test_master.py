"""Signals, and the process that watches those that serve (issue 8, point 6)."""

import os
import re
import signal
import socket

import pytest
from harness import Client, Gate, Reply, by_kind, call, eventually, handoff
from harness.tarry import Tarry


def conf_of(bed, kind, worker, upstream=None):
    """Without a master, with one for a single process, with two processes."""
    conf = bed.conf(worker, upstream)
    conf.top.update({"one": {}, "watched": {"master_process": True}, "two": {"processes": 2}}[kind])
    conf.top["shutdown_timeout"] = "60s"
    return conf


KINDS = ["one", "watched", "two"]


class Parked:
    """Some parked exchanges, which end when the gate opens."""

    def __init__(self, bed, kind, n=10, **start):
        self.gate = Gate()
        upstream = bed.upstream(lambda r, c: (self.gate.wait(), b"answer")[1])
        worker = bed.worker(by_kind(request=lambda r, c: handoff("resume /done", [call(upstream.origin)]),
                                    resume=lambda r, c: Reply(200, r.enclosed[0].body)))
        self.conf = conf_of(bed, kind, worker, upstream)
        self.tarry = bed.tarry(self.conf, **start)
        self.clients = [bed.add(self.tarry.client()) for _ in range(n)]
        for c in self.clients:
            c.stop = c.close
            c.send_request("GET", "/park")
        upstream.wait_for(n)

    def finish(self):
        self.gate.open()
        for c in self.clients:
            assert c.read_response().body == b"answer"
        self.tarry.wait_end(0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_stop_lets_parked_calls_finish(bed, kind, number):
    parked = Parked(bed, kind)
    parked.tarry.signal(number)
    parked.tarry.wait_log("stopping: ")
    parked.finish()


@pytest.mark.parametrize("kind", KINDS)
def test_SIGUSR2_to_a_serving_process_is_ignored_with_a_line(bed, kind):
    """For one to the master see test_upgrade.py."""
    parked = Parked(bed, kind)
    for pid in parked.tarry.children() or [parked.tarry.pid]:
        since = len(parked.tarry.lines)
        os.kill(pid, signal.SIGUSR2)
        parked.tarry.wait_log("SIGUSR2 ignored", since=since)
    parked.tarry.signal(signal.SIGTERM)
    parked.finish()


@pytest.mark.parametrize("kind", KINDS)
def test_a_signal_to_all_of_the_group_is_one_signal(bed, kind):
    """As service managers, Heroku and terminals send it."""
    parked = Parked(bed, kind, preexec=lambda: os.setpgid(0, 0))
    os.killpg(parked.tarry.pid, signal.SIGTERM)
    parked.tarry.wait_log("stopping: ")
    parked.tarry.signal(signal.SIGTERM)
    parked.finish()


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_signal_later_ends_it_at_once(bed, kind):
    parked = Parked(bed, kind)

    def ended():
        if parked.tarry.process.poll() is None:
            parked.tarry.signal(signal.SIGTERM)
        return parked.tarry.process.poll() is not None
    eventually(ended, "the end")
    parked.tarry.wait_log("stopping at once")
    parked.tarry.wait_end(1)
    parked.gate.open()


@pytest.mark.parametrize("kind", ["watched", "two"])
def test_a_process_that_dies_is_replaced_though_nobody_reads_the_log(bed, kind):
    conf = conf_of(bed, kind, bed.worker())
    mine, theirs = os.pipe()
    tarry = bed.add(Tarry(bed.folder, conf, start=False, preexec=lambda: os.dup2(theirs, 2)))
    tarry.start(ready=False)
    os.close(theirs)
    n = conf.top.get("processes", 1)
    eventually(lambda: b"tarry: ready" in os.read(mine, 65536), "the start")
    before = tarry.children()
    os.close(mine)
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(tarry.children()) == n and before[0] not in tarry.children(), "another process")
    assert tarry.get("/").status == 200


def test_clients_wait_while_the_one_process_is_replaced(bed):
    tarry = bed.tarry(conf_of(bed, "watched", bed.worker()))
    for _ in range(3):
        child, = tarry.children()
        os.kill(child, signal.SIGKILL)
        with tarry.client() as c:
            c.send_request("GET", "/")
            assert c.read_response().status == 200
    assert len(re.findall(r"ended by signal 9 \(Killed\)", tarry.stderr)) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_last_words_are_in_the_log(bed, kind):
    conf = conf_of(bed, kind, bed.worker())
    log = bed.folder / "tarry.log"
    conf.log["target"] = str(log)
    tarry = bed.tarry(conf)
    if tarry.sanitized:
        pytest.skip("a sanitizer reports by itself")
    pid = (tarry.children() or [tarry.pid])[0]
    os.kill(pid, signal.SIGSEGV)
    eventually(lambda: f"tarry: bug: signal {signal.SIGSEGV:d} (SEGV) pid={pid}" in log.read_text(), "the last words")
    eventually(lambda: "tarry: bug: in hand: nothing" in log.read_text(), "what it had in hand")
    if kind == "one":
        tarry.wait_end(-signal.SIGSEGV)
    else:
        eventually(lambda: f"process {pid} ended by signal 11 (Segmentation fault)" in log.read_text(), "the master's line")
        eventually(lambda: re.search(r"process \d+ started", log.read_text()), "another process")


@pytest.mark.parametrize("kind", KINDS)
def test_a_reload_moves_the_masters_log_too(bed, kind):
    conf = conf_of(bed, kind, bed.worker())
    conf.log["target"] = str(bed.folder / "old.log")
    tarry = bed.tarry(conf)
    new = bed.folder / "new.log"
    conf.log["target"] = str(new)
    tarry.write(conf)
    tarry.signal(signal.SIGHUP)
    n = len(tarry.children()) or 1
    eventually(lambda: new.exists() and new.read_text().count("reloaded") == n, "the reload")
    if kind != "one":
        eventually(lambda: f"pid={tarry.pid}" in new.read_text() or tarry.signal(signal.SIGUSR1), "a line of the master")


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_can_connect_while_it_drains(bed, kind):
    """Neither over a unix socket, which the master has bound, nor over a socket that was passed on."""
    given = socket.socket()
    given.bind(("127.0.0.1", 0))
    given.listen()
    inode = os.fstat(given.fileno()).st_ino
    path = bed.folder / "l.sock"
    gate = Gate()
    upstream = bed.upstream(lambda r, c: (gate.wait(), b"answer")[1])
    conf = conf_of(bed, kind, bed.worker(lambda r, c: handoff("relay", [call(upstream.origin)])), upstream)
    conf.listens[f"unix:{path}"] = {}
    conf.listens["127.0.0.1:%d" % given.getsockname()[1]] = {}
    os.set_inheritable(given.fileno(), True)
    tarry = bed.tarry(conf, args=["-i", str(given.fileno())], pass_fds=[given.fileno()])
    with tarry.client() as c:
        c.send_request("GET", "/")
        upstream.wait_for(1)
        pids = [tarry.pid, *tarry.children()]
        tarry.signal(signal.SIGTERM)
        tarry.wait_log("stopping: ")

        def refused():
            try:
                Client(f"unix:{path}").close()
            except OSError:
                return True
        eventually(refused, "the unix socket to be closed")

        def holds(pid):
            try:
                return any(os.stat(f"/proc/{pid}/fd/{fd}").st_ino == inode for fd in os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                return False
        eventually(lambda: not any(holds(pid) for pid in pids), "the socket that was passed on to be closed")
        gate.open()
        assert c.read_response().body == b"answer"
    tarry.wait_end(0)


def test_a_listener_that_a_reload_takes_away_is_closed_in_the_master(bed):
    path = bed.folder / "l.sock"
    conf = conf_of(bed, "two", bed.worker())
    conf.listens[f"unix:{path}"] = {}
    tarry = bed.tarry(conf)
    Client(f"unix:{path}").close()
    del conf.listens[f"unix:{path}"]
    tarry.reload(conf)
    eventually(lambda: not path.exists(), "the socket's file to be removed")
