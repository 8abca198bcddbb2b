"""The process under test."""

import asyncio
import contextlib
import ctypes
import os
import pathlib
import re
import signal
import subprocess
import time

from harness.base import free_port
from harness.tarry import Conf, READY, SANITIZERS, find_binary

from .http1 import Wire
from .sock import Sock

PR_SET_CHILD_SUBREAPER = 36
SERVES = re.compile(r"upgrade: process (\d+) serves")
PANIC = re.compile(r"tarry: bug|BUG_IF|assertion .* failed|panic", re.I)


class ChaosConf(Conf):
    def __init__(self, folder, plan, world):
        super().__init__(folder)
        self.top.update(plan.top, processes=plan.processes, seccomp="off", landlock="off")
        self.log["level"] = world.log_level
        self.pool.update(plan.pool)
        self.servers = {w.address: {"slots": n} for w, n in zip(world.workers, plan.slots)}
        if world.black_hole:
            self.servers[world.black_hole.address] = {"slots": 2}
        self.tcp = self.address
        self.unix, self.tls = f"unix:{folder}/front.sock", f"127.0.0.1:{free_port()}"
        certificate, key = world.certificate
        self.listens[self.unix] = {}
        self.listens[self.tls] = {"certificate": str(certificate), "private_key": str(key)}
        for name, up in world.upstreams.items():
            self.upstreams[name] = dict({"origin": up.origin}, **plan.up)
            if up.tls:
                self.upstreams[name]["ca_file"] = str(world.ca)
            if plan.group:
                del self.upstreams[name]["origin"]
                self.endpoints[name] = {"a": {"origin": up.origin}, "b": {"origin": up.origin, "weight": 2}}
            self.limits[name] = [dict(o) for o in plan.limits]
        sockets = {"websocket": True} if plan.talks or plan.websockets else {}
        self.routes = [("/x/", {"workers": "app", **sockets}), ("/gw/", {"upstream": "plain", **sockets}), ("/gws/", {"upstream": "tls", **sockets})]
        self.admins = {f"unix:{folder}/admin.sock": {}}


def adopt_orphans():
    """Makes this process the parent of those whose parent ends: of a Tarry that has taken over, say."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class Successor:
    """A process that another one of ours has started: as a Popen, as far as Proxy needs it."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # not ours yet: its parent has not ended
                return None if pathlib.Path(f"/proc/{self.pid}").exists() else self.lost()
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def lost(self):
        self.returncode = "it ended as somebody else's child"
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self):
        while self.poll() is None:
            time.sleep(0.01)
        return self.returncode


class Proxy:
    def __init__(self, folder, conf):
        self.folder, self.conf = pathlib.Path(folder), conf
        self.path = self.folder / "tarry.conf"
        self.log = self.folder / "tarry.log"
        self.process = None
        self.leaving = []  # those that have given their place to another

    def address(self, listener):
        return {"tcp": self.conf.tcp, "unix": self.conf.unix, "tls": self.conf.tls}[listener]

    async def start(self):
        self.path.write_text(self.conf.text())
        env = dict(os.environ)
        env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0:handle_abort=1:quarantine_size_mb=16")
        env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
        with self.log.open("wb") as out:
            self.process = subprocess.Popen([find_binary(), "-c", str(self.path)], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
        for _ in range(3000):
            if READY in self.log.read_text(errors="replace") or not self.alive:
                break
            await asyncio.sleep(0.02)
        else:
            raise AssertionError("tarry does not become ready")
        if not self.alive:
            raise AssertionError("tarry does not start:\n" + self.tail())

    alive = property(lambda self: self.process.poll() is None)

    def tail(self, n=60):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-n:])

    def complaint(self):
        """What a sanitizer or the process itself has said of a fault, or None."""
        text = self.log.read_text(errors="replace")
        found = PANIC.search(text) or SANITIZERS.search(text)
        if not found:
            return None
        at = text.rfind("\n", 0, found.start()) + 1
        lines = [line for line in text[at:at + 100000].splitlines() if "tarry: debug:" not in line]
        return "\n".join(lines[:60])

    def send(self, number):
        self.process.send_signal(number)

    async def ended(self):
        while self.alive:
            await asyncio.sleep(0.02)

    def processes(self):
        pids = [self.process.pid]
        with contextlib.suppress(OSError):
            pids += map(int, pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())
        return pids

    def descriptors(self):
        total = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                total += len(os.listdir(f"/proc/{pid}/fd"))
        return total

    def memory(self):
        """Private bytes of all its processes."""
        total = 0
        for pid in self.processes():
            with contextlib.suppress(OSError):
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += 1024 * sum(int(n) for n in re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", text, re.M))
        return total

    async def reload(self, changes=None):
        """SIGHUP with the conf as it stands, or with other text."""
        self.path.write_text(self.conf.text() if changes is None else changes)
        self.send(signal.SIGHUP)

    async def upgrade(self, deadline=60):
        """SIGUSR2: another process takes over. Whether it did."""
        before = self.log.read_text(errors="replace").count("upgrade:")
        self.send(signal.SIGUSR2)
        for _ in range(int(deadline / 0.05)):
            said = [line for line in self.log.read_text(errors="replace").splitlines() if "upgrade:" in line][before:]
            served = next((m for m in map(SERVES.search, said) if m), None)
            if served:
                self.leaving.append(self.process)
                self.process = Successor(int(served[1]))
                return True
            await asyncio.sleep(0.05)
        return False

    def freeze(self, seconds=0.01):
        """Stops the processes for a while: what their peers do meanwhile they find in one turn."""
        self.send_all(signal.SIGSTOP)
        asyncio.get_running_loop().call_later(seconds, self.send_all, signal.SIGCONT)

    def send_all(self, number):
        if self.alive:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    async def metrics(self):
        sock = await Sock.connect(next(iter(self.conf.admins)))
        try:
            await sock.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            wire = Wire(sock)
            m = await wire.body(await wire.response())
        finally:
            sock.close()
        found = {}
        for line in m.body.decode().splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                with contextlib.suppress(ValueError):
                    found[name] = float(value)
        return found

    async def stop(self, deadline):
        """SIGTERM; its exit code."""
        self.send_all(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.ended(), deadline)
            return self.process.returncode
        except asyncio.TimeoutError:
            self.kill()
            return "it did not end on SIGTERM"

    def kill(self):
        if self.process and self.alive:
            for pid in reversed(self.processes()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
