"""Reading finished runs out of a store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ValidationError

from evalrun_api import reasons
from evalrun_api.errors import Fault, Refused, fail
from evalrun_api.index import near
from evalrun_api.manifest import FileEntry, Manifest
from evalrun_api.plan import RunIdentity
from evalrun_runner.local import MAX_DOCUMENT_BYTES, Store, layout

DocumentT = TypeVar("DocumentT", bound=BaseModel)


@dataclass(frozen=True)
class Attempt:
    """One application of a run, and which of its documents the store holds."""

    run: RunIdentity
    documents: frozenset[str]

    @property
    def finished(self) -> bool:
        """Whether it has a result."""
        return "manifest.json" in self.documents


def attempts(store: Store, namespace: str, name: str | None = None) -> list[Attempt]:
    """The attempts of one run, or of all runs of a namespace, in the order of their keys."""
    prefix = layout.runs(namespace, name)
    return attempts_of_keys(store.list(prefix))


def attempts_of_keys(keys: Iterable[str]) -> list[Attempt]:
    """Attempts from keys such as runs/NAMESPACE/NAME/UID/manifest.json."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for key in keys:
        parts = key.split("/")
        if len(parts) == 5 and parts[0] == "runs":
            found.setdefault((parts[1], parts[2], parts[3]), set()).add(parts[4])
    attempts = []
    for (namespace, name, uid), documents in found.items():
        try:
            run = RunIdentity(namespace=namespace, name=name, uid=uid)
        except ValidationError:
            continue  # not of our making: a store may hold other things
        attempts.append(Attempt(run, frozenset(documents)))
    return attempts


def read(store: Store, key: str, model: type[DocumentT]) -> DocumentT:
    """A document of the store; raises `EvalrunError` when it is not there or damaged."""
    raw = store.get(key, MAX_DOCUMENT_BYTES)
    if raw is None:
        what = "there is no such object"
        raise fail(reasons.CORRUPT_STORE, store.uri(key), what, "Is it the right store and run?")
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}: " for part in first["loc"])
        what = f"the document is damaged: {place}{first['msg']}"
        raise fail(reasons.CORRUPT_STORE, store.uri(key), what) from error


def manifest_of(store: Store, run: RunIdentity) -> Manifest:
    """The manifest of a finished run."""
    return read(store, layout.manifest(run), Manifest)


def address(store: Store, key: str) -> str:
    """Where an object is, for people: a path in a folder, an address in a bucket."""
    uri = store.uri(key)
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else uri


def addresses(store: Store, manifest: Manifest) -> dict[str, Any]:
    """Where a run's files are."""
    folder = layout.run(manifest.run)

    def of(entry: FileEntry) -> str:
        return address(store, f"{folder}/{entry.path}")

    return {
        "manifest": address(store, layout.manifest(manifest.run)),
        "results": [of(group.results) for group in manifest.groups],
        "samples": [of(sample) for group in manifest.groups for sample in group.samples],
    }


def damage(store: Store, manifest: Manifest) -> list[Fault]:
    """Results files that are missing or not those that the run wrote."""
    faults = []
    for group in manifest.groups:
        key = f"{layout.run(manifest.run)}/{group.results.path}"
        raw = store.get(key)
        remedy = "Do not trust this result: restore the file, or run again (answers are reused)"
        if raw is None:
            faults.append(Fault(store.uri(key), "the results file is missing", remedy))
        elif hashlib.sha256(raw).hexdigest() != group.results.sha256:
            what = "the results file was changed after the run wrote it (its sha256 is not that of "
            faults.append(Fault(store.uri(key), f"{what}the manifest)", remedy))
    return faults


def newest(store: Store, namespace: str, name: str, uid: str | None) -> Manifest:
    """The manifest of the finished run `name` that ended last, or of the one that `uid` begins.

    Raises `Refused`, or `EvalrunError` for a damaged manifest.
    """
    its = attempts(store, namespace, name)
    if not its:
        known = sorted({attempt.run.name for attempt in attempts(store, namespace)})
        what = f"there is no run {name!r} of namespace {namespace} in {store.uri('')}"
        hint = near(name, known) if known else "the namespace holds no run"
        raise Refused([Fault("NAME", f"{what}; {hint}", "evalrun results lists the runs")])
    if uid is not None:
        its = [_by_uid(its, name, uid)]
    finished = [attempt for attempt in its if attempt.finished]
    if not finished:
        which = f"{len(its)} attempt{'s' * (len(its) > 1)} of {name}, none ended with a result"
        remedy = "Run it again with evalrun run: it goes on from the stored answers"
        raise Refused([Fault("NAME", which, remedy)])
    documents = [manifest_of(store, attempt.run) for attempt in finished]
    return max(documents, key=lambda manifest: manifest.completed_at)


def _by_uid(its: list[Attempt], name: str, uid: str) -> Attempt:
    chosen = [attempt for attempt in its if attempt.run.uid.startswith(uid)]
    if len(chosen) != 1:
        what = "no" if not chosen else "more than one"
        known = ", ".join(attempt.run.uid for attempt in its[:5])
        fault = Fault(
            "UID", f"{what} run {name} has a uid that begins with {uid!r}", f"There are: {known}"
        )
        raise Refused([fault])
    return chosen[0]
