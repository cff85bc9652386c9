"""lmms-eval's tasks, loaded as the plan says."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from datasets.exceptions import DatasetsError
from lmms_eval.tasks import TaskManager
from pyarrow.lib import ArrowException

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.executing import KEY, REMEDY, executes
from evalrun_api.plan import RunPlan, SettingsGroup
from evalrun_runner.failures import cause_of, classify, describe
from evalrun_runner.harness import egress

log = logging.getLogger(__name__)

JOURNALED_TYPES = {
    "generate_until": "generate_until",
    "loglikelihood": "loglikelihood",
    "multiple_choice": "loglikelihood",
    "generate_until_multi_round": "generate_until_multi_round",
    "generate_until_agentic": "generate_until_agentic",
    "generate_visual_cot": "generate_visual_cot",
}
"""Task output types of lmms-eval, and the request type they make."""


class PlannedTasks(TaskManager):  # type: ignore[misc]  # lmms-eval ships no types
    """lmms-eval's task manager, which sets the plan's generation arguments on what it loads.

    The command line can pass them as a string only, in which lists have no form. Errors of
    loading become errors of ours. The name of the backend selects the prompt, so it is given.
    """

    def __init__(self, plan: RunPlan, include: list[Path]) -> None:
        super().__init__(
            include_path=[str(folder) for folder in include] or None,
            include_defaults=not plan.is_only_custom,  # indexing lmms-eval's own takes seconds
            model_name=plan.model.backend,
        )
        self._may_execute = plan.security.allow_code_execution
        self._group: SettingsGroup | None = None
        self.loaded: dict[str, Any] = {}
        self._made: set[int] = set()

    def begin(self, group: SettingsGroup) -> None:
        """The next loading is for this group."""
        self._group = group
        self.loaded = {}
        self._made = set()
        unknown = [name for name in group.tasks if name not in self.all_tasks]
        if unknown:
            near = difflib.get_close_matches(unknown[0], self.all_tasks)
            what = f"lmms-eval knows no task, group or tag {unknown[0]!r}"
            if near:
                what += f"; did you mean {' or '.join(near)}?"
            raise fail(reasons.UNKNOWN_BENCHMARK, "spec.benchmarks", what)

    def requests(self) -> dict[str, list[Any]]:
        """The requests of all loaded tasks by type, each as often as it is repeated.

        In the order in which lmms-eval hands them over; to be called once it has built them.
        """
        found: dict[str, list[Any]] = {}
        for task in self.loaded.values():
            for instance in task.instances:
                of_type = found.setdefault(instance.request_type, [])
                of_type.extend([instance] * instance.repeats)
        return found

    def has_made(self, instance: Any) -> bool:
        """Whether it is a loaded task's own request, and not a round made of one."""
        if not self._made:
            tasks = self.loaded.values()
            self._made = {id(made) for task in tasks for made in task.instances}
        return id(instance) in self._made

    def load_task_or_group(self, task_list: Any = None, task_type: Any = "simple") -> Any:
        """See `TaskManager`."""
        assert self._group is not None
        try:
            with egress.opened():  # its files may name documents by any address
                found = super().load_task_or_group(task_list, task_type)
        except Exception as error:  # task files and datasets raise anything
            raise _loading_error(error, task_list) from error
        for name, task in _leaves(found):
            self.loaded[name] = task
            if not self._may_execute and (what := executes(name)) is not None:
                raise fail(reasons.INVALID_SPEC, KEY, f"benchmark {name}: {what}", REMEDY)
            _check(name, task, self._group)
            if self._group.generation and "generate_until" in task.get_config("output_type"):
                task.set_config("generation_kwargs", dict(self._group.generation), update=True)
        return found


def _leaves(found: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for name, entry in found.items():
        if isinstance(entry, Mapping):
            yield from _leaves(entry)
        elif entry is not None:
            yield str(name), entry


def _check(name: str, task: Any, group: SettingsGroup) -> None:
    kind = task.OUTPUT_TYPE
    if kind not in JOURNALED_TYPES:
        raise fail(
            reasons.UNSUPPORTED_REQUEST,
            f"benchmark {name}",
            f"its tasks are of type {kind}, of which nothing is known here",
        )
    documents = len(task.eval_docs)
    if group.offset >= documents:
        raise fail(
            reasons.BENCHMARK_UNUSABLE,
            f"benchmark {name}",
            f"offset {group.offset} leaves none of its {documents} documents",
            "Choose a smaller offset",
        )


def _loading_error(error: Exception, names: Any) -> EvalrunError:
    if isinstance(error, EvalrunError):
        return error
    cause = cause_of(error)
    where = f"benchmark {', '.join(names) if isinstance(names, list) else names}"
    # datasets wraps what went wrong, sometimes more than once
    is_data = isinstance(cause, OSError | ArrowException | DatasetsError)
    otherwise = reasons.DATASET_UNAVAILABLE if is_data else reasons.BENCHMARK_UNUSABLE
    what = "its data cannot be loaded" if is_data else "it cannot be loaded"
    reason = classify(cause, otherwise)
    if reason is reasons.SOURCE_UNAVAILABLE and os.environ.get("HF_HUB_OFFLINE") == "1":
        reason = otherwise  # nothing will reach the hub later either
    return fail(reason, where, f"{what}: {describe(cause)}")
