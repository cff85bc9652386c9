"""Which files of the hub's cache the later steps need: documents and processor, never weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalrun_runner.data_use import DATASET_INFO, DataUse

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
class Choice:
    """What to keep. files, links: as paths beneath HF_HOME; a link's value is its target there.

    complete: whether the later steps can do with these alone.
    """

    builders: list[str]
    files: list[str]
    links: dict[str, str]
    complete: bool


def choose(use: DataUse, media: list[MediaFolder], model: str | None) -> Choice:
    """What the later steps need of what was used.

    model: folder of the run's model in the hub's cache. Its weights are left out.
    """
    home = use.home
    read = {builder: _info(home / builder) for builder in sorted(use.builders)}
    infos = {builder: info for builder, info in read.items() if info is not None}
    remote = {builder for builder, info in infos.items() if _is_remote(builder, info)}
    sources = {url for info in infos.values() for url in info.get("download_checksums") or {}}
    # What a packaged builder read from afar it would ask for again, by its address.
    complete = not any(builder.split("/")[1] in PACKAGED for builder in remote)
    unpacked = {entry.repository for entry in media if not entry.linked}
    files: set[str] = set()
    links: dict[str, str] = {}
    for builder in remote:
        files.update(_files(home, home / builder, links))
    if any(url.partition("::")[0].endswith(_ARCHIVES) for url in sources):
        files.update(_files(home, home / "datasets" / "downloads" / "extracted", links))
    for folder in use.folders | {entry.folder.partition("/")[0] for entry in media}:
        files.update(_files(home, home / folder, links))
    for repository, commit in use.commits:
        files.update(_of_repository(home, repository, commit, sources, unpacked, model, links))
    files.discard("")
    return Choice(sorted(remote), sorted(files), dict(sorted(links.items())), complete)


def _info(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / DATASET_INFO).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _is_remote(builder: str, info: dict[str, Any]) -> bool:
    """Whether a dataset came from the hub or another server."""
    urls = info.get("download_checksums") or {}
    return builder.split("/")[1] not in PACKAGED or any(url.startswith(_REMOTE) for url in urls)


def _of_repository(
    home: Path,
    repository: str,
    commit: str,
    sources: set[str],
    unpacked: set[str],
    model: str | None,
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
    name = repository.removeprefix("datasets--").replace("--", "/")
    for path in _files(home, snapshot, links):
        within = path[len(snapshot.relative_to(home).as_posix()) + 1 :]
        if repository == model:
            keep = not any(Path(within).match(pattern) for pattern in WEIGHTS)
        elif within.endswith(_IN_ARROW):  # lies in the dataset's folder already, in another form
            keep = f"hf://datasets/{name}@{commit}/{within}" not in sources
        else:
            keep = repository not in unpacked or not within.endswith(_ARCHIVES)
        if keep:
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
