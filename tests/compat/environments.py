"""The virtual environments of the stacks, made from PyPI and kept in build/compat until their requirements change."""

import concurrent.futures
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile

import hooked
from stacks import BUILD, HERE, LOCKS, PYTHON, REPO, WHEELS


class Unreachable(Exception):
    """PyPI is not there: the one reason for which the suite may be skipped."""


def _pip(folder, *args):
    return subprocess.run([folder / "bin" / "pip", "--disable-pip-version-check", *args], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _reachable(folder):
    with tempfile.TemporaryDirectory() as there:
        return _pip(folder, "download", "-q", "--no-deps", "--no-cache-dir", "-d", there, "wheel").returncode == 0


def _steps(requirements, wheels):
    """Arguments of pip install. Without its cache where something has to be built, such as uWSGI: that may lie there as another
    Python of this machine has built it."""
    if wheels:
        return [("--only-binary", ":all:", "--no-compile", "-r", requirements)]
    return [("--no-cache-dir", "wheel", "setuptools"), ("--no-cache-dir", "--no-build-isolation", "-r", requirements)]


def _make(folder, requirements, wheels=False):
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([PYTHON, "-m", "venv", folder], check=True)
    for args in _steps(requirements, wheels):
        done = _pip(folder, "install", "-q", *args)
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
        _make(folder, requirements, lock in WHEELS)
        mark.write_text(digest)
    return folder


def ensure_all():
    """Two at a time: one downloads while the other one unpacks."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for made in [pool.submit(ensure, lock) for lock in every_lock()]:
            made.result()
    build_extension()


def build_extension():
    """The package's C extension, beside its source as a checkout has it, where it is not there or old."""
    runs = REPO / "python" / "tarry" / "runs"
    built = runs / f"_threads{sysconfig.get_config_var('EXT_SUFFIX')}"
    with open(runs / "_threads.c", "rb") as source:
        fcntl.flock(source, fcntl.LOCK_EX)  # the package's own tests build it, too
        if not built.exists() or built.stat().st_mtime < os.fstat(source.fileno()).st_mtime:
            include = sysconfig.get_path("include")
            subprocess.run(["cc", "-O2", "-fPIC", "-shared", f"-I{include}", source.name, "-o", built], check=True)


def every_lock():
    return (*LOCKS, *WHEELS, *hooked.VERSIONS)


def upgrade(lock):
    """Writes the requirements with the newest versions that LOCK.in allows."""
    folder = BUILD / f"{lock}-upgrade"
    _make(folder, HERE / f"{lock}.in", lock in WHEELS)
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

