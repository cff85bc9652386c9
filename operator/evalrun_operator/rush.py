"""What comes first while runs come in a rush: their first Jobs, before all words about them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from evalrun_operator.attempts import parse_time
from evalrun_operator.decisions import Action, CreateJob, DeleteJob, Doc, Observed, Plan
from evalrun_operator.outcomes import is_finished

MANY: Final = 20
WITHIN_SECONDS: Final = 1.0
"""So many new runs within so long are a rush."""
LATER_SECONDS: Final = 2.0
"""Until the next look at a run of which something was left for later."""
UNTOLD_SECONDS: Final = 10.0
"""Since its first Job was created, after which a run is told that it has begun, whatever comes; of
one that waits for a cap, since it was applied."""


class Rush:
    """Whether runs come in a rush: then what can wait is left for when it is over.

    A rush exhausts the API server, long before runs wait for a worker of the operator. clock:
    seconds that only grow. crowded: whether runs wait for a worker all the same.
    """

    def __init__(self, clock: Callable[[], float], crowded: Callable[[], bool]) -> None:
        self._clock = clock
        self._crowded = crowded
        self._last: deque[float] = deque(maxlen=MANY)

    def came(self, run: Doc) -> None:
        """A run was seen."""
        if not run.get("status"):
            self._last.append(self._clock())

    @property
    def is_on(self) -> bool:
        """Whether many new runs have come a moment ago, or wait."""
        many = len(self._last) == MANY
        return (many and self._clock() - self._last[0] < WITHIN_SECONDS) or self._crowded()


def is_told_later(observed: Observed, now: datetime) -> bool:
    """Whether a run has just got its first Job, or waits in line: nothing is urgent in a rush.

    The next look keeps the plan and writes the status, with what has become of the pod by then. So
    it would had the process ended after the Job was created.
    """
    if observed.run.get("status") or (observed.run.get("spec") or {}).get("suspend"):
        return False
    if any(is_finished(job) for job in observed.jobs.values()):
        return False
    # Who waits for a cap has no Job, and learns its place when the rush is over.
    since = [observed.run] if observed.waiting is not None else [*observed.jobs.values()]
    begun = [parse_time(one["metadata"].get("creationTimestamp")) for one in since]
    ages = [abs((now - at).total_seconds()) for at in begun if at is not None]
    return bool(ages) and max(ages) < UNTOLD_SECONDS


def what_cannot_wait(observed: Observed, plan: Plan) -> Sequence[Action] | None:
    """The actions of a Plan that come first in a rush; None for all of it.

    Of a run that gets its first Job the rest can wait.
    """
    if observed.run.get("status"):
        return None
    if any(isinstance(action, DeleteJob) for action in plan.actions):
        return None
    for position, action in enumerate(plan.actions, 1):
        if isinstance(action, CreateJob):
            return plan.actions[:position]
    return None
