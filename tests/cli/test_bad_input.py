"""What the CLI says to bad input: each message names the field, the fault and the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evalrun_api.plan import RunIdentity
from evalrun_runner.local import Store, layout

pytestmark = pytest.mark.contract

HEAD = "apiVersion: lmms-eval.io/v1alpha1\nkind: EvaluationRun\nmetadata: {name: bad}\nspec:\n"
MODEL = "  model: {profile: llava_hf, source: {volume: {claimName: models, path: tiny}}}\n"
MARKS = "  benchmarks: [{name: mme}]\n"
GOOD = HEAD + MODEL + MARKS


@dataclass(frozen=True)
class Case:
    """A manifest (written to bad.yaml) or a command line, and what the answer has to hold."""

    id: str
    field: str
    fault: str
    remedy: str
    manifest: str = GOOD
    command: tuple[str, ...] = ("run", "bad.yaml")
    code: int = 2


CASES = [
    Case(
        "unknown-field",
        "spec.model.profil",
        "no such field; did you mean profile",
        "Fields here:",
        HEAD + MODEL.replace("profile", "profil") + MARKS,
    ),
    Case(
        "not-yaml",
        "bad.yaml, line 3",
        "not valid YAML",
        "Correct the line",
        "apiVersion: x\nkind: y\n\tmetadata: {}\n",
    ),
    Case("empty-file", "bad.yaml", "holds no document", "Write an EvaluationRun", "# nothing\n"),
    Case(
        "wrong-kind",
        "kind",
        "did you mean EvaluationRun",
        "Known kinds",
        GOOD.replace("EvaluationRun", "EvalRun"),
    ),
    Case(
        "key-twice",
        "line 5",
        "'name' stands twice",
        "Correct the line",
        "apiVersion: lmms-eval.io/v1alpha1\nkind: EvaluationRun\nmetadata:\n  name: a\n  name: b\n",
    ),
    Case(
        "unknown-profile",
        "spec.model.profile",
        "did you mean llava_hf",
        "Known profiles",
        GOOD.replace("llava_hf", "lava_hf"),
    ),
    Case(
        "unknown-backend",
        "spec.model.backend",
        "did you mean qwen2_5_vl",
        "Use the name of an lmms-eval model",
        GOOD.replace("profile: llava_hf", "backend: qwen25_vl"),
    ),
    Case(
        "unknown-benchmark",
        "spec.benchmarks[0].name",
        "did you mean",
        "Use a name that lmms-eval knows",
        GOOD.replace("mme", "mmme"),
    ),
    Case(
        "benchmark-not-given",
        "spec.benchmarks[0].benchmarkRef.name",
        "there is no Benchmark 'shapes'",
        "Give its file too",
        GOOD.replace("{name: mme}", "{benchmarkRef: {name: shapes}}"),
    ),
    Case(
        "negative-limit",
        "spec.benchmarks[0].limit",
        "-5 is not allowed",
        "Correct the value",
        GOOD.replace("{name: mme}", "{name: mme, limit: -5}"),
    ),
    Case(
        "nan-limit",
        "spec.benchmarks[0].limit",
        "nan is not allowed",
        "Correct the value",
        GOOD.replace("{name: mme}", "{name: mme, limit: .nan}"),
    ),
    Case(
        "contradicting-generation",
        "spec.generation.temperature",
        "contradicts doSample: false",
        "Set temperature to 0",
        GOOD + "  generation: {temperature: 0.7, doSample: false}\n",
    ),
    Case(
        "argument-with-a-field-of-its-own",
        "spec.model.args.pretrained",
        "a field of its own",
        "Use spec.model.source",
        GOOD.replace("source:", "args: {pretrained: x}, source:"),
    ),
    Case(
        "two-sources",
        "spec.model.source",
        "set exactly one of",
        "Correct it",
        GOOD.replace("source: {", "source: {huggingFace: {repo: a/b}, "),
    ),
    Case(
        "missing-volume",
        "spec.model.source.volume.claimName",
        "does not exist",
        "--volume weights=DIR",
        GOOD.replace("claimName: models", "claimName: weights"),
    ),
    Case(
        "missing-weights-folder",
        "spec.model.source.volume.path",
        "there is no huge in",
        "Correct the path",
        GOOD.replace("path: tiny", "path: huge"),
    ),
    Case(
        "store-of-a-cluster",
        "spec.results.store",
        "unknown here",
        "--store",
        GOOD + "  results: {store: team}\n",
    ),
    Case(
        "no-such-file",
        "none.yaml",
        "no such file",
        "Correct the path",
        command=("run", "none.yaml"),
    ),
    Case("a-folder", "models", "it is a folder", "models/*.yaml", command=("run", "models")),
    Case(
        "volume-of-the-wrong-form",
        "--volume",
        "'models' is not CLAIM=DIR",
        "--volume models=",
        command=("run", "bad.yaml", "--volume", "models"),
    ),
    Case(
        "volume-that-nobody-uses",
        "--volume",
        "the run uses no claim 'model'",
        "Its claims: models",
        command=("run", "bad.yaml", "--volume", "model=models"),
    ),
    Case(
        "store-of-an-unknown-kind",
        "--store",
        "'gs://evals' is not a store",
        "Use s3://BUCKET/PREFIX",
        command=("run", "bad.yaml", "--store", "gs://evals"),
    ),
    Case(
        "endpoint-without-bucket",
        "--s3-endpoint",
        "not a bucket",
        "Give --store s3://BUCKET/PREFIX",
        command=("run", "bad.yaml", "--s3-endpoint", "http://127.0.0.1:1"),
    ),
    Case(
        "no-credentials",
        "s3://evals/",
        "there are no credentials",
        "Set AWS_ACCESS_KEY_ID",
        command=("run", "bad.yaml", "--store", "s3://evals", "--s3-endpoint", "http://127.0.0.1:1"),
        code=3,
    ),
    Case(
        "store-cannot-be-written",
        "evalrun-results",
        "Not a directory",
        "Check the folder",
        command=("run", "bad.yaml", "--store", "bad.yaml/evalrun-results"),
        code=3,
    ),
    Case(
        "limit-of-nothing",
        "--limit",
        "greater than or equal to 1",
        "run -h",
        command=("run", "bad.yaml", "--limit", "0"),
    ),
    Case(
        "unknown-run-by-name",
        "--name",
        "did you mean bad?",
        "The files hold: bad",
        command=("run", "bad.yaml", "--name", "bat"),
    ),
    Case(
        "unknown-model",
        "PROFILE",
        "did you mean whisper?",
        "Known profiles",
        command=("models", "wisper"),
    ),
    Case(
        "unknown-pattern",
        "PATTERN",
        "no name like 'chartqaa'",
        "Try a shorter part",
        command=("benchmarks", "chartqaa"),
    ),
    Case(
        "no-store-here",
        "--store",
        "evalrun-results, and no kubeconfig",
        "or a cluster with --kubeconfig FILE",
        command=("results",),
        code=3,
    ),
    Case(
        "damaged-plan",
        "runs/default/old/1/plan.json",
        "the document is damaged",
        "Move the object",
        command=("score", "old", "--store", "old-store"),
        code=3,
    ),
    Case(
        "unknown-old-run",
        "NAME",
        "did you mean old?",
        "evalrun results lists the runs",
        command=("results", "odl", "--store", "old-store"),
    ),
    Case(
        "run-without-a-result",
        "NAME",
        "none ended with a result",
        "evalrun run",
        command=("results", "old", "--store", "old-store"),
    ),
]


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of a tiny model, an attempt at a run called old, and no credentials anywhere."""
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    old = tmp_path / "old-store" / layout.run(RunIdentity(namespace="default", name="old", uid="1"))
    old.mkdir(parents=True)
    (old / "plan.json").write_text('{"version": 1')
    (old / "lock.json").write_text("{}")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
@pytest.mark.usefixtures("surroundings")
def test_bad_input_is_refused_with_field_fault_and_remedy(
    case: Case, invoke: Any, tmp_path: Path, show_message: Callable[[object, str], None]
) -> None:
    (tmp_path / "bad.yaml").write_text(case.manifest)
    result = invoke(*case.command)
    show_message(f"exit {result.exit_code}", result.stderr)
    told = " ".join(result.stderr.split())
    assert result.exit_code == case.code, told
    for part in (case.field, case.fault, case.remedy):
        assert part in told
    assert "Traceback" not in told
    assert result.stdout == ""


def test_all_faults_are_told_at_once(invoke: Any, tmp_path: Path) -> None:
    text = GOOD.replace("mme", "mmme") + "  results: {store: team}\n"
    (tmp_path / "bad.yaml").write_text(text)
    told = invoke("run", "bad.yaml").stderr
    for field in ("spec.benchmarks[0].name", "spec.results.store", "spec.model.source.volume"):
        assert field in told


def test_a_refusal_is_one_document_for_programs(invoke: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(GOOD.replace("mme", "mmme"))
    result = invoke("run", "bad.yaml", "-o", "json")
    document = json.loads(result.stdout)
    assert (result.exit_code, document["outcome"]) == (2, "Refused")
    assert {"where", "what", "remedy"} == set(document["faults"][0])


def test_a_defect_shows_no_traceback_unless_asked(
    invoke: Any, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("evalrun_cli.listing.show_runs", broken)
    result = invoke("results")
    assert result.exit_code == 1
    assert "ZeroDivisionError: oh" in result.stderr
    assert "EVALRUN_DEBUG=1" in result.stderr
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("EVALRUN_DEBUG", "1")
    assert "Traceback" in invoke("results").stderr
