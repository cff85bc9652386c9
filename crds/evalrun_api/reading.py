"""Reading documents that people wrote: YAML in, documents or faults with field paths out."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from evalrun_api import API_VERSION
from evalrun_api.benchmark import Benchmark
from evalrun_api.errors import Fault, Refused
from evalrun_api.index import near
from evalrun_api.spec import EvaluationRun
from evalrun_api.yaml_size import check_size

KINDS: dict[str, type[EvaluationRun] | type[Benchmark]] = {
    "EvaluationRun": EvaluationRun,
    "Benchmark": Benchmark,
}
MAX_MANIFEST_BYTES = 4 * 1024 * 1024

DocumentT = TypeVar("DocumentT", bound=BaseModel)


class _StrictLoader(yaml.SafeLoader):
    """Safe loading that refuses a key that stands twice: YAML would silently keep the last.

    It also refuses a document that its aliases make huge, before it is built.
    """

    def construct_document(self, node: yaml.Node) -> Any:
        check_size(node)
        return super().construct_document(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep=deep)


def parse_manifests(text: str, source: str) -> list[EvaluationRun | Benchmark]:
    """The documents of a manifest file.

    `source` names the file in messages. Raises `Refused` with every fault of every document.
    """
    if len(text.encode()) > MAX_MANIFEST_BYTES:
        raise Refused([Fault(source, "the file is larger than 4 MiB", "Is it a manifest?")])
    try:
        raw = [entry for entry in yaml.load_all(text, _StrictLoader) if entry is not None]
    except (yaml.YAMLError, RecursionError) as error:
        where = source
        mark = getattr(error, "problem_mark", None)
        if mark is not None:
            where = f"{source}, line {mark.line + 1}, column {mark.column + 1}"
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise Refused([Fault(where, f"not valid YAML: {problem}", "Correct the line")]) from error
    if not raw:
        fault = Fault(source, "the file holds no document", "Write an EvaluationRun into it")
        raise Refused([fault])
    documents: list[EvaluationRun | Benchmark] = []
    faults: list[Fault] = []
    for number, entry in enumerate(raw):
        where = source if len(raw) == 1 else f"{source}, document {number + 1}"
        try:
            documents.append(_document(entry, where))
        except Refused as refused:
            faults.extend(refused.faults)
    if faults:
        raise Refused(faults)
    return documents


def _document(entry: Any, where: str) -> EvaluationRun | Benchmark:
    if not isinstance(entry, dict):
        what = f"it is a {type(entry).__name__}, not an object"
        raise Refused([Fault(where, what, "Begin it with apiVersion, kind, metadata, spec")])
    version, kind = entry.get("apiVersion"), entry.get("kind")
    if version != API_VERSION:
        what = f"apiVersion is {version!r}"
        raise Refused([Fault(f"{where}: apiVersion", what, f"Set it to {API_VERSION}")])
    if not isinstance(kind, str) or kind not in KINDS:
        what = f"kind is {kind!r}; {near(str(kind), KINDS)}"
        raise Refused([Fault(f"{where}: kind", what, f"Known kinds: {', '.join(KINDS)}")])
    return read(KINDS[kind], entry, f"{where}: ")


def read(model: type[DocumentT], value: Any, prefix: str = "") -> DocumentT:
    """`value` as a document of type `model`; raises `Refused` with a fault for each wrong field.

    Strict, as the API server is: "5" is not a number, and "yes" not a boolean.
    """
    try:
        return model.model_validate(value, strict=True)
    except ValidationError as error:
        faults = [_fault(model, entry, prefix) for entry in error.errors()]
        raise Refused(faults) from error


def _fault(model: type[BaseModel], error: Any, prefix: str) -> Fault:
    location = error["loc"]
    where = prefix + (_path(location) or "document")
    kind, context = error["type"], error.get("ctx", {})
    given = error.get("input")
    if kind == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        what = f"there is no such field; {near(str(location[-1]), known)}"
        return Fault(where, what, f"Fields here: {', '.join(sorted(known))}")
    if kind == "missing":
        return Fault(where, "the field is missing", "Add it")
    if kind == "string_pattern_mismatch":
        return Fault(
            where, f"{given!r} does not have the right form", f"It must match {context['pattern']}"
        )
    if kind == "value_error":
        return Fault(where, str(context["error"]), "Correct it")
    what = f"{_short(given)} is not allowed: {error['msg'][0].lower()}{error['msg'][1:]}"
    return Fault(where, what, "Correct the value")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _path(location: Iterable[int | str]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part == "[key]":
            text += " (name)"
        else:
            text += f".{part}" if text else str(part)
    return text


def _fields_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    """Names of the fields of the model that stands at a location."""
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int) or current is None:
            continue
        step = next(
            (entry for name, entry in current.model_fields.items() if part in (name, entry.alias)),
            None,
        )
        current = _model_in(step.annotation) if step else None
    if current is None:
        return []
    return [entry.alias or name for name, entry in current.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, list, typing.Annotated):
        for argument in typing.get_args(annotation):
            if found := _model_in(argument):
                return found
    return None
