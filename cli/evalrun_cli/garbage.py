"""Which stored answers nobody needs any more: the decision behind `evalrun gc`, without I/O.

Answers are shared: they lie under the digest of all that can change them, and any number of runs
refer to them. So they are garbage only when no run refers to them, or when every run that does
has kept them for as long as it asked to. What cannot be known speaks for keeping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from evalrun_api.plan import RunIdentity
from evalrun_cli import durations

UNREFERENCED_AGE = timedelta(days=1)
"""Prepare writes the answers' folder before the run that refers to it is complete."""
UNFINISHED_AGE = timedelta(days=7)
"""A run without a manifest may still be at work, or suspended, for so long after its last word."""


@dataclass(frozen=True)
class Use:
    """A run that refers to answers.

    finished: when its manifest says that it was completed; None without one.
    touched: when the last of its own objects was written.
    retention: how long it keeps answers after their last use; None for ever.
    """

    run: RunIdentity
    finished: datetime | None
    touched: datetime
    retention: timedelta | None


@dataclass(frozen=True)
class Answers:
    """What the store holds under one digest.

    keys: of its objects, in order. benchmarks: from its lock; empty where that cannot be read.
    modified: when the last of its objects was written.
    """

    namespace: str
    digest: str
    keys: tuple[str, ...]
    bytes: int
    modified: datetime
    benchmarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """Whether answers are garbage, and why or why not."""

    answers: Answers
    uses: tuple[Use, ...]
    last_used: datetime
    is_garbage: bool
    why: str


def judge(
    answers: Answers, uses: Sequence[Use], now: datetime, older_than: timedelta | None = None
) -> Verdict:
    """Decide about the answers of one digest.

    older_than: answers whose last use is longer ago are garbage even where runs keep them longer.
    """
    last_used = max([answers.modified, *(use.finished or use.touched for use in uses)])
    idle = now - last_used
    ago = f"last used {_span(idle)} ago"

    def verdict(garbage: bool, why: str) -> Verdict:
        return Verdict(answers, tuple(uses), last_used, garbage, why)

    if not uses:
        if idle < UNREFERENCED_AGE:
            return verdict(False, f"no run refers to it yet: written {_span(idle)} ago")
        return verdict(True, "no run refers to it")
    for use in uses:
        quiet = now - max(use.touched, answers.modified)
        if use.finished is None and quiet < UNFINISHED_AGE:
            return verdict(False, f"run {use.run.name} has no manifest and may be at work")
    if older_than is not None:
        if idle > older_than:
            return verdict(True, f"{ago}, --older-than {_span(older_than)}")
        return verdict(False, f"{ago}, --older-than {_span(older_than)}")
    keeping = [use.retention for use in uses]
    if any(retention is None for retention in keeping):
        return verdict(False, "a run keeps it: it sets no answersRetentionSeconds")
    longest = max(retention for retention in keeping if retention is not None)
    return verdict(idle > longest, f"{ago}, kept for {_span(longest)}")


def to_delete(answers: Answers) -> list[str]:
    """The keys in the order in which they are deleted.

    The segments go last to first, then the files that answers name, the lock at the end: whoever
    finds what a cut-off deletion left finds a journal that is merely incomplete.
    """

    def place(key: str) -> int:
        name = key.removeprefix(f"answers/{answers.namespace}/{answers.digest}/")
        return 0 if name.startswith("segments/") else 2 if name == "lock.json" else 1

    return sorted(sorted(answers.keys, reverse=True), key=place)


def kept(verdict: Verdict, why: str) -> Verdict:
    """The same answers, kept for another reason."""
    return replace(verdict, is_garbage=False, why=why)


def _span(span: timedelta) -> str:
    return durations.age(span.total_seconds())
