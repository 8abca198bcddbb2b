"""Builds Tarry and shows what it does; scripts/quickstart runs this. Nothing but the standard library is needed."""

import argparse
import contextlib
import fcntl
import http.client
import json
import os
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

from stage import Stage, Trouble, cpu_seconds, family, private_kib

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "packaging/wheel"))

import native  # noqa: E402

BUILD = TOP / "build"
FOLDER = BUILD / "quickstart"
CHAT = TOP / "examples/chat"
DELAY = 2  # seconds that the stand-in for the model takes
PACKAGES = ["django~=5.2.0", "djangorestframework", "gunicorn", "openai", "greenlet"]

# What is not as it comes: everything else is made by the hook.
CONF = """
access_log { target = "${QUICKSTART_DIR}/access.log"  format = "json" }

# The queue has room for all clients of the demonstration.
workers "app" { queue_max = 20000  queue_timeout = "5m"  response_timeout = "3m" }

# The model's service. The worker needs no key: Tarry sets it on the way out.
upstream "model" {
    origin     = "${MODEL_ORIGIN}"
    set_header = { "Authorization: Bearer ${OPENAI_API_KEY}" }
    ca_file    = "${QUICKSTART_CA}"     # the CA of the stand-in; empty for the real service: the system's CAs
}

route "/internal/" { workers = "app"  internal = true }     # for resumes and notifies only
"""

ABOUT = """
Installs the Debian packages that are missing (sudo), builds into build/, makes a wheel and installs it by pip, starts a stand-in
for the model's service, and the app of examples/chat with one sync worker by `gunicorn -c python:tarry.gunicorn`. Its views call
the model by OpenAI's SDK, as they would without Tarry. Then a thousand clients ask at once: through Tarry, and, as a sample, the
same app under plain gunicorn, where the view waits in its worker; and a hundred ask an agent that makes five calls in sequence.
Stays up afterwards for you to try; Ctrl-C stops everything that it started.
"""
MORE = """
PYTHON names another python3 than one with packages from PyPI: it needs Django, Django REST framework, gunicorn, and
openai or requests. The package is then used from the checkout, not from a wheel.
"""


def number(text):
    if not re.fullmatch("[1-9][0-9]{0,4}", text):
        raise argparse.ArgumentTypeError("it needs a number")
    return int(text)


def options():
    parser = argparse.ArgumentParser(prog="scripts/quickstart", description=ABOUT, epilog=MORE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--clients", type=number, metavar="N", help="how many ask at once (default 1000, at most 15000; with --real 8)")
    add("--check", action="store_true", help="do not stay up: exit with 0 if every request came back right, otherwise with 1")
    add("--real", action="store_true", help="the real service instead of the stand-in: needs OPENAI_API_KEY, and calls are paid for. "
        "MODEL and MODEL_ORIGIN choose another model and another service of the same kind")
    add("--port", type=number, metavar="N", help="the port of the page (default 8080 if it is free)")
    add("--debian", action="store_true", help="nothing from PyPI: Debian's Django, and the views call the model by requests. "
        "The same happens where PyPI cannot be reached")
    given = parser.parse_args()
    given.clients = given.clients or (8 if given.real else 1000)
    if given.clients > 15000:
        parser.error("at most 15000 clients")
    if given.real and not os.environ.get("OPENAI_API_KEY"):
        parser.error("--real needs OPENAI_API_KEY in the environment")
    return given


# ---------------------------------------------------------------------------------------------------------- saying

COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32"}
if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
    BOLD, DIM, RED, GREEN = (f"\033[{code}m" for code in COLOURS.values())
    PLAIN = "\033[0m"
else:
    BOLD = DIM = RED = GREEN = PLAIN = ""


def say(text=""):
    print(text, flush=True)


@contextlib.contextmanager
def step(what):
    """One line: what is done, then how it went. The block may set .text of what it is given."""
    print(f"  {what:<42} ", end="", flush=True)
    outcome = argparse.Namespace(text="done", colour=GREEN)
    try:
        yield outcome
    except Trouble:
        say(f"{RED}failed{PLAIN}")
        raise
    say(f"{outcome.colour}{outcome.text}{PLAIN}")


def with_end_of(why, log):
    """The reason, and the end of the log that tells more."""
    lines = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
    return why + (f"\n{DIM}{log} ends with:{PLAIN}\n" + "\n".join("    " + line for line in lines) if lines else "")


# ------------------------------------------------------------------------------------------------------------- build


def run_logged(name, command, **more):
    """Runs a command with its output in NAME.log; whether it went well."""
    with (FOLDER / f"{name}.log").open("w") as log:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **more).returncode == 0


def build():
    commands = []
    configure = TOP / "configure"
    if not os.access(configure, os.X_OK) or (TOP / "configure.ac").stat().st_mtime > configure.stat().st_mtime:
        commands.append(f"cd '{TOP}' && ./autogen.sh")
    if not (BUILD / "config.status").exists():
        commands.append(f"cd '{BUILD}' && ../configure --quiet")
    commands.append(f"make -C '{BUILD}' -j{os.cpu_count()}")
    with step("building into build/") as outcome:
        begun = time.monotonic()
        if not run_logged("build", ["sh", "-ec", "\n".join(f"({c})" for c in commands)]):
            raise Trouble(with_end_of("It does not build.", FOLDER / "build.log"))
        outcome.text = f"done in {time.monotonic() - begun:.0f} s"


class Installer:
    """An environment with the SDK from PyPI, made while Tarry builds."""

    def __init__(self, wanted):
        self.process = None
        self.wheel = ""
        self.log = FOLDER / "pypi.log"
        if wanted:
            with self.log.open("w") as log:
                self.process = subprocess.Popen([TOP / "scripts/setup-python", BUILD / "quickstart-venv", *PACKAGES], stdin=subprocess.DEVNULL,
                                                stdout=log, stderr=subprocess.STDOUT, start_new_session=True)

    def python(self):
        """The Python to use."""
        if os.environ.get("PYTHON"):
            return os.environ["PYTHON"]
        if not self.process:
            return "/usr/bin/python3"
        with step("OpenAI's SDK from PyPI, Tarry from its wheel") as outcome:
            if self.process.wait() == 0:
                self.wheel = self.install()
                outcome.text = f"pip install {self.wheel}"
                return str(BUILD / "quickstart-venv/bin/python")
            said = (self.log.read_text(errors="replace").splitlines() or [""])[-1]
            outcome.colour, outcome.text = DIM, f"not reachable: Debian's Django, calls by requests\n  {said}"
        return "/usr/bin/python3"

    def install(self):
        """Makes the wheel and installs it: its name."""
        try:
            wheel = native.build(BUILD / "proxy/tarry")
            native.install(BUILD / "quickstart-venv", wheel)
        except subprocess.CalledProcessError as error:
            (FOLDER / "wheel.log").write_text(error.stderr)
            raise Trouble(with_end_of("The wheel cannot be made.", FOLDER / "wheel.log")) from None
        return wheel.name

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()


def library_of(python):
    """ "Django 5.2, openai 1.0": what that Python has of what the app needs."""
    code = ("import django\ntry:\n    import openai as library\n    name = 'openai'\nexcept ImportError:\n    import requests as library\n"
            "    name = 'requests'\nprint(f'Django {django.__version__}, {name} {library.__version__}')")
    done = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Trouble(f"{python} has not all of Django, Django REST framework, gunicorn, and openai or requests.")
    return done.stdout.strip()


def raise_descriptor_limit(clients):
    """A client is a descriptor of the driver and one of Tarry; a shell often allows only 1,024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    soft = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if clients + 200 > soft:
        raise Trouble(f"{clients} clients need {clients + 200} descriptors, this shell may have {soft} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# ------------------------------------------------------------------------------------------------------------- start


class Show:
    """The processes, and what is measured with them."""

    def __init__(self, given, python, wheel, library, stage):
        self.given, self.python, self.wheel, self.library, self.stage = given, python, wheel, library, stage
        self.env = {"PYTHONDONTWRITEBYTECODE": "1", "DATABASE_PATH": str(FOLDER / "chat.sqlite3"), "QUICKSTART_DIR": str(FOLDER),
                    "TARRY_CONF": str(FOLDER / "tarry.conf"), "HOME": str(FOLDER)}  # where current gunicorn keeps a control socket
        if not wheel:
            self.env.update(PYTHONPATH=str(TOP / "python"), TARRY_BINARY=str(BUILD / "proxy/tarry"))
        self.names = []
        self.right = True
        for pattern in ("chat.sqlite3*", "*.json", "access.log"):
            for old in FOLDER.glob(pattern):
                old.unlink()

    def start(self, name, trouble, command, ready, env=None):
        try:
            process, groups = self.stage.start(name, command, ready, {**self.env, **(env or {})})
        except Trouble:
            raise Trouble(with_end_of(trouble, FOLDER / f"{name}.log")) from None
        self.names.append(name)
        return process, groups

    def start_model(self):
        if self.given.real:
            self.env.update(MODEL_ORIGIN=os.environ.get("MODEL_ORIGIN", "https://api.openai.com"), QUICKSTART_CA="")
            say(f"  {BOLD}The real service: {self.env['MODEL_ORIGIN']}, about {self.given.clients + 3} calls with your key{PLAIN}")
            return
        with step("starting the stand-in for the model") as outcome:
            command = [BUILD / "tests/provider/provider", "--https", "127.0.0.1:0", "--certs", FOLDER / "certs", "--delay", f"{DELAY}s",
                       "--tokens", "80", "--pace", "25ms", "--quiet"]
            _, (line,) = self.start("provider", "The stand-in does not start.", command, r"^provider: ready(.*)$")
            found = dict(word.split("=", 1) for word in line.split())
            ca = found["ca"]
            self.env.update(MODEL_ORIGIN=f"https://{found['https']}", QUICKSTART_CA=ca, OPENAI_API_KEY="sk-stand-in", SSL_CERT_FILE=ca,
                            REQUESTS_CA_BUNDLE=ca)
            outcome.text = f"{self.env['MODEL_ORIGIN']}, takes {DELAY} s"

    def start_app(self):
        self.listen = f"127.0.0.1:{self.given.port or usable_port(0 if self.given.check else 8080)}"
        (FOLDER / "tarry.conf").write_text(CONF)
        with step("starting the app with Tarry, one worker") as outcome:
            if not run_logged("migrate", [self.python, "manage.py", "migrate", "--verbosity", "0"], cwd=CHAT, env={**os.environ, **self.env}):
                raise Trouble(with_end_of("The database cannot be made.", FOLDER / "migrate.log"))
            process, _ = self.start("app", "The app does not start.", self.gunicorn("-c", "python:tarry.gunicorn", "--bind", self.listen),
                                    lambda: self.answers(self.listen))
            pids = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family(process.pid)[1:]}
            self.tarry_pids = [pid for pid, line in pids.items() if line.startswith(b"tarry")]
            self.worker_pids = [pid for pid in pids if pid not in self.tarry_pids]
            outcome.text = f"http://{self.listen}, {self.library}"
        say(f"    {DIM}gunicorn -c python:tarry.gunicorn project.wsgi --workers 1 --bind {self.listen}{PLAIN}")

    def gunicorn(self, *options):
        return [self.python, "-m", "gunicorn", "--chdir", CHAT, "--workers", "1", "--timeout", "180", *options, "project.wsgi"]

    def answers(self, address):
        host, _, port = address.rpartition(":")
        try:
            connection = http.client.HTTPConnection(host, int(port), timeout=5)
            connection.request("GET", "/api/answers/")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def start_plain(self):
        """The same app and worker without Tarry: the address."""
        plain = f"127.0.0.1:{usable_port(0)}"
        process, _ = self.start("plain", "The app does not start without Tarry.", self.gunicorn("--bind", plain), lambda: self.answers(plain))
        self.worker_pids, self.tarry_pids = family(process.pid)[1:], []
        return plain

    # --- measuring ---

    def measure(self, path, clients, *more, address=None, log=None):
        """Runs the load driver: its figures, with the worker's CPU time and the highest memory of worker and Tarry."""
        before = cpu_seconds(self.worker_pids)
        peaks, over = {"worker_kib": 0, "tarry_kib": 0}, threading.Event()

        def watch():
            while True:
                peaks["worker_kib"] = max(peaks["worker_kib"], private_kib(self.worker_pids))
                peaks["tarry_kib"] = max(peaks["tarry_kib"], private_kib(self.tarry_pids))
                if over.wait(0.2):
                    return
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        command = self.stage.load_command(f"http://{address or self.listen}{path}", clients, clients, "--progress", "--header",
                                          "Content-Type: application/json", "--body-template",
                                          '{"question": "Reply with exactly this text and nothing else: [{i}]"}', "--expect-substring", "[{i}]",
                                          "--timeout", "170", *more)
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=log)
        over.set()
        watcher.join()
        if done.returncode not in (0, 1):
            raise Trouble("the load driver failed")
        self.right = self.right and done.returncode == 0
        return {**json.loads(done.stdout), **peaks, "worker_ms": 1000 * (cpu_seconds(self.worker_pids) - before)}

    def ask_first(self):
        with step("asking one question") as outcome:
            with (FOLDER / "first.log").open("w+") as log:
                self.measure("/api/ask/", 1, log=log)
                if not self.right:
                    log.write((FOLDER / "app.log").read_text())
            if not self.right:
                raise Trouble(with_end_of("The first answer is not right.", FOLDER / "first.log"))
            outcome.text = "answered"

    def measure_all(self):
        clients, real = self.given.clients, self.given.real
        say(f"\n  {BOLD}The view{PLAIN}, from examples/chat, unchanged for Tarry:\n\n{view()}")
        called = "client.chat.completions.create(…) of the SDK" if "openai" in self.library else "session.post(…) of requests"
        say(f"\n    {DIM}llm.complete is in examples/chat/chat/llm.py: {called}{PLAIN}")
        say(f"\n  {BOLD}Through Tarry{PLAIN}: {clients} clients ask at once")
        through = self.measure("/api/ask/", clients)
        sample, agents = min(2 if real else 4, clients), min(100, clients)
        agent = None
        if not real:  # a real model does not say again what the agent asks it: its answers could not be checked
            say(f"  {BOLD}An agent of five calls in sequence, through Tarry{PLAIN}: {agents} clients at once")
            agent = self.measure("/api/agent/", agents)
        say(f"  {BOLD}The same app under plain gunicorn{PLAIN}: its worker waits in the view; a sample of {sample}")
        waiting = self.measure("/api/ask/", sample, address=self.start_plain())
        tell(through, waiting, agent, clients, real)

    # --- staying up ---

    def stay(self):
        """Until a process ends by itself."""
        # The page begins with an empty list, not with what the load driver asked.
        with contextlib.closing(sqlite3.connect(self.env["DATABASE_PATH"], timeout=10)) as db, db:
            db.execute("DELETE FROM chat_answer")
        say(TRY.format(listen=self.listen, bold=BOLD, dim=DIM, plain=PLAIN, id=uuid.uuid4(), folder=FOLDER.relative_to(TOP)))
        while True:
            for name, process in zip(self.names, self.stage.started):
                if process.poll() is not None:
                    raise Trouble(with_end_of(f"{RED}{name} ended by itself.{PLAIN}", FOLDER / f"{name}.log"))
            time.sleep(0.2)


def usable_port(wanted):
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind(("127.0.0.1", port))
            return s.getsockname()[1]
    raise Trouble("no port is free")


def view():
    """The view as it stands in the app."""
    found = re.search(r"^@api_view[^\n]*\ndef ask\(.*?(?=\n\n)", (CHAT / "chat/views.py").read_text(), re.M | re.S)
    return "\n".join(f"    {DIM}{line}{PLAIN}" for line in found[0].splitlines())


# ----------------------------------------------------------------------------------------------------------- telling


def seconds(s):
    return f"{s:,.0f} s" if s >= 100 else f"{s:.1f} s" if s >= 10 else f"{s:.2f} s"


def rate(r):
    return f"{r:,.0f}" if r >= 100 else f"{r:.1f}" if r >= 10 else f"{r:.2f}"


def memory(kib):
    return f"{kib / 1024:.1f} MiB" if kib else "not told"


def cpu(figures):
    return f"{figures['worker_ms'] / max(figures['ok'], 1):.1f} ms"


def errors(figures):
    return ", ".join(f"{n} {kind}" for kind, n in figures["errors"].items()) or "none"


def tell(a, b, agent, clients, real):
    """The table: through Tarry, and past it, where one worker answers one after the other."""
    one = b["seconds"] / b["ok"] if b["ok"] else None
    guess = (lambda share: f"~ {seconds(one * clients * share)} *") if one else (lambda share: "–")
    rows = [
        ("right answers", f"{a['ok']:,} of {a['requests']:,}", f"{b['ok']} of {b['requests']} in the sample"),
        (f"time for {clients:,}", seconds(a["seconds"]), guess(1)),
        ("answers a second", rate(a["per_second"]), rate(1 / one) if one else "–"),
        ("half of the clients served in (p50)", seconds(a["p50_ms"] / 1000), guess(0.5)),
        ("99 of 100 served in (p99)", seconds(a["p99_ms"] / 1000), guess(0.99)),
        ("errors", errors(a), errors(b)),
        ("worker's CPU time a request", cpu(a), cpu(b)),
        ("memory of the worker, peak", memory(a["worker_kib"]), memory(b["worker_kib"])),
        ("memory of Tarry, peak", memory(a["tarry_kib"]), "–"),
    ]
    wait = "the real model" if real else f"a model that takes {DELAY} s"
    say(f"\n  {BOLD}{clients:,} clients at once, {wait}, one sync worker{PLAIN}\n")
    say(f"  {DIM}{'':38}{'through Tarry':>18}    {'the worker waits':>24}{PLAIN}")
    for name, left, right in rows:
        mark = right.endswith(" *")
        right = right[:-2] if mark else right
        say(f"  {name:38}{left:>18}    {right:>24}{' *' if mark else ''}")
    if agent:
        say(f"\n  {BOLD}The agent{PLAIN}: {agent['ok']:,} of {agent['requests']:,} right, five calls each, all in {seconds(agent['seconds'])};"
            f" {cpu(agent)} of the worker's CPU each")
    if one:
        say(f"\n  {DIM}* extrapolated from {b['requests']} requests that took {seconds(one)} each, one after the other;")
        say(f"    nobody wants to wait for all {clients:,}. Memory is private memory while it ran.{PLAIN}")


TRY = """
  {bold}Now you:  http://{listen}/{plain}   a chat page; the worker is free while you read

  {dim}# the unmodified view: asked, stored, returned{plain}
  curl http://{listen}/api/ask/ -H 'Content-Type: application/json' -d '{{"question": "Why wait?"}}'
  {dim}# an agent: five calls in sequence{plain}
  curl http://{listen}/api/agent/ -H 'Content-Type: application/json' -d '{{"question": "Why wait?"}}'
  {dim}# two calls side by side{plain}
  curl http://{listen}/api/compare/ -H 'Content-Type: application/json' -d '{{"question": "Why wait?"}}'
  {dim}# the model's stream, as it comes{plain}
  curl -N http://{listen}/api/chat/ -H 'Content-Type: application/json' \\
       -d '{{"conversation": "{id}", "text": "Tell me about sync workers"}}'
  {dim}# a plain view: at once, whoever else waits{plain}
  curl http://{listen}/api/answers/

  {dim}The app is examples/chat, its conf and logs are in {folder}/. Ctrl-C stops everything.{plain}
"""


def show(given):
    say(f"\n{BOLD}Tarry quickstart{PLAIN}\n")
    if subprocess.run([TOP / "scripts/setup-packages", "build", "example"]).returncode:
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock, Stage(BUILD, FOLDER) as stage:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble("another quickstart runs in this checkout; stop it first (Ctrl-C where it runs)") from None
        installer = Installer(not os.environ.get("PYTHON") and not given.debian)
        try:
            build()
            python = installer.python()
        finally:
            installer.stop()
        raise_descriptor_limit(given.clients)
        shown = Show(given, python, installer.wheel, library_of(python), stage)
        shown.start_model()
        shown.start_app()
        shown.ask_first()
        shown.measure_all()
        if not given.check:
            if not shown.right:
                say(f"\n  {RED}Not every request came back right.{PLAIN}")
            shown.stay()
        if shown.right:
            say(f"\n  {GREEN}Every request came back right.{PLAIN}\n")
            return 0
        raise Trouble(f"Not every request came back right. Logs: {FOLDER}")


def main():
    def end(number, _):
        for n in (signal.SIGINT, signal.SIGTERM):
            signal.signal(n, signal.SIG_IGN)  # what has been started is stopped in peace
        if number == signal.SIGINT:
            say()
        sys.exit(128 + number)
    given = options()
    for n in (signal.SIGINT, signal.SIGTERM):
        signal.signal(n, end)
    try:
        return show(given)
    except Trouble as trouble:
        print(f"\n{RED}{trouble}{PLAIN}" if "\n" not in str(trouble) else f"\n{trouble}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
