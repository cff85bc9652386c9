"""Nothing waits for ever: whether the pods of a Job start, and in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from evalrun_api import reasons
from evalrun_api.reasons import Reason
from evalrun_operator.attempts import Attempt, parse_time
from evalrun_operator.case import Case
from evalrun_operator.decisions import Doc
from evalrun_operator.lost_nodes import look_again_seconds, lost_node
from evalrun_operator.outcomes import Failure, condition_of
from evalrun_operator.waiting import Wait, wait_of

PATIENCE_SECONDS = 30.0
"""How long a Job may be without pods before that is worth a word."""
BUSY_SECONDS = 300.0
"""The same before its controller has taken it up: of a thousand at once the last ones wait."""
BACKOFF_SECONDS = 660.0
"""The same after a failure: the Job's controller waits up to ten minutes before the next try."""


@dataclass(frozen=True)
class StartCheck:
    """What is to be said of pods that have not started.

    failure: one is past its deadline. message: what they wait for. stalled: reason and message,
    when only a person can help. look_again_seconds: until the next deadline.
    """

    failure: Failure | None = None
    message: str = ""
    stalled: tuple[str, str] | None = None
    look_again_seconds: float | None = None


def check_start(case: Case, job: Doc) -> StartCheck:
    """Hold the Job's pods against spec.startDeadlineSeconds."""
    deadline = case.run.spec.start_deadline_seconds
    attempts, pods = case.attempts_of(job), case.pods_of(job)
    if not any(attempt.state in ("Waiting", "Running") for attempt in attempts):
        return _without_pods(case, job, attempts)
    waiting = [
        ((case.now - attempt.created_at).total_seconds(), wait_of(pod), pod)
        for attempt, pod in zip(attempts, pods, strict=True)
        if attempt.state == "Waiting" and not attempt.started
    ]
    lost, later = lost_node(case, attempts), look_again_seconds(case, attempts)
    if not waiting:
        return StartCheck(message=lost[1] if lost else "", stalled=lost, look_again_seconds=later)
    longest, wait, pod = max(waiting, key=lambda entry: entry[0])
    if longest > deadline:
        return StartCheck(failure=_too_late(wait, deadline, pod))
    left = deadline - longest + 0.1
    left = left if later is None else min(left, later)
    if lost is not None:
        return StartCheck(message=lost[1], stalled=lost, look_again_seconds=left)
    # The word of the one that needs a person, wherever it stands among the others.
    _, wait, _ = max(waiting, key=lambda entry: (_urgency(entry[1]), entry[0]))
    return StartCheck(
        message=wait.text if wait else "",
        stalled=(wait.reason.name, f"{wait.text}. {wait.reason.remedy}")
        if wait and wait.for_a_person
        else None,
        look_again_seconds=left,
    )


def _without_pods(case: Case, job: Doc, attempts: Sequence[Attempt]) -> StartCheck:
    """The Job has no pod at work, from its beginning or again. attempts: those that have ended.

    Between a pod that was lost and its successor there is none for a moment. So the deadline runs
    from when the status first says that it stalls the run, which it does after some patience, and
    not while the Job's controller believes in pods that are not seen here yet.
    """
    status = job.get("status") or {}
    if condition_of(job, "Suspended") is not None:
        # A person has let it go on, nobody knows when; its controller is about to see that.
        return StartCheck(look_again_seconds=PATIENCE_SECONDS)
    created = parse_time(job["metadata"].get("creationTimestamp")) or case.now
    begun = parse_time(status.get("startTime"))
    if begun is None and not attempts:
        return _not_taken_up(case, job, created)
    ends = [attempt.ended_at for attempt in attempts if attempt.ended_at is not None]
    age = (case.now - max((begun or created, *ends))).total_seconds()
    patience = BACKOFF_SECONDS if attempts else PATIENCE_SECONDS
    reason = reasons.START_DEADLINE_EXCEEDED
    if not _is_told(case, reason, age):
        if age < patience:
            return StartCheck(look_again_seconds=patience - age + 0.1)
        if status.get("active") or status.get("terminating"):
            return StartCheck(look_again_seconds=PATIENCE_SECONDS)
    name = job["metadata"]["name"]
    what = f"Job {name} has no pod: a quota or an admission rule refuses it"
    return _stalled(case, reason, what, f"Read its events (kubectl describe job {name})", age)


def _not_taken_up(case: Case, job: Doc, created: datetime) -> StartCheck:
    """Of a Job at which its controller has not looked.

    Whoever looks sets startTime, whether a quota refuses the pods or not.
    """
    reason, name = reasons.JOB_NOT_TAKEN_UP, job["metadata"]["name"]
    deadline = float(case.run.spec.start_deadline_seconds)
    age = (case.now - created).total_seconds()
    if not _is_told(case, reason, age):
        if age < PATIENCE_SECONDS:
            return StartCheck(look_again_seconds=PATIENCE_SECONDS - age + 0.1)
        patience = min(BUSY_SECONDS, max(deadline, PATIENCE_SECONDS))
        if age < patience:
            what = f"the cluster's Job controller has yet to take up Job {name}"
            return StartCheck(message=what, look_again_seconds=patience - age + 0.1)
    what = f"the cluster's Job controller does not take up Job {name}"
    return _stalled(case, reason, what, reason.remedy, age)


def _is_told(case: Case, reason: Reason, age: float) -> bool:
    """Whether the status tells of this wait. One that is older was for another Job."""
    return case.is_stalled(reason) and case.stalled_seconds(reason) <= age


def _stalled(case: Case, reason: Reason, what: str, remedy: str, age: float) -> StartCheck:
    """The run waits for a person, for as long as its deadline allows. age: seconds of the wait."""
    deadline = case.run.spec.start_deadline_seconds
    left = deadline - min(case.stalled_seconds(reason), age)
    if left <= 0:
        return StartCheck(failure=Failure(reason, f"{what}, for {deadline} s. {remedy}"))
    stalled = (reason.name, f"{what}. {remedy}")
    return StartCheck(message=what, stalled=stalled, look_again_seconds=left + 0.1)


def _urgency(wait: Wait | None) -> int:
    if wait is None:
        return 0
    return 2 if wait.for_a_person else 1


def _too_late(wait: Wait | None, deadline: int, pod: Doc) -> Failure:
    if wait is None:
        reason = reasons.START_DEADLINE_EXCEEDED
        what = f"pod {pod['metadata']['name']} did not start in {deadline} s"
        return Failure(reason, f"{what}. {reason.remedy}")
    what = f"{wait.text} (waited {deadline} s, spec.startDeadlineSeconds)"
    return Failure(wait.reason, f"{what}. {wait.reason.remedy}")
