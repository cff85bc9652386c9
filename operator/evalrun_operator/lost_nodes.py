"""Pods that should have ended and have not: nobody but a person can tell that a node is dead."""

from __future__ import annotations

from collections.abc import Iterable

from evalrun_api import reasons
from evalrun_operator.attempts import Attempt
from evalrun_operator.case import Case

PATIENCE_SECONDS = 60.0
"""How long a pod may be there after its time to stop is over."""


def is_lost(case: Case, attempt: Attempt) -> bool:
    """Whether a pod is long past its end. The API server's deadline includes its time to stop."""
    return _left(case, attempt) <= 0


def lost_node(case: Case, attempts: Iterable[Attempt]) -> tuple[str, str] | None:
    """Reason and message, where pods are long past their end."""
    lost = [attempt for attempt in attempts if is_lost(case, attempt)]
    if not lost:
        return None
    first = min(lost, key=lambda attempt: attempt.name)
    what = f"pod {first.name} should have ended by {first.delete_by:%Y-%m-%d %H:%M:%S} UTC"
    if len(lost) > 1:
        what += f", and {len(lost) - 1} more likewise"
    return reasons.NODE_LOST.name, f"{what}. {reasons.NODE_LOST.remedy}"


def look_again_seconds(case: Case, attempts: Iterable[Attempt]) -> float | None:
    """Until the next pod is long past its end; None where none is ending."""
    left = [_left(case, attempt) for attempt in attempts]
    return min((seconds + 0.1 for seconds in left if 0 < seconds < float("inf")), default=None)


def _left(case: Case, attempt: Attempt) -> float:
    if attempt.delete_by is None or attempt.state not in ("Waiting", "Running"):
        return float("inf")
    return PATIENCE_SECONDS - (case.now - attempt.delete_by).total_seconds()
