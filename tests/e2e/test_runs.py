"""kubectl apply, and the score arrives: on a real node, in the product's own images."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from space import DOCUMENTS, Space, assert_equal

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]


def gpus_of(pod: dict[str, Any]) -> str:
    (container,) = pod["spec"]["containers"]
    return str(container["resources"].get("limits", {}).get("nvidia.com/gpu", "0"))


def rising(history: list[dict[str, Any]]) -> list[int]:
    """The different counts of done requests that were seen while the run was answering."""
    counts = [
        status["progress"]["requestsDone"]
        for status in history
        if status.get("phase") == "Answering" and "progress" in status
    ]
    assert counts == sorted(counts)
    return sorted(set(counts))


def test_a_run_with_one_gpu_gives_plain_lmms_evals_numbers_and_again_computes_nothing(
    space: Space,
    plain: dict[str, Any],
    show_figure: Callable[[str], None],
    clock: Callable[[], str],
) -> None:
    begun = time.monotonic()
    name = space.apply("gpu.yaml")
    status = space.finished(name)
    first = clock()
    space.kubectl("wait", "--for=condition=Complete", f"evr/{name}", "--timeout=1s")
    assert status["phase"] == "Succeeded", space.kubectl("describe", "evr", name)
    assert_equal(space.results(status), plain)

    phases = list(dict.fromkeys(entry.get("phase") for entry in space.seen[name]))
    assert [phase for phase in phases if phase] == [
        "Preparing",
        "Answering",
        "Scoring",
        "Succeeded",
    ]
    seen = rising(space.seen[name])
    assert any(0 < done < DOCUMENTS for done in seen), seen
    held = {
        step: [gpus_of(pod) for pod in space.pods(name, step)]
        for step in ("prepare", "answer", "score")
    }
    assert held == {"prepare": ["0"], "answer": ["1"], "score": ["0"]}
    assert status["answers"] | {"digest": ""} == {
        "reused": 0,
        "computed": DOCUMENTS,
        "invalid": 0,
        "digest": "",
    }
    assert float(status["usage"]["gpuSeconds"]) > 5
    assert status["usage"]["cost"]
    assert status["provenance"]["lmmsEval"] == "0.7.3"
    assert status["provenance"]["determinism"] == "Exact"
    assert {entry["type"]: entry["status"] for entry in status["conditions"]} == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
        "Complete": "True",
        "Trusted": "True",
    }
    written = space.writes(name)
    assert len(written) <= 15 + 2 * (time.monotonic() - begun) / 60, written
    show_figure(
        f"1 GPU: {first} from apply to Complete, done seen {seen}, "
        f"{status['usage']['gpuSeconds']} GPU-seconds, {status['headline']}; the numbers and "
        f"{DOCUMENTS} samples equal plain lmms-eval's; {len(written)} writes by the operator: "
        + ", ".join(f"{written.count(kind)} {kind}" for kind in sorted(set(written)))
    )

    space.kubectl("delete", "evr", name, "--wait")
    space.apply("gpu.yaml")
    again = space.finished(name)
    assert (again["answers"]["reused"], again["answers"]["computed"]) == (DOCUMENTS, 0)
    assert_equal(space.results(again), plain)
    show_figure(f"deleted and applied again: 0 of {DOCUMENTS} answers computed, {clock()} in all")
