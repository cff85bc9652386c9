"""A benchmark of large photographs: easy-VQA's questions about images of several megapixels."""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL.Image

from evalrun_api.benchmark import Benchmark
from evalrun_api.checks import Surroundings
from evalrun_api.index import builtin_index
from evalrun_api.plan import StorePlan
from evalrun_api.planning import make_plan
from evalrun_api.policy import LAPTOP
from evalrun_api.profiles import builtin_profiles
from evalrun_api.spec import EvaluationRun
from evalrun_runner.local import LocalRun

from bench.pairs import custom_benchmark, example_files

DIFFERENT = 40
"""Photographs; each is asked about several times, and decoded each time."""
WIDTH, HEIGHT = 2048, 1536
QUESTIONS = (
    ("is there a circle?", "no"),
    ("what color is the shape?", "red"),
    ("is there a blue shape?", "yes"),
    ("what shape is in the image?", "rectangle"),
)


def write_photographs(
    folder: Path, documents: int, width: int = WIDTH, height: int = HEIGHT
) -> str:
    """Write so many documents as `photographs.parquet`; what they are, in words."""
    pictures = [_photograph(number, width, height) for number in range(DIFFERENT)]
    asked = [QUESTIONS[number % len(QUESTIONS)] for number in range(documents)]
    rows = {
        "question_id": list(range(documents)),
        "image": [
            {"bytes": pictures[number % DIFFERENT], "path": f"{number}.jpg"}
            for number in range(documents)
        ],
        "question": [question for question, _ in asked],
        "answer": [answer for _, answer in asked],
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


def _photograph(number: int, width: int, height: int) -> bytes:
    """A JPEG with detail on several scales, as a photograph has."""
    random = np.random.default_rng(number)
    total = np.zeros((height, width, 3), np.float32)
    for cells, weight in ((6, 110.0), (48, 60.0), (384, 30.0)):
        coarse = random.uniform(-1, 1, (cells * 3 // 4, cells, 3)).astype(np.float32)
        bands = [
            np.asarray(PIL.Image.fromarray(coarse[:, :, band]).resize((width, height)))
            for band in range(3)
        ]
        total += weight * np.stack(bands, axis=-1)
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.clip(total + 128, 0, 255).astype(np.uint8)).save(
        buffer, "JPEG", quality=90
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
