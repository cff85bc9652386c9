"""Pods die, the run does not: deleted, evicted, killed for memory, suspended, fewer shards."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from space import DOCUMENTS, Space, assert_equal

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

FILL_MEMORY = """
import os
with open("/dev/shm/filling", "wb") as file:
    for _ in range(4096):
        file.write(os.urandom(1 << 20))
"""


def index_of(pod: dict[str, Any]) -> int:
    return int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])


def computed_by(pod: dict[str, Any]) -> int:
    """Answers that a pod says it has computed; 0 while it does not serve."""
    try:
        with OPENER.open(f"http://{pod['status']['podIP']}:8080/progress", timeout=2) as answer:
            return int(json.load(answer)["computed"])
    except (OSError, KeyError):
        return 0


def answering(space: Space, name: str, besides: frozenset[str] = frozenset()) -> list[str]:
    """For each of the three shards a pod that was seen to compute answers of its own.

    besides: uids of pods that do not count.
    """
    deadline = time.monotonic() + 240
    found: dict[int, str] = {}
    while time.monotonic() < deadline:
        for pod in space.pods(name, "answer"):
            new = pod["metadata"]["uid"] not in besides
            if new and "deletionTimestamp" not in pod["metadata"] and computed_by(pod) > 0:
                found[index_of(pod)] = pod["metadata"]["name"]
        if len(found) == 3:
            return [found[shard] for shard in range(3)]
        time.sleep(0.2)
    raise AssertionError(f"not all shards are answered: {space.kubectl('get', 'pods')}")


def test_a_run_whose_pods_are_deleted_evicted_and_killed_gives_the_same_numbers(
    space: Space,
    plain: dict[str, Any],
    show_figure: Callable[[str], None],
    clock: Callable[[], str],
) -> None:
    name = space.apply(
        "shards.yaml", answerPod={"resources": {"memory": "2Gi"}, "sharedMemory": "4Gi"}
    )
    deleted, evicted, starved = answering(space, name)
    before = {pod["metadata"]["uid"] for pod in space.pods(name, "answer")}

    space.kubectl("delete", "pod", deleted, "--wait=false")
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": evicted, "namespace": space.namespace},
    }
    path = f"/api/v1/namespaces/{space.namespace}/pods/{evicted}/eviction"
    space.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))
    space.kubectl("exec", starved, "--", "python3", "-c", FILL_MEMORY, check=False)

    def killed_for_memory() -> bool:
        pods = {pod["metadata"]["name"]: pod for pod in space.pods(name, "answer")}
        states = pods.get(starved, {}).get("status", {}).get("containerStatuses", [])
        return any(
            entry["state"].get("terminated", {}).get("reason") == "OOMKilled" for entry in states
        )

    deadline = time.monotonic() + 60
    while not killed_for_memory():
        assert time.monotonic() < deadline, space.kubectl("describe", "pod", starved, check=False)
        time.sleep(0.5)
    answering(space, name, besides=frozenset(before))

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
    space.patch(name, {"parallelism": {"shards": 2}})
    space.patch(name, {"suspend": False})

    status = space.finished(name, 600)
    assert status["phase"] == "Succeeded", space.kubectl("describe", "evr", name)
    assert_equal(space.results(status), plain)
    assert status["resumes"] == 1
    assert status["shards"]["total"] == 2
    assert status["shards"]["restarts"] >= 1  # out of memory counts
    assert status["shards"]["ignoredRestarts"] >= 2  # deletion and eviction do not
    spare = status["answers"]["computed"] - DOCUMENTS
    show_figure(
        f"3 shards: one pod deleted, one evicted, one OOM-killed, suspended, resumed with 2: "
        f"{clock()}, the numbers and {DOCUMENTS} samples equal plain lmms-eval's; "
        f"restarts {status['shards']['restarts']}, ignored {status['shards']['ignoredRestarts']}, "
        f"answers reported as computed beyond {DOCUMENTS}: {spare}, "
        f"{status['usage']['gpuSeconds']} GPU-seconds"
    )
    written = space.writes(name)
    show_figure(f"it took {len(written)} writes by the operator")
