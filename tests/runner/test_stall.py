"""A process in which nothing is finished any more: said, stored and ended."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from evalrun_api.errors import EvalrunError
from evalrun_runner import local
from evalrun_runner.workers import watchdog
from evalrun_runner.workers.watchdog import Stalled, Watchdog

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]


def limited(limit: int) -> dict[str, Any]:
    return {"benchmarks": [{"benchmarkRef": {"name": "easy-vqa"}, "limit": limit}]}


def never(error: EvalrunError) -> None:
    pytest.fail(f"the main thread did not end: {error}")


@pytest.fixture
def hanging(workbench: Any) -> Callable[..., local.LocalRun]:
    """Makes runs whose backend sleeps for ever at one document."""
    from crashing_backends import MANIFEST
    from lmms_eval.models import MODEL_REGISTRY_V2

    MODEL_REGISTRY_V2.register_manifest(MANIFEST, overwrite=True)

    def run(document: int, stall_seconds: int) -> local.LocalRun:
        made = workbench.run(**limited(40))
        args = {"behaviour": "sleep", "document": document}
        model = made.plan.model.model_copy(update={"backend": "crashing", "args": args})
        changes = {"model": model, "stall_seconds": stall_seconds}
        return replace(made, plan=made.plan.model_copy(update=changes))

    return run


def test_a_backend_that_sleeps_for_ever_ends_the_run_with_its_stacks_and_nothing_lost(
    workbench: Any, hanging: Any, capfd: Any, caplog: Any
) -> None:
    run = hanging(document=20, stall_seconds=2)
    outcome = workbench.execute(run)
    assert (outcome.code, outcome.reason) == (1, "Stalled")
    assert "stallSeconds (2)" in outcome.message.message
    assert workbench.journaled(run) == (16, 16), "the chunk before it was not stored"
    printed = capfd.readouterr().err
    assert "crashing_backends.py" in printed, "faulthandler printed no stack of the main thread"
    (told,) = [record for record in caplog.records if hasattr(record, "stacks")]
    assert any("_answer" in line for line in told.stacks["MainThread"])
    json.dumps(told.stacks)


def test_a_call_that_ends_in_time_is_left_alone() -> None:
    watched = Watchdog(0.5, never)
    with watched.watching():
        for _ in range(4):
            with watched.call():
                time.sleep(0.2)
        time.sleep(0.6)  # loading a model, building requests: no call


def test_a_call_that_takes_too_long_is_interrupted_though_the_backend_swallows_exceptions() -> None:
    watched = Watchdog(0.2, never)
    begun = time.monotonic()
    with pytest.raises(Stalled), watched.watching(), watched.call():
        while time.monotonic() < begun + 20:
            try:
                time.sleep(1)
            except Exception:
                pytest.fail("it was swallowed")
    assert time.monotonic() - begun < 10
    assert "stallSeconds (0.2)" in str(watched.error)


def test_a_main_thread_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "UNWIND_SECONDS", 0.3)
    ended = threading.Event()
    watched = Watchdog(0.2, lambda error: ended.set())
    with pytest.raises(Stalled), watched.watching(), watched.call():
        try:
            ended.wait(20)
        except Stalled:  # as a backend with a bare except would; then what it gives is no answer
            assert ended.wait(20)
