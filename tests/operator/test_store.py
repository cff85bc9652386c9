"""The Store ends in the true state, whatever comes late, twice, or before its owner."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from objects import Doc, job, pod, run

from evalrun_api.progress import Progress
from evalrun_operator.decisions import Ledger, RunKey
from evalrun_operator.notes import BENCHMARK_AGE, Notes
from evalrun_operator.store import Store
from evalrun_operator.strip import KINDS, Kind

pytestmark = pytest.mark.decisions

KEY = RunKey("team", "one")
PROGRESS = Progress(step="answer", activity="answering", requests_done=3, requests_total=9)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def count_one(pod: Doc) -> Ledger:
    return Ledger(failures=1)


def new_store() -> Store:
    return Store(count_one, Clock())


def filled() -> Store:
    store = new_store()
    store.put("EvaluationRun", run())
    store.put("Job", job())
    store.put("Pod", pod())
    return store


def test_a_run_is_observed_with_its_jobs_and_pods() -> None:
    observed = filled().observe(KEY)
    assert observed is not None
    assert observed.run["spec"] == {"benchmarks": [{"name": "mme"}]}
    assert observed.run["apiVersion"] == "lmms-eval.io/v1alpha1"
    assert list(observed.jobs) == ["one-answer"]
    assert [p["metadata"]["uid"] for p in observed.pods] == ["pod-1"]


def test_what_nobody_reads_is_not_kept() -> None:
    observed = filled().observe(KEY)
    assert observed is not None
    assert "managedFields" not in observed.run["metadata"]
    assert observed.jobs["one-answer"]["spec"] == {"completions": 1}
    assert observed.pods[0]["spec"] == {"nodeName": "n1"}
    assert observed.pods[0]["metadata"]["annotations"] == {"lmms-eval.io/accelerators": "4"}
    assert "annotations" not in observed.run["metadata"]
    digests = {f"lmms-eval.io/{name}-digest": "x" for name in ("plan", "execution")}
    store = filled()
    store.put("Job", job(version=9, annotations={**digests, "kueue.x-k8s.io/x": "y"}))
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.jobs["one-answer"]["metadata"]["annotations"] == digests


def test_a_pod_may_be_seen_before_its_job_and_its_run() -> None:
    store = new_store()
    assert store.put("Pod", pod()) == KEY
    assert store.put("Job", job()) == KEY
    store.put("EvaluationRun", run())
    observed = store.observe(KEY)
    assert observed is not None
    assert len(observed.pods) == 1


def test_the_label_alone_makes_no_pod_a_runs_own() -> None:
    store = filled()
    store.put("Pod", pod("stranger", 9, owner="job-of-someone"))
    observed = store.observe(KEY)
    assert observed is not None
    assert [p["metadata"]["uid"] for p in observed.pods] == ["pod-1"]


@pytest.mark.parametrize("run_first", [True, False])
def test_what_stands_in_another_namespace_is_no_runs_own(run_first: bool) -> None:
    store = new_store()
    if run_first:
        store.put("EvaluationRun", run())
    for kind, document in (("Job", job()), ("Pod", pod())):
        document["metadata"]["namespace"] = "theirs"
        assert store.put(kind, document) == RunKey("theirs", "one")
    forged = pod("pod-2")  # of a Job of another namespace that says it is the run's
    store.put("Pod", forged)
    store.put("EvaluationRun", run(version=9))
    observed = store.observe(KEY)
    assert observed is not None
    assert not observed.jobs
    assert not observed.pods
    assert list(store.pods_at_work()) == []
    assert store.put_progress("pod-1", PROGRESS) is None
    gone = pod(version=10)
    gone["metadata"]["namespace"] = "theirs"
    store.forget("Pod", gone)
    store.forget("Pod", forged)
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.gone == Ledger()


def test_jobs_of_a_deleted_run_are_not_those_of_its_successor() -> None:
    store = filled()
    store.put("EvaluationRun", run(uid="run-2", version=10))
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.run["metadata"]["uid"] == "run-2"
    assert not observed.jobs
    assert not observed.pods


def test_an_older_version_changes_nothing() -> None:
    store = filled()
    assert store.put("EvaluationRun", run(version=7, phase="Answering")) == KEY
    assert store.put("EvaluationRun", run(version=6, phase="Pending")) is None
    assert store.put("EvaluationRun", run(version=7, phase="Answering")) is None
    assert (store.run(KEY) or {})["status"]["phase"] == "Answering"


def test_a_late_event_does_not_bring_back_what_was_deleted() -> None:
    store = filled()
    store.forget("Job", job(version=8))
    assert store.put("Job", job(version=7)) is None
    observed = store.observe(KEY)
    assert observed is not None
    assert not observed.jobs


def test_what_a_404_denied_is_back_with_the_next_list_that_has_it() -> None:
    store = filled()
    assert store.gone("Job", "job-1") == KEY
    assert store.put("Job", job(version=9)) is None  # an event may be late
    store.replace("Job", [job(version=9)], 20)
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.jobs


def test_nothing_older_than_a_list_comes_back_that_the_list_lacked() -> None:
    store = filled()
    store.replace("Job", [], 20)
    assert store.put("Job", job(uid="job-other", version=15)) is None
    assert store.put("Job", job(uid="job-other", version=21)) == KEY


def test_a_list_keeps_what_is_newer_than_itself() -> None:
    store = filled()
    store.put("Job", job(name="one-score", uid="job-2", version=30))
    lost = store.replace("Job", [], 20)
    observed = store.observe(KEY)
    assert observed is not None
    assert list(observed.jobs) == ["one-score"]
    assert lost == [KEY]


def test_a_list_of_one_namespace_says_nothing_of_others() -> None:
    store = filled()
    store.replace("Job", [], 20, namespace="elsewhere")
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.jobs


def test_it_is_synced_once_all_kinds_were_listed() -> None:
    store = new_store()
    kinds: tuple[Kind, ...] = ("EvaluationRun", "Job", "Pod")
    for kind in kinds:
        assert not store.synced
        store.replace(kind, [], 1)
    assert store.synced


def test_it_tells_for_how_long_it_has_known_all_there_is() -> None:
    clock = Clock()
    store = Store(count_one, clock)
    for kind in KINDS:
        store.replace(kind, [run()] if kind == "EvaluationRun" else [], 1)
        clock.now += 5
    assert known_seconds(store) == 5
    store.replace("Pod", [], 9)  # another reading
    assert known_seconds(store) == 5


def test_before_all_kinds_are_listed_nothing_has_been_known_for_long() -> None:
    clock = Clock()
    store = Store(count_one, clock)
    store.replace("EvaluationRun", [run()], 1)
    clock.now += 60
    assert known_seconds(store) == 0


def known_seconds(store: Store) -> float:
    observed = store.observe(KEY)
    assert observed is not None
    return observed.known_seconds


def test_a_pod_that_goes_leaves_its_contribution_until_that_is_written() -> None:
    store = filled()
    store.put_progress("pod-1", PROGRESS)
    store.forget("Pod", pod(version=9))
    store.forget("Pod", pod(version=9))
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.gone == Ledger(failures=1)
    store.put("Pod", pod("pod-2", 10))
    store.forget("Pod", pod("pod-2", 11))
    store.settled("run-1", observed.gone)
    again = store.observe(KEY)
    assert again is not None
    assert again.gone == Ledger(failures=1)


def test_pods_of_a_job_that_is_gone_still_count() -> None:
    store = filled()
    store.forget("Job", job(version=9))
    observed = store.observe(KEY)
    assert observed is not None
    assert len(observed.pods) == 1
    assert store.forget("Pod", pod(version=10)) == KEY
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.gone == Ledger(failures=1)


def test_a_write_whose_answer_was_lost_is_not_counted_twice() -> None:
    store = filled()
    store.forget("Pod", pod(version=9))
    written: dict[str, Any] = {"phase": "Answering", "gonePods": {"failures": 1}}
    store.doubt("run-1", written, Ledger(failures=1))
    store.put("EvaluationRun", run(version=12, **written))
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.gone == Ledger()


def test_a_write_that_never_came_through_is_still_due() -> None:
    store = filled()
    store.forget("Pod", pod(version=9))
    store.doubt("run-1", {"gonePods": {"failures": 1}}, Ledger(failures=1))
    store.put("EvaluationRun", run(version=12, phase="Answering"))
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.gone == Ledger(failures=1)


def test_a_write_that_fails_for_hours_takes_no_memory_for_each_try() -> None:
    notes = Notes()
    for _ in range(1000):
        notes.doubt({"conditions": ["long"], "gonePods": {"failures": 1}}, Ledger(failures=1))
    notes.doubt({"gonePods": {"failures": 2}}, Ledger(failures=2))
    assert notes.doubts == [
        ({"failures": 1}, Ledger(failures=1)),
        ({"failures": 2}, Ledger(failures=2)),
    ]


def test_a_finished_run_keeps_its_documents_and_drops_its_notes() -> None:
    store = filled()
    store.put_progress("pod-1", PROGRESS)
    store.put_conflict("run-1", "job/one-score")
    store.put("EvaluationRun", run(version=12, completionTime="2026-01-01T00:00:00Z"))
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.run["spec"]
    assert observed.jobs
    assert observed.pods
    assert not observed.progress
    assert not observed.conflicts
    assert store.active() == []
    assert store.finished_with_jobs() == [KEY]


def test_a_late_answer_about_a_deleted_run_is_none_about_its_successor() -> None:
    store = filled()
    store.put("EvaluationRun", run(uid="run-2", version=10))
    store.put_snapshot("run-1", None)
    store.put_conflict("run-1", "job/one-answer")
    store.put_refused("run-1", "job/one-answer", "no")
    store.put_benchmark("run-1", "vqa", None)
    store.settled("run-1", Ledger(failures=1))
    store.doubt("run-1", {}, Ledger(failures=1))
    observed = store.observe(KEY)
    assert observed is not None
    assert not observed.snapshot_absent
    assert not observed.conflicts
    assert not observed.refused
    assert not observed.benchmarks
    assert observed.gone == Ledger()


def test_progress_is_news_only_when_it_changed() -> None:
    store = filled()
    assert store.put_progress("pod-1", PROGRESS) == KEY
    assert store.put_progress("pod-1", PROGRESS) is None
    assert store.put_progress("unknown", PROGRESS) is None


def test_a_benchmark_is_looked_up_again_after_a_while() -> None:
    clock = Clock()
    store = Store(count_one, clock)
    store.put("EvaluationRun", run())
    store.put_benchmark("run-1", "vqa", None)
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.benchmarks == {"vqa": None}
    clock.now = BENCHMARK_AGE
    observed = store.observe(KEY)
    assert observed is not None
    assert observed.benchmarks == {}


def test_a_run_that_is_gone_takes_its_notes_along() -> None:
    store = filled()
    store.put_conflict("run-1", "job/one-score")
    assert store.forget("EvaluationRun", run(version=9)) == KEY
    assert store.observe(KEY) is None
    store.put("EvaluationRun", run(uid="run-2", version=20))
    observed = store.observe(KEY)
    assert observed is not None
    assert not observed.conflicts


# Any order


@dataclass
class Message:
    """Something that reaches the Store at some time: a version, an end, a list."""

    kind: Kind
    what: str
    document: Doc = field(default_factory=dict)
    documents: list[Doc] = field(default_factory=list)
    version: int = 0


@dataclass
class History:
    """What truly happened, and all that can be heard of it."""

    truth: dict[Kind, dict[str, Doc]]
    messages: list[Message]


CHANGES = st.lists(
    st.tuples(st.sampled_from(["run", "job", "pod", "list"]), st.integers(0, 5)),
    min_size=1,
    max_size=30,
)


def happen(changes: list[tuple[str, int]]) -> History:
    """Play changes: a slot is created, changed twice, deleted, created anew with another uid."""
    truth: dict[Kind, dict[str, Doc]] = {"EvaluationRun": {}, "Job": {}, "Pod": {}}
    lives: dict[tuple[str, int], int] = {}
    messages: list[Message] = []
    kinds: dict[str, Kind] = {"run": "EvaluationRun", "job": "Job", "pod": "Pod"}
    for version, (what, slot) in enumerate(changes, start=1):
        if what == "list":
            kind = list(kinds.values())[slot % 3]
            listed = list(truth[kind].values())
            messages.append(Message(kind, "list", documents=listed, version=version))
            continue
        kind = kinds[what]
        slot = 0 if what == "run" else slot % (2 if what == "job" else 4)
        step = lives.get((what, slot), 0)
        lives[(what, slot)] = step + 1
        uid = f"{what}-{slot}-{step // 4}"
        if what == "run":
            document = run(uid=uid, version=version)
        elif what == "job":
            owner = f"run-0-{lives.get(('run', 0), 0) // 4}"
            document = job(f"job-{slot}", uid, version, owner)
        else:
            document = pod(
                uid, version, owner=f"job-{slot % 2}-{lives.get(('job', slot % 2), 0) // 4}"
            )
            document["metadata"]["name"] = f"pod-{slot}"
        if step % 4 == 3:
            truth[kind].pop(uid, None)
            messages.append(Message(kind, "gone", document))
        else:
            truth[kind][uid] = document
            messages.append(Message(kind, "put", document))
            if step % 4 == 1:
                messages.append(Message(kind, "put", document))  # our own write, heard twice
    return History(truth, messages)


def tell(store: Store, message: Message) -> None:
    if message.what == "put":
        store.put(message.kind, message.document)
    elif message.what == "gone":
        store.forget(message.kind, message.document)
    else:
        store.replace(message.kind, message.documents, message.version)


def held(store: Store, kind: Kind) -> dict[str, str]:
    shelf = store._shelves[kind]
    return {entry.uid: entry.document["metadata"]["resourceVersion"] for entry in shelf}


@settings(max_examples=300, deadline=None)
@given(CHANGES, st.randoms(use_true_random=False))
def test_any_order_of_events_and_lists_ends_in_the_true_state(
    changes: list[tuple[str, int]], random: Any
) -> None:
    history = happen(changes)
    store = new_store()
    order = list(history.messages)
    random.shuffle(order)
    # Lists are taken one after another, so an older one never comes after a newer one.
    lists = iter(sorted((m for m in order if m.what == "list"), key=lambda m: m.version))
    for message in order:
        tell(store, next(lists) if message.what == "list" else message)
    for kind, documents in history.truth.items():
        true = {uid: doc["metadata"]["resourceVersion"] for uid, doc in documents.items()}
        assert held(store, kind) == true, kind


@settings(max_examples=200, deadline=None)
@given(CHANGES, st.randoms(use_true_random=False), st.floats(0, 1))
def test_a_list_mends_whatever_was_missed(
    changes: list[tuple[str, int]], random: Any, heard: float
) -> None:
    history = happen(changes)
    store = new_store()
    order = [m for m in history.messages if m.what != "list" and random.random() < heard]
    random.shuffle(order)
    for message in order:
        tell(store, message)
    for kind, documents in history.truth.items():
        store.replace(kind, list(documents.values()), len(changes) + 1)
    for message in order:
        tell(store, message)
    for kind, documents in history.truth.items():
        assert held(store, kind).keys() == documents.keys()
        true = {uid: doc["metadata"]["resourceVersion"] for uid, doc in documents.items()}
        assert held(store, kind) == true, kind


@settings(max_examples=200, deadline=None)
@given(CHANGES, st.randoms(use_true_random=False))
def test_no_pod_is_counted_twice_and_nothing_is_left_behind(
    changes: list[tuple[str, int]], random: Any
) -> None:
    history = happen(changes)
    store = new_store()
    order = [m for m in history.messages if m.what != "list"]
    random.shuffle(order)
    store.put("EvaluationRun", run(version=0))
    for message in order:
        tell(store, message)
    ended = sum(1 for m in order if m.kind == "Pod" and m.what == "gone")
    observed = store.observe(KEY)
    if observed is not None:
        assert observed.gone.failures <= ended
    kinds: tuple[Kind, ...] = ("Pod", "Job", "EvaluationRun")
    for kind in kinds:
        store.replace(kind, [], 10_000)
    assert not any(vars(store._kin).values())
    assert not store._notes
    assert not store._progress
    assert not store._active
