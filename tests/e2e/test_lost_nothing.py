"""Four shards, four ways to lose a pod: evicted, preempted, out of memory, and with its node."""

from __future__ import annotations

import time
from collections.abc import Callable
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
from losses import evict, exhaust, name_of, preempt, uid, until, urgency
from space import DOCUMENTS, Space, assert_equal
from still import let_go, without_kubelet
from witness import witness

from evalrun_api.reasons import ExitCode

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

SHARDS = 4
FLUSH_SECONDS = 5
CHUNK = 16
SOON_GIVEN_UP = {
    "key": "node.kubernetes.io/unreachable",
    "operator": "Exists",
    "effect": "NoExecute",
    "tolerationSeconds": 1,
}
"""In place of the minute that the operator gives a node to come back."""

Doc = dict[str, Any]


def is_going(pod: Doc) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def is_running(pod: Doc) -> bool:
    states = pod["status"].get("containerStatuses") or [{}]
    return "running" in states[0].get("state", {})


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
        exhaust(space, starved)
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
