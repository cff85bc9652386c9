"""Pods on a node that never comes back, at a real API server with its own Job controller."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from operator_replicas import (
    Replicas,
    apply,
    audit,
    condition,
    get,
    pods_of,
)

from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.operator_process import ROOT, SYSTEM

pytestmark = pytest.mark.integration

NODE = "never-ready"
LOSS_SECONDS = 10
RIGHTS = ROOT / "config/node-loss/pods.yaml"


@pytest.fixture(scope="module", autouse=True)
def node(api_server: ControlPlane) -> Iterator[None]:
    """A Node without a kubelet."""
    document = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
    api_server.kubectl("create", "-f", "-", input=json.dumps(document))
    yield
    api_server.kubectl("delete", "node", NODE)


@pytest.fixture
def rights(api_server: ControlPlane) -> Iterator[None]:
    """The rights that an administrator gives beyond the usual ones."""
    api_server.kubectl("-n", SYSTEM, "apply", "-f", str(RIGHTS))
    yield
    api_server.kubectl("-n", SYSTEM, "delete", "-f", str(RIGHTS))


def lose_the_pod(api_server: ControlPlane, namespace: str) -> dict[str, Any]:
    """A run whose pod is on that node and is deleted. Nobody ends it."""
    apply(api_server, namespace, "one")
    until("the pod", lambda: pods_of(api_server, namespace, "one-prepare"), 20)
    (pod,) = pods_of(api_server, namespace, "one-prepare")
    name = pod["metadata"]["name"]
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": name},
        "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/binding"
    api_server.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(binding))
    delete = ("delete", "pod", name, "--grace-period=1", "--wait=false")
    api_server.kubectl("-n", namespace, *delete)
    return pod


def writes_to_pods(api_server: ControlPlane, namespace: str) -> list[tuple[str, int]]:
    """Verb and answer's code of what the operator wrote to pods."""
    return [
        (event["verb"], event["responseStatus"]["code"])
        for event in audit(api_server, namespace)
        if event["objectRef"]["resource"] == "pods"
        and event["verb"] not in ("get", "list", "watch")
    ]


@pytest.mark.usefixtures("rights")
def test_the_job_of_a_lost_pod_makes_a_successor_and_counts_nothing(
    api_server: ControlPlane, replicas: Replicas, namespace: str
) -> None:
    leader = replicas.start("leader", nodeLossSeconds=LOSS_SECONDS)
    lost = lose_the_pod(api_server, namespace)["metadata"]["name"]
    until("a successor", lambda: len(pods_of(api_server, namespace, "one-prepare")) == 2, 30)
    before, after = pods_of(api_server, namespace, "one-prepare")
    assert before["metadata"]["name"] == lost
    assert before["status"]["phase"] == "Failed"
    assert condition(before, "DisruptionTarget")["reason"] == "NodeLost"
    assert after["status"]["phase"] == "Pending"
    job = get(api_server, namespace, "job", "one-prepare") or {}
    assert not condition(job, "Failed")
    # Nobody but its kubelet removes it; for the Job it has ended.
    until(
        "that it is counted",
        lambda: not (get(api_server, namespace, "pod", lost) or {})["metadata"].get("finalizers"),
        10,
    )
    assert writes_to_pods(api_server, namespace) == [("patch", 200)]
    assert not leader.lines("ERROR")


@pytest.mark.usefixtures("rights")
def test_a_suspension_is_not_held_up_by_a_lost_pod(
    api_server: ControlPlane, replicas: Replicas, namespace: str
) -> None:
    leader = replicas.start("leader", nodeLossSeconds=LOSS_SECONDS)
    lose_the_pod(api_server, namespace)
    change = json.dumps({"spec": {"suspend": True}})
    api_server.kubectl("-n", namespace, "patch", "evr", "one", "--type=merge", "-p", change)
    until("that it has stopped", lambda: _has_stopped(api_server, namespace), 40)
    assert get(api_server, namespace, "job", "one-prepare") is None
    assert writes_to_pods(api_server, namespace) == [("patch", 200), ("delete", 200)]
    assert not leader.lines("ERROR")


def test_a_right_that_is_missing_is_told_in_the_run_and_once_in_the_log(
    api_server: ControlPlane, replicas: Replicas, namespace: str
) -> None:
    leader = replicas.start("leader", nodeLossSeconds=LOSS_SECONDS)
    lost = lose_the_pod(api_server, namespace)["metadata"]["name"]

    def told() -> str:
        run = get(api_server, namespace, "evaluationrun", "one")
        return str(condition(run, "Stalled").get("message"))

    until("the word", lambda: "The operator may not end it" in told(), 30)
    assert lost in told()
    assert "config/node-loss" in told()
    # A change of the run makes it look again, and not try again.
    label = ("label", "evr", "one", "looked=again")
    api_server.kubectl("-n", namespace, *label)
    time.sleep(2)
    assert writes_to_pods(api_server, namespace) == [("patch", 403)]
    assert sum("is forbidden" in line["message"] for line in leader.lines("WARNING")) == 1


def _has_stopped(api_server: ControlPlane, namespace: str) -> bool:
    return bool(condition(get(api_server, namespace, "evaluationrun", "one"), "Suspended"))
