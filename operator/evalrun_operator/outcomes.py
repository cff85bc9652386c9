"""How a step's Job ended, and why: from its conditions, its pods and what they left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from evalrun_api import reasons
from evalrun_api.reasons import PERMANENT, REASONS, ExitCode, Reason
from evalrun_operator.attempts import Attempt, parse_time
from evalrun_operator.decisions import Doc
from evalrun_operator.text import tidy

SIGKILL_CODE = 137


@dataclass(frozen=True)
class Failure:
    """Why a run fails, for programs and for people."""

    reason: Reason
    message: str


def condition_of(job: Doc, kind: str) -> Doc | None:
    """The Job's condition of a type, if it holds."""
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition.get("type") == kind and condition.get("status") == "True":
            found: Doc = condition
            return found
    return None


def is_finished(job: Doc) -> bool:
    """Whether the Job has ended, either way: it will start no pod."""
    return condition_of(job, "Complete") is not None or condition_of(job, "Failed") is not None


def is_deleting(job: Doc) -> bool:
    """Whether the Job is being deleted."""
    return bool(job["metadata"].get("deletionTimestamp"))


def ended_at(job: Doc) -> datetime | None:
    """When the Job ended."""
    condition = condition_of(job, "Complete") or condition_of(job, "Failed")
    return parse_time(condition.get("lastTransitionTime")) if condition else None


def failure_of(job: Doc, attempts: Sequence[Attempt], deadline_seconds: int | None) -> Failure:
    """Why a failed Job failed. `attempts`: of its pods."""
    condition = condition_of(job, "Failed") or {}
    if condition.get("reason") == "DeadlineExceeded":
        limit = f" of {deadline_seconds} s" if deadline_seconds else ""
        what = f"spec.activeDeadlineSeconds: the run's time{limit} is used up"
        return Failure(reasons.DEADLINE_EXCEEDED, _with_remedy(what, reasons.DEADLINE_EXCEEDED))
    culprit = _culprit(attempts)
    if culprit is None:
        what = tidy(condition.get("message") or "the Job failed")
        return Failure(reasons.POD_LOST, _with_remedy(what, reasons.POD_LOST))
    return failure_of_attempt(culprit, len(attempts) > 1)


def failure_of_attempt(attempt: Attempt, among_others: bool = False) -> Failure:
    """Why an attempt failed."""
    where = f"pod {attempt.name}" if among_others else f"the {attempt.command} pod"
    if attempt.exit_reason == "OOMKilled":
        doing = f" while it was at step {attempt.message.step}" if attempt.message else ""
        what = f"{where} was killed for want of memory{doing}"
        return Failure(reasons.OUT_OF_MEMORY, _with_remedy(what, reasons.OUT_OF_MEMORY))
    if attempt.exit_reason in ("StartError", "ContainerCannotRun"):
        what = f"{where}: {tidy(attempt.exit_text)}"
        return Failure(
            reasons.CONTAINER_START_FAILED, _with_remedy(what, reasons.CONTAINER_START_FAILED)
        )
    said = attempt.message
    if said is not None and said.outcome == "Failed":
        reason = REASONS.get(said.reason, reasons.INTERNAL_ERROR)
        if reason.exit_code not in (ExitCode.DONE, ExitCode.STOPPED):
            return Failure(reason, tidy(said.message, 2048) or reason.meaning)
    code = attempt.exit_code
    if code is None or code == SIGKILL_CODE or attempt.exit_reason == "ContainerStatusUnknown":
        what = f"{where} was ended by force and left no word"
        if attempt.exit_text and said is None:
            what += f" ({tidy(attempt.exit_text, 300)})"
        return Failure(reasons.POD_LOST, _with_remedy(what, reasons.POD_LOST))
    what = f"{where} ended with exit code {code} and gave no reason"
    return Failure(reasons.INTERNAL_ERROR, _with_remedy(what, reasons.INTERNAL_ERROR))


def _culprit(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that tells best why the Job failed: a permanent failure, else the last one."""
    failed = [attempt for attempt in attempts if attempt.counts_as_failure]
    if not failed:
        return None

    def rank(attempt: Attempt) -> tuple[bool, bool, float]:
        permanent = attempt.exit_code in PERMANENT
        # When a Job gives up it ends the other shards' pods; those tell nothing.
        own_end = not attempt.deleting
        ended = attempt.ended_at.timestamp() if attempt.ended_at else 0.0
        return (permanent, own_end, ended)

    return max(failed, key=rank)


def _with_remedy(what: str, reason: Reason) -> str:
    return f"{what}. {reason.remedy}"
