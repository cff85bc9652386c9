"""What the API server's own log says of the operator's requests."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cluster.operator_process import USER

WRITES = frozenset({"create", "update", "patch", "delete"})


class Request(NamedTuple):
    """One that the API server carried out or refused. what: resource and subresource."""

    verb: str
    what: str
    namespace: str
    name: str
    code: int


class AuditLog:
    """Reads what is new in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> list[Request]:
        """The operator's requests that were logged since the last call."""
        return list(self._read())

    def _read(self) -> Iterator[Request]:
        with self._path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            assert size >= self._offset, f"{self._path} was begun anew: requests are missing"
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                event: dict[str, Any] = json.loads(line)
                reference = event.get("objectRef") or {}
                if event["user"].get("username") != USER:
                    continue
                what = [reference.get("resource", ""), reference.get("subresource", "")]
                yield Request(
                    event["verb"],
                    "/".join(filter(None, what)),
                    reference.get("namespace", ""),
                    reference.get("name", ""),
                    int((event.get("responseStatus") or {}).get("code") or 0),
                )


def duplicates(requests: list[Request]) -> list[list[Request]]:
    """For each creation of a Job beyond its first, all that was asked about its run.

    No run here is suspended; those that are deleted have no Jobs afterwards.
    """
    made = Counter(
        (r.namespace, r.name)
        for r in requests
        if (r.verb, r.what) == ("create", "jobs") and r.code == 201
    )
    twice = [
        (namespace, name.rpartition("-")[0])
        for (namespace, name), times in made.items()
        for _ in range(times - 1)
    ]
    return [
        [r for r in requests if r.namespace == namespace and r.name.startswith(run)]
        for namespace, run in twice
    ]


def writes_by_run(requests: list[Request], namespace: str) -> dict[str, Counter[str]]:
    """A namespace's writes but the Lease's, by run: Jobs, Events and ConfigMaps bear its name."""
    found: dict[str, Counter[str]] = {}
    for request in requests:
        if request.namespace != namespace or request.verb not in WRITES or request.code >= 300:
            continue
        if match := re.match(r"run-\d+", request.name):
            writes = found.setdefault(match[0], Counter())
            writes[f"{request.verb} {request.what}"] += 1
    return found
