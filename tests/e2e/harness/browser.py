"""Headless Chromium, driven over a pipe by its own protocol (https://chromedevtools.github.io/devtools-protocol/)."""

import base64
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import threading

from .base import DEADLINE, eventually


PATIENCE = max(DEADLINE, 60)  # the browser itself is slow to start on a busy machine


class Browser:
    """One browser with one page. What the page's scripts throw, and what cannot be loaded, is in `problems`.

    `args` go to the browser as they are, such as --ignore-certificate-errors."""

    what = "browser"

    def __init__(self, folder, args=()):
        binary = shutil.which("chromium")
        if not binary:
            raise AssertionError("no chromium: scripts/setup-packages test installs it")
        self.profile = pathlib.Path(folder) / "chromium"
        self.profile.mkdir(exist_ok=True)
        self.problems = []
        self._answers, self._last, self._session = {}, 0, None
        self._more = threading.Condition()
        ours, theirs = os.pipe()
        back, their_back = os.pipe()
        # Chromium reads its orders from descriptor 3 and writes to 4: what has these numbers is out of the way first.
        reads, writes = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (ours, their_back))
        command = [binary, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={self.profile}",
                   "--window-size=1280,900", *args, "about:blank"]
        self._log = (self.profile / "log").open("wb")
        self.process = subprocess.Popen(command, pass_fds=(3, 4), preexec_fn=lambda: (os.dup2(reads, 3), os.dup2(writes, 4)),
                                        stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                                        env=dict(os.environ, HOME=str(self.profile)))
        for fd in (ours, their_back, reads, writes):
            os.close(fd)
        self._in, self._out = os.fdopen(theirs, "wb", 0), os.fdopen(back, "rb")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            targets = self.send("Target.getTargets")["targetInfos"]
            page = next(t["targetId"] for t in targets if t["type"] == "page")
            self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.send(f"{domain}.enable")
        except BaseException:
            self.stop()
            raise

    def _read(self):
        data = b""
        while True:
            piece = self._out.read1(1 << 16)
            if not piece:
                break
            *messages, data = (data + piece).split(b"\0")
            for raw in messages:
                self._take(json.loads(raw))
        with self._more:
            self._answers[None] = True
            self._more.notify_all()

    def _take(self, message):
        with self._more:
            if "id" in message:
                self._answers[message["id"]] = message
            elif message["method"] == "Runtime.exceptionThrown":
                details = message["params"]["exceptionDetails"]
                self.problems.append(details.get("exception", {}).get("description") or details["text"])
            elif message["method"] == "Log.entryAdded" and message["params"]["entry"]["level"] == "error":
                self.problems.append(f'{message["params"]["entry"]["text"]} {message["params"]["entry"].get("url", "")}')
            self._more.notify_all()

    def send(self, method, **params):
        """One command of the protocol, and its result."""
        self._last += 1
        number = self._last
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._in.write(json.dumps(message).encode() + b"\0")
        with self._more:
            if not self._more.wait_for(lambda: number in self._answers or None in self._answers, PATIENCE):
                raise AssertionError(f"the browser does not answer {method}")
            answer = self._answers.pop(number, None)
        if answer is None:
            raise AssertionError(f"the browser ended:\n{self.describe()}")
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return answer["result"]

    def go(self, url):
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, script):
        """The value of a JavaScript expression; a promise's once it is kept."""
        result = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise AssertionError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, condition):
        """Waits until a JavaScript expression is true; returns its value."""
        return eventually(lambda: self.run(condition), f"the page to fulfil {condition}", PATIENCE)

    def screenshot(self, path):
        shot = self.send("Page.captureScreenshot", format="png")
        pathlib.Path(path).write_bytes(base64.b64decode(shot["data"]))

    def stop(self):
        if self.process.poll() is None:
            try:
                self._session = None
                self.send("Browser.close")
            except (AssertionError, OSError):
                self.process.terminate()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(DEADLINE)
        self._in.close()
        self._out.close()
        self._log.close()

    def describe(self):
        log = (self.profile / "log").read_text("utf-8", "replace")
        return "\n".join([*self.problems, log[-3000:]])
