"""The operator's writes, as the API server recorded them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable

WRITING = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_RUN = re.compile(r"run-\d+")


def writes_by_run(lines: Iterable[str], user: str) -> tuple[Counter[str], Counter[str]]:
    """Successful writes of a user, the Lease excepted: by NAMESPACE/RUN, and by what they wrote.

    lines: of the audit log.
    """
    runs: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for line in lines:
        event = json.loads(line)
        reference = event.get("objectRef") or {}
        if (
            event["user"].get("username") != user
            or event["verb"] not in WRITING
            or reference.get("resource") == "leases"
            or event.get("responseStatus", {}).get("code", 500) >= 300
        ):
            continue
        named = _RUN.match(reference.get("name", ""))
        assert named is not None, line
        runs[f"{reference['namespace']}/{named[0]}"] += 1
        what = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
        kinds[f"{event['verb']} {what}"] += 1
    return runs, kinds
