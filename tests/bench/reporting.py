"""The one line that every benchmark ends with: its figures, and where they were taken."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("lmms-eval", "torch", "transformers", "pydantic", "boto3", "zstandard")
"""Whose versions a reader needs to compare figures of two days."""


def bench(name: str, **figures: Any) -> None:
    """Print the `BENCH {json}` line. name: as in `make bench-NAME` or `make NAME`, whole.

    figures: floats are rounded to four digits after the point. Call it last, also when a bound is
    broken: the figures are what a reader then wants to see.
    """
    rounded = {key: _rounded(value) for key, value in figures.items()}
    print("BENCH " + json.dumps({"bench": name, **rounded, "env": environment()}), flush=True)


def environment() -> dict[str, Any]:
    """Where figures are taken: processor, memory, accelerators, Python and packages."""
    versions = {}
    for package in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    found = {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "memory_gib": round(_kibibytes("MemTotal") / 2**20, 1),
        "load": [round(load, 2) for load in os.getloadavg()],
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
    }
    if gpus := _gpus():
        found["gpus"] = gpus
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value


def _gpus() -> list[str]:
    """Names of the NVIDIA devices, from the driver's own files: torch is not imported for it."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return [_field(str(file), "Model") for file in files]


def _field(path: str, name: str) -> str:
    with suppress(OSError):
        for line in Path(path).read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


def _kibibytes(name: str) -> int:
    return int(_field("/proc/meminfo", name).split()[0])
