"""Documents as the API server would give them, for tests."""

from __future__ import annotations

from typing import Any

Doc = dict[str, Any]


def run(name: str = "one", uid: str = "run-1", version: int = 1, **status: Any) -> Doc:
    document: Doc = {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "EvaluationRun",
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": uid,
            "resourceVersion": str(version),
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {"benchmarks": [{"name": "mme"}]},
    }
    if status:
        document["status"] = status
    return document


def job(
    name: str = "one-answer",
    uid: str = "job-1",
    version: int = 2,
    owner: str = "run-1",
    **changes: Any,
) -> Doc:
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {"lmms-eval.io/run": "one"},
            "ownerReferences": [
                {"kind": "EvaluationRun", "name": "one", "uid": owner, "controller": True}
            ],
            **changes,
        },
        "spec": {"completions": 1, "template": {"spec": {}}, "selector": {}},
        "status": {},
    }


def pod(uid: str = "pod-1", version: int = 3, owner: str = "job-1", phase: str = "Running") -> Doc:
    return {
        "metadata": {
            "name": f"one-answer-{uid}",
            "namespace": "team",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {"lmms-eval.io/run": "one", "lmms-eval.io/run-uid": "run-1"},
            "annotations": {"lmms-eval.io/plan": "{}", "lmms-eval.io/accelerators": "4"},
            "ownerReferences": [{"kind": "Job", "uid": owner, "controller": True}],
        },
        "spec": {"nodeName": "n1", "containers": [{"name": "runner"}]},
        "status": {"phase": phase, "podIP": "10.1.2.3"},
    }
