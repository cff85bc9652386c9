"""Packed documents (data/NAMESPACE/ARCHIVE) that no run refers to any more, and deleting them.

Prepare stores an archive before it writes the record that refers to it, and an archive that is
there already is written to again by the next prepare that needs it. So one that was written to
within a day may be about to be referred to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from evalrun_api.errors import EvalrunError
from evalrun_cli import records
from evalrun_cli.garbage import UNREFERENCED_AGE
from evalrun_runner.local import DataRecord, Store, StoredObject, layout

_ARCHIVE = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Archive:
    """An archive of a namespace. runs: names of those that refer to it."""

    namespace: str
    name: str
    objects: tuple[StoredObject, ...]
    runs: tuple[str, ...]
    is_garbage: bool

    @property
    def bytes(self) -> int:
        """What it takes."""
        return sum(found.bytes for found in self.objects)

    @property
    def modified(self) -> datetime:
        """When it was last written to."""
        return max(found.modified for found in self.objects)


def namespaces(store: Store) -> set[str]:
    """Those that have archives."""
    return {key.split("/")[1] for key in store.list("data/") if key.count("/") > 2}


def look(store: Store, namespace: str, now: datetime) -> tuple[list[Archive], list[EvalrunError]]:
    """The archives of a namespace, and the records that cannot be read."""
    # The archives first: a run that begins meanwhile is then seen with what it refers to.
    by_name: dict[str, list[StoredObject]] = {}
    for found in store.objects(f"{layout.data(namespace)}/"):
        parts = found.key.split("/")
        if len(parts) > 3 and _ARCHIVE.fullmatch(parts[2]):
            by_name.setdefault(parts[2], []).append(found)
    if not by_name:
        return [], []
    runs, damaged = _runs(store, store.list(layout.runs(namespace)))
    archives = []
    for name, objects in by_name.items():
        its = tuple(sorted(runs.get(name, ())))
        quiet = now - max(found.modified for found in objects) >= UNREFERENCED_AGE
        archives.append(
            Archive(namespace, name, tuple(objects), its, not its and not damaged and quiet)
        )
    return archives, damaged


def _runs(store: Store, keys: Iterable[str]) -> tuple[dict[str, set[str]], list[EvalrunError]]:
    """Names of the runs that refer to each archive."""
    found: dict[str, set[str]] = {}
    damaged = []
    for attempt in records.attempts_of_keys(keys):
        if "data.json" not in attempt.documents:
            continue
        try:
            record = records.read(store, layout.data_of_run(attempt.run), DataRecord)
        except EvalrunError as error:
            damaged.append(error)
            continue
        if record.archive is not None:
            found.setdefault(record.archive, set()).add(attempt.run.name)
    return found, damaged


def delete(store: Store, archive: Archive, now: datetime, deleted: Callable[[int], None]) -> bool:
    """Delete an archive, unless it has come into use since it was looked at; whether it did.

    deleted: called with the bytes of each object that is gone. The index goes first: an archive
    that has one is whole.
    """
    found, _ = look(store, archive.namespace, now)
    if archive not in found:
        return False
    for entry in sorted(archive.objects, key=lambda e: (not e.key.endswith("/index.json"), e.key)):
        store.delete(entry.key)
        deleted(entry.bytes)
    return True
