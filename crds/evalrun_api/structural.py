"""Structural schemas, the dialect of OpenAPI 3.0 that a CustomResourceDefinition takes.

It has no $ref, no null in a union, no patternProperties, and exclusive limits are booleans. What a
schema cannot say (exactly one of, names of map entries, transitions) becomes CEL, from the same
class variables that pydantic enforces.
"""

from __future__ import annotations

import inspect
from typing import Any

from pydantic.alias_generators import to_camel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from evalrun_api.document import Document

VALIDATIONS = "x-kubernetes-validations"
MAX_INT32 = 2**31 - 1

Json = dict[str, Any]


def rule(expression: str, message: str) -> Json:
    """A CEL rule, with what a person is told when it is broken."""
    return {"rule": expression, "message": message}


def structural(document: type[Document]) -> Json:
    """The structural schema of a document."""
    raw = document.model_json_schema(by_alias=True, schema_generator=_Generator)
    return _translate(raw, raw.get("$defs", {}))


class _Generator(GenerateJsonSchema):
    """pydantic's generator, with the rules of each Document and the defaults of nested ones."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        result = super().model_schema(schema)
        model = schema["cls"]
        if issubclass(model, Document):
            result["description"] = paragraphs(model)
            rules = [rule(*entry) for entry in model.CEL]
            if model.ONE_OF:
                rules.insert(0, _one_of(model))
            if rules:
                result[VALIDATIONS] = rules
        return result

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        result = super().default_schema(schema)
        factory = schema.get("default_factory")
        if isinstance(factory, type) and issubclass(factory, Document):
            # Empty, and not the values: the API server then applies the nested defaults.
            return {**result, "default": {}}
        return result


def _one_of(model: type[Document]) -> Json:
    names = [to_camel(name) for name in model.ONE_OF]
    present = ", ".join(f"has(self.{name})" for name in names)
    return rule(f"[{present}].exists_one(x, x)", f"set exactly one of {', '.join(names)}")


def paragraphs(model: type[Document]) -> str:
    """The docstring, one line for each paragraph."""
    text = inspect.getdoc(model) or ""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _translate(schema: Json, definitions: Json) -> Json:
    """Turn a JSON schema as pydantic writes it into the dialect of a structural schema."""
    schema = {key: value for key, value in schema.items() if key not in ("$defs", "title")}
    if "$ref" in schema:
        target = definitions[schema.pop("$ref").removeprefix("#/$defs/")]
        return _translate({**target, **schema}, definitions)
    if "anyOf" in schema:
        options = [option for option in schema.pop("anyOf") if option.get("type") != "null"]
        if len(options) != 1:
            raise TypeError(f"a structural schema has no unions: {schema}")
        return _translate({**options[0], **schema}, definitions)
    if schema.get("default", ...) is None:
        del schema["default"]
    schema.pop("const", None)

    if "properties" in schema:
        schema["properties"] = {
            name: _translate(entry, definitions) for name, entry in schema["properties"].items()
        }
        # Unknown fields are refused by field validation, and pruned; the dialect has no other way.
        schema.pop("additionalProperties", None)
    if "patternProperties" in schema:
        ((pattern, entry),) = schema.pop("patternProperties").items()
        schema["additionalProperties"] = entry
        schema[VALIDATIONS] = [
            rule(f"self.all(name, name.matches(r'{pattern}'))", f"names must match {pattern}")
        ]
    names = schema.pop("propertyNames", {})
    if limit := names.get("maxLength"):
        schema.setdefault(VALIDATIONS, []).append(
            rule(
                f"self.all(name, name.size() <= {limit})",
                f"a name may have at most {limit} characters",
            )
        )
    if "additionalProperties" in schema:
        entry = schema["additionalProperties"]
        schema["additionalProperties"] = _translate({} if entry is True else entry, definitions)
    if "items" in schema:
        schema["items"] = _translate(schema["items"], definitions)
    return _numbers(schema)


def _numbers(schema: Json) -> Json:
    for end in ("Minimum", "Maximum"):
        if (limit := schema.pop(f"exclusive{end}", None)) is not None:
            schema[end.lower()] = limit
            schema[f"exclusive{end}"] = True
    match schema.get("type"):
        case "integer":
            small = schema.get("maximum", MAX_INT32 + 1) <= MAX_INT32
            schema["format"] = "int32" if small else "int64"
        case "number":
            schema["format"] = "double"
    return schema


def without_defaults(schema: Json) -> Json:
    """The schema with no default in it."""
    result = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in result:
        result["properties"] = {
            name: without_defaults(entry) for name, entry in result["properties"].items()
        }
    if "items" in result:
        result["items"] = without_defaults(result["items"])
    return result
