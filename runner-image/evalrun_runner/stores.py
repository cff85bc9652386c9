"""Object stores behind one small interface: S3-compatible buckets and folders.

Keys are relative to the store's prefix. Every method raises `EvalrunError` with a reason, the
object's address and a remedy; a caller needs no knowledge of boto3 or errno.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from errno import EACCES, EDQUOT, EINVAL, ENOSPC, ENOTSUP, EPERM, EROFS
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.plan import StorePlan

if TYPE_CHECKING:
    from botocore.client import BaseClient


MAX_OBJECT_BYTES = 1 << 30
"""Larger objects are not read: whoever can write to a store may not exhaust a reader's memory."""
CONFLICT_TRIES = 5
_UNFINISHED = (".check-", ".writing-")
"""How the names of files begin that are no objects: they are removed by whoever made them."""


class StoredObject(NamedTuple):
    """An object as a listing shows it."""

    key: str
    bytes: int
    modified: datetime


class Store(Protocol):
    """Where answers and results are kept."""

    def get(self, key: str, limit: int = MAX_OBJECT_BYTES) -> bytes | None:
        """The object's content, or None when there is none. Fails on more than `limit` bytes."""

    def put(self, key: str, data: bytes) -> None:
        """Write an object whole; after return it is durable."""

    def create(self, key: str, data: bytes) -> bool:
        """Write an object only if there is none; False when there is one already."""

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that begin with `prefix`, in order."""

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """The same with sizes and times."""

    def leftovers(self) -> Iterator[StoredObject]:
        """What killed writers left that is no object: no other method shows it."""

    def delete(self, key: str) -> None:
        """Remove an object or a leftover; no fault if it is gone. `evalrun gc` alone does this."""

    def uri(self, key: str) -> str:
        """Address of an object, for people."""

    def check(self) -> None:
        """Fail unless the store can be listed, written and read."""


def open_store(plan: StorePlan) -> Store:
    """The store that a plan names."""
    parts = urlsplit(plan.uri)
    if parts.scheme == "s3":
        return S3Store(parts.netloc, parts.path.strip("/"), plan.endpoint, plan.region)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return FolderStore(Path(unquote(parts.path)))
    raise fail(
        reasons.INVALID_SPEC,
        "store.uri",
        f"{plan.uri!r} is not a store",
        "Use s3://BUCKET/PREFIX or file:///ABSOLUTE/FOLDER",
    )


class FolderStore:
    """A folder. Objects appear whole, by renaming, and survive a power cut once written."""

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
                with tempfile.NamedTemporaryFile(dir=self._root / folder, prefix=_UNFINISHED[0]):
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
        handle, name = tempfile.mkstemp(dir=folder, prefix=_UNFINISHED[1])
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


_REFUSED_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "XAdminUserNotFound",  # versitygw
    }
)


class S3Store:
    """A bucket with a prefix. Retries are botocore's (standard mode)."""

    def __init__(self, bucket: str, prefix: str, endpoint: str | None, region: str | None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = _s3_client(endpoint, region)
        self._endpoint = endpoint

    def get(self, key: str, limit: int = MAX_OBJECT_BYTES) -> bytes | None:
        """See `Store`."""
        with self._explained(key):
            try:
                response = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
                size = response.get("ContentLength")
                if size is not None and size > limit:
                    raise fail(reasons.CORRUPT_STORE, self.uri(key), f"it has {size} bytes")
                # Read to its end, a body that was cut short is an error; read in part, it is not.
                data: bytes = (
                    response["Body"].read() if size is not None else response["Body"].read(limit)
                )
            except self._client.exceptions.NoSuchKey:
                return None
            return data
        raise AssertionError

    def put(self, key: str, data: bytes) -> None:
        """See `Store`."""
        with self._explained(key):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data)

    def create(self, key: str, data: bytes) -> bool:
        """See `Store`."""
        from botocore.exceptions import ClientError

        with self._explained(key):
            for attempt in range(CONFLICT_TRIES):
                try:
                    self._client.put_object(
                        Bucket=self._bucket, Key=self._prefix + key, Body=data, IfNoneMatch="*"
                    )
                except ClientError as error:
                    if _code(error) in ("PreconditionFailed", "412"):
                        return False
                    # Two writers at once: S3 answers 409 and wants the loser to try again.
                    conflict = _code(error) == "ConditionalRequestConflict"
                    if not conflict or attempt == CONFLICT_TRIES - 1:
                        raise
                    time.sleep(random.uniform(0.1, 0.5))
                else:
                    return True
        raise AssertionError

    def list(self, prefix: str) -> Iterator[str]:
        """See `Store`."""
        yield from (found.key for found in self.objects(prefix))

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """See `Store`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with self._explained(prefix):
            found = [entry for page in pages for entry in page.get("Contents", [])]
        yield from sorted(
            StoredObject(
                entry["Key"].removeprefix(self._prefix), entry["Size"], entry["LastModified"]
            )
            for entry in found
        )

    def leftovers(self) -> Iterator[StoredObject]:
        """See `Store`."""
        yield from self.objects(_UNFINISHED[0])

    def delete(self, key: str) -> None:
        """See `Store`."""
        with self._explained(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def uri(self, key: str) -> str:
        """See `Store`."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def check(self) -> None:
        """See `Store`."""
        with self._explained(""):
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        key = f"{_UNFINISHED[0]}{os.urandom(8).hex()}"
        self.put(key, b"")
        with self._explained(key), suppress(Exception):  # a store may forbid deleting
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        from botocore import exceptions as aws

        try:
            yield
        except aws.ClientError as error:
            raise self._client_error(error, key) from error
        except (aws.NoCredentialsError, aws.PartialCredentialsError) as error:
            raise fail(
                reasons.CREDENTIALS_REFUSED,
                self.uri(key),
                "there are no credentials",
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (in a cluster: the Secret)",
            ) from error
        except (aws.BotoCoreError, OSError) as error:
            where = self._endpoint or "the S3 service"
            what = f"{where} cannot be reached ({type(error).__name__})"
            raise fail(reasons.STORE_UNAVAILABLE, self.uri(key), what) from error

    def _client_error(self, error: Any, key: str) -> EvalrunError:
        code = _code(error)
        message = error.response.get("Error", {}).get("Message", "")
        where = self.uri(key)
        if code == "NoSuchBucket":
            what = f"the bucket {self._bucket} does not exist"
            return fail(reasons.BUCKET_NOT_FOUND, where, what)
        if code in _REFUSED_CREDENTIALS:
            return fail(reasons.CREDENTIALS_REFUSED, where, f"{code}: {message}")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code == "AccessDenied" or status in (401, 403):
            return fail(reasons.ACCESS_DENIED, where, f"{code}: {message}")
        if code in ("QuotaExceeded", "XMinioStorageFull", "EntityTooLarge"):
            return fail(reasons.DISK_FULL, where, f"{code}: {message}")
        return fail(reasons.STORE_UNAVAILABLE, where, f"the service answered {code}: {message}")


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


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _s3_client(endpoint: str | None, region: str | None) -> BaseClient:
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=5,
        read_timeout=60,
        request_checksum_calculation="when_required",  # older S3-compatible servers refuse others
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if endpoint else {},
    )
    session = boto3.session.Session()  # the shared one keeps the first credentials it saw
    return session.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region or session.region_name or "us-east-1",
        config=config,
    )
