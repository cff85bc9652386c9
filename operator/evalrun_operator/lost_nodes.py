"""Pods that should have ended and have not, in words: who can tell that their node is dead."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from evalrun_api import reasons
from evalrun_operator.attempts import Attempt
from evalrun_operator.case import Case
from evalrun_operator.decisions import END

PATIENCE_SECONDS = 60.0
"""How long a pod may be there after its time to stop is over."""
NODE_LOSS_RIGHTS = "give it the rights of config/node-loss, or take out nodeLossSeconds"


def is_lost(case: Case, attempt: Attempt) -> bool:
    """Whether a pod is long past its end. The API server's deadline includes its time to stop."""
    return _left(case, attempt) <= 0


def lost_node(case: Case, attempts: Iterable[Attempt]) -> tuple[str, str] | None:
    """Reason and message, where pods are long past their end."""
    lost = [each for each in attempts if is_lost(case, each) or _refusal(case, each) is not None]
    if not lost:
        return None
    first = min(lost, key=lambda attempt: attempt.name)
    what = f"pod {first.name} should have ended by {first.delete_by:%Y-%m-%d %H:%M:%S} UTC"
    if len(lost) > 1:
        what += f", and {len(lost) - 1} more likewise"
    return reasons.NODE_LOST.name, f"{what}. {_remedy(case, first)}"


def _remedy(case: Case, lost: Attempt) -> str:
    """Who ends it: the operator where it is configured so and may, else a person."""
    limit, due = case.config.node_loss_seconds, lost.delete_by
    text = _refusal(case, lost)
    if limit is None or due is None:
        return reasons.NODE_LOST.remedy
    if text is not None:
        return f"The operator may not end it ({text}): {NODE_LOSS_RIGHTS}"
    return f"The operator gives it up at {due + timedelta(seconds=limit):%H:%M:%S} UTC"


def _refusal(case: Case, attempt: Attempt) -> str | None:
    """Why the API server does not let the operator end a pod that never ends."""
    if attempt.delete_by is None or attempt.state not in ("Waiting", "Running"):
        return None
    return case.observed.refused.get(f"{END}pod/{attempt.name}")


def look_again_seconds(case: Case, attempts: Iterable[Attempt]) -> float | None:
    """Until the next pod is long past its end; None where none is ending."""
    left = [_left(case, attempt) for attempt in attempts]
    return min((seconds + 0.1 for seconds in left if 0 < seconds < float("inf")), default=None)


def _left(case: Case, attempt: Attempt) -> float:
    if attempt.delete_by is None or attempt.state not in ("Waiting", "Running"):
        return float("inf")
    return PATIENCE_SECONDS - (case.now - attempt.delete_by).total_seconds()
