"""What a run that is under way is doing, in a phase and in words."""

from __future__ import annotations

from evalrun_api.plan import RunPlan
from evalrun_api.status import Phase
from evalrun_operator import status as statuses
from evalrun_operator.case import Case
from evalrun_operator.conditions import timestamp
from evalrun_operator.decisions import Doc
from evalrun_operator.steps import ALL, PHASES, StepKind


def at_work(
    case: Case,
    kind: StepKind,
    message: str,
    fields: Doc,
    stalled: tuple[str, str] | None = None,
    queued: str | None = None,
) -> Doc:
    """The status of a run whose step is at work. stalled: reason and message.

    queued: why its Job waits in a queue instead, in one word.
    """
    phase: Phase = _phase_of_all(case) if kind is ALL else kind.phase
    if queued is not None:
        fields = {"reason": queued, **fields}
        phase = "Queued"
    begun = case.status.get("startTime") or timestamp(case.now)
    fields = {"step": kind.step, "startTime": begun, **fields}
    return statuses.working(case, phase, message, stalled, **fields)


def _phase_of_all(case: Case) -> Phase:
    """Of one process that does it all: as it says itself, and never backwards."""
    order = list(PHASES.values())
    said = [PHASES[live.step] for live in case.observed.progress.values() if live.step in PHASES]
    before = case.status.get("phase")
    return max([order[0], *said, *([before] if before in order else [])], key=order.index)


def starting(kind: StepKind, plan: RunPlan) -> str:
    """What is about to begin."""
    return {
        "prepare": "checking the store, the model and the benchmarks",
        "answer": f"starting {plan.shards} shard{'s' * (plan.shards > 1)}",
        "score": "scoring the answers",
        "all": "starting",
    }[kind.command]


def activity(case: Case, job: Doc, kind: StepKind, plan: RunPlan) -> str:
    """What the pods do, in their own words where there is one, in numbers where there are more."""
    running = [attempt for attempt in case.attempts_of(job) if attempt.at_work]
    if plan.shards > 1 and kind.indexed:
        return f"{len(running)} of {plan.shards} shards at work"
    if not running:
        return "the pod is starting"
    progress = case.observed.progress
    said = [progress[attempt.uid].activity for attempt in running if attempt.uid in progress]
    return said[-1] if said and said[-1] else "the pod is at work"
