"""Taking memory away from the running proxy: its n-th allocation fails. See tests/faults/nomem.c."""

import mmap
import os
import pathlib
import struct

from .tarry import find_binary

LAYOUT = struct.Struct("QQQQQ")
ANYBODY = 0


def library():
    """Beside the binary that is tested, in the same build."""
    path = pathlib.Path(find_binary()).resolve().parents[1] / "tests" / "faults" / "nomem.so"
    assert path.exists(), f"{path} is not built"
    return path


class Shortage:
    """Give `env` to the Tarry to be started, then call begin() and end()."""

    def __init__(self, folder):
        path = pathlib.Path(folder) / "nomem"
        path.write_bytes(bytes(4096))
        with open(path, "r+b") as f:
            self._page = mmap.mmap(f.fileno(), 4096)
        # A sanitizer that is in the binary as well wants to be loaded first, and need not be.
        asan = os.environ.get("ASAN_OPTIONS", "detect_leaks=1") + ":verify_asan_link_order=0"
        self.env = {"LD_PRELOAD": str(library()), "NOMEM_FILE": str(path), "ASAN_OPTIONS": asan}

    def begin(self, pid, first, count=1):
        """`pid` ANYBODY: of each process that has `env`. The first-th allocation of the process from now on fails, and count - 1 after it."""
        self._page[:LAYOUT.size] = LAYOUT.pack(pid, first, count, 0, 0)

    def end(self):
        """(allocations seen, of these failed) since begin()."""
        _, _, _, seen, failed = LAYOUT.unpack(self._page[:LAYOUT.size])
        self._page[:LAYOUT.size] = bytes(LAYOUT.size)
        return seen, failed

    def stop(self):
        self._page.close()
