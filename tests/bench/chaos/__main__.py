"""Runs of every kind while the API server misbehaves and the operator is killed: `make chaos`.

A proxy before a real API server delays, drops, repeats, refuses and lies. The judge reads the audit
log and watches of its own. Ends with 1 when anything happened that must not, and lists each case.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.chaos.experiment import Findings, Setting, dump, run, tell
from bench.reporting import bench
from cluster.tools import MissingError

SHOWN = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, judge, report."""
    setting, logs = _options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        findings = run(setting, folder, tell)
        dump(findings, folder)
    except MissingError as missing:
        tell(str(missing))
        return 2
    except KeyboardInterrupt:
        tell("interrupted")
        return 130
    finally:
        if logs is not None:
            shutil.copytree(folder, logs, dirs_exist_ok=True)
        shutil.rmtree(folder)
    for kind, cases in findings.violations.items():
        for case in cases[:SHOWN]:
            print(f"{kind}: {case}")
        if len(cases) > SHOWN:
            print(f"{kind}: and {len(cases) - SHOWN} more")
    killed = findings.ended["killed"]
    missed = 0 if setting.calm else setting.kills - killed
    if missed:
        print(f"only {killed} of {setting.kills} kills: all runs had ended before")
    _report(setting, findings)
    return 1 if missed or any(findings.violations.values()) else 0


def _options(arguments: Sequence[str] | None) -> tuple[Setting, Path | None]:
    parser = argparse.ArgumentParser(
        prog="make chaos",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--runs", type=int, default=2000, help="in all")
    add("--kills", type=int, default=50, help="of the operator, by SIGKILL")
    add("--seed", type=int, default=0, help="what happens when")
    add("--at-once", type=int, default=Setting.at_once, help="active runs at the same time")
    add("--deadline", type=float, default=Setting.deadline, help="seconds for a run to end in")
    add("--lease-seconds", type=int, default=Setting.lease_seconds, help="of the operator")
    add("--calm", action="store_true", help="the same runs without faults and kills")
    add("--logs", type=Path, help="a folder for the operator's logs and all violations")
    given = parser.parse_args(arguments)
    asked = {name: value for name, value in vars(given).items() if name != "logs"}
    setting = Setting(**asked)
    return setting, given.logs


def _report(setting: Setting, found: Findings) -> None:
    writes, recovery = sorted(found.writes.values()), sorted(found.recovery)

    def percentile(values: list[float] | list[int], share: float) -> float | None:
        return values[min(int(len(values) * share), len(values) - 1)] if values else None

    bench(
        "chaos",
        runs=setting.runs,
        seed=setting.seed,
        calm=setting.calm,
        seconds=found.seconds,
        kills=found.ended["killed"],
        kills_before_write=found.kills_before_write,
        processes=dict(found.ended),
        **{kind: len(cases) for kind, cases in found.violations.items()},
        recovery_p50_s=percentile(recovery, 0.5),
        recovery_p95_s=percentile(recovery, 0.95),
        recovery_max_s=recovery[-1] if recovery else None,
        acts=found.acts,
        phases=dict(found.phases),
        faults=dict(sorted(found.faults.items())),
        writes_per_run={
            "mean": sum(writes) / len(writes) if writes else None,
            "p95": percentile(writes, 0.95),
            "max": writes[-1] if writes else None,
        },
        written=dict(found.written),
        pods=found.node.get("pods"),
    )


if __name__ == "__main__":
    sys.exit(main())
