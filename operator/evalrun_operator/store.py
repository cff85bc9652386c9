"""All that the operator knows of the cluster: runs, their Jobs and pods, and notes beside them.

Synchronous and without a clock of its own. What our writes answered is put here at once, so that a
decision never rests on a state older than our own last write.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from evalrun_api.benchmark import Benchmark
from evalrun_api.names import RUN_LABEL
from evalrun_api.progress import Progress
from evalrun_operator.decisions import Doc, Ledger, Observed, RunKey, Snapshot
from evalrun_operator.kinship import Kinship, Ref
from evalrun_operator.notes import KeptSnapshot, Notes
from evalrun_operator.owners import controller_uid
from evalrun_operator.shelf import Held, Shelf, version_of
from evalrun_operator.standing import JobWithPods
from evalrun_operator.strip import KINDS, Kind, share, strip
from evalrun_operator.waiting_jobs import WaitingJobs

Settle = Callable[[Doc], Ledger]
Family = tuple[Doc, list[JobWithPods]]


def has_ended(run: Doc) -> bool:
    """Whether a run has ended. It never changes again."""
    return bool((run.get("status") or {}).get("completionTime"))


class Store:
    """Runs, Jobs and pods by the run that they belong to.

    settle: what a pod that is gone contributed, from its last state.
    clock: seconds that only grow. touched: told of the uid of a run around which something changed.
    ended: told of each run that has ended, also of those that had when they were first seen.
    """

    touched: Callable[[str], None] | None = None
    ended: Callable[[Doc], None] | None = None

    def __init__(self, settle: Settle, clock: Callable[[], float]) -> None:
        self._settle = settle
        self._clock = clock
        self._shelves: dict[Kind, Shelf] = {kind: Shelf() for kind in KINDS}
        self._kin = Kinship()
        self._active: dict[str, RunKey] = {}
        self._second_hand: set[str] = set()
        self._notes: dict[str, Notes] = {}
        self._progress: dict[str, Progress] = {}
        self.waiting = WaitingJobs()
        self._listed: set[Kind] = set()
        self._synced_at: float | None = None

    # What is there

    @property
    def synced(self) -> bool:
        """Whether each kind has been listed: before, an absence means nothing."""
        return len(self._listed) == len(KINDS)

    def count(self, kind: Kind) -> int:
        """How many objects of a kind are held."""
        return len(self._shelves[kind])

    def floor(self, kind: Kind, namespace: str = "") -> int:
        """Version of the last list of a kind."""
        return self._shelves[kind].floor(namespace)

    def run(self, key: RunKey) -> Doc | None:
        """The run of this name."""
        held = self._shelves["EvaluationRun"].find(*key)
        return held.document if held else None

    def active(self) -> list[RunKey]:
        """Runs that have not ended."""
        return list(self._active.values())

    def has_jobs(self, key: RunKey) -> bool:
        """Whether a run has a Job."""
        held = self._shelves["EvaluationRun"].find(*key)
        return held is not None and any(True for _ in self._kin.jobs_of(_ref(held)))

    def finished_with_jobs(self) -> list[RunKey]:
        """Runs that have ended and whose Jobs are still there, perhaps to be removed."""
        shelf = self._shelves["EvaluationRun"]
        keys = []
        for run in self._kin.runs():
            held = shelf.get(run.uid)
            if held is not None and run.uid not in self._active:
                keys.append(RunKey(held.namespace, held.name))
        return keys

    def observe(self, key: RunKey) -> Observed | None:
        """All that is known around a run; None if there is no such run."""
        held = self._shelves["EvaluationRun"].find(*key)
        if held is None:
            return None
        notes = self._notes.get(held.uid) or Notes()
        pods = dict(self._pods(held.uid, key))
        found = (self._shelves["Job"].get(job.uid) for job in self._kin.jobs_of(_ref(held)))
        jobs = [job for job in found if job is not None]
        return Observed(
            run=held.document,
            jobs={job.name: job.document for job in jobs},
            pods=tuple(pods.values()),
            progress={uid: self._progress[uid] for uid in pods if uid in self._progress},
            snapshot=notes.snapshot.unpack() if notes.snapshot else None,
            snapshot_absent=notes.snapshot_absent,
            benchmarks=notes.recent_benchmarks(self._clock()),
            conflicts=frozenset(notes.conflicts),
            refused=dict(notes.refused),
            gone=notes.gone,
            known_seconds=0.0 if self._synced_at is None else self._clock() - self._synced_at,
            words=self.waiting.words([job.uid for job in jobs]),
        )

    def key_of(self, run_uid: str) -> RunKey | None:
        """The name of a run that has not ended."""
        return self._active.get(run_uid)

    def is_second_hand(self, run_uid: str) -> bool:
        """Whether a run may be over, or gone, though nothing says so yet.

        It was first told by a list whose age this process cannot judge: what stands between it and
        the API server may have kept it. Or a Job of it has gone, perhaps since the run has: two
        watches keep no order. A newer version may be of the past as well: see `confirm`.
        """
        return run_uid in self._second_hand

    def family(self, run_uid: str) -> Family | None:
        """A run that has not ended, its Jobs and their pods."""
        held = self._shelves["EvaluationRun"].get(run_uid)
        if held is None or run_uid not in self._active:
            return None
        jobs, pods = self._shelves["Job"], self._shelves["Pod"]
        members = []
        for ref in self._kin.jobs_of(_ref(held)):
            if (job := jobs.get(ref.uid)) is not None:
                found = (pods.get(pod.uid) for pod in self._kin.pods_of(ref))
                members.append(JobWithPods(job.document, [pod.document for pod in found if pod]))
        return held.document, members

    def pods_at_work(self) -> Iterator[Doc]:
        """Running pods of runs that have not ended."""
        for uid, key in list(self._active.items()):
            for _, document in self._pods(uid, key, ended=False):
                deleted = "deletionTimestamp" in document["metadata"]
                if (document.get("status") or {}).get("phase") == "Running" and not deleted:
                    yield document

    def progress_of(self, key: RunKey) -> list[Progress]:
        """The last progress of each pod of a run."""
        held = self._shelves["EvaluationRun"].find(*key)
        pods = self._pods(held.uid, key) if held else ()
        return [self._progress[uid] for uid, _ in pods if uid in self._progress]

    # What is learnt

    def put(
        self, kind: Kind, document: Doc, listed: int = 0, *, first_hand: bool = True
    ) -> RunKey | None:
        """Learn a version of an object. Returns the run that it matters to, if it is news.

        listed: version of the list that holds it; 0 for what came otherwise. first_hand: False for
        what may be of the past, see `is_second_hand`.
        """
        shelf = self._shelves[kind]
        if not shelf.is_news(document, listed) or not _is_ours(kind, document):
            return None
        stripped = strip(kind, document)
        if not (kind == "EvaluationRun" and has_ended(stripped)):
            stripped = share(stripped)  # it stays as it is; that of a finished run is packed
        held, displaced = shelf.put(stripped, listed)
        if displaced is not None:
            self._after_removal(kind, displaced)
        if held is None:
            return None
        if kind == "EvaluationRun":
            if not first_hand:
                self._second_hand.add(held.uid)
            return self._after_run(held)
        if kind == "Job":
            return self._after_job(held)
        return self._after_pod(held)

    def gone(self, kind: Kind, uid: str, version: int = 0) -> RunKey | None:
        """Learn that an object no longer exists. Returns the run that it mattered to.

        version: of its end; 0 where that is not known.
        """
        held = self._shelves[kind].remove(uid, version)
        return self._after_removal(kind, held) if held else None

    def forget(self, kind: Kind, document: Doc) -> RunKey | None:
        """The same, from the object's last state."""
        return self.gone(kind, document["metadata"]["uid"], version_of(document))

    def doubt_run(self, run_uid: str) -> None:
        """Whether a run is still as it is held has to be asked: see `is_second_hand`."""
        if run_uid in self._active:
            self._second_hand.add(run_uid)

    def confirm(self, run_uid: str) -> None:
        """The API server is asked for this run alone: as it is held then, it is, or it is gone."""
        self._second_hand.discard(run_uid)

    def keep_only(
        self, kind: Kind, uids: Collection[str], version: int, namespace: str = ""
    ) -> list[RunKey]:
        """A list of this version is complete and held these: the rest is gone.

        What the list held has been `put` before. Returns the runs that lost something.
        """
        absent = self._shelves[kind].keep_only(uids, version, namespace)
        self._listed.add(kind)
        if self.synced and self._synced_at is None:
            self._synced_at = self._clock()
        keys = [self._after_removal(kind, held) for held in absent]
        return [key for key in keys if key is not None]

    def replace(
        self, kind: Kind, documents: Collection[Doc], version: int, namespace: str = ""
    ) -> list[RunKey]:
        """A whole list at once. Returns the runs that it matters to."""
        keys = [self.put(kind, document, version) for document in documents]
        uids = {document["metadata"]["uid"] for document in documents}
        lost = self.keep_only(kind, uids, version, namespace)
        return [key for key in keys if key is not None] + lost

    # Notes beside the objects

    def put_progress(self, pod_uid: str, progress: Progress) -> RunKey | None:
        """Remember what a pod said of itself. Returns the run if that is news."""
        pod = self._shelves["Pod"].get(pod_uid)
        if pod is None or self._progress.get(pod_uid) == progress:
            return None
        run = self._kin.run_of_pod(_ref(pod))
        key = self._key(run)
        if key is None or run.uid not in self._active:
            return None
        self._progress[pod_uid] = progress
        return key

    def put_snapshot(self, run_uid: str, snapshot: Snapshot | None) -> None:
        """Remember the snapshot, or that there is none."""
        if notes := self._notes_of(run_uid):
            notes.snapshot = KeptSnapshot.of(snapshot) if snapshot is not None else None
            notes.snapshot_absent = snapshot is None
            if snapshot is not None:
                notes.benchmarks.clear()

    def put_benchmark(self, run_uid: str, name: str, benchmark: Benchmark | None) -> None:
        """Remember a Benchmark, or that there is none."""
        if notes := self._notes_of(run_uid):
            notes.benchmarks[name] = (benchmark, self._clock())

    def put_conflict(self, run_uid: str, name: str) -> None:
        """Remember that `kind/name`, which the run needs, belongs to someone else."""
        if notes := self._notes_of(run_uid):
            notes.conflicts.add(name)

    def put_refused(self, run_uid: str, name: str, text: str | None) -> None:
        """Remember why the API server refuses `kind/name`; None: it no longer does."""
        if notes := self._notes_of(run_uid):
            notes.refuse(name, text)

    def put_failed(self, run_uid: str, name: str, text: str) -> None:
        """Remember that the API server failed at `kind/name`, which may go on."""
        if notes := self._notes_of(run_uid):
            notes.fail(name, text)

    def settled(self, run_uid: str, contained: Ledger) -> None:
        """A status was written that contains this: it need not be remembered any more."""
        if notes := self._notes_of(run_uid):
            notes.settle(contained)

    def doubt(self, run_uid: str, status: Doc, contained: Ledger) -> None:
        """A status may have been written or not. The run's next version will tell.

        Were it not remembered, what the status contains would be counted twice.
        """
        if notes := self._notes_of(run_uid):
            notes.doubt(status, contained)

    # How it hangs together

    def _pods(self, run_uid: str, key: RunKey, *, ended: bool = True) -> Iterator[tuple[str, Doc]]:
        """A run's pods by uid. ended: those that have ended, too."""
        shelf = self._shelves["Pod"]
        for job in self._kin.jobs_of(Ref(key.namespace, run_uid)):
            for pod in self._kin.pods_of(job):
                held = shelf.get(pod.uid)
                if held is None or (held.is_packed and not ended):
                    continue
                document = held.document
                if _key_by_label(document) == key:
                    yield held.uid, document

    def _notes_of(self, run_uid: str) -> Notes | None:
        """None for a run that has ended or gone: a late answer is none about its successor."""
        return self._notes.setdefault(run_uid, Notes()) if run_uid in self._active else None

    def _touch(self, run_uid: str) -> None:
        if self.touched is not None and run_uid:
            self.touched(run_uid)

    def _after_run(self, held: Held) -> RunKey:
        self._touch(held.uid)
        key = RunKey(held.namespace, held.name)
        if has_ended(held.document):
            self._active.pop(held.uid, None)
            self._notes.pop(held.uid, None)
            self._second_hand.discard(held.uid)
            if self.ended is not None:
                self.ended(held.document)
            held.pack()
            for job in self._kin.jobs_of(_ref(held)):
                self.waiting.forget(job.uid)
                self._pack("Job", job.uid)
                for pod in self._kin.pods_of(job):
                    self._progress.pop(pod.uid, None)
                    self._pack("Pod", pod.uid)
        else:
            self._active[held.uid] = key
            if notes := self._notes.get(held.uid):
                notes.resolve(held.document.get("status") or {})
            for job in self._kin.jobs_of(_ref(held)):  # they may have been seen before their run
                if found := self._shelves["Job"].get(job.uid):
                    self.waiting.see(key, found.document)
        return key

    def _after_job(self, held: Held) -> RunKey | None:
        run_uid = controller_uid(held.document, "EvaluationRun")
        self._touch(self._kin.run_of_job(_ref(held)).uid)
        self._kin.adopt_job(_ref(held), run_uid)
        if not run_uid:
            return None
        run = self._kin.run_of_job(_ref(held))
        if (key := self._active.get(run.uid)) is not None:
            self.waiting.see(key, held.document)
        return self._after_child(held, run)

    def _after_pod(self, held: Held) -> RunKey | None:
        job_uid = controller_uid(held.document, "Job")
        self._kin.adopt_pod(_ref(held), job_uid, self._has_job(held))
        return self._after_child(held, self._kin.run_of_pod(_ref(held))) if job_uid else None

    def _after_child(self, held: Held, run: Ref) -> RunKey | None:
        self._touch(run.uid)
        key = self._key(run)
        if (key is not None and run.uid not in self._active) or _is_over(held.document):
            held.pack()
        return key or _key_by_label(held.document)

    def _after_removal(self, kind: Kind, held: Held) -> RunKey | None:
        if kind == "EvaluationRun":
            self._touch(held.uid)
            self._active.pop(held.uid, None)
            self._notes.pop(held.uid, None)
            self._second_hand.discard(held.uid)
            return RunKey(held.namespace, held.name)
        if kind == "Job":
            run = self._kin.run_of_job(_ref(held))
            self.waiting.forget(held.uid)
            self._touch(run.uid)
            self._kin.remove_job(_ref(held))
            key = self._key(run)
            if key is not None:
                self.doubt_run(run.uid)
            return key
        run = self._kin.run_of_pod(_ref(held))
        self._touch(run.uid)
        self._progress.pop(held.uid, None)
        key = self._key(run)
        if key is not None and run.uid in self._active:
            notes = self._notes.setdefault(run.uid, Notes())
            notes.gone = notes.gone.plus(self._settle(held.document))
        self._kin.remove_pod(_ref(held), self._has_job(held))
        return key

    def _has_job(self, pod: Held) -> bool:
        return self._shelves["Job"].get(self._kin.job_of_pod(_ref(pod)).uid) is not None

    def _key(self, run: Ref) -> RunKey | None:
        held = self._shelves["EvaluationRun"].get(run.uid)
        if held is None or held.namespace != run.namespace:
            return None
        return RunKey(held.namespace, held.name)

    def _pack(self, kind: Kind, uid: str) -> None:
        if held := self._shelves[kind].get(uid):
            held.pack()


def _is_ours(kind: Kind, document: Doc) -> bool:
    """Whether an object claims to belong to a run. Whether it does, its owners say."""
    return kind == "EvaluationRun" or RUN_LABEL in (document["metadata"].get("labels") or {})


def _is_over(document: Doc) -> bool:
    """Whether a Job or a pod has ended: what it says hardly changes any more."""
    status = document.get("status") or {}
    return status.get("phase") in ("Succeeded", "Failed") or bool(status.get("completionTime"))


def _ref(held: Held) -> Ref:
    return Ref(held.namespace, held.uid)


def _key_by_label(document: Doc) -> RunKey:
    metadata = document["metadata"]
    labels = metadata.get("labels") or {}
    return RunKey(metadata["namespace"], str(labels.get(RUN_LABEL, "")))
