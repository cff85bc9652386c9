"""Conditions of a run, as metav1.Condition: what holds, for programs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from evalrun_api import reasons
from evalrun_api.status import ConditionType
from evalrun_operator.decisions import Doc
from evalrun_operator.text import tidy

MAX_MESSAGE = 4096


@dataclass(frozen=True)
class Verdict:
    """What is to be said of one condition."""

    type: ConditionType
    status: Literal["True", "False"]
    reason: str
    message: str = ""


def timestamp(now: datetime) -> str:
    """A time as the API server writes it: UTC, whole seconds."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def merge(
    before: Iterable[Doc], verdicts: Iterable[Verdict], generation: int, now: datetime
) -> list[Doc]:
    """The conditions with the verdicts in place; a time changes only with the status it is of.

    That of a stalled run also changes with the reason: each wait has a deadline of its own, and the
    condition is the only memory of when it began.
    """
    conditions = {entry["type"]: entry for entry in before}
    for verdict in verdicts:
        old = conditions.get(verdict.type)
        since = timestamp(now)
        another_wait = (
            old is not None
            and (verdict.type, verdict.status) == ("Stalled", "True")
            and old.get("reason") != verdict.reason
        )
        if old is not None and old.get("status") == verdict.status and not another_wait:
            since = old.get("lastTransitionTime", since)
        conditions[verdict.type] = {
            "type": verdict.type,
            "status": verdict.status,
            "reason": verdict.reason,
            "message": tidy(verdict.message, MAX_MESSAGE),
            "lastTransitionTime": since,
            "observedGeneration": generation,
        }
    return list(conditions.values())


def at_work(reason: str, message: str, stalled: tuple[str, str] | None) -> list[Verdict]:
    """Of a run that is under way. stalled: reason and message, when only a person can help."""
    verdicts = [
        Verdict("Ready", "False", reason, message),
        Verdict("Reconciling", "True", reason, message),
    ]
    if stalled is not None:
        verdicts.append(Verdict("Stalled", "True", *stalled))
    else:
        verdicts.append(Verdict("Stalled", "False", reason))
    return verdicts


def in_line(message: str) -> list[Verdict]:
    """Of a run that waits for a cap."""
    reason = reasons.CAP_REACHED.name
    return [
        Verdict("Ready", "False", reason, message),
        Verdict("Reconciling", "True", reason, message),
        Verdict("Stalled", "False", reason),
    ]


def suspended(stopped: bool, message: str, stalled: tuple[str, str] | None = None) -> list[Verdict]:
    """Of a suspended run. stopped: whether its pods are gone. stalled: why they cannot go."""
    reason = "Suspended" if stopped else "Stopping"
    return [
        Verdict("Ready", "False", "Suspended", message),
        Verdict("Reconciling", "False" if stopped else "True", reason, message),
        Verdict("Stalled", "True", *stalled)
        if stalled
        else Verdict("Stalled", "False", "Suspended"),
        Verdict("Suspended", "True" if stopped else "False", reason, message),
    ]


def succeeded(trusted: bool, message: str, doubt: str) -> list[Verdict]:
    """Of a run that has its results. doubt: what stands against the score, where anything does."""
    return [
        Verdict("Ready", "True", "Completed", message),
        Verdict("Reconciling", "False", "Completed"),
        Verdict("Stalled", "False", "Completed"),
        Verdict("Complete", "True", "Completed", message),
        Verdict("Trusted", "True", "Completed", doubt)
        if trusted
        else Verdict("Trusted", "False", "InvalidAnswers", doubt),
    ]


def failed(reason: str, message: str) -> list[Verdict]:
    """Of a run that is given up."""
    return [
        Verdict("Ready", "False", reason, message),
        Verdict("Reconciling", "False", reason),
        Verdict("Stalled", "True", reason, message),
        Verdict("Failed", "True", reason, message),
    ]


def resumed() -> list[Verdict]:
    """Of a run that was suspended and goes on."""
    return [Verdict("Suspended", "False", "Resumed")]
