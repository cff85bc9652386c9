"""What is sent to a cluster, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_samples import BENCHMARK, RUN

from evalrun_api.errors import Refused
from evalrun_cli.applying import change, read, run_to_follow
from evalrun_cli.manifests import ManifestFile

pytestmark = pytest.mark.contract


def file(text: str, name: str = "run.yaml") -> ManifestFile:
    return ManifestFile(name, text, Path())


def test_benchmarks_come_before_the_runs_that_refer_to_them() -> None:
    files = [file(RUN), file(BENCHMARK, "benchmark.yaml")]
    found = read(files, "team", None, strict=True)
    assert [(entry.kind, entry.namespace) for entry in found] == [
        ("Benchmark", "team"),
        ("EvaluationRun", "team"),
    ]


def test_a_manifest_is_sent_as_it_is_written() -> None:
    (entry,) = read([file(RUN)], "team", None, strict=True)
    assert entry.body["spec"]["parallelism"] == {"acceleratorsPerShard": 0}
    assert set(entry.body["spec"]) == {"model", "benchmarks", "parallelism"}
    assert entry.body["metadata"] == {"name": "shapes-run", "namespace": "team"}


def test_what_belongs_to_the_server_is_left_out() -> None:
    exported = RUN.replace(
        "{name: shapes-run}",
        "{name: shapes-run, uid: u1, resourceVersion: '5', generation: 2, labels: {a: b}}",
    )
    (entry,) = read([file(exported + "status: {phase: Failed}\n")], "team", None, strict=True)
    assert entry.body["metadata"] == {
        "name": "shapes-run",
        "labels": {"a": "b"},
        "namespace": "team",
    }
    assert "status" not in entry.body


def test_without_checks_a_field_of_a_later_release_is_sent() -> None:
    later = file(RUN + "  ofTomorrow: 1\n")
    with pytest.raises(Refused, match="no such field"):
        read([later], "team", None, strict=True)
    (entry,) = read([later], "team", None, strict=False)
    assert entry.body["spec"]["ofTomorrow"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "just text",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n",
        "apiVersion: lmms-eval.io/v1alpha1\nkind: Foo\nmetadata: {name: p}\n",
        "apiVersion: lmms-eval.io/v1alpha1\nkind: [x]\nmetadata: {name: p}\n",
        "apiVersion: lmms-eval.io/v1alpha1\nkind: Benchmark\n",
        "apiVersion: lmms-eval.io/v1alpha1\nkind: Benchmark\nmetadata: {name: ''}\n",
        "apiVersion: lmms-eval.io/v1alpha1\nkind: Benchmark\nmetadata: {name: ..}\n",
        "apiVersion: lmms-eval.io/v1alpha1\nkind: Benchmark\nmetadata: {name: p, namespace: [a]}",
        "a: [\n",
        "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]" for n in range(9)),
    ],
)
def test_without_checks_it_still_has_to_be_an_object_of_ours(text: str) -> None:
    with pytest.raises(Refused):
        read([file(text)], "team", None, strict=False)


def test_two_files_with_one_object_contradict_each_other() -> None:
    with pytest.raises(Refused, match=r"also stands in run\.yaml"):
        read([file(RUN), file(RUN, "again.yaml")], "team", None, strict=True)


def test_an_object_without_a_namespace_is_another_one_until_the_context_is_known() -> None:
    placed = file(
        RUN.replace("{name: shapes-run}", "{name: shapes-run, namespace: team}"), "b.yaml"
    )
    assert len(read([file(RUN), placed], "", None, strict=True)) == 2
    with pytest.raises(Refused, match=r"also stands in run\.yaml"):
        read([file(RUN), placed], "team", None, strict=True)


def test_a_namespace_of_the_manifest_is_kept_and_may_not_contradict() -> None:
    other = file(RUN.replace("{name: shapes-run}", "{name: shapes-run, namespace: other}"))
    (entry,) = read([other], "team", None, strict=True)
    assert entry.namespace == "other"
    with pytest.raises(Refused, match="it is other, and -n says team"):
        read([other], "team", "team", strict=True)


def version(number: int, **more: Any) -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(number)}, **more}


@pytest.mark.parametrize(
    ("before", "after", "dry", "said"),
    [
        (None, version(1), False, "created"),
        (None, version(1), True, "created"),
        (version(1), version(1), False, "unchanged"),
        (version(1), version(2), False, "configured"),
        (version(1, spec={"a": 1}), version(1, spec={"a": 2}), True, "configured"),
        (version(1, spec={"a": 1}), version(1, spec={"a": 1}), True, "unchanged"),
    ],
)
def test_what_became_of_an_object_is_said_as_kubectl_does(
    before: dict[str, Any] | None, after: dict[str, Any], dry: bool, said: str
) -> None:
    assert change(before, after, dry_run=dry) == said


def test_one_run_can_be_followed() -> None:
    one = read([file(RUN), file(BENCHMARK, "b.yaml")], "team", None, strict=True)
    assert run_to_follow(one).name == "shapes-run"
    with pytest.raises(Refused, match="0 EvaluationRuns"):
        run_to_follow(one[:1])
