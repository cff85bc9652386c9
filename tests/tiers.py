"""Run every tier of the tests and say how long each took: what `make test` calls."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PYTEST = [str(BIN / "pytest"), "-q", "-p", "no:cacheprovider"]
SHORT = ["--durations=8", "--tb=short"]
RUNNER = [*PYTEST, "-m", "runner", *SHORT, "--show-capture=log", "--timeout-method=thread"]
"""lmms-eval's progress bars would bury the rest. The runner has SIGALRM to itself."""
LONG = [
    f"tests/runner/test_{name}.py"
    for name in (
        "exactness",
        "request_kinds",
        "workers",
        "judges",
        "lmms_eval_runner",
        "data_ladder",
    )
]
"""About half of the runner's tests by time: one lane; the others are the second."""
INTEGRATION = [*PYTEST, "-m", "integration", *SHORT]
WAITING = [
    f"tests/integration/test_{name}.py"
    for name in ("chaos", "late_watch", "node_loss", "rolling_update", "too_many_requests")
]
"""The same of the tests with an API server: each lane has one of its own."""


TIER_SECONDS = 2400.0
"""Three times what the longest one takes on a good day. A test that hangs fails after 15 minutes,
or where a thread has to tell, its lane ends; this is for what ends neither way."""


@dataclass(frozen=True)
class Tier:
    """A name, and commands that run at the same time: each keeps one core busy."""

    name: str
    lanes: list[list[str]]


TIERS = [
    Tier("check: lint", [[str(BIN / "ruff"), "check", "."]]),
    Tier("check: format", [[str(BIN / "ruff"), "format", "--check", "."]]),
    Tier("check: types", [[str(BIN / "mypy")]]),
    Tier("check: imports", [[str(BIN / "lint-imports")]]),
    Tier("tier 1 decisions", [[*PYTEST, "-m", "decisions"]]),
    Tier("tier 2 contract", [[*PYTEST, "-m", "contract"]]),
    Tier("tier 3 runner", [[*RUNNER, *LONG], [*RUNNER, *(f"--ignore={file}" for file in LONG)]]),
    Tier(
        "tier 4 integration",
        [[*INTEGRATION, *WAITING], [*INTEGRATION, *(f"--ignore={file}" for file in WAITING)]],
    ),
    Tier("tier 5 end to end", [[*PYTEST, "-m", "e2e", *SHORT]]),
]


class Lane:
    """A command at work. The output of the first of a tier is shown as it comes."""

    def __init__(self, command: list[str], *, shown: bool) -> None:
        self.ended = False
        self._output = None if shown else tempfile.TemporaryFile()  # noqa: SIM115 - see `end`
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=self._output,
            stderr=None if shown else subprocess.STDOUT,
            start_new_session=True,  # so that it can be ended with all that it started
        )

    def passed(self, deadline: float) -> bool:
        """Wait for it and show its output; whether it passed."""
        try:
            code = self._process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            print(f"=== not done within {TIER_SECONDS / 60:.0f} minutes: ended", flush=True)
            self.send(signal.SIGINT)
            code = 1
        self.end()
        return code == 0

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def end(self, patience: float = 30.0) -> None:
        """See that all of it has ended, and show what it said."""
        if self.ended:
            return
        self.ended = True
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self.send(signal.SIGKILL)  # what it left, too
        self._process.wait()
        if self._output is not None:
            self._output.seek(0)
            sys.stdout.write(self._output.read().decode(errors="replace"))
            sys.stdout.flush()
            self._output.close()


def run(tier: Tier) -> bool:
    """Run a tier; whether it passed."""
    deadline = time.monotonic() + TIER_SECONDS
    lanes = [Lane(command, shown=number == 0) for number, command in enumerate(tier.lanes)]
    try:
        passed = [lane.passed(deadline) for lane in lanes]  # each shows what it said
        return all(passed)
    except BaseException:  # somebody ends the tests
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for lane in lanes:
            lane.send(signal.SIGINT)
        for lane in lanes:
            lane.end(patience=8.0)
        raise


def main() -> int:
    """Run all tiers, also after one has failed; 1 if any has."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    rows = []
    for tier in TIERS:
        print(f"\n=== {tier.name}, begun at {time.strftime('%H:%M:%S')}", flush=True)
        begun = time.monotonic()
        passed = run(tier)
        rows.append((tier.name, time.monotonic() - begun, passed))
    print("\n=== tiers")
    for name, seconds, passed in rows:
        print(f"{name:40s} {seconds:7.1f} s  {'passed' if passed else 'FAILED'}")
    failed = sum(not passed for _, _, passed in rows)
    minutes = sum(seconds for _, seconds, _ in rows) / 60
    print(f"tiers: {len(rows) - failed} passed, {failed} failed, {minutes:.0f} minutes")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
