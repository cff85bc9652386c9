"""The objects of one kind, each in the newest version that was seen of it.

Watch events come late and repeated, lists are snapshots of a moment, answers to our own writes
overtake both. The order of arrival says nothing, so the resourceVersion decides (the API server
promises that those of one kind compare as integers).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from evalrun_operator.decisions import Doc

MAX_GRAVES = 20_000
"""Objects whose end is remembered. A later list makes a grave superfluous, see `Shelf.put`."""


@dataclass(slots=True)
class Held:
    """An object on the shelf. A packed one is kept as JSON, at a tenth of the memory."""

    uid: str
    namespace: str
    name: str
    version: int
    content: Doc | bytes

    @property
    def document(self) -> Doc:
        """The object."""
        if isinstance(self.content, bytes):
            unpacked: Doc = json.loads(self.content)
            return unpacked
        return self.content

    @property
    def is_packed(self) -> bool:
        """Whether it is kept small."""
        return isinstance(self.content, bytes)

    def pack(self) -> None:
        """Keep it small: it is hardly looked at any more."""
        if not isinstance(self.content, bytes):
            self.content = json.dumps(self.content, separators=(",", ":")).encode()


class Put(NamedTuple):
    """What putting did: held is None when it told nothing new.

    displaced: the object of the same name that must be gone, since this one took its name.
    """

    held: Held | None = None
    displaced: Held | None = None


def version_of(document: Doc) -> int:
    """resourceVersion as a number; 0 if it has none."""
    return int(document["metadata"].get("resourceVersion") or 0)


class Shelf:
    """The objects of one kind."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}
        self._by_name: dict[tuple[str, str], str] = {}
        self._graves: dict[str, int] = {}
        self._floors: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Held]:
        return iter(list(self._held.values()))

    def get(self, uid: str) -> Held | None:
        """The object of this uid."""
        return self._held.get(uid)

    def find(self, namespace: str, name: str) -> Held | None:
        """The object of this name."""
        uid = self._by_name.get((namespace, name))
        return self._held[uid] if uid is not None else None

    def floor(self, namespace: str) -> int:
        """Version of the last list that covered this namespace."""
        return max(self._floors.get("", 0), self._floors.get(namespace, 0))

    def is_news(self, document: Doc, listed: int = 0) -> bool:
        """Whether this says something that is not known yet.

        listed: version of the list that holds it; 0 for what came otherwise.
        """
        metadata = document["metadata"]
        uid, version = metadata["uid"], version_of(document)
        if self._graves.get(uid, -1) >= listed:
            return False
        known = self._held.get(uid)
        if known is not None:
            return version > known.version
        floor = self.floor(metadata["namespace"])
        if listed < floor and version <= floor:
            return False  # the last list was taken later, and has no such object
        namesake = self.find(metadata["namespace"], metadata["name"])
        return namesake is None or version > namesake.version

    def put(self, document: Doc, listed: int = 0) -> Put:
        """Keep this version of an object, if it is news."""
        if not self.is_news(document, listed):
            return Put()
        metadata = document["metadata"]
        uid, namespace, name = metadata["uid"], metadata["namespace"], metadata["name"]
        displaced = None
        namesake = self.find(namespace, name)
        if namesake is not None and namesake.uid != uid:
            displaced = self.remove(namesake.uid, namesake.version)
        held = Held(uid, namespace, name, version_of(document), document)
        self._held[uid] = held
        self._by_name[(namespace, name)] = uid
        self._graves.pop(uid, None)
        return Put(held, displaced)

    def remove(self, uid: str, version: int = 0) -> Held | None:
        """The object is gone. Returns it if it was there.

        version: of its end; 0 where nothing but a 404 tells of it. A uid never comes back, but an
        object that lost the label that we watch seems gone as well, and so does all that somebody
        on the way to the API server denies; a later list tells.
        """
        known = self._held.get(uid)
        self._graves[uid] = max(version, known.version if known else 0)
        while len(self._graves) > MAX_GRAVES:
            del self._graves[next(iter(self._graves))]
        held = self._held.pop(uid, None)
        if held is not None and self._by_name.get((held.namespace, held.name)) == uid:
            del self._by_name[(held.namespace, held.name)]
        return held

    def keep_only(self, uids: Collection[str], version: int, namespace: str = "") -> list[Held]:
        """A list of this version held these: what else is there has gone, unless it is newer.

        namespace: that the list covered; all when empty. Returns what went.
        """
        absent = [
            held
            for held in self._held.values()
            if held.version <= version
            and held.uid not in uids
            and (not namespace or held.namespace == namespace)
        ]
        for held in absent:
            self.remove(held.uid, version)
        self._floors[namespace] = max(self._floors.get(namespace, 0), version)
        if not namespace:
            # The floor keeps these out as well from now on.
            self._graves = {uid: at for uid, at in self._graves.items() if at > version}
        return absent
