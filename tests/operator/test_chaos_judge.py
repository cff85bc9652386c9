"""What `make chaos` would not overlook: each violation, made up, is found; a good life is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from bench.api_client import WatchEvent
from bench.api_faults.draws import SHARES, Draws
from bench.api_faults.killing import Kills
from bench.chaos import judge
from bench.chaos.audit import fenced, writes_by_run
from bench.chaos.history import History, RunRecord
from bench.chaos.judge import Expected
from bench.chaos.keeper import defects_in
from bench.chaos.scripts import draw

pytestmark = pytest.mark.decisions

Doc = dict[str, Any]
USER = "the operator"
WELL = Expected("Succeeded", frozenset({"prepare", "answer", "score"}), 0)


class Story:
    """A history as it is told, each event with the next version."""

    def __init__(self) -> None:
        self.history = History()
        self._version = 0

    @property
    def told(self) -> RunRecord:
        (found,) = self.history.by_uid.values()
        return found

    def run(self, kind: str = "MODIFIED", *, suspend: bool = False, **status: Any) -> None:
        run = {"metadata": self._metadata("one", "run-1"), "spec": {"suspend": suspend}}
        self.history.run(WatchEvent(kind, {**run, "status": status}))

    def job(
        self,
        step: str,
        kind: str = "ADDED",
        condition: str = "",
        number: int = 1,
        execution: str = "x",
    ) -> None:
        metadata = self._metadata(f"one-{step}", f"{step}-{number}")
        metadata["labels"] = {"lmms-eval.io/step": step}
        metadata["annotations"] = {"lmms-eval.io/execution-digest": execution}
        metadata["ownerReferences"] = [{"uid": "run-1"}]
        conditions = [{"type": condition, "status": "True"}] if condition else []
        document = {"metadata": metadata, "status": {"conditions": conditions}}
        self.history.job(WatchEvent(kind, document))

    def step(self, step: str, number: int = 1) -> None:
        """A step from its beginning to its good end."""
        self.job(step, number=number)
        self.job(step, "MODIFIED", "Complete", number)

    def _metadata(self, name: str, uid: str) -> Doc:
        self._version += 1
        return {
            "namespace": "team",
            "name": name,
            "uid": uid,
            "resourceVersion": str(self._version),
        }


def good_life() -> Story:
    story = Story()
    story.run("ADDED")
    for step in ("prepare", "answer", "score"):
        story.step(step)
    story.run(**ENDED)
    return story


ENDED: Doc = {
    "phase": "Succeeded",
    "startTime": "2026-01-01T00:00:00Z",
    "completionTime": "2026-01-01T00:00:30Z",
    "shards": {"restarts": 1},
}


def everything(run: RunRecord, expected: Expected = WELL) -> list[str]:
    return [
        *judge.duplicates(run),
        *judge.after_the_end(run),
        *judge.lost(run, expected),
        *judge.left_behind(run),
        *judge.terminal_changed(run),
        *judge.counters_fell(run),
    ]


def test_a_good_life_is_not_found_fault_with() -> None:
    run = good_life().told
    assert everything(run) == []
    assert judge.miscounted(run, Expected("Succeeded", WELL.steps, 1)) == []


def test_two_jobs_at_work_at_the_same_time_are_found() -> None:
    story = Story()
    story.run("ADDED")
    story.job("prepare")
    story.job("answer")
    (found,) = judge.duplicates(story.told)
    assert "one-answer was created while one-prepare was at work" in found


def test_a_job_that_is_being_deleted_is_still_at_work() -> None:
    story = Story()
    story.run("ADDED")
    story.job("answer")
    story.run(suspend=True)
    story.job("answer", number=2)
    story.job("answer", "DELETED")
    (found,) = judge.duplicates(story.told)
    assert "was created while" in found


def test_a_step_that_is_done_twice_for_no_reason_is_found() -> None:
    story = Story()
    story.run("ADDED")
    story.step("prepare")
    story.job("prepare", "DELETED")
    story.step("prepare", number=2)
    (found,) = judge.duplicates(story.told)
    assert "one-prepare was created again for no reason" in found


def _by_hand(story: Story) -> None:
    story.history.by_hand("answer-1")


def _suspended(story: Story) -> None:
    story.run(suspend=True)


@pytest.mark.parametrize("reason", [_by_hand, _suspended])
def test_a_step_that_is_done_twice_for_a_reason_is_in_order(
    reason: Callable[[Story], None],
) -> None:
    story = Story()
    story.run("ADDED")
    story.job("answer")
    reason(story)
    story.job("answer", "DELETED")
    story.job("answer", number=2)
    assert judge.duplicates(story.told) == []


def test_a_job_of_a_run_that_was_changed_while_it_was_being_created_is_replaced_in_order() -> None:
    story = Story()
    story.run("ADDED")
    story.run(suspend=True)
    story.run()
    story.job("prepare", execution="before")
    story.job("prepare", "DELETED", execution="before")
    story.job("prepare", number=2, execution="after")
    assert judge.duplicates(story.told) == []


def test_one_reason_is_none_for_a_third_time() -> None:
    story = Story()
    story.run("ADDED")
    story.job("answer")
    story.run(suspend=True)
    for number in (1, 2):
        story.job("answer", "DELETED", number=number)
        story.job("answer", number=number + 1)
    assert len(judge.duplicates(story.told)) == 1


def test_a_job_after_the_end_is_found() -> None:
    story = good_life()
    story.job("answer", "DELETED")
    story.job("answer", number=2)
    assert len(judge.after_the_end(story.told)) == 1


def test_a_run_that_never_ends_is_lost() -> None:
    story = Story()
    story.run("ADDED", phase="Preparing")
    story.job("prepare")
    (found,) = judge.lost(story.told, WELL)
    assert "has not ended, it is Preparing: ['one-prepare at work']" in found


def test_a_run_that_ends_otherwise_than_it_should_is_lost() -> None:
    story = good_life()
    (found,) = judge.lost(story.told, Expected("Failed", WELL.steps, 0))
    assert "ended as Succeeded, not as Failed" in found


def test_a_success_without_a_step_is_lost() -> None:
    story = Story()
    story.run("ADDED")
    story.step("prepare")
    story.job("answer")
    story.job("answer", "MODIFIED", "Failed")
    story.step("score")
    story.run(**ENDED)
    (found,) = judge.lost(story.told, WELL)
    assert "succeeded without ['answer']" in found


def test_an_outcome_that_changes_is_found() -> None:
    story = good_life()
    story.run(**{**ENDED, "phase": "Failed"})
    (found,) = judge.terminal_changed(story.told)
    assert "['phase']" in found


def test_an_outcome_that_vanishes_is_found() -> None:
    story = good_life()
    story.run(phase="Scoring")
    assert len(judge.terminal_changed(story.told)) == 1


def test_a_generation_that_is_seen_after_the_end_changes_no_outcome() -> None:
    story = good_life()
    story.run(**ENDED, observedGeneration=2)
    assert judge.terminal_changed(story.told) == []


def test_a_counter_that_falls_is_found() -> None:
    story = Story()
    story.run("ADDED", shards={"restarts": 2}, resumes=1)
    story.run(shards={"restarts": 1})
    found = judge.counters_fell(story.told)
    assert [text.split(": ")[1] for text in found] == [
        "resumes fell from 1 to None",
        "shards.restarts fell from 2 to 1",
    ]


def test_failures_and_resumes_that_never_were_are_found() -> None:
    story = good_life()
    story.run(**{**ENDED, "resumes": 1})
    found = judge.miscounted(story.told, WELL)
    assert ["shards.restarts" in text or "resumes" in text for text in found] == [True, True]


def test_a_job_that_outlives_its_deleted_run_is_found() -> None:
    story = Story()
    story.run("ADDED")
    story.job("prepare")
    story.run("DELETED")
    assert len(judge.left_behind(story.told)) == 1
    story.job("prepare", "DELETED")
    assert judge.left_behind(story.told) == []


def test_more_writes_than_a_life_may_cost_are_found() -> None:
    run = good_life().told
    allowed = 15 + 4 + 2  # a counted failure, and less than a minute
    assert judge.allowed_writes([run]) == allowed
    assert judge.too_many_writes({"team/one": allowed}, {"team/one": [run]}) == []
    (found,) = judge.too_many_writes({"team/one": allowed + 1}, {"team/one": [run]})
    assert found == f"team/one: {allowed + 1} writes, {allowed} are allowed"


def test_what_people_do_to_a_run_may_cost_writes() -> None:
    story = good_life()
    before = judge.allowed_writes([story.told])
    story.run(**ENDED, suspend=True)
    story.history.by_hand("answer-1")
    assert judge.allowed_writes([story.told]) == before + 4 + 4


def audit_line(verb: str, resource: str, name: str, code: int = 200, user: str = USER) -> str:
    reference = {"namespace": "team", "resource": resource, "name": name}
    return json.dumps(
        {
            "user": {"username": user},
            "verb": verb,
            "objectRef": reference,
            "responseStatus": {"code": code},
        }
    )


def test_writes_are_counted_that_succeeded_and_are_the_operators() -> None:
    runs, kinds = writes_by_run(
        [
            audit_line("create", "jobs", "run-00001-prepare", 201),
            audit_line("create", "events", "run-00001.abc", 201),
            audit_line("create", "jobs", "run-00001-prepare", 409),
            audit_line("get", "jobs", "run-00001-prepare"),
            audit_line("update", "leases", "lmms-eval-operator"),
            audit_line("delete", "jobs", "run-00001-prepare", user="somebody"),
        ],
        USER,
    )
    assert runs == {"team/run-00001": 2}
    assert kinds == {"create jobs": 1, "create events": 1}


def test_a_status_that_the_rules_forbid_is_seen_though_it_was_never_stored() -> None:
    lines = [
        audit_line("patch", "evaluationruns", "run-00001", 422),
        audit_line("patch", "evaluationruns", "run-00002", 409),
        audit_line("patch", "evaluationruns", "run-00003"),
        audit_line("create", "jobs", "run-00004-prepare", 422),
    ]
    assert fenced(lines, USER) == ["team/run-00001: a status was refused"]


def log_line(level: str, message: str) -> str:
    return json.dumps({"level": level, "message": message})


def test_a_part_that_ends_and_a_trace_are_defects_and_what_sigkill_cut_is_none() -> None:
    lines = [
        log_line("ERROR", "a defect; again in 1.0 s"),
        log_line("CRITICAL", "workers ended: division by zero"),
        log_line("CRITICAL", "resync ended: an earlier one; was etcd restored from a backup?"),
        log_line("CRITICAL", "leadership is lost: the process ends, so that nothing is written"),
        "Traceback (most recent call last):",
        '{"level": "IN',
    ]
    assert defects_in("\n".join(lines)) == [*lines[:2], lines[4]]


def test_a_write_of_a_dead_process_kills_nobody() -> None:
    killed: list[float] = []
    kills = Kills(1, lambda _: 1.0, 1, lambda: killed.append(0.0), lambda: 9.0, born_at=8.0)
    for _ in range(20):
        assert not kills.before(7.0)
        assert not kills.after(7.0, 201)
    assert killed == []


def test_a_seed_gives_the_same_runs_and_the_same_faults() -> None:
    assert draw(7, 3, ["a", "b"]) == draw(7, 3, ["a", "b"])
    drawn = [[Draws(7).request(kind) for kind in SHARES] for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_no_fault_is_drawn_in_a_calm() -> None:
    draws = Draws(1)
    draws.calm = True
    assert {draws.request("write") for _ in range(1000)} == {"none"}


def test_kills_fall_between_writes_and_a_write_of_the_successor_ends_the_measure() -> None:
    now = [0.0]
    killed: list[float] = []
    kills = Kills(4, lambda _: 3.0, 1, lambda: killed.append(now[0]), lambda: now[0])
    for second in range(200):
        now[0] = float(second)
        if len(killed) > len(kills.recovery) and second == killed[-1] + 5:
            kills.born_at = now[0]
        if not kills.before(now[0]):
            kills.after(now[0], 201)
    assert len(killed) == kills.done == 4
    assert 0 < kills.before_write < 4
    assert kills.recovery == [5.0] * 4
