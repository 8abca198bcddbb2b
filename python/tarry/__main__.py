"""python -m tarry: what the package knows, for people."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from typing import Callable, Optional

from . import __version__
from .patch import LIBRARIES
from .runs import suspended
from .servers import binary, origins
from .settings import Settings

USAGE = """usage: python -m tarry COMMAND

  origins    the origins that calls may go to without a conf, and what names each
  binary     the path of the compiled proxy that is used
  info       versions, whether views can be suspended here and why not, and the libraries whose calls are caught
  settings   the arguments of tarry.patch_all() with their defaults; in Django settings they are TARRY_ and the name in capitals
  help       this text

To start an app: gunicorn -c python:tarry.gunicorn myproject.wsgi
The proxy itself is the command `tarry`: tarry --help."""

_NO_BINARY = "tarry: there is no compiled proxy; install a wheel for this platform, or name one in TARRY_BINARY"


def _origins() -> int:
    try:
        found = origins.all_origins()
    except origins.BadOrigin as error:
        print(f"tarry: {error}", file=sys.stderr)
        return 1
    for origin in found:
        print(f"{origin.origin:<50} {origin.name:<22} {origin.source}")
    return 0


def _binary() -> int:
    path = binary.find()
    if path is None:
        print(_NO_BINARY, file=sys.stderr)
        return 1
    print(path)
    return 0


def _info() -> int:
    path = binary.find()
    print(f"package     {__version__}, Python {platform.python_version()} ({platform.python_implementation()})")
    print(f"proxy       {path} ({_version_of(path)})" if path else "proxy       none: install a wheel, or name one in TARRY_BINARY")
    why = suspended.missing()
    print(f"suspending  {'possible' if not why else 'not possible, views are run again: ' + why}")
    for name in sorted({library.split(".")[0] for library in LIBRARIES} - {"http"}):
        version = _installed(name)
        print(f"caught      {name} {version}" if version else f"not here    {name}")
    return 0


def _version_of(path: str) -> str:
    try:
        done = subprocess.run([path, "-V"], env=binary.environment(), capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        return f"it cannot be started: {error}"
    return done.stdout.strip().split("\n")[0]


def _installed(name: str) -> Optional[str]:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _settings() -> int:
    for name, default in vars(Settings()).items():
        print(f"{name:<18} {default!r}")
    return 0


def _help() -> int:
    print(USAGE)
    return 0


COMMANDS: dict[str, Callable[[], int]] = {
    "origins": _origins,
    "binary": _binary,
    "info": _info,
    "settings": _settings,
    "help": _help,
    "-h": _help,
    "--help": _help,
}


def main() -> int:
    if len(sys.argv) == 2 and sys.argv[1] in COMMANDS:
        return COMMANDS[sys.argv[1]]()
    print(f"tarry: {' '.join(sys.argv[1:])!r} is no command\n\n{USAGE}" if sys.argv[1:] else USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
