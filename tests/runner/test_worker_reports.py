"""What is told of several workers, and of accelerators that wait."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client import Gauge

from evalrun_api.errors import EvalrunError
from evalrun_api.plan import ModelPlan, RunIdentity, RunPlan, SettingsGroup, StorePlan
from evalrun_api.sources import ModelSource, VolumePath
from evalrun_api.spec import SeedSpec
from evalrun_api.termination import TerminationMessage
from evalrun_runner.places import Places
from evalrun_runner.report import Report
from evalrun_runner.setting import Setting
from evalrun_runner.stores import CountedStore, open_store
from evalrun_runner.workers.mailbox import Mailbox, WorkerState
from evalrun_runner.workers.merging import Counts, Lives, Sums, merge

pytestmark = pytest.mark.decisions


def plan(folder: Path, accelerators: int = 0) -> RunPlan:
    volume = ModelSource(volume=VolumePath(claim_name="models"))
    return RunPlan(
        run=RunIdentity(namespace="default", name="trial", uid="1"),
        model=ModelPlan(backend="llava_hf", source=volume, source_arg="pretrained", args={}),
        batch_size=1,
        accelerators=accelerators,
        seed=SeedSpec(),
        groups=[SettingsGroup(name="g0", tasks=["t"])],
        store=StorePlan(uri=folder.as_uri()),
    )


def test_what_workers_did_is_told_as_one_process_and_never_falls(tmp_path: Path) -> None:
    report = Report(plan(tmp_path), "answer", None)
    report.expect("t", 100)  # of all, which is known before the shares are
    told = Sums({"t": Counts(60, 10, 5)}, {"Empty": 2}, {"generate": 3.2}, "answering t")
    report.adopt(told)
    report.adopt(Sums({"t": Counts(60, 10, 9)}, {"Empty": 1}, {"generate": 3.4}, "answering t"))
    report.adopt(Sums({"t": Counts(60, 8, 7)}, {}, {}, "importing lmms-eval"))
    progress = report.progress()
    assert (progress.requests_done, progress.requests_total) == (19, 100)
    assert (progress.reused, progress.computed) == (10, 9)
    assert progress.errors == {"Empty": 2}
    assert progress.activity == "importing lmms-eval"
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for metric in report.registry.collect()
        for sample in metric.samples
    }
    assert samples["evalrun_runner_requests_total", "t", "computed"] == 9
    assert samples["evalrun_runner_stage_seconds", "generate"] == 3.4


def test_failures_of_the_store_are_counted_over_all_workers_and_their_lives(tmp_path: Path) -> None:
    report, lives = Report(plan(tmp_path), "answer", None), Lives()
    report.store_failed("StoreUnavailable")  # the supervisor's own
    lives.update(WorkerState(store_failures={"StoreUnavailable": 2, "WhateverItSays": 5}))
    lives.end_life()
    lives.update(WorkerState(store_failures={"StoreUnavailable": 1}))
    for _ in range(2):
        report.adopt(merge([lives]))
    failures = {
        sample.labels["reason"]: sample.value
        for metric in report.registry.collect()
        for sample in metric.samples
        if sample.name == "evalrun_runner_store_failures_total" and sample.value
    }
    assert failures == {"StoreUnavailable": 4}


def test_a_store_that_fails_is_counted_and_fails_all_the_same(tmp_path: Path) -> None:
    failed: list[str] = []
    (tmp_path / "store").write_text("no folder")
    store = CountedStore(open_store(StorePlan(uri=(tmp_path / "store").as_uri())), failed.append)
    for ask in (lambda: store.put("a", b""), lambda: store.create("b", b""), store.check):
        with pytest.raises(EvalrunError):
            ask()
    assert failed == ["StoreUnavailable"] * 3
    (tmp_path / "store").unlink()
    store.put("a/b", b"x")
    assert (store.get("a/b"), list(store.list("a/")), len(failed)) == (b"x", ["a/b"], 3)


def test_what_was_there_is_never_told_as_computed_however_early_a_supervisor_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, lives = Report(plan(tmp_path), "answer", None), Lives()
    seen = report._expected.labels

    def look(task: str) -> Gauge:
        lives.update(report.state())
        return seen(task)

    monkeypatch.setattr(report._expected, "labels", look)
    report.expect("t", 100, 40)
    report.computed("t", 1)
    lives.update(report.state())
    assert lives.counts() == {"t": Counts(100, 40, 1)}
    assert report.counts == (40, 1)


def test_a_worker_tells_its_supervisor_why_it_ends(tmp_path: Path) -> None:
    mailbox = Mailbox(tmp_path / "0")
    mailbox.begin_life()
    report = Report(plan(tmp_path), "answer", None, mailbox)
    report.expect("t", 3)
    report.computed("t", 2)
    report.conclude(outcome="Failed", reason="BackendFailed", message="it is unwell")
    state = mailbox.state()
    assert state is not None
    assert (state.reason, state.message) == ("BackendFailed", "it is unwell")
    assert [(task.total, task.computed) for task in state.tasks] == [(3, 2)]


def test_a_share_of_nothing_is_told_too(tmp_path: Path) -> None:
    report = Report(plan(tmp_path), "answer", None)
    report.adopt(Sums({"t": Counts(0, 0, 0)}, {}, {}, "answering t"))
    assert report.progress().requests_total == 0


class SlowMailbox(Mailbox):
    """A folder on a disk that takes its time."""

    def tell(self, state: WorkerState) -> None:
        time.sleep(0.1 if state.reason == "Running" else 0)
        super().tell(state)


def test_what_a_worker_says_last_is_not_overwritten_by_what_it_said_before(tmp_path: Path) -> None:
    mailbox = SlowMailbox(tmp_path / "0")
    mailbox.begin_life()
    report = Report(plan(tmp_path), "answer", None, mailbox)
    late = Thread(target=report.tell)
    late.start()
    time.sleep(0.03)
    report.conclude(outcome="Succeeded", reason="Completed")
    late.join()
    state = mailbox.state()
    assert state is not None
    assert state.reason == "Completed"


def test_words_that_cannot_be_written_do_not_keep_a_run_from_saying_how_it_ended(
    tmp_path: Path,
) -> None:
    mailbox = Mailbox(tmp_path / "0")
    mailbox.begin_life()
    report = Report(plan(tmp_path), "answer", tmp_path / "log", mailbox)
    report.activity("reading \udcff.json")
    report.conclude(outcome="Failed", reason="InvalidSpec", message="there is no \udcff.json")
    message = TerminationMessage.model_validate_json((tmp_path / "log").read_bytes())
    assert message.message == "there is no ?.json"
    state = mailbox.state()
    assert state is not None
    assert (state.reason, state.activity) == ("InvalidSpec", "reading ?.json")


class NoStop:
    """Nobody asks the process to stop."""


@pytest.mark.parametrize(("accelerators", "told"), [(2, True), (0, False)])
def test_accelerators_that_wait_are_counted_and_processors_are_not(
    tmp_path: Path, accelerators: int, told: bool
) -> None:
    wanted = plan(tmp_path, accelerators)
    setting = Setting(
        plan=wanted,
        places=Places(work=tmp_path, spool=tmp_path, benchmarks=tmp_path),
        store=open_store(wanted.store),
        report=Report(wanted, "answer", None),
        stop=NoStop(),  # type: ignore[arg-type]
        writer="w",
    )
    with setting.holding_accelerators():
        with setting.stage("load"):
            time.sleep(0.1)
        with setting.stage("generate"):
            time.sleep(0.3)
        time.sleep(0.1)
    time.sleep(0.2)
    with setting.stage("score"):
        pass
    assert ("idle" in setting.seconds) == told
    if told:
        held = setting.seconds["idle"] + setting.seconds["generate"]
        assert 0.2 <= setting.seconds["idle"] <= held - 0.3
