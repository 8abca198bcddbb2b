"""What must hold, whatever the peers do."""

import json
import re
import zlib

from harness.handoffs import proxy_error

from .plan import Handoff
from .record import versions
from .runs import fits

COMMENT = b": keep-alive\n\n"
COMMENTS = re.compile(rb"(?::[^\n]*\n+)+")


def inflate(data, coding):
    """The content behind a coding; None where this machine cannot tell (the coding is then not looked into)."""
    if coding is None:
        return data
    if coding == "gzip":
        try:
            return zlib.decompressobj(31).decompress(data)
        except zlib.error:
            return b"not gzip: " + data[:100]
    return None


class Judge:
    """Judges one exchange. `calm`: neither the conf nor an event of the round excuses a failure."""

    def __init__(self, world, record, calm):
        self.world, self.record, self.calm = world, record, calm
        self.e, self.result = record.exchange, record.result

    def fail(self, text):
        self.world.fail(text, self.record)

    def judge(self):
        self.peers()
        if self.result is None:
            self.fail("its client never came to it")
            return
        elif self.result.complete:
            self.whole()
            if self.good():
                self.fine()
        elif self.idle_end():
            pass
        elif not self.result.left and not self.excused():
            self.fail("the client was cut without a cause")

    # --- what excuses a failure ---

    def idle_end(self):
        """An idle connection may end just when the next request is sent."""
        r = self.result
        return (r is not None and r.reused and r.status is None and r.how in (None, "eof", "reset", "connection")
                and not self.record.visits and not self.record.calls)

    def good(self):
        """Whether nothing in this exchange's own plan, nor around it, can make it fail."""
        e = self.e
        return (self.calm and not self.result.left and not e.leave and all(a.whole and not a.early for a in e.answers())
                and all(c.timeout is None for c in e.calls) and not (e.view and e.view.breaks and e.view.breaks[0] == 0))

    def excused(self):
        return not self.good()

    # --- the client's side ---

    def bodies(self):
        """Every body that may rightly be this client's: (body, whether the answer was whole)."""
        for v in self.record.visits:
            if v.kind != "notify" and not isinstance(v.answer, Handoff):
                yield from versions(v)
        for c in self.record.calls:
            yield from versions(c)

    def whole(self):
        r = self.result
        body = inflate(r.body, r.headers.get("Content-Encoding"))
        if body is None:
            return
        if self.e.method == "HEAD":
            if body:
                self.fail("a body in answer to HEAD")
            return
        # The first handoff that asks for it fixes the head.
        keep_alive = next((v.answer.keep_alive for v in self.record.visits if isinstance(v.answer, Handoff) and v.answer.keep_alive), None)
        if self.e.kind == "gateway" and ("Accept", "text/event-stream") in self.e.fields:  # of a route that sends them
            keep_alive = "sse"
        if keep_alive:
            body = self.without_keep_alive(body, keep_alive)
        if self.e.view and fits(self.record, body.replace(COMMENT, b"") if self.e.view.keep_alive else body, list(self.bodies())):
            return
        if self.e.view and self.e.view.keep_alive:
            body, keep_alive = self.without_keep_alive(body, "sse"), "sse"
        elif self.e.view:
            pass
        elif body in self.bodies() or not body and r.status in (204, 304):
            return
        if any(v.killed and v.local and v.answer.framing == "close" and v.body.startswith(body) for v in self.record.visits):
            return  # a unix socket knows no reset, so the death of its owner looks like the end of such an answer
        if keep_alive == "sse" and body.startswith(b"event: error") and self.data_of(body) in list(self.bodies()):
            return  # a service's or a worker's own failure
        if r.status >= 400 or keep_alive:
            if self.is_problem(body, keep_alive):
                if self.good():
                    self.fail(f"a problem without a cause: {body[:300]!r}")
                return
        self.fail(f"the client got what nobody sent it: status {r.status}, {len(body)} bytes: {body[:200]!r}")

    @staticmethod
    def without_keep_alive(body, kind):
        if kind == "space":
            return body.lstrip(b" \n")
        found = COMMENTS.match(body)
        return body[found.end():] if found else body

    @staticmethod
    def data_of(event):
        return b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))

    def is_problem(self, body, keep_alive):
        if keep_alive == "sse" and body.startswith(b"event: error"):
            body = self.data_of(body)
        try:
            problem = json.loads(body)
        except ValueError:
            return False
        return isinstance(problem, dict) and {"title", "status", "error", "exchange"} <= problem.keys()

    # --- the peers' side ---

    def peers(self):
        for v in self.record.visits:
            if v.enclosed is not None:
                self.enclosed(v)
        if not any(isinstance(v.answer, Handoff) for v in self.record.visits) and self.e.kind not in ("gateway", "pieces") and self.record.calls:
            self.fail("calls without a handoff")
        hops = {}
        for v in self.record.visits:
            hop, attempt = int(v.headers.get("Tarry-Hop") or 0), int(v.headers.get("Tarry-Attempt") or 1)
            if attempt > 1 and v.kind == "request":
                self.fail("hop 0 has a Tarry-Attempt")
            if attempt in hops.setdefault(hop, []):
                self.fail(f"hop {hop} was visited twice with attempt {attempt}")
            if v.kind != "request":
                hops[hop].append(attempt)

    def enclosed(self, v):
        """Each enclosed response is what the upstream sent for that call, or Tarry's own problem."""
        for i, a in enumerate(v.enclosed):
            if a.error is not None:
                continue
            index = int((a.id or "0.0").split(".")[1]) if self.e.kind != "gateway" else 0
            if v.kind not in ("notify", "error") and len(v.enclosed) <= len(self.e.calls) and a.id != f"{self.e.number}.{index}":
                self.fail(f"enclosed {a.id!r} in a visit of {self.e.number}")
            sent = [c for c in self.record.calls if c.index == index]
            body = inflate(a.body, a.headers.get("Content-Encoding"))
            outcome = v.headers.get("Tarry-Outcome")
            if body is None or any(body == b for c in sent for b in versions(c)):
                continue
            if outcome in ("truncated", "cancelled") and any(c.body.startswith(body) for c in sent):
                continue
            if outcome in ("truncated", "cancelled") and a.headers.get("Content-Encoding"):
                continue
            self.fail(f"call {index} is enclosed with what no upstream sent: {a.body[:200]!r}")

    def fine(self):
        """A good exchange in a calm round: complete, and with the right answer."""
        e = self.e
        if e.kind in ("resume", "replay") and not any(v.kind.startswith(e.kind) for v in self.record.visits):
            self.fail(f"no {e.kind} was delivered")

    # --- at the end of the round ---

    def delivered(self):
        """Answers that are paid for reach a worker."""
        e = self.e
        handoff = e.handoff()
        if not handoff or not self.record.calls:
            return
        paid = [c for c in self.record.calls if c.whole and not c.peer_left and c.answer.status == 200]
        if handoff.notify and not self.record.count("error") and not self.record.count("notify") and self.expects_notify():
            self.fail("a notify was not delivered")
        gone = self.result is None or self.result.left or not self.result.complete
        cancelled = handoff.on_disconnect == "cancel" and gone
        if e.kind in ("resume", "replay") and len(paid) >= len(handoff.calls) and not cancelled and self.calm:
            if not any(v.kind.startswith(e.kind) for v in self.record.visits):
                self.fail(f"answers that were paid for were not delivered by a {e.kind}")

    def expects_notify(self):
        """A worker gets it, unless all that could be done was done: Tarry counts and logs those."""
        return self.calm


def left_over(metrics):
    """What of the metrics says that something is still under way."""
    names = ("tarry_exchanges{", "tarry_pool_queue{", "tarry_upstream_waiting{", "tarry_upstream_streams{", "tarry_upstream_queue_calls{",
             "tarry_limit_calls")
    found = {n: v for n, v in metrics.items() if v and n.startswith(names)}
    found.update({n: v for n, v in metrics.items() if v and n.startswith("tarry_pool_slots{") and '"all"' not in n})
    return found
