"""The easy-VQA example as a run of its own, for benchmarks."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import yaml

from evalrun_api.benchmark import Benchmark
from evalrun_api.checks import Surroundings
from evalrun_api.index import builtin_index
from evalrun_api.plan import StorePlan
from evalrun_api.planning import make_plan
from evalrun_api.policy import LAPTOP
from evalrun_api.profiles import builtin_profiles
from evalrun_api.spec import EvaluationRun
from evalrun_runner.local import LocalRun

EXAMPLE = Path(__file__).parents[2] / "examples" / "easy-vqa"


def make_run(folder: Path, store: StorePlan, **spec: Any) -> LocalRun:
    """A run that reuses no answers of others, with changes to the example's spec.

    folder: for its workspace and its spool. OMP_NUM_THREADS is 1: two threads answer slower.
    """
    subprocess.run([sys.executable, EXAMPLE / "make_data.py"], check=True, cwd=EXAMPLE)
    written = yaml.safe_load((EXAMPLE / "run.yaml").read_text())
    written["spec"] = {**written["spec"], "cache": {"reuseAnswers": "Never"}, **spec}
    custom = yaml.safe_load((EXAMPLE / "benchmark.yaml").read_text())
    benchmarks = {"easy-vqa": Benchmark.model_validate(custom)}
    planned = make_plan(
        EvaluationRun.model_validate(written),
        uuid.uuid4().hex,
        store,
        Surroundings(builtin_profiles(), builtin_index(), LAPTOP, benchmarks),
    )
    return LocalRun(
        plan=planned.plan,
        files=planned.files,
        volumes={"models": EXAMPLE / "models", "data": EXAMPLE / "data"},
        workspace=folder / planned.plan.run.uid,
        spool=folder / "spool",
        environment={"OMP_NUM_THREADS": "1"},
    )
