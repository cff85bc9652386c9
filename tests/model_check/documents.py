"""Documents without what only grows: uids, versions and times are renamed, so that states repeat.

A document is a shape (its text with gaps) and what fills the gaps: names of objects by rank, the
version by rank among those of its name, times as ages. Equal documents are one object here, and no
document is ever changed, so a state is a few numbers, and what was decided about it is remembered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from world import BEGIN

from evalrun_operator.owners import controller_uid

Doc = dict[str, Any]

NOW = BEGIN + timedelta(days=30)
"""It is always now: when time passes, everything becomes older instead."""
OLDEST = 3600
"""Seconds. Nothing in the rules asks whether something is older than a part of this."""
FRESH = 5000
"""Names that are given within a step start here, above all ranks."""

_GAP = re.compile(r"u(\d{4})u|(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)")
_HEAVY = ("spec", "data")


def token(number: int) -> str:
    """The name of an object, recognisable wherever it is copied to."""
    return f"u{number:04d}u"


class Entry:
    """An interned document.

    tokens, ages: of the gaps in the text. own: the object's own token, 0 where its uid is not one.
    group: kind and name without it. line: what its versions are compared with.
    """

    __slots__ = (
        *("ages", "doc", "group", "kind", "line", "name", "number", "own", "owner", "shape"),
        *("tokens", "uid", "version"),
    )

    def __init__(self, kind: str, doc: Doc, key: tuple[Any, ...], number: int) -> None:
        self.kind, self.doc, self.number = kind, doc, number
        self.shape, self.tokens, self.version, self.ages = key
        metadata = doc["metadata"]
        self.name: str = metadata["name"]
        self.uid: str = metadata["uid"]
        named = _GAP.fullmatch(self.uid)
        self.own = int(named[1]) if named else 0
        self.owner = controller_uid(doc, "Job" if kind == "Pod" else "EvaluationRun")
        self.group = (kind, _GAP.sub("", self.name))
        # Jobs of one name succeed each other, and so do their versions; a pod's name is its own.
        self.line = (*self.group, self.own if kind == "Pod" else 0)


class Documents:
    """All documents that were ever met."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._by_id: dict[int, Entry] = {}
        self._by_key: dict[tuple[Any, ...], Entry] = {}
        self._shapes: dict[tuple[Any, ...], int] = {}
        self._texts: list[tuple[str, tuple[str, ...], str, Doc]] = []
        self._heavy: dict[str, Any] = {}
        self._heavy_by_id: dict[int, tuple[Any, Any]] = {}
        self._aged: dict[tuple[int, int], Entry] = {}
        self._ages: dict[str, int] = {}

    def of(self, kind: str, doc: Doc) -> Entry:
        """The entry of a document, which must not be changed from now on."""
        known = self._by_id.get(id(doc))
        if known is not None and known.doc is doc:
            return known
        metadata = dict(doc["metadata"])
        version = int(metadata.pop("resourceVersion"))
        light = {name: value for name, value in doc.items() if name not in _HEAVY}
        light["metadata"] = metadata
        parts = _GAP.split(json.dumps(light, sort_keys=True))
        literals = tuple(parts[0::3])
        marks, tokens, ages = "", [], []
        for number, time in zip(parts[1::3], parts[2::3], strict=True):
            if number is not None:
                marks += "u"
                tokens.append(int(number))
            else:
                marks += time[10]
                ages.append(self._age(time))
        heavy = {name: self._shared(doc[name]) for name in _HEAVY if name in doc}
        key = (kind, literals, marks, *(id(value) for value in heavy.values()))
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = len(self._texts)
            self._texts.append((kind, literals, marks, heavy))
        return self._intern(kind, (shape, tuple(tokens), version, tuple(ages)), doc)

    def renamed(self, entry: Entry, names: Mapping[int, int], version: int) -> Entry:
        """The same document with other names and another version."""
        tokens = tuple([names[number] for number in entry.tokens])
        if tokens == entry.tokens and version == entry.version:
            return entry
        return self._intern(entry.kind, (entry.shape, tokens, version, entry.ages))

    def aged(self, entry: Entry, seconds: int) -> Entry:
        """The same document, some time later."""
        key = (entry.number, seconds)
        found = self._aged.get(key)
        if found is None:
            ages = tuple([min(age + seconds, OLDEST) for age in entry.ages])
            found = self._intern(entry.kind, (entry.shape, entry.tokens, entry.version, ages))
            self._aged[key] = found
        return found

    def _intern(self, kind: str, key: tuple[Any, ...], doc: Doc | None = None) -> Entry:
        found = self._by_key.get(key)
        if found is None:
            doc = doc if doc is not None else self._build(key)
            found = Entry(kind, doc, key, len(self.entries))
            self._by_key[key] = self._by_id[id(doc)] = found
            self.entries.append(found)
        return found

    def _build(self, key: tuple[Any, ...]) -> Doc:
        shape, tokens, version, ages = key
        _, literals, marks, heavy = self._texts[shape]
        numbers, times = iter(tokens), iter(ages)
        text = [literals[0]]
        for mark, literal in zip(marks, literals[1:], strict=True):
            if mark == "u":
                text.append(token(next(numbers)))
            else:
                moment = NOW - timedelta(seconds=next(times))
                text.append(moment.strftime(f"%Y-%m-%d{mark}%H:%M:%S"))
            text.append(literal)
        doc: Doc = json.loads("".join(text))
        doc["metadata"]["resourceVersion"] = str(version)
        return {**doc, **heavy}

    def _age(self, time: str) -> int:
        age = self._ages.get(time)
        if age is None:
            moment = datetime.fromisoformat(time).replace(tzinfo=UTC)
            age = self._ages[time] = min(round((NOW - moment).total_seconds()), OLDEST)
        return age

    def _shared(self, value: Any) -> Any:
        """One object for all that are equal: plans and pod templates are large and few."""
        known = self._heavy_by_id.get(id(value))
        if known is None:
            shared = self._heavy.setdefault(json.dumps(value, sort_keys=True), value)
            known = self._heavy_by_id[id(value)] = (
                shared,
                value,
            )  # kept, so that no id comes again
        return known[0]
