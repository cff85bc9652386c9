"""What becomes of a pod: drawn from a seed, or as its annotation says."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from evalrun_api.reasons import ExitCode

FATES_ANNOTATION: Final = "bench.example/fates"
"""Of a pod: a JSON list of the ends of the first attempts at its shard. Later ones succeed."""
SECONDS_ANNOTATION: Final = "bench.example/seconds"
"""Of a pod: how long it works."""

End = Literal["succeeds", "preempted", "evicted", "fails", "fails_for_good", "killed", "stopped"]
"""stopped: it was deleted, and had time to end."""
ENDS: Final[tuple[End, ...]] = get_args(End)

EXIT_CODES: Final[Mapping[End, int]] = {
    "succeeds": ExitCode.DONE,
    "preempted": ExitCode.STOPPED,
    "evicted": 137,
    "fails": ExitCode.STORE,
    "fails_for_good": ExitCode.INVALID,
    "killed": 137,
    "stopped": ExitCode.STOPPED,
}
COUNTED: Final[frozenset[End]] = frozenset({"fails", "killed"})
"""What a Job counts against the retry limit."""


@dataclass(frozen=True)
class Fate:
    """How a pod ends, and after how many seconds of work."""

    end: End
    seconds: float


@dataclass(frozen=True)
class Odds:
    """Of which fates are drawn.

    seconds: of work of a step's pods, by the step's name; "" for all others. jitter: by which part
    of that it may be more or less. shares: of pods that do not succeed.
    """

    seed: int = 0
    seconds: Mapping[str, float] = field(default_factory=lambda: {"": 2.0})
    jitter: float = 0.5
    shares: Mapping[End, float] = field(default_factory=dict)


def draw(odds: Odds, step: str, shard: str, attempt: int, annotations: Mapping[str, str]) -> Fate:
    """The fate of an attempt at a shard.

    It depends on nothing else, so that a seed gives the same whatever the order of events is.
    shard: a name for it that no other shard of any run has. attempt: from 0.
    """
    source = random.Random(f"{odds.seed} {step} {shard} {attempt}")
    seconds = odds.seconds.get(step, odds.seconds.get("", 0.0))
    seconds *= 1 + odds.jitter * source.uniform(-1, 1)
    if SECONDS_ANNOTATION in annotations:
        seconds = float(annotations[SECONDS_ANNOTATION])
    if FATES_ANNOTATION in annotations:
        told: list[End] = json.loads(annotations[FATES_ANNOTATION])
        return Fate(told[attempt] if attempt < len(told) else "succeeds", seconds)
    left = source.random()
    for end, share in odds.shares.items():
        left -= share
        if left < 0:
            return Fate(end, seconds * source.random())
    return Fate("succeeds", seconds)
