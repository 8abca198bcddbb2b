"""The worker side of runs: a view that sends to its client while an answer comes (docs/handoff.md: a response in parts, an answer in
pieces). A run is lost with its process. The view is then run again, and leaves out what its client already has."""

import re

from harness.handoffs import call, replay_parts
from harness.parts import answer_pieces, parts, read_pieces, sent
from harness.server import Reply

from .record import content, versions

PIECE = re.compile(r"from=(\d+); (more|last)\Z")


def text_of(e, what, size):
    """Comments of an event stream may follow where an empty line has ended what came before."""
    return content(e.number, what, size) + (b"\n\n" if e.view.keep_alive and size else b"")


def begin_of(e):
    return text_of(e, "begin", e.view.begin)


def behind(e):
    """The texts that follow the answer."""
    return [text_of(e, f"tick{i}", 10) for i in range(e.view.ticks)] + [text_of(e, "end", e.view.end)]


def failed_of(e):
    """What follows instead where its call has failed."""
    return text_of(e, "failed", 20)


def fits(record, body, whole):
    """Whether this may be the whole text of a view. `whole`: the bodies that its service may have ended in order."""
    e = record.exchange
    begin, end = begin_of(e), b"".join(behind(e))
    if any(body == begin + w + end for w in whole):
        return True
    if e.view.cuts or not (body.startswith(begin) and body.endswith(failed_of(e))):
        return False
    middle = body[len(begin):-len(failed_of(e))]
    return not middle or any(c.body.startswith(middle) for c in record.calls)


class Run:
    """`sticky`: its next visit may come to the same process."""

    def __init__(self, e, m):
        self.e, self.hop = e, m.headers.get("Tarry-Hop")
        self.sticky = "pieces" in re.split(r"[\s,]+", m.headers.get("Tarry-Features") or "")
        self.got = 0  # of the open answer
        self.called = self.ended = self.failed = False
        self.left = behind(e)

    def fail(self):
        """Its call has brought no whole answer."""
        self.ended = self.failed = True
        self.left = [failed_of(self.e)]


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
        if run.failed and view.cuts:
            return parts(data, "cut")
        data += run.left.pop(0) if run.sticky else b"".join(run.left)
        if not run.left or not run.sticky:
            return parts(data, "end")
        return parts(data, "more", fields + pause)

    def sticky(self, run):
        view = run.e.view
        fields = [("Tarry-Keep-Alive", "sse")] * view.keep_alive + [("Tarry-On-Disconnect", view.on_disconnect)] * bool(view.on_disconnect)
        if run.sticky:
            fields += [("Tarry-Sticky", view.sticky)] + [("Tarry-At", self.address)] * bool(view.at and self.address)
        return fields

    def call(self, run):
        n, planned = run.e.number, run.e.calls[0]
        return call(f"{self.world.origin(planned.upstream)}/c/{n}/0", content(n, "call0", planned.size), method="POST", id=f"{n}.0",
                    timeout=planned.timeout, retries=planned.retries,
                    headers=[("Content-Type", "text/plain")] + [("Tarry-Deliver", "pieces")] * run.sticky
                    + [("Tarry-Limit-Key", planned.tenant)] * bool(planned.tenant))

    # --- visits ---

    def visit(self, m, record):
        """Hop 0 or a replay: the worker's response."""
        run = self.of[m.headers.get("Tarry-Exchange")] = Run(record.exchange, m)
        record.turns += 1
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
        if run.ended and not run.left and not (run.failed and run.e.view.cuts):
            return parts(said[n:], "end")
        return self.go_on(run, said[n:])

    def open_answer(self, run, record, a):
        if a.error is not None or a.status // 100 != 2:
            if not self.may_fail(record):
                self.fail(f"a run's call failed: {a}", record)
            run.fail()
            return b""
        found = PIECE.match(a.headers.get("Tarry-Piece") or "from=0; last")
        if not found or found[1] != "0":
            self.fail(f"a replay with Tarry-Piece {a.headers.get('Tarry-Piece')!r}", record)
        self.take(run, record, a.body, not found or found[2] == "last", a.headers)
        return a.body

    def may_fail(self, record):
        e = record.exchange
        if e.calls[0].upstream == "h2":
            return True  # calls of others share its connection, and their faults may break it
        return not self.world.plan.calm or e.calls[0].timeout is not None or not all(a.whole and a.status == 200 for a in e.answers())

    def take(self, run, record, data, last, headers):
        """Looks at what has come of the open answer."""
        outcome = headers.get("Tarry-Outcome") or "complete"
        end, whole = run.got + len(data), last and outcome == "complete"
        if not any(c.body[run.got:end] == data and (not whole or any(len(b) == end for b in versions(c))) for c in record.calls):
            self.fail(f"from {run.got} on a run got what no upstream sent: {data[:100]!r}{', as the last' if last else ''}", record)
        run.got, run.ended = end, last
        if last and not whole:
            if not self.may_fail(record):
                self.fail(f"an answer that was sent whole is {outcome}: {headers.get('Proxy-Status')}", record)
            run.fail()

    def pieces(self, m):
        """What answers a visit with pieces: (the response, how it breaks off or None)."""
        said = []
        for p in read_pieces(m):
            run = self.of.get(p.exchange)
            reply = self.piece(p)
            record = run and self.world.records.get(run.e.number)
            how = record and p.outcome != "cancelled" and self.breaks(record)
            if how:
                self.of.pop(p.exchange, None)
                reply = answer_pieces([reply]).body
                return answer_pieces([*said, reply[:len(reply) // 2]]), how
            said.append(reply)
        return answer_pieces(said), None

    def breaks(self, record):
        """How the answer to this visit of the view breaks off, or None."""
        broken = record.exchange.view.breaks
        return broken[1] if broken and broken[0] == record.turns - 1 else None

    def piece(self, p):
        run = self.of.get(p.exchange)
        if p.outcome == "cancelled":
            self.of.pop(p.exchange, None)
            return Reply(200, b"")
        record = run and self.world.records.get(run.e.number)
        if record is None:
            return Reply(409, b"", {"Tarry-Then": "whole"})
        record.pieces += 1
        record.turns += 1
        record.reach("piece")
        if record.turns - 1 == run.e.view.loses:
            self.of.pop(p.exchange, None)
            return Reply(409, b"", {"Tarry-Then": "whole"})
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
        if run.e.view.rest and not last:
            self.fail("after `rest` a piece came before the answer's end", record)
        self.take(run, record, p.body, last, p.headers)
        return self.go_on(run, p.body)
