"""Requests that kill whoever asks them: decided from what dead workers had in hand.

A worker that dies takes a chunk with it. Twice on the same chunk is no accident: from then on its
requests are asked one by one, so that the one to blame is alone when it strikes. What has killed
twice while alone is not asked again; the others are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from evalrun_api.journal import ErrorClass, RequestKey

STRIKES = 2
"""Deaths that make a chunk suspect, and that condemn a request asked alone."""


def mark(key: RequestKey, fingerprint: str) -> str:
    """A short name of a request, the same in every life."""
    return hashlib.sha256(f"{tuple(key)}{fingerprint}".encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Death:
    """How one life of a worker ended.

    error: what it died of. in_hand: marks of the requests that it was asking.
    """

    error: ErrorClass
    in_hand: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """How to go on with what is missing of a chunk, by position in it.

    condemned: requests not to be asked again, and what they do.
    order: the others, in the order in which to ask them.
    alone: whether to ask one by one.
    """

    condemned: dict[int, ErrorClass]
    order: list[int]
    alone: bool

    @property
    def is_usual(self) -> bool:
        """Whether it is asked as any other chunk."""
        return not self.alone


def judge(missing: Sequence[str], members: Sequence[str], deaths: Sequence[Death]) -> Verdict:
    """How to ask for what is missing of a chunk.

    missing, members: marks of the requests to be asked, and of all in the chunk.
    deaths: of all lives of this worker, in order.

    A request that has killed once while alone comes last: others are finished meanwhile, which
    shows that it is the request and not the machine.
    """
    chunk = set(members)
    fatal = sum(not chunk.isdisjoint(death.in_hand) for death in deaths)
    if fatal < STRIKES:
        return Verdict({}, list(range(len(missing))), alone=False)
    alone: dict[str, list[ErrorClass]] = {}
    for death in deaths:
        if len(death.in_hand) == 1:
            alone.setdefault(death.in_hand[0], []).append(death.error)
    strikes = [len(alone.get(mark, ())) for mark in missing]
    condemned = {
        position: alone[mark][-1]
        for position, mark in enumerate(missing)
        if strikes[position] >= STRIKES
    }
    order = sorted(
        (position for position in range(len(missing)) if position not in condemned),
        key=strikes.__getitem__,
    )
    return Verdict(condemned, order, alone=True)
