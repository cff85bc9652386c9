"""What a decision about a run is made of: what was observed, and what is to be done.

Documents are plain dicts as the API server gives them. Nothing here does anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

from evalrun_api.benchmark import Benchmark
from evalrun_api.plan import RunPlan
from evalrun_api.progress import Progress

Doc = dict[str, Any]

CONTENT = "content of "
DELETE = "delete "
END = "end "
STATUS = "status"
"""What else than a create of kind/name may be refused, in `Observed.refused`."""
MAX_COUNT = 2**53
"""The largest count that a status holds."""


class RunKey(NamedTuple):
    """Which run."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Snapshot:
    """The plan as this run was first given it, and the files of its custom benchmarks.

    files: text by the path beneath the folder of benchmarks (easy-vqa/easy_vqa.yaml), by the key
        of the ConfigMap that holds them.
    digest: of the ConfigMap's data. Whoever may write ConfigMaps may write one that says it is a
        run's, so what it holds counts only where its digest is known from elsewhere.
    """

    plan: RunPlan
    files: Mapping[str, str]
    digest: str


@dataclass(frozen=True)
class Ledger:
    """What pods that are gone contributed to a run, so that it is not lost with them.

    gpu_seconds: accelerators times seconds held. gpu_idle_seconds: of these, without answering.
    failures: attempts that count. disruptions: those that do not. worker_restarts: within pods.
    stages: whole seconds by name of a stage.
    """

    gpu_seconds: float = 0.0
    gpu_idle_seconds: float = 0.0
    failures: int = 0
    disruptions: int = 0
    worker_restarts: int = 0
    stages: Mapping[str, int] = field(default_factory=dict)

    def plus(self, other: Ledger) -> Ledger:
        """Both together."""
        return self._with(other, 1)

    def minus(self, part: Ledger) -> Ledger:
        """What is left when a part is settled."""
        if part == self:
            return Ledger()  # floats would leave a rest
        return self._with(part, -1)

    def _with(self, other: Ledger, sign: int) -> Ledger:
        """Every number of the other added, or taken off; none falls below 0."""
        names = [entry.name for entry in fields(Ledger) if entry.name != "stages"]
        numbers = {
            name: max(getattr(self, name) + sign * getattr(other, name), 0) for name in names
        }
        stages = {
            name: max(self.stages.get(name, 0) + sign * other.stages.get(name, 0), 0)
            for name in {*self.stages, *other.stages}
        }
        return Ledger(**numbers, stages={name: spent for name, spent in stages.items() if spent})


Meaning = Literal["Pending", "Evicted", "Unusable", "Silent", "Absent", "Unreadable"]


@dataclass(frozen=True)
class Word:
    """What is known of why a Job waits.

    meaning: Pending: it is in line. Evicted: it was at work before, and `reason` says why it no
    longer is. Unusable: it will never be admitted as things are. Silent: Kueue has made no Workload
    of it. Absent: the cluster has no Kueue. Unreadable: its Workload could not be read.
    text: Kueue's own words, or the API server's; may be empty.
    """

    meaning: Meaning
    text: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Waiting:
    """A run waits for an administrator's cap.

    position: 1 for the next run of its namespace. why: place and cap, for a person.
    """

    position: int
    why: str


@dataclass(frozen=True)
class Observed:
    """All that is known around one run.

    run: the EvaluationRun. jobs: those that the run owns, by name. pods: of those Jobs.
    progress: last valid answer of each pod's /progress, by pod uid.
    snapshot: the plan, once it has been read or written by this process.
    snapshot_absent: the API server was asked for it and has none.
    benchmarks: Benchmarks that were fetched for the run; None for one that does not exist.
    conflicts: objects that the run needs to create and that belong to someone else: kind/name.
    refused: creates that the API server refuses, with its words, by kind/name: by a quota, an
        admission webhook, a namespace that goes away. Deletes, lost pods and objects that cannot be
        read likewise, with `DELETE`, `END` or `CONTENT` before it. All are tried again, ever more
        rarely.
    gone: pods that vanished since the last status was written.
    words: what is known of why Jobs wait in their queue, by the Job's uid.
    waiting: for which place in line the run must not begin, or go on after a suspension; None for
        one that may, or is at work.
    known_seconds: how long ago this process had first read all there is. What it has not seen by
        then may still come: watches are late, and what stands before the API server may answer a
        list from its memory.
    """

    run: Doc
    jobs: Mapping[str, Doc] = field(default_factory=dict)
    pods: Sequence[Doc] = ()
    progress: Mapping[str, Progress] = field(default_factory=dict)
    snapshot: Snapshot | None = None
    snapshot_absent: bool = False
    benchmarks: Mapping[str, Benchmark | None] = field(default_factory=dict)
    conflicts: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    gone: Ledger = field(default_factory=Ledger)
    words: Mapping[str, Word] = field(default_factory=dict)
    waiting: Waiting | None = None
    known_seconds: float = math.inf


@dataclass(frozen=True)
class ReadSnapshot:
    """Read the ConfigMap `name`: it becomes `Observed.snapshot` (or `snapshot_absent`)."""

    name: str


@dataclass(frozen=True)
class ReadBenchmarks:
    """Read these Benchmarks of the run's namespace: they become `Observed.benchmarks`."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class CreateConfigMap:
    """Create the ConfigMap that holds the snapshot.

    If the run owns one already, that one becomes `Observed.snapshot`, the rest of this Plan is void
    (it was made from another snapshot) and the run is looked at again at once.
    """

    document: Doc


@dataclass(frozen=True)
class CreateJob:
    """Create a Job.

    If the run owns one already, the rest of this Plan is void, since nobody has looked at that one
    yet, and the run is looked at again at once. A foreign one is a conflict.
    """

    document: Doc


@dataclass(frozen=True)
class DeleteJob:
    """Delete a Job, its pods first (foreground), if it is still the one that was observed."""

    name: str
    uid: str


@dataclass(frozen=True)
class FailPod:
    """Say of a pod that never ends that it has failed, if it is still exactly this one.

    status: the change of its status.
    """

    name: str
    uid: str
    version: str
    status: Doc


@dataclass(frozen=True)
class RemovePod:
    """Remove a pod without its kubelet's word, if it is still exactly this one."""

    name: str
    uid: str
    version: str


Action = (
    ReadSnapshot | ReadBenchmarks | CreateConfigMap | CreateJob | DeleteJob | FailPod | RemovePod
)


@dataclass(frozen=True)
class Event:
    """A Kubernetes Event about the run.

    once: the same words are told but once in the life of a run.
    """

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    once: bool = False


@dataclass(frozen=True)
class Plan:
    """What is to be done about a run, in this order: creates, the status, deletes, events, pods.

    status: the whole new status; None when it is as it was.
    urgent: whether the status has to be written now. Progress can wait for its budget.
    charged: whether an urgent status is paid for with later progress: it tells of no new step.
    requeue_after: seconds after which to look again though nothing happens; None: never.
    stands_aside: whether the run lacks what a person has to bring before it can begin. It keeps no
        other one waiting meanwhile.
    """

    actions: tuple[Action, ...] = ()
    status: Doc | None = None
    urgent: bool = False
    charged: bool = False
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    stands_aside: bool = False
