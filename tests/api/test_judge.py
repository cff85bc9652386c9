"""The judge's part of the contract."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from evalrun_api.checks import Surroundings
from evalrun_api.index import NameIndex
from evalrun_api.judge import JudgeSpec, JudgeUsage, Verdict
from evalrun_api.plan import RunIdentity, StorePlan
from evalrun_api.planning import make_plan
from evalrun_api.policy import LAPTOP, Policy, cluster_faults
from evalrun_api.profiles import builtin_profiles
from evalrun_api.spec import EvaluationRunSpec
from evalrun_api.termination import MAX_TERMINATION_BYTES, TerminationMessage

pytestmark = pytest.mark.contract

JUDGE = {
    "endpoint": "https://api.openai.com/v1",
    "model": "gpt-4o-2024-11-20",
    "secret": {"name": "openai", "key": "api-key"},
    "budget": {"requests": 20000, "tokens": 30000000},
    "prices": {"input": 2.5, "output": 10},
}


def spec(judge: dict[str, Any]) -> EvaluationRunSpec:
    return EvaluationRunSpec.model_validate(
        {
            "model": {
                "profile": "llava_hf",
                "source": {"volume": {"claimName": "models"}},
            },
            "benchmarks": [{"name": "mme"}],
            "evaluation": {"judge": judge},
        }
    )


@pytest.mark.parametrize(
    "change",
    [
        {"endpoint": "https://user:word@judge/v1"},
        {"endpoint": "https://judge/v1?key=secret"},
        {"endpoint": "judge:8000"},
        {"model": ""},
        {"secret": {"name": "openai"}},
        {"budget": {"requests": 0}},
        {"budget": {"dollars": 5}},
        {"prices": {"input": -1}},
        {"apiKey": "sk-1"},
    ],
)
def test_what_cannot_be_a_judge_is_refused(change: dict[str, Any]) -> None:
    JudgeSpec.model_validate(JUDGE)
    with pytest.raises(ValidationError):
        JudgeSpec.model_validate({**JUDGE, **change})


def test_a_judge_needs_the_administrators_word_as_any_server_does() -> None:
    (fault,) = cluster_faults(spec(JUDGE), Policy())
    assert fault.where == "spec.evaluation.judge.endpoint"
    assert cluster_faults(spec(JUDGE), Policy(allow_endpoints=True)) == []
    assert cluster_faults(spec(JUDGE), LAPTOP) == []


def test_a_plan_holds_the_judge_and_where_its_key_is(make_run: Any, index: NameIndex) -> None:
    run = make_run(evaluation={"judge": JUDGE})
    surroundings = Surroundings(profiles=builtin_profiles(), index=index, policy=LAPTOP)
    plan = make_plan(run, "uid", StorePlan(uri="file:///r"), surroundings).plan
    assert plan.document()["judge"] == JUDGE


def test_a_termination_message_with_a_judge_fits() -> None:
    used = JudgeUsage(
        requests=2**53,
        recorded=2**53,
        failures=2**53,
        input_tokens=2**53,
        output_tokens=2**53,
        cost=1e12,
    )
    message = TerminationMessage(
        run=RunIdentity(namespace="n" * 253, name="r" * 50, uid="u" * 64),
        step="score",
        outcome="Failed",
        reason="JudgeUnavailable",
        message="x" * 2048,
        results_uri="s3://" + "b" * 1000,
        model_revision="r" * 512,
        judge=used,
    )
    raw = message.encode()
    assert len(raw) <= MAX_TERMINATION_BYTES
    assert TerminationMessage.model_validate_json(raw).judge == used


def test_a_verdict_reads_back_as_it_was_written() -> None:
    response = {"choices": [{"message": {"content": "yes \u00e9"}}], "usage": None}
    verdict = Verdict(request="0" * 64, draw=3, run="uid", response=response, failures=2)
    line = verdict.model_dump_json(by_alias=True, exclude_none=True)
    assert Verdict.model_validate_json(line).response == response
    with pytest.raises(ValidationError):
        Verdict.model_validate_json(line.replace('"v":1', '"v":2'))
