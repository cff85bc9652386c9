"""The status of a run, whole, for each thing that can be decided about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from evalrun_api.status import Phase
from evalrun_api.termination import TerminationMessage
from evalrun_operator import conditions, summary, usage
from evalrun_operator.attempts import Attempt
from evalrun_operator.case import Case
from evalrun_operator.conditions import Verdict, timestamp
from evalrun_operator.decisions import Doc
from evalrun_operator.outcomes import Failure
from evalrun_operator.progress import progress_status
from evalrun_operator.steps import ALL, ANSWER, ANSWERING
from evalrun_operator.text import tidy

TURNING_POINTS = (
    *("step", "startTime", "completionTime", "planDigest", "resumes"),
    *("results", "scores"),
)


def working(
    case: Case, phase: Phase, message: str, stalled: tuple[str, str] | None = None, **fields: Any
) -> Doc:
    """Of a run that is under way. fields: of the status, where they change.

    `reason` among them is the conditions' own, where that says more than the phase.
    """
    verdicts = conditions.at_work(fields.pop("reason", phase), message, stalled)
    return _status(case, verdicts, answered=phase == "Scoring", phase=phase, **fields)


def in_line(case: Case, message: str, position: int, **fields: Any) -> Doc:
    """Of a run that waits for a cap. fields: of the status, where they change."""
    verdicts = conditions.in_line(message)
    fields |= {"phase": "Queued", "queuePosition": position}
    return _status(case, verdicts, answered=False, **fields)


def suspended(
    case: Case, stopped: bool, stalled: tuple[str, str] | None = None, **fields: Any
) -> Doc:
    """Of a suspended run. stopped: whether its pods are gone. stalled: why they cannot go."""
    message = (
        "suspended; finished answers are stored, set suspend: false to go on"
        if stopped
        else "stopping: pods store what is finished and end"
    )
    verdicts = conditions.suspended(stopped, stalled[1] if stalled else message, stalled)
    return _status(case, verdicts, answered=False, phase="Suspended", **fields)


def succeeded(case: Case, message: TerminationMessage, results: Doc, **fields: Any) -> Doc:
    """Of a run that has its results."""
    scores = message.scores
    told = summary.headline(scores) or "scored"
    trusted = message.trusted is True
    found = summary.invalid_text(message) or "answers are empty or failed"
    allowed = "integrity.maxInvalidFraction of a benchmark allows"
    doubt = f"{found}: more than {allowed}"
    if trusted:
        doubt = f"{found}: no more than {allowed}" if summary.invalid_text(message) else ""
    verdicts = conditions.succeeded(trusted, told, doubt)
    fields |= {
        "phase": "Succeeded",
        "completionTime": timestamp(case.now),
        "results": results,
        "scores": summary.scores_status(message),
        "headline": tidy(told) if scores else None,
    }
    return _status(case, verdicts, answered=True, **fields)


def failed(case: Case, failure: Failure, **fields: Any) -> Doc:
    """Of a run that is given up."""
    verdicts = conditions.failed(failure.reason.name, failure.message)
    fields |= {"phase": "Failed", "completionTime": timestamp(case.now)}
    return _status(case, verdicts, answered=False, **fields)


def refused(document: Doc, failure: Failure, now: Any) -> Doc:
    """Of a run whose spec cannot even be read."""
    before = {k: v for k, v in (document.get("status") or {}).items() if k != "queuePosition"}
    generation = document["metadata"].get("generation") or 0
    verdicts = conditions.failed(failure.reason.name, failure.message)
    return {
        **before,
        "observedGeneration": generation,
        "phase": "Failed",
        "completionTime": timestamp(now),
        "conditions": conditions.merge(before.get("conditions") or (), verdicts, generation, now),
    }


def is_urgent(before: Doc, after: Doc) -> bool:
    """Whether a change of status cannot wait: everything but progress, counts and messages."""
    new_phase = before.get("phase") != after.get("phase")
    return new_phase or is_turning_point(before, after) or _said(before) != _said(after)


def is_turning_point(before: Doc, after: Doc) -> bool:
    """Whether a change of status tells of a new step in the run's life, or of its end.

    Not that its Job was evicted from its queue, or goes on: whoever is evicted comes no further.
    """
    phases = (before.get("phase"), after.get("phase"))
    evicted = "Queued" in phases and (after.get("queue") or {}).get("evictions")
    new_phase = phases[0] != phases[1] and not evicted
    return new_phase or any(before.get(name) != after.get(name) for name in TURNING_POINTS)


def _said(status: Doc) -> set[tuple[str, str, str]]:
    return {
        (entry["type"], entry["status"], entry["reason"])
        for entry in status.get("conditions") or ()
    }


def _status(case: Case, verdicts: Iterable[Verdict], *, answered: bool, **fields: Any) -> Doc:
    """The status as it was, with what is known now and `fields` in their place."""
    before, spec = case.status, case.run.spec
    generation = case.document["metadata"].get("generation") or 0
    answering = [attempt for attempt in case.attempts if attempt.command in ANSWERING]
    messages = case.messages()
    job = case.job(ANSWER) or case.job(ALL)
    verdicts = list(verdicts)
    if case.is_resumed:
        fields["resumes"] = case.resumes
        verdicts += conditions.resumed()
    progress = progress_status(
        before.get("progress") or {},
        case.attempts,
        case.observed.progress,
        case.requests_total,
        answered=answered,
    )
    status: Doc = {
        **before,
        "observedGeneration": generation,
        "model": tidy(summary.model_text(spec)),
        "benchmarks": tidy(summary.benchmarks_text(spec)),
        "progress": progress,
        "answers": summary.answers_status(
            before.get("answers") or {}, messages, (progress or {}).get("requestsDone", 0)
        ),
        "provenance": summary.provenance_status(
            before.get("provenance") or {}, messages, _image(answering)
        ),
        "shards": summary.shards_status(
            job,
            answering,
            spec.parallelism.shards,
            case.ledger,
            before.get("shards") or {},
            _worker_restarts(case),
        ),
        "gonePods": usage.record(case.gone, case.forgiven),
        "usage": usage.usage_status(
            case.ledger,
            [message.judge for message in messages if message.judge is not None],
            case.config,
            before.get("usage") or {},
        ),
        "time": usage.time_status(
            case.ledger, usage.added(before.get("time") or {}, fields.pop("stages", {}))
        ),
        "queuePosition": None,
        **fields,
        "conditions": conditions.merge(
            before.get("conditions") or (), verdicts, generation, case.now
        ),
    }
    return {name: value for name, value in status.items() if value not in (None, [], "")}


def _worker_restarts(case: Case) -> int:
    """Of the pods at work, as they last said."""
    progress = case.observed.progress
    return sum(progress[a.uid].restarts for a in case.attempts if a.at_work and a.uid in progress)


def _image(attempts: list[Attempt]) -> str | None:
    return next((attempt.image_id for attempt in attempts if attempt.image_id), None)
