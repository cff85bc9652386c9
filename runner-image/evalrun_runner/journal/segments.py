"""Reading a journal's segments: fetched ahead, unpacked piece by piece, checked line by line.

A torn end is tolerated, for a writer may have been killed. Anything else that is no record of this
release is an error that names the object and the line.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from types import GenericAlias, UnionType
from typing import Any, NotRequired, TypeVar, Union, get_args

import zstandard
from pydantic import BaseModel, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.journal import RECORD_VERSION, Record
from evalrun_runner.stores import Store
from evalrun_runner.stores.patience import patiently

SUFFIX = ".jsonl.zst"
MAX_SEGMENT_BYTES = 1 << 30
"""Of one segment, unpacked; more is no segment of ours."""
MAX_LINE_BYTES = 32 << 20
"""Of one record. A gigabyte without a line's end fits into 100 KB of zstd, and would be copied once
for each piece of it."""
FETCHED_AHEAD = 4
"""Segments that are fetched while another one is read: a store's latency counts once, not a
thousand times."""
STORE_SECONDS = 60.0
"""How long a store may fail while a journal is opened: less than starting anew would take."""
LINES_AT_ONCE = 256
"""Lines that are checked in one call, which halves its cost."""
_READ_BYTES = 1 << 20

CheckedT = TypeVar("CheckedT")
Entry = dict[str, Any]
"""A checked line under the names that it has in JSON; what is left out there is left out here."""


def writer_name(name: str) -> str:
    """What a writer puts in the names of its segments.

    A container that is restarted in its pod has the same name again; its segments may not.
    """
    return f"{name}-{os.urandom(4).hex()}"


def _plain(annotation: Any) -> Any:
    """A type without documents in it: where one stands, a dictionary with its fields and checks."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = {
            field.alias or name: kind if field.is_required() else NotRequired[kind]
            for name, field in annotation.model_fields.items()
            for kind in [_plain(field.annotation)]
        }
        make: Any = TypedDict  # a type checker knows those that are written down
        made = make(annotation.__name__, fields)
        made.__pydantic_config__ = annotation.model_config
        return made
    if isinstance(annotation, UnionType):
        return Union[tuple(map(_plain, get_args(annotation)))]  # noqa: UP007  # of a tuple
    return annotation


_RECORDS = TypeAdapter(list[Record])
_PLAIN_RECORDS: Any = GenericAlias(list, (_plain(Record),))
_ENTRIES: TypeAdapter[list[Entry]] = TypeAdapter(_PLAIN_RECORDS)
"""The same checks at two thirds of the cost, for no objects are made."""


def read_records(store: Store, prefix: str) -> Iterator[Record]:
    """Every record beneath `prefix`, segments in the order of their names, one at a time."""
    for text, where in _segments(store, prefix):
        yield from _records(_lines(text, where), where)


def read_entries(store: Store, prefix: str) -> Iterator[Entry]:
    """The same as `read_records`, as checked dictionaries, which takes half the time."""
    for text, where in _segments(store, prefix):
        yield from _entries(_lines(text, where), where)


def read_segment(data: bytes, where: str) -> Iterator[Record]:
    """The records of a segment. A torn end is tolerated; damage is an error that names `where`."""
    yield from _records(_lines(unpacked(data, where), where), where)


def parse_records(text: bytes, where: str) -> Iterator[Record]:
    """The records of unpacked lines. A last line without its end is a torn one and is left out."""
    yield from _records(_lines(iter([text]), where), where)


def _segments(store: Store, prefix: str) -> Iterator[tuple[Iterator[bytes], str]]:
    """The text of each segment, and its address."""
    keys = patiently(lambda: list(store.list(prefix)), STORE_SECONDS)
    segments = [key for key in keys if key.endswith(SUFFIX)]
    for key, data in _fetched(
        lambda key: patiently(lambda: store.get(key), STORE_SECONDS), segments
    ):
        if data is not None:  # else deleted between listing and reading
            where = store.uri(key)
            yield unpacked(data, where), where


def _fetched(
    get: Callable[[str], bytes | None], keys: Iterable[str]
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


def pack(lines: bytes) -> bytes:
    """Lines as a segment's bytes, with a checksum."""
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(lines)


def unpacked(data: bytes, where: str, limit: int = MAX_SEGMENT_BYTES) -> Iterator[bytes]:
    """The segment's text, piece by piece; an error beyond `limit` bytes."""
    size = 0
    try:
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as reader:
            while part := reader.read(_READ_BYTES):
                size += len(part)
                if size > limit:
                    what = f"it unpacks to more than {limit} bytes"
                    raise fail(reasons.CORRUPT_JOURNAL, where, what)
                yield part
    except zstandard.ZstdError as error:
        raise fail(reasons.CORRUPT_JOURNAL, where, f"it cannot be unpacked ({error})") from error


def _lines(parts: Iterator[bytes], where: str) -> Iterator[bytes]:
    """Whole lines, without their ends."""
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        yield from lines
        if len(rest) > MAX_LINE_BYTES:
            what = f"it has a line of more than {MAX_LINE_BYTES} bytes"
            raise fail(reasons.CORRUPT_JOURNAL, where, what)


def _records(lines: Iterator[bytes], where: str) -> Iterator[Record]:
    return _checked(lines, where, _RECORDS, lambda record: record)


def _entries(lines: Iterator[bytes], where: str) -> Iterator[Entry]:
    return _checked(lines, where, _ENTRIES, Record.document)


def _checked(
    lines: Iterator[bytes],
    where: str,
    adapter: TypeAdapter[list[CheckedT]],
    convert: Callable[[Record], CheckedT],
) -> Iterator[CheckedT]:
    number = 1
    while batch := list(islice(lines, LINES_AT_ONCE)):
        try:
            found = adapter.validate_json(b"[" + b",".join(batch) + b"]")
        except ValidationError:
            found = []
        if len(found) != len(batch):  # then it is worth a second look, at which line it is
            found = [
                convert(_record(line, f"{where}, line {number + n}"))
                for n, line in enumerate(batch)
            ]
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
