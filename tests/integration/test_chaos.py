"""`make chaos`, small: a few runs at a real API server that misbehaves, an operator that is killed.

That the harness would see a violation is shown in tests/operator/test_chaos_judge.py, and that the
proxy does each of its faults in test_api_faults.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.chaos.experiment import Setting, run
from cluster.tools import MissingError

pytestmark = pytest.mark.integration

SETTING = Setting(
    runs=30, kills=4, seed=4, at_once=30, deadline=300.0, namespaces=3, lease_seconds=3
)


def test_under_faults_and_kills_no_run_is_lost_and_nothing_is_done_twice(
    tmp_path: Path, show_figure: Callable[[str], None]
) -> None:
    try:
        found = run(SETTING, tmp_path, print)
    except MissingError as missing:
        pytest.skip(str(missing))
    assert {kind: cases for kind, cases in found.violations.items() if cases} == {}
    assert found.kills == SETTING.kills
    assert found.ended["killed"] == SETTING.kills
    # All that are not recovered from are those after which there was nothing left to write.
    assert len(found.recovery) >= SETTING.kills - 1
    assert found.phases["Succeeded"] > found.phases["Failed"] > 0
    assert found.acts > 0
    assert found.node["pods"] > SETTING.runs
    kinds = {name.split(":")[0] for name in found.faults}
    assert kinds >= {"write", "get", "list", "watch"}
    assert len(found.faults) >= 10
    worst = max(found.recovery)
    faults = sum(found.faults.values())
    show_figure(f"chaos: {faults} faults, worst recovery {worst:.1f} s, {found.seconds:.0f} s")
