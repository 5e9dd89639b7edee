"""Peaks of memory, as the kernel keeps them. Linux with glibc."""

import ctypes
import re
from pathlib import Path

_PROCESS = Path("/proc/self")


class PeakMemory:
    """Largest resident memory of this process during a block, above that before it (`mib`)."""

    def __enter__(self):
        # Memory that earlier calls freed, but the allocator kept, would hide what this block takes.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        (_PROCESS / "clear_refs").write_text("5")  # forgets the peak
        self._before = _mib("VmRSS")
        return self

    def __exit__(self, *_):
        self.mib = _mib("VmHWM") - self._before


def _mib(field):
    """Return a line of the kernel's account of this process."""
    status = (_PROCESS / "status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024


def size(X):
    """Return the MiB of the arrays of a dense or CSR table."""
    arrays = [X.data, X.indices, X.indptr] if hasattr(X, "indptr") else [X]
    return sum(array.nbytes for array in arrays) / 2**20
