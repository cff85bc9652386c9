"""Queues, runs that wait in them, and the operator's process."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.access import Access, until
from cluster.operator_process import Replica

CONFIG = {
    "images": {"runner": "registry.example.com/runner:1"},
    "policy": {"allowInlineStores": True, "queuePriorityClasses": ["urgent"]},
    "progressSeconds": 1,
}
KUEUE = "kueue.x-k8s.io/v1beta2"
JOB_UID = "kueue.x-k8s.io/job-uid"

Doc = dict[str, Any]


class Operator(Replica):
    """The operator's process, once it leads. folder: has its kubeconfig, and gets its log."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, folder / "kubeconfig", "operator", CONFIG)
        until("the operator leads", lambda: self.is_role("leader"), 60)

    def complaints(self) -> list[Doc]:
        """What it logged as a warning or worse."""
        return [line for level in ("WARNING", "ERROR", "CRITICAL") for line in self.lines(level)]


def queue(name: str, cluster_queue: str) -> Doc:
    """A LocalQueue."""
    spec = {"clusterQueue": cluster_queue}
    return {"apiVersion": KUEUE, "kind": "LocalQueue", "metadata": {"name": name}, "spec": spec}


def cluster_queue(name: str, flavor: str, quota: dict[str, str], **spec: Any) -> list[Doc]:
    """A ClusterQueue with a flavor of its own. quota: by resource."""
    resources = [{"name": resource, "nominalQuota": amount} for resource, amount in quota.items()]
    flavors = [{"name": flavor, "resources": resources}]
    group = {"coveredResources": list(quota), "flavors": flavors}
    rules = {
        "namespaceSelector": {},
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "resourceGroups": [group],
    }
    return [
        {"apiVersion": KUEUE, "kind": "ResourceFlavor", "metadata": {"name": flavor}},
        {
            "apiVersion": KUEUE,
            "kind": "ClusterQueue",
            "metadata": {"name": name},
            "spec": rules | spec,
        },
    ]


def priority(name: str, value: int) -> Doc:
    """A WorkloadPriorityClass."""
    return {
        "apiVersion": KUEUE,
        "kind": "WorkloadPriorityClass",
        "metadata": {"name": name},
        "value": value,
    }


@dataclass
class Place:
    """A namespace, and what is done in it."""

    cluster: Access
    namespace: str

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """Run kubectl in the namespace; what it wrote."""
        return self.cluster.kubectl("-n", self.namespace, *arguments, **options).stdout

    def apply(self, *documents: Doc) -> None:
        """Apply documents."""
        listed = {"apiVersion": "v1", "kind": "List", "items": documents}
        self.kubectl("apply", "-f", "-", input=json.dumps(listed))

    def run(self, name: str, **spec: Any) -> str:
        """Apply a run that needs one CPU and one Job."""
        document = {
            "apiVersion": "lmms-eval.io/v1alpha1",
            "kind": "EvaluationRun",
            "metadata": {"name": name},
            "spec": {
                "model": {
                    "profile": "qwen2_5_vl",
                    "source": {"huggingFace": {"repo": "Qwen/Qwen2.5-VL-7B-Instruct"}},
                },
                "benchmarks": [{"name": "mme"}],
                "results": {"volume": {"claimName": "results"}},
                "parallelism": {"acceleratorsPerShard": 0},
                "answerPod": {"resources": {"cpu": "1", "memory": "1Gi"}},
                **spec,
            },
        }
        self.apply(document)
        return name

    def get(self, what: str, name: str) -> Doc:
        """An object; empty if there is none."""
        done = self.cluster.kubectl(
            "-n", self.namespace, "get", what, name, "-o", "json", check=False
        )
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def status(self, name: str) -> Doc:
        """A run's status."""
        return self.get("evr", name).get("status") or {}

    def condition(self, name: str, kind: str) -> Doc:
        """A condition of a run."""
        conditions = self.status(name).get("conditions") or ()
        return next((entry for entry in conditions if entry["type"] == kind), {})

    def is_suspended(self, job: str) -> bool | None:
        """Whether a Job is; None if it isn't there."""
        return self.get("job", job).get("spec", {}).get("suspend")

    def events(self, name: str) -> list[tuple[str, str, str]]:
        """Type, reason and message of the operator's Events about a run."""
        found = json.loads(
            self.kubectl(
                "get", "events", f"--field-selector=involvedObject.name={name}", "-o", "json"
            )
        )
        return [
            (event["type"], event["reason"], event["message"])
            for event in found["items"]
            if event["source"].get("component") == "lmms-eval-operator"
        ]
