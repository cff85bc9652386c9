"""Processes of the operator as the tests start them, and what they ask the API server about it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.operator_process import SYSTEM, USER, Replica

LEASE_SECONDS = 3
CONFIG = {
    "images": {"runner": "registry.example.com/runner:1"},
    "policy": {"allowInlineStores": True},
    "leaseSeconds": LEASE_SECONDS,
    "progressSeconds": 1,
}
RUN: dict[str, Any] = {
    "apiVersion": "lmms-eval.io/v1alpha1",
    "kind": "EvaluationRun",
    "spec": {
        "model": {
            "profile": "qwen2_5_vl",
            "source": {"huggingFace": {"repo": "Qwen/Qwen2.5-VL-7B-Instruct"}},
        },
        "benchmarks": [{"name": "mme"}],
        "results": {"volume": {"claimName": "results"}},
    },
}


class Replicas:
    """The processes of a test."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self._folder = folder
        self._kubeconfig = kubeconfig
        self._all: list[Replica] = []

    def start(self, role: str, kubeconfig: Path | None = None, **settings: Any) -> Replica:
        """Start one, and wait until it is in its role. settings: of its configuration."""
        replica = self.launch(kubeconfig, **settings)
        until(f"the role {role}", lambda: replica.is_role(role), 60)
        return replica

    def launch(self, kubeconfig: Path | None = None, **settings: Any) -> Replica:
        """Start one."""
        name = f"replica-{len(self._all)}"
        replica = Replica(self._folder, kubeconfig or self._kubeconfig, name, CONFIG | settings)
        self._all.append(replica)
        return replica

    @property
    def running(self) -> list[Replica]:
        """Those that have not ended."""
        return [replica for replica in self._all if replica.process.poll() is None]

    def end(self) -> None:
        for replica in self._all:
            replica.end()


def apply(api_server: ControlPlane, namespace: str, name: str, **spec: Any) -> None:
    document = {**RUN, "metadata": {"name": name, "namespace": namespace}}
    document["spec"] = {**RUN["spec"], **spec}
    api_server.kubectl("create", "-f", "-", input=json.dumps(document))


def condition(document: dict[str, Any] | None, kind: str) -> dict[str, Any]:
    """The condition of a type, if it holds."""
    for entry in ((document or {}).get("status") or {}).get("conditions") or ():
        if entry["type"] == kind and entry["status"] == "True":
            return dict(entry)
    return {}


def pods_of(api_server: ControlPlane, namespace: str, job: str) -> list[dict[str, Any]]:
    """A Job's pods, the oldest first."""
    selector = f"batch.kubernetes.io/job-name={job}"
    done = api_server.kubectl("-n", namespace, "get", "pods", "-l", selector, "-o", "json")
    pods: list[dict[str, Any]] = json.loads(done.stdout)["items"]
    return sorted(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])


def apply_deep(api_server: ControlPlane, namespace: str, name: str, folder: Path) -> None:
    """A run that is nested as deep as the API server reads; kubectl itself would not."""
    run = {**RUN, "metadata": {"name": name}}
    run["spec"] = {**RUN["spec"], "generation": {"extra": {"deep": "HERE"}}}
    file = folder / "deep.json"
    file.write_text(json.dumps(run).replace('"HERE"', "[" * 9_900 + "]" * 9_900))
    runs = f"/apis/lmms-eval.io/v1alpha1/namespaces/{namespace}/evaluationruns"
    api_server.kubectl("create", "--raw", runs, "-f", str(file))


def get(api_server: ControlPlane, namespace: str, what: str, name: str) -> dict[str, Any] | None:
    done = api_server.kubectl("-n", namespace, "get", what, name, "-o", "json", check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def phase(api_server: ControlPlane, namespace: str, name: str) -> str:
    found = get(api_server, namespace, "evaluationrun", name) or {}
    return str(found.get("status", {}).get("phase"))


def holder(api_server: ControlPlane) -> str | None:
    lease = get(api_server, SYSTEM, "lease", "lmms-eval-operator") or {}
    return lease.get("spec", {}).get("holderIdentity")


def audit(api_server: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    """The operator's requests in a namespace, in the order of their answers."""
    found = [json.loads(line) for line in api_server.audit_log.read_text().splitlines()]
    return [
        event
        for event in found
        if event["user"].get("username") == USER
        and event.get("objectRef", {}).get("namespace", "") == namespace
    ]


def audited(api_server: ControlPlane, namespace: str = "") -> Counter[tuple[str, str, str]]:
    """Requests of the operator: agent, verb, resource."""
    found: Counter[tuple[str, str, str]] = Counter()
    for event in audit(api_server, namespace):
        reference = event["objectRef"]
        agent = event["userAgent"].split("/")[0]
        what = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
        found[(agent, event["verb"], what)] += 1
    return found
