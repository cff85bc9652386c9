"""What is applied: runs, runs that have ended, and Jobs for the client that only creates Jobs."""

from __future__ import annotations

import copy
import json
from typing import Any

from bench.control.client import Write
from evalrun_api.operator_config import OperatorConfig
from evalrun_operator.admission import admit, read_run
from evalrun_operator.jobs import build_job, effective_plan
from evalrun_operator.steps import PREPARE

Doc = dict[str, Any]

CONFIG: Doc = {
    "images": {"runner": "registry.example.com/runner:1"},
    "policy": {"allowInlineStores": True},
}


def run(namespace: str, name: str, shards: int = 1, annotations: Doc | None = None) -> Doc:
    """A run of three Jobs, as a person would write it."""
    spec: Doc = {
        "model": {
            "profile": "qwen2_5_vl",
            "source": {"huggingFace": {"repo": "Qwen/Qwen2.5-VL-7B-Instruct"}},
        },
        "benchmarks": [{"name": "mme"}],
        "parallelism": {"shards": shards},
        "results": {"s3": {"uri": "s3://evaluations"}},
    }
    if annotations:
        spec["answerPod"] = {"annotations": annotations}
    return {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "EvaluationRun",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def runs_path(namespace: str) -> str:
    """Where a namespace's runs are."""
    return f"/apis/lmms-eval.io/v1alpha1/namespaces/{namespace}/evaluationruns"


def jobs_path(namespace: str) -> str:
    """Where a namespace's Jobs are."""
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def creation(document: Doc) -> Write:
    """The request that applies a run."""
    path = runs_path(document["metadata"]["namespace"])
    return Write("POST", path, json.dumps(document).encode())


def runs(
    namespace: str, count: int, annotations: dict[str, str] | None = None, *, shards: int = 1
) -> list[Write]:
    """So many runs to create."""
    return [
        creation(run(namespace, f"run-{number:05}", shards, annotations)) for number in range(count)
    ]


def ended(namespace: str, count: int, status: Doc) -> tuple[list[Write], list[Write]]:
    """Runs that have ended already: to create, and their statuses. status: of one that ended."""
    path = runs_path(namespace)
    patch = json.dumps({"status": status}).encode()
    statuses = [Write("PATCH", f"{path}/run-{number:05}/status", patch) for number in range(count)]
    return runs(namespace, count), statuses


def bare_jobs(namespace: str, count: int) -> list[Write]:
    """The same first Jobs as the operator's, which nobody owns and the operator does not watch."""
    document = run(namespace, "run-00000")
    document["metadata"] |= {"uid": "00000000-0000-0000-0000-000000000000", "generation": 1}
    given = read_run(document)
    config = OperatorConfig.model_validate(CONFIG)
    snapshot, _ = admit(given, document["metadata"]["uid"], {}, config)
    plan = effective_plan(snapshot, given)
    job = build_job(document, given, PREPARE, plan, snapshot, config, None)
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        metadata.pop("ownerReferences", None)
        metadata["labels"] = {}
    found = []
    for number in range(count):
        one = copy.deepcopy(job)
        one["metadata"]["name"] = f"job-{number:05}"
        found.append(Write("POST", jobs_path(namespace), json.dumps(one).encode()))
    return found
