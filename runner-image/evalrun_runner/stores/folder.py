"""A folder as a store. Objects appear whole, by renaming, and survive a power cut once written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from errno import EACCES, EDQUOT, EINVAL, ENOSPC, ENOTSUP, EPERM, EROFS
from pathlib import Path

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_runner.stores.objects import CHECK_PREFIX, MAX_OBJECT_BYTES, StoredObject

_WRITING_PREFIX = ".writing-"
_UNFINISHED = (CHECK_PREFIX, _WRITING_PREFIX)
"""How the names of files begin that are no objects: they are removed by whoever made them."""


class FolderStore:
    """See `Store`. root: need not exist yet."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, key: str, limit: int = MAX_OBJECT_BYTES) -> bytes | None:
        """See `Store`."""
        with self._explained(key):
            try:
                if (size := self._path(key).stat().st_size) > limit:
                    raise fail(reasons.CORRUPT_STORE, self.uri(key), f"it has {size} bytes")
                data = self._path(key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
            return data
        raise AssertionError

    def put(self, key: str, data: bytes) -> None:
        """See `Store`."""
        with self._explained(key), self._written(key, data) as temporary:
            temporary.replace(self._path(key))
            _sync_folder(self._path(key).parent)

    def create(self, key: str, data: bytes) -> bool:
        """See `Store`."""
        with self._explained(key), self._written(key, data) as temporary:
            try:
                os.link(temporary, self._path(key))
            except FileExistsError:
                return False
            _sync_folder(self._path(key).parent)
            return True
        raise AssertionError

    def list(self, prefix: str) -> Iterator[str]:
        """See `Store`."""
        with self._explained(prefix):
            found = [key for key in self._files(prefix) if not _is_hidden(key)]
        yield from sorted(found)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """See `Store`."""
        for key in self.list(prefix):
            if (found := self._stat(key)) is not None:
                yield found

    def leftovers(self) -> Iterator[StoredObject]:
        """See `Store`."""
        with self._explained(""):
            found = [key for key in self._files("") if Path(key).name.startswith(_UNFINISHED)]
        for key in sorted(found):
            if (left := self._stat(key)) is not None:
                yield left

    def delete(self, key: str) -> None:
        """See `Store`. Folders that it empties go too: a bucket would not show them either."""
        with self._explained(key):
            path = self._path(key)
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self._root:
                    break
                try:
                    folder.rmdir()
                except OSError:  # not empty, or used by someone just now
                    break

    def uri(self, key: str) -> str:
        """See `Store`."""
        return (self._root / key).as_uri()

    def check(self) -> None:
        """See `Store`."""
        for folder in ("answers", "runs"):
            with self._explained(folder):
                (self._root / folder).mkdir(parents=True, exist_ok=True)
                with tempfile.NamedTemporaryFile(dir=self._root / folder, prefix=CHECK_PREFIX):
                    next((self._root / folder).iterdir())

    def _files(self, prefix: str) -> Iterator[str]:
        """Keys of all files that begin with `prefix`, leftovers among them."""
        folder = self._root / prefix.rpartition("/")[0]
        for parent, _, names in os.walk(folder, onerror=_unless_missing):
            for name in names:
                key = (Path(parent) / name).relative_to(self._root).as_posix()
                if key.startswith(prefix):
                    yield key

    def _stat(self, key: str) -> StoredObject | None:
        with self._explained(key):
            try:
                found = self._path(key).stat()
            except FileNotFoundError:
                return None
            return StoredObject(key, found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
        raise AssertionError

    def _path(self, key: str) -> Path:
        path = self._root / key
        if ".." in path.parts:
            raise fail(reasons.INVALID_SPEC, self.uri(""), f"the key {key!r} leaves the store")
        return path

    @contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        """A temporary file with the data, synced, in the object's folder; removed afterwards."""
        folder = self._path(key).parent
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix=_WRITING_PREFIX)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = {
                ENOSPC: reasons.DISK_FULL,
                EDQUOT: reasons.DISK_FULL,
                EACCES: reasons.ACCESS_DENIED,
                EPERM: reasons.ACCESS_DENIED,
                EROFS: reasons.ACCESS_DENIED,
            }.get(error.errno or 0, reasons.STORE_UNAVAILABLE)
            remedy = None if reason is reasons.DISK_FULL else "Check the folder's owner and rights"
            raise fail(reason, self.uri(key), error.strerror or str(error), remedy) from error


def _is_hidden(key: str) -> bool:
    return Path(key).name.startswith(".")


def _sync_folder(folder: Path) -> None:
    """Make a rename or link in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (EINVAL, ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(descriptor)


def _unless_missing(error: OSError) -> None:
    """An unreadable folder may not pass for an empty one."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
