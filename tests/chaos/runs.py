"""The worker side of runs: a view that sends to its client while an answer comes (docs/handoff.md: a response in parts, an answer in
pieces). A run is lost with its process. The view is then run again, and leaves out what its client already has."""

import dataclasses
import re

from harness.handoffs import call, replay_parts
from harness.parts import answer_pieces, parts, read_pieces, sent
from harness.server import Reply

from .plan import Short
from .record import content

PIECE = re.compile(r"from=(\d+); (more|last)\Z")


@dataclasses.dataclass(repr=False)
class View(Short):
    """What the view of a run does: it sends `begin` bytes, the answer of its call as it comes, so many `ticks` with a pause before
    each, and `end` bytes."""

    begin: int = 0  # 0: nothing goes out before the call is made
    waits: bool = False  # a pause between `begin` and the call
    rest: bool = False  # asks for the whole answer once it has begun
    ticks: int = 0
    end: int = 20
    pause: str = "0.02"
    sticky: str = "2"
    at: bool = False  # names the process's own address, where it has one


def begin_of(e):
    return content(e.number, "begin", e.view.begin)


def behind(e):
    """The texts that follow the answer."""
    return [content(e.number, f"tick{i}", 10) for i in range(e.view.ticks)] + [content(e.number, "end", e.view.end)]


class Run:
    """`sticky`: its next visit may come to the same process."""

    def __init__(self, e, m):
        self.e, self.hop = e, m.headers.get("Tarry-Hop")
        self.sticky = "pieces" in re.split(r"[\s,]+", m.headers.get("Tarry-Features") or "")
        self.got = 0  # of the open answer
        self.called = self.ended = False
        self.left = behind(e)


class Runs:
    """Those of one worker process."""

    def __init__(self, world, address):
        self.world, self.address = world, address
        self.of = {}  # exchange id -> Run

    def fail(self, text, record):
        self.world.fail(text, record)

    def go_on(self, run, data=b""):
        """The view's next stop, behind this data."""
        view, fields = run.e.view, self.sticky(run)
        pause = [("Tarry-Wait", view.pause)]
        if not run.called:
            run.called = True
            return parts(data, "replay", fields, self.call(run))
        if not run.ended:
            return parts(data, "more" if run.sticky and not view.rest else "rest", fields)
        data += run.left.pop(0) if run.sticky else b"".join(run.left)
        if not run.left or not run.sticky:
            return parts(data, "end")
        return parts(data, "more", fields + pause)

    def sticky(self, run):
        if not run.sticky:
            return []
        return [("Tarry-Sticky", run.e.view.sticky)] + [("Tarry-At", self.address)] * bool(run.e.view.at and self.address)

    def call(self, run):
        n, planned = run.e.number, run.e.calls[0]
        return call(f"{self.world.origin(planned.upstream)}/c/{n}/0", content(n, "call0", planned.size), method="POST", id=f"{n}.0",
                    headers=[("Content-Type", "text/plain")] + [("Tarry-Deliver", "pieces")] * run.sticky)

    # --- visits ---

    def visit(self, m, record):
        """Hop 0 or a replay: the worker's response."""
        run = self.of[m.headers.get("Tarry-Exchange")] = Run(record.exchange, m)
        if m.headers.get("Tarry-Kind") == "replay":
            return self.replay(m, record, run)
        view, begin = run.e.view, begin_of(run.e)
        if view.waits and run.sticky:
            return parts(begin, "more", self.sticky(run) + [("Tarry-Wait", view.pause)])
        return self.go_on(run, begin)

    def replay(self, m, record, run):
        """The view has come this far again: what was sent is left out."""
        e = record.exchange
        original, answers = replay_parts(m)
        if original != content(e.number, "body", e.size):
            self.fail(f"a replay has another body: {original[:100]!r}", record)
        said, had = begin_of(e), m.headers.get("Tarry-Sent")
        if answers:
            run.called = True
            said += self.open_answer(run, record, answers[-1])
        n = int(re.match(r"bytes=(\d+)", had)[1]) if had else 0
        while n > len(said) and run.ended and run.left:
            said += run.left.pop(0)
        if n > len(said) or had and sent(said[:n]) != had:
            self.fail(f"Tarry-Sent {had!r}, and the view makes {sent(said)!r}", record)
            return parts((), "cut")
        if run.ended and not run.left:
            return parts(said[n:], "end")
        return self.go_on(run, said[n:])

    def open_answer(self, run, record, a):
        if a.error is not None:
            self.fail(f"a run's call failed: {a}", record)
        found = PIECE.match(a.headers.get("Tarry-Piece") or "from=0; last")
        if not found or found[1] != "0":
            self.fail(f"a replay with Tarry-Piece {a.headers.get('Tarry-Piece')!r}", record)
        self.take(run, record, a.body, not found or found[2] == "last")
        return a.body

    def take(self, run, record, data, last):
        """Looks at what has come of the open answer."""
        end = run.got + len(data)
        if not any(c.body[run.got:end] == data and (not last or c.whole and len(c.body) == end) for c in record.calls):
            self.fail(f"from {run.got} on a run got what no upstream sent: {data[:100]!r}{', as the last' if last else ''}", record)
        run.got, run.ended = end, last

    def pieces(self, m):
        """What answers a visit with pieces."""
        return answer_pieces([self.piece(p) for p in read_pieces(m)])

    def piece(self, p):
        run = self.of.get(p.exchange)
        if p.outcome == "cancelled":
            self.of.pop(p.exchange, None)
            return Reply(200, b"")
        record = run and self.world.records.get(run.e.number)
        if record is None:
            return Reply(409, b"", {"Tarry-Then": "whole"})
        record.pieces += 1
        if p.hop != run.hop:
            self.fail(f"a piece of hop {p.hop}, not {run.hop}", record)
        if p.piece is None:
            if run.called and not run.ended or p.body:
                self.fail("a piece without an answer, while one is open", record)
            return self.go_on(run)
        found = PIECE.match(p.piece)
        if not found or int(found[1]) != run.got or run.ended or not run.called:
            self.fail(f"Tarry-Piece {p.piece!r}, and the run has {run.got} bytes", record)
            return parts((), "cut")
        last = found[2] == "last"
        if last and p.outcome != "complete":
            self.fail(f"an answer that was sent whole is {p.outcome}: {p.headers.get('Proxy-Status')}", record)
        if run.e.view.rest and not last:
            self.fail("after `rest` a piece came before the answer's end", record)
        self.take(run, record, p.body, last)
        return self.go_on(run, p.body)
