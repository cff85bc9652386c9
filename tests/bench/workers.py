"""Four workers against one: `PYTHONPATH=tests python -m bench.workers`.

Each worker has a stub in place of a model, which takes a fixed time for each batch and no
processor, as an accelerator does; what is measured is what the runner loses by spreading. The time
counts from the first request, when all workers are loaded, to the last answer: on a few processors
several imports of torch take turns, on a machine with accelerators they do not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.example import make_run
from bench.reporting import bench
from evalrun_api.plan import StorePlan
from evalrun_runner import local

LEAST_SPEEDUP = 3.8
REQUESTS = 1920
SECONDS_PER_BATCH = 0.02


def workers_speedup() -> float:
    """How many times faster four workers answer than one."""
    return float(measured(4)["workers4_speedup"])


def measured(workers: int) -> dict[str, Any]:
    """Seconds of answering with one worker and with several, and of the whole steps."""
    with tempfile.TemporaryDirectory() as name:
        one, one_step = _answering_seconds(Path(name) / "one", 1)
        several, several_step = _answering_seconds(Path(name) / "several", workers)
    return {
        "requests": REQUESTS,
        "seconds_per_batch": SECONDS_PER_BATCH,
        "one_s": one,
        f"workers{workers}_s": several,
        f"workers{workers}_speedup": one / several,
        "one_step_s": one_step,
        f"workers{workers}_step_s": several_step,
    }


def _answering_seconds(folder: Path, workers: int) -> tuple[float, float]:
    """(from the first request to the last answer, the whole step) in seconds."""
    meeting = folder / "meeting"
    meeting.mkdir(parents=True)
    run = make_run(
        folder,
        StorePlan(uri=(folder / "store").as_uri()),
        benchmarks=[{"benchmarkRef": {"name": "easy-vqa"}, "limit": REQUESTS}],
        parallelism={"acceleratorsPerShard": 0, "workersPerShard": workers},
    )
    args = {"seconds": SECONDS_PER_BATCH, "meeting": str(meeting), "workers": workers}
    model = run.plan.model.model_copy(update={"backend": "fixed_latency", "args": args})
    run = replace(
        run,
        plan=run.plan.model_copy(update={"model": model}),
        environment={**run.environment, "PYTHONPATH": _plugin(folder / "plugin")},
    )
    _step(run, "prepare")
    whole = _step(run, "answer")
    notes = [json.loads(path.read_text()) for path in meeting.glob("*.json")]
    if len(notes) != workers:
        raise RuntimeError(f"{len(notes)} workers have answered, not {workers}")
    answering = max(end for _, end in notes) - min(begun for begun, _ in notes)
    print(f"{workers} workers: {answering:.2f} s of answering, {whole:.1f} s in all", flush=True)
    return answering, whole


def _step(run: local.LocalRun, step: str) -> float:
    began = time.monotonic()
    running = local.start(run, step)
    try:
        code = running.wait()
    finally:
        running.kill()
    if code != 0:
        raise RuntimeError(f"{step} ended with {code}:\n{run.log.read_text()[-4000:]}")
    return time.monotonic() - began


def _plugin(folder: Path) -> str:
    """A package that brings the stub to lmms-eval, by an entry point; for PYTHONPATH."""
    info = folder / "fixed_latency-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fixed-latency\nVersion: 0\n")
    entry = "[lmms_eval.models]\nfixed_latency = fixed_latency:MANIFEST\n"
    (info / "entry_points.txt").write_text(entry)
    shutil.copy(Path(__file__).with_name("fixed_latency.py"), folder)
    return str(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, report; 1 when the bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args(arguments)
    figures = measured(4)
    held = figures["workers4_speedup"] >= LEAST_SPEEDUP
    bench("bench-workers", **figures, least=LEAST_SPEEDUP, held=held)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
