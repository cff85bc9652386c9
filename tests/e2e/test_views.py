"""What a person sees with kubectl: the table at each phase, and the description of a failed run."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from space import Space

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]


def test_eight_shards_cost_as_few_writes_as_one_and_each_phase_is_shown(
    space: Space, show_figure: Callable[[str], None]
) -> None:
    name = space.apply(
        "shards.yaml",
        name="eight",
        parallelism={"shards": 8, "acceleratorsPerShard": 1},
        answerPod={"resources": {"cpu": "100m", "memory": "2Gi"}},
    )
    begun = time.monotonic()
    seen: dict[str, str] = {}
    while "completionTime" not in (status := space.status(name)):
        phase = status.get("phase", "")
        table = space.kubectl("get", "evr")
        if phase and phase in table:
            seen[phase] = table
        assert time.monotonic() - begun < 600, space.kubectl("describe", "evr", name)
        time.sleep(1)
    seen[status["phase"]] = space.kubectl("get", "evr")
    assert list(seen) == ["Preparing", "Answering", "Scoring", "Succeeded"]
    assert status["shards"]["total"] == status["shards"]["succeeded"] == 8
    minutes = (time.monotonic() - begun) / 60
    written = space.writes(name)
    progress = 2 * minutes
    assert len(written) <= 15 + progress, written
    show_figure(
        f"8 shards on 4 GPUs: {minutes * 60:.0f} s, {len(written)} writes by the operator "
        f"(bound: 15, and 2 a minute of progress): "
        + ", ".join(f"{written.count(kind)} {kind}" for kind in sorted(set(written)))
    )
    for phase, table in seen.items():
        show_figure(f"kubectl get evr, while {phase}:\n{table.rstrip()}")
