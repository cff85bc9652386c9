"""What the Benchmarks of a run define, held against what they promise and what lmms-eval has."""

from __future__ import annotations

from collections.abc import Mapping

from evalrun_api.benchmark import Benchmark
from evalrun_api.errors import Fault
from evalrun_api.index import NameIndex, near


def defined_faults(customs: Mapping[str, Benchmark], index: NameIndex) -> list[Fault]:
    """Names that no file defines, that two Benchmarks define, or that lmms-eval has itself."""
    owners: dict[str, str] = {}
    faults: list[Fault] = []
    for benchmark, custom in customs.items():
        faults += _unreadable(benchmark, custom) or _undefined(benchmark, custom)
        for name, file in custom.spec.task_files.defined.items():
            where = f"Benchmark/{benchmark} spec.files.{file}"
            if name in index.benchmarks:
                what = f"lmms-eval {index.lmms_eval} has a task, group or tag {name!r} of its own"
                faults.append(Fault(where, what, "Give it another name"))
            elif name in owners:
                what = f"Benchmark {owners[name]} defines {name!r} too"
                faults.append(Fault(where, what, "Give one of them another name"))
            owners.setdefault(name, benchmark)
    for benchmark, custom in customs.items():
        for name, file in custom.spec.task_files.foreign.items():
            if name not in owners and name not in index.benchmarks:
                where = f"Benchmark/{benchmark} spec.files.{file}"
                what = f"its group takes in {name!r}, which nothing defines; "
                hint = near(name, [*owners, *index.benchmarks])
                faults.append(Fault(where, what + hint, "Correct the name, or add its file"))
    return faults


def _unreadable(benchmark: str, custom: Benchmark) -> list[Fault]:
    return [
        Fault(
            f"Benchmark/{benchmark} spec.files.{file}",
            f"it cannot be read as YAML: {why}",
            "Correct the file",
        )
        for file, why in custom.spec.task_files.unreadable.items()
    ]


def _undefined(benchmark: str, custom: Benchmark) -> list[Fault]:
    defined = custom.spec.task_files.defined
    return [
        Fault(
            f"Benchmark/{benchmark} spec.tasks",
            f"no file defines {task!r}; {near(task, defined)}",
            f"The files define: {', '.join(sorted(defined)) or 'nothing'}",
        )
        for task in custom.spec.tasks
        if task not in defined
    ]
