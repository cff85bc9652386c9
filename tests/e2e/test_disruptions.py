"""A run is stopped half-way and goes on with other shards, and with several workers in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import by_pod, hold_all_at_work, stored
from space import DOCUMENTS, Space, assert_equal
from still import let_go

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]


def test_a_run_whose_pod_is_deleted_and_that_is_resumed_with_workers_gives_the_same_numbers(
    space: Space,
    plain: dict[str, Any],
    show_figure: Callable[[str], None],
    clock: Callable[[], str],
) -> None:
    name = space.apply("shards.yaml", answerPod={"resources": {"memory": "2Gi"}})
    before, _ = hold_all_at_work(space, name, 3)
    space.kubectl("delete", "pod", before[0]["metadata"]["name"], "--wait=false")
    space.patch(name, {"suspend": True})
    for pod in before.values():
        let_go(pod["metadata"]["uid"])
    suspended = space.until(
        name,
        "suspended",
        lambda status: any(
            entry["type"] == "Suspended" and entry["status"] == "True"
            for entry in status["conditions"]
        ),
    )
    assert space.pods(name, "answer") == []
    assert suspended["phase"] == "Suspended"
    begun = {pod["metadata"]["uid"] for pod in before.values()}
    workers = {"shards": 2, "acceleratorsPerShard": 2, "acceleratorsPerWorker": 1}
    space.patch(name, {"parallelism": workers, "answerPod": {"resources": {"memory": "3Gi"}}})
    space.patch(name, {"suspend": False})

    status = space.finished(name, 600)
    assert status["phase"] == "Succeeded", space.kubectl("describe", "evr", name)
    assert_equal(space.results(status), plain)
    assert status["resumes"] == 1
    assert status["shards"]["total"] == 2
    assert status["shards"]["restarts"] == 0
    assert status["shards"]["ignoredRestarts"] >= 3  # the deletion, and what the suspension ended

    journal = stored(space, status["answers"]["digest"])
    keys = [record.key for records in journal.values() for record in records]
    assert len(keys) == len(set(keys)) == DOCUMENTS  # what was stored was never computed again
    kept = sum(len(by_pod(journal)[uid]) for uid in begun)
    assert 0 < kept < DOCUMENTS
    later = sorted(writer for writer in journal if writer.uid not in begun)
    assert [writer.worker for writer in later] == ["w0", "w1", "w0", "w1"]
    written = space.writes(name)
    show_figure(
        f"3 shards, one pod deleted, suspended after {kept} of {DOCUMENTS} answers, resumed with 2 "
        f"shards of 2 workers: {clock()}, the numbers and samples equal plain lmms-eval's, no "
        f"answer computed twice; {status['usage']['gpuSeconds']} GPU-seconds; it took "
        f"{len(written)} writes by the operator"
    )
