"""What the run needs and cannot have for now: it is told, tried again, and given up in time."""

from __future__ import annotations

from evalrun_api import reasons
from evalrun_api.reasons import Reason
from evalrun_api.status import Phase
from evalrun_operator import status as statuses
from evalrun_operator.case import Case
from evalrun_operator.decisions import Plan
from evalrun_operator.endings import LOOK_AGAIN_SECONDS, fail
from evalrun_operator.outcomes import Failure

BENCHMARK_RETRY_SECONDS = 15.0


def wait_for_benchmarks(case: Case, absent: list[str]) -> Plan:
    """A manifest may hold a run before its Benchmark, so it gets as long as a pod gets to start."""
    what = f"there is no Benchmark {', '.join(absent)} in namespace {case.run.metadata.namespace}"
    unreadable = [case.observed.refused.get(f"benchmark/{name}") for name in absent]
    what = "\n".join(text for text in unreadable if text) or what
    reason = reasons.BENCHMARK_NOT_FOUND
    left = case.run.spec.start_deadline_seconds - case.stalled_seconds(reason)
    if left <= 0:
        return fail(case, Failure(reason, f"{what}. {reason.remedy}"))
    status = statuses.working(case, "Pending", what, (reason.name, f"{what}. {reason.remedy}"))
    again = min(left + 0.1, BENCHMARK_RETRY_SECONDS)
    return Plan(status=status, requeue_after=again, stands_aside=True)


def refused_create(case: Case, name: str) -> Plan | None:
    """The API server refuses an object: say so first, then try again until the deadline."""
    return _told_first(case, name, reasons.CREATE_REFUSED)


def unreadable(case: Case, name: str) -> Plan | None:
    """An object of the run is there and is of no use: likewise, for a person may mend it."""
    return _told_first(case, name, reasons.CORRUPT_STORE)


def _told_first(case: Case, name: str, reason: Reason) -> Plan | None:
    text = case.observed.refused.get(name)
    if text is None:
        return None
    waited = case.stalled_seconds(reason)
    if waited > case.run.spec.start_deadline_seconds:
        return fail(case, Failure(reason, f"{name}: {text}. {reason.remedy}"))
    if case.is_stalled(reason):
        return None
    is_going = case.phase not in (None, "Queued") and not case.is_resumed
    phase: Phase = case.phase if case.phase and is_going else "Pending"
    stalled = (reason.name, f"{name}: {text}. {reason.remedy}")
    status = statuses.working(case, phase, f"{name}: {text}", stalled)
    return Plan(status=status, requeue_after=LOOK_AGAIN_SECONDS)
