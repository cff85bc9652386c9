"""Where a runner finds things on its machine: volumes, custom benchmarks, its work folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evalrun_api import reasons
from evalrun_api.benchmark import DATA_PLACEHOLDER
from evalrun_api.digests import digest
from evalrun_api.errors import fail
from evalrun_api.plan import CustomBenchmark
from evalrun_api.sources import VolumePath
from evalrun_api.task_files import inspect

VOLUMES_ROOT = Path("/volumes")
"""In a pod each claim is mounted beneath it, by name."""

CacheKind = Literal["own", "shared", "node", "pod"]
"""Whose the hub's cache (HF_HOME) is, and so whether the later steps find there what prepare
fetched. own: this machine's, for all steps (a laptop). shared: a volume that all pods mount.
node: the node's, so perhaps not that of the next pod. pod: this pod's, and lost with it."""


@dataclass(frozen=True)
class Places:
    """Folders of this process.

    volumes: folder of each claim that does not lie beneath `VOLUMES_ROOT`.
    benchmarks: holds a folder of files for each custom benchmark of the plan.
    work: may be written to, and is lost with the pod.
    spool: may be written to, and outlives the process where the machine allows it.
    cache: whose the hub's cache is.
    """

    work: Path
    spool: Path
    benchmarks: Path
    volumes: Mapping[str, Path] = field(default_factory=dict)
    cache: CacheKind = "own"

    def volume(self, volume: VolumePath) -> Path:
        """The folder that a volume and path stand for. It may not exist."""
        root = self.volumes.get(volume.claim_name, VOLUMES_ROOT / volume.claim_name)
        return (root / volume.path).absolute()


def read_files(benchmark: CustomBenchmark, places: Places) -> dict[str, str]:
    """The files of a custom benchmark, verified against the plan's digest."""
    folder = places.benchmarks / benchmark.name
    try:
        # A ConfigMap volume holds its real files behind names that begin with two dots.
        files = {
            path.name: path.read_text()
            for path in sorted(folder.iterdir())
            if not path.name.startswith(".")
        }
    except OSError as error:
        where = f"benchmark {benchmark.name}"
        raise fail(
            reasons.BENCHMARK_UNUSABLE, where, f"its files are not in {folder}: {error.strerror}"
        ) from error
    if digest(files) != benchmark.digest:
        raise fail(
            reasons.LOCK_MISMATCH,
            f"benchmark {benchmark.name}",
            f"the files in {folder} are not those of the plan",
        )
    return files


def include_folder(benchmark: CustomBenchmark, places: Places, *, allow_code: bool) -> Path:
    """A fresh folder with the benchmark's files, the data's folder written into them.

    allow_code: whether they may hold Python. Admission has asked already; lmms-eval would run it
    whoever wrote the plan.
    """
    files = read_files(benchmark, places)
    data = ""
    if benchmark.data is not None:
        source = places.volume(benchmark.data)
        if not source.is_dir():
            raise fail(
                reasons.DATASET_UNAVAILABLE,
                f"benchmark {benchmark.name}, data.volume",
                f"there is no folder {source}",
                "Check the claim and path; locally, name the folder with --volume CLAIM=FOLDER",
            )
        data = str(source)
        if any(mark in data for mark in ("\n", '"', "'", ": ", " #", "\\")):
            raise fail(
                reasons.DATASET_UNAVAILABLE,
                f"benchmark {benchmark.name}, data.volume",
                f"the folder's name {data!r} cannot stand in a YAML file",
                "Use a folder without quotes, backslashes, ': ' or ' #' in its path",
            )
    files = {name: text.replace(DATA_PLACEHOLDER, data) for name, text in files.items()}
    if not allow_code and inspect(files).has_code:
        raise fail(
            reasons.INVALID_SPEC,
            "spec.security.allowCodeExecution",
            f"Benchmark {benchmark.name} brings Python code",
            "Read the code, then set it to true and apply the run again",
        )
    folder = places.work / "include" / benchmark.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder
