"""The `Benchmark` kind: a benchmark of one's own, as lmms-eval task files and their data."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from evalrun_api.document import Document, JsonValue, ShortText, TaskName
from evalrun_api.sources import VolumePath
from evalrun_api.spec import Metadata
from evalrun_api.task_files import TaskFiles, inspect

DATA_PLACEHOLDER = "${DATA}"
"""Stands in a task file for the folder in which the runner finds the benchmark's data."""

FileName = Annotated[
    str, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.\-]*$")
]
FileText = Annotated[str, StringConstraints(max_length=262_144)]
MAX_FILES_BYTES = 900 * 1024
"""What fits into the ConfigMap that carries the files to the pods."""
MAX_PLACEHOLDERS = 1000
"""Each grows to the path of a folder, which may have more than a thousand characters."""


class BenchmarkData(Document):
    """Where the documents come from; left out, the task files' dataset_path says it."""

    ONE_OF = ("volume",)

    volume: VolumePath | None = Field(default=None, description="A folder on a volume.")


class BenchmarkSpec(Document):
    """A custom benchmark."""

    description: ShortText | None = Field(default=None, description="For people.")
    tasks: Annotated[list[TaskName], Field(min_length=1, max_length=100)] = Field(
        description="The tasks (or groups) of these files that make up the benchmark.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    files: Annotated[dict[FileName, FileText], Field(min_length=1, max_length=100)] = Field(
        description="File name → text: lmms-eval task YAML, and the Python it calls. "
        f"{DATA_PLACEHOLDER} stands for the data's folder."
    )
    data: BenchmarkData | None = Field(default=None, description="Where the documents come from.")

    @model_validator(mode="after")
    def _fits(self) -> BenchmarkSpec:
        size = sum(len(name.encode()) + len(text.encode()) for name, text in self.files.items())
        if size > MAX_FILES_BYTES:
            raise ValueError(f"files hold {size} bytes; at most {MAX_FILES_BYTES} fit")
        placeholders = sum(text.count(DATA_PLACEHOLDER) for text in self.files.values())
        if placeholders > MAX_PLACEHOLDERS:
            raise ValueError(
                f"files hold {DATA_PLACEHOLDER} {placeholders} times; at most {MAX_PLACEHOLDERS}"
            )
        return self

    @model_validator(mode="after")
    def _includes_own_files(self) -> BenchmarkSpec:
        for file, included in self.task_files.strange_includes:
            raise ValueError(
                f"files.{file}: include names {included!r}, which is none of the benchmark's own "
                f"files; name one of: {', '.join(sorted(self.files))}"
            )
        return self

    @cached_property
    def task_files(self) -> TaskFiles:
        """What the files say once the data's folder stands in them."""
        volume = self.data.volume if self.data else None
        folder = f"/volumes/{volume.claim_name}/{volume.path}" if volume else ""
        return inspect(
            {name: text.replace(DATA_PLACEHOLDER, folder) for name, text in self.files.items()}
        )

    @property
    def has_code(self) -> bool:
        """Whether running the benchmark runs Python that it brings or chooses."""
        return self.task_files.has_code


class Benchmark(Document):
    """A Benchmark as a person writes it."""

    api_version: Literal["lmms-eval.io/v1alpha1"]
    kind: Literal["Benchmark"]
    metadata: Metadata
    spec: BenchmarkSpec
    status: JsonValue | None = None
