"""Which accelerators and how many threads a worker gets: its environment."""

from __future__ import annotations

from collections.abc import Mapping

from evalrun_api import reasons
from evalrun_api.errors import fail

CUDA, ROCR, HIP = "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"
NVIDIA = "NVIDIA_VISIBLE_DEVICES"
THREADS = "OMP_NUM_THREADS"


def worker_environment(
    given: Mapping[str, str], worker: int, workers: int, accelerators: int, cpus: int
) -> dict[str, str]:
    """What to set for one of `workers` processes that share `accelerators` and `cpus`.

    given: this process' environment. Names of devices in it (numbers, GPU or MIG UUIDs) are split
    as they stand, so that a pod or a person who was given some of a machine's keeps to those.
    """
    changes = {} if given.get(THREADS) else {THREADS: str(max(1, cpus // workers))}
    if not accelerators:
        return changes
    each = accelerators // workers
    mine = slice(worker * each, (worker + 1) * each)
    if given.get(ROCR):
        # HIP counts among what ROCR lets it see.
        visible = _listed(given, ROCR, accelerators if not given.get(HIP) else 0)
        if given.get(HIP):
            chosen = _listed(given, HIP, accelerators)
            visible = [visible[int(number)] for number in chosen]
            changes[HIP] = ",".join(map(str, range(each)))
        changes[ROCR] = ",".join(visible[mine])
        return changes
    if given.get(HIP):
        return {**changes, HIP: ",".join(_listed(given, HIP, accelerators)[mine])}
    if given.get(CUDA):
        visible = _listed(given, CUDA, accelerators)
    elif given.get(NVIDIA, "").startswith("MIG-"):
        # CUDA numbers one MIG slice alone; the others are known by their UUIDs only.
        visible = _listed(given, NVIDIA, accelerators)
    else:
        visible = [str(number) for number in range(accelerators)]
    return {**changes, CUDA: ",".join(visible[mine])}


def _listed(given: Mapping[str, str], name: str, needed: int) -> list[str]:
    listed = [entry.strip() for entry in given[name].split(",") if entry.strip()]
    if len(listed) < needed:
        raise fail(
            reasons.INVALID_SPEC,
            name,
            f"it names {len(listed)} devices ({given[name]}); the run's workers take {needed}",
            "Give the process as many accelerators as spec.parallelism.acceleratorsPerShard says",
        )
    return listed
