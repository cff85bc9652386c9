"""What every store can do, whatever it is made of."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple, Protocol

MAX_OBJECT_BYTES = 1 << 30
"""Larger objects are not read: whoever can write to a store may not exhaust a reader's memory."""
MAX_DOCUMENT_BYTES = 64 << 20
"""The same of a plan, a lock, a manifest: parsed, they take many times their size."""
CHECK_PREFIX = ".check-"
"""How the name of the object begins that `Store.check` writes and removes."""


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
