"""What the tests of the operator's decisions start from: a run, a configuration, a small world."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.index import NameIndex
from evalrun_api.operator_config import OperatorConfig
from evalrun_operator import admission

sys.path.append(str(Path(__file__).parent))  # world and world_process

INDEX = NameIndex(
    lmms_eval="0.7.3",
    tasks=["mme", "ai2d"],
    groups=["docvqa"],
    tags=["ocr"],
    backends=["llava_hf", "qwen2_5_vl", "openai"],
)

Run = Callable[..., dict[str, Any]]
Configure = Callable[..., OperatorConfig]


@pytest.fixture(autouse=True)
def _few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real index has thousands of names, and searching it for near ones takes a while."""
    monkeypatch.setattr(admission, "builtin_index", lambda: INDEX)


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


@pytest.fixture
def make_run() -> Run:
    """A function that makes a run's document."""
    return run_document


@pytest.fixture
def configure() -> Configure:
    """A function that makes the operator's configuration."""
    return configuration
