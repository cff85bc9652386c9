"""Bringing a packed archive back: verified, and either whole or not there at all.

Nothing in the tar is trusted: its members have to be the index's, in the index's order, and an
index is the one that prepare wrote only if its digest is the archive's name. Files are written to
a folder of another name first, and moved when all of them are right.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import zstandard
from pydantic import ValidationError

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_runner.data.amounts import Amount, require_space
from evalrun_runner.data.archive import BLOCK, PART_BYTES, part_key, part_sizes
from evalrun_runner.data.index import ArchiveIndex, Contents, Part
from evalrun_runner.failures import classify
from evalrun_runner.stores import Store

MAX_INDEX_BYTES = 512 << 20
"""Of an archive of two million files: about 220 bytes tell of each."""

AHEAD = 4
"""Parts that are fetched before they are needed."""
SMALL = 64 << 10
"""Bytes of a file that is looked into where it is there already."""
_STAGING = ".restoring-"
_STALE_SECONDS = 24 * 3600


def restore(
    store: Store, folder: str, archive: str, home: Path, activity: Callable[[str], None]
) -> bool:
    """Bring an archive's files beneath `home`, unless they are there. Whether it had to.

    Processes that share `home` wait for the one that restores.
    """
    index = read_index(store, folder, archive)
    home.mkdir(parents=True, exist_ok=True)
    with _alone(home, activity):
        if _is_there(home, index.contents):
            return False
        _remove_stale(home)
        require_space(home, index.contents.space, "the documents")
        staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=home))
        try:
            _unpack(store, folder, index, staging, activity)
            for link in index.contents.links:
                path = staging / link.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(home.resolve() / link.target, target_is_directory=True)
            _move(staging, home)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return True


def read_index(store: Store, folder: str, archive: str) -> ArchiveIndex:
    """The index of an archive; fails if it is missing, or not what prepare wrote."""
    key = f"{folder}/index.json"
    where = store.uri(key)
    data = store.get(key, MAX_INDEX_BYTES)
    if data is None:
        raise _damaged(where, "it is missing")
    try:
        index = ArchiveIndex.model_validate_json(data)
    except ValidationError as error:
        raise _damaged(where, "it is not an index of this release") from error
    if index.contents.archive != archive:
        raise _damaged(where, "its files are not those of this archive")
    if [part.size for part in index.parts] != part_sizes(index.contents):
        raise _damaged(where, "its parts do not fit its files")
    return index


def _damaged(where: str, what: str) -> EvalrunError:
    remedy = (
        "Delete this object, then delete the run and apply it again: prepare stores the documents "
        "anew, and finished answers are reused"
    )
    return fail(reasons.CORRUPT_STORE, where, what, remedy)


def _is_there(home: Path, contents: Contents) -> bool:
    """Whether the files are there, as far as their sizes tell; small ones are read.

    All branches' files have one size, and one that another run has moved leads to other documents,
    as does a link.
    """
    for member in contents.members:
        path = home / member.path
        try:
            if path.stat().st_size != member.size:
                return False
            if member.size <= SMALL and _sha256(path) != member.sha256:
                return False
        except OSError:
            return False
    return all(_leads(home / link.path, home / link.target) for link in contents.links)


def _leads(link: Path, target: Path) -> bool:
    """Whether a link leads there, or the folder itself is in its place."""
    return link.is_dir() and (not link.is_symlink() or link.resolve() == target.resolve())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _alone(home: Path, activity: Callable[[str], None]) -> Iterator[None]:
    with (home / ".restoring.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            activity("waiting for another process that restores the documents")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_stale(home: Path) -> None:
    """What a killed process left on a disk that outlives it."""
    for path in home.glob(f"{_STAGING}*"):
        if time.time() - path.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


def _unpack(
    store: Store,
    folder: str,
    index: ArchiveIndex,
    staging: Path,
    activity: Callable[[str], None],
) -> None:
    amount = Amount("restoring the documents", sum(part.size for part in index.parts))
    reader = io.BufferedReader(_Joined(_parts(store, folder, index.parts, amount, activity)), BLOCK)
    expected = iter(index.contents.members)
    where = store.uri(f"{folder}/")
    try:
        with tarfile.open(fileobj=reader, mode="r|", encoding="utf-8") as tar:
            for entry in tar:
                member = next(expected, None)
                if (
                    member is None
                    or not entry.isreg()
                    or (entry.name, entry.size) != (member.path, member.size)
                ):
                    raise _damaged(where, f"{entry.name!r} is not what the index has there")
                source = tar.extractfile(entry)
                assert source is not None
                path = staging / member.path
                path.parent.mkdir(parents=True, exist_ok=True)
                hasher = hashlib.sha256()
                with path.open("xb") as target:
                    while block := source.read(BLOCK):
                        hasher.update(block)
                        target.write(block)
                if hasher.hexdigest() != member.sha256:
                    raise _damaged(where, f"{member.path} is not what prepare packed")
    except tarfile.TarError as error:
        raise _damaged(where, f"the parts are not an archive ({error})") from error
    except OSError as error:
        reason = classify(error, reasons.ACCESS_DENIED)
        raise fail(reason, str(staging), error.strerror or str(error)) from error
    if (member := next(expected, None)) is not None:
        raise _damaged(where, f"{member.path} is missing")


def _parts(
    store: Store,
    folder: str,
    parts: list[Part],
    amount: Amount,
    activity: Callable[[str], None],
) -> Iterator[bytes]:
    """The tar part by part, some fetched ahead."""

    def fetch(number: int) -> bytes:
        part = parts[number]
        key = part_key(folder, number, part.sha256)
        # zstd adds little to what it cannot make smaller.
        data = store.get(key, PART_BYTES + BLOCK)
        if data is None:
            raise _damaged(store.uri(key), "it is missing")
        if hashlib.sha256(data).hexdigest() != part.sha256:
            raise _damaged(store.uri(key), "its content does not have the sha256 of its name")
        if zstandard.get_frame_parameters(data).content_size != part.size:
            raise _damaged(store.uri(key), f"it does not hold {part.size} bytes")
        return zstandard.ZstdDecompressor().decompress(data, max_output_size=part.size)

    with ThreadPoolExecutor(AHEAD, "download") as pool:
        coming = [pool.submit(fetch, number) for number in range(min(AHEAD, len(parts)))]
        try:
            for number, part in enumerate(parts):
                data = coming.pop(0).result()
                if number + AHEAD < len(parts):
                    coming.append(pool.submit(fetch, number + AHEAD))
                amount.add(part.size, activity)
                yield data
        finally:
            for future in coming:
                future.cancel()


class _Joined(io.RawIOBase):
    """Pieces of bytes as one file to read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # narrower is enough
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def _move(source: Path, target: Path) -> None:
    """Move what is beneath a folder to another: whole folders at once where none is there."""
    for path in source.iterdir():
        there = target / path.name
        if path.is_dir() and not path.is_symlink() and there.is_dir():
            _move(path, there)
        elif there.is_symlink() and path.is_symlink():
            path.replace(there)
        elif there.is_dir():
            continue  # a link is wanted, and the folder itself is there
        else:
            path.replace(there)
