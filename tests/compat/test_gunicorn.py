"""`gunicorn -c python:tarry.gunicorn` with unmodified projects: every event in the life of a gunicorn, on each version.

The name of a test and the first line of its docstring are a row of the table in docs/gunicorn.md."""

import os
import pwd
import signal
import socket

import pytest

import hooked
import stacks
from harness import DEADLINE, eventually, free_port, request
from harness.certs import Authority
from hooked import Crowd, Hooked, Load, Model, family, is_alive, nobody_listens

PARKED = 20


@pytest.fixture(params=list(hooked.VERSIONS))
def version(request, found):
    found("gunicorn", version=request.param, event=request.node.originalname)
    if not (stacks.BUILD / request.param / "complete").exists():
        pytest.skip(f"{request.param} is not in build/compat: scripts/compat makes it")
    return request.param


@pytest.fixture
def model(bed):
    return Model(bed)


def park(site, model, n=PARKED):
    """So many requests that wait for the model; none of them holds a worker."""
    crowd = Crowd(site, n)
    model.wait_calls(n)
    return crowd


def booted(site, workers=2):
    """A worker that is ended while it boots makes gunicorn end with 3, its own code for an app that cannot boot."""
    eventually(lambda: len(site.addresses()) == workers, "all workers")
    return site


def ended_cleanly(site, code=0):
    assert site.wait_end() == code
    assert nobody_listens(site.address)
    assert site.folders() == []


# --- what it is for ---


@pytest.mark.parametrize("app", ["plain_django", "plain_flask"])
def test_calls_hold_no_worker(bed, version, model, app):
    """Calls of an unmodified Django project and Flask app hold no worker"""
    site = Hooked(bed, version, "--workers", "1", app=app, origin=model.origin)
    crowd = park(site, model)
    assert site.get("/ok").status == 200
    model.gate.open()
    crowd.all_right()
    assert len(model.server.requests) == PARKED


def test_calls_hold_no_thread(bed, version, model):
    """The same with threads (gthread)"""
    site = Hooked(bed, version, "--workers", "1", "--threads", "3", origin=model.origin)
    crowd = park(site, model)
    assert site.get("/ok").status == 200
    model.gate.open()
    crowd.all_right()


def test_views_run_once(bed, version, model):
    """Each view runs once: it goes on where it stood, in the process that began it, over a reload too"""
    site = Hooked(bed, version, "--workers", "2", env={"APP_RUNS": "runs"}, origin=model.origin)
    crowd = park(site, model)
    old = set(site.workers())
    site.signal(signal.SIGHUP)
    eventually(lambda: len(set(site.workers()) - old) == 2 and len(site.addresses()) == 2, "new workers")
    model.gate.open()
    crowd.all_right()
    assert sorted((site.folder / "runs").read_text().split()) == sorted(str(i) for i in range(PARKED))


def test_preload(bed, version, model):
    """`--preload`"""
    site = Hooked(bed, version, "--preload", "--workers", "2", origin=model.origin)
    crowd = park(site, model)
    model.gate.open()
    crowd.all_right()
    site.signal(signal.SIGTERM)
    ended_cleanly(site)


def test_two_lines_in_wsgi(bed, version, model):
    """A project with the two lines of other servers in its `wsgi.py`"""
    site = Hooked(bed, version, "--workers", "1", app="two_lines", origin=model.origin)
    crowd = park(site, model, 3)
    model.gate.open()
    crowd.all_right()
    assert len(model.server.requests) == 3


# --- the end ---


def test_term_answers_what_is_parked(bed, version, model):
    """TERM: 20 parked calls are answered, then it ends with 0"""
    site = booted(Hooked(bed, version, "--workers", "2", origin=model.origin))
    crowd = park(site, model)
    site.signal(signal.SIGTERM)
    eventually(lambda: nobody_listens(site.address), "the end of the public socket")
    model.gate.open()
    crowd.all_right()
    ended_cleanly(site)


def test_term_to_every_process(bed, version, model):
    """TERM to every process at once, as Heroku and systemd send it: the same"""
    site = Hooked(bed, version, "--workers", "2", origin=model.origin)
    crowd = park(site, model)
    for pid in family(site.arbiter):
        try:
            site.signal(signal.SIGTERM, pid)
        except ProcessLookupError:
            pass
    site.wait_line("stopping: ")
    model.gate.open()
    crowd.all_right()
    ended_cleanly(site)


def test_graceful_timeout(bed, version, model):
    """`graceful_timeout` bounds how long TERM waits"""
    site = Hooked(bed, version, "--graceful-timeout", "1", origin=model.origin)
    crowd = park(site, model, 3)
    site.signal(signal.SIGTERM)
    ended_cleanly(site)
    assert all(result[0] != 200 for result in crowd.join())


@pytest.mark.parametrize("signo", [signal.SIGINT, signal.SIGQUIT])
def test_quick_end(bed, version, model, signo):
    """INT and QUIT end it at once, with 0"""
    site = booted(Hooked(bed, version, "--workers", "2", origin=model.origin))
    crowd = park(site, model, 3)
    site.signal(signo)
    ended_cleanly(site)
    assert all(result[0] != 200 for result in crowd.join())


def test_arbiter_killed(bed, version):
    """kill -9 of the arbiter: everything ends, the secret's folder is removed, the port is free"""
    site = Hooked(bed, version, "--workers", "2", "--timeout", "4")
    pids = family(site.arbiter)
    assert len(site.folders()) == 1
    site.signal(signal.SIGKILL)
    site.process.wait()
    eventually(lambda: site.folders() == [], "the end of the folder")
    eventually(lambda: not any(is_alive(pid) for pid in pids), "the end of all processes")
    assert nobody_listens(site.address)


def test_app_that_cannot_boot(bed, version):
    """An app that cannot boot accepts no client; the exit code is gunicorn's 3"""
    site = Hooked(bed, version, env={"APP_FAILS": "1"}, ready=False)
    ended_cleanly(site, 3)
    assert "tarry: ready" not in site.output


def test_port_in_use(bed, version):
    """A port in use: the message and exit code 1 are gunicorn's"""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        site = Hooked(bed, version, bind="127.0.0.1:%d" % taken.getsockname()[1], ready=False)
        assert site.wait_end() == 1
    assert "in use" in site.output and site.folders() == []


# --- reloads ---


def test_reload_under_load(bed, version):
    """HUP under load: no request fails"""
    site = Hooked(bed, version, "--workers", "2")
    with Load(site) as load:
        for _ in range(2):
            old = set(site.workers())
            site.signal(signal.SIGHUP)
            eventually(lambda old=old: len(site.workers()) == 2 and not old & set(site.workers()), "new workers")
            load.more(20)
    eventually(lambda: len(site.addresses()) == 2, "both addresses")


def test_reload_with_threads_under_load(bed, version):
    """The same with threads"""
    site = Hooked(bed, version, "--workers", "2", "--threads", "3")
    with Load(site) as load:
        old = set(site.workers())
        site.signal(signal.SIGHUP)
        eventually(lambda: len(site.workers()) == 2 and not old & set(site.workers()), "new workers")
        load.more(20)


def test_parked_over_a_reload(bed, version, model):
    """Calls that are parked when HUP comes are answered"""
    site = Hooked(bed, version, "--workers", "2", origin=model.origin)
    crowd = park(site, model)
    old = set(site.workers())
    site.signal(signal.SIGHUP)
    eventually(lambda: len(site.workers()) >= 2 and len(set(site.workers()) - old) == 2, "new workers")
    model.gate.open()
    crowd.all_right()


def test_reload_reads_the_confs_anew(bed, version):
    """HUP reads the user's `gunicorn.conf.py` and `tarry.conf` again"""
    files = {"gunicorn.conf.py": "raw_env = ['APP_WORD=one']\n", "tarry.conf": "target_max = 64\n"}
    site = Hooked(bed, version, files=files)
    assert site.seen()["word"] == "one" and site.get("/ok?" + "x" * 100).status == 414
    (site.folder / "gunicorn.conf.py").write_text("raw_env = ['APP_WORD=two']\n")
    (site.folder / "tarry.conf").write_text("target_max = 1000\n")
    site.signal(signal.SIGHUP)
    eventually(lambda: site.seen()["word"] == "two", "the new gunicorn.conf.py")
    eventually(lambda: site.get("/ok?" + "x" * 100).status == 200, "the new tarry.conf")


def test_reload_to_another_address(bed, version, model):
    """HUP with another `bind`: what is parked at the old address is answered"""
    old, new = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    files = {"gunicorn.conf.py": f"bind = '{old}'\nworkers = 2\n"}
    site = Hooked(bed, version, bind=old, by_conf=True, files=files, origin=model.origin)
    crowd = park(site, model, 5)
    (site.folder / "gunicorn.conf.py").write_text(f"bind = '{new}'\nworkers = 2\n")
    site.signal(signal.SIGHUP)
    site.wait_ready(new)
    eventually(lambda: nobody_listens(old), "the end of the old address")
    model.gate.open()
    crowd.all_right()
    site.address = new
    site.signal(signal.SIGTERM)
    ended_cleanly(site)


def test_upgrade(bed, version, model):
    """USR2, then TERM to the old arbiter, under load: no request fails, and what is parked is answered"""
    site = Hooked(bed, version, "--workers", "2", "--pid", "pid", origin=model.origin)
    crowd = park(site, model, 5)
    with Load(site) as load:
        site.signal(signal.SIGUSR2)
        new = int(eventually(lambda: (site.folder / "pid.2").exists() and (site.folder / "pid.2").read_text().strip(), "the new arbiter"))
        site.wait_workers(2, new)
        load.more(20)
        site.signal(signal.SIGTERM)
        model.gate.open()
        crowd.all_right()
        assert site.process.wait(DEADLINE * 2) == 0
        load.more(20)
    eventually(lambda: (site.folder / "pid").exists() and (site.folder / "pid").read_text().strip() == str(new), "the new pidfile")
    site.signal(signal.SIGTERM, new)
    eventually(lambda: not is_alive(new), "the end of the new arbiter")
    assert site.folders() == [] and nobody_listens(site.address)


# --- workers ---


def test_more_and_fewer_workers(bed, version):
    """TTIN and TTOU under load: no request fails"""
    site = Hooked(bed, version, "--workers", "1")
    with Load(site) as load:
        for signo, n in ((signal.SIGTTIN, 2), (signal.SIGTTIN, 3), (signal.SIGTTOU, 2)):
            site.signal(signo)
            site.wait_workers(n)
            eventually(lambda n=n: len(site.addresses()) == n, f"{n} addresses")
            load.more(10)


@pytest.mark.parametrize("threads", [1, 3])
def test_max_requests(bed, version, threads):
    """`max_requests = 20` under load: no request fails"""
    site = Hooked(bed, version, "--workers", "2", "--max-requests", "20", "--threads", str(threads))
    first = set(site.workers())
    with Load(site) as load:
        load.more(60)
    assert not first & set(site.workers())


def test_parked_over_max_requests(bed, version, model):
    """Calls parked in a worker that `max_requests` replaces are answered"""
    site = Hooked(bed, version, "--workers", "1", "--max-requests", "10", origin=model.origin)
    crowd = park(site, model)
    model.gate.open()
    crowd.all_right()


def test_timeout(bed, version, tmp_path):
    """`timeout = 2` kills a worker that hangs; others serve on"""
    site = Hooked(bed, version, "--workers", "2", "--timeout", "2")
    hung = Crowd(site, 1, f"/hold?until={tmp_path}/never")
    site.wait_line("WORKER TIMEOUT")
    assert hung.join()[0][0] in (500, 502)
    site.wait_workers(2)
    assert site.get("/ok").status == 200


def test_worker_killed(bed, version, model):
    """kill -9 of the worker that has parked calls: they are answered by another"""
    site = Hooked(bed, version, "--workers", "2", origin=model.origin)
    crowd = park(site, model)
    for pid in site.workers():
        site.signal(signal.SIGKILL, pid)
    model.gate.open()
    crowd.all_right()


def test_tarry_killed(bed, version):
    """kill -9 of Tarry: it is started again, and clients wait meanwhile"""
    site = booted(Hooked(bed, version, "--workers", "2"))
    old = site.tarry()
    site.signal(signal.SIGKILL, old)
    assert site.get("/ok").status == 200
    assert site.tarry() != old
    site.wait_line("tarry ended unexpectedly")
    site.signal(signal.SIGTERM)
    ended_cleanly(site)


def test_tarry_that_does_not_start(bed, version, tmp_path):
    """A Tarry that does not start ends gunicorn with 1, after some tries"""
    broken = tmp_path / "broken"
    broken.write_text('#!/bin/sh\n[ "$1" = -t ]\n')
    broken.chmod(0o755)
    site = Hooked(bed, version, env={"TARRY_BINARY": str(broken)}, ready=False)
    ended_cleanly(site, 1)
    assert site.output.count("tarry ended unexpectedly") == 3 and "tarry does not start." in site.output


def test_code_reload(bed, version):
    """`--reload`"""
    app = (hooked.APP / "plain_django.py").read_text()
    site = Hooked(bed, version, "--reload", app="mine", files={"mine.py": app})
    old = site.seen()["pid"]
    (site.folder / "mine.py").write_text(app + "\n# changed\n")
    eventually(lambda: site.seen()["pid"] != old, "another worker")


# --- addresses ---


def test_several_addresses(bed, version):
    """Several `--bind`, a relative unix socket among them"""
    port = free_port()
    site = Hooked(bed, version, bind=[f"127.0.0.1:{port}", f"[::1]:{port}", "unix:site.sock"])
    for address in (site.binds[0], site.binds[1], f"unix:{site.folder}/site.sock"):
        assert site.get("/ok", address=address).status == 200
    site.signal(signal.SIGHUP)
    site.wait_line("reloaded")
    assert site.get("/ok", address=f"unix:{site.folder}/site.sock").status == 200
    site.signal(signal.SIGTERM)
    ended_cleanly(site)
    assert not (site.folder / "site.sock").exists()


def test_systemd_socket(bed, version):
    """A socket from systemd"""
    given = socket.create_server(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % given.getsockname()[1]
    script = f'exec 3<&{given.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" "$@"'
    site = Hooked(bed, version, bind=address, wrap=["/bin/bash", "-c", script], pass_fds=[given.fileno()])
    assert site.get("/ok").status == 200
    site.signal(signal.SIGTERM)
    assert site.wait_end() == 0
    given.close()


def test_tls(bed, version, tmp_path):
    """`--certfile` and `--keyfile`: TLS is Tarry's, and the app sees https"""
    authority = Authority(tmp_path)
    certificate, key = authority.leaf()
    site = Hooked(bed, version, "--certfile", str(certificate), "--keyfile", str(key), ready=False)
    site.wait_line("tarry: ready")
    context = authority.client_context()
    got = eventually(lambda: try_tls(site.address, context), "an answer over TLS")
    assert got["wsgi.url_scheme"] == "https" and got["REMOTE_ADDR"] == "127.0.0.1" and got["secure"]


def try_tls(address, context):
    from harness import Client

    try:
        with Client(address, tls=context, server_name="localhost") as c:
            return c.request("GET", "/").json()
    except OSError:
        return None


def test_daemon(bed, version):
    """`--daemon` with `--pid`"""
    site = Hooked(bed, version, "--daemon", "--pid", "pid", "--error-logfile", "log", ready=False)
    assert site.process.wait(DEADLINE) == 0
    arbiter = int(eventually(lambda: (site.folder / "pid").exists() and (site.folder / "pid").read_text().strip(), "the pidfile"))
    try:
        eventually(lambda: not nobody_listens(site.address) and site.get("/ok").status == 200, "an answer")
        assert "tarry: ready" in (site.folder / "log").read_text()
    finally:
        os.kill(arbiter, signal.SIGTERM)
    eventually(lambda: not is_alive(arbiter), "the end of the arbiter")
    assert site.folders() == [] and not (site.folder / "pid").exists()


def test_workers_stopped_and_started(bed, version):
    """WINCH stops the workers of a daemon, HUP brings them back; clients wait meanwhile"""
    site = Hooked(bed, version, "--daemon", "--pid", "pid", "--error-logfile", "log", ready=False)
    assert site.process.wait(DEADLINE) == 0
    arbiter = int(eventually(lambda: (site.folder / "pid").exists() and (site.folder / "pid").read_text().strip(), "the pidfile"))
    try:
        eventually(lambda: not nobody_listens(site.address) and site.get("/ok").status == 200, "an answer")
        os.kill(arbiter, signal.SIGWINCH)
        eventually(lambda: not [p for p in family(arbiter)[1:] if is_alive(p)], "the end of the workers and of Tarry")
        waiting = Crowd(site, 2, "/ok")
        os.kill(arbiter, signal.SIGHUP)
        assert [status for status, _ in waiting.join()] == [200, 200]
    finally:
        os.kill(arbiter, signal.SIGTERM)
    eventually(lambda: not is_alive(arbiter), "the end of the arbiter")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_user_and_group(bed, version, model):
    """`--user` and `--group`"""
    nobody = pwd.getpwnam("nobody")
    site = Hooked(bed, version, "--workers", "1", "--user", "nobody", "--group", "nogroup", origin=model.origin)
    assert {os.stat(f"/proc/{pid}").st_uid for pid in [*site.workers(), site.tarry()]} == {nobody.pw_uid}
    [folder] = site.folders()
    assert folder.stat().st_uid == 0 and folder.stat().st_mode & 0o777 == 0o711
    assert (folder / "secret").stat().st_mode & 0o777 == 0o600
    crowd = park(site, model, 3)
    model.gate.open()
    crowd.all_right()
    site.signal(signal.SIGHUP)
    site.wait_line("reloaded")
    site.signal(signal.SIGKILL)
    site.process.wait()
    eventually(lambda: site.folders() == [], "the end of the folder")


# --- what the app sees ---


def test_the_app_sees_the_client(bed, version):
    """The app sees the client's address, the server's port and the Host as without Tarry"""
    site = Hooked(bed, version)
    got = site.seen([("X-Forwarded-For", "1.2.3.4"), ("Tarry-Peer", "6.6.6.6:6")])
    assert got["REMOTE_ADDR"] == "127.0.0.1" and got["HTTP_X_FORWARDED_FOR"] == "1.2.3.4"
    assert got["SERVER_PORT"] == site.address.rpartition(":")[2] and got["wsgi.url_scheme"] == "http"
    assert got["tarry"] == []


@pytest.mark.parametrize("allowed, scheme", [("127.0.0.1", "https"), ("*", "https"), ("10.0.0.1", "http")])
def test_forwarded_allow_ips(bed, version, allowed, scheme):
    """`forwarded_allow_ips` decides whose `X-Forwarded-Proto` counts"""
    site = Hooked(bed, version, "--forwarded-allow-ips", allowed)
    assert site.seen([("X-Forwarded-Proto", "https")])["wsgi.url_scheme"] == scheme
    assert site.seen([("X-Forwarded-Proto", "http")])["wsgi.url_scheme"] == "http"
    assert site.seen()["wsgi.url_scheme"] == "http"


def test_redirect_to_https(bed, version):
    """`SECURE_SSL_REDIRECT` behind a TLS-terminating load balancer does not loop"""
    site = Hooked(bed, version, env={"APP_REDIRECTS": "1", "FORWARDED_ALLOW_IPS": "*"}, ready=False)
    site.wait_line("tarry: ready")
    assert eventually(lambda: site.get("/ok").status, "an answer") == 301
    assert site.get("/ok", [("X-Forwarded-Proto", "https")]).status == 200


# --- confs ---


HOOKS = '''
import os
workers = 2
def note(*args):
    with open("hooks", "a") as file:
        file.write(args[0] + "\\n")
def on_starting(server): note("on_starting")
def when_ready(server): note("when_ready")
def pre_fork(server, worker): note("pre_fork")
def post_fork(server, worker): note("post_fork")
def post_worker_init(worker): note("post_worker_init")
def nworkers_changed(server, new, old): note("nworkers_changed")
def on_reload(server): note("on_reload")
def child_exit(server, worker): note("child_exit")
def worker_exit(server, worker): note("worker_exit")
def on_exit(server): note("on_exit")
'''


def test_the_users_conf_and_hooks(bed, version):
    """The user's `gunicorn.conf.py` counts, and all of its hooks run"""
    site = Hooked(bed, version, files={"gunicorn.conf.py": HOOKS})
    site.wait_workers(2)
    site.signal(signal.SIGHUP)
    eventually(lambda: "on_reload" in (site.folder / "hooks").read_text(), "on_reload")
    site.signal(signal.SIGTERM)
    ended_cleanly(site)
    assert set((site.folder / "hooks").read_text().split()) == {
        "on_starting", "when_ready", "pre_fork", "post_fork", "post_worker_init", "nworkers_changed", "on_reload", "child_exit",
        "worker_exit", "on_exit"}  # fmt: skip


def test_access_log(bed, version):
    """`--access-logfile`: one line a request, and USR1 opens it anew"""
    site = Hooked(bed, version, "--access-logfile", "access")
    log = site.folder / "access"
    eventually(lambda: log.exists() and "GET /ok" in log.read_text(), "a line")
    log.rename(site.folder / "access.1")
    site.signal(signal.SIGUSR1)
    site.wait_line("logs reopened")
    site.get("/ok?after")
    eventually(lambda: log.read_text().count("GET /ok?after") == 1, "a line")
    assert '127.0.0.1 - - [' in log.read_text()
    # In a format of the user's own the workers write it: one line a request, too, with the time that the client has waited.
    model, own = Model(bed), "%(h)s %(m)s %(U)s %(s)s %(M)s %({tarry.run}e)s %({tarry.exchange_id}e)s"
    site = Hooked(bed, version, "--access-logfile", "access", "--access-logformat", own.replace("%(M)s", "%(D)s"), origin=model.origin)
    log = site.folder / "access"
    crowd = park(site, model, 1)
    model.gate.open()
    crowd.all_right()
    site.get("/ok?after")
    eventually(lambda: log.exists() and log.read_text().count("/ok 200") == 2, "the lines")  # one is of the harness
    asked = [line.split() for line in log.read_text().splitlines() if "/ok" not in line]
    assert len(asked) == 1 and asked[0][0] == "127.0.0.1" and asked[0][3] == "200" and asked[0][5] == "1" and len(asked[0][6]) > 10


def test_mistakes_are_named(bed, version):
    """A mistake in `tarry.conf` or TARRY_ORIGINS is named, and ends the start with 1"""
    one = Hooked(bed, version, files={"tarry.conf": "queue_maxx = 3\n"}, ready=False)
    assert one.wait_end() == 1
    assert f"{one.folder}/tarry.conf:1: " in one.output and one.folders() == []
    two = Hooked(bed, version, env={"TARRY_ORIGINS": "api.example.com"}, ready=False)
    assert two.wait_end() == 1
    assert "TARRY_ORIGINS: 'api.example.com' is no origin" in two.output and two.folders() == []
    three = Hooked(bed, version, "--ciphers", "ALL", ready=False)
    assert three.wait_end() == 1
    assert "the setting ciphers (--ciphers) cannot be carried over to Tarry: " in three.output and three.folders() == []


def test_other_worker_classes_are_refused(bed, version):
    """Another worker class than sync and gthread is refused, with what to do"""
    other = "from gunicorn.workers.base import Worker\nclass Other(Worker):\n    pass\n"
    site = Hooked(bed, version, "--worker-class", "other.Other", files={"other.py": other}, ready=False)
    assert site.wait_end() == 1
    assert "leave --worker-class out" in site.output


def test_a_thousand_clients(bed, version, model):
    """1,000 clients, each with a call, on two workers"""
    site = Hooked(bed, version, "--workers", "2", origin=model.origin)
    crowd = Crowd(site, 1000)
    model.wait_calls(200)  # over HTTP/1.1 an upstream gets max_connections at once
    assert request(site.address, "GET", "/ok").status == 200
    model.gate.open()
    crowd.all_right()
