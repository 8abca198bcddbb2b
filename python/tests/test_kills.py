"""A worker is killed, at any moment of any hop: no wrong answer, no answer lost that was paid for, no work of once() done twice.

What cannot be had: a request whose worker dies at hop 0 is not sent to another one, so its client gets 502; nothing was asked then. And a
worker that dies within the function of once() leaves nobody who knows whether it had done its work: the view is told, and the work
is not done again."""

import collections
import hashlib
import os
import signal

import pytest
from behind import Site, asked, eventually, new_bed, show
from project.agent import body_of

from tarry.runs import suspended

pytestmark = pytest.mark.slow


STORES = [("default", "0", "rerun"), ("database", "1", "rerun"), ("default", "0", "auto")]
NAMES = ["file cache", "database cache, atomic", "file cache, suspended"]


@pytest.fixture(scope="module", params=STORES, ids=NAMES)
def site(request, tmp_path_factory):
    store, atomic, resume = request.param
    if resume != "rerun" and suspended.missing():
        pytest.skip(suspended.missing())
    bed = new_bed(tmp_path_factory.mktemp(store))
    env = {"TARRY_ONCE_STORE": store, "ATOMIC_REQUESTS": atomic, "LEDGER": str(bed.folder), "TARRY_RESUME": resume}
    site = Site(bed, workers=3, env=env, delay="20ms", pool={"resume_attempts": 10})
    site.resume = resume
    yield site
    show(bed)
    bed.stop()


def ledger(site):
    """How often each work was done: (what, mark) -> times."""
    path = site.bed.folder / "ledger"
    return collections.Counter(tuple(line.split()) for line in path.read_text().splitlines()) if path.exists() else {}


def questions(site, mark):
    """How often each of the agent's questions was asked."""
    seen = collections.Counter(record["body_sha256"] for record in asked(site))
    found = {text: seen[hashlib.sha256(body_of(text)).hexdigest()] for text in (f"0.{mark}", f"1.0.{mark}", f"2.1.0.{mark}")}
    return {text: n for text, n in found.items() if n}


def right(mark):
    return {"receipt": f"receipt of {mark}", "text": f"2.1.0.{mark}", "mail": "sent"}


def each_once(mark):
    return {f"0.{mark}": 1, f"1.0.{mark}": 1, f"2.1.0.{mark}": 1}


LATER = [
    *[(f"{hop}.{moment}",) for hop in (1, 2, 3) for moment in ("start", "charged", "answered 0", "made")],
    ("2.answered 1",),
    ("3.answered 2",),
    ("3.end",),
    ("1.start", "1.charged", "1.answered 0", "1.made", "2.start", "2.made", "3.start", "3.end"),
]


# A run that is suspended is at its start once; when it is lost, another one begins at a later hop.
SUSPENDED = [
    *[(f"{hop}.answered {hop - 1}", *more) for hop in (1, 2, 3) for more in ((), (f"{hop}.start",), (f"{hop}.charged",))],
    ("1.answered 0", "2.answered 1", "3.answered 2"),
    ("3.made",),
    ("3.end",),
    ("1.answered 0", "1.start", "1.charged", "2.answered 1", "2.start", "2.answered 0", "3.answered 2", "3.end", "3.made"),
]


def ids(rows):
    return ["+".join(m) if len(m) < 4 else "all of them" for m in rows]


@pytest.mark.parametrize("moments", LATER, ids=ids(LATER))
@pytest.mark.parametrize("site", STORES[:1], ids=NAMES[:1], indirect=True)
def test_killed_at_a_later_hop_the_client_gets_the_right_answer(site, moments):
    killed_later(site, moments)


@pytest.mark.parametrize("moments", SUSPENDED, ids=ids(SUSPENDED))
@pytest.mark.parametrize("site", STORES[2:], ids=NAMES[2:], indirect=True)
def test_killed_while_it_goes_on_a_suspended_run_is_run_again_with_its_answers(site, moments):
    killed_later(site, moments)


def killed_later(site, moments):
    mark = "later" + "".join(c for c in "".join(moments) if c.isalnum())
    got = site.tarry.get(f"/paid/?mark={mark}&kill={','.join(moments).replace(' ', '%20')}")
    assert got.status == 200 and got.json() == right(mark), got
    assert [ledger(site)[what, mark] for what in ("charge", "mail")] == [1, 1]
    eventually(lambda: questions(site, mark) == each_once(mark), f"the questions of {mark}, each once")
    died = [m for m in moments if (site.bed.folder / f"{mark}.{m}").exists()]
    assert died == list(moments)  # it was killed where the test says


def test_killed_again_and_again_with_the_claims_in_a_database_whose_transactions_end_with_the_worker(site):
    mark, moments = "again", LATER[-1]
    assert site.tarry.get(f"/paid/?mark={mark}&kill={','.join(moments).replace(' ', '%20')}").json() == right(mark)
    assert [ledger(site)[what, mark] for what in ("charge", "mail")] == [1, 1]
    eventually(lambda: questions(site, mark) == each_once(mark), f"the questions of {mark}, each once")


@pytest.mark.parametrize(
    "moment, charges", [("start", 0), ("before charging", 0), ("while charging", 1), ("charged", 1), ("made", 1)]
)
def test_killed_at_hop_0_nothing_is_asked_and_nothing_is_done_twice(site, moment, charges):
    mark = "first" + moment.replace(" ", "")
    got = site.tarry.get(f"/paid/?mark={mark}&kill=0.{moment.replace(' ', '%20')}")
    if moment == "made" and site.resume == "auto":
        assert got.json() == right(mark)  # at hop 0 no response is made
        return
    assert got.status == 502
    assert ledger(site).get(("charge", mark), 0) == charges and questions(site, mark) == {}
    # Its client may try again: that is another request, and another exchange.
    assert site.tarry.get(f"/paid/?mark={mark}").json() == right(mark)


def test_workers_killed_at_random_while_many_clients_ask(site):
    """Kills hit whatever the worker is at: reading, working, between two writes of a response."""
    marks = [f"random{n}" for n in range(60)]
    before = len(asked(site))
    running = {mark: site.bed.background(site.tarry.get, f"/paid/?mark={mark}") for mark in marks}
    killed = 0
    for step in range(1, 13):
        eventually(lambda: len(asked(site)) >= before + 12 * step or not any(r.running for r in running.values()), "more calls")
        pids = site.gunicorn.worker_pids()
        if pids and any(r.running for r in running.values()):
            os.kill(pids[step % len(pids)], signal.SIGKILL)
            killed += 1
    assert killed >= 6
    answers = {mark: r.result() for mark, r in running.items()}
    booked = ledger(site)
    asked(site, before + 3 * len([got for got in answers.values() if got.status == 200]))
    for mark, got in answers.items():
        assert booked.get(("charge", mark), 0) <= 1 and booked.get(("mail", mark), 0) <= 1
        if got.status == 200:
            expected = right(mark)
            told = {what: value for what, value in got.json().items() if value == "uncertain"}
            assert got.json() == {**expected, **told} and "text" not in told, got
            assert questions(site, mark) == each_once(mark)
        else:
            assert got.status == 502 and questions(site, mark) == {}, (mark, got)
    assert len([got for got in answers.values() if got.status == 200]) >= len(marks) - killed
