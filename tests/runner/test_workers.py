"""Several processes that answer: the same numbers, and one that dies alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.journal import Record
from evalrun_api.progress import Progress
from evalrun_runner import layout, local
from evalrun_runner.journal.segments import read_segment
from evalrun_runner.workers import endings
from evalrun_runner.workers.mailbox import Mailbox
from evalrun_runner.workers.poison import Death

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]


def limited(limit: int, workers: int = 1) -> dict[str, Any]:
    return {
        "benchmarks": [{"benchmarkRef": {"name": "easy-vqa"}, "limit": limit}],
        "parallelism": {"acceleratorsPerShard": 0, "workersPerShard": workers},
    }


def worker_of(run: local.LocalRun, number: int) -> Mailbox:
    return Mailbox(run.workspace / "workers" / str(number))


def pid_of(run: local.LocalRun, number: int) -> int:
    """The process that works in a worker's folder."""
    folder = str(worker_of(run, number).folder)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "--mailbox" in arguments and folder in arguments:
                return int(entry.name)
    raise AssertionError(f"no process works in {folder}")


def computed_by(run: local.LocalRun, number: int) -> int:
    state = worker_of(run, number).state()
    return sum(task.computed for task in state.tasks) if state else 0


def until(step: local.RunningStep, what: str, reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not reached():
        assert step.poll() is None, f"the step ended before {what}: {step.outcome()}"
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def test_a_killed_worker_is_started_anew_alone_a_stop_loses_nothing_and_the_score_is_the_same(
    workbench: Any,
) -> None:
    alone = workbench.run(**limited(1200))
    assert workbench.execute(alone).code == 0

    workbench.folder /= "shared"
    workbench.folder.mkdir()
    run = workbench.run(**limited(1200, workers=2))
    assert workbench.execute(run, "prepare").code == 0
    step = workbench.start(run, "answer")
    until(step, "both answer", lambda: min(computed_by(run, 0), computed_by(run, 1)) >= 32)
    other = pid_of(run, 1)
    killed = pid_of(run, 0)
    os.kill(killed, signal.SIGKILL)

    def restarted() -> Progress | None:
        progress = step.progress()
        return progress if progress and progress.restarts else None

    until(step, "it is started anew", lambda: restarted() is not None)
    try:
        assert pid_of(run, 1) == other
    except AssertionError:  # only because it was done before the other was back
        assert computed_by(run, 1) == 600
    until(step, "it answers again", lambda: computed_by(run, 0) >= 16)
    assert pid_of(run, 0) != killed
    step.stop()
    assert step.wait(60) == 30
    message = step.outcome()
    assert message is not None
    assert (message.outcome, message.restarts) == ("Stopped", 1)
    assert message.seconds is not None
    assert message.seconds.generate > 0
    records, different = workbench.journaled(run)
    assert different == message.computed, "a finished answer was lost"
    assert records == different, "an answer that was finished was computed again"
    assert different < 1200, "there was nothing left to stop"
    assert "easy_vqa" in run.log.read_text()
    with pytest.raises(AssertionError, match="no process"):
        pid_of(run, 0)

    # Finished by one worker, in another process, from the same journal.
    plan = run.plan.model_copy(update={"workers": 1})
    outcome = workbench.execute(replace(run, plan=plan))
    assert outcome.code == 0
    assert (outcome.message.reused, outcome.message.computed) == (different, 1200 - different)
    mine, theirs = workbench.results(run), workbench.results(alone)
    assert mine[0]["results"] == theirs[0]["results"]
    assert mine[1] == theirs[1]


@pytest.fixture
def crashing(
    workbench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., local.LocalRun]:
    """Makes locked runs whose backend ends its process at one document."""
    from crashing_backends import MANIFEST, as_plugin
    from lmms_eval.models import MODEL_REGISTRY_V2

    MODEL_REGISTRY_V2.register_manifest(MANIFEST, overwrite=True)
    given = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{as_plugin(tmp_path / 'plugin')}:{given}")

    def run(document: int, behaviour: str = "segfault", limit: int = 40) -> local.LocalRun:
        made = workbench.run(**limited(limit))
        args = {"behaviour": behaviour, "document": document}
        model = made.plan.model.model_copy(update={"backend": "crashing", "args": args})
        made = replace(made, plan=made.plan.model_copy(update={"model": model}))
        assert workbench.execute(made, "prepare").code == 0
        return made

    return run


def journal(workbench: Any, run: local.LocalRun, digest: str) -> dict[int, Record]:
    store = workbench.store(run)
    found: dict[int, Record] = {}
    for key in store.list(layout.segments(run.plan.run.namespace, digest)):
        for record in read_segment(store.get(key) or b"", key):
            assert record.doc_id not in found
            found[record.doc_id] = record
    return found


def test_a_request_that_crashes_its_worker_is_found_and_the_others_are_answered(
    workbench: Any, crashing: Callable[..., local.LocalRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = crashing(document=20)
    monkeypatch.setattr(endings, "MAX_IN_A_ROW", 1)
    outcome = workbench.execute(run, "answer", supervised=True)
    assert (outcome.code, outcome.reason) == (1, "WorkerFailed")
    assert "died of SIGSEGV" in outcome.message.message
    assert "Segmentation fault" in outcome.message.message, "its log is not told of"
    assert "crashing_backends.py" in outcome.message.message
    assert workbench.journaled(run) == (16, 16), "what it had finished was not stored"
    (death,) = worker_of(run, 0).deaths()
    assert (death.error, len(death.in_hand)) == ("Crashed", 16)

    # Two lives later: the chunk is suspect, and the request has died alone once.
    monkeypatch.setattr(endings, "MAX_IN_A_ROW", 5)
    once_alone = Death("Crashed", (death.in_hand[4],))
    worker_of(run, 0).write_deaths([death, death, once_alone])
    outcome = workbench.execute(run, "answer", supervised=True)
    assert outcome.code == 0, outcome
    assert outcome.message.restarts == 1
    assert outcome.message.errors == {"Crashed": 1}
    assert (outcome.message.reused, outcome.message.computed) == (16, 24)
    records = journal(workbench, run, outcome.message.answers_digest)
    assert sorted(records) == list(range(40))
    failed = {doc_id: record.error for doc_id, record in records.items() if record.error}
    assert failed == {20: "Crashed"}


def test_a_worker_whose_backend_answers_nothing_is_not_started_anew_for_each_chunk(
    workbench: Any, crashing: Callable[..., local.LocalRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "MAX_IN_A_ROW", 2)
    run = crashing(document=-1, behaviour="raise", limit=80)
    outcome = workbench.execute(run, "answer", supervised=True)
    assert (outcome.code, outcome.reason) == (1, "BackendFailed"), outcome.message
    assert outcome.message.restarts == 1
