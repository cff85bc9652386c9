"""What the Benchmarks of a run define, held against what they promise and what lmms-eval has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from evalrun_api.benchmark import Benchmark
from evalrun_api.errors import Fault
from evalrun_api.index import MAX_HINTS, NameIndex, near

MAX_FAULTS = 100
"""Of the Benchmarks of one run: their files have room for more names than anybody reads."""
MAX_KNOWN = 200
"""Names of a Benchmark's own that are told, and searched for one that is near."""


def defined_faults(customs: Mapping[str, Benchmark], index: NameIndex) -> list[Fault]:
    """Names that no file defines, that two Benchmarks define, or that lmms-eval has itself."""
    return list(islice(_faults(customs, index), MAX_FAULTS))


def _faults(customs: Mapping[str, Benchmark], index: NameIndex) -> Iterator[Fault]:
    owners: dict[str, str] = {}
    for benchmark, custom in customs.items():
        yield from _unreadable(benchmark, custom) or _undefined(benchmark, custom)
        for name, file in custom.spec.task_files.defined.items():
            where = f"Benchmark/{benchmark} spec.files.{file}"
            if name in index.benchmarks:
                what = f"lmms-eval {index.lmms_eval} has a task, group or tag {name!r} of its own"
                yield Fault(where, what, "Give it another name")
            elif name in owners:
                what = f"Benchmark {owners[name]} defines {name!r} too"
                yield Fault(where, what, "Give one of them another name")
            owners.setdefault(name, benchmark)
    hints = MAX_HINTS
    for benchmark, custom in customs.items():
        for name, file in custom.spec.task_files.foreign.items():
            if name not in owners and name not in index.benchmarks:
                where = f"Benchmark/{benchmark} spec.files.{file}"
                what = f"its group takes in {name!r}, which nothing defines"
                if hints > 0:
                    what += "; " + near(name, [*list(owners)[:MAX_KNOWN], *index.benchmarks])
                    hints -= 1
                yield Fault(where, what, "Correct the name, or add its file")


def _unreadable(benchmark: str, custom: Benchmark) -> list[Fault]:
    return [
        Fault(
            f"Benchmark/{benchmark} spec.files.{file}",
            f"it cannot be read as YAML: {why}",
            "Correct the file",
        )
        for file, why in custom.spec.task_files.unreadable.items()
    ]


def _undefined(benchmark: str, custom: Benchmark) -> Iterator[Fault]:
    defined = custom.spec.task_files.defined
    known = sorted(defined)[:MAX_KNOWN]
    more = len(defined) - len(known)
    listed = (", ".join(known) or "nothing") + (f" and {more} more" if more else "")
    missing = (task for task in custom.spec.tasks if task not in defined)
    for number, task in enumerate(missing):
        what = f"no file defines {task!r}"
        if number < MAX_HINTS:
            what += "; " + near(task, known)
        yield Fault(f"Benchmark/{benchmark} spec.tasks", what, f"The files define: {listed}")
