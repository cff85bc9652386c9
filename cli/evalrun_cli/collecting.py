"""Reading from a store what `evalrun gc` decides about, and deleting what it decided."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from evalrun_api.errors import EvalrunError
from evalrun_api.lock import Lock
from evalrun_api.plan import RunPlan
from evalrun_cli import garbage, records
from evalrun_runner.local import Store, StoredObject, layout

LEFTOVER_AGE = timedelta(days=1)
"""A file that is being written is no leftover."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Findings:
    """What a look at a namespace came to.

    damaged: runs of which nothing can be said. references: keys of the documents that refer to
    answers; with a new one among them, the verdicts are out of date.
    """

    namespace: str
    verdicts: tuple[garbage.Verdict, ...]
    damaged: tuple[EvalrunError, ...]
    references: frozenset[str]

    @property
    def garbage(self) -> list[garbage.Verdict]:
        """What may be deleted."""
        return [verdict for verdict in self.verdicts if verdict.is_garbage]


def namespaces(store: Store) -> list[str]:
    """Those that have answers."""
    return sorted({key.split("/")[1] for key in store.list("answers/") if key.count("/") > 2})


def look(store: Store, namespace: str, now: datetime, older_than: timedelta | None) -> Findings:
    """Judge all answers of a namespace."""
    # The answers first: a run that begins meanwhile is then seen with what it refers to.
    answers = list(_answers(store, namespace))
    objects = list(store.objects(layout.runs(namespace)))
    uses, damaged = _uses(store, objects)
    verdicts = []
    for entry in answers:
        verdict = garbage.judge(entry, uses.get(entry.digest, []), now, older_than)
        if damaged and verdict.is_garbage and not verdict.uses:
            verdict = garbage.kept(verdict, "a run whose lock cannot be read may refer to it")
        verdicts.append(verdict)
    references = frozenset(filter(_refers, (found.key for found in objects)))
    return Findings(namespace, tuple(verdicts), tuple(damaged), references)


def leftovers(store: Store, now: datetime) -> list[StoredObject]:
    """Files of writers that were killed, old enough to be sure of it."""
    return [found for found in store.leftovers() if now - found.modified > LEFTOVER_AGE]


def delete(
    store: Store, findings: Findings, verdict: garbage.Verdict, deleted: Callable[[int], None]
) -> bool:
    """Delete the answers of a verdict, unless they have come into use since; whether it did.

    deleted: called with the bytes of each object that is gone.
    """
    answers = verdict.answers
    prefix = f"{layout.answers(answers.namespace, answers.digest)}/"
    now = {found.key: found for found in store.objects(prefix)}
    refers = frozenset(filter(_refers, store.list(layout.runs(answers.namespace))))
    if tuple(now) != answers.keys or not refers <= findings.references:
        return False
    for key in garbage.to_delete(answers):
        store.delete(key)
        deleted(now[key].bytes)
    return True


def _refers(key: str) -> bool:
    """Whether an object of a run says which answers it uses."""
    return key.count("/") == 4 and key.endswith(("/lock.json", "/manifest.json"))


def _answers(store: Store, namespace: str) -> Iterator[garbage.Answers]:
    by_digest: dict[str, list[StoredObject]] = {}
    for found in store.objects(f"answers/{namespace}/"):
        parts = found.key.split("/")
        if len(parts) > 3 and _DIGEST.fullmatch(parts[2]):
            by_digest.setdefault(parts[2], []).append(found)
    for digest, objects in by_digest.items():
        yield garbage.Answers(
            namespace=namespace,
            digest=digest,
            keys=tuple(found.key for found in objects),
            bytes=sum(found.bytes for found in objects),
            modified=max(found.modified for found in objects),
            benchmarks=_benchmarks(store, layout.lock(namespace, digest)),
        )


def _benchmarks(store: Store, key: str) -> tuple[str, ...]:
    raw = store.get(key)
    try:
        lock = Lock.model_validate_json(raw or b"")
    except ValidationError:  # it is not needed to know whether the answers are used
        return ()
    return tuple(dict.fromkeys(task.name for group in lock.groups for task in group.tasks))


def _uses(
    store: Store, objects: Sequence[StoredObject]
) -> tuple[dict[str, list[garbage.Use]], list[EvalrunError]]:
    """The uses of each digest by runs with these objects, and the runs that cannot be read."""
    touched: dict[str, datetime] = {}
    for found in objects:
        run = "/".join(found.key.split("/")[:4])
        touched[run] = max(found.modified, touched.get(run, found.modified))
    uses: dict[str, list[garbage.Use]] = {}
    damaged = []
    for attempt in records.attempts_of_keys(found.key for found in objects):
        if not attempt.documents & {"lock.json", "manifest.json"}:
            continue  # it has not got so far as to refer to answers
        try:
            digests, use = _use(store, attempt, touched[layout.run(attempt.run)])
        except EvalrunError as error:
            damaged.append(error)
            continue
        for digest in digests:
            uses.setdefault(digest, []).append(use)
    return uses, damaged


def _use(store: Store, attempt: records.Attempt, touched: datetime) -> tuple[set[str], garbage.Use]:
    digests, finished, seconds = set(), None, None
    if "lock.json" in attempt.documents:
        digests.add(records.read(store, layout.lock_of_run(attempt.run), Lock).answers)
    if attempt.finished:
        manifest = records.manifest_of(store, attempt.run)
        digests.add(manifest.answers_digest)
        finished = manifest.completed_at
    if "plan.json" in attempt.documents:
        plan = records.read(store, layout.plan(attempt.run), RunPlan)
        seconds = plan.answers_retention_seconds
    retention = timedelta(seconds=seconds) if seconds is not None else None
    return digests, garbage.Use(attempt.run, finished, touched, retention)


def size_of(verdicts: Sequence[garbage.Verdict]) -> int:
    """Bytes of answers."""
    return sum(verdict.answers.bytes for verdict in verdicts)
