"""Pods that a quota refuses, as the real Job controller and the real quota tell of it."""

from __future__ import annotations

import json

import pytest
from operator_replicas import Replicas, apply, condition, get, pods_of

from cluster.access import until
from cluster.control_plane import ControlPlane

pytestmark = pytest.mark.integration

QUOTA = {
    "apiVersion": "v1",
    "kind": "ResourceQuota",
    "metadata": {"name": "none"},
    "spec": {"hard": {"pods": "0"}},
}


def test_a_job_that_was_taken_up_and_has_no_pod_is_told_of_as_refused(
    api_server: ControlPlane, replicas: Replicas, namespace: str
) -> None:
    replicas.start("leader")
    api_server.kubectl("-n", namespace, "create", "-f", "-", input=json.dumps(QUOTA))
    apply(api_server, namespace, "one")

    def job_status() -> dict[str, object]:
        return (get(api_server, namespace, "job", "one-prepare") or {}).get("status") or {}

    # What tells a quota from a controller that is behind: see decision 35.
    until("its controller's look", lambda: "startTime" in job_status(), 20)
    assert pods_of(api_server, namespace, "one-prepare") == []

    def stalled() -> dict[str, str]:
        return condition(get(api_server, namespace, "evaluationrun", "one"), "Stalled")

    until("a word for a person", stalled, 60)
    assert stalled()["reason"] == "StartDeadlineExceeded"
    refused = "Job one-prepare has no pod: a quota or an admission rule refuses it"
    assert refused in stalled()["message"]
