"""Model profiles: what a family of models needs, as data; and how a run, a profile and the backend
together decide the model.

A profile is a YAML file in `profiles/`. The run wins over the profile, the profile over lmms-eval's
own defaults. Where each value came from is kept, for `evalrun plan`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Annotated, Any

import yaml
from pydantic import Field, StringConstraints

from evalrun_api.document import Document, JsonValue, Quantity, TaskName
from evalrun_api.spec import ModelSpec

ParameterCount = Annotated[str, StringConstraints(pattern=r"^[0-9]+(\.[0-9]+)?[MB]$")]


class SizeRow(Document):
    """What a model of at most this many parameters needs to answer.

    accelerators: of 80 GB each; bf16 weights (2 bytes a parameter) fill at most 70 % of them, the
        rest is for activations, the key-value cache and CUDA's context.
    memory: of the pod (not of the accelerator): the bf16 weights once, since they pass through it
        while loading or stay there without an accelerator, and 16 GiB for Python, libraries,
        shared memory and decoded media.
    args: further model_args at this size.
    """

    up_to: ParameterCount
    accelerators: Annotated[int, Field(ge=0, le=64)]
    memory: Quantity
    args: dict[str, JsonValue] = Field(default_factory=dict)


class ModelProfile(Document):
    """Defaults for a model family.

    source_arg: argument of the backend that takes the weights' folder (or the served model's name).
    accelerator_only: the backend cannot run on a CPU.
    cpu_args: over the others when the run asks for no accelerator.
    multi_args: over the others when a pod has several accelerators.
    chunk_size: requests that are journaled together; whole batches.
    requires: packages the backend imports that do not come with the runner.
    example: a source that works, for the docs and `evalrun models`.
    """

    name: TaskName
    description: str
    backend: TaskName
    modalities: list[str]
    source_arg: str = "pretrained"
    endpoint: bool = False
    accelerator_only: bool = False
    args: dict[str, JsonValue] = Field(default_factory=dict)
    cpu_args: dict[str, JsonValue] = Field(default_factory=dict)
    multi_args: dict[str, JsonValue] = Field(default_factory=dict)
    batch_size: Annotated[int, Field(ge=1)] = 1
    max_batch_size: Annotated[int, Field(ge=1)] | None = None
    chunk_size: Annotated[int, Field(ge=1)] = 16
    sizes: list[SizeRow] = Field(default_factory=list)
    default_size: ParameterCount | None = None
    shared_memory: Quantity | None = None
    requires: list[str] = Field(default_factory=list)
    example: dict[str, JsonValue] = Field(default_factory=dict)


GENERIC = ModelProfile(
    name="generic",
    description="Any lmms-eval backend without a profile.",
    backend="generic",
    modalities=[],
    sizes=[
        SizeRow(up_to="13B", accelerators=1, memory="64Gi"),
        SizeRow(up_to="40B", accelerators=2, memory="160Gi"),
        SizeRow(up_to="220B", accelerators=8, memory="512Gi"),
    ],
    default_size="7B",
)
"""Stands in when a run names a backend alone."""


@dataclass(frozen=True)
class ResolvedModel:
    """A model with nothing left to choose, and the origin of each choice."""

    backend: str
    source_arg: str
    args: dict[str, Any]
    batch_size: int
    max_batch_size: int | None
    chunk_size: int
    accelerators: int
    accelerators_per_worker: int
    memory: str | None
    shared_memory: str | None
    endpoint: bool
    accelerator_only: bool = False
    origins: dict[str, str] = field(default_factory=dict)


@cache
def builtin_profiles() -> Mapping[str, ModelProfile]:
    """The profiles that come with the release, by name."""
    folder = resources.files("evalrun_api") / "profiles"
    found = [
        ModelProfile.model_validate(yaml.safe_load(entry.read_text()))
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    ]
    return {profile.name: profile for profile in sorted(found, key=lambda p: p.name)}


def parameters(size: str) -> float:
    """Number of parameters of a size such as 7B or 350M."""
    return float(size[:-1]) * {"M": 1e6, "B": 1e9}[size[-1]]


def size_in_name(name: str) -> str | None:
    """The size that a repository's name tells (Qwen2.5-VL-7B-Instruct: 7B), if it does.

    The largest of several: in Qwen2.5-7B-Instruct-1M the other is the length of the context.
    """
    found = re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z])", name.replace("_", "-"))
    sizes = [f"{number}{unit.upper()}" for number, unit in found]
    return max(sizes, key=parameters, default=None)


def resolve(
    model: ModelSpec,
    profile: ModelProfile,
    *,
    accelerators: int | None,
    batch_size: int | None,
    accelerators_per_worker: int | None = None,
) -> ResolvedModel:
    """Decide the model from the run (all but `profile`) and its profile."""
    of_profile = f"profile {profile.name}"
    origins: dict[str, str] = {}

    def choose(name: str, asked: Any, default: Any) -> Any:
        origins[name] = "run" if asked is not None else of_profile
        return default if asked is None else asked

    repo = model.source.hugging_face.repo if model.source.hugging_face else ""
    known_size = model.size or size_in_name(repo)
    size = known_size or profile.default_size
    row = _row(profile, size)
    origin_of_size = f"{of_profile}, up to {row.up_to}" if row and size else of_profile
    count = accelerators if accelerators is not None else (row.accelerators if row else 0)
    origins["accelerators"] = "run" if accelerators is not None else origin_of_size
    origins["memory"] = origin_of_size

    if accelerators_per_worker is not None:
        per_worker, origins["acceleratorsPerWorker"] = accelerators_per_worker, "run"
    else:
        # A model of unknown size gets all: with too few it would not load.
        fitting = row is not None and row.accelerators > 0 and count % row.accelerators == 0
        per_worker = row.accelerators if row and known_size and fitting else count
        origins["acceleratorsPerWorker"] = origin_of_size

    layers = [(profile.args, of_profile)]
    if row:
        layers.append((row.args, origin_of_size))
    if count == 0 and not profile.endpoint:
        layers.append((profile.cpu_args, f"{of_profile}, without accelerator"))
    if per_worker > 1:
        layers.append((profile.multi_args, f"{of_profile}, several accelerators"))
    layers.append((model.args, "run"))
    args: dict[str, Any] = {}
    for values, origin in layers:
        for key, value in values.items():
            args[key] = value
            origins[f"args.{key}"] = origin

    batch = choose("batchSize", batch_size, profile.batch_size)
    origins["chunkSize"] = of_profile
    return ResolvedModel(
        backend=choose("backend", model.backend, profile.backend),
        source_arg=choose("sourceArgument", model.source_argument, profile.source_arg),
        args={key: value for key, value in args.items() if value is not None},
        batch_size=batch,
        max_batch_size=profile.max_batch_size,
        chunk_size=max(profile.chunk_size // batch, 1) * batch,
        accelerators=count,
        accelerators_per_worker=max(per_worker, 1),
        memory=row.memory if row else None,
        shared_memory=profile.shared_memory,
        endpoint=profile.endpoint,
        accelerator_only=profile.accelerator_only,
        origins=origins,
    )


def _row(profile: ModelProfile, size: str | None) -> SizeRow | None:
    if not profile.sizes:
        return None
    if size is None:
        return profile.sizes[0]
    for row in profile.sizes:
        if parameters(size) <= parameters(row.up_to):
            return row
    return profile.sizes[-1]
