"""Runs under random disturbance: they always end, in one way, and then nothing moves."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from world import Crashed, Fate, World, condition
from world_documents import configuration, run_document
from world_process import Process

pytestmark = pytest.mark.decisions

KINDS = ("EvaluationRun", "Job", "Pod")
SPECS: list[dict[str, Any]] = [
    {"parallelism": {"acceleratorsPerShard": 0}},
    {"parallelism": {"shards": 1}},
    {"parallelism": {"shards": 2}},
]
FATES = [
    Fate(),
    Fate(works=0),
    Fate(exit_code=1, exit_reason="Error"),
    Fate(exit_code=137, exit_reason="OOMKilled"),
    Fate(exit_code=143, disrupted=True),
    Fate(exit_code=30),
    Fate(exit_code=1, lost=True),
    Fate(message="{}"),
    Fate(exit_code=12, exit_reason="Error"),
    Fate(waiting=("ImagePullBackOff", "no")),
    Fate(unschedulable=True),
]
moves = st.one_of(
    st.tuples(st.just("tick"), st.sampled_from([0, 1, 5, 40])),
    st.tuples(st.just("look"), st.sets(st.sampled_from(KINDS)).map(sorted)),
    st.tuples(st.just("look"), st.just(list(KINDS))),
    st.tuples(st.just("crash"), st.integers(1, 3)),
    st.tuples(st.just("lose"), st.integers(1, 3)),
    st.tuples(st.just("restart"), st.none()),
    st.tuples(st.just("suspend"), st.none()),
    st.tuples(st.just("resume"), st.integers(1, 3)),
    st.tuples(st.just("delete"), st.tuples(st.sampled_from(["Job", "Pod"]), st.integers(0, 3))),
    st.tuples(st.just("vanish"), st.integers(0, 3)),
    st.tuples(st.just("quota"), st.booleans()),
)


def move(world: World, process: Process, what: str, how: Any) -> Process:
    """One disturbance; returns the operator's process, which may be another one then."""
    if what == "tick":
        world.tick(how)
    elif what == "look":
        process.step(how)
    elif what in ("crash", "lose"):
        after = len(world.writes) + how
        world.crash_after, world.lose_after = (after, None) if what == "crash" else (None, after)
    elif what == "restart":
        process = Process(world, process.config)
        process.see()
    elif what == "suspend":
        world.edit_run(suspend=True)
    elif what == "resume":
        parallelism = {**world.run["spec"]["parallelism"], "shards": how}
        world.edit_run(suspend=False, parallelism=parallelism)
    elif what == "quota":
        world.refuse_pods = how
    else:
        kind, number = ("Pod", how) if what == "vanish" else how
        found = world.all(kind)
        if found:
            name = found[number % len(found)]["metadata"]["name"]
            if what == "vanish":
                del world.objects[("Pod", name)]
            else:
                world.remove(kind, name)
    return process


@given(
    spec=st.sampled_from(SPECS),
    deadline=st.sampled_from([None, 30, 600]),
    fates=st.lists(st.sampled_from(FATES), max_size=4),
    steps=st.lists(moves, max_size=40),
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_happens_a_run_ends_once_and_rests(
    spec: dict[str, Any], deadline: int | None, fates: list[Fate], steps: list[tuple[str, Any]]
) -> None:
    limits = {"startDeadlineSeconds": 60, "retryLimit": 1}
    limits |= {"activeDeadlineSeconds": deadline} if deadline else {}
    world = World(fates={command: list(fates) for command in ("prepare", "answer", "score", "all")})
    world.put("EvaluationRun", run_document(**spec, **limits))
    process = Process(world, configuration(maxIgnoredRestarts=3))
    process.see()
    for what, how in steps:
        try:
            process = move(world, process, what, how)
        except Crashed:
            process = Process(world, process.config)
            process.see()
            world.crash_after = None
        assert len([job for job in world.all("Job") if not finished(job)]) <= 2
    world.crash_after = world.lose_after = None
    world.refuse_pods = False
    if world.run["spec"].get("suspend"):
        world.edit_run(suspend=False)
    for _ in range(200):
        process.work()
        if world.status.get("completionTime"):
            break
        world.tick(10)
    else:
        raise AssertionError(json.dumps(world.status, indent=1))
    end = dict(world.status)
    for _ in range(3):
        world.tick()
        process.work()
    before = len(world.writes)
    world.tick(3600)
    process.work()
    assert world.writes[before:] == []
    assert world.status == end
    assert all(finished(job) for job in world.all("Job"))
    assert bool(condition(world.run, "Complete")) != bool(condition(world.run, "Failed"))
    assert ("results" in end) == (end["phase"] == "Succeeded")
    event(f"{end['phase']}: {end['conditions'][0]['reason']}")


def finished(job: dict[str, Any]) -> bool:
    return bool(condition(job, "Complete") or condition(job, "Failed"))
