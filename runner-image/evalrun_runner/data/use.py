"""Which parts of the hub's cache a process used.

On a cache that others use too, the folder's content does not tell. Python's audit events do: the
hub's libraries open a file in each thing they use (`refs/…` of a repository, `dataset_info.json`
of a dataset), whether they have just fetched it or found it there.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

DATASET_INFO = "dataset_info.json"
NOT_DATA = frozenset({"hub", "datasets", "modules", "xet", "assets", "logs", "evaluate"})
"""Folders of HF_HOME that are the libraries' own; modules and evaluate hold code."""


@dataclass
class DataUse:
    """What was used beneath `home` (HF_HOME).

    builders: folders of datasets in arrow form, as paths beneath `home`.
    commits: (folder of a repository in the hub's cache, commit).
    folders: further folders directly beneath `home`: media that tasks unpacked there.
    """

    home: Path
    builders: set[str] = field(default_factory=set)
    repositories: set[str] = field(default_factory=set)
    commits: set[tuple[str, str]] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)

    def note(self, path: str) -> None:
        """A file or folder was opened, at this path beneath `home`."""
        parts = path.split("/")
        if parts[0] == "datasets":
            if parts[-1] == DATASET_INFO and len(parts) > 3:
                # While it is made, a dataset's folder has another name.
                self.builders.add("/".join(parts[:-1]).removesuffix(".incomplete"))
        elif parts[0] == "hub":
            if len(parts) > 2 and parts[1].startswith(("datasets--", "models--")):
                self.repositories.add(parts[1])
                if len(parts) > 4 and parts[2] == "snapshots":
                    self.commits.add((parts[1], parts[3]))
        elif len(parts) > 1 and _is_data(parts[0]):
            self.folders.add(parts[0])

    def note_all(self) -> None:
        """Everything there was used: the cache is this process' alone."""
        for info in (self.home / "datasets").glob(f"*/*/*/*/{DATASET_INFO}"):
            self.note(info.relative_to(self.home).as_posix())
        for snapshot in (self.home / "hub").glob("*--*/snapshots/*"):
            self.note(f"{snapshot.relative_to(self.home).as_posix()}/")
        if self.home.is_dir():
            self.folders |= {
                path.name for path in self.home.iterdir() if path.is_dir() and _is_data(path.name)
            }

    def finish(self) -> None:
        """Add the commits that the branches of the used repositories stand for."""
        for repository in self.repositories:
            refs = self.home / "hub" / repository / "refs"
            for ref in refs.rglob("*"):
                if ref.is_file():
                    self.commits.add((repository, ref.read_text().strip()))


def _is_data(name: str) -> bool:
    return name not in NOT_DATA and not name.startswith(".")


_watched: list[tuple[str, DataUse]] = []
_EVENTS = frozenset({"open", "os.listdir", "os.scandir"})


def watch(home: Path) -> DataUse:
    """Note from now on what this process uses beneath `home`. It cannot be ended."""
    use = DataUse(home)
    if not _watched:
        sys.addaudithook(_hook)
    _watched.extend((f"{root}/", use) for root in {os.path.abspath(home), os.path.realpath(home)})  # noqa: PTH100
    return use


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    """Called for every audited event of the process: quick, and never raising."""
    if event not in _EVENTS or not arguments:
        return
    path = arguments[0]
    if isinstance(path, os.PathLike):
        path = os.fspath(path)
    if not isinstance(path, str):
        return
    for prefix, use in _watched:
        if path.startswith(prefix):
            use.note(path[len(prefix) :])
