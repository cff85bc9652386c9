"""Where `results` looks: a store or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, Fault, Refused, fail

Place = Literal["store", "cluster"]


def place(
    *,
    cluster: Sequence[str],
    store: Sequence[str],
    folder_exists: bool,
    plugin: bool,
) -> Place:
    """Options decide; else kubectl means the cluster, and evalrun this machine's results.

    cluster, store: the options given that speak of the one and of the other.
    folder_exists: whether ./evalrun-results is there. Raises `Refused` for options of both.
    """
    if cluster and store:
        what = f"it speaks of a cluster, and {store[0]} of a store"
        raise Refused([Fault(cluster[0], what, "Leave one of the two out")])
    if cluster or store:
        return "cluster" if cluster else "store"
    return "store" if folder_exists and not plugin else "cluster"


def nowhere(folder: Path, kubeconfig: str) -> EvalrunError:
    """The error where there is neither a store nor a cluster to look in."""
    what = f"there is no folder {folder}, and no kubeconfig {kubeconfig}"
    remedy = (
        "Name the store of your runs with --store s3://BUCKET/PREFIX or --store DIR, or a cluster "
        "with --kubeconfig FILE"
    )
    return fail(reasons.BUCKET_NOT_FOUND, "--store", what, remedy)
