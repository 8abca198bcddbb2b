"""gunicorn with Tarry's hook, as its users start it, and what the tests do to it."""

import collections
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading

import stacks
from harness import DEADLINE, Gate, Reply, eventually, free_port, request
from harness.apps import Program
from harness.tarry import find_binary

APP = stacks.HERE / "hook_app"
# One environment each; the last one is the newest.
VERSIONS = {"gunicorn-20.1": "20.1", "gunicorn-21.2": "21.2", "gunicorn-23.0": "23.0", "gunicorn-27.0": "27.0"}
PREFIX = "tarry-gunicorn-"


def children(pid):
    """pid -> command line of the living children."""
    found = {}
    try:
        pids = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return found
    for child in pids:
        try:
            found[int(child)] = pathlib.Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            pass
    return found


def family(pid):
    return [pid, *(one for child in children(pid) for one in family(child))]


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Hooked(Program):
    """`gunicorn -c python:tarry.gunicorn`, with options as on a command line. `bind`: None for a free port of 127.0.0.1; `by_conf`:
    gunicorn.conf.py says it too, and the command does not."""

    what = "gunicorn with Tarry"

    def __init__(self, bed, version, *args, app="plain_django", bind=None, env=None, files=(), origin="http://127.0.0.1:9", wrap=(),
                 ready=True, by_conf=False, pass_fds=()):
        self.folder = bed.folder / f"site{len(bed.parts)}"
        self.folder.mkdir()
        # Short, as the path of a unix socket has room for 107 bytes.
        self.tmp = pathlib.Path(tempfile.mkdtemp(prefix="hook", dir="/tmp"))
        self.tmp.chmod(0o755)
        for name, text in dict(files).items():
            (self.folder / name).write_text(text)
        self.binds = bind if isinstance(bind, list) else [bind or f"127.0.0.1:{free_port()}"]
        self.address = self.binds[0]
        command = [*wrap, stacks.BUILD / version / "bin" / "gunicorn", "-c", "python:tarry.gunicorn", *args,
                   *(word for one in self.binds if not by_conf for word in ("--bind", one)), f"{app}:application"]
        env = {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": f"{stacks.REPO / 'python'}:{APP}",
               "TARRY_BINARY": find_binary(), "TMPDIR": str(self.tmp), "MODEL_ORIGIN": origin, "TARRY_ORIGINS": origin, **(env or {})}
        super().__init__(command, env, str(self.folder), pass_fds)
        bed.add(self)
        self.arbiter = self.pid
        if ready:
            self.wait_ready()

    def wait_ready(self, address=None, target="/ok"):
        def answered():
            assert self.process.poll() is None, f"gunicorn has ended:\n{self.output[-4000:]}"
            try:
                return request(address or self.address, "GET", target, timeout=DEADLINE).status
            except OSError:
                return None

        return eventually(answered, "gunicorn to answer")

    def get(self, target="/ok", headers=(), method="GET", address=None):
        return request(address or self.address, method, target, headers)

    def seen(self, headers=(), address=None):
        return self.get("/", headers, address=address).json()

    # --- its processes ---
    def tarry(self, arbiter=None):
        """The process that the arbiter has started as Tarry, once it is Tarry."""
        return eventually(lambda: [p for p, line in children(arbiter or self.arbiter).items() if line.startswith("tarry ")], "Tarry")[0]

    def workers(self, arbiter=None):
        return [p for p, line in children(arbiter or self.arbiter).items() if "gunicorn" in line and not line.startswith("tarry ")]

    def wait_workers(self, n, arbiter=None):
        eventually(lambda: len(self.workers(arbiter)) == n, f"{n} workers")

    def addresses(self):
        """The workers' sockets that exist, by their numbers."""
        return sorted(path.name for path in self.tmp.glob(f"{PREFIX}*/run/[0-9]*.sock"))

    def folders(self):
        return list(self.tmp.glob(f"{PREFIX}*"))

    def signal(self, signo, pid=None):
        os.kill(pid or self.arbiter, signo)

    def wait_end(self):
        """The exit code, once every process that belongs to it has ended."""
        code = self.process.wait(DEADLINE + 30)
        self._reader.join(DEADLINE)
        return code

    def stop(self):
        super().stop()
        shutil.rmtree(self.tmp, ignore_errors=True)


class Model:
    """The service that the app asks: it holds every answer until the test lets it go."""

    def __init__(self, bed):
        self.gate = Gate()
        self.server = bed.upstream(self._answer, backlog=4096)
        self.origin = self.server.origin

    def _answer(self, request, connection):
        self.gate.wait(DEADLINE * 4)
        return Reply(200, b"answer to " + request.body)

    def wait_calls(self, n):
        self.server.wait_for(n)


class Crowd:
    """So many requests at once, each in a thread: what came of them."""

    def __init__(self, site, n, target="/ask?q=%d", method="GET"):
        self.results = [None] * n
        self.threads = [threading.Thread(target=self._one, args=(site.address, i, target, method), daemon=True) for i in range(n)]
        for thread in self.threads:
            thread.start()

    def _one(self, address, i, target, method):
        try:
            got = request(address, method, target % i if "%d" in target else target, timeout=DEADLINE * 4)
            self.results[i] = (got.status, got.body.decode() if isinstance(got.body, bytes) else got.body)
        except Exception as error:
            self.results[i] = (type(error).__name__, str(error))

    def join(self):
        for thread in self.threads:
            thread.join(DEADLINE * 5)
        return self.results

    def all_right(self):
        self.join()
        wrong = [r for i, r in enumerate(self.results) if r != (200, f"answer to {i}")]
        assert not wrong, f"{len(wrong)} of {len(self.results)} went wrong: {wrong[:3]}"


class Load:
    """Clients that ask one after the other for as long as the block lasts; POST, which nobody may send twice."""

    def __init__(self, site, clients=4, target="/ok", method="POST"):
        self.address, self.target, self.method = site.address, target, method
        self.outcomes = collections.Counter()
        self._lock = threading.Lock()
        self._going = True
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.more(10)
        return self

    def __exit__(self, *exc):
        self._going = False
        for thread in self._threads:
            thread.join(DEADLINE * 2)
        if exc[0] is None:
            wrong = {what: n for what, n in self.outcomes.items() if what != 200}
            assert not wrong, f"{wrong} beside {self.outcomes[200]} that went well"

    def more(self, n):
        """Waits until so many further requests have been answered."""
        target = self.outcomes[200] + n
        eventually(lambda: self.outcomes[200] >= target or set(self.outcomes) - {200}, f"{n} more answers")

    def _run(self):
        while self._going:
            try:
                outcome = request(self.address, self.method, self.target, body=b"" if self.method == "POST" else None,
                                  timeout=DEADLINE * 2).status
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}"[:80]
            with self._lock:
                self.outcomes[outcome] += 1


def nobody_listens(address):
    try:
        request(address, "GET", "/ok", timeout=2)
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def run(command, **more):
    return subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
