import json
import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
    os.environ.pop(name, None)

pytest.register_assert_rewrite("harness")

import stacks  # noqa: E402
from harness.bed import Bed  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "xdist_group(name): tests that share a server, and so a process")


def pytest_generate_tests(metafunc):
    """A test with `site` runs with every server and stack; with `front` and `library`, for each of these."""
    if "site" not in metafunc.fixturenames:
        return
    names = [name for name in ("site", "front", "library") if name in metafunc.fixturenames]
    rows = []
    for stack, server in stacks.pairs():
        for front in stack.fronts if "front" in names else [None]:
            for library in stacks.LIBRARIES if "library" in names else [None]:
                row = {"site": (stack.key, server.key), "front": front, "library": library}
                word = "-".join(w for w in (stack.key, server.key, front, library) if w)
                rows.append(pytest.param(*[row[n] for n in names], id=word, marks=pytest.mark.xdist_group(stack.key + server.key)))
    metafunc.parametrize(names, rows, indirect=["site"])


def pytest_collection_modifyitems(items):
    def place(item):
        return str(item.callspec.params["site"]) if hasattr(item, "callspec") and "site" in item.callspec.params else ""

    items.sort(key=place)


@pytest.fixture
def bed(tmp_path, request):
    made = Bed(tmp_path, None)
    request.node.bed = made
    yield made
    made.stop()


class Sites:
    """The one that runs: tests come in the order of their sites, and each is started once."""

    def __init__(self, folders):
        self._folders = folders
        self._key = self._site = self._bed = None

    def get(self, key):
        from sites import Site

        if key != self._key:
            self.stop()
            self._bed = Bed(self._folders.mktemp("site"), None)
            self._key = key
            self._site = Site(self._bed, *key)
            self._site.bed = self._bed
        assert self._site, "it did not start, see the first failure"
        return self._site

    def stop(self):
        bed, self._bed, self._site, self._key = self._bed, None, None, None
        if bed:
            bed.stop()


@pytest.fixture(scope="session")
def sites(tmp_path_factory):
    made = Sites(tmp_path_factory)
    yield made
    made.stop()


@pytest.fixture
def site(request, sites):
    return sites.get(request.param)


@pytest.fixture
def found(record_property):
    """found(kind, **facts): a fact for docs/compatibility.md, counted only if the test passes."""

    def note(kind, **facts):
        record_property("found", {"kind": kind, **facts})

    return note


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    bed = getattr(item, "bed", None) or getattr(getattr(item, "funcargs", {}).get("site"), "bed", None)
    if report.failed and bed is not None:
        report.sections.extend(bed.describe())


class Collector:
    """Gathers what the tests found, in the process that sees all reports."""

    def __init__(self):
        self.facts = []

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            for name, fact in report.user_properties:
                if name == "found":
                    self.facts.append({**fact, "passed": report.passed})

    def pytest_sessionfinish(self, session):
        if os.environ.get("COMPAT_FINDINGS"):
            pathlib.Path(os.environ["COMPAT_FINDINGS"]).write_text(json.dumps(self.facts, indent=1))


def pytest_sessionstart(session):
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(Collector())
