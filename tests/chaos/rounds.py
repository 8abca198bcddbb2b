"""A round from its plan to its verdict, and the command."""

import argparse
import asyncio
import contextlib
import pathlib
import random
import shutil
import signal
import ssl
import sys
import tempfile
import time

from harness.base import release_ports
from harness.certs import Authority
from harness.tarry import find_binary

from . import rules, talks, talks2
from .client import client_of
from .plan import make_round
from .proxy import ChaosConf, Proxy
from .record import Record
from .server import BlackHole, Upstream, Worker
from .server2 import H2Upstream

EXCHANGE_DEADLINE = 60
SETTLE_DEADLINE = 60


class World:
    """One proxy with all around it."""

    def __init__(self, plan, folder, authority, log_level="debug"):
        self.plan, self.folder, self.log_level = plan, pathlib.Path(folder), log_level
        self.authority = authority
        self.ca, self.certificate = authority.ca, authority.leaf("leaf")
        self.records = {e.number: Record(e) for e in plan.exchanges}
        self.talks = {t.number: talks.TalkRecord(t) for t in plan.talks}
        self.links = None  # that WebSockets over HTTP/2 share (talks2.py)
        self.failures, self.notes = [], []
        self.workers = [Worker(self, f"unix:{folder}/w{i}.sock" if i % 2 else None) for i in range(len(plan.slots))]
        self.black_hole = BlackHole(self) if plan.black_hole else None
        self.upstreams = {"plain": Upstream(self, "plain"),
                          "tls": Upstream(self, "tls", authority.server_context("leaf", alpn=("http/1.1",))),
                          "h2": H2Upstream(self, "h2", authority.server_context("leaf", alpn=("h2",)))}
        self.proxy = None
        self.dress = lambda conf: None  # changes the conf before it is used
        self.more = []  # servers, beside workers and upstreams
        self._client_tls = {}

    def origin(self, name):
        return self.upstreams[name].origin

    def client_tls(self, alpn):
        key = tuple(alpn)
        if key not in self._client_tls:
            context = ssl.create_default_context(cafile=str(self.ca))
            context.set_alpn_protocols(alpn)
            self._client_tls[key] = context
        return self._client_tls[key]

    def fail(self, text, record=None):
        self.failures.append(text + ("\n" + record.describe() if record else ""))

    def note(self, text):
        self.notes.append(text)

    @property
    def servers(self):
        return [*self.workers, *self.upstreams.values(), *([self.black_hole] if self.black_hole else []), *self.more]

    async def start(self):
        for s in self.servers:
            await s.start()
        conf = ChaosConf(self.folder, self.plan, self)
        self.dress(conf)
        self.proxy = Proxy(self.folder, conf)
        await self.proxy.start()

    async def stop(self):
        if self.proxy:
            self.proxy.kill()
        for s in self.servers:
            with contextlib.suppress(Exception):
                await s.stop()


class Trouble:
    """The events of a round: what happens around the exchanges."""

    def __init__(self, world):
        self.world = world
        self.rng = random.Random(world.plan.seed + " trouble")
        self.live = False

    async def run(self):
        for pause, what in self.world.plan.events:
            await asyncio.sleep(pause)
            if not self.world.proxy.alive:
                return
            await getattr(self, what)()

    async def reload(self):
        conf = self.world.proxy.conf
        conf.top["connection_requests_max"] = 0 if self.live else 100000
        conf.pool["state_max"] = 8000 if self.live else 7999
        for options in (o for limits in conf.limits.values() for o in limits if "in_flight" in o):
            options["in_flight"] += -1 if self.live else 1
        self.live = not self.live
        await self.world.proxy.reload()

    async def bad_reload(self):
        await self.world.proxy.reload("listen {")

    async def scrape(self):
        with contextlib.suppress(Exception):
            await self.world.proxy.metrics()

    async def stop(self):
        self.world.proxy.freeze(self.rng.choice((0.01, 0.05, 0.2)))

    async def reopen(self):
        self.world.proxy.send(signal.SIGUSR1)

    async def worker_restart(self):
        await self.rng.choice(self.world.workers).restart(self.rng.choice((0, 0.02, 0.2)))

    async def worker_drop(self):
        self.rng.choice(self.world.workers).drop()

    async def upstream_restart(self):
        await self.rng.choice(list(self.world.upstreams.values())).restart(self.rng.choice((0, 0.02, 0.2)))

    async def upstream_drop(self):
        self.rng.choice(list(self.world.upstreams.values())).drop()


async def until(check, deadline):
    end = time.monotonic() + deadline
    while True:
        value = await check()
        if value or time.monotonic() > end:
            return value
        await asyncio.sleep(0.1)


class Round:
    def __init__(self, plan, folder, authority, log_level="debug"):
        self.world = World(plan, folder, authority, log_level)
        self.plan, self.deadline = plan, EXCHANGE_DEADLINE

    async def run(self):
        """The failures, as texts."""
        world = self.world
        await world.start()
        before = world.proxy.descriptors()
        trouble = asyncio.create_task(Trouble(world).run())
        try:
            await self.exchanges()
            trouble.cancel()
            await asyncio.gather(trouble, return_exceptions=True)
            world.proxy.send_all(signal.SIGCONT)
            if world.proxy.alive:
                await self.settle(before)
            alive = world.proxy.alive
            await self.end()
            if alive:
                for record in world.records.values():
                    rules.Judge(world, record, self.calm_for(record)).judge()
                for record in world.talks.values():
                    talks.Judge(world, record, self.plan.calm).judge()
        finally:
            trouble.cancel()
            await world.stop()
        return world.failures

    def calm_for(self, record):
        """An HTTP/2 upstream that breaks its connection takes the neighbours along; so does a client's."""
        if not self.plan.calm:
            return False
        if record.exchange.view and self.plan.pool.get("resume_attempts", 0) < 20 and any(
                e.view and (e.view.breaks or e.view.loses is not None) for e in self.plan.exchanges):
            return False  # such a visit may have been about others, too
        if any(c.upstream == "h2" for c in record.exchange.calls):
            for e in self.plan.exchanges:
                for c in e.calls:
                    if c.upstream == "h2" and any(a.fault and (a.how == "fin" or a.fault == "garbage") for a in c.attempts):
                        return False
        return not any(e.leave for c in self.plan.connections if record.exchange in c.exchanges for e in c.exchanges)

    def ended(self):
        return (sum(r.result is not None and r.result.seconds is not None for r in self.world.records.values())
                + sum(r.over for r in self.world.talks.values()))

    async def exchanges(self):
        room = asyncio.Semaphore(self.plan.at_once)
        dead = asyncio.create_task(self.world.proxy.ended())

        async def one(c):
            async with room:
                if self.world.proxy.alive:
                    await client_of(self.world, c).run()

        async def talk(t):
            async with room:
                if self.world.proxy.alive:
                    await talks2.client_of(self.world, t).run()
        tasks = [asyncio.create_task(one(c)) for c in self.plan.connections] + [asyncio.create_task(talk(t)) for t in self.plan.talks]
        work = asyncio.ensure_future(asyncio.gather(*tasks, return_exceptions=True))
        ended = -1
        while not (work.done() or dead.done()) and ended < self.ended():  # one ends from time to time: it is only slow
            ended = self.ended()
            await asyncio.wait((work, dead), return_when=asyncio.FIRST_COMPLETED, timeout=self.deadline)
        if not work.done() and not dead.done():
            hanging = [r for r in self.world.records.values() if r.result and not (r.result.complete or r.result.how or r.result.left or r.result.refused)]
            try:
                left = rules.left_over(await asyncio.wait_for(self.world.proxy.metrics(), 10))
            except Exception as e:
                left = f"no metrics: {e!r}"
            hanging += [r for r in self.world.talks.values() if not r.over]
            self.world.fail(f"{len(hanging)} exchanges hang ({left}); the first:", hanging[0] if hanging else None)
        for t in tasks:
            t.cancel()
        for value in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(value, Exception):
                self.world.fail(f"the fuzzer's own client failed: {value!r}")
        dead.cancel()

    async def settle(self, before):
        """Waits until nothing is under way; everything that was taken must be given back."""
        world = self.world
        last = {}

        async def idle():
            nonlocal last
            if not world.proxy.alive:
                return True
            try:
                last = rules.left_over(await world.proxy.metrics())
            except Exception as e:
                last = {"metrics": repr(e)}
            return not last

        if not await until(idle, SETTLE_DEADLINE):
            world.fail(f"it does not come to rest: {last}")

        async def descriptors():
            return not world.proxy.alive or world.proxy.descriptors() <= before
        if not await until(descriptors, 20):
            world.fail(f"{world.proxy.descriptors()} descriptors at the end, {before} at the beginning")
        for record in world.records.values():
            rules.Judge(world, record, self.calm_for(record)).delivered()

    async def end(self):
        proxy = self.world.proxy
        if proxy.alive:
            code = await proxy.stop(60)
            if code != 0:
                self.world.fail(f"its exit: {code}")
        else:
            self.world.fail(f"it died: {proxy.process.returncode}; its last lines:\n{proxy.tail(12)}")
        complaint = proxy.complaint()
        if complaint:
            self.world.failures.insert(0, complaint)


def run_round(seed, folder, authority, only=(), log_level="debug", deadline=EXCHANGE_DEADLINE):
    plan = make_round(seed)
    plan.talks = talks.make_talks(seed, plan.calm)
    if only:
        plan.talks = [t for t in plan.talks if t.number in only]
        for c in plan.connections:
            c.exchanges = [e for e in c.exchanges if e.number in only]
        plan.connections = [c for c in plan.connections if c.exchanges]
    round_ = Round(plan, folder, authority, log_level)
    round_.deadline = deadline
    return plan, round_, asyncio.run(round_.run())


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="scripts/chaos", description="Runs rounds of random trouble against TARRY_BIN and checks what must hold.")
    parser.add_argument("seconds", nargs="?", type=float, default=60)
    parser.add_argument("--seed", help="run this round only; a failure prints it")
    parser.add_argument("--only", default="", help="with --seed: only these exchanges of it, such as 3,17")
    parser.add_argument("--repeat", type=int, default=1, help="with --seed: so often, until it fails")
    parser.add_argument("--slow", type=int, default=0, metavar="N", help="show the N slowest exchanges of each round")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    parser.add_argument("--deadline", type=float, default=EXCHANGE_DEADLINE, help="seconds without an exchange's end after which a round hangs (default %(default)s)")
    parser.add_argument("--log", default="debug", help="the log level (default: debug)")
    parser.add_argument("--folder", help="where the files of a failed round stay")
    given = parser.parse_args(arguments)
    print(f"{find_binary()}", flush=True)
    home = pathlib.Path(given.folder or tempfile.mkdtemp(prefix="tarry-chaos-", dir="/var/tmp"))
    home.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(home / "certs", ignore_errors=True)  # of an earlier run, by another authority
    authority = Authority(home / "certs")
    only = {int(n) for n in given.only.split(",") if n}
    seeds = iter([given.seed] * given.repeat) if given.seed else fresh_seeds()
    end = time.monotonic() + given.seconds
    rounds = exchanges = failed = 0
    for seed in seeds:
        if not given.seed and time.monotonic() > end:
            break
        folder = home / f"round-{rounds}"
        folder.mkdir(exist_ok=True)
        begun = time.monotonic()
        plan, round_, failures = run_round(seed, folder, authority, only, given.log, given.deadline)
        print(f"{seed}: {len(plan.exchanges)} exchanges, {len(plan.talks)} WebSockets, {sum(r.pieces for r in round_.world.records.values())} pieces, {time.monotonic() - begun:.1f} s", flush=True)
        release_ports()
        rounds += 1
        exchanges += len(plan.exchanges)
        if failures:
            failed += 1
            report(seed, folder, failures + round_.world.notes[:3])
            if not given.keep_going:
                break
        else:
            shutil.rmtree(folder)
        if given.slow:
            for r in sorted((r for r in round_.world.records.values() if r.result), key=lambda r: -(r.result.seconds or 0))[:given.slow]:
                print(r.describe())
    print(f"{rounds} rounds, {exchanges} exchanges, {failed} rounds failed", flush=True)
    if not failed and not given.folder:
        shutil.rmtree(home)
    return 1 if failed else 0


def fresh_seeds():
    while True:
        yield f"{random.SystemRandom().getrandbits(40):010x}"


def report(seed, folder, failures):
    print(f"\nFAILED: round {seed}; again: scripts/chaos --seed {seed}; its files: {folder}")
    for text in failures[:5]:
        print("  " + text.replace("\n", "\n  "))
    if len(failures) > 5:
        print(f"  and {len(failures) - 5} more")
    sys.stdout.flush()
