"""The generated CustomResourceDefinitions, and the rules they share with the documents."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from evalrun_api import benchmark, crd, pods, sources, spec, status
from evalrun_api.document import Document
from evalrun_api.spec import EvaluationRunSpec
from evalrun_api.status import OUTCOME, EvaluationRunStatus
from evalrun_api.structural import structural

pytestmark = pytest.mark.contract

CRDS = Path(crd.__file__).parents[1]
FILES = sorted(CRDS.glob("lmms-eval.io_*.yaml"))

# What Kubernetes' JSONSchemaProps has and a structural schema may use.
ALLOWED = {
    "type", "format", "description", "default", "enum", "pattern", "nullable",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
    "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
    "properties", "required", "additionalProperties", "items",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations",
    "x-kubernetes-preserve-unknown-fields",
}  # fmt: skip


def schemas(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema and all schemas within it, with their paths."""
    yield path, schema
    for name, entry in schema.get("properties", {}).items():
        yield from schemas(entry, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in schema:
            yield from schemas(schema[inner], f"{path}[]")


def root(kind: str) -> dict[str, Any]:
    (definition,) = (crd.definition(entry) for entry in crd.KINDS if entry.kind == kind)
    (version,) = definition["spec"]["versions"]
    schema: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return schema


ROOTS = {kind.kind: root(kind.kind) for kind in crd.KINDS}
NODES = [(f"{kind}{path}", entry) for kind in ROOTS for path, entry in schemas(ROOTS[kind])]
EVERY = [pytest.param(path, entry, id=path) for path, entry in NODES]
LISTS = [
    pytest.param(path, entry, id=path) for path, entry in NODES if entry.get("type") == "array"
]


def at(kind: str, path: str) -> dict[str, Any]:
    return dict(schemas(ROOTS[kind]))[path]


def test_the_files_in_the_checkout_are_up_to_date() -> None:
    assert crd.main(["--check"]) == 0
    assert {path.name for path in FILES} == set(crd.files())


def test_check_says_which_file_is_stale_and_writing_mends_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert crd.main(["--check", "--output", str(tmp_path)]) == 1
    assert "lmms-eval.io_evaluationruns.yaml is stale" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert crd.main(["--output", str(tmp_path)]) == 0
    assert crd.main(["--check", "--output", str(tmp_path)]) == 0
    (tmp_path / "lmms-eval.io_benchmarks.yaml").write_text("edited")
    assert crd.main(["--check", "--output", str(tmp_path)]) == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_stays_below_200_kilobytes(path: Path) -> None:
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_key_is_a_boolean_to_a_yaml_1_1_reader(path: Path) -> None:
    bare = re.findall(r"(?m)^\s*(?:- )?(y|n|yes|no|on|off|Y|N):", path.read_text())
    assert bare == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_says_what_the_generator_says(path: Path) -> None:
    (kind,) = (kind for kind in crd.KINDS if kind.plural in path.name)
    assert yaml.safe_load(path.read_text()) == crd.definition(kind)


@pytest.mark.parametrize(("path", "schema"), EVERY)
def test_a_schema_is_structural(path: str, schema: dict[str, Any]) -> None:
    assert set(schema) <= ALLOWED
    assert not ("properties" in schema and "additionalProperties" in schema)
    assert "type" in schema or schema.get("x-kubernetes-preserve-unknown-fields") is True
    assert schema.get("type", "object") in {
        "object", "array", "string", "integer", "number", "boolean",
    }  # fmt: skip
    for limit in ("exclusiveMinimum", "exclusiveMaximum"):
        assert schema.get(limit, True) is True
    assert set(schema.get("required", [])) <= set(schema.get("properties", {}))


@pytest.mark.parametrize(("path", "schema"), LISTS)
def test_a_list_says_how_long_it_may_be_and_how_it_merges(
    path: str, schema: dict[str, Any]
) -> None:
    assert schema["maxItems"] >= 1
    assert schema["x-kubernetes-list-type"] in {"atomic", "set", "map"}
    for key in schema.get("x-kubernetes-list-map-keys", []):
        assert key in schema["items"]["required"]


@pytest.mark.parametrize("kind", ROOTS)
def test_each_field_is_described(kind: str) -> None:
    entries = [
        (f"{path}.{name}", entry)
        for path, schema in schemas(ROOTS[kind])
        for name, entry in schema.get("properties", {}).items()
        if path
    ]
    assert len(entries) > 5
    assert [path for path, entry in entries if not entry.get("description")] == []


@pytest.mark.parametrize("kind", ROOTS)
def test_patterns_keep_to_what_go_and_rust_read_alike(kind: str) -> None:
    patterns = [schema["pattern"] for _, schema in schemas(ROOTS[kind]) if "pattern" in schema]
    assert patterns
    for pattern in patterns:
        re.compile(pattern)
        # Look-around and back-references are no RE2; \w and \d are Unicode in Rust, ASCII in Go.
        assert not re.search(r"\(\?|\\[1-9wdb]", pattern), pattern


def test_defaults_of_nested_documents_come_from_within() -> None:
    for path in (".spec.evaluation", ".spec.evaluation.seed", ".spec.cache", ".spec.integrity"):
        assert at("EvaluationRun", path)["default"] == {}
    assert at("EvaluationRun", ".spec.integrity.maxInvalidFraction")["default"] == 0.01
    assert at("EvaluationRun", ".spec.evaluation.seed.numpy")["default"] == 1234
    assert at("EvaluationRun", ".spec.suspend")["default"] is False


def test_what_has_no_default_is_absent_and_not_null() -> None:
    for path in (".spec.generation", ".spec.results", ".spec.answerPod", ".spec.model.size"):
        assert "default" not in at("EvaluationRun", path)


def test_a_status_has_no_defaults() -> None:
    status = dict(schemas(at("EvaluationRun", ".status")))
    assert ".conditions[].message" in status
    assert [path for path, schema in status.items() if "default" in schema] == []


def test_numbers_have_the_limits_and_formats_of_openapi_3_0() -> None:
    assert at("EvaluationRun", ".spec.generation.topP") == {
        "type": "number",
        "format": "double",
        "minimum": 0,
        "exclusiveMinimum": True,
        "maximum": 1,
        "description": "Nucleus sampling.",
    }
    assert at("EvaluationRun", ".spec.parallelism.shards")["format"] == "int32"
    assert at("EvaluationRun", ".spec.evaluation.seed.torch")["format"] == "int64"
    assert at("EvaluationRun", ".status.completionTime")["format"] == "date-time"


def test_free_form_values_are_kept() -> None:
    for path in (".spec.model.args", ".spec.generation.extra", ".spec.answerPod.affinity"):
        schema = at("EvaluationRun", path)
        assert schema["type"] == "object"
        assert schema["additionalProperties"] == {"x-kubernetes-preserve-unknown-fields": True}


def test_a_union_cannot_become_a_structural_schema() -> None:
    class Either(Document):
        value: int | str

    with pytest.raises(TypeError, match="no unions"):
        structural(Either)


def test_people_get_the_columns_they_want() -> None:
    run = crd.definition(crd.KINDS[0])["spec"]
    assert run["names"]["shortNames"] == ["evr"]
    (version,) = run["versions"]
    assert version["subresources"] == {"status": {}}
    columns = version["additionalPrinterColumns"]
    shown = [column["name"] for column in columns if not column.get("priority")]
    assert shown == ["Model", "Benchmarks", "Phase", "Progress", "ETA", "Score", "Age"]
    paths = {path for path, _ in schemas(ROOTS["EvaluationRun"])}
    for column in columns:
        first = column["jsonPath"].split("[")[0]
        assert first in paths or first == ".metadata.creationTimestamp", first


# ── the rules ───────────────────────────────────────────────────────────────────────────────────

DOCUMENTS = [
    entry
    for module in (benchmark, pods, sources, spec, status)
    for _, entry in inspect.getmembers(module, inspect.isclass)
    if issubclass(entry, Document) and entry.__module__ == module.__name__
]
CHOICES = [document for document in DOCUMENTS if document.ONE_OF]
SAMPLES: dict[str, Any] = {
    "huggingFace": {"repo": "a/b"},
    "volume": {"claimName": "c"},
    "endpoint": {"url": "http://server/v1", "model": "m"},
    "name": "mme",
    "benchmarkRef": {"name": "shapes"},
    "store": "main",
    "s3": {"uri": "s3://bucket"},
}


def rules() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for schema in ROOTS.values():
        for _, inner in schemas(schema):
            for rule in inner.get("x-kubernetes-validations", []):
                found.setdefault(rule["message"], []).append(rule["rule"])
    return found


def test_documents_with_a_choice_are_found() -> None:
    names = {document.__name__ for document in CHOICES}
    assert names == {"ModelSource", "ResultsSpec", "RequestedBenchmark", "BenchmarkData"}


@pytest.mark.parametrize("document", CHOICES, ids=lambda document: document.__name__)
def test_a_choice_is_a_rule_of_the_crd_and_of_the_document(document: type[Document]) -> None:
    names = [document.model_fields[name].alias or name for name in document.ONE_OF]
    rule = f"[{', '.join(f'has(self.{name})' for name in names)}].exists_one(x, x)"
    assert rule in rules()[f"set exactly one of {', '.join(names)}"]
    for name in names:
        document.model_validate({name: SAMPLES[name]})
    with pytest.raises(ValidationError, match="set exactly one of"):
        document.model_validate({})
    for first, second in pairwise(names):
        both = {first: SAMPLES[first], second: SAMPLES[second]}
        with pytest.raises(ValidationError, match="set exactly one of"):
            document.model_validate(both)


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if d.CEL], ids=lambda d: d.__name__)
def test_rules_of_a_document_stand_in_the_crd(document: type[Document]) -> None:
    known = rules()
    for rule, message in document.CEL:
        assert rule in known[message]


def test_each_field_of_a_status_is_part_of_the_outcome_or_says_why_not() -> None:
    """A new field that the rule does not name could be changed after the end."""
    names = {entry.alias or name for name, entry in EvaluationRunStatus.model_fields.items()}
    assert names - set(OUTCOME) == {"observedGeneration"}
    assert set(OUTCOME) <= names


def test_each_field_of_a_run_says_whether_it_may_change() -> None:
    """A new field that no rule names would be mutable by oversight."""
    fixed_or_execution = "\n".join(rule for rule, _ in EvaluationRunSpec.CEL)
    names = {entry.alias or name for name, entry in EvaluationRunSpec.model_fields.items()}
    free = {name for name in names if f"self.{name} == oldSelf.{name}" not in fixed_or_execution}
    assert free == {"suspend", "ttlSecondsAfterFinished"}
