"""lmms-eval's results as objects of the run, and the headline scores in them."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmms_eval.loggers import EvaluationTracker

from evalrun_api import reasons
from evalrun_api.errors import fail
from evalrun_api.lock import GroupLock
from evalrun_api.manifest import FileEntry, GroupResults, SampleFile
from evalrun_api.plan import RunPlan, SettingsGroup
from evalrun_api.status import Score
from evalrun_runner import layout
from evalrun_runner.harness.evaluation import model_args_text
from evalrun_runner.stores import Store


def store_results(
    store: Store, plan: RunPlan, group: SettingsGroup, results: dict[str, Any], submissions: Path
) -> GroupResults:
    """Store a group's results.json and samples, written by lmms-eval's own tracker.

    submissions: folder in which its tasks wrote files while they were scored.
    """
    samples = results.pop("samples", {})
    folder = "results" if len(plan.groups) == 1 else f"results/{group.name}"
    entries: list[SampleFile] = []
    with tempfile.TemporaryDirectory(prefix="evalrun-") as scratch:
        aggregated, by_task = _write(Path(scratch), plan, results, samples)
        file = _put(store, plan, f"{folder}/results.json", aggregated)
        for task, path in by_task.items():
            entry = _put(store, plan, f"{folder}/samples_{task}.jsonl", path)
            entries.append(SampleFile(task=task, **entry.model_dump()))
    written = [
        _put(store, plan, f"{folder}/{path.relative_to(submissions).as_posix()}", path)
        for path in sorted(submissions.rglob("*"))
        if path.is_file()
    ]
    return GroupResults(name=group.name, results=file, samples=entries, submissions=written)


def _write(
    scratch: Path, plan: RunPlan, results: dict[str, Any], samples: dict[str, Any]
) -> tuple[Path, dict[str, Path]]:
    """Files as `lmms_eval --output_path --log_samples` writes them.

    The tracker logs and swallows its errors, so what it wrote is looked at.
    """
    tracker = EvaluationTracker(output_path=str(scratch))
    tracker.general_config_tracker.log_experiment_args(
        model_source=plan.model.backend,
        model_args=model_args_text(plan),
        system_instruction=plan.system_instruction or "",
        chat_template="",
        fewshot_as_multiturn=plan.few_shot_as_multiturn,
    )
    tracker.save_results_aggregated(results=results, samples=samples, datetime_str=results["date"])
    counts = {task: len(entries) for task, entries in samples.items()}
    if plan.log_samples:
        for task, entries in samples.items():
            tracker.save_results_samples(task_name=task, samples=entries)
    found = list(scratch.rglob("*_results.json"))
    if len(found) != 1 or not json.loads(found[0].read_text()).get("results"):
        raise fail(reasons.NO_RESULTS, "results.json", "lmms-eval's tracker did not write it")
    by_task = {}
    for task in counts if plan.log_samples else ():
        name = f"{tracker.date_id}_samples_{task}.jsonl"
        paths = [path for path in scratch.rglob("*.jsonl") if path.name == name]
        lines = paths[0].read_bytes().count(b"\n") if paths else 0
        if lines != counts[task]:
            what = f"lmms-eval's tracker wrote {lines} of {counts[task]} samples"
            raise fail(reasons.NO_RESULTS, f"samples of {task}", what)
        by_task[task] = paths[0]
    return found[0], by_task


def _put(store: Store, plan: RunPlan, path: str, file: Path) -> FileEntry:
    data = file.read_bytes()
    store.put(f"{layout.run(plan.run)}/{path}", data)
    return FileEntry(path=path, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def headline_scores(
    results: dict[str, Any], locked: GroupLock, invalid: Counter[str], submissions: Path
) -> list[Score]:
    """Every numeric score of a group's tasks and task groups, in lmms-eval's order.

    submissions: folder in which its tasks wrote files. A task that writes one for a server that
    has the right answers gives no score.
    """
    documents = {task.name: task.documents for task in locked.tasks}
    members = results.get("group_subtasks", {})
    found = []
    for name, metrics in results["results"].items():
        for label, value in metrics.items():
            metric, _, filter_name = label.partition(",")
            if not filter_name or "_stderr" in metric or not _is_number(value):
                continue
            better = results.get("higher_is_better", {}).get(name, {}).get(metric)
            found.append(
                Score(
                    benchmark=name,
                    metric=metric,
                    filter=filter_name,
                    value=_text(value),
                    stderr=_stderr(metrics, metric, filter_name),
                    n=documents.get(name),
                    invalid=sum(invalid[task] for task in _tasks_of(name, members)),
                    higher_is_better=better if isinstance(better, bool) else None,
                )
            )
    scored = {score.benchmark for score in found}
    if any(path.is_file() for path in submissions.rglob("*")):
        scored |= {name for name, metrics in results["results"].items() if _is_submitted(metrics)}
    without = [task.name for task in locked.tasks if task.name not in scored]
    if without:
        where = f"benchmark {', '.join(without)}"
        raise fail(reasons.NO_RESULTS, where, "lmms-eval gave no numeric score for it")
    return found


def _tasks_of(name: str, members: Mapping[str, Sequence[str]]) -> set[str]:
    """The tasks within a group and the groups in it, or the task itself."""
    found, waiting = {name}, [name]
    while waiting:
        inner = set(members.get(waiting.pop(), ())) - found
        found |= inner
        waiting += inner
    return found


def _is_submitted(metrics: dict[str, Any]) -> bool:
    """Whether a task's only metrics are lmms-eval's stand-ins for a file that it has written."""
    values = {
        label.partition(",")[0]: value
        for label, value in metrics.items()
        if "," in label and "_stderr" not in label
    }
    return bool(values) and all(
        value is None and "submi" in metric for metric, value in values.items()
    )


def _stderr(metrics: dict[str, Any], metric: str, filter_name: str) -> str | None:
    for label in (f"{metric}_stderr,{filter_name}", f"{metric}_stderr_clt,{filter_name}"):
        value = metrics.get(label)
        if _is_number(value):
            return _text(value)
    return None


def _is_number(value: Any) -> bool:
    """Whether it is a score: finite, and neither text nor truth value."""
    try:
        return not isinstance(value, bool | str) and math.isfinite(float(value))
    except (TypeError, ValueError):
        return False


def _text(value: Any) -> str:
    """The shortest text that reads back as the same float."""
    return repr(float(value))
