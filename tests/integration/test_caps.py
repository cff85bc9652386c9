"""Runs of three namespaces under caps, at a real API server; the test plays the kubelet."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.operator_process import Replica, write_kubeconfig

sys.path.append(str(Path(__file__).parents[1] / "operator"))

from world import FINE, World, stamp

pytestmark = pytest.mark.integration

CONFIG = {
    "images": {"runner": "registry.example.com/runner:1"},
    "policy": {"allowInlineStores": True},
    "leaseSeconds": 3,
    "progressSeconds": 1,
    "caps": {"maxActiveRuns": 2, "maxPendingPods": 3},
}
SPEC: dict[str, Any] = {
    "model": {
        "profile": "qwen2_5_vl",
        "source": {"huggingFace": {"repo": "Qwen/Qwen2.5-VL-7B-Instruct"}},
    },
    "benchmarks": [{"name": "mme"}],
    "parallelism": {"acceleratorsPerShard": 0},
    "results": {"volume": {"claimName": "results"}},
}
EACH = 4


class Teams:
    """Namespaces of runs."""

    def __init__(self, server: ControlPlane) -> None:
        self._server = server
        self.namespaces = [server.namespace(f"team-{name}") for name in "abc"]

    def apply(self) -> None:
        runs = [
            {
                "apiVersion": "lmms-eval.io/v1alpha1",
                "kind": "EvaluationRun",
                "metadata": {"name": f"run-{number}", "namespace": namespace},
                "spec": SPEC,
            }
            for namespace in self.namespaces
            for number in range(EACH)
        ]
        document = {"apiVersion": "v1", "kind": "List", "items": runs}
        self._server.kubectl("create", "-f", "-", input=json.dumps(document))

    def all(self, kind: str) -> list[dict[str, Any]]:
        found = json.loads(self._server.kubectl("get", kind, "-A", "-o", "json").stdout)["items"]
        return [item for item in found if item["metadata"]["namespace"] in self.namespaces]

    def statuses(self) -> dict[tuple[str, str], dict[str, Any]]:
        """By namespace, as its place among the three, and name."""
        return {
            (
                "abc"[self.namespaces.index(run["metadata"]["namespace"])],
                run["metadata"]["name"],
            ): run.get("status") or {}
            for run in self.all("evaluationruns")
        }

    def phases(self) -> Counter[str]:
        return Counter(str(status.get("phase")) for status in self.statuses().values())

    def are_in_order(self) -> bool:
        """Whether the runs but the first of each namespace are told their places."""
        statuses = self.statuses()
        return all(
            statuses[namespace, f"run-{number}"].get("queuePosition") == number
            for namespace in "abc"
            for number in range(1, EACH)
        )

    def runs_with_a_job(self) -> set[tuple[str, str]]:
        found = self.all("jobs")
        namespaces = self.namespaces
        return {
            (
                "abc"[namespaces.index(job["metadata"]["namespace"])],
                job["metadata"]["labels"]["lmms-eval.io/run"],
            )
            for job in found
        }

    def let_pods(self, phase: str, at_most: int = 100) -> None:
        """Have the pods that wait run, or those that run end well."""
        before = {"Running": "Pending", "Succeeded": "Running"}[phase]
        pods = [pod for pod in self.all("pods") if pod["status"]["phase"] == before]
        for pod in pods[:at_most]:
            now = stamp(datetime.now(UTC))
            state: dict[str, Any] = {"running": {"startedAt": now}}
            if phase == "Succeeded":
                message = World()._message(pod, FINE)
                ended = {"exitCode": 0, "reason": "Completed", "startedAt": now, "finishedAt": now}
                state = {"terminated": {**ended, "message": message}}
            runner = {"name": "runner", "image": "x", "imageID": "x", "ready": False}
            entry = {**runner, "restartCount": 0, "state": state}
            change = {"status": {"phase": phase, "containerStatuses": [entry]}}
            self._server.kubectl(
                *("-n", pod["metadata"]["namespace"], "patch", "pod", pod["metadata"]["name"]),
                *("--subresource=status", "--type=merge", "--patch", json.dumps(change)),
            )


Start = Callable[[Teams], Replica]


@pytest.fixture
def start(api_server: ControlPlane, tmp_path: Path) -> Iterator[Start]:
    """Starts a replica for some teams alone, and waits until it leads.

    Other tests' runs have pods that wait, too.
    """
    write_kubeconfig(api_server, tmp_path / "kubeconfig")
    found: list[Replica] = []

    def begin(teams: Teams) -> Replica:
        config = {**CONFIG, "namespaces": teams.namespaces}
        name = f"replica-{len(found)}"
        replica = Replica(tmp_path, tmp_path / "kubeconfig", name, config)
        found.append(replica)
        until("the leader", lambda: replica.is_role("leader"), 60)
        return replica

    yield begin
    for replica in found:
        replica.end()


def message(status: dict[str, Any]) -> str:
    ready = next(entry for entry in status["conditions"] if entry["type"] == "Ready")
    assert ready["reason"] == "CapReached"
    return str(ready["message"])


def in_line(replica: Replica) -> float:
    lines = replica.text("/metrics").splitlines()
    return float(
        next(line for line in lines if line.startswith("evalrun_operator_runs_in_line ")).split()[1]
    )


def test_twelve_runs_of_three_namespaces_take_turns_under_the_caps(
    api_server: ControlPlane, start: Start
) -> None:
    teams = Teams(api_server)
    teams.apply()
    first = start(teams)
    until("all are told", lambda: teams.phases()["Queued"] == 9, 60)

    # Three pods may be pending, and the namespaces take turns.
    assert teams.runs_with_a_job() == {(namespace, "run-0") for namespace in "abc"}
    # A run that is looked at before its elder was let in is told its next place a little later.
    until("the places are told", teams.are_in_order, 60)
    statuses = teams.statuses()
    why = "3 pods may wait for their start and 3 do, this run would add 1 more"
    assert message(statuses["b", "run-2"]) == f"2nd in line: {why}"
    wide = api_server.kubectl("-n", teams.namespaces[1], "get", "evr", "run-2", "-o", "wide").stdout
    assert "Queued" in wide
    assert "2nd in line" in wide
    assert in_line(first) == 9
    assert len(teams.all("configmaps")) == 3 * 2  # one of each namespace is Kubernetes' own

    # They run: the next three begin, and now the namespaces have as many as they may.
    teams.let_pods("Running")
    until("the next three", lambda: len(teams.runs_with_a_job()) == 6, 60)
    assert teams.runs_with_a_job() == {(n, f"run-{k}") for n in "abc" for k in (0, 1)}
    until("the next are told", lambda: teams.statuses()["c", "run-2"]["queuePosition"] == 1, 60)
    place = f"1st in line: namespace {teams.namespaces[2]} may have 2 runs at work and has 2"
    assert message(teams.statuses()["c", "run-2"]) == place

    # A successor finds the same.
    first.stop()
    second = start(teams)
    teams.let_pods("Running")
    until("the line", lambda: in_line(second) == 6, 60)
    assert len(teams.runs_with_a_job()) == 6

    # Whoever ends lets in one, and all get there.
    teams.let_pods("Succeeded", at_most=1)
    until("one more", lambda: len(teams.runs_with_a_job()) == 7, 60)

    def play() -> bool:
        teams.let_pods("Running")
        teams.let_pods("Succeeded")
        return teams.phases() == {"Succeeded": 12}

    until("the end of all", play, 180)
    assert in_line(second) == 0
    assert not second.lines("ERROR")
