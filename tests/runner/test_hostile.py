"""Backends that misbehave: what the run says of each, and that none gets a trusted score.

The summary of the test run prints a line for each: how the run ended, and what a user reads. The
backends that sleep for ever are in test_stall.py, those that end their process in test_workers.py.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.journal import Record
from evalrun_api.manifest import Manifest
from evalrun_api.plan import RunPlan
from evalrun_api.reasons import REASONS
from evalrun_runner import layout, local
from evalrun_runner.journal.segments import read_records
from evalrun_runner.logs import WithoutBars

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

DOCUMENTS = 20


@dataclass
class Bench:
    """Runs of a few documents on a backend that misbehaves."""

    workbench: Any
    show: Callable[[str], None]
    backend: Any

    def run(self, behaviour: str, batch: int = 1, **integrity: Any) -> local.LocalRun:
        made = self.workbench.run(
            benchmarks=[{"benchmarkRef": {"name": "easy-vqa"}, "limit": DOCUMENTS}]
        )
        plan: RunPlan = made.plan
        chunk = 16 if batch == 1 else batch
        (group,) = plan.groups
        changes = {
            "model": plan.model.model_copy(
                update={"backend": "misbehaving", "args": {"behaviour": behaviour}}
            ),
            "batch_size": batch,
            "groups": [group.model_copy(update={"batch_size": batch, "chunk_size": chunk})],
            "integrity": plan.integrity.model_copy(update=integrity),
        }
        return replace(made, plan=plan.model_copy(update=changes))

    def execute(self, run: local.LocalRun) -> Any:
        self.backend.calls.clear()
        outcome = self.workbench.execute(run)
        message = outcome.message
        behaviour = str(run.plan.model.args["behaviour"])
        batch = f" at batch {run.plan.batch_size}" if run.plan.batch_size > 1 else ""
        said = message.message or f"trusted: {message.trusted}, {message.determinism}"
        self.show(
            f"{behaviour + batch:<42} {message.outcome:<10} {message.reason:<17} {said[:400]}"
        )
        assert outcome.code == REASONS[message.reason].exit_code
        return outcome

    def manifest(self, run: local.LocalRun) -> Manifest | None:
        data = self.workbench.store(run).get(layout.manifest(run.plan.run))
        return Manifest.model_validate_json(data) if data is not None else None

    def records(self, run: local.LocalRun) -> list[Record]:
        lock = json.loads(self.workbench.file(run, "lock.json"))
        prefix = layout.segments(run.plan.run.namespace, lock["answers"])
        return list(read_records(self.workbench.store(run), prefix))


@pytest.fixture
def bench(workbench: Any, show_figure: Callable[[str], None]) -> Iterator[Bench]:
    from hostile_backends import Misbehaving
    from lmms_eval.models import MODEL_REGISTRY_V2
    from lmms_eval.models.registry_v2 import ModelManifest

    manifest = ModelManifest("misbehaving", simple_class_path="hostile_backends.Misbehaving")
    MODEL_REGISTRY_V2.register_manifest(manifest, overwrite=True)
    yield Bench(workbench, show_figure, Misbehaving)
    Misbehaving.calls.clear()
    Misbehaving.cured = False


@pytest.mark.parametrize(
    ("behaviour", "batch", "reason", "words", "errors", "calls"),
    [
        # Answers that are none, without a word: each is asked twice.
        ("empty", 1, "InvalidAnswers", ["20 of 20", "(Empty: 20)"], {"Empty": 20}, 22),
        ("nones", 1, "InvalidAnswers", ["20 of 20", "(Empty: 20)"], {"Empty": 20}, 22),
        ("too-few", 1, "WrongAnswerCount", ["asked 16 requests and returned 15"], {}, 1),
        ("too-many", 1, "WrongAnswerCount", ["asked 16 requests and returned 17"], {}, 1),
        ("none", 1, "WrongAnswerCount", ["returned NoneType answers"], {}, 1),
        ("object", 1, "BackendUnusable", ["an answer holds a object"], {}, 1),
        # A backend that is dead is found within 16 requests, and says itself what ails it.
        (
            "raises",
            1,
            "BackendFailed",
            ["failed on 16 requests in a row", "ValueError: the backend is unwell"],
            {"BackendError": 16},
            17,
        ),
        ("exits", 1, "BackendFailed", ["SystemExit: 0"], {"BackendError": 16}, 17),
        ("panics", 1, "BackendFailed", ["PanicException"], {"BackendError": 16}, 17),
        ("swallows-errors", 1, "BackendFailed", ["pixel_values"], {"BackendError": 16}, 2),
        ("sentinels", 1, "BackendFailed", ["upstream is overloaded"], {"RequestFailed": 16}, 2),
        ("logs-and-answers", 1, "BackendFailed", ["broken data stream"], {"BackendError": 16}, 17),
        ("out-of-memory", 1, "OutOfMemory", ["CUDA out of memory"], {"OutOfMemory": 16}, 17),
        ("out-of-memory", 8, "OutOfMemory", ["CUDA out of memory"], {"OutOfMemory": 16}, 30),
        (
            "swallows-out-of-memory",
            1,
            "OutOfMemory",
            ["CUDA out of memory", "in generating"],
            {"OutOfMemory": 16},
            17,
        ),
        # What no other request can pass either, and lies with none of them, is blamed on none.
        ("loses-its-accelerator", 1, "WorkerFailed", ["device-side assert"], {}, 1),
    ],
)
def test_a_hostile_backend_gets_no_score(
    bench: Bench,
    behaviour: str,
    batch: int,
    reason: str,
    words: list[str],
    errors: dict[str, int],
    calls: int,
) -> None:
    run = bench.run(behaviour, batch)
    outcome = bench.execute(run)
    message = outcome.message
    assert (message.outcome, message.reason) == ("Failed", reason)
    for word in words:
        assert word in message.message
    assert message.errors == errors
    assert Counter(record.error for record in bench.records(run)) == errors
    assert len(bench.backend.calls) <= calls
    assert bench.manifest(run) is None, "there is a score"


def test_a_backend_that_writes_100_mb_to_stderr_gets_no_score(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bench.run("writes-100-mb-to-stderr", retries=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (tmp_path / "stderr").open("w") as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", WithoutBars(file))
        outcome = bench.execute(run)
    assert (tmp_path / "stderr").stat().st_size >= 200 * 2**20, "it does reach the log"
    assert outcome.reason == "InvalidAnswers"
    assert outcome.message.errors == {"Empty": DOCUMENTS}
    assert bench.manifest(run) is None
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100 * 1024, f"{grown} KiB of noise are kept in memory"


@pytest.mark.parametrize("behaviour", ["out-of-memory-above-2", "swallows-out-of-memory-above-2"])
def test_memory_that_runs_out_above_batch_2_costs_no_answer_and_is_said(
    bench: Bench, behaviour: str
) -> None:
    run = bench.run(behaviour, batch=8)
    outcome = bench.execute(run)
    assert outcome.code == 0, outcome.message
    # Chunks of 8, 8 and 4: two that fail at 8, so that the third begins with 2.
    assert [len(call) for call in bench.backend.calls] == [8, 4, *[2] * 4] * 2 + [2, 2]
    manifest = bench.manifest(run)
    assert manifest is not None
    assert manifest.trusted
    assert manifest.answers.errors == {}
    assert manifest.provenance.determinism == "Mixed"
    circumstances = manifest.provenance.circumstances
    assert (circumstances.smaller_batch, circumstances.devices) == (DOCUMENTS, ["cpu"])
    assert {record.batch for record in bench.records(run)} == {2}
    assert outcome.message.determinism == "Mixed"


@pytest.mark.parametrize("behaviour", ["one-is-poisoned", "one-is-swallowed"])
def test_one_request_that_fails_takes_no_other_with_it(bench: Bench, behaviour: str) -> None:
    run = bench.run(behaviour, max_invalid_fraction=0.05)
    outcome = bench.execute(run)
    assert outcome.code == 0, outcome.message
    failed = [record for record in bench.records(run) if record.error is not None]
    assert [(record.doc_id, record.error) for record in failed] == [(7, "BackendError")]
    assert "document 7 is broken" in (failed[0].said or "")
    assert outcome.message.errors == {"BackendError": 1}
    manifest = bench.manifest(run)
    assert manifest is not None
    assert manifest.trusted
    assert manifest.answers.tasks[0].errors == {"BackendError": 1}
    # The others were asked one by one at last, as a batch of 1 is asked anyway.
    assert manifest.provenance.determinism == "Exact"

    strict = bench.workbench.again(
        run, integrity=run.plan.integrity.model_copy(update={"max_invalid_fraction": 0.01})
    )
    outcome = bench.execute(strict)
    assert outcome.reason == "InvalidAnswers"
    assert "1 of 20 answers are empty or failed (BackendError: 1)" in outcome.message.message
    assert "document 7 is broken" in outcome.message.message
    assert bench.manifest(strict) is None


def test_a_dead_backend_that_is_started_again_ends_with_a_verdict_on_the_answers(
    bench: Bench,
) -> None:
    run = bench.run("raises")
    assert bench.execute(run).reason == "BackendFailed"
    again = bench.workbench.again(run)
    outcome = bench.execute(again)
    # What failed before does not count towards the end, so each start gets further.
    assert outcome.reason == "InvalidAnswers"
    assert "20 of 20 answers are empty or failed (BackendError: 20)" in outcome.message.message
    assert "ValueError: the backend is unwell" in outcome.message.message
    assert {record.attempts for record in bench.records(again)} == {1, 2}


@pytest.mark.parametrize(("batch", "alone"), [(1, None), (8, 1)])
def test_a_request_that_answers_only_when_asked_again_is_counted_as_such(
    bench: Bench, batch: int, alone: int | None
) -> None:
    run = bench.run("empty-at-first", batch)
    outcome = bench.execute(run)
    assert outcome.code == 0, outcome.message
    again = [record for record in bench.records(run) if record.attempts > 1]
    assert [record.doc_id for record in again] == [0, 5, 10, 15]
    assert {(record.attempts, record.batch) for record in again} == {(2, alone)}
    manifest = bench.manifest(run)
    assert manifest is not None
    assert manifest.trusted
    assert manifest.provenance.determinism == "Mixed"
    circumstances = manifest.provenance.circumstances
    assert circumstances.asked_again == 4
    assert circumstances.smaller_batch == (4 if alone else 0)


def test_a_group_with_a_smaller_batch_than_the_backend_is_asked_in_its_own(bench: Bench) -> None:
    run = bench.run("well", batch=8)
    group = run.plan.groups[0].model_copy(update={"batch_size": 3, "chunk_size": 9})
    run = replace(run, plan=run.plan.model_copy(update={"groups": [group]}))
    outcome = bench.execute(run)
    assert outcome.code == 0, outcome.message
    assert [len(call) for call in bench.backend.calls] == [3, 3, 3] * 2 + [2]
    manifest = bench.manifest(run)
    assert manifest is not None
    assert manifest.provenance.determinism == "Batched"
    assert {record.batch for record in bench.records(run)} == {None}
    assert {record.device for record in bench.records(run)} == {"cpu"}


def test_answers_are_judged_where_nothing_is_scored(bench: Bench) -> None:
    for behaviour, reason in (("well", "Completed"), ("empty", "InvalidAnswers")):
        run = bench.run(behaviour)
        run = replace(run, plan=run.plan.model_copy(update={"predict_only": True}))
        outcome = bench.execute(run)
        assert outcome.reason == reason, outcome.message
        manifest = bench.manifest(run)
        if reason == "Completed":
            assert manifest is not None
            assert manifest.trusted
            assert manifest.scores == []
            assert len(manifest.groups[0].samples) == 1
        else:
            assert manifest is None


def test_sigterm_ends_asking_again_and_keeps_what_was_answered(bench: Bench) -> None:
    run = bench.run("is-stopped-while-it-fails")
    outcome = bench.execute(run)
    assert (outcome.message.outcome, outcome.code) == ("Stopped", 30)
    assert [len(call) for call in bench.backend.calls] == [16]
    assert [record.error for record in bench.records(run)] == [None] * 15


def test_an_answer_that_swallows_a_stop_is_none(bench: Bench) -> None:
    run = bench.run("swallows-a-stop")
    outcome = bench.execute(run)
    assert (outcome.message.outcome, outcome.code) == ("Stopped", 30)
    assert bench.records(run) == []


def test_a_benchmark_that_only_marks_is_not_trusted(bench: Bench) -> None:
    run = bench.run("one-is-poisoned", on_violation="Mark")
    outcome = bench.execute(run)
    assert outcome.code == 0, outcome.message
    assert outcome.message.trusted is False
    manifest = bench.manifest(run)
    assert manifest is not None
    assert not manifest.trusted


def test_errors_of_other_parts_are_not_blamed_on_the_backend() -> None:
    from evalrun_runner.answering.complaints import Ear

    with Ear("lmms_eval.models.chat.llava_hf").listening() as complaints:
        logging.getLogger("evalrun_runner.journal.writing").error("answers wait in the spool")
        logging.getLogger("botocore.httpsession").error("connection refused")
    assert (complaints.errors, complaints.own) == (0, 0)


def test_a_backend_that_logs_without_end_costs_no_memory() -> None:
    from loguru import logger

    from evalrun_runner.answering.complaints import MAX_KEPT, MAX_LENGTH, Ear

    library = logging.getLogger("transformers.made-up")
    with Ear("hostile_backends").listening() as complaints:
        for number in range(2000):
            library.error("%s", f"{number} " + "y" * 5000)
        logger.error("CUDA out of memory")
    assert (complaints.errors, complaints.own) == (2001, 0)
    assert complaints.out_of_memory
    assert len(complaints.said) <= MAX_KEPT * (MAX_LENGTH + 2)
