"""A run loses its pods in three ways, is stopped half-way, and goes on split in another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from answers import Writer, by_pod, hold_all_at_work, stored
from losses import evict, exhaust, name_of, uid
from space import DOCUMENTS, Space, assert_equal
from still import let_go

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]


def test_a_run_that_loses_three_pods_and_is_resumed_with_workers_gives_the_same_numbers(
    space: Space,
    plain: dict[str, Any],
    show_figure: Callable[[str], None],
    clock: Callable[[], str],
) -> None:
    pods = {"resources": {"memory": "2Gi"}, "sharedMemory": "4Gi"}
    name = space.apply("shards.yaml", answerPod=pods)
    before, _ = hold_all_at_work(space, name, 3)
    deleted, evicted, starved = before.values()
    space.kubectl("delete", "pod", name_of(deleted), "--wait=false")
    evict(space, evicted)
    for pod in (deleted, evicted):
        let_go(uid(pod))
    exhaust(space, starved)
    space.patch(name, {"suspend": True})
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
    workers = {"shards": 2, "acceleratorsPerShard": 2, "acceleratorsPerWorker": 1}
    space.patch(name, {"parallelism": workers, "answerPod": {"resources": {"memory": "3Gi"}}})
    space.patch(name, {"suspend": False})

    status = space.finished(name, 600)
    assert status["phase"] == "Succeeded", space.kubectl("describe", "evr", name)
    assert_equal(space.results(status), plain)
    assert status["resumes"] == 1
    assert status["shards"]["total"] == 2
    assert status["shards"]["restarts"] == 1  # the one out of memory
    assert status["shards"]["ignoredRestarts"] >= 2  # the others, and what the suspension ended

    journal = stored(space, status["answers"]["digest"])
    keys = [record.key for records in journal.values() for record in records]
    assert len(keys) == len(set(keys)) == DOCUMENTS  # what was stored was never computed again
    later = {writer.uid for writer in journal if writer.worker == "w1"}
    assert len(later) == 2
    assert all(journal[Writer(pod, "w0")] for pod in later)
    kept = sum(len(records) for writer, records in journal.items() if writer.uid not in later)
    assert 0 < kept < DOCUMENTS
    assert by_pod(journal)[uid(deleted)]
    assert by_pod(journal)[uid(evicted)]
    written = space.writes(name)
    show_figure(
        f"3 shards, one pod deleted, one evicted, one out of memory, suspended after {kept} of "
        f"{DOCUMENTS} answers, resumed with 2 shards of 2 workers: {clock()}, the numbers and "
        f"samples equal plain lmms-eval's, no answer computed twice; "
        f"{status['usage']['gpuSeconds']} GPU-seconds; {len(written)} writes by the operator"
    )
