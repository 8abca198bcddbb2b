"""Many streams of one process, in any order: pieces alone and together, whole replays, runs that are lost, and pieces that come twice. Each
client gets its own bytes, each of them once."""

import os
import random

import pytest
from test_parts import Streamed, auto, go, lines, streaming, visit  # noqa: F401 (auto is a fixture)

from tarry.runs import suspended
from visits import lose

pytestmark = pytest.mark.skipif(bool(suspended.missing()), reason=suspended.missing())

SEED = int(os.environ.get("PARTS_SEED", random.SystemRandom().randrange(1 << 30)))


class One:
    def __init__(self, app, n, rng):
        self.app, self.rng = app, rng
        self.words = [f"{n}.{i}{'x' * rng.randrange(200)}\n" for i in range(rng.randrange(1, 9))]
        self.said = "".join(self.words)
        self.at = 0
        self.x = Streamed(app)
        self.attempt = 1

    def some(self):
        """What the model says next, cut anywhere; and whether that is the end."""
        to = min(len(self.said), self.at + self.rng.randrange(1, 400))
        text, self.at = self.said[self.at : to], to
        return text, self.at == len(self.said)

    def begin(self):
        self.x.visit()
        ((self.x.call_id, _),) = self.x.calls
        self.x.hop += 1
        self.replay()

    def replay(self):
        text, ends = self.some()
        self.x.replay(text, last="complete" if ends else False, attempt=self.attempt)
        self.attempt += 1

    def piece(self):
        text, ends = self.some()
        return self.x.enclosed(text, "complete" if ends else "")

    def check(self):
        got = self.x.got.decode()
        assert self.said.startswith(got), f"seed {SEED}: {got!r} is not of {self.said!r}"
        assert not self.x.done or (self.x.then == "end" and got == self.said), f"seed {SEED}: ended {self.x.then!r} too early"


@pytest.mark.parametrize("round_", range(3))
def test_any_order(round_):
    rng = random.Random(SEED + round_)
    app = streaming(lines)
    all_ = [One(app, n, rng) for n in range(30)]
    for one in all_:
        one.begin()
    while open_ := [one for one in all_ if not one.x.done]:
        act = rng.random()
        some = rng.sample(open_, min(len(open_), rng.randrange(1, 12)))
        if act < 0.7:
            together(app, some)
        elif act < 0.85:
            some[0].replay()
        elif act < 0.93:
            stale = some[0].x
            stale.given += 1  # a piece that is not the next one
            assert go(app, stale).startswith("HTTP/1.1 409")
            some[0].replay()
        else:
            lose()
        for one in some:
            one.check()
    assert not suspended.table.runs


def together(app, some):
    raw = visit(app, *(one.piece() for one in some))
    for one in some:
        assert raw.startswith(b"HTTP/1.1 ")
        head, _, raw = raw.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 409"):
            one.replay()
            continue
        raw = one.x.parts(raw)
    assert raw == b""
