"""Many streams, and workers that are killed at any moment: each stream of a view that gives the same bytes on every run comes whole, byte
for byte, or is cut. It never ends cleanly before its end, and never has a byte of another's."""

import hashlib
import os
import random
import signal
import threading

import pytest
from behind import DEADLINE, eventually, new_bed, show

pytest.importorskip("openai")
pytest.importorskip("anthropic")
pytest.importorskip("django")

from harness import Truncated  # noqa: E402
from hooked import Hooked, Model  # noqa: E402

from tarry.runs import suspended  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(suspended.missing()), reason=suspended.missing())]

SEED = int(os.environ.get("LIVE_SEED", random.SystemRandom().randrange(1 << 30)))
STREAMS = int(os.environ.get("LIVE_STREAMS", 60))
VIEWS = ["with_openai", "with_requests", "saved", "mixed", "amid", "sleeps_amid", "breaks"]


def words(name, n):
    """What the model says: different in every stream."""
    return [f"{name}.{hashlib.sha256(f'{name}{i}'.encode()).hexdigest()[:8]}" for i in range(n)]


def answers(view, name, n):
    """The streams that the view asks for, with what each says; and the whole of its response."""
    said = words(name, n)
    event = "data: {}\n\n".format
    if view == "mixed":
        a, c = words(f"{name}-a", n), words(f"{name}-c", n)
        return {f"{name}-a": a, f"{name}-c": c}, "".join(map(event, ["thinking", *a, "asking", f"echo:{name}-b", *c, "end"]))
    if view == "breaks":
        a, b = words(f"{name}-a", n), words(f"{name}-b", n)
        return {f"{name}-a": a, f"{name}-b": b}, "".join(map(event, [a[0], *b]))
    if view == "amid":
        a = words(f"{name}-a", 3)
        return {f"{name}-a": a}, "".join(event(t) + event(f"echo:{name}-{t}") for t in a)
    if view == "with_requests":
        return {name: said}, "".join(f"{t}\n" for t in said)
    return {name: said}, "".join(map(event, [*said, *(["saved"] if view == "saved" else [])]))


class Streams:
    def __init__(self, site, model, count, rng):
        self.site, self.model, self.rng = site, model, rng
        self.wanted, self.got, self.threads = {}, {}, []
        for i in range(count):
            view, name = VIEWS[i % len(VIEWS)], f"s{i}"
            said, self.wanted[name] = answers(view, name, rng.randrange(2, 8))
            for question, tokens in said.items():
                self._start(self._speak, question, tokens, rng.random())
            self._start(self._read, view, name)

    def _start(self, function, *args):
        self.threads.append(threading.Thread(target=function, args=args, daemon=True))

    def _speak(self, question, tokens, seed):
        rng = random.Random(seed)
        try:
            feed = self.model.asked(question, self.is_over)
            for token in tokens:
                feed.send(token)
                threading.Event().wait(rng.random() * 0.3)  # the moments of a model; nothing waits for them
            feed.end()
        except (AssertionError, OSError, ValueError):
            pass  # its stream was cut before it was asked, or has been given up

    def _read(self, view, name):
        stream = self.site.stream(f"/{view}/{name}")
        try:
            if self.leaves(name):
                stream.until("\n")
                self.got[name] = ("left", "")
                return
            body = stream.rest()
            self.got[name] = (stream.response.status, body)
        except (Truncated, ConnectionError):
            self.got[name] = ("cut", stream.response.so_far.decode() if stream.response else "")
        except Exception as error:
            self.got[name] = (repr(error), "")
        finally:
            stream.close()

    def run(self, workers):
        for thread in self.threads:
            thread.start()
        kills = 0
        while not self.is_over():
            threading.Event().wait(self.rng.random() * 0.5)
            pids = workers()
            if pids and len(self.got) < len(self.wanted):
                try:
                    os.kill(self.rng.choice(pids), signal.SIGKILL)
                    kills += 1
                except ProcessLookupError:
                    pass
                eventually(workers, "a worker")
                done = len(self.got)
                eventually(lambda done=done: len(self.got) > done or self.is_over() or self._moves(), "something to go on")
        for thread in self.threads:
            thread.join(DEADLINE)
        return kills

    @staticmethod
    def leaves(name):
        """One in ten goes away when the first words have come."""
        return name.endswith("9")

    def is_over(self):
        return len(self.got) == len(self.wanted)

    def _moves(self):
        try:
            return self.site.get("/ok").status == 200
        except OSError:
            return False


@pytest.mark.parametrize("workers", [1, 3])
def test_streams_over_kills_are_whole_or_cut(tmp_path, workers):
    rng = random.Random(SEED + workers)
    bed = new_bed(tmp_path)
    try:
        model = Model(bed)
        conf = 'workers "app" { resume_attempts = 50 }\n'
        site = Hooked(bed, model, conf=conf, args=("--preload", "--workers", str(workers)))
        streams = Streams(site, model, STREAMS, rng)
        kills = streams.run(site.workers)
        whole = cut = 0
        for name, (status, body) in streams.got.items():
            wanted = streams.wanted[name]
            if status == 200:
                assert body == wanted, f"seed {SEED}: {name} has other bytes"
                whole += 1
            elif status == "left":
                pass
            elif status in (500, 502, 503, 504):  # killed before anything was asked: hop 0 is not run again
                cut += 1
            else:
                assert status == "cut", f"seed {SEED}: {name} got {status}"
                assert wanted.startswith(body), f"seed {SEED}: {name} was cut, and what came is wrong"
                cut += 1
        print(f"seed {SEED}: {kills} kills, {whole} whole, {cut} cut")
        assert len(streams.got) == STREAMS and whole > STREAMS // 2 and kills >= 3
    finally:
        show(bed)
        bed.stop()
