"""What the tests of the contract start from: a run that is right, and ways to change it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from evalrun_api.benchmark import Benchmark
from evalrun_api.checks import Surroundings
from evalrun_api.index import NameIndex
from evalrun_api.plan import RunPlan, StorePlan
from evalrun_api.planning import Planned, make_plan
from evalrun_api.policy import LAPTOP
from evalrun_api.profiles import builtin_profiles
from evalrun_api.reading import read
from evalrun_api.spec import EvaluationRun

Plan = Callable[..., Planned]

INDEX = NameIndex(
    lmms_eval="0.7.3",
    tasks=["mme", "ai2d", "docvqa_val"],
    groups=["docvqa"],
    tags=["ocr"],
    backends=["llava_hf", "qwen2_5_vl", "whisper", "openai", "gemma3"],
)


@pytest.fixture(scope="session")
def index() -> NameIndex:
    """A few names: the real index has thousands, and searching it for near ones takes a while."""
    return INDEX


@pytest.fixture
def make_run() -> Callable[..., EvaluationRun]:
    """A function that makes a run; keyword arguments are fields of the spec, in camelCase."""

    def make(**spec: Any) -> EvaluationRun:
        document = {
            "apiVersion": "lmms-eval.io/v1alpha1",
            "kind": "EvaluationRun",
            "metadata": {"name": "trial"},
            "spec": {
                "model": {
                    "profile": "llava_hf",
                    "source": {"huggingFace": {"repo": "llava-hf/llava-1.5-7b-hf"}},
                },
                "benchmarks": [{"name": "mme"}],
                **spec,
            },
        }
        return read(EvaluationRun, document)

    return make


@pytest.fixture
def shapes() -> Benchmark:
    """A benchmark of one's own, with code."""
    return read(
        Benchmark,
        {
            "apiVersion": "lmms-eval.io/v1alpha1",
            "kind": "Benchmark",
            "metadata": {"name": "shapes"},
            "spec": {
                "tasks": ["shapes_easy", "shapes_hard"],
                "files": {
                    "shapes_easy.yaml": "task: shapes_easy\n",
                    "shapes_hard.yaml": "task: shapes_hard\n",
                    "utils.py": "LIMIT = 1\n",
                },
                "data": {"volume": {"claimName": "data"}},
            },
        },
    )


@pytest.fixture
def plan_run(make_run: Callable[..., EvaluationRun], shapes: Benchmark) -> Plan:
    """A function that plans a run of the given spec fields, under the given policy."""

    def plan(
        policy: Any = LAPTOP, customs: Iterable[Benchmark] = (shapes,), **spec: Any
    ) -> Planned:
        surroundings = Surroundings(
            profiles=builtin_profiles(),
            index=INDEX,
            policy=policy,
            benchmarks={custom.metadata.name: custom for custom in customs},
        )
        return make_plan(make_run(**spec), "uid-1", StorePlan(uri="file:///results"), surroundings)

    return plan


@pytest.fixture
def run_plan(plan_run: Plan) -> RunPlan:
    """The plan of a run that leaves all to the defaults."""
    return plan_run().plan
