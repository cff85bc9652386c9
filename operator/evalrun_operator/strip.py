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
_JOB_SPEC_WITHOUT = frozenset({"template", "podFailurePolicy", "selector"})
_SHARED = frozenset({"type", "status", "reason", "kind", "apiVersion", "namespace", "phase"})


def strip(kind: Kind, document: Doc) -> Doc:
    """The document without what nobody reads; what is left is shared with it.

    It has apiVersion and kind, which the items of a list lack.
    """
    metadata = document["metadata"]
    kept = {key: metadata[key] for key in _METADATA if key in metadata}
    annotations = metadata.get("annotations") or {}
    if read := {k: annotations[k] for k in _ANNOTATIONS[kind] if k in annotations}:
        kept["annotations"] = read
    stripped: Doc = {"apiVersion": API_VERSIONS[kind], "kind": kind, "metadata": kept}
    spec = document.get("spec")
    if spec is not None:
        stripped["spec"] = _spec(kind, spec)
    if document.get("status") is not None:
        stripped["status"] = document["status"]
    return stripped


def _spec(kind: Kind, spec: Doc) -> Doc:
    if kind == "Pod":
        return {key: spec[key] for key in ("nodeName",) if key in spec}
    if kind == "Job":
        return {key: value for key, value in spec.items() if key not in _JOB_SPEC_WITHOUT}
    return spec


def share(value: Any, key: str = "") -> Any:
    """A deep copy in which equal names are one object: each JSON text brings its own."""
    if isinstance(value, dict):
        return {sys.intern(name): share(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        return [share(entry) for entry in value]
    if isinstance(value, str) and key in _SHARED and len(value) <= 64:
        return sys.intern(value)
    return value
