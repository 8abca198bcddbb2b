"""Ports, deadlines and waiting: no test sleeps for luck, every wait has an end."""

import fcntl
import os
import random
import socket
import tempfile
import threading
import time

# How long anything may take before a test gives up. Never part of what a test asserts.
DEADLINE = float(os.environ.get("TARRY_E2E_DEADLINE", "20"))


def eventually(check, what="the condition", timeout=None):
    """Waits until check() is true and returns its value. Fails the test at the deadline."""
    end = time.monotonic() + (DEADLINE if timeout is None else timeout)
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.01)


class Gate:
    """Holds a scripted server's answer until the test opens it."""

    def __init__(self):
        self._event = threading.Event()

    def open(self):
        self._event.set()

    def opened(self, within=0.01):
        """Whether it is open, or opens within so many seconds."""
        return self._event.wait(within)

    def wait(self, timeout=None):
        if not self._event.wait(DEADLINE if timeout is None else timeout):
            raise AssertionError("a gate was never opened")


class Moments:
    """Notes from several threads, in the order in which they came."""

    def __init__(self):
        self._lock = threading.Condition()
        self.list = []

    def note(self, what):
        with self._lock:
            self.list.append(what)
            self._lock.notify_all()

    def wait_for(self, check, what="a note", timeout=None):
        """Waits until check(list of notes) is true."""
        with self._lock:
            if not self._lock.wait_for(lambda: check(self.list), DEADLINE if timeout is None else timeout):
                raise AssertionError(f"waited in vain for {what}; notes: {self.list}")
            return list(self.list)


class _Ports:
    """Ports below the ephemeral range, so that no outgoing connection takes one between our look and the listener's
    bind. A lock on the port's byte of one file keeps parallel test processes apart."""

    LOW, HIGH = 20000, 32000
    KEPT = 600  # more than any one test takes: older ones are free for other processes again

    def __init__(self):
        self._lock = threading.Lock()
        self._mine = []  # oldest first
        self._file = None

    def take(self):
        with self._lock:
            if self._file is None:
                path = os.path.join(tempfile.gettempdir(), f"tarry-e2e-ports-{os.getuid()}")
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            for _ in range(1000):
                port = random.SystemRandom().randrange(self.LOW, self.HIGH)
                if port in self._mine or not self._lock_byte(port):
                    continue
                self._mine.append(port)
                if len(self._mine) > self.KEPT:
                    fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._mine.pop(0))
                if self._is_free(port):
                    return port
            raise AssertionError("no free port")

    def release(self):
        with self._lock:
            for port in self._mine:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, port)
            self._mine.clear()

    def _lock_byte(self, port):
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            return True
        except OSError:
            return False

    @staticmethod
    def _is_free(port):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return True
            except OSError:
                return False


_ports = _Ports()


def free_port():
    """A TCP port of 127.0.0.1 that nobody listens on, and no other test will be given."""
    return _ports.take()


def release_ports():
    """All that this process was given may be given again: a run of all tests takes more than there are."""
    _ports.release()


def connect(address, timeout=None, source=None):
    """A connected socket. `address` is HOST:PORT, [V6]:PORT or unix:PATH."""
    if address.startswith("unix:"):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(DEADLINE if timeout is None else timeout)
        s.connect(address[5:])
        return s
    host, _, port = address.rpartition(":")
    s = socket.create_connection((host.strip("[]"), int(port)), DEADLINE if timeout is None else timeout,
                                 source_address=(source, 0) if source else None)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def reset(sock):
    """Ends a connection by RST (TCP; on a unix socket a plain close)."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()


class BlackHole:
    """An address of loopback that answers no SYN: its listener's queue is full, so a connect neither succeeds nor fails."""

    what = "black hole"

    def __init__(self):
        self._listener = socket.socket()
        self.address = f"127.0.0.1:{free_port()}"
        self._listener.bind(("127.0.0.1", int(self.address.rpartition(":")[2])))
        self._listener.listen(0)
        self._held = []
        for _ in range(16):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(self._listener.getsockname())
            self._held.append(s)
        probe = socket.socket()
        probe.settimeout(0.2)
        try:
            probe.connect(self._listener.getsockname())
        except OSError:
            pass
        else:
            raise AssertionError("the black hole let a connection in")
        finally:
            probe.close()

    origin = property(lambda self: f"http://{self.address}")

    def stop(self):
        for s in self._held:
            s.close()
        self._listener.close()
