"""The documents that the tests of the operator start from."""

from __future__ import annotations

from typing import Any

from evalrun_api.operator_config import OperatorConfig


def run_document(**spec: Any) -> dict[str, Any]:
    """A run as the API server has it, on one GPU; keyword arguments are fields of the spec."""
    return {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "EvaluationRun",
        "metadata": {
            "name": "trial",
            "namespace": "team",
            "uid": "uid-1",
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "model": {
                "profile": "llava_hf",
                "source": {"huggingFace": {"repo": "llava-hf/llava-1.5-7b-hf"}},
            },
            "benchmarks": [{"name": "mme"}],
            **spec,
        },
    }


def configuration(**fields: Any) -> OperatorConfig:
    """An operator's configuration with one store."""
    return OperatorConfig.model_validate(
        {
            "images": {"runner": "runner:1", "cpu": "runner-cpu:1"},
            "stores": {
                "team": {
                    "uri": "s3://evaluations/team",
                    "endpoint": "http://s3:9000",
                    "secretName": "s3",
                }
            },
            "defaultStore": "team",
            **fields,
        }
    )
