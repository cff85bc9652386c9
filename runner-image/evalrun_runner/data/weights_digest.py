"""The digest of weights on a volume: read whole once a run, recognised afterwards.

Prepare reads every byte, whatever was seen before, and leaves in the store what it saw of each
file. The processes that hold accelerators read a hundred gigabytes again only if a file's name,
size, time of change, first or last bytes differ from that. So a changed file goes unnoticed only
if someone sets its time back to the nanosecond and keeps its size and its ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from evalrun_api import reasons
from evalrun_api.digests import feed
from evalrun_api.document import Document, Sha256
from evalrun_api.errors import fail
from evalrun_runner.data.amounts import Amount

WEIGHTS_VERSION: Final = 1
BLOCK = 8 << 20
EDGE = 64 << 10


class SeenFile(Document):
    """What a glance at a file shows.

    modified: nanoseconds since 1970. edges: sha256 over its first and last 64 KiB.
    """

    path: str
    size: Annotated[int, Field(ge=0)]
    modified: int
    edges: Sha256


class SeenWeights(Document):
    """A folder of weights as prepare saw it; digest: `folder_digest` of it."""

    version: Literal[1] = WEIGHTS_VERSION
    digest: Sha256
    files: list[SeenFile]


def read_whole(folder: Path, activity: Callable[[str], None]) -> SeenWeights:
    """Read all files. Fails if they change meanwhile."""
    before = glance(folder)
    seen = SeenWeights(digest=folder_digest(folder, activity), files=before)
    if glance(folder) != before:
        raise fail(
            reasons.MODEL_NOT_FOUND,
            "spec.model.source.volume",
            f"the files in {folder} change while they are read",
            "Wait until they are written, then apply the run again",
        )
    return seen


def recognised(folder: Path, record: bytes | None) -> str | None:
    """The digest of the folder if it looks as it did when `record` was made."""
    if record is None:
        return None
    try:
        seen = SeenWeights.model_validate_json(record)
    except ValidationError:
        return None  # of another release: read it again
    return seen.digest if seen.files == glance(folder) else None


def glance(folder: Path) -> list[SeenFile]:
    """What can be seen of the files without reading them whole."""
    found = []
    for relative, path in _files(folder):
        status = path.stat()
        with path.open("rb") as file:
            hasher = hashlib.sha256(file.read(EDGE))
            file.seek(max(status.st_size - EDGE, 0))
            hasher.update(file.read(EDGE))
        seen = SeenFile(
            path=relative,
            size=status.st_size,
            modified=status.st_mtime_ns,
            edges=hasher.hexdigest(),
        )
        found.append(seen)
    return found


def folder_digest(folder: Path, activity: Callable[[str], None]) -> str:
    """sha256 over the names and contents of all files beneath a folder, hidden ones left out."""
    files = list(_files(folder))
    amount = Amount("hashing the weights", sum(path.stat().st_size for _, path in files))
    hasher = hashlib.sha256()
    for relative, path in files:
        feed(hasher, relative)
        of_file = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                of_file.update(block)
                amount.add(len(block), activity)
        feed(hasher, of_file.hexdigest())
    return hasher.hexdigest()


def _files(folder: Path) -> list[tuple[str, Path]]:
    return [
        (path.relative_to(folder).as_posix(), path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
