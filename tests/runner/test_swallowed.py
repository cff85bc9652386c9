"""Task code that catches everything, a request to stop too, as lmms-eval's vsibench does.

What it makes of that, the worst score or another prompt, may not reach a lock or a manifest.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "easy-vqa"
CATCHES_EVERYTHING = '''

import os
import signal


def catches_everything(name, usual, worst):
    """A function that is asked to stop once, where the test says so, and gives its worst."""

    def call(*arguments):
        if os.environ.get("EVALRUN_TEST_SWALLOWS") != name:
            return usual(*arguments)
        os.environ["EVALRUN_TEST_SWALLOWS"] = "nothing more"
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            return usual(*arguments)
        except BaseException:
            return worst

    return call


WORST = {"exact_match": 0.0, "yesno_acc": 0.0, "open_acc": 0.0}
doc_to_text = catches_everything("a prompt", doc_to_text, "no question")
process_results = catches_everything("a score", process_results, WORST)
'''


@pytest.fixture
def bench(workbench: Any) -> Any:
    files = yaml.safe_load((EXAMPLE / "benchmark.yaml").read_text())["spec"]["files"]
    files["easy_vqa_utils.py"] += CATCHES_EVERYTHING
    return replace(workbench, benchmark={"files": files})


@pytest.mark.parametrize(
    ("step", "where"), [("prepare", "a prompt"), ("answer", "a prompt"), ("score", "a score")]
)
def test_a_stop_that_a_task_swallows_moves_nothing(
    bench: Any, monkeypatch: pytest.MonkeyPatch, step: str, where: str
) -> None:
    run = bench.run(benchmarks=[{"benchmarkRef": {"name": "easy-vqa"}, "limit": 4}])
    ends = []
    for each in ("prepare", "answer", "score"):
        if each == step:
            monkeypatch.setenv("EVALRUN_TEST_SWALLOWS", where)
            outcome = bench.execute(run, each)
            ends.append((outcome.code, outcome.reason))
            monkeypatch.delenv("EVALRUN_TEST_SWALLOWS")
        assert bench.execute(run, each).code == 0
    assert ends == [(30, "Stopped")]
    assert "no question" not in str(bench.results(run))
    plain = bench.again(run)
    assert bench.execute(plain).code == 0
    assert bench.results(run)[0]["results"] == bench.results(plain)[0]["results"]
