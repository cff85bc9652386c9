"""The operator's process at a real API server, with the rights that its Role gives it."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from operator_replicas import (
    LEASE_SECONDS,
    Replicas,
    apply,
    apply_deep,
    audited,
    get,
    holder,
    phase,
)

from cluster.access import until
from cluster.control_plane import ControlPlane

pytestmark = pytest.mark.integration


def test_a_run_gets_its_job_with_few_writes_and_none_of_them_is_kopfs(
    api_server: ControlPlane, replicas: Replicas, namespace: str
) -> None:
    leader = replicas.start("leader")
    apply(api_server, namespace, "one")
    until("the Job", lambda: get(api_server, namespace, "job", "one-prepare"), 10)
    until("the status", lambda: phase(api_server, namespace, "one") == "Preparing", 10)
    time.sleep(1.5)  # for what else might be written
    assert leader.ask("/healthz")["ok"]
    code, seconds = leader.stop()
    assert code == 0
    assert seconds < 10
    assert holder(api_server) is None
    assert not leader.lines("ERROR")
    assert not leader.lines("CRITICAL")
    written = {
        key: count
        for key, count in audited(api_server, namespace).items()
        if key[1] not in ("get", "list", "watch")
    }
    ours = "lmms-eval-operator"
    assert written.keys() == {
        (ours, "create", "configmaps"),
        (ours, "create", "jobs"),
        (ours, "patch", "evaluationruns/status"),
        (ours, "create", "events"),
    }
    assert sum(written.values()) <= 6
    found = get(api_server, namespace, "evaluationrun", "one") or {}
    assert "finalizers" not in found["metadata"]
    assert "annotations" not in found["metadata"]


def test_a_successor_starts_at_once_when_the_lease_is_given_back(
    api_server: ControlPlane, replicas: Replicas, namespace: str
) -> None:
    first = replicas.start("leader")
    second = replicas.start("standby")
    assert first.stop()[0] == 0
    until("the successor", lambda: second.is_role("leader"), LEASE_SECONDS * 0.9 + 2)
    apply(api_server, namespace, "one")
    until("the Job", lambda: get(api_server, namespace, "job", "one-prepare"), 10)


def test_a_leader_that_was_paused_ends_and_writes_nothing(
    api_server: ControlPlane, replicas: Replicas, namespace: str
) -> None:
    first = replicas.start("leader")
    second = replicas.start("standby")
    first.process.send_signal(signal.SIGSTOP)
    until("the successor", lambda: second.is_role("leader"), LEASE_SECONDS + 10)
    apply(api_server, namespace, "one")
    until("the Job", lambda: get(api_server, namespace, "job", "one-prepare"), 10)
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(10) == 1
    assert "leadership is lost" in first.lines("CRITICAL")[0]["message"]
    assert audited(api_server, namespace)[("lmms-eval-operator", "create", "jobs")] == 1


def test_what_happened_while_no_replica_ran_is_made_up_for(
    api_server: ControlPlane, replicas: Replicas, namespace: str
) -> None:
    first = replicas.start("leader")
    apply(api_server, namespace, "before")
    until("the Job", lambda: get(api_server, namespace, "job", "before-prepare"), 10)
    first.process.kill()
    first.process.wait()
    apply(api_server, namespace, "meanwhile")
    api_server.kubectl("-n", namespace, "delete", "job", "before-prepare")
    replicas.start("leader")
    for name in ("before", "meanwhile"):
        until("the Job", lambda name=name: get(api_server, namespace, "job", f"{name}-prepare"), 20)


def test_a_job_of_someone_else_fails_the_run_and_is_left_alone(
    api_server: ControlPlane, replicas: Replicas, namespace: str
) -> None:
    api_server.kubectl(
        "-n", namespace, "create", "job", "one-prepare", "--image=registry.example.com/x"
    )
    replicas.start("leader")
    apply(api_server, namespace, "one")
    until("the end", lambda: phase(api_server, namespace, "one") == "Failed", 10)
    found = get(api_server, namespace, "evaluationrun", "one") or {}
    reasons = {c["type"]: c["reason"] for c in found["status"]["conditions"]}
    assert reasons["Failed"] == "NameTaken"
    assert get(api_server, namespace, "job", "one-prepare")


def test_a_run_that_is_nested_as_deep_as_can_be_hinders_no_other(
    api_server: ControlPlane, replicas: Replicas, namespace: str, tmp_path: Path
) -> None:
    apply_deep(api_server, namespace, "listed", tmp_path)
    leader = replicas.start("leader")
    apply_deep(api_server, namespace, "watched", tmp_path)
    apply(api_server, namespace, "one")
    until("the Job", lambda: get(api_server, namespace, "job", "one-prepare"), 10)
    columns = ("-o", "custom-columns=:.metadata.name,:.status.phase", "--no-headers")

    def phases() -> dict[str, str]:
        told = api_server.kubectl("-n", namespace, "get", "evr", *columns).stdout
        return dict(line.split() for line in told.splitlines())

    until("the ends", lambda: [phases()[n] for n in ("listed", "watched")] == ["Failed"] * 2, 10)
    assert not leader.lines("ERROR")
    runs = f"/apis/lmms-eval.io/v1alpha1/namespaces/{namespace}/evaluationruns"
    api_server.kubectl("delete", "--raw", runs)  # other tests read them all with plain Python


def test_a_run_in_a_queue_says_plainly_that_the_cluster_has_no_kueue(
    api_server: ControlPlane, replicas: Replicas, namespace: str
) -> None:
    leader = replicas.start("leader")
    apply(api_server, namespace, "one", cpuQueueName="cpu")

    def stalled() -> dict[str, Any]:
        found = get(api_server, namespace, "evaluationrun", "one") or {}
        conditions = found.get("status", {}).get("conditions", ())
        return next((c for c in conditions if c["type"] == "Stalled"), {})

    until("it is told", lambda: stalled().get("reason") == "KueueNotInstalled", 20)
    assert "Install Kueue" in stalled()["message"]
    assert phase(api_server, namespace, "one") == "Queued"
    job = get(api_server, namespace, "job", "one-prepare") or {}
    assert job["spec"]["suspend"] is True
    assert not leader.lines("ERROR") + leader.lines("WARNING")


def test_a_deleted_run_takes_everything_along(
    api_server: ControlPlane, replicas: Replicas, namespace: str
) -> None:
    leader = replicas.start("leader")
    apply(api_server, namespace, "one")
    until("the Job", lambda: get(api_server, namespace, "job", "one-prepare"), 10)
    api_server.kubectl("-n", namespace, "delete", "evaluationrun", "one", "--wait=false")
    for what, name in (
        ("evaluationrun", "one"),
        ("job", "one-prepare"),
        ("configmap", "one-plan"),
    ):
        until(
            f"no {what}",
            lambda what=what, name=name: get(api_server, namespace, what, name) is None,
            30,
        )
    apply(api_server, namespace, "one")
    until("the Job anew", lambda: get(api_server, namespace, "job", "one-prepare"), 20)
    assert not leader.lines("ERROR")
