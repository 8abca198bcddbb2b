"""Views that run once behind the real Tarry: two processes, each with an address of its own, to which the answers come back."""

import itertools
import os
import signal
import sqlite3

import pytest
from behind import DEADLINE, HERE, asked, eventually, new_bed, show

from tarry.runs import suspended

pytestmark = pytest.mark.skipif(bool(suspended.missing()), reason=suspended.missing())

marks = (f"once-{n}-" for n in itertools.count())


class Processes:
    """A project in several gunicorns of one worker."""

    def __init__(self, bed, count=2, delay="100ms", **env):
        self.bed = bed
        self.database = bed.folder / "db.sqlite3"
        self.provider = bed.provider(https=False, args=["--delay", delay, "--tokens", "3"])
        origin = f"http://{self.provider.http}"
        environment = {
            "MODEL_ORIGIN": origin,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "TARRY_TEST_DATABASE": str(self.database),
            "PYTHONPATH": f"{HERE.parent}:{HERE}",
            "MAKE_TABLES": "1",
            "TARRY_RESUME": "auto",
            **env,
        }
        self.processes = [bed.gunicorn("project.wsgi:application", workers=1, env=environment) for _ in range(count)]
        conf = bed.conf(self.processes, origin, slots=1)
        conf.admins[f"unix:{bed.folder}/admin.sock"] = {}
        self.tarry = bed.tarry(conf)

    def parked(self, count):
        """Waits until so many exchanges hold no worker."""
        eventually(lambda: self.tarry.metric('tarry_exchanges{state="parked"}') == count, f"{count} parked exchanges")

    def rows(self, text):
        with sqlite3.connect(self.database, timeout=DEADLINE) as connection:
            ((n,),) = connection.execute("SELECT count(*) FROM project_row WHERE text = ?", [text])
        return n

    def many(self, path, count):
        """So many requests at a time, each with a mark of its own; the marks and the running requests."""
        names = [next(marks) for _ in range(count)]
        return names, [self.bed.background(self.tarry.get, path.format(mark=mark)) for mark in names]


@pytest.fixture
def bed(tmp_path):
    bed = new_bed(tmp_path)
    yield bed
    show(bed)
    bed.stop()


def test_each_view_runs_once_on_two_processes(bed):
    site = Processes(bed)
    names, running = site.many("/rows/create/?mark={mark}", 30)
    assert all(r.result().text.startswith("echo:q") for r in running)
    assert [site.rows(mark) for mark in names] == [1] * 30 and len(asked(site, 30)) == 30


def test_agents_ask_each_question_once(bed):
    site = Processes(bed, delay="20ms")
    running = [
        bed.background(site.tarry.post, "/agent/?do=agent", f'{{"text": "t{n}"}}', {"Content-Type": "application/json"})
        for n in range(20)
    ]
    assert sorted(r.result().json()["text"] for r in running) == sorted(f"4.3.2.1.0.t{n}" for n in range(20))
    assert len(asked(site, 100)) == 100


def test_a_process_that_is_killed_loses_no_answer(bed):
    site = Processes(bed, delay="3s")
    names, running = site.many("/rows/create/?mark={mark}", 20)
    site.parked(20)
    (killed,) = site.processes[0].worker_pids()
    os.kill(killed, signal.SIGKILL)
    assert all(r.result().text.startswith("echo:q") for r in running)
    written = [site.rows(mark) for mark in names]
    assert set(written) <= {1, 2} and 1 in written and len(asked(site, 20)) == 20


def test_with_error_a_lost_run_that_had_written_is_not_run_again(bed):
    site = Processes(bed, count=1, delay="3s", TARRY_LOST="error")
    (mark,), (running,) = site.many("/rows/create/?mark={mark}", 1)
    site.parked(1)
    assert site.rows(mark) == 1
    (killed,) = site.processes[0].worker_pids()
    os.kill(killed, signal.SIGKILL)
    got = running.result()
    assert got.status == 500 and got.json()["title"].startswith("the request was interrupted") and site.rows(mark) == 1


def test_a_polling_view_holds_no_worker_while_it_sleeps(bed):
    """Ten at a time on one process. Each sleeps three times, and each sleep is a visit."""
    site = Processes(bed, count=1, delay="10ms")
    names, running = site.many("/rows/polls/?mark={mark}", 10)
    assert all(r.result().text.startswith("echo:q") for r in running)
    hops = [site.tarry.access.wait_for(lambda line, mark=mark: mark in str(line))["hops"] for mark in names]
    assert hops == [1 + 2 + 3] * 10 and [site.rows(mark) for mark in names] == [1] * 10
