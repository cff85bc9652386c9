"""What pods cost and contributed, also those that are gone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from evalrun_api.judge import JudgeUsage
from evalrun_api.names import RUN_UID_LABEL
from evalrun_api.operator_config import OperatorConfig
from evalrun_operator.attempts import Attempt, attempt_of
from evalrun_operator.decisions import MAX_COUNT, Doc, Ledger

MAX_NUMBER = 1e15
"""Of what a status holds as text: with two decimals it still fits."""


def settle(pod: Doc, now: datetime) -> Ledger:
    """What a pod contributed that is gone, or is as it last was."""
    run_uid = str((pod["metadata"].get("labels") or {}).get(RUN_UID_LABEL, ""))
    return contribution(attempt_of(pod, run_uid), now, gone=True)


def contribution(attempt: Attempt, now: datetime, *, gone: bool = False) -> Ledger:
    """What one attempt contributed so far.

    gone: the pod no longer exists. One that vanished at work was deleted, which counts against
    nothing.
    """
    disrupted = attempt.state == "Failed" and not attempt.counts_as_failure
    vanished = gone and attempt.started and attempt.state in ("Running", "Waiting")
    said = attempt.message
    return Ledger(
        gpu_seconds=held_seconds(attempt, now) * attempt.accelerators,
        gpu_idle_seconds=idle_seconds(attempt, now) * attempt.accelerators,
        failures=int(attempt.counts_as_failure),
        disruptions=int(disrupted or vanished),
        worker_restarts=said.restarts if said is not None else 0,
        stages=_stages(attempt),
    )


def held_seconds(attempt: Attempt, now: datetime) -> float:
    """For how long it holds accelerators: from being bound to a node until the container's end."""
    if attempt.bound_at is None or not attempt.accelerators:
        return 0.0
    return _between(attempt.bound_at, attempt.ended_at or now)


def idle_seconds(attempt: Attempt, now: datetime) -> float:
    """For how long of that no request was being answered, as far as it is known.

    Of a pod at work that is the time before its start; the rest is counted when it ends, and leaves
    its word. That of one that left none is not known, and not counted.
    """
    held = held_seconds(attempt, now)
    if not attempt.started or attempt.bound_at is None:
        return held
    waited = min(_between(attempt.bound_at, attempt.started_at or attempt.bound_at), held)
    if attempt.message is None or attempt.ended_at is None:
        return waited
    answering = attempt.message.seconds.generate if attempt.message.seconds is not None else 0
    return max(held - answering, waited)


def _stages(attempt: Attempt) -> dict[str, int]:
    """Where an attempt's time went, once it has ended."""
    if attempt.ended_at is None:
        return {}
    said = attempt.message.seconds if attempt.message is not None else None
    spent: dict[str, int] = dict(said.document()) if said is not None else {}
    if attempt.started_at is not None:
        before = round(_between(attempt.created_at, attempt.started_at))
        spent["start"] = spent.get("start", 0) + before
    if attempt.accelerators:
        # The runner knows of its own process alone, not of the time before.
        spent["idle"] = round(idle_seconds(attempt, attempt.ended_at))
    return {name: seconds for name, seconds in spent.items() if seconds}


def _between(begun: datetime, ended: datetime) -> float:
    return max((ended - begun).total_seconds(), 0.0)


def total(attempts: Iterable[Attempt], gone: Ledger, now: datetime) -> Ledger:
    """What all pods of a run contributed: those that are there, and those that are gone."""
    found = gone
    for attempt in attempts:
        found = found.plus(contribution(attempt, now))
    return found


def recorded(status: Doc) -> Ledger:
    """What a status says of pods that are gone."""
    gone = status.get("gonePods") or {}
    return Ledger(
        gpu_seconds=float(gone.get("gpuSeconds") or 0),
        gpu_idle_seconds=float(gone.get("gpuIdleSeconds") or 0),
        failures=int(gone.get("failures") or 0),
        disruptions=int(gone.get("disruptions") or 0),
        worker_restarts=int(gone.get("workerRestarts") or 0),
        stages=dict(gone.get("time") or {}),
    )


def record(ledger: Ledger, forgiven: int) -> Doc | None:
    """The same, for a status. forgiven: disruptions up to the last resume."""
    if ledger == Ledger() and not forgiven:
        return None
    rare: Doc = {
        "gpuIdleSeconds": _number(ledger.gpu_idle_seconds) if ledger.gpu_idle_seconds else None,
        "forgiven": forgiven,
        "workerRestarts": min(ledger.worker_restarts, MAX_COUNT),
        "time": {name: min(spent, MAX_COUNT) for name, spent in ledger.stages.items()},
    }
    return {
        "gpuSeconds": _number(ledger.gpu_seconds),
        "failures": ledger.failures,
        "disruptions": ledger.disruptions,
        **{name: value for name, value in rare.items() if value},
    }


def usage_status(
    ledger: Ledger, judges: Iterable[JudgeUsage], config: OperatorConfig, before: Doc
) -> Doc | None:
    """status.usage; None for a run that holds no accelerator and asks no judge.

    judges: what score pods said that judging took: each one counts what was bought for the run
    before it. Nothing in it falls, also where pods went unseen.
    """
    used: Doc = {}
    if ledger.gpu_seconds > 0:
        used["gpuSeconds"] = _number(ledger.gpu_seconds)
        used["gpuIdleSeconds"] = _number(ledger.gpu_idle_seconds)
        if config.price_per_accelerator_hour is not None:
            price = config.price_per_accelerator_hour
            used["cost"] = _number(ledger.gpu_seconds / 3600 * price, 2)
    found = _rising(used, before)
    for judge in judges:
        found = _rising(
            {"judgeRequests": judge.requests, "judgeCost": _number(judge.cost, 4)}, found
        )
    return found or None


def time_status(ledger: Ledger, before: Doc) -> Doc | None:
    """status.time; None while no pod has ended. Nothing in it falls."""
    spent = {name: min(seconds, MAX_COUNT) for name, seconds in ledger.stages.items()}
    return _rising(spent, before) or None


def added(before: Doc, more: Mapping[str, int]) -> Doc:
    """Stages with what no pod tells of: seconds by name."""
    return before | {name: before.get(name, 0) + seconds for name, seconds in more.items()}


def _rising(now: Mapping[str, Any], before: Doc) -> Doc:
    """Of each number the larger one."""
    found = dict(before)
    for name, value in now.items():
        if name not in found or float(value) > float(found[name]):
            found[name] = value
    return found


def _number(value: float, decimals: int = 0) -> str:
    return f"{min(value, MAX_NUMBER):.{decimals}f}"
