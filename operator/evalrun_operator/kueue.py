"""What Kueue says of a Job that waits in a queue: its Workload's conditions, put into a word.

Whatever a Workload says is untrusted: whoever may write Workloads may write one about any Job.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from evalrun_operator.decisions import Doc, Word
from evalrun_operator.owners import controller_uid
from evalrun_operator.text import tidy

GROUP: Final = "kueue.x-k8s.io"
JOB_UID_LABEL: Final = f"{GROUP}/job-uid"
"""On Workloads, set by Kueue: the uid of the Job."""

REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
EVICTED: Final = "Evicted"
PREEMPTED: Final = "Preempted"
MAX_WORDS = 700

SILENT: Final = Word("Silent")
ABSENT: Final = Word("Absent")


def job_of(workload: Doc) -> str | None:
    """The uid of the Job that a Workload is of, by its controller."""
    return controller_uid(workload, "Job")


def word_of(workload: Doc) -> Word | None:
    """What a Workload says of its Job, which is suspended; None while it says nothing."""
    status = workload.get("status") or {}
    conditions = {entry.get("type"): entry for entry in status.get("conditions") or ()}
    reserved = conditions.get("QuotaReserved") or {}
    evicted = conditions.get("Evicted") or {}
    was_evicted = evicted.get("status") == "True"
    if (workload.get("spec") or {}).get("active") is False:
        why = f" ({_text(evicted)})" if was_evicted and evicted.get("message") else ""
        name = workload["metadata"]["name"]
        return Word("Unusable", f"its Workload {name} is deactivated (spec.active){why}")
    if (conditions.get("Admitted") or {}).get("status") == "True":
        return None  # the Job is about to begin
    if reserved.get("status") == "True":
        return Word("Pending", _checks(status.get("admissionChecks") or ()))
    if reserved.get("reason") == "Inadmissible":
        return Word("Unusable", _text(reserved))
    if was_evicted:
        return Word("Evicted", _of_both(evicted, reserved), _reason(evicted))
    return Word("Pending", _text(reserved)) if reserved else None


def _of_both(evicted: Mapping[str, Any], reserved: Mapping[str, Any]) -> str:
    """Why it lost its quota, and why it has not got it again."""
    texts = dict.fromkeys((_text(evicted), _text(reserved)))
    return "; ".join(text for text in texts if text)


def _checks(checks: Iterable[Doc]) -> str:
    """Of a Workload that has its quota: the admission checks that it still waits for."""
    waited = [check for check in checks if check.get("state") != "Ready"]
    if not waited:
        return "its quota is reserved"
    told = (
        f"{check.get('name')}: {check.get('message') or check.get('state')}" for check in waited
    )
    return tidy(f"its quota is reserved; admission checks: {', '.join(told)}", MAX_WORDS)


def _reason(condition: Mapping[str, Any]) -> str:
    reason = str(condition.get("reason") or "")
    return reason if REASON.fullmatch(reason) else EVICTED


def _text(condition: Mapping[str, Any]) -> str:
    return tidy(condition.get("message") or "", MAX_WORDS)
