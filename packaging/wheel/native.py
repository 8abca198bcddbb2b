"""For scripts that show what a user would do: pip install of a wheel that is made here, for this machine alone.

    import sys; sys.path.insert(0, "packaging/wheel"); import native
    native.install("build/demo-venv")      # a virtual environment that is there; its bin/tarry and tarry.gunicorn work then
"""

import pathlib
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]


def build(proxy=None):
    """The wheel's path; with `proxy`, a binary that is built already. Raises subprocess.CalledProcessError, whose stderr says why, if
    it cannot be built."""
    more = ["--proxy", proxy] if proxy else []
    done = subprocess.run([TOP / "scripts/build-wheel", "--native", *more], check=True, capture_output=True, text=True)
    return pathlib.Path(done.stdout.splitlines()[-1])


def install(environment, wheel=None):
    """Into a virtual environment, in place of a version that is there."""
    pip = [pathlib.Path(environment) / "bin" / "pip", "install", "-q", "--disable-pip-version-check"]
    wheel = wheel or build()
    # What it needs stays if it is there; the wheel itself may have the same version and other contents.
    for more in ([wheel], ["--force-reinstall", "--no-deps", wheel]):
        subprocess.run([*pip, *more], check=True, capture_output=True, text=True)
