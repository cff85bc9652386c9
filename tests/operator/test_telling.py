"""What the operator tells of itself: metrics, health, logs, and its command line."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from objects import Doc, job, pod, run

from evalrun_api.progress import Progress
from evalrun_operator import handlers, health, logs, scrape
from evalrun_operator.decisions import Ledger
from evalrun_operator.main import main
from evalrun_operator.metrics import Metrics
from evalrun_operator.store import Store
from evalrun_operator.watches import Watches

pytestmark = pytest.mark.decisions

ENDED: Doc = {
    "phase": "Failed",
    "startTime": "2026-01-01T00:00:00Z",
    "completionTime": "2026-01-01T01:00:00Z",
    "conditions": [{"type": "Failed", "status": "True", "reason": "OutOfMemory"}],
}


def told(metrics: Metrics) -> str:
    return metrics.text().decode()


def test_series_of_a_run_vanish_with_its_end() -> None:
    metrics = Metrics()
    store = Store(lambda pod: Ledger(), time.monotonic)
    metrics.watch_store(store, lambda: 3, lambda: 2)
    progress = {"requestsDone": 3, "requestsTotal": 12}
    store.put("EvaluationRun", run(phase="Answering", progress=progress))
    store.put("Job", job())
    store.put("Pod", pod())
    store.put_progress(
        "pod-1", Progress(step="answer", activity="x", requests_per_second=2.5, requests_done=3)
    )
    before = told(metrics)
    assert 'evalrun_run_phase{namespace="team",phase="Answering",run="one"} 1.0' in before
    assert 'evalrun_run_progress_ratio{namespace="team",run="one"} 0.25' in before
    assert 'evalrun_run_requests_per_second{namespace="team",run="one"} 2.5' in before
    assert "evalrun_operator_queue_depth 3.0" in before
    assert "evalrun_operator_runs_in_line 2.0" in before
    store.put("EvaluationRun", run(version=9, **ENDED))
    after = told(metrics)
    assert 'run="one"' not in after
    assert 'evalrun_runs{phase="Finished"} 1.0' in after


def test_an_end_is_counted_with_its_reason_and_duration() -> None:
    metrics = Metrics()
    metrics.count_finished(run(**ENDED))
    conditions = [{"type": "Failed", "status": "True", "reason": "WhateverAPodSaid"}]
    metrics.count_finished(run(**{**ENDED, "conditions": conditions}))
    text = told(metrics)
    assert 'evalrun_runs_finished_total{reason="OutOfMemory",result="failed"} 1.0' in text
    assert 'evalrun_runs_finished_total{reason="Other",result="failed"} 1.0' in text
    assert 'evalrun_run_duration_seconds_sum{result="failed"} 7200.0' in text


def test_what_runs_took_is_told_while_they_work_and_summed_when_they_end() -> None:
    metrics = Metrics()
    store = Store(lambda pod: Ledger(), time.monotonic)
    metrics.watch_store(store, lambda: 0, lambda: 0)
    usage = {"gpuSeconds": "900", "gpuIdleSeconds": "90", "cost": "1.50"}
    usage |= {"judgeRequests": 12, "judgeCost": "0.2500"}
    took: Doc = {"usage": usage, "shards": {"workerRestarts": 2}}
    store.put("EvaluationRun", run(phase="Answering", **took))
    store.put("Job", job())
    store.put("Pod", pod())
    live = Progress(step="answer", activity="x", errors={"Stalled": 4})
    store.put_progress("pod-1", live)
    before = told(metrics)
    named = 'namespace="team",run="one"'
    assert f"evalrun_run_gpu_seconds_total{{{named}}} 900.0" in before
    assert f"evalrun_run_gpu_idle_seconds_total{{{named}}} 90.0" in before
    assert f"evalrun_run_cost_total{{{named}}} 1.5" in before
    assert f"evalrun_run_worker_restarts_total{{{named}}} 2.0" in before
    assert f'evalrun_run_invalid_answers{{error="Stalled",{named}}} 4.0' in before
    assert "evalrun_gpu_seconds_total 0.0" in before

    ended = {**ENDED, **took, "answers": {"errors": {"Empty": 7, "Whim": 5}}}
    store.put("EvaluationRun", run(version=9, **ended))
    for _ in range(2):
        metrics.count_finished(run(**ended))
    after = told(metrics)
    assert 'run="one"' not in after
    assert "evalrun_gpu_seconds_total 1800.0" in after
    assert "evalrun_gpu_idle_seconds_total 180.0" in after
    assert "evalrun_cost_total 3.0" in after
    assert "evalrun_worker_restarts_total 4.0" in after
    assert "evalrun_judge_requests_total 24.0" in after
    assert "evalrun_judge_cost_total 0.5" in after
    assert 'evalrun_invalid_answers_total{error="Empty"} 14.0' in after
    assert "Whim" not in after  # labels are a closed list


def test_two_operators_in_one_process_share_no_metrics() -> None:
    first, second = Metrics(), Metrics()
    first.count_request("get", "leases", "200", 0.1)
    assert "leases" not in told(second)


def test_a_silent_part_is_named() -> None:
    now = 0.0
    pulse = health.Pulse(lambda: now)
    beat = pulse.expect("resync", 60)
    pulse.expect("lease", 500)
    now = 61
    assert list(pulse.faults()) == ["resync"]
    beat()
    assert pulse.faults() == {}
    now = 600
    pulse.end("resync")
    assert list(pulse.faults()) == ["lease"]


def test_the_endpoints_tell_what_is_wrong() -> None:
    faults: dict[str, str] = {}
    checks = health.Checks(lambda: {}, lambda: faults, lambda: "leader", lambda: Metrics().text())

    async def scene() -> None:
        runner = await health.serve(checks, "127.0.0.1", 0)
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

            async def get(path: str) -> tuple[int, str]:
                async with session.get(path) as response:
                    return response.status, await response.text()

            assert (await get("/healthz"))[0] == 200
            assert (await get("/readyz"))[0] == 200
            faults["store"] = "not read yet"
            status, text = await get("/readyz")
            assert status == 503
            assert json.loads(text) == {
                "ok": False,
                "role": "leader",
                "faults": {"store": "not read yet"},
            }
            status, text = await get("/metrics")
            assert status == 200
            assert "evalrun_operator_build_info" in text
        await runner.cleanup()

    asyncio.run(scene())


def test_however_often_the_metrics_are_asked_for_they_take_a_twentieth_of_the_time() -> None:
    now, made = 0.0, 0

    def make() -> bytes:
        nonlocal now, made
        now += 0.1
        made += 1
        return str(made).encode()

    text = health.Remembered(make, lambda: now)
    told = []
    for _ in range(1000):
        told.append(text())
        now += 0.01
    assert 4 <= made <= 6
    assert told == sorted(told)


def test_watches_that_end_begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalrun_operator.watches.FIRST_PAUSE", 0.01)
    began = 0

    async def watch() -> None:
        nonlocal began
        began += 1
        if began < 3:
            raise RuntimeError("the framework gave up")
        await asyncio.Event().wait()

    async def scene() -> None:
        restarts = []
        watches = Watches(watch, lambda: restarts.append(1), time.monotonic)
        running = asyncio.create_task(watches.run())
        while began < 3:
            await asyncio.sleep(0.005)
        assert len(restarts) == 2
        assert watches.down_seconds() > 0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scene(), 10))


def test_no_object_can_carry_the_finalizer_that_the_watches_would_remove() -> None:
    names = {handlers._settings().persistence.finalizer for _ in range(2)}
    assert len(names) == 2


def test_a_log_line_is_one_json_object() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord(
            "x", logging.ERROR, __file__, 1, "failed %s", ("here",), sys.exc_info()
        )
    for name, value in scrape.about(pod()).items():
        setattr(record, name, value)
    line = logs.JsonFormatter().format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert (told["level"], told["message"], told["run"]) == ("ERROR", "failed here", "team/one")
    assert (told["attempt"], told["pod"]) == ("pod-1", "one-answer-pod-1")
    assert "ValueError" in told["error"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("images: {runer: x}", "images.runer: there is no such field"),
        ("images: {runner: x}\nworkers: 0", "workers: 0 is not allowed"),
        ("images: {runner: x", "not valid YAML"),
        ("", "images: the field is missing"),
        (None, "the file cannot be read"),
    ],
)
def test_a_wrong_configuration_is_told_with_field_fault_and_remedy(
    text: str | None,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    show_message: Callable[[object, str], None],
) -> None:
    path = tmp_path / "config.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["--config", str(path)])
    message = capsys.readouterr().err
    show_message(ended.value.code, message)
    assert ended.value.code == 2
    assert said in message


@pytest.mark.parametrize("address", ["80", "host:", ":80", "host:port", "host:70000"])
def test_an_address_that_is_none_is_refused(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--listen", address])
    assert ended.value.code == 2
    assert "HOST:PORT" in capsys.readouterr().err
