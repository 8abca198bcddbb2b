"""Logs whose target stalls: nobody waits for them, and what is dropped is said (issue 8, point 8)."""

import fcntl
import json
import os
import re
import socket

import pytest
from harness.base import eventually
from harness.tarry import Tarry


def ask(tarry, n=1):
    """n requests with an answer, each on a connection of its own."""
    for _ in range(n):
        assert tarry.get("/" + "x" * 200).status == 200


class Stalled:
    """A pipe or a socket in the place of standard error, which nobody reads until drain() is called."""

    def __init__(self, kind):
        if kind == "pipe":
            self.mine, self.theirs = os.pipe()
            fcntl.fcntl(self.mine, fcntl.F_SETPIPE_SZ, 4096)
        else:
            a, b = socket.socketpair()
            b.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            self.mine, self.theirs = a.detach(), b.detach()
        os.set_blocking(self.mine, False)
        self.text = b""

    def take(self):
        """As standard error, in the child."""
        os.dup2(self.theirs, 2)

    def drain(self):
        try:
            while data := os.read(self.mine, 65536):
                self.text += data
        except BlockingIOError:
            pass
        return self.text.decode()


def start(bed, conf, stalled):
    tarry = bed.add(Tarry(bed.folder, conf, start=False, preexec=stalled.take))
    tarry.start(ready=False)
    return tarry


def accepts(tarry):
    try:
        socket.create_connection(("127.0.0.1", tarry.port), 1).close()
        return True
    except OSError:
        return False


@pytest.mark.parametrize("sandbox", ["sandbox", "none"])
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_stalled_reader_of_standard_error_holds_nobody_up(bed, kind, sandbox):
    conf = bed.conf(bed.worker())
    conf.log["buffer_max"] = "64K"
    conf.access_log = {"target": "stderr", "buffer_max": "64K"}
    if sandbox == "none":
        conf.top.update(seccomp="off", landlock="off")
    stalled = Stalled(kind)
    tarry = start(bed, conf, stalled)
    eventually(lambda: accepts(tarry), "the listener")
    ask(tarry, 600)  # of which each has some 2 KiB of lines at debug
    assert re.search("tarry: ready$", stalled.drain(), re.M)
    eventually(lambda: "of the log were dropped" in stalled.drain(), "the line about the log")
    eventually(lambda: "of the access log were dropped" in stalled.drain(), "the line about the access log")
    ask(tarry)
    stalled.drain()
    for line in stalled.text.decode().splitlines():
        assert line.startswith(("tarry: ", "{")) and line.count("tarry: ") <= 1, line
        if line[0] == "{":
            json.loads(line)


def test_a_stalled_log_pipe_is_counted(bed):
    """A fifo as the target of the access log."""
    fifo = bed.folder / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    conf = bed.conf(bed.worker())
    conf.access_log = {"target": str(fifo), "buffer_max": "64K"}
    conf.admins[f"unix:{bed.folder}/admin"] = {}
    tarry = bed.tarry(conf)
    ask(tarry, 250)
    assert tarry.metric("tarry_log_dropped_total") > 0
    text = b""

    def drained():
        nonlocal text
        try:
            text += os.read(reader, 1 << 20)
        except BlockingIOError:
            pass
        return any("of the access log were dropped" in line for line in tarry.lines)
    eventually(drained, "the line about the access log")
    for line in text.decode().splitlines():
        json.loads(line)
    os.close(reader)


def test_a_log_without_a_reader_is_no_reason_to_wait(bed):
    """The reader of the log has gone; Tarry serves, and SIGTERM ends it."""
    stalled = Stalled("pipe")
    tarry = start(bed, bed.conf(bed.worker()), stalled)
    os.close(stalled.theirs)
    eventually(lambda: accepts(tarry), "the listener")
    os.close(stalled.mine)
    ask(tarry, 5)


@pytest.mark.parametrize("processes", [1, 2])
def test_each_line_names_its_process(bed, processes):
    conf = bed.conf(bed.worker())
    conf.top["processes"] = processes
    tarry = bed.tarry(conf)
    ask(tarry)
    pids = {tarry.pid, *tarry.children()}
    lines = [line for line in tarry.lines if line != "tarry: ready"]
    assert lines
    for line in lines:
        found = re.search(r" pid=(\d+)( exchange=\S+)?$", line)
        assert found and int(found[1]) in pids, line
