"""A judge scores a run on the cluster, and the pod that asks it is killed: no GPU waits for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from answers import ended, held_seconds, watching
from losses import uid, until
from space import Space
from still import kill

from judged.benchmark import VERDICTS_EACH, benchmark
from judged.server import KEY, Judge

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

DOCUMENTS = 24
VERDICTS = VERDICTS_EACH * DOCUMENTS
KILLED_AT = (VERDICTS // 3, VERDICTS // 3)
"""At which request of an attempt its pod is killed."""
INPUT_TOKENS, OUTPUT_TOKENS = 100, 10
PRICES = {"input": 2.5, "output": 10}
COST = VERDICTS * (INPUT_TOKENS * PRICES["input"] + OUTPUT_TOKENS * PRICES["output"]) / 1e6

Doc = dict[str, Any]


def gpus(pod: Doc) -> int:
    """How many accelerators a pod holds."""
    (container,) = pod["spec"]["containers"]
    return int(container["resources"].get("limits", {}).get("nvidia.com/gpu", 0))


def apply(space: Space, judge: Judge) -> str:
    """A run with one GPU whose benchmark asks the judge; its name."""
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "judge"},
        "stringData": {"api-key": KEY},
    }
    judged = {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "Benchmark",
        "metadata": {"name": "judged-vqa"},
        "spec": benchmark(),
    }
    for document in (secret, judged):
        space.kubectl("apply", "-f", "-", input=json.dumps(document))
    return space.apply(
        "gpu.yaml",
        name="judged",
        benchmarks=[{"benchmarkRef": {"name": "judged-vqa"}, "limit": DOCUMENTS}],
        evaluation={
            "judge": {
                "endpoint": judge.url,
                "model": "wise-judge",
                "secret": {"name": "judge", "key": "api-key"},
                "prices": PRICES,
            }
        },
        retryLimit=len(KILLED_AT),
    )


def kill_at(space: Space, name: str, judge: Judge, number: int) -> None:
    """Kill the pod that scores when its judge hears so many requests, before this one is sold."""
    killed: list[str] = []

    def at(arrived: int) -> bool:
        if arrived == number:
            for pod in space.pods(name, "score"):
                if not ended(pod):
                    kill(uid(pod))
                    killed.append(uid(pod))
        return arrived < number

    judge.hear(at)
    until(
        "the pod that scores is killed",
        lambda: [pod for pod in space.pods(name, "score") if uid(pod) in killed and ended(pod)],
        240,
    )


def test_no_gpu_is_held_while_a_judge_is_asked_and_each_verdict_is_bought_once(
    space: Space,
    tmp_path: Path,
    show_figure: Callable[[str], None],
    clock: Callable[[], str],
) -> None:
    with Judge(failing=0.2, seed=7, host=space.cluster.host_ip).open() as judge:
        name = apply(space, judge)
        with watching(space, name, tmp_path) as seen:
            for number in KILLED_AT:
                kill_at(space, name, judge, number)
            judge.hear(lambda number: True)
            status = space.finished(name)
    assert status["phase"] == "Succeeded", space.kubectl("describe", "evr", name)

    # The accelerator was given back before the judge was asked for the first time.
    answering, scoring = seen.pods("answer"), seen.pods("score")
    assert [gpus(pod) for pod in answering] == [1]
    assert [gpus(pod) for pod in scoring] == [0] * (1 + len(KILLED_AT))
    given_back = datetime.fromisoformat(ended(answering[0])["finishedAt"])
    assert judge.first_heard is not None
    assert given_back <= judge.first_heard
    usage = status["usage"]
    assert abs(float(usage["gpuSeconds"]) - held_seconds(answering[0])) <= 1
    asked = (datetime.fromisoformat(status["completionTime"]) - judge.first_heard).total_seconds()

    # Two attempts were killed, and what they had bought was not bought again.
    codes = sorted(ended(pod)["exitCode"] for pod in scoring)
    assert codes == [0, 137, 137]
    assert judge.failed > VERDICTS / 10
    assert judge.sales == VERDICTS
    assert judge.keys == {f"Bearer {KEY}"}
    paid = json.loads(space.object(status["results"]["uri"]))["judge"]
    assert paid["requests"] - paid["failures"] == VERDICTS
    assert paid["cost"] == pytest.approx(COST)
    assert usage["judgeRequests"] == paid["requests"]
    assert float(usage["judgeCost"]) == pytest.approx(COST, abs=1e-4)
    show_figure(
        f"{VERDICTS} verdicts of a judge that failed {judge.failed} times, the pod that asks it "
        f"killed {len(KILLED_AT)} times: {judge.sales} sold, {paid['requests']} requests by the "
        f"manifest, cost {usage['judgeCost']}; the GPU was given back {given_back:%T}, the judge "
        f"first asked {judge.first_heard:%T}, for {asked:.0f} s; {usage['gpuSeconds']} "
        f"GPU-seconds; {clock()}"
    )
