"""What signals do to a step: a real process stands for the runner."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evalrun_api.plan import RunIdentity, RunPlan
from evalrun_api.progress import Progress
from evalrun_cli.supervision import Ended, supervise, workspace
from evalrun_runner.local import LocalRun, RunningStep

pytestmark = pytest.mark.decisions

STOPS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(30))
{ready}
time.sleep(60)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
{ready}
time.sleep(60)
"""


class Pressing:
    """A display that sends signals to its own process once the step is ready."""

    def __init__(self, ready: Path, signals: list[int]) -> None:
        self._ready = ready
        self._signals = signals
        self.said: list[str] = []

    def show(self, progress: Progress | None, elapsed: float) -> None:
        if self._ready.exists() and self._signals:
            signal.raise_signal(self._signals.pop(0))

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def local(tmp_path: Path) -> LocalRun:
    run = RunIdentity(namespace="default", name="trial", uid="u1")
    plan = RunPlan.model_construct(run=run)
    return LocalRun(plan, {}, {}, workspace(tmp_path, run), tmp_path / "spool")


def run(local: LocalRun, program: str, signals: list[int]) -> tuple[Ended, list[str]]:
    ready = local.spool.parent / "ready"

    def launch(of: LocalRun, step: str) -> RunningStep:
        of.workspace.mkdir(parents=True)
        of.log.write_text("the log")
        text = program.format(ready=f"open({str(ready)!r}, 'w').close()")
        process = subprocess.Popen([sys.executable, "-c", text], start_new_session=True)
        return RunningStep(of, process)

    display = Pressing(ready, signals)
    return supervise(local, "all", display, launch), display.said


def test_a_step_that_ends_well_leaves_only_its_log(local: LocalRun) -> None:
    ended, said = run(local, "{ready}", [])
    assert (ended.exit_code, ended.stopped, said) == (0, False, [])
    assert ended.log.read_text() == "the log"
    assert not local.workspace.exists()


def test_a_failed_step_keeps_its_workspace(local: LocalRun) -> None:
    ended, _ = run(local, "{ready}; raise SystemExit(21)", [])
    assert (ended.exit_code, ended.log) == (21, local.log)
    assert local.workspace.exists()


def test_the_first_ctrl_c_stops_the_step(local: LocalRun) -> None:
    ended, said = run(local, STOPS, [signal.SIGINT])
    assert (ended.exit_code, ended.signals, ended.stopped) == (30, (signal.SIGINT,), True)
    assert len(said) == 1
    assert "press again to kill" in said[0]


def test_the_second_ctrl_c_kills_the_step(local: LocalRun) -> None:
    ended, _ = run(local, DEAF, [signal.SIGINT, signal.SIGINT])
    assert ended.exit_code == -signal.SIGKILL
    assert ended.signals == (signal.SIGINT, signal.SIGINT)


def test_sigterm_stops_the_step_and_handlers_are_put_back(local: LocalRun) -> None:
    before = signal.getsignal(signal.SIGTERM)
    ended, _ = run(local, STOPS, [signal.SIGTERM])
    assert ended.signals == (signal.SIGTERM,)
    assert signal.getsignal(signal.SIGTERM) is before
