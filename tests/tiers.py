"""Run every tier of the tests and say how long each took: what `make test` calls."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PYTEST = [str(BIN / "pytest"), "-q", "-p", "no:cacheprovider"]

QUIET = ["--tb=short", "--show-capture=log"]  # lmms-eval's progress bars would bury the rest

TIERS: list[tuple[str, list[list[str]]]] = [
    (
        "check (lint, format, types, imports)",
        [
            [str(BIN / "ruff"), "check", "."],
            [str(BIN / "ruff"), "format", "--check", "."],
            [str(BIN / "mypy")],
            [str(BIN / "lint-imports")],
        ],
    ),
    ("tier 1 decisions", [[*PYTEST, "-m", "decisions"]]),
    ("tier 2 contract", [[*PYTEST, "-m", "contract"]]),
    ("tier 3 runner", [[*PYTEST, "-m", "runner", "--durations=8", *QUIET]]),
    ("tier 4 integration", [[*PYTEST, "-m", "integration", "--durations=8", "--tb=short"]]),
    ("tier 5 end to end", [[*PYTEST, "-m", "e2e", "--durations=8", "--tb=short"]]),
]


def main() -> int:
    """Run all tiers, also after one has failed; 1 if any has."""
    rows = []
    for name, commands in TIERS:
        print(f"\n=== {name}", flush=True)
        begun = time.monotonic()
        codes = [subprocess.run(command, cwd=ROOT, check=False).returncode for command in commands]
        rows.append((name, time.monotonic() - begun, all(code == 0 for code in codes)))
    print("\n=== tiers")
    for name, seconds, passed in rows:
        print(f"{name:40s} {seconds:7.1f} s  {'passed' if passed else 'FAILED'}")
    failed = sum(not passed for _, _, passed in rows)
    print(f"tiers: {len(rows) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
