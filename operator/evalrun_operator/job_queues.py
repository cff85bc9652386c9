"""A run whose Job waits in a queue. Pure.

Kueue owns a queued Job's `suspend`: the operator creates the Job suspended, with the queue's name
as a label, and never touches it again. Which queue a Job waits in is read from its label, since
Kueue may have set that itself. What waits costs nothing, so no deadline runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime

from evalrun_api import reasons
from evalrun_api.names import QUEUE_LABEL, QUEUE_PRIORITY_LABEL
from evalrun_api.plan import RunPlan
from evalrun_api.spec import EvaluationRunSpec
from evalrun_operator.activity import at_work
from evalrun_operator.attempts import parse_time
from evalrun_operator.case import Case
from evalrun_operator.conditions import timestamp
from evalrun_operator.decisions import Doc, Plan, Word
from evalrun_operator.kueue import EVICTED, PREEMPTED
from evalrun_operator.outcomes import Failure, condition_of, is_suspended
from evalrun_operator.steps import ANSWERING, StepKind

ADMISSION_SECONDS = 5.0
"""How long a new Job may wait before that is worth a write: where quota is free it takes less."""
EVICTION_SECONDS = 8.0
"""The same for a Job that was stopped: so long it may take until Kueue's reason is known."""

QUEUED = "Queued"
NUMBER = re.compile(r"\d+")


def queue_of(spec: EvaluationRunSpec, kind: StepKind, plan: RunPlan) -> str | None:
    """The queue of a step's Job; None if it begins at once.

    What holds no accelerator has a queue of its own, so that no step waits for another's quota.
    """
    if kind.command not in ANSWERING:
        return spec.cpu_queue_name
    if spec.queue_name is None and plan.accelerators == 0:
        return spec.cpu_queue_name
    return spec.queue_name


def queue_labels(spec: EvaluationRunSpec, queue: str | None) -> Doc:
    """The labels by which Kueue knows a Job; none if it is not queued."""
    if queue is None:
        return {}
    labels = {QUEUE_LABEL: queue}
    if spec.queue_priority_class_name is not None:
        labels[QUEUE_PRIORITY_LABEL] = spec.queue_priority_class_name
    return labels


def queue_label(job: Doc) -> str | None:
    """The queue that a Job says it belongs to."""
    name = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    return str(name) if name else None


@dataclass(frozen=True)
class Wait:
    """What is to be said of a Job that waits: a condition's reason, and a message.

    remedy: what a person can do, where nobody else can end the wait.
    """

    reason: str
    message: str
    remedy: str = ""

    @property
    def stalled(self) -> tuple[str, str] | None:
        """Reason and message of what only a person can end."""
        return (self.reason, f"{self.message}. {self.remedy}") if self.remedy else None


def is_waiting(job: Doc) -> bool:
    """Whether a Job is suspended, or its queue has just admitted it and it has not begun."""
    begun = (job.get("status") or {}).get("startTime") and not condition_of(job, "Suspended")
    return is_suspended(job) or (queue_label(job) is not None and not begun)


def wait_in_queue(case: Case, job: Doc, kind: StepKind, fields: Doc) -> Plan:
    """The Job is waiting: say what for."""
    if not is_suspended(job):
        return Plan()  # it begins in a moment, which is the next event
    queue = queue_label(job)
    word = case.observed.words.get(job["metadata"]["uid"])
    if queue is None:
        reason = reasons.JOB_SUSPENDED
        what = f"Job {job['metadata']['name']} is suspended, and waits in no queue"
        wait = Wait(reason.name, what, reason.remedy)
    elif (word is None or word.meaning == "Unreadable") and _is_told(case, job):
        wait = _as_told(case)  # a new process, or one that cannot ask, knows nothing newer
    else:
        was_at_work = case.known(fields, "queue", {}).get("state") == "Evicted"
        patience = EVICTION_SECONDS if was_at_work else ADMISSION_SECONDS
        age = (case.now - (_waits_since(job, was_at_work) or case.now)).total_seconds()
        if word is None and 0 <= age < patience:
            return Plan(requeue_after=patience - age + 0.1)
        wait = _without_new_numbers(case, _wait(queue, word, was_at_work))
    return Plan(status=at_work(case, kind, wait.message, fields, wait.stalled, queued=wait.reason))


def _wait(queue: str, word: Word | None, was_at_work: bool) -> Wait:
    """What a queued Job waits for."""
    waiting = f"waiting in queue {queue}"
    word = word or Word("Pending")
    if word.meaning == "Absent":
        reason, what = reasons.KUEUE_NOT_INSTALLED, "the cluster has no Kueue"
        return Wait(reason.name, f"{waiting}: {what}", reason.remedy)
    if word.meaning == "Silent":
        reason, what = reasons.NOT_QUEUED, "Kueue has made no Workload of the Job"
        return Wait(reason.name, f"{waiting}: {what}", reason.remedy)
    if word.meaning == "Unusable":
        reason = reasons.QUEUE_UNUSABLE
        return Wait(reason.name, f"{waiting}: {word.text}", reason.remedy)
    text = f": {word.text}" if word.text else ""
    if not was_at_work:
        return Wait(QUEUED, waiting + text)
    cause = word.reason or EVICTED
    stopped = "preempted" if cause == PREEMPTED else "stopped"
    return Wait(cause, f"{stopped} in queue {queue}, waiting to go on{text}")


def _is_told(case: Case, job: Doc) -> bool:
    """Whether the status tells already that this Job waits: a new process knows no word of it."""
    queue = case.status.get("queue") or {}
    same = queue.get("job") == job["metadata"]["uid"] and queue.get("state") != "Admitted"
    return case.phase == QUEUED and same


def _as_told(case: Case) -> Wait:
    """What the status says of the wait."""
    ready, stalled = _told(case, "Ready"), _told(case, "Stalled")
    reason, message = str(ready.get("reason") or QUEUED), str(ready.get("message") or "")
    if stalled.get("status") != "True":
        return Wait(reason, message)
    return Wait(reason, message, str(stalled.get("message") or "").removeprefix(f"{message}. "))


def _told(case: Case, kind: str) -> Doc:
    conditions = case.status.get("conditions") or ()
    return next((entry for entry in conditions if entry["type"] == kind), {})


def _without_new_numbers(case: Case, wait: Wait) -> Wait:
    """The wait as it was told before, where only numbers in Kueue's words differ.

    How much quota is lacking changes with every Job of the cluster that comes or ends: a thousand
    runs that wait would each be written again for it.
    """
    before = str(_told(case, "Ready").get("message") or "")
    (queue, *words), (queue_before, *words_before) = (
        text.partition(": ") for text in (wait.message, before)
    )
    alike = [NUMBER.sub("#", text) for text in words] == [
        NUMBER.sub("#", text) for text in words_before
    ]
    return replace(wait, message=before) if queue == queue_before and alike else wait


# What a queue did with the Job, for the time that counts


def _waits_since(job: Doc, was_at_work: bool) -> datetime | None:
    """Since when a suspended Job waits; None where that is not known yet."""
    since = parse_time((condition_of(job, "Suspended") or {}).get("lastTransitionTime"))
    if since is not None or was_at_work:
        return since
    return parse_time(job["metadata"].get("creationTimestamp"))


def follow(case: Case, job: Doc, fields: Doc) -> Doc:
    """Fields of the status that tell where the Job stands with its queue.

    A queue takes a Job's start with its quota: Kueue clears startTime, and the Job's controller
    sets it anew. So the time of work up to then is counted here, once, as the state changes.
    """
    name = queue_label(job)
    before = case.known(fields, "queue", {})
    if name is None:
        return {}
    uid, status = job["metadata"]["uid"], job.get("status") or {}
    started = parse_time(status.get("startTime"))
    known = before if before.get("job") == uid else {}
    since = parse_time(known.get("since"))
    evictions = int(before.get("evictions") or 0)

    def told(state: str, when: datetime | None) -> Doc:
        queue = {"name": name, "state": state, "since": timestamp(when or case.now), "job": uid}
        return {"queue": {**queue, **({"evictions": evictions} if evictions else {})}}

    if is_suspended(job):
        if known.get("state") != "Admitted":
            return told(known.get("state") or "Waiting", since or _waits_since(job, False))
        evictions += 1
        stopped = _waits_since(job, True) or case.now
        begun = max(filter(None, (since, case.counted_until(job))), default=stopped)
        worked = max(round((stopped - begun).total_seconds()), 0)
        spent = int(case.known(fields, "activeSeconds", 0))
        return told("Evicted", stopped) | {"activeSeconds": spent + worked}
    if started is None or condition_of(job, "Suspended") is not None:
        return told(known["state"], since) if known else {}  # the Job's controller comes to it
    if known.get("state") == "Admitted":
        # Stopped and started unseen: when it stopped nobody knows, so that work is not counted.
        evictions += since is not None and since != started
        return told("Admitted", started)
    waited = since or parse_time(job["metadata"].get("creationTimestamp")) or started
    seconds = max(round((started - waited).total_seconds()), 0)
    return told("Admitted", started) | ({"stages": {"queue": seconds}} if seconds else {})


def seconds_left(case: Case, job: Doc, fields: Doc) -> float | None:
    """What is left of the run's deadline, where the Job's own would end later: a queue stopped and
    started it, and so its time began anew. None where the Job's controller sees to it.
    """
    deadline = case.run.spec.active_deadline_seconds
    own = (job.get("spec") or {}).get("activeDeadlineSeconds")
    started = parse_time((job.get("status") or {}).get("startTime"))
    if deadline is None or own is None or started is None or queue_label(job) is None:
        return None
    left = deadline - int(case.known(fields, "activeSeconds", 0))
    return left - (case.now - started).total_seconds() if own > left else None


def too_late(deadline: int) -> Failure:
    """The run's time is used up."""
    reason = reasons.DEADLINE_EXCEEDED
    what = f"spec.activeDeadlineSeconds: the run's {deadline} s are used up"
    return Failure(reason, f"{what}. {reason.remedy}")
