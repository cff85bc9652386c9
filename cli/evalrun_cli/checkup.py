"""What makes a machine fit for evaluations: judgements on facts that `machine` collects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from packaging.requirements import Requirement

from evalrun_api.errors import EvalrunError

GIB = 2**30
MIN_PYTHON = (3, 11)
LOW_DISK, WANTED_DISK = 1 * GIB, 20 * GIB
"""Below the first nothing works; models and datasets of a usual run take about the second."""
LOW_MEMORY, WANTED_MEMORY = 2 * GIB, 8 * GIB
"""lmms-eval with torch takes 0.9 GiB before a model is loaded."""
INSTALL = "pip install 'lmms-eval-operator[runner]'"

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """A finding. remedy: empty where all is well."""

    name: str
    level: Level
    finding: str
    remedy: str = ""

    def document(self) -> dict[str, str]:
        """The finding for programs."""
        found = {"name": self.name, "level": self.level, "finding": self.finding}
        return {**found, "remedy": self.remedy} if self.remedy else found


def size(count: float) -> str:
    """Bytes for people."""
    return f"{count / GIB:.1f} GiB"


def python(version: tuple[int, int, int]) -> Check:
    """Python's version."""
    text = ".".join(str(part) for part in version)
    if version[:2] < MIN_PYTHON:
        remedy = "Install evalrun with Python 3.11 or newer"
        return Check("python", "fail", f"{text} is too old", remedy)
    return Check("python", "ok", text)


def extra_of(requirements: Iterable[str], extra: str) -> list[Requirement]:
    """The requirements that an extra adds."""
    found = []
    for text in requirements:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            found.append(requirement)
    return found


def packages(
    requirements: Sequence[Requirement], version_of: Callable[[str], str | None]
) -> list[Check]:
    """The runner's packages: one line when all are right, else one for each that is not."""
    wrong = []
    for requirement in requirements:
        version = version_of(requirement.name)
        if version is None:
            wrong.append(Check(requirement.name, "fail", "it is not installed", INSTALL))
        elif not requirement.specifier.contains(version, prereleases=True):
            finding = f"{version} is installed, {requirement.specifier} is wanted"
            wrong.append(Check(requirement.name, "fail", finding, INSTALL))
    if wrong:
        return wrong
    if not requirements:
        finding = "the distribution's metadata does not tell what the runner needs"
        return [Check("packages", "warn", finding, "Install lmms-eval-operator with pip")]
    return [Check("packages", "ok", f"all {len(requirements)} of the runner")]


def lmms_eval(installed: str | None, indexed: str) -> Check:
    """Whether the names that the CLI checks are those of the installed lmms-eval."""
    if installed is None:
        return Check("lmms-eval", "fail", "it is not installed", INSTALL)
    if installed != indexed:
        finding = f"{installed} is installed; this release knows the names of {indexed}"
        return Check("lmms-eval", "warn", finding, f"pip install lmms-eval=={indexed}")
    return Check("lmms-eval", "ok", installed)


def disk(name: str, folder: str, free: int | None) -> Check:
    """Free space of a folder; None where it cannot be told."""
    if free is None:
        remedy = f"Check the rights on {folder}"
        return Check(name, "fail", f"{folder} cannot be read", remedy)
    finding = f"{size(free)} free in {folder}"
    if free < LOW_DISK:
        return Check(name, "fail", finding, "Free some space there, or use another folder")
    if free < WANTED_DISK:
        remedy = "Enough for small models; a 7B model and its data take about 20 GiB"
        return Check(name, "warn", finding, remedy)
    return Check(name, "ok", finding)


def memory(total: int, available: int) -> Check:
    """Main memory."""
    finding = f"{size(available)} of {size(total)} available"
    if available < LOW_MEMORY:
        return Check("memory", "fail", finding, "Close other programs; a run needs at least 2 GiB")
    if available < WANTED_MEMORY:
        return Check("memory", "warn", finding, "Enough for small models only")
    return Check("memory", "ok", finding)


def gpus(listed: Sequence[str] | None) -> Check:
    """Accelerators that nvidia-smi lists; None where there is no nvidia-smi."""
    if listed:
        return Check("gpu", "ok", "; ".join(listed))
    finding = "no nvidia-smi" if listed is None else "nvidia-smi lists none"
    remedy = (
        "Fine for endpoints and small models (parallelism.acceleratorsPerShard: 0); "
        "others need a GPU and its driver"
    )
    return Check("gpu", "warn", finding, remedy)


def threads(setting: str | None, has_gpu: bool) -> Check:
    """OMP_NUM_THREADS: on busy cores two threads answer slower than one."""
    name = "OMP_NUM_THREADS"
    if setting:
        return Check(name, "ok", setting)
    if has_gpu:
        return Check(name, "ok", "not set")
    remedy = "For small models on a CPU one thread is often faster: export OMP_NUM_THREADS=1"
    return Check(name, "warn", "not set", remedy)


def hub_cache(folder: str, exists: bool, writable: bool) -> Check:
    """The Hugging Face cache, or the folder in which it will be made."""
    if not writable:
        remedy = "Give yourself the rights, or set HF_HOME to another folder"
        return Check("hub cache", "fail", f"{folder} cannot be written", remedy)
    return Check("hub cache", "ok", folder if exists else f"{folder} (made when needed)")


def store_error(error: EvalrunError) -> list[Check]:
    """A store that does not do what a run needs."""
    return [
        Check("store", "fail", f"{fault.where}: {fault.what} ({error.reason.name})", fault.remedy)
        for fault in error.faults
    ]
