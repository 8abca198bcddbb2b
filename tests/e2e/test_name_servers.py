"""The name servers of /etc/resolv.conf, in a mount namespace of Tarry's own that has another file there."""

import ctypes
import os
import pathlib
import random
import socket
import struct
import threading

import pytest

from harness import Reply, call, eventually, handoff

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_NAMESPACE, BIND, PRIVATE, RECURSIVE = 0x20000, 0x1000, 1 << 18, 0x4000


def with_resolv_conf(path):
    """In the child: `path` is what /etc/resolv.conf shows."""
    def enter():
        if LIBC.unshare(NEW_NAMESPACE) or LIBC.mount(None, b"/", None, RECURSIVE | PRIVATE, None):
            os._exit(77)
        if LIBC.mount(os.fsencode(path), os.path.realpath("/etc/resolv.conf").encode(), None, BIND, None):
            os._exit(77)
    return enter


def can_mount():
    pid = os.fork()
    if pid == 0:
        with_resolv_conf("/etc/hostname")()
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


class NameServer:
    """Port 53 of some address of loopback. Says that every name is at 127.0.0.1, or that there is none."""

    what = "name server"

    def __init__(self, knows):
        self.knows, self.queries = knows, []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:
            self.address = "127." + ".".join(str(random.SystemRandom().randrange(1, 250)) for _ in range(3))
            try:
                self._socket.bind((self.address, 53))
                break
            except OSError:
                pass
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                q, peer = self._socket.recvfrom(512)
            except OSError:
                return
            end = q.index(0, 12) + 5
            self.queries.append(q[12:end - 4])
            kind = struct.unpack(">H", q[end - 4:end - 2])[0]
            answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\x7f\x00\x00\x01" if self.knows and kind == 1 else b""
            code = 0x8180 if self.knows else 0x8183
            self._socket.sendto(q[:2] + struct.pack(">HHHHH", code, 1, 1 if answer else 0, 0, 0) + q[12:end] + answer, peer)

    def stop(self):
        self._socket.close()


@pytest.mark.skipif(os.geteuid() != 0 or not can_mount(), reason="only root can have another /etc/resolv.conf, where mounting is allowed")
def test_a_reload_reads_the_name_servers_again(bed):
    ignorant, knowing = bed.add(NameServer(False)), bed.add(NameServer(True))
    file = pathlib.Path(bed.folder / "resolv.conf")
    file.write_text(f"nameserver {ignorant.address}\n")
    upstream = bed.upstream(lambda r, c: Reply(200, b"answer"))
    port = upstream.address.rpartition(":")[2]
    conf = bed.conf(bed.worker(lambda r, c: handoff("relay", [call("tarry://up/")])), upstream)
    conf.up.update(origin=f"http://model.example:{port}", insecure=True, retries=0)
    tarry = bed.tarry(conf, preexec=with_resolv_conf(file))
    assert tarry.get("/").status in (502, 504) and ignorant.queries
    file.write_text(f"nameserver {knowing.address}\n")
    tarry.reload(conf)
    assert tarry.get("/").body == b"answer"
    assert knowing.queries


@pytest.mark.skipif(os.geteuid() != 0 or not can_mount(), reason="only root can have another /etc/resolv.conf, where mounting is allowed")
def test_a_server_is_found_by_its_name(bed):
    """A name that has no address yet is no reason not to start, and is asked for again."""
    names = bed.add(NameServer(False))
    file = pathlib.Path(bed.folder / "resolv.conf")
    file.write_text(f"nameserver {names.address}\n")
    worker = bed.worker(lambda r, c: Reply(200, b"found"))
    conf = bed.conf(worker)
    conf.servers = {f"app.example:{worker.address.rpartition(':')[2]}": {"slots": 2}}
    tarry = bed.tarry(conf, preexec=with_resolv_conf(file))
    assert tarry.get("/").status == 502 and names.queries
    assert "cannot resolve its name" in tarry.stderr
    names.knows = True
    assert eventually(lambda: tarry.get("/").body == b"found", "the server")
    asked = len(names.queries)
    assert all(tarry.get("/").body == b"found" for _ in range(5)) and len(names.queries) == asked
