"""From the command line of `run` and `plan` to a plan, and all that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evalrun_api.checks import Surroundings
from evalrun_api.errors import Fault, Refused
from evalrun_api.index import builtin_index
from evalrun_api.plan import StorePlan
from evalrun_api.planning import Planned, make_plan
from evalrun_api.policy import LAPTOP
from evalrun_api.profiles import GENERIC, ModelProfile, builtin_profiles
from evalrun_api.spec import EvaluationRun
from evalrun_cli import manifests, volumes
from evalrun_cli.destination import Destination, StoreChoice, destination

UNDECIDED = StorePlan(uri="file:///undecided")
"""Stands for the store while the rest of a run is checked, so that all faults are told at once."""


@dataclass(frozen=True)
class Request:
    """What the user asked for on the command line."""

    files: Sequence[manifests.ManifestFile]
    name: str | None
    volumes: Sequence[str]
    store: StoreChoice
    fresh: bool
    limit: int | None


@dataclass(frozen=True)
class Prepared:
    """A run with nothing left to decide, and where each decision came from."""

    request: Request
    run: EvaluationRun
    planned: Planned
    profile: ModelProfile
    mounts: list[volumes.Mount]
    destination: Destination

    @property
    def folders(self) -> dict[str, Path]:
        """The folder of each claim that the run's steps read."""
        return {
            mount.claim: mount.folder
            for mount in self.mounts
            if any(use.path is not None for use in mount.uses)
        }


def prepare(request: Request, uid: str, directory: Path, *, dry: bool) -> Prepared:
    """Decide everything about a run on this machine.

    dry: a volume's folder that does not exist is no fault.
    Raises `Refused` with every fault of the manifests, the volumes and the store.
    """
    given = volumes.parse(request.volumes, directory)
    gathered = manifests.gather(request.files, request.name)
    run = manifests.overridden(gathered.run, fresh=request.fresh, limit=request.limit)
    uses = volumes.uses_of_manifests(gathered, results_elsewhere=request.store.uri is not None)
    mounts = volumes.mounts(uses, given)
    surroundings = Surroundings(builtin_profiles(), builtin_index(), LAPTOP, gathered.benchmarks)
    faults: list[Fault] = []
    target = Destination(UNDECIDED, "undecided")
    try:
        folders = {mount.claim: mount.folder for mount in mounts}
        target = destination(request.store, run.spec.results, folders, directory)
    except Refused as refused:
        faults.extend(refused.faults)
    faults.extend(volumes.unused(uses, given))
    if not dry:
        faults.extend(volumes.missing(mounts))
    try:
        planned = make_plan(run, uid, target.store, surroundings)
    except Refused as refused:
        raise Refused([*refused.faults, *faults]) from refused
    if faults:
        raise Refused(faults)
    profile = surroundings.profiles.get(run.spec.model.profile or "", GENERIC)
    return Prepared(request, run, planned, profile, mounts, target)
