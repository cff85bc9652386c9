"""Events on transitions: what `kubectl describe` shows, derived from two statuses."""

from __future__ import annotations

from evalrun_operator.decisions import Doc, Event
from evalrun_operator.text import tidy

MAX_NOTE = 1000


def events_of(before: Doc, after: Doc) -> tuple[Event, ...]:
    """What is worth telling of a change of status. At most one."""
    old, new = before.get("phase"), after.get("phase")
    if new == old or new is None:
        return ()
    ready: Doc = next(
        (entry for entry in after.get("conditions") or () if entry["type"] == "Ready"), {}
    )
    message = tidy(ready.get("message") or new, MAX_NOTE)
    if new == "Failed":
        return (Event("Warning", str(ready.get("reason") or "Failed"), message),)
    if new == "Pending":
        return (Event("Warning", "Waiting", message),)
    if old == "Suspended":
        return (Event("Normal", "Resumed", message),)
    return (Event("Normal", new, message),)
