"""Benchmarks that a judge scores: every verdict is bought once, and none is made up."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import judge_child
import pytest

from evalrun_api.judge import JudgeUsage
from evalrun_api.manifest import Manifest
from evalrun_runner import local
from judged.benchmark import VERDICTS_EACH, benchmark
from judged.server import KEY, Judge

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

DOCUMENTS = 12
VERDICTS = VERDICTS_EACH * DOCUMENTS

MODEL_KEY = "key-of-the-model-that-must-not-leak"


@pytest.fixture
def judge() -> Iterator[Judge]:
    with Judge().open() as judge:
        yield judge


@pytest.fixture(scope="module")
def model() -> Iterator[Judge]:
    """The model under evaluation: a server of the same kind."""
    with Judge().open() as model:
        yield model


@pytest.fixture
def bench(workbench: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("OPENAI_API_KEY", MODEL_KEY)
    monkeypatch.setenv("EVALRUN_JUDGE_API_KEY", KEY)
    return replace(workbench, benchmark=benchmark())


def judged(bench: Any, model: Judge, judge: Judge | None, **settings: Any) -> local.LocalRun:
    """A run of the benchmark whose answers are a server's."""
    evaluation: dict[str, Any] = {}
    if judge is not None:
        evaluation["judge"] = {
            "endpoint": judge.url,
            "model": "wise-judge",
            "prices": {"input": 2.5, "output": 10},
            **settings,
        }
    return bench.run(
        model={
            "profile": "openai",
            "source": {"endpoint": {"url": model.url, "model": "someones-model"}},
        },
        parallelism={},
        benchmarks=[{"benchmarkRef": {"name": "easy-vqa"}, "limit": DOCUMENTS}],
        evaluation=evaluation,
    )


def answered(bench: Any, run: local.LocalRun) -> local.LocalRun:
    """The run, its answers in the journal and nothing scored."""
    for step in ("prepare", "answer"):
        outcome = bench.execute(run, step)
        assert outcome.code == 0, outcome.message
    return run


def usage(bench: Any, run: local.LocalRun) -> JudgeUsage:
    found = Manifest.model_validate_json(bench.file(run, "manifest.json")).judge
    assert found is not None
    return found


def numbers(bench: Any, run: local.LocalRun) -> Any:
    results, samples = bench.results(run)
    kept = [
        (sample["doc_id"], sample["by_server"], sample["by_client"], sample["by_post"])
        for sample in samples
    ]
    return results["results"], kept


def test_three_kinds_of_client_are_judged_and_paid_for(
    bench: Any, model: Judge, judge: Judge, show_message: Any
) -> None:
    run = judged(bench, model, judge)
    outcome = bench.execute(run)
    assert outcome.code == 0, outcome.message
    assert (judge.sales, judge.models) == (VERDICTS, {"wise-judge"})
    assert judge.paths == {"/v1/chat/completions"}
    assert judge.keys == {f"Bearer {KEY}"}
    assert model.keys == {f"Bearer {MODEL_KEY}"}
    used = usage(bench, run)
    assert (used.requests, used.recorded, used.failures) == (VERDICTS, 0, 0)
    assert (used.input_tokens, used.output_tokens) == (100 * VERDICTS, 10 * VERDICTS)
    assert used.cost == pytest.approx(VERDICTS * (100 * 2.5 + 10 * 10) / 1e6)
    assert outcome.message.judge == used
    for path in bench.folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert KEY.encode() not in content, path
            assert MODEL_KEY.encode() not in content, path
    # The two draws of one request differ for some document, and stay what they were.
    before = numbers(bench, run)
    assert 0.5 in {sample[2] for sample in before[1]}


def test_each_verdict_is_bought_once_from_a_server_that_fails_and_by_steps_that_are_killed(
    bench: Any, model: Judge, show_message: Any
) -> None:
    with Judge().open() as faultless:
        calm = judged(bench, model, faultless)
        assert bench.execute(calm).code == 0
    port = faultless.port
    judge = Judge(failing=0.2, seed=7)
    judge.port = port  # the same address, so the same requests
    run = answered(bench, bench.again(calm, judge=calm.plan.judge))
    forget_verdicts(bench, run)
    with judge.open():
        for killed_at in (VERDICTS // 3, VERDICTS // 3):
            killed_by(judge, run, killed_at)
        outcome = bench.execute(run, "score")
        assert outcome.code == 0, outcome.message
    assert judge.failed > VERDICTS / 10
    assert judge.sales == VERDICTS
    assert judge.sold == faultless.sold
    assert numbers(bench, run) == numbers(bench, calm)
    used = usage(bench, run)
    show_message(f"{VERDICTS} verdicts, two kills", used.model_dump_json())
    assert (used.requests - used.failures, used.recorded) == (VERDICTS, 0)
    assert used.failures <= judge.failed
    assert used.cost == pytest.approx(VERDICTS * (100 * 2.5 + 10 * 10) / 1e6)

    # The judge is gone; a scoring of another day needs it no more.
    again = bench.again(run)
    copy_lock(bench, run, again)
    outcome = bench.execute(again, "score")
    assert outcome.code == 0, outcome.message
    assert numbers(bench, again) == numbers(bench, run)
    used = usage(bench, again)
    assert (used.requests, used.recorded, used.cost) == (0, VERDICTS, 0)


def killed_by(judge: Judge, run: local.LocalRun, number: int) -> None:
    """A score step that is killed when its judge hears so many requests, before it answers."""
    process = judge_child.start(local.arguments(run, "score"), os.environ)

    def at(arrived: int) -> bool:
        if arrived >= number:
            os.kill(process.pid, signal.SIGKILL)
        return arrived < number

    judge.hear(at)
    process.join(120)
    judge.hear(lambda number: True)
    assert process.exitcode == -signal.SIGKILL


def forget_verdicts(bench: Any, run: local.LocalRun) -> None:
    """Take away the verdicts of the runs before this one."""
    for path in (bench.folder / "store").rglob("judge/*"):
        path.unlink()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, data: Any) -> dict[str, Any]:
    """A folder that the tests of this file share, and in it one run whose answers are stored."""
    return {"folder": tmp_path_factory.mktemp("judges"), "data": data}


@pytest.fixture
def score(bench: Any, model: Judge, stored: dict[str, Any]) -> Any:
    """Scores the stored answers as a run of its own, with another judge."""
    bench = replace(bench, folder=stored["folder"])
    if "run" not in stored:
        stored["run"] = answered(bench, judged(bench, model, None))

    def work(judge: Judge | None, **settings: Any) -> tuple[Any, local.LocalRun]:
        plan = judged(bench, model, judge, **settings).plan
        again = bench.again(stored["run"], judge=plan.judge)
        copy_lock(bench, stored["run"], again)
        return bench.execute(again, "score"), again

    return work


def unscored(bench: Any, run: local.LocalRun) -> bool:
    from evalrun_runner import layout

    return bench.store(run).get(layout.manifest(run.plan.run)) is None


def test_a_benchmark_that_asks_a_judge_is_not_scored_without_one(
    bench: Any, score: Any, show_message: Any
) -> None:
    outcome, run = score(None)
    show_message("no judge", outcome.message.message)
    assert (outcome.code, outcome.reason) == (10, "InvalidSpec")
    assert "spec.evaluation.judge" in outcome.message.message
    assert unscored(bench, run)


@pytest.mark.parametrize(
    ("status", "code", "reason", "said"),
    [
        (401, 11, "CredentialsRefused", "evaluation.judge.secret"),
        (403, 11, "CredentialsRefused", "answers 403"),
        (404, 10, "JudgeRefused", "evaluation.judge.model"),
        (400, 10, "JudgeRefused", "no entry"),
        (503, 20, "JudgeUnavailable", "evaluation.judge.endpoint"),
    ],
)
def test_a_verdict_that_a_task_could_not_get_never_becomes_a_score(
    bench: Any,
    judge: Judge,
    score: Any,
    show_message: Any,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    code: int,
    reason: str,
    said: str,
) -> None:
    monkeypatch.setattr("evalrun_runner.judges.desk.PATIENCE_SECONDS", 1)
    judge.refusing = status
    outcome, run = score(judge)
    show_message(f"the judge answers {status}", outcome.message.message)
    assert (outcome.code, outcome.reason) == (code, reason)
    assert said in outcome.message.message
    assert KEY not in outcome.message.message
    assert unscored(bench, run)


def test_a_budget_stops_the_scoring_and_what_was_bought_is_not_bought_again(
    bench: Any, judge: Judge, score: Any, show_message: Any
) -> None:
    outcome, run = score(judge, budget={"requests": 10})
    show_message("a budget of ten requests", outcome.message.message)
    assert (outcome.code, outcome.reason) == (10, "JudgeBudgetExceeded")
    assert "10 of 10 requests" in outcome.message.message
    assert judge.sales == outcome.message.judge.requests == 10
    assert unscored(bench, run)

    outcome, _ = score(judge, budget={"tokens": 550})
    assert outcome.reason == "JudgeBudgetExceeded"
    assert (outcome.message.judge.recorded, outcome.message.judge.requests) == (10, 5)

    outcome, run = score(judge, budget={"requests": VERDICTS - 15})
    assert outcome.code == 0, outcome.message
    assert judge.sales == VERDICTS
    assert usage(bench, run).recorded == 15


def copy_lock(bench: Any, run: local.LocalRun, again: local.LocalRun) -> None:
    """Lock a run as another was locked: what `evalrun score` does."""
    from evalrun_runner import layout

    bench.store(run).put(layout.lock_of_run(again.plan.run), bench.file(run, "lock.json"))
