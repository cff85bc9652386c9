"""What is kept of an object says all that is read of it."""

from __future__ import annotations

import copy

import pytest
from objects import Doc, pod

from evalrun_operator.attempts import attempt_of
from evalrun_operator.strip import strip
from evalrun_operator.waiting import wait_of

pytestmark = pytest.mark.decisions


def waiting(**state: str) -> Doc:
    """A pod as a kubelet describes it."""
    document = pod()
    document["status"] |= {
        "hostIP": "10.0.0.1",
        "qosClass": "Burstable",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [
            {
                "name": "runner",
                "image": "registry.example.com/runner:1",
                "imageID": "registry.example.com/runner@sha256:12",
                "containerID": "containerd://34",
                "restartCount": 0,
                "state": {"waiting": state},
            }
        ],
    }
    return document


def ended() -> Doc:
    document = waiting()
    ended_at = {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:00Z"}
    told = {"exitCode": 3, "reason": "Error", "message": "no"}
    document["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "too much"}
    document["status"]["containerStatuses"][0]["state"] = {"terminated": ended_at | told}
    return document


@pytest.mark.parametrize(
    "document",
    [pod(), waiting(reason="ImagePullBackOff", message="no such image"), ended()],
    ids=["bare", "waiting", "ended"],
)
def test_of_a_pod_is_kept_what_an_attempt_and_a_wait_are_judged_by(document: Doc) -> None:
    whole = copy.deepcopy(document)
    kept = strip("Pod", document)
    assert attempt_of(kept, "run-1") == attempt_of(whole, "run-1")
    assert wait_of(kept) == wait_of(whole)


def test_what_no_decision_reads_is_not_kept() -> None:
    status = strip("Pod", waiting(reason="ContainerCreating"))["status"]
    assert not {"hostIP", "qosClass"} & status.keys()
    assert "containerID" not in status["containerStatuses"][0]
