"""The pages of the API's kinds, field by field, from their documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from markup import NONE, code, table

from evalrun_api.benchmark import MAX_FILES_BYTES, BenchmarkSpec
from evalrun_api.checks import TYPED_ARGS
from evalrun_api.document import Document
from evalrun_api.named_stores import NamedStore
from evalrun_api.operator_config import OperatorConfig
from evalrun_api.pods import PodSettings
from evalrun_api.spec import EvaluationRunSpec
from evalrun_api.status import EvaluationRunStatus

Json = dict[str, Any]

UNBOUNDED = 2**53
"""What JSON's numbers can count to: no limit that a person has to know."""


def evaluationrun() -> str:
    """The EvaluationRun, field by field."""
    spec = Reference(EvaluationRunSpec, {PodSettings: "Pod settings"})
    status = Reference(EvaluationRunStatus)
    own = ((code(key), code(f"spec.{field}")) for key, field in TYPED_ARGS.items())
    return "\n".join(
        [
            "# EvaluationRun\n",
            "`apiVersion: lmms-eval.io/v1alpha1`, `kind: EvaluationRun`, short name `evr`. One "
            "evaluation of one model on a list of benchmarks. A field that is not here is "
            'refused, and so is a value of another type (`limit: "5"`).\n',
            "`metadata.name`: 1 to 50 lower-case letters, digits and `-`. `metadata.namespace` is "
            "`default` where it is left out.\n",
            "Some fields mean nothing on a laptop: "
            "[Running locally](../guides/running-locally.md#what-a-laptop-ignores) lists them.\n",
            spec.sections("spec"),
            "## Arguments that have a field of their own\n",
            "In `spec.model.args` these are refused:\n",
            table(("argument", "field"), own),
            "## What may change once the run exists\n",
            "A cluster's API server holds these rules. On a laptop every `evalrun run` reads the "
            "manifest anew.\n",
            spec.transitions(),
            "## Status\n",
            "The operator writes it. On a laptop `manifest.json` and `evalrun results` tell about "
            "a finished run.\n",
            status.sections("status"),
            "## What never changes in a status\n",
            status.transitions(),
        ]
    )


def benchmark() -> str:
    """The Benchmark, field by field."""
    return "\n".join(
        [
            "# Benchmark\n",
            "`apiVersion: lmms-eval.io/v1alpha1`, `kind: Benchmark`. A benchmark of your own, as "
            "lmms-eval task files. [Custom benchmarks](../guides/custom-benchmarks.md) is the "
            "guide.\n",
            f"All files together may hold {MAX_FILES_BYTES // 1024} KiB, names included.\n",
            Reference(BenchmarkSpec).sections("spec"),
        ]
    )


def operator_config() -> str:
    """The operator's configuration file, field by field."""
    config = Reference(OperatorConfig, {NamedStore: "A named store"})
    return "\n".join(
        [
            "# The operator's configuration\n",
            "A YAML file, read at start (`evalrun-operator --config FILE`). In a cluster it is the "
            "ConfigMap `lmms-eval-operator-config`, made from `config/default/config.yaml`: change "
            "the file and apply the folder again, and new pods read it. A field that is not here "
            "is refused.\n",
            "A run gets what is risky only with two keys: the policy here allows it, **and** the "
            "run asks for it.\n",
            config.sections("config").replace("config.", ""),
        ]
    )


class Reference:
    """Tables of a document's fields, from its JSON schema.

    together: documents that stand in several fields and get one section, by its title.
    """

    def __init__(
        self, document: type[Document], together: dict[type[Document], str] | None = None
    ) -> None:
        self._document = document
        self._schema = document.model_json_schema(by_alias=True)
        self._defs: Json = self._schema.get("$defs", {})
        self._classes = {kind.__name__: kind for kind in _derived(Document)}
        self._together = {kind.__name__: title for kind, title in (together or {}).items()}

    def sections(self, root: str) -> str:
        """A section for every field of the document that has fields, one for all others."""
        parts: list[str] = []
        plain: list[tuple[str, ...]] = []
        for name, field in self._schema["properties"].items():
            path = f"{root}.{name}"
            rows = list(self._rows(path, field, name in self._schema.get("required", [])))
            if len(rows) == 1:
                plain += rows
            else:
                parts.append(f"## {path}\n\n{_fields(rows)}{self._rules(path, field)}")
        if plain:
            parts.append(f"## Other fields of {root}\n\n{_fields(plain)}")
        for name, title in self._together.items():
            rows = [
                row
                for key, entry in self._defs[name]["properties"].items()
                for row in self._rows(key, entry, key in self._defs[name].get("required", []))
            ]
            rules = "".join(
                self._rules(key, e) for key, e in self._defs[name]["properties"].items()
            )
            parts.append(f"## {title}\n\n{_fields(rows)}{rules}")
        return "\n".join(parts)

    def transitions(self) -> str:
        """The rules of the document itself, which only an API server can check."""
        return "".join(f"- {message}\n" for _, message in self._document.CEL)

    def _resolved(self, field: Json) -> tuple[Json, str]:
        """The schema without references and null, and the name of the document it is of."""
        if "$ref" in field:
            name = field["$ref"].rpartition("/")[2]
            return self._defs[name], name
        options = [entry for entry in field.get("anyOf", []) if entry.get("type") != "null"]
        return self._resolved(options[0]) if len(options) == 1 else (field, "")

    def _inner(self, path: str, schema: Json) -> Iterator[tuple[str, Json, bool]]:
        """The fields within a schema, or within what it is a list of: path, schema, required."""
        item, _ = self._resolved(schema.get("items", {}))
        for owner, prefix in ((schema, path), (item, f"{path}[]")):
            for key, entry in owner.get("properties", {}).items():
                yield f"{prefix}.{key}", entry, key in owner.get("required", [])

    def _rows(self, path: str, field: Json, required: bool) -> Iterator[tuple[str, ...]]:
        schema, name = self._resolved(field)
        default = "**required**" if required else NONE
        if field.get("default") is not None:
            default = code(field["default"])
        meaning = field.get("description") or schema.get("description", "")
        yield code(path), self._type(schema, name), default, _limits(schema), meaning
        if name not in self._together:
            for inner in self._inner(path, schema):
                yield from self._rows(*inner)

    def _type(self, schema: Json, name: str) -> str:
        if name in self._together:
            title = self._together[name]
            return f"[{title}](#{title.lower().replace(' ', '-')})"
        if "enum" in schema:
            return ", ".join(map(code, schema["enum"]))
        kind: str = schema.get("type", "any")
        if kind == "array":
            return f"list of {self._type(*self._resolved(schema['items']))}"
        if kind == "object" and "properties" not in schema:
            values = [
                *schema.get("patternProperties", {}).values(),
                schema.get("additionalProperties"),
            ]
            value = next((entry for entry in values if isinstance(entry, dict)), {})
            return f"map of {self._type(*self._resolved(value))}"
        return f"{kind} ({schema['format']})" if "format" in schema else kind

    def _rules(self, path: str, field: Json) -> str:
        """What holds for several fields together, of the documents within a field."""
        found = dict.fromkeys(self._rules_within(path, field))
        return "\n" + "".join(f"- {rule}\n" for rule in found) if found else ""

    def _rules_within(self, path: str, field: Json) -> Iterator[str]:
        schema, name = self._resolved(field)
        item, item_name = self._resolved(schema.get("items", {}))
        for kind, where in ((name, path), (item_name, f"{path}[]")):
            if not kind:
                continue
            one_of = self._classes[kind].ONE_OF
            fields = self._classes[kind].model_fields
            names = ", ".join(code(fields[each].alias) for each in one_of)
            if len(one_of) > 1:
                yield f"`{where}`: exactly one of {names}."
            elif one_of:
                yield f"`{where}`: {names} has to be set."
            for _, message in self._classes[kind].CEL:
                yield f"`{where}`: {message}."
        del item
        for inner, entry, _ in self._inner(path, schema):
            yield from self._rules_within(inner, entry)


def _derived(kind: type[Document]) -> Iterator[type[Document]]:
    for derived in kind.__subclasses__():
        yield derived
        yield from _derived(derived)


def _fields(rows: Iterable[tuple[str, ...]]) -> str:
    return table(("field", "type", "default", "limits", "meaning"), rows)


def _limits(schema: Json) -> str:
    """What a value has to keep to."""
    low, high = schema.get("minimum"), schema.get("maximum")
    found = []
    if "exclusiveMinimum" in schema:
        found.append(f"above {schema['exclusiveMinimum']}")
    if high is not None and high < UNBOUNDED:
        found.append(f"{low} to {high}" if low is not None else f"at most {high}")
    elif low is not None:
        found.append(f"at least {low}")
    for least, most, what in (
        ("minLength", "maxLength", "characters"),
        ("minItems", "maxItems", "entries"),
        ("minProperties", "maxProperties", "entries"),
    ):
        if most in schema and schema.get(least):
            found.append(f"{schema[least]} to {schema[most]} {what}")
        elif most in schema:
            found.append(f"at most {schema[most]} {what}")
    for pattern in (schema.get("pattern"), *schema.get("patternProperties", {})):
        if pattern:
            found.append(code(pattern))
    return ", ".join(found)
