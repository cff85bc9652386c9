"""lmms-eval's requests as the journal sees them: a key, a fingerprint, chunks.

`Instance.arguments` differ by request type; what is callable in them (how to show or render a
document) is decided by the task's code and the document, whose digests are in the lock, so it
enters the fingerprint as a mark only.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evalrun_api.digests import feed
from evalrun_api.journal import RequestKey

FINGERPRINT_DIGITS = 32
AGENTIC = "generate_until_agentic"
"""The request type of a conversation between model and tools: see `agentic`."""


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the model. `instance` is lmms-eval's; repeats share one."""

    key: RequestKey
    fingerprint: str
    instance: Any

    @property
    def task(self) -> str:
        """lmms-eval task."""
        return self.key.task


@dataclass(frozen=True, slots=True)
class Chunk:
    """Requests of one task that are asked and journaled together.

    Membership follows from the request list and the chunk size alone, so it is the same for any
    number of shards and after any restart.
    """

    number: int
    requests: Sequence[Request]


def keyed(group: str, request_type: str, instances: Sequence[Any]) -> list[Request]:
    """The requests of one type, in lmms-eval's order.

    A repeated request stands in the list several times as the same object; two different requests
    under the same task, document and idx get different ordinals.
    """
    repeats: Counter[int] = Counter()
    ordinals: Counter[tuple[str, int, int]] = Counter()
    known: dict[int, tuple[int, str]] = {}
    found = []
    for instance in instances:
        identity = id(instance)
        task, doc_id, idx = str(instance.task_name), int(instance.doc_id), int(instance.idx)
        if identity not in known:
            known[identity] = (ordinals[task, doc_id, idx], fingerprint(request_type, instance))
            ordinals[task, doc_id, idx] += 1
        ordinal, mark = known[identity]
        key = RequestKey(group, task, request_type, doc_id, idx, repeats[identity], ordinal)
        repeats[identity] += 1
        found.append(Request(key, mark, instance))
    return found


def fingerprint(request_type: str, instance: Any) -> str:
    """What the model is asked: request type, prompt, generation arguments, document."""
    hasher = hashlib.sha256()
    feed(hasher, request_type)
    feed(hasher, _plain(instance.args))
    feed(hasher, _plain(instance.metadata.get("split")))
    return hasher.hexdigest()[:FINGERPRINT_DIGITS]


def _plain(value: Any) -> Any:
    if callable(value):
        return "<callable>"
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def combined(requests: Sequence[Request]) -> str:
    """sha256 over the keys and fingerprints of requests, in order."""
    hasher = hashlib.sha256()
    for request in requests:
        feed(hasher, [*request.key[1:], request.fingerprint])
    return hasher.hexdigest()


def by_task(requests: Sequence[Request]) -> dict[str, list[Request]]:
    """Requests by task, tasks in the order of their first request."""
    found: dict[str, list[Request]] = {}
    for request in requests:
        found.setdefault(request.task, []).append(request)
    return found


def chunks(requests: Sequence[Request], size: int) -> Iterator[Chunk]:
    """Requests in chunks of about `size`; no chunk holds requests of two tasks.

    Backends look documents up by the first request's task, so mixed batches would be wrong.
    """
    number = 0
    for of_task in by_task(requests).values():
        for part in _parts(of_task, size):
            yield Chunk(number, part)
            number += 1


def _parts(requests: list[Request], size: int) -> Iterator[list[Request]]:
    """One task's requests, cut.

    Between documents where each answer is a whole conversation. Elsewhere never between the
    repeats of a request, which plain lmms-eval hands over in one list: there may be a few fewer
    than `size`, or more where one request alone has more repeats.
    """
    start = 0
    while start < len(requests):
        first = requests[start]
        end = min(start + size, len(requests))
        if first.key.request_type == AGENTIC:
            end = start + 1
            while end < len(requests) and requests[end].key.doc_id == first.key.doc_id:
                end += 1
        elif end < len(requests) and requests[end].instance is requests[end - 1].instance:
            while end > start and requests[end - 1].instance is requests[end].instance:
                end -= 1
            if end == start:
                while end < len(requests) and requests[end].instance is first.instance:
                    end += 1
        yield requests[start:end]
        start = end
