"""What the runner says while it works: logs, progress, signals."""

from __future__ import annotations

import io
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalrun_api.plan import ModelPlan, RunIdentity, RunPlan, SettingsGroup, StorePlan
from evalrun_api.sources import ModelSource, VolumePath
from evalrun_api.spec import SeedSpec
from evalrun_api.termination import TerminationMessage
from evalrun_runner import stopping
from evalrun_runner.logs import JsonLines, WithoutBars
from evalrun_runner.report import Report
from evalrun_runner.stopping import Stopped, StopRequest

pytestmark = pytest.mark.decisions


@pytest.fixture
def plan() -> RunPlan:
    return RunPlan(
        run=RunIdentity(namespace="default", name="trial", uid="1"),
        model=ModelPlan(
            backend="llava_hf",
            source=ModelSource(volume=VolumePath(claim_name="models")),
            source_arg="pretrained",
            args={},
        ),
        batch_size=1,
        accelerators=0,
        seed=SeedSpec(),
        groups=[SettingsGroup(name="g0", tasks=["t"])],
        store=StorePlan(uri="file:///nowhere"),
    )


def test_a_log_line_is_one_json_object_with_what_was_added() -> None:
    record = logging.makeLogRecord({"name": "x", "levelno": 30, "levelname": "WARNING"})
    record.msg, record.args, record.answers = "two\nlines %s", (1,), 7
    line = JsonLines({"run": "default/trial"}).format(record)
    assert "\n" not in line
    entry = json.loads(line)
    assert entry["message"] == "two\nlines 1"
    assert (entry["run"], entry["answers"], entry["level"]) == ("default/trial", 7, "warning")


def test_progress_bars_are_left_out_of_the_log_and_other_lines_are_not() -> None:
    stream = io.StringIO()
    quiet = WithoutBars(stream)
    quiet.write("one\n")
    for percent in range(100):
        quiet.write(f"\rModel Responding: {percent}%")
    quiet.write("\n")
    quiet.write("tw")
    quiet.write("o\n")
    quiet.write("x" * 200_000)  # a library that never ends its line does not fill memory
    assert stream.getvalue() == "one\ntwo\n"
    assert len(quiet._begun.line) <= 4096


def test_lines_of_several_threads_stay_whole() -> None:
    stream = io.StringIO()
    quiet = WithoutBars(stream)
    other = threading.Thread(target=lambda: print("other", "thread", file=quiet))
    quiet.write("main ")
    other.start()
    other.join()
    quiet.write("thread\n")
    assert stream.getvalue() == "other thread\nmain thread\n"


def test_progress_counts_reused_and_computed_answers(plan: RunPlan, tmp_path: Path) -> None:
    report = Report(plan, "prepare", tmp_path / "termination")
    report.enter("answer", "answering")
    report.expect("t", 100)
    report.reused("t", 40)
    report.computed("t", 16)
    time.sleep(0.05)
    report.computed("t", 16)
    progress = report.progress()
    assert (progress.requests_done, progress.requests_total) == (72, 100)
    assert (progress.reused, progress.computed) == (40, 32)
    assert progress.requests_per_second > 0
    assert progress.eta_seconds is not None
    assert progress.tasks[0].requests_done == 72


def test_the_termination_message_is_rewritten_in_place(plan: RunPlan, tmp_path: Path) -> None:
    path = tmp_path / "termination"
    path.write_text("x" * 10_000)
    inode = path.stat().st_ino
    report = Report(plan, "answer", path)
    report.conclude(outcome="Failed", reason="OutOfMemory", message="m" * 2000)
    report.conclude(outcome="Succeeded", reason="Completed", message="")
    assert path.stat().st_ino == inode
    message = TerminationMessage.model_validate_json(path.read_bytes())
    assert (message.outcome, message.step) == ("Succeeded", "answer")


def test_a_termination_log_that_cannot_be_written_does_not_change_the_outcome(
    plan: RunPlan,
) -> None:
    Report(plan, "answer", Path("/dev/full")).conclude(outcome="Succeeded", reason="Completed")


@pytest.fixture
def stop() -> Iterator[StopRequest]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    yield StopRequest(patience_seconds=1)
    signal.alarm(0)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_stop_outside_of_a_chunk_takes_effect_at_once(stop: StopRequest) -> None:
    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_stop_within_a_chunk_waits_for_its_end(stop: StopRequest) -> None:
    finished = False
    with pytest.raises(Stopped), stop.chunk():
        os.kill(os.getpid(), signal.SIGTERM)
        finished = True
    assert finished


def test_a_chunk_that_outlasts_the_patience_is_interrupted(stop: StopRequest) -> None:
    begun = time.monotonic()
    with pytest.raises(Stopped), stop.chunk():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert time.monotonic() - begun < 5


def test_an_except_clause_of_a_backend_cannot_swallow_a_stop(
    stop: StopRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Stopped), stop.chunk():
        os.kill(os.getpid(), signal.SIGTERM)
        monkeypatch.setattr(stopping, "REPEAT_SECONDS", 0.0)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception:
            pytest.fail("it was swallowed")


def test_a_signal_sent_twice_at_once_is_one_request(stop: StopRequest) -> None:
    finished = False
    with pytest.raises(Stopped), stop.chunk():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        finished = True
    assert finished


def test_nothing_interrupts_a_shielded_process(stop: StopRequest) -> None:
    stop.shield()
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Stopped):
        stop.raise_if_asked()
