"""A plan explained: each value and where it came from, what is needed, where answers will be."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.alias_generators import to_camel
from rich.console import Console
from rich.text import Text

from evalrun_api.plan import RunPlan, SettingsGroup
from evalrun_cli.output import plain_table, print_path
from evalrun_cli.preparation import Prepared

TASKS_OWN = "the task's own"
MANY_TASKS = 6


@dataclass(frozen=True)
class Value:
    """A decided value. path: its place in the plan."""

    path: str
    value: Any
    origin: str


def values(prepared: Prepared) -> list[Value]:
    """Every decided value of a run but its settings groups."""
    plan, model, spec = prepared.planned.plan, prepared.planned.model, prepared.run.spec
    of = model.origins
    source = plan.model.source.document()
    found = [
        Value("model.backend", model.backend, of["backend"]),
        *(Value(f"model.source.{kind}", value, "run") for kind, value in source.items()),
        *(
            Value(f"model.args.{name}", value, of.get(f"args.{name}", "default"))
            for name, value in sorted(model.args.items())
        ),
        Value("batchSize", model.batch_size, of["batchSize"]),
        Value("chunkSize", model.chunk_size, of["chunkSize"]),
        Value("accelerators", model.accelerators, of["accelerators"]),
    ]
    if model.memory:
        found.append(Value("memory", model.memory, of["memory"]))
    if model.shared_memory:
        found.append(Value("sharedMemory", model.shared_memory, f"profile {spec.model.profile}"))
    found += _fields("", spec.parallelism, ("shards",))
    found += _fields("seed.", spec.evaluation.seed)
    rest = ("system_instruction", "force_simple", "process_with_media", "log_samples")
    found += _fields("", spec.evaluation, rest)
    found += _fields("", spec.cache, ("offline",))
    reuse = "--fresh" if prepared.request.fresh else _origin(spec.cache, "reuse_answers")
    found.append(Value("reuseAnswers", plan.reuse_answers, reuse))
    found += _fields("integrity.", spec.integrity)
    found += _fields("security.", spec.security)
    found.append(Value("store", plan.store.uri, prepared.destination.origin))
    if plan.store.endpoint:
        found.append(Value("store.endpoint", plan.store.endpoint, "run or --s3-endpoint"))
    return found


def _fields(prefix: str, block: BaseModel, names: tuple[str, ...] = ()) -> Iterator[Value]:
    for name in names or tuple(type(block).model_fields):
        value = getattr(block, name)
        if value is not None:
            yield Value(prefix + to_camel(name), value, _origin(block, name))


def _origin(block: BaseModel, name: str) -> str:
    return "run" if name in block.model_fields_set else "default"


@dataclass(frozen=True)
class Need:
    """Something that the run needs on this machine. found: None where it cannot be known."""

    what: str
    found: bool | None
    detail: str


def needs(prepared: Prepared) -> list[Need]:
    """Packages of the profile and folders of the volumes."""
    found = [Need(f"package {name}", *_installed(name)) for name in prepared.profile.requires]
    for mount in prepared.mounts:
        for use in mount.uses:
            folder = mount.folder / (use.path or "")
            detail = f"{folder} ({mount.origin})"
            found.append(Need(f"volume {mount.claim}", folder.exists(), detail))
    return found


def _installed(requirement: str) -> tuple[bool | None, str]:
    """Whether a requirement's package is here; None when it names no package of an index."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        name = Requirement(requirement).name
        return True, importlib.metadata.version(name)
    except InvalidRequirement:
        return None, "see the profile's description"
    except importlib.metadata.PackageNotFoundError:
        return False, f"not installed: pip install '{requirement}'"


def document(prepared: Prepared) -> dict[str, Any]:
    """The plan, the origin of its values and the needs, for programs."""
    return {
        "plan": prepared.planned.plan.document(),
        "origins": {
            entry.path: {"value": _plain(entry.value), "from": entry.origin}
            for entry in values(prepared)
        },
        "needs": [
            {"what": need.what, "found": need.found, "detail": need.detail}
            for need in needs(prepared)
        ],
    }


def _plain(value: Any) -> Any:
    return value.document() if hasattr(value, "document") else value


def places(plan: RunPlan) -> dict[str, str]:
    """Where answers and results of a run will be kept."""
    base = plan.store.uri.rstrip("/")
    run = plan.run
    return {
        "answers": f"{base}/answers/{run.namespace}/DIGEST/",
        "results": f"{base}/runs/{run.namespace}/{run.name}/UID/",
    }


def group_row(group: SettingsGroup) -> list[str]:
    """Name, tasks, limit, few-shot, repeats and generation arguments of a settings group."""
    tasks = group.tasks
    named = ", ".join(tasks[:MANY_TASKS])
    if len(tasks) > MANY_TASKS:
        named += f" and {len(tasks) - MANY_TASKS} more"
    if group.limit is None and not group.offset:
        documents = "all"
    else:
        first = f"first {group.limit}" if group.limit is not None else "all"
        documents = f"{first} from {group.offset}" if group.offset else first
    few = TASKS_OWN if group.few_shot is None else str(group.few_shot)
    generation = ", ".join(f"{name}={_text(value)}" for name, value in group.generation.items())
    return [group.name, named, documents, few, str(group.repeats), generation or TASKS_OWN]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    value = _plain(value)
    if isinstance(value, dict) and value:
        return ", ".join(f"{name}={_text(entry)}" for name, entry in value.items())
    return json.dumps(value, ensure_ascii=False)


def print_plan(console: Console, prepared: Prepared) -> None:
    """The explanation for people."""
    plan = prepared.planned.plan
    console.print(Text.assemble((plan.run.name, "bold"), f" in namespace {plan.run.namespace}\n"))
    table = plain_table()
    table.add_column("SETTING", no_wrap=True)
    table.add_column("VALUE", overflow="fold")
    table.add_column("FROM", style="dim")
    for entry in values(prepared):
        if entry.path == "store":
            continue  # an address is printed below, whole
        table.add_row(entry.path, Text(_text(entry.value)), entry.origin)
    console.print(table)
    groups = plain_table()
    for title in ("GROUP", "TASKS", "DOCUMENTS", "FEW-SHOT", "REPEATS", "GENERATION"):
        groups.add_column(title, overflow="fold")
    for group in plan.groups:
        groups.add_row(*(Text(cell) for cell in group_row(group)))
    console.print()
    console.print(groups)
    console.print()
    print_path(console, "store", f"{plan.store.uri} ({prepared.destination.origin})")
    for label, place in places(plan).items():
        print_path(console, label, place)
    console.print("DIGEST is known once the run has looked at the model and the data.", style="dim")
    wanted = needs(prepared)
    if wanted:
        console.print("\nneeds", style="bold")
    for need in wanted:
        mark = {True: ("✓", "green"), False: ("✗", "red"), None: ("?", "yellow")}[need.found]
        console.print(Text.assemble(mark, f" {need.what}  ", (need.detail, "dim")), soft_wrap=True)
