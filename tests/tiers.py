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


TIER_SECONDS = 1800.0
"""About twice what the longest one takes. A test that hangs must not hide which one it is."""


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
        self._output = None if shown else tempfile.TemporaryFile()  # noqa: SIM115 - closed in `_show`
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=self._output,
            stderr=None if shown else subprocess.STDOUT,
            start_new_session=True,  # so that it can be ended with all that it started
        )

    def end(self, deadline: float) -> bool:
        """Wait for it and show its output; whether it passed."""
        try:
            code = self._process.wait(max(deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            print(f"=== not done within {TIER_SECONDS / 60:.0f} minutes: ended", flush=True)
            code = 1
        finally:
            self._stop()
            self._show()
        return code == 0

    def _stop(self) -> None:
        if self._process.poll() is not None:
            return
        for number, patience in ((signal.SIGINT, 30.0), (signal.SIGTERM, 10.0)):
            os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
                return
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _show(self) -> None:
        if self._output is None:
            return
        self._output.seek(0)
        sys.stdout.write(self._output.read().decode(errors="replace"))
        sys.stdout.flush()
        self._output.close()


def run(tier: Tier) -> bool:
    """Run a tier; whether it passed."""
    deadline = time.monotonic() + TIER_SECONDS
    lanes = [Lane(command, shown=number == 0) for number, command in enumerate(tier.lanes)]
    ended = []
    try:
        for lane in lanes:
            ended.append(lane.end(deadline))
    finally:
        for lane in lanes[len(ended) + 1 :]:  # somebody ends the tests: what a lane said is told
            lane.end(0.0)
    return all(ended)


def main() -> int:
    """Run all tiers, also after one has failed; 1 if any has."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
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
