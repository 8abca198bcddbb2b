"""A Django project on gunicorn behind the real Tarry, with the stand-in for the AI services. What imports this is skipped where Tarry is
not built, or gunicorn and h2 (which the harness of tests/e2e stands on) are not installed."""

import pathlib
import re
import sys

import pytest

pytest.importorskip("gunicorn")
pytest.importorskip("h2")

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "e2e"))

# Not guarded: a harness that cannot be imported is an error, and no reason to skip everything that stands on it.
from harness.base import DEADLINE, eventually  # noqa: E402
from harness.bed import Bed  # noqa: E402
from harness.server import Reply  # noqa: E402
from harness.tarry import find_binary  # noqa: E402

try:
    find_binary()
except AssertionError as missing:
    pytest.skip(f"no Tarry to test with: {missing}", allow_module_level=True)

SECRET = "a-secret-of-the-tests"

__all__ = ["Bed", "DEADLINE", "Reply", "Site", "asked", "eventually", "new_bed", "show"]


def new_bed(folder):
    def authority():
        raise AssertionError("these tests need no certificates")

    return Bed(folder, authority)


def show(bed):
    """The logs of all that ran: pytest shows them if the test failed."""
    for title, text in bed.describe():
        print(f"--- {title}\n{text}")


class Site:
    """One project, its database in a file of the bed's folder."""

    def __init__(self, bed, workers=1, delay="0", pool=None, env=None, upstream=None, tables=True, slots=None, **gunicorn):
        self.bed = bed
        self.database = bed.folder / "db.sqlite3"
        self.provider = upstream or bed.provider(https=False, args=["--delay", delay, "--tokens", "3"])
        origin = upstream.origin if upstream else f"http://{self.provider.http}"
        environment = {
            "MODEL_ORIGIN": origin,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "TARRY_TEST_DATABASE": str(self.database),
            "TARRY_TEST_CACHE": str(bed.folder / "cache"),
            "PYTHONPATH": f"{HERE.parent}:{HERE}",
            "TARRY_SECRET": SECRET,
            **(env or {}),
        }
        if tables:
            environment["MAKE_TABLES"] = "1"
        self.gunicorn = bed.gunicorn("project.wsgi:application", workers=workers, env=environment, **gunicorn)
        conf = bed.conf(self.gunicorn, origin, slots=slots or workers)
        secret = bed.folder / "secret"
        secret.write_text(SECRET + "\n")
        secret.chmod(0o600)
        conf.pool.update({"secret_file": str(secret), **(pool or {})})
        self.tarry = bed.tarry(conf)

    def rows(self, text):
        """How often a row with that text is in the database, committed."""
        import sqlite3

        with sqlite3.connect(self.database, timeout=DEADLINE) as connection:
            ((n,),) = connection.execute("SELECT count(*) FROM project_row WHERE text = ?", [text])
        return n

    def warnings(self, pattern, n=0):
        """The lines of the worker's log that the regular expression finds; waits until there are n."""

        def found():
            return [line for line in list(self.gunicorn.lines) if re.search(pattern, line)]

        eventually(lambda: len(found()) >= n, f"{n} lines like {pattern!r}")
        return found()

    def visited(self, path):
        """The access log's line of a request that has ended."""
        return self.tarry.access.wait_for(lambda line: path in str(line))


def asked(site, n=0):
    """The calls that the model got; waits until there are n."""

    def found():
        return [r for r in site.provider.records if r["path"].startswith("/v1")]

    eventually(lambda: len(found()) >= n, f"{n} calls")
    return found()
