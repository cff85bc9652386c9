"""Pods whose node never comes back, given up as Kubernetes' own pod garbage collection does. Pure.

A pod that is being deleted ends when its kubelet says so. Where that is gone for good nobody does,
and the Job waits. An administrator may say after how long the pod counts as ended.
"""

from __future__ import annotations

from datetime import datetime

from evalrun_api.operator_config import OperatorConfig
from evalrun_operator.attempts import parse_time
from evalrun_operator.conditions import timestamp
from evalrun_operator.decisions import Doc, FailPod, Observed, RemovePod
from evalrun_operator.outcomes import is_deleting
from evalrun_operator.owners import controller_uid

REASON = "NodeLost"
MESSAGE = "the pod did not end long after it should have: its node is taken for lost"


def end_lost_pods(
    observed: Observed, now: datetime, config: OperatorConfig
) -> tuple[tuple[FailPod | RemovePod, ...], float | None]:
    """What is to be done about a run's lost pods, and the seconds until the next one is lost.

    One that is said to have failed is replaced by its Job. It stays as evidence, unless the Job is
    being deleted: that waits until the last pod is gone.
    """
    limit = config.node_loss_seconds
    if limit is None:
        return (), None
    jobs = {job["metadata"]["uid"]: job for job in observed.jobs.values()}
    actions: list[FailPod | RemovePod] = []
    later: list[float] = []
    for pod in observed.pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        job = jobs.get(controller_uid(pod, "Job"))
        due = parse_time(metadata.get("deletionTimestamp"))
        # Without a node the API server needs nobody's word for the end.
        if job is None or due is None or not (pod.get("spec") or {}).get("nodeName"):
            continue
        has_ended = status.get("phase") in ("Succeeded", "Failed")
        if has_ended and not is_deleting(job):
            continue
        left = limit - (now - due).total_seconds()
        same = (metadata["name"], metadata["uid"], metadata["resourceVersion"])
        if left > 0:
            later.append(left + 0.1)
        elif has_ended:
            actions.append(RemovePod(*same))
        else:
            actions.append(FailPod(*same, status=_failed(status, now)))
    return tuple(actions), min(later, default=None)


def _failed(status: Doc, now: datetime) -> Doc:
    """The change of a pod's status. Its disruption, so that no Job counts the end as a failure."""
    conditions = [entry for entry in status.get("conditions") or () if not _is_untrue(entry)]
    if not any(entry.get("type") == "DisruptionTarget" for entry in conditions):
        disruption = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": REASON,
            "message": MESSAGE,
            "lastTransitionTime": timestamp(now),
        }
        conditions.append(disruption)
    return {"phase": "Failed", "reason": REASON, "message": MESSAGE, "conditions": conditions}


def _is_untrue(condition: Doc) -> bool:
    return condition.get("type") == "DisruptionTarget" and condition.get("status") != "True"
