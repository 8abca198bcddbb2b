"""Hooks and signals in the arbiter. The state lives here and not in tarry.gunicorn, which is loaded anew by each reload."""

from __future__ import annotations

import atexit
import fcntl
import os
import secrets
import shutil
import signal
import sys
import tempfile
from typing import Any, NoReturn, Optional

from ...settings import settings
from .. import binary, origins
from . import conf, options
from .proxy import UNKNOWN, Proxy, text_address

PREFIX = "tarry-gunicorn-"
HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGCHLD)
# For a stop at once: what is in flight has no time, but its clients get an answer.
QUICK = 1.1
CONF_VARIABLE = "TARRY_CONF"


class Hook:
    """What the arbiter knows, and its workers by the fork."""

    def __init__(self) -> None:
        self.owner = 0  # the arbiter's pid; 0: there is none yet
        self.server: Any = None
        self.config_folder = ""  # of the user's gunicorn config
        self.folder = ""  # the conf and the secret, and in run/ the workers' sockets
        self.secret = ""
        self.access_log: Optional[str] = None
        self.proxy = Proxy()
        self.addresses: list[str] = []  # the public ones that Tarry was started with
        self.stopping = 0  # the signal that gunicorn gets once Tarry has ended
        self.replaced: dict[int, Any] = {}  # gunicorn's signal handlers
        self.lock: Any = None
        self.leaving: dict[int, Any] = {}  # workers that stay for the views that wait in them; gunicorn has others in their place

    def is_arbiter(self) -> bool:
        return self.owner == os.getpid()

    def address(self, number: int) -> str:
        return os.path.join(self.folder, "run", f"{number}.sock")

    def own_address(self, pid: int) -> str:
        return os.path.join(self.folder, "run", f"w{pid}.sock")

    def leaving_mark(self, pid: int) -> str:
        """A file that says: this worker takes no new requests, but is not done."""
        return os.path.join(self.folder, "run", f"w{pid}.leaving")

    def end_mark(self) -> str:
        """A file that says: no answer will come any more, nobody need stay for one."""
        return os.path.join(self.folder, "run", "end")

    def conf_path(self) -> str:
        return os.path.join(self.folder, "tarry.conf")

    def tcp_address(self) -> Optional[tuple[str, int]]:
        for address in self.addresses:
            if not address.startswith("unix:"):
                host, _, port = address.rpartition(":")
                return host.strip("[]"), int(port)
        return None


hook = Hook()


# --- hooks --------------------------------------------------------------------------------------------------------------------


def on_starting(server: Any) -> None:
    """Before anything is bound: what cannot work is said now."""
    from gunicorn.workers.gthread import ThreadWorker
    from gunicorn.workers.sync import SyncWorker

    forget_config()
    cfg = server.cfg
    if not issubclass(server.worker_class, (SyncWorker, ThreadWorker)):
        fail(server, f"the worker class {cfg.worker_class_str!r} cannot be behind Tarry; leave --worker-class out, or use sync or "
                     "gthread: a request that waits for a model holds no worker")  # fmt: skip
    why = options.refusal(cfg)
    if why:
        fail(server, why)
    path = binary.find()
    if path is None:
        fail(server, "there is no compiled tarry: install a wheel for this platform or your distribution's package, or name the "
                     "binary in TARRY_BINARY")  # fmt: skip
    hook.proxy.path = path
    take_over(server)


def when_ready(server: Any) -> None:
    """The public addresses are bound, the signal handlers are gunicorn's, and no worker is there yet."""
    hook.owner, hook.server = os.getpid(), server
    atexit.register(on_exit, server)  # not every way out of gunicorn leads to its on_exit
    remove_leftovers()
    make_folder(server.cfg)
    hook.secret = secrets.token_urlsafe(32)
    settings.secret = settings.secret or hook.secret
    write("secret", hook.secret + "\n")
    hook.proxy.prepare(hook.proxy.path, hook.folder, hook.conf_path())
    hook.addresses = addresses_of(server)
    try:
        write_conf(server)
    except origins.BadOrigin as error:
        fail(server, str(error))
    complaint = hook.proxy.check()
    if complaint:
        fail(server, f"tarry refuses its conf:\n{complaint}")
    for signo in HEARD:
        hook.replaced[signo] = signal.signal(signo, on_signal)
    hook.proxy.start(server.LISTENERS)


def pre_fork(server: Any, worker: Any) -> None:
    """Each worker has a number: the lowest that the fewest living ones have. During a reload the new workers take the numbers of
    the old ones, and their addresses once they serve."""
    taken = [living.tarry_number for living in server.WORKERS.values()]
    worker.tarry_number = min(range(max(1, server.num_workers)), key=lambda n: (taken.count(n), n))


def child_exit(server: Any, worker: Any) -> None:
    for path in (hook.own_address(worker.pid), hook.leaving_mark(worker.pid)):
        try:
            os.unlink(path)
        except OSError:
            pass


def nworkers_changed(server: Any, new: int, old: Optional[int]) -> None:
    """gunicorn's control socket may call it from another thread."""
    if not hook.is_arbiter() or hook.stopping or new == old:
        return
    if not new:  # SIGWINCH: the workers go, and what waits for them would wait for nothing
        hook.proxy.retire()
    elif not hook.proxy.pid and server.LISTENERS:
        write_conf(server)
        hook.proxy.start(server.LISTENERS)
    elif write_conf(server):
        hook.proxy.signal(signal.SIGHUP)


def on_reload(server: Any) -> None:
    """gunicorn has read its config anew, and opened new listeners if `bind` has changed."""
    forget_config()
    if not hook.is_arbiter() or hook.stopping:
        return
    why = options.refusal(server.cfg)
    if why:
        server.log.error("tarry: %s; the old conf stays in force", why)
        return
    take_over(server)
    old, hook.addresses = hook.addresses, addresses_of(server)
    try:
        write_conf(server)
    except origins.BadOrigin as error:
        server.log.error("tarry: %s; the old conf stays in force", error)
        return
    if old != hook.addresses:
        hook.proxy.replace(server.LISTENERS)  # descriptors are inherited at the start only
    else:
        hook.proxy.signal(signal.SIGHUP)


def on_exit(server: Any) -> None:
    if not hook.is_arbiter():
        return
    hook.owner = 0
    hook.proxy.end(QUICK)
    shutil.rmtree(hook.folder, ignore_errors=True)


# --- signals ------------------------------------------------------------------------------------------------------------------


def on_signal(signo: int, frame: Any) -> None:
    theirs = hook.replaced[signo]
    if not hook.is_arbiter():  # a worker between its fork and its own handlers, or an arbiter that has done its work
        if signo != signal.SIGCHLD or hook.owner == 0:
            theirs(signo, frame)
        return
    if signo == signal.SIGCHLD:
        replace_leaving()
        after_a_death()
    elif signo == signal.SIGUSR1:
        hook.proxy.signal(signal.SIGUSR1)
    elif signo == signal.SIGTERM and (hook.proxy.pid or hook.proxy.draining):
        # gunicorn hears of it when Tarry has ended: until then the workers answer what is parked. A second one is passed on,
        # and Tarry stops at once.
        if not hook.stopping:
            close_public()
        hook.stopping = signo
        hook.proxy.signal_all(signal.SIGTERM)
        return
    elif signo in (signal.SIGINT, signal.SIGQUIT):
        hook.stopping = signo
        end_leaving()
        hook.proxy.signal_all(signal.SIGTERM)
    theirs(signo, frame)


def after_a_death() -> None:
    status = hook.proxy.look()
    if hook.stopping == signal.SIGTERM and not hook.proxy.pid and not hook.proxy.draining:
        hook.stopping = signal.SIGINT  # only once
        end_leaving()
        hook.replaced[signal.SIGTERM](signal.SIGTERM, None)
    if status is None or hook.stopping:
        return
    how = "" if status == UNKNOWN else f", {describe(status)}"
    hook.server.log.error("tarry ended unexpectedly%s", how)
    if hook.proxy.gave_up():
        from gunicorn.errors import HaltServer

        raise HaltServer("tarry does not start.", 1)
    hook.proxy.start(hook.server.LISTENERS)


def replace_leaving() -> None:
    """A worker that is to go but has views that wait in it says so by a file and SIGCHLD. For gunicorn it has gone, so that
    another one is started now and not when the last view has its answer."""
    if hook.stopping:
        return
    for name in os.listdir(os.path.join(hook.folder, "run")):
        pid = int(name[1:-8]) if name.endswith(".leaving") and name[1:-8].isdecimal() else 0
        worker = hook.server.WORKERS.pop(pid, None)
        if worker is not None:
            hook.leaving[pid] = worker
    for pid, worker in [*hook.leaving.items()]:
        if ended(pid):
            del hook.leaving[pid]
            worker.tmp.close()
            hook.server.cfg.child_exit(hook.server, worker)


def end_leaving() -> None:
    """Tarry has ended: no answer will come."""
    try:  # the workers' account could have put a link there
        os.close(os.open(hook.end_mark(), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except OSError:
        pass
    for pid in hook.leaving:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass


def ended(pid: int) -> bool:
    """gunicorn takes its status, or we do."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def describe(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"by signal {os.WTERMSIG(status)}"
    return f"with status {os.WEXITSTATUS(status)}"


def close_public() -> None:
    """As gunicorn's stop() does it first, so that new clients are refused. Tarry has its own copies and closes them too."""
    from gunicorn import sock

    server = hook.server
    listeners, server.LISTENERS = server.LISTENERS, []
    sock.close_sockets(listeners, server.reexec_pid == server.master_pid == 0 and not server.systemd)


# --- the folder ---------------------------------------------------------------------------------------------------------------


def make_folder(cfg: Any) -> None:
    """Only the arbiter's account can write beside the secret; in run/ the workers can, which may have another one."""
    hook.folder = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=temp_folder())
    run = os.path.join(hook.folder, "run")
    os.mkdir(run, 0o700)
    if os.geteuid() == 0 and cfg.uid:
        os.chmod(hook.folder, 0o711)
        os.chown(run, cfg.uid, cfg.gid)
    # Held until the arbiter is gone, however it goes: remove_leftovers() of the next one looks for it.
    # It gets its name when it is locked, so that nobody finds it unlocked.
    path = os.path.join(hook.folder, "lock")
    hook.lock = open(path + ".new", "w", encoding="ascii")
    fcntl.flock(hook.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.rename(path + ".new", path)


def temp_folder() -> str:
    """A socket's path has room for 107 bytes."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= 48 else "/tmp"


def remove_leftovers() -> None:
    """Folders of arbiters that were killed together with Tarry and everything else, by an account like ours."""
    for entry in os.scandir(temp_folder()):
        if not entry.name.startswith(PREFIX) or not entry.is_dir(follow_symlinks=False):
            continue
        try:
            if entry.stat(follow_symlinks=False).st_uid != os.geteuid():
                continue
            with open(os.path.join(entry.path, "lock"), "r", encoding="ascii") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(entry.path, ignore_errors=True)
        except OSError:
            continue  # its arbiter lives, or it is just being made


def write(name: str, text: str) -> bool:
    """Replaces a file of the folder. True if that is news."""
    path = os.path.join(hook.folder, name)
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return False
    except FileNotFoundError:
        pass
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)
    return True


def write_conf(server: Any) -> bool:
    cfg = server.cfg
    site = conf.Site(
        addresses=hook.addresses,
        servers=[hook.address(n) for n in range(max(1, server.num_workers))],
        slots=max(1, cfg.threads) if server.worker_class.__name__ == "ThreadWorker" or cfg.worker_class_str == "gthread" else 1,
        secret_file=os.path.join(hook.folder, "secret"),
        access_log=hook.access_log,
        override=own_conf(),
    )
    return write("tarry.conf", conf.text_of(cfg, site))


def own_conf() -> Optional[str]:
    """The user's tarry.conf: the one that TARRY_CONF names, or one beside gunicorn.conf.py, or in the current folder."""
    given = os.environ.get(CONF_VARIABLE)
    if given:
        return os.path.abspath(given)
    path = os.path.join(hook.config_folder or os.getcwd(), "tarry.conf")
    return path if os.path.exists(path) else None


# --- gunicorn -----------------------------------------------------------------------------------------------------------------


def take_over(server: Any) -> None:
    """The access log has a line a request in place of a line a visit, with the client's address: Tarry writes it, unless it has a form of
    the user's own. With reuse_port each worker would bind the public address for itself."""
    cfg = server.cfg
    hook.access_log = None if options.keeps_access_log(cfg) else cfg.accesslog
    if hook.access_log:
        cfg.set("accesslog", None)
        server.log.setup(cfg)  # as a reload does; it has opened the file already
    if cfg.reuse_port:
        cfg.set("reuse_port", False)


def addresses_of(server: Any) -> list[str]:
    return [text_address(listener.getsockname()) for listener in server.LISTENERS]


def forget_config() -> None:
    """So that gunicorn's next reload runs the config, and with it the user's own, once more."""
    sys.modules.pop("tarry.gunicorn", None)


def fail(server: Any, why: str) -> NoReturn:
    server.log.error("%s", why)
    if server.LISTENERS:
        close_public_of(server)
    if server.pidfile is not None:
        server.pidfile.unlink()
    on_exit(server)
    sys.exit(1)


def close_public_of(server: Any) -> None:
    hook.server = server
    close_public()
