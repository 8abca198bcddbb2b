"""docs/gunicorn.md says of each of gunicorn's settings what becomes of it: all of every version's, and none that there is not."""

import json
import re
import signal
import subprocess

import pytest

import hooked
import stacks
from harness import eventually, free_port, request
from harness.tarry import REPO

ROW = re.compile(r"^\| (`[^|]*`) \| ([^|]*) \|$", re.M)
LIST = "import json, gunicorn.config as c; print(json.dumps([s.name for s in c.KNOWN_SETTINGS]))"


def of_the_page():
    """name -> what becomes of it, from the section's table."""
    section = (REPO / "docs/gunicorn.md").read_text("utf-8").partition("\n## Every setting\n")[2].partition("\n## ")[0]
    found = {}
    for names, fate in ROW.findall(section):
        for name in re.findall(r"`(\w+)`", names):
            assert name not in found, f"{name} has two rows"
            found[name] = fate
    return found


def of_the_package():
    code = "import json; from tarry.servers.gunicorn import options as o; print(json.dumps({n: k for k in (" \
           "'AS_EVER', 'CARRIED', 'WITHOUT_EFFECT', 'REFUSED') for n in getattr(o, k)}))"
    done = subprocess.run([stacks.PYTHON, "-c", code], env={"PYTHONPATH": str(REPO / "python")}, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_page_and_the_package_agree():
    page, package = of_the_page(), of_the_package()
    assert set(page) == set(package)
    for name, kind in package.items():
        said = "REFUSED" if page[name].startswith("refused") else "WITHOUT_EFFECT" if page[name].startswith("without effect") else kind
        assert said == kind, f"{name}: {page[name]}"


@pytest.mark.parametrize("version", list(hooked.VERSIONS))
def test_every_setting_of_gunicorn_is_known(version):
    python = stacks.BUILD / version / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{version} is not in build/compat: scripts/compat makes it")
    names = json.loads(subprocess.run([python, "-c", LIST], capture_output=True, text=True, check=True).stdout)
    assert set(names) <= set(of_the_package())


def test_a_pod_that_stops_serves_on_until_it_is_out_of_the_service(bed):
    """docs/containers.md: with drain_delay in tarry.conf SIGTERM to the arbiter closes nothing at once."""
    version = list(hooked.VERSIONS)[-1]
    if not (stacks.BUILD / version / "complete").exists():
        pytest.skip(f"{version} is not in build/compat: scripts/compat makes it")
    admin = f"127.0.0.1:{free_port()}"
    site = hooked.Hooked(bed, version, "--graceful-timeout", "20", files={"tarry.conf": f'drain_delay = "60s"\nadmin "{admin}" {{ }}\n'})
    assert request(admin, "GET", "/readyz").status == 200
    site.signal(signal.SIGTERM)
    eventually(lambda: request(admin, "GET", "/readyz").status == 503, "the drain")
    assert request(admin, "GET", "/livez").status == 200 and site.get("/ok").status == 200
    site.signal(signal.SIGQUIT)  # the test does not wait for the end of the delay
    assert site.wait_end() == 0
