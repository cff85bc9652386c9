"""What is to be done about a run, from what is observed of it. Pure.

Level-triggered: nothing here remembers. A run goes through the Jobs of `steps_of` one after
another; `status.step` says which is at work, and a finished Job whose successor is not recorded yet
is simply looked at again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError
from evalrun_api.operator_config import OperatorConfig
from evalrun_api.plan import RunPlan
from evalrun_operator import status as statuses
from evalrun_operator.activity import activity, at_work, starting
from evalrun_operator.admission import admit, benchmark_names, check_again, explain, read_run
from evalrun_operator.attempts import parse_time
from evalrun_operator.case import Case
from evalrun_operator.decisions import (
    CONTENT,
    Action,
    CreateConfigMap,
    CreateJob,
    Doc,
    Observed,
    Plan,
    ReadBenchmarks,
    ReadSnapshot,
    Snapshot,
)
from evalrun_operator.endings import (
    LOOK_AGAIN_SECONDS,
    conclude,
    delete,
    evidence_missing,
    fail,
    give_up,
    settled,
    stop_short,
    suspend,
    suspend_all,
    suspend_unseen,
)
from evalrun_operator.job_queues import (
    ADMISSION_SECONDS,
    follow,
    is_waiting,
    seconds_left,
    too_late,
    wait_in_queue,
)
from evalrun_operator.jobs import build_job, effective_plan, is_outdated, plan_digest
from evalrun_operator.lost_nodes import look_again_seconds, lost_node
from evalrun_operator.node_loss import end_lost_pods
from evalrun_operator.outcomes import (
    Failure,
    condition_of,
    is_deleting,
    is_finished,
    is_suspended,
)
from evalrun_operator.queueing import wait_in_line, waits_still
from evalrun_operator.refusals import refused_create, unreadable, wait_for_benchmarks
from evalrun_operator.snapshot import config_map, config_map_name, digest_with
from evalrun_operator.starting import check_start
from evalrun_operator.steps import StepKind, current, following, job_name, steps_of
from evalrun_operator.transitions import events_of


def reconcile(observed: Observed, now: datetime, config: OperatorConfig) -> Plan:
    """Decide about one run."""
    document = observed.run
    if document["metadata"].get("deletionTimestamp"):
        return Plan()  # garbage collection takes its children, by ownerReferences
    plan = _of_the_run(observed, now, config)
    lost, later = end_lost_pods(observed, now, config)
    times = [seconds for seconds in (plan.requeue_after, later) if seconds is not None]
    return replace(plan, actions=(*plan.actions, *lost), requeue_after=min(times, default=None))


def _of_the_run(observed: Observed, now: datetime, config: OperatorConfig) -> Plan:
    document = observed.run
    if (document.get("status") or {}).get("completionTime"):
        return _finished(observed, now)
    try:
        run = read_run(document)
    except EvalrunError as error:
        failure = Failure(error.reason, explain(error))
        return _with_events(observed, Plan(status=statuses.refused(document, failure, now)))
    case = Case(observed, run, now, config)
    return _with_events(observed, _decide(case))


def _with_events(observed: Observed, plan: Plan) -> Plan:
    """The plan with its status held against the last one: nothing to write, urgent, events."""
    before = observed.run.get("status") or {}
    if plan.status is None or plan.status == before:
        return replace(plan, status=None, urgent=False, events=())
    return replace(
        plan,
        urgent=statuses.is_urgent(before, plan.status),
        charged=not statuses.is_turning_point(before, plan.status),
        events=events_of(before, plan.status),
    )


def _finished(observed: Observed, now: datetime) -> Plan:
    """Of a run that has ended: its outcome stays; what still works stops; children go in time."""
    run = observed.run
    status, spec = run["status"], run.get("spec") or {}
    alive = [job for job in observed.jobs.values() if not is_deleting(job)]
    doomed = [job for job in alive if not is_finished(job)]
    # As the schema let it in: the rest of the spec need not be readable any more.
    ttl = spec.get("ttlSecondsAfterFinished")
    ended = parse_time(status["completionTime"])
    requeue = None
    if ttl is not None and ended is not None and alive:
        left = ttl - (now - ended).total_seconds()
        if left <= 0:
            doomed = alive
        else:
            requeue = left
    generation = run["metadata"].get("generation") or 0
    seen = status.get("observedGeneration") == generation
    return Plan(
        actions=tuple(delete(job) for job in doomed),
        # Whoever waits for an edit to be seen (kstatus, Argo CD) would wait for ever.
        status=None if seen else {**status, "observedGeneration": generation},
        urgent=not seen,
        requeue_after=requeue,
    )


def _decide(case: Case) -> Plan:
    begun = case.status.get("startTime") or case.observed.jobs
    if case.run.spec.suspend and not begun:
        return Plan(status=statuses.suspended(case, stopped=True))
    if not case.run.spec.suspend and (waiting := waits_still(case)) is not None:
        return waiting
    name = config_map_name(case.run.metadata.name)
    if f"configmap/{name}" in case.observed.conflicts:
        return fail(case, _name_taken("ConfigMap", name))
    keep: tuple[Action, ...] = ()
    snapshot = case.observed.snapshot
    if snapshot is None:
        found = _take_snapshot(case)
        if isinstance(found, Plan):
            return found
        snapshot, document = found
        keep = (CreateConfigMap(document),)
    elif not _is_known(case, snapshot):
        if case.run.spec.suspend:
            return suspend_all(case)
        given = _admitted(case)
        if isinstance(given, Plan):
            return given
        if not _is_given(case, snapshot, *given):
            return fail(case, _another_plan(name))
    others = _of_another_plan(case, snapshot)
    if others:
        return Plan(actions=(*keep, *map(delete, others)), requeue_after=LOOK_AGAIN_SECONDS)
    decided = _advance(case, snapshot, effective_plan(snapshot, case.run))
    status = decided.status and {**decided.status, "planDigest": snapshot.digest}
    # Benchmarks may be edited, and pods mount their files from the ConfigMap. Where there are none,
    # the first Job of several does not wait for it, but no further one is made without it:
    # `_of_another_plan` mends what a crash between the two may leave.
    several = len(steps_of(snapshot.plan)) > 1
    early = several and not (snapshot.plan.custom_benchmarks or case.observed.jobs)
    actions = (*decided.actions, *keep) if early else (*keep, *decided.actions)
    return replace(decided, actions=actions, status=status)


def _of_another_plan(case: Case, snapshot: Snapshot) -> list[Doc]:
    """Jobs that were made before their plan was kept, and whose plan is not the one that was.

    The operator died between the two writes, and its successor is of another release or has read a
    Benchmark that was edited meanwhile. Nothing rests on these Jobs yet.
    """
    if case.status.get("planDigest"):
        return []
    made = [job for job in case.observed.jobs.values() if not is_deleting(job)]
    return [job for job in made if plan_digest(job) not in (None, snapshot.digest)]


def _is_known(case: Case, snapshot: Snapshot) -> bool:
    """Whether the operator wrote this snapshot.

    Its status says so, or, where the process died before it was written, a Job that it created:
    whoever may forge that needs no operator to run what pods he likes.
    """
    told = [case.status.get("planDigest")]
    told.extend(plan_digest(job) for job in case.observed.jobs.values())
    return snapshot.digest in told


def _is_given(case: Case, snapshot: Snapshot, given: Snapshot, data: Doc) -> bool:
    """Whether a snapshot is what the spec gives now.

    A person may have spread the work otherwise since it was written.
    """
    same_but_spread = effective_plan(snapshot, case.run) == given.plan
    return same_but_spread and digest_with(data, snapshot.plan) == snapshot.digest


def _take_snapshot(case: Case) -> Plan | tuple[Snapshot, Doc]:
    """The run's snapshot and the ConfigMap for it, or what has to happen before."""
    name = config_map_name(case.run.metadata.name)
    create, content = f"configmap/{name}", f"{CONTENT}configmap/{name}"
    absent = case.observed.snapshot_absent
    if case.run.spec.suspend and (absent or {create, content} & case.observed.refused.keys()):
        return suspend_all(case)  # whoever spoils the ConfigMap must not keep it at work
    refused = refused_create(case, create) or unreadable(case, content)
    if refused is not None:
        return refused
    begun = case.status.get("startTime") or case.observed.jobs
    if begun and not absent:
        return Plan(actions=(ReadSnapshot(name),))
    given = _admitted(case)
    if isinstance(given, Plan):
        return given
    if case.observed.waiting is not None:
        return wait_in_line(case, case.observed.waiting, {})
    snapshot, data = given
    return snapshot, config_map(case.document, data)


def _admitted(case: Case) -> Plan | tuple[Snapshot, Doc]:
    """What the run's spec, profile and Benchmarks give now, or what has to happen before."""
    names = benchmark_names(case.run)
    unread = tuple(name for name in names if name not in case.observed.benchmarks)
    if unread:
        return Plan(actions=(ReadBenchmarks(unread),))
    found = {name: case.observed.benchmarks[name] for name in names}
    absent = [name for name, benchmark in found.items() if benchmark is None]
    if absent:
        return wait_for_benchmarks(case, absent)
    known = {name: benchmark for name, benchmark in found.items() if benchmark is not None}
    try:
        return admit(case.run, case.uid, known, case.config)
    except EvalrunError as error:
        return fail(case, Failure(error.reason, explain(error)))


def _advance(case: Case, snapshot: Snapshot, plan: RunPlan) -> Plan:
    """Go on from the step at work, over all that are done already."""
    kinds = steps_of(plan)
    kind = current(kinds, case.status.get("step"))
    fields: Doc = {}
    while True:
        job = case.job(kind)
        if job is None or is_deleting(job) or condition_of(job, "Complete") is None:
            break
        after = following(kinds, kind)
        if after is None:
            fields |= follow(case, job, fields)
            return conclude(case, kind, job, plan, fields)
        wait = evidence_missing(case, job)
        if wait is not None:
            return wait
        fields |= follow(case, job, fields)
        fields |= settled(case, job, fields)
        kind = after
        fields["step"] = kind.step
    if job is not None and not is_deleting(job):
        fields |= follow(case, job, fields)
    strays = tuple(delete(other) for other in case.active_jobs() if other is not job)
    if case.run.spec.suspend:
        return suspend(case, kind, job, fields, strays)
    outdated = next((job for job in case.active_jobs() if is_outdated(job, case.run)), None)
    if outdated is not None:
        return suspend_unseen(case, kind, outdated, fields)
    if job is None:
        # Another one may be at work, or stop: other shards may take other steps, and a process that
        # ended has not recorded the last step that it began.
        other = next((job for job in case.observed.jobs.values() if not is_finished(job)), None)
        if other is not None:
            decided = _wait_for_the_last_pods(case, other, kind, fields)
        else:
            decided = _begin(case, snapshot, plan, kind, fields)
    elif is_deleting(job):
        decided = _wait_for_the_last_pods(case, job, kind, fields)
    elif condition_of(job, "Failed") is not None:
        decided = give_up(case, job, fields)
    elif is_waiting(job):
        decided = wait_in_queue(case, job, kind, fields)
    else:
        decided = _watch(case, job, kind, plan, fields)
    return replace(decided, actions=(*decided.actions, *strays))


def _wait_for_the_last_pods(case: Case, job: Doc, kind: StepKind, fields: Doc) -> Plan:
    """The Job is being deleted; its successor has the same name."""
    attempts = case.attempts_of(job)
    stalled = lost_node(case, attempts)
    message = stalled[1] if stalled else "waiting for the last pods to end"
    status = at_work(case, kind, message, fields, stalled)
    return Plan(status=status, requeue_after=look_again_seconds(case, attempts))


def _begin(case: Case, snapshot: Snapshot, plan: RunPlan, kind: StepKind, fields: Doc) -> Plan:
    """Create the Job of a step."""
    name = job_name(case.run.metadata.name, kind)
    if f"job/{name}" in case.observed.conflicts:
        return fail(case, _name_taken("Job", name), **fields)
    refused = refused_create(case, f"job/{name}")
    if refused is not None:
        return refused
    try:
        check_again(case.run, case.uid, snapshot.plan, plan, case.config)
    except EvalrunError as error:
        return fail(case, Failure(error.reason, explain(error)), **fields)
    remaining = None
    deadline = case.run.spec.active_deadline_seconds
    if deadline is not None:
        remaining = deadline - int(case.known(fields, "activeSeconds", 0))
        if remaining <= 0:
            return fail(case, too_late(deadline), **fields)
    if case.observed.waiting is not None:
        return wait_in_line(case, case.observed.waiting, fields)
    job = build_job(case.document, case.run, kind, plan, snapshot, case.config, remaining)
    if is_suspended(job):
        # Where quota is free its queue admits it at once, and the wait is not worth a word.
        return Plan(actions=(CreateJob(job),), requeue_after=ADMISSION_SECONDS)
    return Plan(actions=(CreateJob(job),), status=at_work(case, kind, starting(kind, plan), fields))


def _watch(case: Case, job: Doc, kind: StepKind, plan: RunPlan, fields: Doc) -> Plan:
    """A Job is at work: see that its pods start, and tell how far they are."""
    budget = case.config.max_ignored_restarts * plan.shards
    disruptions = case.ledger.disruptions - case.forgiven
    if disruptions > budget:
        reason = reasons.DISRUPTED
        what = f"pods were disrupted {disruptions} times; {budget} are allowed"
        last = case.last_disruption
        what += f". The last: {last}" if last else ""
        return stop_short(case, job, Failure(reason, f"{what}. {reason.remedy}"), fields)
    check = check_start(case, job)
    if check.failure is not None:
        return stop_short(case, job, check.failure, fields)
    left = seconds_left(case, job, fields)
    if left is not None and left <= 0:
        deadline = case.run.spec.active_deadline_seconds or 0
        return stop_short(case, job, too_late(deadline), fields)
    message = check.message or activity(case, job, kind, plan)
    status = at_work(case, kind, message, fields, check.stalled)
    again = [seconds for seconds in (check.look_again_seconds, left) if seconds is not None]
    return Plan(status=status, requeue_after=min(again, default=None))


def _another_plan(name: str) -> Failure:
    reason = reasons.NAME_TAKEN
    what = (
        f"the ConfigMap {name} holds another plan than the run's spec gives: somebody else wrote "
        "it, or a Benchmark changed while the operator was restarted"
    )
    return Failure(reason, f"{what}. Delete it and the run, then apply the run again")


def _name_taken(kind: str, name: str) -> Failure:
    reason = reasons.NAME_TAKEN
    return Failure(reason, f"there is a {kind} {name} that is not this run's. {reason.remedy}")
