"""Running a step on this machine: start it, show it, pass signals on, tell how it ended."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from evalrun_api.plan import RunIdentity
from evalrun_api.progress import Progress
from evalrun_api.termination import TerminationMessage
from evalrun_runner.local import LocalRun, RunningStep, start

POLL_SECONDS = 0.2
ASK_SECONDS = 0.5
"""Between two looks at whether the step lives, and two requests for its progress."""


class Display(Protocol):
    """Shows how far a step is."""

    def show(self, progress: Progress | None, elapsed: float) -> None:
        """Show the last known progress."""

    def say(self, text: str) -> None:
        """Tell the user something that is not progress."""


@dataclass(frozen=True)
class Ended:
    """How a step ended.

    exit_code: of its process; negative when a signal ended it.
    outcome: what it left behind. progress: the last that was seen of it.
    signals: what the user sent, in order; the second one killed the step.
    log: where its log is now.
    """

    exit_code: int
    outcome: TerminationMessage | None
    progress: Progress | None
    signals: tuple[int, ...]
    seconds: float
    log: Path

    @property
    def succeeded(self) -> bool:
        """Whether the step's output is durably written."""
        return self.exit_code == 0

    @property
    def stopped(self) -> bool:
        """Whether it ended because the user asked for it."""
        return bool(self.signals) and not self.succeeded


def cache_folder(environment: Mapping[str, str], home: Path) -> Path:
    """Where workspaces, logs and waiting answers are kept on this machine."""
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else home / ".cache") / "lmms-eval-operator"


def workspace(cache: Path, run: RunIdentity) -> Path:
    """The folder of one attempt at a run."""
    return cache / "runs" / run.namespace / run.name / run.uid


def supervise(
    local: LocalRun,
    step: str,
    display: Display,
    launch: Callable[[LocalRun, str], RunningStep] = start,
) -> Ended:
    """Run a step to its end, showing its progress.

    SIGINT or SIGTERM asks the step to stop; another one, after the user was told so, kills it.
    """
    began = time.monotonic()
    with _signals() as received:
        running = launch(local, step)
        passed_on = 0
        progress: Progress | None = None
        asked = 0.0
        while (code := running.poll()) is None:
            now = time.monotonic()
            if len(received) > passed_on:
                if passed_on:
                    running.kill()
                else:
                    display.say("stopping: storing finished answers (press again to kill)")
                    running.stop()
                passed_on = len(received)
            if now - asked >= ASK_SECONDS:
                progress = running.progress() or progress
                asked = time.monotonic()
            display.show(progress, now - began)
            running.wait(POLL_SECONDS)
        return Ended(
            exit_code=code,
            outcome=running.outcome(),
            progress=progress,
            signals=tuple(received),
            seconds=time.monotonic() - began,
            log=_tidy(local, failed=code != 0 and not received),
        )


def _tidy(local: LocalRun, *, failed: bool) -> Path:
    """Remove the workspace of an attempt that needs no looking into, all but its log.

    The log becomes the run's last.log; a failed attempt keeps all it had.
    """
    if failed:
        return local.log
    kept = local.workspace.parent / "last.log"
    local.log.replace(kept)
    shutil.rmtree(local.workspace, ignore_errors=True)
    return kept


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of ending by them."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
