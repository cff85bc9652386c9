"""What pods cost and contributed, also those that are gone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from evalrun_api.names import RUN_UID_LABEL
from evalrun_api.operator_config import OperatorConfig
from evalrun_operator.attempts import Attempt, attempt_of
from evalrun_operator.decisions import Doc, Ledger


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
    return Ledger(
        gpu_seconds=gpu_seconds(attempt, now),
        failures=int(attempt.counts_as_failure),
        disruptions=int(disrupted or vanished),
    )


def gpu_seconds(attempt: Attempt, now: datetime) -> float:
    """Accelerators times seconds held: from being bound to a node until the container's end."""
    if attempt.bound_at is None or not attempt.accelerators:
        return 0.0
    until = attempt.ended_at or now
    return max((until - attempt.bound_at).total_seconds(), 0.0) * attempt.accelerators


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
        failures=int(gone.get("failures") or 0),
        disruptions=int(gone.get("disruptions") or 0),
    )


def record(ledger: Ledger, forgiven: int) -> Doc | None:
    """The same, for a status. forgiven: disruptions up to the last resume."""
    if ledger == Ledger() and not forgiven:
        return None
    return {
        "gpuSeconds": f"{ledger.gpu_seconds:.0f}",
        "failures": ledger.failures,
        "disruptions": ledger.disruptions,
        **({"forgiven": forgiven} if forgiven else {}),
    }


def usage_status(ledger: Ledger, config: OperatorConfig) -> Doc | None:
    """status.usage; None for a run that holds no accelerator."""
    if ledger.gpu_seconds <= 0:
        return None
    usage = {"gpuSeconds": f"{ledger.gpu_seconds:.0f}"}
    if config.price_per_accelerator_hour is not None:
        usage["cost"] = f"{ledger.gpu_seconds / 3600 * config.price_per_accelerator_hour:.2f}"
    return usage
