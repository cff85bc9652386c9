"""Queues, runs that wait in them, and the operator's process."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.access import Access, until
from cluster.ports import free_ports
from cluster.processes import without_proxy

ROOT = Path(__file__).parents[2]
SYSTEM = "lmms-eval-system"
USER = f"system:serviceaccount:{SYSTEM}:lmms-eval-operator"
CONFIG = {
    "images": {"runner": "registry.example.com/runner:1"},
    "policy": {"allowInlineStores": True, "queuePriorityClasses": ["urgent"]},
    "progressSeconds": 1,
}
KUEUE = "kueue.x-k8s.io/v1beta2"
JOB_UID = "kueue.x-k8s.io/job-uid"

Doc = dict[str, Any]


class Operator:
    """The operator's process."""

    def __init__(self, folder: Path) -> None:
        port = free_ports("127.0.0.1", 1)[0]
        self.log = folder / "operator.log"
        (folder / "config.yaml").write_text(json.dumps(CONFIG))
        self._output = self.log.open("wb")
        self._process = subprocess.Popen(
            [
                Path(sys.executable).with_name("evalrun-operator"),
                f"--config={folder / 'config.yaml'}",
                f"--listen=127.0.0.1:{port}",
                f"--lease-namespace={SYSTEM}",
            ],
            env={**without_proxy(), "KUBECONFIG": str(folder / "kubeconfig")},
            stderr=self._output,
        )

        def leads() -> bool:
            assert self._process.poll() is None, self.log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as it:
                    return bool(json.load(it)["role"] == "leader")
            except OSError:
                return False

        until("the operator leads", leads, 60)

    def complaints(self) -> list[Doc]:
        """What it logged as a warning or worse."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["level"] not in ("INFO", "DEBUG")]

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(15)
        self._output.close()


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
