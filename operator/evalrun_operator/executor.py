"""Carries out a Plan: creates, then the status, then deletes, then events, then lost pods.

Whatever fails is derived anew from what is observed then, so nothing here is undone or remembered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from evalrun_api.errors import EvalrunError
from evalrun_api.names import RUN_LABEL
from evalrun_operator.api_errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Unavailable,
)
from evalrun_operator.cluster import Cluster
from evalrun_operator.decisions import (
    CONTENT,
    DELETE,
    STATUS,
    Action,
    CreateConfigMap,
    CreateJob,
    DeleteJob,
    Doc,
    Event,
    FailPod,
    Observed,
    Plan,
    ReadBenchmarks,
    ReadSnapshot,
    RemovePod,
    RunKey,
)
from evalrun_operator.events import event_document
from evalrun_operator.owners import controller_uid, is_predecessors
from evalrun_operator.pacing import Pacing
from evalrun_operator.parsing import Busy, Parser
from evalrun_operator.patching import merge_patch
from evalrun_operator.pod_endings import PodEndings
from evalrun_operator.resources import BENCHMARKS, CONFIG_MAPS, EVENTS, JOBS, RUNS, Resource
from evalrun_operator.rush import LATER_SECONDS, what_cannot_wait
from evalrun_operator.shelf import version_of
from evalrun_operator.snapshot import read_config_map
from evalrun_operator.store import Store, has_ended

log = logging.getLogger(__name__)

Finished = Callable[[Doc], None]
"""Told of a run whose end was just written."""
Written = Callable[[Doc, Doc, datetime], None]
"""Told of a run before and after its status was written, and when."""


class Again(Exception):  # noqa: N818 - not a mishap
    """The rest of the Plan is void: something was learnt, so the run is looked at again."""


class Executor:
    """Does what a Plan says.

    now: wall clock in UTC, for Events. rush: whether other runs need their first Jobs now.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        pacing: Pacing,
        now: Callable[[], datetime],
        finished: Finished,
        rush: Callable[[], bool] = lambda: False,
        written: Written = lambda *_: None,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._pacing = pacing
        self._now = now
        self._finished = finished
        self._rush = rush
        self._written = written
        self._parser = Parser()
        self._pod_endings = PodEndings(cluster, store, now)

    async def execute(self, key: RunKey, observed: Observed, plan: Plan) -> float | None:
        """Carry out a Plan.

        Returns the seconds after which the run has to be looked at again; None for never. Raises
        `Again`, `ApiError` when the rest has to wait, `LeadershipLost` when it is another's.
        """
        first = what_cannot_wait(observed, plan)
        if first is not None and self._rush():
            return await self._do_first(key, observed, plan, first)
        deletes = [action for action in plan.actions if isinstance(action, DeleteJob)]
        learnt = False
        lost = [action for action in plan.actions if isinstance(action, FailPod | RemovePod)]
        for action in plan.actions:
            if not isinstance(action, DeleteJob | FailPod | RemovePod):
                await self._do(key, observed.run, action)
                learnt = learnt or isinstance(action, ReadSnapshot | ReadBenchmarks)
        again = plan.requeue_after
        written = None
        if plan.status is not None and plan.status != observed.run.get("status"):
            uid = observed.run["metadata"]["uid"]
            more = _done(plan.status) > _done(observed.run.get("status") or {})
            wait = 0.0 if plan.urgent or deletes else self._pacing.wait(uid, is_progress=more)
            if wait > 0:
                later = self._pacing.look_again_seconds(wait, is_progress=more)
                again = later if again is None else min(later, again)
            else:
                written = await self._write_status(key, observed, plan.status)
                if written is None:
                    return None
                if not plan.urgent or plan.charged:
                    self._pacing.written(uid, is_progress=more)
        try:
            for delete in deletes:
                await self._delete(key, observed, delete)
        finally:
            # What came true is told once, so a delete that has to be repeated must not lose it.
            if written is not None:
                for event in plan.events:
                    await self.record(written, event)
        soon = await self._pod_endings.end(key, observed.run, lost)
        if soon is not None:
            again = soon if again is None else min(soon, again)
        # Of a run that has just ended, what becomes of its Jobs is still to be decided.
        ended = written is not None and has_ended(written) and not has_ended(observed.run)
        return 0.0 if learnt or ended else again

    async def _do_first(
        self, key: RunKey, observed: Observed, plan: Plan, first: Sequence[Action]
    ) -> float:
        """Do only what cannot wait. Returns the seconds until the rest is looked at."""
        for action in first:
            await self._do(key, observed.run, action)
        if any(isinstance(action, CreateConfigMap) for action in plan.actions[len(first) :]):
            # The next look need not read what is not there yet.
            self._store.put_snapshot(observed.run["metadata"]["uid"], None)
        return LATER_SECONDS

    async def _do(self, key: RunKey, run: Doc, action: Action) -> None:
        match action:
            case ReadSnapshot(name):
                await self._read_snapshot(key, run, name)
            case ReadBenchmarks(names):
                for name in names:
                    await self._read_benchmark(key, run["metadata"]["uid"], name)
            case CreateConfigMap(document):
                await self._make_sure_of(key, run)
                if not await self._create(key, run, CONFIG_MAPS, "configmap", document):
                    raise Again  # the rest was made from another snapshot
            case CreateJob(document):
                await self._make_sure_of(key, run)
                if not await self._create(key, run, JOBS, "job", document):
                    raise Again  # it may have been made for the run as it was before an edit

    async def _make_sure_of(self, key: RunKey, run: Doc) -> None:
        """Ask for a run that may be over or gone by now, before anything is made of it.

        Its Jobs may have gone with it, and would be made once more. Raises `Again` if it is
        otherwise by now.
        """
        uid = run["metadata"]["uid"]
        if not self._store.is_second_hand(uid):
            return
        self._store.confirm(uid)
        try:
            await self._refresh(key, uid)
        except ApiError:
            self._store.doubt_run(uid)
            raise
        held = self._store.run(key)
        meanwhile = self._store.is_second_hand(uid)  # a Job has gone since the answer was given
        if held is None or version_of(held) != version_of(run) or meanwhile:
            raise Again

    async def _create(
        self, key: RunKey, run: Doc, resource: Resource, kind: str, document: Doc
    ) -> bool:
        """Create an object of the run; False when it is there already and is the run's own.

        Raises `Again` for someone else's, after noting the conflict.
        """
        name, uid = f"{kind}/{document['metadata']['name']}", run["metadata"]["uid"]
        try:
            created = await self._cluster.create(resource, key.namespace, document)
        except AlreadyExists:
            existing = await self._existing(key, run, resource, kind, document["metadata"]["name"])
            self._store.put_refused(uid, name, None)
            if resource is CONFIG_MAPS:
                self._learn_snapshot(uid, existing)
            else:
                self._store.put("Job", existing)
            return False
        except (Forbidden, Invalid) as error:
            self._store.put_refused(uid, name, error.text)
            raise
        except Unavailable as error:
            if error.code >= 500:  # also for a webhook that is down
                self._store.put_failed(uid, name, error.text)
            raise
        self._store.put_refused(uid, name, None)
        if resource is CONFIG_MAPS:
            self._learn_snapshot(uid, created)
        else:
            self._store.put("Job", created)
        log.info("created %s", name, extra={"run": f"{key.namespace}/{key.name}"})
        return True

    def _learn_snapshot(self, uid: str, found: Doc) -> None:
        name = f"{CONTENT}configmap/{found['metadata']['name']}"
        try:
            snapshot = read_config_map(found)
        except EvalrunError as error:
            self._store.put_refused(uid, name, str(error))
            raise Again from error
        self._store.put_refused(uid, name, None)
        self._store.put_snapshot(uid, snapshot)

    async def _existing(
        self, key: RunKey, run: Doc, resource: Resource, kind: str, name: str
    ) -> Doc:
        """The run's own object of this name. Raises `Again` if it's foreign, or just went."""
        try:
            found = await self._cluster.get(resource, key.namespace, name)
        except NotFound as error:
            raise Again from error
        if "deletionTimestamp" in found["metadata"] or is_predecessors(found, run):
            what = "one of that name is being deleted; it is created again when that is gone"
            self._store.put_failed(run["metadata"]["uid"], f"{kind}/{name}", what)
            raise Unavailable(f"create {kind} {key.namespace}/{name}", text=what)
        uid = run["metadata"]["uid"]
        # A Job without the label is not watched: taken for the run's own, it would hang the run.
        label = (found["metadata"].get("labels") or {}).get(RUN_LABEL)
        unseen = resource is JOBS and label != key.name
        if controller_uid(found, "EvaluationRun") != uid or unseen:
            self._store.put_conflict(uid, f"{kind}/{name}")
            raise Again
        return found

    async def _read_snapshot(self, key: RunKey, run: Doc, name: str) -> None:
        uid = run["metadata"]["uid"]
        try:
            found = await self._cluster.get(CONFIG_MAPS, key.namespace, name)
        except NotFound:
            self._store.put_refused(uid, f"{CONTENT}configmap/{name}", None)
            self._store.put_snapshot(uid, None)
            return
        if controller_uid(found, "EvaluationRun") == uid:
            self._learn_snapshot(uid, found)
        elif is_predecessors(found, run):
            self._store.put_snapshot(uid, None)
        else:
            self._store.put_conflict(uid, f"configmap/{name}")

    async def _read_benchmark(self, key: RunKey, uid: str, name: str) -> None:
        try:
            found = await self._cluster.get(BENCHMARKS, key.namespace, name)
        except NotFound:
            self._store.put_benchmark(uid, name, None)
            return
        try:
            benchmark = await self._parser.benchmark(found, f"Benchmark {name}: ")
        except Busy as error:
            raise Again from error
        except EvalrunError as error:
            # The API server's schema knows less: as good as none, with a reason.
            self._store.put_benchmark(uid, name, None)
            self._store.put_refused(uid, f"benchmark/{name}", str(error))
            return
        self._store.put_refused(uid, f"benchmark/{name}", None)
        self._store.put_benchmark(uid, name, benchmark)

    async def _write_status(self, key: RunKey, observed: Observed, status: Doc) -> Doc | None:
        """Write the status; returns the run as it is then, None if it no longer exists."""
        run = observed.run
        before = run.get("status") or {}
        patch = merge_patch(before, status)
        metadata = run["metadata"]
        try:
            written = await self._cluster.patch_status(
                RUNS, key.namespace, key.name, metadata["resourceVersion"], patch
            )
        except NotFound:
            self._store.gone("EvaluationRun", metadata["uid"])
            return None
        except Conflict as error:
            # Whatever repeats a request on the way gives the answer of the second: then the version
            # that this one conflicts with is the status itself.
            self._store.doubt(metadata["uid"], status, observed.gone)
            await self._refresh(key, metadata["uid"])
            raise Again from error
        except Unavailable:
            self._store.doubt(metadata["uid"], status, observed.gone)
            raise
        except (Forbidden, Invalid) as error:
            if observed.refused.get(STATUS) != error.text:
                self._store.put_refused(metadata["uid"], STATUS, error.text)
                await self.record(run, Event("Warning", "StatusRefused", error.text))
            raise
        self._store.put_refused(metadata["uid"], STATUS, None)
        self._store.settled(metadata["uid"], observed.gone)
        self._store.put("EvaluationRun", written)
        self._written(run, written, self._now())
        if has_ended(written) and not has_ended(run):
            self._pacing.forget(metadata["uid"])
            self._finished(written)
        return written

    async def _refresh(self, key: RunKey, uid: str) -> None:
        try:
            found = await self._cluster.get(RUNS, key.namespace, key.name)
        except NotFound:
            self._store.gone("EvaluationRun", uid)
            return
        self._store.put("EvaluationRun", found)

    async def _delete(self, key: RunKey, observed: Observed, delete: DeleteJob) -> None:
        job = observed.jobs.get(delete.name)
        if job is None or job["metadata"]["uid"] != delete.uid:
            raise Again
        version = job["metadata"]["resourceVersion"]
        uid, name = observed.run["metadata"]["uid"], f"{DELETE}job/{delete.name}"
        try:
            left = await self._cluster.delete(JOBS, key.namespace, delete.name, delete.uid, version)
        except NotFound:
            self._store.gone("Job", delete.uid)
            return
        except Conflict as error:
            # It changed since it was judged: perhaps it has succeeded meanwhile.
            await self._refresh_job(key, delete)
            raise Again from error
        except (Forbidden, Invalid) as error:
            self._store.put_refused(
                observed.run["metadata"]["uid"], f"{DELETE}job/{delete.name}", error.text
            )
            raise
        self._store.put_refused(uid, name, None)
        log.info("deleted job/%s", delete.name, extra={"run": f"{key.namespace}/{key.name}"})
        if left.get("kind") == "Job":
            self._store.put("Job", left)
        else:
            self._store.gone("Job", delete.uid)

    async def _refresh_job(self, key: RunKey, delete: DeleteJob) -> None:
        try:
            found = await self._cluster.get(JOBS, key.namespace, delete.name)
        except NotFound:
            self._store.gone("Job", delete.uid)
            return
        self._store.put("Job", found)

    async def record(self, run: Doc, event: Event) -> None:
        """Post an Event. It is a courtesy: nothing is lost if it cannot be posted."""
        document = event_document(run, event, self._now())
        try:
            await self._cluster.create(EVENTS, run["metadata"]["namespace"], document)
        except AlreadyExists:
            pass
        except ApiError as error:
            log.warning("an Event was not posted: %s", error, extra={"run": run_name(run)})


def run_name(run: Doc) -> str:
    """A run's name in logs."""
    return f"{run['metadata']['namespace']}/{run['metadata']['name']}"


def _done(status: Doc) -> int:
    """Requests that a status says are done."""
    return int((status.get("progress") or {}).get("requestsDone") or 0)
