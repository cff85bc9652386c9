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
from evalrun_runner.stores import Store

MAX_SEGMENT_BYTES = 1 << 30
"""Of one segment, unpacked; more is no segment of ours."""


class Answer(NamedTuple):
    """What the journal knows of one request."""

    fingerprint: str
    response: Any
    usage: TokenUsage | None
    error: str | None


Answers = dict[RequestKey, Answer]


def read_answers(store: Store, prefix: str) -> Answers:
    """The answers beneath `prefix`. Of two to one request the smaller segment name's counts."""
    found: Answers = {}
    for key in store.list(prefix):
        if not key.endswith(".jsonl.zst"):
            continue
        data = store.get(key)
        if data is None:  # deleted between listing and reading
            continue
        for record in read_segment(data, store.uri(key)):
            found.setdefault(
                record.key,
                Answer(record.fingerprint, record.response, record.tokens, record.error),
            )
    return found


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
