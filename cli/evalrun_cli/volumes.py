"""Which folder of this machine stands for each volume claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalrun_api.errors import Fault, Refused
from evalrun_api.plan import RunPlan
from evalrun_api.sources import VolumePath
from evalrun_cli.manifests import Manifests


@dataclass(frozen=True)
class Use:
    """A field that names a claim.

    beside: the folder in which the claim's folder is looked for.
    path: what has to be there within the volume; None where the run makes it.
    required: False where the claim means nothing on one machine (a cluster's cache).
    """

    claim: str
    field: str
    beside: Path
    path: str | None
    required: bool = True


@dataclass(frozen=True)
class Mount:
    """A claim and the folder that stands for it, existing or not."""

    claim: str
    folder: Path
    origin: str
    uses: tuple[Use, ...]


def parse(given: Iterable[str], directory: Path) -> dict[str, Path]:
    """--volume options by claim. Raises `Refused`."""
    folders: dict[str, Path] = {}
    for entry in given:
        claim, separator, folder = entry.partition("=")
        if not claim or not separator or not folder:
            what = f"{entry!r} is not CLAIM=DIR"
            remedy = "Write the claim's name, =, and a folder: --volume models=./checkpoints"
            raise Refused([Fault("--volume", what, remedy)])
        if claim in folders:
            what = f"the claim {claim!r} is given twice"
            raise Refused([Fault("--volume", what, "Give one folder for it")])
        folders[claim] = (directory / Path(folder).expanduser()).resolve()
    return folders


def uses_of_manifests(manifests: Manifests, *, results_elsewhere: bool) -> list[Use]:
    """Every claim that a run and its Benchmarks name.

    results_elsewhere: the command line names a store, so that a volume for results is not needed.
    """
    spec, folder = manifests.run.spec, manifests.folder
    found = [_use("spec.model.source.volume", spec.model.source.volume, folder)]
    for wanted in spec.benchmarks:
        name = wanted.benchmark_ref.name if wanted.benchmark_ref else None
        benchmark = manifests.benchmarks.get(name) if name else None
        if name and benchmark and benchmark.spec.data:
            where = f"Benchmark/{name} spec.data.volume"
            data = benchmark.spec.data.volume
            found.append(_use(where, data, manifests.benchmark_folders[name]))
    if spec.results and spec.results.volume:
        claim = spec.results.volume.claim_name
        needed = not results_elsewhere
        found.append(Use(claim, "spec.results.volume", folder, None, required=needed))
    if spec.cache.volume:
        claim = spec.cache.volume.claim_name
        found.append(Use(claim, "spec.cache.volume", folder, None, required=False))
    return [use for use in found if use]


def uses_of_plan(plan: RunPlan, directory: Path) -> list[Use]:
    """Every claim that scoring a stored plan needs: documents, not weights.

    The plan does not know where its manifests stood.
    """
    found = [
        _use(f"customBenchmarks/{custom.name} data", custom.data, directory)
        for custom in plan.custom_benchmarks
    ]
    return [use for use in found if use]


def _use(field: str, volume: VolumePath | None, beside: Path) -> Use | None:
    return Use(volume.claim_name, field, beside, volume.path) if volume else None


def mounts(uses: Sequence[Use], given: Mapping[str, Path]) -> list[Mount]:
    """A folder for each claim that a run needs; `given` wins over the folder beside the file."""
    by_claim: dict[str, list[Use]] = {}
    for use in uses:
        by_claim.setdefault(use.claim, []).append(use)
    found = []
    for claim, its in by_claim.items():
        if claim in given:
            found.append(Mount(claim, given[claim], "--volume", tuple(its)))
            continue
        if not any(use.required for use in its):
            continue
        beside = dict.fromkeys(use.beside / claim for use in its if use.required)
        folder = next((entry for entry in beside if entry.is_dir()), next(iter(beside)))
        found.append(Mount(claim, folder, "beside the manifest", tuple(its)))
    return found


def unused(uses: Sequence[Use], given: Mapping[str, Path]) -> list[Fault]:
    """Folders that are given for claims which the run does not have."""
    wrong = []
    known = sorted({use.claim for use in uses})
    for claim in given:
        if claim not in known:
            what = f"the run uses no claim {claim!r}"
            remedy = f"Its claims: {', '.join(known)}" if known else "Leave the option out"
            wrong.append(Fault("--volume", what, remedy))
    return wrong


def missing(found: Sequence[Mount]) -> list[Fault]:
    """What is wrong with the folders: not there, lacking a path, ambiguous."""
    return [fault for mount in found for fault in _mount_faults(mount)]


def _mount_faults(mount: Mount) -> list[Fault]:
    claim, folder = mount.claim, mount.folder
    places = {use.beside / claim for use in mount.uses if use.required}
    if mount.origin != "--volume" and len([place for place in places if place.is_dir()]) > 1:
        where = " and ".join(sorted(str(place) for place in places))
        what = f"the claim {claim!r} could be {where}"
        return [Fault(mount.uses[0].field, what, f"Say which: --volume {claim}=DIR")]
    wrong = []
    for use in mount.uses:
        if not use.required:
            continue
        if not folder.is_dir():
            what = f"the claim {claim!r} stands for the folder {folder}, which does not exist"
            remedy = f"Create it, or say where it is: --volume {claim}=DIR"
            wrong.append(Fault(f"{use.field}.claimName", what, remedy))
        elif use.path and not (folder / use.path).exists():
            what = f"there is no {use.path} in {folder}, the folder of the claim {claim!r}"
            remedy = f"Correct the path, or say where the volume is: --volume {claim}=DIR"
            wrong.append(Fault(f"{use.field}.path", what, remedy))
    return wrong
