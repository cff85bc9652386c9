"""The snapshot of a run: its plan and the files of its benchmarks, in an immutable ConfigMap.

It is what makes a later edit of a profile or a Benchmark, or another release of the operator,
change no run that has begun. Pods mount the files from it.
"""

from __future__ import annotations

import json

from pydantic import ValidationError

from evalrun_api import reasons
from evalrun_api.digests import digest
from evalrun_api.errors import Fault, Refused, fail
from evalrun_api.names import RUN_LABEL, RUN_UID_LABEL
from evalrun_api.plan import RunPlan
from evalrun_operator.decisions import Doc, Snapshot
from evalrun_operator.owners import owner_reference

PLAN_KEY = "plan.json"
PATHS_KEY = "paths.json"
MAX_FILES_BYTES = 900 * 1024
"""Of all benchmarks of a run together; a ConfigMap holds 1 MiB."""


def config_map_name(run_name: str) -> str:
    """Name of the ConfigMap of a run."""
    return f"{run_name}-plan"


def make_snapshot(plan: RunPlan, files: dict[str, dict[str, str]]) -> tuple[Snapshot, Doc]:
    """The snapshot of a plan, and the ConfigMap's data. Raises `Refused` if it does not fit.

    files: text by benchmark and file name.
    """
    paths: dict[str, str] = {}
    data: dict[str, str] = {}
    for position, (benchmark, texts) in enumerate(files.items()):
        for number, (name, text) in enumerate(texts.items()):
            key = f"file-{position}-{number}"  # a ConfigMap's keys have no slashes
            paths[key] = f"{benchmark}/{name}"
            data[key] = text
    refuse_too_large(sum(len(text.encode()) for text in data.values()))
    data[PATHS_KEY] = json.dumps(paths)
    data[PLAN_KEY] = json.dumps(plan.document())
    return Snapshot(plan, paths, digest(data)), data


def refuse_too_large(size: int) -> None:
    """Raise `Refused` where files of so many bytes do not fit into a ConfigMap."""
    if size > MAX_FILES_BYTES:
        what = f"the files of its Benchmarks hold {size} bytes; {MAX_FILES_BYTES} fit into a run"
        raise Refused([Fault("spec.benchmarks", what, "Ask for fewer of them in one run")])


def digest_with(data: Doc, plan: RunPlan) -> str:
    """The digest that a ConfigMap's data would have with another plan."""
    return digest({**data, PLAN_KEY: json.dumps(plan.document())})


def config_map(run: Doc, data: Doc) -> Doc:
    """The ConfigMap of a run's snapshot."""
    metadata = run["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": config_map_name(metadata["name"]),
            "namespace": metadata["namespace"],
            "labels": {RUN_LABEL: metadata["name"], RUN_UID_LABEL: metadata["uid"]},
            "ownerReferences": [owner_reference(run)],
        },
        "immutable": True,
        "data": data,
    }


def read_config_map(document: Doc) -> Snapshot:
    """The snapshot that a ConfigMap holds. Raises `EvalrunError` for one that is damaged."""
    metadata = document["metadata"]
    where = f"configmap {metadata['namespace']}/{metadata['name']}"
    try:
        data = document["data"]
        paths = json.loads(data[PATHS_KEY])
        plan = RunPlan.model_validate_json(data[PLAN_KEY])
        files = {str(key): str(path) for key, path in paths.items() if key in data}
        found = digest(data)
    except (
        *(KeyError, TypeError, ValueError, AttributeError, ValidationError),
        RecursionError,
    ) as error:
        what = f"it does not hold this run's plan ({type(error).__name__})"
        remedy = "Delete it, then apply the run again"
        raise fail(reasons.CORRUPT_STORE, where, what, remedy) from error
    return Snapshot(plan, files, found)
