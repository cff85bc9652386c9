"""Nothing waits for ever: whether the pods of a Job start, and in time."""

from __future__ import annotations

from dataclasses import dataclass

from evalrun_api import reasons
from evalrun_operator.attempts import parse_time
from evalrun_operator.case import Case
from evalrun_operator.decisions import Doc
from evalrun_operator.outcomes import Failure
from evalrun_operator.waiting import Wait, wait_of


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
    if (job.get("spec") or {}).get("suspend"):
        return StartCheck(message="waiting in a queue for its quota")
    deadline = case.run.spec.start_deadline_seconds
    attempts, pods = case.attempts_of(job), case.pods_of(job)
    if not attempts:
        return _without_pods(case, job, deadline)
    waiting = [
        ((case.now - attempt.created_at).total_seconds(), pod)
        for attempt, pod in zip(attempts, pods, strict=True)
        if attempt.state == "Waiting" and not attempt.started and not attempt.deleting
    ]
    if not waiting:
        return StartCheck()
    _, pod = max(waiting, key=lambda entry: (wait_of(entry[1]) is not None, entry[0]))
    wait = wait_of(pod)
    longest = max(entry[0] for entry in waiting)
    if longest > deadline:
        return StartCheck(failure=_too_late(wait, deadline, pod))
    return StartCheck(
        message=wait.text if wait else "",
        stalled=(wait.reason.name, f"{wait.text}. {wait.reason.remedy}")
        if wait and wait.for_a_person
        else None,
        look_again_seconds=deadline - longest + 0.1,
    )


def _without_pods(case: Case, job: Doc, deadline: int) -> StartCheck:
    begun = parse_time((job.get("status") or {}).get("startTime")) or parse_time(
        job["metadata"].get("creationTimestamp")
    )
    since = (case.now - begun).total_seconds() if begun else 0.0
    if since > deadline:
        reason = reasons.START_DEADLINE_EXCEEDED
        name = job["metadata"]["name"]
        what = f"Job {name} has no pod after {deadline} s: a quota or an admission rule refuses it"
        remedy = f"Read its events (kubectl describe job {name})"
        return StartCheck(failure=Failure(reason, f"{what}. {remedy}"))
    return StartCheck(look_again_seconds=deadline - since + 0.1)


def _too_late(wait: Wait | None, deadline: int, pod: Doc) -> Failure:
    if wait is None:
        reason = reasons.START_DEADLINE_EXCEEDED
        what = f"pod {pod['metadata']['name']} did not start in {deadline} s"
        return Failure(reason, f"{what}. {reason.remedy}")
    what = f"{wait.text} (waited {deadline} s, spec.startDeadlineSeconds)"
    return Failure(wait.reason, f"{what}. {wait.reason.remedy}")
