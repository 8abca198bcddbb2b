"""Suspended views (`resume="auto"`) with the two lines in wsgi.py, on servers that are not gunicorn with Tarry's hook: a view is run
once, or the server's way to run requests does not allow it, which is said once, and it is run again. Never is an answer wrong, and
never is a call made twice."""

import collections

import pytest

from harness import eventually
from sites import Site

CLIENTS = 12
SEVERAL = "the server has several threads"

# server -> options, slots, how often a view with three calls is run at most, what the log says.
SERVERS = {
    "uWSGI": ("uwsgi", (), 1, 1, ""),
    "uWSGI with enable-threads": ("uwsgi", ("--enable-threads",), 1, 1, ""),
    "uWSGI with threads": ("uwsgi", ("--threads", "4"), 4, 4, SEVERAL),
    "uWSGI with two processes": ("uwsgi", ("--workers", "2"), 2, 4, ""),
    "Granian": ("granian", (), 1, 4, "."),
    "Granian with threads": ("granian", ("--blocking-threads", "4"), 4, 4, "."),
    "waitress": ("waitress", (), 4, 4, SEVERAL),
    "gunicorn, gthread": ("gunicorn-gthread", (), 4, 4, SEVERAL),
    "gunicorn, sync": ("gunicorn-sync", (), 1, 1, ""),
}


def rows():
    return [(name, "django-5.2") for name in SERVERS] + [("uWSGI", "flask"), ("Granian", "flask")]


@pytest.mark.parametrize("name, stack", rows())
def test_a_view_is_run_once_or_it_is_said_why_not(bed, name, stack, found):
    key, more, slots, most, said = SERVERS[name]
    found("suspension", server=name)
    without = [more[0]] if key == "granian" and more else []
    site = Site(bed, stack, key, without=without, more=more, slots=slots, resume="auto", delay="100ms", libraries="requests")
    front = next(iter(site.stack.fronts))
    running = [bed.background(site.tarry.get, f"/{front}/patched?library=requests&case=three+in+sequence&q=n{n}") for n in range(CLIENTS)]
    got = [one.result() for one in running]
    assert [one.json() for one in got] == [{"last": f"n{n}"} for n in range(CLIENTS)]
    assert len(eventually(lambda: site.provider.records, "calls")) == 3 * CLIENTS
    runs = collections.Counter(site.runs.read_text().split())
    assert set(runs) == {f"n{n}" for n in range(CLIENTS)} and max(runs.values()) <= most, runs
    if said:
        site.program.wait_line("run again with each answer, and not suspended: .*" + said)
        assert set(runs.values()) == {most}
    else:
        assert "not suspended" not in site.program.output
