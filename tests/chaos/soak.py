"""Steady mixed load for a long time, while the conf is read again every second, workers die and, with several processes, children
too. Nothing may be answered wrongly. A failure is excused only if the exchange was inside a killed child, or at hop 0 of a killed
worker; the logs must tell of each. scripts/soak runs it."""

import argparse
import asyncio
import collections
import json
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

from . import rules, talks, talks2
from .client import client_of
from .proxy import adopt_orphans
from .plan import Answer, Call, Connection, Exchange, Handoff, Round, View
from .record import Record
from .rounds import World, until

KINDS = {"plain": 5, "relay": 4, "resume": 3, "replay": 3, "pieces": 3, "gateway": 1}
TALKS = 0.1  # the part of connections that are WebSockets
SLOTS = [8, 8] + [1] * 10  # runs come back to their process only where a server is one process
CHILDREN = 60  # seconds between two deaths of children, or a third of a shorter run
REMEMBERED = 60  # seconds for which an exchange's late visits are still understood
DYING = 2  # seconds for which a killed child may still be given new connections, which it takes along
WARM = 0.15  # the part of a run whose memory does not count


def plan_of(seed, processes):
    return Round(seed=seed, processes=processes, slots=SLOTS, black_hole=False, connections=[], at_once=0, events=[], calm=True, websockets=True,
                 top={"shutdown_timeout": "20s", "http2_resets_max": 100000},
                 pool={"notify_first_pause": "50ms", "unreachable_first_pause": "10ms", "unreachable_max_pause": "100ms", "queue_timeout": "60s",
                       "keep_alive_interval": "200ms", "resume_attempts": 8, "notify_attempts": 20,
                       "piece_interval": "20ms"},
                 up={"retries": 2, "retry_first_pause": "10ms"})


class Mix:
    """Good exchanges of every kind, one after the other."""

    def __init__(self, seed):
        self.rng = random.Random(seed)
        self.number = self.talks = 0

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
        calls = 1 if e.kind in ("relay", "gateway", "pieces") else rng.choice((1, 2, 4))
        if e.kind != "plain":
            e.calls = [Call(i, upstream, attempts=[self.answer()]) for i in range(calls)]
        if e.kind == "plain":
            e.visits["request"] = [self.answer()]
        elif e.kind == "pieces":
            e.view = self.view()
            answer = e.calls[0].attempts[0]
            answer.pieces, answer.pause = rng.choice((1, 4, 12)), rng.choice((0, 0.03))
        elif e.kind != "gateway":
            handoff = Handoff(then=e.kind, calls=e.calls, type="application/http; msgtype=request", state=f"state-{e.number}")
            handoff.keep_alive = rng.choice((None, None, "sse", "space"))
            handoff.notify = e.kind == "relay" and rng.random() < 0.3
            if e.kind == "replay" and rng.random() < 0.6:
                handoff.sticky, handoff.wait_for = rng.choice((None, "0.05", "2")), rng.choice((None, "0", "0.2"))
                if handoff.wait_for and rng.random() < 0.3:
                    handoff.calls, e.calls = [], []
            e.visits["request"] = [handoff]
        for kind in ("resume", "replay", "notify"):
            e.visits[kind] = [self.answer()]
        return e

    def view(self):
        rng = self.rng
        begin = rng.choice((0, 30, 5000))
        return View(begin, waits=begin > 0 and rng.random() < 0.3, rest=rng.random() < 0.2, ticks=rng.choice((0, 0, 2)), end=rng.choice((0, 20)),
                    at=rng.random() < 0.5)

    def talk(self):
        rng = self.rng
        self.talks += 1
        t = talks.Talk(talks.FIRST + self.talks, rng.choice(list(talks.FARS)), rng.choice(("tcp", "unix", "tls")), closes=rng.choice(("client", "far")))
        t.sizes = tuple(rng.choice((0, 5, 125, 126, 3000, 65536)) for _ in range(rng.choice((1, 2, 5, 20))))
        t.pause = rng.choice((0, 0.002, 0.05))
        if rng.random() < 0.4:
            t.version, t.link = "2", rng.choice((None, None, 1))
        return t

    def connection(self):
        version = self.rng.choice("112")
        return Connection(version, self.rng.choice(("tcp", "unix", "tls")), [self.exchange() for _ in range(self.rng.choice((1, 3)))])


class Soak:
    def __init__(self, folder, authority, seed, processes, clients, upgrades=0, children=CHILDREN):
        self.world = World(plan_of(seed, processes), folder, authority, log_level="info")
        self.world.records = self.records = {}
        self.mix, self.rng = Mix(seed), random.Random(seed + " trouble")
        self.clients = clients
        self.upgrades, self.children = upgrades, children
        self.changing = asyncio.Lock()  # a process that is about to take over is no child to kill
        self.excused = {}  # path -> (why its failure is excused, when it began and ended)
        self.counts = collections.Counter()
        self.deaths, self.kills = [], []  # of workers and of children: when
        self.samples = []  # (when, private bytes, descriptors)

    async def run(self, seconds):
        world = self.world
        await world.start()
        end = time.monotonic() + seconds
        tasks = [asyncio.create_task(self.client(end)) for _ in range(self.clients)]
        troubles = [asyncio.create_task(self.every(pause, what, end)) for pause, what in (
            (1, self.reload), (5, self.kill_worker), (1, self.sample), *(((self.children, self.kill_child),) if world.plan.processes > 1 else ()),
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
            self.logged()
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
            self.at_rest(record)
        self.records.clear()

    async def every(self, pause, what, end):
        while time.monotonic() + pause < end:
            await asyncio.sleep(pause)
            await what()

    # --- load ---

    async def client(self, end):
        while time.monotonic() < end and self.world.proxy.alive and len(self.world.failures) < 10:
            await (self.talk() if self.mix.rng.random() < TALKS else self.exchanges())

    async def talk(self):
        talk = self.mix.talk()
        self.world.talks[talk.number] = record = talks.TalkRecord(talk)
        begun = time.monotonic()
        await talks2.client_of(self.world, talk).run()
        self.counts["WebSocket to a worker" if talk.far == "worker" else "WebSocket to an upstream"] += 1
        self.judge_talk(record, begun)
        asyncio.get_running_loop().call_later(REMEMBERED, self.world.talks.pop, talk.number)

    def judge_talk(self, record, begun):
        unseen = record.far is None and record.talk.far == "worker" and any(begun <= when for when in self.deaths)
        excuse = "worker killed" if unseen or record.far and record.far.killed else "child killed" if self.child_killed(begun) else None
        talks.Judge(self.world, record, not excuse).judge()
        if excuse and (record.status != 101 or record.near.code is None or record.near.got != record.far.sent):
            self.excuse(f"{talks.FARS[record.talk.far]}{record.talk.number}", excuse, begun)

    async def exchanges(self):
        connection = self.mix.connection()
        for e in connection.exchanges:
            self.records[e.number] = record = Record(e)
            record.excuse = None
        begun = time.monotonic()
        await client_of(self.world, connection).run()
        for e in connection.exchanges:
            self.judge(self.records[e.number], begun)
        self.counts["HTTP/" + connection.version] += len(connection.exchanges)
        asyncio.get_running_loop().call_later(REMEMBERED, self.forget, connection)

    def forget(self, connection):
        for e in connection.exchanges:
            record = self.records.pop(e.number, None)
            if record:
                self.at_rest(record)

    def at_rest(self, record):
        """What comes behind the client's response has come."""
        rules.Judge(self.world, record, not record.excuse).delivered()
        self.counts["notify"] += record.count("notify")

    def judge(self, record, begun):
        e, result = record.exchange, record.result
        self.counts[e.kind] += 1
        if e.kind == "pieces":
            self.counts["visits with pieces"] += record.pieces
            self.counts["runs begun again"] += any(v.headers.get("Tarry-Attempt") for v in record.visits)
        self.counts["visits again"] += sum(v.headers.get("Tarry-Attempt") is not None for v in record.visits)
        handoff = e.handoff()
        self.counts["sticky"] += bool(handoff and handoff.sticky)
        self.counts["wait"] += bool(handoff and handoff.wait_for or e.view and e.view.waits)
        # An exchange that has come further than its first visit did not fail there.
        first = e.kind != "gateway" and not record.calls and all(v.kind == "request" for v in record.visits)
        unseen = not record.visits and any(begun <= when for when in self.deaths)  # it lay in the dead worker's socket
        if first and (unseen or any(v.killed for v in record.visits)):
            record.excuse = "worker killed"
        elif self.child_killed(begun):
            record.excuse = "child killed"
        judge, before = rules.Judge(self.world, record, not record.excuse), len(self.world.failures)
        judge.judge()
        if judge.idle_end():
            self.counts["sent on a connection that was just ended"] += 1
            return
        whole = result and result.complete and result.status < 500
        if len(self.world.failures) == before and record.excuse and not whole:
            self.excuse(f"{'/gw/' if e.kind == 'gateway' else '/x/'}{e.number}", record.excuse, begun)

    def child_killed(self, begun):
        return any(begun <= when + DYING for when in self.kills)

    def excuse(self, path, why, begun):
        self.counts[f"failed, {why}"] += 1
        self.excused[path] = why, begun, time.monotonic()

    def logged(self):
        """A failure at a killed worker has its line in the access log. One inside a killed child has none, or the whole response had
        been handed to the kernel: a line that tells of another end means that a process which lives has failed. The child's death
        is logged instead."""
        ends = {}
        for line in (self.world.folder / "access.log").read_text(errors="replace").splitlines():
            found = json.loads(line)
            if found["path"] in self.excused:
                ends[found["path"]] = found["end"]
        for path, (why, begun, ended) in self.excused.items():
            end = ends.get(path)
            lost = any(begun - DYING <= when <= ended + DYING for when in self.kills)  # with what the child had not written yet
            if why == "child killed" and end not in (None, "complete"):
                self.world.fail(f"{path} failed with {end} in a process that lived")
            elif why == "worker killed" and (end is None and not lost or end == "complete" and not self.is_talk(path)):
                self.world.fail(f"{path} failed ({why}), and the access log has {end}")
        told = self.world.proxy.log.read_text(errors="replace").count("ended by signal 9")
        if told != len(self.kills):
            self.world.fail(f"{len(self.kills)} children were killed, and the log tells of {told}")

    @staticmethod
    def is_talk(path):
        """The end of a WebSocket's worker is its orderly end."""
        return path.startswith("/x/") and int(path[3:]) >= talks.FIRST

    # --- trouble ---

    async def reload(self):
        conf = self.world.proxy.conf
        conf.pool["state_max"] = 7999 + (conf.pool.get("state_max", 8000) == 7999)
        await self.world.proxy.reload()
        self.counts["reloads"] += 1

    async def kill_worker(self):
        self.deaths.append(time.monotonic())
        self.counts["workers killed"] += 1
        await self.rng.choice(self.world.workers).restart(0.2)

    async def kill_child(self):
        async with self.changing:
            children = self.world.proxy.processes()[1:]
            if children:
                self.kills.append(time.monotonic())
                self.counts["children killed"] += 1
                os.kill(self.rng.choice(children), signal.SIGKILL)

    async def upgrade(self):
        async with self.changing:
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

    def course(self):
        """The memory over the time, as ten medians, in MiB: whether it grows, or only varies."""
        n = max(1, len(self.samples) // 10)
        return " ".join(f"{statistics.median(s[1] for s in self.samples[i:i + n]) / 1048576:.1f}" for i in range(0, len(self.samples) // n * n, n))

    def growth(self):
        """How much more memory and descriptors the last tenth has than the first after the warm-up, as medians; in percent."""
        warm = self.samples[int(len(self.samples) * WARM):]
        tenth = max(1, len(warm) // 10)
        first, last = warm[:tenth], warm[-tenth:]
        return [100 * (statistics.median(s[i] for s in last) / max(1, statistics.median(s[i] for s in first)) - 1) for i in (1, 2)]


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="scripts/soak", description="Mixed load on TARRY_BIN with reloads and dying workers; nothing may be answered wrongly.")
    parser.add_argument("seconds", nargs="?", type=float, default=60)
    parser.add_argument("--processes", type=int, default=2, help="of Tarry; with more than one, children are killed, too (default 2)")
    parser.add_argument("--children", type=float, metavar="SECONDS", help=f"a child is killed so often (default: {CHILDREN}, or a third of a run that is shorter than three of these)")
    parser.add_argument("--clients", type=int, default=16, help="how many are at work at once (default 16)")
    parser.add_argument("--upgrades", type=float, default=0, metavar="SECONDS", help="another binary takes over so often (SIGUSR2); needs several processes")
    parser.add_argument("--growth", type=float, metavar="PERCENT", help="fail if memory or descriptors grow by more, from the first tenth after the warm-up to the last")
    parser.add_argument("--seed", default=f"{random.SystemRandom().getrandbits(40):010x}")
    given = parser.parse_args(arguments)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tarry-soak-", dir="/var/tmp"))
    adopt_orphans()
    print(f"{find_binary()}, seed {given.seed}", flush=True)
    soak = Soak(folder, Authority(folder / "certs"), given.seed, given.processes, given.clients, given.upgrades,
                given.children or min(CHILDREN, given.seconds / 3))
    failures = asyncio.run(soak.run(given.seconds))
    memory, descriptors = soak.growth() if len(soak.samples) > 10 else (0, 0)
    print(", ".join(f"{kind}: {n}" for kind, n in soak.counts.items()), f"; memory {memory:+.1f} %, descriptors {descriptors:+.1f} %; MiB: {soak.course()}", sep="")
    if given.growth is not None and max(memory, descriptors) > given.growth:
        failures.append(f"it grows: memory by {memory:.1f} %, descriptors by {descriptors:.1f} %")
    if not failures:
        shutil.rmtree(folder)
        return 0
    print(f"FAILED; its files: {folder}")
    for text in failures[:5]:
        print("  " + text.replace("\n", "\n  "))
    return 1
