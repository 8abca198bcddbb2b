import os
import pathlib
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

_folder = tempfile.TemporaryDirectory(prefix="tarry-tests-")
os.environ["TARRY_TEST_DATABASE"] = str(pathlib.Path(_folder.name) / "db.sqlite3")
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
    os.environ.pop(name, None)



def _build_extension():
    """Beside the source, where it is not there or old; without a compiler its tests are skipped."""
    import fcntl
    import subprocess
    import sysconfig

    runs = HERE.parent / "tarry" / "runs"
    built = runs / f"_threads{sysconfig.get_config_var('EXT_SUFFIX')}"
    with open(runs / "_threads.c", "rb") as source:
        fcntl.flock(source, fcntl.LOCK_EX)  # several processes may run tests
        if not built.exists() or built.stat().st_mtime < os.fstat(source.fileno()).st_mtime:
            command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
            subprocess.run(command, cwd=HERE.parent, capture_output=True)


_build_extension()

import tarry  # noqa: E402

tarry.patch_all()

import pytest  # noqa: E402

try:
    import django
except ImportError:
    collect_ignore = ["test_django.py", "test_django_writes.py", "test_django_explicit.py", "test_proxy.py"]
else:
    django.setup()

from upstream import Upstream  # noqa: E402

from tarry.common import notices  # noqa: E402
from tarry.runs import suspended  # noqa: E402
from tarry.settings import Settings, settings  # noqa: E402


@pytest.fixture(autouse=True)
def as_new():
    """Settings and what was said once, as in a new process."""
    settings.update(vars(Settings()))
    notices.forget()
    yield
    settings.update(vars(Settings()))
    suspended.drop_all()


@pytest.fixture(params=["rerun", "auto"])
def resume(request, monkeypatch):
    """Both ways in which a view goes on after a call; for servers that a test starts, too."""
    if request.param == "auto" and suspended.missing():
        pytest.skip(suspended.missing())
    settings.resume = request.param
    monkeypatch.setenv("TARRY_RESUME", request.param)
    return request.param


@pytest.fixture
def upstream():
    """A real server for the calls that are made directly."""
    server = Upstream()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tables():
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    from project.models import Row

    with connection.schema_editor() as editor:
        editor.create_model(Row)


@pytest.fixture
def rows(tables):
    """The texts of the rows that there are: empty at first."""
    from django.contrib.auth.models import User
    from django.contrib.sessions.models import Session
    from django.db import connection
    from project.models import Row

    for model in (Row, Session, User):
        model.objects.all().delete()
    yield lambda: list(Row.objects.order_by("pk").values_list("text", flat=True))
    connection.close()


@pytest.fixture(params=["plain", "atomic"])
def transactions(request, tables):
    """Both ways that Django runs a view: in autocommit, and with ATOMIC_REQUESTS."""
    from django.db import connection

    connection.settings_dict["ATOMIC_REQUESTS"] = request.param == "atomic"
    yield request.param
    connection.settings_dict["ATOMIC_REQUESTS"] = False


@pytest.fixture
def serve():
    """serve(view) makes it the project's view."""
    from project import views

    def serve(view, outer=None):
        views.now.update(view=view, outer=outer)

    yield serve
    views.now.clear()


@pytest.fixture
def messages(caplog):
    """What the package logged."""
    caplog.set_level("INFO", "tarry")
    return lambda level="WARNING": [r.getMessage() for r in caplog.records if r.name == "tarry" and r.levelname == level]
