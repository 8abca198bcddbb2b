"""Every library under `gunicorn -c python:tarry.gunicorn`, on one sync worker, with its views suspended and run again: all that it
is asked for at the same moment, so that runs of the same library are open side by side."""

import collections
import itertools
import re
import threading
import urllib.parse

import pytest

import hooked
import stacks
from harness import DEADLINE, request
from harness.tarry import AccessLog
from test_libraries import check

RETRIES = 1
number = itertools.count(1)
CONF = """access_log {{ target = "{}"  format = "json" }}
upstream "own-1" {{ retries = {}  breaker_failures = 100000 }}
"""


class Site:
    """The stand-in twice, the second one not declared, and gunicorn with one worker."""

    def __init__(self, bed, lock, mode):
        self.bed = bed
        self.provider = bed.provider(https=False, args=["--delay", "100ms"])
        self.other = bed.provider(https=False, name="other")
        self.runs, self.access = bed.folder / "runs", AccessLog(bed.folder / "access.log")
        self.runs.touch()
        origin = f"http://{self.provider.http}"
        env = {"OTHER_ORIGIN": f"http://{self.other.http}", "APP_RUNS": str(self.runs), "TARRY_RESUME": stacks.ONCE_MODES[mode],
               "PYTHONPATH": f"{stacks.REPO / 'python'}:{hooked.APP}:{stacks.APP}", "APP_MODULES": stacks.ONCE_MODULES[lock],
               "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(stacks.BUILD / "pycache")}
        conf = CONF.format(bed.folder / "access.log", RETRIES)
        self.site = hooked.Hooked(bed, lock, "--workers", "1", "--timeout", "120", app="libraries_site", env=env,
                                  files={"tarry.conf": conf}, origin=origin)

    def ask(self, library, case, q):
        query = urllib.parse.urlencode({"library": library, "case": case, "q": q})
        return request(self.site.address, "GET", f"/ask?{query}", timeout=DEADLINE * 4)

    def line(self, q):
        return self.access.wait_for(lambda line: f"{q}'" in str(line))


class Sites:
    def __init__(self, folders):
        self._folders, self._key, self._bed, self._site = folders, None, None, None

    def get(self, key):
        if key != self._key:
            self.stop()
            self._key, self._bed = key, stacks_bed(self._folders)
            self._site = Site(self._bed, *key)
        assert self._site, "it did not start, see the first failure"
        return self._site

    def stop(self):
        bed, self._bed, self._site, self._key = self._bed, None, None, None
        if bed:
            bed.stop()


def stacks_bed(folders):
    from harness.bed import Bed

    return Bed(folders.mktemp("site"), None)


@pytest.fixture(scope="session")
def once_sites(tmp_path_factory):
    made = Sites(tmp_path_factory)
    yield made
    made.stop()


def rows():
    for lock, names in stacks.ONCE.items():
        for mode in stacks.ONCE_MODES:
            for name in names:
                yield pytest.param((lock, mode), name, id=f"{name}-{mode}", marks=pytest.mark.xdist_group(f"{lock} {mode}"))


@pytest.mark.parametrize("key, name", rows())
def test_all_that_a_library_does_at_once(once_sites, key, name, found):
    lock, mode = key
    found("once", library=name, mode=mode)
    site = once_sites.get(key)
    library = stacks.every_library()[name]
    cases, again = library.cases, getattr(library, "again", {})
    before = len(site.provider.records), len(site.other.records)
    asked = {case: f"q{next(number)}-" + "-".join(re.findall(r"\w+", case)) for case in cases}
    got = {}

    def ask(case):
        got[case] = site.ask(name, case, asked[case])

    threads = [threading.Thread(target=ask, args=(case,), daemon=True) for case in cases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE * 5)
    for case in cases:
        assert got[case].status == 200, f"{case}: {got[case]}\n{site.site.output[-3000:]}"
        check(got[case].json(), asked[case])
    runs = collections.Counter(site.runs.read_text().splitlines())
    expected = 0
    for case, (calls, _) in cases.items():
        tries = calls * (1 + RETRIES if "failed" in got[case].json() else 1)
        line = site.line(asked[case])
        assert (line["calls"], case) == (calls, case), site.site.output[-3000:]
        assert (runs[asked[case]], case) == (1 if mode == "suspended" and case not in again else line["hops"], case), site.site.output[-3000:]
        expected += tries
    assert len(site.provider.records) - before[0] == expected
    charges = sum(runs[asked[case]] for case in cases) if name == "stripe, not declared" else 0
    assert len(site.other.records) - before[1] == charges
    if charges > len(cases):
        site.site.wait_line("did something outside, before a call that is handed off")
