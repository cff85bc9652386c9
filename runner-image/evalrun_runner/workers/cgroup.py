"""What the kernel says of this container: processes killed for memory, processors granted."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def memory_kills(membership: Path = MEMBERSHIP, root: Path = ROOT) -> int:
    """How many processes of this container the kernel has killed for memory; 0 if it won't say.

    Only a rise means something: others were killed before this process began.
    """
    for folder in _folders("memory", membership, root):
        for name in ("memory.events", "memory.oom_control"):  # v2, v1
            value = _entry(folder / name, "oom_kill")
            if value is not None:
                return value
    return 0


def processors(membership: Path = MEMBERSHIP, root: Path = ROOT) -> int:
    """How many processors this process may use: of its affinity, within the container's quota."""
    allowed = float(len(os.sched_getaffinity(0)))
    for folder in _folders("cpu", membership, root):
        quota = _quota(folder)
        if quota is not None:
            allowed = min(allowed, quota)
            break
    return max(1, int(allowed))


def _folders(controller: str, membership: Path, root: Path) -> list[Path]:
    """Where a controller's files of this process may be, the likeliest first.

    In a container the path in /proc is often the host's, and the container's own files lie at the
    top of what is mounted.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += [root / path.lstrip("/"), root]
        elif controller in controllers.split(","):
            for mounted in (controllers, controller):
                found += [root / mounted / path.lstrip("/"), root / mounted]
    return found


def _entry(path: Path, name: str) -> int | None:
    try:
        for line in path.read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except (OSError, ValueError):
        pass
    return None


def _quota(folder: Path) -> float | None:
    """Processors' worth of time, or None where there is no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
