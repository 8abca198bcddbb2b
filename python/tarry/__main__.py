"""python -m tarry: what the package knows, for people."""

from __future__ import annotations

import sys

from .servers import binary, origins

USAGE = """usage: python -m tarry origins    the origins that calls may go to without a conf, and what names each
       python -m tarry binary     the compiled proxy that is used"""


def main() -> int:
    if sys.argv[1:] == ["origins"]:
        try:
            found = origins.all_origins()
        except origins.BadOrigin as error:
            print(f"tarry: {error}", file=sys.stderr)
            return 1
        for origin in found:
            print(f"{origin.origin:<50} {origin.name:<22} {origin.source}")
        return 0
    if sys.argv[1:] == ["binary"]:
        path = binary.find()
        if path is None:
            print("tarry: there is no compiled proxy; install a wheel for this platform, or name one in TARRY_BINARY", file=sys.stderr)
            return 1
        print(path)
        return 0
    print(USAGE, file=sys.stderr)
    return 0 if sys.argv[1:] in (["-h"], ["--help"]) else 2


if __name__ == "__main__":
    sys.exit(main())
