"""Promises 1 and 2: the numbers of plain lmms-eval, whatever happens on the way.

Every test here answers 5,000 questions of the easy-VQA test split with the trained model; `make
exactness` compares every kind of request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

TOTAL = 5000
BENCHMARKS = [{"benchmarkRef": {"name": "easy-vqa"}, "limit": TOTAL}]
CHUNK = 16
COMPARED = ("results", "groups", "n-samples", "versions", "n-shot", "higher_is_better")


def assert_equal(ours: tuple[dict[str, Any], list[Any]], plain: dict[str, Any]) -> None:
    """Every number of results.json and every sample, value by value."""
    results, samples = ours
    assert {key: results.get(key) for key in COMPARED} == {
        key: plain["results"].get(key) for key in COMPARED
    }
    assert len(samples) == len(plain["samples"]) == TOTAL
    for mine, theirs in zip(samples, plain["samples"], strict=True):
        assert mine == theirs


def wait_for_answers(step: Any, count: int) -> int:
    """Wait until the step has computed at least `count` answers; how many it reports."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert step.poll() is None, step.outcome()
        progress = step.progress()
        if progress and progress.step == "answer" and progress.computed >= count:
            return progress.computed
        time.sleep(0.05)
    raise AssertionError("it never got so far")


def test_a_killed_run_started_again_gives_plain_lmms_evals_numbers_from_files(
    workbench: Any, plain: dict[str, Any], show_figure: Callable[[str], None]
) -> None:
    run = workbench.run(benchmarks=BENCHMARKS)
    first = workbench.start(run)
    reported = wait_for_answers(first, 3000)
    first.kill()
    first.wait(10)
    flushed, _ = workbench.journaled(run)

    second = workbench.again(run)
    assert workbench.execute(second).code == 0
    manifest = workbench.execute(second).message  # a finished run answers from its manifest
    records, requests = workbench.journaled(second)

    assert requests == TOTAL
    assert records == TOTAL, "an answer was journaled twice"
    assert manifest.reused + manifest.computed == TOTAL
    twice = reported - manifest.reused
    show_figure(
        f"files: SIGKILL after {reported} answers ({flushed} of them in the store, the rest in the "
        f"spool): {manifest.reused} reused, {manifest.computed} computed, "
        f"{max(twice, 0)} computed twice (at most the chunk in hand: {CHUNK})"
    )
    assert twice <= CHUNK
    assert_equal(workbench.results(second), plain)
    exact_match = float(manifest.scores[0].value)
    assert exact_match >= 0.98
    show_figure(f"exact_match {exact_match} on {TOTAL} documents, equal to plain lmms-eval's")


def test_a_stopped_run_started_again_gives_plain_lmms_evals_numbers_from_s3(
    workbench: Any, s3: Any, plain: dict[str, Any], show_figure: Callable[[str], None]
) -> None:
    run = workbench.run(s3.plan(), benchmarks=BENCHMARKS)
    first = workbench.start(run)
    wait_for_answers(first, 2000)
    first.stop()
    assert first.wait(60) == 30  # stopped; every finished answer is stored
    outcome = first.outcome()
    assert (outcome.outcome, outcome.reason) == ("Stopped", "Stopped")
    records, _ = workbench.journaled(run)
    assert records == outcome.computed

    second = workbench.again(run)
    message = workbench.execute(second).message
    assert message.reused == outcome.computed, "a finished answer was computed twice"
    assert message.reused + message.computed == TOTAL
    assert_equal(workbench.results(second), plain)
    show_figure(
        f"S3: SIGTERM after {outcome.computed} answers: {message.reused} reused, "
        f"{message.computed} computed, 0 computed twice"
    )

    third = workbench.again(run)
    begun = time.monotonic()
    message = workbench.execute(third).message
    assert (message.reused, message.computed) == (TOTAL, 0)
    assert_equal(workbench.results(third), plain)
    show_figure(
        f"S3: applied again: 0 of {TOTAL} answers computed, {time.monotonic() - begun:.1f} s"
    )
