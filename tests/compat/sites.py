"""A site: the stand-in, Tarry, and a server of a stack with the app."""

import json
import urllib.parse
import uuid

import stacks
from harness import Gate, Reply, eventually, free_port, request
from harness.apps import Program

SECRET = "a-secret-for-the-suite"
RETRIES = 2


class Started(Program):
    """A server of any kind, ready when it accepts connections."""

    def __init__(self, title, command, port, env=None, cwd=None):
        self.what = title
        self.address = f"127.0.0.1:{port}"
        super().__init__(command, {"PYTHONUNBUFFERED": "1", **(env or {})}, cwd)

    def wait_ready(self, path="/ready", timeout=120):
        """Waits until a request is answered, or fails with what the server said when it ended."""

        def answered():
            assert self.process.poll() is None, f"{self.what} has ended:\n{self.output[-4000:]}"
            try:
                return request(self.address, "GET", path, timeout=timeout).status
            except OSError:
                return None

        return eventually(answered, f"{self.what} to answer", timeout)


class Site:
    """`without`: options of the server's command that are left out, each with its value; `more`: further ones. `slots`: of one worker,
    if `more` changes that."""

    def __init__(self, bed, stack, server, without=(), more=(), slots=None, resume="rerun", delay="0ms", libraries=""):
        self.stack, self.server = stacks.STACKS[stack], stacks.SERVERS[server]
        self.notes = bed.folder / "notes.jsonl"
        self.notes.touch()
        (bed.folder / "secret").write_text(SECRET + "\n")
        self.gate = Gate()
        self.held = bed.upstream(self._hold)
        self.provider = bed.provider(https=False, args=["--delay", delay])
        self.runs = bed.folder / "runs"
        self.runs.touch()
        origin = f"http://{self.provider.http}"
        port = free_port()
        env = {
            "MODEL_ORIGIN": origin,
            "GATE_ORIGIN": self.held.origin,
            "COMPAT_NOTES": str(self.notes),
            "TARRY_SECRET": SECRET,
            "APP_RESUME": resume,
            "APP_LIBRARIES": libraries,
            "APP_RUNS": str(self.runs),
            "DJANGO_SETTINGS_MODULE": "django_settings",
            "PYTHONPATH": f"{stacks.REPO / 'python'}:{stacks.APP}",
        }
        command = stacks.command_of(self.server, self.stack, port, without, more)
        self.program = bed.add(Started(self.server.title, command, port, env, str(bed.folder)))
        conf = bed.conf(self.program, origin, slots=slots or self.server.slots)
        conf.up["retries"] = RETRIES
        conf.upstreams["gate"] = {"origin": self.held.origin}
        conf.pool["secret_file"] = str(bed.folder / "secret")
        self.program.wait_ready()
        self.tarry = bed.tarry(conf)

    def _hold(self, request, connection):
        self.gate.wait()
        return Reply(200, f"held {request.target}".encode())

    def ask(self, path, **query):
        """One request: its response, its line in the access log, and how many calls the stand-in saw meanwhile."""
        mark, before = uuid.uuid4().hex, len(self._asked())
        got = self.tarry.get(f"{path}?{urllib.parse.urlencode({**query, 'mark': mark})}")
        line = self.tarry.access.wait_for(lambda line: mark in str(line))
        return got, line, len(self._asked()) - before

    def _asked(self):
        return [record for record in self.provider.records if record["path"].startswith("/v1")]

    def wait_note(self, q):
        """What the notify of a relay with this question brought."""

        def found():
            notes = [json.loads(line) for line in self.notes.read_text().splitlines()]
            return next((note for note in notes if note["q"] == q), None)

        return eventually(found, "the notify")
