"""`evalrun plan`: decided, explained, and nothing done."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.contract


def test_every_value_says_where_it_came_from(invoke: Any, example: Path) -> None:
    result = invoke("plan", "run.yaml", "benchmark.yaml", "-o", "json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    origins = {path: entry["from"] for path, entry in document["origins"].items()}
    assert origins["model.backend"] == "profile llava_hf"
    assert origins["accelerators"] == "run"
    assert origins["seed.numpy"] == "default"
    assert origins["store"] == "default"
    assert document["plan"]["store"]["uri"] == (example / "evalrun-results").as_uri()


def test_benchmarks_of_other_settings_are_another_group(invoke: Any, example: Path) -> None:
    result = invoke("plan", "run.yaml", "benchmark.yaml")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["g0", "shapes_task", "all"] in [row[:3] for row in rows]
    assert ["g1", "mme", "first", "20"] in [row[:4] for row in rows]
    assert "temperature=0.5" in result.stdout


def test_a_missing_folder_is_a_need_and_no_refusal(invoke: Any, example: Path) -> None:
    (example / "data").rmdir()
    result = invoke("plan", "run.yaml", "benchmark.yaml", "-o", "json")
    assert result.exit_code == 0
    needs = {need["what"]: need["found"] for need in json.loads(result.stdout)["needs"]}
    assert needs == {"volume models": True, "volume data": False}


def test_nothing_is_written(invoke: Any, example: Path) -> None:
    before = sorted(example.rglob("*"))
    assert invoke("plan", "run.yaml", "benchmark.yaml").exit_code == 0
    assert sorted(example.rglob("*")) == before


def test_overrides_are_origins_too(invoke: Any, example: Path) -> None:
    arguments = ("--fresh", "--limit", "3", "--store", "s3://evals", "-o", "json")
    document = json.loads(invoke("plan", "run.yaml", "benchmark.yaml", *arguments).stdout)
    assert document["origins"]["reuseAnswers"] == {"value": "Never", "from": "--fresh"}
    assert document["origins"]["store"] == {"value": "s3://evals", "from": "--store"}
    assert {group["limit"] for group in document["plan"]["groups"]} == {3}


def test_a_run_from_stdin_has_its_volumes_in_the_current_folder(invoke: Any, example: Path) -> None:
    text = (example / "run.yaml").read_text()
    result = invoke("plan", "-", "benchmark.yaml", "-o", "json", stdin=text)
    (models, _) = json.loads(result.stdout)["needs"]
    assert models["detail"].startswith(str(example / "models" / "tiny"))


def test_planning_loads_neither_lmms_eval_nor_torch_nor_boto3(example: Path) -> None:
    import subprocess

    code = (
        "import sys; from typer.testing import CliRunner; from evalrun_cli.main import app; "
        "r = CliRunner().invoke(app, ['plan', 'run.yaml', 'benchmark.yaml']); "
        "assert r.exit_code == 0, r.output; "
        "print([m for m in ('torch', 'lmms_eval', 'boto3') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=example, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
