"""Who owns an object: ownerReferences, read and written."""

from __future__ import annotations

from evalrun_api.names import GROUP, VERSION
from evalrun_operator.decisions import Doc


def owner_reference(run: Doc) -> Doc:
    """The reference that makes a run the owner of what is created for it."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "EvaluationRun",
        "name": run["metadata"]["name"],
        "uid": run["metadata"]["uid"],
        "controller": True,
        # Not blockOwnerDeletion: it would need the right to update finalizers of runs.
    }


def controller_uid(document: Doc, kind: str) -> str | None:
    """The uid of the object of a kind that controls this one, if one does."""
    for reference in document["metadata"].get("ownerReferences") or ():
        if reference.get("controller") and reference.get("kind") == kind:
            uid = reference.get("uid")
            return str(uid) if uid else None
    return None


def is_predecessors(found: Doc, run: Doc) -> bool:
    """Whether it belonged to a deleted run of the same name: it will be collected soon."""
    name, uid = run["metadata"]["name"], run["metadata"]["uid"]
    return any(
        owner.get("controller")
        and owner.get("kind") == "EvaluationRun"
        and owner.get("name") == name
        and owner.get("uid") != uid
        for owner in found["metadata"].get("ownerReferences") or ()
    )
