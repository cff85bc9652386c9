"""Run every tier of the tests and say how long each took: what `make test` calls."""

from __future__ import annotations

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
RUNNER = [*PYTEST, "-m", "runner", *SHORT, "--show-capture=log"]
"""lmms-eval's progress bars would bury the rest."""
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


def run(tier: Tier) -> bool:
    """Run a tier; whether it passed. The output of the first lane is shown as it comes."""
    others = []
    for command in tier.lanes[1:]:
        output = tempfile.TemporaryFile()  # noqa: SIM115 - read and closed below
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        others.append((process, output))
    codes = [subprocess.run(tier.lanes[0], cwd=ROOT, check=False).returncode]
    for process, output in others:
        codes.append(process.wait())
        output.seek(0)
        sys.stdout.write(output.read().decode(errors="replace"))
        sys.stdout.flush()
        output.close()
    return not any(codes)


def main() -> int:
    """Run all tiers, also after one has failed; 1 if any has."""
    rows = []
    for tier in TIERS:
        print(f"\n=== {tier.name}", flush=True)
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
