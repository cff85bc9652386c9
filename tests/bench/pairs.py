"""Runs of plain lmms-eval and of ours side by side: commands, times, memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from evalrun_runner import layout, local
from evalrun_runner.stores import open_store

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
COMPARED = ("results", "groups", "n-samples", "versions")


@dataclass(frozen=True)
class Timed:
    """A process that ended well: seconds of wall and of processors, and what it found.

    resident: (seconds since its start, MiB of resident memory), every half second.
    answering: seconds since its start at which its model was loaded and its answers were there.
    """

    wall: float
    cpu: float
    results: dict[str, Any]
    resident: list[tuple[float, float]] = field(default_factory=list)
    answering: tuple[float, float] | None = None

    @property
    def answer_seconds(self) -> float:
        """From the loaded model to the last answer."""
        assert self.answering is not None
        return self.answering[1] - self.answering[0]

    @property
    def growth_mib(self) -> float:
        """By how much its memory grew over the last three quarters of answering."""
        assert self.answering is not None
        loaded, answered = self.answering
        quarter = loaded + (answered - loaded) / 4
        within = [mib for at, mib in self.resident if quarter <= at <= answered]
        third = max(len(within) // 4, 1)
        return statistics.median(within[-third:]) - statistics.median(within[:third])


def run_process(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> tuple[float, float, list[tuple[float, float]]]:
    """Run a command to its end: wall, processor seconds, resident memory. Raises if it fails."""
    begun = time.monotonic()
    resident: list[tuple[float, float]] = []
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ENVIRONMENT, **environment},
        )
        ended = threading.Event()
        watch = threading.Thread(target=_watch, args=(process.pid, begun, resident, ended))
        watch.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            ended.set()
            watch.join()
    wall = time.monotonic() - begun
    code = os.waitstatus_to_exitcode(status)
    process.returncode = code
    if code:
        raise RuntimeError(f"{command[:4]} … ended with {code}:\n{log.read_text()[-4000:]}")
    return wall, usage.ru_utime + usage.ru_stime, resident


def _watch(
    pid: int, begun: float, resident: list[tuple[float, float]], ended: threading.Event
) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    while not ended.wait(0.5):
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            return
        resident.append((time.monotonic() - begun, pages * page / 2**20))


def run_ours(
    run: local.LocalRun, environment: Mapping[str, str] | None = None, step: str = "all"
) -> Timed:
    """The runner's three steps in one process, as `evalrun run` starts them."""
    command = [sys.executable, "-m", "evalrun_runner", *local.arguments(run, step)]
    began = datetime.now().timestamp()
    wall, cpu, resident = run_process(command, run.log, {**run.environment, **(environment or {})})
    stored = open_store(run.plan.store).get(f"{layout.run(run.plan.run)}/results/results.json")
    assert stored is not None
    times = _times(run.log, began)
    return Timed(
        wall, cpu, json.loads(stored), resident, (times["model loaded"], times["answered"])
    )


def _times(log: Path, began: float) -> dict[str, float]:
    """When each message was logged, in seconds since `began`."""
    found = {}
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            found[entry["message"]] = datetime.fromisoformat(entry["time"]).timestamp() - began
    return found


def run_plain(run: local.LocalRun, folder: Path, device: str = "cpu") -> Timed:
    """`python -m lmms_eval` as a person would write it for the run's requests.

    folder: a new one for its files. The run has one settings group, of custom benchmarks.
    """
    plan = run.plan
    (group,) = plan.groups
    include = folder / "include"
    include.mkdir(parents=True)
    for custom in plan.custom_benchmarks:
        assert custom.data is not None
        data = run.volumes[custom.data.claim_name] / custom.data.path
        for name, text in run.files[custom.name].items():
            (include / name).write_text(text.replace("${DATA}", str(data).rstrip("/")))
    volume = plan.model.source.volume
    assert volume is not None
    weights = run.volumes[volume.claim_name] / volume.path
    args = {plan.model.source_arg: weights, **plan.model.args}
    command = [sys.executable, "-m", "lmms_eval", "--model", plan.model.backend]
    command += ["--model_args", ",".join(f"{key}={value}" for key, value in args.items())]
    command += ["--device", device, "--tasks", ",".join(group.tasks)]
    command += ["--include_path", str(include), "--batch_size", str(group.batch_size)]
    command += ["--process_docs_parallel", "1", "--log_samples", "--output_path", str(folder)]
    if group.limit is not None:
        command += ["--limit", str(group.limit)]
    wall, cpu, resident = run_process(command, folder / "log", run.environment)
    found = list(folder.rglob("*_results.json"))
    if not found:  # it exits 0 whatever happens
        raise RuntimeError(f"lmms-eval left no results:\n{(folder / 'log').read_text()[-4000:]}")
    return Timed(wall, cpu, json.loads(found[0].read_text()), resident)


def same_scores(one: Timed, other: Timed) -> bool:
    """Whether two runs have the same numbers."""
    return all(one.results.get(key) == other.results.get(key) for key in COMPARED)


def interleaved(
    pairs: int, first: Callable[[int], Timed], second: Callable[[int], Timed], names: str
) -> list[tuple[Timed, Timed]]:
    """Run both in turns, the one that begins alternating, so that drift meets both alike."""
    found = []
    for number in range(pairs):
        if number % 2:
            later, earlier = second(number), first(number)
            pair = (earlier, later)
        else:
            pair = (first(number), second(number))
        found.append(pair)
        print(
            f"pair {number + 1}, {names}: {pair[0].wall:.1f} s and {pair[1].wall:.1f} s wall, "
            f"{pair[0].cpu:.1f} s and {pair[1].cpu:.1f} s of processors",
            flush=True,
        )
    return found


def ratios(
    pairs: Sequence[tuple[Timed, Timed]], measure: Callable[[Timed], float]
) -> tuple[float, list[float]]:
    """Median of second / first over the pairs, and all of them in order of size."""
    found = sorted(measure(second) / measure(first) for first, second in pairs)
    return statistics.median(found), [round(ratio, 4) for ratio in found]


def custom_benchmark(name: str, files: Mapping[str, str], tasks: Sequence[str]) -> dict[str, Any]:
    """A Benchmark document whose data are on the claim `data`."""
    return {
        "apiVersion": "lmms-eval.io/v1alpha1",
        "kind": "Benchmark",
        "metadata": {"name": name},
        "spec": {
            "tasks": list(tasks),
            "files": dict(files),
            "data": {"volume": {"claimName": "data"}},
        },
    }


def example_files() -> dict[str, str]:
    """The files of the easy-VQA benchmark."""
    path = Path(__file__).parents[2] / "examples" / "easy-vqa" / "benchmark.yaml"
    files: dict[str, str] = yaml.safe_load(path.read_text())["spec"]["files"]
    return files
