"""Whole lives of runs in a small world: what goes well, what is disturbed, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from world import FINE, REQUESTS, STUCK, Crashed, Fate, LostReply, World, condition
from world_documents import configuration, run_document
from world_process import Process

from evalrun_api.progress import Progress
from evalrun_operator.reconcile import reconcile

pytestmark = pytest.mark.decisions

CPU = {"parallelism": {"acceleratorsPerShard": 0}}
GPU: dict[str, Any] = {}
THREE = {"parallelism": {"shards": 3}}
EIGHT = {"parallelism": {"shards": 8}}
STEPS = ["prepare", "answer", "score", "score"]
SHAPES = pytest.mark.parametrize("spec", [CPU, GPU, THREE], ids=["cpu", "gpu", "three"])
TRIAL = {
    "metadata": {"name": "shapes"},
    "document": {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "Benchmark",
        "metadata": {"name": "shapes"},
        "spec": {"tasks": ["shapes"], "files": {"shapes.yaml": "task: shapes\n"}},
    },
}


def begin(spec: dict[str, Any], **fields: Any) -> World:
    world = World(**fields)
    world.put("EvaluationRun", run_document(**spec))
    return world


class Life:
    """A world and the operator in it, which is started anew when it crashes."""

    def __init__(self, world: World, **config: Any) -> None:
        self.world = world
        self.config = configuration(**config)
        self.process = Process(world, self.config)
        self.crashes = 0

    def work(self) -> None:
        try:
            self.process.work()
        except Crashed:
            self.crashes += 1
            self.world.crash_after = None
            self.process = Process(self.world, self.config)
            self.process.work()

    def until(self, done: Callable[[World], Any], ticks: int = 120, seconds: float = 5) -> None:
        for _ in range(ticks):
            self.work()
            if done(self.world):
                return
            self.world.tick(seconds)
        raise AssertionError(f"never: {json.dumps(self.world.status, indent=1)}")

    def to_the_end(self, **arguments: Any) -> dict[str, Any]:
        self.until(lambda world: world.status.get("completionTime"), **arguments)
        self.rest()
        return self.world.status

    def rest(self) -> None:
        """All comes to rest, and then nothing is written any more."""
        for _ in range(5):
            self.world.tick()
            self.work()
        before = len(self.world.writes)
        for _ in range(5):
            self.world.tick(60)
            self.work()
        assert self.world.writes[before:] == []
        plan = self.process.decide()
        assert plan is None or (plan.actions, plan.status, plan.events) == ((), None, ())


def phase(name: str) -> Callable[[World], bool]:
    return lambda world: world.status.get("phase") == name


def names(world: World, kind: str) -> list[str]:
    return sorted(document["metadata"]["name"] for document in world.all(kind))


def at_step(world: World, step: str = "answer") -> list[dict[str, Any]]:
    return [
        pod for pod in world.all("Pod") if pod["metadata"]["labels"]["lmms-eval.io/step"] == step
    ]


def reason_of(status: dict[str, Any]) -> str:
    (ready,) = (entry for entry in status["conditions"] if entry["type"] == "Ready")
    return str(ready["reason"])


def reason_of_stall(status: dict[str, Any]) -> str:
    (stalled,) = (entry for entry in status["conditions"] if entry["type"] == "Stalled")
    return str(stalled["reason"])


def succeeded(life: Life) -> None:
    world = life.world
    status = world.status
    assert status["phase"] == "Succeeded", json.dumps(status, indent=1)
    assert condition({"status": status}, "Complete")
    assert status["results"]["uri"] == "s3://b/manifest.json"
    assert status["progress"]["requestsDone"] == REQUESTS
    assert world.jobs_alive <= 1


# What goes well


@pytest.mark.parametrize(
    ("spec", "jobs"),
    [
        (CPU, ["trial-run"]),
        (GPU, ["trial-answer", "trial-prepare", "trial-score"]),
        (THREE, ["trial-answer", "trial-prepare", "trial-score"]),
    ],
    ids=["cpu", "gpu", "three"],
)
def test_a_run_goes_through_its_jobs_to_its_results(spec: dict[str, Any], jobs: list[str]) -> None:
    life = Life(begin(spec))
    life.to_the_end()
    succeeded(life)
    assert names(life.world, "Job") == jobs
    assert names(life.world, "ConfigMap") == ["trial-plan"]
    assert life.world.status["activeSeconds"] == 15 * len(jobs)


@pytest.mark.parametrize("spec", [CPU, GPU, EIGHT], ids=["cpu", "gpu", "eight"])
def test_a_life_takes_at_most_fifteen_writes_however_many_shards(
    spec: dict[str, Any], show_figure: Callable[[str], None]
) -> None:
    life = Life(begin(spec, fates={"all": [Fate(works=3)]}))

    def scrape(world: World) -> bool:
        for pod in world.all("Pod"):
            if pod["status"]["phase"] == "Running":
                step = pod["metadata"]["labels"]["lmms-eval.io/step"]
                step = STEPS[pod["_worked"]] if step == "all" else step
                told = Progress(step=step, activity="at work", requests_done=pod["_worked"])
                life.process.progress[pod["metadata"]["uid"]] = told
        return bool(world.status.get("completionTime"))

    life.until(scrape)
    life.rest()
    succeeded(life)
    counted = life.world.counted_writes
    assert len(counted) <= 15, counted
    show_figure(f"writes of a life, {spec or 'one GPU'}: {len(counted)}, {counted}")


def test_progress_is_written_within_its_budget_alone() -> None:
    life = Life(begin(THREE, fates={"answer": [STUCK] * 3}))
    life.until(phase("Answering"))
    life.world.tick()
    life.world.tick()
    life.work()
    before = len(life.world.writes)
    for second in range(600):
        life.world.now += timedelta(seconds=1)
        for pod in life.world.all("Pod"):
            if pod["status"]["phase"] == "Running":
                told = Progress(step="answer", activity="a", requests_done=second % 40)
                life.process.progress[pod["metadata"]["uid"]] = told
        life.work()
    written = life.world.writes[before:]
    assert set(written) == {"progress"}
    assert len(written) <= 20


# Crashes and lost answers


@SHAPES
def test_a_crash_after_any_write_changes_nothing(spec: dict[str, Any]) -> None:
    life = Life(begin(spec))
    life.to_the_end()
    total = len(life.world.writes)
    for after in range(1, total + 1):
        again = Life(begin(spec, crash_after=after))
        again.to_the_end()
        succeeded(again)
        assert again.crashes == 1
        assert again.world.created["Job"] == life.world.created["Job"]
        assert again.world.status["activeSeconds"] == life.world.status["activeSeconds"]
        assert again.world.status["startTime"]


@SHAPES
def test_a_lost_reply_to_any_write_changes_nothing(spec: dict[str, Any]) -> None:
    life = Life(begin(spec))
    life.to_the_end()
    for after in range(1, len(life.world.writes) + 1):
        again = Life(begin(spec, lose_after=after))
        again.to_the_end()
        succeeded(again)
        assert again.world.created["Job"] == life.world.created["Job"]
        assert again.world.status.get("usage") == life.world.status.get("usage")


@SHAPES
def test_a_crash_while_a_run_is_suspended_or_resumed_changes_nothing(spec: dict[str, Any]) -> None:
    def live(crash_after: int | None) -> Life:
        life = Life(begin(spec, crash_after=crash_after, fates={"answer": [STUCK], "all": [STUCK]}))
        working = "Preparing" if spec is CPU else "Answering"
        life.until(phase(working))
        life.world.tick()
        life.world.edit_run(suspend=True)
        life.until(lambda world: condition(world.run, "Suspended"))
        life.world.edit_run(suspend=False)
        life.to_the_end()
        return life

    calm = live(None)
    for after in range(1, len(calm.world.writes) + 1):
        life = live(after)
        succeeded(life)
        assert life.world.status["resumes"] == 1
        assert life.world.status["activeSeconds"] == calm.world.status["activeSeconds"]
        assert life.world.jobs_alive == 1


def test_what_gone_pods_cost_is_counted_once_though_a_reply_is_lost() -> None:
    def live(lose_after: int | None) -> dict[str, Any]:
        life = Life(begin(THREE, lose_after=lose_after, fates={"answer": [STUCK] * 3}))
        life.until(phase("Answering"))
        life.world.tick()
        life.world.edit_run(suspend=True)
        life.until(lambda world: condition(world.run, "Suspended"))
        life.world.edit_run(suspend=False)
        life.to_the_end()
        succeeded(life)
        return {name: life.world.status[name] for name in ("usage", "gonePods", "shards")}

    calm = live(None)
    assert calm["gonePods"]["disruptions"] == 3
    for after in range(1, 20):
        assert live(after) == calm


# Suspension


@SHAPES
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_a_run_may_be_suspended_at_any_moment_and_go_on_with_other_shards(
    spec: dict[str, Any], shards: int
) -> None:
    accelerators = spec.get("parallelism", {}).get("acceleratorsPerShard", 1)
    for moment in range(16):
        life = Life(begin(spec))
        for _ in range(moment):
            life.work()
            life.world.tick()
        if life.world.status.get("completionTime"):
            continue
        life.world.edit_run(suspend=True)
        ended = False
        for _ in range(6):
            life.work()
            life.world.tick()
        ended = bool(life.world.status.get("completionTime"))
        if not ended:
            assert condition(life.world.run, "Suspended"), (moment, life.world.status)
            assert all(condition(job, "Complete") for job in life.world.all("Job"))
            life.rest()
        parallelism = {"shards": shards, "acceleratorsPerShard": accelerators}
        life.world.edit_run(suspend=False, parallelism=parallelism)
        life.to_the_end()
        succeeded(life)
        if not ended:
            assert life.world.status["resumes"] == 1
            suspended = [c for c in life.world.status["conditions"] if c["type"] == "Suspended"]
            assert [c["status"] for c in suspended] == ["False"]
        assert len(life.world.counted_writes) <= 15 + 4 + 4


def test_time_is_counted_once_where_a_suspension_is_carried_out_late() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.world.tick()
    life.world.edit_run(suspend=True)
    life.world.crash_after = len(life.world.writes) + 1
    with pytest.raises(Crashed):
        life.process.work()
    life.world.crash_after = None
    spent = life.world.status["activeSeconds"]
    life.world.tick(600)
    life.process = Process(life.world, life.config)
    life.until(lambda world: condition(world.run, "Suspended"))
    assert life.world.status["activeSeconds"] == spent


@pytest.mark.parametrize("taken_back", [False, True])
def test_time_is_counted_once_of_a_job_that_ends_before_its_suspension(taken_back: bool) -> None:
    life = Life(begin(GPU, fates={"answer": [Fate(works=3)]}))
    life.until(phase("Answering"))
    life.world.tick()
    life.world.tick()
    life.world.edit_run(suspend=True)
    life.world.crash_after = len(life.world.writes) + 1  # the status; not the delete
    with pytest.raises(Crashed):
        life.process.work()
    life.world.crash_after = None
    assert life.world.status["phase"] == "Suspended"
    if taken_back:
        life.world.edit_run(suspend=False)
    while not condition(life.world.objects[("Job", "trial-answer")], "Complete"):
        life.world.tick()
    life.process = Process(life.world, life.config)
    if not taken_back:
        life.until(lambda world: condition(world.run, "Suspended"))
        life.world.tick(600)
        life.world.edit_run(suspend=False)
    life.to_the_end()
    succeeded(life)
    took = 0.0
    for job in life.world.all("Job"):
        ended = condition(job, "Complete")
        assert ended is not None
        begun = datetime.fromisoformat(job["status"]["startTime"])
        took += (datetime.fromisoformat(ended["lastTransitionTime"]) - begun).total_seconds()
    assert life.world.status["activeSeconds"] == took


def test_a_last_step_that_is_repeated_after_a_suspension_is_not_called_suspended() -> None:
    life = Life(begin(GPU, fates={"score": [Fate(works=3)]}))
    life.until(phase("Scoring"))
    life.world.tick()
    life.world.edit_run(suspend=True)
    life.world.crash_after = len(life.world.writes) + 1  # the status; not the delete
    with pytest.raises(Crashed):
        life.process.work()
    life.world.crash_after = None
    life.world.edit_run(suspend=False)
    while not condition(life.world.objects[("Job", "trial-score")], "Complete"):
        life.world.tick()
    for pod in at_step(life.world, "score"):
        del life.world.objects[("Pod", pod["metadata"]["name"])]
    life.world.tick(60)
    life.process = Process(life.world, life.config)
    life.work()
    assert life.world.status["phase"] == "Scoring"
    life.to_the_end()
    succeeded(life)


def test_a_run_is_not_stopped_while_a_job_that_was_never_told_of_is_going() -> None:
    life = Life(begin(GPU, fates={"prepare": [STUCK]}, crash_after=2))  # ConfigMap, Job; no status
    with pytest.raises(Crashed):
        life.process.work()
    life.world.crash_after = None
    life.world.tick()
    life.world.edit_run(suspend=True)
    life.world.remove("Job", "trial-prepare")
    life.process = Process(life.world, life.config)
    life.work()
    assert life.world.status["phase"] == "Suspended"
    assert not condition(life.world.run, "Suspended")
    life.until(lambda world: condition(world.run, "Suspended"))
    assert names(life.world, "Job") == []


def test_a_run_is_suspended_though_its_plan_and_its_benchmark_are_gone() -> None:
    spec = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    world = begin(spec, fates={"answer": [STUCK]})
    world.put("Benchmark", TRIAL)
    life = Life(world)
    life.until(phase("Answering"))
    world.remove("ConfigMap", "trial-plan")
    world.remove("Benchmark", "shapes")
    world.edit_run(suspend=True)
    life.process = Process(world, life.config)
    life.until(lambda world: condition(world.run, "Suspended"))
    life.rest()
    assert names(world, "Job") == ["trial-prepare"]


def test_a_resume_is_counted_once_though_a_job_from_before_was_never_told_of() -> None:
    kinds = ["EvaluationRun", "Pod"]  # the watch of Jobs is late
    life = Life(begin(THREE, lose_after=2))  # the Job; whose answer would have told of it
    process = life.process
    process.see()
    observed = process.observe()
    assert observed is not None
    with pytest.raises(LostReply):
        process._do(observed, reconcile(observed, life.world.now, life.config))
    life.world.edit_run(suspend=True)
    process.work(kinds)
    life.world.edit_run(suspend=False, parallelism={"shards": 1})
    process.step(kinds)
    life.to_the_end()
    succeeded(life)
    assert life.world.status["resumes"] == 1


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
def test_a_plan_that_was_never_told_of_is_known_again_though_the_work_is_spread_otherwise(
    seen: bool,
) -> None:
    life = Life(begin(THREE, crash_after=1))  # the ConfigMap; no Job and no status
    with pytest.raises(Crashed):
        life.process.work()
    life.world.crash_after = None
    life.process = Process(life.world, life.config)
    life.world.edit_run(suspend=True)
    if seen:
        life.work()
    life.world.edit_run(suspend=False, parallelism={"shards": 1})
    life.to_the_end()
    succeeded(life)
    assert names(life.world, "ConfigMap") == ["trial-plan"]


def test_a_run_that_is_born_suspended_costs_nothing_until_it_is_resumed() -> None:
    life = Life(begin({**THREE, "suspend": True}))
    life.work()
    life.rest()
    assert life.world.counted_writes == ["status", "event Suspended"]
    life.world.edit_run(suspend=False)
    life.to_the_end()
    succeeded(life)


def test_what_a_suspended_run_may_change_is_held_against_the_policy() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.world.edit_run(suspend=True)
    life.until(lambda world: condition(world.run, "Suspended"))
    life.world.edit_run(suspend=False, answerPod={"image": "evil:1"})
    status = life.to_the_end()
    assert reason_of(status) == "InvalidSpec"
    assert "spec.answerPod.image" in status["conditions"][0]["message"]
    assert "trial-answer" not in names(life.world, "Job")


def test_many_shards_may_be_suspended_within_the_budget_of_disruptions() -> None:
    spec = {"parallelism": {"shards": 20}}
    life = Life(begin(spec, fates={"answer": [STUCK] * 40}), maxIgnoredRestarts=2)
    life.until(phase("Answering"))
    for _ in range(2):
        life.world.tick()
        life.work()
        life.world.edit_run(suspend=True)
        life.until(lambda world: condition(world.run, "Suspended"))
        life.world.edit_run(suspend=False)
        life.until(phase("Answering"))
    life.to_the_end()
    succeeded(life)


@pytest.mark.parametrize("waits", [True, False], ids=["when it has stopped", "at once"])
def test_a_run_may_be_resumed_with_far_fewer_shards(waits: bool) -> None:
    spec = {"parallelism": {"shards": 30}}
    fates = [STUCK] * 30 + [Fate(exit_code=143, disrupted=True)] * 2
    life = Life(begin(spec, fates={"answer": fates}), maxIgnoredRestarts=2)
    life.until(lambda world: world.status.get("shards", {}).get("active") == 30)
    life.world.edit_run(suspend=True)
    life.work()
    if waits:
        life.until(lambda world: condition(world.run, "Suspended"))
    life.world.edit_run(suspend=False, parallelism={"shards": 1})
    life.to_the_end()
    succeeded(life)
    assert life.world.status["shards"]["ignoredRestarts"] == 32


def test_pods_that_a_suspension_ends_are_forgiven_though_they_are_seen_late() -> None:
    life = Life(begin(THREE, fates={"answer": [STUCK] * 3}), maxIgnoredRestarts=1)
    life.until(phase("Answering"))
    life.world.tick()
    kinds = ["EvaluationRun", "Job"]
    life.world.edit_run(suspend=True)
    life.process.work(kinds)
    life.world.edit_run(suspend=False, parallelism={"shards": 1})
    life.process.work(kinds)
    life.process.see()  # at work, and gone a moment later
    life.to_the_end()
    succeeded(life)
    assert life.world.status["shards"]["ignoredRestarts"] == 3


def test_a_resume_grants_no_more_disruptions_than_a_start() -> None:
    fates = [STUCK] + [Fate(exit_code=143, disrupted=True)] * 9
    life = Life(begin(GPU, fates={"answer": fates}), maxIgnoredRestarts=4)
    life.until(phase("Answering"))
    life.world.tick()
    life.world.edit_run(suspend=True)
    life.until(lambda world: condition(world.run, "Suspended"))
    life.process = Process(life.world, life.config)
    life.world.edit_run(suspend=False)
    status = life.to_the_end()
    assert reason_of(status) == "Disrupted"
    assert "disrupted 5 times; 4 are allowed" in status["conditions"][0]["message"]


def test_the_run_s_deadline_is_of_all_work_over_suspensions() -> None:
    spec = {**GPU, "activeDeadlineSeconds": 100}
    life = Life(begin(spec, fates={"answer": [STUCK] * 9}))
    life.until(phase("Answering"))
    for _ in range(9):
        for _ in range(4):
            life.world.tick()
            life.work()
        if life.world.status.get("completionTime"):
            break
        life.world.edit_run(suspend=True)
        life.until(lambda world: condition(world.run, "Suspended"))
        life.world.tick(3600)
        life.world.edit_run(suspend=False)
    status = life.to_the_end()
    assert reason_of(status) == "DeadlineExceeded"
    assert 90 <= status["activeSeconds"] <= 140


# Deletions by hand


@SHAPES
@pytest.mark.parametrize("kind", ["Job", "Pod", "ConfigMap"])
def test_what_is_deleted_by_hand_at_any_moment_is_made_good(
    spec: dict[str, Any], kind: str
) -> None:
    for moment in range(1, 18):
        life = Life(begin(spec))
        for _ in range(moment):
            life.work()
            life.world.tick()
        for name in names(life.world, kind):
            life.world.remove(kind, name)
        if moment % 2:
            life.process = Process(life.world, life.config)
        life.to_the_end()
        succeeded(life)


def test_a_step_is_repeated_only_when_the_one_after_it_has_stopped() -> None:
    # The plan, a Job, a status, an event, and the next Job: no status tells of that one.
    life = Life(begin(GPU, fates={"answer": [STUCK]}, crash_after=5))
    with pytest.raises(Crashed):
        for _ in range(20):
            life.process.work()
            life.world.tick()
    life.world.crash_after = None
    assert "trial-answer" in names(life.world, "Job")
    life.world.tick()
    life.world.remove("Job", "trial-prepare")
    life.world.tick()
    life.world.jobs_alive = 0  # the finished one counts as none
    life.process = Process(life.world, life.config)
    life.to_the_end()
    succeeded(life)


def test_a_finished_run_stays_finished_when_its_jobs_are_deleted() -> None:
    life = Life(begin(THREE))
    before = dict(life.to_the_end())
    for name in names(life.world, "Job"):
        life.world.remove("Job", name)
    life.rest()
    assert life.world.status == before
    assert names(life.world, "Job") == []


def test_a_pod_that_always_vanishes_before_it_is_heard_ends_the_run() -> None:
    life = Life(begin(CPU), maxIgnoredRestarts=3)
    for _ in range(400):
        life.work()
        if life.world.status.get("completionTime"):
            break
        life.world.tick(20)
        life.process.see(["Pod"])  # as it ended: no disruption that the ledger would count
        for pod in list(life.world.all("Pod")):
            if pod["status"]["phase"] == "Succeeded":
                del life.world.objects[("Pod", pod["metadata"]["name"])]
    assert reason_of(life.world.status) == "Disrupted"
    assert life.world.created["Job"] <= 6


def test_a_deleted_run_is_left_to_the_garbage_collector() -> None:
    life = Life(begin(THREE, fates={"answer": [STUCK] * 3}))
    life.until(phase("Answering"))
    life.world.remove("EvaluationRun", "trial")
    before = len(life.world.writes)
    for _ in range(5):
        life.work()
        life.world.tick()
    assert life.world.objects == {}
    assert len(life.world.writes) == before


def test_a_run_s_jobs_go_when_their_time_is_over_and_its_results_stay() -> None:
    life = Life(begin({**THREE, "ttlSecondsAfterFinished": 3600}))
    life.until(phase("Succeeded"))
    life.world.tick(3500)
    life.work()
    assert len(names(life.world, "Job")) == 3
    plan = life.process.decide()
    assert plan is not None
    assert 0 < (plan.requeue_after or 0) <= 100
    life.world.tick(101)
    life.work()
    life.rest()
    assert names(life.world, "Job") == names(life.world, "Pod") == []
    succeeded(life)


def test_a_run_that_is_refused_half_way_stops_what_is_at_work() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.world.edit_run(model={"profile": "llava_hf", "source": {}})
    life.work()
    assert reason_of(life.world.status) == "InvalidSpec"
    life.world.tick()
    assert names(life.world, "Job") == ["trial-prepare"]


def test_an_edit_of_a_finished_run_is_seen_and_changes_nothing() -> None:
    life = Life(begin(CPU))
    before = dict(life.to_the_end())
    life.world.edit_run(suspend=True)
    life.rest()
    assert life.world.status == {**before, "observedGeneration": 2}


# What goes wrong


def test_a_prepare_step_that_fails_asks_for_no_gpu() -> None:
    life = Life(begin(THREE, fates={"prepare": [Fate(exit_code=10, exit_reason="Error")]}))
    status = life.to_the_end()
    assert status["phase"] == "Failed"
    assert names(life.world, "Job") == ["trial-prepare"]
    assert len(life.world.counted_writes) <= 15


@pytest.mark.parametrize("message", ["", "done!", "{}"])
def test_a_last_step_that_says_nothing_is_no_success_and_not_repeated(message: str) -> None:
    life = Life(begin(GPU, fates={"score": [Fate(message=message)]}))
    status = life.to_the_end()
    assert (status["phase"], reason_of(status)) == ("Failed", "InternalError")
    assert "did not say where the results are" in status["conditions"][0]["message"]
    assert life.world.created["Job"] == 3


def test_one_shard_that_fails_for_good_stops_the_others() -> None:
    fates = {"answer": [STUCK, Fate(exit_code=12, exit_reason="Error"), STUCK]}
    life = Life(begin(THREE, fates=fates))
    status = life.to_the_end()
    assert status["phase"] == "Failed"
    assert condition(life.world.run, "Failed")
    assert all(pod["status"]["phase"] != "Running" for pod in life.world.all("Pod"))
    assert status["usage"]["gpuSeconds"] != "0"


def test_a_shard_may_fail_as_often_as_its_limit_says() -> None:
    failure = Fate(exit_code=1, exit_reason="Error")
    life = Life(begin({**GPU, "retryLimit": 2}, fates={"answer": [failure] * 2}))
    life.to_the_end()
    succeeded(life)
    assert life.world.status["shards"]["restarts"] == 2
    assert len(life.world.counted_writes) <= 15 + 2 * 4
    life = Life(begin({**GPU, "retryLimit": 2}, fates={"answer": [failure] * 3}))
    assert life.to_the_end()["phase"] == "Failed"


def test_preempted_pods_are_replaced_and_counted() -> None:
    fates = {"answer": [Fate(exit_code=143, disrupted=True)] * 5}
    life = Life(begin(THREE, fates=fates))
    life.to_the_end()
    succeeded(life)
    assert life.world.status["shards"]["ignoredRestarts"] == 5
    assert life.world.status["shards"]["restarts"] == 0
    assert len(life.world.counted_writes) <= 15


def test_too_many_disruptions_end_the_run() -> None:
    fates = {"answer": [Fate(exit_code=143, disrupted=True)] * 50}
    life = Life(begin(GPU, fates=fates), maxIgnoredRestarts=4)
    status = life.to_the_end()
    assert reason_of(status) == "Disrupted"
    assert "PreemptionByScheduler" in status["conditions"][0]["message"]
    assert status["shards"]["ignoredRestarts"] == 5


@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        (Fate(waiting=("ErrImagePull", "no such image")), "ImagePullFailed"),
        (Fate(waiting=("CreateContainerConfigError", 'secret "s3" not found')), "SecretNotFound"),
        (Fate(waiting=("ContainerCreating", "")), "StartDeadlineExceeded"),
        (Fate(unschedulable=True, text="0/3 nodes are available"), "Unschedulable"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_pod_that_cannot_start_gives_its_gpu_back(fate: Fate, reason: str) -> None:
    life = Life(begin({**THREE, "startDeadlineSeconds": 60}, fates={"answer": [fate, FINE, FINE]}))
    status = life.to_the_end()
    assert reason_of(status) == reason
    assert names(life.world, "Job") == ["trial-prepare"]
    assert len(life.world.counted_writes) <= 15


def test_a_pod_on_a_dead_node_is_told_and_does_not_pass_for_one_at_work() -> None:
    life = Life(begin(THREE, fates={"answer": [STUCK] * 3}))
    life.until(lambda world: world.status.get("shards", {}).get("active") == 3)
    name = at_step(life.world)[0]["metadata"]["name"]
    life.world.dead.add(name)
    life.world.remove("Pod", name)  # by the taint manager
    life.work()
    assert life.world.status["phase"] == "Answering"
    plan = life.process.decide()
    assert plan is not None
    assert 50 < (plan.requeue_after or 0) <= 61
    life.world.tick(61)
    life.world.tick(60)
    life.work()
    assert reason_of_stall(life.world.status) == "NodeLost"
    assert life.world.status["shards"]["active"] == 2
    assert name in life.world.status["conditions"][0]["message"]
    del life.world.objects[("Pod", name)]  # a person deletes it by force
    life.until(lambda world: not condition(world.run, "Stalled"))


def test_a_dead_node_that_holds_up_a_suspension_or_a_resume_is_told() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(lambda world: world.status.get("shards", {}).get("active") == 1)
    (pod,) = at_step(life.world)
    name = pod["metadata"]["name"]
    life.world.dead.add(name)
    life.world.edit_run(suspend=True)
    life.work()
    life.world.tick()
    life.work()
    life.world.tick(61)
    life.work()
    assert reason_of_stall(life.world.status) == "NodeLost"
    assert life.world.status["phase"] == "Suspended"
    life.world.edit_run(suspend=False)
    life.work()
    assert reason_of_stall(life.world.status) == "NodeLost"
    assert life.world.status["phase"] == "Answering"
    del life.world.objects[("Pod", name)]
    life.to_the_end()
    succeeded(life)


def test_a_pod_that_is_being_deleted_does_not_escape_the_start_deadline() -> None:
    fates = {"answer": [Fate(waiting=("ContainerCreating", ""))]}
    life = Life(begin(GPU, fates=fates))
    life.until(lambda world: at_step(world))
    life.world.tick()
    (pod,) = at_step(life.world)
    life.world.dead.add(pod["metadata"]["name"])
    life.world.remove("Pod", pod["metadata"]["name"])
    status = life.to_the_end(ticks=200)
    assert reason_of(status) == "StartDeadlineExceeded"


def test_a_quota_that_forbids_pods_ends_the_run_after_its_deadline() -> None:
    life = Life(begin({**GPU, "startDeadlineSeconds": 60}, refuse_pods=True))
    status = life.to_the_end()
    assert reason_of(status) == "StartDeadlineExceeded"
    assert "trial-prepare" in status["conditions"][0]["message"]
    assert len(life.world.counted_writes) <= 15


def test_a_moment_without_pods_after_hours_of_work_is_no_failure() -> None:
    life = Life(begin({**GPU, "startDeadlineSeconds": 60}, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.world.tick()
    life.world.tick(7200)
    life.work()
    life.world.refuse_pods = True
    for pod in life.world.all("Pod"):
        if pod["status"]["phase"] == "Running":
            del life.world.objects[("Pod", pod["metadata"]["name"])]
    life.work()
    assert life.world.status["phase"] == "Answering"
    assert not condition(life.world.run, "Stalled")  # the Job's controller has not seen it yet
    life.world.tick(20)
    life.work()
    assert condition(life.world.run, "Stalled")
    life.world.tick(20)
    life.world.refuse_pods = False
    life.to_the_end()
    succeeded(life)


def test_a_retry_that_a_quota_forbids_does_not_hang_for_ever() -> None:
    failure = Fate(exit_code=1, exit_reason="Error")
    life = Life(begin({**GPU, "startDeadlineSeconds": 60}, fates={"answer": [failure]}))
    life.until(lambda world: any(p["status"]["phase"] == "Running" for p in at_step(world)))
    life.world.refuse_pods = True
    for _ in range(20):
        life.world.tick(30)
        life.work()
    assert not condition(life.world.run, "Stalled")  # the Job's controller may still be waiting
    status = life.to_the_end()
    assert reason_of(status) == "StartDeadlineExceeded"


@pytest.mark.parametrize("suspended", [False, True])
def test_a_benchmark_may_be_applied_after_its_run(suspended: bool) -> None:
    spec: dict[str, Any] = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    life = Life(begin({**spec, "suspend": suspended}))
    if suspended:
        life.work()
        life.world.tick(3600)
        life.world.edit_run(suspend=False)
    life.work()
    assert life.world.status["phase"] == "Pending"
    assert condition(life.world.run, "Stalled")
    assert names(life.world, "Job") == []
    life.world.tick(60)
    life.world.put("Benchmark", TRIAL)
    life.process.benchmarks.clear()
    life.to_the_end()
    succeeded(life)
    assert life.world.status.get("resumes", 0) == int(suspended)
    if suspended:
        (kept,) = (c for c in life.world.status["conditions"] if c["type"] == "Suspended")
        assert kept["status"] == "False"


def test_a_benchmark_that_never_comes_ends_the_run() -> None:
    spec = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    life = Life(begin(spec))
    status = life.to_the_end(ticks=200)
    assert reason_of(status) == "BenchmarkNotFound"
    assert "no Benchmark shapes in namespace team" in status["conditions"][0]["message"]
    assert len(life.world.counted_writes) <= 15


def test_a_benchmark_that_cannot_be_read_is_told_so() -> None:
    spec = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    life = Life(begin(spec))
    life.process.refused["benchmark/shapes"] = "Benchmark shapes: spec.tasks: the field is missing"
    life.work()
    assert "spec.tasks: the field is missing" in life.world.status["conditions"][0]["message"]


def test_a_benchmark_that_goes_after_the_crash_that_followed_its_snapshot_is_not_missed() -> None:
    spec = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    world = begin(spec, crash_after=2)
    world.put("Benchmark", TRIAL)
    life = Life(world)
    with pytest.raises(Crashed):
        life.process.work()
    world.crash_after = None
    world.remove("Benchmark", "shapes")
    life.process = Process(world, life.config)
    life.to_the_end()
    succeeded(life)


@pytest.mark.parametrize("kind", ["Job", "ConfigMap"])
def test_what_the_api_server_refuses_is_told_and_tried_again(kind: str) -> None:
    life = Life(begin(GPU, forbidden={kind}))
    for _ in range(10):
        life.work()
        life.world.tick()
    assert condition(life.world.run, "Stalled")
    assert reason_of_stall(life.world.status) == "CreateRefused"
    assert "exceeded quota" in life.world.status["conditions"][0]["message"]
    life.world.forbidden.clear()
    life.to_the_end()
    succeeded(life)
    assert len(life.world.counted_writes) <= 15


def test_a_wait_for_something_else_begins_anew() -> None:
    spec = {**GPU, "benchmarks": [{"benchmarkRef": {"name": "shapes"}}]}
    life = Life(begin(spec, forbidden={"Job"}))
    life.work()
    assert reason_of_stall(life.world.status) == "BenchmarkNotFound"
    life.world.tick(580)
    life.world.put("Benchmark", TRIAL)
    life.process.benchmarks.clear()
    life.until(lambda world: reason_of_stall(world.status) == "CreateRefused")
    life.world.tick(500)
    life.work()
    assert life.world.status["phase"] == "Pending"
    life.world.tick(120)
    life.work()
    assert reason_of(life.world.status) == "CreateRefused"
    assert life.world.status["phase"] == "Failed"


def test_a_plan_that_cannot_be_read_is_told_and_holds_up_no_suspension() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.process = Process(life.world, life.config)
    life.process.refused["content of configmap/trial-plan"] = "it does not hold this run's plan"
    life.process.step()
    assert reason_of_stall(life.world.status) == "CorruptStore"
    life.world.edit_run(suspend=True)
    for _ in range(4):
        life.process.step()
        life.world.tick()
    assert condition(life.world.run, "Suspended")
    assert names(life.world, "Job") == ["trial-prepare"]


def test_a_suspension_that_may_delete_nothing_is_told() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK]}))
    life.until(phase("Answering"))
    life.process.refused["delete job/trial-answer"] = "jobs.batch is forbidden"
    life.world.edit_run(suspend=True)
    life.process.see()
    plan = life.process.decide()
    assert plan is not None
    assert plan.status is not None
    assert reason_of_stall(plan.status) == "DeleteRefused"


@pytest.mark.parametrize("kind", ["Job", "ConfigMap"])
def test_what_is_refused_for_ever_ends_the_run(kind: str) -> None:
    life = Life(begin({**GPU, "startDeadlineSeconds": 60}, forbidden={kind}))
    status = life.to_the_end()
    assert reason_of(status) == "CreateRefused"
    assert len(life.world.counted_writes) <= 15


def test_a_refusal_in_the_middle_of_a_life_stops_at_its_step() -> None:
    life = Life(begin(THREE))
    life.until(phase("Preparing"))
    life.world.forbidden.add("Job")
    for _ in range(10):
        life.work()
        life.world.tick()
    assert (life.world.status["phase"], life.world.status["step"]) == ("Preparing", "Prepare")
    life.process = Process(life.world, life.config)
    life.work()
    life.world.forbidden.clear()
    life.to_the_end()
    succeeded(life)


def test_an_object_of_someone_else_is_left_alone_and_named() -> None:
    for kind, name in (("Job", "trial-prepare"), ("ConfigMap", "trial-plan")):
        world = begin(GPU)
        world.put(kind, {"metadata": {"name": name}, "spec": {}, "data": {}})
        if kind == "Job":
            world.objects[(kind, name)]["status"] = {
                "conditions": [{"type": "Complete", "status": "True"}]
            }
        life = Life(world)
        status = life.to_the_end()
        assert reason_of(status) == "NameTaken"
        assert name in status["conditions"][0]["message"]
        assert names(world, kind) == [name]


def test_a_job_that_ends_before_its_pods_are_seen_to_is_waited_for() -> None:
    life = Life(begin(CPU))
    life.until(lambda world: any(p["status"]["phase"] == "Running" for p in world.all("Pod")))
    life.process.see()
    while not all(condition(job, "Complete") for job in life.world.all("Job")):
        life.world.tick()
    before = len(life.world.writes)
    for _ in range(3):
        life.process.step(("EvaluationRun", "Job"))
        life.world.now += timedelta(seconds=1)
    assert len(life.world.writes) == before
    life.to_the_end()
    succeeded(life)
    assert life.world.created["Job"] == 1


def test_one_shard_that_is_not_seen_to_its_end_is_waited_for() -> None:
    life = Life(begin(THREE))
    life.until(phase("Answering"))
    while [pod["status"]["phase"] for pod in at_step(life.world)] != ["Running"] * 3:
        life.world.tick()
        life.work()
    life.process.see()
    stale = at_step(life.world)[0]["metadata"]["name"]
    kept = life.process.seen["Pod"][stale]
    while not condition(life.world.objects[("Job", "trial-answer")], "Complete"):
        life.world.tick()
    life.process.see()
    life.process.seen["Pod"][stale] = kept
    life.process.step(())
    assert life.world.status["phase"] == "Answering"
    life.to_the_end()
    assert life.world.status["answers"]["computed"] == REQUESTS


@pytest.mark.parametrize("late", ["trial-prepare", "trial-run", "trial-score"])
def test_a_job_that_another_leader_created_late_is_stopped(late: str) -> None:
    life = Life(begin(THREE, fates={"answer": [STUCK] * 3}))
    life.until(phase("Answering"))
    job = {**life.world.get("Job", "trial-answer")}
    job["metadata"] = {
        "name": late,
        "labels": job["metadata"]["labels"],
        "ownerReferences": job["metadata"]["ownerReferences"],
    }
    job.pop("status", None)
    if late == "trial-prepare":
        life.world.remove("Job", late)
        life.world.tick()
        life.work()
    life.world.put("Job", job)
    for _ in range(4):
        life.work()
        life.world.tick()
    assert late not in names(life.world, "Job")


def test_a_failed_job_is_explained_by_the_pod_that_is_seen_last() -> None:
    life = Life(
        begin({**CPU, "retryLimit": 0}, fates={"all": [Fate(137, exit_reason="OOMKilled")]})
    )
    life.until(lambda world: any(p["status"]["phase"] == "Running" for p in world.all("Pod")))
    life.process.see()
    while not all(condition(job, "Failed") for job in life.world.all("Job")):
        life.world.tick(1)
    life.process.step(("EvaluationRun", "Job"))
    assert life.world.status["phase"] != "Failed"
    assert reason_of(life.to_the_end()) == "OutOfMemory"


def test_pods_that_are_gone_are_counted_once() -> None:
    life = Life(begin(GPU, fates={"answer": [STUCK] * 3}))
    life.until(phase("Answering"))
    spent = 0.0
    for number in range(3):
        life.world.tick()
        life.world.tick(100)
        life.work()
        usage = float(life.world.status["usage"]["gpuSeconds"])
        assert usage >= spent + 90
        spent = usage
        life.world.edit_run(suspend=True)
        life.until(lambda world: condition(world.run, "Suspended"))
        if number == 1:  # what is gone is recorded, so a new process knows it
            life.process = Process(life.world, life.config)
        life.rest()
        life.world.edit_run(suspend=False)
        life.until(phase("Answering"))
    life.to_the_end()
    total = float(life.world.status["usage"]["gpuSeconds"])
    assert 320 <= total <= 380
    assert life.world.status["shards"]["ignoredRestarts"] == 3
