"""The virtual environments of the stacks, made from PyPI and kept in build/compat until their requirements change."""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile

import hooked
from stacks import BUILD, HERE, LOCKS, PYTHON


class Unreachable(Exception):
    """PyPI is not there: the one reason for which the suite may be skipped."""


def _pip(folder, *args):
    return subprocess.run([folder / "bin" / "pip", "--disable-pip-version-check", *args], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _reachable(folder):
    with tempfile.TemporaryDirectory() as there:
        return _pip(folder, "download", "-q", "--no-deps", "--no-cache-dir", "-d", there, "wheel").returncode == 0


def _make(folder, requirements):
    """Without pip's cache: what has to be built, such as uWSGI, may lie there as another Python of this machine has built it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([PYTHON, "-m", "venv", folder], check=True)
    for args in (("wheel", "setuptools"), ("--no-build-isolation", "-r", requirements)):
        done = _pip(folder, "install", "-q", "--no-cache-dir", *args)
        if done.returncode:
            if not _reachable(folder):
                raise Unreachable("PyPI is not reachable")
            raise SystemExit(f"compat: pip cannot install {requirements}:\n{done.stdout[-4000:]}")


def ensure(lock):
    """The environment's folder, made anew if its requirements have changed since."""
    requirements, folder = HERE / f"{lock}.txt", BUILD / lock
    mark, digest = folder / "complete", hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not mark.exists() or mark.read_text() != digest:
        print(f"compat: making {folder}", file=sys.stderr)
        _make(folder, requirements)
        mark.write_text(digest)
    return folder


def ensure_all():
    for lock in (*LOCKS, *hooked.VERSIONS):
        ensure(lock)


def upgrade(lock):
    """Writes the requirements with the newest versions that LOCK.in allows."""
    folder = BUILD / f"{lock}-upgrade"
    _make(folder, HERE / f"{lock}.in")
    lines = _pip(folder, "freeze").stdout.splitlines()
    (HERE / f"{lock}.txt").write_text(
        f"# Made by scripts/compat --upgrade from {lock}.in.\n" + "".join(f"{line}\n" for line in lines if "==" in line)
    )
    shutil.rmtree(folder)


def versions(lock):
    """name in lower case -> (name, version) of the locked packages."""
    found = {}
    for line in (HERE / f"{lock}.txt").read_text().splitlines():
        name, both, version = line.partition("==")
        if both:
            found[re.sub(r"[-_.]+", "-", name).lower()] = (name, version.strip())
    return found

