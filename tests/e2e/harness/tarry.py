"""The proxy under test: its conf, its process, its logs."""

import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

from .base import DEADLINE, eventually, free_port
from .client import Client
from .h2client import H2Client

REPO = pathlib.Path(__file__).resolve().parents[3]
READY = "tarry: ready"
SANITIZERS = re.compile(r"ERROR: AddressSanitizer|runtime error:|LeakSanitizer|UndefinedBehaviorSanitizer")
# The line of the log that ends a SIGHUP, for the good and for the bad.
RELOADED = re.compile(r"\bconf\b.*\b(reloaded|read again|taken over)\b|\breload(ed)?\b(?!.*(fail|refus|unchanged|keep))", re.I)
REFUSED = re.compile(r"\b(reload|conf)\b.*(fail|refus|unchanged|keep|stays|kept)", re.I)


BROKER = "tarry-broker"


def find_binary():
    """TARRY_BIN, or the binary of an out-of-tree or in-tree build."""
    given = os.environ.get("TARRY_BIN")
    for path in [given] if given else [REPO / "build/proxy/tarry", REPO / "proxy/tarry"]:
        if path and os.access(path, os.X_OK) and os.path.isfile(path):
            return str(path)
    raise AssertionError(f"no tarry to test: {given or 'build it in ' + str(REPO / 'build')} or set TARRY_BIN")


def _value(v):
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, int):
        return str(v)
    if isinstance(v, (list, tuple)):
        return "{ " + ", ".join(_value(x) for x in v) + " }"
    return '"' + str(v).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _block(name, title, options, inner=""):
    head = f'{name} "{title}"' if title is not None else name
    return head + " {\n" + "".join(f"    {k} = {_value(v)}\n" for k, v in options.items() if v is not None) + inner + "}\n"


class Conf:
    """A conf whose parts a test changes before it is written: one listener, one pool "app", one upstream "up", a JSON
    access log in a file, the debug log on standard error, and short waits at shutdown. An option set to None is left out."""

    def __init__(self, folder, servers=(), origin=None, slots=4):
        self.folder = pathlib.Path(folder)
        self.top = {"temp_dir": str(self.folder), "shutdown_timeout": "3s"}
        if os.geteuid() != 0:  # tests look into /proc/PID, which only root may for a process that hides its memory
            self.top["core_dumps"] = True
        self.log = {"level": "debug", "target": "stderr"}
        self.access_log = {"target": str(self.folder / "access.log"), "format": "json"}
        self.listens = {f"127.0.0.1:{free_port()}": {}}
        self.identities = {}  # of every listener with a certificate: name -> options
        self.servers = {s if isinstance(s, str) else s.address: {"slots": slots} for s in servers}
        self.pool = {}
        self.pools = {}  # further ones: name -> (options, {server address: options})
        self.upstreams = {}
        if origin:
            self.upstreams["up"] = {"origin": origin if isinstance(origin, str) else origin.origin,
                                    "retry_first_pause": "20ms"}
        self.endpoints = {}  # of upstreams: name -> {endpoint: options}
        self.limits = {}  # of upstreams: name -> [options]
        self.routes = [("/", {"workers": "app"})] if self.servers else []
        self.admins = {}
        self.sections = {}  # without a title: name -> options
        self.extra = ""

    @property
    def up(self):
        return self.upstreams["up"]

    @property
    def address(self):
        return next(iter(self.listens))

    def text(self):
        out = "".join(f"{k} = {_value(v)}\n" for k, v in self.top.items() if v is not None)
        out += _block("log", None, self.log)
        if self.access_log:
            out += _block("access_log", None, self.access_log)
        for address, options in self.listens.items():
            inner = "".join("    " + _block("identity", n, o).replace("\n", "\n    ").rstrip() + "\n"
                            for n, o in self.identities.items() if "certificate" in options)
            out += _block("listen", address, options, inner)
        pools = dict(self.pools)
        if self.servers:
            pools["app"] = (self.pool, self.servers)
        for name, (options, servers) in pools.items():
            inner = "".join("    " + _block("server", a, o).replace("\n", "\n    ").rstrip() + "\n" for a, o in servers.items())
            out += _block("workers", name, options, inner)
        for name, options in self.upstreams.items():
            inner = "".join("    " + _block("endpoint", n, o).replace("\n", "\n    ").rstrip() + "\n"
                            for n, o in self.endpoints.get(name, {}).items())
            inner += "".join("    " + _block("limit", None, o).replace("\n", "\n    ").rstrip() + "\n" for o in self.limits.get(name, []))
            out += _block("upstream", name, options, inner)
        for prefix, options in self.routes:
            out += _block("route", prefix, options)
        for address, options in self.admins.items():
            out += _block("admin", address, options)
        for name, options in self.sections.items():
            out += _block(name, None, options)
        return out + self.extra


class AccessLog:
    def __init__(self, path):
        self.path = pathlib.Path(path)

    @property
    def lines(self):
        if not self.path.exists():
            return []
        text = self.path.read_text("utf-8")
        return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]

    def wait_for(self, check=lambda line: True, n=1, timeout=None):
        """Waits until n lines that check(line) accepts are there; returns the last of these n."""
        def found():
            got = [line for line in self.lines if check(line)]
            return got if len(got) >= n else None
        try:
            return eventually(found, f"{n} lines of the access log", timeout)[n - 1]
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.lines[-20:]}") from None


class Tarry:
    """The running proxy. `conf` is a Conf or text; text needs `address`. None: the arguments say it all."""

    def __init__(self, folder, conf, address=None, env=None, start=True, args=(), preexec=None, pass_fds=()):
        self.folder = pathlib.Path(folder)
        self.conf = conf
        self.address = address or (conf.address if isinstance(conf, Conf) else None)
        self.path = self.folder / "tarry.conf"
        self.env = env or {}
        self.args, self.preexec, self.pass_fds = list(args), preexec, pass_fds
        self.access = AccessLog(self.folder / "access.log")
        self.lines = []
        self._more = threading.Condition()
        self.process = None
        self.write(conf)
        if start:
            self.start()

    port = property(lambda self: int(self.address.rpartition(":")[2]))
    url = property(lambda self: f"http://{self.address}")
    pid = property(lambda self: self.process.pid)
    stderr = property(lambda self: "\n".join(self.lines))

    def write(self, conf):
        self.conf = conf
        if conf is not None:
            self.path.write_text(conf.text() if isinstance(conf, Conf) else conf)

    def start(self, ready=True):
        env = dict(os.environ, **self.env)
        env.setdefault("ASAN_OPTIONS", "detect_leaks=1")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        source = ["-c", str(self.path)] if self.conf is not None else []
        self.process = subprocess.Popen([find_binary(), *source, *self.args], env=env, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=self.preexec, pass_fds=self.pass_fds)
        since = len(self.lines)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if ready:
            self.wait_log(lambda line: line.strip() == READY, "the line " + READY, since)

    def _read(self):
        for raw in self.process.stderr:
            with self._more:
                self.lines.append(raw.decode("utf-8", "replace").rstrip("\n"))
                self._more.notify_all()
        with self._more:
            self._more.notify_all()

    def wait_log(self, check, what=None, since=0, timeout=None):
        """Waits for a line of standard error, from line `since` on. `check`: a function, a regular expression or a text."""
        if isinstance(check, str):
            what, text = what or repr(check), check
            check = lambda line: text in line  # noqa: E731
        elif isinstance(check, re.Pattern):
            what, pattern = what or check.pattern, check
            check = lambda line: pattern.search(line)  # noqa: E731
        end = time.monotonic() + (DEADLINE if timeout is None else timeout)
        at = since
        with self._more:
            while True:
                for line in self.lines[at:]:
                    if check(line):
                        return line
                at = len(self.lines)
                dead = self.process.poll() is not None and not self._reader.is_alive()
                if dead or not self._more.wait(min(0.2, end - time.monotonic())) and time.monotonic() > end:
                    raise AssertionError(f"{'tarry ended' if dead else 'waited in vain'} before {what or 'a log line'}:\n"
                                         + "\n".join(self.lines[-60:]))

    def reload(self, conf, refused=False):
        """Writes the conf, sends SIGHUP and waits for the line that says what became of it; returns that line."""
        since = len(self.lines)
        self.write(conf)
        self.process.send_signal(signal.SIGHUP)
        pattern = REFUSED if refused else RELOADED
        return self.wait_log(pattern, "the line that ends the reload", since)

    def client(self, **more):
        return Client(self.address, **more)

    def h2(self, **more):
        return H2Client(self.address, **more)

    def request(self, method="GET", target="/", headers=(), body=None, timeout=None, **more):
        """One request on a connection of its own."""
        with self.client() as c:
            return c.request(method, target, headers, body, timeout, **more)

    def get(self, target="/", headers=(), **more):
        return self.request("GET", target, headers, **more)

    def post(self, target="/", body=b"", headers=(), **more):
        return self.request("POST", target, headers, body, **more)

    def ask_admin(self, page):
        """A page of the conf's first admin listener."""
        with Client(next(iter(self.conf.admins))) as c:
            got = c.request("GET", page)
        assert got.status == 200, got
        return got.text

    def status(self):
        return json.loads(self.ask_admin("/status"))

    def metrics(self):
        """The lines of /metrics: name (with labels) -> value."""
        lines = (line for line in self.ask_admin("/metrics").splitlines() if not line.startswith("#"))
        return {name: float(value) if "." in value else int(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def metric_lines(self, start):
        """The lines of /metrics that begin so."""
        return [line for line in self.ask_admin("/metrics").splitlines() if line.startswith(start)]

    def metric(self, name):
        return self.metrics()[name]

    alive = property(lambda self: self.process.poll() is None)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def sanitized(self):
        """Whether it is a build with AddressSanitizer, which keeps freed memory: no test of memory means anything then."""
        return b"__asan_init" in pathlib.Path(find_binary()).read_bytes()

    def private_memory(self):
        """Bytes of private memory."""
        text = pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return 1024 * sum(int(n) for n in re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", text, re.M))

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        """SIGTERM. It must exit 0 in time, and no sanitizer may have complained."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("tarry did not end on SIGTERM") from None
        self._reader.join(DEADLINE)
        self.process.stderr.close()
        self.process, gone = None, self.process
        assert not SANITIZERS.search(self.stderr), "a sanitizer complained:\n" + self.stderr[-8000:]
        assert code == 0, f"tarry exited {code}:\n" + "\n".join(self.lines[-60:])
        return gone

    def wait_end(self, *codes, timeout=None):
        """Waits until it has ended by itself; its exit code must be one of `codes` (0 if none is given)."""
        try:
            code = self.process.wait(DEADLINE if timeout is None else timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError("tarry has not ended") from None
        self._reader.join(DEADLINE)
        self.process = None
        assert not SANITIZERS.search(self.stderr), "a sanitizer complained:\n" + self.stderr[-8000:]
        assert code in (codes or (0,)), f"tarry exited {code}:\n" + "\n".join(self.lines[-60:])
        return code

    def signal(self, number):
        self.process.send_signal(number)

    def children(self):
        """The processes of a conf with more than one."""
        text = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(p) for p in text.split()]

    def broker(self):
        """The process that opens what the others may not, or None."""
        mine = pathlib.Path(f"/proc/{self.pid}/cmdline").read_bytes()
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "comm").read_text().strip() == BROKER and (folder / "cmdline").read_bytes() == mine:
                    return int(folder.name)
            except OSError:
                pass
        return None

    def kill(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def run_command(*args, env=None):
    """The command with these arguments: (exit code, standard output, standard error)."""
    done = subprocess.run([find_binary(), *map(str, args)], capture_output=True, text=True, timeout=DEADLINE, stdin=subprocess.DEVNULL,
                          env=dict(os.environ, **(env or {})))
    assert not SANITIZERS.search(done.stderr), done.stderr
    return done.returncode, done.stdout, done.stderr


def check_conf(path, env=None):
    """tarry -t: (exit code, standard error)."""
    code, _, err = run_command("-t", "-c", path, env=env)
    return code, err
