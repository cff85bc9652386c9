"""A state of the whole, as a few numbers, and as objects that the next step may change."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from evalrun_operator.decisions import Ledger, Observed, RunKey
from evalrun_operator.kinship import Ref
from evalrun_operator.notes import MANY_FAILURES, KeptSnapshot, Notes
from evalrun_operator.shelf import Held
from evalrun_operator.store import Store, has_ended
from evalrun_operator.strip import KINDS, Kind
from evalrun_operator.usage import settle
from model_check.cluster import EXCUSE, MANY, NAMESPACE, RUN, Cluster, Ghost
from model_check.documents import NOW, Documents, Entry, token

KEY = RunKey(NAMESPACE, RUN[1])
RUN_UID = "uid-1"
KINDS_TOLD = ("EvaluationRun", "ConfigMap", "Job", "Pod")
MANY_VERSIONS = 10_000
"""Above all ranks: what is written within a step is newer than all that was there."""


class State(NamedTuple):
    """All that the future depends on.

    world: objects of the API server. caches: what a watch and a list of each kind show, where they
    lag behind it. view: objects of each kind in the operator's memory; None when it is down.
    orphans: Jobs that are gone, whose pods it still knows. graves: objects of which it knows that
    they are gone though a cache has them. quota: kinds that nobody may create. acts: what a person
    has done of his script.
    """

    world: tuple[int, ...]
    caches: tuple[tuple[int, ...] | None, ...]
    view: tuple[tuple[int, ...], ...] | None
    orphans: tuple[int, ...]
    graves: tuple[tuple[int, ...], ...]
    notes: int
    quota: frozenset[str]
    ghost: tuple[Any, ...]
    acts: int


class Memory(Store):
    """The operator's own Store, which is observed in one order always."""

    def observe(self, key: RunKey) -> Observed | None:
        observed = super().observe(key)
        if observed is None:
            return None
        jobs = dict(sorted(observed.jobs.items()))
        pods = tuple(sorted(observed.pods, key=lambda pod: str(pod["metadata"]["name"])))
        # The Store's clock stands still here. A process that has just started only waits longer.
        return replace(observed, jobs=jobs, pods=pods, known_seconds=math.inf)


@dataclass
class Draft:
    """A state that a step is changing. memory: None while the operator is down."""

    cluster: Cluster
    caches: dict[Kind, tuple[Entry, ...] | None]
    memory: Memory | None
    acts: int


class States:
    """Turns states into drafts and back."""

    def __init__(self) -> None:
        self.documents = Documents()
        self._notes: list[tuple[Any, ...]] = []
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._snapshots: dict[str, KeptSnapshot] = {}
        self.no_notes = self._note_number(None)

    def begin(self, cluster: Cluster) -> State:
        """The state in which the operator has not started yet."""
        return self.freeze(Draft(cluster, dict.fromkeys(KINDS), None, 0))

    def docs(self, numbers: Iterable[int]) -> list[Entry]:
        entries = self.documents.entries
        return [entries[number] for number in numbers]

    # From numbers to objects

    def cluster(self, state: State) -> Cluster:
        """The cluster alone, to be looked at."""
        objects = {(entry.kind, entry.name): entry.doc for entry in self.docs(state.world)}
        return Cluster(
            now=NOW,
            objects=objects,
            version=MANY_VERSIONS,
            ghost=Ghost(*state.ghost),
            forbidden=set(state.quota),
            refuse_pods="Pod" in state.quota,
        )

    def thaw(self, state: State) -> Draft:
        """All of it, to be changed."""
        caches: dict[Kind, tuple[Entry, ...] | None] = {
            kind: None if numbers is None else tuple(self.docs(numbers))
            for kind, numbers in zip(KINDS, state.caches, strict=True)
        }
        return Draft(self.cluster(state), caches, self.memory(state), state.acts)

    def memory(self, state: State) -> Memory | None:
        """What the operator's process has in memory."""
        if state.view is None:
            return None
        memory = new_memory()
        kin = memory._kin
        for kind, numbers, graves in zip(KINDS, state.view, state.graves, strict=True):
            shelf = memory._shelves[kind]
            for entry in self.docs(numbers):
                uid = entry.uid
                held = Held(uid, NAMESPACE, entry.name, entry.version, entry.doc)
                shelf._held[uid] = held
                shelf._by_name[(NAMESPACE, entry.name)] = uid
                if kind == "EvaluationRun":
                    if not has_ended(entry.doc):
                        memory._active[uid] = KEY
                elif entry.owner:
                    child, parent = Ref(NAMESPACE, uid), Ref(NAMESPACE, entry.owner)
                    owner_of, owned = (
                        (kin._run_of, kin._jobs_of)
                        if kind == "Job"
                        else (kin._job_of, kin._pods_of)
                    )
                    owner_of[child] = parent
                    owned[parent].add(child)
            for number in graves:
                shelf._graves[token(number)] = 0
        for number in state.orphans:
            memory._kin.adopt_job(Ref(NAMESPACE, token(number)), RUN_UID)
        return self._with_notes(memory, state.notes)

    def _with_notes(self, memory: Memory, number: int) -> Memory:
        if number != self.no_notes:
            digest, absent, conflicts, refused, failures, gone, doubts = self._notes[number]
            memory._notes[RUN_UID] = Notes(
                snapshot=self._snapshots.get(digest),
                snapshot_absent=absent,
                conflicts=set(conflicts),
                refused=dict(refused),
                failures=dict(failures),
                gone=_ledger(gone),
                doubts=[(thaw_json(said), _ledger(part)) for said, part in doubts],
            )
        return memory

    def describe(self, state: State) -> str:
        """A state in a line."""
        found = []
        seen = {e.number for part in state.view or () for e in self.docs(part)}
        for entry in sorted(self.docs(state.world), key=lambda e: KINDS_TOLD.index(e.kind)):
            doc, status = entry.doc, entry.doc.get("status") or {}
            words = [entry.name]
            if entry.kind == "EvaluationRun":
                words += [str(status.get(name)) for name in ("phase", "step") if name in status]
                words += ["suspend"] * bool(doc["spec"].get("suspend"))
            elif entry.kind == "Pod":
                words += [status["phase"], *(["never starts"] if "_stuck" in doc else [])]
            else:
                words += [c["type"] for c in status.get("conditions") or ()]
            if "deletionTimestamp" in doc["metadata"]:
                words.append("going")
            if entry.kind in KINDS and state.view is not None and entry.number not in seen:
                words.append("unseen")
            found.append(" ".join(words))
        late = [kind for kind, cache in zip(KINDS, state.caches, strict=True) if cache is not None]
        found += [f"late: {', '.join(late)}"] * bool(late)
        found += ["the operator is down"] * (state.view is None)
        return " | ".join(found)

    # From objects to numbers

    def freeze(self, draft: Draft) -> State:
        of = self.documents.of
        cluster, memory = draft.cluster, draft.memory
        world = [of(kind, doc) for (kind, _), doc in cluster.objects.items()]
        view: list[list[Entry]] = []
        graves: list[list[int]] = [[] for _ in KINDS]
        orphans: list[int] = []
        if memory is not None:
            for position, kind in enumerate(KINDS):
                shelf = memory._shelves[kind]
                view.append([of(kind, held.document) for held in shelf._held.values()])
                for entry in draft.caches[kind] or ():
                    if entry.uid in shelf._graves and entry.own:
                        graves[position].append(entry.own)
            jobs = memory._shelves["Job"]._held
            orphans = [int(job.uid[1:5]) for job in memory._kin._run_of if job.uid not in jobs]
        caches = [draft.caches[kind] for kind in KINDS]
        entries = [
            *world,
            *(e for part in view for e in part),
            *(e for c in caches for e in c or ()),
        ]
        names, versions = _ranks(entries, [*orphans, *(t for part in graves for t in part)])

        def numbers(found: Iterable[Entry]) -> tuple[int, ...]:
            renamed = self.documents.renamed
            return tuple(
                sorted([renamed(e, names, versions[(e.line, e.version)]).number for e in found])
            )

        quota = cluster.forbidden | ({"Pod"} if cluster.refuse_pods else set())
        ghost = cluster.ghost
        return State(
            world=numbers(world),
            caches=tuple([None if cache is None else numbers(cache) for cache in caches]),
            view=tuple([numbers(part) for part in view]) if memory is not None else None,
            orphans=tuple(sorted(names[number] for number in orphans)),
            graves=tuple([tuple(sorted(names[t] for t in part)) for part in graves]),
            notes=self._note_number(memory._notes.get(RUN_UID) if memory is not None else None),
            quota=frozenset(quota),
            ghost=ghost.flat(),
            acts=draft.acts,
        )

    def _note_number(self, notes: Notes | None) -> int:
        notes = notes or Notes()
        digest = ""
        if notes.snapshot is not None:
            digest = notes.snapshot.digest
            self._snapshots[digest] = notes.snapshot
        key = (
            digest,
            notes.snapshot_absent,
            tuple(sorted(notes.conflicts)),
            tuple(sorted(notes.refused.items())),
            tuple(sorted((name, min(n, MANY_FAILURES)) for name, n in notes.failures.items())),
            _flat(notes.gone),
            tuple((freeze_json(said), _flat(part)) for said, part in notes.doubts),
        )
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._notes)
            self._notes.append(key)
        return number

    def aged(self, state: State, seconds: int) -> State:
        """The same, when some time has passed in which nobody did anything.

        After that a run may fail, and a step be repeated whose pods are not seen.
        """
        ghost = Ghost(*state.ghost)
        ghost.mishaps, ghost.spoilt = EXCUSE, min(ghost.spoilt + 1, MANY)

        def older(numbers: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(sorted(self.documents.aged(e, seconds).number for e in self.docs(numbers)))

        return state._replace(
            world=older(state.world),
            caches=tuple(None if cache is None else older(cache) for cache in state.caches),
            view=None if state.view is None else tuple(older(part) for part in state.view),
            ghost=ghost.flat(),
        )


def new_memory() -> Memory:
    memory = Memory(lambda pod: settle(pod, NOW), lambda: 0.0)
    memory._listed = set(KINDS)
    return memory


def _ranks(
    entries: Iterable[Entry], loose: Iterable[int]
) -> tuple[dict[int, int], dict[tuple[Any, int], int]]:
    """New names by old ones, and new versions: both only ever compared among namesakes."""
    groups: dict[int, tuple[str, str]] = {}
    tokens: set[int] = set(loose)
    seen: dict[Any, set[int]] = {}
    for entry in entries:
        tokens.update(entry.tokens)
        if entry.own:
            groups[entry.own] = entry.group
        seen.setdefault(entry.line, set()).add(entry.version)
    unknown = ("~", "")  # of objects that are gone and still spoken of
    order = sorted(tokens, key=lambda number: (groups.get(number, unknown), number))
    names = {number: rank for rank, number in enumerate(order, 1)}
    versions = {
        (line, version): rank
        for line, found in seen.items()
        for rank, version in enumerate(sorted(found), 1)
    }
    return names, versions


def freeze_json(value: Any) -> Any:
    if isinstance(value, dict):
        return tuple(sorted((name, freeze_json(entry)) for name, entry in value.items()))
    return value


def thaw_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return {name: thaw_json(entry) for name, entry in value}
    return value


def _flat(ledger: Ledger) -> tuple[Any, ...]:
    return (
        ledger.gpu_seconds,
        ledger.gpu_idle_seconds,
        min(ledger.failures, MANY),
        min(ledger.disruptions, MANY),
        ledger.worker_restarts,
        tuple(sorted(ledger.stages.items())),
    )


def _ledger(flat: tuple[Any, ...]) -> Ledger:
    gpu, idle, failures, disruptions, restarts, stages = flat
    return Ledger(gpu, idle, failures, disruptions, restarts, dict(stages))
