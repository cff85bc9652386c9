"""The Job of a step, as a document."""

from __future__ import annotations

from evalrun_api.digests import digest
from evalrun_api.names import (
    CONTAINER,
    EXECUTION_ANNOTATION,
    ONLINE_LABEL,
    PLAN_DIGEST_ANNOTATION,
    RUN_LABEL,
    RUN_UID_LABEL,
    STEP_LABEL,
)
from evalrun_api.operator_config import OperatorConfig
from evalrun_api.plan import Execution, RunPlan
from evalrun_api.reasons import PERMANENT, ExitCode
from evalrun_api.spec import EXECUTION_FIELDS, EvaluationRun
from evalrun_operator.decisions import Doc, Snapshot
from evalrun_operator.job_queues import queue_labels, queue_of
from evalrun_operator.owners import owner_reference
from evalrun_operator.pods import pod_template
from evalrun_operator.steps import StepKind, job_name

MAX_SECONDS = 2**31 - 1
"""The Job controller counts in nanoseconds of 64 bits; a larger number would be in the past."""

POD_FAILURE_POLICY: Doc = {
    "rules": [
        # First, because a preempted pod may end with any code.
        {
            "action": "Ignore",
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
        {
            "action": "FailJob",
            "onExitCodes": {
                "containerName": CONTAINER,
                "operator": "In",
                "values": sorted(int(code) for code in PERMANENT),
            },
        },
        # Deletions by Kueue and by a drain set no condition; the runner's own code tells them.
        {
            "action": "Ignore",
            "onExitCodes": {
                "containerName": CONTAINER,
                "operator": "In",
                "values": [int(ExitCode.STOPPED)],
            },
        },
    ]
}
"""What a failed pod means for its Job; what no rule names counts against the retry limit."""


def effective_plan(snapshot: Snapshot, run: EvaluationRun) -> RunPlan:
    """The snapshot's plan with what may change while a run is suspended: how work is spread.

    A number of accelerators that the run leaves to its profile stays as the snapshot has it: the
    profiles of a later release change no run that has begun.
    """
    spread, before = run.spec.parallelism, snapshot.plan
    accelerators = spread.accelerators_per_shard
    if accelerators is None:
        accelerators = before.accelerators
    if accelerators == 0:
        workers = spread.workers_per_shard or 1
    else:
        per_worker = spread.accelerators_per_worker or before.accelerators // before.workers
        workers = 1 if accelerators % max(per_worker, 1) else accelerators // max(per_worker, 1)
    return before.spread(
        Execution(
            spread.shards, accelerators, workers, run.spec.cache.offline, run.spec.stall_seconds
        )
    )


def execution_digest(run: EvaluationRun) -> str:
    """Of what a Job is made from, beside the snapshot.

    Without defaults, so that fields that a later release adds make no difference.
    """
    stated = run.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return digest({name: stated[name] for name in EXECUTION_FIELDS if name in stated})


def plan_digest(job: Doc) -> str | None:
    """Of the snapshot that a Job was made from; None where it does not say."""
    found = (job["metadata"].get("annotations") or {}).get(PLAN_DIGEST_ANNOTATION)
    return None if found is None else str(found)


def is_outdated(job: Doc, run: EvaluationRun) -> bool:
    """Whether a Job was made from other execution fields than the run has now."""
    made_from = (job["metadata"].get("annotations") or {}).get(EXECUTION_ANNOTATION)
    return made_from is not None and made_from != execution_digest(run)


def build_job(
    document: Doc,
    run: EvaluationRun,
    kind: StepKind,
    plan: RunPlan,
    snapshot: Snapshot,
    config: OperatorConfig,
    remaining_seconds: int | None,
) -> Doc:
    """The Job of one step.

    document: the run as the API server has it. plan: as `effective_plan` gives it.
    remaining_seconds: what is left of the run's deadline.
    """
    name, uid = run.metadata.name, document["metadata"]["uid"]
    labels = {
        RUN_LABEL: name,
        RUN_UID_LABEL: uid,
        STEP_LABEL: kind.command,
        "app.kubernetes.io/name": "lmms-eval-runner",
        "app.kubernetes.io/managed-by": "lmms-eval-operator",
    }
    if plan.security.allow_online:
        labels[ONLINE_LABEL] = "true"
    spec: Doc = {
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": POD_FAILURE_POLICY,
        "template": pod_template(run, kind, plan, snapshot, config, labels),
    }
    retries = run.spec.retry_limit
    if kind.indexed:
        spec |= {
            "completionMode": "Indexed",
            "completions": plan.shards,
            "parallelism": plan.shards,
            "backoffLimitPerIndex": retries,
            # One shard that cannot be answered makes the run unscorable: the others stop too.
            "maxFailedIndexes": 0,
        }
    else:
        spec |= {"completions": 1, "parallelism": 1, "backoffLimit": retries}
    queue = queue_of(run.spec, kind, plan)
    if queue is not None:
        spec["suspend"] = True  # Kueue's from now on
    if remaining_seconds is not None:
        spec["activeDeadlineSeconds"] = min(max(remaining_seconds, 1), MAX_SECONDS)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(name, kind),
            "namespace": run.metadata.namespace,
            "labels": labels | queue_labels(run.spec, queue),
            "annotations": {
                PLAN_DIGEST_ANNOTATION: snapshot.digest,
                EXECUTION_ANNOTATION: execution_digest(run),
            },
            "ownerReferences": [owner_reference(document)],
        },
        "spec": spec,
    }
