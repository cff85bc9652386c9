"""The control groups that a node lives in.

Version 1: below this process' own group of each hierarchy. Version 2: at the top, where groups that
hold processes may have children with controllers.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from cluster.tools import MissingError

_MOUNT = Path("/sys/fs/cgroup")

_NEEDED = {"cpu", "cpuset", "memory", "pids"}  # by the kubelet

NAME = "evalrun-node"
"""Of the node's."""


def version() -> int:
    """2 where all controllers are in the unified hierarchy, else 1, also where both are mounted."""
    return 2 if (_MOUNT / "cgroup.controllers").exists() else 1


def own(name: str = NAME) -> Iterator[Path]:
    """The group of this name in each hierarchy, which may not exist yet."""
    if version() == 2:
        yield _MOUNT / name
        return
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers:  # else the unified hierarchy beside them
            yield _MOUNT / controllers.removeprefix("name=") / path.lstrip("/") / name


def make(folder: Path) -> None:
    """Make a group that processes can enter. Raises MissingError."""
    try:
        _make(folder)
    except OSError as refused:  # such as a hierarchy of which only a part is mounted here
        raise MissingError(f"no control group can be made here: {refused}") from None


def _make(folder: Path) -> None:
    folder.mkdir()
    if version() == 1:
        for name in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group
            if (folder / name).exists():
                (folder / name).write_text((folder.parent / name).read_text())
        return
    for controller in (folder.parent / "cgroup.controllers").read_text().split():
        with suppress(OSError):
            _hand_down(controller, folder.parent)
    if lacking := _NEEDED - set((folder / "cgroup.controllers").read_text().split()):
        raise MissingError(f"no control group with {', '.join(sorted(lacking))} can be made here")


def _hand_down(controller: str, folder: Path) -> None:
    """Let a group's children have a controller. Raises OSError."""
    wanted = folder / "cgroup.subtree_control"
    try:
        wanted.write_text(f"+{controller}")
    except OSError as refused:
        if refused.errno != errno.EBUSY:
            raise
        # A container's topmost group is not the kernel's: as any other it may not hold processes.
        leaf = folder / "init"  # stays, with what else runs in the container
        leaf.mkdir(exist_ok=True)
        for process in (folder / "cgroup.procs").read_text().split():
            with suppress(OSError):  # it has ended meanwhile
                (leaf / "cgroup.procs").write_text(process)
        wanted.write_text(f"+{controller}")


def leave(process: int) -> None:
    """Take a process out of the node's group, which may hold none beside its children (version 2).

    It cannot be seen from within the node.
    """
    if version() == 2:
        (_MOUNT / _own_path() / "cgroup.procs").write_text(str(process))


def _own_path() -> str:
    return Path("/proc/self/cgroup").read_text().strip().rpartition(":")[2].lstrip("/")
