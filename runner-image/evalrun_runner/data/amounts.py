"""Bytes for people: how far a transfer is, and whether a disk has room for it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from evalrun_api import reasons
from evalrun_api.errors import fail

_INTERVAL = 0.5


def readable(size: float) -> str:
    """12.3 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


class Amount:
    """How much of a known number of bytes is done; tells it twice a second."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._done = 0
        self._told = 0.0

    def add(self, size: int, activity: Callable[[str], None]) -> None:
        """So many more are done."""
        self.reach(self._done + size, activity)

    def reach(self, done: int, activity: Callable[[str], None]) -> None:
        """So many are done."""
        self._done = done
        now = time.monotonic()
        if now - self._told >= _INTERVAL or done >= self._total:
            self._told = now
            activity(f"{self._what}, {readable(min(done, self._total))} of {readable(self._total)}")


def require_space(folder: Path, size: int, what: str) -> None:
    """Fail unless the disk of `folder`, or of where it will be, has room for so many bytes."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    free = shutil.disk_usage(there).free
    if size > free:
        raise fail(
            reasons.DISK_FULL,
            str(folder),
            f"{what} needs {readable(size)}, and {readable(free)} are free",
            "Give the pods a cache volume (cache.volume) or nodes with larger disks",
        )
