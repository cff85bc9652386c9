"""How a run stops: it has its results, it is given up, or a person suspends it."""

from __future__ import annotations

from dataclasses import replace

from evalrun_api import reasons
from evalrun_api.addresses import manifest_uri
from evalrun_api.plan import RunPlan
from evalrun_api.termination import TerminationMessage
from evalrun_operator import status as statuses
from evalrun_operator.activity import at_work
from evalrun_operator.attempts import parse_time
from evalrun_operator.case import Case
from evalrun_operator.conditions import timestamp
from evalrun_operator.decisions import DELETE, Action, DeleteJob, Doc, Ledger, Plan
from evalrun_operator.lost_nodes import look_again_seconds, lost_node
from evalrun_operator.outcomes import (
    Failure,
    ended_at,
    failure_of,
    is_deleting,
    is_finished,
    is_suspended,
)
from evalrun_operator.steps import StepKind
from evalrun_operator.summary import results_status

EVIDENCE_SECONDS = 30.0
"""How long a finished Job's pods may take to be seen: watches of two kinds have no order."""
LOOK_AGAIN_SECONDS = 1.0


def conclude(case: Case, kind: StepKind, job: Doc, plan: RunPlan, fields: Doc) -> Plan:
    """The last Job is complete: the run has its results, if its pod says so."""
    wait = evidence_missing(case, job)
    if wait is not None:
        return wait
    ended_well = [a for a in case.attempts_of(job) if a.state == "Succeeded"]
    if not ended_well:
        return _repeat(case, kind, job)
    said = [a.message for a in reversed(ended_well) if a.message is not None]
    message = next((m for m in said if (m.step, m.outcome) == ("score", "Succeeded")), None)
    uri = manifest_uri(plan.store, plan.run)
    results = results_status(message, uri) if message is not None else None
    if message is not None and _is_of_other_answers(case, message):
        what = "the score step read another lock than the one that prepare wrote for this run"
        reason = reasons.LOCK_MISMATCH
        return fail(case, Failure(reason, f"{uri}: {what}. {reason.remedy}"), **fields)
    if message is None or results is None:
        what = "the score step ended well, and did not say where the results are"
        remedy = reasons.INTERNAL_ERROR.remedy
        return fail(case, Failure(reasons.INTERNAL_ERROR, f"{what}. {remedy}"), **fields)
    fields |= settled(case, job, fields)
    return Plan(status=statuses.succeeded(case, message, results, **fields))


def _is_of_other_answers(case: Case, message: TerminationMessage) -> bool:
    """Whether the scores rest on other answers than those that were locked.

    The lock lies in the store, and whoever may write there may exchange it, for that of a better
    model. What prepare said of it is in the status.
    """
    said = (entry.answers_digest for entry in case.messages())
    told = (case.status.get("answers") or {}).get("digest") or next(filter(None, said), None)
    return bool(told and message.answers_digest and told != message.answers_digest)


def _repeat(case: Case, kind: StepKind, job: Doc) -> Plan:
    """The last pod is gone and its word with it, so its Job is run once more.

    The step finds its output in the store, and says the same again at once. It counts as a
    disruption, since what takes the pod away may do so every time.
    """
    gone = case.observed.gone.plus(Ledger(disruptions=1))
    counted = replace(case, observed=replace(case.observed, gone=gone))
    message = "the last pod is gone before it was heard; its step is run again"
    status = at_work(counted, kind, message, {})
    return Plan(actions=(delete(job),), status=status, requeue_after=LOOK_AGAIN_SECONDS)


def evidence_missing(case: Case, job: Doc) -> Plan | None:
    """Wait until the pods of a Job that has just ended are seen as it left them."""
    attempts = case.attempts_of(job)
    told = any(attempt.state == "Succeeded" for attempt in attempts)
    at_work = any(attempt.state in ("Waiting", "Running") for attempt in attempts)
    if (told and not at_work) or _looked_for(case, job) > EVIDENCE_SECONDS:
        return None
    return Plan(requeue_after=LOOK_AGAIN_SECONDS)


def _looked_for(case: Case, job: Doc) -> float:
    """Seconds in which the pods of a Job that has ended could have been seen as they left them."""
    since = (case.now - (ended_at(job) or case.now)).total_seconds()
    return min(since, case.observed.known_seconds)


def give_up(case: Case, job: Doc, fields: Doc) -> Plan:
    """The Job failed: say why, once its pods are seen as it left them."""
    attempts = case.attempts_of(job)
    at_work = any(attempt.state in ("Waiting", "Running") for attempt in attempts)
    if (at_work or not attempts) and _looked_for(case, job) <= EVIDENCE_SECONDS / 6:
        return Plan(requeue_after=LOOK_AGAIN_SECONDS)
    failure = failure_of(job, attempts, case.run.spec.active_deadline_seconds)
    fields |= settled(case, job, fields)
    return fail(case, failure, **fields)


def suspend(
    case: Case, kind: StepKind, job: Doc | None, fields: Doc, strays: tuple[Action, ...]
) -> Plan:
    """Delete the Job at work; its pods store what is finished first."""
    actions = strays
    first = case.status.get("phase") != "Suspended"
    if job is not None and not is_deleting(job):
        actions = (*strays, delete(job))
        if first:
            counted = {"uid": job["metadata"]["uid"], "until": timestamp(case.now)}
            fields |= {**settled(case, job, fields), "countedJob": counted}
    fields.setdefault("step", kind.step)
    stopped = job is None and not strays
    return _suspended(case, actions, stopped, fields)


def suspend_unseen(case: Case, kind: StepKind, job: Doc, fields: Doc) -> Plan:
    """Suspend a run that a person suspended, changed and resumed between two looks.

    Its Job is as the run was before. Once the status says Suspended, what is seen next is a resume.
    """
    strays = tuple(delete(other) for other in case.active_jobs() if other is not job)
    decided = suspend(case, kind, job, fields, strays)
    status = None if case.is_resumed else decided.status
    return replace(decided, status=status, requeue_after=LOOK_AGAIN_SECONDS)


def _suspended(case: Case, actions: tuple[Action, ...], stopped: bool, fields: Doc) -> Plan:
    stalled = None if stopped else _undeletable(case) or lost_node(case, case.attempts)
    status = statuses.suspended(case, stopped, stalled, **fields)
    again = None if stopped else look_again_seconds(case, case.attempts)
    return Plan(actions=actions, status=status, requeue_after=again)


def _undeletable(case: Case) -> tuple[str, str] | None:
    """Reason and message, where the API server refuses to delete a Job at work."""
    reason = reasons.DELETE_REFUSED
    for job in case.active_jobs():
        name = f"job/{job['metadata']['name']}"
        if text := case.observed.refused.get(f"{DELETE}{name}"):
            return reason.name, f"{name}: {text}. {reason.remedy}"
    return None


def suspend_all(case: Case) -> Plan:
    """Delete all Jobs at work of a run whose plan is not known."""
    actions = tuple(delete(job) for job in case.active_jobs())
    stopped = all(is_finished(job) for job in case.observed.jobs.values())
    return _suspended(case, actions, stopped, {})


def stop_short(case: Case, job: Doc, failure: Failure, fields: Doc) -> Plan:
    """Give a run up whose Job is at work."""
    if not is_finished(job):
        fields |= settled(case, job, fields)
    return fail(case, failure, **fields)


def fail(case: Case, failure: Failure, **fields: object) -> Plan:
    """Give the run up, and stop what still works."""
    actions = tuple(delete(job) for job in case.active_jobs())
    return Plan(actions=actions, status=statuses.failed(case, failure, **fields))


def settled(case: Case, job: Doc, fields: Doc) -> Doc:
    """What the end of a Job adds to the run's time: counted once, with the change it comes with.

    A suspension counts a Job before it deletes it. One that ends before the delete, or outlives a
    suspension that was taken back, adds what came since. Of one that waits in a queue all is
    counted, see `job_queues.follow`.
    """
    if is_suspended(job) and not is_finished(job):
        return {"activeSeconds": int(case.known(fields, "activeSeconds", 0))}
    begun = parse_time((job.get("status") or {}).get("startTime"))
    until = ended_at(job) or case.now
    before = case.counted_until(job)
    if begun and before:
        begun = max(begun, before)
    seconds = max((until - begun).total_seconds(), 0.0) if begun else 0.0
    spent = int(case.known(fields, "activeSeconds", 0))
    return {"activeSeconds": spent + round(seconds)}


def delete(job: Doc) -> DeleteJob:
    """The deletion of a Job as it was observed."""
    return DeleteJob(job["metadata"]["name"], job["metadata"]["uid"])
