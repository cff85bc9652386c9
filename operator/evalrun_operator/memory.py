"""Memory of the process, after much of it was used for a moment."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from typing import Final

ONE_MIB: Final = 1024 * 1024
LIMITS: Final = {-1: ONE_MIB, -3: ONE_MIB, -8: 1}
"""M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX of glibc's <malloc.h>."""


def keep_little() -> None:
    """Have freed memory returned to the system soon, where the C library is glibc.

    Otherwise the first large answer that is freed raises what it keeps for itself to tens of MiB,
    and each thread gets a heap of its own.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        for name, value in LIMITS.items():
            library.mallopt(name, value)


def give_back() -> None:
    """Return what a reading of the whole cluster used to the system, as far as that goes.

    A page of a list takes tens of MiB while it is parsed. The C library keeps freed memory for
    itself; only glibc can be asked to return it, and elsewhere nothing is lost.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def settle() -> None:
    """Spare the garbage collector what is there for good, and what has no cycles.

    The modules and the first reading stay. What comes later are documents: looking for cycles in
    them as often as they come would take a large part of the time in which they are parsed.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
