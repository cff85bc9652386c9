"""A store whose failures are counted, so that a person hears of them before a run ends for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from evalrun_api.errors import EvalrunError
from evalrun_runner.stores.objects import MAX_OBJECT_BYTES, Store, StoredObject


class CountedStore:
    """See `Store`. failed: told of the reason of each request that fails, repeated or not."""

    def __init__(self, store: Store, failed: Callable[[str], None]) -> None:
        self._store = store
        self._failed = failed

    def get(self, key: str, limit: int = MAX_OBJECT_BYTES) -> bytes | None:
        """See `Store`."""
        with self._counted():
            return self._store.get(key, limit)

    def put(self, key: str, data: bytes) -> None:
        """See `Store`."""
        with self._counted():
            self._store.put(key, data)

    def create(self, key: str, data: bytes) -> bool:
        """See `Store`."""
        with self._counted():
            return self._store.create(key, data)

    def list(self, prefix: str) -> Iterator[str]:
        """See `Store`."""
        with self._counted():
            yield from self._store.list(prefix)

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """See `Store`."""
        with self._counted():
            yield from self._store.objects(prefix)

    def leftovers(self) -> Iterator[StoredObject]:
        """See `Store`."""
        with self._counted():
            yield from self._store.leftovers()

    def delete(self, key: str) -> None:
        """See `Store`."""
        with self._counted():
            self._store.delete(key)

    def uri(self, key: str) -> str:
        """See `Store`."""
        return self._store.uri(key)

    def check(self) -> None:
        """See `Store`."""
        with self._counted():
            self._store.check()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except EvalrunError as error:
            self._failed(error.reason.name)
            raise
