"""Reading a journal: the answers that count, by request.

Two readers share one pass over the segments. `read_index` keeps only which requests have an answer
and how it ended, so that a resumed step opens a journal of any size in little memory;
`read_answers` keeps the responses too, of all tasks or of some.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple

import zstandard
from pydantic import TypeAdapter, ValidationError

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.journal import RECORD_VERSION, ErrorClass, Record, RequestKey, TokenUsage
from evalrun_runner.request_list import Request
from evalrun_runner.stores import Store

MAX_SEGMENT_BYTES = 1 << 30
"""Of one segment, unpacked; more is no segment of ours."""

MAX_ATTEMPTS = 2
"""How often a request is asked whose answer is empty; then the empty answer is its answer."""

FETCHED_AHEAD = 4
"""Segments that are fetched while another one is read: a store's latency counts once, not a
thousand times."""
LINES_AT_ONCE = 256
"""Lines that are checked in one call, which halves its cost."""
_READ_BYTES = 1 << 20
_RECORDS = TypeAdapter(list[Record])


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
        self._known: dict[Outcome, Outcome] = {}

    def __len__(self) -> int:
        """How many requests have an answer, final or not."""
        return len(self._found)

    def add(self, record: Record) -> None:
        """Take in a record. Records come in the order of their segments' names."""
        at = _digest(record, record.fingerprint)
        outcome = Outcome(record.error, record.attempts)
        before = self._found.get(at)
        if before is None or _rank(outcome) > _rank(before):
            self._found[at] = self._known.setdefault(outcome, outcome)

    def answer_to(self, request: Request) -> Outcome | None:
        """How the answer to exactly this request ended; None when there is none."""
        return self._found.get(_digest(request.key, request.fingerprint))


def read_index(store: Store, prefix: str) -> Index:
    """Which requests the segments beneath `prefix` answer. See `read_answers` for the rule."""
    found = Index()
    add = found.add
    for record in read_records(store, prefix):
        add(record)
    return found


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


def read_records(store: Store, prefix: str) -> Iterator[Record]:
    """Every record beneath `prefix`, segments in the order of their names, one at a time."""
    keys = (key for key in store.list(prefix) if key.endswith(".jsonl.zst"))
    for key, data in _fetched(store.get, keys):
        if data is not None:  # else deleted between listing and reading
            yield from read_segment(data, store.uri(key))


def read_segment(data: bytes, where: str) -> Iterator[Record]:
    """The records of a segment. A torn end is tolerated; damage is an error that names `where`."""
    yield from _records(_lines(_unpacked(data, where)), where)


def parse_records(text: bytes, where: str) -> Iterator[Record]:
    """The records of unpacked lines. A last line without its end is a torn one and is left out."""
    yield from _records(_lines(iter([text])), where)


def _rank(outcome: Outcome) -> tuple[bool, int]:
    return (True, 0) if outcome.error is None else (False, outcome.attempts)


def _digest(request: RequestKey | Record, fingerprint: str) -> bytes:
    """16 bytes that stand for a request and its prompt. The names' lengths keep them apart."""
    group, task, kind = request.group, request.task, request.request_type
    text = (
        f"{len(group)},{len(task)},{len(kind)},{group}{task}{kind}{request.doc_id},{request.idx},"
        f"{request.repeat},{request.ordinal},{request.round},{fingerprint}"
    )
    return blake2b(text.encode(), digest_size=16).digest()


def _fetched(
    get: Callable[[str], bytes | None], keys: Iterator[str]
) -> Iterator[tuple[str, bytes | None]]:
    """Each key with its object, in order; some are fetched ahead."""
    with ThreadPoolExecutor(FETCHED_AHEAD, thread_name_prefix="segments") as pool:
        waiting: list[tuple[str, Future[bytes | None]]] = []
        try:
            for key in keys:
                waiting.append((key, pool.submit(get, key)))
                if len(waiting) > FETCHED_AHEAD:
                    first, future = waiting.pop(0)
                    yield first, future.result()
            while waiting:
                first, future = waiting.pop(0)
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def _unpacked(data: bytes, where: str) -> Iterator[bytes]:
    """The segment's text, piece by piece."""
    size = 0
    try:
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as reader:
            while part := reader.read(_READ_BYTES):
                size += len(part)
                if size > MAX_SEGMENT_BYTES:
                    what = f"it unpacks to more than {MAX_SEGMENT_BYTES} bytes"
                    raise fail(reasons.CORRUPT_JOURNAL, where, what)
                yield part
    except zstandard.ZstdError as error:
        raise fail(reasons.CORRUPT_JOURNAL, where, f"it cannot be unpacked ({error})") from error


def _lines(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines, without their ends."""
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        yield from lines


def _records(lines: Iterator[bytes], where: str) -> Iterator[Record]:
    number = 1
    while batch := list(islice(lines, LINES_AT_ONCE)):
        try:
            found = _RECORDS.validate_json(b"[" + b",".join(batch) + b"]")
        except ValidationError:
            found = []
        if len(found) != len(batch):  # which line it is, is worth a second look
            found = [_record(line, f"{where}, line {number + n}") for n, line in enumerate(batch)]
        yield from found
        number += len(batch)


def _record(line: bytes, where: str) -> Record:
    try:
        return Record.model_validate_json(line)
    except ValidationError as error:
        raise _unreadable(line, where) from error


def _unreadable(line: bytes, where: str) -> EvalrunError:
    try:
        version = json.loads(line).get("v")
    except (ValueError, AttributeError, RecursionError):
        version = None
    if isinstance(version, int) and version != RECORD_VERSION:
        newer = version > RECORD_VERSION
        what = f"it has format {version}, this release reads {RECORD_VERSION}"
        remedy = "Use the release that wrote it" + (" or a later one" if newer else "")
        return fail(reasons.CORRUPT_JOURNAL, where, what, f"{remedy}, or move the object away")
    return fail(reasons.CORRUPT_JOURNAL, where, "it is not a journal record")
