"""What others write under a run's names is not taken for the operator's own."""

from __future__ import annotations

import pytest
from lives import GPU, TRIAL, Life, begin, names, phase, reason_of
from world import STUCK, Crashed, Fate, World
from world_documents import configuration
from world_process import Process

from evalrun_api.plan import RunIdentity
from evalrun_api.termination import TerminationMessage
from evalrun_operator.admission import admit, read_run
from evalrun_operator.snapshot import config_map, make_snapshot

pytestmark = pytest.mark.decisions


def forge(world: World) -> None:
    """A plan that names the run and breaks the policy, as whoever may write ConfigMaps may do."""
    run = read_run(world.run)
    snapshot, _ = admit(run, world.run["metadata"]["uid"], {}, configuration())
    store = snapshot.plan.store.model_copy(update={"uri": "s3://elsewhere"})
    forged = snapshot.plan.model_copy(update={"store": store})
    if names(world, "ConfigMap"):
        world.remove("ConfigMap", "trial-plan")
    world.put("ConfigMap", config_map(world.run, make_snapshot(forged, {})[1]))


def test_a_plan_that_somebody_wrote_before_the_operator_is_refused() -> None:
    world = begin(GPU)
    forge(world)
    life = Life(world)
    status = life.to_the_end()
    assert reason_of(status) == "NameTaken"
    assert "another plan than the run's spec gives" in status["conditions"][0]["message"]
    assert names(world, "Job") == []


def test_a_plan_that_somebody_wrote_over_the_operator_s_is_refused() -> None:
    life = Life(begin(GPU, fates={"prepare": [STUCK]}))
    life.until(phase("Preparing"))
    forge(life.world)
    life.process = Process(life.world, life.config)
    assert reason_of(life.to_the_end()) == "NameTaken"
    assert life.world.status["planDigest"]


@pytest.mark.parametrize("changed", [False, True])
def test_a_plan_that_was_written_just_before_a_crash_is_held_against_the_spec(
    changed: bool,
) -> None:
    spec = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    world = begin(spec, crash_after=1)
    world.put("Benchmark", TRIAL)
    life = Life(world)
    with pytest.raises(Crashed):
        life.process.work()
    world.crash_after = None
    assert (names(world, "ConfigMap"), names(world, "Job")) == (["trial-plan"], [])
    if changed:
        world.objects[("Benchmark", "shapes")]["document"]["spec"]["files"]["more.txt"] = "x"
    life.process = Process(world, life.config)
    status = life.to_the_end()
    assert status["phase"] == ("Failed" if changed else "Succeeded")
    assert reason_of(status) == ("NameTaken" if changed else "Completed")


@pytest.mark.parametrize("change", [{"step": "prepare"}, {"outcome": "Stopped"}])
def test_results_are_believed_of_a_score_step_that_ended_well_alone(change: dict[str, str]) -> None:
    message = TerminationMessage(
        run=RunIdentity(namespace="team", name="trial", uid="uid-1"),
        step="score",
        outcome="Succeeded",
        reason="Completed",
        results_uri="s3://b/forged.json",
        results_digest="d" * 64,
        trusted=True,
    )
    said = message.model_copy(update=change).encode().decode()
    life = Life(begin(GPU, fates={"score": [Fate(message=said)]}))
    status = life.to_the_end()
    assert (status["phase"], reason_of(status)) == ("Failed", "InternalError")
