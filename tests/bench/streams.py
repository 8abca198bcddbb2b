"""What live streams cost: a view that streams by OpenAI's SDK, on one sync worker behind Tarry and on one gevent worker.

This process is both the model and the clients. The model says the time as its tokens, and so a client knows how long each was on its way."""

import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from stage import Stage, Trouble, cpu_seconds, family, free_port

HERE = Path(__file__).resolve().parent
TOP = HERE.parent.parent
WARM = 2.0  # seconds at the beginning that do not count


def _event(content):
    choice = {"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": None}
    return f"data: {json.dumps({'id': 'c', 'object': 'chat.completion.chunk', 'created': 1, 'model': 'm', 'choices': [choice]})}\n\n"


class Model:
    """Answers each question with so many tokens a second, for so long."""

    def __init__(self, a_second, seconds):
        self.a_second, self.seconds = a_second, seconds
        self.conns = 0

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader, writer):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(length)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
            self.conns += 1
            due = time.monotonic() + (self.conns % 50) / 50 / self.a_second  # not all in step
            end = due + self.seconds
            while due < end:
                await asyncio.sleep(max(0, due - time.monotonic()))
                self._send(writer, _event(f"{time.time():.6f}"))
                due += 1 / self.a_second
            self._send(writer, "data: [DONE]\n\n")
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @staticmethod
    def _send(writer, text):
        writer.write(b"%x\r\n%b\r\n" % (len(text), text.encode()))


class Clients:
    def __init__(self, address):
        self.host, _, self.port = address.partition(":")
        self.first, self.delays, self.failed, self.chunks = [], [], 0, 0

    async def one(self, count_from):
        start = time.time()
        try:
            reader, writer = await asyncio.open_connection(self.host, int(self.port))
            writer.write(f"GET /stream HTTP/1.1\r\nHost: {self.host}\r\nConnection: close\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise ConnectionError(head.decode())
            n, ended = 0, False
            while line := await reader.readline():
                ended = ended or line == b"0\r\n"
                if not line.startswith(b"data: "):
                    continue
                now, said = time.time(), float(line[6:])
                if n == 0:
                    self.first.append(now - start)
                n += 1
                if said >= count_from():
                    self.delays.append(now - said)
            self.chunks += n
            if not ended:
                raise ConnectionError("cut")
            writer.close()
        except (OSError, ValueError, asyncio.IncompleteReadError) as error:
            print(f"a stream failed: {error}", file=sys.stderr)
            self.failed += 1


def _percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


async def _run(address, pids, streams, seconds):
    clients = Clients(address)
    marks = {}
    tasks = [asyncio.create_task(clients.one(lambda: marks.get("from", float("inf")))) for _ in range(streams)]
    while len(clients.first) < streams and not all(task.done() for task in tasks):
        await asyncio.sleep(0.05)
    await asyncio.sleep(WARM)
    marks["from"] = time.time()
    busy, before = cpu_seconds(pids), time.monotonic()
    await asyncio.sleep(seconds)
    busy, took = cpu_seconds(pids) - busy, time.monotonic() - before
    counted = len(clients.delays)
    await asyncio.gather(*tasks)
    if clients.failed or not counted:
        raise Trouble(f"{clients.failed} of {streams} streams failed")
    return {
        "first_ms": round(statistics.median(clients.first) * 1000),
        "p50_ms": round(_percentile(clients.delays, 0.5) * 1000),
        "p99_ms": round(_percentile(clients.delays, 0.99) * 1000),
        "chunks_a_second": round(counted / took),
        "worker_cpu_share": round(busy / took, 3),
        "worker_us_a_chunk": round(busy / counted * 1e6),
    }


def _serve(stage, name, python, origin, *options):
    """The site's address and its worker's process ids."""
    address = f"127.0.0.1:{free_port()}"
    env = {"MODEL_ORIGIN": origin, "TARRY_ORIGINS": origin, "PYTHONPATH": f"{TOP / 'python'}:{HERE}", "TARRY_BINARY": str(stage.program("proxy/tarry"))}
    command = [python, "-m", "gunicorn", *options, "--bind", address, "--workers", "1", "--chdir", stage.folder, "streaming_site:application"]

    def answers():
        return subprocess.run(["curl", "-sf", f"http://{address}/ok"], stdout=subprocess.DEVNULL).returncode == 0

    process, _ = stage.start(name, command, answers, env)
    pids = [pid for pid in family(process.pid)[1:] if not Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"tarry")]
    return address, pids


async def _measure(bench, build, python, streams, a_second, seconds, rounds):
    found = {"tarry": [], "gevent": []}
    with Stage(build) as stage:
        model = Model(a_second, WARM + seconds + 6)
        origin = await model.start()
        loop = asyncio.get_running_loop()
        sites = {}
        for name, options in (("tarry", ("-c", "python:tarry.gunicorn")), ("gevent", ("--worker-class", "gevent"))):
            sites[name] = await loop.run_in_executor(None, lambda: _serve(stage, name, python, origin, *options))  # noqa: B023
        for n in range(rounds):
            for name, (address, pids) in sites.items():
                bench.progress(f"round {n + 1} of {rounds}, {name}")
                found[name].append(await _run(address, pids, streams, seconds))
    return found


def measure(bench, build, streams=100, a_second=20, seconds=10, rounds=3):
    """Figures, and whether nothing failed. Rounds in turn, as other work on the machine changes them."""
    python, _ = bench.python_with_sdk(build, extension=True)
    found = asyncio.run(_measure(bench, build, python, streams, a_second, seconds, rounds))
    medians = {name: {key: statistics.median(each[key] for each in list_) for key in list_[0]} for name, list_ in found.items()}
    ratio = [t["worker_us_a_chunk"] / g["worker_us_a_chunk"] for t, g in zip(found["tarry"], found["gevent"])]
    bench.say(f"streams: {streams} streams of {a_second} chunks a second by OpenAI's SDK, one worker, {rounds} rounds in turn, medians")
    bench.say("              first token   delay p50     p99   worker CPU a chunk   its share   chunks a second")
    for name, f in medians.items():
        bench.say(
            f"  {name:10}{f['first_ms']:12.0f} ms{f['p50_ms']:9.0f} ms{f['p99_ms']:5.0f} ms{f['worker_us_a_chunk']:18.0f} us"
            f"{f['worker_cpu_share'] * 100:10.0f} %{f['chunks_a_second']:18.0f}"
        )
    bench.say(f"  CPU of Tarry's worker in gevent's: {statistics.median(ratio):.2f} ({', '.join(f'{r:.2f}' for r in ratio)})")
    bench.say()
    return {"streams": streams, "a_second": a_second, **medians, "ratio": round(statistics.median(ratio), 2), "rounds": found}, True

