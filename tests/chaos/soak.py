"""Steady mixed load for a long time, while the conf is read again every second, workers die and, with several processes, children
too. Nothing may be answered wrongly; what fails must have been in the hands of what was killed. scripts/soak runs it."""

import argparse
import asyncio
import collections
import os
import pathlib
import random
import shutil
import signal
import statistics
import tempfile
import time

from harness.certs import Authority
from harness.tarry import find_binary

from . import rules
from .client import client_of
from .proxy import adopt_orphans
from .plan import Answer, Call, Connection, Exchange, Handoff, Round
from .record import Record
from .rounds import World, until

KINDS = {"plain": 5, "relay": 4, "resume": 3, "replay": 2, "gateway": 1}
REMEMBERED = 60  # seconds for which an exchange's late visits are still understood
DYING = 2  # seconds for which a killed child may still be given new connections, which it takes along
WARM = 0.15  # the part of a run whose memory does not count


def plan_of(seed, processes):
    return Round(seed=seed, processes=processes, slots=[8, 8], black_hole=False, connections=[], at_once=0, events=[], calm=True,
                 top={"shutdown_timeout": "20s", "http2_resets_max": 100000},
                 pool={"notify_first_pause": "50ms", "unreachable_first_pause": "10ms", "unreachable_max_pause": "100ms", "queue_timeout": "60s",
                       "keep_alive_interval": "200ms", "resume_attempts": 8, "notify_attempts": 20},
                 up={"retries": 2, "retry_first_pause": "10ms"})


class Mix:
    """Good exchanges of every kind, one after the other."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.number = 0

    def answer(self, **more):
        size = self.rng.choice((0, 200, 3000, 70000, 400000)) if self.rng.random() < 0.5 else 200
        return Answer(size=size, framing=self.rng.choice(("length", "chunked")), pieces=self.rng.choice((1, 1, 4)),
                      delay=self.rng.choice((0, 0, 0.02, 0.3)), **more)

    def exchange(self):
        rng = self.rng
        self.number += 1
        e = Exchange(self.number, kind=rng.choices(list(KINDS), list(KINDS.values()))[0], method=rng.choice(("GET", "POST")))
        if e.method == "POST":
            e.size, e.framing = rng.choice((0, 50, 5000, 100000)), rng.choice(("length", "chunked"))
        upstream = "plain" if e.kind == "gateway" else rng.choice(("plain", "tls", "h2"))
        calls = 1 if e.kind in ("relay", "gateway") else rng.choice((1, 2, 4))
        if e.kind != "plain":
            e.calls = [Call(i, upstream, attempts=[self.answer()]) for i in range(calls)]
        if e.kind == "plain":
            e.visits["request"] = [self.answer()]
        elif e.kind != "gateway":
            handoff = Handoff(then=e.kind, calls=e.calls, type="application/http; msgtype=request", state=f"state-{e.number}")
            handoff.keep_alive = rng.choice((None, None, "sse", "space"))
            handoff.notify = e.kind == "relay" and rng.random() < 0.3
            e.visits["request"] = [handoff]
        for kind in ("resume", "replay", "notify"):
            e.visits[kind] = [self.answer()]
        return e

    def connection(self):
        version = self.rng.choice("112")
        return Connection(version, self.rng.choice(("tcp", "unix", "tls")), [self.exchange() for _ in range(self.rng.choice((1, 3)))])


class Soak:
    def __init__(self, folder, authority, seed, processes, clients, upgrades=0):
        self.world = World(plan_of(seed, processes), folder, authority, log_level="info")
        self.world.records = self.records = {}
        self.mix, self.rng = Mix(seed), random.Random(seed + " trouble")
        self.clients = clients
        self.upgrades = upgrades
        self.counts = collections.Counter()
        self.deaths, self.kills = [], []  # of workers and of children: when
        self.samples = []  # (when, private bytes, descriptors)

    async def run(self, seconds):
        world = self.world
        await world.start()
        end = time.monotonic() + seconds
        tasks = [asyncio.create_task(self.client(end)) for _ in range(self.clients)]
        troubles = [asyncio.create_task(self.every(pause, what, end)) for pause, what in (
            (1, self.reload), (5, self.kill_worker), (1, self.sample), *(((20, self.kill_child),) if world.plan.processes > 1 else ()),
            *(((self.upgrades, self.upgrade),) if self.upgrades else ()))]
        try:
            done, waiting = await asyncio.wait(tasks, timeout=seconds + 90)
            if waiting:
                world.fail(f"{len(waiting)} clients hang")
            for task in [*waiting, *troubles]:
                task.cancel()
            for value in await asyncio.gather(*tasks, *troubles, return_exceptions=True):
                if isinstance(value, Exception):
                    world.fail(f"the soak's own part failed: {value!r}")
            if world.proxy.alive:
                await self.settle()
            code = await world.proxy.stop(60) if world.proxy.alive else f"died: {world.proxy.process.returncode}\n{world.proxy.tail(20)}"
            if code != 0:
                world.fail(f"its exit: {code}")
            await self.end_old_ones()
            complaint = world.proxy.complaint()
            if complaint:
                world.failures.insert(0, complaint)
        finally:
            await world.stop()
        return world.failures

    async def settle(self):
        left = {}

        async def idle():
            left.clear()
            left.update(rules.left_over(await self.world.proxy.metrics()))
            return not left
        if not await until(idle, 60):
            self.world.fail(f"it does not come to rest: {left}")
        for record in self.records.values():
            rules.Judge(self.world, record, not record.excuse).delivered()

    async def every(self, pause, what, end):
        while time.monotonic() + pause < end:
            await asyncio.sleep(pause)
            await what()

    # --- load ---

    async def client(self, end):
        while time.monotonic() < end and self.world.proxy.alive and len(self.world.failures) < 10:
            connection = self.mix.connection()
            for e in connection.exchanges:
                self.records[e.number] = record = Record(e)
                record.excuse = None
            begun = time.monotonic()
            await client_of(self.world, connection).run()
            for e in connection.exchanges:
                self.judge(self.records[e.number], begun)
            asyncio.get_running_loop().call_later(REMEMBERED, self.forget, connection)

    def forget(self, connection):
        for e in connection.exchanges:
            self.records.pop(e.number, None)

    def judge(self, record, begun):
        self.counts[record.exchange.kind] += 1
        unseen = not record.count("request") and any(begun <= when for when in self.deaths)  # it lay in the dead worker's socket
        if unseen or any(v.killed and v.kind == "request" for v in record.visits):
            record.excuse = "worker killed"
        if any(begun <= when + DYING for when in self.kills):
            record.excuse = "child killed"
        before = len(self.world.failures)
        rules.Judge(self.world, record, not record.excuse).judge()
        whole = record.result and record.result.complete and record.result.status < 500
        if len(self.world.failures) == before and record.excuse and not whole:
            self.counts[record.excuse] += 1

    # --- trouble ---

    async def reload(self):
        conf = self.world.proxy.conf
        conf.pool["state_max"] = 7999 + (conf.pool.get("state_max", 8000) == 7999)
        await self.world.proxy.reload()

    async def kill_worker(self):
        self.deaths.append(time.monotonic())
        await self.rng.choice(self.world.workers).restart(0.2)

    async def kill_child(self):
        children = self.world.proxy.processes()[1:]
        if children:
            self.kills.append(time.monotonic())
            os.kill(self.rng.choice(children), signal.SIGKILL)

    async def upgrade(self):
        if await self.world.proxy.upgrade():
            self.counts["upgrades"] += 1
        else:
            self.world.fail("no process took over after SIGUSR2:\n" + self.world.proxy.tail(20))

    async def end_old_ones(self):
        """Whoever gave its place to another has finished its exchanges and ended well."""
        for process in self.world.proxy.leaving:
            if not await until(lambda: asyncio.sleep(0, process.poll() is not None), 60):
                self.world.fail(f"process {process.pid}, which another one has replaced, does not end")
                os.kill(process.pid, signal.SIGKILL)
            elif process.poll() != 0:
                self.world.fail(f"process {process.pid}, which another one has replaced: exit {process.poll()}")

    async def sample(self):
        self.samples.append((time.monotonic(), self.world.proxy.memory(), self.world.proxy.descriptors()))

    def growth(self):
        """How much more memory and descriptors the last tenth has than the first after the warm-up, as medians; in percent."""
        warm = self.samples[int(len(self.samples) * WARM):]
        tenth = max(1, len(warm) // 10)
        first, last = warm[:tenth], warm[-tenth:]
        return [100 * (statistics.median(s[i] for s in last) / max(1, statistics.median(s[i] for s in first)) - 1) for i in (1, 2)]


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Mixed load on TARRY_BIN with reloads and dying workers; nothing may be answered wrongly.")
    parser.add_argument("seconds", nargs="?", type=float, default=60)
    parser.add_argument("--processes", type=int, default=2, help="of Tarry; with more than one, a child is killed every 20 s (default 2)")
    parser.add_argument("--clients", type=int, default=16, help="how many are at work at once (default 16)")
    parser.add_argument("--upgrades", type=float, default=0, metavar="SECONDS", help="another binary takes over so often (SIGUSR2); needs several processes")
    parser.add_argument("--growth", type=float, metavar="PERCENT", help="fail if memory or descriptors grow by more, from the first tenth after the warm-up to the last")
    parser.add_argument("--seed", default=f"{random.SystemRandom().getrandbits(40):010x}")
    given = parser.parse_args(arguments)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tarry-soak-", dir="/var/tmp"))
    adopt_orphans()
    print(f"{find_binary()}, seed {given.seed}", flush=True)
    soak = Soak(folder, Authority(folder / "certs"), given.seed, given.processes, given.clients, given.upgrades)
    failures = asyncio.run(soak.run(given.seconds))
    memory, descriptors = soak.growth() if len(soak.samples) > 10 else (0, 0)
    print(", ".join(f"{n} {kind}" for kind, n in soak.counts.items()), f"; memory {memory:+.1f} %, descriptors {descriptors:+.1f} %", sep="")
    if given.growth is not None and max(memory, descriptors) > given.growth:
        failures.append(f"it grows: memory by {memory:.1f} %, descriptors by {descriptors:.1f} %")
    if not failures:
        shutil.rmtree(folder)
        return 0
    print(f"FAILED; its files: {folder}")
    for text in failures[:5]:
        print("  " + text.replace("\n", "\n  "))
    return 1
