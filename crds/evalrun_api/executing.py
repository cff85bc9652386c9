"""Benchmarks of lmms-eval whose scorers run text as Python: answers of a model, or their data.

Whoever makes a model answer `__import__('os').system(...)` runs that in the pod that scores. So
these benchmarks need both keys of `security.allowCodeExecution`, as one with own Python does.

The list is of the pinned lmms-eval. A test finds every `eval` and `exec` in its task folders, so
that a newer one cannot bring another unseen.
"""

from __future__ import annotations

from collections.abc import Sequence

from evalrun_api.errors import Fault
from evalrun_api.spec import RequestedBenchmark

EXECUTING = {
    "auxsolidmath": "its scorer evaluates answers as Python",
    "megabench": "its scorer runs programs that the model writes",
}
"""What runs, by how the names of tasks and groups begin."""

KEY = "spec.security.allowCodeExecution"
REMEDY = "Set spec.security.allowCodeExecution: true, if the policy allows it, or leave it out"


def executes(name: str) -> str | None:
    """What a task, or a group of such tasks, runs; None for all others."""
    for beginning, what in EXECUTING.items():
        if name == beginning or name.startswith(f"{beginning}_"):
            return what
    return None


def execution_faults(benchmarks: Sequence[RequestedBenchmark], allowed: bool) -> list[Fault]:
    """Benchmarks that run text as Python, in a run that does not ask for it."""
    if allowed:
        return []
    return [
        Fault(f"spec.benchmarks[{position}].name", what, REMEDY)
        for position, wanted in enumerate(benchmarks)
        if wanted.name is not None and (what := executes(wanted.name)) is not None
    ]
