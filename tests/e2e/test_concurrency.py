"""The main job: a thousand clients that each wait seconds for a model, and one sync worker that waits for none of them."""

import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys

import pytest

from harness import Gate, Reply, eventually
from harness.crowd import at_once

EXAMPLE = pathlib.Path(__file__).resolve().parents[2] / "examples/drf"
N = 1000


@pytest.fixture
def chat(bed):
    """The example app on one gunicorn sync worker, its model the provider stand-in over HTTP/2, Tarry between them."""
    provider = bed.provider(http=False, args=["--delay", "2s", "--tokens", "20", "--quiet"])
    (bed.folder / "secret").write_text("worker-secret\n")
    env = {"MODEL_ORIGIN": f"https://{provider.https}", "TARRY_SECRET": "worker-secret", "DATABASE_PATH": str(bed.folder / "answers.sqlite3"),
           "DJANGO_ALLOWED_HOSTS": "*", "PYTHONPATH": str(EXAMPLE), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=EXAMPLE, env=dict(os.environ, **env), check=True)
    gunicorn = bed.gunicorn("project.wsgi:application", bind=f"unix:{bed.folder}/app.sock", env=env)
    conf = bed.conf(gunicorn, slots=1)
    conf.log["level"] = "info"
    conf.pool.update(secret_file=str(bed.folder / "secret"), queue_timeout="60s")
    conf.upstreams["openai"] = {"origin": f"https://{provider.https}", "ca_file": provider.ca, "set_header": ["Authorization: Bearer test-key"]}
    conf.routes.append(("/internal/", {"workers": "app", "internal": True}))
    tarry = bed.tarry(conf)
    tarry.gunicorn = gunicorn
    return tarry, provider


def undo_chunks(body):
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        n = int(size, 16)
        out, body = out + body[:n], body[n + 2:]
        if n == 0:
            return out
    raise AssertionError("the last chunk is missing")


@pytest.mark.slow
def test_a_thousand_clients_at_once_on_one_sync_worker(chat):
    tarry, provider = chat
    results = at_once(tarry, "/api/ask/", [{"question": f"question number {i}"} for i in range(N)])
    assert [status for status, _, _ in results] == [200] * N
    texts = [json.loads(body)["text"] for _, _, body in results]
    assert all(f"echo:question number {i} " in text + " " for i, text in enumerate(texts))
    assert len({json.loads(body)["id"] for _, _, body in results}) == N  # each stored its own row
    assert len(tarry.gunicorn.worker_pids()) == 1
    lines = tarry.access.wait_for(n=N) and tarry.access.lines
    assert {(line["status"], line["hops"], line["calls"], line["end"]) for line in lines} == {(200, 2, 1, "complete")}
    # They waited side by side: one after the other would take 2,000 s.
    assert sum(line["parked_ms"] for line in lines) > N * 1900 and max(line["total_ms"] for line in lines) < 100000
    record = provider.wait_records(N)
    assert len(record) == N and len({r.get("conn", r.get("connection")) for r in record}) < 100


@pytest.mark.slow
def test_hundreds_of_streams_at_once_on_one_sync_worker(chat):
    tarry, _ = chat
    results = at_once(tarry, "/api/chat/", [{"messages": [{"role": "user", "content": f"stream number {i}"}]} for i in range(300)])
    assert [status for status, _, _ in results] == [200] * 300
    for i, (_, head, body) in enumerate(results):
        assert b"text/event-stream" in head
        body = undo_chunks(body) if b"chunked" in head.lower() else body
        assert body.rstrip().endswith(b"data: [DONE]")
        said = "".join(json.loads(line[6:])["choices"][0]["delta"].get("content") or "" for line in body.split(b"\n\n")
                       if line.startswith(b"data: {") and json.loads(line[6:])["choices"])
        assert f"echo:stream number {i} " in said + " "


@pytest.mark.slow
def test_memory_goes_back_when_clients_at_rest_have_gone(bed):
    """1,000 TLS clients (14 KiB each) have an answer each, rest, and leave."""
    certificate, key = bed.authority.leaf()
    conf = bed.conf(bed.worker())
    conf.log["level"] = "info"
    conf.listens[conf.address] = {"certificate": str(certificate), "private_key": str(key)}
    tarry = bed.tarry(conf)
    context = ssl.create_default_context(cafile=bed.authority.ca)
    context.check_hostname = False
    context.set_alpn_protocols(["http/1.1"])

    def connect():
        c = context.wrap_socket(socket.create_connection(("127.0.0.1", tarry.port)))
        c.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert c.recv(65536).startswith(b"HTTP/1.1 200")
        return c
    for c in [connect() for _ in range(20)]:
        c.close()
    before = tarry.private_memory()
    clients = [connect() for _ in range(N)]
    at_rest = tarry.private_memory()
    for c in clients:
        c.close()
    if not tarry.sanitized:
        assert at_rest - before < N * 20 * 1024
        eventually(lambda: tarry.private_memory() - before < (at_rest - before) / 4, "the memory to go back")


def test_a_path_with_a_number_is_several_servers(bed):
    """Each worker process has an address of its own, and one slot."""
    gate = Gate()
    workers = [bed.worker(lambda r, c: (gate.wait(), Reply(200, b"ok"))[1], address=f"unix:{bed.folder}/w{i}.sock") for i in range(3)]
    conf = bed.conf(workers[0])
    conf.servers = {f"unix:{bed.folder}/w%d.sock": {"count": 3, "slots": 1}}
    tarry = bed.tarry(conf)
    clients = [tarry.client() for _ in range(3)]
    for c in clients:
        c.send_request()
    for w in workers:
        w.wait_for(1)
    gate.open()
    assert all(c.read_response().status == 200 for c in clients)
