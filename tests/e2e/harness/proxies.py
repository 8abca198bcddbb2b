"""HTTP proxies on the way to upstreams: a real one (the Debian package tinyproxy), and one that is told what to answer."""

import pathlib
import re
import shutil
import socket
import threading

from .apps import Program
from .base import connect, eventually, free_port
from .http1 import Wire


class TinyProxy(Program):
    """`lines` go to its conf as they are."""

    what = "tinyproxy"

    def __init__(self, folder, lines=()):
        binary = shutil.which("tinyproxy") or "/usr/sbin/tinyproxy"
        if not pathlib.Path(binary).exists():
            raise AssertionError("no tinyproxy: scripts/setup-packages test installs it")
        folder = pathlib.Path(folder)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "tinyproxy.log"
        conf = folder / "tinyproxy.conf"
        conf.write_text("\n".join([f"Port {self.port}", "Listen 127.0.0.1", "Timeout 60", f'LogFile "{self.log}"', "LogLevel Connect",
                                   "MaxClients 50", *lines]) + "\n")
        super().__init__([binary, "-d", "-c", conf])
        eventually(self._listens, "tinyproxy to listen")

    def _listens(self):
        try:
            connect(f"127.0.0.1:{self.port}").close()
        except OSError:
            return False
        return True

    @property
    def tunnels(self):
        """The targets of the CONNECT requests that it has seen."""
        text = self.log.read_text() if self.log.exists() else ""
        return re.findall(r": CONNECT (\S+) HTTP/", text)


class ScriptedProxy:
    """`answer(head)` says what each connection's request for a tunnel gets, as bytes: with None it gets none. Where that is a
    200, bytes go both ways between the client and the target."""

    what = "scripted proxy"

    def __init__(self, answer=lambda head: b"HTTP/1.1 200 Connection established\r\n\r\n", target=None):
        self.heads, self.first, self._answer, self._target = [], [], answer, target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self.url = f"http://{self.address}"
        self._socks = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._socks.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        try:
            wire = Wire(sock)
            head = wire.through(b"\r\n\r\n").decode("latin-1")
            assert wire.buffer == b"", "bytes behind the request for a tunnel"
            self.heads.append(head)
            answer = self._answer(head)
            if answer is None:
                return
            sock.sendall(answer)
            if b" 200 " not in answer:
                sock.close()
                return
            host, _, port = (self._target or head.split()[1]).rpartition(":")
            far = socket.create_connection((host, int(port)))
            self._socks.append(far)
            threading.Thread(target=self._pump, args=(far, sock), daemon=True).start()
            self._pump(sock, far, self.first)
        except (OSError, ValueError):
            pass

    @staticmethod
    def _pump(source, to, first=None):
        try:
            while data := source.recv(65536):
                if first is not None:
                    first.append(data)
                    first = None
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def stop(self):
        self._listener.close()
        for sock in self._socks:
            sock.close()
