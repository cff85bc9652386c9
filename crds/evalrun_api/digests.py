"""One way to turn documents and values into digests."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from typing import Any


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no spaces; equal values give equal bytes."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: Any) -> str:
    """sha256 of the canonical JSON, as hex."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def feed(hasher: Any, value: Any) -> None:
    """Feed a dataset's value into a hash object, unambiguously and for any nesting.

    Takes what Arrow columns turn into: None, bool, int, float, str, bytes, date and time, lists
    and mappings; anything else goes in by its repr.
    """
    if value is None:
        hasher.update(b"n;")
    elif isinstance(value, bool):
        hasher.update(b"t;" if value else b"f;")
    elif isinstance(value, int):
        hasher.update(b"i%d;" % value)
    elif isinstance(value, float):
        hasher.update(b"d" + struct.pack("<d", value))
    elif isinstance(value, str):
        raw = value.encode("utf-8", "surrogatepass")
        hasher.update(b"s%d:" % len(raw) + raw)
    elif isinstance(value, bytes | bytearray | memoryview):
        raw = bytes(value)
        hasher.update(b"b%d:" % len(raw))
        hasher.update(raw)
    elif isinstance(value, list | tuple):
        feed_each(hasher, len(value), value)
    elif isinstance(value, Mapping):
        hasher.update(b"m%d:" % len(value))
        for key in sorted(value):
            feed(hasher, key)
            feed(hasher, value[key])
    elif isinstance(value, datetime | date | time):
        feed(hasher, value.isoformat())
    else:
        feed(hasher, repr(value))


def feed_each(hasher: Any, count: int, items: Iterable[Any]) -> None:
    """Feed `count` items as `feed` does a list of them, one after another."""
    hasher.update(b"l%d:" % count)
    for item in items:
        feed(hasher, item)
