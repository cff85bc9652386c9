"""The runner on a GPU beside plain lmms-eval: `make bench-gpu`.

A qwen2_5_vl model of 3 billion parameters with random weights is built here. Measured are wall time
against plain lmms-eval, how much of the answering the GPU idles with and without decoding ahead,
and whether a genuine CUDA out-of-memory error is survived: a batch that is too large for a cap
on the process' memory.

Exit codes: 0 every bound held, 1 one did not, 3 no CUDA device is here (and no figures).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.media import photograph_run, write_photographs
from bench.pairs import Timed, interleaved, ratios, run_ours, run_plain, run_process
from bench.reporting import bench
from evalrun_api.manifest import Manifest
from evalrun_api.plan import StorePlan
from evalrun_runner import layout, local
from evalrun_runner.answering.prefetch import MIB_VARIABLE
from evalrun_runner.stores import open_store

NO_DEVICE = 3
MAX_WALL_RATIO = 1.02
CAP_GIB = 14
"""Of GPU memory for the run whose batch is too large: twice what the weights take."""
CAPPED = """
import sys, torch
torch.cuda.set_per_process_memory_fraction(float(sys.argv.pop(1)))
from evalrun_runner.main import main
main()
"""
SMALLER = "memory ran out, so the batch is smaller"


@dataclass
class Utilisation:
    """What nvidia-smi said five times a second, in percent."""

    samples: list[float] = field(default_factory=list)

    @property
    def idle_share(self) -> float:
        """Of the time from the first work to the last, the part without any."""
        busy = [at for at, value in enumerate(self.samples) if value > 0]
        if not busy:
            return 1.0
        within = self.samples[busy[0] : busy[-1] + 1]
        return statistics.mean(1 - value / 100 for value in within)


@contextmanager
def watched() -> Iterator[Utilisation]:
    """Watch the first GPU meanwhile."""
    command = ["nvidia-smi", "--id=0", "--query-gpu=utilization.gpu"]
    command += ["--format=csv,noheader,nounits", "--loop-ms=200"]
    found = Utilisation()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield found
    finally:
        process.terminate()
        said, _ = process.communicate()
        found.samples = [float(line) for line in said.split() if line.replace(".", "").isdigit()]


class Place:
    """Data and model on this machine, and the runs over them."""

    def __init__(self, top: Path, *, tiny: bool, documents: int) -> None:
        from bench.qwen import build

        self.top = top
        self.tiny = tiny
        size = (320, 240) if tiny else (2048, 1536)
        print(write_photographs(top / "data", documents, *size), flush=True)
        self.parameters = build(top / "models" / "qwen", tiny=tiny)
        print(f"a qwen2_5_vl of {self.parameters / 1e9:.2f} billion parameters", flush=True)

    def run(self, name: str, batch: int = 1, max_pixels: int = 802816) -> local.LocalRun:
        """A run with a store of its own."""
        folder = self.top / name
        spec = {
            "model": {
                "profile": "qwen2_5_vl",
                "source": {"volume": {"claimName": "models", "path": "qwen"}},
                "args": {"max_pixels": 50176 if self.tiny else max_pixels},
            },
            "evaluation": {"batchSize": batch},
            "parallelism": {"acceleratorsPerShard": 0 if self.tiny else 1},
            "integrity": {"maxInvalidFraction": 1, "onViolation": "Mark"},  # its words are noise
        }
        store = StorePlan(uri=(folder / "store").as_uri())
        volumes = {"data": self.top / "data", "models": self.top / "models"}
        return photograph_run(folder, volumes, store, spec)


def wall(place: Place, pairs: int) -> dict[str, Any]:
    """Plain lmms-eval and ours, in turns."""
    device = "cpu" if place.tiny else "cuda"
    found = interleaved(
        pairs,
        lambda number: run_plain(place.run(f"p{number}"), place.top / f"plain-{number}", device),
        lambda number: run_ours(place.run(f"o{number}")),
        "plain and ours",
    )
    ratio, spread = ratios(found, lambda timed: timed.wall)
    return {"wall_ratio": ratio, "wall_ratios": spread}


def prefetch(place: Place, pairs: int) -> dict[str, Any]:
    """Ours without and with decoding ahead, and how much the GPU idles meanwhile."""
    idle: dict[str, list[float]] = {"0": [], "": []}

    def run(number: int, mib: str) -> Timed:
        made = place.run(f"a{number}-{mib}")
        if place.tiny:
            return run_ours(made, {MIB_VARIABLE: mib})
        with watched() as utilisation:
            timed = run_ours(made, {MIB_VARIABLE: mib})
        idle[mib].append(utilisation.idle_share)
        return timed

    found = interleaved(
        pairs,
        lambda number: run(number, "0"),
        lambda number: run(number, ""),
        "without and with decoding ahead",
    )
    ratio, _ = ratios(found, lambda timed: timed.answer_seconds)
    figures: dict[str, Any] = {"prefetch_answer_ratio": ratio}
    if not place.tiny:
        figures["gpu_idle_share_without"] = statistics.median(idle["0"])
        figures["gpu_idle_share_with"] = statistics.median(idle[""])
    return figures


def out_of_memory(place: Place, batch: int) -> dict[str, Any]:
    """A batch that the capped memory cannot hold: every request has to be answered all the same."""
    import torch

    total = torch.cuda.get_device_properties(0).total_memory / 2**30
    run = place.run("oom", batch=batch, max_pixels=3211264)
    command = [sys.executable, "-c", CAPPED, str(min(CAP_GIB / total, 1.0))]
    run_process([*command, *local.arguments(run, "all")], run.log, run.environment)
    stored = open_store(run.plan.store).get(layout.manifest(run.plan.run)) or b""
    manifest = Manifest.model_validate_json(stored)
    smaller = [
        json.loads(line)["batch"]
        for line in run.log.read_text(errors="replace").splitlines()
        if line.startswith("{") and json.loads(line).get("message") == SMALLER
    ]
    errors = {str(kind): count for kind, count in manifest.answers.errors.items() if count}
    return {
        "oom_batch": batch,
        "oom_halved_to": min(smaller, default=batch),
        "oom_times": len(smaller),
        "oom_unanswered": errors.get("OutOfMemory", 0),
        "oom_survived": bool(smaller) and not errors.get("OutOfMemory"),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, report; see the module for the exit codes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--documents", type=int, default=256, help="large photographs")
    parser.add_argument("--batch", type=int, default=64, help="that is too large for the memory")
    parser.add_argument(
        "--tiny", action="store_true", help="try the paths on a CPU: no figures of a GPU"
    )
    options = parser.parse_args(arguments)
    import torch

    if not options.tiny and not (torch.cuda.is_available() and shutil.which("nvidia-smi")):
        print("bench-gpu needs an NVIDIA GPU with nvidia-smi, and there is none here", flush=True)
        return NO_DEVICE
    with tempfile.TemporaryDirectory() as name:
        place = Place(Path(name), tiny=options.tiny, documents=options.documents)
        figures = wall(place, options.pairs) | prefetch(place, options.pairs)
        if not options.tiny:
            figures |= out_of_memory(place, options.batch)
    if options.tiny:
        print(f"tried on a CPU with a tiny model, which says nothing of a GPU: {figures}")
        return 0
    held = figures["wall_ratio"] <= MAX_WALL_RATIO and figures["oom_survived"]
    parameters = place.parameters
    bench("bench-gpu", parameters=parameters, pairs=options.pairs, **figures, held=held)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
