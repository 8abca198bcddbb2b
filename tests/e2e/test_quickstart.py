"""What a stranger runs first. It builds into build/ and starts that build, so it is run with that one alone."""

import os
import subprocess

import pytest

from harness.tarry import REPO, find_binary


@pytest.mark.slow
def test_the_quickstart_shows_that_every_request_comes_back_right(tmp_path):
    if os.path.realpath(find_binary()) != os.path.realpath(REPO / "build/proxy/tarry"):
        pytest.skip("the quickstart runs the build in build/, and this is another one")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TARRY_", "PROVIDER_", "PYTHON"))}
    done = subprocess.run([REPO / "scripts/quickstart", "--check", "--debian", "--clients", "100"], env=env,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280)
    assert done.returncode == 0, done.stdout
    assert "100 of 100" in done.stdout and "Every request came back right." in done.stdout
    for word in ("def ask(request):", "the worker waits", "The agent"):
        assert word in done.stdout, done.stdout
    # All that it started has ended.
    left = subprocess.run(["pgrep", "-f", f"{REPO}/build/quickstart/"], stdout=subprocess.PIPE, text=True).stdout.split()
    assert not left
