"""A benchmark of large images: easy-VQA's questions, about JPEGs of several megapixels."""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image

from bench.example import EXAMPLE
from bench.pairs import custom_benchmark, example_files
from evalrun_api.benchmark import Benchmark
from evalrun_api.checks import Surroundings
from evalrun_api.index import builtin_index
from evalrun_api.plan import StorePlan
from evalrun_api.planning import make_plan
from evalrun_api.policy import LAPTOP
from evalrun_api.profiles import builtin_profiles
from evalrun_api.spec import EvaluationRun
from evalrun_runner.local import LocalRun

DIFFERENT = 40
"""Photographs; each is asked about several times, and decoded each time."""
WIDTH, HEIGHT = 2048, 1536
GRAIN = 12
"""Grey levels of noise, which make a JPEG as large as a photograph's."""


def write_photographs(
    folder: Path, documents: int, width: int = WIDTH, height: int = HEIGHT
) -> str:
    """Write so many documents as `photographs.parquet`; what they are, in words."""
    source = datasets.load_dataset(
        "parquet",
        data_files={"test": str(EXAMPLE / "data" / "easy_vqa_test.parquet")},
        split=f"test[:{DIFFERENT}]",
    )
    pictures = [
        _photograph(document["image"], number, width, height)
        for number, document in enumerate(source)
    ]
    chosen = [number % DIFFERENT for number in range(documents)]
    rows = {
        "question_id": list(range(documents)),
        "image": [{"bytes": pictures[at], "path": f"{at}.jpg"} for at in chosen],
        "question": [source["question"][at] for at in chosen],
        "answer": [source["answer"][at] for at in chosen],
    }
    features = datasets.Features(
        {
            "question_id": datasets.Value("int64"),
            "image": datasets.Image(),
            "question": datasets.Value("string"),
            "answer": datasets.Value("string"),
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    table = datasets.Dataset.from_dict(rows, features=features)
    table.to_parquet(folder / "photographs.parquet")
    size = sum(map(len, pictures)) / len(pictures) / 1024
    return f"{documents} JPEGs of {width * height / 1e6:.1f} megapixels, {size:.0f} KiB each"


def _photograph(drawing: Any, number: int, width: int, height: int) -> bytes:
    """The drawing as a large and grainy JPEG."""
    large = np.asarray(drawing.convert("RGB").resize((width, height)), np.int16)
    grain = np.random.default_rng(number).integers(-GRAIN, GRAIN + 1, large.shape, np.int16)
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8)).save(
        buffer, "JPEG", quality=88
    )
    return buffer.getvalue()


def photograph_files() -> dict[str, str]:
    """The benchmark's files: easy-VQA's, over other data."""
    files = example_files()
    task = files.pop("easy_vqa.yaml")
    task = task.replace("task: easy_vqa", "task: photographs")
    task = task.replace("easy_vqa_test.parquet", "photographs.parquet")
    return {"photographs.yaml": task, **files}


def photograph_run(
    folder: Path, volumes: Mapping[str, Path], store: StorePlan, spec: Mapping[str, Any]
) -> LocalRun:
    """A run over the photographs. volumes: `data` holds them, others what spec names."""
    custom = custom_benchmark("photographs", photograph_files(), ["photographs"])
    written = {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "EvaluationRun",
        "metadata": {"name": "photographs"},
        "spec": {
            "benchmarks": [{"benchmarkRef": {"name": "photographs"}}],
            "security": {"allowCodeExecution": True},
            "cache": {"reuseAnswers": "Never"},
            **spec,
        },
    }
    planned = make_plan(
        EvaluationRun.model_validate(written),
        uuid.uuid4().hex,
        store,
        Surroundings(
            builtin_profiles(),
            builtin_index(),
            LAPTOP,
            {"photographs": Benchmark.model_validate(custom)},
        ),
    )
    return LocalRun(
        plan=planned.plan,
        files=planned.files,
        volumes=volumes,
        workspace=folder / planned.plan.run.uid,
        spool=folder / "spool",
    )
