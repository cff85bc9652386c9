"""Events on transitions: what `kubectl describe` shows, derived from two statuses."""

from __future__ import annotations

from typing import Literal

from evalrun_operator.decisions import Doc, Event
from evalrun_operator.text import tidy

MAX_NOTE = 1000


def events_of(before: Doc, after: Doc) -> tuple[Event, ...]:
    """What is worth telling of a change of status. At most one."""
    old, new = before.get("phase"), after.get("phase")
    ready, stalled = _condition(after, "Ready"), _condition(after, "Stalled")
    waits = _is_stalled_anew(_condition(before, "Stalled"), stalled)
    waits_anew = new == "Queued" and ready.get("reason") != _condition(before, "Ready").get(
        "reason"
    )
    if new is None:
        return ()
    if new == old and not waits_anew:
        return (_for_a_person(stalled),) if waits else ()
    message = tidy(ready.get("message") or new, MAX_NOTE)
    if new == "Failed":
        return (Event("Warning", str(ready.get("reason") or "Failed"), message),)
    if new == "Pending":
        return (Event("Warning", "Waiting", message),)
    if new == "Queued":
        kind: Literal["Normal", "Warning"] = (
            "Warning" if stalled.get("status") == "True" else "Normal"
        )
        return (Event(kind, str(ready.get("reason") or new), message),)
    if waits:
        return (_for_a_person(stalled),)
    if new == "Succeeded" and _condition(after, "Trusted").get("status") == "False":
        trusted = _condition(after, "Trusted")
        return (Event("Warning", str(trusted["reason"]), tidy(trusted["message"], MAX_NOTE)),)
    if old == "Suspended":
        return (Event("Normal", "Resumed", message),)
    return (Event("Normal", new, message),)


def _is_stalled_anew(before: Doc, after: Doc) -> bool:
    """Whether the run waits for a person that did not, or for another thing."""
    if after.get("status") != "True":
        return False
    return before.get("status") != "True" or before.get("reason") != after.get("reason")


def _for_a_person(stalled: Doc) -> Event:
    """What the run waits for, and what to do."""
    message = tidy(stalled.get("message") or "", MAX_NOTE)
    return Event("Warning", str(stalled["reason"]), message, once=True)


def _condition(status: Doc, kind: str) -> Doc:
    return next((entry for entry in status.get("conditions") or () if entry["type"] == kind), {})
