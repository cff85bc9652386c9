"""What the operator is told of the cluster: events in and out of order, lists, and repeats."""

from __future__ import annotations

from collections.abc import Callable, Collection

from world import owner

from evalrun_operator.strip import KINDS, Kind
from model_check import properties
from model_check.cluster import Cluster
from model_check.documents import Doc
from model_check.states import Draft, Memory

Doing = Callable[[Cluster], None]


def act(draft: Draft, doing: Doing) -> bool:
    """The rest of the cluster acts, and the operator is told of it, where its watch is not late.

    Returns whether anything has changed.
    """
    cluster = draft.cluster
    before = dict(cluster.objects)
    doing(cluster)
    objects = cluster.objects
    changed = {kind for kind, _ in before.keys() - objects.keys()}
    for key, document in objects.items():
        known = before.get(key)
        if known is document:
            continue
        if known is not None and _version(known) == _version(document):
            objects[key] = known  # it was looked at with intent to change it
        else:
            changed.add(key[0])
    if not changed:
        return False
    cluster.tally(before)
    for key in objects.keys() - before.keys():
        if key[0] == "Pod":
            uid = owner(objects[key], "Job")
            for job in properties.jobs_of_the_run(objects):
                if job["metadata"]["uid"] == uid:
                    properties.on_pods(cluster, job)
    if draft.memory is not None:
        for kind in KINDS:
            if kind in changed and draft.caches[kind] is None:
                tell(draft.memory, kind, before, objects)
    return True


def _version(document: Doc) -> tuple[str, str]:
    metadata = document["metadata"]
    return metadata["uid"], metadata["resourceVersion"]


def tell(
    memory: Memory,
    kind: Kind,
    before: dict[tuple[str, str], Doc],
    after: dict[tuple[str, str], Doc],
) -> None:
    """Events about what changed, each followed by the one before it, once more and too late."""
    for key, document in before.items():
        if key[0] == kind and after.get(key) is not document:
            found = after.get(key)
            if found is None or found["metadata"]["uid"] != document["metadata"]["uid"]:
                memory.forget(kind, document)
    for key, document in after.items():
        if key[0] == kind and before.get(key) is not document:
            memory.put(kind, document)
    for key, document in before.items():
        if key[0] == kind and after.get(key) is not document:
            memory.put(kind, document)


def hear(draft: Draft, before: dict[tuple[str, str], Doc]) -> None:
    """The watches tell of what the operator wrote, also where it had no answer."""
    assert draft.memory is not None
    for kind in KINDS:
        if draft.caches[kind] is None:
            tell(draft.memory, kind, before, draft.cluster.objects)


def repeat(draft: Draft) -> None:
    """A cache that is late tells once more of all that it holds, after the operator has written."""
    assert draft.memory is not None
    for kind, cache in draft.caches.items():
        for entry in cache or ():
            draft.memory.put(kind, entry.doc)


def relist(memory: Memory, kind: Kind, documents: Collection[Doc]) -> None:
    """The operator reads a whole list of a kind."""
    version = max((int(d["metadata"]["resourceVersion"]) for d in documents), default=0)
    memory.replace(kind, documents, version)
