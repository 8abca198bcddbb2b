"""The compiled tarry: the one that came with the wheel, or one of a distribution's package or a source build."""

from __future__ import annotations

import os
import pathlib
import sys
from typing import NoReturn, Optional

BUNDLED = pathlib.Path(__file__).parent.parent / "bin" / "tarry"
# Distributions keep daemons where not every account's PATH leads.
ALSO = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def find() -> Optional[str]:
    """The path of the binary: TARRY_BINARY, the wheel's, or one on PATH; None if there is none."""
    given = os.environ.get("TARRY_BINARY")
    if given:
        return given
    if os.access(BUNDLED, os.X_OK):
        return str(BUNDLED)
    for folder in [*os.environ.get("PATH", os.defpath).split(os.pathsep), *ALSO]:
        path = os.path.join(folder, "tarry")
        if os.path.isfile(path) and os.access(path, os.X_OK) and not _is_script(path):
            return path
    return None


def _is_script(path: str) -> bool:
    """Whether it is a console script, such as this package's own, which would start itself without end."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return True


def environment() -> dict[str, str]:
    """What the binary is started with: this process's environment, and where it finds authorities on a machine without any."""
    environ = dict(os.environ)
    try:
        import certifi
    except ImportError:
        return environ
    environ.setdefault("TARRY_CA_FALLBACK", certifi.where())
    return environ


def main() -> NoReturn:
    """The console script `tarry`."""
    path = find()
    if path is None:
        sys.exit("tarry: this package came without the compiled proxy, and there is none on PATH; install a wheel for this "
                 "platform or your distribution's package, or name the binary in TARRY_BINARY")
    try:
        os.execve(path, ["tarry", *sys.argv[1:]], environment())
    except OSError as error:
        sys.exit(f"tarry: cannot start {path!r}: {error.strerror}")
