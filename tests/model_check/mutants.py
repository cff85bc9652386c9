"""Rules that are wrong on purpose. The check is worth as much as it notices."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from unittest import mock

from evalrun_api import reasons
from evalrun_operator import (
    case,
    endings,
    executor,
    job_queues,
    jobs,
    node_loss,
    reconcile,
    shelf,
    starting,
    store,
)
from evalrun_operator.activity import at_work
from evalrun_operator.decisions import Plan
from evalrun_operator.endings import delete, fail
from evalrun_operator.jobs import effective_plan
from evalrun_operator.outcomes import Failure, condition_of, is_deleting, is_finished
from evalrun_operator.owners import controller_uid
from model_check import documents, scenarios
from model_check.scenarios import Scenario

ONE = Scenario("one Job", scenarios.CPU, faults=1)
ONE_AT_ONCE = replace(ONE, paced=False)
THREE = Scenario("three Jobs", scenarios.GPU, faults=1)
HURRIED = replace(THREE, faults=2)
PAUSED = replace(ONE, acts=(scenarios.suspend(scenarios.CPU), scenarios.resume(scenarios.CPU)))
GOING = Scenario("deleted", scenarios.CPU, (scenarios.DELETE_SLOWLY,), faults=0)
FOREIGN = Scenario("a stranger", scenarios.GPU, strangers=(("Job", "trial-answer"),), faults=0)
QUEUED = Scenario("a queue", scenarios.QUEUED, faults=0)
TIMED = Scenario("a deadline", scenarios.DEADLINE, faults=0)
LOST = replace(THREE, nodes_die=True)
LOST_PAUSED = replace(PAUSED, nodes_die=True)
KEPT = Scenario("a time to live", scenarios.TTL, faults=0)

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Mutant:
    """A wrong rule. patches: object, attribute, value. where: it is looked for."""

    name: str
    where: Scenario
    patches: tuple[Patch, ...]

    def applied(self) -> ExitStack:
        """A context in which the rule is wrong."""
        stack = ExitStack()
        for target, name, value in self.patches:
            stack.enter_context(mock.patch.object(target, name, value))
        return stack


def _changed(function: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    """The function with its result changed."""
    return lambda *arguments, **named: change(function(*arguments, **named))


def _blind(observed: Any, *rest: Any, _decide: Any = reconcile.reconcile) -> Plan:
    metadata = {k: v for k, v in observed.run["metadata"].items() if k != "deletionTimestamp"}
    decided: Plan = _decide(replace(observed, run={**observed.run, "metadata": metadata}), *rest)
    return decided


def _by_label(document: Any, kind: str, _told: Any = controller_uid) -> Any:
    return "uid-1" if kind == "EvaluationRun" else _told(document, kind)


def _busy(observed: Any, now: Any) -> Plan:
    spent = observed.run["status"].get("activeSeconds", 0) + 1
    return Plan(status={**observed.run["status"], "activeSeconds": spent}, urgent=True)


def _begin_anyway(found: Any, kind: Any, job: Any, fields: Any, strays: Any) -> Plan:
    if job is not None:
        return endings.suspend(found, kind, job, fields, strays)
    snapshot = found.observed.snapshot
    return reconcile._begin(found, snapshot, effective_plan(snapshot, found.run), kind, fields)


def _stopped_again(fields: Any) -> Any:
    queue = fields.get("queue") or {}
    return fields | {"queue": {**queue, "evictions": queue.get("evictions", 0) + 1}}


def _begin_at_once(found: Any, job: Any, kind: Any, fields: Any) -> Plan:
    if is_deleting(job):
        return _wait(found, job, kind, fields)
    snapshot = found.observed.snapshot
    return reconcile._begin(found, snapshot, effective_plan(snapshot, found.run), kind, fields)


def _refuse(found: Any, name: str) -> Plan | None:
    text = found.observed.refused.get(name)
    return fail(found, Failure(reasons.CREATE_REFUSED, text)) if text else None


def _keep(observed: Any, now: Any, _decide: Any = reconcile._finished) -> Plan:
    decided: Plan = _decide(observed, now)
    left = [delete(job) for job in observed.jobs.values() if not is_finished(job)]
    return replace(decided, actions=tuple(left), requeue_after=None)


def _any_end(job: Any, kind: str) -> Any:
    return condition_of(job, kind) or condition_of(job, "Failed")


def _nothing(*arguments: Any, **named: Any) -> None:
    return None


RULES = jobs.POD_FAILURE_POLICY["rules"]
LENIENT = {"rules": [RULES[0], *RULES[2:]]}
STRICT = {"rules": [RULES[0] | {"action": "FailJob"}, *RULES[1:]]}
_at_work = _changed(at_work, lambda status: {k: v for k, v in status.items() if k != "step"})
_wait = reconcile._wait_for_the_last_pods
_idle = starting.StartCheck()

MUTANTS = (
    Mutant("acts without expectations", ONE, ((shelf.Shelf, "is_news", lambda *_: True),)),
    Mutant("forgets nothing of what it has told", PAUSED, ((store.Store, "settled", _nothing),)),
    Mutant("does not doubt a write without an answer", PAUSED, ((store.Store, "doubt", _nothing),)),
    Mutant("does not learn that objects are gone", ONE, ((store.Store, "gone", _nothing),)),
    Mutant("ignores deletionTimestamp", GOING, ((reconcile, "reconcile", _blind),)),
    Mutant("forgets to record the step", THREE, ((reconcile, "at_work", _at_work),)),
    Mutant(
        "always begins at the first step",
        THREE,
        ((reconcile, "current", lambda kinds, recorded: kinds[0]),),
    ),
    Mutant(
        "takes whatever has its label for its own",
        FOREIGN,
        tuple((module, "controller_uid", _by_label) for module in (store, executor, documents)),
    ),
    Mutant(
        "does not note a name that is taken", FOREIGN, ((store.Store, "put_conflict", _nothing),)
    ),
    Mutant("writes after the end", ONE, ((reconcile, "_finished", _busy),)),
    Mutant(
        "forgives each disruption at once",
        ONE_AT_ONCE,
        ((case.Case, "forgiven", property(lambda self: self.ledger.disruptions)),),
    ),
    Mutant(
        "takes a restart for a resume",
        ONE,
        ((case.Case, "is_resumed", property(lambda self: not self.observed.snapshot_absent)),),
    ),
    Mutant("takes a disruption for a failure", ONE, ((jobs, "POD_FAILURE_POLICY", STRICT),)),
    Mutant("takes a failure for a disruption", ONE, ((jobs, "POD_FAILURE_POLICY", LENIENT),)),
    Mutant("takes a failed Job for a good one", THREE, ((reconcile, "condition_of", _any_end),)),
    Mutant(
        "goes on before the evidence",
        ONE,
        ((endings, "evidence_missing", _nothing), (reconcile, "evidence_missing", _nothing)),
    ),
    Mutant("succeeds without results", ONE, ((endings, "results_status", lambda message: {}),)),
    Mutant(
        "leaves a suspended run's Job at work",
        PAUSED,
        ((reconcile, "suspend", _changed(endings.suspend, lambda p: replace(p, actions=()))),),
    ),
    Mutant("creates for a suspended run", PAUSED, ((reconcile, "suspend", _begin_anyway),)),
    Mutant(
        "says stopped while pods end",
        PAUSED,
        (
            (
                endings,
                "_suspended",
                lambda found, actions, stopped, fields, _say=endings._suspended: _say(
                    found, actions, True, fields
                ),
            ),
        ),
    ),
    Mutant("gives up no lost pod", LOST, ((reconcile, "end_lost_pods", lambda *_: ((), None)),)),
    Mutant(
        "gives a pod up at once", LOST, ((node_loss, "parse_time", lambda text: text and LONG_AGO),)
    ),
    Mutant(
        "lets a Job that is deleted wait for a lost pod",
        LOST_PAUSED,
        ((node_loss, "is_deleting", lambda job: False),),
    ),
    Mutant(
        "takes each look at a queued Job for an eviction",
        QUEUED,
        ((reconcile, "follow", _changed(job_queues.follow, _stopped_again)),),
    ),
    Mutant("sets no timer", ONE, ((endings, "LOOK_AGAIN_SECONDS", None),)),
    Mutant("waits for ever for a pod", ONE, ((reconcile, "check_start", lambda *_: _idle),)),
    Mutant(
        "gives a Job no deadline",
        TIMED,
        (
            (
                reconcile,
                "build_job",
                lambda *arguments, _build=jobs.build_job: _build(*arguments[:-1], None),
            ),
        ),
    ),
    Mutant("forgets the time to live", KEPT, ((reconcile, "_finished", _keep),)),
    Mutant("gives up at the first refusal", ONE, ((reconcile, "refused_create", _refuse),)),
    Mutant(
        "does not wait for another step's Job",
        HURRIED,
        ((reconcile, "_wait_for_the_last_pods", _begin_at_once),),
    ),
    Mutant(
        "begins anew while the old Job ends",
        PAUSED,
        ((reconcile, "is_deleting", lambda job: False),),
    ),
)
