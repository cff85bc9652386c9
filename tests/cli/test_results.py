"""Finished runs in a store: listed, shown, and refused when they are not what the run wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from evalrun_api.plan import RunIdentity
from evalrun_api.status import Score
from evalrun_cli.records import attempts_of_keys
from evalrun_cli.tables import number, run_row, score_row
from evalrun_runner.local import Store, layout

pytestmark = pytest.mark.contract


def test_runs_are_listed_last_first_and_unfinished_ones_counted(
    invoke: Any, finish: Callable[..., Any], store: Store
) -> None:
    finish("aaaa-1", hour=1)
    finish("bbbb-2", name="other-run", hour=2, trusted=False)
    unfinished = RunIdentity(namespace="default", name="shapes-run", uid="cccc-3")
    store.put(layout.plan(unfinished), b"{}")
    result = invoke("results")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[1].split()[:2] == ["other-run", "bbbb-2"]
    assert " NO " in lines[1]
    assert "0.5123 shapes_task exact_match" in lines[2]
    assert "1 without a result" in result.stderr


def test_a_listing_is_a_document_too(invoke: Any, finish: Callable[..., Any]) -> None:
    finish("aaaa-1")
    document = json.loads(invoke("results", "-o", "json").stdout)
    assert [run["run"]["uid"] for run in document["runs"]] == ["aaaa-1"]
    assert document["unfinished"] == 0


def test_a_wide_listing_is_not_cut(
    invoke: Any, finish: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    uid = "0123456789abcdef-0123456789abcdef"
    finish(uid)
    header, row = invoke("results", "-o", "wide").stdout.splitlines()
    assert uid in row
    assert "DETERMINISM" in header


def test_a_run_is_shown_by_its_last_attempt_or_by_uid(
    invoke: Any, finish: Callable[..., Any]
) -> None:
    finish("aaaa-1", hour=2)
    finish("bbbb-2", hour=1)
    shown = invoke("results", "shapes-run")
    assert "aaaa-1" in shown.stdout
    assert "0.5123" in shown.stdout
    assert "1,000 answers computed, 200 reused" in shown.stdout
    assert "results/results.json" in shown.stdout
    assert "bbbb-2" in invoke("results", "shapes-run", "bb").stdout


def test_a_run_is_a_document_too(invoke: Any, finish: Callable[..., Any], tmp_path: Any) -> None:
    finish("aaaa-1")
    document = yaml.safe_load(invoke("results", "shapes-run", "-o", "yaml").stdout)
    folder = tmp_path / "evalrun-results" / "runs" / "default" / "shapes-run" / "aaaa-1"
    assert document["files"]["results"] == [str(folder / "results" / "results.json")]
    assert document["scores"][0]["value"] == "0.5123456"


@pytest.mark.parametrize("change", ["edited", "missing"])
def test_numbers_of_a_changed_results_file_are_not_shown(
    invoke: Any, finish: Callable[..., Any], tmp_path: Any, change: str
) -> None:
    finish("aaaa-1")
    folder = tmp_path / "evalrun-results" / "runs" / "default" / "shapes-run" / "aaaa-1"
    file = folder / "results" / "results.json"
    file.unlink() if change == "missing" else file.write_text("{}")
    result = invoke("results", "shapes-run")
    assert result.exit_code == 3
    assert "0.5123" not in result.stdout
    assert "results.json" in result.stderr
    assert "Do not trust this result" in result.stderr


def test_a_damaged_manifest_hides_no_other_run(
    invoke: Any, finish: Callable[..., Any], store: Store
) -> None:
    finish("aaaa-1")
    damaged = RunIdentity(namespace="default", name="shapes-run", uid="bbbb-2")
    store.put(layout.manifest(damaged), b'{"version": 1}')
    result = invoke("results")
    assert result.exit_code == 0
    assert "aaaa-1" in result.stdout
    assert "bbbb-2/manifest.json" in result.stderr


def test_objects_that_are_no_run_are_passed_over() -> None:
    keys = ["runs/default/a/1/plan.json", "runs/readme.txt", "runs/x/y/z/w/v", "runs/A B/c/d/e"]
    assert [attempt.run.uid for attempt in attempts_of_keys(keys)] == ["1"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0.9373333333333334", "0.9373"),
        ("1523.456", "1523.46"),
        ("0.00001", "1.00e-05"),
        ("0", "0.0000"),
        ("N/A", "N/A"),
        ("nan", "nan"),
        (None, ""),
    ],
)
def test_a_score_is_short_where_that_loses_nothing(text: str | None, shown: str) -> None:
    assert number(text) == shown


def test_a_score_row_names_filter_and_direction() -> None:
    score = Score(
        benchmark="b", metric="wer", filter="strict", value="0.1", higher_is_better=False, n=10
    )
    assert score_row(score) == ["b", "wer (strict) ↓", "0.1000", "", "10", "0"]


def test_a_row_of_a_run_without_scores_is_empty_there(finish: Callable[..., Any]) -> None:
    assert run_row(finish("aaaa-1", scores=[]))["SCORE"] == ""
