"""What is to be done about a run, from what is observed of it. Pure.

Level-triggered: nothing here remembers. A run goes through the Jobs of `steps_of` one after
another; `status.step` says which is at work, and a finished Job whose successor is not recorded yet
is simply looked at again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError
from evalrun_api.operator_config import OperatorConfig
from evalrun_api.plan import RunPlan
from evalrun_api.status import Phase
from evalrun_operator import status as statuses
from evalrun_operator.admission import admit, benchmark_names, explain, read_run
from evalrun_operator.attempts import parse_time
from evalrun_operator.case import Case
from evalrun_operator.conditions import timestamp
from evalrun_operator.decisions import (
    Action,
    CreateConfigMap,
    CreateJob,
    DeleteJob,
    Doc,
    Observed,
    Plan,
    ReadBenchmarks,
    ReadSnapshot,
    Snapshot,
)
from evalrun_operator.jobs import build_job, effective_plan
from evalrun_operator.outcomes import (
    Failure,
    condition_of,
    ended_at,
    failure_of,
    is_deleting,
    is_finished,
)
from evalrun_operator.pods import accelerators_of
from evalrun_operator.snapshot import config_map, config_map_name
from evalrun_operator.starting import StartCheck, check_start
from evalrun_operator.steps import ALL, PHASES, StepKind, current, following, job_name, steps_of
from evalrun_operator.summary import results_status, time_status
from evalrun_operator.transitions import events_of

EVIDENCE_SECONDS = 30.0
"""How long a finished Job's pods may take to be seen: watches of two kinds have no order."""
LOOK_AGAIN_SECONDS = 1.0
BENCHMARK_RETRY_SECONDS = 15.0


def reconcile(observed: Observed, now: datetime, config: OperatorConfig) -> Plan:
    """Decide about one run."""
    document = observed.run
    if document["metadata"].get("deletionTimestamp"):
        return Plan()  # garbage collection takes its children, by ownerReferences
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
        events=events_of(before, plan.status),
    )


def _finished(observed: Observed, now: datetime) -> Plan:
    """Of a run that has ended: its status stays; what still works stops; children go in time."""
    run = observed.run
    status, spec = run["status"], run.get("spec") or {}
    alive = [job for job in observed.jobs.values() if not is_deleting(job)]
    doomed = [job for job in alive if not is_finished(job)]
    ttl = spec.get("ttlSecondsAfterFinished")
    ended = parse_time(status["completionTime"])
    requeue = None
    if ttl is not None and ended is not None and alive:
        left = (ended + timedelta(seconds=ttl) - now).total_seconds()
        if left <= 0:
            doomed = alive
        else:
            requeue = left
    return Plan(actions=tuple(_delete(job) for job in doomed), requeue_after=requeue)


def _decide(case: Case) -> Plan:
    begun = case.status.get("startTime") or case.active_jobs()
    if case.run.spec.suspend and not begun:
        return Plan(status=statuses.suspended(case, stopped=True))
    if f"configmap/{config_map_name(case.run.metadata.name)}" in case.observed.conflicts:
        return _fail(case, _name_taken("ConfigMap", config_map_name(case.run.metadata.name)))
    actions: list[Action] = []
    snapshot = case.observed.snapshot
    if snapshot is None:
        found = _take_snapshot(case)
        if isinstance(found, Plan):
            return found
        snapshot, document = found
        actions.append(CreateConfigMap(document))
    plan = effective_plan(snapshot, case.run, accelerators_of(case.run))
    decided = _advance(case, snapshot, plan)
    return replace(decided, actions=(*actions, *decided.actions))


def _take_snapshot(case: Case) -> Plan | tuple[Snapshot, Doc]:
    """The run's snapshot and the ConfigMap for it, or what has to happen before."""
    if case.status.get("startTime") and not case.observed.snapshot_absent:
        return Plan(actions=(ReadSnapshot(config_map_name(case.run.metadata.name)),))
    names = benchmark_names(case.run)
    unread = tuple(name for name in names if name not in case.observed.benchmarks)
    if unread:
        return Plan(actions=(ReadBenchmarks(unread),))
    found = {name: case.observed.benchmarks[name] for name in names}
    absent = [name for name, benchmark in found.items() if benchmark is None]
    if absent:
        return _wait_for_benchmarks(case, absent)
    known = {name: benchmark for name, benchmark in found.items() if benchmark is not None}
    try:
        snapshot, data = admit(case.run, case.uid, known, case.config)
    except EvalrunError as error:
        return _fail(case, Failure(error.reason, explain(error)))
    return snapshot, config_map(case.document, data)


def _wait_for_benchmarks(case: Case, absent: list[str]) -> Plan:
    """A manifest may hold a run before its Benchmark, so it gets as long as a pod gets to start."""
    reason = reasons.BENCHMARK_NOT_FOUND
    what = f"there is no Benchmark {', '.join(absent)} in namespace {case.run.metadata.namespace}"
    created = parse_time(case.document["metadata"].get("creationTimestamp")) or case.now
    left = case.run.spec.start_deadline_seconds - (case.now - created).total_seconds()
    if left <= 0:
        return _fail(case, Failure(reason, f"{what}. {reason.remedy}"))
    status = statuses.working(case, "Pending", what, (reason.name, f"{what}. {reason.remedy}"))
    return Plan(status=status, requeue_after=min(left + 0.1, BENCHMARK_RETRY_SECONDS))


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
            return _conclude(case, job, fields)
        wait = _evidence_missing(case, job)
        if wait is not None:
            return wait
        fields |= _settled(case, job, fields)
        kind = after
        fields["step"] = kind.step
    strays = tuple(_delete(other) for other in case.active_jobs() if other is not job)
    if case.run.spec.suspend:
        return _suspend(case, kind, job, fields, strays)
    if case.status.get("phase") == "Suspended":
        fields["resumes"] = int(case.status.get("resumes") or 0) + 1
    if job is None:
        decided = _begin(case, snapshot, plan, kind, fields)
    elif is_deleting(job):
        decided = Plan(status=_at_work(case, kind, "waiting for the last pods to end", fields))
    elif condition_of(job, "Failed") is not None:
        decided = _give_up(case, job, fields)
    else:
        decided = _watch(case, job, kind, plan, fields)
    return replace(decided, actions=(*decided.actions, *strays))


def _begin(case: Case, snapshot: Snapshot, plan: RunPlan, kind: StepKind, fields: Doc) -> Plan:
    """Create the Job of a step."""
    name = job_name(case.run.metadata.name, kind)
    if f"job/{name}" in case.observed.conflicts:
        return _fail(case, _name_taken("Job", name), **fields)
    remaining = None
    deadline = case.run.spec.active_deadline_seconds
    if deadline is not None:
        remaining = deadline - int(_known(case, fields, "activeSeconds", 0))
        if remaining <= 0:
            reason = reasons.DEADLINE_EXCEEDED
            what = f"spec.activeDeadlineSeconds: the run's {deadline} s are used up"
            return _fail(case, Failure(reason, f"{what}. {reason.remedy}"), **fields)
    job = build_job(case.document, case.run, kind, plan, snapshot, case.config, remaining)
    fields["startTime"] = _known(case, fields, "startTime", timestamp(case.now))
    message = {
        "prepare": "checking the store, the model and the benchmarks",
        "answer": f"starting {plan.shards} shard{'s' * (plan.shards > 1)}",
        "score": "scoring the answers",
        "all": "starting",
    }[kind.command]
    return Plan(actions=(CreateJob(job),), status=_at_work(case, kind, message, fields))


def _watch(case: Case, job: Doc, kind: StepKind, plan: RunPlan, fields: Doc) -> Plan:
    """A Job is at work: see that its pods start, and tell how far they are."""
    budget = case.config.max_ignored_restarts * (1 + int(case.status.get("resumes") or 0))
    if case.ledger.disruptions > budget:
        reason = reasons.DISRUPTED
        what = f"pods were disrupted {case.ledger.disruptions} times; {budget} are allowed"
        return _fail(case, Failure(reason, f"{what}. {reason.remedy}"), **fields)
    check: StartCheck = check_start(case, job)
    if check.failure is not None:
        return _fail(case, check.failure, **fields)
    message = check.message or _activity(case, kind, plan)
    status = _at_work(case, kind, message, fields, check.stalled)
    return Plan(status=status, requeue_after=check.look_again_seconds)


def _conclude(case: Case, job: Doc, fields: Doc) -> Plan:
    """The last Job is complete: the run has its results, if its pod says where."""
    messages = [
        attempt.message
        for attempt in case.attempts_of(job)
        if attempt.state == "Succeeded" and attempt.message is not None
    ]
    if not messages:
        wait = _evidence_missing(case, job)
        if wait is not None:
            return wait
        # The pod is gone and its word with it. The step finds its output in the store, and says
        # the same again at once.
        return Plan(actions=(_delete(job),), requeue_after=LOOK_AGAIN_SECONDS)
    message = messages[-1]
    results = results_status(message)
    if results is None:
        what = "the score step ended well, and did not say where the results are"
        remedy = reasons.INTERNAL_ERROR.remedy
        return _fail(case, Failure(reasons.INTERNAL_ERROR, f"{what}. {remedy}"), **fields)
    fields |= _settled(case, job, fields)
    return Plan(status=statuses.succeeded(case, message, results, **fields))


def _evidence_missing(case: Case, job: Doc) -> Plan | None:
    """Wait until the pods of a Job that has just ended are seen as it left them."""
    attempts = case.attempts_of(job)
    told = any(attempt.state == "Succeeded" for attempt in attempts)
    at_work = any(attempt.state in ("Waiting", "Running") for attempt in attempts)
    since = (case.now - (ended_at(job) or case.now)).total_seconds()
    if (told and not at_work) or since > EVIDENCE_SECONDS:
        return None
    return Plan(requeue_after=LOOK_AGAIN_SECONDS)


def _give_up(case: Case, job: Doc, fields: Doc) -> Plan:
    """The Job failed: say why, once its pods are seen as it left them."""
    attempts = case.attempts_of(job)
    at_work = any(attempt.state in ("Waiting", "Running") for attempt in attempts)
    since = (case.now - (ended_at(job) or case.now)).total_seconds()
    if (at_work or not attempts) and since <= EVIDENCE_SECONDS / 6:
        return Plan(requeue_after=LOOK_AGAIN_SECONDS)
    failure = failure_of(job, attempts, case.run.spec.active_deadline_seconds)
    fields |= _settled(case, job, fields)
    return _fail(case, failure, **fields)


def _suspend(
    case: Case, kind: StepKind, job: Doc | None, fields: Doc, strays: tuple[Action, ...]
) -> Plan:
    """Delete the Job at work; its pods store what is finished first."""
    actions = strays
    first = case.status.get("phase") != "Suspended"
    if job is not None and not is_deleting(job):
        actions = (*strays, _delete(job))
        if first:
            fields |= _settled(case, job, fields)
    fields.setdefault("step", kind.step)
    stopped = job is None and not strays
    return Plan(actions=actions, status=statuses.suspended(case, stopped, **fields))


def _fail(case: Case, failure: Failure, **fields: object) -> Plan:
    """Give the run up, and stop what still works."""
    actions = tuple(_delete(job) for job in case.active_jobs())
    return Plan(actions=actions, status=statuses.failed(case, failure, **fields))


def _at_work(
    case: Case,
    kind: StepKind,
    message: str,
    fields: Doc,
    stalled: tuple[str, str] | None = None,
) -> Doc:
    phase: Phase = _phase_of_all(case) if kind is ALL else kind.phase
    fields = {"step": kind.step, **fields}
    return statuses.working(case, phase, message, stalled, **fields)


def _phase_of_all(case: Case) -> Phase:
    """Of one process that does it all: as it says itself, and never backwards."""
    order = list(PHASES.values())
    said = [PHASES[live.step] for live in case.observed.progress.values() if live.step in PHASES]
    before = case.status.get("phase")
    return max([order[0], *said, *([before] if before in order else [])], key=order.index)


def _activity(case: Case, kind: StepKind, plan: RunPlan) -> str:
    """What the pods do, in their own words where there is one, in numbers where there are more."""
    live = [
        case.observed.progress[attempt.uid]
        for attempt in case.attempts
        if attempt.uid in case.observed.progress and attempt.state == "Running"
    ]
    if plan.shards > 1 and kind.indexed:
        running = sum(attempt.state == "Running" for attempt in case.attempts)
        return f"{running} of {plan.shards} shards at work"
    return live[-1].activity if live else "the pod is starting"


def _settled(case: Case, job: Doc, fields: Doc) -> Doc:
    """What the end of a Job adds to the run's time: counted once, with the change it comes with."""
    begun = parse_time((job.get("status") or {}).get("startTime"))
    until = ended_at(job) or case.now
    seconds = max((until - begun).total_seconds(), 0.0) if begun else 0.0
    spent = int(_known(case, fields, "activeSeconds", 0))
    finished = [a.message for a in case.attempts_of(job) if a.message is not None]
    time = time_status(_known(case, fields, "time", {}), finished)
    return {"activeSeconds": spent + round(seconds), **({"time": time} if time else {})}


def _known(case: Case, fields: Doc, name: str, otherwise: Any) -> Any:
    """A field of the status as it will be: decided just now, or as it was."""
    return fields.get(name) or case.status.get(name) or otherwise


def _delete(job: Doc) -> DeleteJob:
    return DeleteJob(job["metadata"]["name"], job["metadata"]["uid"])


def _name_taken(kind: str, name: str) -> Failure:
    reason = reasons.NAME_TAKEN
    return Failure(reason, f"there is a {kind} {name} that is not this run's. {reason.remedy}")
