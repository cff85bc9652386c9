"""Runs of a cluster as people see them."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from cli_samples import condition, run
from rich.console import Console

from evalrun_cli import cluster_tables

pytestmark = pytest.mark.decisions

NOW = datetime(2026, 3, 1, 12, 5, tzinfo=UTC)
DONE = run(
    "done",
    condition("Complete", reason="Completed"),
    condition("Trusted", "False", "InvalidAnswers", "mme: 3% of the answers are empty"),
    phase="Succeeded",
    startTime="2026-03-01T12:00:00Z",
    completionTime="2026-03-01T12:03:20Z",
    headline="acc 0.5123",
    progress={"percent": 100, "etaSeconds": 0},
    shards={"total": 2, "succeeded": 2, "restarts": 1},
    scores=[{"benchmark": "mme", "metric": "acc", "value": "0.5123456", "n": 1200}],
    results={"uri": "s3://evals/runs/done/manifest.json", "digest": "ab" * 32},
    answers={"digest": "cd" * 32, "reused": 200, "computed": 1000, "invalid": 0},
    usage={"gpuSeconds": "400", "cost": "0.33"},
    provenance={"determinism": "Exact", "modelRevision": "a/model@1234", "lmmsEval": "0.7.3"},
)


def concluded(document: dict[str, Any], *, wide: bool = False) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    cluster_tables.print_conclusion(console, document, logs="evalrun logs done", wide=wide)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_row_tells_what_a_person_asks_first() -> None:
    row = cluster_tables.run_row(DONE, NOW)
    assert row["PHASE"] == "Succeeded"
    assert (row["PROGRESS"], row["ETA"], row["SCORE"], row["AGE"]) == (
        "100%",
        "-",
        "acc 0.5123",
        "5m",
    )
    assert (row["SHARDS"], row["RESTARTS"], row["TRUSTED"]) == ("2/2", "1", "NO")


def test_a_run_that_waits_for_a_person_is_marked() -> None:
    document = run("r", condition("Stalled", reason="Unschedulable"), phase="Answering")
    row = cluster_tables.run_row(document, NOW)
    assert (row["PHASE"], row["REASON"]) == ("Answering (stalled)", "Unschedulable")


def test_a_row_of_a_run_without_a_status_is_whole() -> None:
    row = cluster_tables.run_row(run(), NOW)
    assert (row["MODEL"], row["PHASE"], row["SCORE"]) == ("a/model", "Pending", "-")


def test_the_newest_run_comes_first() -> None:
    old, new = run("old"), run("new")
    new["metadata"]["creationTimestamp"] = "2026-03-02T00:00:00Z"
    assert cluster_tables.newest_first([old, new]) == [new, old]


@pytest.mark.parametrize(("wide", "namespaces"), [(False, False), (True, True)])
def test_columns_depend_on_what_is_asked(wide: bool, namespaces: bool) -> None:
    table = cluster_tables.run_table([DONE], NOW, wide=wide, namespaces=namespaces)
    titles = [column.header for column in table.columns]
    assert ("GPU-SECONDS" in titles) == wide
    assert ("NAMESPACE" in titles) == namespaces


def test_a_conclusion_has_scores_doubts_cost_and_the_way_to_the_results() -> None:
    told = concluded(DONE)
    assert "0.5123" in told
    assert "1,000 answers computed, 200 reused; determinism: Exact" in told
    assert "400 GPU-seconds, cost 0.33, 3:20 from start to end" in told
    assert "NOT TRUSTED: mme: 3% of the answers are empty" in told
    assert "results   s3://evals/runs/done/manifest.json" in told
    assert "a/model@1234" not in told
    assert "a/model@1234" in concluded(DONE, wide=True)


def test_a_conclusion_tells_idle_accelerators_failed_answers_and_what_judging_took() -> None:
    document = run(
        "r",
        condition("Complete", reason="Completed"),
        phase="Succeeded",
        shards={"total": 1, "workerRestarts": 2},
        answers={"reused": 0, "computed": 50, "invalid": 9, "errors": {"Stalled": 2, "Empty": 7}},
        usage={
            "gpuSeconds": "400",
            "gpuIdleSeconds": "100",
            "judgeRequests": 1200,
            "judgeCost": "1.2500",
        },
    )
    told = concluded(document)
    assert "50 answers computed, 0 reused, 9 invalid (7 Empty, 2 Stalled)" in told
    assert "400 GPU-seconds (25% idle)" in told
    assert "1,200 requests to the judge for 1.2500, 2 workers started anew" in told
    assert cluster_tables.run_row(document, NOW)["GPU-IDLE"] == "25%"


@pytest.mark.parametrize(
    "usage",
    [{}, {"gpuSeconds": "0", "gpuIdleSeconds": "0"}, {"gpuSeconds": "x", "gpuIdleSeconds": "1"},
     {"gpuSeconds": "5", "gpuIdleSeconds": "nan"}, {"gpuSeconds": 5, "gpuIdleSeconds": None}],
)  # fmt: skip
def test_an_idle_share_that_is_not_known_is_not_told(usage: dict[str, Any]) -> None:
    assert cluster_tables.idle_share(usage) == ""


def test_a_failure_is_told_in_the_operators_words_and_with_the_way_to_the_logs() -> None:
    told = concluded(run("r", condition("Failed", reason="OfTomorrow", message="[bold]no\x1b[2J")))
    assert "failed: OfTomorrow" in told
    assert "[bold]no" in told
    assert "\x1b" not in told
    assert "logs: evalrun logs done" in told


def test_a_failure_without_a_message_is_explained() -> None:
    assert "Memory ran out" in concluded(run("r", condition("Failed", reason="OutOfMemory")))


def test_documents_leave_field_managers_out() -> None:
    (item,) = cluster_tables.listing_document([DONE])["items"]
    assert "managedFields" not in item["metadata"]
    assert item["status"] == DONE["status"]


def test_long_cells_are_shortened_to_the_terminal_and_no_column_is_lost() -> None:
    cells = {"NAME": ["a-run"], "MODEL": ["m" * 40], "SCORE": ["s" * 20], "AGE": ["5m"]}
    widths = cluster_tables.widths_of(cells, 60)
    assert widths == {"NAME": 5, "MODEL": 24, "SCORE": 20, "AGE": 3}
    assert sum(widths.values()) + 2 * len(widths) == 60


def test_where_even_that_is_too_wide_nothing_is_shortened() -> None:
    cells = {"NAME": ["n" * 50], "MODEL": ["m" * 40]}
    assert cluster_tables.widths_of(cells, 60) == {"NAME": 50, "MODEL": 40}
    assert cluster_tables.widths_of(cells, None) == {"NAME": 50, "MODEL": 40}
