"""Why a pod does not start, in the words of whoever keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from evalrun_api import reasons
from evalrun_api.names import CONTAINER
from evalrun_api.reasons import Reason
from evalrun_operator.decisions import Doc
from evalrun_operator.text import tidy

PULL_REASONS = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
    }
)
CONFIG_REASONS = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)


@dataclass(frozen=True)
class Wait:
    """What a pod waits for.

    for_a_person: nobody but a person can end the wait, as far as can be told.
    """

    reason: Reason
    text: str
    for_a_person: bool


def wait_of(pod: Doc) -> Wait | None:
    """Why the pod waits; None while it takes its normal course, or works."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            text = tidy(condition.get("message") or "it cannot be scheduled")
            return Wait(reasons.UNSCHEDULABLE, text, for_a_person=False)
    for container in status.get("containerStatuses") or ():
        if container.get("name") == CONTAINER:
            waiting = (container.get("state") or {}).get("waiting") or {}
            return _of_container(waiting, str(container.get("image") or ""))
    return None


def _of_container(waiting: Doc, image: str) -> Wait | None:
    reason, text = str(waiting.get("reason") or ""), tidy(waiting.get("message") or "")
    if reason in PULL_REASONS:
        what = f"image {image}: {reason}" + (f": {text}" if text else "")
        return Wait(reasons.IMAGE_PULL_FAILED, what, for_a_person=True)
    if reason in CONFIG_REASONS:
        lowered = text.lower()
        if "failed to sync" in lowered:
            # The kubelet has not heard of the Secret or ConfigMap yet, and tries again by itself.
            return Wait(reasons.START_DEADLINE_EXCEEDED, text, for_a_person=False)
        missing = "not found" in lowered or "couldn't find key" in lowered
        if "secret" in lowered and missing:
            return Wait(reasons.SECRET_NOT_FOUND, text, for_a_person=True)
        return Wait(reasons.CONTAINER_START_FAILED, f"{reason}: {text}", for_a_person=True)
    return None
