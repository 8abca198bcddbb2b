"""The processes of a measurement, what they use, and the figures of the load driver: for scripts/bench and scripts/quickstart."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HERTZ = os.sysconf("SC_CLK_TCK")


class Trouble(Exception):
    """What keeps a measurement from being made, for the person who started it."""


def family(pid):
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [p for child in task.read_text().split() for p in family(int(child))]
        except OSError:
            pass
    return found


def born(pid):
    """When a process began, in ticks; None if there is none. It tells a process from another of the same number."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None


def private_kib(pids):
    """Memory that these processes share with nobody; 0 where the kernel does not tell."""
    kib = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                kib += int(line.split()[1])
    return kib


def cpu_seconds(pids):
    """Time on a processor that these processes have used: of their threads, or in ticks where some of them have ended."""
    seconds = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        threads = [int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
        seconds += max((int(fields[11]) + int(fields[12])) / HERTZ, sum(threads) / 1e9)
    return seconds


class Stage:
    """The processes of one measurement and the folder they write to; leaving it ends them all."""

    def __init__(self, build, folder=None):
        """`folder`: where the files go, and stay; without it a folder of its own, which goes with it."""
        self.build = build
        self.keep = folder is not None
        self.folder = folder or Path(tempfile.mkdtemp(prefix="tarry-bench-"))
        self.started = []

    def __enter__(self):
        return self

    def __exit__(self, *why):
        below = {pid: born(pid) for process in self.started if process.poll() is None for pid in family(process.pid)[1:]}
        # Asked once they finish what they have in hand, asked twice they end.
        for signal_number, patience in ((signal.SIGTERM, 2), (signal.SIGTERM, 2), (signal.SIGKILL, 5)):
            for process in reversed(self.started):
                if process.poll() is None:
                    process.send_signal(signal_number)
            deadline = time.monotonic() + patience
            for process in self.started:
                try:
                    process.wait(max(0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    pass
        for pid, since in below.items():
            if since is not None and born(pid) == since:  # it outlived its parent, and is no other process of that number
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def file(self, name, text):
        path = self.folder / name
        path.touch(0o600)
        path.write_text(text)
        return path

    def start(self, name, command, ready, env=None):
        """Runs a command with its output in NAME.log. `ready` is a pattern that its output will hold, or a function that becomes
        true. Returns the process and the pattern's groups."""
        log = self.folder / f"{name}.log"
        with log.open("w") as out:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            )
        self.started.append(process)
        deadline = time.monotonic() + 20
        while True:
            found = ready() if callable(ready) else re.search(ready, log.read_text(), re.M)
            if found:
                return process, () if callable(ready) else found.groups()
            if process.poll() is not None or time.monotonic() > deadline:
                raise Trouble(f"{name} does not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)

    def program(self, path):
        return self.build / path

    def provider(self, *options):
        """The stand-in for the model's service. Its origin over TLS, its CA's file, and its plain address."""
        command = [self.program("tests/provider/provider"), "--http", "127.0.0.1:0", "--https", "127.0.0.1:0"]
        command += ["--certs", self.folder / "certs", "--quiet", *options]
        _, (line,) = self.start("provider", command, r"^provider: ready(.*)$")
        found = dict(word.split("=", 1) for word in line.split())
        return f"https://{found['https']}", found["ca"], f"http://{found['http']}"

    def backend(self, listen, *options):
        command = [self.program("tests/bench/backend"), "--listen", listen, *options]
        return self.start("backend", command, r"^backend: ready listen=(.*)$")[1][0]

    def tarry(self, server, slots, upstream=None):
        """Tarry before one server. Its process ids and its address."""
        listen = f"127.0.0.1:{free_port()}"
        conf = f'''
            listen "{listen}" {{ }}
            max_connections = {min(16000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 400)}
            workers "app" {{
                server "{server}" {{ slots = {slots} }}
                queue_max        = 20000
                queue_timeout    = "2m"
                response_timeout = "2m"
                {f'secret_file = "{upstream["secret"]}"' if upstream and "secret" in upstream else ""}
            }}
            route "/" {{ workers = "app" }}
        '''
        if upstream:
            conf += f'''
            upstream "model" {{
                origin     = "{upstream["origin"]}"
                ca_file    = "{upstream["ca"]}"
                set_header = {{ "Authorization: Bearer sk-stand-in" }}
                max_connections = 512 # 10,000 calls at 32 on each, with room
                rate_limit_headers = false # the stand-in names limits, as the services do
            }}
            '''
        command = [self.program("proxy/tarry"), "-c", self.file("tarry.conf", conf)]
        process, _ = self.start("tarry", command, r"^tarry: ready")
        return family(process.pid), listen

    def load_command(self, url, clients, requests, *options):
        return [
            str(word)
            for word in (
                self.program("tests/bench/load"), "--json", "--url", url, "--clients", clients,
                "--requests", requests, *options,
            )
        ]

    def load(self, url, clients, requests, *options):
        """Runs the load driver to its end: its figures."""
        done = subprocess.run(
            self.load_command(url, clients, requests, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        if done.returncode not in (0, 1):
            raise Trouble(done.stderr.decode())
        return told(done.stdout, done.stderr)


def told(out, err):
    figures = json.loads(out)
    if figures["failed"]:
        figures["first_failures"] = err.decode(errors="replace")[-600:]
    return figures


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
