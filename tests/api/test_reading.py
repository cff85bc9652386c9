"""What a person is told about a manifest that cannot be read."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from evalrun_api.benchmark import MAX_FILES_BYTES, Benchmark
from evalrun_api.errors import Fault, Refused
from evalrun_api.reading import MAX_MANIFEST_BYTES, parse_manifests
from evalrun_api.sources import EndpointSource
from evalrun_api.spec import EvaluationRun

pytestmark = pytest.mark.contract

RUN = """\
apiVersion: lmms-eval.io/v1alpha1
kind: EvaluationRun
metadata: {name: trial}
spec:
  model: {profile: llava_hf, source: {volume: {claimName: models}}}
  benchmarks: [{name: mme}]
"""
BENCHMARK = """\
apiVersion: lmms-eval.io/v1alpha1
kind: Benchmark
metadata: {name: shapes}
spec: {tasks: [shapes], files: {shapes.yaml: "task: shapes"}}
"""


def faults(text: str) -> tuple[Fault, ...]:
    with pytest.raises(Refused) as refused:
        parse_manifests(text, "run.yaml")
    return refused.value.faults


def fault(text: str) -> Fault:
    (only,) = faults(text)
    return only


def run_with(line: str) -> str:
    return RUN + f"  {line}\n"


def test_a_file_may_hold_a_benchmark_and_a_run() -> None:
    benchmark, run = parse_manifests(f"{BENCHMARK}---\n{RUN}---\n", "run.yaml")
    assert isinstance(benchmark, Benchmark)
    assert isinstance(run, EvaluationRun)
    assert run.metadata.namespace == "default"
    assert run.spec.integrity.max_invalid_fraction == 0.01


def test_what_kubernetes_adds_to_an_object_is_ignored() -> None:
    text = RUN.replace(
        "{name: trial}",
        "{name: trial, uid: abc-1, resourceVersion: '5', managedFields: [{manager: kubectl}]}",
    )
    (run,) = parse_manifests(text + "status: {phase: Answering}\n", "run.yaml")
    assert run.metadata.uid == "abc-1"


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        ("modle: {}", "spec.modle", "did you mean model?"),
        ("parallelism: {shard: 2}", "spec.parallelism.shard", "did you mean shards?"),
        ("evaluation: {seed: {tourch: 1}}", "spec.evaluation.seed.tourch", "did you mean torch?"),
        ("parallelism: {zzz: 2}", "spec.parallelism.zzz", "no name is near it"),
        ("max_tokens: 5", "spec.max_tokens", "there is no such field"),
    ],
)
def test_an_unknown_field_is_told_with_the_nearest_name(line: str, where: str, what: str) -> None:
    found = fault(run_with(line))
    assert found.where == f"run.yaml: {where}"
    assert what in found.what
    assert found.remedy.startswith("Fields here: ")


def test_unknown_fields_in_a_list_are_told_with_the_fields_of_its_entries() -> None:
    found = fault(RUN.replace("{name: mme}", "{name: mme, limt: 5}"))
    assert found.where == "run.yaml: spec.benchmarks[0].limt"
    assert "did you mean limit?" in found.what
    assert "fewShot" in found.remedy


@pytest.mark.parametrize(
    ("line", "where", "what"),
    [
        ("retryLimit: '3'", "spec.retryLimit", "'3' is not allowed: input should be a valid int"),
        ("retryLimit: true", "spec.retryLimit", "True is not allowed: input should be a valid int"),
        ("retryLimit: 2.5", "spec.retryLimit", "2.5 is not allowed: input should be a valid int"),
        ("retryLimit: -1", "spec.retryLimit", "greater than or equal to 0"),
        ("retryLimit: .nan", "spec.retryLimit", "nan is not allowed"),
        ("suspend: 'yes'", "spec.suspend", "input should be a valid boolean"),
        ("suspend: 1", "spec.suspend", "input should be a valid boolean"),
        ("generation: {temperature: .nan}", "spec.generation.temperature", "finite number"),
        ("generation: {temperature: .inf}", "spec.generation.temperature", "finite number"),
        ("generation: {temperature: '0'}", "spec.generation.temperature", "valid number"),
        ("generation: {temperature: -1}", "spec.generation.temperature", "greater than or equal"),
        ("generation: {until: stop}", "spec.generation.until", "valid list"),
        ("generation: 5", "spec.generation", "5 is not allowed"),
        ("cache: {reuseAnswers: Sometimes}", "spec.cache.reuseAnswers", "'Auto' or 'Never'"),
        ("parallelism: {resourceName: gpu}", "spec.parallelism.resourceName", "right form"),
    ],
)
def test_a_wrong_value_is_told_with_its_place(line: str, where: str, what: str) -> None:
    found = fault(run_with(line))
    assert found.where == f"run.yaml: {where}"
    assert what in found.what


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (".nan", "nan is not a finite number"),
        ("-.inf", "-inf is not a finite number"),
        ("2024-01-01", "a date is no JSON value"),
        ("[{1: 2}]", "the key 1 is not a string"),
        ("!!binary aGk=", "a bytes is no JSON value"),
        (r'"\ud800"', "surrogates not allowed"),
        ("[" * 18 + "]" * 18, "nested deeper than 16 levels"),
    ],
)
def test_a_free_form_value_is_what_json_can_say(value: str, what: str) -> None:
    found = fault(run_with(f"generation: {{extra: {{size: {value}}}}}"))
    assert found.where == "run.yaml: spec.generation.extra.size"
    assert what in found.what


def test_free_form_values_of_json_are_kept_as_they_are() -> None:
    text = run_with("generation: {extra: {a: [1, 2.5, null, true, 'x', {b: {}}]}}")
    (run,) = parse_manifests(text, "run.yaml")
    assert isinstance(run, EvaluationRun)
    assert run.spec.generation is not None
    assert run.spec.generation.extra == {"a": [1, 2.5, None, True, "x", {"b": {}}]}


def test_all_faults_of_a_document_are_told_at_once() -> None:
    found = faults(run_with("retryLimit: -1\n  modle: {}"))
    assert {entry.where for entry in found} == {
        "run.yaml: spec.retryLimit",
        "run.yaml: spec.modle",
    }


def test_faults_of_several_documents_say_in_which_they_are() -> None:
    text = run_with("modle: {}") + "---\n" + BENCHMARK + "---\n" + run_with("suspend: 5")
    assert [entry.where for entry in faults(text)] == [
        "run.yaml, document 1: spec.modle",
        "run.yaml, document 3: spec.suspend",
    ]


def test_a_missing_field_is_named() -> None:
    found = fault(RUN.replace("  benchmarks: [{name: mme}]\n", ""))
    assert (found.where, found.remedy) == ("run.yaml: spec.benchmarks", "Add it")


def test_a_wrong_name_of_an_entry_is_told_as_such() -> None:
    found = fault(BENCHMARK.replace("shapes.yaml:", "../shapes.yaml:"))
    assert found.where == "run.yaml: spec.files.../shapes.yaml (name)"
    assert "does not have the right form" in found.what


def test_files_that_a_config_map_cannot_hold_are_refused() -> None:
    texts = ", ".join(f"f{n}: {'x' * 262_144}" for n in range(4))
    found = fault(BENCHMARK.replace('shapes.yaml: "task: shapes"', texts))
    assert f"at most {MAX_FILES_BYTES} fit" in found.what


def test_a_key_that_stands_twice_is_refused_with_its_line() -> None:
    found = fault(run_with("retryLimit: 1\n  retryLimit: 2"))
    assert found.where == "run.yaml, line 8, column 3"
    assert "the key 'retryLimit' stands twice" in found.what


def test_yaml_that_cannot_be_read_is_refused_with_its_line() -> None:
    found = fault("apiVersion: [unclosed\nkind: x\n")
    assert found.where.startswith("run.yaml, line 2")
    assert found.what.startswith("not valid YAML: ")


def test_python_objects_in_yaml_are_not_made() -> None:
    found = fault(run_with("cache: !!python/object/apply:os.system ['true']"))
    assert "could not determine a constructor" in found.what


def test_another_api_version_is_refused_with_the_right_one() -> None:
    found = fault(RUN.replace("v1alpha1", "v1"))
    assert found.where == "run.yaml: apiVersion"
    assert found.what == "apiVersion is 'lmms-eval.io/v1'"
    assert found.remedy == "Set it to lmms-eval.io/v1alpha1"


@pytest.mark.parametrize(
    ("kind", "what"),
    [("EvalutionRun", "did you mean EvaluationRun?"), ("[Job]", "kind is ['Job']")],
)
def test_another_kind_is_refused_with_the_nearest_one(kind: str, what: str) -> None:
    found = fault(RUN.replace("EvaluationRun", kind))
    assert found.where == "run.yaml: kind"
    assert what in found.what
    assert found.remedy == "Known kinds: EvaluationRun, Benchmark"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "the file holds no document"),
        ("---\n---\n", "the file holds no document"),
        ("just text", "it is a str, not an object"),
        ("- a\n- b", "it is a list, not an object"),
        ("#" + "x" * MAX_MANIFEST_BYTES, "the file is larger than 4 MiB"),
    ],
)
def test_what_is_no_manifest_is_refused_as_such(text: str, what: str) -> None:
    assert what in fault(text).what


@pytest.mark.parametrize("name", ["a" * 51, "A", "a.b", "-a", "a-", ""])
def test_a_name_that_no_job_could_carry_is_refused(name: str) -> None:
    assert fault(RUN.replace("trial", repr(name))).where == "run.yaml: metadata.name"


@pytest.mark.parametrize("path", ["/etc", "..", "a/../b", "a//b", "a/", ".hidden", "a/.git", "a\0"])
def test_a_path_that_could_leave_its_volume_is_refused(path: str) -> None:
    quoted = '"' + path.replace("\0", "\\0") + '"'
    text = RUN.replace("{claimName: models}", f"{{claimName: models, path: {quoted}}}")
    assert fault(text).where == "run.yaml: spec.model.source.volume.path"


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "PYTHONPATH",
        "LD_PRELOAD",
        "OPENAI_BASE_URL",
        "GIT_CONFIG_COUNT",
        "CC",
        "VLLM_PLUGINS",
    ],
)
def test_a_reserved_environment_name_is_refused(name: str) -> None:
    found = fault(run_with(f"answerPod: {{env: [{{name: {name}, value: x}}]}}"))
    assert found.where == "run.yaml: spec.answerPod.env[0].name"
    assert "are reserved; use the typed fields" in found.what


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (BOMB, "more than 100,000 values"),
        ("a: &a [*a]", "an alias stands within its own anchor"),
        ("a: &a {b: &b {c: *a}}", "an alias stands within its own anchor"),
    ],
)
def test_aliases_that_make_a_document_huge_are_refused(text: str, what: str) -> None:
    found = fault(text)
    assert found.where.startswith("run.yaml, line ")
    assert what in found.what


def test_a_few_aliases_are_fine() -> None:
    text = run_with("generation: {extra: {a: &a [1, 2], b: *a}}")
    (run,) = parse_manifests(text, "run.yaml")
    assert isinstance(run, EvaluationRun)
    assert run.spec.generation is not None
    assert run.spec.generation.extra == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize("url", ["http://s/v1?api-key=S", "http://s/v1#S", "https://u:p@s/v1"])
def test_an_address_holds_no_secret(url: str) -> None:
    line = f"results: {{s3: {{uri: 's3://bucket', endpoint: '{url}'}}}}"
    assert fault(run_with(line)).where == "run.yaml: spec.results.s3.endpoint"
    with pytest.raises(ValidationError, match="pattern"):
        EndpointSource(url=url, model="m")
