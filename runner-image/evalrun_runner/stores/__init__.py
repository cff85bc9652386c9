"""Object stores behind one small interface: S3-compatible buckets and folders.

Keys are relative to the store's prefix. Every method raises `EvalrunError` with a reason, the
object's address and a remedy; a caller needs no knowledge of boto3 or errno.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_api.plan import StorePlan
from evalrun_runner.stores.counted import CountedStore
from evalrun_runner.stores.folder import FolderStore
from evalrun_runner.stores.objects import (
    MAX_DOCUMENT_BYTES,
    MAX_OBJECT_BYTES,
    Store,
    StoredObject,
)
from evalrun_runner.stores.s3 import S3Store

__all__ = [
    "MAX_DOCUMENT_BYTES",
    "MAX_OBJECT_BYTES",
    "CountedStore",
    "FolderStore",
    "S3Store",
    "Store",
    "StoredObject",
    "open_store",
]


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
