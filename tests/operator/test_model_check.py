"""The model check at bounds that take seconds. `make model-check` goes further."""

from __future__ import annotations

from dataclasses import replace

import pytest

from model_check import mutants, properties
from model_check.explore import Exploration
from model_check.scenarios import FULL, Scenario

pytestmark = pytest.mark.decisions

BOUNDS = {
    "one Job": 1,
    "three Jobs": 1,
    "two shards": 1,
    "two shards, each status at once": 0,
    "one Job, suspended and resumed": 0,
    "two shards, suspended and resumed with one": 0,
    "a deadline over a suspension": 0,
    "a time to live": 1,
    "deleted": 1,
    "deleted, children first": 0,
    "two shards, deleted": 0,
    "two shards, deleted, children first": 0,
    "somebody else's Job": 1,
    "somebody else's ConfigMap": 1,
    "one Job in a queue": 1,
    "two shards in a queue": 0,
    "a deadline in a queue": 1,
    "in a queue, suspended and resumed": 0,
    "born suspended": 1,
    "nodes are lost": 1,
    "nodes are lost over a suspension": 0,
}
SMALL = [replace(s, faults=BOUNDS[s.name]) for s in FULL if s.name in BOUNDS]
QUICK = [
    "acts without expectations",
    "ignores deletionTimestamp",
    "takes whatever has its label for its own",
    "writes after the end",
    "takes a disruption for a failure",
    "creates for a suspended run",
    "sets no timer",
    "gives up no lost pod",
]


@pytest.mark.parametrize("scenario", SMALL, ids=lambda scenario: scenario.name)
def test_every_reachable_state_is_right_and_comes_to_rest(scenario: Scenario) -> None:
    result = Exploration(scenario).run()
    assert result.violation is None, "\n".join(result.trace)
    assert result.states > 3
    assert sum(result.ends.values()) > 0
    assert bool(result.faults) == bool(scenario.faults)


@pytest.mark.parametrize(
    "mutant", [m for m in mutants.MUTANTS if m.name in QUICK], ids=lambda mutant: mutant.name
)
def test_a_rule_that_is_wrong_is_noticed(mutant: mutants.Mutant) -> None:
    with mutant.applied():
        result = Exploration(mutant.where).run()
    assert result.violation in properties.PROPERTIES


def test_a_counterexample_is_told_in_steps_that_a_person_can_follow() -> None:
    (mutant,) = (m for m in mutants.MUTANTS if m.name == "forgets to record the step")
    with mutant.applied():
        result = Exploration(mutant.where).run()
    assert result.violation == properties.ORDER
    text = "\n".join(result.trace)
    assert "0. the run is applied" in text
    assert "a person deletes Job trial-prepare" in text
    assert "the operator looks; create Job trial-prepare; create ConfigMap trial-plan" in text
    assert "BROKEN steps in order: Job trial-prepare is created again in phase Answering" in text


def test_each_rule_is_broken_once() -> None:
    names = [mutant.name for mutant in mutants.MUTANTS]
    assert len(set(names)) == len(names) >= 15
    assert set(QUICK) <= set(names)
