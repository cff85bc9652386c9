"""Four shards, four ways to lose a pod: evicted, preempted, out of memory, and with its node."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from answers import (
    by_pod,
    ended,
    held_seconds,
    hold_all_at_work,
    last_word,
    stored,
    watching,
)
from space import DOCUMENTS, Space, assert_equal
from still import let_go, without_kubelet
from witness import witness

from evalrun_api.reasons import ExitCode

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

SHARDS = 4
FLUSH_SECONDS = 5
CHUNK = 16
URGENT = "e2e-urgent"
FILL_MEMORY = ("sh", "-c", "head -c 4G /dev/zero > /dev/shm/filling")
"""More than the pod may have; its processes are killed, the largest first."""
SOON_GIVEN_UP = {
    "key": "node.kubernetes.io/unreachable",
    "operator": "Exists",
    "effect": "NoExecute",
    "tolerationSeconds": 1,
}
"""In place of the minute that the operator gives a node to come back."""

Doc = dict[str, Any]


def until(what: str, true: Callable[[], Any], seconds: float = 60, pause: float = 0.3) -> Any:
    """Wait until something holds; it."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(pause)
    return found


def uid(pod: Doc) -> str:
    return str(pod["metadata"]["uid"])


def name_of(pod: Doc) -> str:
    return str(pod["metadata"]["name"])


def is_going(pod: Doc) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def is_running(pod: Doc) -> bool:
    states = pod["status"].get("containerStatuses") or [{}]
    return "running" in states[0].get("state", {})


@contextmanager
def urgency(space: Space) -> Iterator[None]:
    """A priority class above that of every run."""
    document = {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": URGENT},
        "value": 1000,
    }
    space.kubectl("apply", "-f", "-", input=json.dumps(document))
    try:
        yield
    finally:
        space.kubectl("delete", "priorityclass", URGENT)


def preempt(space: Space) -> None:
    """Have a pod come for a moment that is more urgent, and takes one of the GPUs."""
    container = {
        "name": "urgent",
        "image": "lmms-eval.io/runner:dev",
        "command": ["/bin/true"],
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "urgent"},
        "spec": {
            "priorityClassName": URGENT,
            "restartPolicy": "Never",
            "containers": [container],
        },
    }
    space.kubectl("apply", "-f", "-", input=json.dumps(pod))


def evict(space: Space, pod: Doc) -> None:
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name_of(pod), "namespace": space.namespace},
    }
    path = f"/api/v1/namespaces/{space.namespace}/pods/{name_of(pod)}/eviction"
    space.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction))


def test_a_run_loses_four_pods_in_four_ways_and_no_answer(
    space: Space,
    plain: Doc,
    tmp_path: Path,
    show_figure: Callable[[str], None],
    clock: Callable[[], str],
) -> None:
    begun = time.monotonic()
    name = space.apply(
        "shards.yaml",
        name="four",
        parallelism={"shards": SHARDS, "acceleratorsPerShard": 1},
        retryLimit=1,  # for the one out of memory: nothing else may count
        answerPod={
            "resources": {"cpu": "200m", "memory": "2Gi"},
            "sharedMemory": "4Gi",
            "tolerations": [SOON_GIVEN_UP],
        },
    )
    with watching(space, name, tmp_path) as seen, urgency(space):
        first, computed = hold_all_at_work(space, name, SHARDS)

        preempt(space)
        preempted = until(
            "one is preempted",
            lambda: next((pod for pod in space.pods(name, "answer") if is_going(pod)), None),
        )
        let_go(uid(preempted))
        evicted, starved, given_up = (pod for pod in first.values() if uid(pod) != uid(preempted))
        evict(space, evicted)
        let_go(uid(evicted))
        space.kubectl("exec", name_of(starved), "--", *FILL_MEMORY, check=False)
        until(
            "one is out of memory",
            lambda: any(
                ended(pod).get("reason") == "OOMKilled" for pod in space.pods(name, "answer")
            ),
        )
        until("all four are there", lambda: len(running(space, name)) == SHARDS)
        disturbed = clock()

        with witness(space.cluster), without_kubelet(space.cluster.node.name):
            until(
                "the pods of the lost node are given up",
                lambda: all(is_going(pod) for pod in space.pods(name, "answer") if not ended(pod)),
            )
            gone = clock()
        let_go(uid(given_up))

        status = space.finished(name)
    assert status["phase"] == "Succeeded", space.kubectl("describe", "evr", name)
    assert_equal(space.results(status), plain)

    # Every answer was stored once: what was in the journal was computed by nobody again.
    journal = by_pod(stored(space, status["answers"]["digest"]))
    keys = [record.key for records in journal.values() for record in records]
    assert len(keys) == len(set(keys)) == DOCUMENTS
    pods = {uid(pod): pod for pod in seen.pods()}
    for pod in (preempted, evicted, given_up):
        last = pods[uid(pod)]
        assert ended(last)["exitCode"] == ExitCode.STOPPED, name_of(pod)
        assert last_word(last)["computed"] == len(journal[uid(pod)]) > 0, name_of(pod)
    lost = computed[uid(starved)] - len(journal[uid(starved)])
    assert lost <= CHUNK + FLUSH_SECONDS * 100

    # One failure counts, and three disruptions do not.
    assert status["shards"]["restarts"] == 1
    assert status["shards"]["ignoredRestarts"] >= 3
    held = sum(held_seconds(pod) for pod in pods.values())
    answering = sum(last_word(pod).get("seconds", {}).get("generate", 0) for pod in pods.values())
    usage = status["usage"]
    assert abs(float(usage["gpuSeconds"]) - held) <= len(pods)
    assert abs(float(usage["gpuIdleSeconds"]) - (held - answering)) <= 2 * len(pods)
    assert 0 < float(usage["gpuIdleSeconds"]) < held
    written = space.writes(name)
    assert len(written) <= 15 + 4 + 2 * (time.monotonic() - begun) / 60, written  # one failure
    show_figure(
        f"4 shards, one pod preempted, one evicted, one out of memory ({disturbed}), the kubelet "
        f"gone until the rest was given up ({gone}), and back: {clock()}, the numbers and "
        f"{DOCUMENTS} samples equal plain lmms-eval's; no answer stored twice, none lost by "
        f"SIGTERM, {max(lost, 0)} by SIGKILL; {len(pods)} pods, restarts "
        f"{status['shards']['restarts']}, ignored {status['shards']['ignoredRestarts']}; "
        f"{usage['gpuSeconds']} GPU-seconds, {usage['gpuIdleSeconds']} of them idle; "
        f"{len(written)} writes by the operator"
    )


def running(space: Space, name: str) -> list[Doc]:
    return [pod for pod in space.pods(name, "answer") if is_running(pod) and not is_going(pod)]
