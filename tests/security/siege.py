"""A namespace in which the operator works, with the policy that allows nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.operator_process import Replica

POLICY: dict[str, Any] = {}
"""The default one: nothing risky is allowed."""
CONFIG: dict[str, Any] = {
    "images": {"runner": "registry.example.com/runner:1"},
    "stores": {
        "shared": {
            "uri": "s3://evaluations/{namespace}",
            "endpoint": "http://s3.example.com:9000",
            "secretName": "s3",
        }
    },
    "defaultStore": "shared",
    "policy": POLICY,
    "leaseSeconds": 15,
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
    },
}


def run_document(name: str, **spec: Any) -> dict[str, Any]:
    """A run of Qwen2.5-VL on mme; keyword arguments are fields of the spec."""
    return {**RUN, "metadata": {"name": name}, "spec": {**RUN["spec"], **spec}}


@dataclass(frozen=True)
class Place:
    """A namespace of a cluster in which the operator works."""

    server: ControlPlane
    namespace: str
    operator: Replica

    def create(self, document: dict[str, Any], *options: str) -> str:
        """Create an object; what the API server says against it, or nothing."""
        done = self.server.kubectl(
            *("-n", self.namespace, "create", *options, "-f", "-"),
            input=json.dumps(document),
            check=False,
        )
        return "" if done.returncode == 0 else str(done.stderr).strip()

    def try_all(self, documents: list[dict[str, Any]]) -> tuple[list[str], str]:
        """Try to create objects, which leaves none; which are accepted, and what is said."""
        done = self.server.kubectl(
            *("-n", self.namespace, "create", "--dry-run=server", "-f", "-"),
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}),
            check=False,
        )
        return done.stdout.splitlines(), str(done.stderr).strip()

    def get(self, kind: str, name: str) -> dict[str, Any]:
        done = self.server.kubectl(
            "-n", self.namespace, "get", kind, name, "-o", "json", check=False
        )
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def all(self, kinds: str) -> list[dict[str, Any]]:
        """All objects of some kinds."""
        done = self.server.kubectl("-n", self.namespace, "get", kinds, "-o", "json")
        return list(json.loads(done.stdout)["items"])

    def ended(self, name: str) -> dict[str, Any]:
        """The status of a run, once it has ended."""

        def status() -> dict[str, Any]:
            return dict(self.get("evaluationrun", name).get("status") or {})

        until(f"the end of {name}", lambda: status().get("completionTime"), 30)
        return status()

    def refusal(self, name: str) -> str:
        """Why a run was refused, before any Job of it was made."""
        status = self.ended(name)
        assert status["phase"] == "Failed"
        jobs = {f"{name}-{step}" for step in ("prepare", "answer", "score", "run")}
        made = {job["metadata"]["name"] for job in self.all("jobs")}
        assert not jobs & made, "a Job was made"
        return message_of(status)


def message_of(status: dict[str, Any]) -> str:
    """What the condition Ready says."""
    (ready,) = (entry for entry in status["conditions"] if entry["type"] == "Ready")
    return f"{ready['reason']}: {ready['message']}"
