"""Manifests, and EvaluationRuns as a cluster has them, for the tests."""

from __future__ import annotations

from typing import Any

RUN = """\
apiVersion: lmms-eval.io/v1alpha1
kind: EvaluationRun
metadata: {name: shapes-run}
spec:
  model:
    profile: llava_hf
    source: {volume: {claimName: models, path: tiny}}
  benchmarks:
    - benchmarkRef: {name: shapes}
    - {name: mme, limit: 20, generation: {temperature: 0.5}}
  parallelism: {acceleratorsPerShard: 0}
"""
BENCHMARK = """\
apiVersion: lmms-eval.io/v1alpha1
kind: Benchmark
metadata: {name: shapes}
spec:
  tasks: [shapes_task]
  files: {shapes.yaml: "task: shapes_task"}
  data: {volume: {claimName: data}}
"""

CREATED = "2026-03-01T12:00:00Z"


def condition(
    kind: str, status: str = "True", reason: str = "Because", message: str = ""
) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": CREATED,
    }


def run(name: str = "shapes", *conditions: dict[str, Any], **status: Any) -> dict[str, Any]:
    """A run; without conditions and status fields it has no status at all."""
    document: dict[str, Any] = {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "EvaluationRun",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": f"uid-{name}",
            "generation": 1,
            "creationTimestamp": CREATED,
            "managedFields": [{"manager": "evalrun"}],
        },
        "spec": {
            "model": {"profile": "llava_hf", "source": {"huggingFace": {"repo": "a/model"}}},
            "benchmarks": [{"name": "mme"}, {"benchmarkRef": {"name": "shapes"}}],
        },
    }
    if conditions or status:
        document["status"] = {
            "observedGeneration": 1,
            "conditions": list(conditions),
            **status,
        }
    return document
