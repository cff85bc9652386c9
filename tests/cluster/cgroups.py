"""The control groups that a node lives in, below those of this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")

NAME = "evalrun-node"
"""Of the node's."""


def version() -> int:
    """2 where all controllers are in the unified hierarchy, else 1, also where both are mounted."""
    return 2 if (_MOUNT / "cgroup.controllers").exists() else 1


def own(name: str = NAME) -> Iterator[Path]:
    """The group of this name in each hierarchy, which may not exist yet."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if version() == 2:
            yield _MOUNT / path.lstrip("/") / name
        elif controllers:
            yield _MOUNT / controllers.removeprefix("name=") / path.lstrip("/") / name


def make(folder: Path) -> None:
    """Make a group that processes can enter."""
    if version() == 2:
        for controller in (folder.parent / "cgroup.controllers").read_text().split():
            with suppress(OSError):  # not where processes are in the parent; the kubelet says so
                (folder.parent / "cgroup.subtree_control").write_text(f"+{controller}")
    folder.mkdir()
    for name in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group of version 1
        if version() == 1 and (folder / name).exists():
            (folder / name).write_text((folder.parent / name).read_text())
