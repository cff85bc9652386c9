"""Records, and a store that can fail, for the tests of the journal."""

from __future__ import annotations

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.journal import Record
from evalrun_runner.journal.reading import read_answers
from evalrun_runner.journal.request_list import Request
from evalrun_runner.journal.segments import pack
from evalrun_runner.stores import MAX_OBJECT_BYTES, FolderStore

PREFIX = "answers/default/d/segments/"


def record(doc_id: int, response: object = "red") -> Record:
    return Record(
        group="g0",
        task="t",
        request_type="generate_until",
        doc_id=doc_id,
        idx=0,
        fingerprint="f" * 32,
        response=response,
    )


class Outage(FolderStore):
    """A store that can fail on demand."""

    failing: EvalrunError | None = None

    def create(self, key: str, data: bytes) -> bool:
        if self.failing:
            raise self.failing
        return super().create(key, data)

    failing_reads = 0

    def get(self, key: str, limit: int = MAX_OBJECT_BYTES) -> bytes | None:
        if self.failing_reads > 0:
            self.failing_reads -= 1
            raise fail(reasons.STORE_UNAVAILABLE, key, "the service is away")
        return super().get(key, limit)


def put(store: FolderStore, name: str, *records: Record) -> None:
    lines = b"".join(entry.model_dump_json(by_alias=True).encode() + b"\n" for entry in records)
    store.put(f"{PREFIX}{name}.jsonl.zst", pack(lines))


def request(doc_id: int, fingerprint: str = "f" * 32) -> Request:
    return Request(record(doc_id).key, fingerprint, None)


def documents(store: FolderStore) -> set[int]:
    return {key.doc_id for key, _ in read_answers(store, PREFIX)}
