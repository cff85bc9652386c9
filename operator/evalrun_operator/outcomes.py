"""How a step's Job ended, and why: from its conditions, its pods and what they left."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from evalrun_api import reasons
from evalrun_api.reasons import PERMANENT, REASONS, ExitCode, Reason
from evalrun_operator.attempts import Attempt, parse_time
from evalrun_operator.decisions import Doc
from evalrun_operator.steps import ANSWERING
from evalrun_operator.text import tidy

SIGNALLED = 128
"""Exit codes above it are those of a process that a signal ended; the rest is the signal."""
SIGKILL_CODE = SIGNALLED + signal.SIGKILL
CRASHES = frozenset(
    {
        *(signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
        signal.SIGTRAP,
    }
)
"""What a process does to itself: a fault in native code, of the backend or of its driver."""


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


def is_suspended(job: Doc) -> bool:
    """Whether the Job may have no pods now: it waits in a queue, or somebody suspended it."""
    return bool((job.get("spec") or {}).get("suspend"))


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
    """Why an attempt failed.

    A container is called OOMKilled when any process of it was killed for memory, also where the
    runner lived, started that worker anew, and ended later for a reason of its own. So the runner's
    last word comes first, unless it was killed itself.
    """
    where = f"pod {attempt.name}" if among_others else f"the {attempt.command} pod"
    said, code = attempt.message, attempt.exit_code
    has_ended_itself = said is not None and said.outcome == "Failed" and code != SIGKILL_CODE
    if attempt.exit_reason == "OOMKilled" and not has_ended_itself:
        what = f"{where} was killed for want of memory{_doing(attempt)}"
        return Failure(reasons.OUT_OF_MEMORY, _with_remedy(what, reasons.OUT_OF_MEMORY))
    if attempt.exit_reason in ("StartError", "ContainerCannotRun"):
        what = f"{where}: {tidy(attempt.exit_text)}"
        return Failure(
            reasons.CONTAINER_START_FAILED, _with_remedy(what, reasons.CONTAINER_START_FAILED)
        )
    if said is not None and said.outcome == "Failed":
        reason = REASONS.get(said.reason, reasons.INTERNAL_ERROR)
        if reason.exit_code not in (ExitCode.DONE, ExitCode.STOPPED):
            return Failure(reason, tidy(said.message, 2048) or reason.meaning)
    if code is None or code == SIGKILL_CODE or attempt.exit_reason == "ContainerStatusUnknown":
        what = f"{where} was ended by force{_doing(attempt)} and left no word"
        if attempt.exit_text and said is None:
            what += f" ({tidy(attempt.exit_text, 300)})"
        return Failure(reasons.POD_LOST, _with_remedy(what, reasons.POD_LOST))
    if code - SIGNALLED in CRASHES:
        name = signal.Signals(code - SIGNALLED).name
        what = f"{where} crashed ({name}, exit code {code}){_doing(attempt)}"
        crashed = reasons.WORKER_FAILED if attempt.command in ANSWERING else reasons.INTERNAL_ERROR
        return Failure(crashed, _with_remedy(what, crashed))
    what = f"{where} ended with exit code {code}{_doing(attempt)} and gave no reason"
    return Failure(reasons.INTERNAL_ERROR, _with_remedy(what, reasons.INTERNAL_ERROR))


def _doing(attempt: Attempt) -> str:
    """At which step a process was that left no last word, where its message tells."""
    said = attempt.message
    return f" while it was at step {said.step}" if said is not None else ""


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
