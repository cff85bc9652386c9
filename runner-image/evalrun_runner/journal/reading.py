"""Reading a journal: the answers that count, by request.

Two readers share one pass over the segments. `read_index` keeps only which requests have an answer
and how it ended, so that a resumed step opens a journal of any size in little memory;
`read_answers` keeps the responses too, of all tasks or of some.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from evalrun_api.journal import ErrorClass, RequestKey, TokenUsage
from evalrun_runner.journal.request_list import Request
from evalrun_runner.journal.segments import Entry, read_entries, read_records
from evalrun_runner.stores import Store

MAX_ATTEMPTS = 2
"""How often a request is asked whose answer is empty; then the empty answer is its answer."""


class Outcome(NamedTuple):
    """How an answer ended.

    error: how it fails to be an answer. attempts: how often in a row it failed so.
    """

    error: ErrorClass | None
    attempts: int

    @property
    def is_final(self) -> bool:
        """Whether the request need not be asked again."""
        return self.error is None or (self.error == "Empty" and self.attempts >= MAX_ATTEMPTS)


class Answer(NamedTuple):
    """What the journal knows of one request. The fields are those of `Record`."""

    response: Any
    usage: TokenUsage | None
    error: ErrorClass | None
    attempts: int
    batch: int | None = None
    device: str | None = None
    files: dict[str, str] | None = None

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return Outcome(self.error, self.attempts)

    @property
    def is_final(self) -> bool:
        """Whether the request need not be asked again."""
        return self.outcome.is_final


Answers = dict[tuple[RequestKey, str], Answer]
"""By request and fingerprint: an answer to another prompt is no answer."""


class Index:
    """How the answer to each request ended, without the answers.

    Held by a 16-byte digest of request and fingerprint: a million of them take about 150 MiB.
    """

    def __init__(self) -> None:
        self._found: dict[bytes, Outcome] = {}
        self._outcome = lru_cache(1024)(Outcome)  # there are few, so they are shared

    def __len__(self) -> int:
        """How many requests have an answer, final or not."""
        return len(self._found)

    @property
    def final(self) -> int:
        """How many requests need not be asked again."""
        return sum(outcome.is_final for outcome in self._found.values())

    def add(self, entry: Entry) -> None:
        """Take in a record. Records come in the order of their segments' names."""
        at = _digest(
            entry["group"],
            entry["task"],
            entry["requestType"],
            entry["docId"],
            entry["idx"],
            entry.get("repeat", 0),
            entry.get("ordinal", 0),
            entry.get("round", 0),
            entry["fingerprint"],
        )
        outcome = self._outcome(entry.get("error"), entry.get("attempts", 1))
        before = self._found.get(at)
        if before is None or _rank(outcome) > _rank(before):
            self._found[at] = outcome

    def answer_to(self, request: Request) -> Outcome | None:
        """How the answer to exactly this request ended; None when there is none."""
        return self._found.get(_digest(*request.key, request.fingerprint))


def read_index(store: Store, prefix: str) -> Index:
    """Which requests the segments beneath `prefix` answer. See `read_answers` for the rule."""
    found = Index()
    for entry in read_entries(store, prefix):
        found.add(entry)
    return found


def count_answered(store: Store, prefix: str) -> int:
    """How many requests the segments beneath `prefix` answer for good, in little memory.

    Rounds of conversations are no requests of their own.
    """
    found = Index()
    for entry in read_entries(store, prefix):
        if not entry.get("round"):
            found.add(entry)
    return found.final


def read_answers(store: Store, prefix: str, only: Collection[str] | None = None) -> Answers:
    """The answers beneath `prefix`; of these tasks alone, where `only` names some.

    Of two to one request a good one counts before a failed one, then the one asked for more often,
    then the one in the segment of the smaller name: so all readers agree.
    """
    found: Answers = {}
    for record in read_records(store, prefix):
        if only is not None and record.task not in only:
            continue
        at = (record.key, record.fingerprint)
        if at not in found or _rank(Outcome(record.error, record.attempts)) > _rank(
            found[at].outcome
        ):
            found[at] = Answer(
                record.response,
                record.tokens,
                record.error,
                record.attempts,
                record.batch,
                record.device,
                record.files,
            )
    return found


def answer_to(answers: Answers, request: Request) -> Answer | None:
    """What the journal holds for exactly this request."""
    return answers.get((request.key, request.fingerprint))


def _rank(outcome: Outcome) -> tuple[bool, int]:
    return (True, 0) if outcome.error is None else (False, outcome.attempts)


def _digest(
    group: str,
    task: str,
    request_type: str,
    doc_id: int,
    idx: int,
    repeat: int,
    ordinal: int,
    round: int,
    fingerprint: str,
) -> bytes:
    """16 bytes that stand for a request and its prompt. The names' lengths keep them apart."""
    text = (
        f"{len(group)},{len(task)},{len(request_type)},{group}{task}{request_type}"
        f"{doc_id},{idx},{repeat},{ordinal},{round},{fingerprint}"
    )
    return blake2b(text.encode(), digest_size=16).digest()
