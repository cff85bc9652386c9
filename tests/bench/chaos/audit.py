"""The operator's writes, as the API server recorded them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

WRITING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_RUN = re.compile(r"run-\d+")


def writes_by_run(lines: Iterable[str], user: str) -> tuple[Counter[str], Counter[str]]:
    """Successful writes of a user, the Lease excepted: by NAMESPACE/RUN, and by what they wrote.

    lines: of the audit log.
    """
    runs: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for event in _writes(lines, user):
        reference = event["objectRef"]
        if _code(event) >= 300:
            continue
        named = _RUN.match(reference.get("name", ""))
        assert named is not None, event
        runs[f"{reference['namespace']}/{named[0]}"] += 1
        what = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
        kinds[f"{event['verb']} {what}"] += 1
    return runs, kinds


def fenced(lines: Iterable[str], user: str) -> list[str]:
    """Statuses of runs that the API server refused since its rules forbid them.

    They freeze an outcome and let no counter fall, so a watch never sees what was tried. A status
    that is made from an old version is refused as that (409) before its rules are asked.
    """
    return [
        f"{event['objectRef']['namespace']}/{event['objectRef']['name']}: a status was refused"
        for event in _writes(lines, user)
        if event["objectRef"].get("resource") == "evaluationruns" and _code(event) == 422
    ]


def _writes(lines: Iterable[str], user: str) -> Iterator[dict[str, Any]]:
    for line in lines:
        event: dict[str, Any] = json.loads(line)
        ours = event["user"].get("username") == user and event["verb"] in WRITING
        if ours and (event.get("objectRef") or {}).get("resource") != "leases":
            yield event


def _code(event: dict[str, Any]) -> int:
    return int(event.get("responseStatus", {}).get("code", 500))
