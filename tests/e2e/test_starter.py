"""Started by a process manager that is no systemd: sockets and a lifeline passed by options, a conf that the user overrides."""

import fcntl
import os
import pathlib
import socket
import subprocess

import pytest

from harness import Client, Reply, eventually
from harness.tarry import find_binary

OK = lambda request, conn: Reply(200, b"fine")  # noqa: E731


def inheritable(fd, lowest=100):
    """A copy of the descriptor that Popen passes on under its number."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD, lowest)


@pytest.fixture
def lifeline():
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass


@pytest.fixture
def secrets(tmp_path):
    folder = tmp_path / "starter"
    folder.mkdir(mode=0o700)
    (folder / "secret").write_text("hush")
    (folder / "inner").mkdir()
    (folder / "inner" / "app.sock").touch()
    return folder


@pytest.mark.parametrize("processes", [1, 2])
def test_listening_sockets_come_by_number(bed, processes):
    conf = bed.conf(bed.worker(OK))
    conf.top["processes"] = processes
    given = socket.create_server(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % given.getsockname()[1]
    conf.listens = {address: {}}
    fd = inheritable(given.fileno())
    given.close()
    tarry = bed.tarry(conf, args=["-i", str(fd)], pass_fds=[fd])
    os.close(fd)
    assert tarry.get("/").body == b"fine"
    tarry.stop()
    with pytest.raises(OSError):  # no copy is left anywhere
        Client(address)


@pytest.mark.parametrize("processes", [1, 2])
def test_the_starter_s_death_ends_it_and_removes_its_folder(bed, lifeline, secrets, processes):
    conf = bed.conf(bed.worker(OK))
    conf.top["processes"] = processes
    tarry = bed.tarry(conf, args=["-l", str(lifeline[0]), "-r", str(secrets)], pass_fds=[lifeline[0]])
    os.close(lifeline[0])
    assert tarry.get("/").body == b"fine"
    assert (secrets / "secret").exists()
    os.close(lifeline[1])
    tarry.wait_log("the process that started this one has died")
    eventually(lambda: not tarry.alive, "the end of Tarry")
    eventually(lambda: not secrets.exists(), "the end of the starter's folder")


def test_without_the_starter_s_death_the_folder_stays(bed, lifeline, secrets):
    tarry = bed.tarry(bed.conf(bed.worker(OK)), args=["-l", str(lifeline[0]), "-r", str(secrets)], pass_fds=[lifeline[0]])
    watchers = lambda: [p for p in pathlib.Path("/proc").glob("[0-9]*/task/*/comm")  # noqa: E731
                        if reads(p) == "tarry-lifeline" and str(lifeline_of(p)) == str(os.fstat(lifeline[0]).st_ino)]
    assert len(watchers()) == 1
    tarry.stop()
    eventually(lambda: not watchers(), "the end of the watcher")
    assert (secrets / "secret").read_text() == "hush"


def reads(path):
    try:
        return path.read_text().strip()
    except OSError:
        return None


def lifeline_of(comm):
    try:
        return os.stat(comm.parents[2] / "fd" / "3").st_ino
    except OSError:
        return None


def test_a_killed_tarry_leaves_no_watcher_and_the_folder(bed, lifeline, secrets):
    tarry = bed.tarry(bed.conf(bed.worker(OK)), args=["-l", str(lifeline[0]), "-r", str(secrets)], pass_fds=[lifeline[0]])
    ino = os.fstat(lifeline[0]).st_ino
    tarry.kill()
    tarry.process = None  # not stopped in the usual way
    eventually(lambda: not any(reads(p) == "tarry-lifeline" and lifeline_of(p) == ino
                               for p in pathlib.Path("/proc").glob("[0-9]*/task/*/comm")), "the end of the watcher")
    assert secrets.exists()


def test_a_folder_that_others_can_write_to_stays(bed, lifeline, secrets):
    secrets.chmod(0o777)
    tarry = bed.tarry(bed.conf(bed.worker(OK)), args=["-l", str(lifeline[0]), "-r", str(secrets)], pass_fds=[lifeline[0]])
    os.close(lifeline[0])
    os.close(lifeline[1])
    tarry.wait_log("others can write to it")
    assert (secrets / "secret").exists()


@pytest.mark.parametrize("args, says", [
    (["-i", "2"], "-i takes one descriptor or a range"),
    (["-i", "5-3"], "-i takes one descriptor or a range"),
    (["-i", "x"], "-i takes one descriptor or a range"),
    (["-l", "x"], "-l takes the descriptor of a pipe"),
    (["-r", "/x"], "-r needs -l"),
])
def test_wrong_options_are_named(args, says):
    got = subprocess.run([find_binary(), *args], stderr=subprocess.PIPE, text=True)
    assert got.returncode == 2 and says in got.stderr


@pytest.mark.parametrize("args, says", [
    (["-l", "77"], "descriptor 77 is not open"),
    (["-l", "LIFE", "-r", "relative"], '"relative" is no absolute path'),
])
def test_what_cannot_be_watched_is_refused(bed, lifeline, args, says):
    path = bed.folder / "tarry.conf"
    path.write_text(bed.conf(bed.worker(OK)).text())
    args = [str(lifeline[0]) if a == "LIFE" else a for a in args]
    got = subprocess.run([find_binary(), "-c", path, *args], stderr=subprocess.PIPE, text=True, pass_fds=[lifeline[0]])
    assert got.returncode == 1 and says in got.stderr


def test_the_user_s_file_overrides_the_starter_s(bed):
    worker = bed.worker(OK)
    conf = bed.conf(worker)
    conf.extra = 'override("own.conf")\n'
    own = bed.folder / "own.conf"
    own.write_text('target_max = "64"\nlog { level = "info" }\n')
    tarry = bed.tarry(conf)
    assert tarry.get("/" + "x" * 100).status == 414
    own.write_text('target_max = "1K"\n')
    tarry.reload(conf)
    assert tarry.get("/" + "x" * 100).status == 200


def test_logs_go_to_standard_output(bed):
    conf = bed.conf(bed.worker(OK))
    conf.access_log = {"target": "stdout", "format": "combined"}
    path = bed.folder / "tarry.conf"
    path.write_text(conf.text())
    with subprocess.Popen([find_binary(), "-c", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "ready" in line:
                break
        with Client(conf.address) as c:
            assert c.request("GET", "/seen").status == 200
        assert "GET /seen" in process.stdout.readline()
        process.terminate()
        process.communicate()
    assert process.returncode == 0


def test_the_worker_judges_what_the_peer_says(bed):
    seen = []
    worker = bed.worker(lambda request, conn: seen.append(request) or Reply(200, b""))
    conf = bed.conf(worker)
    conf.top["forwarded_headers"] = "pass"
    tarry = bed.tarry(conf)
    with Client(conf.address) as c:
        c.request("GET", "/", [("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https"), ("Tarry-Peer", "6.6.6.6:6")])
    headers = [(k.lower(), v) for k, v in seen[0].headers]
    assert ("x-forwarded-for", "1.2.3.4") in headers and ("x-forwarded-proto", "https") in headers
    assert [v.rpartition(":")[0] for k, v in headers if k == "tarry-peer"] == ["127.0.0.1"]
    assert ("tarry-scheme", "http") in headers
    assert tarry.alive
