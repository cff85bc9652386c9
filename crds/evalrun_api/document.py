"""The base of every document: camelCase names, no unknown fields, immutable once read."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic.alias_generators import to_camel


class Document(BaseModel):
    """Part of a document of the contract.

    `ONE_OF` names fields (in Python spelling) of which exactly one has to be set; the rule is
    enforced here and written into the CRD as CEL, so that both refuse the same documents.
    `CEL` adds rules that only the API server can check (transitions) or that repeat a validator.
    """

    ONE_OF: ClassVar[tuple[str, ...]] = ()
    CEL: ClassVar[tuple[tuple[str, str], ...]] = ()

    model_config = ConfigDict(
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        allow_inf_nan=False,
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if not self.ONE_OF:
            return self
        present = [name for name in self.ONE_OF if getattr(self, name) is not None]
        if len(present) != 1:
            names = ", ".join(to_camel(name) for name in self.ONE_OF)
            given = ", ".join(to_camel(name) for name in present) or "none"
            raise ValueError(f"set exactly one of {names} (given: {given})")
        return self

    def document(self) -> dict[str, Any]:
        """The document as plain JSON types, without the fields that are not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


Scalar = bool | int | float | str
"""What a model argument or generation argument may be."""

JsonValue = Annotated[Any, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})]

MAX_PLAIN_DEPTH = 16


def _plain(value: Any, depth: int = 0) -> Any:
    """What JSON can say: YAML also has dates, NaN, keys that are no strings, and cycles."""
    if depth > MAX_PLAIN_DEPTH:
        raise ValueError(f"it is nested deeper than {MAX_PLAIN_DEPTH} levels")
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is not a string; write it in quotes")
            _plain(entry, depth + 1)
    elif isinstance(value, list):
        for entry in value:
            _plain(entry, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    elif isinstance(value, str):
        value.encode()  # half of a surrogate pair raises a ValueError
    elif not isinstance(value, int | float | bool | None):
        raise ValueError(f"a {type(value).__name__} is no JSON value; write it in quotes")
    return value


PlainValue = Annotated[JsonValue, AfterValidator(_plain)]
"""A free-form value that a person writes: anything that JSON can say."""

RUN_NAME_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

RunName = Annotated[str, StringConstraints(min_length=1, max_length=50, pattern=RUN_NAME_PATTERN)]
"""Leaves room for what Jobs and pods append to it: at most 50 characters."""

ObjectName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
]
QueueName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
]
"""An object that Kueue is told of by a label's value, which is shorter than a name may be."""
TaskName = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+\-]*$")
]
ShortText = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
RelativePath = Annotated[
    str,
    StringConstraints(
        max_length=1024, pattern=r"^$|^[A-Za-z0-9_\-][^/\x00]*(/[A-Za-z0-9_\-][^/\x00]*)*$"
    ),
]
"""A path beneath a volume: no leading slash, no part that begins with a dot."""

Quantity = Annotated[
    str, StringConstraints(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
