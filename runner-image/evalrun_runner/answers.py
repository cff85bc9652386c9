"""Reading a journal: every answer that counts, by request."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import zstandard
from pydantic import ValidationError

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.journal import RECORD_VERSION, Record, RequestKey, TokenUsage
from evalrun_runner.request_list import Request
from evalrun_runner.stores import Store

MAX_SEGMENT_BYTES = 1 << 30
"""Of one segment, unpacked; more is no segment of ours."""


MAX_ATTEMPTS = 2
"""How often a request is asked whose answer is empty; then the empty answer is its answer."""


class Answer(NamedTuple):
    """What the journal knows of one request.

    error: how the answer fails to be one. attempts: how often in a row it failed so.
    """

    response: Any
    usage: TokenUsage | None
    error: str | None
    attempts: int

    @property
    def is_final(self) -> bool:
        """Whether the request need not be asked again."""
        return self.error is None or (self.error == "Empty" and self.attempts >= MAX_ATTEMPTS)


Answers = dict[tuple[RequestKey, str], Answer]
"""By request and fingerprint: an answer to another prompt is no answer."""


def read_answers(store: Store, prefix: str) -> Answers:
    """The answers beneath `prefix`.

    Of two to one request a good one counts before a failed one, then the one asked for more often,
    then the one in the segment of the smaller name: so all readers agree.
    """
    found: Answers = {}
    for key in store.list(prefix):
        if not key.endswith(".jsonl.zst"):
            continue
        data = store.get(key)
        if data is None:  # deleted between listing and reading
            continue
        for record in read_segment(data, store.uri(key)):
            at = (record.key, record.fingerprint)
            answer = Answer(record.response, record.tokens, record.error, record.attempts)
            if at not in found or _rank(answer) > _rank(found[at]):
                found[at] = answer
    return found


def answer_to(answers: Answers, request: Request) -> Answer | None:
    """What the journal holds for exactly this request."""
    return answers.get((request.key, request.fingerprint))


def _rank(answer: Answer) -> tuple[bool, int]:
    return (True, 0) if answer.error is None else (False, answer.attempts)


def read_segment(data: bytes, where: str) -> Iterator[Record]:
    """The records of a segment. A torn end is tolerated; damage is an error that names `where`."""
    yield from parse_records(_unpack(data, where), where)


def parse_records(text: bytes, where: str) -> Iterator[Record]:
    """The records of unpacked lines. A last line without its end is a torn one and is left out."""
    *lines, _torn = text.split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            yield Record.model_validate_json(line)
        except ValidationError as error:
            raise _unreadable(line, f"{where}, line {number}") from error


def _unpack(data: bytes, where: str) -> bytes:
    try:
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as reader:
            parts, size = [], 0
            while part := reader.read(1 << 20):
                parts.append(part)
                size += len(part)
                if size > MAX_SEGMENT_BYTES:
                    what = f"it unpacks to more than {MAX_SEGMENT_BYTES} bytes"
                    raise fail(reasons.CORRUPT_JOURNAL, where, what)
    except zstandard.ZstdError as error:
        raise fail(reasons.CORRUPT_JOURNAL, where, f"it cannot be unpacked ({error})") from error
    return b"".join(parts)


def _unreadable(line: bytes, where: str) -> EvalrunError:
    try:
        version = json.loads(line).get("v")
    except (ValueError, AttributeError):
        version = None
    if isinstance(version, int) and version != RECORD_VERSION:
        what = f"it has format {version}, this release reads {RECORD_VERSION}"
        remedy = "Use the release that wrote it, or move the object away"
        return fail(reasons.CORRUPT_JOURNAL, where, what, remedy)
    return fail(reasons.CORRUPT_JOURNAL, where, "it is not a journal record")
