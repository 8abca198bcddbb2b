"""For scripts that show what a user would do: pip install of a wheel that is made here, for this machine alone.

    import sys; sys.path.insert(0, "packaging/wheel"); import native
    native.install("build/demo-venv")      # a virtual environment that is there; its bin/tarry and tarry.gunicorn work then
"""

import pathlib
import subprocess

TOP = pathlib.Path(__file__).resolve().parents[2]


def build():
    """The wheel's path. Raises subprocess.CalledProcessError, whose stderr says why, if it cannot be built."""
    done = subprocess.run([TOP / "scripts/build-wheel", "--native"], check=True, capture_output=True, text=True)
    return pathlib.Path(done.stdout.splitlines()[-1])


def install(environment, wheel=None):
    """Into a virtual environment, in place of a version that is there."""
    pip = pathlib.Path(environment) / "bin" / "pip"
    subprocess.run([pip, "install", "-q", "--disable-pip-version-check", "--force-reinstall", wheel or build()], check=True,
                   capture_output=True, text=True)
