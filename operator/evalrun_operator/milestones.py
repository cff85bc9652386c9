"""How long a run took to get somewhere, from two statuses written after one another. Pure.

Each milestone is passed once in what the API server holds, so none is counted twice, by whichever
replica. One whose write was answered to nobody is not counted at all.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

from evalrun_operator.attempts import parse_time
from evalrun_operator.decisions import Doc

Name = Literal["Begun", "Admitted", "Answering"]


class Milestone(NamedTuple):
    """Begun: its first Job was asked for, this long after it was applied. Admitted: a Job had its
    quota, this long after it began to wait for it. Answering: the first answer was told, this long
    after the run was applied.
    """

    name: Name
    seconds: float


def milestones(before: Doc, after: Doc, now: datetime) -> list[Milestone]:
    """What a run has passed. before, after: the run with either status."""
    old, new = before.get("status") or {}, after.get("status") or {}
    applied = parse_time(after["metadata"].get("creationTimestamp"))
    begun = parse_time(new.get("startTime"))
    found = []
    if begun and applied and not old.get("startTime") and not _was_suspended(old):
        found.append(Milestone("Begun", _between(applied, begun)))
    if (admitted := _admitted_job(new)) and admitted != _admitted_job(old):
        waited = _queue_seconds(new) - _queue_seconds(old)
        found.append(Milestone("Admitted", max(float(waited), 0.0)))
    if applied and _done(new) and not _done(old) and not _was_suspended(new):
        found.append(Milestone("Answering", _between(applied, now)))
    return found


def _was_suspended(status: Doc) -> bool:
    """How long a person let it lie says nothing of the operator."""
    return any(entry.get("type") == "Suspended" for entry in status.get("conditions") or ())


def _admitted_job(status: Doc) -> str | None:
    queue = status.get("queue") or {}
    return queue.get("job") if queue.get("state") == "Admitted" else None


def _queue_seconds(status: Doc) -> int:
    return int((status.get("time") or {}).get("queue") or 0)


def _done(status: Doc) -> int:
    return int((status.get("progress") or {}).get("requestsDone") or 0)


def _between(begun: datetime, ended: datetime) -> float:
    return max((ended - begun).total_seconds(), 0.0)
