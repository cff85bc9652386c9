"""Which files of the hub's cache the later steps need: documents and processor, never weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalrun_runner.data.use import DATASET_INFO, DataUse

WEIGHTS = (
    *("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.gguf", "*.onnx"),
    *("*.npz", "*.ot", "*.tflite", "*.mlmodel", "*.nemo", "*.llamafile", "original/*"),
)
"""Files of a model's repository that hold weights; the rest is its processor and configuration."""

PACKAGED = frozenset(
    {"parquet", "json", "csv", "arrow", "text", "imagefolder", "audiofolder", "videofolder"}
    | {"webdataset", "xml", "pandas", "hdf5", "lance", "pdffolder", "generator"}
)
"""Builders of `datasets` that read given files. What they make of a mounted volume is made again
from that volume by each step."""

_IN_ARROW = (".parquet", ".arrow")
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".rar", ".7z")
_REMOTE = ("hf://", "http://", "https://", "s3://", "gs://", "ftp://")


@dataclass(frozen=True)
class MediaFolder:
    """Media that lmms-eval unpacks for a task (dataset_kwargs with video: true).

    repository: folder of the dataset in the hub's cache. folder: beneath HF_HOME.
    linked: whether it is a link to the snapshot, so that nothing was unpacked.
    """

    repository: str
    folder: str
    linked: bool


@dataclass(frozen=True)
class TaskData:
    """What the tasks' own configurations say of their data.

    elsewhere: whether one reads its documents from an address, by a builder for given files.
    """

    media: tuple[MediaFolder, ...] = ()
    elsewhere: bool = False


def task_data(configs: Iterable[dict[str, Any]]) -> TaskData:
    """What these configurations of lmms-eval's tasks say."""
    media = []
    elsewhere = False
    for config in configs:
        arguments = config.get("dataset_kwargs") or {}
        path = str(config.get("dataset_path"))
        folder = arguments.get("cache_dir")
        if arguments.get("video") and folder and not Path(folder).is_absolute():
            repository = f"datasets--{path.replace('/', '--')}"
            linked = bool(arguments.get("create_link"))
            media.append(MediaFolder(repository, str(folder), linked))
        given = f"{arguments.get('data_files')} {arguments.get('data_dir')}"
        elsewhere |= path in PACKAGED and any(scheme in given for scheme in _REMOTE)
    return TaskData(tuple(media), elsewhere)


@dataclass(frozen=True)
class Choice:
    """What to keep. files, links: as paths beneath HF_HOME; a link's value is its target there.

    complete: whether the later steps can do with these alone.
    """

    builders: list[str]
    files: list[str]
    links: dict[str, str]
    complete: bool


def choose(use: DataUse, tasks: TaskData, model: str | None) -> Choice:
    """What the later steps need of what was used.

    model: folder of the run's model in the hub's cache. Its weights are left out.
    """
    home = use.home
    builders = sorted(
        builder
        for builder in use.builders
        if builder.split("/")[1] not in PACKAGED and (home / builder / DATASET_INFO).is_file()
    )
    # A dataset of the hub lies in a folder that has the commit's name.
    in_arrow = {builder.rpartition("/")[2] for builder in builders}
    unpacked = {entry.repository for entry in tasks.media if not entry.linked}
    files: set[str] = set()
    links: dict[str, str] = {}
    for builder in builders:
        files.update(_files(home, home / builder, links))
    # Documents name these by their path, so which of them are whose cannot be told.
    files.update(_files(home, home / "datasets" / "downloads" / "extracted", links))
    for folder in use.folders | {entry.folder.partition("/")[0] for entry in tasks.media}:
        files.update(_files(home, home / folder, links))
    for repository, commit in use.commits:
        wanted = _Wanted(
            is_model=repository == model,
            is_in_arrow=commit in in_arrow,
            is_unpacked=repository in unpacked,
        )
        files.update(_of_repository(home, repository, commit, wanted, links))
    return Choice(builders, sorted(files), dict(sorted(links.items())), not tasks.elsewhere)


@dataclass(frozen=True)
class _Wanted:
    """What is left out of a repository: weights, what is there as arrow, what was unpacked."""

    is_model: bool
    is_in_arrow: bool
    is_unpacked: bool

    def keeps(self, path: str) -> bool:
        if self.is_model:
            return not any(Path(path).match(pattern) for pattern in WEIGHTS)
        if self.is_in_arrow and path.endswith(_IN_ARROW):
            return False
        return not (self.is_unpacked and path.endswith(_ARCHIVES))


def _of_repository(
    home: Path,
    repository: str,
    commit: str,
    wanted: _Wanted,
    links: dict[str, str],
) -> Iterator[str]:
    """Files of a repository at a commit, its branches and its table of contents."""
    root = home / "hub" / repository
    for ref in (root / "refs").rglob("*"):
        if ref.is_file() and ref.read_text().strip() == commit:
            yield ref.relative_to(home).as_posix()
    tree = root / "trees" / f"{commit}.json"
    if tree.is_file():
        yield tree.relative_to(home).as_posix()
    snapshot = root / "snapshots" / commit
    prefix = f"{snapshot.relative_to(home).as_posix()}/"
    for path in _files(home, snapshot, links):
        if wanted.keeps(path.removeprefix(prefix)):
            yield path


def _files(home: Path, folder: Path, links: dict[str, str]) -> Iterator[str]:
    """Files beneath a folder that do not change or vanish; links to folders go into `links`."""
    if folder.is_symlink():
        _note_link(home, folder, links)
        return
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        name = path.name
        if name.startswith(("tmp", "cache-")) and folder.is_relative_to(home / "datasets"):
            continue  # what `datasets` can make again from the rest
        if name.endswith((".lock", ".incomplete", ".no_exist")):
            continue
        if path.is_dir():
            yield from _files(home, path, links)
        elif path.is_file():
            yield path.relative_to(home).as_posix()


def _note_link(home: Path, link: Path, links: dict[str, str]) -> None:
    target = link.resolve()
    if target.is_dir() and target.is_relative_to(home.resolve()):
        where = link.relative_to(home).as_posix()
        links[where] = target.relative_to(home.resolve()).as_posix()
