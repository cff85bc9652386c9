"""Objects reduced to what a decision may need, since all of them are kept in memory.

A Job carries the run's plan in its pod template (up to 32 KiB), a pod in an annotation, and every
object carries managedFields that are larger than all the rest.
"""

from __future__ import annotations

import sys
from typing import Any, Final, Literal

from evalrun_api import API_VERSION
from evalrun_api.names import (
    ACCELERATORS_ANNOTATION,
    EXECUTION_ANNOTATION,
    PLAN_DIGEST_ANNOTATION,
)
from evalrun_operator.decisions import Doc

Kind = Literal["EvaluationRun", "Job", "Pod"]
KINDS: Final[tuple[Kind, ...]] = ("EvaluationRun", "Job", "Pod")
"""Owners first, so that what is listed in this order finds its owner there."""

API_VERSIONS: Final[dict[Kind, str]] = {
    "EvaluationRun": API_VERSION,
    "Job": "batch/v1",
    "Pod": "v1",
}
_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "labels",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
)
_ANNOTATIONS: Final[dict[Kind, tuple[str, ...]]] = {
    "EvaluationRun": (),
    "Job": (PLAN_DIGEST_ANNOTATION, EXECUTION_ANNOTATION),
    "Pod": ("batch.kubernetes.io/job-completion-index", ACCELERATORS_ANNOTATION),
}
_POD_STATUS = ("phase", "reason", "message", "podIP", "conditions")
_CONTAINER_STATUS = ("name", "state", "image", "imageID")
_JOB_SPEC_WITHOUT = frozenset({"template", "podFailurePolicy", "selector"})
_SHARED = frozenset({"type", "status", "reason", "kind", "apiVersion", "namespace", "phase"})


def strip(kind: Kind, document: Doc) -> Doc:
    """The document without what nobody reads; what is left is shared with it.

    It has apiVersion and kind, which the items of a list lack.
    """
    metadata = document["metadata"]
    kept = _only(metadata, _METADATA)
    if read := _only(metadata.get("annotations") or {}, _ANNOTATIONS[kind]):
        kept["annotations"] = read
    stripped: Doc = {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": kept}
    spec = document.get("spec")
    if spec is not None:
        stripped["spec"] = _spec(kind, spec)
    status = document.get("status")
    if status is not None:
        stripped["status"] = _pod_status(status) if kind == "Pod" else status
    return stripped


def _spec(kind: Kind, spec: Doc) -> Doc:
    if kind == "Pod":
        return _only(spec, ("nodeName",))
    if kind == "Job":
        return {key: value for key, value in spec.items() if key not in _JOB_SPEC_WITHOUT}
    return spec


def _pod_status(status: Doc) -> Doc:
    kept = _only(status, _POD_STATUS)
    if containers := status.get("containerStatuses"):
        kept["containerStatuses"] = [_only(entry, _CONTAINER_STATUS) for entry in containers]
    return kept


def _only(document: Doc, keys: tuple[str, ...]) -> Doc:
    return {key: document[key] for key in keys if key in document}


def share(value: Any, key: str = "") -> Any:
    """A deep copy in which equal names are one object: each JSON text brings its own."""
    if isinstance(value, dict):
        return {sys.intern(name): share(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        return [share(entry) for entry in value]
    if isinstance(value, str) and key in _SHARED and len(value) <= 64:
        return sys.intern(value)
    return value
