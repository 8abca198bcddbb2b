import pytest

pytest.register_assert_rewrite("harness")

from harness.base import release_ports  # noqa: E402
from harness.bed import Bed  # noqa: E402
from harness.certs import Authority  # noqa: E402


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """A certificate authority, made when the first test asks for it."""
    made = []

    def get():
        if not made:
            made.append(Authority(tmp_path_factory.mktemp("certs")))
        return made[0]
    return get


@pytest.fixture
def bed(tmp_path, authority, request):
    """Starts what the test asks for; stops it all, and fails if Tarry did not end well."""
    b = Bed(tmp_path, authority)
    request.node.bed = b
    yield b
    b.stop()


def pytest_collection_modifyitems(items):
    """With --dist loadgroup: long tests begin first, so that none of them is left alone at the end; what shares a run stays together."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
    for item in items:
        if "run" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(item.path.name))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown():
    """After the fixtures' end: nothing listens any more."""
    release_ports()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure's report shows the logs of everything that ran."""
    outcome = yield
    report = outcome.get_result()
    b = getattr(item, "bed", None)
    if report.failed and b is not None:
        report.sections.extend(b.describe())
