"""Whether a run is at work or waits to be, and how many pods it has pending. Pure.

Level-triggered: from the run and its Jobs and pods as they are seen, so that a restart changes
nothing. A run is at work from its first Job to its end, over all its steps, but for the time in
which a suspension has stopped it; going on from there has to be admitted anew.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from evalrun_api.names import STEP_LABEL
from evalrun_operator.decisions import Doc
from evalrun_operator.line import Order, Standing
from evalrun_operator.outcomes import is_deleting, is_finished, is_suspended
from evalrun_operator.steps import ANSWERING


class JobWithPods(NamedTuple):
    """A Job of a run, and its pods that are there."""

    job: Doc
    pods: Collection[Doc]


def standing_of(run: Doc, family: Collection[JobWithPods]) -> Standing | None:
    """Where a run stands that has not ended; None where it does not work and does not want to."""
    metadata, spec, status = run["metadata"], run.get("spec") or {}, run.get("status") or {}
    order = Order(metadata.get("creationTimestamp") or "", metadata["name"], metadata["uid"])
    busy = any(not is_finished(member.job) for member in family)
    # Who was let in and has a Job is at work, though nobody may have been told of it.
    untold = bool(family) and not status.get("startTime")
    stopped = status.get("phase") == "Suspended" or (waits_in_line(status) and not untold)
    begun = bool(status.get("startTime") or family)
    deleted = bool(metadata.get("deletionTimestamp"))
    at_work = busy or (begun and not stopped and not deleted)
    if not at_work and (spec.get("suspend") or deleted):
        return None
    pods = _pending(spec, status, family, ending=bool(spec.get("suspend") or deleted))
    return Standing(metadata["namespace"], order, at_work, pods)


def waits_in_line(status: Doc) -> bool:
    """Whether a status says that its run waits for a cap."""
    return status.get("queuePosition") is not None


def is_told_to_wait(run: Doc | None) -> bool:
    """Whether a run's last look found that it waits, and nobody has changed its spec since."""
    if run is None:
        return False
    status = run.get("status") or {}
    seen = status.get("observedGeneration") == run["metadata"].get("generation")
    return seen and waits_in_line(status)


def _pending(spec: Doc, status: Doc, family: Collection[JobWithPods], *, ending: bool) -> int:
    """Pods that are there or about to be, and do not run.

    All shards count from the beginning: the step before them takes one pod, and nobody could stop
    the others once it has ended. A queue of Kueue keeps its own Jobs' pods back, and while a Job is
    held there nothing is reserved for what comes after it.
    """
    going = [member for member in family if not is_deleting(member.job)]
    lacking = sum(_lacking(member) for member in going if not is_finished(member.job))
    begun = status.get("step") == "Score" or any(_answers(member.job) for member in going)
    held = any(is_suspended(member.job) for member in going if not is_finished(member.job))
    if held or ending or begun:
        return lacking
    if spec.get("queueName"):
        return lacking if spec.get("cpuQueueName") else max(lacking, 1)
    return max(lacking, int((spec.get("parallelism") or {}).get("shards") or 1))


def _answers(job: Doc) -> bool:
    """Whether the pods of a Job are the run's shards."""
    return (job["metadata"].get("labels") or {}).get(STEP_LABEL) in ANSWERING


def _lacking(member: JobWithPods) -> int:
    """Pods that a Job still has to start."""
    spec, status = member.job.get("spec") or {}, member.job.get("status") or {}
    if spec.get("suspend"):
        return 0
    phases = [(pod.get("status") or {}).get("phase") for pod in member.pods]
    done = max(phases.count("Succeeded"), int(status.get("succeeded") or 0))
    wanted = min(int(spec.get("parallelism") or 1), int(spec.get("completions") or 1))
    return max(wanted - done - phases.count("Running"), 0)
