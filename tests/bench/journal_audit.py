"""What a journal holds after each death of its writer: is anything lost, doubled or overwritten?"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from evalrun_api.journal import Record, RequestKey
from evalrun_runner.journal.segments import parse_records, read_segment
from evalrun_runner.stores import Store

Identity = tuple[RequestKey, str]
"""A request and the fingerprint of its prompt."""


@dataclass
class Death:
    """What one death cost.

    lost: answers that were journaled, or that the worker said were, and are gone.
    recomputed: finished answers that went with the machine's disk before they were stored.
    """

    lost: int
    recomputed: int
    gained: int


@dataclass
class Audit:
    """The journal of one run, read at the store itself and not through what may fail.

    known: answers that have to be there from now on.
    """

    store: Store
    prefix: str
    spool: Path
    known: set[Identity] = field(default_factory=set)
    stored: dict[Identity, set[str]] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)

    def after_death(self, reported: int, *, lose_spool: bool) -> Death:
        """Compare, then go on with what is there.

        reported: answers that the process had said it computed.
        lose_spool: whether its disk is gone too, as when a pod or a machine is.
        """
        self._read_store()
        spooled = self._spooled()
        there = set(self.stored) | spooled
        gained = len(there - self.known)
        lost = len(self.known - there) + max(0, reported - gained)
        at_risk = len(spooled - set(self.stored))
        if lose_spool:
            shutil.rmtree(self.spool, ignore_errors=True)
            self.known = set(self.stored)
            return Death(lost, at_risk, gained)
        self.known = there
        return Death(lost, 0, gained)

    @property
    def doubled(self) -> int:
        """Answers that were computed again although they were stored.

        The very same record in two segments was computed once: a process was killed between
        storing it and removing it from the spool.
        """
        return sum(len(records) - 1 for records in self.stored.values())

    def changed(self) -> list[str]:
        """Objects that are gone or are not what they were when they were first seen."""
        return [
            key
            for key, digest in self.objects.items()
            if hashlib.sha256(self.store.get(key) or b"").hexdigest() != digest
        ]

    def _read_store(self) -> None:
        for key in self.store.list(self.prefix):
            if key in self.objects:
                continue
            data = self.store.get(key) or b""
            self.objects[key] = hashlib.sha256(data).hexdigest()
            for record in read_segment(data, key):
                self.stored.setdefault(_identity(record), set()).add(record.model_dump_json())

    def _spooled(self) -> set[Identity]:
        return {
            _identity(record)
            for path in sorted(self.spool.rglob("*.jsonl"))
            for record in parse_records(path.read_bytes(), str(path))
        }


def _identity(record: Record) -> Identity:
    return record.key, record.fingerprint
