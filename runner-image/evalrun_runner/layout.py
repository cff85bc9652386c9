"""Where things lie in a store.

PREFIX/answers/NAMESPACE/DIGEST/lock.json, segments/WRITER-N.jsonl.zst, files/SHA256,
    judge/WRITER-N.jsonl.zst
PREFIX/runs/NAMESPACE/NAME/UID/plan.json, data.json, results/…, manifest.json
PREFIX/data/NAMESPACE/ARCHIVE/00000-SHA256.tar.zst, index.json
"""

from __future__ import annotations

from evalrun_api.addresses import manifest_key, run_folder
from evalrun_api.plan import RunIdentity


def answers(namespace: str, digest: str) -> str:
    """Folder of the answers under one digest."""
    return f"answers/{namespace}/{digest}"


def lock(namespace: str, digest: str) -> str:
    """Key of the lock."""
    return f"{answers(namespace, digest)}/lock.json"


def segments(namespace: str, digest: str) -> str:
    """Prefix of the journal's segments."""
    return f"{answers(namespace, digest)}/segments/"


def files(namespace: str, digest: str) -> str:
    """Prefix of the files that belong to answers, each named by its sha256."""
    return f"{answers(namespace, digest)}/files/"


def verdicts(namespace: str, digest: str) -> str:
    """Prefix of the segments of the judge's verdicts."""
    return f"{answers(namespace, digest)}/judge/"


def runs(namespace: str, name: str | None = None) -> str:
    """Prefix of all runs of a namespace, or of one name in it."""
    return f"runs/{namespace}/{name}/" if name else f"runs/{namespace}/"


def run(identity: RunIdentity) -> str:
    """Folder of one run."""
    return run_folder(identity)


def plan(identity: RunIdentity) -> str:
    """Key of the plan as this run was given it."""
    return f"{run(identity)}/plan.json"


def lock_of_run(identity: RunIdentity) -> str:
    """Key of the run's own copy of its lock: it leads to the answers."""
    return f"{run(identity)}/lock.json"


def data_of_run(identity: RunIdentity) -> str:
    """Key of the record that leads this run's later steps to their documents."""
    return f"{run(identity)}/data.json"


def weights_of_run(identity: RunIdentity) -> str:
    """Key of what prepare saw of weights on a volume."""
    return f"{run(identity)}/weights.json"


def data(namespace: str, archive: str | None = None) -> str:
    """Folder of a namespace's packed documents, or of one archive: runs with other models share it.

    index.json in it is written last.
    """
    return f"data/{namespace}/{archive}" if archive else f"data/{namespace}"


def manifest(identity: RunIdentity) -> str:
    """Key of the manifest, the last object written."""
    return manifest_key(identity)
