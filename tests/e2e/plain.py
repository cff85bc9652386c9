"""A plain `python -m lmms_eval` run of the example's benchmark, at batch 1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from space import EXAMPLE

from cluster import demo


def plain_run(folder: Path, documents: int) -> dict[str, Any]:
    """Its results and samples. folder: empty. documents: as many as it is limited to."""
    include = folder / "include"
    include.mkdir()
    written = yaml.safe_load((EXAMPLE / "benchmark.yaml").read_text())
    for name, text in written["spec"]["files"].items():
        (include / name).write_text(text.replace("${DATA}", str(demo.data())))
    arguments = (
        f"pretrained={EXAMPLE / 'models' / 'full'},"
        "dtype=float32,device_map=cpu,attn_implementation=sdpa"
    )
    command = [sys.executable, "-m", "lmms_eval", "--model", "llava_hf", "--device", "cpu"]
    command += ["--model_args", arguments, "--tasks", "easy_vqa", "--include_path", str(include)]
    command += ["--batch_size", "1", "--process_docs_parallel", "1", "--limit", str(documents)]
    command += ["--log_samples", "--output_path", str(folder)]
    with (folder / "log").open("wb") as log:
        subprocess.run(
            command,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
            stdout=log,
            stderr=log,
        )
    (results,) = folder.rglob("*_results.json")
    (samples,) = folder.rglob("*_samples_easy_vqa.jsonl")
    return {
        "results": json.loads(results.read_text()),
        "samples": [json.loads(line) for line in samples.read_text().splitlines()],
    }
