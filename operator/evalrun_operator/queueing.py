"""A run waits in line for a cap: it says so, rarely, and costs nothing else."""

from __future__ import annotations

from evalrun_operator import status as statuses
from evalrun_operator.case import Case
from evalrun_operator.decisions import Doc, Plan, Waiting


def waits_still(case: Case) -> Plan | None:
    """The Plan for a run that waits and was found to be in order before; None for any other.

    Its spec is the one that was looked at then, so nothing has to be read or planned anew.
    """
    seen = case.status.get("observedGeneration") == case.document["metadata"].get("generation")
    told = case.status.get("queuePosition")
    if case.observed.waiting is None or told is None or not seen:
        return None
    if _is_near(case.observed.waiting, told):
        return Plan()
    return wait_in_line(case, case.observed.waiting, {})


def wait_in_line(case: Case, waiting: Waiting, fields: Doc) -> Plan:
    """Say where the run waits and for what."""
    return Plan(status=statuses.in_line(case, waiting.why, waiting.position, **fields))


def _is_near(waiting: Waiting, told: int) -> bool:
    """Whether the place that was told need not be told anew.

    One that halves before it is told again is told 14 times in a line of 10,000, however long that
    takes. The next one is told at each look what it waits for: there is one in a namespace.
    """
    if waiting.position == 1:
        return False
    return told < 2 * waiting.position and waiting.position < 2 * told
